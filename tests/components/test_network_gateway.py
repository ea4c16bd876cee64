"""The gateway of a network of machines: its objects, its machines' part in the mesh, and what istiod is told of it."""

import json
from typing import Any

import pulumi
import pytest
import yaml

from components.control_plane import NetworkAddress, knows_gateways, mesh_networks
from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from components.network_gateway import LISTENER_STATISTICS, NetworkGateway, NetworkGatewayArgs
from tests.components.harness import World, dev_settings, run
from tests.settings.test_network_rules import far, host

MODES = pytest.mark.parametrize("preview", [False, True], ids=["up", "preview"])


def component(seen: list[Any] | None = None, preview: bool = False) -> World:
    def program() -> object:
        gateway = NetworkGateway(
            "far",
            NetworkGatewayArgs(
                network="far", namespace="edge", service_account="far-gateway", trust_domain="example.org"
            ),
        )
        known = pulumi.Output.all(gateway.group, gateway.identity)
        return known.apply((seen if seen is not None else []).append)

    return run(program, preview=preview)


def mesh(change: Any = None, **how: Any) -> World:
    def changed(sections: dict[str, Any]) -> None:
        far(sections)
        if change is not None:
            change(sections)

    return run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=dev_settings(changed))).topology, **how)


@MODES
def test_its_gateway_selects_its_group_s_machines_and_passes_mutual_tls_on_unopened(preview: bool) -> None:
    seen: list[Any] = []
    world = component(seen, preview=preview)
    spec = world.one("far-services-gateway").value("spec")
    assert spec["servers"] == [
        {
            "port": {"number": 15443, "name": "tls", "protocol": "TLS"},
            "tls": {"mode": "AUTO_PASSTHROUGH"},
            "hosts": ["*.local"],
        }
    ]
    group, identity = seen[0]
    assert group["spec"] == {
        "metadata": {"labels": spec["selector"], "annotations": {"proxy.istio.io/config": LISTENER_STATISTICS}},
        "template": {"serviceAccount": "far-gateway", "network": "far"},
    }
    assert (group["metadata"], identity) == (
        {"name": "far-gateway", "namespace": "edge"},
        "spiffe://example.org/ns/edge/sa/far-gateway",
    )


def passed_on(world: World, gateway: str) -> list[str]:
    """The hosts whose services a gateway leads to."""
    (server,) = world.one(f"{gateway}-services-gateway").value("spec")["servers"]
    return list(server["hosts"])


def entry(*hosts: str) -> dict[str, Any]:
    return {"kind": "ServiceEntry", "hosts": list(hosts)}


@MODES
def test_each_gateway_lets_through_the_hosts_of_service_entries_with_endpoints_in_its_network(preview: bool) -> None:
    def entries(sections: dict[str, Any]) -> None:
        workloads = sections["workloads"]
        workloads["remote"]["service"] = entry("shop.vm.internal", "cart.vm.internal", "cart.svc.cluster.local")
        workloads["echo"]["service"] = entry("echo.vm.internal")
        near = {"hosts": {"near-1": host("192.0.2.41")}}
        workloads["near"] = {**workloads["remote"], "machines": near, "service": entry("near.vm.internal")}
        del workloads["near"]["network"]
        workloads["both"] = {**workloads["remote"], "pods": {"image": "x"}, "service": entry("both.vm.internal")}
        workloads["both"]["machines"] = {"hosts": {"far-2": host("198.51.100.12")}}

    world = mesh(entries, preview=preview)
    far_hosts = ["*.local", "both.vm.internal", "cart.vm.internal", "shop.vm.internal"]
    assert passed_on(world, "mesh-far-gateway") == far_hosts
    own_hosts = ["*.local", "both.vm.internal", "echo.vm.internal", "near.vm.internal"]
    assert passed_on(world, "mesh-gateway") == own_hosts


def test_services_are_let_through_in_the_cluster_s_own_domain() -> None:
    def domain(sections: dict[str, Any]) -> None:
        sections["cluster"]["domain"] = "corp.example"

    world = mesh(domain)
    assert passed_on(world, "mesh-far-gateway") == passed_on(world, "mesh-gateway") == ["*.corp.example"]


def test_without_another_network_the_east_west_gateway_names_no_service_entry() -> None:
    settings = dev_settings(lambda sections: sections["workloads"]["echo"].update(service=entry("echo.vm.internal")))
    world = run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology)
    assert passed_on(world, "mesh-gateway") == ["*.local"]


@MODES
def test_its_machines_are_routers_that_see_their_own_network_alone(preview: bool) -> None:
    world = mesh(preview=preview)
    files = world.one("mesh-gw-1", "Sidecar").plain["cluster.env"].splitlines()
    for line in (
        "ISTIO_AGENT_FLAGS='router'",
        "ISTIO_CUSTOM_IP_TABLES='true'",
        "ISTIO_META_REQUESTED_NETWORK_VIEW='far'",
        "ISTIO_META_NETWORK='far'",
        "SERVICE_ACCOUNT='far-gateway'",
    ):
        assert line in files
    for other in ("vm-1", "far-1"):
        assert "ROUTER" not in world.one(f"mesh-{other}", "Sidecar").plain["cluster.env"].upper()


def test_flags_of_the_agent_count_on_its_machines_too() -> None:
    def of_the_mesh(sections: dict[str, Any]) -> None:
        metadata = {"ISTIO_AGENT_FLAGS": "--concurrency=2"}
        sections["controlPlane"]["values"]["meshConfig"]["defaultConfig"]["proxyMetadata"] = metadata

    def of_vms(sections: dict[str, Any]) -> None:
        of_the_mesh(sections)
        sections["sidecar"] |= {"environment": {"ISTIO_AGENT_FLAGS": "--concurrency=1"}, "logLevel": "debug"}

    for flags, said in (
        (of_the_mesh, "ISTIO_AGENT_FLAGS='router --concurrency=2'"),
        (of_vms, "ISTIO_AGENT_FLAGS='router --concurrency=1 --proxyLogLevel=debug'"),
    ):
        assert said in mesh(flags).one("mesh-gw-1", "Sidecar").plain["cluster.env"].splitlines()


def test_a_preflight_of_its_machines_looks_at_the_port_of_their_proxies() -> None:
    world = mesh()
    told = {name: world.one(f"mesh-{name}-preflight").inside("settings") for name in ("gw-1", "far-1", "vm-1")}
    assert {name: settings.get("proxy-ports") for name, settings in told.items()} == {
        "gw-1": "15443",
        "far-1": None,
        "vm-1": None,
    }
    assert "proxy-ports-forwarded" not in told["gw-1"]


@pytest.mark.parametrize("way", [{"address": "192.0.2.77"}, {"port": 443}])
def test_a_preflight_is_told_that_others_reach_a_gateway_machine_through_something_else(way: dict[str, Any]) -> None:
    world = mesh(lambda sections: sections["networks"]["far"]["gateway"].update(way))
    told = {name: world.one(f"mesh-{name}-preflight").inside("settings") for name in ("gw-1", "far-1")}
    assert {name: settings.get("proxy-ports-forwarded") for name, settings in told.items()} == {
        "gw-1": "true",
        "far-1": None,
    }
    assert told["gw-1"]["proxy-ports"] == "15443"


def test_both_gateways_proxies_keep_the_statistics_of_their_listener() -> None:
    world = mesh()
    release = world.one("mesh-gateway-release").value("values")
    assert release["podAnnotations"]["proxy.istio.io/config"] == LISTENER_STATISTICS
    matcher = yaml.safe_load(world.one("mesh-gw-1", "Sidecar").plain["mesh.yaml"])["defaultConfig"]["proxyStatsMatcher"]
    assert matcher == json.loads(LISTENER_STATISTICS)["proxyStatsMatcher"]
    assert matcher == {"inclusionPrefixes": ["listener.0.0.0.0_15443."]}


@MODES
def test_istiod_is_told_of_a_gateway_by_its_address(preview: bool) -> None:
    values = mesh(preview=preview).one("mesh-control-plane-istiod").value("values")
    assert values["global"]["meshNetworks"] == {
        "far": {"endpoints": [], "gateways": [{"address": "198.51.100.5", "port": 15443}]}
    }


@pytest.mark.parametrize("address", ["192.0.2.77", "gateway.datacenter.example.com"])
def test_one_address_for_all_of_a_network_s_gateways_takes_the_place_of_each_one_s_own(address: str) -> None:
    def behind_one(sections: dict[str, Any]) -> None:
        gateway = sections["networks"]["far"]["gateway"]
        gateway["hosts"]["gw-2"] = host("198.51.100.6")
        gateway |= {"address": address, "port": 443}

    values = mesh(behind_one).one("mesh-control-plane-istiod").value("values")
    assert values["global"]["meshNetworks"]["far"]["gateways"] == [{"address": address, "port": 443}]


def test_the_mesh_without_networks_is_as_it_was() -> None:
    world = run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=dev_settings())).topology)
    assert "meshNetworks" not in world.one("mesh-control-plane-istiod").value("values")["global"]
    assert not world.of_type("NetworkGateway")


def test_its_machine_joins_once_gateway_and_group_are_there_and_leaves_before_them() -> None:
    world = mesh()
    join = world.one("mesh-gw-1-join")
    for earlier in ("services-gateway", "group", "account"):
        assert world.is_after(world.one("mesh-gw-1-membership"), world.one(f"mesh-far-gateway-{earlier}"))
    assert world.is_after(join, world.one("mesh-network-gateways-namespace"))
    assert not world.is_after(world.one("mesh-control-plane-istiod"), join), "istiod's address comes from the machine"


def test_its_namespace_is_made_with_strict_mtls_like_any_other() -> None:
    peers = mesh().one("mesh-network-gateways-peers")
    assert peers.value("spec") == {"mtls": {"mode": "STRICT"}}


def test_the_topology_has_network_and_gateway_machine() -> None:
    seen: list[Any] = []
    run(
        lambda: HybridMesh("mesh", HybridMeshArgs(settings=dev_settings(far))).topology.apply(seen.append),
    )
    (topology,) = seen
    assert topology["networks"] == {"far": {"direct": False, "gateways": ["gw-1"], "addresses": ["198.51.100.5:15443"]}}
    machine = topology["machines"]["gw-1"]
    assert (machine["workload"], machine["namespace"], machine["network"]) == ("far-gateway", "network-gateways", "far")


def test_mesh_networks_do_not_hang_on_the_order_of_the_settings() -> None:
    ways = {"b": [NetworkAddress(address="192.0.2.2", port=1)], "a": [NetworkAddress(address="192.0.2.1", port=1)]}
    assert list(mesh_networks(ways)) == ["a", "b"]


ADOPTED = yaml.safe_dump(
    {"networks": {"far": {"endpoints": [], "gateways": [{"address": "198.51.100.5", "port": 15443}]}}}
)


def test_an_adopted_mesh_that_knows_the_gateways_is_used_as_it_is() -> None:
    mesh_config = "trustDomain: example.org\n"
    assert knows_gateways(mesh_config, ADOPTED, {"far": [["198.51.100.5", 15443.0]]}, "default") == mesh_config
    assert knows_gateways("a: b\n", "", {}, "default") == "a: b\n"
    six = ADOPTED.replace("198.51.100.5", "'2001:DB8:0::5'")
    assert knows_gateways("a: b\n", six, {"far": [["2001:db8::5", 15443]]}, "default") == "a: b\n"


@pytest.mark.parametrize(
    "networks",
    ["", "networks: {}", ADOPTED, ADOPTED.replace("198.51.100.5", "198.51.100.9").replace("15443", "443")],
    ids=["none", "empty", "another", "another port"],
)
def test_an_adopted_mesh_that_does_not_know_a_gateway_is_refused_with_the_value_to_add(networks: str) -> None:
    said = r"networks.far.gateway: .*revision next does not know 198.51.100.9 with port 15443 as .*"
    with pytest.raises(ValueError, match=rf"{said}address: 198.51.100.9, port: 15443.*meshNetworks"):
        knows_gateways("", networks, {"far": [["198.51.100.9", 15443]]}, "next")


def test_an_adopted_mesh_is_asked_in_the_preview_already() -> None:
    def adopt(sections: dict[str, Any]) -> None:
        sections["controlPlane"] = {"mode": "adopt", "version": "1.31.0", "charts": {"path": "x"}}

    known = {"mesh-control-plane-networks-mesh-config": {"found": ADOPTED}}
    assert mesh(adopt, preview=True, answers=known).one("mesh-gw-1", "Sidecar")
    unknown = {"mesh-control-plane-networks-mesh-config": {"found": ""}}
    with pytest.raises(Exception, match=r"does not know 198\.51\.100\.5 with port 15443 as its gateway"):
        mesh(adopt, preview=True, answers=unknown)


def test_each_istiod_that_is_adopted_must_know_the_gateways() -> None:
    def adopt(sections: dict[str, Any]) -> None:
        sections["controlPlane"] = {
            "mode": "adopt",
            "version": "1.31.0",
            "charts": {"path": "x"},
            "revisions": {"next": {}},
        }

    known = {
        "mesh-control-plane-networks-mesh-config": {"found": ADOPTED},
        "mesh-revision-next-networks-mesh-config": {"found": ""},
    }
    with pytest.raises(Exception, match=r"revision next does not know 198\.51\.100\.5"):
        mesh(adopt, preview=True, answers=known)
