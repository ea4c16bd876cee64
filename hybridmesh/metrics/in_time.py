"""Questions that are asked side by side, with one limit for all."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")


def answers_in_time(
    ask: Callable[[_Question], _Answer], questions: Iterable[_Question], *, seconds: float, at_once: int
) -> dict[_Question, _Answer]:
    """The answers that came in time, by question. Those that are late are waited for by nobody.

    Args:
        ask: gives the answer to one.
        questions: begun with in this order.
        seconds: for all together.
        at_once: how many are asked at a time.
    """
    pool = ThreadPoolExecutor(at_once)
    asked = {question: pool.submit(ask, question) for question in questions}
    in_time = wait(asked.values(), seconds).done
    pool.shutdown(wait=False, cancel_futures=True)
    return {question: answer.result() for question, answer in asked.items() if answer in in_time}
