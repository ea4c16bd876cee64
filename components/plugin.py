"""The components for programs in other languages: what Pulumi needs to host them as a plugin.

Pulumi infers a plugin's schema from annotations, but knows neither dataclasses nor `Literal`, and hands arguments over
as a mapping. So each component gets a twin here, of the same name and type token, whose arguments are described as
Pulumi wants them and made into the component's own.
"""

import dataclasses
import inspect
import os
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pulumi
from pulumi.provider.experimental import component_provider_host
from pulumi.provider.experimental.analyzer import is_input, unwrap_input
from pulumi.runtime.sync_await import _sync_await
from pydantic.alias_generators import to_camel

from hybridmesh.settings import Finding, SettingsError, parse
from hybridmesh.settings.encrypted import Place, shown
from hybridmesh.settings.files import read_below
from hybridmesh.settings.parser import encrypted_findings, refuse_encrypted

from .access_policy import AccessPolicy, AccessPolicyArgs
from .control_plane import ControlPlane, ControlPlaneArgs
from .east_west_gateway import EastWestGateway, EastWestGatewayArgs
from .hybrid_mesh import HybridMesh, HybridMeshArgs
from .mesh_namespace import MeshNamespace, MeshNamespaceArgs
from .metrics_agent import MetricsAgent, MetricsAgentArgs
from .network_gateway import NetworkGateway, NetworkGatewayArgs
from .observability import Observability, ObservabilityArgs
from .pods import Pods, PodsArgs
from .proxy_scope import ProxyScope, ProxyScopeArgs
from .registration_policy import RegistrationPolicy, RegistrationPolicyArgs
from .routing import Routing, RoutingArgs
from .sidecar import Sidecar, SidecarArgs
from .telemetry import WorkloadTelemetry, WorkloadTelemetryArgs
from .traffic_policy import NamespaceTraffic, NamespaceTrafficArgs
from .turns import Turn
from .workload import Workload, WorkloadArgs
from .workload_access import WorkloadAccess, WorkloadAccessArgs

NAME = "hybridmesh"
"""The plugin's name: a program in YAML writes `hybridmesh:Workload`."""

COMPONENTS: Mapping[type[pulumi.ComponentResource], type] = {
    AccessPolicy: AccessPolicyArgs,
    ControlPlane: ControlPlaneArgs,
    EastWestGateway: EastWestGatewayArgs,
    ProxyScope: ProxyScopeArgs,
    MeshNamespace: MeshNamespaceArgs,
    MetricsAgent: MetricsAgentArgs,
    NamespaceTraffic: NamespaceTrafficArgs,
    NetworkGateway: NetworkGatewayArgs,
    Observability: ObservabilityArgs,
    Pods: PodsArgs,
    RegistrationPolicy: RegistrationPolicyArgs,
    Routing: RoutingArgs,
    Sidecar: SidecarArgs,
    Workload: WorkloadArgs,
    WorkloadAccess: WorkloadAccessArgs,
    WorkloadTelemetry: WorkloadTelemetryArgs,
}
"""What a plugin can offer. Not SshHost and CommandHost: what they are for, a `Connection`, is an argument here."""


class StackSettings:
    """Inputs of `HybridMesh` in a plugin."""

    settings: dict[str, Any]
    """The settings of a stack, as in a stack file without the prefix `hybrid-mesh:`."""
    root: str | None
    """The folder that paths in them are relative to; default the program's."""


def twins() -> list[type[pulumi.ComponentResource]]:
    """A twin of each component."""
    return [*(twin(component, args) for component, args in COMPONENTS.items()), _mesh()]


def twin(component: type[pulumi.ComponentResource], args_type: type) -> type[pulumi.ComponentResource]:
    """A component whose arguments come from another language."""

    def init(self: Any, name: str, args: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        own = made(args_type, args)
        try:
            component.__init__(self, name, own, opts)  # type: ignore[arg-type]  # its own arguments
        except Exception as error:
            later = ", ".join(outputs_among_plain(args_type, args))
            # A refusal of the component's own says itself what is wrong; what an output is no use for is a TypeError.
            if not later or isinstance(error, ValueError):
                raise
            raise pulumi.RunError(
                f"{component.__name__}: {later}: is an output of a resource, where a plain value decides what is made. "
                f"`{name}` was not made. Fix: a plain value, or one of the stack's configuration."
            ) from error

    return _named_like(component, init, described(args_type))


def _mesh() -> type[pulumi.ComponentResource]:
    def init(self: Any, name: str, args: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        root = Path(args.get("root") or ".").resolve()
        secret: dict[Place, bool] = {}
        try:
            sections = _plain(args["settings"], (), secret)
            refuse_encrypted(sections, [place for place, own in secret.items() if own])
            for finding in encrypted_findings(sections, [place for place, own in secret.items() if not own]):
                pulumi.log.warn(str(finding))
            hidden = {str(section) for place in secret for section in place[:1] or sections}
            settings = parse(sections, read_below(root), hidden)
        except SettingsError as error:
            raise pulumi.RunError(str(error)) from error
        HybridMesh.__init__(self, name, HybridMeshArgs(settings=settings), opts)

    return _named_like(HybridMesh, init, StackSettings)


def _plain(value: Any, place: Place, secret: dict[Place, bool]) -> Any:
    """Settings without outputs: a secret that is known arrives as one. Notes where, and whether it is of the
    configuration: what a resource or another stack makes a secret of, a program in YAML cannot show.

    Raises:
        SettingsError: what an output will be is not known yet.
    """
    if isinstance(value, pulumi.Output):
        # What a component is given in another language has arrived by now, so that this waits for nothing.
        data = _sync_await(value._data)
        if not data.is_known:
            raise SettingsError([_not_known_yet(shown(place))])
        if data.is_secret:
            secret[place] = not data.resources
        return _plain(data.value, place, secret)
    if isinstance(value, Mapping):
        return {key: _plain(item, (*place, str(key)), secret) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item, (*place, index), secret) for index, item in enumerate(value)]
    return value


def _not_known_yet(path: str) -> Finding:
    return Finding(
        path,
        "",
        "is not known before the update: it is an output of a resource",
        "Nobody could say what the mesh will be.",
        "a plain value, or one of the stack's configuration; the single components take such outputs.",
    )


def _named_like(component: type, init: Any, args_type: type) -> type[pulumi.ComponentResource]:
    init.__annotations__ = {"name": str, "args": args_type, "opts": pulumi.ResourceOptions | None}
    attributes = {"__init__": init, **_source(component)}
    annotations = {name: _described(hint) for name, hint in _hints(component).items() if not name.startswith("_")}
    return type(component.__name__, (component,), {**attributes, "__annotations__": annotations})


def _source(of: type) -> dict[str, Any]:
    """By what `inspect` finds a class's source, in which Pulumi reads what its attributes mean."""
    # From Python 3.13 on a class knows its line.
    return {key: getattr(of, key) for key in ("__doc__", "__module__", "__firstlineno__") if hasattr(of, key)}


@cache
def described(args_type: type) -> type:
    """A class that says of the arguments what Pulumi understands. What has a default may be left out."""
    hints = _hints(args_type)
    annotations = {}
    for field in dataclasses.fields(args_type):
        if Turn in get_args(hints[field.name]):
            continue  # it is shared by what one program makes, and nothing that can be written down
        hint = _described(hints[field.name])
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        annotations[field.name] = hint if required else typing.Optional[hint]  # noqa: UP045 - the way Pulumi reads it
    return type(args_type.__name__, (), {**_source(args_type), "__annotations__": annotations})


def _hints(of: type) -> dict[str, Any]:
    """The annotations of a class and those it is made from, Pulumi's own apart."""
    found: dict[str, Any] = {}
    for each in reversed(of.__mro__):
        if each.__module__.partition(".")[0] != "pulumi":
            found |= inspect.get_annotations(each, eval_str=True)
    return found


def _described(hint: Any) -> Any:
    """A type hint without what Pulumi does not know: `Literal`, dataclasses."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return type(arguments[0])
    if dataclasses.is_dataclass(hint):
        return described(hint)  # type: ignore[arg-type]  # a class, not an instance
    if origin is pulumi.Output:
        return pulumi.Output[_described(arguments[0])]  # type: ignore[misc]  # made at run time
    if is_input(hint):
        inside = unwrap_input(hint)
        # Pulumi's host would call `int` with an output, and end with that (component.py, map_input_properties).
        described_inside = float if inside is int else _described(inside)
        return _optional(pulumi.Input[described_inside], hint)  # type: ignore[misc, valid-type]  # made at run time
    if origin in (typing.Union, types.UnionType):
        (only,) = [a for a in arguments if a is not type(None)]
        return _optional(_described(only), hint)
    if origin is not None and issubclass(origin, Mapping):
        return dict[str, _described(arguments[1])]  # type: ignore[misc]  # made at run time
    if origin is not None and issubclass(origin, Sequence):
        return list[_described(arguments[0])]  # type: ignore[misc]  # made at run time
    return hint


def _optional(hint: Any, original: Any) -> Any:
    return typing.Optional[hint] if type(None) in get_args(original) else hint  # noqa: UP045 - as above


def made(args_type: type, given: Mapping[str, Any]) -> Any:
    """The component's own arguments, of a mapping with the same names."""
    hints = _hints(args_type)
    unlike = {name: _unlike(hints[name], value) for name, value in given.items()}
    for name, choices in unlike.items():
        if choices:
            raise pulumi.RunError(
                f"{args_type.__name__.removesuffix('Args')}: {to_camel(name)} = {given[name]!r}: is not one of its "
                f"values. Nothing was made. Fix: {', '.join(map(str, choices))}."
            )
    return args_type(**{name: _made(hints[name], value) for name, value in given.items() if value is not None})


def _unlike(hint: Any, value: Any) -> Sequence[Any]:
    """The values that there are, where this is none of them."""
    if value is None or isinstance(value, pulumi.Output):
        return ()
    if get_origin(hint) is Literal:
        return () if value in get_args(hint) else get_args(hint)
    if get_origin(hint) in (typing.Union, types.UnionType):
        return next((found for each in get_args(hint) if (found := _unlike(each, value))), ())
    return ()


def outputs_among_plain(hint: Any, value: Any, at: str = "") -> Iterator[str]:
    """Where an output is given for what takes none."""
    arguments = [a for a in get_args(hint) if a is not type(None)]
    inside: Iterable[tuple[Any, Any, str]] = ()
    if hint is Any or is_input(hint):
        return
    if isinstance(value, pulumi.Output):
        yield at
    elif dataclasses.is_dataclass(hint):
        hints = _hints(typing.cast("type", hint))
        inside = ((hints[name], item, f"{at}.{to_camel(name)}") for name, item in value.items())
    elif get_origin(hint) in (typing.Union, types.UnionType) and len(arguments) == 1:
        inside = [(arguments[0], value, at)]
    elif isinstance(value, Mapping) and len(arguments) == 2:
        inside = ((arguments[1], item, f"{at}.{key}") for key, item in value.items())
    elif isinstance(value, list) and arguments:
        inside = ((arguments[0], item, f"{at}[{index}]") for index, item in enumerate(value))
    for part, item, place in inside:
        yield from outputs_among_plain(part, item, place.removeprefix("."))


def _made(hint: Any, value: Any) -> Any:
    if isinstance(value, pulumi.Output):
        return value
    if is_input(hint):
        return _made(unwrap_input(hint), value)
    origin, arguments = get_origin(hint), [a for a in get_args(hint) if a is not type(None)]
    if dataclasses.is_dataclass(hint):
        return made(typing.cast("type", hint), value)
    if origin in (typing.Union, types.UnionType) and len(arguments) == 1:
        return _made(arguments[0], value)
    if isinstance(value, Mapping) and origin is not None and len(arguments) == 2:
        return {key: _made(arguments[1], item) for key, item in value.items()}
    if isinstance(value, list) and arguments:
        return [_made(arguments[0], item) for item in value]
    if hint is int and isinstance(value, float):
        return int(value)  # every number travels as a float
    return value


def main(version: str) -> None:
    """Serve the plugin until the engine ends this process."""
    # Else an output of a resource becomes a sentence about outputs, where a plain text is written into another one.
    os.environ["PULUMI_ERROR_OUTPUT_STRING"] = "true"
    component_provider_host(twins(), NAME, version=version)
