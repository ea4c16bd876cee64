"""What the mesh says of itself, and what it could not be asked."""

from __future__ import annotations

import pytest

from hybridmesh.ops.mesh import look
from hybridmesh.providers.cluster import Pod
from tests.ops.probed import TOPOLOGY
from tests.providers.fake_cluster import FakeCluster

ISTIODS = "istio-system app=istiod,istio.io/rev in (default)"
GATEWAYS = "istio-system istio=eastwestgateway"
READY, STARTING = Pod("a", "10.0.0.1", True), Pod("b", "10.0.0.2", False)
BY_ADDRESS = {**TOPOLOGY, "gateway": {**TOPOLOGY["gateway"], "byAddress": True}}


@pytest.fixture(autouse=True)
def _nobody_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridmesh.ops.mesh._shown_certificate", lambda *_: None)


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
