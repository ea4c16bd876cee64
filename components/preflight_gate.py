"""What all machines of a stack pass before the first of them is changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from types import TracebackType

import pulumi
from pulumi.resource import DependencyResource
from pulumi.runtime.settings import SETTINGS

from hybridmesh.providers import PreflightCheck, PreflightVerdict
from hybridmesh.remote.preflight import host_of

LEAST_AT_ONCE = 32
"""Machines that may be in the making, however little the engine does at a time."""


class Place:
    """A machine's place among those that are in the making."""

    def __init__(self, room: asyncio.Semaphore) -> None:
        self._room: asyncio.Semaphore | None = room

    def give_back(self) -> None:
        """Makes room for another one; once."""
        if self._room is not None:
            self._room.release()
            self._room = None

    def ends_with(self, member: pulumi.Resource) -> None:
        """Makes room, if it has not yet, once the last thing of the machine is made, or has failed."""
        asyncio.ensure_future(self.give_back_after(member.urn.future()))  # noqa: RUF006 - pulumi waits for it

    async def give_back_after(self, member: Awaitable[object]) -> None:
        """Waits for `member`."""
        with contextlib.suppress(Exception):  # the engine tells it
            await member
        self.give_back()


class PreflightGate:
    """One verdict between all preflights and all joins: no machine is changed before every one was found good.

    It is one resource, so that a thousand joins have one dependency each, and not a thousand. Use it as a context
    manager: inside, machines are made and add their preflights; at its end the verdict is made, and the joins that
    wait for `admission` go on, as many at a time as the engine can work at (`--parallel`): what a thousand machines
    would have the engine do, laid ready at once, takes twice the memory (docs/decisions/037). They are let in one by
    one, or the engine would have nothing to do for as long as the program takes to make them all.
    """

    def __init__(self, name: str, opts: pulumi.ResourceOptions) -> None:
        self._name = name
        self._opts = opts
        self._preflights: dict[str, PreflightCheck] = {}
        self._who: dict[str, pulumi.Output[str]] = {}
        self._verdict: asyncio.Future[Sequence[pulumi.Resource]] = asyncio.get_event_loop().create_future()
        self._room = asyncio.Semaphore(max(LEAST_AT_ONCE, SETTINGS.parallel or 0))
        self._one_by_one = asyncio.Lock()

    @property
    def passed(self) -> pulumi.Output[Sequence[pulumi.Resource]]:
        """What a join depends on."""
        return pulumi.Output.from_input(self._verdict)

    async def admission(self) -> tuple[Sequence[pulumi.Resource], Place]:
        """Waits for the verdict, and for room; what a join depends on, and the place that it has."""
        verdict = await asyncio.shield(self._verdict)
        await self._room.acquire()
        async with self._one_by_one:
            await asyncio.sleep(0)  # what the one before asks for is on its way, before this one is made
        return verdict, Place(self._room)

    def add(self, machine: str, preflight: PreflightCheck, mesh_address: pulumi.Input[str]) -> None:
        """One more preflight to wait for, of a machine that the mesh reaches at `mesh_address`."""
        self._preflights[machine] = preflight
        self._who[machine] = pulumi.Output.all(machine, mesh_address, preflight.who).apply(
            lambda known: f"{host_of(known[0], known[1])} {known[2] or ''}".strip()
        )

    async def _settle(self, verdict: pulumi.Resource) -> None:
        """Lets the joins go on, once the verdict is there.

        They are told by its URN: with the resource itself, Pulumi looks for cycles through all preflights again for
        each thing that depends on it, which for a thousand machines is a million times.
        """
        try:
            self._verdict.set_result([DependencyResource(await verdict.urn.future() or "")])
        except Exception as refused:
            self._verdict.set_exception(refused)

    def __enter__(self) -> PreflightGate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            # Nobody may wait for a verdict that never comes: the program would hang instead of failing.
            self._verdict.set_exception(RuntimeError(f"no machine is joined: {error}"))
        elif self._preflights:
            findings = {machine: preflight.findings for machine, preflight in self._preflights.items()}
            verdict = PreflightVerdict(self._name, findings, self._who, self._opts)
            asyncio.ensure_future(self._settle(verdict))  # noqa: RUF006 - pulumi waits for what depends on it
        else:
            self._verdict.set_result([])
