"""Whose turn it is: how many members of a stack may be restarted at a time."""

import asyncio
import contextlib
from bisect import insort
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any

import pulumi

from hybridmesh.istio.entries import may_be_of
from hybridmesh.istio.nested import at
from hybridmesh.legible import legible
from hybridmesh.providers.cluster import ClusterAccess, connect
from hybridmesh.providers.entries import why_nobody_else_is_called
from hybridmesh.providers.waiting import wait_until
from hybridmesh.remote.join import is_staged

from .hooks import RESOURCE_HOOKS, in_thread, supports


class RollStoppedError(pulumi.RunError):
    """A member that was restarted before this one did not come back: the others keep what they run. Told without a
    traceback, where `pulumi up --continue-on-error` lets the program go on."""


class LastOneError(pulumi.RunError):
    """A member is not restarted: of all of its workload's, callers have it alone."""


class Turns:
    """Lets members restart one after the other; those that are not in the mesh, or need no restart, wait for nobody.

    It orders what the program asks the engine for, and leaves no dependency between machines in the state: neither
    destroy nor the healing of one waits for another (docs/decisions/012). Never are all members of a workload that
    serve restarted at once.

    Those of a workload have their turns in the order in which they are made, in this run as in the next: so one that
    did not come back is asked for again before the next one is touched.
    """

    def __init__(self, at_once: int, *, name: str = "turns", keep_one: bool = True) -> None:
        """`name`: no other `Turns` of the program has it. `keep_one`: whether the last one of several that callers have
        is kept, instead of being restarted like one that is alone."""
        if at_once < 1:
            raise ValueError(
                f"Turns: at_once = {at_once}: is less than 1. Nobody's turn would come, and the run would not end. "
                "Fix: 1 or more."
            )
        self._at_once = at_once
        self._name = name
        self._keep_one = keep_one
        self._asking: dict[str, Callable[[], Awaitable[None]]] = {}
        self._made = 0
        self._under_way = 0
        self._waiting: list[Turn] = []
        self.stopped_by: str | None = None
        """The member at which the roll ended."""

    @cached_property
    def _binding(self) -> pulumi.ResourceHookBinding:
        # One for all, since each hook is a request to the engine before anything else happens.
        if not self._keep_one or not supports(RESOURCE_HOOKS):
            return pulumi.ResourceHookBinding()
        hook = pulumi.ResourceHook(f"{self._name}-last-one", self._ask)
        return pulumi.ResourceHookBinding(before_create=[hook], before_update=[hook])

    async def _ask(self, args: pulumi.ResourceHookArgs) -> None:
        await self._asking[args.name]()

    def asks(self, command: str, question: Callable[[], Awaitable[None]]) -> pulumi.ResourceHookBinding:
        """The hooks by which the engine asks a question before it runs a command, and does not run it if that fails. A
        command that stays as it is runs not, and asks nobody."""
        self._asking[command] = question
        return self._binding

    def of_workload(self) -> "Lane":
        """The turns of one workload's machines."""
        return Lane(self)

    def number(self) -> int:
        """The next one's place in the order."""
        self._made += 1
        return self._made

    async def enter(self, turn: "Turn") -> None:
        """Waits for the turn of one that serves."""
        insort(self._waiting, turn, key=attrgetter("place"))
        turn.lane.hear_of(turn.place, serves=True)
        await turn.due.wait()

    def give(self) -> None:
        """Gives turns to those that may have them by now."""
        for turn in tuple(self._waiting):
            if self._under_way == self._at_once:
                return
            if turn.lane.has_room_for(turn.place):
                self._waiting.remove(turn)
                self._under_way += 1
                turn.lane.under_way += 1
                turn.due.set()

    def leave(self, turn: "Turn") -> None:
        """Gives it back."""
        self._under_way -= 1
        turn.lane.under_way -= 1
        self.give()


class Lane:
    """The turns of one workload's machines.

    How many are restarted at a time goes by those that are known to serve: one that joins in the same run, new or
    having been out of the mesh, answers nobody yet.
    """

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.under_way = 0
        self.machines: dict[str, str] = {}
        """By WorkloadEntry."""
        self.away: set[str] = set()
        """The WorkloadEntries of those that nobody calls for a while."""
        self.one_by_one = asyncio.Lock()
        self._serving = 0
        self._made = 0
        self._unknown: dict[int, None] = {}

    def lets_go(self, entry: Mapping[str, Any], group: str) -> bool:
        """Whether an entry's VM, of the stack's own WorkloadGroup, is none of the program's any more, so that this run
        removes it in the end; not while an entry of the program's is unknown, which might be this one."""
        all_are_known = len(self.machines) == self._made
        return all_are_known and entry["metadata"]["name"] not in self.machines and may_be_of(entry, group)

    def of(self, machine: str) -> "Turn":
        """One machine's."""
        place = self.turns.number()
        self._made += 1
        self._unknown[place] = None
        return Turn(self, machine, place)

    def hear_of(self, place: int, *, serves: bool) -> None:
        """Of one machine it is known by now whether it serves; what is heard of it later changes nothing."""
        if place in self._unknown:
            del self._unknown[place]
            self._serving += serves
        self.turns.give()

    def has_room_for(self, place: int) -> bool:
        """Whether it is the next one's turn, and another one serves meanwhile, if there is one."""
        if self._unknown and next(iter(self._unknown)) < place:
            return False
        alone = self._serving == 1 and not self._unknown
        return self.under_way < (1 if alone else self._serving - 1)


@dataclass(slots=True, eq=False)
class Turn:
    """One machine's turn."""

    lane: Lane
    machine: str
    place: int
    due: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _taken: bool = field(default=False, init=False)
    _kept: bool = field(default=False, init=False)
    _away: str = field(default="", init=False)

    def when_due(self, joined: "pulumi.Output[str]", meanwhile: Callable[[], None]) -> "pulumi.Output[str]":
        """`joined`, once the machine may be restarted, or at once where its join has left nothing to restart.

        `meanwhile`: what is done before it waits for others.
        """
        return joined.apply(lambda said: self.wait(said, meanwhile))

    def guards(
        self,
        command: str,
        cluster: ClusterAccess,
        group: "pulumi.Output[Mapping[str, Any]]",
        namespace: "pulumi.Output[str]",
        entry: "pulumi.Output[str]",
        seconds: float,
    ) -> pulumi.ResourceHookBinding:
        """The hooks of the command that restarts the machine, which has this WorkloadEntry: see `ask`. `group`: the
        manifest of its WorkloadGroup.

        That another one is a member, as the turns go by, says nothing of what has become of its app since.
        """

        lane = self.lane

        async def note() -> None:
            with contextlib.suppress(Exception):  # of one that is not there the engine tells
                known = await entry.future()
                if known:
                    lane.machines[known] = self.machine

        async def question() -> None:
            name = str(at(await group.future() or {}, "metadata", "name") or "")
            await self.ask(cluster, name, await namespace.future() or "", await entry.future() or "", seconds)

        asyncio.ensure_future(note())  # noqa: RUF006 - pulumi waits for what it awaits
        return lane.turns.asks(command, question)

    async def ask(self, cluster: ClusterAccess, group: str, namespace: str, entry: str, seconds: float) -> None:
        """Waits, for so long at most, until callers have another one of the workload. `group`: the WorkloadGroup's
        name.

        Raises:
            LastOneError: they have not.
        """
        if not self._taken:
            return
        lane = self.lane
        nobody: Mapping[str, tuple[str, str]] = {}

        def objection() -> str:
            nonlocal nobody
            nobody = why_nobody_else_is_called(
                connect(cluster.properties()), namespace, entry, lane.away, lambda other: lane.lets_go(other, group)
            )
            return "nobody else" if nobody else ""

        self._kept = True
        # Two that ask at a time would each take the other for the one that stays.
        async with lane.one_by_one:
            # In a thread, for whoever is told of here is told in the one that runs the program.
            if await in_thread(wait_until, objection, seconds):
                raise LastOneError(last_one(self.machine, nobody, lane.machines))
            lane.away.add(entry)
        self._kept = False
        self._away = entry

    async def wait(self, joined: str, meanwhile: Callable[[], None] = lambda: None) -> str:
        """Waits for the turn, if the join said that it takes one, as it does of a member that serves. `joined`: its
        generation, and what it said.

        A member that was restarted in an earlier run has that in the state still, and waits though it has nothing to
        wait for; in a preview, where nobody restarts, it does not.
        """
        if not is_staged(joined) or pulumi.runtime.is_dry_run():
            return joined
        meanwhile()
        turns = self.lane.turns
        await turns.enter(self)
        self._taken = True
        if turns.stopped_by is not None:
            raise RollStoppedError(
                f"the roll has ended at {turns.stopped_by}, which did not come back from its restart: {self.machine}, "
                f"and every other machine that has had no turn, keeps what it runs. Correct what is said of "
                f"{turns.stopped_by}, then run `pulumi up` again."
            )
        return joined

    def ends_with(self, synced: "pulumi.Output[bool]") -> None:
        """Gives the turn back once the mesh has the machine again; ends the roll if it does not come to that."""
        asyncio.ensure_future(self.give_back(synced.future()))  # noqa: RUF006 - pulumi waits for what it awaits

    async def give_back(self, synced: "Awaitable[bool | None]") -> None:
        """Waits for `synced`; None: of a machine that is left out of a run with `--target`, and was never a member."""
        try:
            serves = bool(await synced)
        except Exception:
            serves = False
            # One that was kept from its restart serves on; another one's may be what it needs.
            if self._taken and not self._kept:
                self.lane.turns.stopped_by = self.lane.turns.stopped_by or self.machine
        if self._taken:
            self.lane.away.discard(self._away)
            self.lane.turns.leave(self)
        self.lane.hear_of(self.place, serves=serves)


def last_one(machine: str, others: Mapping[str, tuple[str, str]], machines: Mapping[str, str]) -> str:
    """Why a machine is not restarted. `others`: of each, by its WorkloadEntry, address and what is wrong with it;
    `machines`: the names of those that are this stack's."""
    said = "; ".join(
        f"{machines.get(entry) or f'{entry} ({address})'}: {legible(why)}" for entry, (address, why) in others.items()
    )
    return (
        f"{machine} is not restarted, and keeps what it runs: callers would have no VM of its workload meanwhile. "
        f"{said}. Fix: mend that, and run `pulumi up` again; if this change is what mends it, `pulumi up "
        "--continue-on-error` lets the others have their turns first; if nobody needs to call, "
        "`sidecar.upgrade.keepOneServing: false`."
    )
