"""Rules of metrics, alerts and traces: docs/metrics.md has them as a table."""

import ipaddress
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from hybridmesh.istio.ports import PROXY_PORTS
from hybridmesh.istio.protojson import parse_duration
from hybridmesh.metrics.scrape import PROMETHEUS, PROMETHEUS_PORT, SERVER

from .draft import Draft
from .findings import Finding
from .models import Cluster, ControlPlane, MetricsAgent, Observability, Sidecar, Tag, Workload
from .shapes import in_scope, proxy_shape

_RENEWED_AT_HOURS = 12
_HOUR = 3600 * 10**9
"""In nanoseconds."""
_SOURCES = ("literal", "header", "environment")


def check_observability(draft: Draft) -> Iterator[Finding]:
    """Every finding about what is seen of the mesh."""
    observability = draft.section("observability", Observability)
    if observability is not None:
        yield from _scrapers(observability, draft)
        yield from _delivery(observability)
        yield from _namespace(observability, draft)
        yield from _certificate_hours(observability, draft)
        for network, agent in observability.agents.items():
            yield from _agent(f"observability.agents.{network}", network, agent, observability, draft)
    yield from _tags("sidecar.tracing", draft.sections.get("sidecar"), None)
    for name, workload in draft.workloads.items():
        yield from _metrics(f"workloads.{name}.metrics", workload)
        yield from _tags(f"workloads.{name}.sidecar.tracing", draft.sections.get("sidecar"), workload)


def open_to_everybody(path: str, scrapers: Sequence[str]) -> Iterator[Finding]:
    """A finding for each range that is no limit to who may read metrics."""
    for index, cidr in enumerate(scrapers):
        if ipaddress.ip_network(cidr).prefixlen == 0:
            yield Finding(
                f"{path}[{index}]",
                cidr,
                "is every address there is",
                "Whoever reaches a VM could read its metrics, which name every service that it calls.",
                "the ranges that Prometheus' connections come from.",
            )


def _scrapers(observability: Observability, draft: Draft) -> Iterator[Finding]:
    yield from open_to_everybody("observability.scrapers", observability.scrapers)
    cluster = draft.section("cluster", Cluster)
    if observability.scrapers or cluster is None:
        return
    for name, workload in draft.workloads.items():
        if workload.machines is not None and (workload.network or cluster.network) not in observability.agents:
            yield Finding(
                "observability.scrapers",
                "[]",
                f"is empty, and `workloads.{name}` has machines that no agent of `observability.agents` scrapes",
                "The firewall on its VMs would refuse Prometheus.",
                "the ranges that Prometheus' connections come from, such as that of the cluster's pods.",
            )
            return


def _delivery(observability: Observability) -> Iterator[Finding]:
    if observability.delivery == "operator" and observability.prometheus is not None:
        yield Finding(
            "observability.prometheus",
            "",
            "is given beside `delivery: operator`",
            "A Prometheus of the stack's own reads files, and would have none.",
            "leave it out, for the operator's Prometheus; or `delivery: files`.",
        )
    if observability.delivery == "files" and observability.operator_labels:
        yield Finding(
            "observability.operatorLabels",
            "",
            "is for `delivery: operator`",
            "Nothing would read it.",
            "leave it out, or `delivery: operator`.",
        )


def _namespace(observability: Observability, draft: Draft) -> Iterator[Finding]:
    plane = draft.section("controlPlane", ControlPlane)
    taken = {w.namespace: f"`workloads.{n}`" for n, w in draft.workloads.items()}
    taken |= {gateway.namespace: f"`networks.{name}`" for name, gateway in draft.gateways.items()}
    if plane is not None:
        taken[plane.namespace] = "Istio"
    if observability.namespace in taken:
        yield Finding(
            "observability.namespace",
            observability.namespace,
            f"is the namespace of {taken[observability.namespace]} too",
            "Whatever runs there could ask istiod for the configuration of every proxy.",
            "a namespace of its own, such as `hybrid-mesh-metrics`.",
        )


def _certificate_hours(observability: Observability, draft: Draft) -> Iterator[Finding]:
    """Certificates last as long as Istio's agent asks for, if it is told otherwise: SECRET_TTL."""
    sidecar, plane = draft.section("sidecar", Sidecar), draft.section("controlPlane", ControlPlane)
    if sidecar is None or plane is None or "SECRET_GRACE_PERIOD_RATIO" in f"{sidecar.environment}{plane.values}":
        return
    own = parse_duration(sidecar.environment.get("SECRET_TTL", ""))
    if own is None and (plane.mode == "adopt" or "SECRET_TTL" in f"{sidecar.environment}{plane.values}"):
        return
    left = _RENEWED_AT_HOURS if own is None else own / _HOUR / 2
    # A hundredth of its time sooner or later it is renewed (Istio's SECRET_GRACE_PERIOD_RATIO_JITTER), and the alert
    # comes after ten minutes.
    too_many = left * 0.98 + 1 / 6
    hours = observability.alerts.certificate_hours
    # With certificates of two hours or less there is no number of hours to be told at.
    if left > 1 and hours >= too_many:
        yield Finding(
            "observability.alerts.certificateHours",
            str(hours),
            f"is too near to the {left:g} hours that are left when Istio renews a certificate",
            "The alert would come for every certificate, again and again.",
            f"1 to {math.ceil(too_many) - 1}; or longer certificates, by SECRET_TTL in `sidecar.environment`.",
        )


def _agent(
    path: str, network: str, agent: MetricsAgent, observability: Observability, draft: Draft
) -> Iterator[Finding]:
    if agent.write_to is None and observability.prometheus is None:
        yield Finding(
            f"{path}.writeTo",
            "",
            "is missing, and there is no `observability.prometheus`",
            "What the agent scrapes would go nowhere.",
            "the URL of a remote-write receiver in the mesh.",
        )
    cluster = draft.section("cluster", Cluster)
    receiver = _service(agent.write_to, cluster.domain) if agent.write_to is not None and cluster is not None else None
    if observability.prometheus is not None and receiver == (PROMETHEUS, observability.namespace):
        yield Finding(
            f"{path}.writeTo",
            agent.write_to or "",
            "is the Prometheus of the stack's own, which takes what agents without `writeTo` write",
            "It would refuse what this one does.",
            "leave it out.",
        )
    if draft.networks_known and network not in draft.network_names:
        yield Finding(
            path,
            "",
            "is for a network that is not in `networks`",
            "Prometheus reaches VMs of the cluster's own network itself.",
            f"one of {', '.join(sorted(draft.network_names)) or 'none: there are no other networks'}.",
        )
    elif agent.machine in _machines(draft.workloads, network):
        yield from _agent_calls(path, agent, observability, draft)
    elif draft.complete:
        there = ", ".join(sorted(_machines(draft.workloads, network))) or "none: no workload has machines there"
        yield Finding(
            f"{path}.machine",
            agent.machine,
            f"is not a machine of a workload in network `{network}`",
            "There would be no agent, or one that reaches neither the VMs nor Prometheus.",
            f"one of {there}.",
        )


def _agent_calls(path: str, agent: MetricsAgent, observability: Observability, draft: Draft) -> Iterator[Finding]:
    """Whether an agent calls what it must as its workload, and is told of it."""
    name, workload = next(
        (name, workload) for name, workload in draft.workloads.items() if agent.machine in workload.hosts
    )
    sidecar, cluster = draft.section("sidecar", Sidecar), draft.section("cluster", Cluster)
    if sidecar is None or cluster is None:
        return
    shape = proxy_shape(sidecar, workload)
    past = None
    if shape.capture.outbound_cidrs == ():
        past = "`outboundCidrs` is empty"
    elif PROMETHEUS_PORT in shape.capture.exclude_outbound_ports:
        past = f"`excludeOutboundPorts` has {PROMETHEUS_PORT}"
    if past is not None and agent.write_to is None:
        yield Finding(
            f"{path}.machine",
            agent.machine,
            f"is of workload `{name}`, of whose `capture` {past}",
            f"What the agent writes to {PROMETHEUS} would leave past the proxy, without its identity, and be refused.",
            "let the proxy take it, or take a machine of another workload.",
        )
    place = observability.namespace
    called = {f"{SERVER}.{place}.svc.{cluster.domain}": place}
    if agent.write_to is None:
        called[f"{PROMETHEUS}.{place}.svc.{cluster.domain}"] = place
    elif receiver := _service(agent.write_to, cluster.domain):
        called[f"{receiver[0]}.{receiver[1]}.svc.{cluster.domain}"] = receiver[1]
    missing = {
        host: there
        for host, there in called.items()
        if shape.egress is not None and not in_scope(shape.egress, workload.namespace, there, host)
    }
    if missing:
        places = " and ".join(f"`{there}/*`" for there in dict.fromkeys(missing.values()))
        yield Finding(
            f"{path}.machine",
            agent.machine,
            f"is of workload `{name}`, whose `egress` leaves out {' and '.join(missing)}",
            "The agent could not call it: nothing would be seen of its network.",
            f"add {places} to `egress.hosts` of that workload, or take a machine of another.",
        )


def _service(url: str, domain: str) -> tuple[str, str] | None:
    """The Service of the cluster that a URL is of, and its namespace; None: another host."""
    found = re.fullmatch(rf"([^.]+)\.([^.]+)\.svc(\.{re.escape(domain)})?\.?", urlsplit(url).hostname or "")
    return None if found is None else (found[1], found[2])


def _machines(workloads: Mapping[str, Workload], network: str) -> set[str]:
    return {
        machine
        for workload in workloads.values()
        if workload.network == network
        for machine, host in workload.hosts.items()
        if not host.gone
    }


def _metrics(path: str, workload: Workload) -> Iterator[Finding]:
    if workload.metrics is not None and workload.metrics.port in PROXY_PORTS:
        yield Finding(
            f"{path}.port",
            str(workload.metrics.port),
            "is one of Istio's own",
            "Istio would be asked for the app's metrics, and not the app.",
            "the port of the app.",
        )


def _tags(path: str, sidecar: object, workload: Workload | None) -> Iterator[Finding]:
    """Of the stack's own word, or of what counts for a workload that has a word of its own."""
    stack = sidecar if isinstance(sidecar, Sidecar) else Sidecar()
    if workload is None:
        tracing = stack.tracing
    elif workload.sidecar is not None and workload.sidecar.tracing is not None:
        tracing = proxy_shape(stack, workload).tracing
    else:
        return
    for name, tag in (tracing.tags if tracing is not None else {}).items():
        yield from _tag(f"{path}.tags.{name}", tag)


def _tag(path: str, tag: Tag) -> Iterator[Finding]:
    given = [source for source in _SOURCES if getattr(tag, source) is not None]
    if len(given) != 1:
        yield Finding(
            path,
            "",
            f"has {' and '.join(given) or 'none of them'}; it takes exactly one of {', '.join(_SOURCES)}",
            "Istio would refuse the Telemetry.",
            f"give one of {', '.join(_SOURCES)}.",
        )
    elif tag.literal is not None and tag.default is not None:
        yield Finding(
            f"{path}.default",
            tag.default,
            "is given beside `literal`",
            "A text that is always there needs no default.",
            "leave it out.",
        )
