"""`python -m hybridmesh doctor`: what is wrong with a stack, and what to do. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from .bundle import write_bundle
from .console import for_lines, try_to_write
from .diagnoses import Case, Finding, diagnose
from .look import Source, View, look
from .machines import chosen
from .mesh import NOTHING
from .topology import StackError, by_number

WELL, FINDINGS, BLIND = 0, 1, 2
"""Exit codes."""
_BLINDNESS = {"ssh-unreachable", "partly-seen"}
"""Diagnoses that say no more than that something is not known."""
_COLOURS = {"critical": "red", "warning": "yellow", "note": "cyan"}


def doctor(
    machines: Annotated[list[str] | None, typer.Argument(help="Which; default all.")] = None,
    stack: Annotated[str | None, typer.Option(help="The stack; default the selected one.")] = None,
    config_file: Annotated[Path | None, typer.Option(help="Its settings; default Pulumi.<stack>.yaml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Write what was seen, logs and configuration too, to this .tar.gz, secrets taken out."),
    ] = None,
) -> None:
    """Find what is wrong with a stack, and say what to do.

    Looks at machines over SSH, at istiod and Kubernetes.

    Exit code 0: well. 1: there are findings. 2: none, but something could not be looked at.
    """
    if bundle is not None:
        try_to_write(bundle, "--bundle")
    source = Source(stack=stack, config_file=config_file)
    try:
        topology = source.topology()
        names = chosen(machines, topology["machines"])
    except StackError as error:
        if as_json:
            print(json.dumps({"machines": [], "notLookedAt": {"stack": str(error)}, "findings": []}, indent=2))
        for_lines(stderr=True).print(f"Error: {error}", style="red", markup=False)
        raise typer.Exit(BLIND) from error
    view = look(source, topology, names, whole=bundle is not None)
    findings = examine(view)
    if as_json:
        print(json.dumps(document(view, findings), indent=2))
    else:
        _print(view, findings)
    if bundle is not None:
        write_bundle(bundle, view, findings)
        for_lines(stderr=as_json).print(Text(f"Written: {bundle}"))
    raise typer.Exit(exit_code(view, findings))


def examine(view: View) -> list[Finding]:
    """What is wrong by what was seen, the worst first."""
    known = view.mesh or NOTHING
    cases = [
        Case(
            name=name,
            topology=view.topology,
            mesh=known,
            now=view.now,
            facts=seen.facts,
            refusal=seen.refusal,
            asked=seen.asked,
            mesh_name=seen.mesh_name,
        )
        for name, seen in view.machines.items()
    ]
    stack = Case(name="", topology=view.topology, mesh=known, now=view.now)
    return diagnose(cases, stack, mesh_is_known=view.mesh is not None)


def together(findings: Sequence[Finding]) -> list[tuple[str, Finding]]:
    """Those that say the same of several machines as one, with the names of these: what one cause does to many."""
    found: dict[Finding, list[str]] = {}
    for finding in findings:
        found.setdefault(finding.model_copy(update={"machine": ""}), []).append(finding.machine or "stack")
    return [(", ".join(machines), finding) for finding, machines in found.items()]


def exit_code(view: View, findings: Sequence[Finding]) -> int:
    """Notes are nothing that a script should stop for; what cannot be looked at is no more than unknown."""
    wrong = [finding for finding in findings if finding.severity != "note"]
    if any(finding.id not in _BLINDNESS for finding in wrong):
        return FINDINGS
    return BLIND if wrong or view.mesh is None or view.mesh.unread else WELL


def document(view: View, findings: Sequence[Finding]) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "machines": sorted(view.machines, key=by_number),
        "notLookedAt": {
            **{name: seen.refusal for name, seen in view.machines.items() if seen.facts is None},
            **({"mesh": refusal} if (refusal := " ".join(_unread(view))) else {}),
        },
        "findings": [finding.model_dump() for finding in findings],
    }


def _print(view: View, findings: Sequence[Finding]) -> None:
    console = for_lines()
    part = "The mesh" if view.mesh is None else "A part of the mesh"
    for line in _unread(view):
        console.print(Text(f"{part} could not be looked at: {line}", "red"))
    said = together(findings)
    for machines, finding in said:
        head = Text(f"● {finding.severity:<8}  ", _COLOURS[finding.severity])
        head.append(machines, "bold").append(f"  {finding.id}  ").append(finding.what)
        console.print(head)
        if finding.evidence:
            console.print(Text(f"  seen   {finding.evidence}", "dim"))
        console.print(Text(f"  do     {finding.remedy}"))
        console.print(Text(f"  more   {finding.runbook}", "dim"))
    if said:
        counts = {severity: sum(f.severity == severity for _, f in said) for severity in _COLOURS}
        console.print(Text(", ".join(f"{count} {severity}" for severity, count in counts.items() if count), "bold"))
    elif view.mesh is not None and not view.mesh.unread:
        known = "istiod" if view.mesh.gateways is None else "istiod, gateway"
        console.print(Text(f"All well: {known}, {_counted(len(view.machines), 'machine')}.", "green"))


def _unread(view: View) -> Sequence[str]:
    """Why the mesh, or a part of it, is not known."""
    return view.mesh.unread if view.mesh is not None else [view.mesh_refusal]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
