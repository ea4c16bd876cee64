"""Machines: those that exist, and those that a command makes."""

import json
from typing import Any

import pulumi
import pytest

from components.command_host import CommandHost, CommandHostArgs, MadeMachine, made_machine
from components.connection import Connection
from components.ssh_host import SshHost, SshHostArgs
from tests.components import harness
from tests.components.harness import KEY, run

GOOD: dict[str, Any] = {
    "name": "vm-2",
    "address": "192.0.2.12",
    "port": 2222,
    "user": "admin",
    "hostKey": "ssh-ed25519 A\n",
}


def test_what_the_command_printed_is_read() -> None:
    assert made_machine(json.dumps(GOOD) + "\n", "vm-2") == MadeMachine("192.0.2.12", 2222, "admin", "ssh-ed25519 A")


def test_port_and_user_may_be_left_out() -> None:
    little = {"address": "2001:db8::1", "hostKey": "ssh-ed25519 A", "zone": "passed over"}
    assert made_machine(json.dumps(little), "vm-2") == MadeMachine("2001:db8::1", 22, "root", "ssh-ed25519 A")


@pytest.mark.parametrize(
    ("stdout", "problem"),
    [
        ("", "printed no JSON"),
        ("made vm-2\n" + json.dumps(GOOD), "printed no JSON"),
        ("[]", "no object"),
        (json.dumps({**GOOD, "address": "vm-2.example.com"}), "not an IP address"),
        (json.dumps({**GOOD, "address": None}), "not an IP address"),
        (json.dumps({**GOOD, "hostKey": " "}), "no hostKey"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "hostKey"}), "no hostKey"),
        (json.dumps({**GOOD, "port": "22"}), "as port"),
        (json.dumps({**GOOD, "port": True}), "as port"),
        (json.dumps({**GOOD, "port": 0}), "as port"),
        (json.dumps({**GOOD, "user": ""}), "as user"),
    ],
)
def test_anything_else_is_refused_with_machine_and_fix(stdout: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as error:
        made_machine(stdout, "vm-2")
    assert str(error.value).startswith("the command that makes vm-2 ")
    assert "Fix: let it print one line of JSON" in str(error.value)
    assert "then change the command's text" in str(error.value), "it does not run again by itself"


def resolved(connection: Connection, mesh_address: pulumi.Output[str], seen: list[Any]) -> pulumi.Output[None]:
    key = pulumi.Output.from_input(connection.private_key)
    values = pulumi.Output.all(connection.address, connection.port, connection.user, connection.host_key, mesh_address)
    return pulumi.Output.all(values, key.is_secret()).apply(seen.append)


def test_a_made_machine_is_reached_as_the_command_says() -> None:
    seen: list[Any] = []

    def program() -> object:
        host = CommandHost("vm-2", CommandHostArgs(machine="vm-2", create="make", delete="remove", private_key=KEY))
        return resolved(host.connection, host.mesh_address, seen)

    world = run(program)
    assert seen == [[["192.0.2.12", 22, "root", "ssh-ed25519 AAAAB", "192.0.2.12"], True]]
    command = world.one("vm-2-machine")
    assert (command.value("create"), command.value("delete")) == ("make", "remove")
    assert command.value("addPreviousOutputInEnv") is False
    assert command.goes_first_if_replaced, "or the one that is made anew would be found made, and removed after"


@pytest.mark.parametrize(("delete", "removes"), [("remove", True), ("true", False)])
def test_whether_the_command_removes_it_is_known(delete: str, removes: bool) -> None:
    seen: list[Any] = []
    args = CommandHostArgs(machine="vm-2", create="make", delete=delete)
    world = run(lambda: CommandHost("vm-2", args).command.apply(seen.append))
    assert seen == [{"urn": world.one("vm-2-machine").urn, "removes": removes}]


def test_an_existing_machine_is_named_and_not_touched() -> None:
    seen: list[Any] = []

    def program() -> object:
        host = SshHost(
            SshHostArgs(address="bastion.example.com", host_key="k", private_key=KEY, mesh_address="10.0.0.1")
        )
        return resolved(host.connection, host.mesh_address, seen)

    world = run(program)
    assert seen == [[["bastion.example.com", 22, "root", "k", "10.0.0.1"], True]]
    assert world.names() == set()


def ssh_host(address: str, mesh_address: str | None) -> SshHost:
    return SshHost(SshHostArgs(address=address, host_key="k", mesh_address=mesh_address))


@pytest.mark.parametrize(
    ("address", "mesh_address"), [("2001:DB8:0:0::1", None), ("vm-1.example.com", "2001:0db8::0001")]
)
def test_the_mesh_s_address_is_written_as_istiod_writes_it(address: str, mesh_address: str | None) -> None:
    seen: list[Any] = []
    run(lambda: resolved((host := ssh_host(address, mesh_address)).connection, host.mesh_address, seen))
    assert seen[0][0][0] == address, "SSH goes to what was given"
    assert seen[0][0][-1] == "2001:db8::1"


def test_so_is_the_one_that_a_command_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "MADE_MACHINE", json.dumps({**GOOD, "address": "2001:DB8:0:0::12"}))
    seen: list[Any] = []

    def program() -> object:
        host = CommandHost("vm-2", CommandHostArgs(machine="vm-2", create="make", delete="remove", private_key=KEY))
        return resolved(host.connection, host.mesh_address, seen)

    run(program)
    assert seen[0][0][-1] == "2001:db8::12"


def test_a_private_key_is_in_no_repr() -> None:
    for args in (
        SshHostArgs(address="a", host_key="k", private_key=KEY),
        CommandHostArgs(machine="m", create="c", delete="d", private_key=KEY),
        Connection(address="a", host_key="k", private_key=KEY),
    ):
        assert "S3CRET" not in repr(args)


def test_a_private_key_is_secret_on_its_way_to_a_command() -> None:
    seen: list[list[bool]] = []

    def program() -> object:
        connection = Connection(address="a", host_key="k", private_key=KEY).for_commands(15, 4)
        key: pulumi.Output[str] = pulumi.Output.from_input(connection.private_key)  # type: ignore[arg-type]  # never None
        return pulumi.Output.all(key.is_secret()).apply(seen.append)

    run(program)
    assert seen == [[True]]
