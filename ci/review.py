"""A preview as a comment on a pull request: what a reviewer reads."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hybridmesh.legible import legible
from hybridmesh.ops.changes import WORDS, Change, changes, counted, lines_of, remarks

LIMIT = 60_000
"""GitHub takes 65,536 characters. The parts below leave some thousands for the lines."""
DRAWING = 15_000
"""A drawing of so many characters is left out; there are two at most."""
TABLE = 12_000
REMARKS = 4_000
VERDICTS = 8_000
LINE = 600
"""So long is a cell, a remark or a line of a verdict at most."""
SHORT = 100
"""So many lines are shown without being asked for."""
_LOSSES = ("replace", "delete")
_MEANS_SOMETHING = re.compile(r"[\\`*_~\[\]<&|@#$]|^[>+=-]|:(?=[\w+-]+:|//)|\bGH(?=-\d)")
"""What Markdown, or GitHub, takes for more than itself within a line."""
ROWS = 100
"""So many components stand in the table."""
NAMES = 10
"""So many names stand in a row of it."""
MOST = 6
"""So many objects of one of them do."""


def marker(stack: str) -> str:
    """What tells a stack's comment from all others: invisible."""
    return f"<!-- hybrid-mesh preview of {stack} -->"


def comment(
    stack: str, plan: Mapping[str, Any], text: str, *, before: str | None, after: str | None, commit: str, failed: bool
) -> str:
    """The comment's Markdown.

    Args:
        plan: `pulumi preview --json`.
        text: `pulumi preview --diff` under the policy pack, for what that says.
        before: the drawing of what is there; None where there is nothing yet.
        after: the drawing of what would be; None where the settings do not tell.
        failed: whether a policy refused it.
    """
    found = changes(plan)
    table = _table(found)
    parts = [
        marker(stack),
        f"### Preview of `{stack}`{f', {commit[:12]}' if commit else ''}",
        f"{'❌ A policy refuses this: see below.' if failed else '✅ The policies let this pass.'} "
        f"{counted(plan).capitalize()}.",
    ]
    if table:
        rows = _fitting(table[:ROWS], TABLE)
        more = [f"| … | and {len(table) - len(rows)} more | see below |"] if len(table) > len(rows) else []
        parts.append("\n".join(["| | what | |", "| --- | --- | --- |", *rows, *more]))
    if said := [f"> {_cell(remark)}" for remark in remarks(plan)]:
        shown = _fitting(said, REMARKS)
        more = [f"> and {len(said) - len(shown)} more; the run's log has them"] if len(said) > len(shown) else []
        parts.append("\n".join([*shown, *more]))
    if verdicts := [_short(line) for line in refusals(text).splitlines()]:
        shown = _fitting(verdicts, VERDICTS)
        more = ["… cut here; the run's log has all of it"] if len(verdicts) > len(shown) else []
        parts.append("**Policies**\n\n" + fenced("\n".join([*shown, *more])))
    if before != after:
        parts += [_drawing("before", before), _drawing("after", after)]
    elif table and before is not None:
        parts.append(_drawing("before and after", before))
    body = "\n\n".join(part for part in parts if part)
    lines = lines_of(found)
    return f"{body}\n\n{_details('every line that changes', lines, LIMIT - len(body))}\n" if lines else f"{body}\n"


def refusals(text: str) -> str:
    """What the policy pack said in a preview's text: rule, resource and message; nothing where it let all pass."""
    found = re.search(r"^Policies:\n((?:[ \t]+.*\n|\n)+)", text, flags=re.MULTILINE)
    lines = found[1].rstrip().splitlines() if found else []
    return "\n".join(line[4:] for line in lines) if any("- [" in line for line in lines) else ""


def _table(found: Sequence[Change]) -> list[str]:
    """A row for all of a kind of which the same is told; what is lost comes first."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for change in sorted(found, key=lambda change: change.operation not in _LOSSES):
        rows.setdefault((change.operation, change.kind, _told(change)), []).extend(change.names)
    lines = []
    for (operation, kind, told), names in rows.items():
        word = f"**{WORDS[operation]}**" if operation in _LOSSES else WORDS[operation]
        more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
        those = f"{kind} {', '.join(names[:NAMES])}"
        lines.append(f"| {word} | {_cell(those)}{more} | {_cell(told)} |")
    return lines


def _told(change: Change) -> str:
    """What comes of it; single values; of what belongs to it, the name, and what is otherwise done to it."""
    objects = [
        title if operation == change.operation else f"{title} ({WORDS[operation]})"
        for operation, title in change.objects[:MOST]
    ]
    if len(change.objects) > MOST:
        objects.append(f"and {len(change.objects) - MOST} more")
    return "; ".join(filter(None, (change.remark, *change.values[:MOST], ", ".join(objects))))


def _cell(text: str) -> str:
    """A text in one line that looks as it is written, whoever wrote it, and calls nobody. Between backticks is code."""
    parts = _short(text).replace("\n", " ").split("`")
    if len(parts) % 2 == 0:  # the last one opens what nothing ends
        parts[-2:] = ["`".join(parts[-2:])]
    shown = [_MEANS_SOMETHING.sub(_plain, part) for part in parts]
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(shown))


def _plain(found: re.Match[str]) -> str:
    """It is looked for in what is shown: an escape would still call who is named, and link what is numbered."""
    if found[0] == "$":
        return "<span>$</span>"
    return f"{found[0]}<!-- -->" if found[0] in ("@", "#", ":", "GH") else f"\\{found[0]}"


def fenced(text: str, language: str = "") -> str:
    """A text as it is, in a block that nothing in it ends: a line of backticks alone is set in."""
    return f"```{language}\n{_set_in(text)}\n```"


def _set_in(text: str) -> str:
    return re.sub(r"^ {0,3}(?=`{3,}[ \t]*$)", "    ", text, flags=re.MULTILINE)


def _short(text: str) -> str:
    shown = legible(text)
    return shown if len(shown) <= LINE else f"{shown[:LINE]}…"


def _fitting(lines: Sequence[str], room: int) -> list[str]:
    """As many lines, from the first on, as there is room for."""
    ends = itertools.accumulate(len(line) + 1 for line in lines)
    return [line for line, end in zip(lines, ends, strict=True) if end <= room]


def _drawing(when: str, drawing: str | None) -> str:
    if drawing is None:
        return f"**The mesh {when}**: nothing to draw."
    if len(drawing) > DRAWING:
        return f"**The mesh {when}**: not drawn, for {len(drawing):,} characters of drawing are more than fit in here."
    return f"**The mesh {when}**\n\n" + fenced(drawing.rstrip(), "mermaid")


def _details(title: str, lines: Sequence[str], room: int) -> str:
    # Coloured as a change; and whoever reviews it sees what is there, in the order in which it is.
    text = legible("\n".join(f"!{line[1:]}" if line.startswith("~") else line for line in lines))
    text = _set_in(text)
    cut = text if len(text) < room - 200 else text[: max(room - 300, 0)] + "\n… cut here; the run's log has all of it"
    opened = " open" if len(lines) <= SHORT else ""
    return f"<details{opened}><summary>{title}</summary>\n\n{fenced(cut, 'diff')}\n\n</details>"
