"""`python -m hybridmesh settings`: whether a stack file is good, and what could stand in it. Touches nothing."""

from pathlib import Path
from typing import Annotated

import typer

from hybridmesh.settings import findings_in_stack_file
from hybridmesh.settings.reference import reference
from hybridmesh.settings.schema import schema_text

app = typer.Typer(no_args_is_help=True, help="Look at a stack's settings.")


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="Pulumi.<stack>.yaml")],
    root: Annotated[Path | None, typer.Option(help="What its paths are relative to; default: its folder.")] = None,
) -> None:
    """Say whether a stack file is good.

    Every finding is on a line of its own, and the exit code is 1 if there is one.

    Needs neither Pulumi nor a cluster. Values that Pulumi has encrypted are taken for good.
    """
    findings = findings_in_stack_file(file, root)
    for finding in findings:
        typer.echo(str(finding))
    if findings:
        raise typer.Exit(1)
    typer.echo(f"{file}: good")


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of a stack file, for editors."""
    typer.echo(schema_text(), nl=False)


@app.command("reference")
def settings_reference() -> None:
    """Print every setting, with default, meaning and example."""
    typer.echo(reference(), nl=False)
