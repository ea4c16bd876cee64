"""Values of documents that others wrote, such as Helm values and mesh configs."""

from collections.abc import Mapping
from typing import Any


def at(found: Any, *keys: str) -> Any:
    """What is under these keys, one within the other; None where nothing is, or no mapping on the way."""
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
