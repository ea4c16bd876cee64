"""`python -m hybridmesh preflight`: what would keep machines out of the mesh. Looks at all at once, changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from hybridmesh.istio import BootstrapOptions, cluster_env, group_manifest, versions
from hybridmesh.remote import ANOTHER_RAN, ANOTHER_RAN_FIX, COMMAND_PREFLIGHT, PREFLIGHT_SCRIPTS, has_run, payload
from hybridmesh.remote.preflight import Found, Preflight, findings_in, host_of, notes_in, twins, who_in
from hybridmesh.settings import Settings
from hybridmesh.settings import models as given
from hybridmesh.settings.lost import present
from hybridmesh.settings.shapes import proxy_shape
from hybridmesh.settings.ways import gateway_ports, proxy_ports, proxy_ports_forwarded

from .console import for_lines
from .machines import chosen, hosts, limits, reachable, stack_settings
from .ssh import Answer, Reachable, SshError, run_on_all
from .topology import StackError, stack_topology

GATEWAY_SECONDS = 5
"""A person looks on; and a gateway that is there answers at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What is known of one machine."""

    machine: str
    looked: bool
    """Whether it could be looked at. Where it could not, the findings say why."""
    findings: tuple[Found, ...] = ()
    notes: tuple[str, ...] = ()
    """What was seen and does not count, or was not looked at."""

    @property
    def good(self) -> bool:
        return self.looked and not self.findings


def preflight(
    machines: Annotated[list[str] | None, typer.Argument(help="The machines; default: all of the stack.")] = None,
    stack: Annotated[str | None, typer.Option(help="The stack; default the selected one.")] = None,
    config_file: Annotated[Path | None, typer.Option(help="Its settings; default Pulumi.<stack>.yaml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
) -> None:
    """Say what would keep machines out, before anything is changed.

    Exit code 1 if there is anything.

    Works before the first `pulumi up`, too: then nobody knows the gateway's address, unless the settings name it.
    """
    settings = present(stack_settings(stack, config_file))  # nobody looks at a machine that is declared lost
    topology, why_not = _topology(stack)
    reports = look(settings, topology, chosen(machines, hosts(settings)))
    if as_json:
        print(json.dumps([asdict(report) | {"good": report.good} for report in reports], indent=2))
    else:
        _print(reports, why_not)
    if not all(report.good for report in reports):
        raise typer.Exit(1)


def _topology(stack: str | None) -> tuple[dict[str, Any] | None, str]:
    try:
        return stack_topology(stack), ""
    except StackError as error:
        return None, str(error)


def look(settings: Settings, topology: Mapping[str, Any] | None, names: list[str]) -> list[Report]:
    """Look at the machines of these names, all at once.

    Args:
        settings: the stack's.
        topology: its output of that name; None before the first `pulumi up`.
        names: the machines'.
    """
    ways = {name: way for name, way in reachable(settings, topology).items() if name in names}
    there = {name: way for name, way in ways.items() if way is not None}
    told = {name: preflight_of(settings, topology, name, way) for name, way in there.items()}

    def stdin(name: str) -> str:
        return payload({}, {**told[name].settings(), "machine": name}, PREFLIGHT_SCRIPTS)

    answers = run_on_all(there, COMMAND_PREFLIGHT, stdin, limits(settings))
    same = twins({name: _who(name, told[name], answer) for name, answer in answers.items()})
    return [
        _report(name, told[name], answers[name], same.get(name))
        if name in answers
        else Report(machine=name, looked=True, notes=("not made yet: `pulumi up` makes it",))
        for name in names
    ]


def _who(name: str, told: Preflight, answer: Answer | SshError) -> str:
    said = "" if isinstance(answer, SshError) else who_in(answer.stderr)
    return f"{host_of(name, told.mesh_address)} {said}"


def preflight_of(settings: Settings, topology: Mapping[str, Any] | None, name: str, way: Reachable) -> Preflight:
    """What is looked at on a machine, as at the next `pulumi up`.

    The stack's output is of the last one: it tells only what the settings leave to others.
    """
    package = settings.sidecar.package
    if package is None:
        raise ValueError("sidecar.package is missing; hybridmesh.settings.parse refuses such settings.")
    workload = _workload_of(settings, name)
    shape = proxy_shape(settings.sidecar, workload)
    host = hosts(settings)[name]
    ports = {port.name: port.target for port in workload.ports} if workload is not None else {}
    gateway = settings.gateway.address or (topology or {}).get("gateway", {}).get("address") or ""
    return Preflight(
        package=package.by_kind,
        package_version=package.version,
        ssh_port=way.door.port,
        mesh_address=host.mesh_address or way.door.address,
        app_ports=list(ports.values()),
        proxy_ports=proxy_ports(workload),
        proxy_ports_forwarded=proxy_ports_forwarded(settings, name),
        cluster_env=_redirected(shape, ports, way.door.port),
        dns_capture=shape.dns_capture,
        gateway=gateway,
        gateway_ports=gateway_ports(settings, workload),
        gateway_seconds=min(GATEWAY_SECONDS, settings.sidecar.timeouts.gateway_seconds),
        supported_systems="" if "system" in settings.versions.accept else versions.systems_line(),
        accept=settings.sidecar.preflight.accept,
    )


def _workload_of(settings: Settings, name: str) -> given.Workload | None:
    """None: a gateway machine's."""
    return next((workload for workload in settings.workloads.values() if name in workload.hosts), None)


def _redirected(shape: given.ProxyShape, ports: Mapping[str, int], ssh_port: int) -> str:
    """A `cluster.env` that has the same ports redirected as the machine's own."""
    capture = shape.capture
    spec = {"metadata": {"labels": {"app": "any"}}, "template": {"serviceAccount": "any", "ports": dict(ports)}}
    options = BootstrapOptions(
        local_exclude_ports=(ssh_port, *capture.exclude_inbound_ports),
        inbound_ports=capture.inbound_ports,
        all_inbound_ports=capture.all_inbound_ports,
    )
    return cluster_env(group_manifest("any", "any", spec), "defaultConfig: {}\n", options)


def _report(name: str, told: Preflight, answer: Answer | SshError, same: Found | None) -> Report:
    if isinstance(answer, SshError):
        found = Found("ssh", answer.problem, answer.consequence.rstrip("."), answer.fix.rstrip("."))
        return Report(machine=name, looked=False, findings=(found,))
    if answer.code == 0 and not has_run(answer.stderr):
        found = Found("ssh", ANOTHER_RAN, "nothing is known of the machine", ANOTHER_RAN_FIX)
        return Report(machine=name, looked=False, findings=(found,))
    findings, notes = findings_in(answer.stderr), notes_in(answer.stderr)
    if same is not None:
        findings += (same,)
    if not told.gateway:
        notes += ("the way to the gateway was not looked at: its address is not known before the first `pulumi up`",)
    if answer.code != 0 and not findings:
        said = answer.stderr.strip().splitlines()
        findings = (
            Found(
                "preflight",
                f"it ended with status {answer.code}: {said[-1] if said else 'and said nothing'}",
                "nothing is known of the machine",
                "see what it says by hand: ssh to the machine, /var/log/hybrid-mesh.log",
            ),
        )
        return Report(machine=name, looked=False, findings=findings, notes=notes)
    return Report(machine=name, looked=True, findings=findings, notes=notes)


def _print(reports: list[Report], why_not: str) -> None:
    console = for_lines()
    for report in reports:
        # By shape too: a log has no colours.
        colour, shape = ("green", "●") if report.good else ("red", "✗")
        said = "can join" if report.good else "cannot join"
        console.print(Text.assemble((shape, colour), f" {report.machine}: {said}"))
        for found in report.findings:
            consequence = found.consequence[:1].upper() + found.consequence[1:]
            console.print(Text(f"  {found.check}: {found.value}. {consequence}. Fix: {found.remedy}."))
        for note in report.notes:
            console.print(Text(f"  note: {note}", "dim"))
    count = sum(len(report.findings) for report in reports)
    bad = sum(not report.good for report in reports)
    console.print()
    console.print(f"{count} finding(s) on {bad} of {len(reports)} machine(s); nothing was changed.")
    if why_not:
        console.print(f"The stack's outputs are not known: {why_not}", markup=False)
