"""How a workload's proxies behave: what counts where stack and workload both say something."""

from typing import Any

import pytest

from hybridmesh.settings import Settings, SettingsError, parse
from hybridmesh.settings.models import ProxyShape
from hybridmesh.settings.shapes import proxy_shape
from tests.components.harness import dev_sections, read_file


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
