"""Values that pulumi need not take apart."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pulumi


def whole(value: pulumi.Input[Mapping[str, Any]]) -> "pulumi.Output[Mapping[str, Any]]":
    """The value as a read-only view of it.

    `Output.all` and `Output.from_input` take dicts and lists apart, down to an output for each leaf, each time that
    they meet one: with a thousand machines that is most of a run's time and memory. A view they leave alone.
    """
    known = value if isinstance(value, pulumi.Output) else pulumi.Output.from_input(value)
    return known.apply(MappingProxyType)


def parts(value: Mapping[str, Any]) -> dict[str, Any]:
    """A value with such views inside, as plain dicts."""
    return {key: parts(item) if isinstance(item, Mapping) else item for key, item in value.items()}
