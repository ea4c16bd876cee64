"""A stack's topology, as its output `topology` tells it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

PULUMI_SECONDS = 120
ENDING_SECONDS = ((signal.SIGINT, 300), (signal.SIGTERM, 30), (signal.SIGKILL, 10))
"""How pulumi is stopped, and how long each step may take. At the first it ends the operations that it has begun, notes
them, and releases the stack's lock."""
NO_PULUMI = (
    'pulumi is not on PATH. Fix: install the Pulumi CLI, or `env="$(.venv/bin/python -m lab env)" && eval "$env"`.'
)
_PASSPHRASE = "the stack's own in PULUMI_CONFIG_PASSPHRASE, or its file in PULUMI_CONFIG_PASSPHRASE_FILE."
_FOLDER = "run it in the project's folder, where Pulumi.yaml is."
_FIXES = (
    ("PULUMI_ACCESS_TOKEN must be set", "`pulumi login`, or PULUMI_BACKEND_URL: where the state is."),
    ("no Pulumi.yaml project file", _FOLDER),
    ("pass the fully qualified name", _FOLDER),  # what it says there of a stack that is named
    ("no stack selected", "`--stack NAME`, or `pulumi stack select NAME`; `pulumi stack ls` tells which there are."),
    ("no stack named", "one of `pulumi stack ls`; `pulumi stack init NAME` makes another."),
    ("secrets manager: passphrase must be set", _PASSPHRASE),
    ("secrets manager: incorrect passphrase", _PASSPHRASE),
)
"""What to do, by what pulumi says of the place that it works in."""


class StackError(Exception):
    """The stack cannot be read; the message says what to do."""


class UnfinishedError(StackError):
    """pulumi took too long, and was stopped."""

    def __init__(self, message: str, stdout: str, stderr: str) -> None:
        super().__init__(message)
        self.stdout, self.stderr = stdout, stderr
        """What it said until then; of some verbs, that is secret."""


def stack_topology(stack: str | None) -> dict[str, Any]:
    """The output `topology` of a stack of the project in the current folder (see components/hybrid_mesh.py).

    Args:
        stack: the stack's name; default the selected one.

    Raises:
        StackError: pulumi is not there or refuses, or the stack has no such output yet.
    """
    outputs = pulumi_document("stack", "output", "--json", *(["--stack", stack] if stack else []))
    topology = outputs.get("topology")
    if topology is None:
        raise StackError(
            "the stack has no output `topology`: nothing was put up yet, or by a program that does not export it. Fix: "
            'pulumi up; in a program of your own, `pulumi.export("topology", mesh.topology)` before.'
        )
    result: dict[str, Any] = topology
    return result


def all_revisions(plane: Mapping[str, Any]) -> str:
    """The revisions of all istiods, as a label selector's set has them; `plane` is the topology's `controlPlane`."""
    return ",".join([plane["revision"], *plane.get("revisions", [])])


def by_number(name: str) -> list[str | int]:
    """What sorts vm-2 before vm-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def run_pulumi(*arguments: str, document: str | None = None) -> str:
    """What pulumi prints, given a document on stdin. Raises StackError: it is not there, refuses or takes too long."""
    done = ended_pulumi(*arguments, "--non-interactive", "--color=never", seconds=PULUMI_SECONDS, document=document)
    if done.returncode != 0:
        # Not all arguments: a value may be secret.
        raise StackError(f"`pulumi {arguments[0]}` failed: {with_fix(done.stderr.strip() or done.stdout.strip())}")
    return done.stdout


def pulumi_document(*arguments: str) -> dict[str, Any]:
    """The JSON object that pulumi prints. Raises StackError, as `run_pulumi`, or for it prints something else."""
    try:
        found = json.loads(run_pulumi(*arguments))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        # Not what it printed: that may be secret.
        raise StackError(
            f"`pulumi {arguments[0]}` ended well, and did not print one JSON document: nothing is known of the stack. "
            "Fix: let `pulumi` on PATH be Pulumi's own, which prints nothing besides."
        )
    return found


def with_fix(said: str) -> str:
    """What pulumi said, and what to do where that is known."""
    fix = next((fix for words, fix in _FIXES if words in said), "")
    return f"{said}. Fix: {fix}" if fix else said


def ended_pulumi(
    *arguments: str,
    seconds: float,
    document: str | None = None,
    env: Mapping[str, str] | None = None,
    captured: bool = True,
) -> subprocess.CompletedProcess[str]:
    """pulumi come to its end, however it did, with what it said.

    Args:
        arguments: its verb and options.
        seconds: how long it may take.
        document: what it reads on stdin; default nothing.
        env: its environment; default ours.
        captured: whether what it says is kept; else it goes where ours does.

    Raises:
        StackError: it is not there.
        UnfinishedError: it took too long.
    """
    out = subprocess.PIPE if captured else None
    stdin = None if document is None else subprocess.PIPE
    try:
        process = subprocess.Popen(
            ["pulumi", *arguments],
            stdin=stdin,
            stdout=out,
            stderr=out,
            encoding="utf-8",  # whatever the terminal's
            errors="replace",
            env=env,
        )
    except FileNotFoundError:
        raise StackError(NO_PULUMI) from None
    with process:
        try:
            stdout, stderr = process.communicate(document, timeout=seconds)
        except subprocess.TimeoutExpired:
            stdout, stderr = _stopped(process)
            verb = next(argument for argument in arguments if not argument.startswith("-"))
            raise UnfinishedError(
                f"`pulumi {verb}` did not end within {seconds:.0f} s, and was stopped. Fix: see to what it waited for, "
                "and run this again; if the stack is locked, `python -m hybridmesh recover` first.",
                stdout,
                stderr,
            ) from None
        except KeyboardInterrupt:  # a terminal's, which interrupts pulumi as well
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=ENDING_SECONDS[0][1])
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def _stopped(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What pulumi said until its end, which this brings about, on stdout and on stderr."""
    said: tuple[str | bytes | None, str | bytes | None] = (None, None)
    for number, seconds in ENDING_SECONDS:
        process.send_signal(number)
        try:
            said = process.communicate(timeout=seconds)
            break
        except subprocess.TimeoutExpired as unfinished:
            said = unfinished.stdout, unfinished.stderr
    return _text(said[0]), _text(said[1])


def _text(said: str | bytes | None) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said or ""
