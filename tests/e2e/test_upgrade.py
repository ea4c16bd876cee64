"""A new version of the sidecar, and one that does not start, as docs/upgrades.md says it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime

import pytest

from lab import packages
from lab.cluster import wait_for
from lab.instance import PROJECT_ROOT
from lab.machines import Machine
from tests.e2e.load import Load, Request
from tests.e2e.machine import Running, running
from tests.e2e.mesh import objects
from tests.e2e.stack import PulumiError, Stack
from tests.environment import Lab

pytestmark = pytest.mark.lab

MACHINES = ("vm-1", "vm-2")
THIRD = "vm-3"
LOG = "/var/log/hybrid-mesh.log"
VERSION = "dpkg-query -W -f '${Version}' istio-sidecar"
WHAT_RUNS = (
    "cd / && { find var/lib/hybrid-mesh/scripts -type f; echo var/lib/hybrid-mesh/generation; "
    "dpkg-query -L istio-sidecar | sed 's,^/,,'; echo etc/istio/config/mesh; echo var/lib/istio/envoy/cluster.env; "
    "ls etc/systemd/system/hybrid-mesh-*.service etc/systemd/system/istio.service.d/*; } | "
    'while read -r file; do if [ -f "$file" ]; then sha256sum "$file"; fi; done; '
    "sed -n '/^# BEGIN/,/^# END/p' etc/hosts; "
    "stat -c '%a %U %n' var/lib/istio/envoy etc/istio/config"
)
"""All that makes a version: package, bootstrap, scripts, units, hosts block, and whose the folders are."""
OUTAGE_SECONDS = 60


@dataclass(frozen=True)
class Window:
    """When a machine was without its proxy, by its own log, in whole seconds."""

    start: float
    end: float

    def has(self, request: Request) -> bool:
        return request.began <= self.end + 1 and request.ended >= self.start


def steps(machine: Machine, script: str, since: float) -> list[tuple[float, str]]:
    """When a script took which step."""
    found = re.findall(rf"(?m)^(\S+) {script}: step: ([a-z]+)", machine.look(["cat", LOG]))
    times = [(datetime.fromisoformat(time_).timestamp(), step) for time_, step in found]
    return [(at, step) for at, step in times if at >= int(since)]


def without_proxy(machine: Machine, since: float) -> Window:
    found = steps(machine, "switch.sh", since)
    start = next(at for at, step in found if step == "stop")
    return Window(start, next(at for at, step in found if at >= start and step == "end"))


def turn(machine: Machine, since: float) -> Window:
    """From when it was given its turn until it gave it back, but for what istiod had still to see."""
    found = steps(machine, "switch.sh", since)
    return Window(found[0][0], found[-1][0])


@pytest.fixture(scope="module")
def up(lab: Lab, stack: Stack) -> Iterator[Stack]:
    """The stack as committed, but that only VMs answer: what one cannot, the other must. Versions pile up."""
    stack.restore()
    only_machines(stack)
    stack.up()
    committed = versions(lab)
    yield stack
    stack.restore()
    if versions(lab) != committed:
        # Nobody is listening: the way back need not be unnoticed.
        stack.change("sidecar.upgrade.cutOffSeconds", 0)
        stack.up()
        stack.restore()
    stack.up()


def only_machines(stack: Stack) -> None:
    stack.change("routing.echo.weights", {"k8s": 0, "vm": 100})


def third(lab: Lab) -> dict[str, object]:
    """Another VM of the workload: never are all of one restarted at once."""
    key = (lab.instance.folder / "ssh" / "id_ed25519").relative_to(PROJECT_ROOT)
    made = {verb: f"python -m lab machine {verb} {THIRD}" for verb in ("create", "delete")}
    return {"command": {**made, "privateKeyFile": str(key)}}


def install(lab: Lab, stack: Stack, version: str, *, broken: bool = False) -> None:
    stack.change("sidecar.package", asdict(packages.make(lab.instance, version, broken=broken)))


@contextlib.contextmanager
def everywhere(lab: Lab) -> Iterator[dict[str, Load]]:
    """A load from the pod and from each machine."""
    with contextlib.ExitStack() as stack:
        loads = {name: Load(lab, machine=lab.machine(name)) for name in MACHINES}
        yield {who: stack.enter_context(load) for who, load in {"": Load(lab), **loads}.items()}


def failed(load: Load) -> list[Request]:
    return [request for request in load.requests if request.status != 200]


def restarts(lab: Lab, before: dict[str, Running]) -> set[str]:
    return {name for name in MACHINES if running(lab.machine(name)).agent != before[name].agent}


def seen(lab: Lab) -> dict[str, Running]:
    return {name: running(lab.machine(name)) for name in MACHINES}


def versions(lab: Lab) -> set[str]:
    return {lab.machine(name).look(["sh", "-c", VERSION]) for name in MACHINES}


def what_runs(lab: Lab) -> dict[str, str]:
    return {name: lab.machine(name).look(["sh", "-c", WHAT_RUNS]) for name in MACHINES}


def test_a_version_that_does_not_start_stops_the_roll_and_is_put_back_and_no_request_fails(lab: Lab, up: Stack) -> None:
    since, before, kept = time.time(), seen(lab), what_runs(lab)
    install(lab, up, "1.31.2", broken=True)
    with everywhere(lab) as loads, pytest.raises(PulumiError) as refused:
        up.up()
    (rolled,) = restarts(lab, before)
    order = [step for _, step in steps(lab.machine(rolled), "switch.sh", since)]
    assert order[:6] == ["keep", "rotation", "drain", "stop", "start", "ready"]
    assert order[6:] == ["back", "package", "files", "start", "ready", "end"]
    assert len(loads[""].requests) > 300
    window = without_proxy(lab.machine(rolled), since)
    for who, load in loads.items():
        bad = failed(load)
        assert [request for request in bad if who != rolled or not window.has(request)] == [], f"from {who or 'a pod'}"
    said = str(refused.value)
    why = "the proxy ends by itself, again and again"
    assert f"FAILED on {rolled} at step switch: ready: {why}; rolled back: istio-sidecar" in said
    assert "while the new version ran" in said
    assert "broken on purpose" in said, said
    assert "remedy: " in said
    assert what_runs(lab) == kept, "package, bootstrap and scripts of one version"
    addresses = {entry["spec"]["address"] for entry in objects(lab, "workloadentries").values()}
    assert lab.machine(rolled).address in addresses, "and it is in the mesh"


@pytest.mark.full
def test_a_new_version_rolls_one_by_one_and_no_request_fails(lab: Lab, up: Stack) -> None:
    install(lab, up, "1.31.1")
    since, before = time.time(), seen(lab)
    with everywhere(lab) as loads:
        mine = {name: running(lab.machine(name)).connections for name in MACHINES}
        up.up()
        time.sleep(1)
        for name in MACHINES:
            assert running(lab.machine(name)).connections - mine[name] <= 3
    assert restarts(lab, before) == set(MACHINES)
    assert versions(lab) == {"1.31.1"}
    windows = {name: without_proxy(lab.machine(name), since) for name in MACHINES}
    (first, second) = sorted(windows.values(), key=lambda window: window.start)
    assert first.end <= second.start, "one at a time"
    assert len(loads[""].requests) > 300
    assert failed(loads[""]) == [], "from a pod"
    for name in MACHINES:
        order = [step for _, step in steps(lab.machine(name), "switch.sh", since)]
        assert order == ["keep", "rotation", "drain", "stop", "start", "ready", "end"]
        bad, window = failed(loads[name]), windows[name]
        assert [request for request in bad if not window.has(request)] == [], f"from {name}, while it is not rolled"
        out = max((r.ended for r in bad), default=0) - min((r.began for r in bad), default=0)
        print(
            f"{name}: {window.end - window.start:.0f} s without its proxy; its app's requests failed for {out:.1f} s "
            f"({len(bad)} of {len(loads[name].requests)})"
        )
        assert out < OUTAGE_SECONDS
        # Out of rotation before the proxy stopped. Its own app's calls, which its proxy knows no better, apart.
        others = [r for who, load in loads.items() if who != name for r in load.requests if r.instance == name]
        assert others
        assert not [r for r in others if window.start - 1 < r.began < window.start], "nobody called it any more"
    assert up.steps() == []
    untouched = seen(lab)
    up.up()
    assert seen(lab) == untouched, "nothing changed: no connection, no restart"


@pytest.mark.full
def test_a_batch_of_two_rolls_two_of_three_at_the_same_time_and_the_third_after_one_of_them(
    lab: Lab, up: Stack
) -> None:
    settings = up.file.read_text()
    up.change(f"workloads.echo.machines.hosts.{THIRD}", third(lab))
    up.change("sidecar.upgrade.batchSize", 2)
    up.up()
    assert up.steps() == []
    install(lab, up, "1.31.4")
    since = time.time()
    with Load(lab) as load:
        up.up()
        time.sleep(1)
    assert {lab.machine(name).look(["sh", "-c", VERSION]) for name in (*MACHINES, THIRD)} == {"1.31.4"}
    turns = sorted((turn(lab.machine(name), since) for name in (*MACHINES, THIRD)), key=lambda window: window.start)
    print([(window.start - since, window.end - since) for window in turns])
    first_back = min(window.end for window in turns[:2])
    assert turns[1].start < first_back, "two at the same time"
    assert turns[2].start >= first_back, "and not three"
    assert failed(load) == []
    assert up.steps() == []
    up.file.write_text(settings)
    install(lab, up, "1.31.4")
    up.up()
    assert not [resource for resource in up.resources() if THIRD in resource["urn"]]


@pytest.mark.full
def test_after_a_failure_the_next_up_tries_again_and_the_old_settings_restart_nothing(lab: Lab, up: Stack) -> None:
    settings = up.file.read_text()
    version = versions(lab)
    install(lab, up, "1.31.2", broken=True)
    up.change("sidecar.timeouts.readySeconds", 5)
    up.change("sidecar.upgrade.cutOffSeconds", 0)
    for _ in range(2):
        before = seen(lab)
        with pytest.raises(PulumiError, match="the proxy is not ready after 5s; rolled back"):
            up.up()
        assert restarts(lab, before) == {MACHINES[0]}, "the one that failed is asked again first"
        assert versions(lab) == version
    again = seen(lab)
    up.file.write_text(settings)
    up.up()
    assert restarts(lab, again) == set(), "back to the settings of before: nothing to restart"
    assert up.steps() == []
    left = set(lab.machine(MACHINES[0]).ssh(["ls /var/lib/hybrid-mesh"]).split())
    assert left & {"next", "previous", "switching", "restart-needed"} == set()


@pytest.mark.full
def test_any_change_that_takes_a_restart_rolls_and_one_that_takes_none_does_not(lab: Lab, up: Stack) -> None:
    up.change("workloads.echo.labels", {"team": "shop"})
    since, before = time.time(), seen(lab)
    with Load(lab) as load:
        up.up()
        time.sleep(1)
    assert restarts(lab, before) == set(MACHINES)
    (first, second) = sorted((without_proxy(lab.machine(n), since) for n in MACHINES), key=lambda w: w.start)
    assert first.end <= second.start
    assert failed(load) == []
    before = seen(lab)
    up.change("sidecar.limits", {"tasks": 1000})
    up.up()
    assert restarts(lab, before) == set()


@pytest.mark.full
def test_the_last_machine_that_serves_waits_for_one_that_comes_back_in_the_same_up(lab: Lab, up: Stack) -> None:
    serving, away = (lab.machine(name) for name in MACHINES)
    settings, before = up.file.read_text(), seen(lab)
    away.ssh(["systemctl stop istio"])
    # Until then callers have it for an endpoint, fail there, and would leave it out for a while after it is back.
    wait_for("it to be out", lambda: away.address not in endpoints(lab), 120)
    up.change("workloads.echo.labels", {"team": "other"})
    since = time.time()
    with Load(lab) as load:
        up.up()
        time.sleep(1)
    assert restarts(lab, before) == set(MACHINES)
    back = steps(away, "ready.sh", since)[-1]
    assert back[1] == "end"
    assert turn(serving, since).start >= back[0]
    assert failed(load) == []
    assert {request.instance for request in load.requests} == set(MACHINES)
    assert up.steps() == []
    up.file.write_text(settings)
    up.up()


@pytest.mark.full
def test_the_last_machine_whose_app_is_healthy_is_not_restarted_until_another_s_is(lab: Lab, up: Stack) -> None:
    settings, before = up.file.read_text(), seen(lab)
    serving, sick = (lab.machine(name) for name in MACHINES)
    up.change("sidecar.timeouts.syncSeconds", 15)
    up.up()
    sick.ssh(["mkdir -p /run/echo && touch /run/echo/unhealthy"])
    try:
        wait_for("istiod to know", lambda: healthy(lab) == {serving.address}, 60)
        up.change("workloads.echo.labels", {"team": "third"})
        with Load(lab) as load, pytest.raises(PulumiError) as refused:
            up.up()
        assert "vm-1 is not restarted, and keeps what it runs" in str(refused.value)
        assert "vm-2: its app is not healthy by the probe" in str(refused.value)
        assert restarts(lab, before) == set()
        assert failed(load) == []
    finally:
        sick.ssh(["rm -f /run/echo/unhealthy"])
    wait_for("istiod to know", lambda: healthy(lab) == {serving.address, sick.address}, 60)
    up.up()
    assert restarts(lab, before) == set(MACHINES)
    assert up.steps() == []
    up.file.write_text(settings)
    up.up()


@pytest.mark.full
@pytest.mark.parametrize("registration", ["auto", "static"])
def test_one_that_is_down_and_leaves_in_the_same_up_need_not_be_mended_first(
    lab: Lab, up: Stack, registration: str
) -> None:
    settings = up.file.read_text()
    stays, leaves = (lab.machine(name) for name in MACHINES)
    up.change("workloads.echo.machines.registration", registration)
    up.change("sidecar.timeouts.syncSeconds", 15)
    up.up()
    before = seen(lab)
    leaves.ssh(["mkdir -p /run/echo && touch /run/echo/unhealthy"])
    wait_for("istiod to know", lambda: healthy(lab) == {stays.address}, 60)
    up.change(f"workloads.echo.machines.hosts.{leaves.name}", None)
    up.change("workloads.echo.labels", {"team": f"fourth-{registration}"})
    up.up()
    assert running(stays).agent != before[stays.name].agent
    assert endpoints(lab) == {stays.address}
    assert up.steps() == []
    up.file.write_text(settings)
    up.up()
    wait_for("both to serve", lambda: healthy(lab) == {stays.address, leaves.address}, 60)


@pytest.mark.full
@pytest.mark.parametrize("step", ["step: package: install", "step: files", "step: start"])
def test_a_machine_that_reboots_half_way_runs_what_it_ran_and_the_next_up_ends_well(
    lab: Lab, up: Stack, step: str
) -> None:
    old, new = sorted({"1.31.1", "1.31.3"}, key=lambda version: version not in versions(lab))
    up.restore()
    only_machines(up)
    up.change("sidecar.upgrade.cutOffSeconds", 0)
    install(lab, up, old)
    up.up()
    kept = what_runs(lab)
    install(lab, up, new)
    machine = lab.machine("vm-1")
    line = machine.look(["sh", "-c", f"wc -l <{LOG}"]).strip()
    reached = f"tail -n +$(({line} + 1)) {LOG} | grep -q -e '{step}'"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        run = pool.submit(up.up)
        wait_for(step, lambda: machine.look(["sh", "-c", f"{reached} && echo yes || echo no"]) == "yes\n", 90)
        machine.kill()
        machine.start()
        with pytest.raises(PulumiError):
            run.result(timeout=300)
    wait_for("it to be in again", lambda: machine.address in connected(lab), 90)
    assert what_runs(lab)["vm-1"] == kept["vm-1"], "one version, whole"
    up.up()
    assert versions(lab) == {new}
    assert up.steps() == []


def endpoints(lab: Lab) -> set[str]:
    return {entry["spec"]["address"] for entry in objects(lab, "workloadentries").values()}


def healthy(lab: Lab) -> set[str]:
    return {
        entry["spec"]["address"]
        for entry in objects(lab, "workloadentries").values()
        for condition in entry.get("status", {}).get("conditions", [])
        if (condition["type"], condition["status"]) == ("Healthy", "True")
    }


def connected(lab: Lab) -> set[str]:
    return {
        entry["spec"]["address"]
        for entry in objects(lab, "workloadentries").values()
        if "istio.io/connectedAt" in entry["metadata"]["annotations"]
    }
