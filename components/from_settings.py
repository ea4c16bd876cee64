"""What the settings mean in the terms of components. Nothing is made here."""

import json
from collections.abc import Mapping
from typing import Any

import pulumi

from hybridmesh.istio import versions
from hybridmesh.providers import ClusterAccess
from hybridmesh.settings import Settings
from hybridmesh.settings import models as given
from hybridmesh.settings.shapes import proxy_shape

from .command_host import CommandHost, CommandHostArgs
from .connection import Bastion
from .control_plane import ControlPlaneArgs, HelmCharts, NetworkAddress
from .pods import AppMetrics, PodsArgs
from .proxy_choices import SidecarCapture, SidecarLimits, SidecarPackage, SidecarResources
from .routing import HeaderMatch, Mirror, RoutingArgs
from .ssh_host import SshHost, SshHostArgs
from .telemetry import Traces, TraceTag
from .traffic_policy import ConnectionPool, LoadBalancer, OutlierDetection, TrafficPolicy
from .workload import Workload, WorkloadArgs, WorkloadPort
from .workload_access import AccessRule, WorkloadAccessArgs


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


def ssh_host_args(ssh: given.Ssh, mesh_address: str | None) -> SshHostArgs:
    """A machine that exists."""
    return SshHostArgs(
        address=ssh.address,
        port=ssh.port,
        user=ssh.user,
        host_key=ssh.host_key,
        private_key=ssh.key,
        passphrase=ssh.passphrase,
        bastion=bastion_of(ssh),
        mesh_address=mesh_address,
    )


def command_host_args(machine: str, command: given.Command, mesh_address: str | None) -> CommandHostArgs:
    """A machine that a pair of commands makes and removes."""
    return CommandHostArgs(
        machine=machine,
        create=command.create,
        delete=command.delete,
        seconds=command.timeout_seconds,
        private_key=command.key,
        passphrase=command.passphrase,
        bastion=bastion_of(command),
        mesh_address=mesh_address,
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
            boot=timeouts.boot_seconds,
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


def control_plane_args(
    settings: Settings, cluster: ClusterAccess, hosts: Mapping[str, SshHost | CommandHost]
) -> ControlPlaneArgs:
    """istiod, with the gateways of other networks, whose machines are among `hosts`."""
    plane = settings.control_plane
    return ControlPlaneArgs(
        mode=plane.mode,
        cluster=cluster,
        cluster_name=settings.cluster.name,
        network=settings.cluster.network,
        domain=settings.cluster.domain,
        namespace=plane.namespace,
        revision=plane.revision,
        charts=charts_of(plane.charts, plane.version),
        version=plane.version,
        mesh_id=plane.mesh_id,
        trust_domain=plane.trust_domain,
        mesh_networks={key: network_addresses(gateway, hosts) for key, gateway in settings.gateways.items()},
        values=plane.values,
        debug_readers=() if settings.observability is None else (settings.observability.namespace,),
        install_seconds=plane.timeouts.install_seconds,
        root_certificate_seconds=plane.timeouts.root_certificate_seconds,
        cleanup_seconds=plane.timeouts.cleanup_seconds,
    )


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


def workload_args(
    settings: Settings, key: str, *, namespace: pulumi.Output[str], trust_domain: pulumi.Output[str]
) -> WorkloadArgs:
    """What runs under one identity, and how it is called."""
    workload = settings.workloads[key]
    machines = workload.machines
    return WorkloadArgs(
        workload=key,
        namespace=namespace,
        service_account=workload.service_account or key,
        trust_domain=trust_domain,
        domain=settings.cluster.domain,
        labels=workload.labels,
        ports=workload_ports(workload),
        service_entry_hosts=workload.service.hosts,
        has_machines=machines is not None,
        machines_version="" if machines is None else machines.version,
        network=settings.network_of(workload),
        probe=probe_document(workload.probe),
        concurrency=proxy_shape(settings.sidecar, workload).concurrency,
        admission_policies=settings.control_plane.makes_admission_policies,
    )


def pods_args(
    key: str,
    workload: given.Workload,
    pods: given.Pods,
    *,
    namespace: pulumi.Output[str],
    service_account: pulumi.Output[str],
    injected_as: pulumi.Input[str],
) -> PodsArgs:
    """The part of a workload that runs in Kubernetes."""
    return PodsArgs(
        workload=key,
        namespace=namespace,
        service_account=service_account,
        labels=workload.labels,
        version=pods.version,
        image=pods.image,
        image_pull_policy=pods.image_pull_policy,
        replicas=pods.replicas,
        ready_seconds=pods.ready_seconds,
        command=pods.command,
        env=pods.env,
        injected_as=injected_as,
        dns_capture=pods.dns_capture,
        resources={str(k): v for k, v in pods.resources.items()},
        ports={port.name: port.target for port in workload.ports},
        probe=probe_document(workload.probe),
        metrics=None
        if workload.metrics is None
        else AppMetrics(port=workload.metrics.port, path=workload.metrics.path),
    )


def routing_args(
    settings: Settings, key: str, *, namespace: pulumi.Output[str], host: pulumi.Output[str]
) -> RoutingArgs:
    """How requests for a workload's `host` are split, over what its namespace's policy says."""
    workload, routing = settings.workloads[key], settings.routing[key]
    defaults = settings.namespace(workload.namespace).traffic_policy
    by_request = [port.port for port in workload.ports if port.by_request]
    return RoutingArgs(
        workload=key,
        namespace=namespace,
        host=host,
        aliases=workload.service.hosts[1:],
        subsets=routing.subsets_of(workload),
        weights=routing.weights,
        matches=[HeaderMatch(headers=match.headers, subset=match.subset) for match in routing.match],
        mirror=None
        if routing.mirror is None
        else Mirror(subset=routing.mirror.subset, percentage=routing.mirror.percentage),
        tcp_ports=[port.port for port in workload.ports if port.protocol == "TCP"],
        tls_ports=[port.port for port in workload.ports if port.protocol == "TLS"],
        has_http=bool(by_request),
        http_ports=by_request,
        policy=traffic_policy_of(routing.over(defaults)),
        timeout=routing.timeout,
        retry_attempts=routing.retries.attempts,
        per_try_seconds=routing.retries.per_try_seconds,
    )


def access_args(
    settings: Settings, key: str, *, namespace: pulumi.Output[str], workloads: Mapping[str, Workload]
) -> WorkloadAccessArgs:
    """Who may call a workload. `workloads`: those whose identities the rules name."""
    access = settings.access[key]
    return WorkloadAccessArgs(
        workload=key,
        namespace=namespace,
        default_deny=access.default == "deny",
        allow=[access_rule(rule, workloads) for rule in access.allow],
        deny=[access_rule(rule, workloads) for rule in access.deny],
        http_ports=[port.target for port in settings.workloads[key].ports if port.by_request],
    )


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
