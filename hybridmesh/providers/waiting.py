"""Waiting for the cluster, always with a limit."""

from collections.abc import Callable

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

from .cluster import UnansweredError

PAUSE_SECONDS = 0.5


def wait_until(holds: Callable[[], str], seconds: float, pause: float = PAUSE_SECONDS) -> str:
    """Asks `holds` until it has nothing to object (an empty text) or `seconds` are over; its last objection.

    It is asked at least once, and once more after the last pause. A request of it that the cluster did not answer is
    an objection too; `UnansweredError` is raised where it was the last.
    """
    patiently = Retrying(
        retry=retry_if_result(bool) | retry_if_exception_type(UnansweredError),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(pause),
        retry_error_callback=last_answer,
    )
    return patiently(holds)


def last_answer(state: RetryCallState) -> object:
    """What was said at last, for a retry that gives up without an error of its own."""
    assert state.outcome is not None
    return state.outcome.result()
