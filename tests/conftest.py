"""What the suites share: one embedded environment of their own, made once a run and removed at its end."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Generator, Iterator

import pytest

from lab import toolchain
from lab.__main__ import start
from lab.instance import PROXIES, Instance
from tests.environment import INSTANCE, Lab

# A shell has what it runs in the background ignore it; Pulumi ends its plugins by it, and would wait 5 s for each.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    # Where a collection of garbage in the midst of ast.parse has a traceback written, which parses too, Python 3.11
    # gives up: "AST constructor recursion depth mismatch" (python/cpython#106905). pytest parses each test module.
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(autouse=True)
def _no_proxy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of the tests are on this machine; only what the environment builds may need a proxy."""
    if request.node.get_closest_marker("lab") is None:
        for name in os.environ:
            if name.upper() in PROXIES:
                monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A running environment with machine vm-1; HYBRID_MESH_KEEP_LAB=1 leaves it running afterwards."""
    instance = Instance(INSTANCE)
    tools = toolchain.installed()
    keep = os.environ.get("HYBRID_MESH_KEEP_LAB") == "1"
    if not keep:
        instance.remove()
    start(instance, ["vm-1"], tools)
    yield Lab(instance, tools)
    if not keep:
        logs = instance.home / f"{INSTANCE}-logs"
        shutil.rmtree(logs, ignore_errors=True)
        shutil.copytree(instance.folder / "log", logs, ignore=shutil.ignore_patterns("pods", "containers"))
        instance.remove()
