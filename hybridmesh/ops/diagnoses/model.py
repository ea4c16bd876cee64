"""What a finding, a case and a diagnosis are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ..facts import MachineFacts
from ..mesh import MeshFacts

Severity = Literal["critical", "warning", "note"]


class Finding(BaseModel):
    """One thing that is wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    severity: Severity
    machine: str
    """Empty: it is the whole stack's."""
    what: str
    evidence: str
    """Where that was seen."""
    remedy: str
    runbook: str
    """Where it is explained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One machine, with all that is known of it; none for a diagnosis of the stack."""

    name: str
    topology: Mapping[str, Any]
    mesh: MeshFacts
    now: datetime
    facts: MachineFacts | None = None
    """None: it could not be looked at."""
    refusal: str = ""
    """Why it could not, and what to do."""
    asked: tuple[datetime, datetime] | None = None
    """When the probe was sent, and when its answer was there, by our clock."""
    mesh_name: str = ""
    """The name of the mesh's that it was to resolve; empty: none."""

    @property
    def machine(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.topology["machines"][self.name]
        return found

    @property
    def workload(self) -> Mapping[str, Any] | None:
        """Its workload; None for the machine of a gateway."""
        found: Mapping[str, Any] | None = self.topology["workloads"].get(self.machine["workload"])
        return found

    @property
    def entry(self) -> Mapping[str, Any] | None:
        return self.mesh.entries.get(self.machine["entry"])

    @property
    def group(self) -> Mapping[str, Any] | None:
        return self.mesh.groups.get(f"{self.machine['namespace']}/{self.machine['workload']}")

    @property
    def states(self) -> Sequence[Mapping[str, Any]] | None:
        """What istiods say of the proxies in its namespace; None: they could not be asked."""
        return self.mesh.states.get(self.machine["namespace"])

    @property
    def proxy(self) -> str:
        return f"{self.name}.{self.machine['namespace']}"


@dataclass(frozen=True, slots=True)
class Found:
    """What a check has found."""

    what: str
    evidence: str = ""
    remedy: str = ""
    """Instead of the diagnosis' own."""
    severity: Severity | None = None
    """Instead of the diagnosis' own."""


Check = Callable[[Case], Iterator[Found]]


def of_facts(check: Callable[[MachineFacts, Case], Iterator[Found]]) -> Check:
    """A check of what was found on the machine; of one that could not be looked at, none."""
    return lambda case: iter(()) if case.facts is None else check(case.facts, case)


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """One thing that can be wrong."""

    id: str
    title: str
    severity: Severity
    check: Check
    remedy: str = ""
    """Empty: each finding says its own."""
    explained_by: frozenset[str] = field(default=frozenset())
    """Other diagnoses of which it is but the consequence."""
    of_stack: bool = False
    needs: frozenset[str] = field(default=frozenset())
    """Sections of the probe without which it cannot be told."""


CANNOT_COME = frozenset(
    {
        "never-joined",
        "service-stopped",
        "crash-loop",
        "hosts-stale",
        "gateway-unreachable",
        "handshake-fails",
        "certificate-expired",
        "token-expired",
        "wrong-cluster-id",
        "wrong-trust-root",
        "wrong-identity",
        "registration-refused",
        "istiod-down",
        "gateway-down",
    }
)
"""Why a proxy may not be connected to istiod."""


JOIN_AGAIN = "pulumi up --refresh: it looks at the machine, and joins it again."


def last_words(facts: MachineFacts) -> str:
    """The last line of the log that sounds like trouble."""
    for line in reversed(facts.log):
        if any(word in line.lower() for word in ("error", "fatal", "failed", "refused", "unauthenticated")):
            return " ".join(line.split())[:300]
    return "nothing in /var/log/istio says why"


def duration(time: timedelta) -> str:
    """As people say it."""
    seconds = int(time.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
