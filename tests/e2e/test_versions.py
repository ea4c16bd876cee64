"""Versions that do not go together (docs/versions.md): refused before anything is touched, or let in knowingly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.machines import Machine
from lab.traffic import ask, on_machine
from tests.e2e.machine import connections, running
from tests.e2e.mesh import objects
from tests.e2e.stack import PulumiError, Stack
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full]

NAME = "old-1"
LISTING = (Path(__file__).parent / "machine_listing.sh").read_text()
OTHER_SYSTEM = (
    "sed 's/^VERSION_ID=.*/VERSION_ID=\"10\"/' /usr/lib/os-release >/etc/os-release.new && "
    "mv /etc/os-release.new /etc/os-release"
)
REFUSED = "system: debian 10 is not in the table of supported ones"
MAY_BREAK = "the VM may not join, or not after its next update"


@pytest.fixture
def old(lab: Lab, stack: Stack) -> Iterator[Machine]:
    """A machine with a system that is in no table, which the stack's settings name."""
    stack.restore()
    stack.up()
    machine = lab.machine(NAME)
    machine.create(lab.tools)
    machine.ssh([OTHER_SYSTEM])
    host = stack.settings()["config"]["hybrid-mesh:workloads"]["echo"]["machines"]["hosts"]["vm-1"]["ssh"]
    place = str(Path(host["address"]["fromFile"]).parent.with_name(NAME))
    ssh = {**host, "address": {"fromFile": f"{place}/address"}, "hostKey": {"fromFile": f"{place}/host_key"}}
    stack.change(f"workloads.echo.machines.hosts.{NAME}", {"ssh": ssh})
    yield machine
    stack.restore()
    stack.up()
    machine.delete()


def listing(machine: Machine) -> list[str]:
    return machine.ssh(["sh -s"], input_text=LISTING, timeout=120).splitlines()


def test_a_system_outside_the_table_is_refused_untouched_and_let_in_by_an_exception_that_says_what_may_break(
    lab: Lab, stack: Stack, old: Machine
) -> None:
    before, neighbour = listing(old), running(lab.machine("vm-1"))
    with pytest.raises(PulumiError) as refused:
        stack.up()
    for part in (f"{NAME}: {REFUSED}", "debian:12", "Nothing was changed on any VM", "versions.accept", "[system]"):
        assert part in str(refused.value)
    assert listing(old) == before
    assert running(lab.machine("vm-1")) == neighbour
    assert old.address not in {entry["spec"]["address"] for entry in objects(lab, "workloadentries").values()}
    stack.change("versions.accept", ["system"])
    for output in (stack.preview(), stack.up()):
        assert "warning: VMs of any system may join, as versions.accept allows" in output
        assert MAY_BREAK in output
    assert old.address in {entry["spec"]["address"] for entry in objects(lab, "workloadentries").values()}
    assert ask(on_machine(old), "http://echo.demo.svc.cluster.local:8080/", 10).answered == 10
    after = running(lab.machine("vm-1"))
    assert (after.agent, after.envoy) == (neighbour.agent, neighbour.envoy), "an exception restarts nothing elsewhere"


def test_a_sidecar_newer_than_istiod_is_refused_and_let_in_by_an_exception_that_says_what_may_break(
    lab: Lab, stack: Stack
) -> None:
    stack.restore()
    before = connections(lab.machine("vm-1"))
    stack.change("sidecar.package.version", "1.32.0")
    with pytest.raises(PulumiError) as refused:
        stack.preview()
    assert "is newer than istiod 1.31.0" in str(refused.value)
    stack.change("versions.accept", ["sidecar"])
    assert "warning: sidecar is newer than istiod 1.31.0, as versions.accept allows" in stack.preview()
    assert connections(lab.machine("vm-1")) == before
    stack.restore()
