"""The settings as a JSON schema of a stack file, for editors: `python -m hybridmesh settings schema` prints it."""

import json
from typing import Any

from .findings import NAMESPACE
from .models import Settings

_SCALARS = {"string", "integer", "number", "boolean"}
_WORDS = ("description", "default", "examples")
_NOT_FOR_EDITORS = ("title", "wrong", "fix")
_KEPT_SECRET = "password"
"""The format of a `SecretStr`."""
_PLAIN = {"ge": "minimum", "le": "maximum"}
"""Limits that pydantic leaves in its own words where a validator stands before them."""
_AS_THEY_ARE = ("examples", "default", "required", "propertyNames", "enum", "const")
_FROM_FILE = {
    "type": "object",
    "description": "The text of a file, its path relative to the project's root.",
    "properties": {"fromFile": {"type": "string", "minLength": 1}},
    "required": ["fromFile"],
    "additionalProperties": False,
}
_SECURE = {
    "type": "object",
    "description": "A value that Pulumi has encrypted.",
    "properties": {"secure": {"type": "string"}},
    "required": ["secure"],
    "additionalProperties": False,
}


def schema() -> dict[str, Any]:
    """A schema of `Pulumi.<stack>.yaml`: our keys exactly, those of Pulumi and of other programs as they may be."""
    settings = Settings.model_json_schema(by_alias=True)
    definitions = {name: _stack_values(model) for name, model in settings.pop("$defs").items()}
    sections = {f"{NAMESPACE}:{name}": _stack_values(value) for name, value in settings["properties"].items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pulumi.<stack>.yaml of hybrid-mesh",
        "type": "object",
        "properties": {
            "config": {
                "type": "object",
                "properties": sections,
                "required": [f"{NAMESPACE}:{name}" for name in settings["required"]],
                # A key of ours that is none of these is a mistake.
                "patternProperties": {f"^(?!{NAMESPACE}:)": True},
                "additionalProperties": False,
            }
        },
        "required": ["config"],
        "$defs": {**definitions, "fromFile": _FROM_FILE, "secure": _SECURE},
    }


def schema_text() -> str:
    """The schema as docs/stack.schema.json has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _stack_values(node: Any) -> Any:
    """The schema of a value as it stands in a stack file: a scalar may come from a file, and a key be encrypted."""
    if isinstance(node, list):
        return [_stack_values(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {_PLAIN.get(key, key): value for key, value in node.items() if key not in _NOT_FOR_EDITORS}
    if found.get("type") in _SCALARS:
        words = {key: found.pop(key) for key in _WORDS if key in found}
        secure = [{"$ref": "#/$defs/secure"}] if found.get("format") == _KEPT_SECRET else []
        return {**words, "anyOf": [found, {"$ref": "#/$defs/fromFile"}, *secure]}
    if "patternProperties" in found:
        found["additionalProperties"] = False
    return {key: value if key in _AS_THEY_ARE else _inside(str(key), value) for key, value in found.items()}


def _inside(key: str, value: Any) -> Any:
    if key in ("properties", "patternProperties"):
        # Their keys are names of settings, not words of the schema.
        return {name: _stack_values(inner) for name, inner in value.items()}
    return _stack_values(value)
