"""What of an instance's life needs no namespace: who it gives way to, what it keeps, what it takes back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import instance as lab_instance
from lab.instance import Instance, LabError, Subnets, locked
from lab.toolchain.store import StoreBusyError, holder
from tests.environment import needs_namespaces

PROJECT = Path(__file__).resolve().parents[2]


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
        self.commands: list[list[str]] = []
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setattr(lab_instance, "INOTIFY_INSTANCES", self.inotify)
        monkeypatch.setattr(lab_instance, "INTERFACES", folder / "net")
        monkeypatch.setattr(lab_instance, "run", self.run)
        for name in ("_make_cgroups", "_remove_cgroups"):
            monkeypatch.setattr(Instance, name, lambda _: None)
        monkeypatch.setattr(Instance, "_spawn_init", lambda _instance, _subnets: self.spawn())
        monkeypatch.setattr(Instance, "_connect_host", lambda _instance, subnets, _pid: self.connect(subnets))

    def run(self, command: list[str]) -> str:
        if "route" in command:
            return json.dumps([{"dst": network, "dev": "eth0"} for network in self.networks])
        self.commands.append(command)
        return ""

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

    def reap_when_killed(self) -> None:
        for process in self.processes:
            threading.Thread(target=process.wait).start()


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
    program = (
        "import time; from pathlib import Path; from lab.instance import locked\n"
        f"with locked(Path({str(tmp_path / 'lock')!r})): print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, stdout=subprocess.PIPE) as holding:
        assert holding.stdout
        holding.stdout.readline()
        with pytest.raises(StoreBusyError, match=f"held by process {holding.pid} \\("), locked(tmp_path / "lock"):
            pass
        said = capsys.readouterr().err
        holding.kill()
    assert said.startswith(f"waiting for process {holding.pid} ({sys.executable} -c import time; ")
    assert said.endswith(f"), which holds {tmp_path / 'lock'}\n")
    with locked(tmp_path / "lock"):
        assert holder(tmp_path / "lock").startswith(f"process {os.getpid()} (")


def noted(folder: Path, slot: int, inotify_before: int = 128) -> Instance:
    """An instance that does not run, as a crash leaves it."""
    instance = Instance(folder.name, folder.parent)
    folder.mkdir(parents=True)
    state = {"slot": slot, "init_pid": 2**22 + 1, "init_start": 1, "inotify_before": inotify_before}
    (folder / "instance.json").write_text(json.dumps(state))
    return instance


def test_an_instance_whose_network_is_taken_is_not_started_and_not_lost(host: Host, tmp_path: Path) -> None:
    instance = noted(tmp_path / "lab" / "dev", 0)
    (instance.folder / "kept").touch()
    host.networks = ["10.64.0.0/20"]
    with pytest.raises(LabError, match=r"made for 10\.64\.0\.0/16, which the route to 10\.64\.0\.0/20 .* -i dev reset"):
        instance.start_namespaces("")
    assert (instance.folder / "kept").exists()
    host.networks = []
    instance.start_namespaces("")
    assert (instance.folder / "kept").exists()
    assert instance.slot == 0


def test_a_slot_that_another_clones_instance_keeps_is_left_to_it_until_that_clone_is_gone(
    host: Host, tmp_path: Path
) -> None:
    first = Instance("dev", tmp_path / "clone-1" / ".lab")
    first.start_namespaces("")
    host.crash()
    second = Instance("dev", tmp_path / "clone-2" / ".lab")
    second.start_namespaces("")
    assert (first.slot, second.slot) == (0, 1)
    shutil.rmtree(tmp_path / "clone-1")
    third = Instance("dev", tmp_path / "clone-3" / ".lab")
    third.start_namespaces("")
    assert third.slot == 0


def test_an_interface_of_the_same_name_that_is_another_clones_stays(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interfaces = tmp_path / "net"
    (interfaces / "hmlab3").mkdir(parents=True)
    monkeypatch.setattr(lab_instance, "INTERFACES", interfaces)
    instance = noted(tmp_path / "lab" / "dev", 3)
    (interfaces / "hmlab3" / "ifalias").write_text("hmlab-dev-0a1b2c\n")
    instance.clean_leftovers()
    assert host.commands == []
    (interfaces / "hmlab3" / "ifalias").write_text(f"{instance.id}\n")
    instance.clean_leftovers()
    assert host.commands == [["ip", "link", "delete", "hmlab3"]]


def test_a_start_that_was_cut_off_before_the_host_was_connected_is_made_up_for(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_subnets: Subnets) -> None:
        raise KeyboardInterrupt

    instance = Instance("dev", tmp_path / "lab")
    with monkeypatch.context() as cut_off:
        cut_off.setattr(host, "connect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            instance.start_namespaces("")
    instance.start_namespaces("")
    assert (len(host.processes), host.connected) == (1, [0])


@needs_namespaces
def test_the_host_is_connected_as_far_as_it_is_not_yet(tmp_path: Path) -> None:
    """In a network namespace in the host's place, with a second one in the instance's."""
    program = """
import subprocess, sys
from pathlib import Path
from lab import instance as lab_instance
from lab.instance import Instance, Subnets, run

host = "hmlab7"
instance, subnets = Instance("dev", Path(sys.argv[1])), Subnets(7)
Instance.host_interface = host
bridge = "ip link add br0 type bridge; echo; exec sleep 60"
first = subprocess.Popen(["unshare", "--net", "sh", "-c", bridge], stdout=subprocess.PIPE)
first.stdout.readline()
Instance.run = lambda self, command: run(["nsenter", f"--target={first.pid}", "--net", *command])
try:
    run(["ip", "link", "add", host, "type", "veth", "peer", "name", "host0", "netns", str(first.pid)])
    for _ in range(2):
        instance._connect_host(subnets, first.pid)
    assert Path(f"/sys/class/net/{host}/ifalias").read_text().strip() == instance.id
    assert "master br0" in instance.run(["ip", "link", "show", "host0"])
    print(run(["ip", "route"]))
finally:
    first.kill()
"""
    inside = ["unshare", "--net", "--mount", "sh", "-c", 'mount -t sysfs sysfs /sys && exec "$@"', "-"]
    command = [*inside, sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.split("\n") if "hmlab7" in line] == [
        "10.71.0.0/20",
        "10.71.32.0/20",
        "10.71.64.0/18",
        "10.71.128.0/17",
    ]


def test_a_limit_of_the_host_is_taken_back_after_a_crash_too(host: Host, tmp_path: Path) -> None:
    instance = Instance("dev", tmp_path / "lab")
    instance.start_namespaces("")
    assert host.inotify.read_text() == "1024"
    host.crash()
    instance.start_namespaces("")
    host.reap_when_killed()
    instance.remove()
    assert host.inotify.read_text() == "128"


@pytest.mark.usefixtures("host")
def test_a_limit_of_the_host_is_noted_by_each_clones_instance_as_the_first_found_it(tmp_path: Path) -> None:
    instances = [Instance("dev", tmp_path / clone / ".lab") for clone in ("clone-1", "clone-2")]
    for instance in instances:
        instance.start_namespaces("")
    assert [instance.state.inotify_before for instance in instances if instance.state] == [128, 128]


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Instance:
    """An instance whose init.sh never becomes supervisord."""
    init = tmp_path / "init.sh"
    init.write_text("sleep 60\nexit 1\n")
    monkeypatch.setattr(lab_instance, "INIT", init)
    monkeypatch.setattr(lab_instance, "SPAWN_SECONDS", 0.5)
    instance = Instance("dev", tmp_path / "lab")
    (instance.folder / "log").mkdir(parents=True)
    return instance


def inits(instance: Instance) -> list[str]:
    """PIDs of what runs this instance's init.sh, `unshare` included."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if bytes(lab_instance.INIT) in arguments and bytes(instance.folder) in arguments:
                found.append(entry.name)
    return found


@needs_namespaces
def test_a_first_process_that_does_not_come_up_is_not_left_behind(hanging: Instance) -> None:
    with pytest.raises(LabError, match="could not be made"):
        hanging._spawn_init(Subnets(5))
    deadline = time.monotonic() + 10
    while inits(hanging):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@needs_namespaces
def test_a_cleaning_ends_a_lost_first_process_and_nothing_else_that_names_its_files(
    hanging: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Instance, "_remove_cgroups", lambda _: None)
    config = hanging.folder / "supervisord.conf"
    config.touch()
    namespace = ["unshare", "--pid", "--fork"]
    lost = subprocess.Popen([*namespace, "sh", str(lab_instance.INIT), str(hanging.folder)])
    supervisord = 'import sys, time; print("", flush=True); time.sleep(60)'
    lost_later = subprocess.Popen(
        [*namespace, sys.executable, "-c", supervisord, "supervisor.supervisord", str(config)], stdout=subprocess.PIPE
    )
    reader = subprocess.Popen(["tail", "-f", str(config)], stdout=subprocess.DEVNULL)
    try:
        assert lost_later.stdout
        lost_later.stdout.readline()
        deadline = time.monotonic() + 10
        while len(inits(hanging)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        hanging.clean_leftovers()
        lost.wait(10)
        lost_later.wait(10)
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait(0.2)
    finally:
        reader.kill()
        reader.wait()


def test_a_restart_starts_no_program_that_an_earlier_start_wrote(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = noted(tmp_path / "lab" / "dev", 0)
    programs = instance.folder / "programs"
    programs.mkdir()
    for name in ("etcd.conf", "cloud.conf", "machine-vm-1.conf"):
        (programs / name).touch()
    at_start: list[str] = []
    spawn = host.spawn

    def spawn_and_look() -> int:
        at_start.extend(path.name for path in programs.iterdir())
        return spawn()

    monkeypatch.setattr(host, "spawn", spawn_and_look)
    instance.start_namespaces("")
    assert at_start == ["machine-vm-1.conf"]
