"""A machine of another Debian than all others: it joins, serves and leaves as they do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.machines import Machine
from lab.toolchain import pins
from lab.traffic import Answers, ask, in_pod, on_machine
from tests.e2e.interruption import listing_of_machine as listing
from tests.e2e.stack import Stack
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full]

URL = "http://echo.demo.svc.cluster.local:8080/"


@pytest.fixture(params=pins.OTHER_SUITES)
def other(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Machine]:
    machine = lab.machine(request.param)
    machine.create(lab.tools, release=request.param)
    yield machine
    machine.delete()


def from_a_pod(lab: Lab) -> Answers:
    """What answers 60 requests of a pod."""
    return ask(in_pod(lab.instance, lab.tools, "deploy/client", "demo"), URL, 60)


def serves(lab: Lab, machine: Machine) -> None:
    """Whether the mesh calls it, and it the mesh."""
    answers = from_a_pod(lab)
    assert answers.answered == 60
    assert machine.name in answers.by_instance
    assert ask(on_machine(machine), URL, 20).answered == 20


def host(lab: Lab, machine: Machine) -> dict[str, Any]:
    """A machine that exists, for the settings."""
    key = str(lab.instance.folder / "ssh" / "id_ed25519")
    return {"ssh": {"address": machine.address, "hostKey": machine.host_key, "privateKeyFile": key}}


def test_a_machine_of_another_release_joins_serves_and_leaves_without_a_trace(
    lab: Lab, stack: Stack, other: Machine
) -> None:
    assert 'VERSION_ID="11"' in other.ssh(["cat /etc/os-release"])
    before = listing(other)
    stack.restore()
    stack.change(f"workloads.echo.machines.hosts.{other.name}", host(lab, other))
    stack.change("routing.echo.weights", {"k8s": 0, "vm": 100})
    stack.up()
    serves(lab, other)
    assert stack.steps() == []
    stack.restore()
    stack.up()
    assert listing(other) == before
