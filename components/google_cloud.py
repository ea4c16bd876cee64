"""What a stack's settings say of Google Cloud, as the components there take it."""

import base64
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pulumi
from pulumi_gcp import compute, container
from pydantic import TypeAdapter, ValidationError

from hybridmesh.istio.nested import merged
from hybridmesh.settings import Finding
from hybridmesh.settings import models as given
from hybridmesh.settings.google_checks import apart, has_own_address

from .gce_fleet import GceFleet, GceFleetArgs
from .gce_guard import Way
from .gce_instance import GceInstance, GceInstanceArgs
from .gce_machine import GceMachine, GcePlace, subnetwork_seen_from
from .self_join import ApiServer, SelfJoinArgs

INTERNAL_GATEWAY = {
    "networking.gke.io/load-balancer-type": "Internal",
    "networking.gke.io/internal-load-balancer-allow-global-access": "true",
}
"""Annotations by which GKE gives a Service a load balancer in the VPC, for machines of all its regions. Source:
cloud.google.com/kubernetes-engine/docs/concepts/service-load-balancer-parameters."""
GATEWAY_SUBNETWORK = "networking.gke.io/internal-load-balancer-subnet"
"""The annotation that names the load balancer's subnetwork. GKE takes the cluster's own without it, and no address of
another one: kubernetes/cloud-provider-gcp, providers/gce/gce_loadbalancer_internal.go."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GoogleCloudArgs:
    """Inputs of `GoogleCloud`."""

    google: given.Google
    """The settings."""
    gateway: str
    """The east-west gateway's name."""
    reserve: bool
    """Whether an address is reserved for it."""
    scrapers: Sequence[str] = ()
    """CIDRs of who reads metrics on every machine of the stack, besides the settings' `observers`."""


class GoogleCloud(pulumi.ComponentResource):
    """Owns the reserved address of the gateway, and finds what others own: network, cluster.

    It makes no machine itself; `machines` gives the components that do.
    """

    place: GcePlace
    """Where machines are."""
    api_server: ApiServer
    """Whom they ask for their token."""

    def __init__(self, name: str, args: GoogleCloudArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        google = args.google
        super().__init__(
            "hybridmesh:google_cloud:GoogleCloud",
            name,
            {"project": google.project, "region": google.region},
            opts,
        )
        self._google, self._child = google, pulumi.ResourceOptions(parent=self)
        shared = google.shared_stack
        owner = (
            None
            if shared is None
            else pulumi.StackReference(f"{name}-stack", stack_name=shared.stack, opts=self._child)
        )

        def value(here: str | None, field: str) -> pulumi.Output[str]:
            if owner is None or shared is None or getattr(shared, field) is None:
                return pulumi.Output.from_input(here or "")
            found = owner.get_output(getattr(shared, field))
            return pulumi.Output.all(found, found.is_secret()).apply(lambda both: shared_value(shared, field, *both))

        network = value(google.network, "network")
        self.place = GcePlace(
            project=google.project,
            region=google.region,
            network=network,
            subnetwork=pulumi.Output.all(network, value(google.subnetwork, "subnetwork")).apply(
                lambda both: of_the_network(google, *both)
            ),
            clients=google.clients,
            observers=observers(google.observers, args.scrapers),
            ways=[Way(name=way.name, ranges=way.ranges, ports=way.ports) for way in google.egress],
            deny_other_egress=google.deny_other_egress,
            make_rules=google.firewall == "make",
            log_rules=google.firewall_logs,
        )
        own = google.api_server
        self.api_server = (
            self._find_cluster(name, google.gke)
            if google.gke is not None
            # Public by nature, whatever the other stack takes them for: all machines get them, for all to read.
            else ApiServer(
                url=pulumi.Output.unsecret(value(own.url if own else None, "api_server")),
                certificate_authorities=pulumi.Output.unsecret(
                    value(own.certificate_authority if own else None, "certificate_authority")
                ),
            )
        )
        self._address: pulumi.Output[str] | None = None
        if args.reserve:
            # In the load balancer's project, which is its cluster's, also where the subnetwork is a Shared VPC's: so
            # Google has it (cloud.google.com/vpc/docs/shared-vpc, "IP addresses"), and GKE looks nowhere else
            # (kubernetes/cloud-provider-gcp, providers/gce/support.go, ProjectID).
            project = google.project if google.gke is None else google.gke.project or google.project
            self._address = compute.Address(
                f"{name}-gateway-address",
                name=args.gateway,
                project=project,
                region=google.region,
                subnetwork=subnetwork_seen_from(project, self.place),
                address_type="INTERNAL",
                description="The east-west gateway, by which machines reach istiod",
                labels=dict(google.labels) or None,
                opts=self._child,
            ).address
        self.register_outputs({"gatewayAddress": self._address})

    def _find_cluster(self, name: str, gke: given.Gke) -> ApiServer:
        path = f"projects/{gke.project or self._google.project}/locations/{gke.location}/clusters/{gke.name}"
        cluster = container.Cluster.get(f"{name}-cluster", path, opts=self._child)
        private = cluster.private_cluster_config.apply(private_endpoint)
        chosen = pulumi.Output.all(cluster.endpoint, None if gke.public_endpoint else private)
        by_address = cluster.control_plane_endpoints_config.apply(has_ip_endpoints)
        return ApiServer(
            url=pulumi.Output.all(chosen, by_address).apply(lambda known: api_server_url(gke, *known)),
            # Secret is the client's key beside it, and with that, to Pulumi, all of it.
            certificate_authorities=pulumi.Output.unsecret(cluster.master_auth.apply(certificate_authority)),
        )

    def gateway_values(self, values: dict[str, Any]) -> dict[str, Any]:
        """The gateway chart's values: the caller's, over what asks for an internal load balancer at that address."""
        if self._address is None:
            return values
        service: dict[str, Any] = {"annotations": INTERNAL_GATEWAY}
        if not has_own_address(values):
            subnetwork = pulumi.Output.from_input(self.place.subnetwork).apply(lambda link: link.rpartition("/")[2])
            service = {
                "annotations": {**INTERNAL_GATEWAY, GATEWAY_SUBNETWORK: subnetwork},
                "loadBalancerIP": self._address,
            }
        return merged({"service": service}, values)

    def machines(
        self,
        name: str,
        workload: str,
        machines: given.Machines,
        ports: tuple[int, ...],
        join: SelfJoinArgs,
        opts: pulumi.ResourceOptions,
    ) -> pulumi.Output[dict[str, Any]]:
        """The fleet, or the single machine, that `join` is for; what the topology tells of it."""
        told = {"workload": workload, "version": machines.version}
        if join.machines in machines.fleets:
            fleet = self._fleet(name, machines.fleets[join.machines], ports, join, opts)
            return pulumi.Output.all(
                kind="fleet",
                **told,
                serviceAccount=fleet.service_account,
                group=fleet.instance_group,
                **_for_others(fleet.must_be_allowed),
            )
        made = self._instance(name, machines.instances[join.machines], ports, join, opts)
        return pulumi.Output.all(
            kind="instance",
            **told,
            serviceAccount=made.service_account,
            address=made.address,
            **_for_others(made.must_be_allowed),
        )

    def _fleet(
        self,
        name: str,
        fleet: given.Fleet,
        ports: tuple[int, ...],
        join: SelfJoinArgs,
        opts: pulumi.ResourceOptions,
    ) -> GceFleet:
        """A fleet of these settings; who reads metrics on its machines is whom it is told to let in."""
        return GceFleet(
            name,
            GceFleetArgs(
                fleet=join.machines,
                place=replace(self.place, observers=join.scrapers),
                machine=replace(hardware(fleet, self._google), spot=fleet.spot),
                zones=fleet.zones,
                min_size=fleet.min_size,
                max_size=fleet.max_size or fleet.min_size,
                cpu_target_percent=fleet.cpu_target_percent,
                boot_seconds=fleet.boot_seconds,
                max_surge=fleet.max_surge,
                ready_seconds=fleet.ready_seconds,
                update_seconds=fleet.update_seconds,
                app_ports=ports,
                ssh=fleet.ssh,
                join=join,
            ),
            opts=opts,
        )

    def _instance(
        self,
        name: str,
        instance: given.GceInstance,
        ports: tuple[int, ...],
        join: SelfJoinArgs,
        opts: pulumi.ResourceOptions,
    ) -> GceInstance:
        """A single machine of these settings, likewise."""
        return GceInstance(
            name,
            GceInstanceArgs(
                instance=join.machines,
                place=replace(self.place, observers=join.scrapers),
                zone=instance.zone,
                machine=hardware(instance, self._google),
                app_ports=ports,
                ssh=instance.ssh,
                protect=instance.protect,
                gateway_address=join.gateway_address,
                join=join,
            ),
            opts=opts,
        )


def _for_others(must_be_allowed: Mapping[str, pulumi.Output[str]]) -> dict[str, pulumi.Output[dict[str, str]]]:
    """What others have to allow, for who makes their rules."""
    return {"mustBeAllowed": pulumi.Output.all(**must_be_allowed)} if must_be_allowed else {}


def hardware(settings: given.GceHardware, google: given.Google) -> GceMachine:
    """What machines of these settings are made of, and of those for all machines."""
    return GceMachine(
        machine_type=settings.machine_type,
        image=settings.image,
        disk_gb=settings.disk_gb,
        disk_type=settings.disk_type,
        disk_key=google.disk_key,
        public_address=settings.public_address,
        service_account=settings.service_account,
        labels={**google.labels, **settings.labels},
        tags=list(dict.fromkeys((*google.tags, *settings.tags))),
        metadata={**google.metadata, **settings.metadata},
    )


def observers(of_google: Sequence[str], scrapers: Sequence[str]) -> list[str]:
    """Who reads metrics on machines here, each once: for Google's firewall and the machines' own.

    Machines here have IPv4 alone, and a rule of Google's takes no addresses of both kinds.
    """
    return [cidr for cidr in dict.fromkeys((*of_google, *scrapers)) if ipaddress.ip_network(cidr).version == 4]


_SHARED: Mapping[str, tuple[TypeAdapter[str], str]] = {
    "network": (TypeAdapter(str), "a network's name or self link"),
    "subnetwork": (TypeAdapter(str), "a subnetwork's name or self link"),
    "api_server": (TypeAdapter(given.ApiServerUrl), "`https://HOST` or `https://HOST:PORT`"),
    "certificate_authority": (TypeAdapter(given.CertificateAuthority), "the cluster's CA certificate, PEM, not base64"),
}
"""What another stack's output must be, by the field of `google.sharedStack` that names it; and in words."""


def of_the_network(google: given.Google, network: str, subnetwork: str) -> str:
    """The subnetwork, if it may be one of that network. Raises ValueError, without what another stack keeps secret."""
    shared = google.shared_stack.subnetwork if google.shared_stack is not None else None
    path = "google.subnetwork" if shared is None else "google.sharedStack.subnetwork"
    for finding in apart(path, shared or subnetwork, network, subnetwork, google.project):
        raise ValueError(str(finding))
    return subnetwork


def shared_value(shared: given.SharedStack, field: str, value: object, secret: bool) -> str:
    """Another stack's output, if it is what that field is for. Raises ValueError, without the value if it is secret."""
    kind, wanted = _SHARED[field]
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
    if value is None:
        problem = "is not there"
    elif not secret and field != "certificate_authority":
        problem = f"is `{value}`, which {problem}"
    described = given.SharedStack.model_fields[field]
    wrong = str(described.json_schema_extra["wrong"]) if isinstance(described.json_schema_extra, dict) else ""
    finding = Finding(
        f"google.sharedStack.{described.alias}",
        getattr(shared, field),
        f"names an output of stack `{shared.stack}` that {problem}",
        wrong[:1].upper() + wrong[1:],
        f"the name of one that is {wanted}.",
    )
    raise ValueError(str(finding))


def private_endpoint(config: Any) -> str | None:
    """The address of a GKE cluster's API server in its VPC; None: it has none."""
    return None if config is None else config.private_endpoint


def has_ip_endpoints(config: Any) -> bool:
    """Whether a GKE cluster's API server has an address."""
    addresses = None if config is None else config.ip_endpoints_config
    return addresses is None or addresses.enabled is not False


def api_server_url(gke: given.Gke, endpoints: Sequence[str | None], by_address: bool) -> str:
    """Where machines reach a GKE cluster's API server. `endpoints`: the public one, and the private one if that is
    asked for and there. Raises ValueError for a cluster that no address leads to."""
    if not by_address:
        finding = Finding(
            "google.gke",
            gke.name,
            "has no IP endpoints, and its DNS endpoint shows another certificate than the cluster's authority gives",
            "Machines could not get a token.",
            f"`gcloud container clusters update {gke.name} --location={gke.location} --enable-ip-access`.",
        )
        raise ValueError(str(finding))
    public, private = endpoints
    return f"https://{private or public}"


def certificate_authority(master_auth: Any) -> str:
    """A GKE cluster's certificate authority, PEM."""
    return base64.b64decode(master_auth.cluster_ca_certificate).decode()
