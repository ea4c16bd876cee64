"""What a WorkloadEntry says of its VM.

Source of the annotations and the condition: istio, `pilot/pkg/autoregistration/controller.go` and
`internal/health/controller.go` there.
"""

from collections.abc import Mapping
from typing import Any

_CONNECTED = "istio.io/connectedAt"
_DISCONNECTED = "istio.io/disconnectedAt"


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
