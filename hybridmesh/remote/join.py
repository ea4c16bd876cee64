"""What a join brings to a VM, and what the VM says of itself afterwards."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from . import payload, payload_digest

_FORMS: Final[Mapping[str, str]] = {
    "spiffeId": r"spiffe://[!-~]+",
    "certificateExpiry": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)",
    "version": r"[\w.+~^:-]*",
}
"""What a report may say. It goes into a stack's outputs, which others read: a machine that somebody has taken over must
not break what is shown of the others."""


@dataclass(frozen=True, slots=True)
class ReadyReport:
    """What a machine says of itself once its proxy is ready."""

    identity: str
    certificate_expiry: str
    version: str


def dated_payload(files: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """A join's `payload`, which tells the machine its `generation`, for the machine to tell what it runs: files,
    settings, and by their digest the scripts."""
    generation = payload_digest(files, settings)
    return {"generation": generation, "payload": payload(files, {**settings, "generation": generation})}


def last_line(stdout: str) -> str:
    """What a script on the machine printed: a greeting of the user's login shell may stand before it."""
    return stdout.strip().rpartition("\n")[2]


def is_staged(joined: str) -> bool:
    """Whether a join, of which its generation and what it said are told, has laid a change ready that a restart brings
    about (join.sh)."""
    return joined.split()[1:2] == ["staged"]


def ready_report(stdout: str, machine: str) -> ReadyReport:
    """Reads the line of JSON that the readiness script printed. Raises ValueError for anything else."""
    try:
        document: Any = json.loads(last_line(stdout))
        if not all(re.fullmatch(form, document[name], re.ASCII) for name, form in _FORMS.items()):
            raise ValueError("not of the form that ready.sh prints")
        datetime.fromisoformat(document["certificateExpiry"])
        return ReadyReport(document["spiffeId"], document["certificateExpiry"], document["version"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{machine}: its readiness report cannot be read: {stdout.strip()[:200]!r}. Nothing is known of its "
            "certificate. Fix: look at /var/log/hybrid-mesh.log on the machine, and run `pulumi up` again."
        ) from error
