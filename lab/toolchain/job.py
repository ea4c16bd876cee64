"""What an artifact is, and the running of commands that make it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.toolchain.store import stamp_of

_POLL_SECONDS = 0.2
_TAIL_LINES = 15
_TAIL_BYTES = 8192


class BuildError(Exception):
    """An artifact could not be made; the message names it, the reason, its log and what to do."""

    def __init__(self, name: str, reason: str, log: Path) -> None:
        super().__init__(
            f"{name} could not be built: {reason}\n{_tail(log)}\n"
            f"The whole log: {log}\n"
            "What is done is kept: after the cause is gone, the same command goes on from here."
        )


class CancelledError(Exception):
    """The build was interrupted, or another artifact has failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """Something that is made once for a set of pins."""

    name: str
    """Also the folder's name in the cache."""
    pins: tuple[str | bytes, ...]
    """All that decides the content, except what `needs` brings: versions, flags, files' bytes."""
    make: Callable[[Job], None]
    """Fills `job.folder`."""
    seconds: int
    """How long it takes from nothing on two cores, downloads included."""
    executables: tuple[str, ...] = ()
    """Files in the artifact that belong on PATH."""
    needs: tuple[str, ...] = ()
    """Names of artifacts that this one is made from; their stamps are part of its own."""
    aids: tuple[str, ...] = ()
    """Names of artifacts that it is made with, but that do not decide its content."""
    when_asked: bool = False
    """Not part of everything: made only where it is asked for by name."""
    lane: str = "other"
    """Artifacts of one lane are made one after the other: `go` (which uses all cores), or `other`."""
    on_path: Callable[[], Sequence[Path]] = field(default=lambda: ())
    """Finds the executables in the pinned version on PATH; all of them, or none."""

    def stamp(self, catalogue: Mapping[str, Artifact]) -> str:
        """The hash of all pins; `catalogue` holds what it needs."""
        needed = (f"{name}={catalogue[name].stamp(catalogue)}" for name in self.needs)
        return stamp_of((self.name, *self.pins, *needed))


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One run of an artifact's `make`."""

    name: str
    folder: Path
    """Empty; becomes the artifact."""
    needs: Mapping[str, Path]
    """The folders of the artifacts it is made from and with."""
    log: Path
    downloads: Path
    """A folder of the cache for what was fetched, kept over interrupted runs; may not exist yet."""
    lock: int | None
    """Descriptor of the artifact's lock, for commands to hold on to."""
    cancelled: threading.Event

    def run(
        self,
        command: Sequence[str | Path],
        *,
        seconds: float,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        to_its_end: bool = False,
    ) -> None:
        """Run a command with its output in the log. `env` is added to the environment of this process.

        With `to_its_end` it is never killed, as what changes the system must not be: an interrupt waits for its end,
        a second one leaves it to itself.

        Raises:
            BuildError: it ended with an error, or took longer than `seconds`. None of its processes is left, unless
                it runs to its end.
            CancelledError: the build was interrupted meanwhile. The same.
        """
        arguments = [str(part) for part in command]
        with self.log.open("ab") as output:
            output.write(f"\n$ {' '.join(arguments)}\n".encode())
            output.flush()
            try:
                process = subprocess.Popen(
                    arguments if to_its_end else [*_dying_with_us(), *arguments],
                    cwd=cwd,
                    env={**os.environ, **(env or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    pass_fds=() if self.lock is None else (self.lock,),
                )
            except OSError as problem:
                raise self.failed(f"{arguments[0]} cannot be run: {problem}") from problem
            deadline = time.monotonic() + seconds
            try:
                code = self._wait(process, deadline)
            except BaseException:
                if to_its_end:
                    print(f"{arguments[0]} is changing this system; waiting for its end", file=sys.stderr, flush=True)
                    process.wait(max(0.0, deadline - time.monotonic()))
                else:
                    _end_group(process)
                raise
        if code is None:
            if not to_its_end:
                _end_group(process)
            raise self.failed(f"{arguments[0]} was not done after {seconds:.0f} s")
        if code:
            raise self.failed(f"{arguments[0]} ended with code {code}")

    def output(
        self,
        command: Sequence[str | Path],
        *,
        seconds: float,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """What a short command writes to stdout; its stderr goes to the log.

        Raises:
            BuildError: it ended with an error, or took longer than `seconds`.
        """
        arguments = [str(part) for part in command]
        try:
            with self.log.open("ab") as log:
                done = subprocess.run(
                    arguments,
                    cwd=cwd,
                    env={**os.environ, **(env or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    timeout=seconds,
                    check=True,
                )
        except (OSError, subprocess.SubprocessError) as problem:
            raise self.failed(str(problem)) from problem
        return done.stdout.decode()

    def failed(self, reason: str) -> BuildError:
        """The error to raise when the artifact cannot be made."""
        return BuildError(self.name, reason, self.log)

    def _wait(self, process: subprocess.Popen[bytes], deadline: float) -> int | None:
        while time.monotonic() < deadline:
            if self.cancelled.is_set():
                raise CancelledError(self.name)
            try:
                return process.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        return None


def _dying_with_us() -> list[str]:
    """What a command is started by, so that it is killed when this process is: else it would go on unseen."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _tail(log: Path) -> str:
    """The log's last lines, indented."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    return "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:])
