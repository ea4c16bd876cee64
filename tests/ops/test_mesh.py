"""What the mesh says of itself, and what it could not be asked."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime
from typing import Any

import pytest

from hybridmesh.ops import mesh
from hybridmesh.ops.mesh import Endpoint, endpoints_of, look
from hybridmesh.providers.cluster import Pod
from tests.ops.probed import ADDRESS, HOST, NOW, TOPOLOGY
from tests.providers.fake_cluster import FakeCluster

ISTIODS = "istio-system app=istiod,istio.io/rev in (default)"
GATEWAYS = "istio-system istio=eastwestgateway"
READY, STARTING = Pod("a", "10.0.0.1", True), Pod("b", "10.0.0.2", False)
BY_ADDRESS = {**TOPOLOGY, "gateway": {**TOPOLOGY["gateway"], "byAddress": True}}


@pytest.mark.parametrize(
    ("pods", "installed", "by_address"),
    [([READY, READY], 2, 2), ([STARTING], 0, 0), ([], 0, None)],
)
def test_of_a_gateway_adopted_by_its_address_pods_that_are_not_found_say_nothing(
    pods: list[Pod], installed: int, by_address: int | None
) -> None:
    cluster = FakeCluster(running={GATEWAYS: pods})
    assert look(TOPOLOGY, cluster).gateways == installed
    assert look(BY_ADDRESS, cluster).gateways == by_address


@pytest.mark.parametrize(
    ("selector", "pods", "count"),
    [({"app": "eastwest", "of": "me"}, [READY], 1), ({"app": "eastwest", "of": "me"}, [], 0), (None, [], None)],
)
def test_a_gateway_s_pods_are_those_that_its_service_selects(
    selector: dict[str, str] | None, pods: list[Pod], count: int | None
) -> None:
    cluster = FakeCluster(
        services={"istio-system/istio-eastwestgateway": {"spec": {"selector": selector}}},
        running={"istio-system app=eastwest,of=me": pods, GATEWAYS: [STARTING]},
    )
    assert look(TOPOLOGY, cluster).gateways == count


def test_istiods_are_counted_by_revision() -> None:
    two = {**TOPOLOGY, "controlPlane": {**TOPOLOGY["controlPlane"], "revisions": ["canary"]}}
    cluster = FakeCluster(running={ISTIODS.replace("default", "canary"): [READY, STARTING]})
    cluster.revisions = "default,canary"
    assert look(two, cluster).istiods == {"default": 0, "canary": 1}


def test_endpoints_that_no_istiod_could_be_asked_for_are_not_known() -> None:
    shards = {HOST: {"demo": {"Shards": {"a": [{"Addresses": [ADDRESS], "Labels": {"app": "echo"}}]}}}}
    page, pods = "istio-system/{}:15014/debug/endpointShardz", {ISTIODS: [READY, STARTING]}
    silent, one = FakeCluster(running=pods), FakeCluster(running=pods, pages={page.format("b"): json.dumps(shards)})
    nobody = FakeCluster(running=pods, pages={page.format("a"): "{}"})
    assert look(TOPOLOGY, silent).endpoints is None
    assert look(TOPOLOGY, one).endpoints == [
        Endpoint(service=HOST, address=ADDRESS, labels={"app": "echo"}, healthy=True)
    ]
    assert look(TOPOLOGY, nobody).endpoints == []


@pytest.mark.parametrize(("status", "healthy"), [(None, True), (1, True), (2, False), (3, False), (4, False)])
def test_an_endpoint_that_is_ill_or_leaves_is_not_healthy(status: int | None, healthy: bool) -> None:
    found = {"Addresses": [ADDRESS], **({} if status is None else {"HealthStatus": status})}
    shards = {HOST: {"demo": {"Shards": {"a": [found], "b": None}}}, "other": {"demo": {"Shards": {"a": [found]}}}}
    assert endpoints_of(shards, [HOST, "none"]) == [
        Endpoint(service=HOST, address=ADDRESS, labels={}, healthy=healthy)
    ], "only of the services that were asked for"


def test_policies_of_the_root_namespace_hold_in_each_once() -> None:
    def policies(*names: str) -> list[dict[str, Any]]:
        return [{"metadata": {"name": name}} for name in names]

    cluster = FakeCluster(
        custom={
            "demo/authorizationpolicies": policies("own"),
            "istio-system/authorizationpolicies": policies("everywhere"),
            "other/authorizationpolicies": policies("elsewhere"),
        }
    )
    assert look(TOPOLOGY, cluster).policies == {"demo": policies("own", "everywhere")}
    in_root = {name: {**machine, "namespace": "demo"} for name, machine in TOPOLOGY["machines"].items()}
    workloads = {**TOPOLOGY["workloads"], "other": {**TOPOLOGY["workloads"]["client"], "namespace": "istio-system"}}
    found = look({**TOPOLOGY, "machines": in_root, "workloads": workloads}, cluster)
    assert found.policies["istio-system"] == policies("everywhere")


def test_certificates_are_asked_for_within_one_limit_and_not_of_machines_that_told_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over, asked = threading.Event(), []

    def shown(machine: dict[str, Any], _workloads: object) -> datetime:
        asked.append(machine["name"])
        if machine["name"] not in ("vm-1", "vm-2"):
            over.wait(10)
        return NOW

    monkeypatch.setattr(mesh, "_shown_certificate", shown)
    monkeypatch.setattr(mesh, "SHOWN_SECONDS", 0.5)
    machines = {f"vm-{n}": {**TOPOLOGY["machines"]["vm-1"], "name": f"vm-{n}"} for n in range(60)}
    began = time.monotonic()
    try:
        found = mesh.shown_certificates({**TOPOLOGY, "machines": machines}, {}, ["vm-2"])
    finally:
        over.set()
    assert time.monotonic() - began < 5
    assert found == {"vm-1": NOW}
    assert "vm-2" not in asked


def test_the_stack_s_own_machines_are_asked_before_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(mesh, "_shown_certificate", lambda machine, _: asked.append(machine["entry"]))
    monkeypatch.setattr(mesh, "others", lambda *_: {f"fleet-{n}": {"entry": f"fleet-{n}"} for n in range(3)})
    mesh.shown_certificates(TOPOLOGY, {}, [])
    assert asked[0] == TOPOLOGY["machines"]["vm-1"]["entry"]
    assert len(asked) == 4
