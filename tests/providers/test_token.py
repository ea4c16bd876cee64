"""The token: when a new one is minted, and when Kubernetes is only asked."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from hybridmesh.providers.token import IstioTokenProvider
from tests.providers.conftest import Clock
from tests.providers.fake_cluster import FakeCluster, entry
from tests.providers.unknown import unknown

INPUTS: dict[str, Any] = {
    "kubeconfig": "kubeconfig",
    "context": None,
    "requestSeconds": 15.0,
    "machine": "vm-1",
    "connection": {
        "address": "192.0.2.11",
        "port": 22.0,
        "user": "admin",
        "hostKey": "ssh-ed25519 AAAA",
        "privateKey": "KEY",
        "passphrase": None,
        "bastion": None,
    },
    "dialSeconds": 15.0,
    "dialAttempts": 4.0,
    "scripts": "0" * 64,
    "namespace": "demo",
    "serviceAccount": "echo",
    "entry": "echo-192.0.2.11",
    "expirationSeconds": 3600.0,
    "identity": "spiffe://cluster.local/ns/demo/sa/echo",
    "trust": "root",
}
STATE = {**INPUTS, "token": "token-0", "expires": "2020-01-01T00:00:00Z", "drift": [], "repair": ""}
MEMBER = {"demo/echo-192.0.2.11": entry(healthy=True)}


def changes(news: dict[str, Any], olds: dict[str, Any] = STATE) -> bool | None:
    return IstioTokenProvider().diff("id", olds, news).changes


def test_a_token_is_for_istiod_and_for_one_service_account(cluster: FakeCluster) -> None:
    made = IstioTokenProvider().create(dict(INPUTS))
    assert cluster.done == ["bring scripts to vm-1", "mint demo/echo for istio-ca, 3600 s"]
    assert made.outs is not None
    assert made.outs["token"] == "token-1"
    assert "token-1" not in made.id


def test_a_member_keeps_its_token_even_if_it_has_expired(cluster: FakeCluster) -> None:
    cluster.entries = dict(MEMBER)
    assert changes(dict(INPUTS)) is False
    assert cluster.done == []


def test_a_machine_without_an_entry_gets_a_new_token(cluster: FakeCluster) -> None:
    cluster.entries = {}
    assert changes(dict(INPUTS)) is True
    updated = IstioTokenProvider().update("id", dict(STATE), dict(INPUTS))
    assert updated.outs is not None
    assert updated.outs["token"] == "token-1"
    assert cluster.done == ["bring scripts to vm-1", "mint demo/echo for istio-ca, 3600 s"]


def test_other_scripts_are_brought_to_a_member_which_keeps_its_token(cluster: FakeCluster) -> None:
    cluster.entries = dict(MEMBER)
    news = {**INPUTS, "scripts": "1" * 64}
    assert changes(news) is True
    updated = IstioTokenProvider().update("id", dict(STATE), news)
    assert updated.outs == {**STATE, "scripts": "1" * 64}
    assert cluster.done == ["bring scripts to vm-1"]


def test_a_machine_that_istiod_has_lost_gets_a_new_token(cluster: FakeCluster) -> None:
    cluster.entries = {"demo/echo-192.0.2.11": entry(connected=False)}
    assert changes(dict(INPUTS)) is True


def test_a_machine_whose_health_istiod_has_lost_connects_anew_by_a_new_token(cluster: FakeCluster) -> None:
    silent = entry()
    silent["metadata"]["annotations"]["istio.io/autoRegistrationGroup"] = "echo"
    cluster.entries = {"demo/echo-192.0.2.11": silent}
    cluster.custom = {"demo/workloadgroups": [{"metadata": {"name": "echo"}, "spec": {"probe": {}}}]}
    assert changes(dict(INPUTS)) is True
    IstioTokenProvider().update("id", dict(STATE), dict(INPUTS))
    assert cluster.done == ["bring scripts to vm-1", "mint demo/echo for istio-ca, 3600 s"]


def test_a_machine_that_connected_a_moment_ago_keeps_its_token_for_its_probe_may_not_have_answered(
    cluster: FakeCluster,
) -> None:
    fresh = entry()
    fresh["metadata"]["annotations"] |= {
        "istio.io/autoRegistrationGroup": "echo",
        "istio.io/connectedAt": datetime.now(UTC).isoformat(),
    }
    cluster.entries = {"demo/echo-192.0.2.11": fresh}
    cluster.custom = {"demo/workloadgroups": [{"metadata": {"name": "echo"}, "spec": {"probe": {}}}]}
    assert changes(dict(INPUTS)) is False


def test_nothing_is_concluded_from_the_silence_of_an_entry_whose_probe_is_not_known(cluster: FakeCluster) -> None:
    cluster.entries = {"demo/echo-192.0.2.11": entry()}
    assert changes(dict(INPUTS)) is False, "a static entry"
    cluster.entries["demo/echo-192.0.2.11"]["metadata"]["annotations"]["istio.io/autoRegistrationGroup"] = "gone"
    assert changes(dict(INPUTS)) is False


def test_the_groups_are_not_asked_for_where_an_entry_says_enough(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    unprobed, heard = entry(), entry(healthy=True)
    del unprobed["metadata"]["annotations"]["proxy.istio.io/health-checks-enabled"]
    monkeypatch.setattr(cluster, "objects_in", lambda *_: pytest.fail("a request for each VM of each run"))
    for known in (unprobed, heard):
        known["metadata"]["annotations"]["istio.io/autoRegistrationGroup"] = "echo"
        cluster.entries = {"demo/echo-192.0.2.11": known}
        assert changes(dict(INPUTS)) is False


def test_an_entry_that_is_going_counts_as_gone(cluster: FakeCluster) -> None:
    going = entry(healthy=True)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster.entries = {"demo/echo-192.0.2.11": going}
    assert changes(dict(INPUTS)) is True


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("namespace", "shop"),
        ("serviceAccount", "other"),
        ("entry", "echo-192.0.2.12"),
        ("identity", "spiffe://corp.example/ns/demo/sa/echo"),
        ("trust", "another root"),
    ],
)
def test_another_identity_or_entry_takes_a_new_token(cluster: FakeCluster, key: str, value: object) -> None:
    cluster.entries = {**MEMBER, "demo/echo-192.0.2.12": entry(healthy=True)}
    news = {**INPUTS, key: value}
    assert changes(news) is True
    updated = IstioTokenProvider().update("id", dict(STATE), news)
    assert updated.outs is not None
    assert updated.outs["token"] == "token-1"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kubeconfig", "elsewhere"),
        ("context", "other"),
        ("requestSeconds", 9.0),
        ("connection", {**INPUTS["connection"], "port": 2222.0}),
        ("dialSeconds", 9.0),
        ("dialAttempts", 9.0),
        ("expirationSeconds", 600.0),
    ],
)
def test_another_way_to_cluster_or_machine_or_lifetime_is_noted_and_keeps_the_token(
    cluster: FakeCluster, key: str, value: object
) -> None:
    cluster.entries = dict(MEMBER)
    news = {**INPUTS, key: value}
    assert changes(news) is True
    updated = IstioTokenProvider().update("id", dict(STATE), news)
    assert updated.outs is not None
    assert (updated.outs["token"], updated.outs[key]) == ("token-0", value)
    assert cluster.done == []


@pytest.mark.parametrize(
    "unknown",
    [
        ("trust",),
        ("identity",),
        ("machine", "connection", "dialSeconds", "drift", "repair"),
        ("scripts", "dialAttempts"),
    ],
)
def test_a_token_of_a_state_that_knows_less_is_kept(cluster: FakeCluster, unknown: tuple[str, ...]) -> None:
    cluster.entries = dict(MEMBER)
    olds = {key: value for key, value in STATE.items() if key not in unknown}
    updated = IstioTokenProvider().update("id", olds, dict(INPUTS))
    assert updated.outs is not None
    assert updated.outs["token"] == "token-0"


def test_an_entry_not_known_yet_is_asked_nobody(cluster: FakeCluster) -> None:
    cluster.entries = dict(MEMBER)
    assert changes({**INPUTS, "entry": unknown()}) is True


def test_an_absent_context_is_no_change(cluster: FakeCluster) -> None:
    cluster.entries = dict(MEMBER)
    news = {key: value for key, value in INPUTS.items() if key != "context"}
    assert changes(news) is False


ADDRESSES = [f"192.0.2.{number}" for number in range(11, 31)]


@pytest.fixture
def many(cluster: FakeCluster) -> FakeCluster:
    cluster.entries = {f"demo/echo-{address}": entry(healthy=True) for address in ADDRESSES}
    return cluster


def asked(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of entries from now on, each request by what it is about."""
    requests: list[str] = []
    one, all_ = cluster.workload_entry, cluster.workload_entries

    def ask_for_one(namespace: str, name: str) -> Mapping[str, Any] | None:
        requests.append(name)
        return one(namespace, name)

    def ask_for_all(namespace: str, at_most: int) -> Mapping[str, Mapping[str, Any]]:
        requests.append(namespace)
        return all_(namespace, at_most)

    monkeypatch.setattr(cluster, "workload_entry", ask_for_one)
    monkeypatch.setattr(cluster, "workload_entries", ask_for_all)
    return requests


def changed_ones() -> list[str]:
    return [address for address in ADDRESSES if changes({**INPUTS, "entry": f"echo-{address}"}, _state_of(address))]


def _state_of(address: str) -> dict[str, Any]:
    return {**STATE, "entry": f"echo-{address}"}


def test_one_request_serves_all_machines_of_a_namespace(many: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = asked(many, monkeypatch)
    assert changed_ones() == []
    assert requests == ["demo"]


def test_what_is_known_of_machines_is_five_seconds_old_at_most(many: FakeCluster, clock: Clock) -> None:
    assert changed_ones() == []
    many.entries["demo/echo-192.0.2.20"] = entry(connected=False)
    clock.sleep(5)
    assert changed_ones() == ["192.0.2.20"]


def test_a_machine_that_is_not_told_of_is_asked_for_by_itself(
    many: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybridmesh.providers.entries._AT_MOST", len(ADDRESSES) - 1)
    requests = asked(many, monkeypatch)
    assert changed_ones() == []
    assert requests == ["demo", f"echo-{ADDRESSES[-1]}"]


def test_a_machine_that_has_come_back_meanwhile_keeps_its_token(many: FakeCluster) -> None:
    many.entries["demo/echo-192.0.2.20"] = entry(connected=False)
    assert changed_ones() == ["192.0.2.20"]
    many.entries["demo/echo-192.0.2.20"] = entry(healthy=True)
    assert changed_ones() == []
