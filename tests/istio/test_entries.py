"""What a WorkloadEntry tells of its VM's health, and when its silence tells something."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from hybridmesh.istio.entries import (
    awaits_report,
    group_of,
    has_proxy,
    health,
    is_connected,
    is_probed,
    is_reported,
    is_stale,
    must_have_spoken,
    report_is_lost,
    why_not_called,
    workload_of,
)

CONNECTED = datetime(2026, 11, 29, 16, 4, 10, 271090, tzinfo=UTC)


SINCE = {"istio.io/connectedAt": "2026-11-29T16:04:10.271090959Z"}
PROBED = {"proxy.istio.io/health-checks-enabled": "true"}


def entry(status: Any = None, annotations: Mapping[str, str] = MappingProxyType({**SINCE, **PROBED})) -> dict[str, Any]:
    """As istiod writes it when a proxy connects: nanoseconds and all."""
    return {"metadata": {"annotations": dict(annotations)}, "status": status}


def group(**probe: int) -> dict[str, Any]:
    return {"spec": {"probe": {"tcpSocket": {"port": 8080}, **probe}}}


def noted(status: str, when: str | None = None) -> dict[str, Any]:
    said = {"type": "Healthy", "status": status} | ({} if when is None else {"lastProbeTime": when})
    return {"conditions": [{"type": "Other", "status": "True"}, said]}


@pytest.mark.parametrize(
    ("probe", "latest"),
    [
        ({}, 11 + 15),
        ({"periodSeconds": 2}, 3 + 15),
        ({"periodSeconds": 2, "timeoutSeconds": 4, "failureThreshold": 3}, 3 * 6 + 15),
        ({"periodSeconds": 1, "successThreshold": 5, "failureThreshold": 2}, 5 * 2 + 15),
        ({"initialDelaySeconds": 300, "periodSeconds": 1}, 300 + 2 + 15),
    ],
)
def test_an_agent_is_waited_for_as_long_as_its_probe_may_take(probe: dict[str, int], latest: int) -> None:
    assert not report_is_lost(entry(), group(**probe), CONNECTED + timedelta(seconds=latest))
    assert report_is_lost(entry(), group(**probe), CONNECTED + timedelta(seconds=latest + 1))


@pytest.mark.parametrize(
    "heard",
    [
        entry(noted("True")),
        entry(noted("False")),
        entry(annotations=SINCE),
        entry(annotations={**SINCE, **PROBED, "istio.io/disconnectedAt": "2026-11-29T16:05:10Z"}),
    ],
    ids=["healthy", "unhealthy", "no probe", "not connected"],
)
def test_nothing_is_lost_of_one_that_was_heard_or_has_nothing_to_say(heard: dict[str, Any]) -> None:
    assert not report_is_lost(heard, group(), CONNECTED + timedelta(hours=1))


def test_what_was_noted_is_told() -> None:
    assert health(entry(noted("True")))[0] is True
    assert health(entry(noted("False"))) == (False, "no reason is given")
    assert health(entry()) == (False, "the probe has not answered yet")
    assert (is_reported(entry(noted("False"))), is_reported(entry({"conditions": []}))) == (True, False)


@pytest.mark.parametrize(
    ("when", "stale"),
    [
        ("2026-11-29T16:04:10.171090959Z", True),
        ("2026-11-29T16:04:10.371090959Z", False),
        ("2026-11-29T16:04:11Z", False),
        (None, False),
    ],
)
def test_what_was_noted_before_the_proxy_connected_is_stale(when: str | None, stale: bool) -> None:
    assert is_stale(entry(noted("True", when))) is stale


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (entry(noted("True")), ""),
        (entry(noted("True", "2026-11-29T16:04:09Z")), ""),
        (entry(annotations=SINCE), ""),
        (entry(noted("False"), SINCE), ""),
        (entry(noted("False")), "its app is not healthy by the probe: no reason is given"),
        (entry(), "its app is not healthy by the probe: the probe has not answered yet"),
        (entry(noted("True"), PROBED), "its proxy is not connected to istiod"),
        (entry(annotations={}), ""),
        ({"metadata": {"deletionTimestamp": "2026-11-29T16:04:10Z"}}, "its proxy is not connected to istiod"),
    ],
    ids=[
        "healthy",
        "of before",
        "no probe",
        "a probe of before",
        "unhealthy",
        "not heard of",
        "out",
        "outside of the mesh",
        "deleted",
    ],
)
def test_who_is_called_is_told_by_what_istiod_goes_by(found: dict[str, Any], why: str) -> None:
    assert why_not_called(found) == why


def test_what_was_never_noted_is_not_stale() -> None:
    assert not is_stale(entry())
    assert not is_stale(entry(noted("True", "2026-11-29T16:04:10Z"), annotations=PROBED))


def test_an_agent_has_spoken_by_then_whatever_was_noted() -> None:
    stale = entry(noted("True", "2026-11-29T16:00:00Z"))
    assert not must_have_spoken(stale, group(), CONNECTED + timedelta(seconds=26))
    assert must_have_spoken(stale, group(), CONNECTED + timedelta(seconds=27))


@pytest.mark.parametrize("since", ["", "true", "2026-11-29 16:04:10.27 +0000 UTC m=+0.1"])
def test_a_time_that_is_none_is_put_right_by_a_proxy_that_connects_anew(since: str) -> None:
    edited = entry(noted("True", "yesterday"), annotations={"istio.io/connectedAt": since, **PROBED})
    assert must_have_spoken(edited, group(), CONNECTED)
    assert not is_stale(edited)
    assert not is_stale(entry(noted("True", "yesterday")))


def test_a_time_without_a_zone_is_utc_s_and_a_group_without_a_spec_has_no_probe() -> None:
    edited = entry(noted("True", "2026-11-29T16:04:09"), annotations={"istio.io/connectedAt": "2026-11-29T16:04:10"})
    assert is_stale(edited)
    for bare in ({}, {"spec": None}):
        assert not must_have_spoken(edited, bare, CONNECTED + timedelta(seconds=25))
        assert must_have_spoken(edited, bare, CONNECTED + timedelta(seconds=27))


@pytest.mark.parametrize("metadata", [{}, {"annotations": None, "labels": None}])
def test_an_entry_that_somebody_wrote_is_read_and_has_no_proxy(metadata: dict[str, Any]) -> None:
    written = {"metadata": {"name": "db", **metadata}, "spec": {"address": "192.0.2.30"}}
    for said in (is_connected, is_reported, is_stale, is_probed, awaits_report, has_proxy):
        assert said(written) is False, said.__name__
    assert health(written) == (False, "the probe has not answered yet")
    assert group_of(written) == ""
    assert workload_of(written) == workload_of({"metadata": written["metadata"]}) == ("db", "latest")


def test_an_entry_that_goes_or_that_istiod_has_let_go_stands_for_no_connection() -> None:
    assert is_connected(entry())
    going = entry()
    going["metadata"]["deletionTimestamp"] = "2026-11-29T16:05:10Z"
    assert not is_connected(going)
    assert not is_connected(entry(annotations={**SINCE, "istio.io/disconnectedAt": "2026-11-29T16:05:10Z"}))
    assert not is_connected(None)


def test_the_workload_of_an_entry_is_told_by_its_labels_those_of_its_spec_first() -> None:
    registered = {"istio.io/autoRegistrationGroup": "echo"}
    made = entry(annotations=registered)
    made["metadata"] |= {"name": "echo-192.0.2.11", "labels": {"version": "old", "app": "shop"}}
    assert workload_of({**made, "spec": {"labels": {"version": "vm"}}}) == ("shop", "vm")
    assert workload_of(entry(annotations=registered)) == ("echo", "latest")
    assert has_proxy(entry(annotations=registered))
    assert has_proxy(entry(annotations={"proxy.istio.io/health-checks-enabled": "false"})), "a static one"
