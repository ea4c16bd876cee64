"""How the console reaches machines, and what it says of those that it does not reach."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from hybridmesh.ops import ssh
from hybridmesh.ops.ssh import Answer, Door, Kind, Limits, Reachable, SshError, run_on_all
from tests.ops.sshd import Sshd, closed_port, key, private, public, silent

PATIENT = Limits(connect=8, command=8)
"""Long enough for a busy machine; what is silent takes all of it, and so has a shorter one."""


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with Sshd(users=("root", "admin")) as server:
        yield server


def ask(
    door: Door,
    command: str = "echo",
    *,
    bastion: Door | None = None,
    stdin: str = "hello",
    limits: Limits = PATIENT,
) -> Answer | SshError:
    machine = Reachable(name="vm-1", door=door, bastion=bastion)
    return run_on_all({"vm-1": machine}, command, stdin, limits)["vm-1"]


def refusal(
    kind: Kind, door: Door, command: str = "echo", *, bastion: Door | None = None, limits: Limits = PATIENT
) -> str:
    """What is said; it names the machine, what follows and what to do, and comes in time."""
    began = time.monotonic()
    error = ask(door, command, bastion=bastion, limits=limits)
    assert time.monotonic() - began < PATIENT.connect + PATIENT.command
    assert isinstance(error, SshError), error
    assert error.kind == kind, error
    assert str(error).startswith("vm-1: ")
    assert "PRIVATE KEY" not in str(error)
    assert ". Nothing " in str(error) or ". Nobody " in str(error) or ". It is not talked to" in str(error)
    assert " Fix: " in str(error)
    return str(error)


def test_a_command_reads_stdin_and_says_how_it_ended(sshd: Sshd) -> None:
    assert ask(sshd.door(), stdin="ä secret\n") == Answer("vm-1", 0, "ä secret\n", "")
    assert ask(sshd.door(), "3") == Answer("vm-1", 3, "", "")
    assert ask(sshd.door(user="admin")) == Answer("vm-1", 0, "hello", "")


def test_what_a_machine_says_steers_no_terminal(sshd: Sshd) -> None:
    said = "ä\tb\n\x1b]52;c;cm0=\x07\x9b2J\r\u202eok"
    shown = "ä\tb\n\\x1b]52;c;cm0=\\x07\\x9b2J\\r\\u202eok"
    assert ask(sshd.door(), stdin=said) == Answer("vm-1", 0, shown, "")
    assert ask(sshd.door(), stdin="a\r\nb\r\n") == Answer("vm-1", 0, "a\nb\n", ""), "a certificate from Windows"
    sshd.answer = (4, said)
    try:
        assert ask(sshd.door(), "leave") == Answer("vm-1", 4, "", shown)
    finally:
        sshd.answer = (0, "")


def test_many_machines_are_asked_at_once_and_a_silent_one_holds_up_no_other(sshd: Sshd) -> None:
    machines = {f"vm-{n}": Reachable(name=f"vm-{n}", door=sshd.door()) for n in range(30)}
    with silent() as port:
        machines["vm-15"] = Reachable(name="vm-15", door=sshd.door(port=port))
        began = time.monotonic()
        answers = run_on_all(machines, "echo", lambda name: f"I am {name}", Limits(connect=3, at_once=10))
        took = time.monotonic() - began
    assert list(answers) == list(machines)
    silent_one = answers.pop("vm-15")
    assert isinstance(silent_one, SshError)
    assert {name: answer.stdout for name, answer in answers.items() if isinstance(answer, Answer)} == {
        name: f"I am {name}" for name in answers
    }
    assert took < 8, "one after the other they would take longer"


def test_no_more_machines_are_asked_at_a_time_than_the_limit_says(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = [0]

    async def run_on(machine: Reachable, *_: object) -> Answer:
        asked.append(asked[-1] + 1)
        await asyncio.sleep(0.01)
        asked.append(asked[-1] - 1)
        return Answer(machine.name, 0, "", "")

    monkeypatch.setattr(ssh, "_run_on", run_on)
    machines = {f"vm-{n}": Reachable(name=f"vm-{n}", door=sshd.door()) for n in range(20)}
    assert len(run_on_all(machines, "echo", "", Limits(at_once=7))) == 20
    assert max(asked) == 7


def test_a_host_that_is_silent_or_not_there_is_unreachable(sshd: Sshd) -> None:
    with silent() as port:
        said = refusal("unreachable", sshd.door(port=port), limits=replace(PATIENT, connect=0.5))
        assert f"127.0.0.1:{port} (no answer within 0.5 s)" in said
    assert "refused" in refusal("unreachable", sshd.door(port=closed_port())).lower()
    assert "name" in refusal("unreachable", sshd.door(address="no-such-host.invalid")).lower()


def test_a_person_s_own_ssh_configuration_changes_nothing(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host *\n  ProxyCommand false\n  Hostname no-such-host.invalid\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ask(sshd.door()) == Answer("vm-1", 0, "hello", "")


def test_another_host_key_is_not_talked_to(sshd: Sshd) -> None:
    before = sshd.logins
    assert "shows another host key" in refusal("host key", sshd.door(host_key=public(key())))
    rsa = "ssh-rsa " + public_rsa()
    assert "shows another host key than ssh-rsa" in refusal("host key", sshd.door(host_key=rsa)), "none of the kind"
    assert "hostKey is no public key" in refusal("host key", sshd.door(host_key="ssh-ed25519 nonsense"))
    assert sshd.logins == before


@pytest.mark.parametrize("kind", ["ecdsa-sha2-nistp256", "ssh-rsa"])
def test_of_the_keys_that_a_host_has_it_is_asked_for_the_one_that_is_expected(kind: str) -> None:
    expected = asyncssh.generate_private_key(kind)
    with Sshd(more_hosts=(expected,)) as server:
        for known in (expected, server.host):
            assert ask(server.door(host_key=public(known))) == Answer("vm-1", 0, "hello", "")


def public_rsa() -> str:
    return public(asyncssh.generate_private_key("ssh-rsa", key_size=2048)).split()[1]


def test_a_wrong_user_or_key_is_not_let_in(sshd: Sshd) -> None:
    assert "does not let nobody in with the private key" in refusal("login", sshd.door(user="nobody"))
    assert "does not let root in with the private key" in refusal("login", sshd.door(private_key=private(key())))


def test_a_key_with_a_passphrase_is_opened_by_it_alone(sshd: Sshd) -> None:
    locked = private(sshd.client, "phrase")
    assert ask(sshd.door(private_key=locked, passphrase="phrase")) == Answer("vm-1", 0, "hello", "")
    assert "privateKeyPassphrase" in refusal("key", sshd.door(private_key=locked))
    said = refusal("key", sshd.door(private_key=locked, passphrase="S3CRET"))
    assert "privateKeyPassphrase" in said
    assert "S3CRET" not in said
    assert "cannot be read" in refusal("key", sshd.door(private_key="nonsense"))


def test_an_agent_opens_what_its_keys_open(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = tmp_path / "agent"
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert "SSH_AUTH_SOCK is not set" in refusal("agent", sshd.door(private_key=None))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    assert "the ssh-agent has no key" in refusal("agent", sshd.door(private_key=None))
    (tmp_path / "key").write_text(private(sshd.client))
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "other").write_text(private(key()))
    (tmp_path / "other").chmod(0o600)
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while not socket.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        assert "it holds no key" in refusal("agent", sshd.door(private_key=None))
        subprocess.run(["ssh-add", "-q", tmp_path / "other"], check=True, timeout=20)
        assert "any key of the ssh-agent" in refusal("login", sshd.door(private_key=None))
        subprocess.run(["ssh-add", "-q", tmp_path / "key"], check=True, timeout=20)
        assert ask(sshd.door(private_key=None)) == Answer("vm-1", 0, "hello", "")
    finally:
        agent.kill()
        agent.wait()


def test_a_bastion_is_gone_through_and_named_where_it_is_at_fault(sshd: Sshd) -> None:
    with Sshd(users=("jump",)) as bastion:
        way = bastion.door(user="jump")
        assert ask(sshd.door(), bastion=way) == Answer("vm-1", 0, "hello", "")
        assert bastion.forwarded == [("127.0.0.1", sshd.port)]
        assert "vm-1: its bastion: " in refusal("login", sshd.door(), bastion=bastion.door(user="root"))
        other = bastion.door(user="jump", host_key=public(key()))
        assert "vm-1: its bastion: " in refusal("host key", sshd.door(), bastion=other)
        assert "vm-1: SSH does not answer" in refusal("unreachable", sshd.door(port=closed_port()), bastion=way)
        with silent() as port:
            hasty = replace(PATIENT, connect=3)  # in which the bastion does answer
            said = refusal("unreachable", sshd.door(port=port), bastion=way, limits=hasty)
            assert "vm-1: SSH does not answer" in said
    assert "its bastion: SSH does not answer" in refusal(
        "unreachable", sshd.door(), bastion=bastion.door(port=closed_port())
    )


def test_many_machines_behind_one_bastion_are_one_login_there(sshd: Sshd) -> None:
    with Sshd(users=("jump",)) as bastion:
        way = bastion.door(user="jump")
        machines = {f"vm-{n}": Reachable(name=f"vm-{n}", door=sshd.door(), bastion=way) for n in range(30)}
        answers = run_on_all(machines, "echo", "hello", PATIENT)
        assert {answer.stdout for answer in answers.values() if isinstance(answer, Answer)} == {"hello"}
        assert (len(bastion.forwarded), bastion.logins) == (30, 1), "of many logins at once sshd drops some"
        other = bastion.door(user="root")
        refused = run_on_all({n: replace(m, bastion=other) for n, m in machines.items()}, "echo", "", PATIENT)
    assert {str(error).partition(": SSH")[0].partition(": 127")[0] for error in refused.values()} == {
        f"{name}: its bastion" for name in machines
    }
    # Whoever looks at many machines says their names himself, and of each what is wrong.
    problems = {error.problem for error in refused.values() if isinstance(error, SshError)}
    assert problems == {f"its bastion: 127.0.0.1:{other.port} does not let root in with the private key"}


def test_an_sshd_that_drops_logins_for_there_are_too_many_is_tried_again(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_LONGEST_PAUSE_SECONDS", 0.1)
    sshd.drops = 2
    assert ask(sshd.door()) == Answer("vm-1", 0, "hello", "")
    sshd.drops = 20
    try:
        assert "SSH does not answer" in refusal("unreachable", sshd.door())
    finally:
        sshd.drops = 0


def test_a_command_that_does_not_end_or_is_cut_off_is_said_to_be(sshd: Sshd) -> None:
    said = refusal("limit", sshd.door(), "sleep", limits=replace(PATIENT, command=0.5))
    assert "did not end within 0.5 s" in said
    assert f"`ssh -p {sshd.port} root@127.0.0.1 ps -ef`" in said
    assert "was lost while the command ran" in refusal("cut off", sshd.door(), "drop")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_machine_that_prints_without_end_is_heard_no_longer_than_what_is_kept_of_it(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    monkeypatch.setattr(ssh, "MOST_MIB", 1)
    assert "prints more than 1 MiB" in refusal("limit", sshd.door(), f"yes {stream}")


def test_what_a_machine_prints_below_that_is_kept_whole(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "MOST_MIB", 1)
    lines = "\n" * 500_000
    assert ask(sshd.door(), stdin="a" + lines.replace("\n", "\r\n")) == Answer("vm-1", 0, f"a{lines}", "")
    assert ask(sshd.door(), stdin="a\r") == Answer("vm-1", 0, "a\\r", "")


def test_a_user_whose_sudo_wants_a_password_is_told_from_a_command_that_fails(sshd: Sshd) -> None:
    for words in ("sudo: a password is required", "sudo: sorry, you must have a tty", "/bin/sh: 1: sudo: not found"):
        said = refusal("sudo", sshd.door(user="admin"), f"sudo {words}")
        assert f"admin is not root there, and sudo is refused ({words})" in said
        assert "NOPASSWD" in said
    assert "sudo is refused (it asks for a password)" in refusal("sudo", sshd.door(user="admin"), "sudo ")
    assert ask(sshd.door(), "77") == Answer("vm-1", 77, "", "")


def test_no_secret_is_in_a_repr(sshd: Sshd) -> None:
    door = sshd.door(passphrase="S3CRET")
    shown: Any = (door, Reachable(name="vm-1", door=door, bastion=door))
    assert "S3CRET" not in repr(shown)
    assert "PRIVATE KEY" not in repr(shown)
