"""The Grafana dashboard, as code."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import rules

UID = "hybrid-mesh"
_OF = 'namespace=~"$namespace", workload=~"$workload"'
_WIDTH, _HEIGHT = 12, 8


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel."""

    title: str
    query: str
    legend: str
    unit: str = "short"
    kind: str = "timeseries"
    help: str = ""


PANELS: Sequence[tuple[str, Sequence[Panel]]] = (
    (
        "At a glance",
        (
            Panel(
                "VMs connected to istiod",
                f"min by (vm, namespace, workload) (hybrid_mesh_vm_connected{{{_OF}}})",
                "{{vm}}",
                kind="stat",
                unit="bool_on_off",
            ),
            Panel(
                "Apps on VMs healthy",
                f"min by (vm, namespace, workload) (hybrid_mesh_vm_healthy{{{_OF}}})",
                "{{vm}}",
                kind="stat",
                unit="bool_on_off",
            ),
            Panel(
                "Proxies in sync",
                'min by (proxy) (hybrid_mesh_proxy_synced{namespace=~"$namespace"})',
                "{{proxy}}",
                kind="stat",
                unit="bool_on_off",
            ),
            Panel(
                "Certificates: time left",
                f'min by (vm, pod) ({rules.CERTIFICATE}{{{_OF}, platform!=""}})',
                "{{vm}}{{pod}}",
                kind="stat",
                unit="s",
                help="Renewed at half its time.",
            ),
        ),
    ),
    (
        "Requests",
        (
            Panel(
                "Requests by version",
                f"{rules.SERVED}{{{_OF}}}",
                "{{workload}} {{version}}",
                unit="reqps",
            ),
            Panel(
                "Requests, VMs and pods",
                f"sum by (workload, platform, network) ({rules.REQUESTS}{{{_OF}}})",
                "{{workload}} {{platform}} in {{network}}",
                unit="reqps",
            ),
            Panel(
                "Share of each version",
                f"{rules.SHARE}{{{_OF}}}",
                "{{workload}} {{version}}",
                unit="percentunit",
                help="What the weights of `routing` come to.",
            ),
            Panel(
                "Share of 5xx by version",
                f"{rules.ERRORS}{{{_OF}}}",
                "{{workload}} {{version}}",
                unit="percentunit",
            ),
            Panel(
                "5xx, against all other versions",
                f"{rules.ERRORS}{{{_OF}}} - {rules.OTHERS}{{{_OF}}}",
                "{{workload}} {{version}}",
                unit="percentunit",
                help="Above nothing: worse than the others.",
            ),
            Panel(
                "95 of 100 requests take less than",
                f"{rules.LATENCY}{{{_OF}}}",
                "{{workload}} {{version}}",
                unit="ms",
            ),
        ),
    ),
    (
        "Proxies",
        (
            Panel(
                "Metrics can be read",
                f"min by (vm, pod, workload) (up{{{_OF}}})",
                "{{vm}}{{pod}}",
                unit="bool_on_off",
            ),
            Panel(
                "Memory",
                f'sum by (vm, pod) (envoy_server_memory_allocated{{{_OF}, platform!=""}})',
                "{{vm}}{{pod}}",
                unit="bytes",
            ),
            Panel(
                "Running since",
                f'min by (vm, pod) (envoy_server_uptime{{{_OF}, platform!=""}})',
                "{{vm}}{{pod}}",
                unit="s",
            ),
            Panel(
                "Configuration refused",
                f"sum by (vm, pod) (rate(envoy_listener_manager_lds_update_rejected{{{_OF}}}[5m])"
                f" + rate(envoy_cluster_manager_cds_update_rejected{{{_OF}}}[5m]))",
                "{{vm}}{{pod}}",
                help="Clusters and listeners that a proxy would not take from istiod.",
            ),
        ),
    ),
)
"""Rows of panels."""


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    shown: list[dict[str, Any]] = []
    top = 0
    for row, panels in PANELS:
        shown.append(_row(len(shown) + 1, row, top))
        top += 1
        for index, panel in enumerate(panels):
            shown.append(_panel(len(shown) + 1, panel, index % 2 * _WIDTH, top + index // 2 * _HEIGHT))
        top += (len(panels) + 1) // 2 * _HEIGHT
    return {
        "uid": UID,
        "title": "Hybrid mesh",
        "tags": ["istio", "hybrid-mesh"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                _source(),
                _variable("namespace", "label_values(up, namespace)"),
                _variable("workload", 'label_values(up{namespace=~"$namespace"}, workload)'),
            ]
        },
        "panels": shown,
    }


def dashboard_text() -> str:
    """The dashboard as a file."""
    return json.dumps(dashboard(), indent=2, sort_keys=True) + "\n"


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "$source"},
        "query": {"query": query, "refId": name},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }


def _row(number: int, title: str, top: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "panels": [],
        "gridPos": {"h": 1, "w": 2 * _WIDTH, "x": 0, "y": top},
    }


def _panel(number: int, panel: Panel, left: int, top: int) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "$source"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": source,
        "gridPos": {"h": _HEIGHT, "w": _WIDTH, "x": left, "y": top},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": "A",
                "datasource": source,
                "expr": panel.query,
                "legendFormat": panel.legend,
                "instant": panel.kind == "stat",
            }
        ],
    }
