"""No machine is changed before every machine was found good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pulumi
import pytest
from pulumi.runtime.settings import SETTINGS

from components.connection import Connection
from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from components.preflight_gate import PreflightGate
from components.sidecar import Sidecar
from tests.components.harness import KEY, World, dev_settings, run, waiting
from tests.components.test_sidecar import arguments, sidecar

MODES = pytest.mark.parametrize("preview", [True, False], ids=["preview", "up"])


def mesh(change: Callable[[dict[str, Any]], object] | None = None, *, preview: bool = False) -> World:
    settings = dev_settings(change)
    return run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology, preview=preview)


def more_machines(sections: dict[str, Any]) -> None:
    machine = {"hostKey": "ssh-ed25519 A", "privateKey": KEY}
    hosts = {f"vm-{n}": {"ssh": {"address": f"192.0.2.{n}", **machine}} for n in range(20, 50)}
    sections["workloads"]["echo"]["machines"]["hosts"] = hosts


@MODES
def test_every_join_is_after_every_preflight(preview: bool) -> None:
    world = mesh(preview=preview)
    for joining in ("vm-1", "vm-2"):
        for other in ("vm-1", "vm-2"):
            assert world.is_after(world.one(f"mesh-{joining}-join"), world.one(f"mesh-{other}-preflight"))
    for role in ("departure", "token", "join"):
        assert world.is_after(world.one(f"mesh-vm-1-{role}"), world.one("mesh-preflights")), role


def test_a_preflight_knows_the_gateway_and_what_it_undoes_is_undone_first() -> None:
    world = mesh()
    preflight = world.one("mesh-vm-1-preflight")
    for earlier in ("mesh-gateway-address", "mesh-echo-group"):
        assert world.is_after(preflight, world.one(earlier)), earlier


def test_the_gate_costs_each_join_one_dependency_however_many_machines_there_are() -> None:
    world = mesh(more_machines)
    gate = world.one("mesh-preflights")
    preflights = {r.urn for r in world.found if r.name.endswith("-preflight")}
    assert len(preflights) == 30
    assert preflights <= gate.depends_on
    few = len(mesh().one("mesh-vm-1-departure").depends_on)
    for first in (r for r in world.found if r.name.endswith("-departure")):
        assert gate.urn in first.depends_on, "all else that a machine gets is after its departure"
        assert not preflights & first.depends_on
        assert len(first.depends_on) == few


def test_the_gate_has_the_findings_of_every_machine() -> None:
    gate = mesh().one("mesh-preflights")
    assert gate.type == "pulumi-python:dynamic:Preflights"
    assert gate.plain["findings"] == {"vm-1": [], "vm-2": []}


def test_a_gate_of_its_own_stands_before_a_machine_that_is_made_alone() -> None:
    world = sidecar()
    assert world.one("vm-1-preflights").plain["findings"] == {"vm-1": []}
    assert world.is_after(world.one("vm-1-join"), world.one("vm-1-preflights"))


def test_a_stack_without_machines_has_no_gate() -> None:
    def no_machines(sections: dict[str, Any]) -> None:
        del sections["workloads"]["echo"]["machines"]
        del sections["routing"]

    assert "mesh-preflights" not in mesh(no_machines).names()


@MODES
def test_no_more_machines_are_in_the_making_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, preview: bool
) -> None:
    monkeypatch.setattr("components.preflight_gate.LEAST_AT_ONCE", 4)
    in_the_making, most, whole = 0, 0, 0
    for resource in mesh(more_machines, preview=preview).found:
        if resource.name.endswith("-departure"):
            in_the_making += 1
        elif resource.name.endswith("-membership"):
            in_the_making -= 1
            whole += 1
        most = max(most, in_the_making)
    assert whole == 30
    assert 1 < most <= 4


def test_there_is_room_for_what_the_engine_does_at_a_time_and_a_machine_that_failed_gives_its_own_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def admit() -> bool:
        monkeypatch.setattr(SETTINGS, "parallel", 40)
        with PreflightGate("preflights", pulumi.ResourceOptions()) as gate:
            pass
        places = [(await asyncio.wait_for(gate.admission(), 1))[1] for _ in range(40)]
        one_more = asyncio.ensure_future(gate.admission())
        await asyncio.sleep(0.05)
        waited = not one_more.done()
        failed: asyncio.Future[str] = asyncio.get_event_loop().create_future()
        failed.set_exception(RuntimeError("its join failed"))
        await places[0].give_back_after(failed)
        places[0].give_back()  # a second time, which makes no more room
        await asyncio.wait_for(one_more, 1)
        another = asyncio.ensure_future(gate.admission())
        await asyncio.sleep(0.05)
        return waited and not another.done()

    assert asyncio.run(admit())


@pytest.mark.timeout(60)
def test_a_machine_that_waits_for_the_restarts_of_others_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last is new, and joins while the first, whose turn it is, has not come back yet."""
    monkeypatch.setattr("components.preflight_gate.LEAST_AT_ONCE", 4)
    waited = waiting(monkeypatch, "mesh-vm-20-membership", "mesh-vm-49-join", 20)
    settings = dev_settings(more_machines)
    answers = {f"mesh-vm-{n}-join": {"stdout": "staged a-word\n"} for n in range(20, 49)}
    run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology, first=False, answers=answers)
    assert waited == [True]


@pytest.mark.timeout(60)
def test_a_program_that_fails_before_the_gate_ends_and_joins_nobody() -> None:
    made: list[Sidecar] = []

    def program() -> None:
        with PreflightGate("preflights", pulumi.ResourceOptions()) as gate:
            connection = Connection(address="192.0.2.11", host_key="ssh-ed25519 A", private_key=KEY)
            made.append(Sidecar("vm-1", arguments(connection=connection), gate=gate))
            raise ValueError("the program is wrong")

    with pytest.raises(Exception, match="the program is wrong"):
        run(program)
    assert made
