"""How a workload's proxies behave: what counts where stack and workload both say something."""

from typing import Any

import pytest

from hybridmesh.istio import BootstrapOptions, cluster_env
from hybridmesh.settings import Settings, SettingsError, parse
from hybridmesh.settings.models import ProxyShape
from hybridmesh.settings.shapes import in_scope, proxy_shape
from tests.components.harness import dev_sections, read_file
from tests.settings.test_rules import at, findings


def settings(stack: dict[str, Any], own: dict[str, Any] | None) -> Settings:
    sections = dev_sections()
    sections["sidecar"] |= stack
    if own is not None:
        sections["workloads"]["echo"]["sidecar"] = own
    return parse(sections, read_file)


def shape(stack: dict[str, Any], own: dict[str, Any] | None) -> ProxyShape:
    given = settings(stack, own)
    return proxy_shape(given.sidecar, given.workloads["echo"])


def test_the_stack_s_word_counts_where_the_workload_says_nothing() -> None:
    assert shape({"logLevel": "debug", "dnsCapture": False}, None).log_level == "debug"
    assert shape({"logLevel": "debug"}, {"concurrency": 2}).log_level == "debug"


def test_a_workload_s_word_counts_field_by_field() -> None:
    found = shape(
        {"limits": {"cpuPercent": 100, "memory": "512M"}, "dnsCapture": False},
        {"limits": {"memory": "1G"}, "dnsCapture": True},
    )
    assert (found.limits.cpu_percent, found.limits.memory) == (100, "1G")
    assert found.dns_capture is True


def test_a_workload_can_take_the_stack_s_word_back() -> None:
    assert shape({"egress": {"hosts": ["./*"]}}, {"egress": None}).egress is None
    assert shape({"accessLog": "all"}, {"accessLog": None}).access_log is None


def test_a_workload_s_tag_is_its_own_as_a_whole() -> None:
    found = shape(
        {"tracing": {"tags": {"team": {"literal": "shop"}, "tier": {"literal": "web"}}}},
        {"tracing": {"tags": {"team": {"header": "x-team", "default": "none"}}}},
    ).tracing
    assert found is not None
    assert (found.tags["team"].literal, found.tags["team"].header) == (None, "x-team")
    assert found.tags["tier"].literal == "web"


@pytest.mark.parametrize(
    ("stack", "own"),
    [
        ({"limits": {"memory": "256M"}}, {"limits": {"memory": "1G", "memoryHigh": "512M"}}),
        ({"capture": {"inboundPorts": [9100]}}, {"capture": {"inboundPorts": None, "allInboundPorts": True}}),
        ({"capture": {"allInboundPorts": True}}, {"capture": {"allInboundPorts": False, "inboundPorts": [8080]}}),
        (
            {"capture": {"outboundCidrs": ["10.0.0.0/8"]}},
            {"capture": {"outboundCidrs": None, "excludeOutboundCidrs": ["10.1.0.0/16"]}},
        ),
    ],
)
def test_what_a_workload_took_back_does_not_count_against_it(stack: dict[str, Any], own: dict[str, Any]) -> None:
    assert settings(stack, own)


@pytest.mark.parametrize(
    ("entry", "seen"),
    [
        ("./*", {"own/a.x"}),
        ("other/*", {"other/a.x"}),
        ("*/a.x", {"own/a.x", "other/a.x"}),
        ("*/*.x", {"own/a.x", "other/a.x"}),
        ("*/b.x", set()),
        ("*/*.y", set()),
    ],
)
def test_a_scope_has_services_by_namespace_and_host(entry: str, seen: set[str]) -> None:
    egress = shape({"egress": {"hosts": [entry]}}, None).egress
    assert egress is not None
    assert {f"{place}/a.x" for place in ("own", "other") if in_scope(egress, "own", place, "a.x")} == seen


def test_other_workloads_keep_the_stack_s_word() -> None:
    given = settings({"accessLog": "all"}, {"accessLog": "none"})
    assert proxy_shape(given.sidecar, given.workloads["client"]).access_log == "all"


def test_values_are_kept_in_one_form() -> None:
    found = shape({"capture": {"excludeOutboundCidrs": ["2001:DB8:0::/48"]}}, None)
    assert found.capture.exclude_outbound_cidrs == ("2001:db8::/48",)


@pytest.mark.parametrize("level", ["debug", "info,http:debug", "rbac:debug,jwt:trace", "warning,a_b:off"])
def test_log_levels_of_envoy_are_taken(level: str) -> None:
    assert shape({"logLevel": level}, None).log_level == level


@pytest.mark.parametrize("level", ["", "loud", "debug;reboot", "http:loud", "debug,info", "debug http:info", "$(id)"])
def test_no_other_text_is_taken_for_a_log_level(level: str) -> None:
    with pytest.raises(SettingsError, match=r"sidecar\.logLevel"):
        shape({"logLevel": level}, None)


def test_no_variable_can_take_the_place_of_what_a_vm_is_told_of_itself() -> None:
    group = {
        "metadata": {"name": "echo", "namespace": "demo"},
        "spec": {"template": {"serviceAccount": "echo", "network": "n", "ports": {"http": 8080}}},
    }
    told: set[str] = set()
    for options in (
        BootstrapOptions(auto_register=True, internal_ip="192.0.2.11"),
        BootstrapOptions(workload_entry="echo-vm-1"),
    ):
        told |= {line.partition("=")[0] for line in cluster_env(group, "", options).splitlines()}
    refused = {
        name
        for name in told
        if f"sidecar.environment.{name}" in [f.path for f in findings(at("sidecar/environment", {name: "x"}))]
    }
    assert told == refused
