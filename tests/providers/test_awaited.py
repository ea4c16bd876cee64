"""Waiting for what istiod and load balancers write, and seeing when it is another."""

from __future__ import annotations

from typing import Any

import pytest

from hybridmesh.providers.awaited import AwaitedAddressProvider, AwaitedConfigMapProvider
from hybridmesh.providers.cluster import ClusterError
from tests.providers.fake_cluster import FakeCluster
from tests.providers.unknown import unknown

ROOT: dict[str, Any] = {
    "kubeconfig": "kubeconfig",
    "requestSeconds": 15.0,
    "namespace": "istio-system",
    "name": "istio-ca-root-cert",
    "key": "root-cert.pem",
    "optional": False,
    "limitSeconds": 30.0,
    "adopted": False,
    "remedy": "Look at istiod's log.",
}
GATEWAY: dict[str, Any] = {
    "kubeconfig": "kubeconfig",
    "requestSeconds": 15.0,
    "namespace": "istio-system",
    "name": "gw",
    "service": "{}",
    "limitSeconds": 30.0,
    "adopted": False,
    "remedy": "Give it a load balancer.",
}


def service(*ingress: dict[str, str], kind: str = "LoadBalancer") -> dict[str, Any]:
    status = {"loadBalancer": {"ingress": list(ingress)} if ingress else {}}
    return {"spec": {"type": kind}, "status": status}


def test_it_gives_the_text_once_it_is_there(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, {}, {"root-cert.pem": ""}, {"root-cert.pem": "PEM"}])
    monkeypatch.setattr(cluster, "config_map", lambda *_: next(answers))
    made = AwaitedConfigMapProvider().create(dict(ROOT))
    assert made.id == "istio-system/istio-ca-root-cert"
    assert made.outs == {**ROOT, "found": "PEM"}


def test_it_gives_the_address_once_there_is_one(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, service(), service({"hostname": "lb.example.com"})])
    monkeypatch.setattr(cluster, "service", lambda *_: next(answers))
    made = AwaitedAddressProvider().create(dict(GATEWAY))
    assert made.outs is not None
    assert made.outs["found"] == "lb.example.com"


def test_an_ip_address_comes_before_a_host_name(cluster: FakeCluster) -> None:
    cluster.services = {"istio-system/gw": service({}, {"ip": "192.0.2.1", "hostname": "lb.example.com"})}
    assert AwaitedAddressProvider().update("id", {}, dict(GATEWAY)).outs == {**GATEWAY, "found": "192.0.2.1"}


ASKING = {**GATEWAY, "service": '{"annotations": {}, "loadBalancerIP": "192.0.2.9"}'}


def test_where_an_address_is_asked_for_the_one_of_before_is_not_taken_for_it(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = service({"ip": "192.0.2.1"}), service({"ip": "192.0.2.9"})
    for done in (
        lambda: AwaitedAddressProvider().update("id", {**GATEWAY, "found": "192.0.2.1"}, dict(ASKING)),
        lambda: AwaitedAddressProvider().create(dict(ASKING)),
    ):
        answers = iter([old, service(), old, new])
        monkeypatch.setattr(cluster, "service", lambda *_, answers=answers: next(answers))
        assert done().outs == {**ASKING, "found": "192.0.2.9"}


def test_a_load_balancer_that_gives_another_is_said_at_the_limit(cluster: FakeCluster) -> None:
    cluster.services = {"istio-system/gw": service({"ip": "192.0.2.1"})}
    with pytest.raises(
        ClusterError,
        match=r"has the address 192\.0\.2\.1, and its loadBalancerIP asks for 192\.0\.2\.9: .* after 30 s\. Give it",
    ):
        AwaitedAddressProvider().update("id", dict(GATEWAY), dict(ASKING))


def test_a_stack_whose_load_balancer_gives_another_since_long_goes_on(cluster: FakeCluster) -> None:
    cluster.services = {"istio-system/gw": service({"ip": "192.0.2.1"})}
    provider, state = AwaitedAddressProvider(), {**ASKING, "found": "192.0.2.1"}
    checked = provider.check(dict(ASKING), dict(ASKING))
    assert provider.diff("id", state, checked.inputs).changes is False
    assert provider.update("id", state, {**ASKING, "limitSeconds": 5.0}).outs is not None
    other = {**ASKING, "service": '{"annotations": {"a": "b"}, "loadBalancerIP": "192.0.2.9"}'}
    assert provider.update("id", state, other).outs == {**other, "found": "192.0.2.1"}


def test_the_address_that_is_asked_for_is_taken_from_among_several(cluster: FakeCluster) -> None:
    cluster.services = {"istio-system/gw": service({"ip": "192.0.2.1"}, {"ip": "2001:db8::9"})}
    asking = {**GATEWAY, "service": '{"loadBalancerIP": "2001:DB8:0::9"}'}
    assert AwaitedAddressProvider().create(asking).outs == {**asking, "found": "2001:db8::9"}


def test_it_gives_up_and_says_what_to_do(cluster: FakeCluster) -> None:
    expected = "there is no ConfigMap istio-system/istio-ca-root-cert after 30 s. Look at istiod's log."
    with pytest.raises(ClusterError, match=expected):
        AwaitedConfigMapProvider().create(dict(ROOT))
    cluster.maps = {"istio-system/istio-ca-root-cert": {"other": "x"}}
    with pytest.raises(ClusterError, match=r"has no root-cert\.pem after 30 s"):
        AwaitedConfigMapProvider().update("id", {}, dict(ROOT))
    cluster.services = {"istio-system/gw": service()}
    with pytest.raises(ClusterError, match=r"Service istio-system/gw has no address after 30 s\. Give it a load"):
        AwaitedAddressProvider().create(dict(GATEWAY))


def test_a_service_that_never_has_an_address_is_not_waited_for(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.services = {"istio-system/gw": service(kind="ClusterIP")}
    monkeypatch.setattr("hybridmesh.providers.awaited.wait_until", lambda holds, _seconds: holds())
    with pytest.raises(ClusterError, match=r"gw is of type ClusterIP, .* Give it a load balancer\."):
        AwaitedAddressProvider().create(dict(GATEWAY))


def test_each_run_sees_whether_it_is_another(cluster: FakeCluster) -> None:
    provider, state = AwaitedConfigMapProvider(), {**ROOT, "found": "PEM"}

    def changes() -> bool | None:
        checked = provider.check(dict(ROOT), dict(ROOT))
        assert not checked.failures
        return provider.diff("id", state, checked.inputs).changes

    cluster.maps = {"istio-system/istio-ca-root-cert": {"root-cert.pem": "PEM"}}
    assert changes() is False
    cluster.maps = {"istio-system/istio-ca-root-cert": {"root-cert.pem": "ANOTHER"}}
    assert changes() is True
    cluster.maps = {}
    assert changes() is True, "the next update waits for it"


def test_another_name_is_waited_for_and_another_limit_is_not() -> None:
    waiting = (
        (AwaitedConfigMapProvider(), {**ROOT, "found": "PEM"}, ("namespace", "name", "key")),
        (AwaitedAddressProvider(), {**GATEWAY, "found": "192.0.2.1"}, ("namespace", "name", "service")),
    )
    for provider, state, keys in waiting:
        assert provider.diff("id", state, {**state, "limitSeconds": 5.0}).changes is False
        for key in keys:
            assert provider.diff("id", state, {**state, key: "other"}).changes is True, key
            assert provider.check(state, {**state, key: "other", "found": None}).inputs["found"] is None, "not known"


def test_an_address_is_another_where_something_else_is_asked_of_the_service(cluster: FakeCluster) -> None:
    cluster.services = {"istio-system/gw": service({"ip": "192.0.2.1"})}
    provider, state = AwaitedAddressProvider(), {**GATEWAY, "found": "192.0.2.1"}
    for asked, expected in (("{}", False), ('{"type": "LoadBalancer"}', True)):
        checked = provider.check(dict(GATEWAY), {**GATEWAY, "service": asked})
        assert provider.diff("id", state, checked.inputs).changes is expected
        assert ("found" not in checked.inputs) is expected, "a preview takes it for what will be"


def test_a_state_of_before_has_the_name_for_what_was_found(cluster: FakeCluster) -> None:
    cluster.maps = {"istio-system/istio-ca-root-cert": {"root-cert.pem": "PEM"}}
    checked = AwaitedConfigMapProvider().check(dict(ROOT), dict(ROOT))
    state = {**ROOT, "found": "istio-system/istio-ca-root-cert"}
    assert AwaitedConfigMapProvider().diff("id", state, checked.inputs).changes is True


@pytest.mark.parametrize("olds", [{}, dict(GATEWAY)], ids=["nothing found yet", "where to look is not known"])
def test_it_does_not_look_where_there_is_nothing_to_compare_with(
    olds: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybridmesh.providers.awaited.connect", lambda _: pytest.fail("it looked"))
    news = {**GATEWAY, "namespace": unknown()} if olds else dict(GATEWAY)
    checked = AwaitedAddressProvider().check(olds, news)
    assert checked.inputs == news
    if olds:
        state = {**GATEWAY, "found": "192.0.2.1"}
        assert AwaitedAddressProvider().diff("id", state, checked.inputs).changes is True, "as unknown as its release"


ADOPTED = {"adopted": True, "limitSeconds": 0.0}


def test_what_is_adopted_is_looked_at_in_a_first_preview_and_must_be_there(cluster: FakeCluster) -> None:
    gateway, root = AwaitedAddressProvider(), AwaitedConfigMapProvider()
    (refusal,) = gateway.check({}, {**GATEWAY, **ADOPTED}).failures
    assert (refusal.property, refusal.reason) == (
        "name",
        "there is no Service istio-system/gw. Give it a load balancer.",
    )
    (refusal,) = root.check({}, {**ROOT, **ADOPTED}).failures
    assert refusal.reason == "there is no ConfigMap istio-system/istio-ca-root-cert. Look at istiod's log."
    cluster.services = {"istio-system/gw": service({"ip": "192.0.2.1"})}
    checked = gateway.check({}, {**GATEWAY, **ADOPTED})
    assert (checked.failures, checked.inputs["found"]) == ([], "192.0.2.1")
    assert gateway.create(checked.inputs).outs == checked.inputs, "and is there at once"


@pytest.mark.usefixtures("cluster")
def test_what_went_meanwhile_is_said_without_a_wait() -> None:
    with pytest.raises(ClusterError, match=r"there is no Service istio-system/gw\. Give it a load balancer\."):
        AwaitedAddressProvider().update("id", {}, {**GATEWAY, **ADOPTED})


def test_a_key_that_may_be_missing_is_empty(cluster: FakeCluster) -> None:
    optional = {**ROOT, **ADOPTED, "optional": True}
    cluster.maps = {"istio-system/istio-ca-root-cert": {}}
    assert AwaitedConfigMapProvider().check({}, optional).inputs["found"] == ""
    (refusal,) = AwaitedConfigMapProvider().check({}, {**optional, "optional": False}).failures
    assert "has no root-cert.pem" in refusal.reason
    cluster.maps = {}
    assert AwaitedConfigMapProvider().check({}, optional).failures
