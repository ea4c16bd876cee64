"""Waits end."""

import pytest

from hybridmesh.providers.cluster import ClusterError, UnansweredError
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


@pytest.mark.usefixtures("cluster")
def test_what_the_cluster_did_not_answer_is_asked_again() -> None:
    answers: list[str | Exception] = [UnansweredError("503"), "no", UnansweredError("no connection"), ""]

    def answer() -> str:
        given = answers.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    assert wait_until(answer, 60) == ""
    assert answers == []
    answers[:] = ["no", UnansweredError("503"), UnansweredError("504")]
    with pytest.raises(UnansweredError, match="504"):
        wait_until(answer, 2, pause=1)


@pytest.mark.usefixtures("cluster")
def test_what_it_refused_is_not() -> None:
    asked: list[int] = []

    def refused() -> str:
        asked.append(1)
        raise ClusterError("403")

    with pytest.raises(ClusterError, match="403"):
        wait_until(refused, 60)
    assert len(asked) == 1
