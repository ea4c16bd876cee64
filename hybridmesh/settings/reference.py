"""The reference of all settings, from the models: `python -m hybridmesh.settings.reference` prints it."""

import types
import typing
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .models import Settings


def fields(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every field with its path in a stack file: `<name>` stands for a name of one's own, `[]` for a list's items."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        yield path, field
        for inner, joint in _models_in(field.annotation, ""):
            yield from fields(inner, f"{path}{joint}.")


def reference() -> str:
    """Every field in Markdown, a section each its own table."""
    parts: list[str] = []
    for path, field in fields():
        if "." not in path and "[" not in path:
            parts += ["", f"### `{path}`", "", str(field.description)]
            if any(inner.startswith((f"{path}.", f"{path}[")) for inner, _ in fields()):
                parts += ["", "| field | default | meaning | example |", "| --- | --- | --- | --- |"]
            else:
                parts += ["", f"Default: {_default(field)}."]
            continue
        example = _yaml((field.examples or [None])[0])
        parts.append(f"| `{path}` | {_default(field)} | {_cell(str(field.description))} | `{_cell(example)}` |")
    return "\n".join(parts).strip() + "\n"


def _models_in(annotation: Any, joint: str) -> Iterator[tuple[type[BaseModel], str]]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        for argument in arguments:
            yield from _models_in(argument, joint)
    elif arguments:
        for argument in arguments:
            yield from _models_in(argument, "[]" if origin is tuple else ".<name>")
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, joint


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**needed**"
    default = field.get_default(call_default_factory=True)
    if default is None or default is PydanticUndefined or isinstance(default, BaseModel) or default in ({}, ()):
        return "none"
    return f"`{_cell(_yaml(default))}`"


def _yaml(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True)
    return " ".join(text.split()).removesuffix(" ...")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
