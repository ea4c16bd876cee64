"""Two stacks in one cluster: one owns Istio, the other adopts it and has names of its own, as a pull request's mesh."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.guest import beside, teardown
from tests.e2e.mesh import kubectl, objects
from tests.e2e.stack import PulumiError, Stack, console

pytestmark = [pytest.mark.lab, pytest.mark.full]
NAMESPACE = "demo-pr-7"
GATEWAY = "eastwest-pr-7"


@pytest.fixture(scope="module")
def owner(stack: Stack) -> Stack:
    stack.restore()
    stack.up()
    return stack


@pytest.fixture(scope="module")
def guest(owner: Stack) -> Iterator[Stack]:
    """The mesh of pull request 7, put up beside the owner's, with a gateway of its own."""
    with beside(owner, 7, own_gateway) as guest:
        yield guest


def own_gateway(mine: dict[str, Any], owners: dict[str, Any]) -> None:
    mine["gateway"] = {**owners["gateway"], "mode": "install", "name": GATEWAY}
    mine["controlPlane"]["charts"] = owners["controlPlane"]["charts"]


def test_the_guest_has_its_own_and_takes_nothing_of_the_owner_s(owner: Stack, guest: Stack) -> None:
    topology = guest.outputs()["topology"]
    assert set(topology["machines"]) == {"vm-2-pr-7"}
    assert topology["gateway"]["name"] == GATEWAY
    assert topology["gateway"]["address"] != owner.outputs()["topology"]["gateway"]["address"]
    assert console(guest.lab, "status", "--stack", guest.name).returncode == 0
    releases = [r["inputs"]["name"] for r in guest.resources() if r["type"] == "kubernetes:helm.sh/v3:Release"]
    assert releases == [GATEWAY]
    assert set(objects(guest.lab, "workloadgroups", NAMESPACE)) == {"echo"}
    assert owner.steps() == []


def test_its_pods_reach_its_own_vm(guest: Stack) -> None:
    answers = [
        kubectl(guest.lab, "exec", "-n", NAMESPACE, "deploy/client", "-c", "app", "--", "curl", "-s", "echo:8080/")
        for _ in range(40)
    ]
    assert {answer.count("vm-2-pr-7") > 0 for answer in answers} == {True, False}
    assert not any("vm-1" in answer for answer in answers)


def test_the_owner_is_not_destroyed_while_the_guest_uses_it(owner: Stack, guest: Stack) -> None:
    before = {resource["urn"] for resource in owner.resources()}
    with pytest.raises(PulumiError) as refused:
        owner.destroy()
    said = str(refused.value)
    assert f"used by namespaces that are not this stack's: {NAMESPACE}." in said
    assert "Nothing was removed. Fix: " in said
    assert {resource["urn"] for resource in owner.resources()} == before
    assert owner.steps() == []
    assert console(guest.lab, "status", "--stack", owner.name).returncode == 0


def test_teardown_offers_a_choice_where_a_vm_does_not_answer(guest: Stack) -> None:
    machine = guest.lab.machine("vm-2-pr-7")
    machine.kill()
    try:
        done = teardown(guest, "--yes")
    finally:
        machine.start()
        machine.wait_for_ssh()
    assert done.returncode == 1
    assert "Nothing was removed. Choose: " in done.stderr
    assert "`--lost vm-2-pr-7`" in done.stderr
    assert guest.resources()


def test_teardown_takes_the_guest_and_the_owner_stays(owner: Stack, guest: Stack) -> None:
    done = teardown(guest, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pr-7: nothing is left." in done.stdout
    assert not guest.resources()
    assert NAMESPACE not in kubectl(owner.lab, "get", "namespaces", "-o", "name")
    assert not owner.lab.machine("vm-2-pr-7").exists
    assert GATEWAY not in kubectl(owner.lab, "get", "services,gateways.networking.istio.io", "-A", "-o", "name")
    assert owner.steps() == []
    assert console(owner.lab, "status", "--stack", owner.name).returncode == 0
