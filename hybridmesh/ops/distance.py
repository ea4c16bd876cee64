"""Who gets nothing because others are nearer: the order in which a proxy takes a service's endpoints, by locality."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

_ATTRIBUTE: Final = re.compile(r"^(outbound\|\S+?)::(\S+)::(priority|health_flags)::(\S+)$", re.MULTILINE)

Endpoint = tuple[str, str]
"""Envoy cluster, and address with port."""


def passed_over(pages: Iterable[str]) -> dict[str, list[str]]:
    """Endpoints that every caller passes over, by Envoy cluster: each has healthy ones of a better priority.

    pages: `/clusters` of the callers' Envoys. Envoy sends to the best priority that has enough healthy endpoints.
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
    best: dict[str, int] = {}
    for (cluster, _), known in facts.items():
        if known.get("health_flags") == "healthy":
            best[cluster] = min(best.get(cluster, _priority(known)), _priority(known))
    return {(c, address): c in best and _priority(known) > best[c] for (c, address), known in facts.items()}


def _priority(known: Mapping[str, str]) -> int:
    return int(known.get("priority", 0))
