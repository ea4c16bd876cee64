"""Where VMs and pods are, for Prometheus' HTTP service discovery."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybridmesh.istio.entries import has_proxy, workload_of
from hybridmesh.istio.names import CANONICAL_NAME_LABEL, NETWORK_LABEL, canonical_service
from hybridmesh.istio.ports import AGENT_STATUS

METRICS_PATH = "/stats/prometheus"
"""Of the agent's port, which has the proxy's metrics, its own, and the app's; and of Envoy's."""
_ANNOTATION = "prometheus.io"


@dataclass(frozen=True, slots=True)
class Machine:
    """A VM that the stack has: known by its name, whether it is in the mesh or not."""

    name: str
    namespace: str
    workload: str
    network: str
    address: str


@dataclass(frozen=True, slots=True)
class Vm:
    """A VM that the mesh has, or should have."""

    name: str
    """The machine's, or its WorkloadEntry's where the stack has no such machine: one of a fleet."""
    namespace: str
    workload: str
    version: str
    """Empty where the mesh does not have it."""
    network: str
    address: str
    entry: Mapping[str, Any] | None
    """None where the mesh does not have it."""

    @property
    def labels(self) -> dict[str, str]:
        """What tells it from others, in metrics."""
        return {
            "vm": self.name,
            "namespace": self.namespace,
            "workload": self.workload,
            "version": self.version,
            "network": self.network,
        }


def vms(entries: Sequence[Mapping[str, Any]], machines: Sequence[Machine], network: str) -> list[Vm]:
    """Every VM: those that the mesh has, then those that it should have.

    Args:
        entries: WorkloadEntries as Kubernetes shows them.
        machines: what the stack has.
        network: that of entries that name none, the cluster's own.
    """
    # Its address a proxy says itself, which istiod does not check; its namespace it does.
    named = {(machine.namespace, machine.network, machine.address): machine.name for machine in machines}
    found = [vm for entry in entries for vm in _vm(entry, named, network)]
    there = {(vm.namespace, vm.network, vm.address) for vm in found}
    missing = [
        Vm(machine.name, machine.namespace, machine.workload, "", machine.network, machine.address, None)
        for machine in machines
        if (machine.namespace, machine.network, machine.address) not in there
    ]
    return sorted(found, key=lambda vm: (vm.namespace, vm.name)) + sorted(missing, key=lambda vm: vm.name)


def targets(known: Sequence[Vm], networks: Sequence[str]) -> list[dict[str, Any]]:
    """Targets as Prometheus reads them (https://prometheus.io/docs/prometheus/latest/http_sd/).

    networks: whose VMs.
    """
    return [
        {
            "targets": [f"{_host(vm.address)}:{AGENT_STATUS}"],
            "labels": {**vm.labels, "platform": "vm", "__metrics_path__": METRICS_PATH},
        }
        for vm in known
        if vm.entry is not None and vm.network in networks
    ]


def pod_targets(pods: Sequence[Mapping[str, Any]], network: str) -> list[dict[str, Any]]:
    """Targets of pods with a proxy, and of gateways: Istio annotates them with where their metrics are.

    Args:
        pods: as Kubernetes shows them.
        network: that of pods which name none.
    """
    return [target for pod in pods for target in _pod(pod, network)]


def _pod(pod: Mapping[str, Any], network: str) -> Iterator[dict[str, Any]]:
    metadata, status = pod["metadata"], pod.get("status") or {}
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    address, port = status.get("podIP"), annotations.get(f"{_ANNOTATION}/port", "")
    if annotations.get(f"{_ANNOTATION}/scrape") != "true" or CANONICAL_NAME_LABEL not in labels:
        return
    if not address or not port.isdigit() or status.get("phase") != "Running" or "deletionTimestamp" in metadata:
        return
    workload = canonical_service(labels, metadata["name"])
    yield {
        "targets": [f"{_host(address)}:{port}"],
        "labels": {
            "pod": metadata["name"],
            "namespace": metadata["namespace"],
            "workload": workload.name,
            "version": workload.revision,
            "network": labels.get(NETWORK_LABEL, network),
            "platform": "pod",
            "__metrics_path__": annotations.get(f"{_ANNOTATION}/path", "/metrics"),
        },
    }


def _vm(entry: Mapping[str, Any], named: Mapping[tuple[str, str, str], str], network: str) -> Iterator[Vm]:
    metadata, spec = entry["metadata"], entry.get("spec") or {}
    address = spec.get("address", "")
    if not address or "deletionTimestamp" in metadata or not has_proxy(entry):
        return
    there = spec.get("network") or network
    workload = workload_of(entry)
    yield Vm(
        named.get((metadata["namespace"], there, address), metadata["name"]),
        metadata["namespace"],
        workload.name,
        workload.revision,
        there,
        address,
        entry,
    )


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
