"""How to log in to a machine: key, agent, passphrase, bastion."""

from __future__ import annotations

from typing import Any

import pytest

from hybridmesh.settings import SettingsError
from hybridmesh.settings.login_checks import is_encrypted
from tests.components.harness import KEY, dev_settings, ssh_changed
from tests.ops.sshd import key, private

SSH = "hybrid-mesh:workloads.echo.machines.hosts.vm-1.ssh"
BASTION = {"address": "203.0.113.5", "hostKey": "ssh-ed25519 AAAA"}


def findings(**changes: Any) -> list[str]:
    """What is said of vm-1's `ssh` with these changes; None takes a key out."""
    try:
        dev_settings(ssh_changed(**changes))
    except SettingsError as error:
        return [str(finding) for finding in error.findings]
    return []


@pytest.mark.parametrize(
    "good",
    [
        {},
        {"privateKeyFile": None, "agent": True},
        {"privateKeyPassphrase": "phrase"},
        {"privateKeyFile": None, "privateKey": private(key(), "phrase"), "privateKeyPassphrase": "phrase"},
        {"bastion": BASTION},
        {"bastion": {**BASTION, "agent": True}},
        {"bastion": {**BASTION, "privateKey": KEY}},
    ],
)
def test_a_key_an_agent_and_a_bastion_are_good(good: dict[str, Any]) -> None:
    assert findings(**good) == []


def test_a_key_that_is_none_inside_is_for_ssh_to_refuse() -> None:
    for body in ("büffel", "aGVsbG8sIEkgYW0gbm8ga2V5"):
        mangled = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n"
        assert not is_encrypted(mangled)
        assert findings(privateKeyFile=None, privateKey=mangled) == []


@pytest.mark.parametrize(
    ("wrong", "field", "problem"),
    [
        ({"privateKeyFile": None}, "privateKeyFile", "is missing"),
        ({"agent": True}, "agent", "a private key is given too"),
        (
            {"privateKeyFile": None, "privateKey": private(key(), "phrase")},
            "privateKeyPassphrase",
            "the private key is encrypted",
        ),
        ({"bastion": {"address": "203.0.113.5"}}, "bastion.hostKey", "is missing"),
        ({"bastion": {**BASTION, "privateKey": "S3CRET"}}, "bastion.privateKeyFile", "holds no private key"),
        ({"bastion": {**BASTION, "agent": True, "privateKey": KEY}}, "bastion.agent", "a private key is given too"),
        ({"bastion": {**BASTION, "user": ""}}, "bastion.user", ""),
    ],
)
def test_what_nobody_could_log_in_with_is_refused_and_not_shown(
    wrong: dict[str, Any], field: str, problem: str
) -> None:
    (found,) = findings(**wrong)
    assert found.startswith(f"{SSH}.{field}")
    assert problem in found
    assert "Fix: " in found
    assert "S3CRET" not in found


def test_keys_with_a_passphrase_are_known_by_their_form() -> None:
    made = key()
    assert is_encrypted(private(made, "phrase"))
    assert is_encrypted(made.export_private_key("pkcs8-pem", "phrase").decode())
    assert not is_encrypted(private(made))
    assert not is_encrypted(made.export_private_key("pkcs8-pem").decode())
    assert not is_encrypted(KEY)
    assert not is_encrypted("-----BEGIN OPENSSH PRIVATE KEY-----\nnot base64!\n-----END OPENSSH PRIVATE KEY-----")
