"""One stack's mesh: every component, wired by its settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_kubernetes

from hybridmesh.istio import injected_as, istiod_host
from hybridmesh.istio.names import gateway_group
from hybridmesh.istio.ports import AGENT_STATUS, ENVOY_METRICS
from hybridmesh.kubeconfig_copies import without_copies_in_the_end
from hybridmesh.providers import ISTIOD, AdoptedIstiod, Adopters, AdoptersArgs, ClusterAccess, LostMachines
from hybridmesh.providers.departure import SECTIONS
from hybridmesh.settings import NAMESPACE, Settings
from hybridmesh.settings import models as given
from hybridmesh.settings.adopted import asked_of_adopted
from hybridmesh.settings.google_checks import reserves_address
from hybridmesh.settings.lost import declarations, declared_lost, lost_machines, present, sections_of_config
from hybridmesh.settings.network_checks import gateway_account
from hybridmesh.settings.risks import accepted_risks, losses
from hybridmesh.settings.shapes import proxy_shape
from hybridmesh.settings.version_checks import revision_of
from hybridmesh.settings.ways import gateway_ports, proxy_ports, proxy_ports_forwarded

from .access_policy import AccessPolicy, AccessPolicyArgs
from .command_host import CommandHost
from .control_plane import ControlPlane
from .east_west_gateway import EastWestGateway, EastWestGatewayArgs
from .from_settings import (
    access_args,
    charts_of,
    control_plane_args,
    hosts_of_entries,
    pods_args,
    proxy_choices,
    routing_args,
    traces_of,
    traffic_policy_of,
    workload_args,
    workload_ports,
)
from .hosts import Hosts
from .mesh_namespace import MeshNamespace, MeshNamespaceArgs
from .metrics_agent import MetricsAgent
from .metrics_from_settings import agents_on_ipv4, metrics_agent_args, observability_args, runs_agent, scrapers_in
from .network_gateway import NetworkGateway, NetworkGatewayArgs, router_environment
from .observability import Observability
from .pods import Pods
from .preflight_gate import PreflightGate
from .proxy_scope import ProxyScope, ProxyScopeArgs
from .revision import Revision, RevisionArgs
from .routing import Routing
from .sidecar import Sidecar, SidecarArgs
from .source_positions import without_source_positions
from .ssh_help import SshHelp
from .telemetry import WorkloadTelemetry, WorkloadTelemetryArgs
from .there_already import ThereAlready
from .topology import Facts, drawing, machine_facts, network_facts, workload_facts
from .traffic_policy import NamespaceTraffic, NamespaceTrafficArgs
from .turns import Lane, Turns
from .workload import Workload
from .workload_access import WorkloadAccess

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
        self._cluster = ClusterAccess(
            kubeconfig=settings.cluster.kubeconfig,
            context=settings.cluster.context,
            request_seconds=settings.sidecar.timeouts.api_seconds,
        )
        there_already = ThereAlready(name, self._cluster)
        super().__init__(
            "hybridmesh:hybrid_mesh:HybridMesh",
            name,
            {
                "cluster": settings.cluster.name,
                "network": settings.cluster.network,
                "lost": sorted(lost_machines(args.settings)) or None,
            },
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(transformations=[there_already.hooked])),
        )
        self._name = name
        self._settings = settings
        upgrade = settings.sidecar.upgrade
        self._turns = Turns(upgrade.batch_size, name=f"{name}-turns", keep_one=upgrade.keep_one_serving)
        for warning in (*accepted_risks(settings), *losses(args.settings)):
            pulumi.log.warn(warning, self)
        without_copies_in_the_end(settings.cluster.kubeconfig)
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
        elsewhere = _declared_lost_elsewhere(args.settings)
        if elsewhere:
            LostMachines(f"{name}-lost", self._cluster, elsewhere, self._child)
        self._in_namespaces: dict[str, list[pulumi.ComponentResource]] = {}
        self._hosts = Hosts(name, settings, self._child)
        self._members: dict[str, Sidecar] = {}
        self._workloads: dict[str, Workload] = {}
        self._facts = Facts()
        self._gate = PreflightGate(f"{name}-preflights", self._child)
        self._ssh_help = SshHelp(name)
        self._plane_args = control_plane_args(settings, self._cluster, self._hosts)
        self._control_plane = ControlPlane(f"{name}-control-plane", self._plane_args, opts=self._child)
        self._injected_as = self._what_pods_are_told()
        self._revisions = self._make_revisions()
        self._google = self._make_google()
        self._gateway = self._make_gateway()
        namespaces = self._make_namespaces()
        with self._gate:
            for key in sorted(settings.workloads):
                self._make_workload(key, settings.workloads[key], namespaces[settings.workloads[key].namespace])
            for key, network in sorted(settings.networks.items()):
                if network.gateway is not None:
                    self._make_network_gateway(key, network.gateway, namespaces[network.gateway.namespace])
                self._facts.networks[key] = network_facts(network, self._hosts)
        for key in sorted(settings.access):
            self._make_access(key, namespaces[settings.workloads[key].namespace])
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

    def _make_revisions(self) -> dict[str, Revision]:
        """The istiods beside the first, which they follow."""
        plane = self._settings.control_plane
        return {
            name: Revision(
                f"{self._name}-revision-{name}",
                RevisionArgs(
                    plane=self._plane_args,
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
                charts=self._plane_args.charts,
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
                reserve=reserves_address(settings.google, settings.gateway),
                scrapers=settings.observability.scrapers if settings.observability is not None else (),
            ),
            opts=self._child,
        )

    def _make_google_machines(
        self, key: str, workload: given.Workload, machines: given.Machines, component: Workload, google: "GoogleCloud"
    ) -> None:
        """Fleets and single machines, which join by themselves."""
        from .self_join import SelfJoinArgs

        settings = self._settings
        revision = revision_of(settings.control_plane, machines)
        names = sorted({**machines.fleets, **machines.instances})
        agent = agents_on_ipv4(settings, settings.network_of(workload), self._hosts) if names else []
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
            ports = tuple(port.target for port in workload.ports)
            self._facts.google[name] = google.machines(f"{self._name}-{name}", key, machines, ports, join, self._child)

    def _make_namespaces(self) -> dict[str, pulumi.Output[str]]:
        """One a namespace, however many workloads share it. All follow istiod."""
        return {namespace: self._make_namespace(namespace) for namespace in sorted(self._settings.used_namespaces)}

    def _make_namespace(self, namespace: str) -> pulumi.Output[str]:
        settings, child, name = self._settings, self._child, f"{self._name}-{namespace}"
        given_there = settings.namespace(namespace)
        if given_there.existing:
            return self._control_plane.revision.apply(lambda _: namespace)
        component = MeshNamespace(
            name, MeshNamespaceArgs(namespace=namespace, revision=self._control_plane.revision), opts=child
        )
        parts = self._in_namespaces[namespace] = [component]
        if given_there.traffic_policy is not None:
            traffic = NamespaceTraffic(
                name,
                NamespaceTrafficArgs(
                    namespace=namespace,
                    waits_for=component.namespace,
                    domain=settings.cluster.domain,
                    policy=traffic_policy_of(given_there.traffic_policy),
                ),
                opts=child,
            )
            parts.append(traffic)
        if settings.mtls != "none":
            parts.append(
                AccessPolicy(name, AccessPolicyArgs(namespace=component.namespace, mtls=settings.mtls), opts=child)
            )
        return component.namespace

    def _make_workload(self, key: str, workload: given.Workload, namespace: pulumi.Output[str]) -> None:
        """A workload with its pods and machines, and the way of requests to them."""
        settings, name = self._settings, f"{self._name}-{key}"
        args = workload_args(settings, key, namespace=namespace, trust_domain=self._control_plane.trust_domain)
        component = self._workloads[key] = Workload(name, args, opts=self._child)
        self._make_shape(key, workload, namespace)
        routed = namespace
        if workload.pods is not None:
            pods = pods_args(
                key,
                workload,
                workload.pods,
                namespace=namespace,
                service_account=component.service_account,
                injected_as=self._injected_as,
            )
            # A route to a version of which there is no pod, for its update was refused, would lead nowhere.
            routed = Pods(name, pods, opts=self._child).namespace
        if key in settings.routing:
            Routing(name, routing_args(settings, key, namespace=routed, host=component.host), opts=self._child)
        if workload.machines is not None:
            self._make_machines(key, workload, workload.machines, component)
        self._facts.workloads[key] = workload_facts(key, settings, component)

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

    def _make_access(self, key: str, namespace: pulumi.Output[str]) -> None:
        args = access_args(self._settings, key, namespace=namespace, workloads=self._workloads)
        WorkloadAccess(f"{self._name}-{key}", args, opts=self._child)

    def _make_machines(self, key: str, workload: given.Workload, machines: given.Machines, component: Workload) -> None:
        """Those of a workload that are reached by SSH join in turn, those of Google Cloud by themselves."""
        facts = {
            "workload": key,
            "namespace": workload.namespace,
            "network": self._settings.network_of(workload),
            "version": machines.version,
            "registration": machines.registration,
        }
        self._make_members(machines.hosts, component, facts, workload)
        if self._google is not None:
            self._make_google_machines(key, workload, machines, component, self._google)

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
                admission_policies=self._settings.control_plane.makes_admission_policies,
            ),
            opts=self._child,
        )
        facts = {
            "workload": gateway_group(network),
            "namespace": gateway.namespace,
            "network": network,
            "version": "",
            "registration": "auto",
        }
        self._make_members(gateway.hosts, component, facts)

    def _make_members(
        self,
        hosts: Mapping[str, given.Host],
        component: Workload | NetworkGateway,
        facts: Mapping[str, str],
        workload: given.Workload | None = None,
    ) -> None:
        """Machines of one group; `facts`: what the topology tells of all of them alike."""
        lane = self._turns.of_workload()
        for machine, host in sorted(hosts.items()):
            member = self._make_sidecar(machine, host, component, lane, network=facts["network"], workload=workload)
            self._facts.machines[machine] = machine_facts(self._hosts[machine], member, host, **facts)

    def _make_sidecar(
        self,
        machine: str,
        host: given.Host,
        component: Workload | NetworkGateway,
        lane: Lane,
        *,
        network: str,
        workload: given.Workload | None,
    ) -> Sidecar:
        settings, made = self._settings, self._hosts[machine]
        choices = proxy_choices(settings, workload)
        machines = workload.machines if workload is not None else None
        revision = revision_of(settings.control_plane, machines, host)
        is_gateway = workload is None
        if is_gateway:
            choices["environment"] |= router_environment(network)
        reads_others = runs_agent(settings, machine)
        if reads_others:
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
                static_entry=machines is not None and machines.registration == "static",
                locality=host.locality,
                weight=host.weight,
                connection=made.connection,
                mesh_address=made.mesh_address,
                command=made.command if isinstance(made, CommandHost) else None,
                scrapers=scrapers_in(settings, network, self._hosts),
                metrics_agent=reads_others,
                **choices,
                router=is_gateway,
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
        metrics = Observability(
            f"{self._name}-metrics",
            observability_args(
                settings,
                observability,
                namespace=namespace,
                namespaces=namespaces,
                istio_namespace=self._control_plane.namespace,
                injected_as=self._injected_as,
                hosts=self._hosts,
                workloads=self._workloads,
            ),
            opts=self._child,
        )
        for network, agent in sorted(observability.agents.items()):
            MetricsAgent(
                f"{self._name}-{network}-metrics",
                metrics_agent_args(
                    settings,
                    observability,
                    network,
                    host=self._hosts[agent.machine],
                    member=self._members[agent.machine],
                    metrics=metrics,
                ),
                opts=self._child,
            )


def _declared_lost_elsewhere(settings: Settings) -> dict[str, bool | list[str]]:
    """What is declared lost by settings that are not the stack's config, which providers read themselves."""
    keys = [f"{NAMESPACE}:{section}" for section in SECTIONS]
    # Not `pulumi.Config.get`, which is for what is no secret: a section may have an encrypted key in it.
    sections = sections_of_config({key: pulumi.runtime.config.get_config(key) for key in keys})
    return {
        machine: said
        for machine, said in declarations(settings).items()
        if not all(declared_lost(sections, machine, at) for at in (said if isinstance(said, list) else [""]))
    }


def urns_in(*components: pulumi.ComponentResource) -> pulumi.Output[Sequence[str]]:
    """Those of the resources that components have made; Pulumi has no public name for them."""
    made = [child.urn for component in components for child in component._childResources]
    return pulumi.Output.all(*made).apply(sorted)
