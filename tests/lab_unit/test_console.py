"""What the console and the Makefile's verbs do before anything of the environment runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from lab import __main__ as console
from lab import instance as lab_instance
from lab.cloud import Template
from lab.cluster import Cluster
from lab.instance import Instance, Subnets
from lab.machines import Machine, Network, write_user_key
from lab.toolchain import Toolset
from lab.traffic import in_pod
from tests.environment import as_root

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("verb", ["preview", "destroy"])
def test_a_verb_on_the_environment_runs_nothing_where_there_is_none(verb: str, tmp_path: Path) -> None:
    called = tmp_path / "called"
    for name in ("pulumi", "python"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$0" >>{called}\n')
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["make", verb, f"PYTHON={sys.executable}"],
        cwd=PROJECT,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not called.exists()
    assert done.returncode != 0
    assert "not built yet" in done.stderr


def noted(folder: Path) -> Instance:
    """An instance with a slot, that does not run."""
    instance = Instance("dev", folder)
    for part in ("config", "machines", "programs", "log"):
        (instance.folder / part).mkdir(parents=True)
    state = {"slot": 5, "init_pid": 2**22 + 1, "init_start": 1, "inotify_before": 128}
    (instance.folder / "instance.json").write_text(json.dumps(state))
    return instance


@as_root
@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="makes keys by ssh-keygen")
def test_files_are_as_readable_as_they_must_be_whatever_the_users_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = noted(tmp_path)

    def make() -> None:
        write_user_key(instance)
        Machine(instance, "vm-1")._prepare(Network.FLAT)
        Cluster(instance, Toolset({}, tmp_path))._write_pki(Subnets(5))

    monkeypatch.setattr(console, "app", make)
    before = os.umask(0o077)
    try:
        console.main()
    finally:
        os.umask(before)
    upper = instance.folder / "machines" / "vm-1" / "upper"
    modes = {str(path.relative_to(upper)): path.stat().st_mode & 0o777 for path in (upper, *upper.rglob("*"))}
    private = {name for name, mode in modes.items() if not mode & 0o004}
    assert private == {
        "root",
        "root/.ssh",
        "root/.ssh/authorized_keys",
        "home/admin/.ssh",
        "home/admin/.ssh/authorized_keys",
        "etc/ssh/ssh_host_ed25519_key",
    }
    assert modes["etc/systemd/network"] == 0o755
    keys = [
        instance.folder / "ssh" / "id_ed25519",
        *instance.folder.rglob("*.key"),
        *instance.folder.rglob("*kubeconfig"),
    ]
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


PROXY = "http://127.0.0.1:9"


def test_what_talks_to_an_instance_passes_a_proxy_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, PROXY)
    instance = noted(tmp_path)
    cluster = Cluster(instance, Toolset({}, tmp_path))
    cluster._write_pki(Subnets(5))
    assert cluster.api().configuration.proxy is None

    (tmp_path / "kubectl").write_text("#!/bin/sh\nenv\n")
    (tmp_path / "kubectl").chmod(0o755)
    assert PROXY not in in_pod(instance, cluster.tools, "deploy/client", "demo")(["true"])

    seen: list[str] = []

    def popen(*_: object, env: dict[str, str], **__: object) -> None:
        seen.extend(env.values())
        raise InterruptedError

    monkeypatch.setattr("lab.instance.subprocess.Popen", popen)
    with pytest.raises(InterruptedError):
        instance._spawn_init(Subnets(5))
    assert seen
    assert PROXY not in seen


def test_a_shell_passes_its_proxy_by_for_the_instances_network_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "localhost,.example.org")
    instance, tools = noted(tmp_path), Toolset({}, tmp_path)
    shell = console.environment(instance, tools)
    assert shell["NO_PROXY"] == shell["no_proxy"] == "localhost,.example.org,10.69.0.0/16"
    monkeypatch.setenv("NO_PROXY", shell["NO_PROXY"])
    assert console.environment(instance, tools)["NO_PROXY"] == shell["NO_PROXY"]
    assert "NO_PROXY" not in console.environment(Instance("other", tmp_path), tools)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[object, ...]]:
    """What each machine was made as, of a crashed instance that had three, on a host where all goes well."""
    instance, made = noted(tmp_path), {}
    template = Template({}, "a@example.org", ())
    for name, address, release in (
        ("vm-1", "10.69.34.1", "rpm"),
        ("vm-2", "10.69.33.1", "bookworm"),
        ("cloud-1", "10.69.2.2", "bookworm"),
    ):
        folder = instance.folder / "machines" / name
        folder.mkdir()
        (folder / "address").write_text(address)
        (folder / "release").write_text(release)
        if name == "cloud-1":
            template.write(folder)

    def create(machine: Machine, _tools: object, *how: object) -> None:
        made[machine.name] = how

    monkeypatch.setattr(Machine, "create", create)
    monkeypatch.setattr(console.context, "instance", instance, raising=False)
    monkeypatch.setattr("lab.toolchain.build", lambda *_: Toolset({}, tmp_path))
    for name in ("write_programs", "load_images", "wait_for_api", "wait_for_node"):
        monkeypatch.setattr(Cluster, name, lambda _: None)
    monkeypatch.setattr(console, "start_programs", lambda _: None)
    monkeypatch.setattr(Instance, "start_namespaces", lambda _instance, _config: None)
    monkeypatch.setattr(Instance, "remove", lambda _: None)
    return made


AS_BEFORE = {
    "vm-1": (Network.CUTOFF, None, "rpm"),
    "vm-2": (Network.EDGE, None, "bookworm"),
    "cloud-1": (Network.FLAT, Template({}, "a@example.org", ()), "bookworm"),
}


@pytest.mark.parametrize("verb", [lambda: console.up(None), console.reset])
def test_after_a_crash_and_by_a_reset_every_machine_comes_back_as_it_was(
    made: dict[str, tuple[object, ...]], verb: Callable[[], None]
) -> None:
    verb()
    assert made == AS_BEFORE


def test_of_two_starts_at_once_the_second_waits_for_all_that_the_first_builds(
    made: dict[str, tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, overlaps = threading.Lock(), []

    def write(_: Cluster) -> None:
        overlaps.append(not writing.acquire(blocking=False))
        time.sleep(0.2)
        writing.release()

    monkeypatch.setattr(Cluster, "write_programs", write)
    monkeypatch.setattr(lab_instance, "LOCK_SECONDS", 0.05)
    starts = [threading.Thread(target=console.up, args=(["vm-1"],)) for _ in range(2)]
    for start in starts:
        start.start()
    for start in starts:
        start.join(20)
    assert overlaps == [False, False]
    assert "vm-1" in made


def test_an_up_of_what_runs_leaves_machines_off_that_it_was_not_told_of(
    made: dict[str, tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    console.up(["vm-1"])
    assert len(made) > 1
    made.clear()
    monkeypatch.setattr(Instance, "running", True)
    console.up(["vm-1"])
    assert list(made) == ["vm-1"]


def test_after_a_start_that_was_cut_off_an_up_starts_all_machines(
    made: dict[str, tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(_: Cluster) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as first:
        first.setattr(Cluster, "write_programs", cut_off)
        with pytest.raises(KeyboardInterrupt):
            console.up(["vm-1"])
    monkeypatch.setattr(Instance, "running", True)
    console.up(["vm-1"])
    assert set(made) == {"cloud-1", "vm-1", "vm-2"}


@pytest.mark.parametrize(
    "problem", [subprocess.TimeoutExpired(["ip", "link"], 60), xmlrpc.client.Fault(50, "SPAWN_ERROR: etcd")]
)
def test_a_failure_of_what_it_runs_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], problem: Exception
) -> None:
    def fail() -> None:
        raise problem

    monkeypatch.setattr(console, "app", fail)
    monkeypatch.setattr(console, "err", Console(stderr=True, soft_wrap=True))
    with pytest.raises(SystemExit):
        console.main()
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "link" in said or "SPAWN_ERROR" in said


def test_an_arrow_is_no_failure_on_a_terminal_that_knows_none() -> None:
    code = "from lab import __main__ as console; console.app = lambda: print('pod \\u2192 vm'); console.main()"
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert said.stdout == b"pod ? vm\n"
