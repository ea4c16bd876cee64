"""What a stack's machines and its traffic are like right now: `python -m hybridmesh status`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from hybridmesh.providers.cluster import ClusterError

from .console import Console
from .look import Source, View, look
from .mesh import ready_istiods
from .status_page import LINE, page
from .statuses import MachineStatus, machine_statuses, other_statuses, requests, workload_statuses
from .topology import StackError

SSH_SECONDS = 30.0
"""With `--watch` machines are asked over SSH no more often than this."""


def status(
    stack: Annotated[str | None, typer.Option(help="The stack; default the selected one.")] = None,
    config_file: Annotated[Path | None, typer.Option(help="Its settings; default Pulumi.<stack>.yaml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
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
        "istiods": ready_istiods(view.mesh.istiods),
        "revisions": dict(view.mesh.istiods),
        "gateways": view.mesh.gateways,
        "notSeen": list(view.mesh.unread),
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
