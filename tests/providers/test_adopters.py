"""An istiod that others use is not taken away."""

from typing import Any

import pytest

from hybridmesh.providers.adopters import AdoptersProvider
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
    cluster.namespaces = {"istio-injection=enabled": ["demo", "istio-system"]}
    AdoptersProvider().delete("id", dict(STATE))


def test_with_others_it_is_refused_by_their_names(cluster: FakeCluster) -> None:
    cluster.namespaces = {"istio-injection=enabled": ["shop", "demo", "demo-pr-7"]}
    with pytest.raises(ClusterError) as refused:
        AdoptersProvider().delete("id", dict(STATE))
    said = str(refused.value)
    assert "not this stack's: demo-pr-7, shop." in said
    assert "Nothing was removed. Fix: " in said
    assert "kubectl label namespace demo-pr-7 istio-injection- istio.io/rev-`" in said


def test_machines_of_others_are_counted_whatever_labels_their_namespace_has(cluster: FakeCluster) -> None:
    cluster.deployments = ["istio-system/istiod", "istio-system/istiod-v1-32"]
    cluster.custom = {f"{name}/workloadgroups": [{}, {}] for name in ("demo", "legacy", "shop")}
    cluster.namespaces = {"istio-injection=enabled": ["demo", "shop"]}
    state = {**STATE, "revisions": ["v1-32"]}
    with pytest.raises(ClusterError) as refused:
        AdoptersProvider().delete("id", dict(state))
    said = str(refused.value)
    assert "not this stack's: legacy, shop." in said
    assert (
        "label namespace shop istio-injection- istio.io/rev-` and `kubectl delete workloadgroups --all -n legacy`"
        in said
    )
    cluster.namespaces = {}
    with pytest.raises(ClusterError, match=r"nobody needs, `kubectl delete workloadgroups --all -n legacy`\."):
        AdoptersProvider().delete("id", {**state, "own": ["demo", "shop"]})
    AdoptersProvider().delete("id", {**state, "own": ["demo", "shop", "legacy"]})


def test_machines_are_not_counted_where_they_may_follow_an_istiod_of_others(cluster: FakeCluster) -> None:
    cluster.deployments = ["istio-system/istiod", "elsewhere/istiod"]
    cluster.custom = {"legacy/workloadgroups": [{}]}
    AdoptersProvider().delete("id", dict(STATE))


def test_another_revision_s_namespaces_are_not_its_concern(cluster: FakeCluster) -> None:
    cluster.namespaces = {"istio-injection=enabled": ["shop"], "istio.io/rev=canary": ["demo"]}
    AdoptersProvider().delete("id", {**STATE, "revision": "canary"})
    cluster.namespaces["istio.io/rev=canary"].append("b")
    with pytest.raises(ClusterError, match="not this stack's: b"):
        AdoptersProvider().delete("id", {**STATE, "revision": "canary"})


def test_those_that_follow_the_first_istiod_by_its_revision_are_counted(cluster: FakeCluster) -> None:
    cluster.namespaces = {"istio-injection=enabled": ["demo"], "istio.io/rev=default": ["demo", "shop"]}
    with pytest.raises(ClusterError, match="not this stack's: shop"):
        AdoptersProvider().delete("id", dict(STATE))


def test_those_that_follow_an_istiod_beside_the_first_are_counted(cluster: FakeCluster) -> None:
    cluster.namespaces = {"istio.io/rev=v1-31": ["shop"], "istio.io/rev=v1-32": ["canteen"]}
    AdoptersProvider().delete("id", dict(STATE))
    more = {**STATE, "revisions": ["v1-31", "v1-32"]}
    assert AdoptersProvider().diff("id", dict(STATE), more).changes is True
    with pytest.raises(ClusterError, match="not this stack's: canteen, shop"):
        AdoptersProvider().delete("id", more)


def test_those_that_follow_an_istiod_by_a_tag_are_counted(cluster: FakeCluster) -> None:
    state = {**STATE, "revision": "v1-31"}
    cluster.namespaces = {"istio.io/rev=prod": ["shop"], "istio-injection=enabled": ["canteen"]}
    cluster.tags = {"prod": "v1-30", "test": "v1-31"}
    AdoptersProvider().delete("id", dict(state))
    cluster.tags = {"prod": "v1-31", "default": "v1-31"}
    with pytest.raises(ClusterError, match="not this stack's: canteen, shop"):
        AdoptersProvider().delete("id", dict(state))
    with pytest.raises(ClusterError, match=r"namespace canteen istio-injection- istio\.io/rev=v1-32`"):
        AdoptersProvider().update("id", state, {**state, "revision": "v1-32"})


def test_an_istiod_beside_the_first_stays_while_others_follow_it(cluster: FakeCluster) -> None:
    following = ["canteen", "demo", "istio-system", "leaving"]
    cluster.namespaces = {"istio.io/rev=v1-32": following, "istio.io/rev=v1-31": ["shop"]}
    both = {**STATE, "own": ["demo", "leaving"], "revisions": ["v1-31", "v1-32"]}
    less = {**STATE, "revisions": ["v1-31"]}
    with pytest.raises(ClusterError) as refused:
        AdoptersProvider().update("id", both, less)
    said = str(refused.value)
    assert "istiod of revision v1-32 in istio-system is not in the settings any more" in said
    assert "not this stack's: canteen." in said
    assert "`kubectl label --overwrite namespace canteen istio.io/rev=default`" in said
    assert "or put v1-32 back" in said
    cluster.namespaces["istio.io/rev=v1-32"] = ["demo"]
    assert AdoptersProvider().update("id", both, {**less, "own": ["demo", "leaving"]}).outs == {
        **less,
        "own": ["demo", "leaving"],
    }


NAMESPACE = "namespaces.demo.existing: true"
ADOPT = "controlPlane.mode: adopt"
MADE = {**STATE, "resources": {"istiod": ["urn:istiod"], "namespace demo": ["urn:demo", "urn:peers"]}}


def test_what_the_stack_has_made_and_is_somebody_else_s_by_now_is_not_removed() -> None:
    given = {
        **STATE,
        "resources": {"istiod": ["urn:istiod"]},
        "others": {"namespace demo": NAMESPACE},
        "itself": "urn:",
    }
    assert AdoptersProvider().diff("id", MADE, given).changes is True
    with pytest.raises(ClusterError) as refused:
        AdoptersProvider().update("id", MADE, given)
    said = str(refused.value)
    assert "`namespaces.demo.existing: true` says that namespace demo is not this stack's, which has made it" in said
    assert "All that is in it would go with it. Nothing was removed. Fix: " in said
    assert "`pulumi state delete 'urn:' 'urn:demo' 'urn:peers'`" in said
    assert AdoptersProvider().update("id", given, {**given, "own": ["demo", "shop"]}).outs


def test_what_the_stack_has_under_the_same_setting_still_may_stay() -> None:
    gateway = {"gateway istio-eastwestgateway": "gateway.mode: adopt"}
    AdoptersProvider().update("id", MADE, {**MADE, "others": gateway})


def test_an_istiod_that_an_earlier_version_installed_is_not_removed() -> None:
    with pytest.raises(ClusterError, match=r"`controlPlane.mode: adopt` says .* Fix: put the setting back"):
        AdoptersProvider().update("id", STATE, {**STATE, "resources": {}, "others": {"istiod": ADOPT}})


def test_an_istiod_that_this_version_installed_is_handed_over() -> None:
    given = {**MADE, "resources": {}, "others": {"istiod": ADOPT}, "itself": "urn:"}
    with pytest.raises(ClusterError, match=r"Its CRDs would go with it.*`pulumi state delete 'urn:' 'urn:istiod'`"):
        AdoptersProvider().update("id", MADE, given)


def test_of_what_an_earlier_version_made_beside_istiod_nothing_is_noted() -> None:
    given = {**STATE, "resources": {}, "others": {"namespace demo": NAMESPACE}}
    assert AdoptersProvider().update("id", STATE, given).outs == given


def test_an_adopted_istiod_may_be_used_by_others(cluster: FakeCluster) -> None:
    cluster.namespaces = {"istio-injection=enabled": ["shop"], "istio.io/rev=canary": []}
    adopted = {**STATE, "resources": {}, "others": {"istiod": ADOPT}}
    AdoptersProvider().delete("id", adopted)
    AdoptersProvider().update("id", adopted, {**adopted, "revision": "canary", "own": []})


def test_one_that_follows_the_first_istiod_by_injection_is_told_to_do_so_no_more(cluster: FakeCluster) -> None:
    cluster.namespaces = {"istio-injection=enabled": ["canteen"]}
    with pytest.raises(ClusterError, match=r"namespace canteen istio-injection- istio\.io/rev=v1-31`"):
        AdoptersProvider().update("id", dict(STATE), {**STATE, "revision": "v1-31"})


def test_a_new_namespace_of_ours_is_noted_and_nobody_asked() -> None:
    provider = AdoptersProvider()
    assert provider.diff("id", dict(STATE), dict(STATE)).changes is False
    for key in ("kubeconfig", "context", "requestSeconds", "namespace", "revision", "resources", "others"):
        assert provider.diff("id", dict(STATE), {**STATE, key: "other"}).changes is True, f"a destroy goes by its {key}"
    more = {**STATE, "own": ["demo", "shop"]}
    assert provider.diff("id", dict(STATE), more).changes is True
    assert provider.update("id", dict(STATE), more).outs == more


def test_one_that_was_to_go_and_is_still_there_is_ours_until_it_is_somebody_else_s(cluster: FakeCluster) -> None:
    cluster.namespaces = {"istio-injection=enabled": ["demo", "shop"]}
    provider, less = AdoptersProvider(), dict(STATE)
    state = provider.update("id", {**STATE, "own": ["demo", "shop", "gone"]}, less).outs
    assert state == {**less, "going": {"shop": "shop-1"}}
    assert provider.diff("id", state, less).changes is False
    assert provider.update("id", state, less).outs == state, "nor is it by another update"
    provider.delete("id", state)
    with pytest.raises(ClusterError, match="not this stack's: shop"):
        provider.delete("id", {**state, "going": {"shop": "of another age"}})
    cluster.namespaces = {"istio-injection=enabled": ["demo"]}
    assert provider.update("id", state, less).outs == less
