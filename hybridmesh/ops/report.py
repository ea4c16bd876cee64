"""`python -m hybridmesh report`: one HTML page about a stack, that needs nothing but itself."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from hybridmesh.legible import legible
from hybridmesh.providers.cluster import ClusterError

from .console import for_lines, try_to_write
from .diagnoses import Finding
from .doctor import examine, together
from .look import Source, View, look
from .mesh import ready_istiods
from .others import others
from .picture import scene, tall, wide, worst_first
from .status_page import no_machines
from .statuses import (
    LIFE_HOURS,
    MachineStatus,
    WorkloadStatus,
    hours_left,
    known_end,
    machine_statuses,
    other_statuses,
    remaining,
    workload_statuses,
)

_WORDS = {"good": "well", "warn": "well, but", "bad": "not well"}
_WORSE = list(_WORDS)


def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write; - is stdout.")] = Path(
        "report.html"
    ),
    stack: Annotated[str | None, typer.Option(help="The stack; default the selected one.")] = None,
    config_file: Annotated[Path | None, typer.Option(help="Its settings; default Pulumi.<stack>.yaml.")] = None,
    ssh: Annotated[bool, typer.Option("--ssh/--no-ssh", help="Ask the machines too.")] = True,
) -> None:
    """Write a page about a stack, to look at or to send around.

    Its topology drawn, what is wrong, traffic, health and expiry of each machine.
    """
    if str(output) != "-":
        try_to_write(output, "--output")
    source = Source(stack=stack, config_file=config_file)
    topology = source.topology()
    view = look(source, topology, sorted(topology["machines"]) if ssh else (), certificates=True)
    if view.mesh is None:
        raise ClusterError(view.mesh_refusal)
    text = html(view, examine(view))
    if str(output) == "-":
        sys.stdout.write(text)
        return
    output.write_text(text, encoding="utf-8")
    for_lines().print(f"Written: {output}", markup=False)


def html(view: View, findings: Sequence[Finding]) -> str:
    """The page. The mesh must have been seen."""
    assert view.mesh is not None
    machines, splits = [*machine_statuses(view), *other_statuses(view)], workload_statuses(view)
    everyone = {**others(view.topology, view.mesh.entries), **view.topology["machines"]}
    states = {machine.name: state_of(machine, findings) for machine in machines}
    drawn = scene(
        {**view.topology, "machines": everyone}, machines, splits, view.mesh.istiods, view.mesh.gateways, states
    )
    state = overall(findings, view.mesh.unread)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    environment.filters["code"] = code
    template = environment.from_string(resources.files(__package__).joinpath("report.html.j2").read_text("utf-8"))
    page = template.render(
        cluster=view.topology["cluster"]["name"],
        plane=view.topology["controlPlane"],
        now=view.now,
        state=state,
        headline=headline(findings, view.mesh.unread),
        unread=view.mesh.unread,
        tiles=tiles(view, machines, splits, findings),
        findings=grouped(findings),
        wide=wide(drawn),
        tall=tall(drawn),
        splits=splits,
        machines=[row(machine, findings, view.now) for machine in worst_first(machines, states)],
        nobody=no_machines(view.topology),
    )
    return legible(page)  # what the mesh says of machines is much of it their own words, and it may go to a terminal


def grouped(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Findings, those that say the same of several machines as one; where each was seen does not stand on the page."""
    unproved = [finding.model_copy(update={"evidence": ""}) for finding in findings]
    return [finding.model_dump() | {"machines": machines} for machines, finding in together(unproved)]


def code(text: str) -> Markup:
    """What stands between backticks, as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if n % 2 else escape(p) for n, p in enumerate(parts))


def overall(findings: Sequence[Finding], unread: Sequence[str]) -> str:
    """`good`, `warn` or `bad`; nothing is good while a part of the mesh is not known."""
    severities = {finding.severity for finding in findings}
    return "bad" if "critical" in severities else "warn" if "warning" in severities or unread else "good"


def headline(findings: Sequence[Finding], unread: Sequence[str]) -> str:
    """The state in a few words."""
    count = sum(finding.severity != "note" for finding in findings)
    if not count:
        return "not all is known" if unread else "all well"
    return f"{count} finding" + ("s" if count > 1 else "")


def tiles(
    view: View, machines: Sequence[MachineStatus], splits: Sequence[WorkloadStatus], findings: Sequence[Finding]
) -> list[dict[str, str]]:
    """What is to be seen at a glance."""
    assert view.mesh is not None
    well = sum(state_of(machine, findings) != "bad" for machine in machines)
    all_well = well == len(machines) and bool(machines or not view.topology.get("google"))
    expiries = [expiry_state(machine, findings, view.now) for machine in machines]
    plane, plane_state = _plane(view.mesh.istiods, view.mesh.gateways)
    ready = f"ready: {_counted(ready_istiods(view.mesh.istiods))} istiod, {_of_gateway(view.mesh.gateways)}"
    requests = sum(sum(split.requests.values()) for split in splits)
    return [
        _tile("machines well", f"{well} of {len(machines)}", "in sync, healthy, seen", "good" if all_well else "bad"),
        _tile(
            "next certificate ends",
            _next_end(machines, view.now),
            "renewed at half its time",
            max(expiries, key=_WORSE.index, default="good"),
        ),
        _tile("control plane", plane, ready, plane_state),
        _tile("requests measured", f"{requests:,}".replace(",", " "), "by callers' proxies", ""),
    ]


def _next_end(machines: Sequence[MachineStatus], now: datetime) -> str:
    """In how long the first of their certificates ends."""
    if not machines:
        return "none"
    end = min(filter(None, (known_end(machine, now) for machine in machines)), default="")
    return remaining(end, now).replace(" left", "") if end else "not known"


def _of_gateway(gateways: int | None) -> str:
    return "gateway not known" if gateways is None else f"{gateways} gateway"


def _counted(ready: int | None) -> str:
    return "not known of" if ready is None else str(ready)


def _plane(istiods: Mapping[str, int | None], gateways: int | None) -> tuple[str, str]:
    """How the control plane is, in a word or two, and as `good`, `warn` or `bad`."""
    planes = [(f"istiod {revision}" if len(istiods) > 1 else "istiod", ready) for revision, ready in istiods.items()]
    down = [name for name, count in (*planes, ("gateway", gateways)) if count == 0]
    if down:
        return f"{' and '.join(down)} down", "bad"
    return ("not known", "warn") if None in istiods.values() else ("ready", "good")


def _tile(what: str, value: str, detail: str, state: str) -> dict[str, str]:
    return {"what": what, "value": value, "detail": detail, "state": state}


def state_of(machine: MachineStatus, findings: Sequence[Finding]) -> str:
    """`good`, `warn` or `bad`: by what the mesh says, and by what the doctor found."""
    severities = {found.severity for found in findings if found.machine == machine.name and _weighs(found)}
    if not machine.good or "critical" in severities:
        return "bad"
    return "warn" if machine.drift or machine.refusal or severities else "good"


def _weighs(found: Finding) -> bool:
    """A machine that cannot be looked at may be well all the same, and a note is nothing wrong."""
    return found.severity != "note" and found.id != "ssh-unreachable"


def expiry_state(machine: MachineStatus, findings: Sequence[Finding], now: datetime) -> str:
    """`good`, `warn` or `bad`, of its certificate. One that was not asked may have a certificate of days or of an hour:
    in its last hour it is taken for one that should have been renewed."""
    end = known_end(machine, now)
    if not end:
        return "good"
    hours, asked = hours_left(end, now), machine.drift is not None
    mine = {finding.id for finding in findings if finding.machine == machine.name}
    late = bool(mine & {"certificate-ending", "certificate-expired"}) or (not asked and hours <= 1)
    if hours <= 0 or (late and hours <= 1):
        return "bad"
    return "warn" if late else "good"


def row(machine: MachineStatus, findings: Sequence[Finding], now: datetime) -> dict[str, Any]:
    """One machine of the table."""
    end = known_end(machine, now)
    hours = hours_left(end, now) if end else None
    trouble = [said for said in (machine.sync, machine.health) if said not in ("in sync", "connected", "healthy")]
    if machine.endpoint != "seen by all":
        trouble.append({"not seen": "no endpoint of its service"}.get(machine.endpoint, machine.endpoint))
    if machine.refusal:
        trouble.append(f"not asked over SSH: {machine.refusal}")
    state = state_of(machine, findings)
    trouble += [f"{found.id}, above" for found in findings if found.machine == machine.name and _weighs(found)]
    return {
        "name": machine.name,
        "state": state,
        "word": _WORDS[state],
        "trouble": trouble,
        "identity": machine.identity,
        "address": machine.address,
        "version": machine.sidecar_version or "not asked",
        "left": remaining(end, now) if end else "not known",
        "until": machine.certificate_expiry.replace("T", " ").removesuffix("Z"),
        "of": _of_join(known=bool(end)) if machine.certificate_of == "join" else "",
        "expiry": expiry_state(machine, findings, now),
        "share": f"{min(max((hours or 0) / LIFE_HOURS, 0), 1) * 100:.0f}",
        "by_hand": "not asked" if machine.drift is None else "; ".join(machine.drift) or "nothing changed",
    }


def _of_join(*, known: bool) -> str:
    return " (that of its join)" if known else " (that of its join, which is renewed unseen)"
