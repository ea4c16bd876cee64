"""docs/benchmarks.md: a section a point, written by whoever measured it, never by hand."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from lab.instance import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Figure:
    """One figure, of one or more runs."""

    values: Sequence[float]
    unit: str = "s"

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        low, middle, high = min(self.values), self.median, max(self.values)
        if len(self.values) == 1:
            return f"{_short(middle)} {self.unit} (1 run)"
        return f"{_short(middle)} {self.unit} ({_short(low)} to {_short(high)}, {len(self.values)} runs)"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(ours: Figure, other: Figure) -> str:
    """Of medians; pairs of one run each say the same."""
    return f"{ours.median / other.median:.2f}"


def write(point: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Puts a point's table into the page: what, figure, limit; with when, on which commit and beside what load."""
    load = os.getloadavg()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    lines = [
        f"Measured {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC on {commit}, {os.cpu_count()} cores; load "
        f"average of the last 1, 5 and 15 minutes at the end: {load[0]:.1f}, {load[1]:.1f}, {load[2]:.1f}.",
        "",
        "| what | figure | limit |",
        "| --- | --- | --- |",
        *(f"| {what} | {figure} | {limit} |" for what, figure, limit in rows),
    ]
    begin, end = f"<!-- measured: {point} -->", "<!-- end -->"
    section = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    text = PAGE.read_text()
    if not section.search(text):
        raise ValueError(f"{PAGE} has no place {begin}")
    PAGE.write_text(section.sub(lambda _: "\n".join([begin, *lines, end]), text))
    print("\n".join([point, *lines]), flush=True)
