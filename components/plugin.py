"""The components for programs in other languages: what Pulumi needs to host them as a plugin.

Pulumi infers a plugin's schema from annotations, but knows neither dataclasses nor `Literal`, and hands arguments over
as a mapping. So each component gets a twin here, of the same name and type token, whose arguments are described as
Pulumi wants them and made into the component's own.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pulumi
from pulumi.provider.experimental import component_provider_host
from pulumi.provider.experimental.analyzer import is_input, unwrap_input
from pulumi.runtime.sync_await import _sync_await

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
from .routing import Routing, RoutingArgs
from .sidecar import Sidecar, SidecarArgs
from .telemetry import WorkloadTelemetry, WorkloadTelemetryArgs
from .traffic_policy import NamespaceTraffic, NamespaceTrafficArgs
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
        component.__init__(self, name, made(args_type, args), opts)  # type: ignore[arg-type]  # its own arguments

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
    attributes = {"__init__": init, "__doc__": component.__doc__, "__module__": component.__module__}
    annotations = {name: _described(hint) for name, hint in _hints(component).items() if not name.startswith("_")}
    return type(component.__name__, (component,), {**attributes, "__annotations__": annotations})


@cache
def described(args_type: type) -> type:
    """A class that says of the arguments what Pulumi understands. What has a default may be left out."""
    hints = _hints(args_type)
    annotations = {}
    for field in dataclasses.fields(args_type):
        hint = _described(hints[field.name])
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        annotations[field.name] = hint if required else typing.Optional[hint]  # noqa: UP045 - the way Pulumi reads it
    names = {"__doc__": args_type.__doc__, "__module__": args_type.__module__, "__annotations__": annotations}
    return type(args_type.__name__, (), names)


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
        return _optional(pulumi.Input[_described(unwrap_input(hint))], hint)  # type: ignore[misc]  # made at run time
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
                f"{args_type.__name__.removesuffix('Args')}: {name} = {given[name]!r}: is not one of its values. "
                f"Nothing was made. Fix: {', '.join(map(str, choices))}."
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
    component_provider_host(twins(), NAME, version=version)
