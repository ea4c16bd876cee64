"""What a reviewer sees: twenty typical changes, previewed on the running stack. None of them is made.

The texts are kept in build/previews, to be read.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from lab.instance import PROJECT_ROOT
from tests.e2e.changes import CHANGES, Change
from tests.e2e.stack import Stack

pytestmark = pytest.mark.lab
KEPT = PROJECT_ROOT / "build" / "previews"

TWENTY = [
    pytest.param(change, id=change.name.replace(" ", "-"), marks=() if change.sample else pytest.mark.full)
    for change in CHANGES
]


@pytest.fixture(scope="module")
def running(stack: Stack) -> Stack:
    stack.restore()
    stack.up()
    return stack


@pytest.mark.parametrize("change", TWENTY)
def test_a_change_s_preview(running: Stack, change: Change) -> None:
    def sections(change_to: Any) -> None:
        content = running.settings()
        prefix = "hybrid-mesh:"
        found = {key.removeprefix(prefix): value for key, value in content["config"].items()}
        change_to(found)
        running.write({**content, "config": {f"{prefix}{key}": value for key, value in found.items()}})

    sections(change.make)
    try:
        steps = [step for step in running.steps() if not step.type.startswith("hybridmesh:")]
        text = running.preview()
    finally:
        running.restore()
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{change.name.replace(' ', '-')}.txt").write_text(text)
    assert {step.name: step.operation for step in steps} == dict(change.steps)
    assert len(steps) == len(change.steps), "two resources of one name"
    lines = [line.strip() for line in text.splitlines()]
    for wanted in change.lines:
        assert any(line.startswith(wanted) for line in lines), wanted
    assert "PRIVATE KEY" not in text
    assert "eyJ" not in text, "a token"
    # The environment's plugins are those on PATH, of versions of their own.
    ours = [line for line in lines if "warning: " in line and not re.search("warning: (using|resource plugin) ", line)]
    assert ours == []


def test_nothing_changed_is_nothing_to_read(running: Stack) -> None:
    assert running.steps() == []
