"""What was changed by hand on a VM since it joined. Read over SSH, under `--refresh` alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from .inputs import changed, number, text
from .reach import reachable

_WAY = ("connection", "dialSeconds")


class DriftProvider(ResourceProvider):
    """Opens no connection but in `read`. What that finds makes the next update join the VM again."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """A VM that is about to join has not drifted."""
        return CreateResult(f"drift-of-{props['machine']}", {**props, "drift": [], "generation": ""})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Looks at the VM. One that does not answer is left as it was known: `up` has other eyes for that."""
        # The engine shows what a plugin prints.
        try:
            found = found_on(props)
        except DriftError as error:
            print(f"{text(props, 'machine')} was not looked at for changes by hand: {error}", flush=True)
            return ReadResult(id_, props)
        for line in found:
            print(f"{text(props, 'machine')} was changed by hand: {line}", flush=True)
        return ReadResult(id_, {**props, "drift": found})

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Something was changed by hand, or the way to the VM is another one."""
        return DiffResult(changes=bool(olds.get("drift")) or bool(changed(olds, news, _WAY)))

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Another generation where something was changed: the join runs again, and puts it right."""
        generation = text(olds, "generation")
        if olds.get("drift"):
            generation = str(int(generation or 0) + 1)
        return UpdateResult({**news, "drift": [], "generation": generation})


class DriftError(Exception):
    """The VM cannot be looked at."""


def found_on(props: Mapping[str, Any]) -> list[str]:
    """What was changed by hand, a line each. Raises DriftError."""
    # Imported here, for programs import this package only to name its classes.
    import asyncio

    from hybridmesh import remote
    from hybridmesh.ops.facts import ProbeError, drift, sections
    from hybridmesh.ops.ssh import Limits, SshError, run_on

    machine = reachable(text(props, "machine"), props["connection"])
    limits = Limits(connect=number(props, "dialSeconds"))
    try:
        answer = asyncio.run(run_on(machine, remote.COMMAND_PROBE, remote.MANIFESTS, limits))
        found = sections(answer.stdout)
    except SshError as error:
        raise DriftError(str(error)) from error
    except ProbeError as error:
        raise DriftError(f"{error}. Fix: try again") from error
    return list(drift(found["manifest-recorded"], found["manifest"]))


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftArgs:
    """Inputs of `Drift`."""

    machine: str
    """The VM's name in the settings, for messages."""
    connection: Mapping[str, Any]
    """The way to it, as `Connection.properties` gives it; its keys are secrets."""
    dial_seconds: int = 15
    """Limit for a connection."""


class Drift(Resource, name="Drift"):
    """That nobody has changed on a VM what its join left there."""

    drift: pulumi.Output[list[str]]
    """What was changed, as the last refresh found it."""
    generation: pulumi.Output[str]
    """Differs once something was changed; empty until then. Not known in the preview of an update."""

    def __init__(self, name: str, args: DriftArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            DriftProvider(),
            name,
            {
                "machine": args.machine,
                "connection": args.connection,
                "dialSeconds": args.dial_seconds,
                "drift": None,
                "generation": None,
            },
            opts,
        )
