"""Messages as Go reads and writes them. More is compared with istioctl in test_against_istioctl.py."""

from typing import Any

import pytest

from hybridmesh.istio import BootstrapError, protojson
from hybridmesh.istio.protojson import parse_duration
from hybridmesh.istio.schema import ENUMS, MESSAGES


def through(data: Any) -> Any:
    """A ProxyConfig read and written again."""
    return protojson.written("ProxyConfig", protojson.read("ProxyConfig", data, "here", lambda _: None))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            {"drain_duration": "1m30s", "terminationDrainDuration": "0s"},
            {"drainDuration": "90s", "terminationDrainDuration": "0s"},
        ),
        ({"mesh_id": "old", "meshId": "new"}, {"meshId": "new"}),
        ({"meshId": "", "statusPort": 0, "extraStatTags": [], "proxyMetadata": {}, "sds": {}}, {"sds": {}}),
        (
            {"concurrency": 0, "holdApplicationUntilProxyStarts": False},
            {"concurrency": 0, "holdApplicationUntilProxyStarts": False},
        ),
        ({"serviceCluster": ""}, {"serviceCluster": ""}),
        ({"serviceCluster": "a", "tracingServiceName": 0}, {"tracingServiceName": "APP_LABEL_AND_NAMESPACE"}),
        ({"interceptionMode": "REDIRECT", "controlPlaneAuthPolicy": 1}, {"controlPlaneAuthPolicy": "MUTUAL_TLS"}),
        ({"controlPlaneAuthPolicy": 77}, {"controlPlaneAuthPolicy": 77}),
        ({"statusPort": "15021", "proxyAdminPort": 8e3}, {"statusPort": 15021, "proxyAdminPort": 8000}),
        (
            {"tracing": {"stackdriver": {"maxNumberOfAttributes": 5}}},
            {"tracing": {"stackdriver": {"maxNumberOfAttributes": "5"}}},
        ),
        ({"tracing": {"sampling": "NaN"}}, {"tracing": {"sampling": "NaN"}}),
        (
            {"tracing": {"openCensusAgent": {"context": []}, "customTags": {}}},
            {"tracing": {"openCensusAgent": {}}},
        ),
        ({"concurrency": "null", "proxyAdminPort": " 8000 "}, {"concurrency": 0, "proxyAdminPort": 8000}),
        ({"tracing": {"sampling": 0.0}}, {"tracing": {}}),
        ({"tracing": {"sampling": 12.5}}, {"tracing": {"sampling": 12.5}}),
        (
            {"extraStatTags": [None, "a"], "runtimeValues": {"a": None}},
            {"extraStatTags": ["", "a"], "runtimeValues": {"a": ""}},
        ),
        ({"meshId": None, "tracing": None, "unknown": 1}, {}),
        (None, {}),
    ],
)
def test_messages_are_normalised(data: Any, expected: Any) -> None:
    assert through(data) == expected


@pytest.mark.parametrize(
    ("field", "low", "high"), [("concurrency", -(2**31), 2**31 - 1), ("fileFlushMinSizeKb", 0, 2**32 - 1)]
)
def test_whole_numbers_have_the_range_of_their_type(field: str, low: int, high: int) -> None:
    assert through({field: high}) == {field: high}
    assert through({field: low}) == ({field: low} if low else {})
    for outside in (low - 1, high + 1):
        with pytest.raises(
            BootstrapError, match=f"here.{field} = {outside}: is not a whole number from {low} to {high}"
        ):
            through({field: outside})


def test_whole_numbers_of_64_bits_are_written_as_text() -> None:
    def attributes(number: int) -> Any:
        return through({"tracing": {"stackdriver": {"maxNumberOfAttributes": number}}})

    for number in (-(2**63), 2**63 - 1):
        assert attributes(number)["tracing"]["stackdriver"] == {"maxNumberOfAttributes": str(number)}
    for outside in (-(2**63) - 1, 2**63):
        with pytest.raises(
            BootstrapError, match="is not a whole number from -9223372036854775808 to 92233720368547758"
        ):
            attributes(outside)


def test_merging_a_oneof_leaves_the_last() -> None:
    base = protojson.read("ProxyConfig", {"serviceCluster": "a", "meshId": "m"}, "here", lambda _: None)
    over = protojson.read("ProxyConfig", {"tracingServiceName": 1}, "here", lambda _: None)
    merged = protojson.merge("ProxyConfig", base, over)
    assert merged == {"meshId": "m", "tracingServiceName": "CANONICAL_NAME_ONLY"}
    assert base == {"serviceCluster": "a", "meshId": "m"}


def test_merging_can_set_a_field_back_to_its_default() -> None:
    merged = protojson.merge(
        "ProxyConfig", {"statusPort": 1}, protojson.read("ProxyConfig", {"statusPort": 0}, "", print)
    )
    assert protojson.written("ProxyConfig", merged) == {}


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("5s", 5 * 10**9),
        ("-1.5h", -5400 * 10**9),
        ("+1m", 60 * 10**9),
        (".5s1.s", 15 * 10**8),
        ("1h2m3s4ms5us6µs7μs8ns", 3723004018008),
        ("9223372036854775807ns", 2**63 - 1),
        ("-9223372036854775808ns", -(2**63)),
        *[
            (text, None)
            for text in (
                "",
                "5",
                "s",
                ".s",
                "5 s",
                " 5s",
                "5S",
                "1d",
                "-",
                "+",
                "--5s",
                "5s-",
                "\u0665s",
                "0.0",
                "1e3s",
            )
        ],
        ("9223372036854775808ns", None),
        ("2562048h", None),
        ("9" * 5000 + "s", None),
    ],
)
def test_durations(text: str, nanoseconds: int | None) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "written"),
    [("5.000s", "5s"), ("250ms", "0.250s"), ("7us", "0.000007s"), ("1ns", "0.000000001s"), ("-1.5s", "-1.500s")],
)
def test_durations_are_written_in_seconds(text: str, written: str) -> None:
    assert through({"drainDuration": text}) == {"drainDuration": written}


def test_every_type_in_the_tables_is_known() -> None:
    known = {"string", "bool", "int32", "uint32", "double", "Duration", "BoolValue", "Int32Value", "Int64Value"}
    types = {declared.split()[-1] for fields in MESSAGES.values() for declared in fields.values()}
    assert types <= known | MESSAGES.keys() | ENUMS.keys()
    assert all(0 in values.values() for values in ENUMS.values())
