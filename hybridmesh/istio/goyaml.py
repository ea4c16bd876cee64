"""YAML as Istio's Go programs read it (sigs.k8s.io/yaml over go-yaml v2), which is not as PyYAML reads it.

To them `y` and `n` are booleans, `0o17` is a number, `12:30` and `2024-01-01` are strings, keys become strings, only
the first document counts, and of a key given twice the last holds, be it by a merge (`<<`).
"""

import functools
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from .errors import BootstrapError

_TAG = "tag:yaml.org,2002:"
_TRUE = frozenset(w for v in ("y", "yes", "true", "on") for w in (v, v.capitalize(), v.upper()))
_FALSE = frozenset(w for v in ("n", "no", "false", "off") for w in (v, v.capitalize(), v.upper()))
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_NOT_FINITE = frozenset(s + w for s in ("", "+", "-") for w in (".inf", ".Inf", ".INF")) | {".nan", ".NaN", ".NAN"}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*|0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 1000
"""Python refuses to read whole numbers of a few thousand digits; to Go these are none, or infinite."""
_KINDS = {bool: "bool", int: "int", float: "float", type(None): "null", str: "str"}

Json = Any
"""dict[str, Json] | list[Json] | str | int | float | bool | None, without NaN and infinities."""


def resolve(plain: str) -> str | int | float | bool | None:
    """What an unquoted scalar stands for. Source: resolve.go of go-yaml v2.4. NaN and infinities come as floats."""
    if plain in _NULL:
        return None
    if plain in _TRUE or plain in _FALSE:
        return plain in _TRUE
    if plain in _NOT_FINITE:
        return float(plain.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if plain[0] not in "+-.0123456789":
        return plain
    digits = plain if plain[0] == "." else plain.replace("_", "")
    if len(digits) < _LONGEST_NUMBER and _INTEGER.fullmatch(digits):
        sign, magnitude = (-1 if digits[0] == "-" else 1), digits.lstrip("+-")
        octal = len(magnitude) > 1 and magnitude.isdecimal() and magnitude[0] == "0"
        number = sign * (int(magnitude, 8) if octal else int(magnitude, 0))
        if -(2**63) <= number < 2**64 and not (digits[0] == "+" and number >= 2**63):
            return number
    if _FLOAT.fullmatch(digits):
        value = float(digits)
        return plain if math.isinf(value) else value
    return plain


class _Loader(yaml.SafeLoader):
    """Composes nodes; tags that were not written stay empty."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return "" if implicit[0] else _TAG + "str"
        tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]  # the stubs lack it
        return tag


def load(text: str, field: str) -> Json:
    """The first document of `text` as JSON data; None where there is none.

    `field` names the text in errors. Raises `BootstrapError` where the text is not YAML, or holds what JSON cannot.
    """
    return next(load_all(text, field), None)


def load_all(text: str, field: str) -> Iterator[Json]:
    """Each document of `text`, as `load` reads the first."""
    try:
        loader = _Loader(text)
        while (node := loader.get_node() if loader.check_node() else None) is not None:
            yield _value(node, field)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _unreadable(field, f"is not YAML: {error.problem or error.context}{where}") from error
    except yaml.reader.ReaderError as error:
        raise _unreadable(field, f"holds the character U+{error.character:04X}, which YAML does not allow") from error
    except RecursionError as error:
        raise _unreadable(field, "is nested too deeply, or contains itself") from error


def _value(node: yaml.Node, field: str) -> Json:
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, field) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, field)
    if not isinstance(node, yaml.ScalarNode):
        raise TypeError(node)
    value = _scalar(node, field)
    if isinstance(value, float) and not math.isfinite(value):
        raise _unreadable(field, f"holds {node.value} in line {_line(node)}, which is no number in JSON")
    return value


def _mapping(node: yaml.MappingNode, field: str) -> dict[str, Json]:
    mapping: dict[str, Json] = {}
    for key_node, value_node in node.value:
        if isinstance(key_node, yaml.ScalarNode) and key_node.value == "<<" and key_node.style is None:
            merged = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for part in reversed(merged):
                if not isinstance(part, yaml.MappingNode):
                    raise _unreadable(field, f"merges something other than a mapping in line {_line(key_node)}")
                mapping.update(_mapping(part, field))
        else:
            mapping[_key(key_node, field)] = _value(value_node, field)
    return mapping


def _key(node: yaml.Node, field: str) -> str:
    key = _scalar(node, field) if isinstance(node, yaml.ScalarNode) else None
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, str | int):
        return str(key)
    raise BootstrapError(
        field,
        node.value if isinstance(key, float) else key,
        f"is a key in line {_line(node)}, and neither text nor a whole number",
        "Istio would round it, or refuse it.",
        "quote it.",
    )


def _scalar(node: yaml.ScalarNode, field: str) -> str | int | float | bool | None:
    text: str = node.value
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise _unreadable(field, f"holds half of a surrogate pair in line {_line(node)}")
    if node.tag == "":
        return resolve(text)
    kind = node.tag.removeprefix(_TAG)
    if kind == "str" or kind not in _KINDS.values():
        return text
    value = resolve(text)
    if kind == "float" and type(value) is int:
        return float(value)
    if _KINDS[type(value)] != kind:
        raise _unreadable(field, f"tags {text!r} in line {_line(node)} as {kind}, which it is not")
    return value


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _unreadable(field: str, problem: str) -> BootstrapError:
    return BootstrapError(field, None, problem, "Istio would not read it either.", "correct that line.")


class _Dumper(yaml.SafeDumper):
    """Quotes what either Go or Python would take for something other than text."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]  # the stubs lack it
        if kind is yaml.ScalarNode and implicit[0] and tag == _TAG + "str" and not isinstance(resolve(value), str):
            return _TAG + "null"
        return tag


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Line separators and the like are written as escapes: in any other style a reader may fold or trim them.
    return dumper.represent_scalar(_TAG + "str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _text)


def dump(data: Json) -> str:
    """`data` as YAML that Go and Python read alike; keys sorted, one line per scalar."""
    return _written(json.dumps(data))


# The machines of a workload have one and the same, of which PyYAML takes milliseconds for each.
@functools.lru_cache(maxsize=64)
def _written(data: str) -> str:
    """A JSON text as YAML."""
    text = yaml.dump(json.loads(data), Dumper=_Dumper, allow_unicode=True, width=math.inf, default_flow_style=False)
    return str(text)
