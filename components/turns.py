"""Whose turn it is: how many members of a stack may be restarted at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pulumi

STAGED = "staged"
"""What a join says first that has laid a change ready, which a restart brings about (join.sh)."""


class RollStoppedError(Exception):
    """A member that was restarted before this one did not come back: the others keep what they run."""


class Turns:
    """Lets members restart one after the other; those that are not in the mesh, or need no restart, wait for nobody.

    It orders what the program asks the engine for, and leaves no dependency between machines in the state: neither
    destroy nor the healing of one waits for another (docs/decisions/012). Never are all members of a workload
    restarted at once.
    """

    def __init__(self, at_once: int) -> None:
        self._all = asyncio.Semaphore(at_once)
        self._at_once = at_once
        self.stopped_by: str | None = None
        """The member at which the roll ended."""

    def of(self, members: int) -> "Lane":
        """The turns of one workload with so many machines."""
        return Lane(self, asyncio.Semaphore(max(1, min(self._at_once, members - 1))))

    async def enter(self, own: asyncio.Semaphore) -> None:
        """Waits for a turn, first of the workload, then of the stack."""
        await own.acquire()
        await self._all.acquire()

    def leave(self, own: asyncio.Semaphore) -> None:
        """Gives it back."""
        self._all.release()
        own.release()


@dataclass(frozen=True, slots=True)
class Lane:
    """The turns of one workload's machines."""

    turns: Turns
    own: asyncio.Semaphore

    def of(self, machine: str) -> "Turn":
        """One machine's."""
        return Turn(self, machine)


@dataclass(slots=True)
class Turn:
    """One machine's turn."""

    lane: Lane
    machine: str
    _taken: bool = field(default=False, init=False)

    def when_due(self, joined: "pulumi.Output[str]", meanwhile: Callable[[], None]) -> "pulumi.Output[str]":
        """`joined`, once the machine may be restarted, or at once where its join has left nothing to restart.

        `meanwhile`: what is done before it waits for others.
        """
        return joined.apply(lambda said: self.wait(said, meanwhile))

    async def wait(self, joined: str, meanwhile: Callable[[], None] = lambda: None) -> str:
        """Waits for the turn, if the join said that it takes one. `joined`: its generation, and what it said.

        A member that was restarted in an earlier run has that in the state still, and waits though it has nothing to
        wait for; in a preview, where nobody restarts, it does not.
        """
        if joined.split()[1:2] != [STAGED] or pulumi.runtime.is_dry_run():
            return joined
        meanwhile()
        turns = self.lane.turns
        await turns.enter(self.lane.own)
        self._taken = True
        if turns.stopped_by is not None:
            raise RollStoppedError(
                f"{self.machine} keeps what it runs: {turns.stopped_by} did not come back from its restart. Correct "
                "what is said of that one, then run `pulumi up` again."
            )
        return joined

    def ends_with(self, member: pulumi.Resource) -> None:
        """Gives the turn back once the machine is a member again; ends the roll if it does not become one."""
        asyncio.ensure_future(self.give_back(member.urn.future()))  # noqa: RUF006 - pulumi waits for what it awaits

    async def give_back(self, member: "Awaitable[Any]") -> None:
        """Waits for `member`."""
        try:
            await member
        except Exception:
            if self._taken:
                self.lane.turns.stopped_by = self.lane.turns.stopped_by or self.machine
        finally:
            if self._taken:
                self.lane.turns.leave(self.lane.own)
