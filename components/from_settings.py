"""What the settings mean in the terms of components. Nothing is made here."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pulumi
import yaml

from hybridmesh.istio import versions
from hybridmesh.istio.adopted import Asked
from hybridmesh.istio.names import injection_labels
from hybridmesh.metrics import rules, scrape
from hybridmesh.settings import Settings
from hybridmesh.settings import models as given
from hybridmesh.settings.access import has_source
from hybridmesh.settings.lost import lost_machines
from hybridmesh.settings.shapes import proxy_shape
from hybridmesh.settings.version_checks import outside_the_table

from .command_host import CommandHost
from .connection import Bastion
from .control_plane import HelmCharts, NetworkAddress
from .network_gateway import gateway_group
from .proxy_choices import SidecarCapture, SidecarLimits, SidecarPackage, SidecarResources
from .ssh_host import SshHost
from .telemetry import Traces, TraceTag
from .traffic_policy import ConnectionPool, LoadBalancer, OutlierDetection, TrafficPolicy
from .workload import Workload, WorkloadPort
from .workload_access import AccessRule


def bastion_of(access: given.Ssh | given.Command) -> Bastion | None:
    """The bastion of a machine; without a way of its own to log in it takes the machine's."""
    bastion = access.bastion
    if bastion is None:
        return None
    return Bastion(
        address=bastion.address,
        port=bastion.port,
        user=bastion.user,
        host_key=bastion.host_key,
        private_key=access.bastion_login.key,
        passphrase=access.bastion_login.passphrase,
    )


def proxy_choices(settings: Settings, workload: given.Workload | None) -> dict[str, Any]:
    """What a machine's proxy is told the same way, whether it joins over SSH or by itself: see `ProxyChoices`."""
    sidecar = settings.sidecar
    if sidecar.package is None:
        raise ValueError("sidecar.package is missing; hybridmesh.settings.parse refuses such settings.")
    shape = proxy_shape(sidecar, workload)
    timeouts = sidecar.timeouts
    return {
        "package": SidecarPackage(
            version=sidecar.package.version,
            url=sidecar.package.url or "",
            sha256=sidecar.package.sha256 or "",
            files=sidecar.package.by_kind if sidecar.package.files else {},
        ),
        "environment": {**sidecar.environment, **app_metrics_environment(workload)},
        "dns_capture": shape.dns_capture,
        "log_level": shape.log_level,
        "capture": SidecarCapture(
            inbound_ports=shape.capture.inbound_ports,
            all_inbound_ports=shape.capture.all_inbound_ports,
            exclude_inbound_ports=shape.capture.exclude_inbound_ports,
            outbound_cidrs=shape.capture.outbound_cidrs,
            exclude_outbound_cidrs=shape.capture.exclude_outbound_cidrs,
            exclude_outbound_ports=shape.capture.exclude_outbound_ports,
        ),
        "resources": SidecarResources(
            cpu_percent=shape.limits.cpu_percent,
            memory=shape.limits.memory,
            memory_high=shape.limits.memory_high,
            tasks=shape.limits.tasks,
        ),
        "app_units": workload.machines.units if workload and workload.machines else (),
        "supported_systems": "" if "system" in settings.versions.accept else versions.systems_line(),
        "accept_findings": sidecar.preflight.accept,
        "token_seconds": sidecar.token_seconds,
        "limits": SidecarLimits(
            dial=timeouts.dial_seconds,
            dial_attempts=timeouts.dial_attempts,
            download=timeouts.download_seconds,
            install=timeouts.install_seconds,
            ready=timeouts.ready_seconds,
            sync=timeouts.sync_seconds,
            rotation=timeouts.rotation_seconds,
            drain=timeouts.drain_seconds,
            gateway=timeouts.gateway_seconds,
            cut_off=sidecar.upgrade.cut_off_seconds,
        ),
    }


def charts_of(charts: given.Charts | None, version: str) -> HelmCharts | None:
    """Where istiod's and the gateway's charts are; None: they are installed by others."""
    return None if charts is None else HelmCharts(path=charts.path, repository=charts.repository, version=version)


def asked_of_adopted(settings: Settings) -> dict[str, Asked]:
    """What is asked of the istiods that are adopted, by revision."""
    plane = settings.control_plane
    made = injection_labels(plane.revision)
    namespaces = {w.namespace: made for w in settings.workloads.values()}
    namespaces |= {n.gateway.namespace: made for n in settings.networks.values() if n.gateway is not None}
    namespaces |= {name: {} for name, there in settings.namespaces.items() if there.existing}
    if settings.observability is not None:
        namespaces[settings.observability.namespace] = made
    of_machines = [(name, w) for name, w in sorted(settings.workloads.items()) if w.machines is not None]
    registers = [
        f"workloads.{name}.machines.registration"
        for name, workload in of_machines
        if workload.machines is not None and workload.machines.registration == "auto"
    ]
    registers += [f"networks.{n}.gateway" for n, network in sorted(settings.networks.items()) if network.gateway]
    joining = [f"workloads.{n}.machines.hosts" for n, w in of_machines if w.machines is not None and w.machines.hosts]
    joining += [f"networks.{n}.gateway.hosts" for n, network in sorted(settings.networks.items()) if network.gateway]
    probes = [f"workloads.{name}.probe" for name, workload in of_machines if workload.probe is not None]
    versions_at = {plane.revision: (plane.version, "controlPlane.version")}
    for name, revision in plane.revisions.items():
        versions_at[name] = (revision.version or plane.version, f"controlPlane.revisions.{name}.version")
    pods_in = sorted({w.namespace for w in settings.workloads.values() if _goes_by_namespace(w)})
    has_gateways = any(network.gateway for network in settings.networks.values())
    joins = bool(of_machines) or has_gateways or settings.google is not None
    return {
        revision: Asked(
            namespace=plane.namespace,
            revision=revision,
            version=version,
            version_at=place,
            cluster=settings.cluster.name,
            network=settings.cluster.network,
            domain=settings.cluster.domain,
            networks=sorted(settings.networks),
            namespaces=namespaces,
            pods_in=pods_in if revision == plane.revision else [],
            registers=next(iter(registers), ""),
            probe=next(iter(probes), ""),
            joins=joins,
            signs=joins and "CA_ADDR" not in settings.sidecar.environment,
            watched=next(iter(joining), ""),
            routed={name: (settings.workloads[name].namespace, _hosts(settings, name)) for name in settings.routing},
        )
        for revision, (version, place) in versions_at.items()
    }


def _goes_by_namespace(workload: given.Workload) -> bool:
    """Whether its pods are injected by their namespace's label, and not, nor kept out, by one of their own."""
    return workload.pods is not None and not workload.labels.keys() & {"sidecar.istio.io/inject", "istio.io/rev"}


def _hosts(settings: Settings, name: str) -> Sequence[str]:
    """The full host names of a workload's service."""
    workload = settings.workloads[name]
    return workload.service.hosts or [f"{name}.{workload.namespace}.svc.{settings.cluster.domain}"]


def network_addresses(
    gateway: given.NetworkGateway, hosts: Mapping[str, SshHost | CommandHost]
) -> list[NetworkAddress]:
    """Where pods reach a network's gateway: one address for all of its machines, or that of each."""
    if gateway.address is not None:
        return [NetworkAddress(address=gateway.address, port=gateway.port)]
    return [NetworkAddress(address=hosts[machine].mesh_address, port=gateway.port) for machine in sorted(gateway.hosts)]


def hosts_of_entries(settings: Settings, network: str) -> list[str]:
    """The hosts of ServiceEntries with endpoints in a network. Pods are in the cluster's own."""
    return [
        host
        for _, workload in sorted(settings.workloads.items())
        if (workload.pods is not None and network == settings.cluster.network)
        or (workload.machines is not None and network == settings.network_of(workload))
        for host in workload.service.hosts
    ]


def access_rule(rule: given.AccessRule, components: Mapping[str, Workload]) -> AccessRule:
    """A rule of the settings with its callers' identities."""
    return AccessRule(
        callers=[components[name].identity for name in rule.from_],
        principals=rule.principals,
        namespaces=rule.namespaces,
        methods=rule.methods,
        paths=rule.paths,
        ports=rule.ports,
    )


def workload_ports(workload: given.Workload) -> list[WorkloadPort]:
    """A workload's ports as the components have them."""
    return [WorkloadPort(name=p.name, port=p.port, target=p.target, protocol=p.protocol) for p in workload.ports]


def accepted_risks(settings: Settings) -> list[str]:
    """What `versions.accept` lets through, and what may break with it; and what holds only if others see to it."""
    found = outside_the_table(settings.control_plane, settings.sidecar, settings.workloads, settings.networks)
    risks = [
        f"{risk.objection.kind} {risk.problem}, as versions.accept allows. {risk.objection.consequence}"
        for risk in found
    ]
    if "system" in settings.versions.accept:
        risks.append(f"VMs of any system may join, as versions.accept allows. {versions.MAY_BREAK['system']}")
    return [*risks, *_plain_text_elsewhere(settings)]


def _plain_text_elsewhere(settings: Settings) -> Iterator[str]:
    """Rules that refuse by identity, in namespaces whose owners say whether a caller must have one."""
    for name, access in sorted(settings.access.items()):
        namespace = settings.workloads[name].namespace
        if access.default == "allow" and settings.namespace(namespace).existing and any(map(has_source, access.deny)):
            yield (
                f"access.{name}.deny refuses callers by identity in namespace {namespace}, which is another's. Callers "
                "in plain text have none: they pass, unless its owner's mTLS is STRICT."
            )


def losses(settings: Settings) -> list[str]:
    """What it means that machines are declared lost."""
    return [
        f"{machine} is declared lost ({place}): it is no part of the mesh and of this stack, and nobody asks it. "
        "Should it still run, it would come back into the mesh by its certificate: switch it off."
        for machine, place in sorted(lost_machines(settings).items())
    ]


def app_metrics_environment(workload: given.Workload | None) -> dict[str, str]:
    """What tells the agent on a machine where the app's own metrics are, as annotations tell it in a pod."""
    if workload is None or workload.metrics is None:
        return {}
    metrics = {"scrape": "true", "path": workload.metrics.path, "port": str(workload.metrics.port)}
    return {"ISTIO_PROMETHEUS_ANNOTATIONS": json.dumps(metrics, separators=(",", ":"))}


def traces_of(tracing: given.Tracing | None) -> Traces | None:
    """Traces of the settings as the components have them."""
    if tracing is None:
        return None
    return Traces(
        sampling_percent=tracing.sampling_percent,
        provider=tracing.providers[0] if tracing.providers else None,
        tags={
            name: TraceTag(literal=tag.literal, header=tag.header, environment=tag.environment, default=tag.default)
            for name, tag in tracing.tags.items()
        },
    )


def watched_gateways(settings: Settings) -> list[rules.Gateway]:
    """The gateways that are missed when they do not answer.

    One that is adopted by its address is not: nobody says which pods are its own. Nor is that of a network without an
    agent: nobody may reach its metrics, and what the metrics server says of its machines is watched anyway.
    """
    agents = watched_agents(settings)
    found = []
    if not settings.gateway.by_address:
        place, leads_to = settings.control_plane.namespace, "of VMs to istiod, and between networks"
        adopted = settings.gateway.mode == "adopt"
        found.append(rules.Gateway(place, settings.gateway.name, leads_to, adopted))
    for network, facts in sorted(settings.networks.items()):
        if facts.gateway is not None and network in agents:
            leads_to = f"into network {network}"
            found.append(rules.Gateway(facts.gateway.namespace, gateway_group(network), leads_to, agent_in=network))
    return found


def watched_agents(settings: Settings) -> list[str]:
    """The networks whose agent is missed: those that write to where the rules are, or may write there."""
    if settings.observability is None:
        return []
    own = settings.observability.prometheus is not None
    return sorted(n for n, agent in settings.observability.agents.items() if agent.write_to is None or not own)


def namespaces_of_machines(settings: Settings) -> list[str]:
    """Where WorkloadEntries of machines are."""
    found = {w.namespace for w in settings.workloads.values() if w.machines is not None}
    return sorted(found | {n.gateway.namespace for n in settings.networks.values() if n.gateway is not None})


def namespaces_of_pods(settings: Settings) -> list[str]:
    """Where pods with a proxy are, the east-west gateway's among them."""
    found = {w.namespace for w in settings.workloads.values() if w.pods is not None}
    return sorted(found | {settings.control_plane.namespace})


def server_config(settings: Settings, hosts: Mapping[str, SshHost | CommandHost]) -> pulumi.Output[dict[str, Any]]:
    """What the metrics server is told; see `hybridmesh.metrics.server.Config`."""
    machines = [
        {
            "name": machine,
            "namespace": workload.namespace,
            "workload": key,
            "network": settings.network_of(workload),
            "address": hosts[machine].mesh_address,
        }
        for key, workload in sorted(settings.workloads.items())
        for machine in sorted(workload.machines.hosts if workload.machines else {})
    ]
    machines += [
        {
            "name": machine,
            "namespace": network.gateway.namespace,
            "workload": gateway_group(key),
            "network": key,
            "address": hosts[machine].mesh_address,
        }
        for key, network in sorted(settings.networks.items())
        if network.gateway is not None
        for machine in sorted(network.gateway.hosts)
    ]
    agents = settings.observability.agents if settings.observability is not None else {}
    revisions = sorted(settings.control_plane.revisions)
    return pulumi.Output.all(
        namespaces=namespaces_of_machines(settings),
        pods_in=namespaces_of_pods(settings),
        network=settings.cluster.network,
        agents=sorted(agents),
        istio_namespace=settings.control_plane.namespace,
        revision=settings.control_plane.revision,
        machines=machines,
        **({"revisions": revisions} if revisions else {}),
    )


def agent_file(network: str, seconds: int) -> Callable[[Sequence[str]], str]:
    """An agent's prometheus.yml, of the metrics server's address and where it writes."""
    return lambda known: yaml.safe_dump(scrape.agent_config(known[0], network, known[1], seconds), sort_keys=False)


def probe_document(probe: given.Probe | None) -> Mapping[str, Any] | None:
    """A probe as Kubernetes and Istio write it."""
    return None if probe is None else probe.model_dump(by_alias=True, exclude_none=True, mode="json")


def traffic_policy_of(policy: given.TrafficPolicy) -> TrafficPolicy:
    """A traffic policy of the settings as the components have it."""
    pool, outliers, balancer = policy.connection_pool, policy.outlier_detection, policy.load_balancer
    locality = balancer.locality_lb_setting if balancer is not None else None
    return TrafficPolicy(
        connection_pool=None
        if pool is None
        else ConnectionPool(
            max_connections=pool.tcp.max_connections,
            connect_timeout=pool.tcp.connect_timeout,
            http1_max_pending_requests=pool.http.http1_max_pending_requests,
            http2_max_requests=pool.http.http2_max_requests,
            max_requests_per_connection=pool.http.max_requests_per_connection,
            max_retries=pool.http.max_retries,
            idle_timeout=pool.http.idle_timeout,
        ),
        outlier_detection=None
        if outliers is None
        else OutlierDetection(
            consecutive_errors=outliers.consecutive_errors,
            interval_seconds=outliers.interval_seconds,
            base_ejection_seconds=outliers.base_ejection_seconds,
            max_ejection_percent=outliers.max_ejection_percent,
        ),
        load_balancer=None
        if balancer is None
        else LoadBalancer(
            simple=balancer.simple,
            failover={rule.from_: rule.to for rule in locality.failover} if locality else {},
            distribute={spread.from_: dict(spread.to) for spread in locality.distribute} if locality else {},
        ),
        tls=None if policy.tls is None else policy.tls.mode,
    )
