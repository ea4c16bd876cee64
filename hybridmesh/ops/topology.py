"""A stack's topology, as its output `topology` tells it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

PULUMI_SECONDS = 120
NO_PULUMI = 'pulumi is not on PATH. Fix: install the Pulumi CLI, or `eval "$(.venv/bin/python -m lab env)"`.'


class StackError(Exception):
    """The stack cannot be read; the message says what to do."""


def stack_topology(stack: str | None) -> dict[str, Any]:
    """The output `topology` of a stack of the project in the current folder (see components/hybrid_mesh.py).

    Args:
        stack: the stack's name; default the selected one.

    Raises:
        StackError: pulumi is not there or refuses, or the stack has no such output yet.
    """
    topology = json.loads(run_pulumi("stack", "output", "--json", *(["--stack", stack] if stack else []))).get(
        "topology"
    )
    if topology is None:
        raise StackError("the stack has no output `topology`: nothing was put up yet. Fix: pulumi up.")
    result: dict[str, Any] = topology
    return result


def all_revisions(plane: Mapping[str, Any]) -> str:
    """The revisions of all istiods, as a label selector's set has them; `plane` is the topology's `controlPlane`."""
    return ",".join([plane["revision"], *plane.get("revisions", [])])


def run_pulumi(*arguments: str, document: str | None = None) -> str:
    """What pulumi prints, given a document on stdin. Raises StackError: it is not there, refuses or takes too long."""
    done = ended_pulumi(*arguments, "--non-interactive", "--color=never", seconds=PULUMI_SECONDS, document=document)
    if done.returncode != 0:
        # Not all arguments: a value may be secret.
        raise StackError(f"`pulumi {arguments[0]}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def ended_pulumi(
    *arguments: str, seconds: int, document: str | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """pulumi come to its end, however it did, with what it said.

    Args:
        arguments: its verb and options.
        seconds: how long it may take.
        document: what it reads on stdin; default nothing.
        env: its environment; default ours.

    Raises:
        StackError: it is not there, or takes too long.
    """
    try:
        return subprocess.run(
            ["pulumi", *arguments],
            input=document,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=env,
        )
    except FileNotFoundError:
        raise StackError(NO_PULUMI) from None
    except subprocess.TimeoutExpired:
        verb = next(argument for argument in arguments if not argument.startswith("-"))
        raise StackError(f"`pulumi {verb}` did not end within {seconds} s. Run this again.") from None
