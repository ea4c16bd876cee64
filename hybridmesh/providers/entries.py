"""Whether a WorkloadEntry's VM is in the mesh, and what brings the entry up to date. What it says of its VM:
`hybridmesh.istio.entries`."""

import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hybridmesh.istio import canonical_service
from hybridmesh.istio.entries import (
    awaits_report,
    group_of,
    is_connected,
    must_have_spoken,
    why_not_called,
    workload_of,
)
from hybridmesh.istio.names import HEALTH_CHECKS_ANNOTATION, LOCALITY_LABEL

from .cluster import NETWORKING, Cluster

_RECENT_SECONDS = 5
_AT_MOST = 1000
"""Entries in one answer: 2 MB. A namespace may have many more, of other stacks."""


def is_in(cluster: Cluster, namespace: str, name: str) -> bool:
    """Whether istiod holds a connection to the entry's VM, and was heard of its app's health."""
    return _is_in(cluster, namespace, cluster.workload_entry(namespace, name))


def was_in_recently(cluster: Cluster, namespace: str, name: str) -> bool:
    """`is_in`, or was within the last five seconds.

    One request serves all VMs of a namespace that are looked at one after another, as each run does: the engine waits
    for each answer, and has nothing else to do. Who was not in then, or is not told of, is asked for anew.
    """
    entry = _entries(cluster, namespace, _period()).get(name)
    return _is_in(cluster, namespace, entry) or is_in(cluster, namespace, name)


def _period() -> int:
    """What is asked for once is kept under it, for as long as it is the same."""
    return int(time.monotonic() // _RECENT_SECONDS)


@functools.lru_cache(maxsize=16)
def _entries(cluster: Cluster, namespace: str, _period: int) -> Mapping[str, Mapping[str, Any]]:
    return cluster.workload_entries(namespace, _AT_MOST)


def _is_in(cluster: Cluster, namespace: str, entry: Mapping[str, Any] | None) -> bool:
    return entry is not None and is_connected(entry) and not lacks_report(cluster, namespace, entry)


def why_nobody_else_is_called(
    cluster: Cluster, namespace: str, name: str, away: Collection[str], is_leaving: Callable[[Mapping[str, Any]], bool]
) -> Mapping[str, tuple[str, str]]:
    """Why callers of an entry's VM would have none of its workload's others: of each, by its entry, the address and
    the reason. Empty where they would have one, where there is no other, and where nobody calls this one either.

    `away`: entries of those that are on their way out, which some may see as they were. `is_leaving`: whether an
    entry's VM goes from the stack for good; one of these that nobody calls is no other that could be mended.
    """
    entries = cluster.workload_entries(namespace, _AT_MOST)
    own = entries.get(name)
    if own is None or why_not_called(own):
        return {}
    service = workload_of(own).name
    others = {n: entry for n, entry in entries.items() if n != name and workload_of(entry).name == service}
    reasons = {n: "it restarts" if n in away else why_not_called(entry) for n, entry in others.items()}
    if not all(reasons.values()):
        return {}
    return {
        n: (str((others[n].get("spec") or {}).get("address", "")), why)
        for n, why in sorted(reasons.items())
        if not is_leaving(others[n])
    }


def lacks_report(cluster: Cluster, namespace: str, entry: Mapping[str, Any]) -> bool:
    """Whether istiod has lost what the VM of an entry in `namespace` said of its app's health; see `report_is_lost`.

    Asks for the group, if nothing was noted on the entry yet. A static one has none, and is there long before its VM
    says anything.
    """
    if not awaits_report(entry) or not group_of(entry):
        return False
    group = _group(cluster, namespace, group_of(entry))
    return group is not None and must_have_spoken(entry, group, datetime.now(UTC))


def may_still_speak(cluster: Cluster, namespace: str, entry: Mapping[str, Any], group: str) -> bool:
    """Whether the agent of a connected VM may not have said yet how the app is, by the probe of its WorkloadGroup."""
    found = _group(cluster, namespace, group)
    return found is not None and not must_have_spoken(entry, found, datetime.now(UTC))


def _group(cluster: Cluster, namespace: str, name: str) -> Mapping[str, Any] | None:
    return next((g for g in _groups(cluster, namespace, _period()) if g["metadata"]["name"] == name), None)


@functools.lru_cache(maxsize=16)
def _groups(cluster: Cluster, namespace: str, _period: int) -> Sequence[Mapping[str, Any]]:
    """All VMs that wait for their health ask for the same few, twice a second each."""
    return cluster.objects_in(*NETWORKING, "workloadgroups", namespace)


def entry_patch(
    entry: Mapping[str, Any], group: str, labels: Mapping[str, str], ports: Mapping[str, int], probed: bool
) -> dict[str, Any]:
    """What brings an entry up to date with its WorkloadGroup, as a JSON merge patch; empty if it is.

    istiod writes an entry once, when a proxy registers. A proxy that comes back before the entry is gone gets the old
    one, whatever its group says by then, so that a subset would go on selecting by labels of yesterday
    (`registerWorkload`; istio/istio #37868). `labels`, `ports`: the group's.
    """
    wanted = canonical_service(labels, group).on(labels)
    metadata, spec = entry["metadata"], entry.get("spec") or {}
    patch: dict[str, Any] = {}
    for place, there, key, value in (
        ("metadata", metadata, "labels", wanted),
        ("spec", spec, "labels", wanted),
        ("spec", spec, "ports", {name: int(port) for name, port in ports.items()}),
    ):
        change = _merge_patch(there.get(key) or {}, value)
        if change:
            patch.setdefault(place, {})[key] = change
    # A locality that no label tells is the cloud's to know.
    label = labels.get(LOCALITY_LABEL)
    if label is not None and spec.get("locality") != label.replace(".", "/"):
        patch.setdefault("spec", {})["locality"] = label.replace(".", "/")
    elif label is None and LOCALITY_LABEL in (spec.get("labels") or {}) and "locality" in spec:
        patch.setdefault("spec", {})["locality"] = None
    checked = (metadata.get("annotations") or {}).get(HEALTH_CHECKS_ANNOTATION) == "true"
    if checked != probed:
        patch.setdefault("metadata", {})["annotations"] = {HEALTH_CHECKS_ANNOTATION: "true" if probed else None}
    return patch


def _merge_patch(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    gone = {key: None for key in there if key not in wanted}
    return {**gone, **{key: value for key, value in wanted.items() if there.get(key) != value}}
