"""The tests' embedded environment, as the fixture `lab` gives it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import toolchain
from lab.__main__ import environment
from lab.instance import Instance
from lab.machines import Machine

INSTANCE = "test"
"""Not `dev`: the tests never touch the environment that a person works in."""


def _namespaces_can_be_made() -> bool:
    try:
        subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
needs_namespaces = pytest.mark.skipif(not _namespaces_can_be_made(), reason="makes Linux namespaces")


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
