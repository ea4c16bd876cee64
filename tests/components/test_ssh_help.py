"""What is said where pulumi-command says little: tests/e2e/test_ssh.py has its errors from the real one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc  # type: ignore[import-untyped]
import pulumi
import pytest
from pulumi.runtime.proto.resource_pb2_grpc import ResourceMonitorStub

from components import hooks
from components.proxy_choices import SidecarLimits
from components.sidecar import patience_seconds
from components.ssh_help import SshHelp, later, meaning, still_silent

ATTEMPTS = "after 4 failed attempts: "
REFUSED = "dial tcp 192.0.2.11:22: connect: connection refused"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (f"{ATTEMPTS}ssh: handshake failed: ssh: host key mismatch", "shows another host key"),
        (
            f"{ATTEMPTS}ssh: handshake failed: ssh: unable to authenticate, attempted methods [none publickey], no "
            "supported methods remain",
            "does not let the user in",
        ),
        (f"{ATTEMPTS}{REFUSED}", "SSH does not answer"),
        (f"{ATTEMPTS}dial tcp 192.0.2.11:22: i/o timeout", "SSH does not answer"),
        (f"{ATTEMPTS}dial tcp: lookup vm-1: no such host", "SSH does not answer"),
        (f"{ATTEMPTS}ssh: handshake failed: EOF", "hangs up before anybody logs in"),
        ("ssh: this private key is passphrase protected", "privateKeyPassphrase as a secret"),
        ("x509: decryption password incorrect", "does not open its private key"),
        ("ssh: no key found", "cannot be read"),
        ("dial unix /tmp/agent: connect: no such file or directory", "ssh-agent"),
        ("wait: remote command exited without exit status or exit signal", "was lost while the command ran"),
    ],
)
def test_an_error_is_explained_with_machine_consequence_and_fix(error: str, said: str) -> None:
    words = meaning("vm-1", [error, "an older one"])
    assert words is not None
    assert words.startswith("vm-1: ")
    assert said in words
    assert " Fix: " in words
    assert words.endswith("`python -m hybridmesh preflight vm-1` looks again, and changes nothing.")
    assert words.count(". ") >= 2


def test_a_bastion_s_error_is_said_to_be_its_own_or_beyond() -> None:
    words = meaning("vm-1", [f"proxy: {ATTEMPTS}{REFUSED}"])
    assert words is not None
    assert words.startswith("vm-1, at its bastion or beyond: SSH does not answer")


def test_what_a_script_said_or_nobody_knows_is_left_as_it_is() -> None:
    assert meaning("vm-1", ["Process exited with status 1\nhybrid-mesh: FAILED on vm-1: connection refused"]) is None
    assert meaning("vm-1", ["something new"]) is None
    assert meaning("vm-1", []) is None


def test_a_timer_acts_unless_it_is_ended() -> None:
    acted = threading.Event()
    timer = later(0.05, acted.set)
    assert timer.daemon
    assert acted.wait(5)
    kept = threading.Event()
    later(0.2, kept.set).cancel()
    assert not kept.wait(0.5)


def test_a_machine_that_is_silent_for_too_long_is_named_with_what_to_do() -> None:
    words = still_silent("vm-1", 150)
    assert words.startswith("vm-1: no answer after 150 s.")
    assert " Fix: " in words


def test_patience_is_longer_than_all_that_a_command_may_wait_for() -> None:
    assert patience_seconds(SidecarLimits(dial=15, dial_attempts=4, download=120, install=300, ready=120)) == 1515


def test_an_engine_without_hooks_has_its_bare_errors() -> None:
    assert not hooks.supports(hooks.ERROR_HOOKS), "no engine here"
    binding = SshHelp("mesh").on("vm-1", 150, "mesh-vm-1-join")
    assert binding.on_error is None
    assert binding.before_create is None


def test_a_program_among_others_in_one_process_has_no_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pulumi's SDK would end with "attached to a different loop" in whatever the process runs next."""
    monkeypatch.setattr(hooks, "get_monitor", lambda: ResourceMonitorStub(grpc.insecure_channel("127.0.0.1:9")))
    monkeypatch.setattr(hooks, "monitor_supports_feature", lambda _feature: True)
    assert hooks.supports(hooks.ERROR_HOOKS), "a program of its own has"
    with ThreadPoolExecutor(1) as inline:
        assert not inline.submit(hooks.supports, hooks.ERROR_HOOKS).result()


def test_of_several_machines_the_one_whose_command_it_is_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "error", said.append)
    monkeypatch.setattr(pulumi.log, "warn", said.append)
    made = SshHelp("mesh")
    for machine in ("vm-1", "vm-2"):
        made.on(machine, 0, f"mesh-{machine}-join", f"mesh-{machine}-ready")
    made._start(pulumi.ResourceHookArgs(urn="urn-1", id="", name="mesh-vm-1-ready", type=""))
    made._timers["urn-1"].join(5)
    failed = pulumi.ErrorHookArgs(
        urn="urn-2", id="", name="mesh-vm-2-join", type="", failed_operation="create", errors=["host key mismatch"]
    )
    assert made._explain(failed) is False, "nothing is tried again"
    assert [words.split(":")[0] for words in said] == ["vm-1", "vm-2"]
