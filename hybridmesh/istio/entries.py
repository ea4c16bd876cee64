"""What a WorkloadEntry says of its VM.

Source of the annotations and the condition: istio, `pilot/pkg/autoregistration/controller.go` and
`internal/health/controller.go` there.
"""

from collections.abc import Mapping
from typing import Any

from .names import HEALTH_CHECKS_ANNOTATION, CanonicalService, canonical_service

_CONNECTED = "istio.io/connectedAt"
_DISCONNECTED = "istio.io/disconnectedAt"
_GROUP = "istio.io/autoRegistrationGroup"


def is_connected(entry: Mapping[str, Any] | None) -> bool:
    """Whether istiod holds a connection to the VM that the entry stands for."""
    if entry is None or "deletionTimestamp" in entry["metadata"]:
        return False
    annotations = entry["metadata"].get("annotations") or {}
    return bool(annotations.get(_CONNECTED)) and _DISCONNECTED not in annotations


def health(entry: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether the app on the VM is healthy by its probe, and what the probe last said."""
    conditions = (entry.get("status") or {}).get("conditions") or []
    for condition in conditions:
        if condition.get("type") == "Healthy":
            return condition.get("status") == "True", str(condition.get("message") or "no reason is given")
    return False, "the probe has not answered yet"


def is_probed(entry: Mapping[str, Any]) -> bool:
    """Whether the VM is an endpoint only while a probe of its app succeeds."""
    return (entry["metadata"].get("annotations") or {}).get(HEALTH_CHECKS_ANNOTATION) == "true"


def has_proxy(entry: Mapping[str, Any]) -> bool:
    """Whether a proxy belongs to the entry; one that somebody wrote for a machine outside of the mesh has none."""
    annotations = entry["metadata"].get("annotations") or {}
    return _GROUP in annotations or HEALTH_CHECKS_ANNOTATION in annotations


def group_of(entry: Mapping[str, Any]) -> str:
    """The WorkloadGroup by which its VM registered itself; empty for an entry that somebody wrote."""
    return str((entry["metadata"].get("annotations") or {}).get(_GROUP, ""))


def workload_of(entry: Mapping[str, Any]) -> CanonicalService:
    """The workload, and its version, that the entry's VM runs."""
    metadata = entry["metadata"]
    labels = {**(metadata.get("labels") or {}), **((entry.get("spec") or {}).get("labels") or {})}
    return canonical_service(labels, group_of(entry) or metadata["name"])
