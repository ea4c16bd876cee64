"""The console: `python -m hybridmesh VERB`."""

import io
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from .istio import BootstrapError
from .ops.bootstrap import GoSwitches, bootstrap
from .ops.console import for_lines
from .ops.doctor import doctor
from .ops.metrics import app as metrics
from .ops.preflight import preflight
from .ops.preview import preview
from .ops.recover import recover
from .ops.report import report
from .ops.settings import app as settings
from .ops.status import status
from .ops.teardown import teardown
from .ops.topology import StackError
from .providers.cluster import ClusterError
from .settings import SettingsError


class _Verbs(TyperGroup):
    """Ends with status 1 and what is wrong, not with a traceback, where the fault is in what was given."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # who read has seen enough: `| head`; typer ends quietly
        except (BootstrapError, ClusterError, SettingsError, StackError, OSError) as error:
            for_lines(stderr=True).print(f"Error: {error}", markup=False, style="red")
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    add_completion=False,
    rich_markup_mode=None,  # a box of columns cuts names of options off on 80 columns
)


@app.callback()
def _console() -> None:
    """Virtual machines in an Istio mesh."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a ● or …, where the terminal knows none


app.command("bootstrap", cls=GoSwitches)(bootstrap)
app.command("doctor")(doctor)
app.command("preflight")(preflight)
app.command("preview")(preview)
app.command("recover")(recover)
app.command("report")(report)
app.command("status")(status)
app.command("teardown")(teardown)
app.add_typer(settings, name="settings")
app.add_typer(metrics, name="metrics")


if __name__ == "__main__":
    app()
