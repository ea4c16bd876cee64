"""A WorkloadEntry that is a resource of the stack: looked at, never written or removed by the providers."""

from typing import Any

import pytest

from hybridmesh.providers.cluster import ClusterError
from hybridmesh.providers.membership import MembershipProvider
from hybridmesh.providers.token import IstioTokenProvider
from tests.providers import test_membership, test_token
from tests.providers.conftest import Clock
from tests.providers.fake_cluster import FakeCluster, entry, state

NAME = "echo-vm-1"
PATH = f"demo/{NAME}"
TOKEN: dict[str, Any] = {**test_token.INPUTS, "entry": NAME}
MEMBER: dict[str, Any] = {**test_membership.INPUTS, "entry": NAME, "staticEntry": True}


@pytest.fixture
def member(cluster: FakeCluster) -> FakeCluster:
    cluster.entries = {PATH: entry(healthy=True)}
    cluster.states = [state()]
    return cluster


def test_a_machine_that_istiod_notes_as_gone_joins_anew(member: FakeCluster, clock: Clock) -> None:
    olds = {**TOKEN, "token": "token-0", "expires": "2020-01-01T00:00:00Z"}
    assert IstioTokenProvider().diff("id", olds, dict(TOKEN)).changes is False
    member.entries = {PATH: entry(connected=False)}
    clock.sleep(5)
    assert IstioTokenProvider().diff("id", olds, dict(TOKEN)).changes is True
    with pytest.raises(ClusterError, match="not connected to istiod"):
        MembershipProvider().create(dict(MEMBER))


def test_an_entry_that_no_proxy_has_named_yet_is_no_member(member: FakeCluster) -> None:
    fresh = entry(healthy=True)
    del fresh["metadata"]["annotations"]["istio.io/connectedAt"]
    member.entries = {PATH: fresh}
    with pytest.raises(ClusterError, match="not connected to istiod"):
        MembershipProvider().create(dict(MEMBER))


def test_an_entry_is_not_patched_whatever_its_labels(member: FakeCluster) -> None:
    made = MembershipProvider().create({**MEMBER, "labels": {"app": "echo", "version": "v2"}})
    assert made.outs is not None
    assert made.outs["registration"] == PATH
    assert member.done == []


def test_an_entry_that_somebody_deleted_is_brought_back_by_a_refresh(member: FakeCluster) -> None:
    member.entries = {}
    with pytest.raises(ClusterError, match="Run `pulumi up --refresh`"):
        MembershipProvider().create(dict(MEMBER))


def test_a_changed_choice_is_looked_at_anew_and_keeps_an_automatic_entry_s_state(member: FakeCluster) -> None:
    automatic = {key: value for key, value in MEMBER.items() if key != "staticEntry"}
    assert MembershipProvider().diff("id", automatic, MEMBER).changes is True
    assert MembershipProvider().diff("id", automatic, {**automatic, "staticEntry": None}).changes is False
    assert member.done == []
