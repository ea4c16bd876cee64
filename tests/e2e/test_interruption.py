"""Runs that are cut off, and how the next one ends where a clean one does. docs/recovery.md."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from hybridmesh.ops.recover import TAKE_OVER
from lab.cluster import wait_for
from lab.machines import Machine
from tests.e2e.interruption import (
    Everything,
    Moment,
    everything,
    killed,
    listing_of_cluster,
    listing_of_machine,
    running,
)
from tests.e2e.stack import STACK, PulumiError, Stack, console
from tests.environment import Lab

pytestmark = pytest.mark.lab

HELM_RECORD = re.compile(r"sh\.helm\.release\.v1\.")

# Where `pulumi up` is killed on its way from nothing, and `pulumi destroy` on its way back.
MOMENTS = [
    (Moment("mesh-control-plane-remains", "begins"), Moment("mesh-vm-1-membership", "begins")),
    (Moment("mesh-control-plane-namespace", "begins"), Moment("mesh-vm-1-join", "begins")),
    (Moment("mesh-control-plane-base", "begins"), Moment("mesh-vm-1-departure", "begins")),
    (Moment("mesh-control-plane-base", "begins", later=0.5), Moment("mesh-vm-1-departure", "begins", later=4)),
    (Moment("mesh-control-plane-base", "ends"), Moment("mesh-vm-1-departure", "begins", later=9)),
    (Moment("mesh-control-plane-istiod", "begins", later=1), Moment("mesh-vm-2-departure", "ends")),
    (Moment("mesh-control-plane-istiod", "ends"), Moment("mesh-vm-2-machine", "begins")),
    (Moment("mesh-vm-2-machine", "begins", later=0.5), Moment("mesh-vm-2-machine", "ends")),
    (Moment("mesh-vm-2-machine", "ends"), Moment("mesh-echo-deployment", "begins")),
    (Moment("mesh-control-plane-root-certificate", "begins"), Moment("mesh-echo-group", "ends")),
    (Moment("mesh-gateway-release", "begins", later=0.5), Moment("mesh-demo-namespace", "begins")),
    (Moment("mesh-gateway-release", "ends"), Moment("mesh-gateway-release", "begins")),
    (Moment("mesh-demo-namespace", "begins"), Moment("mesh-gateway-release", "begins", later=0.3)),
    (Moment("mesh-echo-group", "begins"), Moment("mesh-gateway-release", "ends")),
    (Moment("mesh-echo-deployment", "begins"), Moment("mesh-control-plane-istiod", "begins", later=0.3)),
    (Moment("mesh-echo-virtual-service", "begins"), Moment("mesh-control-plane-istiod", "ends")),
    (Moment("mesh-vm-1-departure", "ends"), Moment("mesh-control-plane-base", "begins")),
    (Moment("mesh-vm-1-token", "begins"), Moment("mesh-control-plane-base", "ends")),
    (Moment("mesh-vm-1-join", "begins", later=0.5), Moment("mesh-control-plane-namespace", "begins")),
    (Moment("mesh-vm-2-join", "begins", later=2), Moment("mesh-control-plane-namespace", "ends")),
    (Moment("mesh-vm-1-ready", "begins"), Moment("mesh-control-plane-remains", "begins")),
    (Moment("mesh-vm-1-membership", "begins"), Moment("mesh-kubernetes", "begins")),
]


def recover(lab: Lab) -> str:
    """The one verb."""
    return console(lab, "recover", "--stack", "dev", "--yes").stdout


def but_helm_s_history(listing: Everything) -> Everything:
    return Everything(
        listing.state, [line for line in listing.cluster if not HELM_RECORD.search(line)], listing.machine
    )


def test_an_update_killed_twice_ends_like_one_that_was_not(lab: Lab, up: Stack) -> None:
    before = everything(up)
    up.change("controlPlane.values.meshConfig", {"accessLogEncoding": "JSON"})
    up.change("sidecar.limits", {"tasks": 1000})
    assert killed(up, "up", Moment("mesh-control-plane-istiod", "begins", later=0.5))
    with pytest.raises(PulumiError, match="locked"):
        up.up()
    said = recover(lab)
    print(said)
    assert "interrupted: updating mesh-control-plane-istiod" in said
    assert killed(up, "up", Moment("mesh-vm-1-join", "begins", later=0.3))
    # As one that is killed while it writes a state leaves it, once in some ten times, where the backend has notes.
    (state,) = (lab.instance.folder / "state" / ".pulumi" / "stacks").rglob(f"{STACK}.json")
    notes = state.with_name(f"{state.name}.attrs")
    notes.write_text("")
    with pytest.raises(PulumiError, match="failed to load checkpoint"):
        up.up()
    assert f"{notes}, which was written half" in recover(lab)
    up.up()
    assert up.steps() == []
    up.restore()
    up.up()
    assert but_helm_s_history(before).differences(but_helm_s_history(everything(up))) == []


# ---------------------------------------------------------------------- killed anywhere


@pytest.fixture(scope="module")
def clean(lab: Lab, up: Stack) -> tuple[Everything, list[str], list[str]]:
    """What one clean run ends in; and the cluster and the machine without the stack, where the module begins."""
    up.destroy()
    cluster, machine = listing_of_cluster(lab), listing_of_machine(lab.machine("vm-1"))
    up.up()
    there = everything(up)
    up.destroy()
    return there, cluster, machine


@pytest.mark.full
@pytest.mark.parametrize(("on_the_way_up", "on_the_way_down"), MOMENTS, ids=str)
def test_a_run_killed_anywhere_is_made_good_by_recover_and_another_run(
    lab: Lab,
    up: Stack,
    clean: tuple[Everything, list[str], list[str]],
    on_the_way_up: Moment,
    on_the_way_down: Moment,
) -> None:
    there, cluster, machine = clean
    if up.resources():  # what another test left that failed
        recover(lab)
        up.destroy()
    if killed(up, "up", on_the_way_up):
        said = recover(lab)
    else:
        pytest.fail(f"`up` ended before {on_the_way_up}")
    if TAKE_OVER in said:
        up.up(env={TAKE_OVER: "true"})
        assert {step.name for step in up.steps()} <= {"mesh-kubernetes"}, "which is told that it takes over no more"
    up.up()
    assert there.differences(everything(up)) == []
    if killed(up, "destroy", on_the_way_down):
        recover(lab)
    else:
        pytest.fail(f"`destroy` ended before {on_the_way_down}")
    up.destroy()
    assert up.resources() == []
    assert listing_of_cluster(lab) == cluster
    assert listing_of_machine(lab.machine("vm-1")) == machine


# ---------------------------------------------------------------------- the machine's end


def has_come_to(machine: Machine, step: str) -> bool:
    """Whether the join of a machine that was in no mesh has come to a step."""
    return f"step: {step}" in machine.look(["sh", "-c", "cat /var/log/hybrid-mesh.log 2>/dev/null || true"])


def cut(machine: Machine) -> None:
    """Ends every SSH session on a machine, as a broken network does."""
    machine.look(["sh", "-c", "for p in $(pgrep -f '^sshd: root@'); do kill -9 $p; done"])


def reboot(machine: Machine) -> None:
    machine.reboot()


@pytest.fixture(scope="module")
def member(up: Stack) -> Everything:
    """All machines in."""
    up.restore()
    up.up()
    return everything(up)


@pytest.mark.full
@pytest.mark.parametrize("accident", [cut, reboot])
@pytest.mark.parametrize("step", ["package", "files", "units"])
def test_a_join_that_loses_its_connection_or_its_machine_is_made_good_by_another_run(
    lab: Lab, up: Stack, member: Everything, accident: Callable[[Machine], None], step: str
) -> None:
    machine = lab.machine("vm-1")
    up.change("workloads.echo.machines.hosts.vm-1", None)
    up.up()
    up.restore()
    with running(up, "up", lab.instance.folder / "killed-events.json") as process:
        wait_for(f"step {step}", lambda: has_come_to(machine, step), 120)
        accident(machine)
        assert process.wait(timeout=300) != 0, "nobody takes it for joined"
    said = (lab.instance.folder / "killed.log").read_text()
    assert "mesh-vm-1-join" in said
    up.up()
    assert member.differences(everything(up)) == []
    assert up.steps() == []
