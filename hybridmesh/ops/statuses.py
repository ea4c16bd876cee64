"""How each machine of a stack is, and where requests go, by what was seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hybridmesh.istio.entries import health, is_connected, is_probed
from hybridmesh.providers.membership import sync_objection

from .look import Seen, View
from .mesh import MeshFacts, shares
from .others import others
from .topology import by_number

LIFE_HOURS = 24
"""How long a certificate lasts, if nobody says otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineStatus:
    """One machine, as the mesh sees it, and as it is itself where it was asked."""

    name: str
    workload: str
    identity: str
    """SPIFFE id in its certificate."""
    address: str
    """Where the mesh reaches it."""
    sidecar_version: str
    """Installed now; where it was not asked, at its last join."""
    connected: bool
    """Whether istiod is known to hold a connection to it."""
    sync: str
    """`in sync`, or why not; `connected` where nobody knows which proxy of istiod's list it is; `not known` where no
    istiod could be asked, or nobody here may read its WorkloadEntry."""
    healthy: bool | None
    """By the workload's probe; None where istiod knows of none."""
    health: str
    """`healthy`, or what the probe last said."""
    endpoint: str
    """What others are told of it: `seen by all`, `not seen`, `has no service`; `not known` where no istiod answered."""
    certificate_expiry: str
    """End of its certificate (RFC 3339); empty: not known."""
    certificate_of: str
    """Whose end that is: `now`, the certificate that its proxy has; `join`, the one that it joined with, which is
    renewed at half its time."""
    drift: Sequence[str] | None
    """What was changed by hand; None where it was not asked."""
    refusal: str
    """Why it could not be asked over SSH; empty where it was, or where nobody wanted to."""

    @property
    def good(self) -> bool:
        in_sync = self.sync in ("in sync", "connected")
        return self.connected and in_sync and self.healthy is not False and self.endpoint != "not seen"


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadStatus:
    """One workload whose requests are split."""

    name: str
    host: str
    wanted: Mapping[str, float]
    """Share of each subset, in percent."""
    requests: Mapping[str, int]
    """How many each got, by what the proxies of pods and of the machines that were asked have counted."""

    @property
    def measured(self) -> Mapping[str, float]:
        """Share of each subset in percent; nothing where there were no requests."""
        total = sum(self.requests.values())
        return {subset: 100 * count / total for subset, count in self.requests.items()} if total else {}


def machine_status(
    name: str, machine: Mapping[str, Any], workload: Mapping[str, Any] | None, mesh: MeshFacts, seen: Seen
) -> MachineStatus:
    """Judge one machine.

    Args:
        name: the machine's, hence its proxy's.
        machine: its facts in the topology.
        workload: those of its workload; None for the machine of a gateway.
        mesh: what the mesh says.
        seen: what was seen on it.
    """
    entry = mesh.entries.get(machine["entry"])
    connected = is_connected(entry)
    healthy, said = (None, "not known") if machine["namespace"] in mesh.blind else _health(entry)
    expiry, of = _certificate(name, machine, mesh, seen)
    facts = seen.facts
    return MachineStatus(
        name=name,
        workload=f"{machine['namespace']}/{machine['workload']}",
        identity=machine["identity"],
        address=machine["meshAddress"],
        sidecar_version=facts.version if facts and facts.version else machine["sidecarVersion"],
        connected=connected,
        sync=_sync(name, machine, mesh, connected=connected),
        healthy=healthy,
        health=said,
        endpoint=_endpoint(machine, workload, mesh),
        certificate_expiry=expiry,
        certificate_of=of,
        drift=facts.drift if facts and "manifest" not in facts.unread else None,
        refusal=seen.refusal,
    )


def _sync(name: str, machine: Mapping[str, Any], mesh: MeshFacts, *, connected: bool) -> str:
    if machine["namespace"] in mesh.blind:
        return "not known"
    if not connected:
        return "not connected to istiod"
    states = mesh.states.get(machine["namespace"])
    if states is None:
        return "not known"
    return sync_objection(states, f"{name}.{machine['namespace']}") or "in sync"


def _health(entry: Mapping[str, Any] | None) -> tuple[bool | None, str]:
    """Whether the app is healthy by its probe, None where it is not probed; and the same in words."""
    if entry is None or not is_probed(entry):
        return None, "not probed"
    healthy, said = health(entry)
    return healthy, "healthy" if healthy else said


def _certificate(name: str, machine: Mapping[str, Any], mesh: MeshFacts, seen: Seen) -> tuple[str, str]:
    """The machine's own word, else what its proxy shows to callers, else the stack's output."""
    now = (seen.facts.expiry if seen.facts else None) or mesh.certificates.get(name)
    return (now.strftime("%Y-%m-%dT%H:%M:%SZ"), "now") if now else (machine["certificateExpiry"], "join")


def _endpoint(machine: Mapping[str, Any], workload: Mapping[str, Any] | None, mesh: MeshFacts) -> str:
    if workload is None or not workload["host"]:
        return "has no service"
    if mesh.endpoints is None:
        return "not known"
    mine = [e for e in mesh.endpoints if (e.service, e.address) == (workload["host"], machine["meshAddress"])]
    return "seen by all" if any(e.healthy for e in mine) else "not seen"


def machine_statuses(view: View) -> list[MachineStatus]:
    """Judge every machine of a stack. The mesh must have been seen."""
    topology, mesh = view.topology, view.mesh
    assert mesh is not None
    return [
        machine_status(
            name, machine, topology["workloads"].get(machine["workload"]), mesh, view.machines.get(name, Seen())
        )
        for name, machine in sorted(topology["machines"].items(), key=lambda item: by_number(item[0]))
    ]


def other_statuses(view: View) -> list[MachineStatus]:
    """Judge the machines that the stack has no resource of, as far as the mesh tells. It must have been seen."""
    topology, mesh = view.topology, view.mesh
    assert mesh is not None
    found = []
    for name, machine in others(topology, mesh.entries).items():
        entry = mesh.entries[machine["entry"]]
        healthy, said = _health(entry)
        end = mesh.certificates.get(name)
        found.append(
            MachineStatus(
                name=name,
                workload=f"{machine['namespace']}/{machine['workload']}",
                identity=machine["identity"],
                address=machine["meshAddress"],
                sidecar_version="",
                connected=True,
                sync="connected",
                healthy=healthy,
                health=said,
                endpoint=_endpoint(machine, topology["workloads"][machine["workload"]], mesh),
                certificate_expiry=end.strftime("%Y-%m-%dT%H:%M:%SZ") if end else "",
                certificate_of="now",
                drift=None,
                refusal="",
            )
        )
    return found


def workload_statuses(view: View, since: Mapping[str, int] | None = None) -> list[WorkloadStatus]:
    """The split of each workload that has one.

    Args:
        view: what was seen.
        since: what `requests` counted earlier, to be taken off.
    """
    counted = requests(view)
    fresh = {name: count - (since or {}).get(name, 0) for name, count in counted.items()}
    if any(count < 0 for count in fresh.values()):  # a proxy started anew
        fresh = counted
    return [
        WorkloadStatus(name=name, host=workload["host"], wanted=workload["weights"], requests=shares(workload, fresh))
        for name, workload in sorted(view.topology["workloads"].items())
        if workload["weights"]
    ]


def requests(view: View) -> Counter[str]:
    """Requests that all proxies have sent, by Envoy cluster."""
    counted = Counter(view.mesh.requests if view.mesh else {})
    for seen in view.machines.values():
        counted.update(seen.facts.outbound if seen.facts else {})
    return counted


def known_end(machine: MachineStatus, now: datetime) -> str:
    """End of the certificate that a machine has; empty where nobody knows: that of its join is renewed at half its
    time, unseen.
    """
    end = machine.certificate_expiry
    if end and machine.certificate_of == "join" and hours_left(end, now) < LIFE_HOURS / 2:
        return ""
    return end


def hours_left(expiry: str, now: datetime) -> float:
    """How long a certificate is good for yet; below zero: no more."""
    return (datetime.fromisoformat(expiry) - now).total_seconds() / 3600


def remaining(expiry: str, now: datetime) -> str:
    """The same, as people say it."""
    left = (datetime.fromisoformat(expiry) - now).total_seconds()
    if left <= 0:
        return "ENDED"
    return f"{left / 3600:.0f} h left" if left >= 3600 else f"{left / 60:.0f} min left"
