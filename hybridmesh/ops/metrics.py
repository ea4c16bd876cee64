"""`python -m hybridmesh metrics`: what Prometheus and Grafana are given, as files. Touches nothing."""

from typing import Annotated

import typer
import yaml

from hybridmesh.metrics.dashboard import dashboard_text
from hybridmesh.metrics.rules import Agent, Gateway, Thresholds, rules
from hybridmesh.metrics.scrape import SERVER
from hybridmesh.metrics.server import PORT

app = typer.Typer(no_args_is_help=True, help="Print alert rules and dashboard.")
_DEFAULT = Thresholds()


@app.command("rules")
def print_rules(
    gateway: Annotated[
        list[str] | None,
        typer.Option(
            help="A gateway that is missed when it is down: NAMESPACE/NAME, or NAMESPACE/NAME=NETWORK "
            "where the agent of a network reads it; repeatable."
        ),
    ] = None,
    agent: Annotated[
        list[str] | None, typer.Option(help="A network whose agent is missed when nothing comes from it; repeatable.")
    ] = None,
    server: Annotated[str, typer.Option(help="The metrics server that is missed, as Prometheus asks it.")] = (
        f"{SERVER}.{SERVER}.svc.cluster.local:{PORT}"
    ),
    error_percent: Annotated[
        int, typer.Option(min=1, max=99, help="HybridMeshErrors: more percent of a version's requests fail.")
    ] = _DEFAULT.error_percent,
    canary_points: Annotated[
        int, typer.Option(min=1, max=99, help="HybridMeshVersionWorse: it fails as many percentage points more often.")
    ] = _DEFAULT.canary_points,
    certificate_hours: Annotated[
        int, typer.Option(min=1, max=720, help="HybridMeshCertificateExpiring: fewer hours are left of a certificate.")
    ] = _DEFAULT.certificate_hours,
    runbook: Annotated[
        str,
        typer.Option(metavar="URL", help="Where people reach docs/metrics.md: each alert links to its place there."),
    ] = "",
) -> None:
    """Print recording and alert rules, as a rule file of Prometheus."""
    named = [_gateway(text) for text in gateway or ["istio-system/istio-eastwestgateway"]]
    thresholds = Thresholds(
        error_percent=error_percent, canary_points=canary_points, certificate_hours=certificate_hours
    )
    made = rules(server, named, [Agent(network) for network in agent or []], thresholds, runbook=runbook)
    typer.echo(yaml.safe_dump(made, sort_keys=False, width=120), nl=False)


@app.command("dashboard")
def print_dashboard() -> None:
    """Print the Grafana dashboard."""
    typer.echo(dashboard_text(), nl=False)


def _gateway(text: str) -> Gateway:
    gateway, _, network = text.partition("=")
    namespace, slash, name = gateway.partition("/")
    if not (namespace and slash and name):
        raise typer.BadParameter(f"{text!r} is not NAMESPACE/NAME[=NETWORK].", param_hint="--gateway")
    return Gateway(namespace, name, "into or out of the mesh's networks", agent_in=network)
