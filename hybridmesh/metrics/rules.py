"""Recording and alert rules.

Istio's own build of Envoy counts requests as `istio_requests_total`. Upstream's, which the embedded environment runs,
has none of that, and counts them by listener (`envoy_http_downstream_rq`, as Istio's bootstrap has its tags named).
The recording rules make one of both: alerts and dashboard read the recorded series alone, and so work on either; but
for the alert of calls that find no endpoint, which upstream's build does not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WINDOW = "5m"
REQUESTS = "hybrid_mesh:requests:rate5m"
"""Requests a second that a workload's proxies served, by class of status (`2xx`)."""
SERVED = "hybrid_mesh:requests_served:rate5m"
"""The same, all classes together, by version."""
FAILED = "hybrid_mesh:requests_failed:rate5m"
"""Those that ended with 5xx."""
ERRORS = "hybrid_mesh:errors:ratio5m"
"""Their share."""
OTHERS = "hybrid_mesh:errors_of_other_versions:ratio5m"
"""The share of 5xx among the requests to all other versions of the workload."""
SHARE = "hybrid_mesh:version_share:ratio5m"
"""A version's share of its workload's requests: what a canary's weight comes to."""
LATENCY = "hybrid_mesh:latency_p95:milliseconds5m"
"""The time that 95 of 100 requests stay below."""
CERTIFICATE = "istio_agent_cert_expiry_seconds"
"""What is left of a proxy's certificate, by its agent."""

_VERSION = "namespace, workload, version"
_OF = f"{_VERSION}, network, platform"
_CALLED = "destination_service_namespace, destination_service_name"
_ENVOY = 'platform!="", http_conn_manager_prefix=~"inbound_.*"'
_ISTIO = 'platform!="", reporter="destination"'


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway whose proxies Prometheus should find."""

    namespace: str
    """Its namespace."""
    workload: str
    """Its workload, as metrics name it."""
    leads_to: str
    """Whose way it is, for people."""
    adopted: bool = False
    """Somebody else labels its pods: whether metrics name it so is only known of what was seen."""
    agent_in: str = ""
    """The network whose agent asks its proxies; empty: Prometheus does."""


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent of a network that Prometheus should hear of."""

    network: str
    """The network."""
    to_others: bool = False
    """It writes to somebody else's receiver: whether these rules see that is only known of what was seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """From when on somebody is told."""

    error_percent: int = 5
    """Share of a version's requests that end with 5xx."""
    canary_points: int = 5
    """Percentage points by which a version fails more than the others."""
    certificate_hours: int = 6
    """What is left of a certificate that should have been renewed."""


def rules(
    server: str,
    gateways: Sequence[Gateway],
    agents: Sequence[Agent],
    thresholds: Thresholds,
    seconds: int = 15,
    runbook: str = "",
) -> dict[str, Any]:
    """A rule file, which is the spec of a PrometheusRule too."""
    return {
        "groups": [
            {"name": "hybrid-mesh-recording", "interval": f"{seconds}s", "rules": recording()},
            {
                "name": "hybrid-mesh-alerts",
                "interval": f"{seconds}s",
                "rules": alerts(server, gateways, agents, thresholds, runbook),
            },
        ]
    }


def recording() -> list[dict[str, Any]]:
    """What alerts and dashboard stand on; each may use those before it."""
    return [
        _record(
            REQUESTS,
            f"sum by ({_OF}, class) (label_replace("
            f'rate(istio_requests_total{{{_ISTIO}}}[{WINDOW}]), "class", "${{1}}xx", "response_code", "(.).*"))'
            " or ignoring (class) "
            f"sum by ({_OF}, class) (label_replace("
            f"rate(envoy_http_downstream_rq{{{_ENVOY}}}[{WINDOW}]), "
            '"class", "$1", "response_code_class", "(.*)"))',
        ),
        _record(SERVED, f"sum by ({_VERSION}) ({REQUESTS})"),
        # A class that never was has no series, and is none out of so many all the same.
        _record(FAILED, f'sum by ({_VERSION}) ({REQUESTS}{{class="5xx"}}) or {SERVED} * 0'),
        _record(ERRORS, f"{FAILED} / ({SERVED} > 0)"),
        _record(
            OTHERS,
            f"{_others(FAILED)} / ({_others(SERVED)} > 0)",
        ),
        _record(
            SHARE, f"{SERVED} / on (namespace, workload) group_left () (sum by (namespace, workload) ({SERVED}) > 0)"
        ),
        _record(
            LATENCY,
            f"histogram_quantile(0.95, sum by (le, {_VERSION}) ("
            f"rate(istio_request_duration_milliseconds_bucket{{{_ISTIO}}}[{WINDOW}]))) or "
            f"histogram_quantile(0.95, sum by (le, {_VERSION}) ("
            f"rate(envoy_http_downstream_rq_time_bucket{{{_ENVOY}}}[{WINDOW}])))",
        ),
    ]


def _others(series: str) -> str:
    """For each version, the sum over all other versions of its workload."""
    return f"(sum by (namespace, workload) ({series}) - on (namespace, workload) group_right () {series})"


def _record(name: str, expression: str) -> dict[str, Any]:
    return {"record": name, "expr": expression}


def alerts(
    server: str, gateways: Sequence[Gateway], agents: Sequence[Agent], thresholds: Thresholds, runbook: str = ""
) -> list[dict[str, Any]]:
    """Each says what is so, what it means, and where the runbook goes on.

    Args:
        server: the stack's metrics server, a `host:port`; a Prometheus may ask those of other stacks, too.
        gateways: those that are missed.
        agents: those that are.
        thresholds: from when on.
        runbook: the address of docs/metrics.md, where people reach it; empty: nobody says.
    """
    errors, points = thresholds.error_percent / 100, thresholds.canary_points / 100
    busy = f"{SERVED} > 0.05"
    made = [
        _alert(
            "HybridMeshCertificateExpiring",
            f'min by (namespace, workload, vm, pod) ({CERTIFICATE}{{platform!=""}})'
            f" < {thresholds.certificate_hours * 3600}",
            "10m",
            "warning",
            "The certificate of {{ $labels.vm }}{{ $labels.pod }} ends in {{ $value | humanizeDuration }}",
            "Istio's agent should have renewed it at half its time. When it ends, nothing can be called from there or "
            "there any more.",
        ),
        _alert(
            "HybridMeshVmDisconnected",
            "hybrid_mesh_vm_connected == 0",
            "2m",
            "critical",
            "VM {{ $labels.vm }} of {{ $labels.namespace }}/{{ $labels.workload }} is not connected to istiod",
            "It gets no configuration and, unless its entry is static, no requests.",
        ),
        _alert(
            "HybridMeshProxyOutOfSync",
            "hybrid_mesh_proxy_synced == 0",
            "2m",
            "critical",
            "The proxy {{ $labels.proxy }}.{{ $labels.namespace }} is out of sync with istiod",
            "It has refused what istiod sent, or does not acknowledge it: it goes on with an older configuration.",
        ),
        _alert(
            "HybridMeshEntryUnhealthy",
            "hybrid_mesh_vm_healthy == 0",
            "1m",
            "critical",
            "The app on VM {{ $labels.vm }} ({{ $labels.namespace }}/{{ $labels.workload }}) fails its probe",
            "The mesh sends it no requests until the probe succeeds.",
        ),
        _alert(
            "HybridMeshErrors",
            f"{ERRORS} > {errors:g} and {busy}",
            "2m",
            "critical",
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.namespace }}/{{ $labels.workload }}, "
            "version {{ $labels.version }}, fail",
            f"More than {thresholds.error_percent} % ended with 5xx over five minutes.",
        ),
        _alert(
            "HybridMeshVersionWorse",
            f"({ERRORS} - {OTHERS}) > {points:g} and {busy}",
            "2m",
            "critical",
            "Version {{ $labels.version }} of {{ $labels.namespace }}/{{ $labels.workload }} fails "
            "{{ $value | humanizePercentage }} more often than the others",
            f"If it is the canary, take its weight back. Threshold: {thresholds.canary_points} percentage points.",
        ),
        # Istio's own build alone counts that: such a request has arrived at nobody who could.
        _alert(
            "HybridMeshNoEndpoint",
            f"sum by ({_CALLED}) (rate("
            f'istio_requests_total{{platform!="", reporter="source", response_flags=~".*UH.*"}}[{WINDOW}])) > 0.05',
            "2m",
            "critical",
            "Calls to {{ $labels.destination_service_namespace }}/{{ $labels.destination_service_name }} find no "
            "healthy endpoint: {{ $value | humanize }} a second fail with 503",
            "All its VMs and pods, or all of a subset that gets requests, are gone or unhealthy. Their own counts of "
            "errors show nothing of it.",
        ),
        *(
            _alert(
                "HybridMeshGatewayDown",
                _gateway_is_down(gateway),
                "1m",
                "critical",
                f"No proxy of gateway {gateway.namespace}/{gateway.workload} answers",
                f"It is the way {gateway.leads_to}.",
                namespace=gateway.namespace,
                workload=gateway.workload,
            )
            for gateway in gateways
        ),
        _alert(
            "HybridMeshTargetDown",
            'up{job="hybrid-mesh-vms"} == 0',
            "5m",
            "warning",
            "The metrics of VM {{ $labels.vm }} cannot be read",
            "Its proxy does not run, or a firewall refuses Prometheus: the alerts above are blind for it.",
        ),
        *(
            _alert(
                "HybridMeshAgentDown",
                _agent_is_down(agent),
                "5m",
                "warning",
                f"Nothing comes from the metrics agent of network {agent.network}",
                "It does not run, or cannot write to Prometheus: the alerts above are blind for that network's VMs.",
            )
            for agent in agents
        ),
        _alert(
            "HybridMeshMetricsServerDown",
            f'absent(up{{job="hybrid-mesh-server", instance="{server}"}} == 1)',
            "5m",
            "warning",
            "The metrics server does not answer",
            "Prometheus keeps the VMs that it knows, and learns of no other; whether they are connected, in sync and "
            "healthy is unknown.",
            instance=server,
        ),
        _alert(
            "HybridMeshIstiodSilent",
            'hybrid_mesh_istiods{answers="no"} > 0 or hybrid_mesh_istiods{answers="yes"} == 0',
            "5m",
            "warning",
            "istiod does not tell sync states",
            "Whether proxies are in sync is unknown.",
        ),
    ]
    return [_placed(alert, runbook) for alert in made]


def _placed(alert: dict[str, Any], runbook: str) -> dict[str, Any]:
    """An alert that says where its runbook is: by a link, as Alertmanager and Grafana show one, where there is one."""
    place, annotations = alert["alert"].lower(), alert["annotations"]
    told = (
        {"runbook_url": f"{runbook}#{place}"}
        if runbook
        else {"description": f"{annotations['description']} Runbook: docs/metrics.md#{place} of hybrid-mesh."}
    )
    return {**alert, "annotations": {**annotations, **told}}


def _gateway_is_down(gateway: Gateway) -> str:
    proxies = f'up{{namespace="{gateway.namespace}", workload="{gateway.workload}"}}'
    down = f"absent({proxies} == 1)"
    if gateway.adopted:
        return f"{down} and {_was_seen(proxies)}"
    return f"{down} and on () {_of_agent(gateway.agent_in)}" if gateway.agent_in else down


def _agent_is_down(agent: Agent) -> str:
    written = _of_agent(agent.network)
    return f"absent({written})" + (f" and {_was_seen(written)}" if agent.to_others else "")


def _was_seen(series: str) -> str:
    """What makes an alert one of things that metrics have told of within a day."""
    return f"on () count_over_time({series}[1d])"


def _of_agent(network: str) -> str:
    """What an agent writes as long as it lives, whether the VMs that it asks answer or not."""
    return f'up{{job="hybrid-mesh-vms", network="{network}"}}'


def _alert(
    name: str, expression: str, lasting: str, severity: str, summary: str, description: str, **labels: str
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": lasting,
        # What is absent has no labels of its own.
        "labels": {"severity": severity, **labels},
        "annotations": {
            "summary": summary,
            "description": description,
        },
    }
