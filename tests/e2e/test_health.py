"""An app's health takes its VM out of rotation and back (docs/health.md), measured by a steady load from a pod."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab.cluster import wait_for
from tests.e2e.load import Load, Request
from tests.e2e.machine import running
from tests.e2e.mesh import kubectl, objects
from tests.e2e.stack import PulumiError, Stack
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full]

PERIOD, THRESHOLD = 1, 2
LIMIT = PERIOD * THRESHOLD + 2
"""Seconds from an app's end of health to the last request that its VM gets."""
SICKEN = "mkdir -p /run/echo && touch /run/echo/unhealthy"
CURE = "rm -f /run/echo/unhealthy"
PROBES: dict[str, dict[str, Any]] = {
    "httpGet": {"httpGet": {"path": "/health/ready", "port": 8080}},
    "tcpSocket": {"tcpSocket": {"port": 8080}},
    "exec": {"exec": {"command": ["/usr/bin/test", "!", "-e", "/run/echo/unhealthy"]}},
}


@pytest.fixture(scope="module")
def bare(stack: Stack) -> Iterator[Stack]:
    """All requests to the VMs, and nothing but their health to keep clients from a bad one."""
    stack.change("routing.echo.weights", {"k8s": 0, "vm": 100})
    stack.change("routing.echo.retries", {"attempts": 0})
    stack.change("routing.echo.outlierDetection", {"maxEjectionPercent": 0})
    yield stack
    stack.restore()


def health(lab: Lab, machine: str) -> str | None:
    """The condition that istiod wrote to the VM's entry."""
    address = lab.machine(machine).address
    (entry,) = [item for item in objects(lab, "workloadentries").values() if item["spec"]["address"] == address]
    conditions = {c["type"]: c["status"] for c in entry.get("status", {}).get("conditions", [])}
    return conditions.get("Healthy")


def served(requests: list[Request], machine: str, since: float) -> list[Request]:
    return [r for r in requests if r.instance == machine and r.status == 200 and r.began > since]


@pytest.mark.parametrize("kind", PROBES)
def test_an_unhealthy_app_takes_its_vm_out_of_rotation_and_back(lab: Lab, bare: Stack, kind: str) -> None:
    sicken, cure = ("systemctl stop echo", "systemctl start echo") if kind == "tcpSocket" else (SICKEN, CURE)
    probe = {**PROBES[kind], "periodSeconds": PERIOD, "failureThreshold": THRESHOLD, "successThreshold": 1}
    bare.change("workloads.echo.probe", probe)
    bare.up()
    vm1 = lab.machine("vm-1")
    wait_for("both VMs to be healthy", lambda: {health(lab, m) for m in ("vm-1", "vm-2")} == {"True"}, 30)
    with Load(lab) as load:
        start = time.time()
        load.wait(
            "answers of both VMs", lambda all_: bool(served(all_, "vm-1", start) and served(all_, "vm-2", start)), 15
        )
        sick = time.time()
        try:
            vm1.ssh([sicken])
            wait_for("istiod to know", lambda: health(lab, "vm-1") == "False", LIMIT + 5)
            time.sleep(max(0.0, sick + LIMIT + 5 - time.time()))
            out = load.requests
        finally:
            cured = time.time()
            vm1.ssh([cure])
        load.wait("answers of vm-1 again", lambda all_: bool(served(all_, "vm-1", cured)), PERIOD + 10)
        time.sleep(2)
    failed = [r for r in load.requests if r.status != 200]
    assert all(sick <= r.ended <= sick + LIMIT for r in failed), [(r.status, r.ended - sick) for r in failed]
    # Else health was not what kept requests away.
    assert failed
    late = [r for r in out if r.began > sick + LIMIT]
    assert len(late) > 50
    assert {(r.status, r.instance) for r in late} == {(200, "vm-2")}
    assert health(lab, "vm-1") == "True"


def test_up_believes_no_health_of_before_a_join(lab: Lab, bare: Stack) -> None:
    bare.change("workloads.echo.probe", {**PROBES["httpGet"], "periodSeconds": PERIOD})
    bare.up()
    # Pods have no systemd, and stay ready.
    wrong = {"exec": {"command": ["/usr/bin/test", "!", "-d", "/run/systemd/system"]}}
    bare.change("workloads.echo.probe", {**wrong, "periodSeconds": PERIOD, "failureThreshold": THRESHOLD})
    bare.change("sidecar.timeouts.syncSeconds", 15)
    bare.change("sidecar.upgrade.batchSize", 1)
    with pytest.raises(PulumiError, match=r"vm-\d is not in the mesh after 15 s: its app is not healthy"):
        bare.up()
    assert sorted(str(health(lab, m)) for m in ("vm-1", "vm-2")) == ["False", "True"], "the other batch is as it was"
    bare.change("workloads.echo.probe", {**PROBES["httpGet"], "periodSeconds": PERIOD})
    bare.up()
    assert {health(lab, m) for m in ("vm-1", "vm-2")} == {"True"}


def test_a_report_that_istiod_lost_is_given_again_with_nothing_restarted(lab: Lab, bare: Stack) -> None:
    bare.change("workloads.echo.probe", {**PROBES["httpGet"], "periodSeconds": PERIOD})
    bare.up()
    machine = lab.machine("vm-1")
    namespace, entry = bare.outputs()["topology"]["machines"]["vm-1"]["entry"].split("/")
    before = running(machine)
    nothing = '{"status":{"conditions":[]}}'
    kubectl(
        lab, "patch", "workloadentry", entry, f"-n={namespace}", "--subresource=status", "--type=merge", f"-p={nothing}"
    )
    assert health(lab, "vm-1") is None
    wait_for("its agent to have no more to say", lambda: "mesh-vm-1-token" in {step.name for step in bare.steps()}, 60)
    assert health(lab, "vm-1") is None
    bare.up()
    assert health(lab, "vm-1") == "True"
    after = running(machine)
    assert (after.agent, after.envoy) == (before.agent, before.envoy)
    assert bare.steps() == []


def test_a_pod_with_strict_mtls_gets_ready_by_a_probe_through_its_agent(lab: Lab, stack: Stack) -> None:
    stack.restore()
    stack.up()
    (strict,) = objects(lab, "peerauthentications").values()
    assert strict["spec"]["mtls"]["mode"] == "STRICT"
    pods = [p for p in objects(lab, "pods").values() if p["metadata"]["labels"]["app"] == "echo"]
    pods = [p for p in pods if "deletionTimestamp" not in p["metadata"]]
    assert pods
    for pod in pods:
        assert pod["metadata"]["annotations"]["sidecar.istio.io/rewriteAppHTTPProbers"] == "true"
        (app,) = [c for c in pod["spec"]["containers"] if c["name"] == "app"]
        probe = app["readinessProbe"]["httpGet"]
        assert (probe["path"], probe["port"]) == ("/app-health/app/readyz", 15020)
        assert {c["status"] for c in pod["status"]["conditions"] if c["type"] == "Ready"} == {"True"}
