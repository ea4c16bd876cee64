"""The mesh that a stack file describes, drawn before anything of it is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.topology import drawing
from hybridmesh.istio.names import canonical_address, gateway_group
from hybridmesh.settings import Settings
from hybridmesh.settings.lost import present
from hybridmesh.settings.models import Host

LATER = "known after the update"


def planned_drawing(settings: Settings, current: Mapping[str, Any] | None = None) -> str:
    """The drawing of the stack's output `drawing`, from settings.

    Args:
        current: the stack's output `topology`, for addresses that only the cluster or a machine's maker knows.
    """
    settings, known = present(settings), current or {}
    machines = {
        name: _machine(name, host, known, key, workload.machines.version, settings.network_of(workload))
        for key, workload in settings.workloads.items()
        if workload.machines is not None
        for name, host in workload.hosts.items()
    }
    gateways = settings.gateways
    for key, gateway in gateways.items():
        group = gateway_group(key)
        machines |= {name: _machine(name, host, known, group, "", key) for name, host in gateway.hosts.items()}
    return drawing(
        {
            "cluster": {"name": settings.cluster.name, "network": settings.cluster.network},
            "controlPlane": {"version": settings.control_plane.version},
            "gateway": {
                "name": settings.gateway.name,
                "address": settings.gateway.address or (known.get("gateway") or {}).get("address") or LATER,
            },
            "networks": {
                key: {"gateways": sorted(gateways[key].hosts) if key in gateways else []} for key in settings.networks
            },
            "machines": machines,
            "google": _by_themselves(settings),
            "workloads": {key: _workload(key, settings) for key in settings.workloads},
        }
    )


def _machine(name: str, host: Host, known: Mapping[str, Any], group: str, version: str, network: str) -> dict[str, Any]:
    there = ((known.get("machines") or {}).get(name) or {}).get("meshAddress")
    ssh = host.ssh.address if host.ssh is not None else None
    return {
        "workload": group,
        "version": version,
        "network": network,
        "meshAddress": canonical_address(host.mesh_address or ssh or there or LATER),
    }


def _by_themselves(settings: Settings) -> dict[str, dict[str, Any]]:
    """Fleets and instances, whose machines join without SSH."""
    made: dict[str, dict[str, Any]] = {}
    for key, workload in settings.workloads.items():
        if workload.machines is not None:
            own = {"workload": key, "version": workload.machines.version}
            made |= {name: {"kind": "fleet", **own} for name in workload.machines.fleets}
            made |= {name: {"kind": "instance", **own} for name in workload.machines.instances}
    return made


def _workload(key: str, settings: Settings) -> dict[str, Any]:
    workload, routing = settings.workloads[key], settings.routing.get(key)
    return {
        "host": settings.service_hosts(key)[0] if workload.ports else None,
        "pods": workload.pods and {"replicas": workload.pods.replicas, "version": workload.pods.version},
        "machines": sorted(workload.hosts),
        "weights": dict(routing.weights) if routing is not None and routing.weights else None,
        "subsets": {k: dict(v) for k, v in routing.subsets_of(workload).items()} if routing is not None else None,
    }
