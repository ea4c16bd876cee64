"""Building what is missing, in order, in two lanes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from lab.toolchain import debian
from lab.toolchain.job import Artifact, CancelledError, Job
from lab.toolchain.progress import Progress, spell
from lab.toolchain.store import Store, holder, record_origin

_POLL_SECONDS = 0.2


class Builder:
    """One build of some artifacts of a catalogue into a store."""

    def __init__(self, catalogue: Mapping[str, Artifact], store: Store, progress: Progress) -> None:
        self._catalogue = catalogue
        self._store = store
        self._progress = progress
        self._stamps = {name: artifact.stamp(catalogue) for name, artifact in catalogue.items()}
        self._done: dict[str, threading.Event] = {}
        self._cancelled = threading.Event()
        self._failures: list[BaseException] = []

    def missing(self, names: Iterable[str]) -> list[Artifact]:
        """The artifacts that have to be made for `names`, those they need and are made with included.

        In the catalogue's order, which has every artifact after those that it stands on.
        """
        wanted: set[str] = set()
        queue = list(names)
        while queue:
            name = queue.pop()
            if name not in wanted and not self._store.holds(name, self._stamps[name]):
                wanted.add(name)
                queue += [*self._catalogue[name].needs, *self._catalogue[name].aids]
        return [artifact for artifact in self._ordered() if artifact.name in wanted]

    def build(self, names: Iterable[str], *, host_packages: bool) -> None:
        """Make what is missing of `names`; `host_packages` installs the host's Debian packages first.

        Raises:
            BuildError: the first artifact that could not be made. What was made is kept.
        """
        packages = debian.missing_packages() if host_packages else []
        todo = self.missing(names)
        if not todo and not packages:
            return
        started = time.monotonic()
        self._progress.say(
            f"Building {len(todo)} of {len(self._catalogue)} parts of the environment"
            f" (from nothing about {spell(expected_seconds(todo))} on two cores; kept in {self._store.root})"
        )
        with self._progress.session():
            if packages:
                self._install(packages)
            self._done = {artifact.name: threading.Event() for artifact in todo}
            self._run_lanes(todo)
        if self._failures:
            raise self._failures[0]
        self._progress.say(f"All built after {spell(time.monotonic() - started)}")

    def _ordered(self) -> list[Artifact]:
        ordered: dict[str, Artifact] = {}

        def visit(artifact: Artifact) -> None:
            for name in (*artifact.needs, *artifact.aids):
                visit(self._catalogue[name])
            ordered.setdefault(artifact.name, artifact)

        for artifact in self._catalogue.values():
            visit(artifact)
        return list(ordered.values())

    def _run_lanes(self, todo: list[Artifact]) -> None:
        ends: list[threading.Event] = []
        for lane in sorted({artifact.lane for artifact in todo}):
            ends.append(threading.Event())
            work = [artifact for artifact in todo if artifact.lane == lane]
            threading.Thread(target=self._work, args=(work, ends[-1])).start()
        # Events, as an interrupted Thread.join takes the thread for ended in Python 3.11 (bpo-45274).
        try:
            for end in ends:
                end.wait()
        except BaseException:  # an interrupt: end the commands, let the lanes clean up
            self._cancelled.set()
            for end in ends:
                end.wait()
            raise

    def _work(self, todo: list[Artifact], end: threading.Event) -> None:
        """One lane: make its artifacts, each as soon as what it stands on is there."""
        try:
            for artifact in todo:
                self._wait_for(artifact)
                self._make(artifact)
                self._done[artifact.name].set()
        except CancelledError:
            pass
        except BaseException as problem:  # handed over to the thread that waits for the lanes
            self._failures.append(problem)
            self._cancelled.set()
        finally:
            end.set()

    def _wait_for(self, artifact: Artifact) -> None:
        for name in (*artifact.needs, *artifact.aids):
            while name in self._done and not self._done[name].wait(_POLL_SECONDS):
                if self._cancelled.is_set():
                    raise CancelledError(artifact.name)
        if self._cancelled.is_set():
            raise CancelledError(artifact.name)

    def _make(self, artifact: Artifact) -> None:
        with (
            self._progress.step(artifact.name, artifact.seconds),
            self._store.making(
                artifact.name, self._stamps[artifact.name], waiting=self._waiting(artifact.name)
            ) as making,
        ):
            if making is None:  # another process has made it meanwhile
                return
            found = artifact.on_path()
            if found:
                record_origin(making.folder, found)
                self._progress.say(f"  {artifact.name}: {found[0]} is the pinned version")
                return
            needs = (*artifact.needs, *artifact.aids)
            job = self._job(artifact.name, making.folder, making.lock, needs)
            try:
                artifact.make(job)
            except OSError as problem:  # a full disk, for one, where no command says so
                raise job.failed(str(problem)) from problem

    def _waiting(self, name: str) -> Callable[[], None]:
        """What is called again and again while another process holds the lock of `name`."""
        said = False

        def call() -> None:
            nonlocal said
            if self._cancelled.is_set():
                raise CancelledError(name)
            if not said:
                self._progress.say(f"  {name}: {holder(self._store.lock(name))} is at it; waiting for it")
            said = True

        return call

    def _install(self, packages: list[str]) -> None:
        self._progress.say("  Debian packages to install: " + " ".join(packages))
        name = "debian-packages"
        with self._progress.step(name, 60), self._store.locked(name, waiting=self._waiting(name)):
            # It fills no folder, as what is installed is for dpkg to know; and the lock is not handed down, as
            # a service that an installation starts would hold it for good.
            debian.install_packages(self._job(name, self._store.root, None), packages)

    def _job(self, name: str, folder: Path, lock: int | None, needs: Iterable[str] = ()) -> Job:
        log = self._store.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        return Job(
            name=name,
            folder=folder,
            needs={need: self.folder(need) for need in needs},
            log=log,
            downloads=self._store.root / "downloads",
            lock=lock,
            cancelled=self._cancelled,
        )

    def folder(self, name: str) -> Path:
        """Where an artifact is, or would be."""
        return self._store.path(name, self._stamps[name])


def expected_seconds(todo: Iterable[Artifact]) -> int:
    """How long the slowest lane takes from nothing."""
    lanes: dict[str, int] = {}
    for artifact in todo:
        lanes[artifact.lane] = lanes.get(artifact.lane, 0) + artifact.seconds
    return max(lanes.values(), default=0)
