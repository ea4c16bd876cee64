"""A stack with no engine: what a program registers, with dependencies and secrets, in both modes of a run."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import pulumi.runtime
import pulumi.runtime.mocks
import pulumi.runtime.settings
import pytest
from pulumi.runtime import rpc

from hybridmesh.providers.packs import unpacked
from hybridmesh.settings import Settings, parse
from hybridmesh.settings.files import sections_of

PROJECT_ROOT = Path(__file__).parents[2]
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nS3CRET-KEY\n-----END OPENSSH PRIVATE KEY-----\n"
TOKEN = "S3CRET-TOKEN"
SECRETS = ("S3CRET-KEY", "S3CRET-TOKEN")
FILES = {
    ".lab/dev/kubeconfig": "apiVersion: v1\n",
    ".lab/dev/mirror/url": "http://192.0.2.1:8000/istio-sidecar.deb",
    ".lab/dev/mirror/sha256": "ab" * 32,
    ".lab/dev/mirror/version": "1.31.0\n",
    ".lab/dev/machines/vm-1/address": "192.0.2.11",
    ".lab/dev/machines/vm-1/host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5\n",
    ".lab/dev/ssh/id_ed25519": KEY,
}
MADE_MACHINE = '{"name":"vm-2","address":"192.0.2.12","port":22,"user":"root","hostKey":"ssh-ed25519 AAAAB"}\n'
REPORT = '{"spiffeId":"spiffe://cluster.local/ns/demo/sa/echo","certificateExpiry":"2030-01-01T00:00:00Z","version":"1.31.0"}'
JOINED = "applied 1b4db7eb-4057-5ddf-91e0-36dec72071f5\n"
"""What a join says."""
CONFIG_MAPS = {"root-cert.pem": "ROOT\n", "mesh": "trustDomain: adopted.example\ndefaultConfig: {}\n"}
"""What istiod's ConfigMaps have, by key."""
GATEWAY_ADDRESS = "192.0.2.100"
_SECRET = rpc._special_secret_sig


def read_file(path: str) -> str:
    """The files that the dev stack refers to."""
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory", path)
    return FILES[path]


def write_files(folder: Path) -> None:
    """Puts them below a folder."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def ssh_changed(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Another way to log in to vm-1 of the dev stack; None takes a setting out."""

    def change(sections: dict[str, Any]) -> None:
        ssh = sections["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["ssh"]
        for name, value in changes.items():
            ssh.pop(name, None)
            if value is not None:
                ssh[name] = value

    return change


@functools.cache
def _written(file: str) -> dict[str, Any]:
    return sections_of(PROJECT_ROOT / file)


def dev_sections() -> dict[str, Any]:
    """The settings of the committed dev stack, as they are written; each caller's to change."""
    return deepcopy(_written("Pulumi.dev.yaml"))


def gcp_sections() -> dict[str, Any]:
    """The same of the committed example for Google Cloud."""
    return deepcopy(_written("Pulumi.gcp.yaml"))


def dev_settings(change: Callable[[dict[str, Any]], object] | None = None) -> Settings:
    """The settings of the dev stack, changed in place by `change`."""
    sections = dev_sections()
    if change is not None:
        change(sections)
    return parse(sections, read_file)


@dataclass(frozen=True)
class Registered:
    """One resource as the program registered it."""

    type: str
    name: str
    urn: str
    parent: str
    provider: str
    inputs: Mapping[str, Any]
    """Secrets are wrapped; what is not known is left out."""
    depends_on: frozenset[str]
    """By an input or by order alone."""
    read: bool = False
    by_input: frozenset[str] = frozenset()
    """What an input comes from."""
    ignore_changes: tuple[str, ...] = ()
    replace_on_changes: tuple[str, ...] = ()
    goes_first_if_replaced: bool = False
    """Whether the old one is removed before the new one is made."""
    secret_outputs: tuple[str, ...] = ()
    """What the engine is told to keep as a secret of what comes back."""
    timeouts: tuple[str, ...] = ()
    """How long the engine lets it be made, changed and removed."""
    source_positions: tuple[str, ...] = ()
    """Where in the program it was made, the innermost first."""

    @property
    def plain(self) -> Any:
        """The inputs without what is secret."""
        return _without_secrets(self.inputs)

    def value(self, key: str) -> Any:
        """An input, unwrapped."""
        return _unwrapped(self.inputs.get(key))

    def inside(self, key: str) -> Any:
        """An input of a dynamic resource, out of the pack that it travels in."""
        return unpacked({name: self.value(name) for name in self.inputs})[key]


@dataclass
class World(pulumi.runtime.mocks.MockMonitor):
    """What a run registered. A first run finds nothing; a later one finds what the first one made."""

    preview: bool = False
    first: bool = True
    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """More outputs, by a resource's name."""
    found: list[Registered] = field(default_factory=list)
    nulls: list[str] = field(default_factory=list)
    """Where an object of Kubernetes was given a null."""

    def __post_init__(self) -> None:
        super().__init__(Answers(self))

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the engine's name
        by_input = frozenset(urn for found in request.propertyDependencies.values() for urn in found.urns)
        depends_on = by_input | set(request.dependencies)
        answer = super().RegisterResource(request)  # type: ignore[no-untyped-call]  # pulumi's own
        if request.type == "pulumi:pulumi:Stack":
            return answer
        if request.type.startswith("kubernetes:") and not request.type.startswith("kubernetes:helm.sh/"):
            for key, value in request.object.fields.items():
                self.nulls += _nulls(value, f"{request.name}.{key}")
        properties = _known(rpc.deserialize_properties(request.object))
        inputs = {k: v for k, v in properties.items() if v is not None}
        self.found.append(
            Registered(
                request.type,
                request.name,
                answer.urn,
                request.parent,
                request.provider,
                inputs,
                depends_on,
                by_input=by_input,
                ignore_changes=tuple(request.ignoreChanges),
                replace_on_changes=tuple(request.replaceOnChanges),
                goes_first_if_replaced=request.deleteBeforeReplace,
                secret_outputs=tuple(request.additionalSecretOutputs),
                timeouts=(request.customTimeouts.create, request.customTimeouts.update, request.customTimeouts.delete),
                source_positions=tuple(frame.pc.uri for frame in request.stackTrace.frames),
            )
        )
        return answer

    def ReadResource(self, request: Any) -> Any:  # noqa: N802 - the engine's name
        answer = super().ReadResource(request)  # type: ignore[no-untyped-call]  # pulumi's own
        self.found.append(
            Registered(
                request.type,
                request.name,
                answer.urn,
                request.parent,
                request.provider,
                {"id": request.id},
                frozenset(request.dependencies),
                read=True,
            )
        )
        return answer

    def one(self, name: str, type_part: str = "") -> Registered:
        """The one resource of a name, and, if that is not enough, of a type."""
        found = [r for r in self.found if r.name == name and type_part in r.type]
        assert len(found) == 1, f"{name} {type_part}: {[(r.type, r.name) for r in found]} in {sorted(self.names())}"
        return found[0]

    def names(self) -> set[str]:
        return {r.name for r in self.found}

    def of_type(self, type_part: str) -> list[Registered]:
        return [r for r in self.found if type_part in r.type]

    def is_after(self, later: Registered, earlier: Registered) -> bool:
        """Whether the engine makes `later` after `earlier`, and removes it before."""
        by_urn = {r.urn: r for r in self.found}
        seen: set[str] = set()
        waiting = [later.urn]
        while waiting:
            urn = waiting.pop()
            if urn in seen or urn not in by_urn:
                continue
            seen.add(urn)
            resource = by_urn[urn]
            provider = resource.provider.rpartition("::")[0]
            waiting += [*resource.depends_on, resource.parent, provider]
        return earlier.urn in seen and earlier.urn != later.urn


class Answers(pulumi.runtime.Mocks):
    """What cluster, commands and dynamic resources would answer."""

    def __init__(self, world: World) -> None:
        self._world = world

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:  # type: ignore[override]
        raise AssertionError(f"a component called {args.token}")

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        outputs = {key: _unwrapped(value) for key, value in args.inputs.items()}
        # What is adopted is looked up by a first preview, too.
        if not (self._world.preview and self._world.first) or outputs.get("adopted"):
            outputs |= self._computed(args)
        outputs |= self._world.answers.get(args.name, {})
        return f"{args.name}-id", outputs

    def _computed(self, args: pulumi.runtime.MockResourceArgs) -> dict[str, Any]:
        kind = args.typ.rpartition(":")[2]
        if kind == "Release":
            return {"status": {"status": "deployed", "name": _unwrapped(args.inputs.get("name"))}}
        if args.typ == "command:local:Command":
            return {"stdout": MADE_MACHINE}
        # As the official plugin does: an output of a command with a secret input is secret.
        if args.name.endswith("-join"):
            return {"stdout": {rpc._special_sig_key: _SECRET, "value": JOINED}}
        if args.name.endswith("-ready"):
            return {"stdout": {rpc._special_sig_key: _SECRET, "value": REPORT}}
        if kind == "IstioToken":
            return {"token": TOKEN, "expires": "2030-01-01T00:00:00Z", "drift": [], "repair": ""}
        if kind == "Preflight":
            return {"findings": []}
        if kind == "Membership":
            return {"registration": "demo/entry", "address": "192.0.2.11", "synced": True}
        if kind == "AwaitedConfigMap":
            return {"found": CONFIG_MAPS.get(_unwrapped(args.inputs["key"]), "")}
        if kind == "AwaitedAddress":
            return {"found": GATEWAY_ADDRESS}
        return {}


def run(
    program: Callable[[], object],
    *,
    preview: bool = False,
    first: bool = True,
    answers: Mapping[str, Mapping[str, Any]] | None = None,
) -> World:
    """Runs a program with mocks of its own; what it returns is awaited as an output.

    `first`: nothing is there yet, so that in a preview what only the engine can tell is unknown.
    """
    world = World(preview=preview, first=first, answers=answers or {})
    with _fresh_runtime():
        pulumi.runtime.mocks.set_mocks(
            Answers(world), project="hybrid-mesh", stack="dev", preview=preview, monitor=world
        )
        pulumi.runtime.test(program)()  # type: ignore[no-untyped-call]  # pulumi's own
    urns = Counter(r.urn for r in world.found)
    assert not (twice := [urn for urn in urns if urns[urn] > 1]), f"the engine refuses two of one URN: {twice}"
    objects = Counter(kubernetes_object(r) for r in world.found if r.type.startswith("kubernetes:") and not r.read)
    assert not (shared := [o for o in objects if o and objects[o] > 1]), f"one object is two resources': {shared}"
    assert not world.nulls, f"a null in a custom resource is refused by Kubernetes: {world.nulls}"
    return world


def _nulls(value: Any, place: str) -> Iterator[str]:
    """Where there is one, in a value as the engine gets it: the SDK leaves them out of what it reads."""
    if value.HasField("null_value"):
        yield place
    for key, item in (*value.struct_value.fields.items(), *enumerate(value.list_value.values)):
        yield from _nulls(item, f"{place}.{key}")


def kubernetes_object(resource: Registered) -> tuple[str, str, str] | None:
    """Type, namespace and name of the object; None where they are not known yet."""
    metadata = resource.value("metadata") or {}
    if not metadata.get("name") or metadata.get("namespace", "") is None:
        return None
    return resource.type, metadata.get("namespace", ""), metadata["name"]


@contextmanager
def _fresh_runtime() -> Iterator[None]:
    """An event loop and a root of its own for one run: what other tests of the process left of either is not used."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    pulumi.runtime.settings.ROOT.set(None)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _known(value: Any) -> Any:
    """The value with None for what is not known: Pulumi says so or not, by which mode the process ran first."""
    if isinstance(value, pulumi.output.Unknown):
        return None
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_known(item) for item in value]
    return value


def _unwrapped(value: Any) -> Any:
    return _with_each_special(value, lambda special: _unwrapped(special.get("value")))


def _without_secrets(value: Any) -> Any:
    def shown(special: dict[str, Any]) -> Any:
        return "[secret]" if special[rpc._special_sig_key] == _SECRET else special

    return _with_each_special(value, shown)


def _with_each_special(value: Any, instead: Callable[[dict[str, Any]], Any]) -> Any:
    """A value with something in the place of each secret, asset or reference that the engine marks in it."""
    if isinstance(value, dict):
        if rpc._special_sig_key in value:
            return instead(value)
        return {key: _with_each_special(item, instead) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_each_special(item, instead) for item in value]
    return value


def waiting(monkeypatch: pytest.MonkeyPatch, name: str, awaited: str, seconds: float) -> list[bool]:
    """Lets the engine keep a resource back for so long, unless it is asked for the other one before; tells whether that
    was so, once it has."""
    came = threading.Event()
    found: list[bool] = []

    class Watched(World):
        def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the engine's name
            if request.name == awaited:
                came.set()
            elif request.name == name:
                found.append(came.wait(seconds))
            return super().RegisterResource(request)

    monkeypatch.setattr("tests.components.harness.World", Watched)
    return found
