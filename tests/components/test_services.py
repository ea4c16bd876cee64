"""Services that Kubernetes does not know, and WorkloadEntries that istiod does not make."""

from typing import Any

import pytest

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from components.pods import Pods, PodsArgs
from components.workload import Workload, WorkloadArgs, WorkloadPort
from hybridmesh.istio import canonical_service, static_entry_name
from hybridmesh.istio.members import group_at
from tests.components.harness import World, dev_sections, dev_settings, run
from tests.components.test_sidecar import GROUP, sidecar

MODES = pytest.mark.parametrize("preview", [False, True], ids=["up", "preview"])
PORTS = [
    WorkloadPort(name="http", port=80, target=8080),
    WorkloadPort(name="secret", port=443, target=8443, protocol="TLS"),
]


def stack(preview: bool = False, **echo: Any) -> World:
    def change(sections: dict[str, Any]) -> None:
        machines = echo.pop("machines", {})
        sections["workloads"]["echo"]["machines"].update(machines)
        sections["workloads"]["echo"].update(echo)

    settings = dev_settings(change)
    return run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology, preview=preview)


def test_a_service_entry_has_every_host_and_port_and_the_workload_s_endpoints() -> None:
    args = WorkloadArgs(
        workload="shop",
        namespace="demo",
        service_account="shop",
        ports=PORTS,
        service_entry_hosts=["shop.vm.internal", "cart.vm.internal"],
    )
    seen: list[str] = []
    world = run(lambda: Workload("shop", args).host.apply(seen.append))
    assert world.one("shop-service-entry").value("spec") == {
        "hosts": ["shop.vm.internal", "cart.vm.internal"],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [
            {"name": "http", "number": 80, "targetPort": 8080, "protocol": "HTTP"},
            {"name": "secret", "number": 443, "targetPort": 8443, "protocol": "TLS"},
        ],
        "workloadSelector": {"labels": {"app": "shop"}},
    }
    assert "shop-service" not in world.names()
    assert seen == ["shop.vm.internal"]


@MODES
def test_a_route_leads_to_the_service_entry_s_host_after_it_is_there(preview: bool) -> None:
    world = stack(preview, service={"kind": "ServiceEntry", "hosts": ["echo.vm.internal", "old.vm.internal"]})
    rule, route = world.one("mesh-echo-destination-rule"), world.one("mesh-echo-virtual-service")
    assert world.is_after(rule, world.one("mesh-echo-service-entry"))
    if not preview:
        assert rule.value("spec")["host"] == "echo.vm.internal"
        assert route.value("spec")["hosts"] == ["echo.vm.internal", "old.vm.internal"]


def test_pods_that_capture_dns_say_so_to_their_proxy() -> None:
    def annotations(**changes: Any) -> Any:
        args = PodsArgs(workload="a", namespace="demo", service_account="a", image="a", **changes)
        return run(lambda: Pods("a", args).urn).one("a-deployment").value("spec")["template"]["metadata"]

    assert "annotations" not in annotations()
    config = annotations(dns_capture=True)["annotations"]["proxy.istio.io/config"]
    assert 'ISTIO_META_DNS_CAPTURE: "true"' in config


@MODES
def test_a_static_entry_is_made_before_its_machine_joins_and_goes_after_it_left(preview: bool) -> None:
    world = stack(preview, machines={"registration": "static"})
    for machine in ("vm-1", "vm-2"):
        entry = world.one(f"mesh-{machine}-entry")
        for role in ("token", "join", "membership"):
            assert world.is_after(world.one(f"mesh-{machine}-{role}"), entry)


def test_a_static_entry_is_what_istiod_would_make() -> None:
    world = sidecar(static_entry=True, locality="eu/a", weight=2)
    entry = world.one("vm-1-entry")
    labels = {
        "app": "echo",
        "version": "vm",
        "topology.istio.io/locality": "eu.a",
        "service.istio.io/canonical-name": "echo",
        "service.istio.io/canonical-revision": "vm",
    }
    assert entry.value("metadata") == {
        "name": "echo-vm-1",
        "namespace": "demo",
        "labels": labels,
        "annotations": {"proxy.istio.io/health-checks-enabled": "false"},
    }
    assert entry.value("spec") == {
        "address": "192.0.2.11",
        "labels": labels,
        "serviceAccount": "echo",
        "network": "net",
        "ports": {"http": 8080},
        "locality": "eu/a",
        "weight": 2,
    }


def test_a_machine_s_own_weight_is_in_its_static_entry_alone() -> None:
    hosts = dev_sections()["workloads"]["echo"]["machines"]["hosts"]
    weighed = {**hosts, "vm-2": {**hosts["vm-2"], "weight": 3}}
    world = stack(machines={"registration": "static", "hosts": weighed})
    specs = {name: world.one(f"mesh-{name}-entry").value("spec") for name in ("vm-1", "vm-2")}
    assert {name: spec.get("weight") for name, spec in specs.items()} == {"vm-1": None, "vm-2": 3}


def test_a_probe_decides_whether_a_static_entry_is_an_endpoint() -> None:
    probed = {**GROUP, "spec": {**GROUP["spec"], "probe": {"tcpSocket": {"port": 8080}}}}
    annotations = sidecar(static_entry=True, group=probed).one("vm-1-entry").value("metadata")["annotations"]
    assert annotations == {"proxy.istio.io/health-checks-enabled": "true"}


def test_the_agent_is_told_of_its_static_entry_and_what_asks_for_entries_looks_at_it() -> None:
    world = sidecar(static_entry=True)
    env = world.one("vm-1", "Sidecar").plain["cluster.env"]
    assert "ISTIO_META_WORKLOAD_ENTRY='echo-vm-1'" in env
    assert "AUTO_REGISTER" not in env
    for role in ("departure", "token", "membership"):
        assert world.one(f"vm-1-{role}").plain["entry"] == "echo-vm-1"
    for role in ("departure", "membership"):
        assert world.one(f"vm-1-{role}").plain["staticEntry"] is True
    assert world.one("vm-1-departure").plain["reachedAs"] == "echo-192.0.2.11-net"


def test_a_static_entry_goes_before_its_machine_leaves() -> None:
    world = sidecar(static_entry=True)
    assert world.is_after(world.one("vm-1-entry"), world.one("vm-1-departure"))


def test_a_machine_that_istiod_registers_has_no_entry_of_the_stack() -> None:
    world = sidecar()
    assert "vm-1-entry" not in world.names()
    assert not {"staticEntry", "reachedAs"} & world.one("vm-1-departure").plain.keys()


def test_a_machine_s_locality_reaches_its_proxy_and_its_entry() -> None:
    world = sidecar(locality="eu/a/b")
    assert '"topology.istio.io/locality":"eu.a.b"' in world.one("vm-1", "Sidecar").plain["cluster.env"]
    assert world.one("vm-1-membership").inside("labels")["topology.istio.io/locality"] == "eu.a.b"
    assert group_at(GROUP, None) == GROUP
    assert "topology.istio.io/locality" not in GROUP["spec"]["metadata"]["labels"]


def test_names_and_labels_of_entries() -> None:
    assert static_entry_name(GROUP["metadata"]["name"], "vm-1") == "echo-vm-1"
    labels = GROUP["spec"]["metadata"]["labels"]
    assert canonical_service(labels, "echo").on(labels)["service.istio.io/canonical-name"] == "echo"
