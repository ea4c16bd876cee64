"""What an update of a stack would do, as Pulumi tells it to machines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hybridmesh.settings.lost import STACK_FILE_VARIABLE

from .topology import StackError, UnfinishedError, ended_pulumi, run_pulumi, with_fix

SECONDS = 3000
_STREAMING = "PULUMI_ENABLE_STREAMING_JSON_PREVIEW"
"""Would have the engine print a document for each event."""


def planned(stack: str, *options: str, config_file: str = "", seconds: float = SECONDS) -> dict[str, Any]:
    """What an update of a stack would do, as Pulumi tells it to machines, and what it does not tell them: `left_over`.

    `config_file`: where its settings are; default Pulumi.<stack>.yaml.

    Raises:
        StackError: it would fail already now, and the message is what Pulumi says; or that cannot be read.
    """
    environment = {name: value for name, value in os.environ.items() if name != _STREAMING}
    arguments = ["preview", "--json", "--non-interactive", "--color=never", "--stack", stack, *options]
    if config_file:
        arguments += ["--config-file", config_file]
        environment[STACK_FILE_VARIABLE] = str(Path(config_file).absolute())
    try:
        done = ended_pulumi(*arguments, seconds=seconds, env=environment)
    except UnfinishedError as error:
        said = [d["message"].strip() for d in _document(error.stdout).get("diagnostics") or []]
        raise StackError("\n".join(filter(None, [*said, error.stderr.strip(), str(error)]))) from None
    command = " ".join(done.args)
    plan = _document(done.stdout)
    if done.returncode != 0:
        said = [d["message"].strip() for d in plan.get("diagnostics") or [] if d["severity"] == "error"]
        raise StackError(
            f"{command} ended with {done.returncode}:\n" + with_fix("\n".join([*said, done.stderr.strip()]))
        )
    if not isinstance(plan.get("steps"), list):
        printed = done.stdout[:200].strip() or "nothing"
        raise StackError(
            f"{command} ended well, and did not print one JSON document with steps: nobody knows what would "
            f"change. It printed: {printed}\nFix: let `pulumi` on PATH be Pulumi's own, of requirements.txt's version."
        )
    return {**plan, "steps": [*plan["steps"], *left_over(stack)]}


def left_over(stack: str) -> list[dict[str, Any]]:
    """What the next update removes because an earlier one could not, such as the departure of a replaced VM: as steps,
    of which `pulumi preview --json` has none. Nothing else of the state is kept, for it has secrets.

    Raises:
        StackError: the state cannot be read.
    """
    resources = (_document(run_pulumi("stack", "export", "--stack", stack)).get("deployment") or {}).get("resources")
    return [{"op": "delete", "urn": found["urn"], "left": True} for found in resources or [] if found.get("delete")]


def _document(text: str) -> dict[str, Any]:
    """One JSON object; an empty one where the text is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
