"""The rules, as Prometheus itself reads them: `promtool check rules` and `promtool test rules`."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybridmesh.metrics.rules import ERRORS, LATENCY, OTHERS, SHARE, Agent, Gateway, Thresholds, rules
from lab import toolchain
from tests.components.harness import PROJECT_ROOT

pytestmark = pytest.mark.lab  # promtool is of the environment's tools; nothing of it needs to run

SERVER = "hybrid-mesh-metrics.hybrid-mesh-metrics.svc.cluster.local:9099"
RULES = rules(
    SERVER,
    [
        Gateway("istio-system", "istio-eastwestgateway", "of VMs to istiod"),
        Gateway("istio-system", "adopted", "of VMs to istiod", adopted=True),
        Gateway("gateways", "far-gateway", "into network far", agent_in="far"),
    ],
    [Agent("far"), Agent("abroad", to_others=True)],
    Thresholds(),
)
ALERTS = {rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
VM = 'vm="vm-1", namespace="demo", workload="echo", version="vm", network="embedded"'
ON_VM = f'{VM}, platform="vm"'
IN_POD = 'pod="echo-1", namespace="demo", workload="echo", version="k8s", network="embedded", platform="pod"'
OUTBOUND = 'http_conn_manager_prefix="outbound_0.0.0.0_8080"'
INBOUND = 'http_conn_manager_prefix="inbound_0.0.0.0_8080"'
GATEWAY_UP = 'up{job="hybrid-mesh-pods", namespace="istio-system", workload="istio-eastwestgateway", pod="gw-1"}'
OTHER_GATEWAY_UP = GATEWAY_UP.replace("gw-1", "gw-2")
SYNCED = 'hybrid_mesh_proxy_synced{proxy="vm-1", namespace="demo", vm="vm-1"}'
SERVICE = 'destination_service_namespace="demo", destination_service_name="{}"'
BY_VERSION = '{{namespace="demo", workload="echo", version="{}"}}'


@dataclass(frozen=True)
class Case:
    """What is scraped once a minute, and which alerts fire after twenty."""

    says: str
    series: dict[str, str]
    firing: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """Alerts by name, each with the labels that tell which."""
    quiet: tuple[str, ...] = ()
    """Alerts that must not fire."""
    values: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    """Recorded series: labels and value, by query."""


def envoy(where: str, good: int, bad: int) -> dict[str, str]:
    """Requests a minute, as upstream Envoy counts them, and beside them calls of its own."""
    return {
        f'envoy_http_downstream_rq{{{where}, {OUTBOUND}, response_code_class="5xx"}}': "0+600x30",
        f'envoy_http_downstream_rq{{{where}, {INBOUND}, response_code_class="2xx"}}': f"0+{good}x30",
        f'envoy_http_downstream_rq{{{where}, {INBOUND}, response_code_class="5xx"}}': f"0+{bad}x30",
    }


def istio(where: str, good: int, bad: int) -> dict[str, str]:
    """The same as Istio's own build counts them: as the callee saw them, and beside them calls of its own."""
    found = {f'istio_requests_total{{{where}, reporter="source", response_code="503"}}': "0+600x30"}
    for code, count in (("200", good), ("503", bad)):
        if count:
            found[f'istio_requests_total{{{where}, reporter="destination", response_code="{code}"}}'] = f"0+{count}x30"
    return found


def times(series: str) -> dict[str, str]:
    """A hundred requests a minute: half of them below 10 ms, the others evenly up to 100."""
    return {f'{series}, le="{most}"}}': f"0+{count}x30" for most, count in (("10", 50), ("100", 100), ("+Inf", 100))}


OF_VM = {"namespace": "demo", "workload": "echo", "vm": "vm-1"}
OF_ENTRY = {**OF_VM, "version": "vm", "network": "embedded"}
VERSION = {"namespace": "demo", "workload": "echo", "version": "vm"}
OF_GATEWAY = {"namespace": "istio-system", "workload": "istio-eastwestgateway"}
FAR_VM = 'up{job="hybrid-mesh-vms", namespace="demo", workload="remote", vm="far-1", network="far"}'
FAR_GATEWAY = 'up{job="hybrid-mesh-vms", namespace="gateways", workload="far-gateway", vm="gw-1", network="far"}'
SERVER_UP = f'up{{job="hybrid-mesh-server", instance="{SERVER}"}}'
UP = {
    FAR_VM: "1x30",
    FAR_GATEWAY: "1x30",
    SERVER_UP: "1x30",
    GATEWAY_UP: "1x30",
    'hybrid_mesh_istiods{answers="no"}': "0x30",
    'hybrid_mesh_istiods{answers="yes"}': "1x30",
}
CASES = [
    *(
        Case(
            f"the time that 95 of 100 stay below, by {whose}",
            {**UP, **times(series)},
            values={LATENCY: [(of, 90.99999999999999)]},
        )
        for whose, series, of in (
            (
                "upstream Envoy",
                f"envoy_http_downstream_rq_time_bucket{{{ON_VM}, {INBOUND}",
                BY_VERSION.format("vm"),
            ),
            (
                "Istio's own",
                f'istio_request_duration_milliseconds_bucket{{{IN_POD}, reporter="destination"',
                BY_VERSION.format("k8s"),
            ),
        )
    ),
    *(
        Case(
            f"what callers ask wrongly is no failure, on {whose}",
            {**UP, **counted},
            values={ERRORS: [(BY_VERSION.format("vm"), 0)]},
            quiet=("HybridMeshErrors", "HybridMeshVersionWorse"),
        )
        for whose, counted in (
            (
                "upstream Envoy",
                {
                    **envoy(ON_VM, 60, 0),
                    f'envoy_http_downstream_rq{{{ON_VM}, {INBOUND}, response_code_class="4xx"}}': "0+60x30",
                },
            ),
            (
                "Istio's own",
                {
                    **istio(ON_VM, 60, 0),
                    f'istio_requests_total{{{ON_VM}, reporter="destination", response_code="404"}}': "0+60x30",
                },
            ),
        )
    ),
    Case(
        "all is well, on upstream Envoy",
        {
            **UP,
            **envoy(ON_VM, 128, 0),
            **envoy(IN_POD, 379, 5),
            f"hybrid_mesh_vm_connected{{{VM}}}": "1x30",
            f"hybrid_mesh_vm_healthy{{{VM}}}": "1x30",
            SYNCED: "1x30",
            f"istio_agent_cert_expiry_seconds{{{ON_VM}}}": "86400-60x30",
            f'up{{job="hybrid-mesh-vms", {ON_VM}}}': "1x30",
        },
        quiet=tuple(sorted(ALERTS)),
        values={
            f'{SHARE}{{version="vm"}}': [(BY_VERSION.format("vm"), 0.25)],
            ERRORS: [(BY_VERSION.format("k8s"), 5 / 384), (BY_VERSION.format("vm"), 0)],
        },
    ),
    Case(
        "Istio's own metrics, without a single error: there is no series of class 5xx",
        {**UP, **istio(ON_VM, 60, 0), **istio(IN_POD, 540, 0)},
        quiet=("HybridMeshErrors", "HybridMeshVersionWorse"),
        values={
            ERRORS: [(BY_VERSION.format("k8s"), 0), (BY_VERSION.format("vm"), 0)],
            f'{OTHERS}{{version="vm"}}': [(BY_VERSION.format("vm"), 0)],
        },
    ),
    Case(
        "both kinds of metrics at once: Istio's count, once",
        {**UP, **istio(ON_VM, 60, 0), **envoy(ON_VM, 60, 60)},
        quiet=("HybridMeshErrors",),
        values={ERRORS: [(BY_VERSION.format("vm"), 0)]},
    ),
    Case(
        "a canary on VMs that fails, Istio's metrics",
        {**UP, **istio(ON_VM, 30, 30), **istio(IN_POD, 540, 0)},
        firing={"HybridMeshErrors": [VERSION], "HybridMeshVersionWorse": [VERSION]},
        values={f'{OTHERS}{{version="k8s"}}': [(BY_VERSION.format("k8s"), 0.5)]},
    ),
    Case(
        "a canary on VMs that fails, upstream Envoy's metrics",
        {**UP, **envoy(ON_VM, 30, 30), **envoy(IN_POD, 540, 0)},
        firing={"HybridMeshErrors": [VERSION], "HybridMeshVersionWorse": [VERSION]},
    ),
    Case(
        "all versions fail alike: no canary's fault",
        {**UP, **envoy(ON_VM, 30, 10), **envoy(IN_POD, 300, 100)},
        firing={"HybridMeshErrors": [{**VERSION, "version": "k8s"}, VERSION]},
        quiet=("HybridMeshVersionWorse",),
    ),
    Case(
        "a failure out of hardly any requests wakes nobody",
        {**UP, **envoy(ON_VM, 0, 1)},
        quiet=("HybridMeshErrors", "HybridMeshVersionWorse"),
    ),
    Case(
        "calls that find nobody, which nobody who serves can count",
        {
            **UP,
            **{
                f'istio_requests_total{{{caller}, {SERVICE.format(of)}, reporter="{by}", response_flags="{flags}"}}': n
                for caller, of, by, flags, n in (
                    (ON_VM, "echo", "source", "UH", "0+6x30"),
                    (IN_POD, "echo", "source", "UH", "0+6x30"),
                    (IN_POD, "busy", "source", "UO", "0+600x30"),
                    (IN_POD, "rare", "source", "UH", "0+1x30"),
                    (IN_POD, "other", "destination", "UH", "0+600x30"),
                )
            },
        },
        firing={
            "HybridMeshNoEndpoint": [{"destination_service_namespace": "demo", "destination_service_name": "echo"}]
        },
    ),
    Case(
        "a certificate that was not renewed",
        {**UP, f"istio_agent_cert_expiry_seconds{{{ON_VM}}}": "21000-60x30"},
        firing={"HybridMeshCertificateExpiring": [OF_VM]},
    ),
    Case(
        "a VM that is gone, refuses what it is sent, and whose app is ill",
        {
            **UP,
            f"hybrid_mesh_vm_connected{{{VM}}}": "1x10 0x20",
            f"hybrid_mesh_vm_healthy{{{VM}}}": "1x10 0x20",
            SYNCED: "1x10 0x20",
            f'up{{job="hybrid-mesh-vms", {ON_VM}}}': "1x10 0x20",
        },
        firing={
            "HybridMeshVmDisconnected": [OF_ENTRY],
            "HybridMeshEntryUnhealthy": [OF_ENTRY],
            "HybridMeshProxyOutOfSync": [{"proxy": "vm-1", "namespace": "demo", "vm": "vm-1"}],
            "HybridMeshTargetDown": [{**OF_ENTRY, "platform": "vm", "job": "hybrid-mesh-vms"}],
        },
    ),
    Case(
        "a VM that restarts is back before anybody is told",
        {**UP, f"hybrid_mesh_vm_connected{{{VM}}}": "1x18 0 1x11", SYNCED: "1x18 0 1x11"},
        quiet=("HybridMeshVmDisconnected", "HybridMeshProxyOutOfSync"),
    ),
    Case(
        "gateway, metrics server and istiod are silent",
        {
            GATEWAY_UP: "1x10 0x20",
            FAR_VM: "1x30",
            FAR_GATEWAY: "1x30",
            SERVER_UP: "1x10 0x20",
            SERVER_UP.replace(SERVER, "hybrid-mesh-metrics.of-another-stack.svc:9099"): "1x30",
            'hybrid_mesh_istiods{answers="no"}': "1x30",
            'hybrid_mesh_istiods{answers="yes"}': "0x30",
        },
        firing={
            "HybridMeshGatewayDown": [OF_GATEWAY],
            "HybridMeshMetricsServerDown": [{"instance": SERVER}],
            "HybridMeshIstiodSilent": [{"answers": "no"}, {"answers": "yes"}],
        },
    ),
    Case(
        "one of two proxies of a gateway is enough", {**UP, OTHER_GATEWAY_UP: "0x30"}, quiet=("HybridMeshGatewayDown",)
    ),
    Case(
        "an agent is silent: that is said, and no gateway behind it is called down",
        {**UP, FAR_VM: "1x5 stale", FAR_GATEWAY: "1x5 stale"},
        firing={"HybridMeshAgentDown": [{"network": "far", "job": "hybrid-mesh-vms"}]},
        quiet=("HybridMeshGatewayDown",),
    ),
    Case(
        "an agent that never wrote is missed where it should write here, and not where it writes to others",
        {name: values for name, values in UP.items() if name not in (FAR_VM, FAR_GATEWAY)},
        firing={"HybridMeshAgentDown": [{"network": "far", "job": "hybrid-mesh-vms"}]},
    ),
    Case(
        "an agent is silent that writes to others: that is said where it was seen",
        {**UP, FAR_VM.replace('"far"', '"abroad"'): "1x5 stale"},
        firing={"HybridMeshAgentDown": [{"network": "abroad", "job": "hybrid-mesh-vms"}]},
    ),
    Case(
        "a network's gateway is down, and its agent says so",
        {**UP, FAR_GATEWAY: "1x5 0x25"},
        firing={"HybridMeshGatewayDown": [{"namespace": "gateways", "workload": "far-gateway"}]},
        quiet=("HybridMeshAgentDown",),
    ),
    Case(
        "an adopted gateway is gone; before it was seen nothing was said of it",
        {**UP, GATEWAY_UP.replace("istio-eastwestgateway", "adopted"): "1x10 stale"},
        firing={"HybridMeshGatewayDown": [{**OF_GATEWAY, "workload": "adopted"}]},
    ),
    Case(
        "a gateway that nobody has ever seen, and one elsewhere that has its name",
        {FAR_VM: "1x30", FAR_GATEWAY: "1x30", GATEWAY_UP.replace("istio-system", "elsewhere"): "1x30"},
        firing={"HybridMeshGatewayDown": [OF_GATEWAY]},
    ),
]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = toolchain.installed(["prometheus"]).bin_dir / "promtool"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def severity(name: str) -> str:
    found = [rule for group in RULES["groups"] for rule in group["rules"] if rule.get("alert") == name]
    return str(found[0]["labels"]["severity"])


def without_annotations() -> dict[str, Any]:
    """The rules without what people read, which promtool would compare word by word."""
    document: dict[str, Any] = yaml.safe_load(yaml.safe_dump(RULES))
    for group in document["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    return document


def as_promtool_has_it(case: Case) -> dict[str, Any]:
    expected = {**case.firing, **{name: [] for name in case.quiet}}
    return {
        "name": case.says,
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "alert_rule_test": [
            {
                "eval_time": "20m",
                "alertname": name,
                "exp_alerts": [{"exp_labels": {"severity": severity(name), **labels}} for labels in firing],
            }
            for name, firing in expected.items()
        ],
        "promql_expr_test": [
            {
                "expr": query,
                "eval_time": "20m",
                "exp_samples": [
                    {"labels": f"{query.split('{')[0]}{labels}", "value": value} for labels, value in found
                ],
            }
            for query, found in case.values.items()
        ],
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_alerts_fire_when_they_should_and_at_no_other_time(case: Case, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(without_annotations()))
    tests = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [as_promtool_has_it(case)]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(tests))
    done = promtool("test", "rules", tmp_path / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_and_to_keep_quiet() -> None:
    assert {name for case in CASES for name in case.firing} == ALERTS
    assert {name for case in CASES for name in case.quiet} == ALERTS


def test_prometheus_takes_the_rules_as_they_are_delivered(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(RULES))
    done = promtool("check", "rules", tmp_path / "rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_thresholds_are_those_asked_for() -> None:
    text = yaml.safe_dump(
        rules(SERVER, [], [], Thresholds(error_percent=20, canary_points=30, certificate_hours=2)), width=500
    )
    for part in ("> 0.2 and", "> 0.3 and", "< 7200"):
        assert part in text


def test_every_alert_has_its_entry_in_the_docs() -> None:
    page = (PROJECT_ROOT / "docs" / "metrics.md").read_text()
    for name in ALERTS:
        assert f"#### {name}\n" in page, name
    assert LATENCY in page
