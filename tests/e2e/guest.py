"""A second stack in the cluster of the first: it adopts Istio, and has names of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ci.ephemeral import ephemeral, stack_name
from hybridmesh.settings.files import read_below
from lab.instance import PROJECT_ROOT
from tests.e2e.stack import Stack, console


@contextmanager
def beside(
    owner: Stack, pull_request: int, change: Callable[[dict[str, Any], dict[str, Any]], object] | None = None
) -> Iterator[Stack]:
    """The mesh of a pull request, put up beside the owner's; nothing of it stays.

    Args:
        change: what is otherwise in its sections, given those of the owner.
    """
    guest = Stack(owner.lab, stack_name(pull_request))
    content = owner.settings()
    prefix = "hybrid-mesh:"
    sections = {key.removeprefix(prefix): value for key, value in content["config"].items()}
    own = ephemeral(sections, pull_request, read_below(PROJECT_ROOT))
    if change is not None:
        change(own, sections)
    made = {f"{prefix}{key}": value for key, value in own.items()}
    guest.write({**content, "config": made})
    guest.up()
    try:
        yield guest
    finally:
        guest.write({**content, "config": made})
        if guest.resources():
            guest.destroy()
        guest.run("stack", "rm", "--yes", "--stack", guest.name)
        guest.run("stack", "select", owner.name)


def teardown(
    stack: Stack, *options: str, typed: str = "", path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`python -m hybridmesh teardown`, however it ends."""
    arguments = ["teardown", "--stack", stack.name, "--config-file", str(stack.file), *options]
    return console(stack.lab, *arguments, check=False, typed=typed, path=path)
