"""How requests are split, and what is tried again."""

from typing import Any

import pytest

from components.routing import HeaderMatch, Mirror, Routing, RoutingArgs, destination_rule, virtual_service
from tests.components.harness import World, run

HOST = "echo.demo.svc.cluster.local"


def args(**changes: Any) -> RoutingArgs:
    given: dict[str, Any] = {
        "workload": "echo",
        "namespace": "demo",
        "host": HOST,
        "subsets": {"vm": {"version": "vm"}, "k8s": {"version": "k8s"}},
        "weights": {"vm": 10, "k8s": 90},
    }
    return RoutingArgs(**{**given, **changes})


def registered(**changes: Any) -> World:
    return run(lambda: Routing("echo", args(**changes)).urn)


def test_rule_and_route_have_the_workload_s_name_so_that_a_second_owner_is_refused() -> None:
    world = registered()
    for name in ("echo-destination-rule", "echo-virtual-service"):
        assert world.one(name).value("metadata") == {"name": "echo", "namespace": "demo"}


def test_subsets_are_there_before_a_route_names_them() -> None:
    world = registered()
    assert world.is_after(world.one("echo-virtual-service"), world.one("echo-destination-rule"))


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"weights": {"k8s": 90, "vms": 10}}, r"weights\.vms"),
        ({"matches": [HeaderMatch(headers={"x": "y"}, subset="vms")]}, r"matches\[0\]\.subset"),
        ({"mirror": Mirror(subset="vms")}, r"mirror\.subset"),
    ],
)
def test_a_subset_that_there_is_not_is_refused_with_the_fix(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(ValueError, match=rf"echo: {place}: vms is no subset \(there are: k8s, vm\)\. .* Fix: "):
        registered(**changes)


@pytest.mark.parametrize("weight", [0, 1, 50, 100])
def test_every_route_is_split_by_the_weights(weight: int) -> None:
    spec = virtual_service(args(weights={"vm": weight, "k8s": 100 - weight}, tcp_ports=[9000]), HOST)
    for route in [*spec["http"], *spec["tcp"]]:
        assert route["route"] == [
            {"destination": {"host": HOST, "subset": "k8s"}, "weight": 100 - weight},
            {"destination": {"host": HOST, "subset": "vm"}, "weight": weight},
        ]


def test_what_is_safe_to_repeat_is_tried_again_after_a_reset_and_other_requests_are_not() -> None:
    idempotent, others = virtual_service(args(), HOST)["http"]
    assert idempotent["match"] == [{"method": {"regex": "DELETE|GET|HEAD|OPTIONS|PUT|TRACE"}}]
    assert "reset" in idempotent["retries"]["retryOn"].split(",")
    assert "match" not in others
    assert "reset" not in others["retries"]["retryOn"].split(",")
    assert "reset-before-request" in others["retries"]["retryOn"].split(",")


def test_no_attempts_turn_istio_s_own_retries_off() -> None:
    for route in virtual_service(args(retry_attempts=0), HOST)["http"]:
        assert route["retries"] == {"attempts": 0}


def test_a_limit_for_each_try_is_refused_where_nothing_is_tried_again() -> None:
    with pytest.raises(ValueError, match=r"echo: per_try_seconds: 2 .* retry_attempts is 0\. .* Fix: `timeout`"):
        registered(retry_attempts=0, per_try_seconds=2)


def test_a_limit_for_each_try_is_passed_on() -> None:
    assert virtual_service(args(per_try_seconds=2), HOST)["http"][0]["retries"]["perTryTimeout"] == "2s"


def test_tcp_ports_are_split_by_connection() -> None:
    spec = virtual_service(args(tcp_ports=[9001, 9000], has_http=False), HOST)
    assert "http" not in spec
    assert [route["match"] for route in spec["tcp"]] == [[{"port": 9000}], [{"port": 9001}]]
    assert [r["destination"]["port"]["number"] for route in spec["tcp"] for r in route["route"]] == [9000] * 2 + [
        9001
    ] * 2


def test_endpoints_that_fail_are_left_out_and_an_app_s_own_errors_do_not_count() -> None:
    outliers = destination_rule(args())["trafficPolicy"]["outlierDetection"]
    assert outliers["consecutiveGatewayErrors"] == 5
    assert outliers["consecutive5xxErrors"] == 0
    assert outliers["maxEjectionPercent"] == 100


def test_subsets_come_in_one_order() -> None:
    assert [subset["name"] for subset in destination_rule(args())["subsets"]] == ["k8s", "vm"]
