"""Properties that travel together, as one text.

The engine sends, compares, logs and stores each property of a resource, and each key below one, some nine times in a
run that changes nothing; with a hundred VMs that was a third of such a run's time (docs/benchmarks.md). So what a
resource has only to reach something goes as one text of JSON, a pack. Providers have the properties one by one, as
they are in a state that an earlier version wrote.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from pulumi.dynamic import CreateResult, DiffResult, ReadResult, ResourceProvider, UpdateResult

from .inputs import Properties, is_unknown

PACKS: Final[Mapping[str, tuple[str, ...]]] = {
    "cluster": ("kubeconfig", "context", "requestSeconds"),
    "ssh": ("connection", "dialSeconds", "dialAttempts"),
    "looksAt": ("settings",),
    "workloadGroup": ("group", "labels", "ports", "probed"),
    "istiod": ("istioNamespace", "revision", "proxy", "syncSeconds"),
    "limits": ("rotationSeconds", "drainSeconds"),
}
"""The properties in each pack."""
_METHODS = ("create", "read", "diff", "update", "delete")
_Provider = TypeVar("_Provider", bound=type[ResourceProvider])


def pack(name: str, properties: Mapping[str, Any]) -> str:
    """A pack's text. Raises KeyError unless `properties` are those of the pack, all of them."""
    return json.dumps(_without_nulls({key: properties[key] for key in PACKS[name]}), sort_keys=True)


def _without_nulls(properties: Mapping[str, Any]) -> dict[str, Any]:
    """As the engine hands properties over."""
    return {
        key: _without_nulls(value) if isinstance(value, Mapping) else value
        for key, value in properties.items()
        if value is not None
    }


def unpacked(properties: Properties) -> dict[str, Any]:
    """Properties one by one. Those of a pack that is not known yet are not either."""
    plain = {key: value for key, value in properties.items() if key not in PACKS}
    for name in _packs_in(properties):
        text = properties[name]
        plain.update(dict.fromkeys(PACKS[name], text) if is_unknown(text) else json.loads(text))
    return plain


def takes_packs(provider: _Provider) -> _Provider:
    """For a provider's class: its methods have all properties one by one, and what they answer goes back in packs."""
    for name in _METHODS:
        if name in vars(provider):
            setattr(provider, name, _unpacking(vars(provider)[name]))
    return provider


def _unpacking(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def unpacking(self: ResourceProvider, *arguments: Any) -> Any:
        answer = method(self, *(unpacked(value) if isinstance(value, Mapping) else value for value in arguments))
        if isinstance(answer, CreateResult | ReadResult | UpdateResult) and answer.outs is not None:
            answer.outs = _packed(answer.outs, arguments[-1])
        elif isinstance(answer, DiffResult) and answer.replaces:
            answer.replaces = sorted({_name_in(arguments[-1], key) for key in answer.replaces})
        return answer

    return unpacking


def _packed(outs: Properties, properties: Properties) -> dict[str, Any]:
    """Outputs, with the packs that came among `properties` in place of what is in them."""
    packs = {name: properties[name] for name in _packs_in(properties)}
    inside = {key for name in packs for key in PACKS[name]}
    return {**{key: value for key, value in outs.items() if key not in inside}, **packs}


def _name_in(properties: Properties, key: str) -> str:
    """What a property is called among `properties`: by its pack's name, if it came in one."""
    return next((name for name in _packs_in(properties) if key in PACKS[name]), key)


def _packs_in(properties: Properties) -> set[str]:
    return PACKS.keys() & properties.keys()
