"""Which ports of the east-west gateway the machines of a workload use, and which other machines use of theirs."""

from hybridmesh.istio.ports import EAST_WEST_TLS, ISTIOD_XDS

from .models import Settings, Workload


def gateway_ports(settings: Settings, workload: Workload | None) -> tuple[int, ...]:
    """The ports that a preflight looks for.

    None as workload: a gateway machine, which calls nobody. A gateway that others installed need not let services
    through for machines in the cluster's own network, which reach the pods themselves.
    """
    if workload is None:
        return (ISTIOD_XDS,)
    own = workload.network in (None, settings.cluster.network)
    return (ISTIOD_XDS,) if own and settings.gateway.mode == "adopt" else (ISTIOD_XDS, EAST_WEST_TLS)


def proxy_ports(workload: Workload | None) -> tuple[int, ...]:
    """The ports, besides Istio's own, at which a machine's proxy takes what comes from other networks.

    None as workload: a gateway machine, whose proxy has them.
    """
    return (EAST_WEST_TLS,) if workload is None else ()


def proxy_ports_forwarded(settings: Settings, machine: str) -> bool:
    """Whether other networks reach those ports of a gateway machine through an address or a port of another's.

    A forward of the machine's own is one, too: its rules see other connections than those to its mesh address.
    """
    return any(
        machine in gateway.hosts and (gateway.address is not None or gateway.port != EAST_WEST_TLS)
        for gateway in settings.gateways.values()
    )
