"""Prometheus sees VMs and pods come and go, and says when something is wrong; nobody else reads VMs' metrics."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hybridmesh.metrics.rules import CERTIFICATE, SERVED, SHARE
from hybridmesh.providers.adopters import AdoptersProvider
from lab.cluster import wait_for
from lab.traffic import ask as send
from lab.traffic import in_pod
from tests.e2e import prometheus
from tests.e2e.machine import running
from tests.e2e.mesh import ask_kubectl, kubectl
from tests.e2e.stack import Stack, Step
from tests.environment import Lab
from tests.ops.test_metrics import queries

pytestmark = pytest.mark.lab

URL = "http://echo.demo.svc.cluster.local:8080/"
ASK = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--connect-timeout", "1", "--max-time", "5")
PORTS = (15020, 15090)
CLOSED, OPEN = dict.fromkeys(PORTS, "000"), dict.fromkeys(PORTS, "200")


@dataclass(frozen=True)
class Seen:
    preview: str
    steps: list[Step]
    restarted: bool
    """Whether a proxy on a VM started anew for it."""


def traffic(lab: Lab, requests: int = 150) -> None:
    answers = send(in_pod(lab.instance, lab.tools, "deploy/client", "demo"), URL, requests)
    assert answers.answered == requests, answers


@pytest.fixture(scope="module")
def seen(lab: Lab, stack: Stack) -> Iterator[Seen]:
    """The stack with a Prometheus, and what its preview said."""
    prometheus.load(lab)
    stack.restore()
    stack.up()
    before = running(lab.machine("vm-1")).agent
    prometheus.turn_on(lab, stack)
    preview, steps = stack.preview(), stack.steps()
    try:
        stack.up()
        yield Seen(preview, steps, running(lab.machine("vm-1")).agent != before)
    finally:
        if "hybrid-mesh:observability" in stack.settings()["config"]:
            stack.restore()
            stack.up()


def from_prometheus(lab: Lab, address: str) -> dict[int, str]:
    pod = ("exec", "-n", prometheus.NAMESPACE, "deploy/hybrid-mesh-prometheus", "-c", "app", "--")
    urls = {port: f"http://{address}:{port}/stats/prometheus" for port in PORTS}
    return {port: ask_kubectl(lab, *pod, *ASK, url).stdout for port, url in urls.items()}


def from_outside(lab: Lab, address: str, *, node: bool) -> dict[int, str]:
    """From this machine, or from the cluster's node; neither is among the scrapers."""
    found = {}
    for port in PORTS:
        command = [*ASK, f"http://{address}:{port}/stats/prometheus"]
        whole = lab.instance.inside(command) if node else command
        found[port] = subprocess.run(whole, capture_output=True, text=True, timeout=30, check=False).stdout
    return found


def test_a_preview_shows_rules_scrape_jobs_and_who_may_scrape_and_changes_little_else(seen: Seen, lab: Lab) -> None:
    for text in (
        "HybridMeshErrors",
        "http_sd_configs",
        "hybrid-mesh-metrics",
        (lab.instance.folder / "pod-range").read_text(),
    ):
        assert text in seen.preview, text
    others = {step.name: step.operation for step in seen.steps if step.operation != "create"}
    assert set(others.values()) == {"update"}
    of_machines = {f"mesh-{vm}{role}" for vm in ("vm-1", "vm-2") for role in ("", "-join", "-ready", "-membership")}
    assert set(others) <= {"mesh-control-plane-istiod", "mesh-adopters", *of_machines}
    assert not seen.restarted, "who may read metrics is no reason to restart a proxy"


def test_every_vm_pod_and_gateway_is_scraped_with_labels_that_tell_which(lab: Lab, seen: Seen) -> None:
    assert seen
    wait_for("the proxies", lambda: len(prometheus.ask(lab, 'up{platform!=""} == 1')) >= 5, 60)
    wait_for("the server of targets", lambda: prometheus.ask(lab, 'up{platform=""} == 1'), 30)
    up = [r["metric"] for r in prometheus.ask(lab, "up == 1")]
    vms = {m["vm"]: (m["workload"], m["version"], m["network"], m["platform"]) for m in up if m.get("vm")}
    assert vms == dict.fromkeys(("vm-1", "vm-2"), ("echo", "vm", "embedded", "vm"))
    pods = {(m["workload"], m["version"], m["network"]) for m in up if m.get("pod")}
    assert {("echo", "k8s", "embedded"), ("client", "k8s", "embedded")} <= pods
    assert "istio-eastwestgateway" in {workload for workload, *_ in pods}
    assert [m["job"] for m in up if "platform" not in m] == ["hybrid-mesh-server"]


def test_metrics_of_a_vm_are_open_to_prometheus_and_closed_to_others(lab: Lab, seen: Seen) -> None:
    assert seen
    for name in ("vm-1", "vm-2"):
        address = lab.machine(name).address
        assert from_prometheus(lab, address) == OPEN
        assert from_outside(lab, address, node=name == "vm-1") == CLOSED
        for port in PORTS:
            assert lab.machine(name).ssh([" ".join((*ASK, f"http://127.0.0.1:{port}/stats/prometheus"))]) == "200"


def test_its_namespace_does_not_hold_up_a_destroy(stack: Stack, seen: Seen) -> None:
    assert seen
    (asks,) = (found for found in stack.resources() if found["urn"].endswith("::mesh-adopters"))
    AdoptersProvider().delete(asks["id"], asks["outputs"])


def test_every_query_of_the_dashboard_has_an_answer(lab: Lab, seen: Seen) -> None:
    assert seen
    traffic(lab)
    wait_for("rates", lambda: prometheus.values(lab, f"{SERVED} > 0", "version").keys() == {"k8s", "vm"}, 60)
    empty = [title for title, query in queries().items() if not prometheus.ask(lab, query)]
    assert empty == []


def test_what_is_counted_is_what_happens(lab: Lab, seen: Seen) -> None:
    assert seen
    count = 'sum(envoy_http_downstream_rq{http_conn_manager_prefix=~"inbound_.*", workload="echo"})'

    def counted() -> float:
        return float(prometheus.ask(lab, count)[0]["value"][1])

    def settled() -> bool:
        """Whether what was sent before has been read of all: each is read at a moment of its own."""
        first = counted()
        time.sleep(2 * prometheus.SECONDS + 1)
        return counted() == first

    wait_for("a quiet moment", settled, 60)
    before = counted()
    traffic(lab, 100)
    wait_for("the requests to be counted", lambda: counted() >= before + 100, 30)
    assert counted() == before + 100
    shares = prometheus.values(lab, f'{SHARE}{{workload="echo"}}', "version")
    assert sum(shares.values()) == pytest.approx(1)
    assert 0 < shares["vm"] < 0.3, "the canary's weight is 10"
    left = prometheus.values(lab, CERTIFICATE, "vm")
    assert left.keys() == {"vm-1", "vm-2"}
    assert all(3600 < seconds <= 86400 for seconds in left.values())


def alerts(lab: Lab) -> set[tuple[str, str]]:
    """Alerts that fire, or are about to, and the VM."""
    return {(r["metric"]["alertname"], r["metric"].get("vm", "")) for r in prometheus.ask(lab, "ALERTS")}


def test_an_app_that_is_ill_and_a_vm_that_is_gone_are_told_and_taken_back(lab: Lab, seen: Seen) -> None:
    assert seen
    assert alerts(lab) == set()
    ill, gone = lab.machine("vm-1"), lab.machine("vm-2")
    ill.ssh(["mkdir -p /run/echo && touch /run/echo/unhealthy"])
    gone.ssh(["systemctl stop istio"])
    try:
        both = {("HybridMeshEntryUnhealthy", "vm-1"), ("HybridMeshVmDisconnected", "vm-2")}
        wait_for("both alerts", lambda: both <= alerts(lab), 60)
        wait_for("the target to go", lambda: prometheus.values(lab, "up", "vm").keys() == {"vm-1"}, 60)
        assert prometheus.values(lab, "hybrid_mesh_vm_connected", "vm") == {"vm-1": 1, "vm-2": 0}
    finally:
        ill.ssh(["rm /run/echo/unhealthy"])
        gone.ssh(["systemctl start istio"])
    wait_for("all to be well", lambda: alerts(lab) == set(), 90)
    wait_for("the target to come back", lambda: prometheus.values(lab, "up == 1", "vm").keys() == {"vm-1", "vm-2"}, 60)


def test_nothing_of_it_is_left_without_its_settings(lab: Lab, stack: Stack, seen: Seen) -> None:
    assert seen
    stack.restore()
    stack.up()
    left = kubectl(
        lab, "get", "namespaces,roles,rolebindings,peerauthentications,authorizationpolicies", "-A", "-o", "name"
    )
    assert "hybrid-mesh" not in left
    assert lab.machine("vm-1").ssh(["cat /var/lib/hybrid-mesh/scripts/settings/scrapers 2>/dev/null || true"]) == ""
    address = lab.machine("vm-1").address
    client = ("exec", "-n", "demo", "deploy/client", "--", *ASK, f"http://{address}:15020/stats/prometheus")
    assert ask_kubectl(lab, *client).stdout != "200", "the pods' range is let in no more"
