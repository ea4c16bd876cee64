"""A cluster of plain dictionaries, for the providers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hybridmesh.providers.cluster import Pod


def entry(
    *, connected: bool = True, labels: Mapping[str, str] | None = None, healthy: bool | None = None, group: str = ""
) -> dict[str, Any]:
    """A WorkloadEntry as istiod writes it; without a WorkloadGroup, as it notes on a static one."""
    when = "istio.io/connectedAt" if connected else "istio.io/disconnectedAt"
    all_labels = labels or {
        "app": "echo",
        "version": "vm",
        "service.istio.io/canonical-name": "echo",
        "service.istio.io/canonical-revision": "vm",
    }
    made: dict[str, Any] = {
        "metadata": {
            "annotations": {when: "2026-01-01T00:00:00Z", "proxy.istio.io/health-checks-enabled": "true"},
            "labels": dict(all_labels),
        },
        "spec": {"address": "192.0.2.11", "labels": dict(all_labels), "ports": {"http": 8080}},
    }
    if group:
        made["metadata"]["annotations"]["istio.io/autoRegistrationGroup"] = group
    if healthy is not None:
        condition = {"type": "Healthy", "status": str(healthy), "message": "connection refused"}
        made["status"] = {"conditions": [condition]}
    return made


def state(proxy: str = "vm-1.demo", **resources: Mapping[str, str]) -> dict[str, Any]:
    """One proxy in /debug/syncz: in sync, changed by `resources` (by a type's last word)."""
    prefix = "type.googleapis.com/envoy.config.cluster.v3."
    both = {"sent": "n1", "acked": "n1"}
    return {
        "proxy": proxy,
        "resources": {prefix + k: v for k, v in {"Cluster": both, "Listener": both, **resources}.items()},
    }


@dataclass(eq=False)
class FakeCluster:
    """What the providers ask of a cluster, from memory; `done` tells what they changed."""

    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: list[Mapping[str, Any]] = field(default_factory=list)
    maps: dict[str, dict[str, str]] = field(default_factory=dict)
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    labelled: list[tuple[str, str]] = field(default_factory=list)
    namespaces: dict[str, list[str]] = field(default_factory=dict)
    """Names by label selector."""
    tags: dict[str, str] = field(default_factory=dict)
    """Revisions of Istio by tag."""
    crds: list[dict[str, Any]] = field(default_factory=list)
    objects: dict[str, list[str]] = field(default_factory=dict)
    deployments: list[str] = field(default_factory=list)
    running: dict[str, list[Pod]] = field(default_factory=dict)
    """Pods by namespace and selector."""
    pages: dict[str, str] = field(default_factory=dict)
    """What pods answer, by namespace/pod:port/path."""
    custom: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Objects of a kind, by namespace/plural."""
    by_label: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Objects of all namespaces, by plural and label selector."""
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    """Those of namespaces that are there."""
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Objects by kind, namespace and name."""
    absent: set[str] = field(default_factory=set)
    """What is not there to be disowned, by version, kind, namespace and name."""
    records: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    revisions: str = "default"
    done: list[str] = field(default_factory=list)
    minted: int = 0

    def mint_token(self, namespace: str, account: str, audience: str, seconds: int) -> tuple[str, str]:
        self.minted += 1
        self.done.append(f"mint {namespace}/{account} for {audience}, {seconds} s")
        return f"token-{self.minted}", "2026-01-01T01:00:00Z"

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        return self.maps.get(f"{namespace}/{name}")

    def service(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        return self.services.get(f"{namespace}/{name}")

    def workload_entry(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        return self.entries.get(f"{namespace}/{name}")

    def workload_entries(self, namespace: str, at_most: int) -> Mapping[str, Mapping[str, Any]]:
        here = [(key.split("/"), entry) for key, entry in self.entries.items()]
        return dict([(name, entry) for (place, name), entry in here if place == namespace][:at_most])

    def patch_workload_entry(self, namespace: str, name: str, patch: Mapping[str, Any]) -> None:
        self.done.append(f"patch {namespace}/{name}")
        _merge(self.entries[f"{namespace}/{name}"], patch)

    def delete_workload_entry(self, namespace: str, name: str) -> None:
        self.done.append(f"delete entry {namespace}/{name}")
        self.entries.pop(f"{namespace}/{name}", None)

    def sync_states(self, namespace: str, revision: str, workload_namespace: str) -> Sequence[Mapping[str, Any]]:
        assert (namespace, revision, workload_namespace) == ("istio-system", self.revisions, "demo")
        return self.states

    def pods(self, namespace: str, selector: str) -> Sequence[Pod]:
        return self.running.get(f"{namespace} {selector}", [])

    def ask_pod(self, namespace: str, pod: str, port: int, path: str) -> str:
        return self.pages.get(f"{namespace}/{pod}:{port}{path}", "")

    def objects_in(self, group: str, version: str, plural: str, namespace: str) -> Sequence[Mapping[str, Any]]:
        assert (group.endswith((".istio.io", "apps")), version) == (True, "v1")
        return self.custom.get(f"{namespace}/{plural}", [])

    def objects_labelled(self, group: str, version: str, plural: str, selector: str) -> Sequence[Mapping[str, Any]]:
        assert (group, version) == ("gateway.networking.k8s.io", "v1")
        return self.by_label.get(f"{plural} {selector}", [])

    def services_labelled(self, selector: str) -> Sequence[Mapping[str, Any]]:
        return self.by_label.get(f"services {selector}", [])

    def namespaces_of(self, group: str, version: str, plural: str) -> Sequence[str]:
        assert (group, version) == ("networking.istio.io", "v1")
        places = ((key.split("/"), found) for key, found in self.custom.items())
        return [namespace for (namespace, kind), found in places if kind == plural for _ in found]

    def namespace_labels(self, name: str) -> Mapping[str, str] | None:
        return self.labels.get(name)

    def revision_tags(self, namespace: str) -> Mapping[str, str]:
        assert namespace == "istio-system"
        return self.tags

    def istiods(self) -> Sequence[str]:
        return self.deployments

    def istio_crds(self) -> Sequence[Mapping[str, Any]]:
        return list(self.crds)

    def delete_crd(self, name: str) -> None:
        self.done.append(f"delete crd {name}")
        self.crds = [crd for crd in self.crds if crd["metadata"]["name"] != name]

    def objects_of(self, crd: Mapping[str, Any]) -> Sequence[str]:
        return self.objects.get(crd["metadata"]["name"], [])

    def namespaces_labelled(self, selector: str) -> Mapping[str, str]:
        return {name: f"{name}-1" for name in self.namespaces.get(selector, [])}

    def config_maps_labelled(self, selector: str) -> Sequence[tuple[str, str]]:
        assert selector == "istio.io/config=true"
        return list(self.labelled)

    def delete_config_map(self, namespace: str, name: str) -> None:
        self.done.append(f"delete map {namespace}/{name}")

    def helm_records(self, namespace: str, release: str) -> Sequence[tuple[str, str]]:
        return list(self.records.get(f"{namespace}/{release}", []))

    def delete_helm_record(self, namespace: str, name: str) -> None:
        self.done.append(f"delete record {namespace}/{name}")

    def find(self, api_version: str, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        self.done.append(f"find {api_version} {kind} {namespace}/{name}")
        return self.found.get(f"{kind} {namespace}/{name}")

    def disown(self, api_version: str, kind: str, namespace: str, name: str) -> bool:
        self.done.append(f"disown {api_version} {kind} {namespace}/{name}")
        return f"{api_version} {kind} {namespace}/{name}" not in self.absent


def _merge(target: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """RFC 7386."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, Mapping):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value
