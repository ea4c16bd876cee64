"""What tests ask of the stack's own Prometheus."""

from __future__ import annotations

import json
from typing import Any

from lab.__main__ import load_monitoring
from tests.e2e.mesh import kubectl
from tests.e2e.stack import Stack
from tests.environment import Lab

NAMESPACE = "hybrid-mesh-metrics"
SECONDS = 2
"""How often the tests' Prometheus scrapes."""


def load(lab: Lab) -> None:
    """Its image, and the metrics server's, as they are now."""
    load_monitoring(lab.instance)


def turn_on(lab: Lab, stack: Stack) -> None:
    """The settings that docs/metrics.md shows for the embedded environment, in more of a hurry."""
    stack.change("observability.image", "hybrid-mesh.lab/metrics:1.31")
    stack.change("observability.scrapers", [(lab.instance.folder / "pod-range").read_text()])
    stack.change("observability.scrapeSeconds", SECONDS)
    stack.change("observability.prometheus", {"image": "hybrid-mesh.lab/prometheus:1.31"})


def ask(lab: Lab, query: str) -> list[dict[str, Any]]:
    """What a query finds now: `metric` and `value`."""
    answer = kubectl(
        lab,
        "exec",
        "-n",
        NAMESPACE,
        "deploy/hybrid-mesh-prometheus",
        "-c",
        "app",
        "--",
        *("curl", "--silent", "--get", "http://localhost:9090/api/v1/query", "--data-urlencode", f"query={query}"),
    )
    document = json.loads(answer)
    assert document["status"] == "success", document
    found: list[dict[str, Any]] = document["data"]["result"]
    return found


def values(lab: Lab, query: str, label: str) -> dict[str, float]:
    """What a query finds, by one label; series without it are left out."""
    return {r["metric"][label]: float(r["value"][1]) for r in ask(lab, query) if r["metric"].get(label)}
