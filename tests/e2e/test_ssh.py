"""Ways to reach VMs, and that nobody is cut off or held up by another: docs/ssh.md."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import wait_for
from lab.instance import PROJECT_ROOT
from lab.machines import Machine
from tests.e2e.machine import connections, running
from tests.e2e.mesh import objects
from tests.e2e.stack import Stack, console
from tests.e2e.test_preflight import add_hosts, host
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full]

VM_1 = "workloads.echo.machines.hosts.vm-1"
SLOW_SECONDS = 45


@pytest.fixture
def agent(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An ssh-agent with the machines' key, for whoever is run from here."""
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    try:
        wait_for("the agent", path.exists, 10)
        subprocess.run(["ssh-add", "-q", lab.instance.folder / "ssh" / "id_ed25519"], check=True, timeout=20)
        yield path
    finally:
        process.kill()
        process.wait()


def came_from(machine: Machine) -> list[str]:
    """Where the connections to its sshd came from, oldest first."""
    journal = machine.look(["journalctl", "--unit=ssh", "--no-pager", "--output=cat"])
    return re.findall(r"^Connection from (\S+) ", journal, re.MULTILINE)


def test_a_machine_behind_a_bastion_is_reached_by_an_agent_s_key_and_a_user_with_sudo(
    lab: Lab, up: Stack, agent: Path
) -> None:
    machine, jump = lab.machine("vm-1"), lab.machine("jump")
    jump.create(lab.tools)
    before, jumped = connections(machine), connections(jump)
    bastion = {"address": jump.address, "user": "admin", "hostKey": jump.host_key}
    ssh = {"address": machine.address, "user": "admin", "hostKey": machine.host_key, "agent": True, "bastion": bastion}
    up.change(f"{VM_1}.ssh", ssh)
    up.up()
    assert 1 <= connections(machine) - before <= 3
    assert set(came_from(machine)[before:]) == {jump.address}
    assert connections(jump) - jumped == connections(machine) - before
    assert up.steps() == []
    assert str(agent) not in up.state(), "another person's agent would be a change"
    look = console(lab, "preflight", "vm-1", "--stack", "dev", "--config-file", str(up.file))
    assert "can join" in look.stdout
    assert came_from(machine)[-1] == jump.address
    up.restore()
    up.up()
    jump.delete()


def test_a_key_with_a_passphrase_is_opened_by_it_and_shown_nowhere(lab: Lab, up: Stack) -> None:
    key = lab.instance.folder / "locked_key"
    key.write_text((lab.instance.folder / "ssh" / "id_ed25519").read_text())
    key.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "S3CRET-phrase", "-f", key], check=True, timeout=20)
    machine = lab.machine("vm-1")
    before = connections(machine)
    up.change(f"{VM_1}.ssh.privateKeyFile", str(key.relative_to(PROJECT_ROOT)))
    phrase = key.with_name("locked_phrase")
    phrase.write_text("S3CRET-phrase\n")
    # What stands in a stack file in plain text is in the state in plain text, too: Pulumi keeps a run's config.
    up.change(f"{VM_1}.ssh.privateKeyPassphrase", {"fromFile": str(phrase.relative_to(PROJECT_ROOT))})
    said = up.up()
    assert 1 <= connections(machine) - before <= 3
    assert "S3CRET-phrase" not in said
    assert "S3CRET-phrase" not in up.state()
    assert "can join" in console(lab, "preflight", "vm-1", "--stack", "dev", "--config-file", str(up.file)).stdout
    up.restore()
    up.up()


def test_a_session_with_output_going_on_survives_a_join_a_restart_and_a_leave(lab: Lab, up: Stack) -> None:
    """On a kernel that did not track connections before: nothing asks for it until the join does."""
    machine = lab.machine("talker")
    machine.create(lab.tools)
    alive = ["-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=3"]  # a session that was cut ends, not hangs
    ssh, *rest = machine.ssh_command(["--", "i=0; while ! test -e /run/enough; do echo $((i += 1)); sleep 0.1; done"])
    with subprocess.Popen([ssh, *alive, *rest], stdout=subprocess.PIPE, text=True) as session:
        add_hosts(up, {"talker": host(lab, machine)})
        up.up()
        agent = running(machine).agent
        up.change("sidecar.logLevel", "info")
        up.up()
        assert running(machine).agent != agent, "the proxy was restarted"
        up.restore()
        up.up()
        machine.look(["touch", "/run/enough"])
        said, _ = session.communicate(timeout=30)
    assert session.returncode == 0, "the session was cut"
    numbers = [int(line) for line in said.split()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 100
    machine.delete()


def connected(lab: Lab, machine: Machine) -> bool:
    return any(
        entry["spec"]["address"] == machine.address
        and "istio.io/disconnectedAt" not in entry["metadata"]["annotations"]
        for entry in objects(lab, "workloadentries").values()
    )


def test_a_slow_machine_holds_up_no_other(lab: Lab, up: Stack) -> None:
    slow, quick = lab.machine("slow"), lab.machine("quick")
    for machine in (slow, quick):
        machine.create(lab.tools)
    wrapper = f'#!/bin/sh\\ncase "$*" in *--install*) sleep {SLOW_SECONDS} ;; esac\\nexec /usr/bin/dpkg "$@"\\n'
    slow.ssh([f"printf '{wrapper}' >/usr/local/sbin/dpkg; chmod 755 /usr/local/sbin/dpkg"])
    add_hosts(up, {name: host(lab, lab.machine(name)) for name in ("slow", "quick")})
    began, failure = time.monotonic(), list[BaseException]()

    def run() -> None:
        try:
            up.up()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_for("the quick one to be in", lambda: connected(lab, quick), SLOW_SECONDS)
        took = time.monotonic() - began
        assert not connected(lab, slow)
    finally:
        thread.join(300)
    assert failure == []
    assert connected(lab, slow)
    print(f"the quick one was in after {took:.0f} s, the slow one after {time.monotonic() - began:.0f} s")
    up.restore()
    up.up()
    for machine in (slow, quick):
        machine.delete()
