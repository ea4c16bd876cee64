"""Waits end."""

import pytest

from hybridmesh.providers.waiting import wait_until


@pytest.mark.usefixtures("cluster")
def test_it_asks_at_least_once_and_once_more_at_the_end() -> None:
    asked: list[int] = []

    def never() -> str:
        asked.append(1)
        return "no"

    assert wait_until(never, 0) == "no"
    assert len(asked) == 1
    asked.clear()
    assert wait_until(never, 2, pause=1) == "no"
    assert len(asked) == 3


@pytest.mark.usefixtures("cluster")
def test_it_ends_with_the_first_yes() -> None:
    answers = iter(["no", ""])
    assert wait_until(lambda: next(answers), 60) == ""
