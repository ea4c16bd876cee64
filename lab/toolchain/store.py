"""The user's cache folder: every artifact under its name and stamp, there whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lab.toolchain.system import cache_root

ORIGIN = "origin.json"
"""File in an artifact that stands for executables found elsewhere: {path: [size, mtime in ns]}."""

BUILD_SECONDS = 2 * 3600.0
"""What somebody else builds is waited for so long."""
_LOCK_POLL_SECONDS = 0.5
_COMMAND_SHOWN = 120


class StoreBusyError(Exception):
    """Another process has held a lock for longer than what it is held for takes."""


def stamp_of(parts: Iterable[str | bytes]) -> str:
    """A short hash of `parts`, in order; no two different lists of parts run into each other."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(raw))
        digest.update(raw)
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Making:
    """An artifact that is being made."""

    folder: Path
    """Empty; what is in here at the end becomes the artifact."""
    lock: int
    """Descriptor of the lock. Hand it to child processes: then a build whose starter was killed keeps others
    out for as long as one of its processes lives."""


class Store:
    """A cache folder. Safe to share between processes and clones."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or cache_root()

    def path(self, name: str, stamp: str) -> Path:
        """Where that artifact is, or would be."""
        return self.root / name / stamp

    def lock(self, name: str) -> Path:
        """The file that whoever makes that artifact locks."""
        return self.root / name / ".lock"

    def log(self, name: str) -> Path:
        """The log of that artifact's latest build."""
        return self.root / "logs" / f"{name}.log"

    def holds(self, name: str, stamp: str) -> bool:
        """Whether that artifact is there, and the executables that it may refer to are as they were."""
        folder = self.path(name, stamp)
        return folder.is_dir() and _origin_unchanged(folder)

    @contextmanager
    def making(self, name: str, stamp: str, *, waiting: Callable[[], None] = lambda: None) -> Iterator[Making | None]:
        """Make an artifact: fill the folder that is handed out.

        It becomes the artifact in one rename when the block ends well, and is removed when it does not.
        None is handed out where another process made it in the meantime. `waiting` is called twice a second
        while another process holds the lock.

        Raises:
            StoreBusyError: another process holds the lock for two hours.
        """
        shelf = self.root / name
        with self.locked(name, waiting=waiting) as lock:
            if self.holds(name, stamp):
                yield None
                return
            for left_over in shelf.glob(".making-*"):  # whoever made it is dead, or would hold the lock
                remove_tree(left_over)
            target = self.path(name, stamp)
            folder = shelf / f".making-{stamp}"
            folder.mkdir()
            try:
                yield Making(folder, lock)
                if target.exists():  # it refers to an executable that has changed
                    remove_tree(target)
                folder.rename(target)
            except BaseException:
                remove_tree(folder)
                raise

    @contextmanager
    def locked(self, name: str, *, waiting: Callable[[], None] = lambda: None) -> Iterator[int]:
        """Keep other processes from making `name` for as long as the block runs; gives the lock's descriptor."""
        file = self.lock(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        with lock_file(file, waiting, BUILD_SECONDS) as lock:
            yield lock

    def prune(self, keep: Iterable[tuple[str, str]]) -> list[Path]:
        """Remove every artifact whose (name, stamp) is not in `keep`; gives the folders removed.

        Left alone is what another process is making, and what a running process was started from or mounts.
        """
        kept, used = set(keep), _said_by_processes()
        removed: list[Path] = []
        for shelf in sorted(path for path in self.root.glob("*") if (path / ".lock").is_file()):
            try:
                with lock_file(shelf / ".lock", lambda: None, 0):
                    for folder in sorted(shelf.iterdir()):
                        wanted = (shelf.name, folder.name) in kept or str(folder) in used
                        if folder.is_dir() and not wanted:
                            remove_tree(folder)
                            removed.append(folder)
            except StoreBusyError:
                continue
        return removed


def record_origin(folder: Path, executables: Iterable[Path]) -> None:
    """Make `folder` an artifact that stands for `executables`, by links, for as long as they stay as they are."""
    seen: dict[str, list[int]] = {}
    for executable in executables:
        (folder / executable.name).symlink_to(executable)
        seen[str(executable)] = _identity(executable)
    (folder / ORIGIN).write_text(json.dumps(seen))


def remove_tree(folder: Path) -> None:
    """Remove a folder, read-only folders in it included (Go's module cache has such)."""
    for parent, names, _ in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder)


def _identity(executable: Path) -> list[int]:
    status = executable.stat()
    return [status.st_size, status.st_mtime_ns]


def _origin_unchanged(folder: Path) -> bool:
    try:
        seen: dict[str, list[int]] = json.loads((folder / ORIGIN).read_text())
        return all(_identity(Path(path)) == identity for path, identity in seen.items())
    except FileNotFoundError:
        # Either the artifact was built here, or what it stands for is gone.
        return not (folder / ORIGIN).exists()


def _said_by_processes() -> str:
    """All command lines and mounts of running processes, in one text to look paths up in."""
    said: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "mountinfo"):
            try:
                said.append((process / name).read_bytes().decode(errors="replace"))
            except OSError:  # it has ended, or is another user's
                continue
    return "\n".join(said)


@contextmanager
def lock_file(
    path: Path, waiting: Callable[[], None], seconds: float, *, poll: float = _LOCK_POLL_SECONDS
) -> Iterator[int]:
    """Hold a lock file. The kernel lets go of a dead process's lock, so none can be stale.

    `waiting` is called every `poll` seconds while another process holds it.

    Raises:
        StoreBusyError: another process holds it for `seconds`.
    """
    deadline = time.monotonic() + seconds
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StoreBusyError(f"{path} is held by {holder(path)}; end it, or wait for it") from None
                waiting()
                time.sleep(poll)
        with suppress(OSError):  # a full disk, which whoever holds this may be about to clear
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield lock
    finally:
        os.close(lock)


def holder(path: Path) -> str:
    """Who holds a lock file, for people: the process that noted itself there, while it lives."""
    try:
        process = int(path.read_text())
        command = (Path("/proc") / str(process) / "cmdline").read_bytes().decode(errors="replace")
    except (OSError, ValueError):
        return "another process"
    return f"process {process} ({' '.join(command.split(chr(0))).strip()[:_COMMAND_SHOWN]})"
