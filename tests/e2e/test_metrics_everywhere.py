"""Metrics of VMs that Prometheus cannot reach, of apps, for the operator; sampling and tags of traces."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab import toolchain
from lab.cluster import wait_for
from lab.instance import PROJECT_ROOT
from tests.e2e import prometheus
from tests.e2e.mesh import ask_kubectl, kubectl, objects
from tests.e2e.stack import Stack
from tests.e2e.test_multi_network import FAR, GATEWAY, change
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full]

AGENT, OTHER = FAR
WRITE = "http://hybrid-mesh-prometheus.hybrid-mesh-metrics.svc.cluster.local:9090/api/v1/write"
LOST_SECONDS = 120
"""More than `up` takes; less than four attempts to reach each dead VM, and one that hangs."""
STATUS = "curl -s -o /dev/null -w '%{http_code}' --connect-timeout 2 --max-time 5"
# That istiod knows the service is enough: what is sent there is nobody's concern here.
PROVIDER = {"name": "zipkin", "zipkin": {"service": "echo.demo.svc.cluster.local", "port": 8080}}


def mirror(lab: Lab, name: str) -> dict[str, str]:
    return {"fromFile": str((lab.instance.folder / "mirror" / name).relative_to(PROJECT_ROOT))}


def agent_on(lab: Lab, machine: str) -> dict[str, Any]:
    package = {"url": mirror(lab, "prometheus-url"), "sha256": mirror(lab, "prometheus-sha256")}
    return {"cutoff": {"machine": machine, "package": package}}


@pytest.fixture(scope="module")
def everywhere(lab: Lab, stack: Stack) -> Iterator[str]:
    """The stack with a cut-off network, an agent in it, an app with metrics, and traces; and its preview."""
    prometheus.load(lab)
    stack.restore()
    stack.up()
    change(lab, stack)
    prometheus.turn_on(lab, stack)
    stack.change("observability.agents", agent_on(lab, AGENT))
    stack.change("workloads.echo.metrics", {"port": 9100, "path": "/metrics"})
    values = stack.settings()["config"]["hybrid-mesh:controlPlane"]["values"]
    stack.change(
        "controlPlane.values", {**values, "meshConfig": {**values["meshConfig"], "extensionProviders": [PROVIDER]}}
    )
    tags = {"team": {"literal": "shop"}, "tenant": {"header": "x-tenant", "default": "none"}}
    stack.change("sidecar.tracing", {"samplingPercent": 12.5, "providers": ["zipkin"], "tags": tags})
    preview = stack.preview()
    try:
        stack.up()
        yield preview
    finally:
        stack.restore()
        stack.up()


def test_vms_of_a_cut_off_network_are_seen_through_their_agent_with_the_same_labels(lab: Lab, everywhere: str) -> None:
    assert "hybridmesh:metrics_agent:MetricsAgent" in everywhere
    assert "/targets?network=cutoff" in everywhere
    wanted = {AGENT, OTHER, GATEWAY}
    wait_for("the far VMs", lambda: prometheus.values(lab, 'up{network="cutoff"} == 1', "vm").keys() == wanted, 90)
    for metric in (r["metric"] for r in prometheus.ask(lab, 'up{network="cutoff"}')):
        assert metric["platform"] == "vm"
        assert metric["workload"] == ("cutoff-gateway" if metric["vm"] == GATEWAY else "remote")
    connected = prometheus.values(lab, 'hybrid_mesh_vm_connected{network="cutoff"}', "vm")
    assert connected == dict.fromkeys(wanted, 1)


def test_what_the_agent_writes_goes_through_the_gateway_by_mutual_tls_and_as_its_workload(
    lab: Lab, everywhere: str
) -> None:
    assert everywhere
    address = lab.machine(AGENT).address
    peers = lab.machine(AGENT).ssh(["ss -Htn state established '( dport = :15443 or dport = :9090 )'"])
    assert re.search(r":15443\s", peers), peers
    blocked = ask_kubectl(lab, *in_prometheus(), "sh", "-c", f"{STATUS} http://{address}:15020/stats/prometheus")
    assert blocked.stdout == "000", "Prometheus reaches the network all the same: the test shows nothing"
    process = lab.machine(AGENT).ssh(["ps -o user= -p $(systemctl show --value -p MainPID hybrid-mesh-agent)"]).strip()
    assert process != "root"


def in_prometheus() -> tuple[str, ...]:
    return ("exec", "-n", prometheus.NAMESPACE, "deploy/hybrid-mesh-prometheus", "-c", "app", "--")


def test_nobody_else_may_write_and_nobody_else_there_may_read(lab: Lab, everywhere: str) -> None:
    assert everywhere
    client = ask_kubectl(lab, "exec", "-n", "demo", "deploy/client", "--", "sh", "-c", f"{STATUS} -X POST {WRITE}")
    assert client.stdout == "403"
    assert lab.machine(AGENT).ssh([f"{STATUS} -X POST {WRITE}"]) != "403"
    far, gateway = lab.machine(OTHER).address, lab.machine(GATEWAY)
    assert lab.machine(AGENT).ssh([f"{STATUS} http://{far}:15020/stats/prometheus"]) == "200"
    assert gateway.ssh([f"{STATUS} http://{far}:15020/stats/prometheus || true"]) == "000"


def test_an_app_s_own_metrics_come_with_the_proxy_s(lab: Lab, everywhere: str) -> None:
    assert everywhere
    vm = lab.machine("vm-1")
    vm.ssh(["mkdir -p /run/shop && echo 'shop_orders_total 42' >/run/shop/metrics"])
    vm.ssh(["systemd-run -q --unit=shop-metrics python3 -m http.server 9100 --bind 127.0.0.1 -d /run/shop"])
    try:
        wait_for("the app's metric", lambda: prometheus.values(lab, "shop_orders_total", "vm") == {"vm-1": 42}, 60)
        assert prometheus.ask(lab, "shop_orders_total")[0]["metric"]["workload"] == "echo"
        assert prometheus.values(lab, 'up{vm="vm-1"}', "vm") == {"vm-1": 1}
    finally:
        vm.ssh(["systemctl stop shop-metrics; rm -r /run/shop"])


def tracing(dump: dict[str, Any]) -> list[dict[str, Any]]:
    """Every `tracing` in a proxy's listeners."""
    found: list[dict[str, Any]] = []

    def look(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("tracing"), dict):
                found.append(node["tracing"])
            for value in node.values():
                look(value)
        elif isinstance(node, list):
            for item in node:
                look(item)

    look(dump)
    return found


def test_sampling_and_tags_reach_the_proxies_of_vms_and_pods(lab: Lab, everywhere: str) -> None:
    assert everywhere
    spec = objects(lab, "telemetries")["echo"]["spec"]
    assert spec["tracing"][0]["randomSamplingPercentage"] == 12.5
    on_vm = json.loads(lab.machine("vm-1").ssh(["curl -s localhost:15000/config_dump"]))
    pod = (
        "exec",
        "-n",
        "demo",
        "deploy/echo",
        "-c",
        "istio-proxy",
        "--",
        "pilot-agent",
        "request",
        "GET",
        "config_dump",
    )
    for dump in (on_vm, json.loads(kubectl(lab, *pod))):
        traced = [t for t in tracing(dump) if "random_sampling" in t]
        assert traced
        assert {t["random_sampling"]["value"] for t in traced} == {12.5}
        tags = {tag["tag"]: tag for t in traced for tag in t.get("custom_tags", [])}
        assert tags["team"]["literal"] == {"value": "shop"}
        assert tags["tenant"]["request_header"] == {"name": "x-tenant", "default_value": "none"}


def test_the_agent_goes_with_its_settings(lab: Lab, stack: Stack, everywhere: str) -> None:
    assert everywhere
    stack.change("observability.agents", {})
    preview = stack.preview()
    assert re.search(r"- metricsAgent *: true", preview), preview
    stack.up()
    places = "/var/lib/hybrid-mesh-agent /var/lib/private/hybrid-mesh-agent-data /etc/systemd/system/hybrid-mesh-agent*"
    assert lab.machine(AGENT).ssh([f"ls -d {places} 2>/dev/null || true"]) == ""
    assert lab.machine(AGENT).ssh(["pgrep -c prometheus || true"]).strip() == "0"


def test_a_lost_vm_with_the_agent_holds_up_nothing_and_another_takes_over(
    lab: Lab, stack: Stack, everywhere: str
) -> None:
    assert everywhere
    stack.change("observability.agents", agent_on(lab, AGENT))
    stack.up()
    address = lab.machine(AGENT).address
    lab.machine(AGENT).kill()
    stack.change(f"workloads.remote.machines.hosts.{AGENT}.lost", True)
    stack.change("observability.agents", agent_on(lab, OTHER))
    before = time.monotonic()
    assert f"{AGENT} ({address}) is declared lost: it is out of the mesh, and was not asked" in stack.up_in_words()
    assert time.monotonic() - before < LOST_SECONDS
    assert not [resource for resource in stack.resources() if AGENT in resource["urn"]]
    assert stack.steps() == []
    # What the lost one wrote last is in Prometheus for five minutes.
    far = 'up{network="cutoff"}'
    by_now = f"timestamp({far}) > {time.time()} and {far} == 1"
    wait_for("the far VMs", lambda: prometheus.values(lab, by_now, "vm").keys() == {OTHER, GATEWAY}, 90)
    # One that leaves takes its agent along, although the mesh that it writes through goes at the same time.
    stack.restore()
    stack.up()


def test_the_operator_s_own_definitions_take_scrape_configs_and_rules(lab: Lab, stack: Stack) -> None:
    crds = str(toolchain.installed(["prometheus-operator-crds"]).operator_crds)
    stack.restore()
    stack.up()
    kubectl(lab, "apply", "--server-side", "-f", crds)
    try:
        stack.change("observability.image", "hybrid-mesh.lab/metrics:1.31")
        stack.change("observability.scrapers", [lab.instance.subnets.pods])
        stack.change("observability.delivery", "operator")
        stack.change("observability.operatorLabels", {"release": "kps"})
        stack.up()
        jobs = objects(lab, "scrapeconfigs.monitoring.coreos.com", prometheus.NAMESPACE)
        assert set(jobs) == {"hybrid-mesh-vms", "hybrid-mesh-pods", "hybrid-mesh-server"}
        rules = objects(lab, "prometheusrules.monitoring.coreos.com", prometheus.NAMESPACE)["hybrid-mesh"]
        assert rules["metadata"]["labels"]["release"] == "kps"
        assert [group["name"] for group in rules["spec"]["groups"]] == ["hybrid-mesh-recording", "hybrid-mesh-alerts"]
        # A Prometheus outside of the mesh asks without a certificate.
        server = json.loads(kubectl(lab, "get", "pods", "-n", prometheus.NAMESPACE, "-o", "json"))["items"][0]
        answer = lab.instance.run(["curl", "-s", f"http://{server['status']['podIP']}:9099/targets"])
        assert {target["labels"]["vm"] for target in json.loads(answer)} == {"vm-1", "vm-2"}
    finally:
        stack.restore()
        stack.up()
        kubectl(lab, "delete", "-f", crds)
