"""Traffic, as docs/traffic.md says it: testers, mirror, pools, timeouts, locality."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from lab.cluster import wait_for
from lab.traffic import Answers, ask, in_pod
from tests.e2e.mesh import cluster, kubectl, localities, objects
from tests.e2e.stack import Stack, console
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.usefixtures("routed")]

HOST = "echo.demo.svc.cluster.local"
URL = f"http://{HOST}:8080/"
PLAIN = "plain.demo.svc.cluster.local"
TESTER = ("--header", "x-tester: yes")
ARTICLE_POOL = {
    "tcp": {"maxConnections": 100, "connectTimeout": "30ms"},
    "http": {"http2MaxRequests": 1000, "maxRequestsPerConnection": 10},
}
ARTICLE_CROSS_NETWORK = {
    "tls": {"mode": "ISTIO_MUTUAL"},
    "connectionPool": {"http": {"maxRequestsPerConnection": 1000}},
}


@pytest.fixture(scope="module")
def routed(lab: Lab, stack: Stack) -> Iterator[Stack]:
    """The stack with everything that a routing can say, put up once."""
    settings = stack.settings()["config"]["hybrid-mesh:workloads"]
    plain = {"namespace": "demo", "ports": settings["echo"]["ports"], "pods": settings["client"]["pods"]}
    stack.change("workloads.plain", plain)
    stack.change("workloads.echo.machines.hosts.vm-1.locality", "lab/a")
    stack.change("workloads.echo.machines.hosts.vm-2.locality", "edge/b")
    stack.change("namespaces.demo", {"trafficPolicy": ARTICLE_CROSS_NETWORK})
    stack.change(
        "routing.echo",
        {
            "weights": {"k8s": 100, "vm": 0},
            "match": [{"headers": {"x-tester": "yes"}, "subset": "vm"}],
            "mirror": {"subset": "vm"},
            "timeout": "2s",
            "connectionPool": ARTICLE_POOL,
            "loadBalancer": {
                "simple": "RANDOM",
                "localityLbSetting": {"distribute": [{"from": "lab/a/*", "to": {"lab/a/*": 20, "edge/b/*": 80}}]},
            },
        },
    )
    # As a cloud's nodes are.
    kubectl(lab, "label", "nodes", "--all", "topology.kubernetes.io/region=lab", "topology.kubernetes.io/zone=a")
    there = bool(stack.resources())
    stack.up()
    if there:
        renew_pods(lab)
    yield stack
    stack.restore()
    stack.up()
    kubectl(lab, "label", "nodes", "--all", "topology.kubernetes.io/region-", "topology.kubernetes.io/zone-")
    renew_pods(lab)


def renew_pods(lab: Lab) -> None:
    """A proxy learns where it is when it connects."""
    kubectl(lab, "delete", "pods", "-n", "demo", "-l", "app in (client, echo)")
    for name in ("client", "echo"):
        kubectl(lab, "rollout", "status", "-n", "demo", f"deployment/{name}", "--timeout=100s")


def from_client(lab: Lab, requests: int, *options: str) -> Answers:
    return ask(in_pod(lab.instance, lab.tools, "deploy/client", "demo"), URL, requests, options)


def doctor(lab: Lab, stack: Stack) -> subprocess.CompletedProcess[str]:
    return console(lab, "doctor", "--json", "--stack", "dev", "--config-file", str(stack.file), check=False)


def curl(lab: Lab, *arguments: str) -> str:
    runner = in_pod(lab.instance, lab.tools, "deploy/client", "demo")
    return runner(["curl", "--silent", "--max-time", "20", "--output", "/dev/null", *arguments])


def seen_on_machines(lab: Lab) -> int:
    """Requests that reached the app on the machines."""
    answers = [json.loads(lab.machine(name).ssh(["curl --silent localhost:8080/seen"])) for name in ("vm-1", "vm-2")]
    return sum(count for answer in answers for count in answer["seen"].values())


def test_it_makes_the_subsets_that_it_needs(lab: Lab) -> None:
    rule = objects(lab, "destinationrules")["echo"]["spec"]
    assert rule["subsets"] == [
        {"name": "k8s", "labels": {"version": "k8s"}},
        {"name": "vm", "labels": {"version": "vm"}},
    ]
    assert rule["trafficPolicy"]["connectionPool"] == ARTICLE_POOL
    assert rule["trafficPolicy"]["tls"] == {"mode": "ISTIO_MUTUAL"}, "what the namespace says holds here too"


def test_testers_reach_the_machines_only_and_everybody_else_the_pods(lab: Lab) -> None:
    testers = from_client(lab, 100, *TESTER)
    assert testers.by_platform == {"vm": 100}, testers
    others = from_client(lab, 100)
    assert others.by_platform == {"kubernetes": 100}, others
    almost = from_client(lab, 20, "--header", "x-tester: no")
    assert almost.by_platform == {"kubernetes": 20}, almost


def test_mirrored_requests_reach_the_machines_while_pods_answer(lab: Lab) -> None:
    before = seen_on_machines(lab)
    answers = from_client(lab, 100)
    assert answers.by_platform == {"kubernetes": 100}, answers
    # Copies are sent and forgotten: one that meets a slow connection is not tried again.
    wait_for("the copies", lambda: seen_on_machines(lab) - before >= 90, 20)
    assert seen_on_machines(lab) - before <= 100


def test_a_tester_s_requests_are_not_mirrored(lab: Lab) -> None:
    before = seen_on_machines(lab)
    assert from_client(lab, 50, *TESTER).answered == 50
    assert seen_on_machines(lab) - before == 50


def test_a_slow_answer_ends_at_the_timeout(lab: Lab) -> None:
    status, seconds = curl(lab, "--write-out", "%{http_code} %{time_total}", f"{URL}?delay=10").split()
    assert status == "504"
    assert 1.9 <= float(seconds) < 5
    assert curl(lab, "--write-out", "%{http_code}", f"{URL}?delay=0.5") == "200"


@pytest.mark.parametrize("subset", ["k8s", "vm"])
def test_clients_have_the_article_s_connection_pool(lab: Lab, subset: str) -> None:
    config = cluster(lab, f"outbound|8080|{subset}|{HOST}")
    assert config["connect_timeout"] == "0.030s"
    (limits,) = config["circuit_breakers"]["thresholds"]
    assert (limits["max_connections"], limits["max_requests"]) == (100, 1000)
    assert http_options(config)["common_http_protocol_options"]["max_requests_per_connection"] == 10


def test_a_namespace_s_services_have_the_article_s_cross_network_rule(lab: Lab) -> None:
    rule = objects(lab, "destinationrules")["namespace-default"]["spec"]
    assert rule == {"host": "*.demo.svc.cluster.local", "trafficPolicy": ARTICLE_CROSS_NETWORK}
    config = cluster(lab, f"outbound|8080||{PLAIN}")
    assert http_options(config)["common_http_protocol_options"]["max_requests_per_connection"] == 1000
    assert config["transport_socket"]["name"] == "envoy.transport_sockets.tls", "mTLS, whatever the endpoint"
    answers = ask(in_pod(lab.instance, lab.tools, "deploy/client", "demo"), f"http://{PLAIN}:8080/", 20)
    assert answers.by_platform == {"kubernetes": 20}, answers


def test_a_second_preview_has_nothing_to_do(routed: Stack) -> None:
    assert routed.steps() == []


def test_requests_are_spread_by_locality_as_they_are_told(lab: Lab) -> None:
    near, far = (lab.machine(name).address for name in ("vm-1", "vm-2"))
    assert localities(lab, f"outbound|8080|vm|{HOST}") == {near: "lab/a", far: "edge/b"}
    answers = from_client(lab, 400, *TESTER)
    assert answers.answered == 400, answers
    # Three standard deviations of 400 draws of 80 %.
    assert abs(answers.by_instance["vm-2"] - 320) <= 24, answers


def test_the_next_region_takes_over_and_hands_back(lab: Lab, routed: Stack) -> None:
    routed.change("routing.echo.loadBalancer", {"localityLbSetting": {"failover": [{"from": "lab", "to": "edge"}]}})
    routed.change("routing.echo.mirror", None)
    assert {step.type.rpartition(":")[2] for step in routed.steps()} == {"DestinationRule", "VirtualService"}
    routed.up()
    wait_for("the near machine alone", lambda: from_client(lab, 20, *TESTER).by_instance == {"vm-1": 20}, 20)
    assert from_client(lab, 100, *TESTER).by_instance == {"vm-1": 100}
    told = doctor(lab, routed)
    far = f"vm-2 ({lab.machine('vm-2').address}): no request to echo:8080, subset vm, goes there from pods"
    [note] = [f for f in json.loads(told.stdout)["findings"] if f["id"] == "farther-than-others"]
    assert note["what"].startswith(far), "who asks why that machine gets no traffic is told"
    assert (note["severity"], told.returncode) == ("note", 0)
    near = lab.machine("vm-1")
    near.ssh(["mkdir -p /run/echo && touch /run/echo/unhealthy"])
    try:
        wait_for("the far machine alone", lambda: from_client(lab, 20, *TESTER).by_instance == {"vm-2": 20}, 30)
        assert from_client(lab, 100, *TESTER).by_instance == {"vm-2": 100}
        assert from_client(lab, 20).by_platform == {"kubernetes": 20}, "weights between subsets are not touched"
    finally:
        near.ssh(["rm -f /run/echo/unhealthy"])
    wait_for("the near machine again", lambda: from_client(lab, 20, *TESTER).by_instance == {"vm-1": 20}, 60)


def test_distance_counts_for_nothing_where_requests_are_spread_over_all(lab: Lab, routed: Stack) -> None:
    routed.change("routing.echo.loadBalancer", {"localityLbSetting": {"distribute": [{"from": "*", "to": {"*": 100}}]}})
    routed.up()
    wait_for("both machines", lambda: len(from_client(lab, 20, *TESTER).by_instance) == 2, 20)
    answers = from_client(lab, 200, *TESTER)
    assert min(answers.by_instance.values()) > 50, answers
    assert json.loads(doctor(lab, routed).stdout)["findings"] == []


def test_a_changed_pool_is_one_rule_in_the_preview_and_overflows_with_503(lab: Lab, routed: Stack) -> None:
    routed.change("routing.echo.connectionPool.http.http2MaxRequests", 1)
    routed.change("routing.echo.retries", {"attempts": 0})
    assert {step.type.rpartition(":")[2] for step in routed.steps()} == {"DestinationRule", "VirtualService"}
    routed.up()
    limit = f"outbound|8080|k8s|{HOST}"
    wait_for("the new limit", lambda: thresholds(lab, limit)["max_requests"] == 1, 20)
    at_once = ["--parallel", "--parallel-immediate", "--parallel-max", "4", "--write-out", "%{http_code}\n"]
    # With --output for each: else curl writes the further bodies to its output.
    output = curl(lab, *at_once, f"{URL}?delay=1&request=[1-4]")
    statuses = Counter(line for line in output.splitlines() if line in ("200", "503"))
    assert statuses["200"] >= 1, output
    assert statuses["503"] >= 1, output


def thresholds(lab: Lab, name: str) -> dict[str, Any]:
    limits: dict[str, Any] = cluster(lab, name)["circuit_breakers"]["thresholds"][0]
    return limits


def http_options(config: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = config["typed_extension_protocol_options"]
    found: dict[str, Any] = options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
    return found
