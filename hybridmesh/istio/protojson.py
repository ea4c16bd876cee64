"""Messages as Istio's Go programs read them from JSON and write them again (github.com/golang/protobuf/jsonpb 1.5).

A message here is a dict of its fields by their JSON names, values as they would be written. A field that is there is
set; defaults are dropped only when it is written.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from .errors import BootstrapError
from .goyaml import Json
from .schema import ENUMS, MESSAGES

Message = dict[str, Json]
Unknown = Callable[[str], None]
"""Is told the path of each field that Istio does not know; it leaves them out."""

_WRAPPERS = {"BoolValue": "bool", "Int32Value": "int32", "Int64Value": "int64"}
_INTEGERS = {"int32": (-(2**31), 2**31), "uint32": (0, 2**32), "int64": (-(2**63), 2**63)}
_LONGEST_NUMBER = 1000
"""Characters; Python refuses to read whole numbers of a few thousand digits."""
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_DURATION_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_DURATION_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


@dataclass(frozen=True)
class _Field:
    name: str
    json_name: str
    type: str
    repeated: bool
    map: bool
    oneof: str


@cache
def _fields(message: str) -> tuple[_Field, ...]:
    fields = []
    for name, declared in MESSAGES[message].items():
        *modifier, kind = declared.split()
        first, *rest = name.split("_")
        fields.append(
            _Field(
                name=name,
                json_name=first + "".join(part[:1].upper() + part[1:] for part in rest),
                type=kind,
                repeated=modifier[:1] == ["repeated"],
                map=modifier[:1] == ["map"],
                oneof=modifier[1] if modifier[:1] == ["oneof"] else "",
            )
        )
    return tuple(fields)


def read(message: str, data: Json, path: str, unknown: Unknown) -> Message:
    """The fields of `message` that `data` sets, in the order of their declaration.

    Nested messages come as they would be written. Raises `BootstrapError` naming the field under `path`.
    """
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise _wrong(path, data, "a mapping")
    fields: Message = {}
    known = set()
    for field in _fields(message):
        known |= {field.name, field.json_name}
        # Both spellings count; where both are given, the JSON one does.
        value = data.get(field.json_name) if field.json_name in data else data.get(field.name)
        if value is None:
            continue
        _set(message, fields, field.json_name, _read_field(field, value, f"{path}.{field.json_name}", unknown))
    for name in data:
        if name not in known:
            unknown(f"{path}.{name}")
    return fields


def merge(message: str, base: Message, over: Message) -> Message:
    """`base` with the fields that `over` sets in place of its own, whole; of a oneof the last one set stays."""
    merged = dict(base)
    for name, value in over.items():
        _set(message, merged, name, value)
    return merged


def written(message: str, fields: Message) -> Message:
    """`fields` as they would be written: without those that have their default value."""
    by_name = {field.json_name: field for field in _fields(message)}
    return {
        name: value for name, value in fields.items() if by_name[name].oneof or not _is_default(by_name[name], value)
    }


def _set(message: str, fields: Message, name: str, value: Json) -> None:
    oneof = next(field.oneof for field in _fields(message) if field.json_name == name)
    if oneof:
        for field in _fields(message):
            if field.oneof == oneof:
                fields.pop(field.json_name, None)
    fields[name] = value


def _is_default(field: _Field, value: Json) -> bool:
    if field.repeated or field.map:
        return not value
    if field.type in ENUMS:
        return bool(value == 0 or ENUMS[field.type].get(value) == 0)
    if field.type == "double":
        return bool(value == 0) and math.copysign(1, value) > 0
    return field.type in ("string", "bool", "int32", "uint32") and not value


def _read_field(field: _Field, value: Json, path: str, unknown: Unknown) -> Json:
    if field.repeated:
        if not isinstance(value, list | tuple):
            raise _wrong(path, value, "a list")
        return [_read_value(field.type, item, f"{path}[{index}]", unknown) for index, item in enumerate(value)]
    if field.map:
        if not isinstance(value, Mapping):
            raise _wrong(path, value, "a mapping")
        return {str(key): _read_value(field.type, item, f"{path}.{key}", unknown) for key, item in value.items()}
    return _read_value(field.type, value, path, unknown)


def _read_value(kind: str, value: Json, path: str, unknown: Unknown) -> Json:
    if kind in MESSAGES:
        return written(kind, read(kind, value, path, unknown))
    if kind in ENUMS:
        return _read_enum(kind, value, path)
    if kind == "Duration":
        return _read_duration(value, path)
    kind = _WRAPPERS.get(kind, kind)
    if value is None:  # an item of a list or map: its zero
        return {"string": "", "bool": False}.get(kind, 0)
    if kind == "string":
        if not isinstance(value, str):
            raise _wrong(path, value, "text (a number, yes or no in YAML needs quotes)")
        return value
    if kind == "bool":
        if not isinstance(value, bool):
            raise _wrong(path, value, "true or false")
        return value
    if kind == "double":
        return _read_double(value, path)
    number = _read_integer(kind, value, path)
    return str(number) if kind == "int64" else number


def _number(value: Json) -> Json:
    """A number given as text, as it may be: between blanks, and `null` for zero. Anything else as it is."""
    if isinstance(value, str):
        text = value.strip(" ")
        if text == "null" or (len(text) < _LONGEST_NUMBER and _JSON_NUMBER.fullmatch(text)):
            return json.loads(text) or 0
    return value


def _read_integer(kind: str, value: Json, path: str) -> int:
    # A whole number that YAML gives as a float (8e3) is written to JSON without a point, and so is read; text is not.
    number = int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else _number(value)
    low, high = _INTEGERS[kind]
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number < high:
        raise _wrong(path, value, f"a whole number from {low} to {high - 1}")
    return number


def _read_double(value: Json, path: str) -> Json:
    if value in ("NaN", "Infinity", "-Infinity"):
        return value
    number = _number(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or abs(number) > sys.float_info.max:
        raise _wrong(path, value, "a number")
    return float(number)


def _read_enum(kind: str, value: Json, path: str) -> Json:
    values = ENUMS[kind]
    if isinstance(value, str):
        if value not in values:
            raise _wrong(path, value, f"one of {', '.join(values)}")
        return value
    number = 0 if value is None else _read_integer("int32", value, path)
    return next((name for name, n in values.items() if n == number), number)


def _read_duration(value: Json, path: str) -> str:
    nanoseconds = parse_duration(value) if isinstance(value, str) else None
    if nanoseconds is None:
        raise _wrong(path, value, "a duration with its unit, such as 5s, 250ms or 1h30m")
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    text = f"{'-' if nanoseconds < 0 else ''}{seconds}.{rest:09d}"
    return text.removesuffix("000").removesuffix("000").removesuffix(".000") + "s"


def parse_duration(text: str) -> int | None:
    """Nanoseconds of a duration as Go writes one (`1h2m3.5s`), as time.ParseDuration has it; None where it is none."""
    negative, rest = text[:1] == "-", text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if len(rest) > _LONGEST_NUMBER:
        return None
    total = 0
    position = 0
    while position < len(rest):
        part = _DURATION_PART.match(rest, position)
        if not part or not (part[1] or part[2]):
            return None
        unit = _DURATION_UNITS[part[3]]
        total += int(part[1] or 0) * unit
        if part[2]:
            # Go multiplies in floating point, and cuts off.
            total += int(float(int(part[2])) * (unit / float(10 ** len(part[2]))))
        position = part.end()
    if position == 0 or total > 2**63 - (0 if negative else 1):
        return None
    return -total if negative else total


def _wrong(path: str, value: Json, expected: str) -> BootstrapError:
    return BootstrapError(
        path,
        value,
        f"is not {expected}",
        "Istio reads the whole of it or nothing, so no proxy would start.",
        "write it so, or leave the field out.",
    )
