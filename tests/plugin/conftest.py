"""The plugin under test and the SSH server it talks to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import toolchain
from tests.plugin.plugin import Plugin
from tests.plugin.sshd import Sshd

PLUGIN = "pulumi-resource-command"


@pytest.fixture(scope="session")
def executable() -> Path:
    """The plugin that HYBRID_MESH_COMMAND_PLUGIN names, else the embedded environment's."""
    named = os.environ.get("HYBRID_MESH_COMMAND_PLUGIN")
    return Path(named) if named else toolchain.installed([PLUGIN]).bin_dir / PLUGIN


@pytest.fixture
def plugin(executable: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugin]:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with Plugin(executable) as running:
        yield running


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("ssh") / "sshd") as running:
        yield running
