"""Network mode, groups, gateways and mesh against each other: docs/multi-network.md has these rules as a table."""

from collections.abc import Iterator, Mapping

from hybridmesh.istio.names import NETWORK_LABEL, gateway_group
from hybridmesh.istio.ports import EAST_WEST_TLS

from .draft import Draft
from .findings import Finding
from .models import Cluster, ControlPlane, Gateway, Host, Network, NetworkGateway, Sidecar, Workload, gateways_of

_OWN_VARIABLES: Mapping[str, str] = {
    "ISTIO_META_NETWORK": "`workloads.<name>.network`",
    "ISTIO_META_REQUESTED_NETWORK_VIEW": "`networks.<name>.gateway`",
    "ISTIO_AGENT_FLAGS": "`networks.<name>.gateway`",
}
"""Variables of the agent that decide what network a VM is in, and what part it plays there."""
_LONGEST_WITH_GATEWAY = 63 - len(gateway_group(""))


def check_networks(draft: Draft) -> Iterator[Finding]:
    """Every finding about networks. What could not be read is not held against anything else."""
    cluster = draft.section("cluster", Cluster)
    own = cluster.network if cluster is not None else None
    for name, network in draft.networks.items():
        path = f"networks.{name}"
        if name == own:
            yield Finding(
                path,
                "",
                "is the cluster's own network (`cluster.network`)",
                "Its way in is the east-west gateway, and a second one would be taken for it.",
                "the name of another network; VMs of the cluster's own need none.",
            )
            continue
        yield from _network(path, name, network, own, draft)
    for name, workload in draft.workloads.items():
        yield from _network_of(f"workloads.{name}", workload, own, draft)
        if NETWORK_LABEL in workload.labels:
            yield Finding(
                f"workloads.{name}.labels.{NETWORK_LABEL}",
                workload.labels[NETWORK_LABEL],
                "is set by `network`",
                "Group and label could name different networks, and requests would take a route that does not exist.",
                f"set `workloads.{name}.network`, and leave this out.",
            )
    sidecar = draft.section("sidecar", Sidecar)
    for variable, instead in _OWN_VARIABLES.items():
        value = sidecar.environment.get(variable) if sidecar is not None else None
        if value is not None and (variable != "ISTIO_AGENT_FLAGS" or "router" in value.split()):
            yield Finding(
                f"sidecar.environment.{variable}",
                value,
                f"is set by {instead}",
                "Every VM would be told that it is in this network, or plays this part, whatever its group says.",
                f"set {instead}, and leave this out.",
            )
    yield from _accounts(draft.gateways)
    yield from _addresses(draft)


def gateway_hosts(networks: Mapping[str, Network]) -> Iterator[tuple[str, str, Host]]:
    """The gateway machines: path, name and host of each."""
    for network_name, gateway in gateways_of(networks).items():
        for name, host in gateway.hosts.items():
            yield f"networks.{network_name}.gateway.hosts.{name}", name, host


def gateway_account(network: str, gateway: NetworkGateway) -> str:
    """The service account of a network's gateway."""
    return gateway.service_account or gateway_group(network)


def _network(path: str, name: str, network: Network, own: str | None, draft: Draft) -> Iterator[Finding]:
    members = {n: w for n, w in draft.workloads.items() if w.machines is not None and w.network == name}
    lost = [w for w in draft.workloads.values() if w.network not in (None, own, *draft.network_names)]
    if draft.complete and not members and not lost:
        yield Finding(
            path,
            "",
            "is the network of no workload's machines",
            "A gateway would lead to nobody.",
            f"give it to a workload with machines (`workloads.<name>.network: {name}`), or leave it out.",
        )
    if network.direct and network.gateway is not None:
        yield Finding(
            f"{path}.direct",
            "true",
            f"is given together with `{path}.gateway`",
            "Requests would take the gateway though pods reach the VMs, or the other way round.",
            "`gateway` where pods cannot reach the VMs, `direct: true` where they can.",
        )
    called = [n for n, w in members.items() if w.ports]
    if called and network.gateway is None and not network.direct:
        yield Finding(
            f"{path}.gateway",
            "",
            f"is missing, and pods call `workloads.{called[0]}` there",
            "Pods would send their requests to addresses that they cannot reach.",
            "`{hosts: {…}}`, VMs of this network that run the proxy as a router; or `direct: true`, if pods do reach "
            "its VMs.",
        )
    if network.gateway is not None:
        if len(name) > _LONGEST_WITH_GATEWAY:
            yield Finding(
                path,
                "",
                f"is longer than {_LONGEST_WITH_GATEWAY}, and has a gateway",
                f"Kubernetes would refuse what is made for it: `{gateway_group(name)}` is a label's value, "
                "of 63 at most.",
                "a shorter name.",
            )
        yield from _gateway(f"{path}.gateway", name, network.gateway, draft)


def _gateway(path: str, network: str, gateway: NetworkGateway, draft: Draft) -> Iterator[Finding]:
    if all(host.gone for host in gateway.hosts.values()):
        yield Finding(
            f"{path}.hosts",
            "" if gateway.hosts else "{}",
            "has no machine that is not lost" if gateway.hosts else "is empty",
            "Pods would have no way to the VMs of this network.",
            "name a machine of this network, or leave `gateway` out.",
        )
    control_plane = draft.section("controlPlane", ControlPlane)
    if control_plane is not None and gateway.namespace == control_plane.namespace:
        yield Finding(
            f"{path}.namespace",
            gateway.namespace,
            "is Istio's root namespace",
            "Policies made there hold for the whole mesh.",
            "a namespace of its own.",
        )
    account = gateway_account(network, gateway)
    for name, workload in draft.workloads.items():
        if workload.namespace != gateway.namespace:
            continue
        if (workload.service_account or name) == account:
            yield Finding(
                f"{path}.serviceAccount",
                account,
                f"is that of workloads.{name} too",
                "Policies could not tell gateway and workload apart, and both would make the same object.",
                "an account of its own.",
            )
        elif name == gateway_group(network):
            yield Finding(
                f"{path}.namespace",
                gateway.namespace,
                f"is that of workloads.{name} too, whose name the gateway's WorkloadGroup has",
                "Both would make the same object.",
                "a namespace of its own.",
            )


def _accounts(gateways: Mapping[str, NetworkGateway]) -> Iterator[Finding]:
    taken: dict[tuple[str, str], str] = {}
    for name, gateway in gateways.items():
        account = gateway_account(name, gateway)
        first = taken.setdefault((gateway.namespace, account), name)
        if first != name:
            yield Finding(
                f"networks.{name}.gateway.serviceAccount",
                account,
                f"is that of networks.{first}.gateway too",
                "Policies could not tell the two apart, and both would make the same object.",
                "an account of its own, or leave it out.",
            )


def _network_of(path: str, workload: Workload, own: str | None, draft: Draft) -> Iterator[Finding]:
    if workload.network is None:
        return
    if workload.machines is None:
        yield Finding(
            f"{path}.network",
            workload.network,
            "is the network of its VMs, and it has none",
            "Its pods are in the cluster's network, whatever this says.",
            "leave it out, or give `machines`.",
        )
    elif own is not None and draft.networks_known and workload.network not in (own, *draft.network_names):
        yield Finding(
            f"{path}.network",
            workload.network,
            "is neither `cluster.network` nor one of `networks`",
            "The mesh would know no way to its VMs.",
            f"`networks.{workload.network}` with a `gateway`, or `direct: true` if pods reach its VMs; or one of "
            f"{', '.join(sorted({own, *draft.network_names}))}.",
        )


def _addresses(draft: Draft) -> Iterator[Finding]:
    """Istio tells gateways apart by address and port: two networks behind one would be mixed up."""
    taken: dict[tuple[str, int], str] = {}
    own = draft.section("gateway", Gateway)
    if own is not None and own.address is not None:
        taken[(own.address, EAST_WEST_TLS)] = "gateway.address"
    for name, gateway in draft.gateways.items():
        path = f"networks.{name}.gateway"
        hosts = _mesh_addresses(f"{path}.hosts", gateway.hosts)
        places = hosts if gateway.address is None else {f"{path}.address": gateway.address}
        for place, address in places.items():
            first = taken.setdefault((address, gateway.port), place)
            # The same machine twice is found where SSH reaches it.
            if first != place and not (first.endswith(".ssh.address") and place.endswith(".ssh.address")):
                yield Finding(
                    place,
                    address,
                    f"is, with port {gateway.port}, that of `{first}` too",
                    "Requests for one network would arrive in another, or one machine would be taken for two.",
                    "an address of its own for each gateway.",
                )
        apps = {
            address: place
            for workload_name, workload in draft.workloads.items()
            if workload.network == name
            for place, address in _mesh_addresses(f"workloads.{workload_name}.machines.hosts", workload.hosts).items()
        }
        for place, address in hosts.items():
            first = apps.get(address, place)
            if first != place and not (first.endswith(".ssh.address") and place.endswith(".ssh.address")):
                yield Finding(
                    place,
                    address,
                    f"is that of `{first}` too",
                    "The proxy of a gateway machine is a router: it takes no requests for apps on the machine.",
                    "a machine of its own for the gateway.",
                )


def _mesh_addresses(path: str, hosts: Mapping[str, Host]) -> dict[str, str]:
    """Where the mesh reaches machines, as far as the settings say so, by the place that says it."""
    return dict(filter(None, (mesh_address(f"{path}.{name}", host) for name, host in hosts.items())))


def mesh_address(path: str, host: Host) -> tuple[str, str] | None:
    """The place that says where the mesh reaches a machine, and what it says; None where no setting does."""
    if host.mesh_address is not None:
        return f"{path}.meshAddress", host.mesh_address
    return (f"{path}.ssh.address", host.ssh.address) if host.ssh is not None else None
