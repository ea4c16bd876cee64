"""Workloads: identity, service, group, pods."""

from typing import Any

import pulumi
import pytest

from components.pods import Pods, PodsArgs
from components.workload import Workload, WorkloadArgs, WorkloadPort
from hybridmesh.istio.names import injection_labels
from tests.components.harness import World, run

HTTP = WorkloadPort(name="http", port=80, target=8080)
TCP = WorkloadPort(name="data", port=9000, target=9000, protocol="TCP")


def workload(seen: list[Any] | None = None, **changes: Any) -> World:
    given: dict[str, Any] = {"workload": "echo", "namespace": "demo", "service_account": "echo-sa"}

    def program() -> object:
        component = Workload("echo", WorkloadArgs(**{**given, **changes}))
        known = pulumi.Output.all(component.identity, component.host, component.group)
        return known.apply((seen if seen is not None else []).append)

    return run(program)


def test_a_client_is_an_account_and_nothing_else() -> None:
    assert workload().names() == {"echo", "echo-account"}


def test_a_service_selects_by_app_alone_so_that_pods_and_machines_are_in_it() -> None:
    service = workload(ports=[HTTP, TCP], labels={"team": "shop"}).one("echo-service")
    assert service.value("spec")["selector"] == {"app": "echo"}
    assert [(p["name"], p["port"], p["targetPort"], p["appProtocol"]) for p in service.value("spec")["ports"]] == [
        ("http", 80, 8080, "http"),
        ("data", 9000, 9000, "tcp"),
    ]


def test_nobody_waits_for_endpoints_that_kubernetes_does_not_know() -> None:
    metadata = workload(ports=[HTTP]).one("echo-service").value("metadata")
    assert metadata["annotations"] == {"pulumi.com/skipAwait": "true"}


def test_a_group_carries_what_its_entries_need() -> None:
    probe = {"httpGet": {"path": "/", "port": 8080}}
    spec = (
        workload(has_machines=True, ports=[HTTP], labels={"team": "shop"}, network="far", probe=probe)
        .one("echo-group")
        .value("spec")
    )
    assert spec == {
        "metadata": {"labels": {"team": "shop", "app": "echo", "version": "vm"}},
        "template": {"serviceAccount": "echo-sa", "network": "far", "ports": {"http": 8080}},
        "probe": probe,
    }


def test_a_group_says_nothing_of_what_it_has_none_of() -> None:
    spec = workload(has_machines=True).one("echo-group").value("spec")
    assert spec == {
        "metadata": {"labels": {"app": "echo", "version": "vm"}},
        "template": {"serviceAccount": "echo-sa"},
    }


def test_machines_proxies_have_the_threads_that_are_set() -> None:
    spec = workload(has_machines=True, concurrency=0).one("echo-group").value("spec")
    assert spec["metadata"]["annotations"] == {"proxy.istio.io/config": "concurrency: 0\n"}


def test_what_a_workload_has_is_named_and_labelled_after_it() -> None:
    labels = {"team": "shop", "app": "another"}
    named = workload(has_machines=True, ports=[HTTP], labels=labels)
    by_host = workload(ports=[HTTP], labels=labels, service_entry_hosts=["shop.internal"])
    for world, role, name, more in (
        (named, "account", "echo-sa", {}),
        (named, "service", "echo", {"team": "shop"}),
        (named, "group", "echo", {}),
        (by_host, "service-entry", "echo", {"team": "shop"}),
    ):
        metadata = world.one(f"echo-{role}").value("metadata")
        assert (metadata["name"], metadata["namespace"], metadata["labels"]) == (name, "demo", {**more, "app": "echo"})


def test_its_identity_host_and_group_are_told() -> None:
    seen: list[Any] = []
    workload(seen, ports=[HTTP], has_machines=True, trust_domain="example.org", domain="corp.local")
    identity, host, group = seen[0]
    assert identity == "spiffe://example.org/ns/demo/sa/echo-sa"
    assert host == "echo.demo.svc.corp.local"
    assert group["metadata"] == {"name": "echo", "namespace": "demo"}


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        ({"tcpSocket": {"port": 8080}}, {"tcpSocket": {"host": "127.0.0.1", "port": 8080}}),
        ({"httpGet": {"port": 8080}}, {"httpGet": {"port": 8080}}),
        ({"exec": {"command": ["true"]}}, {"exec": {"command": ["true"]}}),
    ],
)
def test_a_machine_s_probe_asks_the_app_and_never_the_proxy(probe: dict[str, Any], expected: dict[str, Any]) -> None:
    world = workload([], has_machines=True, probe=probe)
    assert world.one("echo-group").value("spec")["probe"] == expected


def pods(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"workload": "echo", "namespace": "demo", "service_account": "echo", "image": "echo:1"}
    deployment = run(lambda: Pods("echo", PodsArgs(**{**given, **changes})).urn).one("echo-deployment")
    assert deployment.ignore_changes == ("spec.selector",), "one that was made with the version in it is not replaced"
    spec: dict[str, Any] = deployment.value("spec")
    return spec


def test_pods_are_selected_by_what_never_changes() -> None:
    spec = pods(labels={"team": "shop"})
    assert spec["selector"]["matchLabels"] == {"app": "echo"}, "a selector cannot change, and the version may"
    assert spec["template"]["metadata"]["labels"] == {"app": "echo", "version": "k8s", "team": "shop"}


def test_ports_of_the_service_that_lead_to_one_of_the_app_are_one_of_the_container() -> None:
    (container,) = pods(ports={"web": 8080, "tcp": 9000, "old": 8080})["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "tcp", "containerPort": 9000}, {"name": "web", "containerPort": 8080}]


def test_pods_have_the_workload_s_probe() -> None:
    (container,) = pods(probe={"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 2})["template"]["spec"][
        "containers"
    ]
    assert container["readinessProbe"] == {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 2}


def test_pods_run_what_they_are_told() -> None:
    (container,) = pods(command=["/app", "-v"], env={"B": "2", "A": "1"}, resources={"requests": {"cpu": "10m"}})[
        "template"
    ]["spec"]["containers"]
    assert container["command"] == ["/app", "-v"]
    assert container["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    assert container["resources"] == {"requests": {"cpu": "10m"}}
    assert container["imagePullPolicy"] == "IfNotPresent"


def test_a_namespace_is_injected_by_the_revision_it_names() -> None:
    assert injection_labels("default") == {"istio-injection": "enabled"}
    assert injection_labels("1-31-0") == {"istio.io/rev": "1-31-0"}
