"""The rules of machines that are reached by SSH: each is one member of the mesh, which can tell it from the others."""

from collections.abc import Iterator, Mapping

from hybridmesh.istio import static_entry_name
from hybridmesh.istio.names import canonical_address, is_ip_address

from .draft import Draft
from .findings import Finding, one_of
from .login_checks import check_login
from .lost import check_lost
from .models import Cluster, Command, Host, Sidecar, Ssh, Workload
from .network_checks import gateway_hosts, mesh_address


def check_hosts(draft: Draft) -> Iterator[Finding]:
    """What is wrong with a gateway's machines, with what all machines install, and with two machines that are one."""
    for path, _, host in gateway_hosts(draft.networks):
        yield from host_findings(path, host, "auto")
    yield from _package(draft)
    yield from _hosts(draft)


def check_entries(draft: Draft) -> Iterator[Finding]:
    """Two machines that would be one endpoint, or have one WorkloadEntry."""
    yield from _mesh_addresses(draft)
    yield from _static_entries(draft.workloads)


def host_findings(path: str, host: Host, registration: str) -> Iterator[Finding]:
    """What is wrong with one machine. `registration`: who makes its WorkloadEntry."""
    yield from one_of(path, host, ("ssh", "command"))
    yield from check_lost(path, host)
    if host.weight is not None and registration != "static":
        yield Finding(
            f"{path}.weight",
            str(host.weight),
            "needs `machines.registration: static`",
            "istiod makes the WorkloadEntry by the group, which has one weight for all its machines.",
            "`registration: static`, or leave it out.",
        )
    for kind in ("ssh", "command"):
        access = getattr(host, kind)
        if isinstance(access, Ssh | Command):
            yield from check_login(f"{path}.{kind}", access)
    if host.ssh is not None and host.mesh_address is None and not is_ip_address(host.ssh.address):
        yield Finding(
            f"{path}.meshAddress",
            "",
            "is missing, and `ssh.address` is a host name",
            "The mesh needs the machine's IP address, and would not know it.",
            "the IP address at which the mesh reaches the machine.",
        )


def _package(draft: Draft) -> Iterator[Finding]:
    with_machines = [f"workloads.{n}" for n, w in draft.workloads.items() if w.machines is not None]
    with_machines += [f"networks.{name}.gateway" for name in draft.gateways]
    sidecar = draft.section_or_default("sidecar", Sidecar)
    if with_machines and sidecar is not None and sidecar.package is None:
        yield Finding(
            "sidecar.package",
            "",
            f"is missing, and `{with_machines[0]}` has machines",
            "Its VMs could not install the sidecar.",
            "`{url, sha256, version}` of the `istio-sidecar` package.",
        )


def _hosts(draft: Draft) -> Iterator[Finding]:
    names: dict[str, str] = {}
    endpoints: dict[tuple[object, ...], str] = {}
    of_workloads = [
        (f"workloads.{workload_name}.machines.hosts.{name}", name, host)
        for workload_name, workload in draft.workloads.items()
        for name, host in workload.hosts.items()
    ]
    for path, name, host in (*of_workloads, *gateway_hosts(draft.networks)):
        first = names.setdefault(name, path)
        if first != path:
            yield Finding(
                path,
                "",
                f"has the name of {first}",
                "The two could not be told apart.",
                "give each machine a name of its own in the whole stack.",
            )
        # Where one was that is gone for good, another may be by now.
        if host.ssh is not None and not host.gone:
            first = endpoints.setdefault(_endpoint(host), path)
            if first != path:
                yield Finding(
                    f"{path}.ssh.address",
                    host.ssh.address,
                    f"is that of {first} too",
                    "One machine cannot be two members of the mesh.",
                    "list each machine once; one workload, or one network's gateway, a machine.",
                )


def _mesh_addresses(draft: Draft) -> Iterator[Finding]:
    """In one network, address and port are one endpoint; and istiod names a machine's WorkloadEntry after its workload,
    address and network."""
    cluster = draft.section("cluster", Cluster)
    own = cluster.network if cluster is not None else None
    seen: dict[tuple[str | None, str], list[tuple[str, str, Workload, Host]]] = {}
    for workload_name, workload in draft.workloads.items():
        for name, host in workload.hosts.items():
            said = mesh_address(f"workloads.{workload_name}.machines.hosts.{name}", host)
            if said is None or host.gone:
                continue
            path, address = said
            there = seen.setdefault((workload.network or own, canonical_address(address)), [])
            for first, of, theirs, other in there:
                consequence = _mixed_up(workload, theirs, one=of == workload_name)
                # The same machine twice is found where SSH reaches it.
                if consequence and (host.ssh is None or _endpoint(host) != _endpoint(other)):
                    yield Finding(
                        path,
                        address,
                        f"is that of {first} too, in the same network",
                        consequence,
                        "`meshAddress`, at which the mesh reaches this machine and no other.",
                    )
                    break
            there.append((path, workload_name, workload, host))


def _mixed_up(workload: Workload, other: Workload, *, one: bool) -> str:
    """What follows where a machine of each, or of `one` workload, are at one address; empty if nothing does."""
    if one and workload.machines is not None and workload.machines.registration == "auto":
        return "Both would have one WorkloadEntry, and requests for one would go to the other."
    shared = {port.target for port in workload.ports} & {port.target for port in other.ports}
    if shared:
        return f"Both take requests at port {min(shared)} there: those for one would go to the other."
    return ""


def _endpoint(host: Host) -> tuple[object, ...]:
    """Where SSH finds a machine, as far as it tells it from others; empty if not by SSH."""
    if host.ssh is None:
        return ()
    # Behind another bastion, an address is another network's; the mesh has to know it by another one.
    way = host.ssh.bastion if host.mesh_address is not None else None
    return host.ssh.address, host.ssh.port, *((way.address, way.port) if way is not None else ())


def _static_entries(workloads: Mapping[str, Workload]) -> Iterator[Finding]:
    seen: dict[tuple[str, str], str] = {}
    for workload_name, workload in workloads.items():
        if workload.machines is None or workload.machines.registration != "static":
            continue
        for name in workload.machines.hosts:
            path, entry = f"workloads.{workload_name}.machines.hosts.{name}", static_entry_name(workload_name, name)
            first = seen.setdefault((workload.namespace, entry), path)
            if first != path:
                yield Finding(
                    path,
                    "",
                    f"would have the WorkloadEntry {entry}, as {first} has",
                    "Both would make the same object.",
                    "another name for the machine.",
                )
