"""`python -m hybridmesh preview`: what an update would change, and nothing else, for people who review it.

The engine's own `pulumi preview --diff` has every change, too, among some hundred lines of what stays.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.text import Text

from .machines import selected_stack
from .topology import NO_PULUMI, StackError

SECONDS = 3000
_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What the engine writes for a value that only the update will tell."""
_LATER = "(known after the update)"
_SECRET = "[secret]"
_STYLES = {"+": "green", "-": "red", "~": "yellow", "!": "magenta"}
_SIGNS = {"create": "+", "delete": "-", "update": "~", "replace": "!"}
_WORDS = {"create": "new", "update": "changed", "delete": "removed", "replace": "replaced"}
_HALVES = ("create-replacement", "delete-replaced", "discard-replaced")
"""Parts of a `replace`, which stands beside them."""
_TOLD_BY_THEIR_COMPONENT = ("command:", "pulumi-python:", "pulumi:")
"""How things are done: what is done stands, to be read, in the component that they belong to."""
_PARTS = ("machine", "preflight", "departure", "token", "join", "ready", "membership")
"""What a VM's membership is made of."""
_NOTHING: tuple[object, ...] = (None, {}, [])
_MISSING = object()
_TOP = ("pulumi:pulumi:Stack", "hybridmesh:hybrid_mesh:HybridMesh")


@dataclass
class _Node:
    """One resource, and what belongs to it."""

    urn: str
    step: Mapping[str, Any] | None = None
    """None where the resource itself stays as it is."""
    children: list[_Node] = field(default_factory=list)


def type_of(urn: str) -> str:
    """A resource's type, such as `kubernetes:core/v1:Service`."""
    return urn.split("::")[2].rpartition("$")[2]


def counted(plan: Mapping[str, Any]) -> str:
    """How many resources are new, changed, removed, replaced; components, which own no more than their parts, apart."""
    operations = [step["op"] for step in _told(plan) if not _is_component(step["urn"])]
    counts = [f"{operations.count(key)} {word}" for key, word in _WORDS.items() if key in operations]
    return ", ".join(counts) if counts else "nothing changes"


def readable(plan: Mapping[str, Any]) -> list[str]:
    """What changes, by component; each line begins with its sign: `+`, `-`, `~`, `!` for a replacement, or none.

    Args:
        plan: `pulumi preview --json`.
    """
    lines: list[str] = []
    for node in _tree(_told(plan)):
        lines += [*_shown(node), ""]
    return lines[:-1]


def remarks(plan: Mapping[str, Any]) -> list[str]:
    """What the program and its resources say of it, each once: risks, losses, what was changed by hand."""
    said = [
        str(found["message"]).strip()
        for found in plan.get("diagnostics") or []
        # Without a resource it is the engine that speaks, of itself.
        if found.get("urn") and found.get("severity") in ("info", "warning")
    ]
    return list(dict.fromkeys(filter(None, said)))


def _told(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [s for s in plan.get("steps") or [] if s["op"] in _SIGNS and not type_of(s["urn"]).startswith(_TOP)]


def _is_component(urn: str) -> bool:
    return type_of(urn).startswith("hybridmesh:")


def _tree(steps: Sequence[Mapping[str, Any]]) -> list[_Node]:
    """The steps below the components that they belong to, in the order of names."""
    nodes: dict[str, _Node] = {}
    roots: list[_Node] = []
    for step in steps:
        nodes[step["urn"]] = _Node(step["urn"], step)
    for node in list(nodes.values()):
        assert node.step is not None
        parent = str((node.step.get("newState") or node.step.get("oldState") or {}).get("parent") or "")
        if not parent or type_of(parent).startswith(_TOP):
            roots.append(node)
            continue
        if parent not in nodes:
            nodes[parent] = _Node(parent)
            roots.append(nodes[parent])
        nodes[parent].children.append(node)
    return sorted(roots, key=lambda node: (_is_component(node.urn), node.urn.rpartition("::")[2], node.urn))


def _place(node: _Node) -> tuple[int, str]:
    """Where a resource stands among those of its component: in the order in which they are made."""
    part = node.urn.rpartition("-")[2]
    return _PARTS.index(part) + 1 if part in _PARTS else 0, node.urn.rpartition("::")[2]


def _shown(node: _Node, depth: int = 0) -> Iterator[str]:
    indent = "  " * depth
    if node.step is None:
        yield f"  {indent}{_title(node.urn, {})}"
    else:
        operation = str(node.step["op"])
        old, new = _inputs(node.step, "oldState"), _inputs(node.step, "newState")
        reasons = ", ".join(node.step.get("replaceReasons") or ())
        replaced = f": replaced, because of {reasons or 'what it hangs on'}" if operation == "replace" else ""
        title = f"{_SIGNS[operation]} {indent}{_title(node.urn, new or old)}{replaced}"
        lines = list(_details(node.step, old, new))
        if (
            operation == "update"
            and len(lines) == 1
            and lines[0][0] == "~"
            and type_of(node.urn).startswith(_TOLD_BY_THEIR_COMPONENT)
        ):
            yield f"{title}: {lines[0][1:]}"
        else:
            yield title
            yield from (f"{line[0]} {indent}    {line[1:]}" for line in lines)
    for child in sorted(node.children, key=_place):
        yield from _shown(child, depth + 1)


def _title(urn: str, inputs: Mapping[str, Any]) -> str:
    """Kind and name: of an object in the cluster, the name that it has there."""
    kind, name = type_of(urn).rpartition(":")[2], urn.rpartition("::")[2]
    metadata = inputs.get("metadata") if type_of(urn).startswith("kubernetes:") else None
    if isinstance(metadata, Mapping) and isinstance(metadata.get("name"), str):
        place = metadata.get("namespace")
        name = f"{place}/{metadata['name']}" if place and place != _UNKNOWN else metadata["name"]
    return f"{kind} {name}"


def _inputs(step: Mapping[str, Any], state: str) -> dict[str, Any]:
    inputs = (step.get(state) or {}).get("inputs") or {}
    return {key: value for key, value in inputs.items() if not key.startswith("__")}


def _details(step: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Lines, each after its sign."""
    if step["op"] == "delete":
        return
    if step["op"] == "create":
        if not type_of(step["urn"]).startswith(_TOLD_BY_THEIR_COMPONENT):
            yield from _block("+", _whole(step["urn"], new))
        return
    differing = [*(step.get("detailedDiff") or step.get("diffReasons") or step.get("replaceReasons") or ())]
    known = old.keys() | new.keys()
    tops = {path if path in known else re.split(r"[.\[]", path, maxsplit=1)[0] for path in differing}
    for key in sorted(tops or known):
        before, after = old.get(key, _MISSING), new.get(key, _MISSING)
        if _SECRET in (before, after):
            yield f"~{key}: secret, changed"
        elif before != after:
            yield from _differences(key, before, after)
        elif tops:
            said = "a secret in it, changed" if _SECRET in json.dumps(before, default=str) else "not as it was put up"
            yield f"~{key}: {said}"


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if old is _MISSING:
        yield from _block("+", {path: new})
    elif new is _MISSING:
        yield from _block("-", {path: old})
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            place = f'{path}["{key}"]' if "." in key else f"{path}.{key}"
            yield from _differences(place, old.get(key, _MISSING), new.get(key, _MISSING))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _in_list(path, old, new)
    elif isinstance(old, str) and isinstance(new, str) and _UNKNOWN not in (old, new) and "\n" in old + new:
        yield from _in_text(path, old, new)
    else:
        yield f"~{path}: {_plain(old)} => {_plain(new)}"


def _in_list(path: str, old: list[Any], new: list[Any]) -> Iterator[str]:
    """Items that have names are the same by name, others by place."""
    if _named(old) and _named(new):
        before, after = ({item["name"]: item for item in items} for items in (old, new))
        for name in [*before, *(name for name in after if name not in before)]:
            yield from _differences(f"{path}[{name}]", before.get(name, _MISSING), after.get(name, _MISSING))
        return
    if not any(isinstance(item, Mapping | list) for item in [*old, *new]):
        yield from (f"-{path}: {_plain(item)}" for item in old if item not in new)
        yield from (f"+{path}: {_plain(item)}" for item in new if item not in old)
        if set(map(str, old)) == set(map(str, new)):
            yield f"~{path}: {'in another order' if len(old) == len(new) else 'other counts'}"
        return
    for place in range(max(len(old), len(new))):
        pair = (items[place] if place < len(items) else _MISSING for items in (old, new))
        yield from _differences(f"{path}[{place}]", *pair)


def _in_text(path: str, old: str, new: str) -> Iterator[str]:
    """A file's lines, with two of what stays around them."""
    yield f"~{path}:"
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=2)
    for number, line in enumerate(lines):
        if number > 2:  # after the two names of files, and where the first part begins
            yield f"{line[0]}    {line[1:]}" if not line.startswith("@@") else "     …"


def _block(sign: str, content: Mapping[str, Any]) -> Iterator[str]:
    """What is there as a whole, or no more: as YAML."""
    short = {key: _short(value) for key, value in content.items()}
    text = yaml.dump(short, Dumper=_Dumper, sort_keys=True, allow_unicode=True, width=10_000)
    for line in text.splitlines():
        yield f"{sign}{line}"


class _Dumper(yaml.SafeDumper):
    """Files as files: text of several lines stands as it is."""


def _as_it_stands(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _as_it_stands)


def _whole(urn: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a resource that is new: of an object in the cluster not what its title says, of a Helm release
    what was chosen."""
    rest = dict(inputs)
    if type_of(urn) == "kubernetes:helm.sh/v3:Release":
        return {key: rest[key] for key in ("chart", "name", "namespace", "version", "values") if key in rest}
    if type_of(urn).startswith("kubernetes:"):
        rest = {key: value for key, value in rest.items() if key not in ("apiVersion", "kind")}
        if isinstance(rest.get("metadata"), Mapping):
            rest["metadata"] = {k: v for k, v in rest["metadata"].items() if k not in ("name", "namespace")}
    return {key: value for key, value in rest.items() if value not in _NOTHING}


def _named(items: Sequence[Any]) -> bool:
    names = [item.get("name") if isinstance(item, Mapping) else None for item in items]
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _short(value: Any) -> Any:
    """A value without what nobody reads: nothing at all, digests whole, certificates."""
    if isinstance(value, Mapping):
        return {key: _short(item) for key, item in value.items() if item not in _NOTHING}
    if isinstance(value, list):
        return [_short(item) for item in value]
    if not isinstance(value, str):
        return int(value) if isinstance(value, float) and value.is_integer() else value
    if value == _UNKNOWN:
        return _LATER
    if value.startswith("-----BEGIN"):
        kind = value.partition("-----BEGIN ")[2].partition("-----")[0].lower()
        return f"({kind} {hashlib.sha256(value.encode()).hexdigest()[:12]}…)"
    return f"{value[:12]}…" if re.fullmatch("[0-9a-f]{40,}", value) else value


def _plain(value: Any) -> str:
    short = _short(value)
    return short if isinstance(short, str) else json.dumps(short, ensure_ascii=False)


def preview(
    stack: Annotated[str | None, typer.Option(help="The stack; default the selected one.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Look first at what is there, on VMs as well.")] = False,
    config_file: Annotated[str | None, typer.Option(help="The settings; default Pulumi.<stack>.yaml.")] = None,
) -> None:
    """Show what `pulumi up` would change, and nothing else: by VM and object, files as lines. Changes nothing."""
    name = selected_stack(stack)
    plan = planned(name, *(["--refresh"] if refresh else []), *(["--config-file", config_file] if config_file else []))
    console = Console(highlight=False, soft_wrap=True)
    for line in readable(plan):
        console.print(Text(line, style=_STYLES.get(line[:1], "")))
    for remark in remarks(plan):
        console.print(Text(remark, style="yellow"))
    console.print(Text(f"{name}: {counted(plan)}", style="bold"))


def planned(stack: str, *options: str) -> dict[str, Any]:
    """What an update of a stack would do, as Pulumi tells it to machines.

    Raises:
        StackError: it would fail already now; the message is what Pulumi says.
    """
    command = ["pulumi", "preview", "--json", "--non-interactive", "--color=never", "--stack", stack, *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except FileNotFoundError:
        raise StackError(NO_PULUMI) from None
    try:
        plan: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        plan = {}
    if done.returncode != 0:
        said = [d["message"].strip() for d in plan.get("diagnostics") or [] if d["severity"] == "error"]
        raise StackError(
            f"{' '.join(command)} ended with {done.returncode}:\n" + "\n".join([*said, done.stderr.strip()])
        )
    return plan
