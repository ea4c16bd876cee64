"""What happens to a mesh that runs: docs/faults.md. Two VMs serve all requests: one can stand in for the other."""

from __future__ import annotations

import json
import time

import pytest

from lab.cluster import wait_for
from lab.machines import Machine
from tests.e2e.machine import property_of
from tests.e2e.mesh import kubectl
from tests.e2e.stack import Stack
from tests.environment import Lab
from tests.faults.seen import Seen, is_in, wait_until_in, wait_until_served_by, watched

pytestmark = pytest.mark.lab

ISTIOD_AWAY_SECONDS = 120
CUT_SECONDS = 60
DEATHS = 3
GRACE_SECONDS = 15
"""By now istiod has taken out who did not come back, and told it."""


@pytest.fixture(scope="module")
def resilient(up: Stack) -> Stack:
    """Settings that say to try again, quickly, and to leave out who fails: what docs/faults.md recommends."""
    up.change("routing.echo", RESILIENT)
    up.up()
    return up


RESILIENT = {
    "subsets": {"k8s": {"version": "k8s"}, "vm": {"version": "vm"}},
    "weights": {"k8s": 0, "vm": 100},
    "retries": {"attempts": 4, "perTrySeconds": 2},
    "connectionPool": {"tcp": {"connectTimeout": "500ms"}},
    "outlierDetection": {"consecutiveErrors": 2, "intervalSeconds": 1, "baseEjectionSeconds": 5},
}


AGENT, ENVOY = "^/usr/local/bin/pilot-agent proxy", "^/usr/local/bin/envoy "
"""Each by its command line: before the agent, and after it, others of its program set rules, and what these are about
to run bears their name for a moment. To kill such a one may end nothing."""


def killed(machine: Machine, command: str) -> None:
    """SIGKILL to a process of a machine, once there is one."""
    wait_for(f"{command} to kill", lambda: machine.look(["pkill", "-9", "-e", "-f", command]), 30)


def came_back(machine: Machine, since: int) -> None:
    """Until istio.service has started a new agent."""
    wait_for("a new agent", lambda: agent_since(machine) > since, 60)


def agent_since(machine: Machine) -> int:
    return property_of(machine, "istio.service", "ExecMainStartTimestampMonotonic")


def assert_none_failed(seen: Seen) -> None:
    for source in seen.loads:
        assert seen.failed(source) == [], seen


def assert_costs_no_request_and_comes_back(lab: Lab, fault: str, command: str) -> None:
    """Of a process of vm-1's proxy that is killed."""
    machine = lab.machine("vm-1")
    since = agent_since(machine)
    with watched(lab, fault, lab.machine("vm-2")) as seen:
        killed(machine, command)
        came_back(machine, since)
        wait_until_in(lab, machine)
        seen.note("vm-1 is in")
        wait_until_served_by(seen, machine)
        seen.note("it serves")
    assert_none_failed(seen)


def test_a_killed_proxy_costs_no_request_and_comes_back(lab: Lab, resilient: Stack) -> None:
    assert_costs_no_request_and_comes_back(lab, "proxy killed", ENVOY)
    assert resilient.steps() == []


def test_an_agent_that_dies_again_and_again_is_started_again_and_again(lab: Lab, resilient: Stack) -> None:
    machine = lab.machine("vm-1")
    began = time.monotonic()
    for _ in range(DEATHS):
        since = agent_since(machine)
        killed(machine, AGENT)
        came_back(machine, since)
    took = time.monotonic() - began
    print(f"{DEATHS} deaths, {took / DEATHS:.1f} s each until the next start")
    assert took < DEATHS * 6, "2 s, not Istio's 10"
    wait_until_in(lab, machine)
    assert resilient.steps() == []


@pytest.mark.full
def test_a_killed_agent_costs_no_request_and_comes_back(lab: Lab, resilient: Stack) -> None:
    assert_costs_no_request_and_comes_back(lab, "agent killed", AGENT)
    assert lab.machine("vm-1").look(["pgrep", "-cx", "envoy"]).strip() == "1", "no proxy of before is left"
    assert resilient.steps() == []


@pytest.mark.full
def test_a_machine_whose_plug_is_pulled_costs_no_request_and_comes_back(lab: Lab, resilient: Stack) -> None:
    machine = lab.machine("vm-1")
    with watched(lab, "VM hard-rebooted", lab.machine("vm-2")) as seen:
        machine.kill()
        wait_for("vm-1 to be out", lambda: not is_in(lab, machine), 120)
        seen.note("vm-1 is out")
        time.sleep(5)
        machine.start()
        wait_until_in(lab, machine)
        seen.note("it is in")
        wait_until_served_by(seen, machine)
        seen.note("it serves")
    assert_none_failed(seen)
    assert resilient.steps() == []


@pytest.mark.full
def test_without_istiod_all_goes_on_and_with_it_again_too(lab: Lab, resilient: Stack) -> None:
    machines = [lab.machine(name) for name in ("vm-1", "vm-2")]
    with watched(lab, f"istiod away for {ISTIOD_AWAY_SECONDS} s", *machines) as seen:
        kubectl(lab, "scale", "-n", "istio-system", "deploy/istiod", "--replicas=0")
        time.sleep(ISTIOD_AWAY_SECONDS)
        kubectl(lab, "scale", "-n", "istio-system", "deploy/istiod", "--replicas=1")
        kubectl(lab, "rollout", "status", "-n", "istio-system", "deploy/istiod", "--timeout=90s")
        seen.note("istiod is back")
        for machine in machines:
            wait_until_in(lab, machine, 120)
        seen.note("both VMs are in")
        time.sleep(GRACE_SECONDS)
        for machine in machines:
            assert is_in(lab, machine)
    assert_none_failed(seen)
    assert resilient.steps() == []


@pytest.mark.full
def test_replaced_gateway_pods_cost_no_request(lab: Lab, resilient: Stack) -> None:
    machines = [lab.machine(name) for name in ("vm-1", "vm-2")]
    pods = kubectl(lab, "get", "pods", "-n", "istio-system", "-l", "istio=eastwestgateway", "-o", "name").split()
    assert len(pods) == 2
    with watched(lab, "each gateway pod replaced", *machines) as seen:
        for pod in pods:
            kubectl(lab, "delete", "-n", "istio-system", pod, "--wait=true")
            kubectl(lab, "rollout", "status", "-n", "istio-system", "deploy/istio-eastwestgateway", "--timeout=90s")
            seen.note("a new pod is ready")
        for machine in machines:
            wait_until_in(lab, machine)
        seen.note("both VMs are in")
        time.sleep(GRACE_SECONDS)
        for machine in machines:
            assert is_in(lab, machine), seen
    assert_none_failed(seen)
    assert resilient.steps() == []


@pytest.mark.full
def test_a_machine_that_is_cut_off_from_the_gateway_for_a_minute_costs_no_request(lab: Lab, resilient: Stack) -> None:
    machine = lab.machine("vm-1")
    gateway = resilient.outputs()["topology"]["gateway"]["address"]
    chains = [("OUTPUT", "-d"), ("INPUT", "-s")]
    with watched(lab, f"VM cut off from the gateway for {CUT_SECONDS} s", machine, lab.machine("vm-2")) as seen:
        for chain, end in chains:
            machine.look(["iptables", "-w", "-I", chain, end, gateway, "-j", "DROP"])
        try:
            time.sleep(CUT_SECONDS)
        finally:
            for chain, end in chains:
                machine.look(["iptables", "-w", "-D", chain, end, gateway, "-j", "DROP"])
        back = time.time()
        wait_until_in(lab, machine)
        seen.notes.append(f"vm-1 is in {time.time() - back:.1f} s after the cut's end")
        wait_until_served_by(seen, machine)
    assert_none_failed(seen)
    assert resilient.steps() == []


@pytest.mark.full
def test_without_its_dns_server_a_machine_still_finds_the_mesh(lab: Lab, resilient: Stack) -> None:
    machine = lab.machine("vm-1")
    drop = [["-p", kind, "--dport", "53", "!", "-o", "lo", "-j", "DROP"] for kind in ("udp", "tcp")]
    with watched(lab, f"DNS server away for {CUT_SECONDS} s", machine) as seen:
        for rule in drop:
            machine.look(["iptables", "-w", "-I", "OUTPUT", *rule])
        try:
            time.sleep(CUT_SECONDS)
            assert is_in(lab, machine)
        finally:
            for rule in drop:
                machine.look(["iptables", "-w", "-D", "OUTPUT", *rule])
    assert_none_failed(seen)
    assert json.loads(machine.ssh(["curl -s localhost:15000/server_info"]))["state"] == "LIVE"
    assert resilient.steps() == []
