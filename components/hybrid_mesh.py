"""One stack's mesh: every component, wired by its settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_kubernetes

from hybridmesh.istio import injected_as, istiod_host
from hybridmesh.istio.ports import AGENT_STATUS, ENVOY_METRICS
from hybridmesh.metrics import rules
from hybridmesh.providers import ISTIOD, AdoptedIstiod, Adopters, AdoptersArgs, ClusterAccess
from hybridmesh.settings import Settings
from hybridmesh.settings import models as given
from hybridmesh.settings.lost import lost_machines, present
from hybridmesh.settings.network_checks import gateway_account
from hybridmesh.settings.shapes import proxy_shape
from hybridmesh.settings.version_checks import revision_of
from hybridmesh.settings.ways import gateway_ports, proxy_ports, proxy_ports_forwarded

from .access_policy import AccessPolicy, AccessPolicyArgs
from .command_host import CommandHost, CommandHostArgs
from .control_plane import ControlPlane, ControlPlaneArgs
from .east_west_gateway import EastWestGateway, EastWestGatewayArgs
from .from_settings import (
    accepted_risks,
    access_rule,
    agent_file,
    asked_of_adopted,
    bastion_of,
    charts_of,
    hosts_of_entries,
    losses,
    namespaces_of_machines,
    namespaces_of_pods,
    network_addresses,
    probe_document,
    proxy_choices,
    server_config,
    traces_of,
    traffic_policy_of,
    watched_agents,
    watched_gateways,
    workload_ports,
)
from .mesh_namespace import MeshNamespace, MeshNamespaceArgs
from .metrics_agent import MetricsAgent, MetricsAgentArgs
from .network_gateway import NetworkGateway, NetworkGatewayArgs, gateway_group, router_environment
from .observability import Observability, ObservabilityArgs, OwnPrometheus
from .pods import AppMetrics, Pods, PodsArgs
from .preflight_gate import PreflightGate
from .proxy_scope import ProxyScope, ProxyScopeArgs
from .revision import Revision, RevisionArgs
from .routing import HeaderMatch, Mirror, Routing, RoutingArgs
from .sidecar import Sidecar, SidecarArgs
from .source_positions import without_source_positions
from .ssh_help import SshHelp
from .ssh_host import SshHost, SshHostArgs
from .telemetry import WorkloadTelemetry, WorkloadTelemetryArgs
from .topology import Facts, drawing, machine_facts, network_facts, workload_facts
from .traffic_policy import NamespaceTraffic, NamespaceTrafficArgs
from .turns import Lane, Turns
from .workload import Workload, WorkloadArgs
from .workload_access import WorkloadAccess, WorkloadAccessArgs

if TYPE_CHECKING:
    from .google_cloud import GoogleCloud


@dataclass(frozen=True, kw_only=True, slots=True)
class HybridMeshArgs:
    """Inputs of `HybridMesh`."""

    settings: Settings
    """The stack's settings; they decide how many resources there are and what they are called."""


class HybridMesh(pulumi.ComponentResource):
    """Wires all components for the settings of one stack.

    It owns the Kubernetes provider, and nothing else that its components do not own.
    """

    topology: pulumi.Output[dict[str, Any]]
    """What is there, for people and for the console: plain JSON, nothing secret."""
    drawing: pulumi.Output[str]
    """The same as a Mermaid flowchart."""

    @without_source_positions()
    def __init__(self, name: str, args: HybridMeshArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        settings = present(args.settings)
        super().__init__(
            "hybridmesh:hybrid_mesh:HybridMesh",
            name,
            {
                "cluster": settings.cluster.name,
                "network": settings.cluster.network,
                "lost": sorted(lost_machines(args.settings)) or None,
            },
            opts,
        )
        self._name = name
        self._settings = settings
        self._turns = Turns(settings.sidecar.upgrade.batch_size)
        for warning in (*accepted_risks(settings), *losses(args.settings)):
            pulumi.log.warn(warning, self)
        self._cluster = ClusterAccess(
            kubeconfig=settings.cluster.kubeconfig,
            context=settings.cluster.context,
            request_seconds=settings.sidecar.timeouts.api_seconds,
        )
        self._provider = pulumi_kubernetes.Provider(
            f"{name}-kubernetes",
            # The path, not the contents: a new certificate in the file must not look like another cluster.
            kubeconfig=settings.cluster.kubeconfig,
            context=settings.cluster.context,
            # Else the metrics server's, which names the machines, would be deleted and made anew with its pods.
            enable_config_map_mutable=True,
            opts=pulumi.ResourceOptions(parent=self, depends_on=self._adopted_istiods()),
        )
        self._child = pulumi.ResourceOptions(parent=self, providers={"kubernetes": self._provider})
        self._charts = charts_of(settings.control_plane.charts, settings.control_plane.version)
        self._in_namespaces: dict[str, list[pulumi.ComponentResource]] = {}
        self._hosts: dict[str, SshHost | CommandHost] = {}
        self._members: dict[str, Sidecar] = {}
        self._workloads: dict[str, Workload] = {}
        self._facts = Facts()
        for network in settings.networks.values():
            for machine, host in sorted((network.gateway.hosts if network.gateway else {}).items()):
                self._host(machine, host)
        self._gate = PreflightGate(f"{name}-preflights", self._child)
        self._ssh_help = SshHelp(name)
        self._control_plane = ControlPlane(f"{name}-control-plane", self._plane_args(), opts=self._child)
        self._injected_as = self._what_pods_are_told()
        self._revisions = self._make_revisions()
        self._google = self._make_google()
        self._gateway = self._make_gateway()
        namespaces = self._make_namespaces()
        with self._gate:
            for key in sorted(settings.workloads):
                self._make_workload(key, settings.workloads[key], namespaces[settings.workloads[key].namespace])
            for key in sorted(settings.networks):
                gateway = settings.networks[key].gateway
                if gateway is not None:
                    self._make_network_gateway(key, gateway, namespaces[gateway.namespace])
                self._facts.networks[key] = network_facts(settings.networks[key], self._hosts)
        for key in sorted(settings.access):
            self._make_access(key, settings.access[key], namespaces[settings.workloads[key].namespace])
        if settings.observability is not None:
            self._make_observability(settings.observability, namespaces)
        self.topology = self._facts.of_stack(settings, self._control_plane, self._gateway)
        self.drawing = self.topology.apply(drawing)
        watched = [] if settings.observability is None else [settings.observability.namespace]
        self._ask_for_adopters([*namespaces, *watched])
        self.register_outputs({"topology": self.topology, "drawing": self.drawing})

    def _adopted_istiods(self) -> list[pulumi.Resource]:
        """All that is in Kubernetes waits for them, and so is not touched where one does not go with the settings."""
        if self._settings.control_plane.mode != "adopt":
            return []
        child = pulumi.ResourceOptions(parent=self)
        return [
            AdoptedIstiod(f"{self._name}-adopted-{revision}", self._cluster, asked, opts=child)
            for revision, asked in asked_of_adopted(self._settings).items()
        ]

    def _ask_for_adopters(self, namespaces: Sequence[str]) -> None:
        """Made last, so that a destroy begins with it, and ends with it while others use this stack's istiod; and that
        an update asks before it removes what is somebody else's by now."""
        settings, plane = self._settings, self._settings.control_plane
        gateway = f"gateway {settings.gateway.name}"
        others = {
            f"namespace {name}": f"namespaces.{name}.existing: true"
            for name, namespace in sorted(settings.namespaces.items())
            if namespace.existing
        }
        if plane.mode == "adopt":
            others[ISTIOD] = "controlPlane.mode: adopt"
        if settings.gateway.mode == "adopt":
            others[gateway] = "gateway.mode: adopt"
        Adopters(
            f"{self._name}-adopters",
            AdoptersArgs(
                cluster=self._cluster,
                namespace=plane.namespace,
                revision=plane.revision,
                revisions=list(self._revisions),
                own=namespaces,
                resources={
                    ISTIOD: urns_in(self._control_plane, *self._revisions.values()),
                    gateway: urns_in(self._gateway),
                    **{f"namespace {name}": urns_in(*made) for name, made in sorted(self._in_namespaces.items())},
                },
                others=others,
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=self._all_so_far()),
        )

    def _all_so_far(self) -> "pulumi.Output[Sequence[pulumi.Resource]]":
        """All that this component has made, once its members are whole; Pulumi has no public name for it."""
        made = sorted(self._childResources, key=id)
        return pulumi.Output.all(*(member.asked_for for member in self._members.values())).apply(lambda _: made)

    def _what_pods_are_told(self) -> pulumi.Input[str]:
        """What rolls pods when it changes. The trust domain of a mesh that is adopted is its own."""
        cluster, plane = self._settings.cluster, self._settings.control_plane

        def told(trust_domain: str) -> str:
            return injected_as(
                cluster.name, cluster.network, istiod_host(plane.namespace, plane.revision), trust_domain
            )

        adopted = plane.mode == "adopt"
        return self._control_plane.trust_domain.apply(told) if adopted else told(plane.trust_domain)

    def _plane_args(self) -> ControlPlaneArgs:
        settings, plane = self._settings, self._settings.control_plane
        return ControlPlaneArgs(
            mode=plane.mode,
            cluster=self._cluster,
            cluster_name=settings.cluster.name,
            network=settings.cluster.network,
            domain=settings.cluster.domain,
            namespace=plane.namespace,
            revision=plane.revision,
            charts=self._charts,
            version=plane.version,
            mesh_id=plane.mesh_id,
            trust_domain=plane.trust_domain,
            mesh_networks={
                key: network_addresses(network.gateway, self._hosts)
                for key, network in settings.networks.items()
                if network.gateway is not None
            },
            values=plane.values,
            debug_readers=() if settings.observability is None else (settings.observability.namespace,),
            install_seconds=plane.timeouts.install_seconds,
            root_certificate_seconds=plane.timeouts.root_certificate_seconds,
            cleanup_seconds=plane.timeouts.cleanup_seconds,
        )

    def _make_revisions(self) -> dict[str, Revision]:
        """The istiods beside the first, which they follow."""
        plane = self._settings.control_plane
        return {
            name: Revision(
                f"{self._name}-revision-{name}",
                RevisionArgs(
                    plane=self._plane_args(),
                    revision=name,
                    follows=self._control_plane.namespace,
                    charts=charts_of(revision.charts or plane.charts, revision.version or plane.version),
                    version=revision.version,
                    values=dict(revision.values),
                ),
                opts=self._child,
            )
            for name, revision in sorted(plane.revisions.items())
        }

    def _mesh_config(self, revision: str) -> pulumi.Output[str]:
        """That of the istiod of a revision."""
        return (self._revisions.get(revision) or self._control_plane).mesh_config

    def _make_gateway(self) -> EastWestGateway:
        settings, gateway = self._settings, self._settings.gateway
        return EastWestGateway(
            f"{self._name}-gateway",
            EastWestGatewayArgs(
                mode=gateway.mode,
                cluster=self._cluster,
                gateway=gateway.name,
                namespace=self._control_plane.namespace,
                revision=settings.control_plane.revision,
                injected_as=self._injected_as,
                network=settings.cluster.network,
                discovery_host=self._control_plane.discovery_host,
                more_discovery_hosts=[self._revisions[name].discovery_host for name in sorted(self._revisions)],
                domain=settings.cluster.domain,
                # Without another network nobody calls a service by this way.
                service_hosts=hosts_of_entries(settings, settings.cluster.network) if settings.networks else (),
                charts=self._charts,
                address=gateway.address,
                values=gateway.values if self._google is None else self._google.gateway_values(dict(gateway.values)),
                install_seconds=gateway.install_seconds,
            ),
            opts=self._child,
        )

    def _make_google(self) -> "GoogleCloud | None":
        settings = self._settings
        if settings.google is None:
            return None
        # Not above: it takes most of a second, which stacks elsewhere need not wait for.
        from .google_cloud import GoogleCloud, GoogleCloudArgs

        return GoogleCloud(
            f"{self._name}-google",
            GoogleCloudArgs(
                google=settings.google,
                gateway=settings.gateway.name,
                reserve=settings.google.reserve_gateway_address
                and settings.gateway.mode == "install"
                and settings.gateway.address is None,
                scrapers=settings.observability.scrapers if settings.observability is not None else (),
            ),
            opts=self._child,
        )

    def _make_google_machines(
        self, key: str, workload: given.Workload, machines: given.Machines, component: Workload, google: "GoogleCloud"
    ) -> None:
        """Fleets and single machines, which join by themselves."""
        from .self_join import SelfJoinArgs

        settings, facts = self._settings, self._facts.google
        ports = tuple(port.target for port in workload.ports)
        revision = revision_of(settings.control_plane, machines)
        names = sorted({**machines.fleets, **machines.instances})
        agents = self._agent(settings.network_of(workload)) if names else []
        agent = [address.apply(lone_ipv4) for address in agents]
        for name in names:
            join = SelfJoinArgs(
                machines=name,
                api_server=google.api_server,
                cluster_name=settings.cluster.name,
                istio_namespace=settings.control_plane.namespace,
                revision=revision,
                mesh_config=self._mesh_config(revision),
                root_certificate=self._control_plane.root_certificate,
                gateway_address=self._gateway.address,
                group=component.group,
                service_account=component.service_account,
                identity=component.identity,
                scrapers=[*google.place.observers, *agent],
                **proxy_choices(settings, workload),
            )
            resource = f"{self._name}-{name}"
            if name in machines.fleets:
                fleet = google.fleet(resource, name, machines.fleets[name], ports, join, self._child)
                facts[name] = pulumi.Output.all(
                    kind="fleet",
                    workload=key,
                    version=machines.version,
                    serviceAccount=fleet.service_account,
                    group=fleet.instance_group,
                )
            else:
                made = google.instance(resource, name, machines.instances[name], ports, join, self._child)
                facts[name] = pulumi.Output.all(
                    kind="instance",
                    workload=key,
                    version=machines.version,
                    serviceAccount=made.service_account,
                    address=made.address,
                )

    def _make_namespaces(self) -> dict[str, pulumi.Output[str]]:
        """One a namespace, however many workloads share it. All follow istiod."""
        made: dict[str, pulumi.Output[str]] = {}
        settings = self._settings
        needed = {workload.namespace for workload in settings.workloads.values()}
        needed |= {network.gateway.namespace for network in settings.networks.values() if network.gateway is not None}
        for namespace in sorted(needed):
            if self._settings.namespace(namespace).existing:
                made[namespace] = _following(self._control_plane.revision, namespace)
                continue
            component = MeshNamespace(
                f"{self._name}-{namespace}",
                MeshNamespaceArgs(namespace=namespace, revision=self._control_plane.revision),
                opts=self._child,
            )
            made[namespace] = component.namespace
            parts = self._in_namespaces[namespace] = [component]
            policy = self._settings.namespace(namespace).traffic_policy
            if policy is not None:
                traffic = NamespaceTraffic(
                    f"{self._name}-{namespace}",
                    NamespaceTrafficArgs(
                        namespace=namespace,
                        waits_for=component.namespace,
                        domain=self._settings.cluster.domain,
                        policy=traffic_policy_of(policy),
                    ),
                    opts=self._child,
                )
                parts.append(traffic)
            if self._settings.mtls != "none":
                access = AccessPolicy(
                    f"{self._name}-{namespace}",
                    AccessPolicyArgs(namespace=component.namespace, mtls=self._settings.mtls),
                    opts=self._child,
                )
                parts.append(access)
        return made

    def _make_workload(self, key: str, workload: given.Workload, namespace: pulumi.Output[str]) -> None:
        """A workload with its pods and machines, and the way of requests to them."""
        settings = self._settings
        component = self._workloads[key] = self._make_identity(key, workload, namespace)
        self._make_shape(key, workload, namespace)
        routed = namespace
        if workload.pods is not None:
            # A route to a version of which there is no pod, for its update was refused, would lead nowhere.
            routed = self._make_pods(key, workload, workload.pods, namespace, component).namespace
        if key in settings.routing:
            self._make_routing(key, workload, settings.routing[key], routed, component)
        hosts = workload.machines.hosts if workload.machines else {}
        lane = self._turns.of(len(hosts))
        for machine in sorted(hosts):
            self._make_machine(machine, key, workload, hosts[machine], component, lane)
        if workload.machines is not None and self._google is not None:
            self._make_google_machines(key, workload, workload.machines, component, self._google)
        self._facts.workloads[key] = workload_facts(key, settings, component)

    def _make_identity(self, key: str, workload: given.Workload, namespace: pulumi.Output[str]) -> Workload:
        settings = self._settings
        return Workload(
            f"{self._name}-{key}",
            WorkloadArgs(
                workload=key,
                namespace=namespace,
                service_account=workload.service_account or key,
                trust_domain=self._control_plane.trust_domain,
                domain=settings.cluster.domain,
                labels=workload.labels,
                ports=workload_ports(workload),
                service_entry_hosts=workload.service.hosts,
                has_machines=workload.machines is not None,
                machines_version=workload.machines.version if workload.machines else "",
                network=settings.network_of(workload),
                probe=probe_document(workload.probe),
                concurrency=proxy_shape(settings.sidecar, workload).concurrency,
            ),
            opts=self._child,
        )

    def _make_shape(self, key: str, workload: given.Workload, namespace: pulumi.Output[str]) -> None:
        """What istiod is told of the proxies of pods and machines alike."""
        shape = proxy_shape(self._settings.sidecar, workload)
        # istiod may forget a machine's own service when its health changes, if it is a ServiceEntry's
        # (docs/decisions/010): its proxy would no longer read requests, and access rules refuse them.
        forgotten = workload.service.kind == "ServiceEntry" and workload.machines is not None
        if shape.egress is not None or forgotten:
            ProxyScope(
                f"{self._name}-{key}",
                ProxyScopeArgs(
                    workload=key,
                    namespace=namespace,
                    hosts=shape.egress.hosts if shape.egress is not None else (),
                    outbound_traffic_policy=shape.egress.outbound_traffic_policy if shape.egress is not None else None,
                    ports=workload_ports(workload) if forgotten else (),
                ),
                opts=self._child,
            )
        if shape.access_log is not None or shape.tracing is not None:
            WorkloadTelemetry(
                f"{self._name}-{key}",
                WorkloadTelemetryArgs(
                    workload=key, namespace=namespace, requests=shape.access_log, traces=traces_of(shape.tracing)
                ),
                opts=self._child,
            )

    def _make_pods(
        self,
        key: str,
        workload: given.Workload,
        pods: given.Pods,
        namespace: pulumi.Output[str],
        component: Workload,
    ) -> Pods:
        return Pods(
            f"{self._name}-{key}",
            PodsArgs(
                workload=key,
                namespace=namespace,
                service_account=component.service_account,
                labels=workload.labels,
                version=pods.version,
                image=pods.image,
                image_pull_policy=pods.image_pull_policy,
                replicas=pods.replicas,
                ready_seconds=pods.ready_seconds,
                command=pods.command,
                env=pods.env,
                injected_as=self._injected_as,
                dns_capture=pods.dns_capture,
                resources={str(k): v for k, v in pods.resources.items()},
                ports={port.name: port.target for port in workload.ports},
                probe=probe_document(workload.probe),
                metrics=None
                if workload.metrics is None
                else AppMetrics(port=workload.metrics.port, path=workload.metrics.path),
            ),
            opts=self._child,
        )

    def _make_routing(
        self,
        key: str,
        workload: given.Workload,
        routing: given.Routing,
        namespace: pulumi.Output[str],
        component: Workload,
    ) -> None:
        by_request = [port.port for port in workload.ports if port.by_request]
        defaults = self._settings.namespace(workload.namespace).traffic_policy
        Routing(
            f"{self._name}-{key}",
            RoutingArgs(
                workload=key,
                namespace=namespace,
                host=component.host,
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
            ),
            opts=self._child,
        )

    def _make_access(self, key: str, access: given.Access, namespace: pulumi.Output[str]) -> None:
        WorkloadAccess(
            f"{self._name}-{key}",
            WorkloadAccessArgs(
                workload=key,
                namespace=namespace,
                default_deny=access.default == "deny",
                allow=[access_rule(rule, self._workloads) for rule in access.allow],
                deny=[access_rule(rule, self._workloads) for rule in access.deny],
                http_ports=[p.target for p in self._settings.workloads[key].ports if p.by_request],
            ),
            opts=self._child,
        )

    def _make_machine(
        self, machine: str, key: str, workload: given.Workload, host: given.Host, component: Workload, lane: Lane
    ) -> None:
        settings = self._settings
        made = self._host(machine, host)
        static = workload.machines is not None and workload.machines.registration == "static"
        member = self._make_sidecar(
            machine,
            made,
            host,
            component,
            lane,
            network=settings.network_of(workload),
            workload=workload,
            static=static,
        )
        self._facts.machines[machine] = machine_facts(
            made,
            member,
            host,
            workload=key,
            namespace=workload.namespace,
            network=settings.network_of(workload),
            version=workload.machines.version if workload.machines else "",
            registration=workload.machines.registration if workload.machines else "",
        )

    def _make_network_gateway(
        self,
        network: str,
        gateway: given.NetworkGateway,
        namespace: pulumi.Output[str],
    ) -> None:
        component = NetworkGateway(
            f"{self._name}-{network}-gateway",
            NetworkGatewayArgs(
                network=network,
                namespace=namespace,
                service_account=gateway_account(network, gateway),
                trust_domain=self._control_plane.trust_domain,
                domain=self._settings.cluster.domain,
                service_hosts=hosts_of_entries(self._settings, network),
            ),
            opts=self._child,
        )
        lane = self._turns.of(len(gateway.hosts))
        for machine, host in sorted(gateway.hosts.items()):
            member = self._make_sidecar(
                machine,
                self._hosts[machine],
                host,
                component,
                lane,
                network=network,
                environment=router_environment(network, self._settings.sidecar.environment),
            )
            self._facts.machines[machine] = machine_facts(
                self._hosts[machine],
                member,
                host,
                workload=gateway_group(network),
                namespace=gateway.namespace,
                network=network,
                version="",
                registration="auto",
            )

    def _make_sidecar(
        self,
        machine: str,
        made: SshHost | CommandHost,
        host: given.Host,
        component: Workload | NetworkGateway,
        lane: Lane,
        *,
        network: str,
        workload: given.Workload | None = None,
        static: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> Sidecar:
        settings = self._settings
        choices = proxy_choices(settings, workload)
        revision = revision_of(settings.control_plane, workload.machines if workload is not None else None, host)
        choices["environment"] = {**choices["environment"], **(environment or {})}
        if self._reads_others(machine):
            # Metrics are plain text, and outside of the mesh.
            past = (*choices["capture"].exclude_outbound_ports, AGENT_STATUS, ENVOY_METRICS)
            choices["capture"] = replace(choices["capture"], exclude_outbound_ports=past)
        member = self._members[machine] = Sidecar(
            f"{self._name}-{machine}",
            SidecarArgs(
                machine=machine,
                cluster=self._cluster,
                cluster_name=settings.cluster.name,
                istio_namespace=settings.control_plane.namespace,
                revision=revision,
                mesh_config=self._mesh_config(revision),
                root_certificate=self._control_plane.root_certificate,
                gateway_address=self._gateway.address,
                group=component.group,
                service_account=component.service_account,
                identity=component.identity,
                static_entry=static,
                locality=host.locality,
                weight=host.weight,
                connection=made.connection,
                mesh_address=made.mesh_address,
                command=made.command if isinstance(made, CommandHost) else None,
                scrapers=self._scrapers(network),
                metrics_agent=self._reads_others(machine),
                **choices,
                gateway_ports=gateway_ports(settings, workload),
                proxy_ports=proxy_ports(workload),
                proxy_ports_forwarded=proxy_ports_forwarded(settings, machine),
                turn=lane.of(machine),
            ),
            opts=self._child,
            gate=self._gate,
            ssh_help=self._ssh_help,
        )
        return member

    def _scrapers(self, network: str) -> list[pulumi.Input[str]]:
        """Who may read metrics on the machines of a network: Prometheus, and the agent there."""
        observability = self._settings.observability
        if observability is None:
            return []
        return [*observability.scrapers, *(address.apply(lone_address) for address in self._agent(network))]

    def _agent(self, network: str) -> list[pulumi.Output[str]]:
        """The address of the agent in a network, if there is one."""
        observability = self._settings.observability
        agent = None if observability is None else observability.agents.get(network)
        if agent is None:
            return []
        return [self._host(agent.machine, self._settings.machine(agent.machine)).mesh_address]

    def _reads_others(self, machine: str) -> bool:
        """Whether an agent runs there, which reads the metrics of other machines."""
        observability = self._settings.observability
        agents = {} if observability is None else observability.agents
        return any(agent.machine == machine for agent in agents.values())

    def _make_observability(
        self,
        observability: given.Observability,
        namespaces: Mapping[str, pulumi.Output[str]],
    ) -> None:
        settings, name = self._settings, observability.namespace
        namespace = MeshNamespace(
            f"{self._name}-{name}",
            MeshNamespaceArgs(namespace=name, revision=self._control_plane.revision),
            opts=self._child,
        ).namespace
        if settings.mtls != "none":
            AccessPolicy(
                f"{self._name}-{name}", AccessPolicyArgs(namespace=namespace, mtls=settings.mtls), opts=self._child
            )
        own = observability.prometheus
        component = Observability(
            f"{self._name}-metrics",
            ObservabilityArgs(
                namespace=namespace,
                namespace_name=name,
                injected_as=self._injected_as,
                domain=settings.cluster.domain,
                image=observability.image,
                image_pull_policy=observability.image_pull_policy,
                config=server_config(settings, self._hosts),
                entries_in={ns: namespaces[ns] for ns in namespaces_of_machines(settings)},
                pods_in={ns: namespaces.get(ns, self._control_plane.namespace) for ns in namespaces_of_pods(settings)},
                istio_namespace=self._control_plane.namespace,
                seconds=observability.scrape_seconds,
                gateways=watched_gateways(settings),
                agents=watched_agents(settings),
                thresholds=rules.Thresholds(
                    error_percent=observability.alerts.error_percent,
                    canary_points=observability.alerts.canary_points,
                    certificate_hours=observability.alerts.certificate_hours,
                ),
                delivery=observability.delivery,
                operator_labels=observability.operator_labels,
                dashboard_labels=observability.dashboard_labels,
                prometheus=None
                if own is None
                else OwnPrometheus(
                    image=own.image,
                    retention_hours=own.retention_hours,
                    resources={str(k): v for k, v in own.resources.items()},
                ),
                writers=[
                    self._workloads[settings.workload_of(agent.machine)].identity
                    for _, agent in sorted(observability.agents.items())
                    if agent.write_to is None
                ],
            ),
            opts=self._child,
        )
        timeouts = settings.sidecar.timeouts
        for network, agent in sorted(observability.agents.items()):
            write_to = component.write_to if agent.write_to is None else pulumi.Output.from_input(agent.write_to)
            MetricsAgent(
                f"{self._name}-{network}-metrics",
                MetricsAgentArgs(
                    connection=self._hosts[agent.machine].connection,
                    joined=self._members[agent.machine].joined,
                    url=agent.package.url,
                    sha256=agent.package.sha256,
                    config=pulumi.Output.all(component.server, write_to).apply(
                        agent_file(network, observability.scrape_seconds)
                    ),
                    dial_seconds=timeouts.dial_seconds,
                    dial_attempts=timeouts.dial_attempts,
                    download_seconds=timeouts.download_seconds,
                    ready_seconds=timeouts.ready_seconds,
                ),
                opts=self._child,
            )

    def _host(self, machine: str, host: given.Host) -> SshHost | CommandHost:
        """A machine, made once, whoever asks first."""
        if machine not in self._hosts:
            self._hosts[machine] = self._make_host(machine, host)
        return self._hosts[machine]

    def _make_host(self, machine: str, host: given.Host) -> SshHost | CommandHost:
        if host.ssh is not None:
            return SshHost(
                SshHostArgs(
                    address=host.ssh.address,
                    port=host.ssh.port,
                    user=host.ssh.user,
                    host_key=host.ssh.host_key,
                    private_key=host.ssh.key,
                    passphrase=host.ssh.passphrase,
                    bastion=bastion_of(host.ssh),
                    mesh_address=host.mesh_address,
                )
            )
        if host.command is not None:
            return CommandHost(
                f"{self._name}-{machine}",
                CommandHostArgs(
                    machine=machine,
                    create=host.command.create,
                    delete=host.command.delete,
                    seconds=host.command.timeout_seconds,
                    private_key=host.command.key,
                    passphrase=host.command.passphrase,
                    bastion=bastion_of(host.command),
                    mesh_address=host.mesh_address,
                ),
                opts=self._child,
            )
        raise ValueError(f"machine {machine} is of no kind; hybridmesh.settings.parse refuses such settings.")


def urns_in(*components: pulumi.ComponentResource) -> pulumi.Output[Sequence[str]]:
    """Those of the resources that components have made; Pulumi has no public name for them."""
    made = [child.urn for component in components for child in component._childResources]
    return pulumi.Output.all(*made).apply(sorted)


def _following(first: pulumi.Output[str], value: str) -> pulumi.Output[str]:
    return first.apply(lambda _: value)


def lone_address(address: str) -> str:
    """The range that is one address."""
    return f"{address}/{128 if ':' in address else 32}"


def lone_ipv4(address: str) -> str:
    """The same for machines on Google Cloud, which have IPv4 alone. Raises ValueError on another one."""
    if ":" in address:
        raise ValueError(
            f"observability.agents: the agent's VM has the address {address}, and a fleet or an instance in its "
            "network has IPv4 alone. Nobody would scrape that. Fix: another VM, or an IPv4 `meshAddress`."
        )
    return lone_address(address)
