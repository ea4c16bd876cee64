"""What a stack's machines are in the mesh right now: `python -m hybridmesh status`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hybridmesh.ops.topology import stack_topology
from hybridmesh.providers import ClusterAccess
from hybridmesh.providers.cluster import Cluster, connect
from hybridmesh.providers.entries import health, is_connected
from hybridmesh.providers.membership import sync_objection


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineStatus:
    """One machine, as the mesh sees it."""

    name: str
    workload: str
    identity: str
    """SPIFFE id in its certificate."""
    address: str
    """Where the mesh reaches it."""
    sidecar_version: str
    connected: bool
    """Whether istiod holds a connection to it."""
    sync: str
    """`in sync`, or why not."""
    healthy: bool | None
    """By the workload's probe; None where istiod knows of none."""
    health: str
    """`healthy`, or what the probe last said."""
    certificate_expiry: str
    """End of the certificate that it joined with (RFC 3339); the proxy renews it at half its time."""

    @property
    def good(self) -> bool:
        return self.connected and self.sync == "in sync" and self.healthy is not False


def machine_status(
    name: str,
    machine: Mapping[str, Any],
    entry: Mapping[str, Any] | None,
    states: Sequence[Mapping[str, Any]],
) -> MachineStatus:
    """Judge one machine.

    Args:
        name: the machine's, hence its proxy's.
        machine: its facts in the topology.
        entry: its WorkloadEntry, None where there is none.
        states: what all istiods say of the proxies in its namespace (/debug/syncz).
    """
    connected = is_connected(entry)
    objection = sync_objection(states, f"{name}.{machine['namespace']}") if connected else "not connected to istiod"
    probed = bool(((entry or {}).get("status") or {}).get("conditions"))
    healthy, said = health(entry) if entry is not None and probed else (None, "not probed")
    return MachineStatus(
        name=name,
        workload=f"{machine['namespace']}/{machine['workload']}",
        identity=machine["identity"],
        address=machine["meshAddress"],
        sidecar_version=machine["sidecarVersion"],
        connected=connected,
        sync=objection or "in sync",
        healthy=healthy,
        health="healthy" if healthy else said,
        certificate_expiry=machine["certificateExpiry"],
    )


def machine_statuses(topology: Mapping[str, Any], cluster: Cluster) -> list[MachineStatus]:
    """Judge every machine of a stack; one request to istiod a namespace, one to Kubernetes a machine."""
    plane = topology["controlPlane"]
    namespaces = sorted({machine["namespace"] for machine in topology["machines"].values()})
    states = {ns: cluster.sync_states(plane["namespace"], plane["revision"], ns) for ns in namespaces}
    found = []
    for name, machine in sorted(topology["machines"].items()):
        namespace, entry = machine["entry"].split("/")
        found.append(machine_status(name, machine, cluster.workload_entry(namespace, entry), states[namespace]))
    return found


def status(
    stack: Annotated[str | None, typer.Option(help="The stack; default the selected one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show every machine of a stack: identity, sync state, health, certificate. Exit code 1 if one is not well."""
    topology = stack_topology(stack)
    access = ClusterAccess(kubeconfig=topology["cluster"]["kubeconfig"], context=topology["cluster"]["context"])
    machines = machine_statuses(topology, connect(access.properties()))
    if as_json:
        print(json.dumps({"topology": topology, "machines": [asdict(machine) for machine in machines]}, indent=2))
    else:
        _print(topology, machines, datetime.now(UTC))
    if not all(machine.good for machine in machines):
        raise typer.Exit(1)


def _print(topology: Mapping[str, Any], machines: Sequence[MachineStatus], now: datetime) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # a log is read with its lines whole
    cluster, plane, gateway = topology["cluster"], topology["controlPlane"], topology["gateway"]
    console.print(f"cluster   {cluster['name']}, network {cluster['network']}")
    console.print(f"istiod    {plane['version']}, revision {plane['revision']}, trust domain {plane['trustDomain']}")
    console.print(f"gateway   {gateway['name']} at {gateway['address']}")
    for name, network in sorted(topology.get("networks", {}).items()):
        console.print(f"network   {name}: {_way(network)}")
    for name, workload in sorted(topology["workloads"].items()):
        console.print(f"workload  {name}: {_describe(workload)}", soft_wrap=True)
    if not machines:
        return
    table = Table(box=None, pad_edge=False)
    for header in ("machine", "identity", "address", "sidecar", "sync", "health", "certificate"):
        table.add_column(header, overflow="fold")
    for machine in machines:
        colour = "green" if machine.good else "red"
        table.add_row(
            f"[{colour}]●[/] {machine.name}",
            machine.identity,
            machine.address,
            machine.sidecar_version,
            machine.sync,
            machine.health,
            f"{_remaining(machine.certificate_expiry, now)}, until {machine.certificate_expiry}",
        )
    console.print()
    console.print(table)


def _way(network: Mapping[str, Any]) -> str:
    if network["gateways"]:
        return f"reached through {', '.join(network['gateways'])} at {', '.join(network['addresses'])}"
    return "reached directly" if network["direct"] else "its machines call, and are not called"


def _describe(workload: Mapping[str, Any]) -> str:
    parts = []
    if workload["pods"]:
        parts.append(f"{workload['pods']['replicas']} pod(s)")
    if workload["machines"]:
        parts.append(f"machines {', '.join(workload['machines'])}")
    text = " and ".join(parts)
    if workload["host"]:
        text += f", as {workload['host']}"
    if workload["weights"]:
        text += ", split " + ", ".join(f"{subset} {share} %" for subset, share in workload["weights"].items())
    return text


def _remaining(expiry: str, now: datetime) -> str:
    left = datetime.fromisoformat(expiry) - now
    hours = left.total_seconds() / 3600
    return f"{hours:.0f} h left" if hours >= 1 else f"{max(left.total_seconds(), 0) / 60:.0f} min left"
