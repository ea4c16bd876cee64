"""Keys, agents and bastions on their way from the settings to pulumi-command."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from components.connection import Bastion, Connection
from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from hybridmesh.providers.packs import unpacked
from tests.components.harness import KEY, dev_settings, run, ssh_changed
from tests.components.test_sidecar import sidecar

BASTION = {"address": "203.0.113.5", "port": 2200, "user": "jump", "hostKey": "ssh-ed25519 AAAAJ"}
MODES = pytest.mark.parametrize("preview", [True, False], ids=["preview", "up"])


def connection(preview: bool, **changes: Any) -> dict[str, Any]:
    """The connection of vm-1's join; None takes a setting out. All of it is one secret."""
    settings = dev_settings(ssh_changed(**changes))
    world = run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology, preview=preview, first=False)
    join = world.one("mesh-vm-1-join")
    assert join.plain["connection"] == "[secret]"
    value: dict[str, Any] = join.value("connection")
    return value


def test_attempts_without_a_limit_are_refused_with_the_fix() -> None:
    way = Connection(address="192.0.2.11", host_key="ssh-ed25519 A")
    with pytest.raises(ValueError, match=r"dial_attempts = -1: is less than 0\. .* Fix: 0 or more"):
        way.for_commands(dial_seconds=15, dial_attempts=-1)


@MODES
def test_an_agent_s_key_is_given_by_the_agent(preview: bool) -> None:
    given = connection(preview, privateKeyFile=None, agent=True)
    assert given["host"] == "192.0.2.11"
    # Nor the agent's socket: it is another one for everybody who runs Pulumi, and would be a change each time.
    assert given.keys().isdisjoint({"privateKey", "privateKeyPassword", "agentSocketPath", "password", "proxy"})


@MODES
def test_a_passphrase_goes_with_its_key(preview: bool) -> None:
    assert connection(preview, privateKeyPassphrase="phrase")["privateKeyPassword"] == "phrase"


@MODES
def test_a_bastion_has_its_host_key_checked_and_its_limits(preview: bool) -> None:
    proxy = connection(preview, bastion=BASTION)["proxy"]
    assert proxy == {
        "host": "203.0.113.5",
        "port": 2200,
        "user": "jump",
        "hostKey": "ssh-ed25519 AAAAJ",
        "privateKey": KEY,
        "perDialTimeout": 15,
        "dialErrorLimit": 4,
    }


@pytest.mark.parametrize(
    ("bastion", "shown"),
    [
        (None, "admin@192.0.2.11:2222 ssh-ed25519 AAAA"),
        (
            Bastion(address="203.0.113.5", port=2200, user="jump", host_key="ssh-ed25519 AAAAJ"),
            "admin@192.0.2.11:2222 ssh-ed25519 AAAA through jump@203.0.113.5:2200 ssh-ed25519 AAAAJ",
        ),
    ],
)
def test_the_way_to_a_machine_is_shown_with_its_host_keys_and_no_private_one(
    bastion: Bastion | None, shown: str
) -> None:
    way = Connection(
        address="192.0.2.11",
        port=2222,
        user="admin",
        host_key="ssh-ed25519 AAAA",
        private_key=KEY,
        passphrase="S3CRET",
        bastion=bastion,
    )
    assert sidecar(connection=way).one("vm-1", "Sidecar").plain["ssh"] == shown


@MODES
def test_a_bastion_may_have_a_key_of_its_own(preview: bool) -> None:
    other = KEY.replace("S3CRET", "OTHER")
    given = connection(preview, privateKeyPassphrase="phrase", bastion={**BASTION, "privateKey": other})
    assert given["proxy"]["privateKey"] == other
    assert "privateKeyPassword" not in given["proxy"], "the passphrase is that of the machine's key"
    assert "privateKey" not in connection(preview, bastion={**BASTION, "agent": True})["proxy"]


def way(known_later: tuple[str, ...] = (), **changes: Any) -> tuple[dict[str, Any], bool]:
    """What a provider has of the way to a machine, and whether it is a secret on its way there."""
    seen: list[tuple[str, bool]] = []

    def program() -> object:
        given: dict[str, Any] = {"address": "192.0.2.11", "host_key": "ssh-ed25519 AAAA", **changes}
        given |= {name: pulumi.Output.from_input(given[name]) for name in known_later}
        text = Connection(**given).packed(dial_seconds=5, dial_attempts=2)
        return pulumi.Output.all(text, text.is_secret()).apply(lambda both: seen.append((both[0], both[1])))

    run(program)
    text, is_secret = seen[0]
    return unpacked({"ssh": text}), is_secret


def test_the_way_to_a_machine_is_one_text_which_is_secret_where_it_has_a_key() -> None:
    door = {"address": "192.0.2.11", "hostKey": "ssh-ed25519 AAAA", "port": 22.0, "user": "root"}
    limits = {"dialSeconds": 5, "dialAttempts": 2}
    assert way() == ({"connection": door, **limits}, False)
    assert way(private_key=KEY) == ({"connection": {**door, "privateKey": KEY}, **limits}, True)
    jump = Bastion(address="203.0.113.5", host_key="ssh-ed25519 J", passphrase="S3CRET")
    behind = {
        "address": "203.0.113.5",
        "hostKey": "ssh-ed25519 J",
        "port": 22.0,
        "user": "root",
        "passphrase": "S3CRET",
    }
    assert way(bastion=jump) == ({"connection": {**door, "bastion": behind}, **limits}, True)


def test_what_is_known_later_is_in_that_text_too() -> None:
    assert way(("address", "port"), port=2222) == way(port=2222)
    assert way(("private_key",), private_key=KEY) == way(private_key=KEY)
