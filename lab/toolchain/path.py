"""Tools that are on PATH already."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.toolchain.system import cache_root

_ASK_SECONDS = 10.0


def find(
    name: str,
    arguments: Sequence[str],
    pattern: str,
    *,
    accept: Callable[[str], bool] = lambda _: True,
) -> list[Path]:
    """The executable `name` on PATH, if asked with `arguments` it answers the pinned version; else nothing.

    The answer is searched for `pattern`; `accept` gets the pattern's group, or all that matched.
    What lies in the cache is not "on PATH": the environment's own shell has it there.
    """
    found = shutil.which(name)
    if found is None or Path(found).resolve().is_relative_to(cache_root().resolve()):
        return []
    try:
        asked = subprocess.run(
            [found, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    match = re.search(pattern, asked.stdout.decode(errors="replace"))
    if asked.returncode or match is None or not accept(match.group(match.lastindex or 0)):
        return []
    return [Path(found)]
