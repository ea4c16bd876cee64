"""Random values by the models' fields, as a stack file would have them: a new field takes part by itself."""

import collections.abc
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import annotated_types
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from hybridmesh.settings.models import base

TEXTS: Mapping[Any, Sequence[str]] = {
    base.Text: ["x", "some text", "größer", "a: b"],
    base.Name: ["demo", "shop", "a-1", "x" * 50],
    base.ClusterId: ["embedded", "Kubernetes", "a_b.c-1"],
    base.PortName: ["http", "tcp-1", "a"],
    base.LabelKey: ["team", "example.com/tier"],
    base.LabelValue: ["shop", "v1", "A_b.c", "k8s"],
    base.Domain: ["cluster.local", "mesh.example.com"],
    base.EnvironmentName: ["LOG_LEVEL", "A"],
    base.Principal: ["cluster.local/ns/other/sa/stranger", "mesh.example.com/ns/a/sa/b"],
    base.HttpPath: ["/orders", "/orders/*", "*/health", "/orders/{*}/items", "/a/{**}"],
    base.Url: ["https://example.com/x.deb", "http://192.0.2.1:8000/a"],
    base.Version: ["1.31.0", "1.30.2"],
    base.Sha256: ["ab" * 32],
    base.HostKey: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"],
    base.IpAddress: ["192.0.2.7", "2001:db8::1"],
    base.Address: ["192.0.2.8", "gateway.example.com"],
    base.SshAddress: ["192.0.2.9", "2001:db8::9", "vm-9", "VM_9.example.com"],
    base.UnitName: ["shop.service", "web@1.timer"],
    base.Cidr: ["10.0.0.0/8", "2001:db8::/32"],
    base.MemorySize: ["64M", "512M", "1G"],
    base.EgressHost: ["./*", "istio-system/*", "*/*.example.com"],
    base.LogLevel: ["info", "warning,http:debug"],
    base.HostName: ["shop.vm.internal", "a.b.c.example.com"],
    base.Duration: ["30ms", "2s", "5m", "1h"],
    base.HeaderName: ["x-tester", "user_agent"],
    base.Locality: ["lab", "lab/a", "europe-west3/europe-west3-a/rack-1"],
    base.LocalityMatch: ["lab/a/*", "lab/*", "*"],
    base.Region: ["lab", "europe-west3"],
}
"""Texts by their kind. A kind that is not here is left out where it may be (test_values.py says so)."""
_BY_MEANING = {repr(kind): texts for kind, texts in TEXTS.items()}


def _scalar(annotation: Any, metadata: Sequence[Any]) -> st.SearchStrategy[Any] | None:
    """Values of a kind that stands for itself; None for a kind that this cannot make."""
    known = _BY_MEANING.get(repr(typing.Annotated[(annotation, *metadata)])) if metadata else None
    if known is not None:
        return st.sampled_from(known)
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        low, high = (_limit(metadata, kind, name, otherwise) for kind, name, otherwise in _BOUNDS)
        return st.one_of(st.integers(low, min(high, low + 20)), st.sampled_from([low, high]))
    if annotation is float:
        return st.sampled_from([0.5, 10, 100])
    if annotation is str and not metadata:
        return st.sampled_from(TEXTS[base.Text])
    return None


_BOUNDS = ((annotated_types.Ge, "ge", 0), (annotated_types.Le, "le", 10**6))


def _limit(metadata: Sequence[Any], kind: type[Any], name: str, otherwise: int) -> int:
    parts = [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
    return next((int(getattr(part, name)) for part in parts if isinstance(part, kind)), otherwise)


def values(annotation: Any, metadata: Sequence[Any] = ()) -> st.SearchStrategy[Any] | None:
    """Values of an annotation, as a stack file would have them; None where only an example will do."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return values(arguments[0], (*arguments[1:], *metadata))
    if origin in (typing.Union, types.UnionType):
        inner = [a for a in arguments if a is not type(None)]
        return values(inner[0]) if len(inner) == 1 else None
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in (tuple, collections.abc.Sequence):
        item = values(arguments[0])
        return None if item is None else st.lists(item, min_size=1, max_size=3)
    if origin is collections.abc.Mapping:
        key, value = values(arguments[0]), values(arguments[1])
        return None if key is None or value is None else st.dictionaries(key, value, min_size=1, max_size=2)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return model(annotation)
    if annotation is SecretStr or origin is not None:
        return None
    return _scalar(annotation, metadata)


def model(kind: type[BaseModel]) -> st.SearchStrategy[Any]:
    """A model as a mapping: what it needs, and now and then what it may have."""
    needed: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in kind.model_fields.items():
        found = values(field.annotation, field.metadata)
        example = st.just((field.examples or [None])[0])
        if field.is_required():
            needed[field.alias or name] = example if found is None else found
        elif found is not None:
            optional[field.alias or name] = found
    return some(needed, optional)


@st.composite
def some(
    draw: st.DrawFn, needed: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]
) -> dict[str, Any]:
    """All that is needed, and up to two of what is optional."""
    made = {name: draw(value) for name, value in needed.items()}
    if optional:
        for name in draw(st.lists(st.sampled_from(sorted(optional)), max_size=2, unique=True)):
            made[name] = draw(optional[name])
    return made


@functools.cache
def only(kind: type[BaseModel], *fields: str) -> st.SearchStrategy[Any]:
    """Any of some fields of a model, by their names in a stack file: those that no rule ties to others."""
    found = {f.alias or n: values(f.annotation, f.metadata) for n, f in kind.model_fields.items()}
    made = {name: found.get(name) for name in fields}
    assert None not in made.values(), f"{kind.__name__} has no such field, or none of random values: {made}"
    return some({}, {name: value for name, value in made.items() if value is not None})
