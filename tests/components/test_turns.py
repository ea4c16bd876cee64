"""Who may be restarted when, apart from what is restarted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pulumi
import pytest

from components.turns import Lane, RollStoppedError, Turn, Turns


class Roll:
    """Machines that take turns, with a record of what was going on."""

    def __init__(self, at_once: int, workloads: dict[str, list[str]], *, fails: str = "") -> None:
        turns = Turns(at_once)
        self.fails = fails
        self.under_way: set[str] = set()
        self.most = 0
        self.done: list[str] = []
        self.kept: list[str] = []
        self.turns = {
            machine: (key, lane.of(machine))
            for key, machines in workloads.items()
            for lane in [turns.of(len(machines))]
            for machine in machines
        }
        self.most_of: dict[str, int] = dict.fromkeys(workloads, 0)

    async def roll(self, machine: str, said: str = "staged 1") -> None:
        key, turn = self.turns[machine]
        member: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        end = asyncio.ensure_future(turn.give_back(member))
        try:
            assert await turn.wait(f"digest {said}") == f"digest {said}"
        except RollStoppedError as error:
            self.kept.append(machine)
            member.set_exception(error)
            await end
            return
        self.under_way.add(machine)
        self.most = max(self.most, len(self.under_way))
        mine = {name for name, (its, _) in self.turns.items() if its == key}
        self.most_of[key] = max(self.most_of[key], len(self.under_way & mine))
        await asyncio.sleep(0.01)
        self.under_way.remove(machine)
        if machine == self.fails:
            member.set_exception(RuntimeError("not ready"))
        else:
            self.done.append(machine)
            member.set_result("urn")
        await end

    async def all(self) -> None:
        await asyncio.gather(*(self.roll(machine) for machine in self.turns))


@pytest.fixture(autouse=True)
def _update(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that a test before has previewed leaves that behind."""
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: False)


def run(program: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(program(), 10))


@pytest.mark.parametrize(
    ("at_once", "most", "most_of_shop"),
    [(1, 1, 1), (2, 2, 2), (5, 5, 3)],
)
def test_no_more_than_the_batch_at_a_time_and_never_all_of_a_workload(
    at_once: int, most: int, most_of_shop: int
) -> None:
    async def program() -> None:
        roll = Roll(at_once, {"shop": ["a", "b", "c", "d"], "cart": ["e", "f"], "one": ["g"]})
        await roll.all()
        assert sorted(roll.done) == list("abcdefg")
        assert roll.most == most
        assert roll.most_of == {"shop": most_of_shop, "cart": 1, "one": 1}

    run(program)


def test_one_that_does_not_come_back_ends_the_roll() -> None:
    async def program() -> None:
        roll = Roll(1, {"shop": ["a", "b", "c"]}, fails="b")
        await roll.all()
        assert (roll.done, roll.kept) == (["a"], ["c"])

    run(program)


def test_the_failure_says_who_stopped_the_roll_and_what_to_do() -> None:
    async def program() -> None:
        roll = Roll(1, {"shop": ["a", "b"]}, fails="a")
        await roll.roll("a")
        with pytest.raises(RollStoppedError, match=r"b keeps what it runs: a did not come back.*run `pulumi up` again"):
            await roll.turns["b"][1].wait("digest staged 1")

    run(program)


@pytest.mark.parametrize("joined", ["digest applied 1", "staged", ""], ids=["joined or hot", "no join", "nothing"])
def test_one_that_needs_no_restart_waits_for_nobody_and_its_failure_stops_nobody(joined: str) -> None:
    async def program() -> None:
        turns = Turns(1)
        lane = turns.of(2)
        holder, other = lane.of("a"), lane.of("b")
        await holder.wait("digest staged 1")
        assert await other.wait(joined) == joined
        failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        failed.set_exception(RuntimeError("its host is gone"))
        await other.give_back(failed)
        assert turns.stopped_by is None

    run(program)


def test_in_a_preview_where_nobody_restarts_none_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were restarted by an earlier run would go one after the other through every preview."""

    async def program() -> None:
        monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: True)
        lane = Turns(1).of(3)
        for machine in ("a", "b", "c"):
            joined = await lane.of(machine).wait("digest staged 1", lambda: pytest.fail("it has a place to give back"))
            assert joined == "digest staged 1"

    run(program)


def test_a_lane_gives_each_machine_a_turn_of_its_own() -> None:
    lane = Turns(1).of(1)
    assert isinstance(lane, Lane)
    assert isinstance(lane.of("a"), Turn)
    assert lane.of("a") is not lane.of("a")
