"""What the rules that need more than one field are given: the settings, as far as they could be read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .models import Namespace, Network, NetworkGateway, Routing, Workload, gateways_of, used_namespaces

_Section = TypeVar("_Section")


@dataclass
class Draft:
    """What of the settings could be read."""

    sections: dict[str, Any] = field(default_factory=dict)
    """Models by the section's name; None where it is wrong in itself."""
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The same for `workloads`, `networks`, `routing` and `access`, entry by entry."""

    def section(self, name: str, kind: type[_Section]) -> _Section | None:
        """The section; None where it is not given, or wrong."""
        value = self.sections.get(name)
        return value if isinstance(value, kind) else None

    def section_or_default(self, name: str, kind: type[_Section]) -> _Section | None:
        """The section, its defaults where it is not given; None where it is wrong."""
        return self.section(name, kind) if name in self.sections else kind()

    @property
    def workloads(self) -> dict[str, Workload]:
        """The workloads that could be read."""
        return {n: w for n, w in self.entries.get("workloads", {}).items() if w is not None}

    @property
    def complete(self) -> bool:
        """Whether every workload could be read."""
        return len(self.workloads) == len(self.entries.get("workloads", {}))

    @property
    def networks(self) -> dict[str, Network]:
        """The networks that could be read."""
        return {n: w for n, w in self.entries.get("networks", {}).items() if w is not None}

    @property
    def gateways(self) -> dict[str, NetworkGateway]:
        """The gateways of networks that could be read."""
        return gateways_of(self.networks)

    @property
    def used_namespaces(self) -> set[str]:
        """The namespaces of workloads and gateways that could be read."""
        return used_namespaces(self.workloads, self.gateways)

    @property
    def namespaces(self) -> Mapping[str, Namespace]:
        """What is said of namespaces, by name; nothing where that could not be read."""
        return self.sections.get("namespaces") or {}

    @property
    def strict(self) -> bool:
        """Whether `mtls` is STRICT, as it is by default."""
        return bool(self.sections.get("mtls", "STRICT") == "STRICT")

    @property
    def network_names(self) -> list[str]:
        """All networks that are named, however wrong they are."""
        return list(self.entries.get("networks", {}))

    @property
    def networks_known(self) -> bool:
        """Whether it can be told which networks are named."""
        return "networks" not in self.sections

    @property
    def routing(self) -> dict[str, Routing]:
        """The routings that could be read."""
        return {n: r for n, r in self.entries.get("routing", {}).items() if r is not None}
