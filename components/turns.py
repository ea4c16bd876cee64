"""Whose turn it is: how many members of a stack may be restarted at a time."""

import asyncio
from bisect import insort
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from operator import attrgetter

import pulumi

from hybridmesh.remote.join import is_staged


class RollStoppedError(pulumi.RunError):
    """A member that was restarted before this one did not come back: the others keep what they run. Told without a
    traceback, where `pulumi up --continue-on-error` lets the program go on."""


class Turns:
    """Lets members restart one after the other; those that are not in the mesh, or need no restart, wait for nobody.

    It orders what the program asks the engine for, and leaves no dependency between machines in the state: neither
    destroy nor the healing of one waits for another (docs/decisions/012). Never are all members of a workload that
    serve restarted at once.

    Those of a workload have their turns in the order in which they are made, in this run as in the next: so one that
    did not come back is asked for again before the next one is touched.
    """

    def __init__(self, at_once: int) -> None:
        if at_once < 1:
            raise ValueError(
                f"Turns: at_once = {at_once}: is less than 1. Nobody's turn would come, and the run would not end. "
                "Fix: 1 or more."
            )
        self._at_once = at_once
        self._made = 0
        self._under_way = 0
        self._waiting: list[Turn] = []
        self.stopped_by: str | None = None
        """The member at which the roll ended."""

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
        self._serving = 0
        self._unknown: dict[int, None] = {}

    def of(self, machine: str) -> "Turn":
        """One machine's."""
        place = self.turns.number()
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

    def when_due(self, joined: "pulumi.Output[str]", meanwhile: Callable[[], None]) -> "pulumi.Output[str]":
        """`joined`, once the machine may be restarted, or at once where its join has left nothing to restart.

        `meanwhile`: what is done before it waits for others.
        """
        return joined.apply(lambda said: self.wait(said, meanwhile))

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
            if self._taken:
                self.lane.turns.stopped_by = self.lane.turns.stopped_by or self.machine
        if self._taken:
            self.lane.turns.leave(self)
        self.lane.hear_of(self.place, serves=serves)
