"""What a stack's machines and its traffic are like right now: `python -m hybridmesh status`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import rich.console
import typer
from rich.console import ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from hybridmesh.istio.entries import health, is_connected
from hybridmesh.providers.cluster import ClusterError
from hybridmesh.providers.membership import sync_objection

from .console import Console
from .look import Seen, Source, View, look
from .mesh import MeshFacts, shares
from .others import others
from .topology import StackError, by_number

LIFE_HOURS = 24
"""How long a certificate lasts, if nobody says otherwise."""
SSH_SECONDS = 30.0
"""With `--watch` machines are asked over SSH no more often than this."""
LINE = 10_000
"""The width of what is not a terminal: a log is read with its lines whole."""


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
    """Whether istiod holds a connection to it."""
    sync: str
    """`in sync`, or why not; `connected` where nobody knows which proxy of istiod's list it is."""
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
    states = mesh.states.get(machine["namespace"], ())
    objection = sync_objection(states, f"{name}.{machine['namespace']}") if connected else "not connected to istiod"
    healthy, said = _health(entry)
    expiry, of = _certificate(name, machine, mesh, seen)
    facts = seen.facts
    return MachineStatus(
        name=name,
        workload=f"{machine['namespace']}/{machine['workload']}",
        identity=machine["identity"],
        address=machine["meshAddress"],
        sidecar_version=facts.version if facts and facts.version else machine["sidecarVersion"],
        connected=connected,
        sync=objection or "in sync",
        healthy=healthy,
        health=said,
        endpoint=_endpoint(machine, workload, mesh),
        certificate_expiry=expiry,
        certificate_of=of,
        drift=facts.drift if facts else None,
        refusal=seen.refusal,
    )


def _health(entry: Mapping[str, Any] | None) -> tuple[bool | None, str]:
    """Whether the app is healthy by its probe, None where it is not probed; and the same in words."""
    if entry is None or not (entry.get("status") or {}).get("conditions"):
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
        fresh = dict(counted)
    return [
        WorkloadStatus(name=name, host=workload["host"], wanted=workload["weights"], requests=shares(workload, fresh))
        for name, workload in sorted(view.topology["workloads"].items())
        if workload["weights"]
    ]


def requests(view: View) -> dict[str, int]:
    """Requests that all proxies have sent, by Envoy cluster."""
    counted = dict(view.mesh.requests) if view.mesh else {}
    for seen in view.machines.values():
        for name, count in (seen.facts.outbound if seen.facts else {}).items():
            counted[name] = counted.get(name, 0) + count
    return counted


def status(
    stack: Annotated[str | None, typer.Option(help="The stack; default the selected one.")] = None,
    config_file: Annotated[Path | None, typer.Option(help="Its settings; default Pulumi.<stack>.yaml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    ssh: Annotated[
        bool, typer.Option("--ssh/--no-ssh", help="Ask the machines too: certificate, version, changes by hand.")
    ] = True,
    watch: Annotated[bool, typer.Option("--watch", help="Go on looking, until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.5, help="With --watch: seconds between two looks.")] = 2.0,
) -> None:
    """Show how each machine of a stack is, and where requests go.

    Identity, sync state, health, certificate, changes by hand.

    Exit code 1 if a machine is not well.
    """
    source = Source(stack=stack, config_file=config_file)
    if watch and as_json:
        raise typer.BadParameter(
            "is given beside --watch: one document is printed, not one after another. "
            "Fix: leave one of them out; a script asks again itself.",
            param_hint="--json",
        )
    if watch:
        _watch(source, ssh, interval)
        return
    view = _seen(source, ssh)
    machines, more = machine_statuses(view), other_statuses(view)
    if as_json:
        print(json.dumps(document(view, machines, more), indent=2))
    else:
        _console().print(page(view, [*machines, *more], workload_statuses(view)))
    if not all(machine.good for machine in (*machines, *more)):
        raise typer.Exit(1)


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = LINE
    return console


def _seen(source: Source, ssh: bool) -> View:
    topology = source.topology()
    view = look(source, topology, sorted(topology["machines"]) if ssh else (), certificates=True)
    if view.mesh is None:
        raise ClusterError(view.mesh_refusal)
    return view


def document(view: View, machines: Sequence[MachineStatus], more: Sequence[MachineStatus]) -> dict[str, Any]:
    """What `--json` prints."""
    assert view.mesh is not None
    return {
        "topology": view.topology,
        "istiods": sum(view.mesh.istiods.values()),
        "revisions": dict(view.mesh.istiods),
        "gateways": view.mesh.gateways,
        "machines": [asdict(machine) | {"good": machine.good} for machine in machines],
        "others": [asdict(machine) | {"good": machine.good} for machine in more],
        "workloads": [asdict(split) | {"measured": split.measured} for split in workload_statuses(view)],
    }


def _watch(source: Source, ssh: bool, interval: float) -> None:
    """Look again and again. What is measured is what came since the first look."""
    view, asked = _seen(source, ssh), time.monotonic()
    since, silence = requests(view), ""
    console = _console()
    with Live(console=console, auto_refresh=False, screen=False) if console.is_terminal else nullcontext() as live:
        while True:
            # What does not fit on a screen is cut off at its end.
            machines = sorted([*machine_statuses(view), *other_statuses(view)], key=lambda machine: machine.good)
            shown = Group(Text(silence, "red"), page(view, machines, workload_statuses(view, since)))
            if live is None:
                console.print(shown)
            else:
                live.update(shown, refresh=True)
            time.sleep(interval)
            everyone = ssh and time.monotonic() - asked > SSH_SECONDS
            topology, refused = view.topology, ("", "")
            if everyone:
                asked = time.monotonic()
                try:
                    topology = source.topology()
                except StackError as error:
                    refused = ("the stack's state cannot be read", str(error))
            names = sorted(topology["machines"]) if everyone else ()
            fresh = look(source, topology, names, certificates=everyone or not ssh)
            if fresh.mesh is None:
                refused = ("the API server has not answered", fresh.mesh_refusal)
            what, why = refused
            silence = what and (silence or f"as seen at {_time(view.now)}; {what} since {_time(fresh.now)}: {why}")
            if fresh.mesh is None:
                continue
            if everyone or not ssh:
                view = fresh
            elif view.mesh is not None:  # machines were not asked for anything
                told = replace(fresh.mesh, certificates=view.mesh.certificates)
                view = replace(fresh, machines=view.machines, mesh=told)


def _time(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"


# ---------------------------------------------------------------------- as people read it


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
    for machine in machines:
        parts += [Text(f"{machine.name}: changed by hand: {line}", "yellow") for line in machine.drift or ()]
        if machine.refusal:
            parts.append(Text(f"{machine.name}: not asked over SSH: {machine.refusal}", "yellow"))
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


def _running(count: int) -> str:
    return f"{count} ready" if count else "NONE READY"


def _gateway(count: int | None) -> str:
    return "adopted; its pods are not known" if count is None else _running(count)


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


def remaining(expiry: str, now: datetime | None = None) -> str:
    """The same, as people say it."""
    left = (datetime.fromisoformat(expiry) - (now or datetime.now(UTC))).total_seconds()
    if left <= 0:
        return "ENDED"
    return f"{left / 3600:.0f} h left" if left >= 3600 else f"{left / 60:.0f} min left"
