"""Typical changes: what the program registers otherwise. Their previews: tests/e2e/test_previews.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from tests.components.harness import Registered, dev_settings, run
from tests.e2e.changes import CHANGES, Change

ENGINE_ONLY = {"mesh-preflights"}
"""Shown by a preview for what is unknown until the update."""


def registered(change: Callable[[dict[str, Any]], object] | None) -> dict[tuple[str, str], Registered]:
    settings = dev_settings(change)
    world = run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)))
    return {(r.type, r.name): r for r in world.found if not r.type.startswith(("hybridmesh:", "pulumi:"))}


@cache
def before() -> dict[tuple[str, str], Registered]:
    return registered(None)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name.replace(" ", "-"))
def test_a_change_registers_otherwise_what_its_preview_shows_and_nothing_else(change: Change) -> None:
    after = registered(change.make)
    steps = {name: "create" for kind, name in after.keys() - before().keys()}
    steps |= {name: "delete" for kind, name in before().keys() - after.keys()}
    both = before().keys() & after.keys()
    steps |= {key[1]: "update" for key in both if before()[key].inputs != after[key].inputs}
    for engine_only in ENGINE_ONLY:
        steps.pop(engine_only, None)
    assert steps == {name: step for name, step in change.steps.items() if name not in ENGINE_ONLY}


def test_there_are_many_and_none_replaces_anything() -> None:
    assert len({change.name for change in CHANGES}) == len(CHANGES) == 22
    assert {step for change in CHANGES for step in change.steps.values()} <= {"create", "update", "delete"}
