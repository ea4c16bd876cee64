"""Services, as docs/services.md says it: ServiceEntry and static WorkloadEntry, ports by protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab.cluster import wait_for
from lab.traffic import ask, in_pod, on_machine
from tests.e2e.mesh import objects, proxy_config
from tests.e2e.stack import Stack, console
from tests.e2e.validity import assert_analyzed, assert_valid, only_vms_in_subset, only_vms_selected
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.usefixtures("shop")]

HOST, ALIAS = "shop.vm.internal", "cart.vm.internal"
URL = f"http://{HOST}:8080/"
ENTRY = "shop-vm-3"
DESK = "desk.demo.svc.cluster.local"
"""A service on pods alone, with the ports of the shop on a VM alone."""
PORTS = [
    {"name": "http", "port": 8080, "protocol": "HTTP"},
    {"name": "data", "port": 9000, "targetPort": 9090, "protocol": "TCP"},
    {"name": "calls", "port": 9001, "targetPort": 9091, "protocol": "GRPC"},
    {"name": "secret", "port": 9443, "protocol": "TLS"},
]
LISTEN = {"GRPC_PORT": "9091", "TLS_PORT": "9443"}
"""What tells the demo app to speak more than HTTP."""
GRPC_CALLS = """
import grpc, sys
with grpc.insecure_channel(sys.argv[1]) as channel:
    call = channel.unary_unary("/shop.Orders/List")
    for _ in range(int(sys.argv[2])):
        print(call(b"", timeout=10, metadata=[("x-tester", "yes")]).decode())
"""


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
            "ports": PORTS,
            "probe": {"httpGet": {"path": "/health/ready", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2},
            "machines": {"registration": "static", "hosts": {"vm-3": {**command, "weight": 2, "locality": "lab/a"}}},
        },
    )
    pods = stack.settings()["config"]["hybrid-mesh:workloads"]["client"]["pods"]
    stack.change("workloads.desk", {"namespace": "demo", "ports": PORTS, "pods": {**pods, "env": LISTEN}})
    stack.change("workloads.client.pods.dnsCapture", True)
    stack.change("routing.shop", {"weights": {"vm": 100}, "timeout": "5s"})
    stack.up()
    listen = "\n".join(f"{name}={port}" for name, port in LISTEN.items())
    machine = lab.machine("vm-3")
    machine.ssh([f"echo '{listen}' >/etc/default/echo && systemctl restart echo"])
    wait_for("the app", lambda: ":9091" in machine.ssh(["ss -Hltn"]) and knows_callers(lab), 60)
    yield stack
    stack.restore()
    stack.up()
    for kind in ("serviceentries", "workloadentries", "workloadgroups", "virtualservices", "serviceaccounts"):
        assert [name for name in objects(lab, kind) if "shop" in name or "desk" in name] == [], kind
    assert not lab.machine("vm-3").exists


def entry(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = objects(lab, "workloadentries")[ENTRY]
    return found


def knows_callers(lab: Lab) -> bool:
    """Whether the VM's proxy reads requests: after a change of health it passes them on unread for a moment."""
    answer = in_pod(lab.instance, lab.tools, "deploy/client", "demo")(["curl", "--silent", "--max-time", "5", URL])
    return "x-forwarded-client-cert" in answer.lower()


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


@pytest.mark.parametrize(
    ("caller", "host", "platform"), [("client", HOST, "vm"), ("vm-1", DESK, "kubernetes"), ("vm-1", HOST, "vm")]
)
def test_grpc_calls_and_the_app_s_own_tls_arrive(lab: Lab, caller: str, host: str, platform: str) -> None:
    pod = in_pod(lab.instance, lab.tools, f"deploy/{caller}", "demo")
    runner = pod if caller == "client" else on_machine(lab.machine(caller))
    calls = [
        json.loads(line) for line in runner(["python3", "-c", GRPC_CALLS, f"{host}:9001", "20"]).splitlines() if line
    ]
    assert [call["platform"] for call in calls] == [platform] * 20
    assert {call["path"] for call in calls} == {"/shop.Orders/List"}
    identity = f"URI=spiffe://cluster.local/ns/demo/sa/{'client' if caller == 'client' else 'echo'}"
    assert all(identity in call["headers"]["x-forwarded-client-cert"] for call in calls), "seen by the proxies, as HTTP"
    tls = ["curl", "--silent", "--insecure", "--max-time", "10", "--write-out", "%{certs}"]
    answer, certificate = json.JSONDecoder().raw_decode(text := runner([*tls, f"https://{host}:9443/"]))
    assert (answer["platform"], answer["sni"]) == (platform, host)
    assert "x-forwarded-client-cert" not in {name.lower() for name in answer["headers"]}, "no proxy reads it"
    assert "Subject:CN = echo" in text[certificate:], "the app's own certificate, not the mesh's"


def test_a_second_preview_has_nothing_to_do_though_istiod_writes_on_the_entry(shop: Stack) -> None:
    assert shop.steps() == []


def test_every_object_is_valid_and_istioctl_finds_nothing_but_that_vms_are_no_pods(lab: Lab, shop: Stack) -> None:
    assert {"ServiceEntry", "WorkloadEntry"} <= assert_valid(lab, shop)
    known = {only_vms_in_subset("echo"), only_vms_in_subset("shop"), only_vms_selected("Sidecar", "shop")}
    assert_analyzed(lab, known, "demo")


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
