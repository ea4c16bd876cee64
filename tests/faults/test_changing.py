"""What happens to a `pulumi up` that meets a fault: a message with VM, step and remedy, and nothing lost."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from lab import packages
from lab.cluster import wait_for
from lab.machines import Machine
from tests.e2e.interruption import Moment, moments, running
from tests.e2e.machine import Running
from tests.e2e.machine import running as what_runs
from tests.e2e.mesh import ask_kubectl
from tests.e2e.stack import PulumiError, Stack
from tests.environment import Lab
from tests.faults.seen import is_in, watched

pytestmark = [pytest.mark.lab, pytest.mark.full]

MACHINES = ("vm-1", "vm-2")
PORT = 8009
VERSION = "1.31.7"
API_AWAY_SECONDS = 8


@contextlib.contextmanager
def mirror(lab: Lab, package: packages.Package, fault: str) -> Iterator[packages.Package]:
    """The package at a mirror with a fault; `down` is one that is not there."""
    node = lab.instance.subnets.node
    at = replace(package, url=f"http://{node}:{PORT}/{Path(package.url).name}")
    if fault == "down":
        yield at
        return
    file = lab.instance.folder / "mirror" / "files" / Path(package.url).name
    script = str(Path(__file__).parent / "mirror.py")
    # Into its network alone: with the others nsenter would have a child, which outlives it.
    inside = ["nsenter", f"--target={lab.instance.require_running()}", "--net", "--"]
    process = subprocess.Popen([*inside, sys.executable, script, node, str(PORT), str(file), fault])
    try:
        time.sleep(1)
        yield at
    finally:
        process.terminate()
        process.wait(timeout=10)


def seen(lab: Lab) -> dict[str, tuple[int, str]]:
    """What runs on each machine; connections apart, which a look makes."""

    def of(running: Running) -> tuple[int, str]:
        return running.agent, running.envoy

    return {name: of(what_runs(lab.machine(name))) for name in MACHINES}


FAULTS = {
    "down": (
        r"(?s)2 findings on 2 of 2 VMs\. Nothing was changed on any VM.*vm-1: package: .*vm-2: package: ",
        "Fix: ",
    ),
    "slow": (r"FAILED on vm-[12] at step package: cannot download http://\S+ within 8s", "remedy: make the address"),
    "corrupt": (
        r"FAILED on vm-[12] at step package: \S+ has SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}",
        "remedy: set",
    ),
}
"""What is said, and in which words of step or remedy."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mirror_with_a_fault_changes_nothing_and_is_named(lab: Lab, up: Stack, fault: str) -> None:
    package = packages.make(lab.instance, VERSION)
    before = seen(lab)
    said, remedy = FAULTS[fault]
    with mirror(lab, package, fault) as at, watched(lab, f"mirror {fault}") as clients:
        up.change("sidecar.package", asdict(at))
        up.change("sidecar.timeouts", {"downloadSeconds": 8, "dialAttempts": 2})
        with pytest.raises(PulumiError) as refused:
            up.up()
        clients.note("the error was there")
    message = str(refused.value)
    assert re.search(said, message), message
    assert remedy in message
    assert "Traceback" not in message
    assert clients.failed("pod") == []
    assert seen(lab) == before, "what ran goes on"
    up.restore()
    up.up()
    assert up.steps() == []
    assert seen(lab) == before


@contextlib.contextmanager
def small_disk(machine: Machine) -> Iterator[None]:
    """What the join writes into has a few MiB left, from when the preflight has looked on."""
    state = "/var/lib/hybrid-mesh"
    size = f"$(($(du -sk {state} | cut -f1) + 8192))k"
    machine.ssh([f"rm -rf {state}/next.new"])  # of a download that failed: the next one makes room by it
    mount = f"mount -t tmpfs -o size=$size,mode=700 tmpfs {state}"
    machine.ssh([f"cp -a {state} /root/kept && size={size} && {mount} && cp -a /root/kept/. {state}/"])
    machine.ssh(["rm -rf /root/kept"])
    try:
        yield
    finally:
        machine.ssh([f"umount {state}"])


def test_a_disk_that_runs_full_changes_nothing_and_is_named(lab: Lab, up: Stack) -> None:
    package = packages.make(lab.instance, VERSION)
    before = seen(lab)
    with (
        small_disk(lab.machine("vm-1")),
        small_disk(lab.machine("vm-2")),
        watched(lab, "disk full") as clients,
    ):
        up.change("sidecar.package", asdict(package))
        with pytest.raises(PulumiError) as refused:
            up.up()
        clients.note("the error was there")
    for name in MACHINES:
        assert f"FAILED on {name} at step package: the disk is full at /var/lib/hybrid-mesh" in str(refused.value)
    assert "remedy: free 500 MiB there" in str(refused.value)
    assert clients.failed("pod") == []
    assert seen(lab) == before, "what ran goes on"
    up.restore()
    up.up()
    assert up.steps() == []


def test_kubernetes_restarted_in_the_middle_is_survived_or_said_and_the_next_up_ends_well(lab: Lab, up: Stack) -> None:
    log = lab.instance.folder / "fault-events.json"
    log.write_text("")
    up.change("workloads.echo.labels", {"team": "shop"})
    with running(up, "up", log) as process:
        begins = Moment("mesh-vm-1-join", "begins")
        wait_for("the join", lambda: any(begins.is_like(moment) for moment in moments(log)), 120)
        lab.instance.supervisor.stopProcess("kube-apiserver")
        time.sleep(API_AWAY_SECONDS)
        lab.instance.supervisor.startProcess("kube-apiserver")
        code = process.wait(timeout=400)
    print(f"FAULT Kubernetes API away for {API_AWAY_SECONDS} s in the middle of `up`: it ended with {code}")
    wait_for("Kubernetes", lambda: ask_kubectl(lab, "get", "namespaces").returncode == 0, 60)
    said = (lab.instance.folder / "killed.log").read_text()
    assert "Traceback" not in said, said[-3000:]
    if code != 0:
        assert re.search(r"cannot .*(Kubernetes|API|WorkloadEntry|token)", said) or "connection refused" in said, said
    up.up()
    assert up.steps() == []
    for name in MACHINES:
        assert is_in(lab, lab.machine(name))
    up.restore()
    up.up()


def test_a_second_up_at_the_same_time_is_told_so_and_the_first_ends_well(lab: Lab, up: Stack) -> None:
    log = lab.instance.folder / "fault-events.json"
    log.write_text("")
    up.change("workloads.echo.labels", {"team": "shop"})
    with running(up, "up", log) as process:
        wait_for("its beginning", lambda: any(True for _ in moments(log)), 120)
        with pytest.raises(PulumiError) as refused:
            up.up()
        assert process.wait(timeout=300) == 0
    assert re.search(r"the stack is currently locked by 1 lock", str(refused.value))
    holder = re.search(r"created by .* \(pid \d+\)", str(refused.value))
    assert holder, "who holds it"
    print("FAULT two `up`s at once: the second ended with `the stack is currently locked`, the first with 0")
    assert up.steps() == []
    up.restore()
    up.up()
