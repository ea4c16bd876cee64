"""Properties that travel as one text: providers have them one by one, and a state of before is as good."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hybridmesh.providers import membership
from hybridmesh.providers.departure import DepartureProvider
from hybridmesh.providers.inputs import is_unknown
from hybridmesh.providers.membership import MembershipProvider
from hybridmesh.providers.packs import PACKS, pack, unpacked
from hybridmesh.providers.preflight import PreflightProvider
from hybridmesh.providers.token import IstioTokenProvider
from tests.providers import test_departure, test_membership, test_preflight, test_token
from tests.providers.fake_cluster import FakeCluster, entry
from tests.providers.unknown import unknown

CASES = [
    (DepartureProvider, test_departure.INPUTS),
    (IstioTokenProvider, test_token.INPUTS),
    (MembershipProvider, test_membership.INPUTS),
    (PreflightProvider, test_preflight.INPUTS),
]


def packed(properties: dict[str, Any]) -> dict[str, Any]:
    """As a resource has them."""
    whole = {name: keys for name, keys in PACKS.items() if properties.keys() & set(keys)}
    inside = {key for keys in whole.values() for key in keys}
    plain = {key: value for key, value in properties.items() if key not in inside}
    return plain | {name: pack(name, {key: properties.get(key) for key in keys}) for name, keys in whole.items()}


def flat(properties: dict[str, Any]) -> dict[str, Any]:
    """As the engine hands them over: without nulls, at any depth."""
    return {k: flat(v) if isinstance(v, dict) else v for k, v in properties.items() if v is not None}


@pytest.mark.parametrize(("provider", "inputs"), CASES)
def test_a_provider_has_what_was_packed(provider: Any, inputs: dict[str, Any]) -> None:
    assert packed(inputs).keys() & PACKS.keys(), provider
    assert flat(unpacked(packed(inputs))) == flat(inputs)
    assert unpacked(inputs) == inputs, "of an earlier version's state, which has no packs"


@pytest.mark.parametrize(("provider", "inputs"), CASES)
def test_a_state_of_an_earlier_version_is_no_change(
    provider: Any, inputs: dict[str, Any], cluster: FakeCluster
) -> None:
    cluster.entries = {"demo/echo-192.0.2.11": entry()}
    assert provider().diff("id", flat(inputs), packed(inputs)).changes is False
    assert provider().diff("id", packed(inputs), packed(inputs)).changes is False


def test_a_change_inside_a_pack_is_a_change() -> None:
    news = packed({**test_departure.INPUTS, "drainSeconds": 60})
    assert DepartureProvider().diff("id", packed(test_departure.INPUTS), news).changes is True


@pytest.mark.usefixtures("cluster")
def test_what_a_provider_answers_goes_back_in_packs() -> None:
    given = packed(test_departure.INPUTS)
    assert DepartureProvider().create(given).outs == given
    assert DepartureProvider().update("id", dict(test_departure.INPUTS), given).outs == given
    made = IstioTokenProvider().create(packed(test_token.INPUTS)).outs
    assert made is not None
    assert made.keys() == packed(test_token.INPUTS).keys() | {"token", "expires", "drift", "repair"}


def test_what_is_replaced_is_called_by_what_it_came_in() -> None:
    olds, other = test_departure.INPUTS, {**test_departure.WAY, **test_departure.OTHER}
    news = {**olds, "address": "192.0.2.21", "connection": other, "entry": "echo-192.0.2.21"}
    assert DepartureProvider().diff("id", packed(olds), packed(news)).replaces == ["address", "ssh"]


def test_a_pack_that_is_not_known_yet_makes_nothing_another_machine() -> None:
    news = {**packed(test_departure.INPUTS), "ssh": unknown()}
    assert all(is_unknown(unpacked(news)[key]) for key in ("connection", "dialSeconds"))
    answer = DepartureProvider().diff("id", packed(test_departure.INPUTS), news)
    assert (answer.changes, answer.replaces) == (True, None)


def test_a_pack_is_the_same_text_each_time_and_whole() -> None:
    backwards = dict(reversed(list({"rotationSeconds": 3, "drainSeconds": 5}.items())))
    assert pack("limits", backwards) == '{"drainSeconds": 5, "rotationSeconds": 3}'
    with pytest.raises(KeyError):
        pack("limits", {"drainSeconds": 5})


def test_no_property_is_in_two_packs_and_none_is_called_as_a_pack() -> None:
    inside = [key for keys in PACKS.values() for key in keys]
    assert len(inside) == len(set(inside))
    assert not set(inside) & PACKS.keys()


def test_a_membership_says_what_its_group_gives() -> None:
    group = {
        "metadata": {"name": "echo"},
        "spec": {"metadata": {"labels": {"app": "echo"}}, "template": {"ports": {"http": 8080}}},
    }
    assert json.loads(membership._group_pack(group)) == {
        "group": "echo",
        "labels": {"app": "echo"},
        "ports": {"http": 8080},
        "probed": False,
    }
