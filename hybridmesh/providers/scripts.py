"""That a VM has the scripts of its join before that runs. They go over SSH from here, where no state keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridmesh.remote import COMMAND_BRING, bring_payload

from .inputs import text
from .reach import ask, machine_itself

BRING_SECONDS = 90
"""Limit for the command, apart from the connection."""


class ScriptsError(RuntimeError):
    """Scripts that could not be brought. Names the VM, the consequence and the fix."""


_BROUGHT: set[tuple[str, ...]] = set()
"""Machines that have them by what this process did. An engine has one for all dynamic resources of a run."""


def were_brought(props: Mapping[str, Any]) -> None:
    """Notes that a preflight has brought them by its own connection."""
    _BROUGHT.add(machine_itself(props))


def bring(props: Mapping[str, Any]) -> None:
    """Brings them, unless this run has. Changes nothing else on the VM. Raises ScriptsError."""
    if machine_itself(props) in _BROUGHT:
        return
    # Imported here, for it takes a third of a second, and programs import this package only to name its classes.
    from hybridmesh.ops.ssh import SshError

    machine = text(props, "machine")
    answer = ask(props, COMMAND_BRING, bring_payload(), BRING_SECONDS)
    if isinstance(answer, SshError):
        raise ScriptsError(
            f"{machine}: {answer.problem}. It does not join, and nothing was changed there. Fix: {answer.fix}"
        )
    if answer.code != 0:
        said = answer.stderr.strip().splitlines()[-5:]
        raise ScriptsError("\n".join([f"{machine} does not take the scripts of its join, and was not changed:", *said]))
    were_brought(props)
