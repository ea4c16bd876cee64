"""A machine whose packages rpm keeps: it joins, is upgraded, rolled back, and leaves, beside two of Debian's.

What of Red Hat's family is real here, and what is not: docs/versions.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab import packages
from lab.cluster import wait_for
from lab.machines import Machine
from lab.toolchain import pins
from tests.e2e.interruption import listing_of_machine as listing
from tests.e2e.stack import PulumiError, Stack, console
from tests.e2e.test_releases import from_a_pod, host, serves
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full]

INSTALLED = "rpm -q --qf '%{VERSION} ' istio-sidecar && rpm --verify istio-sidecar | grep -v '^[.]M[.]* ' || :"
"""Its version, and what of the package's files is not as it was packed, but for modes, which its script sets."""


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[Machine]:
    made = lab.machine("with-rpm")
    made.create(lab.tools, release=pins.RPM)
    yield made
    made.delete()


@pytest.fixture(scope="module")
def before(machine: Machine) -> list[str]:
    return listing(machine)


@pytest.fixture(scope="module")
def up(lab: Lab, stack: Stack, machine: Machine, before: list[str]) -> Iterator[Stack]:
    """The stack with the machine in it; the tests run in their order, and the last one takes it out."""
    assert before
    stack.restore()
    stack.change(f"workloads.echo.machines.hosts.{machine.name}", host(lab, machine))
    stack.change("routing.echo.weights", {"k8s": 0, "vm": 100})
    stack.change("sidecar.upgrade.cutOffSeconds", 0)
    stack.change("sidecar.package", of_each_family(lab, pins.ISTIO_VERSION))
    stack.up()
    yield stack
    stack.restore()
    stack.up()


def of_each_family(lab: Lab, version: str, *, broken_rpm: bool = False) -> dict[str, Any]:
    """`sidecar.package` with a file for either kind of machine."""
    made = {
        f"deb-{pins.architecture()}": packages.make(lab.instance, version),
        f"rpm-{pins.architecture()}": packages.make(lab.instance, version, family="rpm", broken=broken_rpm),
    }
    return {"version": version, "files": {kind: {"url": p.url, "sha256": p.sha256} for kind, p in made.items()}}


def test_it_joins_by_its_own_package_serves_and_is_found_well(lab: Lab, up: Stack, machine: Machine) -> None:
    assert machine.ssh([INSTALLED]).split() == [pins.ISTIO_VERSION]
    assert "istio-sidecar" not in machine.ssh(["dpkg-query -W"]), "dpkg knows nothing of it"
    serves(lab, machine)
    assert up.steps() == []
    where = ("--json", "--stack", "dev", "--config-file", str(up.file))
    assert json.loads(console(lab, "doctor", *where).stdout)["findings"] == []
    (seen,) = (m for m in json.loads(console(lab, "status", *where).stdout)["machines"] if m["name"] == machine.name)
    assert seen["sidecar_version"] == f"{pins.ISTIO_VERSION}-1", "as rpm has it, with the release"


def test_what_was_changed_by_hand_is_put_right(up: Stack, machine: Machine) -> None:
    machine.ssh(["rpm -e istio-sidecar"])
    assert f"package istio-sidecar: now nothing, was installed {pins.ISTIO_VERSION}-1" in up.up("--refresh")
    assert machine.ssh([INSTALLED]).split() == [pins.ISTIO_VERSION]
    assert up.steps() == []


def test_it_is_upgraded(lab: Lab, up: Stack, machine: Machine) -> None:
    up.change("sidecar.package", of_each_family(lab, "1.31.9"))
    up.up()
    assert machine.ssh([INSTALLED]).split() == ["1.31.9"]
    serves(lab, machine)
    assert up.steps() == []


def test_a_package_that_does_not_start_is_rolled_back(lab: Lab, up: Stack, machine: Machine) -> None:
    up.change("sidecar.package", of_each_family(lab, "1.31.10", broken_rpm=True))
    said = rf"FAILED on {machine.name} at step switch: ready: .*; rolled back: istio-sidecar 1\.31\.9-1 runs again"
    with pytest.raises(PulumiError, match=said):
        up.up()
    assert machine.ssh([INSTALLED]).split() == ["1.31.9"]
    # Nobody waits for that where a run has failed: its probe must succeed, and istiod tell everyone.
    wait_for("its way back into rotation", lambda: machine.name in from_a_pod(lab).by_instance, 30)
    serves(lab, machine)


def test_it_goes_back_to_an_older_version_and_leaves_without_a_trace(
    lab: Lab, up: Stack, machine: Machine, before: list[str]
) -> None:
    up.change("sidecar.package", of_each_family(lab, pins.ISTIO_VERSION))
    up.up()
    assert machine.ssh([INSTALLED]).split() == [pins.ISTIO_VERSION]
    up.restore()
    up.up()
    assert listing(machine) == before
