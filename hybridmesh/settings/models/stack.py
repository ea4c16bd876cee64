"""All settings of one stack."""

from collections.abc import Mapping, Sequence
from typing import Literal

from .access import Access
from .base import Model, Name, setting
from .cluster import Cluster
from .control_plane import ControlPlane
from .gateway import Gateway
from .google import Google
from .machines import Host
from .namespace import Namespace
from .network import Network, NetworkGateway
from .observability import Observability
from .routing import Routing
from .sidecar import Sidecar
from .versions import Versions
from .workload import Workload


class Settings(Model):
    """All settings of one stack."""

    cluster: Cluster = setting(
        meaning="The Kubernetes cluster.",
        example={"name": "embedded"},
        wrong="there would be nowhere to go.",
        fix="`{name, network, kubeconfig}`.",
    )
    control_plane: ControlPlane = setting(
        meaning="istiod.",
        example={"mode": "install"},
        wrong="there would be no mesh.",
        fix="`{mode, version, charts}`.",
    )
    google: Google | None = setting(
        None,
        meaning="Google Cloud, where fleets and instances are made.",
        example={"project": "my-project", "region": "europe-west3", "network": "mesh", "subnetwork": "machines"},
        wrong="fleets and instances would have no place.",
        fix="`{project, region, network, subnetwork, gke}`, or leave it out.",
    )
    gateway: Gateway = setting(
        default_factory=Gateway,
        meaning="The east-west gateway.",
        example={"name": "istio-eastwestgateway"},
        wrong="VMs would not reach istiod.",
        fix="a mapping, or leave it out.",
    )
    sidecar: Sidecar = setting(
        default_factory=Sidecar,
        meaning="What makes a VM a member of the mesh.",
        example={"dnsCapture": True},
        wrong="VMs could not join.",
        fix="a mapping, or leave it out.",
    )
    versions: Versions = setting(
        default_factory=Versions,
        meaning="Exceptions from the table of supported versions.",
        example={"accept": ["system"]},
        wrong="a combination that nobody has tried would be rolled out unseen.",
        fix="`{accept: [...]}`, or leave it out.",
    )
    networks: Mapping[Name, Network] = setting(
        default_factory=dict,
        meaning="Networks of VMs other than `cluster.network`.",
        example={"datacenter": {"gateway": {"hosts": {"gw-1": {"ssh": {"address": "198.51.100.5"}}}}}},
        wrong="the mesh would know no way to the VMs there.",
        fix="`{name: {gateway: {hosts: {…}}}}`, or `{name: {direct: true}}`.",
    )
    mtls: Literal["STRICT", "PERMISSIVE", "none"] = setting(
        "STRICT",
        meaning="PeerAuthentication in each namespace that this stack makes; `none` makes none.",
        example="STRICT",
        wrong="plain text could be accepted unseen.",
        fix="STRICT, PERMISSIVE or none.",
    )
    namespaces: Mapping[Name, Namespace] = setting(
        default_factory=dict,
        meaning="Namespaces of workloads that are not simply made by this stack.",
        example={"shop": {"existing": True}},
        wrong="the stack could remove a namespace that others use.",
        fix="`{name: {existing: true}}`.",
    )
    workloads: Mapping[Name, Workload] = setting(
        default_factory=dict,
        meaning="Services and clients by name.",
        example={"echo": {"namespace": "demo"}},
        wrong="the mesh would be empty.",
        fix="`{echo: {namespace: demo, …}}`.",
    )
    routing: Mapping[Name, Routing] = setting(
        default_factory=dict,
        meaning="How requests are split, by workload.",
        example={"echo": {"weights": {"k8s": 90, "vm": 10}}},
        wrong="requests would go to all endpoints alike.",
        fix="`{echo: {weights: {k8s: 90, vm: 10}}}`.",
    )
    access: Mapping[Name, Access] = setting(
        default_factory=dict,
        meaning="Who may call what, by workload. A workload that is not named here answers whoever is in the mesh.",
        example={"echo": {"allow": [{"from": ["client"]}]}},
        wrong="whoever is in the mesh could call the workload.",
        fix="`{echo: {allow: [{from: [client]}]}}`.",
    )
    observability: Observability | None = setting(
        None,
        meaning="Metrics of VMs and pods, alerts and dashboard. Default: none.",
        example={"image": "registry.example.com/hybrid-mesh-metrics:1.0", "scrapers": ["10.0.0.0/16"]},
        wrong="nobody would see what the mesh does.",
        fix="`{image, scrapers}`, or leave it out.",
    )

    @property
    def gateways(self) -> Mapping[str, NetworkGateway]:
        """The gateways of networks that have one, by network."""
        return gateways_of(self.networks)

    @property
    def hosts(self) -> Mapping[str, Host]:
        """Every machine that is reached by SSH, by name, those of gateways included."""
        owners: list[Workload | NetworkGateway] = [*self.workloads.values(), *self.gateways.values()]
        return {name: host for owner in owners for name, host in owner.hosts.items()}

    @property
    def used_namespaces(self) -> set[str]:
        """The namespaces that workloads and gateways are in."""
        return used_namespaces(self.workloads, self.gateways)

    def network_of(self, workload: Workload) -> str:
        """The network of a workload's machines."""
        return workload.network or self.cluster.network

    def service_hosts(self, name: str) -> Sequence[str]:
        """The full host names of a workload's service; the first is the workload's own."""
        workload = self.workloads[name]
        return workload.service.hosts or [f"{name}.{workload.namespace}.svc.{self.cluster.domain}"]

    def namespace(self, name: str) -> Namespace:
        """What is said of a namespace; the defaults where nothing is."""
        return self.namespaces.get(name, Namespace())

    def workload_of(self, machine: str) -> str:
        """The workload that a machine belongs to. Raises KeyError where it is no workload's."""
        for name, workload in self.workloads.items():
            if machine in workload.hosts:
                return name
        raise KeyError(machine)


def gateways_of(networks: Mapping[str, Network]) -> dict[str, NetworkGateway]:
    """The gateways of those networks that have one, by network."""
    return {name: network.gateway for name, network in networks.items() if network.gateway is not None}


def used_namespaces(workloads: Mapping[str, Workload], gateways: Mapping[str, NetworkGateway]) -> set[str]:
    """The namespaces that these are in."""
    return {w.namespace for w in workloads.values()} | {g.namespace for g in gateways.values()}
