"""The stack on the tests' environment; its tests run in the order of their files, each leaving it as it found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.machines import machines
from tests.e2e.stack import Stack
from tests.environment import Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The main job first: it starts on an empty environment, and what follows finds its stack up."""
    items.sort(key=lambda item: "e2e" in item.path.parts and item.path.stem != "test_main_job")


@pytest.fixture(scope="session")
def stack(lab: Lab) -> Iterator[Stack]:
    """The stack `dev`, not put up yet; whatever of it is there at the end is destroyed."""
    stack = Stack(lab)
    yield stack
    stack.restore()
    if stack.resources():
        stack.destroy()


@pytest.fixture(scope="module")
def up(stack: Stack) -> Iterator[Stack]:
    """The stack as committed, up; changes of a module's tests pile up, and are taken back at its end."""
    as_committed(stack)
    yield stack
    as_committed(stack)


def as_committed(stack: Stack) -> None:
    """A test that failed half-way may have left a machine off; those after it shall not fail for that."""
    for machine in machines(stack.lab.instance):
        if not machine.running:
            machine.start()
    stack.restore()
    stack.up()
