"""What the gateway lets through, and where it is."""

from typing import Any

import pulumi
import pytest

from components.control_plane import HelmCharts
from components.east_west_gateway import EastWestGateway, EastWestGatewayArgs, gateway_values
from components.network_gateway import LISTENER_STATISTICS
from hybridmesh.istio.names import PROXY_CONFIG_ANNOTATION
from hybridmesh.providers import ClusterAccess
from tests.components.harness import World, dev_settings, run


def args(**changes: Any) -> EastWestGatewayArgs:
    given: dict[str, Any] = {
        "namespace": "istio-system",
        "network": "embedded",
        "discovery_host": "istiod.istio-system.svc",
        "cluster": ClusterAccess(kubeconfig="kubeconfig"),
        "charts": HelmCharts(path="charts"),
    }
    return EastWestGatewayArgs(**{**given, **changes})


def gateway(preview: bool = False, **changes: Any) -> World:
    return run(lambda: EastWestGateway("gw", args(**changes)).address, preview=preview)


def test_it_lets_through_to_istiod_what_asks_for_istiod_and_nothing_else() -> None:
    world = gateway()
    spec = world.one("gw-istiod-gateway").value("spec")
    assert spec["selector"] == {"istio": "eastwestgateway"}
    assert [(s["port"]["number"], s["tls"]["mode"], s["hosts"]) for s in spec["servers"]] == [
        (15012, "PASSTHROUGH", ["istiod.istio-system.svc"]),
    ], "its webhooks, which ask for no certificate, are not among it"
    route = world.one("gw-istiod-route").value("spec")
    assert route["gateways"] == ["istio-eastwestgateway-istiod"]
    assert [(r["match"][0]["port"], r["route"][0]["destination"]["port"]["number"]) for r in route["tls"]] == [
        (15012, 15012),
    ]
    assert {r["route"][0]["destination"]["host"] for r in route["tls"]} == {"istiod.istio-system.svc.cluster.local"}


def test_a_null_reaches_the_chart_which_takes_what_it_has_there_away() -> None:
    values = {"replicaCount": None, "resources": {"limits": {"cpu": None}}}
    settings = dev_settings(lambda sections: sections["gateway"].update(values=values))
    given = gateway_values(args(values=settings.gateway.values))
    assert {key: given[key] for key in values} == values


def test_services_are_exposed_by_mutual_tls_only() -> None:
    (server,) = gateway().one("gw-services-gateway").value("spec")["servers"]
    assert server == {
        "port": {"number": 15443, "name": "tls", "protocol": "TLS"},
        "tls": {"mode": "AUTO_PASSTHROUGH"},
        "hosts": ["*.local"],
    }


def test_the_chart_is_told_the_network_over_what_the_caller_says() -> None:
    values = (
        gateway(values={"autoscaling": {"enabled": False}, "networkGateway": "x"}).one("gw-release").value("values")
    )
    assert values == {
        "autoscaling": {"enabled": False, "minReplicas": 2},
        "replicaCount": 2,
        "podDisruptionBudget": {"maxUnavailable": 1},
        "networkGateway": "embedded",
        "podAnnotations": {PROXY_CONFIG_ANNOTATION: LISTENER_STATISTICS},
    }


@pytest.mark.parametrize(
    "own",
    [
        {"autoscaling": {"minReplicas": 1}},
        {"replicaCount": 1},
        {"podDisruptionBudget": {"minAvailable": 1}},
        {"podDisruptionBudget": {}},
    ],
    ids=str,
)
def test_the_caller_may_have_another_number_of_pods(own: dict[str, Any]) -> None:
    values = gateway(values=own).one("gw-release").value("values")
    assert {key: values[key] for key in own} == own


def test_the_caller_may_have_other_statistics() -> None:
    annotations = {PROXY_CONFIG_ANNOTATION: "{}"}
    values = gateway(values={"podAnnotations": annotations}).one("gw-release").value("values")
    assert values["podAnnotations"] == annotations


def test_its_address_is_as_new_as_what_is_asked_of_its_service() -> None:
    def asked(**values: Any) -> Any:
        return gateway(values=values).one("gw-address").value("service")

    assert asked(autoscaling={"enabled": False}) == asked() == "{}", "VMs have nothing to do with its pods"
    assert asked(service={"type": "LoadBalancer", "annotations": {"a": "b"}}) == (
        '{"annotations": {"a": "b"}, "type": "LoadBalancer"}'
    )


def test_its_address_is_unknown_until_its_release_is_there() -> None:
    seen: list[object] = []

    def program() -> object:
        component = EastWestGateway(
            "gw",
            EastWestGatewayArgs(
                cluster=ClusterAccess(kubeconfig="kubeconfig"),
                namespace="istio-system",
                network="n",
                discovery_host="h",
                charts=HelmCharts(path="charts"),
            ),
        )
        return pulumi.Output.from_input(component.address).apply(seen.append)

    run(program, preview=True)
    assert seen == []
    run(program)
    assert seen == ["192.0.2.100"]


def test_of_an_adopted_gateway_the_address_is_looked_up_and_nothing_is_made() -> None:
    world = gateway(mode="adopt", charts=None, values={"service": {"type": "LoadBalancer"}})
    address = world.one("gw-address")
    assert [r.name for r in world.found] == ["gw", "gw-address"]
    assert [address.value(key) for key in ("namespace", "name", "adopted")] == [
        "istio-system",
        "istio-eastwestgateway",
        True,
    ]
    assert (address.value("service"), address.value("limitSeconds")) == ("{}", 0), "nothing is asked, nothing awaited"
    assert gateway().one("gw-address").value("adopted") is False


def test_an_adopted_gateway_with_an_address_is_not_even_looked_up() -> None:
    assert [r.name for r in gateway(mode="adopt", address="192.0.2.3").found] == ["gw"]


def test_each_further_istiod_is_led_to_by_its_own_name() -> None:
    hosts = ["istiod.istio-system.svc", "istiod-canary.istio-system.svc"]
    world = gateway(more_discovery_hosts=hosts[1:], domain="corp.example")
    assert [server["hosts"] for server in world.one("gw-istiod-gateway").value("spec")["servers"]] == [hosts]
    route = world.one("gw-istiod-route").value("spec")
    assert route["hosts"] == hosts
    ways = [(r["match"], r["route"][0]["destination"]["host"]) for r in route["tls"]]
    assert ways == [([{"port": 15012, "sniHosts": [host]}], f"{host}.corp.example") for host in hosts]


def test_its_objects_are_found_by_the_gateway_s_name() -> None:
    world = gateway(gateway="istio-ew", namespace="mesh")
    release = world.one("gw-release")
    assert (release.value("name"), release.value("namespace")) == ("istio-ew", "mesh")
    names = {name: world.one(f"gw-{name}").value("metadata") for name in ("istiod-gateway", "istiod-route")}
    assert names == {key: {"name": "istio-ew-istiod", "namespace": "mesh"} for key in names}
    assert world.one("gw-istiod-route").value("spec")["gateways"] == ["istio-ew-istiod"]
    services = world.one("gw-services-gateway")
    assert services.value("metadata") == {"name": "istio-ew-services", "namespace": "mesh"}
    assert services.value("spec")["selector"] == {"istio": "ew"}, "without one, every gateway would let this through"


def test_machines_services_of_other_domains_are_let_through_by_name() -> None:
    (server,) = gateway(service_hosts=["db.example.com"]).one("gw-services-gateway").value("spec")["servers"]
    assert server["hosts"] == ["*.local", "db.example.com"]


def test_only_a_revision_other_than_default_is_in_its_values() -> None:
    assert "revision" not in gateway().one("gw-release").value("values")
    assert gateway(revision="canary").one("gw-release").value("values")["revision"] == "canary"


def test_its_pods_roll_when_what_their_proxies_are_told_changes() -> None:
    def annotations(told: str) -> Any:
        return gateway(injected_as=told).one("gw-release").value("values")["podAnnotations"]

    assert annotations("a") != annotations("b")
    assert annotations("a")[PROXY_CONFIG_ANNOTATION] == LISTENER_STATISTICS, "beside what else they are given"


def test_its_limit_is_that_of_the_release_and_of_the_wait_for_its_address() -> None:
    world = gateway(install_seconds=900)
    release = world.one("gw-release")
    assert release.value("timeout") == 900
    assert release.timeouts == ("900s", "900s", "900s"), "the engine's own limit would cut a longer one short"
    assert world.one("gw-address").value("limitSeconds") == 900


def test_an_address_that_is_given_is_not_looked_up() -> None:
    assert not gateway(address="192.0.2.3").of_type("AwaitedAddress")


def test_installing_without_charts_is_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match=r"gw: charts is missing.*Fix: HelmCharts"):
        gateway(charts=None)
