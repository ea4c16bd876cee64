"""A service on VMs that no pod can reach: each direction goes through a gateway, and never past it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lab.cluster import wait_for
from lab.instance import PROJECT_ROOT
from lab.traffic import Answers, ask, in_pod, on_machine
from tests.e2e.mesh import kubectl
from tests.e2e.stack import Stack, Step
from tests.e2e.validity import assert_analyzed, assert_valid, only_vms_in_subset, only_vms_selected
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full]

FAR = ("far-1", "far-2")
GATEWAY = "gw-1"
HOST = "remote.demo.svc.cluster.local"
URL = f"http://{HOST}:8080/"
ENTRY = "remote.vm.internal"
"""The service's host as a ServiceEntry."""
ECHO = "http://echo.demo.svc.cluster.local:8080/"
STATS = "stats?filter=listener.*15443.downstream_cx_total"
DIRECT = ("-p", "tcp", "--syn", "--dport", "8080")
"""A first packet to the app's own port. Through a gateway it is 15443."""


def machine(lab: Lab, name: str, network: str) -> dict[str, Any]:
    return {
        "command": {
            "create": f"python -m lab machine create {name} --network {network}",
            "delete": f"python -m lab machine delete {name}",
            "privateKeyFile": str((lab.instance.folder / "ssh" / "id_ed25519").relative_to(PROJECT_ROOT)),
        }
    }


def change(lab: Lab, stack: Stack) -> None:
    """The settings that docs/multi-network.md shows."""
    workload = {
        "namespace": "demo",
        "network": "cutoff",
        "ports": [{"name": "http", "port": 8080, "protocol": "HTTP"}],
        "probe": {"httpGet": {"path": "/health/ready", "port": 8080}, "periodSeconds": 2},
        "pods": {"image": "hybrid-mesh.lab/echo:1.31", "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}},
        "machines": {"hosts": {name: machine(lab, name, "cutoff") for name in FAR}},
    }
    stack.change("networks.cutoff", {"gateway": {"hosts": {GATEWAY: machine(lab, GATEWAY, "edge")}}})
    stack.change("workloads.remote", workload)


def entries(lab: Lab, namespace: str) -> dict[str, Any]:
    found = json.loads(kubectl(lab, "get", "workloadentries", "-n", namespace, "-o", "json"))["items"]
    return {item["spec"]["address"]: item for item in found}


def endpoints(lab: Lab) -> set[str]:
    """Where the client's proxy sends requests for the service."""
    proxy = ("exec", "-n", "demo", "deploy/client", "-c", "istio-proxy", "--", "pilot-agent")
    clusters = kubectl(lab, *proxy, "request", "GET", "clusters")
    return set(re.findall(rf"^outbound\|8080\|\|{re.escape(HOST)}::([\d.]+:\d+)::", clusters, re.MULTILINE))


@dataclass(frozen=True)
class Connections:
    """How many connections came to the gateways' listeners on port 15443 since their start."""

    east_west: int
    """To the cluster's gateway."""
    far: int
    """To that of the VMs' network."""


def connections(lab: Lab) -> Connections:
    pods = kubectl(lab, "get", "pods", "-n", "istio-system", "-l", "istio=eastwestgateway", "-o", "name").split()
    ask = ("exec", "-n", "istio-system", "-c", "istio-proxy")
    counts = [
        sum(int(line.rpartition(": ")[2]) for line in stats.splitlines() if ": " in line)
        for stats in (
            "\n".join(kubectl(lab, *ask, pod, "--", "pilot-agent", "request", "GET", STATS) for pod in pods),
            lab.machine(GATEWAY).ssh([f"curl -s 'http://127.0.0.1:15000/{STATS}'"]),
        )
    ]
    return Connections(*counts)


class DirectWay:
    """Counts, while it is open, first packets to an app's own port: into the cut-off network, or out of it."""

    def __init__(self, lab: Lab, *, into: bool) -> None:
        self._lab = lab
        # A gateway's own packets to the VMs stay on the bridge, but may be shown to the firewall all the same.
        way = ("!", "-i", "br1", "-o", "br1") if into else ("-i", "br1", "!", "-o", "br1")
        self._rule = ("FORWARD", *way, *DIRECT)

    def __enter__(self) -> DirectWay:
        chain, *rule = self._rule
        # The firewall's own rules come after, so that what they drop is counted too.
        self._lab.instance.run(["iptables", "-w", "-t", "mangle", "-I", chain, *rule])
        return self

    def __exit__(self, *_: object) -> None:
        chain, *rule = self._rule
        self._lab.instance.run(["iptables", "-w", "-t", "mangle", "-D", chain, *rule])

    @property
    def packets(self) -> int:
        rules = self._lab.instance.run(["iptables-save", "-t", "mangle", "-c"]).splitlines()
        mine = [line for line in rules if "--dport 8080" in line and "-j" not in line]
        assert len(mine) == 1, rules
        return int(mine[0][1:].partition(":")[0])


@dataclass
class Joined:
    """The stack with the network in it, and the preview that announced it."""

    preview: str
    steps: list[Step]


@pytest.fixture(scope="module")
def joined(lab: Lab, stack: Stack) -> Iterator[Joined]:
    stack.restore()
    stack.up()
    change(lab, stack)
    seen = Joined(stack.preview(), stack.steps())
    try:
        stack.up()
        wait_for("the way into the network", lambda: f"{lab.machine(GATEWAY).address}:15443" in endpoints(lab), 90)
        yield seen
    finally:
        stack.restore()
        stack.up()


def from_pod(lab: Lab, requests: int) -> Answers:
    return ask(in_pod(lab.instance, lab.tools, "deploy/client", "demo"), URL, requests)


def at_once(lab: Lab) -> set[str]:
    """Who answers to many requests at the same time from the client's pod."""
    script = f"for request in $(seq 30); do curl --silent --max-time 10 {URL} & done; wait"
    output = kubectl(lab, "exec", "-n", "demo", "deploy/client", "--", "sh", "-c", script)
    return set(re.findall(r'"instance": ?"([^"]+)"', output))


def test_the_preview_says_in_plain_text_what_a_gateway_is_made_of_and_touches_nothing_else(joined: Joined) -> None:
    for text in ("hybridmesh:network_gateway:NetworkGateway", '"AUTO_PASSTHROUGH"', "meshNetworks", '"cutoff-gateway"'):
        assert text in joined.preview, text
    made = [step for step in joined.steps if step.operation == "create"]
    assert {"mesh-cutoff-gateway", "mesh-gw-1", "mesh-far-1", "mesh-remote"} <= {step.name for step in made}
    others = {step.name: step.operation for step in joined.steps if step.operation != "create"}
    learn = ("mesh-control-plane-istiod", "mesh-preflights", "mesh-adopters")
    assert others == dict.fromkeys(learn, "update"), "who learns of the network: istiod, and who looks before"


def test_every_entry_carries_its_network(lab: Lab, stack: Stack, joined: Joined) -> None:
    assert joined.preview
    topology = stack.outputs()["topology"]
    for name, namespace in ((FAR[0], "demo"), (FAR[1], "demo"), (GATEWAY, "network-gateways")):
        entry = entries(lab, namespace)[lab.machine(name).address]
        assert entry["spec"]["network"] == "cutoff"
        assert topology["machines"][name]["entry"] == f"{namespace}/{entry['metadata']['name']}"
        assert topology["machines"][name]["synced"] is True
    assert {e["spec"]["network"] for e in entries(lab, "demo").values()} == {"cutoff", "embedded"}
    assert topology["machines"][GATEWAY]["identity"] == "spiffe://cluster.local/ns/network-gateways/sa/cutoff-gateway"
    assert topology["networks"]["cutoff"] == {
        "direct": False,
        "gateways": [GATEWAY],
        "addresses": [f"{lab.machine(GATEWAY).address}:15443"],
    }


def test_pods_reach_the_machines_through_the_gateway_on_their_side_alone(lab: Lab, joined: Joined) -> None:
    assert joined.preview
    pod = kubectl(lab, "get", "pods", "-n", "demo", "-l", "app=remote", "-o", "jsonpath={.items[0].status.podIP}")
    gateway = lab.machine(GATEWAY).address
    assert endpoints(lab) == {f"{pod}:8080", f"{gateway}:15443"}
    before = connections(lab)
    with DirectWay(lab, into=True) as direct:
        answers = from_pod(lab, 200)
        assert answers.answered == 200, answers
        assert answers.by_platform["kubernetes"] > 0
        assert answers.by_platform["vm"] > 0
        # A gateway chooses a VM for a connection, not for a request: it takes several at once to see them all.
        wait_for("answers of both VMs", lambda: {*FAR} <= at_once(lab), 30)
        after = connections(lab)
        assert after.far > before.far
        assert after.east_west == before.east_west, "a pod has no need of its own network's gateway"
        for name in FAR:
            # Envoy's port for what is redirected to it: every connection that came to the VM's apps.
            established = "ss -Htn state established '( sport = :15006 )'"
            peers = {line.split()[3].rpartition(":")[0] for line in lab.machine(name).ssh([established]).splitlines()}
            assert peers == {gateway}, f"{name} has connections from elsewhere"
        assert direct.packets == 0
        refused = "curl --silent --max-time 2 http://{}:8080/ || true"
        kubectl(
            lab, "exec", "-n", "demo", "deploy/client", "--", "sh", "-c", refused.format(lab.machine(FAR[0]).address)
        )
        assert direct.packets > 0, "the count sees nothing"


def test_machines_reach_pods_through_the_cluster_s_gateway_alone(lab: Lab, joined: Joined) -> None:
    assert joined.preview
    before = connections(lab)
    with DirectWay(lab, into=False) as direct:
        for name in FAR:
            far = on_machine(lab.machine(name))
            mine, other = ask(far, URL, 60), ask(far, ECHO, 60)
            assert mine.answered == other.answered == 60, (mine, other)
            assert mine.by_platform["kubernetes"] > 0
            assert set(FAR) <= set(mine.by_instance), "VMs of one network reach each other without a gateway"
            assert other.by_platform["kubernetes"] > 0
        after = connections(lab)
        assert after.east_west > before.east_west
        assert after.far == before.far, "a VM has no need of its own network's gateway"
        assert direct.packets == 0
        pod = kubectl(lab, "get", "pods", "-n", "demo", "-l", "app=remote", "-o", "jsonpath={.items[0].status.podIP}")
        lab.machine(FAR[0]).ssh([f"curl --silent --max-time 2 http://{pod}:8080/ || true"])
        assert direct.packets > 0, "the count sees nothing"


def test_without_its_gateway_there_is_no_way_to_the_machines(lab: Lab, joined: Joined) -> None:
    assert joined.preview
    gateway = lab.machine(GATEWAY)
    gateway.ssh(["systemctl stop istio"])
    try:
        answers = from_pod(lab, 40)
        assert answers.by_platform["vm"] == 0, answers
    finally:
        gateway.ssh(["systemctl start istio"])
    wait_for("the way back", lambda: from_pod(lab, 20).by_platform["vm"] > 0, 60)


def test_every_object_of_the_network_is_valid(lab: Lab, stack: Stack, joined: Joined) -> None:
    assert joined.preview
    assert {"Gateway", "WorkloadGroup", "ServiceAccount"} <= assert_valid(lab, stack)
    known = {only_vms_in_subset("echo"), only_vms_selected("Gateway", "cutoff-gateway", "network-gateways")}
    assert_analyzed(lab, known, "demo", "network-gateways", "istio-system")


def test_a_second_up_changes_nothing(stack: Stack, joined: Joined) -> None:
    assert joined.preview
    assert stack.steps() == []


def test_a_host_of_a_service_entry_is_reached_through_both_gateways(lab: Lab, stack: Stack, joined: Joined) -> None:
    assert joined.preview
    stack.change("workloads.remote.service", {"kind": "ServiceEntry", "hosts": [ENTRY]})
    stack.change("workloads.client.pods.dnsCapture", True)
    before = connections(lab)
    stack.up()
    url = f"http://{ENTRY}:8080/"
    pod, far = in_pod(lab.instance, lab.tools, "deploy/client", "demo"), on_machine(lab.machine(FAR[0]))
    wait_for("the way to the VMs by the entry's host", lambda: ask(pod, url, 20).by_platform["vm"] > 0, 90)
    wait_for("the way to the pods by it", lambda: ask(far, url, 20).by_platform["kubernetes"] > 0, 90)
    into, out = ask(pod, url, 100), ask(far, url, 60)
    assert (into.answered, out.answered) == (100, 60), (into, out)
    after = connections(lab)
    assert after.far > before.far
    assert after.east_west > before.east_west


def test_nothing_of_the_network_is_left_without_its_settings(lab: Lab, stack: Stack, joined: Joined) -> None:
    assert joined.preview
    stack.restore()
    stack.up()
    assert not [name for name in (*FAR, GATEWAY) if lab.machine(name).exists]
    assert {e["spec"]["network"] for e in entries(lab, "demo").values()} == {"embedded"}
    kinds = "workloadgroups,workloadentries,serviceentries,gateways,serviceaccounts,services,deployments,namespaces"
    left = kubectl(lab, "get", kinds, "-A", "-o", "name")
    assert not re.search(r"cutoff|remote|network-gateways", left), left
    config = json.loads(kubectl(lab, "get", "configmap", "istio", "-n", "istio-system", "-o", "json"))["data"]
    assert "cutoff" not in json.dumps(config)
    answers = ask(in_pod(lab.instance, lab.tools, "deploy/client", "demo"), ECHO, 50)
    assert answers.answered == 50, answers
