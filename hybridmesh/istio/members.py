"""What a VM is in the mesh, by the manifest of its WorkloadGroup."""

from collections.abc import Mapping
from typing import Any

from .names import HEALTH_CHECKS_ANNOTATION, LOCALITY_LABEL, canonical_service, workload_entry_name
from .nested import at, merged


def group_labels(group: Mapping[str, Any]) -> dict[str, str]:
    """The labels that a group gives to its VMs; it may have them in two places, or none."""
    return {**(at(group, "spec", "metadata", "labels") or {}), **(at(group, "spec", "template", "labels") or {})}


def group_ports(group: Mapping[str, Any]) -> dict[str, int]:
    """The app's ports by name, if a group has any."""
    return dict(at(group, "spec", "template", "ports") or {})


def group_at(group: Mapping[str, Any], locality: str | None) -> Mapping[str, Any]:
    """A group's manifest with a locality among its labels."""
    if locality is None or not group:
        return group
    return merged(group, {"spec": {"metadata": {"labels": {LOCALITY_LABEL: locality.replace("/", ".")}}}})


def entry_name(group: Mapping[str, Any], address: str) -> str:
    """The name of the WorkloadEntry that istiod makes for a VM of a group."""
    network = at(group, "spec", "template", "network") or ""
    return workload_entry_name(group["metadata"]["name"], address, network)


def static_entry(group: Mapping[str, Any], address: str, locality: str | None, weight: int | None) -> dict[str, Any]:
    """A static WorkloadEntry, without its name, as istiod would make it by the group, so that nothing else differs."""
    template, labels = group["spec"]["template"], group_labels(group)
    labels = canonical_service(labels, group["metadata"]["name"]).on(labels)
    spec: dict[str, Any] = {"address": address, "labels": labels}
    for key in ("serviceAccount", "network", "ports"):
        if template.get(key):
            spec[key] = template[key]
    if locality is not None:
        spec["locality"] = locality
    if weight is not None:
        spec["weight"] = weight
    # With this annotation, whatever it says, istiod notes on the entry that the proxy comes and goes.
    checked = "true" if "probe" in group["spec"] else "false"
    return {"metadata": {"labels": labels, "annotations": {HEALTH_CHECKS_ANNOTATION: checked}}, "spec": spec}
