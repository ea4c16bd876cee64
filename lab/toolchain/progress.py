"""What a person sees while tools are built: one line per artifact, with its elapsed time."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

HEARTBEAT_SECONDS = 30.0
"""How often a line says what is still going on, where the output is not a terminal."""


class Progress:
    """Reports to stderr: moving lines on a terminal, else plain lines at start and end and a heartbeat.

    Safe to use from several threads.
    """

    def __init__(self, console: Console | None = None, *, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._console = console or Console(file=sys.stderr)
        self._heartbeat_seconds = heartbeat_seconds
        self._lock = threading.Lock()
        self._running: dict[str, tuple[float, int]] = {}
        self._bars: Bars | None = None

    @contextmanager
    def session(self) -> Iterator[None]:
        """Show progress for as long as the block runs."""
        if self._console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            with Bars(*columns, console=self._console, transient=True) as self._bars:
                yield
            self._bars = None
            return
        end = threading.Event()
        beating = threading.Thread(target=self._beat, args=(end,), daemon=True)
        beating.start()
        try:
            yield
        finally:
            end.set()
            beating.join()

    def say(self, text: str) -> None:
        """One line, as it is."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, name: str, expected_seconds: int) -> Iterator[None]:
        """One artifact, which takes about `expected_seconds` from nothing."""
        started = time.monotonic()
        with self._lock:
            self._running[name] = (started, expected_seconds)
        task = self._start(name, expected_seconds)
        try:
            yield
        except BaseException:
            self.say(f"  {name}: stopped after {spell(time.monotonic() - started)}")
            raise
        else:
            self.say(f"  {name}: done in {spell(time.monotonic() - started)}")
        finally:
            with self._lock:
                del self._running[name]
            if self._bars is not None and task is not None:
                self._bars.remove_task(task)

    def _start(self, name: str, expected_seconds: int) -> TaskID | None:
        text = f"{name} (from nothing about {spell(expected_seconds)})"
        if self._bars is not None:
            return self._bars.add_task(text)
        self.say(f"  {text} …")
        return None

    def _beat(self, end: threading.Event) -> None:
        while not end.wait(self._heartbeat_seconds):
            now = time.monotonic()
            with self._lock:
                running = [
                    f"{name} {spell(now - started)} of about {spell(expected)}"
                    for name, (started, expected) in self._running.items()
                ]
            if running:
                self.say("  still at it: " + ", ".join(running))


def spell(seconds: float) -> str:
    """A duration as a person says it: `8 s`, `3 min 5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
