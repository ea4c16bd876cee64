"""Services, as docs/services.md says it: ServiceEntry and static WorkloadEntry, ports by protocol."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lab.cluster import wait_for
from lab.traffic import ask, in_pod, on_machine
from tests.e2e.mesh import objects, proxy_config
from tests.e2e.stack import Stack, console
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.usefixtures("shop")]

HOST, ALIAS = "shop.vm.internal", "cart.vm.internal"
URL = f"http://{HOST}:8080/"
ENTRY = "shop-vm-3"


@pytest.fixture(scope="module")
def shop(lab: Lab, stack: Stack) -> Iterator[Stack]:
    """The stack with a service that Kubernetes does not know, on a machine with a static WorkloadEntry."""
    host = json.loads(json.dumps(stack.settings()["config"]["hybrid-mesh:workloads"]["echo"]["machines"]["hosts"]))
    command = json.loads(json.dumps(host["vm-2"]).replace("vm-2", "vm-3"))
    stack.change(
        "workloads.shop",
        {
            "namespace": "demo",
            "service": {"kind": "ServiceEntry", "hosts": [HOST]},
            "ports": [
                {"name": "http", "port": 8080, "protocol": "HTTP"},
                {"name": "data", "port": 9000, "targetPort": 9090, "protocol": "TCP"},
                {"name": "calls", "port": 9001, "targetPort": 9091, "protocol": "GRPC"},
                {"name": "secret", "port": 9443, "protocol": "TLS"},
            ],
            "probe": {"httpGet": {"path": "/health/ready", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2},
            "machines": {"registration": "static", "hosts": {"vm-3": {**command, "weight": 2, "locality": "lab/a"}}},
        },
    )
    stack.change("workloads.client.pods.dnsCapture", True)
    stack.change("routing.shop", {"weights": {"vm": 100}, "timeout": "5s"})
    stack.up()
    yield stack
    stack.restore()
    stack.up()
    for kind in ("serviceentries", "workloadentries", "workloadgroups", "virtualservices", "serviceaccounts"):
        assert [name for name in objects(lab, kind) if "shop" in name] == [], kind
    assert not lab.machine("vm-3").exists


def entry(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = objects(lab, "workloadentries")[ENTRY]
    return found


def client_status(lab: Lab) -> str:
    runner = in_pod(lab.instance, lab.tools, "deploy/client", "demo")
    return runner(["curl", "--silent", "--max-time", "5", "--output", "/dev/null", "--write-out", "%{http_code}", URL])


def test_the_service_is_istio_s_and_kubernetes_has_none(lab: Lab) -> None:
    spec = objects(lab, "serviceentries")["shop"]["spec"]
    assert (spec["hosts"], spec["resolution"], spec["location"]) == ([HOST], "STATIC", "MESH_INTERNAL")
    assert spec["workloadSelector"] == {"labels": {"app": "shop"}}
    assert [(p["name"], p["number"], p["protocol"]) for p in spec["ports"]] == [
        ("http", 8080, "HTTP"),
        ("data", 9000, "TCP"),
        ("calls", 9001, "GRPC"),
        ("secret", 9443, "TLS"),
    ]
    assert "shop" not in objects(lab, "services")


def test_the_entry_is_the_stack_s_and_istiod_notes_its_proxy_on_it(lab: Lab) -> None:
    found = entry(lab)
    assert "ownerReferences" not in found["metadata"]
    assert found["spec"]["address"] == lab.machine("vm-3").address
    assert (found["spec"]["weight"], found["spec"]["locality"]) == (2, "lab/a")
    assert found["spec"]["serviceAccount"] == "shop"
    assert "istio.io/connectedAt" in found["metadata"]["annotations"]
    env = lab.machine("vm-3").ssh(["cat /var/lib/istio/envoy/cluster.env"])
    assert f"ISTIO_META_WORKLOAD_ENTRY='{ENTRY}'" in env
    assert "AUTO_REGISTER" not in env
    shop_entries = [name for name in objects(lab, "workloadentries") if name.startswith("shop")]
    assert shop_entries == [ENTRY], "istiod has made none beside it"
    assert console(lab, "status", "--stack", "dev").returncode == 0


def test_pods_and_machines_find_it_by_its_name_with_its_identity(lab: Lab) -> None:
    for runner in (in_pod(lab.instance, lab.tools, "deploy/client", "demo"), on_machine(lab.machine("vm-1"))):
        answers = ask(runner, URL, 20)
        assert answers.by_instance == {"vm-3": 20}, answers
    runner = in_pod(lab.instance, lab.tools, "deploy/client", "demo")
    headers = json.loads(runner(["curl", "--silent", "--max-time", "10", URL]))["headers"]
    certificate = {key.lower(): value for key, value in headers.items()}["x-forwarded-client-cert"]
    assert "By=spiffe://cluster.local/ns/demo/sa/shop" in certificate
    assert "URI=spiffe://cluster.local/ns/demo/sa/client" in certificate


def test_each_port_is_served_by_its_protocol(lab: Lab) -> None:
    answers = ask(in_pod(lab.instance, lab.tools, "deploy/client", "demo"), f"http://{HOST}:9000/", 10)
    assert answers.by_instance == {"vm-3": 10}, answers
    chains: dict[int, set[str]] = {}
    for config in proxy_config(lab, "client", "dynamic_listeners"):
        listener = config.get("active_state", {}).get("listener", {})
        address = listener.get("address", {}).get("socket_address", {})
        chains.setdefault(address.get("port_value", 0), set()).update(
            item["name"].rpartition(".")[2]
            for chain in [*listener.get("filter_chains", []), listener.get("default_filter_chain", {})]
            for item in chain.get("filters", [])
        )
    assert "tcp_proxy" in chains[9000]
    assert "http_connection_manager" not in chains[9000]
    assert "http_connection_manager" in chains[9001]
    assert "tcp_proxy" in chains[9443]
    assert "http_connection_manager" not in chains[9443]


def test_a_second_preview_has_nothing_to_do_though_istiod_writes_on_the_entry(shop: Stack) -> None:
    assert shop.steps() == []


def test_istioctl_finds_nothing_but_that_vms_are_no_pods(lab: Lab) -> None:
    command = [str(lab.bin / "istioctl"), "analyze", "--namespace", "demo", "--output", "json"]
    done = subprocess.run(command, env=lab.env, capture_output=True, text=True, timeout=120, check=False)
    found = {(finding["code"], finding["origin"]) for finding in json.loads(done.stdout) or []}
    assert found == {("IST0173", f"DestinationRule demo/{name}") for name in ("echo", "shop")}


def test_an_unhealthy_app_is_out_of_rotation_and_comes_back(lab: Lab) -> None:
    machine = lab.machine("vm-3")
    machine.ssh(["systemctl stop echo"])
    try:
        wait_for("the app to be out", lambda: not healthy(lab), 30)
        wait_for("requests to be refused", lambda: client_status(lab) == "503", 10)
    finally:
        machine.ssh(["systemctl start echo"])
    wait_for("the app to be back", lambda: healthy(lab), 30)
    wait_for("requests to be answered", lambda: client_status(lab) == "200", 10)


def test_a_machine_that_left_keeps_its_entry_out_of_rotation_and_up_brings_it_back(lab: Lab, shop: Stack) -> None:
    lab.machine("vm-3").ssh(["systemctl stop istio"])
    wait_for("istiod to note it", lambda: "istio.io/disconnectedAt" in entry(lab)["metadata"]["annotations"], 30)
    uid = entry(lab)["metadata"]["uid"]
    wait_for("its health to be unknown", lambda: not healthy(lab), 60)
    assert console(lab, "status", "--stack", "dev", check=False).returncode == 1
    changed = {step.name for step in shop.steps()}
    assert "mesh-vm-3-token" in changed
    assert not any("vm-1" in name or "vm-2" in name or name.endswith("-entry") for name in changed), changed
    shop.up()
    assert entry(lab)["metadata"]["uid"] == uid
    wait_for("it to serve", lambda: client_status(lab) == "200", 30)
    assert shop.steps() == []


def healthy(lab: Lab) -> bool:
    conditions = entry(lab).get("status", {}).get("conditions", [])
    return any(c["type"] == "Healthy" and c["status"] == "True" for c in conditions)


def test_a_changed_choice_replaces_the_entry_and_a_second_host_leads_there_too(lab: Lab, shop: Stack) -> None:
    ports = shop.settings()["config"]["hybrid-mesh:workloads"]["shop"]["ports"]
    shop.change("workloads.shop.ports", ports[:1])
    shop.change("workloads.shop.service.hosts", [HOST, ALIAS])
    shop.change("workloads.shop.machines.registration", "auto")
    shop.change("workloads.shop.machines.hosts.vm-3.weight", None)
    shop.up()
    names = [name for name in objects(lab, "workloadentries") if name.startswith("shop")]
    assert len(names) == 1
    assert names != [ENTRY]
    wait_for("it to serve", lambda: client_status(lab) == "200", 30)
    assert shop.steps() == []
    env = lab.machine("vm-3").ssh(["cat /var/lib/istio/envoy/cluster.env"])
    assert "ISTIO_META_AUTO_REGISTER_GROUP='shop'" in env
    answers = ask(in_pod(lab.instance, lab.tools, "deploy/client", "demo"), f"http://{ALIAS}:8080/", 20)
    assert answers.by_instance == {"vm-3": 20}, answers
