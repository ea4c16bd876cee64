"""A stack's status as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import rich.console
from rich.console import ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from .look import View
from .statuses import MachineStatus, WorkloadStatus, known_end, remaining
from .topology import by_number

LINE = 10_000
"""The width of what is not a terminal: a log is read with its lines whole."""


def page(view: View, machines: Sequence[MachineStatus], splits: Sequence[WorkloadStatus]) -> RenderableType:
    """The whole status."""
    topology, mesh = view.topology, view.mesh
    assert mesh is not None
    cluster, plane, gateway = topology["cluster"], topology["controlPlane"], topology["gateway"]
    lines = [
        f"cluster   {cluster['name']}, network {cluster['network']}",
        f"istiod    {plane['version']}, revision {plane['revision']}, trust domain {plane['trustDomain']}"
        f", {_running(mesh.istiods[plane['revision']])}",
        *(
            f"istiod    revision {revision}, {_running(ready)}"
            for revision, ready in mesh.istiods.items()
            if revision != plane["revision"]
        ),
        f"gateway   {gateway['name']} at {gateway['address']}, {_gateway(mesh.gateways)}",
    ]
    lines += [f"network   {name}: {_way(network)}" for name, network in sorted(topology.get("networks", {}).items())]
    measured = {split.name: split for split in splits}
    for name, workload in sorted(topology["workloads"].items()):
        lines.append(f"workload  {name}: {_describe(workload)}{_measured(measured.get(name))}")
    for name, made in sorted((topology.get("google") or {}).items()):
        lines.append(f"{made['kind']:<9} {name}: of {made['workload']}, on Google Cloud as {made['serviceAccount']}")
    parts: list[RenderableType] = [Text(line) for line in lines]
    parts += [Text(), _Table(machines, view.now) if machines else Text(no_machines(topology))]
    refused: dict[str, list[str]] = {}
    for machine in machines:
        parts += [Text(f"{machine.name}: changed by hand: {line}", "yellow") for line in machine.drift or ()]
        if machine.refusal:
            refused.setdefault(machine.refusal, []).append(machine.name)
    parts += [Text(f"{', '.join(names)}: not asked over SSH: {why}", "yellow") for why, names in refused.items()]
    parts += [Text(f"not seen: {line}", "yellow") for line in mesh.unread]
    return Group(*parts)


def no_machines(topology: Mapping[str, Any]) -> str:
    """What stands in place of a table of none."""
    made = ", ".join(sorted(topology.get("google") or {}, key=by_number))
    return f"No machine of {made} is in the mesh." if made else "The stack has no machines."


@dataclass(frozen=True, slots=True)
class _Table:
    """The machines, and below what is too long for a table; where that would not fit, without what is long."""

    machines: Sequence[MachineStatus]
    now: datetime

    def __rich_console__(self, console: rich.console.Console, options: ConsoleOptions) -> RenderResult:
        table = _table(self.machines, self.now, whole=True)
        whole = Measurement.get(console, options.update_width(LINE), table).maximum <= options.max_width
        yield table if whole else _table(self.machines, self.now, whole=False)
        for machine in self.machines:
            for word, said in _said(machine, whole=whole):
                if word != said:
                    yield Text(f"{machine.name}: {word}: {said}", "red")


def _table(machines: Sequence[MachineStatus], now: datetime, *, whole: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    for header in ("machine", "identity", "address", "endpoint", "sidecar", "sync", "health", "certificate", "by hand"):
        if whole or header not in ("identity", "sidecar"):
            table.add_column(header, overflow="fold")
    for machine in machines:
        # By shape too: a log has no colours.
        colour, shape = ("green", "●") if machine.good else ("red", "✗")
        if machine.good and (machine.drift or machine.refusal):
            colour, shape = "yellow", "▲"
        cells = (
            *([machine.identity] if whole else []),
            machine.address,
            machine.endpoint,
            *([machine.sidecar_version or "not asked"] if whole else []),
            *(word for word, _ in _said(machine, whole=whole)),
            _certificate_text(machine, now, whole=whole),
            _by_hand(machine),
        )
        # Not markup: what a probe or istiod says may hold brackets, as an IPv6 address does.
        table.add_row(Text.assemble((shape, colour), f" {machine.name}"), *map(Text, cells))
    return table


def _said(machine: MachineStatus, *, whole: bool) -> Iterator[tuple[str, str]]:
    """Of sync and health, what stands in the table, and all of it."""
    for said, word in ((machine.sync, "not in sync"), (machine.health, "unhealthy")):
        yield (said if len(said) <= (24 if whole else 12) else word), said


def _by_hand(machine: MachineStatus) -> str:
    if machine.drift is None:
        return "not asked"
    count = len(machine.drift)
    return f"{count} change{'s' if count > 1 else ''}" if count else "nothing"


def _certificate_text(machine: MachineStatus, now: datetime, *, whole: bool) -> str:
    end = known_end(machine, now)
    if not end:
        joined = f" (joined until {machine.certificate_expiry})" if whole and machine.certificate_expiry else ""
        return f"not known{joined}"
    text = f"{remaining(end, now)}, until {end}" if whole else remaining(end, now)
    return f"{text} (of its join)" if machine.certificate_of == "join" else text


def _running(count: int | None) -> str:
    return "not known whether it runs" if count is None else f"{count} ready" if count else "NONE READY"


def _gateway(count: int | None) -> str:
    return "its pods are not known" if count is None else _running(count)


def _way(network: Mapping[str, Any]) -> str:
    if network["gateways"]:
        return f"reached through {', '.join(network['gateways'])} at {', '.join(network['addresses'])}"
    return "reached directly" if network["direct"] else "its machines call, and are not called"


def _describe(workload: Mapping[str, Any]) -> str:
    parts = []
    if workload["pods"]:
        parts.append(f"{workload['pods']['replicas']:g} pod(s)")
    if workload["machines"]:
        parts.append(f"machines {', '.join(workload['machines'])}")
    text = " and ".join(parts) or "machines on Google Cloud"
    if workload["host"]:
        text += f", as {workload['host']}"
    if workload["weights"]:
        text += ", split " + ", ".join(f"{subset} {share:g} %" for subset, share in workload["weights"].items())
    return text


def _measured(split: WorkloadStatus | None) -> str:
    if split is None:
        return ""
    if not split.measured:
        return " (no requests to measure)"
    found = ", ".join(f"{subset} {share:.1f} %" for subset, share in split.measured.items())
    return f" (measured {found} of {sum(split.requests.values())} requests)"
