"""Traffic policies as Istio writes them, of a host and of a namespace."""

from typing import Any

import pytest

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from components.routing import HeaderMatch, Mirror, RoutingArgs, destination_rule, virtual_service
from components.traffic_policy import ConnectionPool, LoadBalancer, TrafficPolicy, traffic_policy
from tests.components.harness import World, dev_settings, run

HOST = "echo.demo.svc.cluster.local"
SUBSETS = {"vm": {"version": "vm"}, "k8s": {"version": "k8s"}}
MODES = pytest.mark.parametrize("preview", [False, True], ids=["up", "preview"])


def routing(**changes: Any) -> RoutingArgs:
    given: dict[str, Any] = {"workload": "echo", "namespace": "demo", "host": HOST, "subsets": SUBSETS}
    return RoutingArgs(**{**given, **changes})


def test_the_article_s_pool_has_its_values() -> None:
    pool = ConnectionPool(
        max_connections=100, connect_timeout="30ms", http2_max_requests=1000, max_requests_per_connection=10
    )
    assert traffic_policy(TrafficPolicy(connection_pool=pool)) == {
        "connectionPool": {
            "tcp": {"maxConnections": 100, "connectTimeout": "30ms"},
            "http": {"http2MaxRequests": 1000, "maxRequestsPerConnection": 10},
        }
    }


def test_the_article_s_cross_network_rule_has_its_values() -> None:
    policy = TrafficPolicy(tls="ISTIO_MUTUAL", connection_pool=ConnectionPool(max_requests_per_connection=1000))
    assert traffic_policy(policy) == {
        "tls": {"mode": "ISTIO_MUTUAL"},
        "connectionPool": {"http": {"maxRequestsPerConnection": 1000}},
    }


def test_what_is_not_said_is_not_written() -> None:
    assert traffic_policy(TrafficPolicy()) == {}
    assert traffic_policy(TrafficPolicy(load_balancer=LoadBalancer())) == {"loadBalancer": {"simple": "LEAST_REQUEST"}}


def test_locality_is_by_failover_or_by_shares() -> None:
    failover = traffic_policy(TrafficPolicy(load_balancer=LoadBalancer(failover={"b": "c", "a": "b"})))
    assert failover["loadBalancer"]["localityLbSetting"] == {
        "enabled": True,
        "failover": [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}],
    }
    shares = traffic_policy(TrafficPolicy(load_balancer=LoadBalancer(distribute={"a/*": {"a/*": 80, "b/*": 20}})))
    assert shares["loadBalancer"]["localityLbSetting"] == {
        "enabled": True,
        "distribute": [{"from": "a/*", "to": {"a/*": 80, "b/*": 20}}],
    }


def test_shares_keep_their_order_for_istio_refuses_a_locality_after_a_wider_one() -> None:
    made = traffic_policy(
        TrafficPolicy(load_balancer=LoadBalancer(distribute={"eu/*": {"eu/*": 100}, "*": {"*": 100}}))
    )
    assert [s["from"] for s in made["loadBalancer"]["localityLbSetting"]["distribute"]] == ["eu/*", "*"]


def test_testers_come_first_with_the_same_retries_and_are_not_mirrored() -> None:
    spec = virtual_service(
        routing(
            weights={"k8s": 100, "vm": 0},
            matches=[HeaderMatch(headers={"x-tester": "yes"}, subset="vm")],
            mirror=Mirror(subset="vm", percentage=10),
        ),
        HOST,
    )
    names = [route["name"] for route in spec["http"]]
    assert names == ["match-0-idempotent", "match-0-others", "idempotent", "others"]
    for tester, other in zip(spec["http"][:2], spec["http"][2:], strict=True):
        assert tester["match"][0]["headers"] == {"x-tester": {"exact": "yes"}}
        assert tester["route"] == [{"destination": {"host": HOST, "subset": "vm"}}]
        assert tester["retries"] == other["retries"]
        assert "mirror" not in tester
        assert other["mirror"] == {"host": HOST, "subset": "vm"}
        assert other["mirrorPercentage"] == {"value": 10}


def test_without_weights_all_endpoints_are_alike() -> None:
    spec = virtual_service(routing(subsets={}), HOST)
    assert {str(route["route"]) for route in spec["http"]} == {str([{"destination": {"host": HOST}}])}
    assert "subsets" not in destination_rule(routing(subsets={}))


def test_a_timeout_holds_for_every_request() -> None:
    matches = [HeaderMatch(headers={"a": "b"}, subset="vm")]
    assert [r["timeout"] for r in virtual_service(routing(timeout="2s", matches=matches), HOST)["http"]] == ["2s"] * 4


def test_with_several_ports_every_route_names_its_own() -> None:
    spec = virtual_service(
        routing(
            weights={"k8s": 90, "vm": 10},
            matches=[HeaderMatch(headers={"a": "b"}, subset="vm")],
            mirror=Mirror(subset="vm"),
            http_ports=[81, 80],
            tcp_ports=[9000],
            tls_ports=[443],
        ),
        HOST,
    )
    assert [route["name"] for route in spec["http"]] == [
        f"{port}-{name}"
        for port in (80, 81)
        for name in ("match-0-idempotent", "match-0-others", "idempotent", "others")
    ]
    for route in [*spec["http"], *spec["tcp"], *spec["tls"]]:
        (asked,) = {match["port"] for match in route["match"]}
        destinations = [r["destination"] for r in route["route"]] + ([route["mirror"]] if "mirror" in route else [])
        assert {destination["port"]["number"] for destination in destinations} == {asked}


def test_more_names_of_a_host_are_routed_like_the_first() -> None:
    spec = virtual_service(routing(aliases=["b.internal"], tls_ports=[443], has_http=False), "a.internal")
    assert spec["hosts"] == ["a.internal", "b.internal"]
    assert spec["tls"][0]["match"] == [{"port": 443, "sniHosts": ["a.internal", "b.internal"]}]
    assert "http" not in spec


def stack(preview: bool, **sections: Any) -> World:
    def change(given: dict[str, Any]) -> None:
        for name, value in sections.items():
            given.setdefault(name, {}).update(value)

    settings = dev_settings(change)
    return run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology, preview=preview)


@MODES
def test_a_namespace_s_policy_is_one_rule_and_part_of_each_host_s(preview: bool) -> None:
    policy = {"tls": {"mode": "ISTIO_MUTUAL"}, "connectionPool": {"http": {"maxRequestsPerConnection": 1000}}}
    world = stack(preview, namespaces={"demo": {"trafficPolicy": policy}})
    rule = world.one("mesh-demo-destination-rule")
    assert rule.value("spec") == {"host": "*.demo.svc.cluster.local", "trafficPolicy": policy}
    assert world.is_after(rule, world.one("mesh-demo-namespace"))
    own = world.one("mesh-echo-destination-rule").value("spec")["trafficPolicy"]
    assert own["tls"] == policy["tls"]
    assert own["connectionPool"] == policy["connectionPool"]
    assert own["outlierDetection"]["consecutiveGatewayErrors"] == 5


@MODES
def test_a_routing_s_settings_reach_rule_and_route(preview: bool) -> None:
    world = stack(
        preview,
        routing={
            "echo": {
                "weights": {"k8s": 100, "vm": 0},
                "match": [{"headers": {"x-tester": "yes"}, "subset": "vm"}],
                "mirror": {"subset": "vm", "percentage": 5},
                "timeout": "2s",
                "retries": {"attempts": 2, "perTrySeconds": 1},
                "connectionPool": {"tcp": {"connectTimeout": "30ms"}},
                "loadBalancer": {
                    "simple": "RANDOM",
                    "localityLbSetting": {"failover": [{"from": "eu", "to": "us"}]},
                },
            }
        },
    )
    spec = world.one("mesh-echo-destination-rule").value("spec")
    assert [subset["name"] for subset in spec["subsets"]] == ["k8s", "vm"]
    assert spec["trafficPolicy"]["connectionPool"] == {"tcp": {"connectTimeout": "30ms"}}
    assert spec["trafficPolicy"]["loadBalancer"] == {
        "simple": "RANDOM",
        "localityLbSetting": {"enabled": True, "failover": [{"from": "eu", "to": "us"}]},
    }
    if not preview:
        routes = world.one("mesh-echo-virtual-service").value("spec")["http"]
        assert len(routes) == 4
        assert routes[2]["mirrorPercentage"] == {"value": 5}
        assert {route["timeout"] for route in routes} == {"2s"}
        tries = {(route["retries"]["attempts"], route["retries"]["perTryTimeout"]) for route in routes}
        assert tries == {(2, "1s")}
