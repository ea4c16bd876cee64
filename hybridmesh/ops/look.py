"""One look at a stack: its outputs, Kubernetes and istiod, and each of its machines over SSH, all at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hybridmesh import remote
from hybridmesh.providers import ClusterAccess
from hybridmesh.providers.cluster import Cluster, ClusterError, connect
from hybridmesh.settings import Settings, SettingsError
from hybridmesh.settings.shapes import in_scope, proxy_shape

from . import mesh
from .facts import MachineFacts, ProbeError, facts
from .machines import limits, reachable, stack_settings
from .mesh import MeshFacts
from .ssh import SshError, run_on_all
from .topology import StackError, stack_topology


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What was seen on a machine."""

    facts: MachineFacts | None = None
    refusal: str = ""
    """Why it could not be looked at, and what to do."""
    output: str = ""
    """All that the probe printed."""
    asked: tuple[datetime, datetime] | None = None
    """When the probe was sent, and when its answer was there, by our clock."""
    mesh_name: str = ""
    """The name of the mesh's that it was to resolve; empty: none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A stack, as it was seen at one moment."""

    topology: Mapping[str, Any]
    mesh: MeshFacts | None
    """None: Kubernetes did not answer."""
    mesh_refusal: str
    machines: Mapping[str, Seen]
    """Those that were asked for; none where nobody was to be asked."""
    now: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Which stack, and how to read it."""

    stack: str | None = None
    """Default the selected one."""
    config_file: Path | None = None
    """Its settings; default `Pulumi.<stack>.yaml`."""

    def topology(self) -> dict[str, Any]:
        """The stack's output of that name. Raises StackError."""
        return stack_topology(self.stack)


def look(
    source: Source,
    topology: Mapping[str, Any],
    names: Collection[str],
    *,
    whole: bool = False,
    certificates: bool = False,
) -> View:
    """Look at a stack and at some of its machines; what does not answer is said, and holds up nothing else.

    Args:
        source: the stack.
        topology: its output.
        names: machines to ask over SSH.
        whole: whether their logs and Envoy's configuration are wanted, too.
        certificates: whether machines that were not asked over SSH are asked for the certificate that they show.
    """
    with ThreadPoolExecutor(1) as pool:
        # In the main thread, where Ctrl-C ends it: hundreds of machines that are off take minutes.
        asked = pool.submit(look_at_mesh, topology) if names else None
        seen = look_at_machines(source, topology, names, whole=whole)
        found, refusal = look_at_mesh(topology) if asked is None else asked.result()
    if certificates and found is not None:
        known = [
            name for name, machine in seen.items() if machine.facts is not None and machine.facts.expiry is not None
        ]
        found = replace(found, certificates=mesh.shown_certificates(topology, found.entries, known))
    return View(topology=topology, mesh=found, mesh_refusal=refusal, machines=seen, now=datetime.now(UTC))


def look_at_mesh(topology: Mapping[str, Any]) -> tuple[MeshFacts | None, str]:
    """What the mesh says, or None and why it does not."""
    try:
        return mesh.look(topology, cluster_of(topology)), ""
    except ClusterError as error:
        return None, str(error)


def cluster_of(topology: Mapping[str, Any]) -> Cluster:
    """A stack's cluster."""
    cluster = topology["cluster"]
    return connect(ClusterAccess(kubeconfig=cluster["kubeconfig"], context=cluster["context"]).properties())


def look_at_machines(
    source: Source, topology: Mapping[str, Any], names: Collection[str], *, whole: bool = False
) -> dict[str, Seen]:
    """The probe of each machine, or why there is none."""
    if not names:
        return {}
    try:
        settings = stack_settings(source.stack, source.config_file)
    except (SettingsError, StackError) as error:
        refusal = f"the stack's settings cannot be read: {error}"
        return {name: Seen(refusal=refusal) for name in names}
    ways = reachable(settings, topology)
    chosen = {name: way for name in names if (way := ways.get(name)) is not None}
    resolved = {name: mesh_name(settings, topology, name) for name in chosen}

    def stdin(name: str) -> str:
        return remote.probe(resolved[name], bundle=whole)

    before = datetime.now(UTC)
    answers = run_on_all(chosen, remote.COMMAND_PROBE, stdin, limits(settings))
    after = datetime.now(UTC)
    refused = Counter((e.shared, e.fix) for e in answers.values() if isinstance(e, SshError))
    seen = {}
    for name in names:
        answer = answers.get(name)
        if answer is None:
            seen[name] = Seen(refusal="the settings name no way to it by SSH. Fix: look at it by other means.")
        elif isinstance(answer, SshError):
            # A network or a key that all have in common is one cause, and is to read as one.
            several = refused[answer.shared, answer.fix] > 1
            seen[name] = Seen(refusal=f"{answer.shared if several else answer.problem}. Fix: {answer.fix}")
        else:
            try:
                known, span = facts(answer.stdout), (before, after)
                seen[name] = Seen(facts=known, output=answer.stdout, asked=span, mesh_name=resolved[name])
            except ProbeError as error:
                said = " ".join(answer.stderr.split())[-200:]
                seen[name] = Seen(refusal=f"{error} ({said or f'exit status {answer.code}'}). Fix: try again.")
    return seen


def mesh_name(settings: Settings, topology: Mapping[str, Any], machine: str) -> str:
    """A name that only the mesh can resolve, and that the machine's proxy is told of: its own workload's, else the
    first of another's; empty where there is none.
    """
    member = topology["machines"][machine]
    own = settings.workloads.get(member["workload"])  # none: a gateway's machine, which is told of all
    egress = proxy_shape(settings.sidecar, own).egress if own is not None else None
    workloads = sorted(topology["workloads"].items(), key=lambda each: (each[0] != member["workload"], each[0]))
    hosts = [(workload["namespace"], workload["host"]) for _, workload in workloads if workload["host"]]
    return next((h for ns, h in hosts if egress is None or in_scope(egress, member["namespace"], ns, h)), "")
