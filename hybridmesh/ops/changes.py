"""What a plan changes, and nothing else, for people who review it: by component, as lines.

The engine's own `pulumi preview --diff` has every change, too, among some hundred lines of what stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pulumi.runtime.rpc import UNKNOWN

from hybridmesh.providers.adopters import URNS
from hybridmesh.providers.awaited import FOUND
from hybridmesh.providers.membership import BROUGHT
from hybridmesh.providers.packs import unpacked
from hybridmesh.providers.preflight import WHO
from hybridmesh.remote.join import is_staged

from .differences import DIGEST, MISSING, NOTHING, block, differences
from .topology import by_number

_SECRET = "[secret]"
_SIGNS = {"create": "+", "delete": "-", "update": "~", "replace": "!"}
WORDS = {"create": "new", "update": "changed", "delete": "removed", "replace": "replaced"}
_GRAVEST_FIRST = ("replace", "delete", "update", "create")
_OVER_SSH = "command:remote:Command"
_OF_THE_PROGRAM = ("create", "update", "delete")
"""Of a command over SSH: the program's own text, which nobody chooses."""
_TOLD_BY_THEIR_COMPONENT = ("command:", "pulumi-python:", "pulumi:")
"""How things are done: what is done stands, to be read, in the component that they belong to."""
_PARTS = ("machine", "preflight", "departure", "token", "join", "ready", "membership")
"""What a VM's membership is made of."""
_RESTARTING = {"cluster.env", "mesh.yaml", "package", "root-cert.pem"}
"""Of a `Sidecar`, what a running proxy does not read again."""
_SAYS_NOTHING = re.compile(rf"({DIGEST.pattern}( \w+ [0-9a-f-]{{36}})?)?")
"""A digest, such as a join's, with what that join said; or none."""
_IDENTIFYING = {"namespace", "serviceAccount", "entry"}
"""Of an `IstioToken`, by what the mesh knows the machine."""
_SIDECAR = "hybridmesh:sidecar:Sidecar"
_MEMBERSHIP = "pulumi-python:dynamic:Membership"
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


@dataclass(frozen=True, slots=True)
class Change:
    """What changes alike in one resource, or in several, with all that belongs to them."""

    operation: str
    """`create`, `update`, `delete` or `replace`: the gravest of what belongs to them."""
    kind: str
    """Of a resource, such as `Sidecar`."""
    names: tuple[str, ...]
    """Which they are."""
    remark: str
    """What comes of it; empty where that is plain."""
    values: tuple[str, ...]
    """What changes of them themselves, where that is single values: `weights.k8s: 90 => 80`."""
    objects: tuple[tuple[str, str], ...]
    """What else belongs to it and is not only how things are done: operation, and kind with name."""
    lines: tuple[str, ...]
    """Each begins with its sign: `+`, `-`, `~`, `!` for a replacement, or none; the title's is the first."""


def counted(plan: Mapping[str, Any]) -> str:
    """How many resources are new, changed, removed, replaced; components, which own no more than their parts, apart."""
    operations = [step["op"] for step in _told(plan) if not _is_component(step["urn"])]
    counts = [f"{operations.count(key)} {word}" for key, word in WORDS.items() if key in operations]
    return ", ".join(counts) if counts else "nothing changes"


def changes(plan: Mapping[str, Any]) -> list[Change]:
    """What changes, by component; those in which the same changes are told once, with all their names.

    Args:
        plan: `pulumi preview --json`.
    """
    alike: dict[tuple[str, str, str, tuple[str, ...]], list[_Node]] = {}
    for node in _tree(_told(plan)):
        sign, kind, remark, body = _sign(node), _kind(node.urn), _remark(node), tuple(_body(node, 0))
        alike.setdefault((sign, kind, remark, body), []).append(node)
    told_whole: dict[str, tuple[str, Sequence[str]]] = {}
    found = []
    for (sign, kind, remark, body), nodes in alike.items():
        names = tuple(_name(node) for node in nodes)
        title = f"{sign} {kind} {', '.join(names)}"
        lines = _headed(title, remark, body, short=_is_means(nodes[0].urn))
        if sign == _SIGNS["create"]:
            pattern, like = told_whole.setdefault(kind, (names[0], body))
            if differing := _but_for(body, like):
                lines = _headed(f"{title}, as {pattern} but for", "", differing)
        found.append(_change(nodes[0], names, remark, tuple(lines)))
    return found


def _change(node: _Node, names: tuple[str, ...], remark: str, lines: tuple[str, ...]) -> Change:
    parts = list(_parts(node))
    own = [line[1:] for line in _own_lines(node)]
    return Change(
        operation=min((operation for operation, _ in parts), key=_GRAVEST_FIRST.index),
        kind=_kind(node.urn),
        names=names,
        remark=remark,
        values=tuple(own) if all(" => " in line for line in own) else (),
        objects=tuple(
            (operation, f"{_kind(part.urn)} {_name(part)}")
            for operation, part in parts
            if part is not node and not _is_means(part.urn)
        ),
        lines=lines,
    )


def readable(plan: Mapping[str, Any]) -> list[str]:
    """The lines of all changes, with an empty one between two.

    Args:
        plan: `pulumi preview --json`.
    """
    return lines_of(changes(plan))


def lines_of(found: Sequence[Change]) -> list[str]:
    """The same, of changes that are known."""
    return [line for change in found for line in ("", *change.lines)][1:]


def remarks(plan: Mapping[str, Any]) -> list[str]:
    """What the program and its resources say of it, each once: risks, losses, what was changed by hand; and weights
    that count too early."""
    said = [
        str(found["message"]).strip()
        for found in plan.get("diagnostics") or []
        # A warning of no resource is the engine's, of itself; what a provider of ours prints is of none either.
        if found.get("severity") == "info" or (found.get("urn") and found.get("severity") == "warning")
    ]
    return list(dict.fromkeys(filter(None, [*said, *_early_weights(plan)])))


def _early_weights(plan: Mapping[str, Any]) -> Iterator[str]:
    """Weights of a subset of machines that count before the first of them has joined, since a route waits for none.

    A workload's WorkloadGroup is new with its first machines. What has the other version are its pods.
    """
    told = [_Node(step["urn"], step) for step in _told(plan) if type_of(step["urn"]).startswith("kubernetes:")]
    found = {(_kind(n.urn), _name(n)): _inputs(n.step or {}, "newState").get("spec") for n in told}
    specs = {key: spec for key, spec in found.items() if isinstance(spec, Mapping)}
    new = {(_kind(n.urn), _name(n)) for n in told if n.step and n.step["op"] == "create"}
    for name in sorted(name for kind, name in new & specs.keys() if kind == "WorkloadGroup"):
        weights = _weights(specs.get(("VirtualService", name), {}))
        if not weights or new & {("Service", name), ("ServiceEntry", name)}:
            continue
        version = specs["WorkloadGroup", name]["metadata"]["labels"]["version"]
        subsets = specs.get(("DestinationRule", name), {}).get("subsets") or []
        versions = {subset["name"]: subset["labels"].get("version") for subset in subsets}
        for subset in sorted(weights) if set(versions.values()) - {version, None} else ():
            if weights[subset] and versions.get(subset) == version:
                yield (
                    f"{weights[subset]:g} % of {name.rpartition('/')[2]}'s requests go to {subset}, which has no VM "
                    "until this update is done: they fail meanwhile. Fix: first the VMs, with weight 0, then the "
                    "weight."
                )


def _weights(route: Mapping[str, Any]) -> dict[str, float]:
    """The shares by subset in a VirtualService's spec."""
    ways = [way for kind in ("http", "tls", "tcp") for rule in route.get(kind) or () for way in rule["route"]]
    return {way["destination"]["subset"]: way["weight"] for way in ways if "weight" in way}


def _told(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    steps = [s for s in plan.get("steps") or [] if s["op"] in _SIGNS and not type_of(s["urn"]).startswith(_TOP)]
    left = [step for step in steps if step.get("left")]
    told = {step["urn"]: step for step in steps if not step.get("left")}
    for step in tuple(told.values()):
        if type_of(step["urn"]) == _MEMBERSHIP and step["op"] in ("create", "update"):
            told |= _since_it_was_a_member(step, told)
    return [*(step for step in told.values() if step["op"] in _SIGNS), *left]


def _since_it_was_a_member(
    membership: Mapping[str, Any], told: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """The step of a machine's `Sidecar`, by its URN, from what the machine has; none where that is not known.

    The engine writes a component into the state before anything of it is done. After an `up` that failed, what it is to
    be looks as if it were, and the plan has its machine's steps alone.
    """
    urn = str(membership["newState"].get("parent"))
    sidecar = told.get(urn, {})
    had, gets = (_brought(membership, state) for state in ("oldState", "newState"))
    new = _inputs(sidecar, "newState") or _without_nulls(gets)
    operation = membership["op"]
    # An earlier version has noted nothing.
    if not new or (operation == "update" and not had):
        return {}
    rest = {key: value for key, value in _inputs(sidecar, "oldState").items() if key not in {*had, *gets}}
    old = {**rest, **_without_nulls(had)}
    if operation == "update" and old == new:
        operation = "same"
    parent = (sidecar.get("newState") or {}).get("parent")
    states = {"newState": new} if operation == "create" else {"oldState": old, "newState": new}
    return {
        urn: {"op": operation, "urn": urn}
        | {state: {"inputs": inputs, "parent": parent} for state, inputs in states.items()}
    }


def _without_nulls(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if value is not None}


def _brought(membership: Mapping[str, Any], state: str) -> dict[str, Any]:
    """What a machine has once it is a member, null for what it has none of; empty where nobody knows, or may."""
    try:
        found: dict[str, Any] = json.loads(_inputs(membership, state).get(BROUGHT) or "{}")
    except ValueError:
        return {}
    return found


def _is_component(urn: str) -> bool:
    return type_of(urn).startswith("hybridmesh:")


def _tree(steps: Sequence[Mapping[str, Any]]) -> list[_Node]:
    """The steps below the components that they belong to, in the order of names."""
    nodes: dict[str, _Node] = {}
    roots: list[_Node] = []
    for step in steps:
        if step.get("left"):  # beside what has its URN by now
            roots.append(_Node(step["urn"], step))
        else:
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
    return sorted(roots, key=lambda node: (_is_component(node.urn), by_number(node.urn.rpartition("::")[2]), node.urn))


def _part(urn: str) -> str:
    return urn.rpartition("-")[2]


def _place(node: _Node) -> tuple[int, str]:
    """Where a resource stands among those of its component: in the order in which they are made."""
    part = _part(node.urn)
    return _PARTS.index(part) + 1 if part in _PARTS else 0, node.urn.rpartition("::")[2]


def _parts(node: _Node) -> Iterator[tuple[str, _Node]]:
    """The resource, if it changes, and all that changes of what belongs to it, each after its operation."""
    if node.step is not None:
        yield str(node.step["op"]), node
    for child in sorted(node.children, key=_place):
        yield from _parts(child)


def _sign(node: _Node) -> str:
    return " " if node.step is None else _SIGNS[str(node.step["op"])]


def _remark(node: _Node) -> str:
    if node.step is not None and node.step.get("left"):
        return "what an earlier run could not remove"
    if node.step is not None and node.step["op"] == "replace":
        return f"replaced, because of {', '.join(node.step.get('replaceReasons') or ()) or 'what it hangs on'}"
    if type_of(node.urn) == "hybridmesh:command_host:CommandHost":
        return _what_comes_of_commands(node)
    return _what_comes_of_it(node) if type_of(node.urn) == _SIDECAR else ""


def _what_comes_of_commands(host: _Node) -> str:
    """What other commands do to the machine that the old ones made: the engine updates, and forgets the old ones."""
    if host.step is None or host.step["op"] != "update" or not _differing(host.step) & {"create", "delete"}:
        return ""
    return "`create` runs again; should it make another machine, nobody removes the old one (docs/leaving.md)"


def _what_comes_of_it(sidecar: _Node) -> str:
    """What a change does to a machine that is in the mesh, as far as the plan tells (join.sh, `restart-needed`)."""
    if sidecar.step is not None and sidecar.step["op"] != "update":
        return ""
    steps = {_part(child.urn): child.step or {} for child in sidecar.children}
    token = steps.get("token", {})
    if steps.get("departure", {}).get("op") == "replace":
        return "another machine joins, and then the old one leaves"
    if token.get("op") == "update":
        differing = _differing(token)
        if differing & _IDENTIFYING:
            return "it joins anew, by another identity or address"
        if not differing:
            by_hand = ((token.get("oldState") or {}).get("outputs") or {}).get("drift")
            return "what was changed by hand is put right" if by_hand else "it joins anew, having been out or put back"
    awaited = str(_inputs(steps.get("ready", {}), "newState").get("stdin", ""))
    if is_staged(awaited):
        return "Istio restarts, in turn, unless an earlier run has done it"
    if sidecar.step is None or not _differing(sidecar.step) & _RESTARTING:
        return ""
    # Else it is taken back after its join has failed: of a step that failed the engine knows what was before it.
    return "Istio restarts, in turn" if "join" in steps else "nothing is done there (docs/recovery.md)"


def _differing(step: Mapping[str, Any]) -> set[str]:
    old, new = _inputs(step, "oldState"), _inputs(step, "newState")
    return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}


def _own_lines(node: _Node) -> list[str]:
    """What changes of a resource itself, each line after its sign."""
    if node.step is None:
        return []
    return list(_details(node.step, _inputs(node.step, "oldState"), _inputs(node.step, "newState")))


def _body(node: _Node, depth: int) -> Iterator[str]:
    """What is told of a resource below its title."""
    indent = "  " * depth
    yield from (f"{line[0]} {indent}    {line[1:]}" for line in _own_lines(node))
    means: dict[str, list[str]] = {}
    for child in sorted(node.children, key=_place):
        sign, remark, body = _sign(child), _remark(child), tuple(_body(child, depth + 1))
        if not _is_means(child.urn):
            yield from _collected(means, indent)
            yield from _headed(f"{sign} {indent}  {_kind(child.urn)} {_name(child)}", remark, body)
            continue
        name = _name(child).removeprefix(f"{_name(node)}-")
        if remark or body:
            yield from _collected(means, indent)
            yield from _headed(f"{sign} {indent}  {name}", remark, body, short=True)
        else:
            means.setdefault(sign, []).append(name)
    yield from _collected(means, indent)


def _but_for(body: Sequence[str], like: Sequence[str]) -> list[str]:
    """The lines in which it differs from what is told already, below those that they stand under; none where it
    differs in more than a quarter of them, or in their number."""
    differing = {number for number, pair in enumerate(zip(body, like, strict=False)) if pair[0] != pair[1]}
    if len(body) != len(like) or len(differing) * 4 > len(body):
        return []
    shown: set[int] = set()
    above: list[int] = []
    for number in range(len(body)):
        above = [other for other in above if _depth(body[other]) < _depth(body[number])]
        if number in differing:
            shown |= {*above, number}
        above.append(number)
    return [body[number] for number in sorted(shown)]


def _depth(line: str) -> int:
    return len(line) - len(line[1:].lstrip())


def _is_means(urn: str) -> bool:
    """Whether it says no more than how things are done."""
    return type_of(urn).startswith(_TOLD_BY_THEIR_COMPONENT)


def _collected(means: dict[str, list[str]], indent: str) -> Iterator[str]:
    """One line for those of a sign, of which there is nothing else to tell."""
    for sign, names in means.items():
        yield f"{sign} {indent}  {', '.join(names)}"
    means.clear()


def _headed(title: str, remark: str, body: Sequence[str], *, short: bool = False) -> Iterator[str]:
    """A title with what stands below it; if `short`, one changed value stands in the title's line."""
    if remark:
        yield f"{title}: {remark}"
        yield from body
    elif short and len(body) == 1 and title[0] == body[0][0] == "~":
        yield f"{title}: {body[0][1:].strip()}"
    else:
        yield title
        yield from body


def _kind(urn: str) -> str:
    return type_of(urn).rpartition(":")[2]


def _name(node: _Node) -> str:
    """Of an object in the cluster, the name that it has there."""
    name = node.urn.rpartition("::")[2]
    step = node.step or {}
    metadata = (_inputs(step, "newState") or _inputs(step, "oldState")).get("metadata")
    if type_of(node.urn).startswith("kubernetes:") and isinstance(metadata, Mapping):
        place, own = metadata.get("namespace"), metadata.get("name")
        if isinstance(own, str):
            return f"{place}/{own}" if place and place != UNKNOWN else own
    return name


def _inputs(step: Mapping[str, Any], state: str) -> dict[str, Any]:
    """Of a dynamic resource, one by one, but for a pack that is secret, and for what says nothing but URNs."""
    inputs = (step.get(state) or {}).get("inputs") or {}
    told = {key: value for key, value in inputs.items() if not key.startswith("__")}
    if "$pulumi-python:dynamic:" not in step.get("urn", ""):
        return told
    secret = {key: value for key, value in told.items() if value == _SECRET}
    return unpacked({key: value for key, value in told.items() if key not in {*secret, *URNS}}) | secret


def _details(step: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Lines, each after its sign."""
    if step["op"] == "delete":
        return
    if step["op"] == "create":
        if not _is_means(step["urn"]):
            yield from block("+", _whole(step["urn"], new))
        return
    if _is_means(step["urn"]):
        old, new = _legible(old, new)
        for key in sorted((old.keys() | new.keys()) - {WHO, BROUGHT}):
            if key in _OF_THE_PROGRAM and type_of(step["urn"]) == _OVER_SSH:
                if old.get(key) != new.get(key):
                    yield f"~{key}: as this version of hybrid-mesh has it"
                continue
            yield from differences(key, old.get(key, MISSING), new.get(key, MISSING))
        return
    differing = [*(step.get("detailedDiff") or step.get("diffReasons") or step.get("replaceReasons") or ())]
    known = old.keys() | new.keys()
    tops = {path if path in known else re.split(r"[.\[]", path, maxsplit=1)[0] for path in differing}
    for key in sorted(tops or known):
        before, after = old.get(key, MISSING), new.get(key, MISSING)
        if _SECRET in (before, after):
            yield f"~{key}: secret, changed"
        elif before != after:
            yield from differences(key, before, after)
        elif tops:
            said = "a secret in it, changed" if _SECRET in json.dumps(before, default=str) else "not as it was put up"
            yield f"~{key}: {said}"


def _legible(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both without what tells a reader nothing: secrets, what only the update will tell, digests, nothing that goes."""
    before, after = dict(old), dict(new)
    for key in old.keys() | new.keys():
        was, will = old.get(key, MISSING), new.get(key, MISSING)
        if isinstance(was, Mapping) and isinstance(will, Mapping):
            before[key], after[key] = _legible(was, will)
        elif (
            will in (UNKNOWN, _SECRET)
            or (will is MISSING and (was in (*NOTHING, _SECRET) or key == FOUND))
            or all(isinstance(value, str) and _SAYS_NOTHING.fullmatch(value) for value in (was, will))
        ):
            before.pop(key, None)
            after.pop(key, None)
    return before, after


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
    return {key: value for key, value in rest.items() if value not in NOTHING}
