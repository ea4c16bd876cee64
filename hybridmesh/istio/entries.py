"""What a WorkloadEntry says of its VM.

Source of the annotations and the condition: istio, `pilot/pkg/autoregistration/controller.go` and
`internal/health/controller.go` there.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from .names import (
    AUTO_REGISTRATION_ANNOTATION,
    HEALTH_CHECKS_ANNOTATION,
    CanonicalService,
    canonical_service,
    static_entry_name,
)

_CONNECTED = "istio.io/connectedAt"
_DISCONNECTED = "istio.io/disconnectedAt"
_REPORT_SECONDS = 15
"""From a probe's answer until Kubernetes shows it, at most."""


def is_connected(entry: Mapping[str, Any] | None) -> bool:
    """Whether istiod holds a connection to the VM that the entry stands for."""
    if entry is None or "deletionTimestamp" in entry["metadata"]:
        return False
    annotations = entry["metadata"].get("annotations") or {}
    return bool(annotations.get(_CONNECTED)) and _DISCONNECTED not in annotations


def health(entry: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether the app on the VM is healthy by its probe, and what the probe last said, in one line."""
    condition = _healthy(entry)
    if condition is None:
        return False, "the probe has not answered yet"
    said = " ".join(str(condition.get("message") or "").split())
    return condition.get("status") == "True", said or "no reason is given"


def why_not_called(entry: Mapping[str, Any]) -> str:
    """Why nobody calls the VM that the entry stands for; empty if it is among its service's endpoints, and will be.

    istiod goes by what is noted, however old; what is not probed is healthy to it
    (`pilot/pkg/serviceregistry/serviceentry/conversion.go`, isHealthy), and so is a machine outside of the mesh.
    """
    if not is_connected(entry) and (has_proxy(entry) or "deletionTimestamp" in entry["metadata"]):
        return "its proxy is not connected to istiod"
    healthy, said = health(entry)
    return f"its app is not healthy by the probe: {said}" if is_probed(entry) and not healthy else ""


def is_stale(entry: Mapping[str, Any]) -> bool:
    """Whether what is noted of the app's health was said before the VM's proxy connected.

    It stays on the entry until the agent speaks again, and may be of a life of it with another probe.
    """
    said, connected = _moment((_healthy(entry) or {}).get("lastProbeTime")), _connected_at(entry)
    return said is not None and connected is not None and said < connected


def is_reported(entry: Mapping[str, Any]) -> bool:
    """Whether istiod has noted how the app on the VM is."""
    return _healthy(entry) is not None


def _healthy(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    conditions = (entry.get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == "Healthy"), None)


def awaits_report(entry: Mapping[str, Any]) -> bool:
    """Whether its VM is connected, and nothing is noted yet of how a probed app on it is."""
    return is_probed(entry) and is_connected(entry) and not is_reported(entry)


def report_is_lost(entry: Mapping[str, Any], group: Mapping[str, Any], now: datetime) -> bool:
    """Whether istiod has lost what the VM's agent said of the app's health, so that the VM is no endpoint.

    An agent speaks up once its probe answers another way than before, and not again until its proxy connects anew.
    istiod drops what it cannot write within five tries, 80 ms, and it cannot write to a new entry that its own cache
    does not have yet: under load, as when a hundred VMs join at once, that takes longer
    (`pilot/pkg/autoregistration/controller.go`, maxRetries; `internal/health/controller.go` there). `group`: the
    manifest of the entry's WorkloadGroup.
    """
    return awaits_report(entry) and must_have_spoken(entry, group, now)


def must_have_spoken(entry: Mapping[str, Any], group: Mapping[str, Any], now: datetime) -> bool:
    """Whether the agent of a connected VM has said how the app is, whatever istiod noted of it.

    The probe of its `group`, a WorkloadGroup's manifest, says when it speaks at the latest
    (`pkg/istio-agent/health/health_check.go`, fillInDefaults).
    """
    connected = _connected_at(entry)
    if connected is None:
        return True  # somebody wrote what is no time, and only a proxy that connects anew puts that right
    probe = (group.get("spec") or {}).get("probe") or {}
    answers = max(int(probe.get("successThreshold") or 1), int(probe.get("failureThreshold") or 1))
    takes = int(probe.get("periodSeconds") or 10) + int(probe.get("timeoutSeconds") or 1)
    latest = int(probe.get("initialDelaySeconds") or 0) + answers * takes + _REPORT_SECONDS
    return now - connected > timedelta(seconds=latest)


def _connected_at(entry: Mapping[str, Any]) -> datetime | None:
    return _moment((entry["metadata"].get("annotations") or {}).get(_CONNECTED))


def _moment(text: str | None) -> datetime | None:
    """A time as istiod writes it; None where it is none: anybody can write there who may edit an entry."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def is_probed(entry: Mapping[str, Any]) -> bool:
    """Whether the VM is an endpoint only while a probe of its app succeeds."""
    return (entry["metadata"].get("annotations") or {}).get(HEALTH_CHECKS_ANNOTATION) == "true"


def has_proxy(entry: Mapping[str, Any]) -> bool:
    """Whether a proxy belongs to the entry; one that somebody wrote for a machine outside of the mesh has none."""
    annotations = entry["metadata"].get("annotations") or {}
    return AUTO_REGISTRATION_ANNOTATION in annotations or HEALTH_CHECKS_ANNOTATION in annotations


def group_of(entry: Mapping[str, Any]) -> str:
    """The WorkloadGroup by which its VM registered itself; empty for an entry that somebody wrote."""
    return str((entry["metadata"].get("annotations") or {}).get(AUTO_REGISTRATION_ANNOTATION, ""))


def may_be_of(entry: Mapping[str, Any], group: str) -> bool:
    """Whether the entry's VM is one of a WorkloadGroup's: by its registration or, of a static entry with a proxy, by
    its name, which begins with the group's."""
    if group_of(entry):
        return group_of(entry) == group
    return has_proxy(entry) and str(entry["metadata"]["name"]).startswith(static_entry_name(group, ""))


def workload_of(entry: Mapping[str, Any]) -> CanonicalService:
    """The workload, and its version, that the entry's VM runs."""
    metadata = entry["metadata"]
    labels = {**(metadata.get("labels") or {}), **((entry.get("spec") or {}).get("labels") or {})}
    return canonical_service(labels, group_of(entry) or metadata["name"])
