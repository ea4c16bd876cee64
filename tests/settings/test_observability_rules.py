"""Metrics, alerts and traces: what docs/metrics.md says is refused, is."""

import copy
import re
from typing import Any

import pytest

from hybridmesh.settings import parse
from tests.components.harness import PROJECT_ROOT, dev_sections, read_file
from tests.settings.test_network_rules import far, host
from tests.settings.test_rules import IN_ISTIO, INJECTED, Change, at, both, findings

GIVEN: dict[str, Any] = {"image": "metrics:1", "scrapers": ["10.0.0.0/16"], "prometheus": {"image": "prometheus:1"}}
AGENT = {"machine": "far-1", "package": {"url": "http://192.0.2.1/p.tar.gz", "sha256": "ab" * 32}}


def seen(sections: dict[str, Any]) -> None:
    """A network with an agent, and a Prometheus."""
    far(sections)
    sections["observability"] = copy.deepcopy({**GIVEN, "agents": {"far": AGENT}})


# The first cell of the row in the docs, what is changed, where the finding is, and a word of the problem.
REFUSED: list[tuple[str, Change, str, str]] = [
    (
        "a range that is every address",
        at("observability/scrapers", ["0.0.0.0/0"]),
        "observability.scrapers[0]",
        "every address",
    ),
    (
        "VMs that nobody may scrape",
        at("observability/scrapers", []),
        "observability.scrapers",
        "no agent of `observability.agents` scrapes",
    ),
    (
        "a Prometheus of the stack's own beside the operator's",
        at("observability/delivery", "operator"),
        "observability.prometheus",
        "beside `delivery: operator`",
    ),
    (
        "labels for an operator that is not asked for",
        at("observability/operatorLabels", {"release": "x"}),
        "observability.operatorLabels",
        "is for `delivery: operator`",
    ),
    (
        "a namespace that others use",
        at("observability/namespace", "demo"),
        "observability.namespace",
        "is the namespace of `workloads.",
    ),
    (
        "an agent that has nowhere to write to",
        at("observability/prometheus", None),
        "observability.agents.far.writeTo",
        "no `observability.prometheus`",
    ),
    (
        "an agent that names the stack's own Prometheus, which takes writes of agents without `writeTo`",
        at(
            "observability/agents/far/writeTo",
            "http://hybrid-mesh-prometheus.hybrid-mesh-metrics.svc.cluster.local:9090/api/v1/write",
        ),
        "observability.agents.far.writeTo",
        "is the Prometheus of the stack's own",
    ),
    (
        "an agent for a network that is not there",
        at("observability/agents", {"far": AGENT, "near": AGENT}),
        "observability.agents.near",
        "not in `networks`",
    ),
    (
        "an agent on a gateway machine, or in another network",
        at("observability/agents/far/machine", "gw-1"),
        "observability.agents.far.machine",
        "not a machine of a workload in network `far`",
    ),
    (
        "an agent that would write past the proxy to the stack's own Prometheus",
        at("workloads/remote/sidecar", {"capture": {"excludeOutboundPorts": [5432, 9090]}}),
        "observability.agents.far.machine",
        "of whose `capture` `excludeOutboundPorts` has 9090",
    ),
    (
        "an agent of a workload that is not told of what it calls",
        at("workloads/remote/sidecar", {"egress": {"hosts": ["./*", "istio-system/*"]}}),
        "observability.agents.far.machine",
        "`egress` leaves out hybrid-mesh-metrics.hybrid-mesh-metrics.svc.cluster.local and hybrid-mesh-prometheus.",
    ),
    (
        "an alert that comes for every certificate",
        at("observability/alerts", {"certificateHours": 12}),
        "observability.alerts.certificateHours",
        "is too near to the 12 hours",
    ),
    (
        "an app's metrics at one of Istio's ports",
        at("workloads/echo/metrics", {"port": 15090}),
        "workloads.echo.metrics.port",
        "one of Istio's own",
    ),
    (
        "a tag with two values, or none",
        at("sidecar/tracing", {"tags": {"team": {"literal": "a", "header": "b"}}}),
        "sidecar.tracing.tags.team",
        "literal and header",
    ),
    (
        "a default of a text that is always there",
        at("workloads/echo/sidecar", {"tracing": {"tags": {"team": {"literal": "a", "default": "b"}}}}),
        "workloads.echo.sidecar.tracing.tags.team.default",
        "beside `literal`",
    ),
]


@pytest.mark.parametrize(("row", "change", "path", "word"), REFUSED, ids=[row for row, *_ in REFUSED])
def test_what_does_not_fit_is_refused_where_it_is(row: str, change: Change, path: str, word: str) -> None:
    del row
    found = findings(both(seen, change))
    assert [f.path for f in found] == [path], found
    assert word in found[0].problem
    assert found[0].consequence.endswith(".")
    assert found[0].fix


@pytest.mark.parametrize(
    ("namespace", "whose"),
    [("demo", "`workloads.remote`"), ("network-gateways", "`networks.far`"), ("istio-system", "Istio")],
)
def test_a_namespace_of_its_own_is_nobody_else_s(namespace: str, whose: str) -> None:
    (found,) = findings(both(seen, at("observability/namespace", namespace)))
    assert (found.path, found.problem) == ("observability.namespace", f"is the namespace of {whose} too")


@pytest.mark.parametrize("port", [15000, 15001, 15004, 15006, 15020, 15021, 15053, 15090])
def test_no_port_of_istio_s_is_the_app_s(port: int) -> None:
    (found,) = findings(both(seen, at("workloads/echo/metrics", {"port": port})))
    assert found.path == "workloads.echo.metrics.port"


def test_a_lost_machine_carries_no_agent() -> None:
    def lost(sections: dict[str, Any]) -> None:
        seen(sections)
        hosts = sections["workloads"]["remote"]["machines"]["hosts"]
        hosts["far-2"] = host("198.51.100.12")
        hosts["far-1"]["lost"] = True

    (found,) = findings(lost)
    assert (found.path, found.fix) == ("observability.agents.far.machine", "one of far-2.")


def test_a_tag_may_be_of_a_variable_and_of_no_second_source() -> None:
    def tag(**given: str) -> list[str]:
        return [f.path for f in findings(both(seen, at("sidecar/tracing", {"tags": {"team": given}})))]

    assert tag(environment="TEAM") == tag(header="x-team", default="none") == []
    assert tag(environment="TEAM", header="x-team") == tag() == ["sidecar.tracing.tags.team"]


@pytest.mark.parametrize(
    ("receiver", "left_out"),
    [
        ("http://mimir.metrics.svc.cluster.local:9009/api/v1/push", "mimir.metrics.svc.cluster.local"),
        ("http://mimir.metrics.svc/api/v1/push", "mimir.metrics.svc.cluster.local"),
        ("http://mimir.metrics.svc.cluster.local./api/v1/push", "mimir.metrics.svc.cluster.local"),
        ("http://mimir.metrics.svc.corp.example/api/v1/push", ""),
        ("http://prometheus.monitoring.svc.cluster.local:9090/api/v1/write", ""),
        ("https://metrics.example.com/push", ""),
    ],
)
def test_an_agent_may_call_the_service_that_it_writes_to(receiver: str, left_out: str) -> None:
    egress = {"egress": {"hosts": ["./*", "istio-system/*", "hybrid-mesh-metrics/*", "monitoring/*"]}}
    writing = both(seen, at("observability/agents/far/writeTo", receiver))
    found = findings(both(writing, at("workloads/remote/sidecar", egress)))
    assert [f.problem.partition("leaves out ")[2] for f in found] == [left_out] * bool(left_out)
    assert all("add `metrics/*` to `egress.hosts`" in f.fix for f in found)


@pytest.mark.parametrize(
    ("domain", "refused"), [("", True), (".cluster.local", True), (".cluster.local.", True), (".corp.example", False)]
)
def test_a_prometheus_of_the_same_name_in_another_cluster_is_not_the_stack_s_own(domain: str, refused: bool) -> None:
    host = f"hybrid-mesh-prometheus.hybrid-mesh-metrics.svc{domain}"
    found = findings(both(seen, at("observability/agents/far/writeTo", f"http://{host}:9090/api/v1/write")))
    assert [f.path for f in found] == ["observability.agents.far.writeTo"] * refused


def test_an_agent_may_find_what_it_calls_by_its_machine_s_own_resolver() -> None:
    assert findings(both(seen, at("workloads/remote/sidecar", {"dnsCapture": False}))) == []


def test_an_agent_that_no_proxy_captures_writes_to_nobody_who_asks_who_it_is() -> None:
    nothing = at("workloads/remote/sidecar", {"capture": {"outboundCidrs": []}})
    (found,) = findings(both(seen, nothing))
    assert "`outboundCidrs` is empty" in found.problem
    elsewhere = at("observability/agents/far/writeTo", "http://10.0.0.9:9090/api/v1/write")
    assert findings(both(seen, both(nothing, elsewhere))) == []


def test_vms_of_a_network_with_an_agent_need_no_other_scraper() -> None:
    def apart(sections: dict[str, Any]) -> None:
        seen(sections)
        del sections["workloads"]["echo"]["machines"], sections["routing"]
        sections["observability"]["scrapers"] = []

    assert findings(apart) == []


def test_the_table_of_the_docs_is_what_is_tested() -> None:
    page = (PROJECT_ROOT / "docs" / "metrics.md").read_text()
    table = page.partition("## What is refused")[2].partition("\n## ")[0]
    rows = [row.strip() for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)]
    assert [row for row in rows if row not in ("what", "---")] == [row for row, *_ in REFUSED]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("observability/scrapers", ["10.0.0.1/16"]),
        ("observability/scrapeSeconds", 0),
        ("observability/scrapeSeconds", 121),
        ("observability/alerts", {"errorPercent": 0}),
        ("observability/alerts", {"errorPercent": 100}),
        ("observability/alerts", {"canaryPoints": 100}),
        ("observability/alerts", {"runbook": "docs/metrics.md"}),
        ("observability/alerts", {"runbook": "https://docs.example.com/metrics/#alerts"}),
        ("observability/alerts", {"runbook": "https://docs.example.com/{{ $labels.vm }}"}),
        ("observability/delivery", "helm"),
        ("observability/agents/far/package/sha256", "short"),
        ("sidecar/tracing", {"samplingPercent": 101}),
        ("sidecar/tracing", {"tags": {"a b": {"literal": "x"}}}),
        ("workloads/echo/metrics", {"port": 9100, "path": "metrics"}),
    ],
)
def test_a_wrong_value_is_refused_with_what_to_write(path: str, value: object) -> None:
    found = findings(both(seen, at(path, value)))
    assert found
    assert all(f.fix for f in found)


@pytest.mark.parametrize(
    "page", ["https://docs.example.com/metrics/", "https://git.example.com/mesh/blob/main/docs/metrics.md?plain=0"]
)
def test_a_runbook_is_any_page(page: str) -> None:
    assert findings(both(seen, at("observability/alerts", {"runbook": page}))) == []


def test_an_agent_that_is_told_of_what_it_calls_is_good() -> None:
    for hosts in (["./*", "hybrid-mesh-metrics/*"], ["*/*.svc.cluster.local"]):
        assert findings(both(seen, at("workloads/remote/sidecar", {"egress": {"hosts": hosts}}))) == []


def test_certificates_that_last_longer_may_be_told_of_earlier() -> None:
    long = at("sidecar/environment", {"SECRET_TTL": "720h"})
    assert findings(both(seen, both(long, at("observability/alerts", {"certificateHours": 300})))) == []


def test_that_a_certificate_is_renewed_a_moment_late_is_no_alert_yet() -> None:
    assert findings(both(seen, at("sidecar/environment", {"SECRET_TTL": "12h"}))) == []


@pytest.mark.parametrize(
    ("lifetime", "hours", "fix"),
    [("2h30m", 2, "1 to 1; or"), ("8h", 6, "1 to 4; or"), ("25h", 13, "1 to 12; or"), ("720h", 356, "1 to 352; or")],
)
def test_certificates_that_last_shorter_are_not_told_of_all_the_time(lifetime: str, hours: int, fix: str) -> None:
    short = at("sidecar/environment", {"SECRET_TTL": lifetime})
    (found,) = findings(both(seen, both(short, at("observability/alerts", {"certificateHours": hours}))))
    assert found.path == "observability.alerts.certificateHours"
    assert found.fix.startswith(fix)


@pytest.mark.parametrize("variables", [{"SECRET_TTL": "8h", "SECRET_GRACE_PERIOD_RATIO": "0.9"}, {"SECRET_TTL": "2h"}])
def test_of_certificates_that_no_whole_hours_are_for_nothing_is_said(variables: dict[str, str]) -> None:
    assert findings(both(seen, at("sidecar/environment", variables))) == []


def test_scraping_too_seldom_for_the_alerts_is_refused_with_the_reason() -> None:
    (found,) = findings(both(seen, at("observability/scrapeSeconds", 600)))
    assert "five minutes" in found.consequence
    assert found.fix == "seconds, 1 to 120."


def test_istiod_must_look_at_the_namespaces_of_gateways_and_metrics_too() -> None:
    def selected(*selectors: dict[str, Any], **namespaces: dict[str, Any]) -> list[str]:
        own = at("controlPlane/values/meshConfig/discoverySelectors", list(selectors))
        return [f.problem for f in findings(both(seen, both(own, at("namespaces", namespaces))))]

    made = [f"selects no namespace {name}, which" for name in ("demo", "hybrid-mesh-metrics", "network-gateways")]
    assert [problem.rpartition(" this stack")[0] for problem in selected(IN_ISTIO)] == made
    assert selected(IN_ISTIO, demo={}) == selected(IN_ISTIO), "described, and made all the same"
    assert selected(IN_ISTIO, demo={"existing": True}) == selected(IN_ISTIO)[1:]
    assert selected(IN_ISTIO, INJECTED) == []


@pytest.mark.parametrize("section", ["cluster", "controlPlane", "gateway", "sidecar", "observability", "versions"])
def test_a_section_that_is_wrong_in_itself_is_told_alone_whatever_else_hangs_on_it(section: str) -> None:
    assert [f.path for f in findings(both(seen, at(f"{section}/bogus", 1)))] == [f"{section}.bogus"]


def test_all_of_it_together_is_good() -> None:
    sections = dev_sections()
    seen(sections)
    settings = parse(sections, read_file)
    assert settings.observability is not None
    assert settings.workload_of("far-1") == "remote"
    assert settings.observability.alerts.certificate_hours == 6
