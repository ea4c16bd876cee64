"""What a VM is like that nobody has joined anew: changed by hand, or put back from a copy. Read over SSH."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pulumi.dynamic import ResourceProvider

from .inputs import entry_in_its_mesh, number, text
from .reach import reachable


class DriftProvider(ResourceProvider):
    """Of states from before the token had a VM's drift: a stack that has such a resource deletes it, and finds this."""

    serialize_as_secret_always = False


class DriftError(Exception):
    """The VM cannot be looked at."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen on a VM."""

    changes: list[str]
    """What was changed by hand, a line each."""
    generation: str
    """What tells the join that it runs from others; empty if it runs none."""


def look_at(props: Mapping[str, Any]) -> Seen:
    """Looks at a VM. Raises DriftError."""
    # Imported here, for programs import this package only to name its classes.
    from hybridmesh import remote
    from hybridmesh.ops.facts import ProbeError, drift, sections
    from hybridmesh.ops.ssh import Limits, SshError, run_on_all

    machine = reachable(text(props, "machine"), props["connection"])
    limits = Limits(connect=number(props, "dialSeconds"))
    answer = run_on_all({machine.name: machine}, remote.COMMAND_PROBE, remote.MANIFESTS, limits)[machine.name]
    if isinstance(answer, SshError):
        raise DriftError(str(answer)) from answer
    try:
        found = sections(answer.stdout)
    except ProbeError as error:
        raise DriftError(f"{error}. Fix: try again") from error
    return Seen(list(drift(found["manifest-recorded"], found["manifest"])), found["generation"].strip())


_RUNS: dict[tuple[str, ...], str] = {}
_LEFT: dict[tuple[str, ...], str] = {}
"""By WorkloadEntry, which join a VM runs, and which one the stack has made last. An engine has one process for all
dynamic resources of a run, and refreshes all of them before it compares the first."""


def note_what_runs(props: Mapping[str, Any], generation: str) -> None:
    """Notes which join a VM runs."""
    _RUNS[entry_in_its_mesh(props)] = generation


def note_what_was_left(props: Mapping[str, Any], joined: str) -> None:
    """Notes what `Sidecar.joined` said once the mesh had the VM."""
    _LEFT[entry_in_its_mesh(props)] = joined.partition(" ")[0]


def runs_another_join(props: Mapping[str, Any]) -> bool:
    """Whether a VM, looked at in this run, runs another join than the last one that the stack has made."""
    entry = entry_in_its_mesh(props)
    return bool(_LEFT.get(entry)) and _RUNS.get(entry, _LEFT[entry]) != _LEFT[entry]
