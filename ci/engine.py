"""Pulumi's command line, as the workflows use it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml

from hybridmesh.ops.topology import StackError, UnfinishedError, ended_pulumi

PACK = "policy"
"""The policy pack; the embedded environment's language host needs `policy/__main__.py` (docs/policy.md)."""
SECONDS = 3000
"""How long pulumi may run where no workflow says it."""
MARGIN_SECONDS = 900
"""Of a job's limit, what is not pulumi's: the steps before, and its end in order after a limit that is over."""
LEAST_SECONDS = 60
GITHUB_MINUTES = 360
"""Of a job that says nothing."""
_BEGUN = time.monotonic()


class EngineError(Exception):
    """pulumi is not there, takes too long, or ended with an error; the message is what it said."""


def seconds_left() -> float:
    """How long pulumi may still run: the `timeout-minutes` of the workflow's job, less the margin and what is over."""
    workflow = os.environ.get("GITHUB_WORKFLOW_REF")  # owner/name/.github/workflows/up.yml@refs/heads/main
    if not workflow:
        return SECONDS
    file = Path(workflow.partition("@")[0].split("/", 2)[2])
    job = yaml.safe_load(file.read_text())["jobs"][os.environ["GITHUB_JOB"]]
    minutes: int = job.get("timeout-minutes", GITHUB_MINUTES)
    return max(LEAST_SECONDS, minutes * 60 - MARGIN_SECONDS - (time.monotonic() - _BEGUN))


def pulumi(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run pulumi in the current folder, with what it says kept."""
    try:
        done = ended_pulumi("--non-interactive", "--color=never", *arguments, seconds=seconds_left())
    except UnfinishedError as error:
        raise EngineError(f"{error.stdout}{error.stderr}\n{error}") from None
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
