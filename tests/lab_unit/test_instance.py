"""What of an instance's life needs no namespace: who it gives way to, what it keeps, what it takes back."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import instance as lab_instance
from lab.instance import Instance, Subnets, locked
from lab.toolchain.store import StoreBusyError


class Host:
    """A host whose namespaces are sleeping processes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.connected: list[int] = []
        self.spawning, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.inotify = folder / "max_user_instances"
        self.inotify.write_text("128")
        self.networks: list[str] = []
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setattr(lab_instance, "INOTIFY_INSTANCES", self.inotify)
        monkeypatch.setattr(lab_instance, "run", lambda _: json.dumps([{"dst": network} for network in self.networks]))
        for name in ("_make_cgroups", "_remove_cgroups"):
            monkeypatch.setattr(Instance, name, lambda _: None)
        monkeypatch.setattr(Instance, "_spawn_init", lambda _instance, _subnets: self.spawn())
        monkeypatch.setattr(Instance, "_connect_host", lambda _instance, subnets, _pid: self.connect(subnets))

    def spawn(self) -> int:
        self.spawning.set()
        assert self.go_on.wait(10)
        self.processes.append(subprocess.Popen(["sleep", "60"]))
        return self.processes[-1].pid

    def connect(self, subnets: Subnets) -> None:
        self.connected.append(subnets.slot)

    def crash(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:
    host = Host(monkeypatch, tmp_path)
    yield host
    host.crash()


def test_of_two_starts_at_once_the_second_finds_the_first_ones_instance(host: Host, tmp_path: Path) -> None:
    host.go_on.clear()
    starts = [threading.Thread(target=Instance("dev", tmp_path / "lab").start_namespaces, args=("",)) for _ in range(2)]
    starts[0].start()
    assert host.spawning.wait(10)
    starts[1].start()
    starts[1].join(0.2)  # into the lock
    host.go_on.set()
    for start in starts:
        start.join(10)
    assert len(host.processes) == 1
    assert Instance("dev", tmp_path / "lab").init_pid == host.processes[0].pid


def test_who_waits_for_a_lock_is_told_so_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lab_instance, "LOCK_QUIET_SECONDS", 0)
    monkeypatch.setattr(lab_instance, "LOCK_SECONDS", 0.2)
    with locked(tmp_path / "lock"), pytest.raises(StoreBusyError, match="held by another process"):  # noqa: SIM117
        with locked(tmp_path / "lock"):
            pass
    assert capsys.readouterr().err == f"waiting for another process, which holds {tmp_path / 'lock'}\n"
