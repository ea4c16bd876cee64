"""An istiod that others use is not taken away."""

from typing import Any

import pytest

from hybridmesh.providers.adopters import AdoptersProvider, adopters
from hybridmesh.providers.cluster import ClusterError
from tests.providers.fake_cluster import FakeCluster

STATE: dict[str, Any] = {
    "kubeconfig": "kubeconfig",
    "requestSeconds": 15.0,
    "namespace": "istio-system",
    "revision": "default",
    "own": ["demo"],
}


def test_alone_it_goes(cluster: FakeCluster) -> None:
    cluster.namespaces = {"istio-injection=enabled": ["demo"]}
    AdoptersProvider().delete("id", dict(STATE))


def test_with_others_it_is_refused_by_their_names(cluster: FakeCluster) -> None:
    cluster.namespaces = {"istio-injection=enabled": ["shop", "demo", "demo-pr-7"]}
    with pytest.raises(ClusterError) as refused:
        AdoptersProvider().delete("id", dict(STATE))
    said = str(refused.value)
    assert "not this stack's: demo-pr-7, shop." in said
    assert "Nothing was removed. Fix: " in said
    assert "kubectl label namespace demo-pr-7 istio-injection-" in said


def test_another_revision_s_namespaces_are_not_its_concern(cluster: FakeCluster) -> None:
    cluster.namespaces = {"istio-injection=enabled": ["shop"], "istio.io/rev=canary": ["a", "b"]}
    assert adopters(cluster, "canary", ["a"]) == ["b"]


def test_a_new_namespace_of_ours_is_noted() -> None:
    provider = AdoptersProvider()
    assert provider.diff("id", dict(STATE), dict(STATE)).changes is False
    assert provider.diff("id", dict(STATE), {**STATE, "own": ["demo", "shop"]}).changes is True
    assert provider.update("id", dict(STATE), {**STATE, "own": ["shop"]}).outs == {**STATE, "own": ["shop"]}
