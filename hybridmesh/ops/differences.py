"""What differs between two values of a resource, as lines that each begin with their sign."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pulumi.runtime.rpc import UNKNOWN

_LATER = "(known after the update)"
NOTHING: tuple[object, ...] = (None, {}, [])
MISSING = object()
"""Stands where one of the two has no value."""
DIGEST = re.compile("[0-9a-f]{40,}")


def differences(path: str, old: Any, new: Any) -> Iterator[str]:
    """How the value at `path` changes; `UNKNOWN` is one that only the update will tell."""
    if old == new:
        return
    if old is MISSING:
        yield from block("+", {path: new})
    elif new is MISSING:
        yield from block("-", {path: old})
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            place = f'{path}["{key}"]' if "." in key and "\n" not in key else f"{path}.{_plain(key)}"
            yield from differences(place, old.get(key, MISSING), new.get(key, MISSING))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _in_list(path, old, new)
    elif isinstance(old, str) and isinstance(new, str) and UNKNOWN not in (old, new) and "\n" in old + new:
        yield from _in_text(path, old, new)
    elif isinstance(old, str) and new == UNKNOWN and "\n" in old:
        was, *more = old.splitlines()
        yield f"~{path}: {_LATER}" if more else f"~{path}: {was} => {_LATER}"
    else:
        yield f"~{path}: {_plain(old)} => {_plain(new)}"


def _in_list(path: str, old: list[Any], new: list[Any]) -> Iterator[str]:
    """Items that have names are the same by name, others by place."""
    if _named(old) and _named(new):
        before, after = ({item["name"]: item for item in items} for items in (old, new))
        for name in [*before, *(name for name in after if name not in before)]:
            yield from differences(f"{path}[{_plain(name)}]", before.get(name, MISSING), after.get(name, MISSING))
        yield from _in_order(path, list(before), list(after))
        return
    if not any(isinstance(item, Mapping | list) for item in [*old, *new]):
        yield from (f"-{path}: {_plain(item)}" for item in old if item not in new)
        yield from (f"+{path}: {_plain(item)}" for item in new if item not in old)
        yield from _in_order(path, old, new)
        return
    for place in range(max(len(old), len(new))):
        pair = (items[place] if place < len(items) else MISSING for items in (old, new))
        yield from differences(f"{path}[{place}]", *pair)


def _in_order(path: str, old: list[Any], new: list[Any]) -> Iterator[str]:
    """Where or how often the items stand that both have."""
    before, after = [item for item in old if item in new], [item for item in new if item in old]
    if before != after:
        yield f"~{path}: {'in another order' if len(before) == len(after) else 'other counts'}"


def _in_text(path: str, old: str, new: str) -> Iterator[str]:
    """A file's lines, with two of what stays around them."""
    yield f"~{path}:"
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=2)
    for number, line in enumerate(lines):
        if number > 2:  # after the two names of files, and where the first part begins
            yield f"{line[0]}    {line[1:]}" if not line.startswith("@@") else "     …"


def block(sign: str, content: Mapping[str, Any]) -> Iterator[str]:
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


def _named(items: Sequence[Any]) -> bool:
    names = [item.get("name") if isinstance(item, Mapping) else None for item in items]
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _short(value: Any) -> Any:
    """A value without what nobody reads: nothing at all, digests whole, certificates."""
    if isinstance(value, Mapping):
        return {key: _short(item) for key, item in value.items() if item not in NOTHING}
    if isinstance(value, list):
        return [_short(item) for item in value]
    if not isinstance(value, str):
        return int(value) if isinstance(value, float) and value.is_integer() else value
    if value == UNKNOWN:
        return _LATER
    if value.startswith("-----BEGIN"):
        kind = value.partition("-----BEGIN ")[2].partition("-----")[0].lower()
        return f"({kind} {hashlib.sha256(value.encode()).hexdigest()[:12]}…)"
    return f"{value[:12]}…" if DIGEST.fullmatch(value) else value


def _plain(value: Any) -> str:
    """In one line, for whatever begins another is a change of its own."""
    short = _short(value)
    return short if isinstance(short, str) and "\n" not in short else json.dumps(short, ensure_ascii=False)
