"""What no proxy can say of itself: whether the mesh has a VM, in sync, healthy."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hybridmesh.istio.entries import health, is_connected, is_probed
from hybridmesh.istio.sync import sync_objection

from .targets import Machine, Vm

_VM = ("vm", "namespace", "workload", "version", "network")


def exposition(
    known: Sequence[Vm],
    machines: Sequence[Machine],
    states: Sequence[Mapping[str, Any]],
    istiods: Sequence[bool],
) -> bytes:
    """The page that Prometheus reads.

    Args:
        known: every VM.
        machines: what the stack has.
        states: what all istiods say of the proxies in the VMs' namespaces.
        istiods: each istiod, and whether it answered.
    """
    registry = CollectorRegistry()
    registry.register(_Said([*_of_vms(known), *_of_proxies(machines, states), _of_istiods(istiods)]))
    return bytes(generate_latest(registry))


class _Said(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _of_vms(known: Sequence[Vm]) -> Iterator[Metric]:
    connected = GaugeMetricFamily(
        "hybrid_mesh_vm_connected",
        "Whether istiod holds a connection to the VM's proxy; of every VM that the stack or the mesh has.",
        labels=_VM,
    )
    healthy = GaugeMetricFamily(
        "hybrid_mesh_vm_healthy", "Whether the app on the VM is healthy, by the workload's probe.", labels=_VM
    )
    for vm in known:
        values = [vm.labels[name] for name in _VM]
        connected.add_metric(values, float(is_connected(vm.entry)))
        if vm.entry is not None and is_probed(vm.entry):
            healthy.add_metric(values, float(health(vm.entry)[0]))
    yield connected
    yield healthy


def _of_proxies(machines: Sequence[Machine], states: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    names = {f"{machine.name}.{machine.namespace}": machine.name for machine in machines}
    synced = GaugeMetricFamily(
        "hybrid_mesh_proxy_synced",
        "Whether the proxy has acknowledged all that istiod sent it; `vm` is empty for pods, and for VMs that the "
        "stack does not know by name.",
        labels=("proxy", "namespace", "vm"),
    )
    # By proxy first: to look for each one's among all would take a mesh of thousands seconds.
    said: dict[str, list[Mapping[str, Any]]] = {}
    for state in states:
        said.setdefault(str(state.get("proxy", "")), []).append(state)
    for proxy in sorted(said.keys() - {""}):
        name, _, namespace = proxy.rpartition(".")
        synced.add_metric([name, namespace, names.get(proxy, "")], float(sync_objection(said[proxy], proxy) == ""))
    yield synced


def _of_istiods(istiods: Sequence[bool]) -> Metric:
    family = GaugeMetricFamily(
        "hybrid_mesh_istiods", "How many istiods there are, by whether they tell sync states.", labels=("answers",)
    )
    family.add_metric(["yes"], float(sum(istiods)))
    family.add_metric(["no"], float(len(istiods) - sum(istiods)))
    return family
