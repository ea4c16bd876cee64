"""Pulumi's command line, as the workflows use it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from hybridmesh.ops.topology import StackError, ended_pulumi

PACK = "policy"
"""The policy pack; the embedded environment's language host needs `policy/__main__.py` (docs/policy.md)."""
SECONDS = 3000


class EngineError(Exception):
    """pulumi is not there, takes too long, or ended with an error; the message is what it said."""


def pulumi(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run pulumi in the current folder, with what it says kept."""
    try:
        done = ended_pulumi("--non-interactive", "--color=never", *arguments, seconds=SECONDS)
    except StackError as error:
        raise EngineError(str(error)) from None
    if check and done.returncode != 0:
        raise EngineError(f"pulumi {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def policies(pack: str) -> list[str]:
    """The options that put a run under the policy pack."""
    return ["--policy-pack", pack, "--policy-pack-config", "policy/config.json"]


def output(stack: str, name: str) -> Any:
    """An output of a stack; None where there is none yet."""
    done = pulumi("stack", "output", "--stack", stack, "--json", check=False)
    return json.loads(done.stdout).get(name) if done.returncode == 0 else None


def stacks() -> list[str]:
    """The stacks of the project."""
    return [str(stack["name"]).rpartition("/")[2] for stack in json.loads(pulumi("stack", "ls", "--json").stdout)]
