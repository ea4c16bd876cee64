"""A fair sample of the mesh's features together, in one `up`; the suites of `make test-full` have the rest of each."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab.cluster import wait_for
from lab.traffic import Answers, ask, in_pod, on_machine
from tests.e2e.mesh import cluster, objects
from tests.e2e.stack import Stack
from tests.e2e.validity import assert_analyzed, assert_valid, only_vms_in_subset, only_vms_selected, only_vms_under
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("featured")]

URL = "http://echo.demo.svc.cluster.local:8080/"
SHOP = "http://shop.vm.internal:8080/"
TESTER = ("--header", "x-tester: yes")
ARTICLE_POOL = {
    "tcp": {"maxConnections": 100, "connectTimeout": "30ms"},
    "http": {"http2MaxRequests": 1000, "maxRequestsPerConnection": 10},
}


@pytest.fixture(scope="module")
def featured(stack: Stack) -> Iterator[Stack]:
    """Both machines as they were, one under a service of its own, and each kind of feature once."""
    stack.restore()
    echo = stack.settings()["config"]["hybrid-mesh:workloads"]["echo"]
    hosts = echo["machines"]["hosts"]
    stack.change("workloads.echo.machines.hosts", {"vm-1": hosts["vm-1"]})
    shop = {
        "namespace": "demo",
        "service": {"kind": "ServiceEntry", "hosts": ["shop.vm.internal"]},
        "ports": echo["ports"],
        "probe": {"httpGet": {"path": "/health/ready", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1},
        "machines": {"registration": "static", "hosts": {"vm-2": hosts["vm-2"]}},
        "sidecar": {"egress": {"hosts": ["./*"]}, "accessLog": "errors", "limits": {"memory": "512M"}},
    }
    stack.change("workloads.shop", shop)
    routing = {
        "weights": {"k8s": 100, "vm": 0},
        "match": [{"headers": {"x-tester": "yes"}, "subset": "vm"}],
        "timeout": "2s",
        "connectionPool": ARTICLE_POOL,
    }
    stack.change("routing.echo", routing)
    stack.change("access.shop", {"allow": [{"from": ["echo"], "methods": ["GET"]}], "deny": [{"paths": ["/secret"]}]})
    stack.up()
    yield stack
    stack.restore()
    stack.up()


def from_client(lab: Lab, requests: int, *options: str) -> Answers:
    return ask(in_pod(lab.instance, lab.tools, "deploy/client", "demo"), URL, requests, options)


def status(lab: Lab, url: str, *options: str) -> str:
    """What vm-1 gets."""
    command = ["curl", "--silent", "--max-time", "10", "--output", "/dev/null", "--write-out", "%{http_code}", *options]
    return on_machine(lab.machine("vm-1"))([*command, url])


def test_every_object_is_valid_and_istioctl_finds_nothing_but_that_vms_are_no_pods(lab: Lab, featured: Stack) -> None:
    kinds = {"ServiceEntry", "WorkloadEntry", "WorkloadGroup", "AuthorizationPolicy", "Sidecar", "Telemetry"}
    assert kinds <= assert_valid(lab, featured)
    policies = {only_vms_under(f"shop-{name}") for name in ("allow", "deny", "default-deny")}
    selected = {only_vms_selected("Sidecar", "shop"), only_vms_selected("Telemetry", "shop")}
    assert_analyzed(lab, {only_vms_in_subset("echo"), *policies, *selected}, "demo", "istio-system")


def test_testers_reach_the_machine_and_others_the_pods_within_the_timeout_and_the_pool(lab: Lab) -> None:
    assert from_client(lab, 50, *TESTER).by_instance == {"vm-1": 50}
    assert from_client(lab, 50).by_platform == {"kubernetes": 50}
    assert status(lab, f"{URL}?delay=10") == "504"
    config = cluster(lab, "outbound|8080|vm|echo.demo.svc.cluster.local")
    assert config["connect_timeout"] == "0.030s"
    assert config["circuit_breakers"]["thresholds"][0]["max_connections"] == 100


def test_who_may_call_does_and_who_may_not_gets_403_and_the_log_says_why(lab: Lab) -> None:
    assert status(lab, SHOP) == "200"
    assert status(lab, SHOP, "--request", "POST") == "403"
    assert status(lab, f"{SHOP}secret") == "403"
    # Envoy writes its access log in blocks, every ten seconds at the latest.
    reasons = [
        '"POST / HTTP/1.1" 403 - rbac_access_denied_matched_policy[none]',
        '"GET /secret HTTP/1.1" 403 - rbac_access_denied_matched_policy[ns[demo]-policy[shop-deny]-rule[0]]',
    ]

    def log() -> str:
        return lab.machine("vm-2").ssh(["cat /var/log/istio/istio.log"])

    wait_for("both lines", lambda: all(reason in log() for reason in reasons), 25)


def test_a_machine_in_a_scope_has_limits_and_knows_its_namespace_alone(lab: Lab) -> None:
    machine = lab.machine("vm-2")
    assert machine.ssh(["systemctl show --value -p MemoryMax istio"]).strip() == str(512 * 1024**2)
    dump = json.loads(machine.ssh(["curl -s 'localhost:15000/config_dump?resource=dynamic_active_clusters'"]))
    services = {name.split("|")[3] for c in dump["configs"] if (name := c["cluster"]["name"]).startswith("outbound")}
    assert services == {"echo.demo.svc.cluster.local", "shop.vm.internal"}


def test_an_unhealthy_app_takes_its_machine_out_and_back(lab: Lab) -> None:
    machine = lab.machine("vm-2")
    machine.ssh(["mkdir -p /run/echo && touch /run/echo/unhealthy"])
    try:
        # Refused by the proxy of the caller: there is no endpoint that could.
        wait_for("no endpoint", lambda: status(lab, SHOP) == "503" and not healthy(lab), 20)
    finally:
        machine.ssh(["rm -f /run/echo/unhealthy"])
    # Access rules by method let nothing pass to a proxy that has forgotten its ports (docs/decisions/010).
    wait_for("the machine to be back", lambda: status(lab, SHOP) == "200", 20)


def healthy(lab: Lab) -> bool:
    conditions = objects(lab, "workloadentries")["shop-vm-2"].get("status", {}).get("conditions", [])
    return any(c["type"] == "Healthy" and c["status"] == "True" for c in conditions)
