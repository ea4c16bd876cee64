"""What the engine asks, while everything else of a program waits for the engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pulumi
import pytest

from components import there_already, turns
from components.there_already import ThereAlready
from components.turns import Turns
from hybridmesh.providers.cluster import ClusterAccess
from tests.providers.fake_cluster import FakeCluster

NOWHERE = ClusterAccess(kubeconfig="none")


async def of_an_object() -> None:
    inputs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart", "namespace": "shop"}}
    asked = pulumi.ResourceHookArgs(urn="", id="", name="", type="", new_inputs=inputs)
    await ThereAlready("mesh", NOWHERE).ask(asked)


async def of_a_restart() -> None:
    turn = Turns(1).of_workload().of("vm-1")
    await turn.wait("digest staged 1")
    await turn.ask(NOWHERE, "echo", "demo", "vm-1", 0)


@pytest.mark.parametrize("asks", [of_an_object, of_a_restart])
def test_a_hook_needs_none_of_the_threads_in_which_resources_wait_for_the_engine(
    monkeypatch: pytest.MonkeyPatch, asks: Callable[[], Awaitable[None]]
) -> None:
    """Four times as many as the engine works at: a new stack has more objects at a time, and the engine would wait for
    their hooks for ever."""
    for module in (there_already, turns):
        monkeypatch.setattr(module, "connect", lambda _properties: FakeCluster())
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: False)
    engine = threading.Event()

    async def program() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(max_workers=1))
        resource = loop.run_in_executor(None, engine.wait)
        try:
            await asyncio.wait_for(asks(), 10)
        finally:
            engine.set()
            await resource

    asyncio.run(program())
