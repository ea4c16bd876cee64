"""`python -m hybridmesh metrics`: the files, and what is no gateway."""

import json
import re

import yaml
from typer.testing import CliRunner

from hybridmesh.__main__ import app
from hybridmesh.metrics.dashboard import PANELS, dashboard


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["metrics", *arguments])
    return done.exit_code, done.output


def test_rules_are_a_rule_file_with_the_gateways_and_thresholds_asked_for() -> None:
    code, text = run("rules", "--gateway", "istio-system/east", "--gateway", "edge/west", "--error-percent", "20")
    assert code == 0
    document = yaml.safe_load(text)
    alerts = document["groups"][1]["rules"]
    assert "HybridMeshErrors" in {rule["alert"] for rule in alerts}
    down = [rule["labels"]["workload"] for rule in alerts if rule["alert"] == "HybridMeshGatewayDown"]
    assert down == ["east", "west"]
    assert any("> 0.2 and" in rule["expr"] for rule in alerts)


def test_rules_miss_the_server_and_the_agents_asked_for() -> None:
    code, text = run("rules", "--server", "here:9099", "--agent", "far")
    assert code == 0
    missed = {rule["alert"]: rule["expr"] for rule in yaml.safe_load(text)["groups"][1]["rules"]}
    assert 'instance="here:9099"' in missed["HybridMeshMetricsServerDown"]
    assert 'network="far"' in missed["HybridMeshAgentDown"]
    assert 'instance="hybrid-mesh-metrics.hybrid-mesh-metrics.svc.cluster.local:9099"' in run("rules")[1]


def test_a_gateway_that_an_agent_reads_is_not_missed_while_the_agent_is() -> None:
    def missed(*gateway: str) -> str:
        rules = yaml.safe_load(run("rules", "--gateway", *gateway, "--agent", "far")[1])["groups"][1]["rules"]
        return str(next(rule["expr"] for rule in rules if rule["alert"] == "HybridMeshGatewayDown"))

    assert 'network="far"' in missed("gateways/far-gateway=far")
    assert 'network="far"' not in missed("gateways/far-gateway")


def test_what_is_no_gateway_is_refused_with_what_to_write() -> None:
    code, text = run("rules", "--gateway", "east")
    assert code == 2
    assert "NAMESPACE/NAME" in text


def test_the_dashboard_is_what_grafana_imports() -> None:
    code, text = run("dashboard")
    assert code == 0
    document = json.loads(text)
    assert document == dashboard()
    shown = [panel for panel in document["panels"] if panel["type"] != "row"]
    assert len(shown) == sum(len(panels) for _, panels in PANELS)
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])
    covered = [
        (x, y)
        for place in (panel["gridPos"] for panel in document["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(covered)) == len(covered), "two panels lie on each other"
    assert ({x for x, _ in covered}, min(y for _, y in covered)) == (set(range(24)), 0), "as wide as Grafana's grid"


def test_a_row_s_panels_lie_below_it_in_the_order_in_which_they_are_told() -> None:
    shown = sorted(dashboard()["panels"], key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))
    told = [title for row, panels in PANELS for title in (row, *(panel.title for panel in panels))]
    assert [panel["title"] for panel in shown] == told


def test_each_panel_asks_the_prometheus_that_is_chosen_and_says_in_which_unit() -> None:
    document = dashboard()
    variables = {variable["name"]: variable for variable in document["templating"]["list"]}
    assert (variables["source"]["type"], variables["source"]["query"]) == ("datasource", "prometheus")
    shown = {panel["title"]: panel for panel in document["panels"]}
    for panel in (panel for _, panels in PANELS for panel in panels):
        found = shown[panel.title]
        (target,) = found["targets"]
        assert (target["expr"], target["legendFormat"]) == (panel.query, panel.legend)
        assert target["datasource"] == found["datasource"] == {"type": "prometheus", "uid": "$source"}
        assert target["instant"] == (panel.kind == "stat"), "a number of now, or a line"
        assert (found["type"], found["description"]) == (panel.kind, panel.help)
        assert found["fieldConfig"]["defaults"]["unit"] == panel.unit
        assert set(re.findall(r"\$(\w+)", panel.query)) <= variables.keys(), panel.title


def queries() -> dict[str, str]:
    """Each panel's query as Grafana sends it for all namespaces and workloads, by the panel's title."""
    shown = [panel for _, panels in PANELS for panel in panels]
    return {panel.title: panel.query.replace("$namespace", ".*").replace("$workload", ".*") for panel in shown}


def test_queries_ask_for_no_other_variable_than_there_is() -> None:
    assert not [title for title, query in queries().items() if "$" in query]


def test_alerts_link_to_where_people_reach_their_runbook_and_else_name_the_page() -> None:
    def told(*options: str) -> dict[str, dict[str, str]]:
        alerts = yaml.safe_load(run("rules", "--agent", "far", *options)[1])["groups"][1]["rules"]
        return {alert["alert"]: alert["annotations"] for alert in alerts}

    linked, named = told("--runbook", "https://docs.example.com/metrics/"), told()
    assert {name: a["runbook_url"] for name, a in linked.items()} == {
        name: f"https://docs.example.com/metrics/#{name.lower()}" for name in named
    }
    for name, annotations in named.items():
        assert "runbook_url" not in annotations, "a path is no link"
        page = f" Runbook: docs/metrics.md#{name.lower()} of hybrid-mesh."
        assert annotations["description"] == linked[name]["description"] + page
