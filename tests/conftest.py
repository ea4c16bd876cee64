"""What the suites share: one embedded environment of their own, made once a run and removed at its end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import toolchain
from lab.__main__ import environment, start
from lab.instance import Instance
from lab.machines import Machine

INSTANCE = "test"
"""Not `dev`: the tests never touch the environment that a person works in."""


@dataclass(frozen=True)
class Lab:
    """The tests' embedded environment."""

    instance: Instance
    tools: toolchain.Toolset

    @property
    def kubeconfig(self) -> Path:
        return self.instance.folder / "kubeconfig"

    @property
    def bin(self) -> Path:
        """The folder of every executable that the environment is made of."""
        return self.tools.bin_dir

    @property
    def env(self) -> dict[str, str]:
        """The environment variables of a process that works on this environment."""
        return {**os.environ, **environment(self.instance, self.tools)}

    def machine(self, name: str) -> Machine:
        return Machine(self.instance, name)


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
