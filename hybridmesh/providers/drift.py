"""What was changed by hand on a VM since it joined. Read over SSH."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi.dynamic import ResourceProvider

from .inputs import number, text
from .reach import reachable


class DriftProvider(ResourceProvider):
    """Of states from before the token had a VM's drift: a stack that has such a resource deletes it, and finds this."""

    serialize_as_secret_always = False


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
