"""Waiting for the cluster, always with a limit."""

import time
from collections.abc import Callable

PAUSE_SECONDS = 0.5


def wait_until(holds: Callable[[], str], seconds: float, pause: float = PAUSE_SECONDS) -> str:
    """Asks `holds` until it has nothing to object (an empty text) or `seconds` are over; its last objection.

    It is asked at least once, and once more after the last pause.
    """
    end = time.monotonic() + seconds
    while True:
        objection = holds()
        left = end - time.monotonic()
        if not objection or left <= 0:
            return objection
        time.sleep(min(pause, left))
