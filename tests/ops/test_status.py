"""What the console says of a stack's machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from hybridmesh.__main__ import app
from hybridmesh.ops import status, topology
from hybridmesh.ops.status import machine_status

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
MACHINE = {
    "workload": "echo",
    "namespace": "demo",
    "identity": "spiffe://cluster.local/ns/demo/sa/echo",
    "meshAddress": "10.0.0.11",
    "sidecarVersion": "1.31.0",
    "certificateExpiry": (datetime.now(UTC) + timedelta(hours=23, minutes=30)).isoformat(),
    "entry": "demo/echo-10.0.0.11",
}
TOPOLOGY: dict[str, Any] = {
    "cluster": {"name": "c1", "network": "n1", "kubeconfig": "kubeconfig", "context": None},
    "controlPlane": {
        "namespace": "istio-system", "revision": "default", "version": "1.31.0", "trustDomain": "cluster.local",
    },
    "gateway": {"name": "east-west", "address": "10.0.0.1"},
    "networks": {
        "far": {"direct": False, "gateways": ["gw-1"], "addresses": ["10.9.0.1:15443"]},
        "near": {"direct": True, "gateways": [], "addresses": []},
        "callers": {"direct": False, "gateways": [], "addresses": []},
    },
    "workloads": {
        "echo": {
            "pods": {"replicas": 2}, "machines": ["vm-1"], "host": "echo.demo.svc.cluster.local",
            "weights": {"k8s": 90, "vm": 10},
        }
    },
    "machines": {"vm-1": MACHINE},
}  # fmt: skip


def entry(*, healthy: str | None = "True", connected: bool = True) -> dict[str, Any]:
    conditions = [{"type": "Healthy", "status": healthy, "message": "status 503"}] if healthy else []
    annotations = {"istio.io/connectedAt": "2026-11-23T00:00:00Z"} if connected else {}
    return {"metadata": {"annotations": annotations}, "status": {"conditions": conditions}}


def states(acked: str = "1", proxy: str = "vm-1.demo") -> list[dict[str, Any]]:
    return [{"proxy": proxy, "resources": {kind: {"sent": "1", "acked": acked} for kind in (LISTENER, CLUSTER)}}]


class FakeCluster:
    """Answers what a machine that is in the mesh, or is not, makes the cluster say."""

    def __init__(self, found: Mapping[str, Any] | None) -> None:
        self.found = found

    def workload_entry(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        assert (namespace, name) == ("demo", "echo-10.0.0.11")
        return self.found

    def sync_states(self, namespace: str, revision: str, workload_namespace: str) -> Sequence[Mapping[str, Any]]:
        assert (namespace, revision, workload_namespace) == ("istio-system", "default", "demo")
        return states()


def test_a_machine_that_is_in_sync_and_healthy_is_good() -> None:
    assert machine_status("vm-1", MACHINE, entry(), states()).good


def test_a_machine_without_an_entry_is_not_connected() -> None:
    judged = machine_status("vm-1", MACHINE, None, states())
    assert not judged.good
    assert judged.sync == "not connected to istiod"


def test_a_type_that_is_not_acknowledged_is_named() -> None:
    judged = machine_status("vm-1", MACHINE, entry(), states(acked="0"))
    assert not judged.good
    assert "Listener" in judged.sync


def test_an_unhealthy_app_says_what_the_probe_said() -> None:
    judged = machine_status("vm-1", MACHINE, entry(healthy="False"), states())
    assert not judged.good
    assert judged.health == "status 503"


def test_a_machine_without_a_probe_is_good_and_called_unprobed() -> None:
    judged = machine_status("vm-1", MACHINE, entry(healthy=None), states())
    assert judged.good
    assert judged.health == "not probed"


def test_the_way_into_each_network_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "stack_topology", lambda _stack: TOPOLOGY)
    monkeypatch.setattr(status, "connect", lambda _properties: FakeCluster(entry()))
    shown = CliRunner().invoke(app, ["status"]).stdout.splitlines()
    for line in (
        "network   far: reached through gw-1 at 10.9.0.1:15443",
        "network   near: reached directly",
        "network   callers: its machines call, and are not called",
    ):
        assert line in shown


@pytest.mark.parametrize(("found", "code"), [(entry(), 0), (None, 1)])
def test_the_verb_shows_the_topology_and_ends_with_1_where_a_machine_is_out(
    monkeypatch: pytest.MonkeyPatch, found: Mapping[str, Any] | None, code: int
) -> None:
    monkeypatch.setattr(status, "stack_topology", lambda _stack: TOPOLOGY)
    monkeypatch.setattr(status, "connect", lambda _properties: FakeCluster(found))
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == code
    for word in ("vm-1", "spiffe://cluster.local/ns/demo/sa/echo", "23 h left", "k8s 90 %, vm 10 %", "10.0.0.1"):
        assert word in result.stdout


def test_without_pulumi_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(topology.StackError, match="install the Pulumi CLI"):
        topology.stack_topology("dev")
