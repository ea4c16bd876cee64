"""Who may be restarted when, apart from what is restarted."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pulumi
import pytest

from components import turns as module
from components.turns import Lane, LastOneError, RollStoppedError, Turn, Turns
from hybridmesh.providers.cluster import ClusterAccess, UnansweredError
from tests.providers.fake_cluster import FakeCluster, entry


def test_turns_that_nobody_would_have_are_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match=r"at_once = 0: is less than 1\. .* Fix: 1 or more"):
        Turns(0)


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
            for lane in [turns.of_workload()]
            for machine in machines
        }
        self.most_of: dict[str, int] = dict.fromkeys(workloads, 0)

    async def roll(self, machine: str, said: str = "staged 1") -> None:
        key, turn = self.turns[machine]
        member: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
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
            member.set_result(True)
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


def test_the_failure_says_who_stopped_the_roll_and_what_to_do_and_not_where_in_the_program() -> None:
    async def program() -> None:
        roll = Roll(1, {"shop": ["a", "b"]}, fails="a")
        rest = asyncio.ensure_future(roll.turns["b"][1].wait("digest staged 1"))
        await roll.roll("a")
        with pytest.raises(pulumi.RunError, match=r"ended at a, which .*: b, and .*, keeps .*run `pulumi up` again"):
            await rest

    run(program)


@pytest.mark.parametrize("joined", ["digest applied 1", "staged", ""], ids=["joined or hot", "no join", "nothing"])
def test_one_that_needs_no_restart_waits_for_nobody_and_its_failure_stops_nobody(joined: str) -> None:
    async def program() -> None:
        turns = Turns(1)
        lane = turns.of_workload()
        holder, next_one, other = (lane.of(machine) for machine in ("a", "b", "c"))
        turn = asyncio.ensure_future(holder.wait("digest staged 1"))
        asyncio.ensure_future(next_one.wait("digest staged 1"))  # noqa: RUF006 - it waits on until the end
        await turn
        assert await other.wait(joined) == joined
        await other.give_back(failure())
        assert turns.stopped_by is None

    run(program)


def failure() -> asyncio.Future[bool]:
    """Of a machine whose host is gone."""
    failed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    failed.set_exception(RuntimeError("its host is gone"))
    return failed


def membership(synced: bool | None = True) -> asyncio.Future[bool | None]:
    """That a machine is in the mesh; None: of one that a run with `--target` leaves out, which is not."""
    done: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
    done.set_result(synced)
    return done


async def goes(turn: asyncio.Future[str]) -> bool:
    """Whether it has its turn by now."""
    await asyncio.sleep(0.01)
    return turn.done()


def test_one_that_serves_is_restarted_once_another_of_its_workload_serves_too() -> None:
    """The other is new, or was out of the mesh: with both away nobody would answer."""

    async def program() -> None:
        lane = Turns(1).of_workload()
        serving, joins = lane.of("a"), lane.of("b")
        turn = asyncio.ensure_future(serving.wait("digest staged 1"))
        await joins.wait("digest applied 1")
        assert not await goes(turn)
        await joins.give_back(membership())
        assert await goes(turn)

    run(program)


def test_those_that_join_meanwhile_make_no_batch_larger() -> None:
    async def program() -> None:
        lane = Turns(9).of_workload()
        turns = [asyncio.ensure_future(lane.of(machine).wait("digest staged 1")) for machine in ("a", "b")]
        joins = lane.of("c")
        assert [await goes(turn) for turn in turns] == [True, False]
        await joins.give_back(membership())
        assert await goes(turns[1])

    run(program)


@pytest.mark.parametrize("fails", [True, False], ids=["it fails", "it is left out of the run"])
def test_one_that_does_not_come_to_serve_is_waited_for_no_longer(fails: bool) -> None:
    async def program() -> None:
        lane = Turns(1).of_workload()
        serving, joins = lane.of("a"), lane.of("b")
        turn = asyncio.ensure_future(serving.wait("digest staged 1"))
        assert not await goes(turn)
        await joins.give_back(failure() if fails else membership(None))
        assert await goes(turn)

    run(program)


def test_those_of_a_workload_go_in_the_same_order_in_each_run_however_fast_they_are() -> None:
    """Or the next run might restart one while another, which the run before has restarted, has not come back."""

    async def program() -> None:
        lane = Turns(1).of_workload()
        first, second = lane.of("a"), lane.of("b")
        later = asyncio.ensure_future(second.wait("digest staged 1"))
        assert not await goes(later)
        sooner = asyncio.ensure_future(first.wait("digest staged 1"))
        assert await goes(sooner)
        assert not later.done()
        await first.give_back(membership())
        assert await goes(later)

    run(program)


def test_a_workload_that_waits_for_a_new_machine_keeps_no_other_workload() -> None:
    async def program() -> None:
        turns = Turns(1)
        shop, cart = turns.of_workload(), turns.of_workload()
        shop.of("new")
        waits = asyncio.ensure_future(shop.of("a").wait("digest staged 1"))
        alone = asyncio.ensure_future(cart.of("b").wait("digest staged 1"))
        assert [await goes(alone), waits.done()] == [True, False]

    run(program)


def test_in_a_preview_where_nobody_restarts_none_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were restarted by an earlier run would go one after the other through every preview."""

    async def program() -> None:
        monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: True)
        lane = Turns(1).of_workload()
        for machine in ("a", "b", "c"):
            joined = await lane.of(machine).wait("digest staged 1", lambda: pytest.fail("it has a place to give back"))
            assert joined == "digest staged 1"

    run(program)


def test_a_lane_gives_each_machine_a_turn_of_its_own() -> None:
    lane = Turns(1).of_workload()
    assert isinstance(lane, Lane)
    assert isinstance(lane.of("a"), Turn)
    assert lane.of("a") is not lane.of("a")


class Callers:
    """Two VMs of a workload that have turns, and what callers see of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **there: dict[str, Any]) -> None:
        self.cluster = FakeCluster()
        for name, found in there.items():
            self.see(name, found)
        monkeypatch.setattr(module, "connect", lambda _properties: self.cluster)
        self.turns = Turns(2)
        self.lane = self.turns.of_workload()
        self.lane.machines |= {name: f"vm-{name}" for name in there}
        self.of = {name: self.lane.of(f"vm-{name}") for name in there}

    def see(self, name: str, found: dict[str, Any]) -> None:
        """An entry, of which the program need not know."""
        found["metadata"]["name"] = name
        self.cluster.entries[f"demo/{name}"] = found

    async def due(self, name: str) -> Turn:
        await self.of[name].wait("digest staged 1")
        return self.of[name]

    async def ask(self, name: str, seconds: float = 0) -> None:
        await self.of[name].ask(ClusterAccess(kubeconfig="none"), "echo", "demo", name, seconds)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (entry(healthy=False), "its app is not healthy by the probe: connection refused"),
        (entry(), "its app is not healthy by the probe: the probe has not answered yet"),
        (entry(connected=False, healthy=True), "its proxy is not connected to istiod"),
    ],
    ids=["app down", "not probed yet", "cut off"],
)
def test_the_last_one_that_callers_have_is_kept_from_its_restart_and_it_is_said_why(
    monkeypatch: pytest.MonkeyPatch, other: dict[str, Any], why: str
) -> None:
    """The other has nothing to change, and is a member: the turns alone would take it for one that serves."""

    async def program() -> None:
        callers = Callers(monkeypatch, a=entry(healthy=True), b=other)
        await callers.of["b"].give_back(membership())
        await callers.due("a")
        with pytest.raises(LastOneError) as refused:
            await callers.ask("a")
        said = str(refused.value)
        assert said.startswith("vm-a is not restarted, and keeps what it runs: ")
        assert f" vm-b: {why}. Fix: " in said
        assert "`pulumi up --continue-on-error`" in said
        assert "`sidecar.upgrade.keepOneServing: false`" in said

    run(program)


@pytest.mark.parametrize(
    ("other", "waits"),
    [
        (entry(connected=False, healthy=True), False),
        (entry(healthy=False, group="echo"), False),
        (entry(healthy=False, group="echo-2"), True),
    ],
    ids=["a static one that is gone", "one whose app is down", "one of another group, as of another stack"],
)
def test_one_that_leaves_the_stack_in_the_same_run_and_that_nobody_calls_is_none_that_must_be_mended_first(
    monkeypatch: pytest.MonkeyPatch, other: dict[str, Any], waits: bool
) -> None:
    """It leaves in the end alone, to which no run would come."""

    async def program() -> None:
        callers = Callers(monkeypatch, a=entry(healthy=True))
        callers.see("echo-b", other)
        await callers.due("a")
        with pytest.raises(LastOneError) if waits else contextlib.nullcontext():
            await callers.ask("a")

    run(program)


def test_one_that_leaves_counts_while_it_serves_and_another_must_be_mended_nevertheless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def program() -> None:
        callers = Callers(monkeypatch, a=entry(healthy=True), c=entry(healthy=False))
        callers.see("echo-b", entry(healthy=False))
        await callers.of["c"].give_back(membership())
        await callers.due("a")
        with pytest.raises(LastOneError) as refused:
            await callers.ask("a")
        assert "vm-c: its app" in str(refused.value)
        assert "echo-b" not in str(refused.value)
        callers.see("echo-b", entry(healthy=True))
        await callers.ask("a")

    run(program)


def test_while_an_entry_of_the_program_is_unknown_no_other_is_taken_for_one_that_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be that entry."""

    async def program() -> None:
        callers = Callers(monkeypatch, a=entry(healthy=True), b=entry(healthy=False))
        del callers.lane.machines["b"]
        await callers.of["b"].give_back(membership())
        await callers.due("a")
        with pytest.raises(LastOneError):
            await callers.ask("a")

    run(program)


def test_one_whose_app_is_down_too_is_restarted_for_nobody_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def program() -> None:
        callers = Callers(monkeypatch, a=entry(healthy=False), b=entry(healthy=False))
        await callers.of["b"].give_back(membership())
        await callers.due("a")
        await callers.ask("a")

    run(program)


def test_one_that_is_alone_is_restarted_and_so_is_one_without_a_probe_beside_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is not probed is an endpoint while it is connected, and nobody knows more of it."""

    async def program() -> None:
        callers = Callers(monkeypatch, a=entry(healthy=True))
        callers.see("client", entry(healthy=False, labels={"app": "client"}))
        await callers.due("a")
        await callers.ask("a")
        unprobed = Callers(monkeypatch, a=entry(), b=entry())
        for found in unprobed.cluster.entries.values():
            del found["metadata"]["annotations"]["proxy.istio.io/health-checks-enabled"]
        await unprobed.of["b"].give_back(membership())
        await unprobed.due("a")
        await unprobed.ask("a")

    run(program)


def test_two_that_have_their_turns_at_a_time_do_not_take_each_other_for_the_one_that_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def program() -> None:
        callers = Callers(monkeypatch, a=entry(healthy=True), b=entry(healthy=True), c=entry(healthy=False))
        await callers.of["c"].give_back(membership())
        await asyncio.gather(callers.due("a"), callers.due("b"))
        entries, other = callers.cluster.workload_entries, threading.Barrier(2)

        def at_the_same_time(namespace: str, at_most: int) -> Mapping[str, Mapping[str, Any]]:
            with contextlib.suppress(threading.BrokenBarrierError):
                other.wait(0.1)
            return entries(namespace, at_most)

        monkeypatch.setattr(callers.cluster, "workload_entries", at_the_same_time)
        both = await asyncio.gather(callers.ask("a"), callers.ask("b"), return_exceptions=True)
        assert [type(said) for said in both] == [type(None), LastOneError]
        assert "vm-a: it restarts; vm-c: " in str(both[1])
        await callers.of["a"].give_back(membership())
        await callers.ask("b")

    run(program)


def test_another_one_that_comes_back_within_the_limit_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def program() -> None:
        callers = Callers(monkeypatch, a=entry(healthy=True), b=entry(healthy=False))
        await callers.of["b"].give_back(membership())
        await callers.due("a")

        def patiently(objection: Callable[[], str], seconds: float) -> str:
            assert (objection() != "", seconds) == (True, 60)
            callers.cluster.entries["demo/b"]["status"]["conditions"][0]["status"] = "True"
            return objection()

        monkeypatch.setattr(module, "wait_until", patiently)
        await callers.ask("a", 60)

    run(program)


@pytest.mark.parametrize("silent", [True, False], ids=["the cluster does not answer", "it is the last one"])
def test_one_that_is_kept_from_its_restart_keeps_no_other_from_its_turn(
    monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    """With --continue-on-error: the other's change may be what mends it."""

    async def program() -> None:
        callers = Callers(monkeypatch, a=entry(healthy=True), b=entry(healthy=False))
        waits = asyncio.ensure_future(callers.due("b"))
        await callers.due("a")
        if silent:
            monkeypatch.setattr(module, "connect", unanswered)
        with pytest.raises(UnansweredError if silent else LastOneError):
            await callers.ask("a")
        await callers.of["a"].give_back(failure())
        assert await (await waits).wait("digest applied 1") == "digest applied 1"

    run(program)


def unanswered(_properties: object) -> None:
    raise UnansweredError("the API server did not answer")


def test_where_nothing_restarts_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def program() -> None:
        callers = Callers(monkeypatch, a=entry(healthy=True), b=entry(healthy=False))
        monkeypatch.setattr(module, "connect", unanswered)
        await callers.of["a"].wait("digest applied 1")
        await callers.ask("a")

    run(program)


def test_the_engine_asks_by_one_hook_for_all_and_by_none_where_the_last_one_need_not_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    class Hook:
        def __init__(self, name: str, ask: Callable[[pulumi.ResourceHookArgs], Coroutine[Any, Any, None]]) -> None:
            made.append(name)
            self.ask = ask

    monkeypatch.setattr(module, "supports", lambda _feature: True)
    monkeypatch.setattr(pulumi, "ResourceHook", Hook)
    asked: list[str] = []

    def question(machine: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def ask() -> None:
            asked.append(machine)

        return ask

    some = Turns(1, name="mesh-turns")
    one, other = (some.asks(f"{machine}-ready", question(machine)) for machine in ("a", "b"))
    assert made == ["mesh-turns-last-one"]
    bound: list[Any] = [*(one.before_create or []), *(other.before_update or [])]
    for hook, name in zip(bound, ("a-ready", "b-ready"), strict=True):
        asyncio.run(hook.ask(pulumi.ResourceHookArgs(urn="", id="", name=name, type="")))
    assert asked == ["a", "b"]
    binding = Turns(1, keep_one=False).asks("c-ready", question("c"))
    assert (binding.before_create, made) == (None, ["mesh-turns-last-one"])
