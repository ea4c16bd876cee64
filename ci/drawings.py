"""The mesh that a stack file describes, drawn before anything of it is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.topology import drawing
from hybridmesh.settings import Settings

LATER = "known after the update"


def planned_drawing(settings: Settings, current: Mapping[str, Any] | None = None) -> str:
    """The drawing of the stack's output `drawing`, from settings.

    Args:
        current: the stack's output `topology`, for addresses that only the cluster or a machine's maker knows.
    """
    known = current or {}
    machines = {
        name: _machine(name, host, key, settings, known)
        for key, workload in settings.workloads.items()
        for name, host in (workload.machines.hosts if workload.machines else {}).items()
    }
    return drawing(
        {
            "cluster": {"name": settings.cluster.name, "network": settings.cluster.network},
            "controlPlane": {"version": settings.control_plane.version},
            "gateway": {
                "name": settings.gateway.name,
                "address": settings.gateway.address or (known.get("gateway") or {}).get("address") or LATER,
            },
            "networks": {},
            "machines": machines,
            "workloads": {key: _workload(key, settings) for key in settings.workloads},
        }
    )


def _machine(name: str, host: Any, key: str, settings: Settings, known: Mapping[str, Any]) -> dict[str, Any]:
    workload = settings.workloads[key]
    there = ((known.get("machines") or {}).get(name) or {}).get("meshAddress")
    ssh = host.ssh.address if host.ssh is not None else None
    return {
        "workload": key,
        "version": workload.machines.version if workload.machines else "",
        "network": workload.network or settings.cluster.network,
        "meshAddress": host.mesh_address or ssh or there or LATER,
    }


def _workload(key: str, settings: Settings) -> dict[str, Any]:
    workload, routing = settings.workloads[key], settings.routing.get(key)
    host = f"{key}.{workload.namespace}.svc.{settings.cluster.domain}"
    return {
        "host": host if workload.ports else None,
        "pods": workload.pods and {"replicas": workload.pods.replicas, "version": workload.pods.version},
        "machines": sorted(workload.machines.hosts) if workload.machines else [],
        "weights": dict(routing.weights) if routing is not None and routing.weights else None,
        "subsets": {k: dict(v) for k, v in routing.subsets_of(workload).items()} if routing is not None else None,
    }
