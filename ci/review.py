"""A preview as a comment on a pull request: what a reviewer reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hybridmesh.ops.preview import readable, remarks

LIMIT = 60_000
"""GitHub takes 65,536 characters."""
SHORT = 100
"""So many lines are shown without being asked for."""
_WORDS = {
    "create": "new",
    "update": "changed",
    "delete": "removed",
    "replace": "**replaced**",
    "refresh": "looked at",
}
_OF_REPLACE = ("create-replacement", "delete-replaced", "discard-replaced")
_COMPONENTS = ("pulumi:pulumi:Stack", "hybridmesh:")


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
    rows = changes(plan.get("steps") or [])
    parts = [
        marker(stack),
        f"### Preview of `{stack}`, {commit[:12]}",
        f"{'❌ A policy refuses this: see below.' if failed else '✅ The policies let this pass.'} {summary(rows)}",
    ]
    if rows:
        lines = ["| | resource | what |", "| --- | --- | --- |"]
        lines += [f"| {_WORDS.get(op, op)} | {name} | {_cell(what)} |" for op, name, what in rows]
        parts.append("\n".join(lines))
    if said := remarks(plan):
        parts.append("\n".join(f"> {_cell(remark)}" for remark in said))
    verdicts = refusals(text)
    if verdicts:
        parts.append(f"**Policies**\n\n```\n{verdicts}\n```")
    if before != after:
        parts += [_drawing("before", before), _drawing("after", after)]
    elif rows and before is not None:
        parts.append(_drawing("before and after", before))
    body = "\n\n".join(part for part in parts if part)
    lines = readable(plan)
    return f"{body}\n\n{_details('every line that changes', lines, LIMIT - len(body))}\n" if lines else f"{body}\n"


def changes(steps: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Operation, resource and what changes of it; components, which own no more than their parts, left out."""
    rows = []
    for step in steps:
        operation, urn = str(step["op"]), str(step["urn"])
        kind = urn.split("::")[2].rpartition("$")[2]
        if operation in ("same", "read", *_OF_REPLACE) or kind.startswith(_COMPONENTS):
            continue
        differing = step.get("detailedDiff") or step.get("diffReasons") or ()
        rows.append((operation, f"{kind.rpartition(':')[2]} `{urn.rpartition('::')[2]}`", _what(sorted(differing))))
    return sorted(rows, key=lambda row: (row[0] not in ("replace", "delete"), row[0], row[1]))


def summary(rows: Sequence[tuple[str, str, str]]) -> str:
    """One sentence."""
    if not rows:
        return "Nothing changes."
    counts = {word: sum(1 for operation, _, _ in rows if operation == key) for key, word in _WORDS.items()}
    return "Resources: " + ", ".join(f"{count} {word}" for word, count in counts.items() if count) + "."


def refusals(text: str) -> str:
    """What the policy pack said in a preview's text: rule, resource and message; nothing where it let all pass."""
    found = re.search(r"^Policies:\n((?:[ \t]+.*\n|\n)+)", text, flags=re.MULTILINE)
    lines = found[1].rstrip().splitlines() if found else []
    return "\n".join(line[4:] for line in lines) if any("- [" in line for line in lines) else ""


def _what(differing: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in differing[:6])
    return shown + (f" and {len(differing) - 6} more" if len(differing) > 6 else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _drawing(when: str, drawing: str | None) -> str:
    if drawing is None:
        return f"**The mesh {when}**: nothing to draw."
    return f"**The mesh {when}**\n\n```mermaid\n{drawing.rstrip()}\n```"


def _details(title: str, lines: Sequence[str], room: int) -> str:
    text = "\n".join(f"!{line[1:]}" if line.startswith("~") else line for line in lines)  # coloured as a change
    fence = "````"  # a file may hold three
    cut = text if len(text) < room - 200 else text[: max(room - 300, 0)] + "\n… cut here; the run's log has all of it"
    opened = " open" if len(lines) <= SHORT else ""
    return f"<details{opened}><summary>{title}</summary>\n\n{fence}diff\n{cut}\n{fence}\n\n</details>"
