"""What clients see of a fault: every request is counted, from a pod and from a VM, until all is well again."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from lab.cluster import wait_for
from lab.machines import Machine
from tests.e2e.load import Load, Request
from tests.e2e.mesh import objects
from tests.environment import Lab

SETTLED_REQUESTS = 40
"""Requests after a fault that all must have been answered before it is over."""


@dataclass
class Seen:
    """A fault as clients saw it. Times are seconds since the fault."""

    name: str
    loads: dict[str, Load]
    began: float = 0
    notes: list[str] = field(default_factory=list)

    def requests(self, source: str) -> list[Request]:
        """Those that were open at the fault, or came after it."""
        return [request for request in self.loads[source].requests if request.ended >= self.began]

    def failed(self, source: str) -> list[Request]:
        return [request for request in self.requests(source) if request.status != 200]

    def note(self, what: str) -> None:
        """When something was so again."""
        self.notes.append(f"{what} after {time.time() - self.began:.1f} s")

    def __str__(self) -> str:
        parts = []
        for source in self.loads:
            bad = self.failed(source)
            what = Counter(request.status for request in bad)
            last = f", the last {max(r.ended for r in bad) - self.began:.1f} s after it" if bad else ""
            longest = max((r.ended - r.began for r in self.requests(source)), default=0)
            parts.append(
                f"{len(self.requests(source))} requests from {source}, {len(bad)} failed"
                f"{f' {dict(what)}' if bad else ''}{last}, the longest {longest:.1f} s"
            )
        return f"FAULT {self.name}: {'; '.join(parts)}{''.join(f'; {note}' for note in self.notes)}"


@contextlib.contextmanager
def watched(lab: Lab, name: str, *sources: Machine) -> Iterator[Seen]:
    """Load from the client's pod, and from VMs, while the block does a fault and waits for its end; then some more."""
    with contextlib.ExitStack() as stack:
        loads = {"pod": stack.enter_context(Load(lab, pause=0.05))}
        for machine in sources:
            loads[machine.name] = stack.enter_context(Load(lab, machine=machine, pause=0.05))
        for load in loads.values():
            load.wait("steady answers", lambda requests: len(requests) > SETTLED_REQUESTS, 60)
        seen = Seen(name, loads, time.time())
        yield seen
        for load in loads.values():
            so_far = len(load.requests)
            load.wait("answers afterwards", lambda r, n=so_far: len(r) > n + SETTLED_REQUESTS, 60)  # type: ignore[misc]
    print(seen)


def entry(lab: Lab, machine: Machine) -> dict[str, object] | None:
    """A machine's WorkloadEntry."""
    found = [e for e in objects(lab, "workloadentries").values() if e["spec"]["address"] == machine.address]
    return found[0] if found else None


def is_in(lab: Lab, machine: Machine) -> bool:
    """Whether istiod has it connected and healthy."""
    found = entry(lab, machine)
    if found is None:
        return False
    metadata, status = found["metadata"], found.get("status") or {}
    assert isinstance(metadata, dict)
    assert isinstance(status, dict)
    healthy = any(c["type"] == "Healthy" and c["status"] == "True" for c in status.get("conditions", []))
    return healthy and "istio.io/disconnectedAt" not in (metadata.get("annotations") or {})


def wait_until_in(lab: Lab, machine: Machine, seconds: float = 90) -> None:
    wait_for(f"{machine.name} to be in the mesh", lambda: is_in(lab, machine), seconds)


def wait_until_served_by(seen: Seen, machine: Machine) -> None:
    """Until requests of the pod that begin now come to a machine."""
    now = time.time()
    seen.loads["pod"].wait(
        f"answers of {machine.name}",
        lambda requests: any(r.instance == machine.name and r.began > now for r in requests),
        90,
    )
