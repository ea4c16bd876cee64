"""Reading the properties that the engine hands to a dynamic provider."""

from collections.abc import Mapping
from typing import Any

from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

Properties = Mapping[str, Any]


def is_unknown(value: object) -> bool:
    """Whether a value is not known yet, in a preview: a text in `pulumi preview --json`, for a provider an object
    that equals no other (pulumi/runtime/rpc.py, deserialize_property)."""
    return isinstance(value, Unknown) or value == UNKNOWN


def changed(olds: Properties, news: Properties, keys: tuple[str, ...]) -> list[str]:
    """The keys whose values differ; a value not known yet counts as different. Absent and null are the same."""
    return [key for key in keys if is_unknown(news.get(key)) or olds.get(key) != news.get(key)]


def text(properties: Properties, key: str) -> str:
    """A text; empty where there is none."""
    value = properties.get(key)
    return value if isinstance(value, str) else ""


def its_entry(properties: Properties) -> tuple[str, str]:
    """Namespace and name of a VM's WorkloadEntry."""
    return text(properties, "namespace"), text(properties, "entry")


def in_its_mesh(properties: Properties, *what: str) -> tuple[str, ...]:
    """Something of a VM's namespace, apart from what is called the same in another cluster."""
    return text(properties, "kubeconfig"), text(properties, "context"), text(properties, "namespace"), *what


def entry_in_its_mesh(properties: Properties) -> tuple[str, ...]:
    """`its_entry`, apart from the one of the same names in another cluster."""
    return in_its_mesh(properties, text(properties, "entry"))


def number(properties: Properties, key: str) -> int:
    """A whole number: the engine hands every number over as a float."""
    return int(properties[key])
