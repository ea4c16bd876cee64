"""What is removed after Istio, and what is not ours to remove."""

from typing import Any

import pytest

from hybridmesh.providers.remains import IstioRemainsProvider
from tests.providers.fake_cluster import FakeCluster

INPUTS: dict[str, Any] = {
    "kubeconfig": "kubeconfig",
    "requestSeconds": 15.0,
    "namespace": "istio-system",
    "baseRelease": "istio-base",
    "trustDomain": "cluster.local",
    "cleanupSeconds": 60.0,
}
STATE = {**INPUTS, "crdsBefore": [], "configMapsBefore": []}
GATEWAYS = "gateways.networking.istio.io"
ENTRIES = "workloadentries.networking.istio.io"


def crd(name: str, release: str = "istio-base", namespace: str = "istio-system") -> dict[str, Any]:
    annotations = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace}
    return {"metadata": {"name": name, "annotations": annotations}}


@pytest.fixture
def left(cluster: FakeCluster) -> FakeCluster:
    """A cluster as Helm leaves it."""
    cluster.crds = [crd(GATEWAYS), crd(ENTRIES)]
    cluster.labelled = [("default", "istio-ca-root-cert"), ("kube-system", "istio-ca-root-cert")]
    return cluster


def test_what_istio_left_is_removed(left: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    IstioRemainsProvider().delete("id", dict(STATE))
    assert left.done == [
        f"delete crd {GATEWAYS}",
        f"delete crd {ENTRIES}",
        "delete map default/istio-ca-root-cert",
        "delete map kube-system/istio-ca-root-cert",
    ]
    assert capsys.readouterr().out == ""


def test_everything_is_kept_while_another_istiod_runs(left: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    left.deployments = ["other-system/istiod-canary"]
    IstioRemainsProvider().delete("id", dict(STATE))
    assert left.done == []
    assert "are kept: istiod still runs as other-system/istiod-canary" in capsys.readouterr().out


def test_everything_is_kept_while_somebody_has_an_istio_object(
    left: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    left.objects = {GATEWAYS: ["Gateway shop/front"]}
    IstioRemainsProvider().delete("id", dict(STATE))
    assert left.done == []
    said = capsys.readouterr().out
    assert "Gateway shop/front would be lost" in said
    assert f"kubectl delete crd {GATEWAYS} {ENTRIES}" in said
    left.objects = {GATEWAYS: [f"Gateway shop/front-{n}" for n in range(12)]}
    IstioRemainsProvider().delete("id", dict(STATE))
    assert "Gateway shop/front-9 and 2 more would be lost" in capsys.readouterr().out


def test_it_waits_for_kubernetes_to_collect_entries(left: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([["WorkloadEntry demo/echo-1"], ["WorkloadEntry demo/echo-1"]])
    monkeypatch.setattr(left, "objects_of", lambda crd: next(answers, []) if crd["metadata"]["name"] == ENTRIES else [])
    IstioRemainsProvider().delete("id", dict(STATE))
    assert f"delete crd {ENTRIES}" in left.done


def test_what_was_there_before_stays(left: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    state = {**STATE, "crdsBefore": [GATEWAYS], "configMapsBefore": ["default/istio-ca-root-cert"]}
    IstioRemainsProvider().delete("id", state)
    assert left.done == [f"delete crd {ENTRIES}", "delete map kube-system/istio-ca-root-cert"]
    assert f"CRD {GATEWAYS} is kept: it was there before this stack." in capsys.readouterr().out


def test_crds_that_another_release_brought_stay(left: FakeCluster) -> None:
    left.crds = [crd(GATEWAYS, release="somebody"), crd(ENTRIES, namespace="elsewhere")]
    IstioRemainsProvider().delete("id", dict(STATE))
    assert [action for action in left.done if "crd" in action] == []


def test_it_notes_what_is_there_at_first_and_never_again(left: FakeCluster) -> None:
    made = IstioRemainsProvider().create(dict(INPUTS))
    assert made.outs is not None
    assert made.outs["crdsBefore"] == [GATEWAYS, ENTRIES]
    assert made.outs["configMapsBefore"] == ["default/istio-ca-root-cert", "kube-system/istio-ca-root-cert"]
    left.crds = []
    updated = IstioRemainsProvider().update("id", made.outs, {**INPUTS, "cleanupSeconds": 5.0})
    assert updated.outs is not None
    assert (updated.outs["crdsBefore"], updated.outs["cleanupSeconds"]) == ([GATEWAYS, ENTRIES], 5.0)


def test_nothing_new_is_no_change() -> None:
    assert IstioRemainsProvider().diff("id", dict(STATE), dict(INPUTS)).changes is False
    for key in INPUTS:
        news = {**INPUTS, key: "other"}
        assert IstioRemainsProvider().diff("id", dict(STATE), news).changes is True, f"a destroy goes by its {key}"


def refused(news: dict[str, Any], olds: dict[str, Any]) -> list[str]:
    return [failure.reason for failure in IstioRemainsProvider().check(olds, {**INPUTS, **news}).failures]


def test_istio_does_not_move_to_another_namespace() -> None:
    assert refused({"namespace": "mesh"}, {}) == [], "it is not there yet"
    (said,) = refused({"namespace": "mesh"}, INPUTS)
    assert "controlPlane.namespace = mesh: this stack has installed Istio in istio-system" in said
    assert "half-way" in said
    assert "Fix: put it back" in said


def test_a_trust_domain_stays_for_istiod_would_let_no_vm_of_the_old_one_in() -> None:
    assert refused({"trustDomain": "corp.example"}, {}) == [], "nobody has a certificate yet"
    (said,) = refused({"trustDomain": "corp.example"}, INPUTS)
    assert "controlPlane.trustDomain = corp.example: the certificates of VMs are for cluster.local" in said
    assert "Fix: put it back" in said


def test_the_trust_domain_of_a_state_that_knows_none_is_noted() -> None:
    olds = {key: value for key, value in INPUTS.items() if key != "trustDomain"}
    assert refused({"trustDomain": "corp.example"}, olds) == []
    assert IstioRemainsProvider().diff("id", olds, dict(INPUTS)).changes is True
