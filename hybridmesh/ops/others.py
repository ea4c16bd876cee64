"""Machines that the mesh has and the stack has no resource of: those of fleets, and whoever joined by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridmesh.istio.entries import group_of, is_connected


def others(topology: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those of the stack's workloads, by their WorkloadEntries' names, in the shape of the topology's machines.

    One that is about to go (its proxy is gone, its entry follows within seconds) is none any more.
    """
    known = {machine["entry"] for machine in topology["machines"].values()}
    found = {}
    for path, entry in sorted(entries.items()):
        workload = topology["workloads"].get(group_of(entry))
        namespace, spec = entry["metadata"]["namespace"], entry.get("spec") or {}
        if path in known or not is_connected(entry) or workload is None or workload["namespace"] != namespace:
            continue
        account = spec.get("serviceAccount", "default")
        found[entry["metadata"]["name"]] = {
            "entry": path,
            "namespace": namespace,
            "workload": group_of(entry),
            "identity": f"spiffe://{topology['controlPlane']['trustDomain']}/ns/{namespace}/sa/{account}",
            "meshAddress": spec.get("address", ""),
            "network": spec.get("network") or topology["cluster"]["network"],
            "version": (spec.get("labels") or {}).get("version", ""),
        }
    return found
