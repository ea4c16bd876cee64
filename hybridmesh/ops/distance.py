"""Who gets nothing because others are nearer: the order in which a proxy takes a service's endpoints, by locality."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

_ATTRIBUTE: Final = re.compile(r"^(outbound\|\S+?)::(\S+)::(priority|health_flags)::(\S+)$", re.MULTILINE)

_OVERPROVISIONED: Final = 140
"""Percent: so much more than its share of healthy endpoints a priority is taken to bear. Envoy's default, which Istio
leaves: 5 of 7 are enough."""

Endpoint = tuple[str, str]
"""Envoy cluster, and address with port."""


def passed_over(pages: Iterable[str]) -> dict[str, list[str]]:
    """Endpoints that every caller passes over, by Envoy cluster: the better priorities bear everything.

    pages: `/clusters` of the callers' Envoys. Envoy sends to the best priority, and what that has too few healthy
    endpoints for to the next ones (its documentation, "Priority levels").
    """
    seen: dict[Endpoint, bool] = {}
    for page in pages:
        for endpoint, passed in _of_one(page).items():
            seen[endpoint] = seen.get(endpoint, True) and passed
    found: dict[str, list[str]] = {}
    for cluster, address in sorted(endpoint for endpoint, passed in seen.items() if passed):
        found.setdefault(cluster, []).append(address)
    return found


def _of_one(page: str) -> dict[Endpoint, bool]:
    facts: dict[Endpoint, dict[str, str]] = {}
    for cluster, address, name, value in _ATTRIBUTE.findall(page):
        facts.setdefault((cluster, address), {})[name] = value
    levels: dict[str, dict[int, list[bool]]] = {}
    for (cluster, _), known in facts.items():
        healthy = known.get("health_flags") == "healthy"
        levels.setdefault(cluster, {}).setdefault(_priority(known), []).append(healthy)
    return {
        (cluster, address): _borne(level for p, level in levels[cluster].items() if p < _priority(known)) >= 100
        for (cluster, address), known in facts.items()
    }


def _borne(levels: Iterable[list[bool]]) -> int:
    """How many percent of the requests some priorities bear, by which of their endpoints are healthy."""
    return sum(min(100, _OVERPROVISIONED * sum(level) // len(level)) for level in levels)


def _priority(known: Mapping[str, str]) -> int:
    named = known.get("priority", "")
    return int(named) if re.fullmatch("[0-9]{1,9}", named) else 0
