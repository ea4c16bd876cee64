"""Tokens and private keys are nowhere but in their one place: while a VM joins, after it failed to, and after it left.

tests/e2e/test_main_job.py looks after a first join.
"""

from __future__ import annotations

import pytest

from lab.cluster import wait_for
from lab.machines import Machine
from tests.e2e.interruption import Moment, killed
from tests.e2e.mesh import objects
from tests.e2e.processes import CommandLines
from tests.e2e.stack import PulumiError, Stack, console
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full]

TOKEN = "/run/secrets/tokens/istio-token"
KEY = "/etc/certs/key.pem"
FOLDERS = "/etc /var /run /tmp /home /root /usr/local /dev/shm"
PAYLOADS = "find /run -maxdepth 1 -type d -name 'hybrid-mesh.*'"
"""Where a script has what it was given; beside them lies their lock, which is a file."""
FIND = f"grep --files-with-matches --recursive --no-messages --binary-files=text --file=- {FOLDERS} || true"


def secrets(machine: Machine) -> dict[str, str]:
    """What must not be found, by the file that may have it: a signature, and a line out of the middle of a key."""
    token = machine.look(["cat", TOKEN]).strip().rsplit(".", 1)[1]
    key = machine.look(["cat", KEY]).splitlines()
    assert "PRIVATE KEY" in key[0]
    assert len(token) > 100
    return {TOKEN: token, KEY: key[len(key) // 2]}


def assert_hidden(lab: Lab, stack: Stack, machine: Machine, found: dict[str, str], texts: dict[str, str]) -> None:
    """No secret is in these texts, the state, a file of whoever runs pulumi, the VM's journal or other files of it."""
    ssh_key = (lab.instance.folder / "ssh" / "id_ed25519").read_text().splitlines()[2]
    texts = {**texts, "state": stack.state(), "outputs": str(stack.outputs())}
    texts["journal"] = machine.look(["journalctl", "--no-pager"])
    for name, text in texts.items():
        for secret in (*found.values(), ssh_key):
            assert secret not in text, name
    for path, content in stack.kept():
        for secret in (*found.values(), ssh_key):
            assert secret.encode() not in content, path
    for place, secret in found.items():
        holders = machine.ssh([FIND], input_text=secret).split()
        assert set(holders) <= {place}, place
        as_nobody = f"setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '{FIND}'"
        assert machine.ssh([as_nobody], input_text=secret) == "", place
    assert machine.ssh([FIND], input_text=ssh_key) == ""


def entries(lab: Lab) -> set[str]:
    return {entry["spec"]["address"] for entry in objects(lab, "workloadentries").values()}


def test_a_rejoin_tells_no_secret_to_anybody_who_watches(lab: Lab, up: Stack) -> None:
    machine = lab.machine("vm-1")
    old = secrets(machine)
    machine.ssh([f"systemctl stop istio; rm -f {KEY} /etc/certs/cert-chain.pem"])
    wait_for("it to be out", lambda: machine.address not in entries(lab), 60)
    events = lab.instance.folder / "events.json"
    with CommandLines() as processes:
        preview = up.preview()
        output = up.up("--show-secrets=false", "--event-log", str(events))
    new = secrets(machine)
    assert new[TOKEN] != old[TOKEN], "it was given a new token"
    assert new[KEY] != old[KEY], "and has made itself a new key"
    log = events.read_text()
    assert "mesh-vm-1-join" in log
    events.unlink()
    for secret in (*new.values(), *old.values()):
        assert not any(secret.encode() in text for text in processes.seen)
    assert_hidden(lab, up, machine, new, {"preview": preview, "output": output, "event log": log})


def test_files_of_the_mesh_on_a_machine_are_as_open_as_they_must_be(lab: Lab, up: Stack) -> None:
    assert up.resources()
    machine = lab.machine("vm-1")
    modes = machine.ssh(
        [f"stat -c '%a %U %n' {TOKEN} {KEY} /etc/certs/cert-chain.pem /run/secrets/tokens /var/lib/hybrid-mesh"]
    ).splitlines()
    assert modes == [
        f"600 istio-proxy {TOKEN}",
        f"600 istio-proxy {KEY}",
        "600 istio-proxy /etc/certs/cert-chain.pem",
        "700 istio-proxy /run/secrets/tokens",
        "700 root /var/lib/hybrid-mesh",
    ]
    ours = "/etc/certs /etc/istio/ /var/lib/istio /run/secrets /var/lib/hybrid-mesh /var/log/istio"
    assert machine.ssh([f"find {ours} -type f -perm /022"]) == "", "only the owner writes"
    executable = machine.ssh([f"find {ours} -type f -perm /111"]).split()
    assert executable == [], "istioctl writes its files 0744"


def test_a_join_that_fails_tells_no_secret_and_leaves_none(lab: Lab, up: Stack) -> None:
    machine = lab.machine("vm-1")
    up.change("sidecar.package.sha256", "0" * 64)
    with CommandLines() as processes, pytest.raises(PulumiError) as failed:
        up.up()
    assert "SHA-256" in str(failed.value)
    found = secrets(machine)
    for secret in found.values():
        assert not any(secret.encode() in text for text in processes.seen)
    assert_hidden(lab, up, machine, found, {"failure": str(failed.value)})
    assert machine.ssh([PAYLOADS]) == "", "the payload is gone"
    up.restore()
    up.up()


def test_a_run_that_was_killed_in_a_join_and_its_recovery_tell_no_secret(lab: Lab, up: Stack) -> None:
    machine = lab.machine("vm-1")
    old = secrets(machine)
    machine.ssh([f"systemctl stop istio; rm -f {KEY} /etc/certs/cert-chain.pem"])
    wait_for("it to be out", lambda: machine.address not in entries(lab), 60)
    with CommandLines() as processes:
        assert killed(up, "up", Moment("mesh-vm-1-join", "begins", later=0.3))
        said = console(lab, "recover", "--stack", "dev", "--yes").stdout
        output = up.up()
    found = secrets(machine)
    for secret in (*found.values(), *old.values()):
        assert not any(secret.encode() in text for text in processes.seen)
    killed_run = (lab.instance.folder / "killed.log").read_text()
    assert_hidden(lab, up, machine, found, {"recovery": said, "killed run": killed_run, "output": output})
    assert machine.ssh([PAYLOADS]) == "", "the killed one's payload is gone"


def test_a_machine_that_left_has_no_secret_any_more_and_nobody_else_has(lab: Lab, up: Stack) -> None:
    machine = lab.machine("vm-1")
    found = secrets(machine)
    output = up.destroy()
    for place, secret in found.items():
        assert machine.ssh([FIND], input_text=secret) == "", place
    assert_hidden(lab, up, machine, {}, {"output": output})
    for secret in found.values():
        assert secret not in up.state()
        assert secret not in machine.look(["journalctl", "--no-pager"])
    up.up()
