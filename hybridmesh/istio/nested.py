"""Values of documents that others wrote, such as Helm values and mesh configs."""

from collections.abc import Mapping
from typing import Any


def at(found: Any, *keys: str) -> Any:
    """What is under these keys, one within the other; None where nothing is, or no mapping on the way."""
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings, key by key; where both have a value that is no mapping, that of `above` counts."""
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        result[key] = merged(under, value) if both else value  # type: ignore[arg-type]  # narrowed by `both`
    return result
