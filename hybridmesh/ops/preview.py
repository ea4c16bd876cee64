"""`python -m hybridmesh preview`: what an update would change, and nothing else."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from .changes import counted, readable, remarks
from .console import for_lines
from .machines import selected_stack
from .plan import planned

_STYLES = {"+": "green", "-": "red", "~": "yellow", "!": "magenta"}


def preview(
    stack: Annotated[str | None, typer.Option(help="The stack; default the selected one.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Look first at what is there, on VMs as well.")] = False,
    config_file: Annotated[str | None, typer.Option(help="The settings; default Pulumi.<stack>.yaml.")] = None,
) -> None:
    """Show what `pulumi up` would change, and nothing else.

    By VM and object, files as lines. Changes nothing.
    """
    name = selected_stack(stack)
    plan = planned(name, *(["--refresh"] if refresh else []), config_file=config_file or "")
    console = for_lines()
    for line in readable(plan):
        console.print(Text(line, style=_STYLES.get(line[:1], "")))
    for remark in remarks(plan):
        console.print(Text(remark, style="yellow"))
    console.print(Text(f"{name}: {counted(plan)}", style="bold"))
