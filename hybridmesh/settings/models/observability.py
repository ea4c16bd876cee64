"""Metrics, alerts and dashboard."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .base import Cidr, Labels, Model, Name, Port, Sha256, Text, Url, Whole, setting


def _page(url: str) -> str:
    if set(url) & set("#{}"):
        raise ValueError("has one of `#{}`, where each alert adds its place in the page and Prometheus fills in values")
    return url


Share = Annotated[Whole, Field(ge=1, le=99)]


class Prometheus(Model):
    """A Prometheus of the stack's own, for those who have none."""

    image: Text = setting(
        meaning="Its image: one whose command `prometheus` is on PATH.",
        example="docker.io/prom/prometheus:v2.55.1",
        wrong="it could not start.",
        fix="an image that the cluster's nodes can pull, or have.",
    )
    retention_hours: Annotated[Whole, Field(ge=1, le=8760)] = setting(
        48,
        meaning="How long it keeps what it has scraped. It keeps that in its pod: a change of its configuration, or "
        "another node, starts with nothing.",
        example=48,
        wrong="the node's disk would fill up, or nothing could be looked up afterwards.",
        fix="hours, 1 to 8760.",
    )
    resources: Mapping[Literal["requests", "limits"], Mapping[str, str]] = setting(
        default_factory=dict,
        meaning="Kubernetes resource requests and limits.",
        example={"requests": {"cpu": "100m", "memory": "512Mi"}},
        wrong="the pod could not be placed.",
        fix="`{requests: {cpu: 100m}, limits: {…}}`.",
    )


class AgentPackage(Model):
    """A release archive of Prometheus, whose binary is the agent."""

    url: Url = setting(
        meaning="Where the VM downloads it: a `.tar.gz` with the program `prometheus` in it, as its releases are.",
        example="https://mirror.example.com/prometheus-2.55.1.linux-amd64.tar.gz",
        wrong="the VM could not run an agent.",
        fix="an http or https URL that the VM reaches.",
    )
    sha256: Sha256 = setting(
        meaning="Its SHA-256. An archive with another one is not unpacked.",
        example="0" * 64,
        wrong="a program that was tampered with would run on the VM.",
        fix="what `sha256sum` says of the archive: 64 hexadecimal digits.",
    )


class MetricsAgent(Model):
    """Who scrapes the VMs of a network that Prometheus cannot reach, and writes on what it finds."""

    machine: Name = setting(
        meaning="The VM that it runs on, by its name in the stack. It reaches the VMs of its network, and calls "
        "Prometheus as its workload, by mutual TLS.",
        example="far-1",
        wrong="nobody would scrape the network.",
        fix="a machine of a workload in this network; not a gateway machine, whose own calls are not in the mesh.",
    )
    package: AgentPackage = setting(
        meaning="Prometheus, which runs as an agent there.",
        example={"url": "https://mirror.example.com/prometheus.tar.gz", "sha256": "0" * 64},
        wrong="the VM could not run an agent.",
        fix="`{url, sha256}` of a release archive.",
    )
    write_to: Url | None = setting(
        None,
        meaning="Where it writes (remote write), a service of the mesh; default: the stack's own Prometheus.",
        example="http://prometheus.monitoring.svc.cluster.local:9090/api/v1/write",
        wrong="what it scrapes would go nowhere.",
        fix="the URL of a remote-write receiver, or leave it out and give `observability.prometheus`.",
    )


class Alerts(Model):
    """From when on somebody is told."""

    error_percent: Share = setting(
        5,
        meaning="Share of a workload version's requests that end with 5xx, over five minutes.",
        example=5,
        wrong="people would be woken for nothing, or not at all.",
        fix="1 to 99: an alert is about more than that.",
    )
    canary_points: Share = setting(
        5,
        meaning="How many percentage points more of one version's requests may fail than of the workload's other "
        "versions.",
        example=5,
        wrong="a bad canary would go on, or a good one would be taken for bad.",
        fix="1 to 99: an alert is about more than that.",
    )
    certificate_hours: Annotated[Whole, Field(ge=1, le=720)] = setting(
        6,
        meaning="How long before its end a proxy's certificate should have been renewed. Istio renews at half its "
        "time, 12 of 24 hours.",
        example=6,
        wrong="the alert would come when it is too late, or always.",
        fix="1 to 11; 1 to 720 where certificates last longer than 24 hours, and less than half of their life.",
    )
    runbook: Annotated[Url, AfterValidator(_page)] | None = setting(
        None,
        meaning="The address of the page docs/metrics.md, as whoever is on call reaches it: the `runbook_url` of each "
        "alert leads to its place there. Default: none; the alert's description names the page.",
        example="https://docs.example.com/hybrid-mesh/metrics/",
        wrong="whoever is told would follow a link that leads nowhere.",
        fix="an http or https URL without a place in the page, or leave it out.",
    )


class Observability(Model):
    """What makes the mesh's VMs seen: targets, scrape configuration, rules, dashboard."""

    image: Text = setting(
        meaning="The image of the metrics server, which tells Prometheus where the VMs are and what istiod and "
        "Kubernetes say of them: built from hybridmesh/metrics/Containerfile.",
        example="registry.example.com/hybrid-mesh-metrics:1.0",
        wrong="Prometheus would not know of any VM.",
        fix="an image that the cluster's nodes can pull, or have.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = setting(
        "IfNotPresent",
        meaning="When that image, and Prometheus', is pulled.",
        example="IfNotPresent",
        wrong="the pods could not start.",
        fix="Always, IfNotPresent or Never.",
    )
    namespace: Name = setting(
        "hybrid-mesh-metrics",
        meaning="The namespace of all this, which the stack makes. istiod lets it read sync states.",
        example="hybrid-mesh-metrics",
        wrong="there would be no place for it.",
        fix="a namespace that nothing else uses.",
    )
    delivery: Literal["files", "operator"] = setting(
        "files",
        meaning="`files`: ConfigMaps with a whole prometheus.yml and the rules. `operator`: ScrapeConfig and "
        "PrometheusRule, for the Prometheus operator, whose CRDs the cluster must have.",
        example="operator",
        wrong="nobody would read the scrape configuration.",
        fix="files or operator.",
    )
    operator_labels: Labels = setting(
        default_factory=dict,
        meaning="Labels of ScrapeConfig and PrometheusRule, by which the operator's Prometheus selects them.",
        example={"release": "kube-prometheus-stack"},
        wrong="the operator's Prometheus would not read them.",
        fix="what `kubectl get prometheus -A -o jsonpath='{..scrapeConfigSelector}'` asks for.",
    )
    dashboard_labels: Labels = setting(
        default_factory=lambda: {"grafana_dashboard": "1"},
        meaning="Labels of the dashboard's ConfigMap, by which Grafana's sidecar finds it.",
        example={"grafana_dashboard": "1"},
        wrong="Grafana would not load the dashboard.",
        fix='what Grafana\'s sidecar looks for; its default is `grafana_dashboard: "1"`.',
    )
    scrapers: tuple[Cidr, ...] = setting(
        (),
        meaning="Addresses that may read metrics on VMs (15020 and 15090, which are outside of mutual TLS): a firewall "
        "rule on each VM refuses all others. Default, with or without this section: none but the VM itself.",
        example=["10.0.0.0/16"],
        wrong="anybody could read metrics, or nobody.",
        fix="a list of CIDR ranges: where Prometheus' connections come from, as VMs see it (its pods' range, or the "
        "nodes' where those are translated).",
    )
    scrape_seconds: Annotated[Whole, Field(ge=1, le=120)] = setting(
        15,
        meaning="How often is scraped, and rules are evaluated.",
        example=15,
        wrong="alerts look back five minutes, and with less than two samples in that would not fire, or be wrong.",
        fix="seconds, 1 to 120.",
    )
    prometheus: Prometheus | None = setting(
        None,
        meaning="A Prometheus of the stack's own. Default: none; there is one that reads what `delivery` makes.",
        example={"image": "docker.io/prom/prometheus:v2.55.1"},
        wrong="nobody would scrape.",
        fix="`{image: …}`, or leave it out.",
    )
    agents: Mapping[Name, MetricsAgent] = setting(
        default_factory=dict,
        meaning="Who scrapes the VMs of networks that Prometheus cannot reach, by the network's name.",
        example={"datacenter": {"machine": "far-1", "package": {"url": "https://…", "sha256": "…"}}},
        wrong="the VMs of such a network would not be seen.",
        fix="`{network: {machine, package}}`.",
    )
    alerts: Alerts = setting(
        default_factory=Alerts,
        meaning="From when on somebody is told.",
        example={"errorPercent": 5},
        wrong="people would be woken for nothing, or not at all.",
        fix="a mapping, or leave it out.",
    )


class AppMetrics(Model):
    """Metrics of an app's own, which its proxy's agent adds to the proxy's."""

    port: Port = setting(
        meaning="The app's port that serves them, in plain HTTP.",
        example=9100,
        wrong="they would be missing.",
        fix="1 to 65535, none of Istio's own.",
    )
    path: Annotated[str, Field(pattern=r"^/[^\s?#]*$")] = setting(
        "/metrics",
        meaning="Their path.",
        example="/metrics",
        wrong="they would be missing.",
        fix="a path such as `/metrics`.",
    )
