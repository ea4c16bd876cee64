"""An instance of the embedded environment comes, stays, is repaired and goes without a trace."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab import toolchain
from lab.__main__ import environment, start
from lab.cluster import wait_for
from lab.instance import CGROUP_ROOT, INOTIFY_INSTANCES, Instance, LabError, process_start, run
from lab.machines import Machine

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def tools() -> toolchain.Toolset:
    return toolchain.installed()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    """An instance that is not running, in a home of its own."""
    instance = Instance("scratch", tmp_path / "lab")
    yield instance
    instance.remove()


def host_traces() -> dict[str, object]:
    """What an instance could leave on the host, in a form that two looks can be compared by."""
    cgroups = sorted(str(path) for path in CGROUP_ROOT.glob("*/hmlab-scratch-*")) + sorted(
        str(path) for path in CGROUP_ROOT.glob("hmlab-scratch-*")
    )
    return {
        "interfaces": sorted(link["ifname"] for link in json.loads(run(["ip", "-json", "link"]))),
        "routes": sorted(run(["ip", "route", "show", "table", "all"]).splitlines()),
        "mounts": sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "iptables": [line for line in run(["iptables-save"]).splitlines() if not line.startswith("#")],
        "cgroups": cgroups,
        "network namespaces": run(["ip", "netns", "list"]),
        "inotify": INOTIFY_INSTANCES.read_text(),
    }


def user_files() -> dict[str, str | None]:
    """Files that belong to the user and not to the environment."""
    paths = [Path("/etc/hosts"), Path("/etc/resolv.conf"), Path.home() / ".kube" / "config"]
    paths += sorted((Path.home() / ".pulumi").rglob("*")) + [Path.home() / ".ssh" / "known_hosts"]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


def programs(instance: Instance) -> dict[str, int]:
    return {info["name"]: info["pid"] for info in instance.supervisor.getAllProcessInfo()}


def test_down_leaves_nothing_and_nothing_of_the_users_is_touched(instance: Instance, tools: toolchain.Toolset) -> None:
    traces, files = host_traces(), user_files()
    start(instance, ["vm-1"], tools)
    init = instance.require_running()
    inside = instance.run(["ps", "-e", "-o", "pid="]).split()
    assert len(inside) > 15
    assert host_traces() != traces
    instance.remove()
    assert process_start(init) is None
    assert host_traces() == traces
    assert user_files() == files
    assert not instance.folder.exists()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(instance.folder).encode() not in entry.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_a_second_up_changes_nothing(instance: Instance, tools: toolchain.Toolset) -> None:
    start(instance, ["vm-1"], tools)
    before, guest = (
        programs(instance),
        Machine(instance, "vm-1").ssh(["cat", "/proc/sys/kernel/random/boot_id", "/etc/machine-id"]),
    )
    files = {path: path.stat().st_mtime_ns for path in sorted((instance.folder / "pki").iterdir())}
    start(instance, ["vm-1"], tools)
    assert programs(instance) == before
    assert Machine(instance, "vm-1").ssh(["cat", "/proc/sys/kernel/random/boot_id", "/etc/machine-id"]) == guest
    assert {path: path.stat().st_mtime_ns for path in sorted((instance.folder / "pki").iterdir())} == files


@pytest.mark.full
def test_up_repairs_an_instance_whose_processes_were_all_killed(instance: Instance, tools: toolchain.Toolset) -> None:
    traces = host_traces()
    start(instance, ["vm-1", "vm-2@cutoff"], tools)
    slot = instance.subnets.slot
    for name in ("vm-1", "vm-2"):
        Machine(instance, name).ssh(["touch /root/kept"])
    os.kill(instance.require_running(), signal.SIGKILL)
    wait_for("the end of the instance", lambda: not instance.running, 20)
    start(instance, ["vm-1"], tools)
    assert instance.subnets.slot == slot
    for name in ("vm-1", "vm-2"):
        assert Machine(instance, name).ssh(["ls /root"]).split() == ["kept"]
    instance.remove()
    assert host_traces() == traces


@pytest.mark.full
def test_two_ups_at_once_make_one_instance(instance: Instance, tools: toolchain.Toolset) -> None:
    again = Instance(instance.name, instance.home)
    with ThreadPoolExecutor() as pool:
        for up in [pool.submit(start, one, ["vm-1"], tools) for one in (instance, again)]:
            up.result()
    assert Machine(instance, "vm-1").ssh(["hostname"]).strip() == "vm-1"
    assert len(instance._orphans()) == 1, "the one that runs"


def test_up_connects_the_host_again(instance: Instance, tools: toolchain.Toolset) -> None:
    start(instance, ["vm-1"], tools)
    run(["ip", "link", "delete", instance.host_interface])
    start(instance, ["vm-1"], tools)
    assert Machine(instance, "vm-1").ssh(["hostname"]).strip() == "vm-1"


@pytest.mark.full
def test_up_ends_a_first_process_that_a_cut_off_up_did_not_write_down(
    instance: Instance, tools: toolchain.Toolset
) -> None:
    start(instance, [], tools)
    lost = instance.require_running()
    (instance.folder / "instance.json").unlink()
    start(instance, [], tools)
    assert process_start(lost) is None
    assert instance.running


@pytest.mark.full
def test_a_part_that_dies_is_started_again(instance: Instance, tools: toolchain.Toolset) -> None:
    start(instance, [], tools)
    before = programs(instance)["kube-scheduler"]
    instance.supervisor.signalProcess("kube-scheduler", "KILL")
    start(instance, [], tools)
    after = programs(instance)["kube-scheduler"]
    assert after not in (0, before)


def test_two_instances_live_side_by_side(instance: Instance, tools: toolchain.Toolset, tmp_path: Path) -> None:
    other = Instance("other", tmp_path / "lab")
    try:
        start(instance, ["vm-1"], tools)
        start(other, ["vm-1"], tools)
        assert not instance.subnets.all.overlaps(other.subnets.all)
        for one in (instance, other):
            assert Machine(one, "vm-1").ssh(["hostname", "-I"]).split()[0] == Machine(one, "vm-1").address
        other.remove()
        assert Machine(instance, "vm-1").ssh(["hostname"]).strip() == "vm-1"
    finally:
        other.remove()


def test_the_printed_environment_is_all_that_plain_tools_need(
    instance: Instance, tools: toolchain.Toolset, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    for name, address in proxy.items():
        monkeypatch.setenv(name, address)
    start(instance, [], tools)
    shell = {"HOME": os.environ["HOME"], **proxy, **environment(instance, tools)}
    node = subprocess.run(
        ["kubectl", "get", "nodes", "-o", "name"], env=shell, capture_output=True, text=True, check=True, timeout=30
    )
    assert node.stdout.strip() == "node/node"
    backend = subprocess.run(
        ["pulumi", "stack", "ls", "--all", "--json"], env=shell, capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(backend.stdout) == []
    assert os.access(shell["HYBRID_MESH_POLICY_PACK"], os.X_OK)  # the CLI starts no other here (docs/policy.md)


@pytest.fixture(scope="module")
def running(tools: toolchain.Toolset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    instance = Instance("machines", tmp_path_factory.mktemp("machines") / "lab")
    start(instance, ["vm-1", "vm-2"], tools)
    yield instance
    instance.remove()


class TestMachines:
    def test_reboot_keeps_files_and_starts_anew(self, running: Instance) -> None:
        machine = Machine(running, "vm-1")
        before = machine.ssh(["touch /root/kept; systemctl show --property=UserspaceTimestampMonotonic --value"])
        machine.reboot()
        assert machine.ssh(["ls /root"]).split() == ["kept"]
        assert machine.ssh(["systemctl show --property=UserspaceTimestampMonotonic --value"]) != before

    def test_kill_leaves_it_off_until_it_is_started(self, running: Instance) -> None:
        machine = Machine(running, "vm-1")
        machine.kill()
        assert machine.state() == "off"
        machine.start()
        assert machine.ssh(["hostname"]).strip() == "vm-1"

    def test_stopping_a_service_in_one_machine_leaves_the_other_alone(self, running: Instance) -> None:
        Machine(running, "vm-1").ssh(["systemctl stop echo"])
        assert Machine(running, "vm-2").ssh(["systemctl is-active echo"]).strip() == "active"
        Machine(running, "vm-1").ssh(["systemctl start echo"])

    def test_create_is_idempotent_and_delete_leaves_no_file(self, running: Instance, tools: toolchain.Toolset) -> None:
        machine = Machine(running, "vm-3")
        machine.create(tools)
        facts = machine.facts()
        machine.create(tools)
        assert machine.facts() == facts
        machine.delete()
        machine.delete()
        assert not machine.folder.exists()
        assert "vm-3" not in (running.folder / "ssh" / "known_hosts").read_text()

    def test_its_resolver_knows_machines_and_not_the_cluster(self, running: Instance) -> None:
        machine = Machine(running, "vm-1")
        assert machine.ssh(["getent hosts vm-2.lab.internal"]).split()[0] == Machine(running, "vm-2").address
        with pytest.raises(LabError):
            machine.ssh(["getent hosts kubernetes.default.svc.cluster.local"])

    def test_an_unknown_machine_is_named_with_those_that_exist(self, running: Instance) -> None:
        with pytest.raises(LabError, match=r"no machine vm-9 .*vm-1, vm-2"):
            Machine(running, "vm-9").start()
