"""Waiting for a ConfigMap that istiod writes."""

from typing import Any

import pytest

from hybridmesh.providers.awaited import AwaitedConfigMapProvider
from hybridmesh.providers.cluster import ClusterError
from tests.providers.fake_cluster import FakeCluster

INPUTS: dict[str, Any] = {
    "kubeconfig": "kubeconfig",
    "requestSeconds": 15.0,
    "namespace": "istio-system",
    "name": "istio-ca-root-cert",
    "key": "root-cert.pem",
    "limitSeconds": 30.0,
    "remedy": "Look at istiod's log.",
}


def test_it_gives_the_id_once_the_key_is_there(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, {}, {"root-cert.pem": ""}, {"root-cert.pem": "PEM"}])
    monkeypatch.setattr(cluster, "config_map", lambda *_: next(answers))
    made = AwaitedConfigMapProvider().create(dict(INPUTS))
    assert made.outs is not None
    assert made.outs["found"] == "istio-system/istio-ca-root-cert"


def test_it_gives_up_and_says_what_to_do(cluster: FakeCluster) -> None:
    expected = "there is no ConfigMap istio-system/istio-ca-root-cert after 30 s. Look at istiod's log."
    with pytest.raises(ClusterError, match=expected):
        AwaitedConfigMapProvider().create(dict(INPUTS))
    cluster.maps = {"istio-system/istio-ca-root-cert": {"other": "x"}}
    with pytest.raises(ClusterError, match=r"has no root-cert\.pem after 30 s"):
        AwaitedConfigMapProvider().update("id", {}, dict(INPUTS))


def test_another_name_is_waited_for_and_another_limit_is_not() -> None:
    state = {**INPUTS, "found": "istio-system/istio-ca-root-cert"}
    assert AwaitedConfigMapProvider().diff("id", state, {**INPUTS, "limitSeconds": 5.0}).changes is False
    assert AwaitedConfigMapProvider().diff("id", state, {**INPUTS, "name": "other"}).changes is True
