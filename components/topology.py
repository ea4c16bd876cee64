"""What is there, and a drawing of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi

from hybridmesh.settings import Settings
from hybridmesh.settings import models as given

from .command_host import CommandHost
from .control_plane import ControlPlane
from .east_west_gateway import EastWestGateway
from .from_settings import network_addresses
from .sidecar import Sidecar
from .ssh_host import SshHost
from .whole import parts, whole
from .workload import Workload


@dataclass(slots=True)
class Facts:
    """What the parts of a mesh are, by name, as they are made."""

    networks: dict[str, pulumi.Output[dict[str, Any]]] = field(default_factory=dict)
    """Networks other than the cluster's."""
    workloads: dict[str, pulumi.Output[dict[str, Any]]] = field(default_factory=dict)
    """Workloads."""
    machines: dict[str, pulumi.Output[Mapping[str, Any]]] = field(default_factory=dict)
    """Machines that are reached from outside, those of gateways included."""
    google: dict[str, pulumi.Output[dict[str, Any]]] = field(default_factory=dict)
    """Fleets and machines on Google Cloud, which join by themselves."""

    def of_stack(
        self, settings: Settings, plane: ControlPlane, gateway: EastWestGateway
    ) -> pulumi.Output[dict[str, Any]]:
        """`HybridMesh.topology`."""
        return pulumi.Output.all(
            cluster={
                "name": settings.cluster.name,
                "network": settings.cluster.network,
                "kubeconfig": settings.cluster.kubeconfig,
                "context": settings.cluster.context,
            },
            controlPlane={
                "mode": settings.control_plane.mode,
                "namespace": settings.control_plane.namespace,
                "revision": settings.control_plane.revision,
                "revisions": sorted(settings.control_plane.revisions),
                "version": settings.control_plane.version,
                "trustDomain": plane.trust_domain,
                "discoveryHost": plane.discovery_host,
            },
            gateway={
                "name": settings.gateway.name,
                "address": gateway.address,
                **({"byAddress": True} if settings.gateway.by_address else {}),
            },
            networks=self.networks,
            workloads=self.workloads,
            machines=self.machines,
            google=self.google,
        ).apply(parts)


def network_facts(network: given.Network, hosts: Mapping[str, SshHost | CommandHost]) -> pulumi.Output[dict[str, Any]]:
    """A network, and the ways into it."""
    gateway = network.gateway
    ways = [] if gateway is None else network_addresses(gateway, hosts)
    return pulumi.Output.all(
        direct=network.direct,
        gateways=[] if gateway is None else sorted(gateway.hosts),
        addresses=[pulumi.Output.concat(way.address, f":{way.port}") for way in ways],
    )


def machine_facts(
    made: SshHost | CommandHost, member: Sidecar, host: given.Host, **own: str
) -> pulumi.Output[Mapping[str, Any]]:
    """A machine that is reached from outside, and what it is in the mesh; `own` is known without asking."""
    access = host.ssh or host.command
    settled = {
        **own,
        "locality": host.locality,
        "kind": "ssh" if host.ssh else "command",
        "privateKeyFile": access.private_key_file if access else None,
    }
    found = pulumi.Output.all(
        address=made.address,
        meshAddress=made.mesh_address,
        port=made.connection.port,
        user=made.connection.user,
        hostKey=made.connection.host_key,
        identity=member.identity,
        entry=member.entry,
        synced=member.synced,
        certificateExpiry=member.certificate_expiry,
        sidecarVersion=member.version,
        generation=member.joined.apply(lambda said: said.partition(" ")[0]),
    )
    return whole(found.apply(lambda known: {**settled, **known}))


def workload_facts(key: str, settings: Settings, component: Workload) -> pulumi.Output[dict[str, Any]]:
    """A workload, and how requests to it are split."""
    workload = settings.workloads[key]
    routing = settings.routing.get(key)
    return pulumi.Output.all(
        namespace=workload.namespace,
        serviceAccount=workload.service_account or key,
        identity=component.identity,
        host=component.host if workload.ports else None,
        ports=[{"name": p.name, "port": p.port, "target": p.target, "protocol": p.protocol} for p in workload.ports],
        pods=None
        if workload.pods is None
        else {"replicas": workload.pods.replicas, "version": workload.pods.version, "image": workload.pods.image},
        machines=sorted(workload.hosts),
        weights=None if routing is None or not routing.weights else dict(routing.weights),
        subsets=None if routing is None else {k: dict(v) for k, v in routing.used_subsets_of(workload).items()},
    )


def drawing(topology: Mapping[str, Any]) -> str:
    """The topology as a Mermaid flowchart: cluster, gateway, workloads, machines, and how requests are split."""
    cluster, gateway = topology["cluster"], topology["gateway"]
    lines = [
        "flowchart LR",
        f'  subgraph cluster["cluster {_text(cluster["name"])}, network {_text(cluster["network"])}"]',
        f'    istiod["istiod {_text(topology["controlPlane"]["version"])}"]',
        f'    gateway["{_text(gateway["name"])}<br/>{_text(gateway["address"])}"]',
    ]
    workloads: Mapping[str, Any] = topology["workloads"]
    machines: Mapping[str, Any] = topology["machines"]
    for name, workload in sorted(workloads.items()):
        if workload["pods"] is not None:
            pods = workload["pods"]
            lines.append(f'    pods-{name}["{name}, {_text(pods["version"])}<br/>pods: {pods["replicas"]}"]')
    lines.append("  end")
    networks = sorted({machine["network"] for machine in machines.values()})
    for network in networks:
        lines.append(f'  subgraph network-{network}["machines, network {_text(network)}"]')
        for name, machine in sorted(machines.items()):
            if machine["network"] == network:
                what = ", ".join(_text(part) for part in (machine["workload"], machine["version"]) if part)
                lines.append(f'    vm-{name}["{name}<br/>{what}<br/>{_text(machine["meshAddress"])}"]')
        lines.append("  end")
    by_themselves: Mapping[str, Any] = topology.get("google") or {}
    if by_themselves:
        lines.append('  subgraph google["Google Cloud"]')
        for name, made in sorted(by_themselves.items()):
            lines.append(f'    gce-{name}["{name}<br/>{_text(made["workload"])}<br/>{_text(made["kind"])}"]')
        lines.append("  end")
    for name, workload in sorted(workloads.items()):
        if workload["host"] is not None:
            made = {key: facts["version"] for key, facts in by_themselves.items() if facts["workload"] == name}
            lines.extend(_service(name, workload, machines, made))
    for network in sorted(topology["networks"]):
        lines.extend(f"  cluster ==> vm-{name}" for name in topology["networks"][network]["gateways"])
    lines.extend(f"  vm-{name} -. xDS .-> gateway" for name in sorted(machines))
    lines.extend(f"  gce-{name} -. xDS .-> gateway" for name in sorted(by_themselves))
    lines.append("  gateway -.-> istiod")
    return "\n".join(lines) + "\n"


def _service(name: str, workload: Mapping[str, Any], machines: Mapping[str, Any], made: Mapping[str, str]) -> list[str]:
    """A service and what answers for it; `made`: the version of each fleet and instance of it."""
    lines = [f'  service-{name}(["{_text(workload["host"])}"])']
    if workload["pods"] is not None:
        lines.append(f"  service-{name} --{_share(workload, workload['pods']['version'])}--> pods-{name}")
    alone = len(workload["machines"]) + len(made) == 1
    # How many machines a fleet has, and so what each one gets, changes by itself.
    among = "" if alone else " together" if made else f" among {len(workload['machines'])}"
    for machine in workload["machines"]:
        lines.append(f"  service-{name} --{_share(workload, machines[machine]['version'], among)}--> vm-{machine}")
    for key, version in sorted(made.items()):
        lines.append(f"  service-{name} --{_share(workload, version, among)}--> gce-{key}")
    return lines


def _share(workload: Mapping[str, Any], version: str, among: str = "") -> str:
    """The share of the requests that the subset of a version gets, as the label of the edge to each in it."""
    if workload["weights"] is None:
        return ""
    for subset, labels in (workload["subsets"] or {}).items():
        if labels.get("version") == version:
            return f'" {workload["weights"].get(subset, 0):g} %{among} "'
    return ""


def _text(value: object) -> str:
    """A text that cannot end the quotes it stands in."""
    return str(value).replace('"', "#quot;")
