"""All that the stack applies is valid to Kubernetes, Istio's webhook and `istioctl analyze` (docs/security.md)."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.mesh import ask_kubectl
from tests.e2e.stack import Stack
from tests.e2e.validity import (
    assert_analyzed,
    assert_valid,
    only_vms_in_subset,
    only_vms_selected,
    only_vms_under,
    wildcard_host,
)
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full]

KNOWN = {
    only_vms_in_subset("echo"),
    only_vms_in_subset("ledger"),
    only_vms_selected("Sidecar", "ledger"),
    only_vms_selected("Telemetry", "ledger"),
    wildcard_host("demo"),
    only_vms_under("ledger-allow"),
    only_vms_under("ledger-deny"),
    only_vms_under("ledger-default-deny"),
}


@pytest.fixture(scope="module")
def everything(stack: Stack) -> Iterator[Stack]:
    """The stack with every kind of object that settings can ask for, for pods, for VMs and for both."""
    hosts = stack.settings()["config"]["hybrid-mesh:workloads"]["echo"]["machines"]["hosts"]
    stack.change("workloads.echo.machines.hosts", {"vm-1": hosts["vm-1"]})
    http, tcp = {"name": "http", "port": 8080}, {"name": "data", "port": 9090, "protocol": "TCP"}
    stack.change("workloads.echo.ports", [http, tcp])
    stack.change(
        "workloads.ledger",
        {
            "namespace": "demo",
            "ports": [http],
            "service": {"kind": "ServiceEntry", "hosts": ["ledger.vm.internal"]},
            "probe": {"tcpSocket": {"port": 8080}},
            "machines": {"registration": "static", "hosts": {"vm-2": {**hosts["vm-2"], "weight": 2}}},
        },
    )
    stack.change("namespaces.demo", {"trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}})
    routing = stack.settings()["config"]["hybrid-mesh:routing"]["echo"]
    more = {
        "connectionPool": {"tcp": {"connectTimeout": "1s"}, "http": {"maxRequestsPerConnection": 10}},
        "loadBalancer": {"localityLbSetting": {"failover": [{"from": "here", "to": "there"}]}},
        "match": [{"headers": {"x-tester": "yes"}, "subset": "vm"}],
        "mirror": {"subset": "vm", "percentage": 10},
        "timeout": "5s",
    }
    stack.change("routing.echo", {**routing, **more})
    stack.change("routing.ledger", {"weights": {"vm": 100}})
    # The shape of proxies that makes objects.
    stack.change("sidecar.accessLog", "errors")
    for name in ("echo", "ledger"):
        egress = {"hosts": ["./*", "istio-system/*"], "outboundTrafficPolicy": "REGISTRY_ONLY"}
        stack.change(f"workloads.{name}.sidecar", {"egress": egress})
        rules = {"allow": [{"from": ["client"], "methods": ["GET"]}], "deny": [{"paths": ["/admin/*"]}]}
        stack.change(f"access.{name}", rules)
    stack.up()
    yield stack
    stack.restore()


def test_istioctl_finds_nothing_but_that_vms_are_no_pods(lab: Lab, everything: Stack) -> None:
    assert everything
    assert_analyzed(lab, KNOWN, "demo", "istio-system")


def test_every_object_is_valid_without_a_field_that_kubernetes_would_drop(lab: Lab, everything: Stack) -> None:
    kinds = assert_valid(lab, everything)
    assert {"AuthorizationPolicy", "PeerAuthentication", "DestinationRule", "VirtualService"} <= kinds
    assert {"WorkloadGroup", "WorkloadEntry", "ServiceEntry", "Service", "Deployment"} <= kinds
    assert {"Sidecar", "Telemetry"} <= kinds


def test_strict_validation_would_see_a_field_that_istio_does_not_know(lab: Lab, everything: Stack) -> None:
    assert everything
    answer = apply_policy(lab, {"selectr": {"matchLabels": {"app": "echo"}}})
    assert answer.returncode != 0
    assert "selectr" in answer.stderr


def test_istio_s_webhook_refuses_nonsense_and_fails_closed(lab: Lab, everything: Stack) -> None:
    assert everything
    answer = ask_kubectl(lab, "get", "validatingwebhookconfigurations", "--output", "json")
    configurations = {item["metadata"]["name"]: item for item in json.loads(answer.stdout)["items"]}
    assert set(configurations) == {"istio-validator-istio-system", "istiod-default-validator"}
    for configuration in configurations.values():
        assert [hook["failurePolicy"] for hook in configuration["webhooks"]] == ["Fail"] * len(
            configuration["webhooks"]
        )
    answer = apply_policy(lab, {"action": "DENY"})
    assert answer.returncode != 0
    assert re.search(r'admission webhook "[a-z.-]*istio\.io" denied the request', answer.stderr), answer.stderr


def apply_policy(lab: Lab, spec: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "nonsense", "namespace": "demo"},
        "spec": spec,
    }
    return ask_kubectl(lab, "apply", "--dry-run=server", "--validate=strict", "--filename=-", document=document)
