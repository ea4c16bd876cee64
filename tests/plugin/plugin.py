"""A resource plugin as Pulumi's engine uses it: a process that is spoken to by gRPC."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # ships no types
from google.protobuf import empty_pb2, json_format, struct_pb2  # type: ignore[import-untyped]  # ships no types
from pulumi.runtime import rpc
from pulumi.runtime.proto import engine_pb2_grpc, provider_pb2, provider_pb2_grpc

CALL_SECONDS = 60.0
"""No single call in these tests may take longer."""

UNKNOWN = rpc.UNKNOWN
"""A value that a preview does not know yet."""

Properties = Mapping[str, Any]


class CallError(Exception):
    """The plugin answered a call with an error; the message is what Pulumi would show."""


class InputError(Exception):
    """The plugin's check found inputs wrong; the message names each property and reason."""


@dataclass(frozen=True)
class Resource:
    """A resource as the engine would keep it in its state. Secrets are wrapped, see `secret`."""

    type: str
    id: str
    inputs: Properties
    """As checked: with defaults."""
    outputs: Properties

    def output(self, name: str) -> Any:
        """An output's value, without the marks of secrets."""
        return plain(self.outputs[name])


@dataclass(frozen=True)
class Line:
    """A message that the plugin asked the engine to show."""

    severity: str
    """DEBUG, INFO, WARNING or ERROR."""
    text: str
    passing: bool
    """Whether it is shown only while the resource is in the making."""


class _Engine(engine_pb2_grpc.EngineServicer):
    def __init__(self) -> None:
        self.lines: list[Line] = []

    def Log(self, request: Any, context: object) -> empty_pb2.Empty:  # noqa: ARG002, N802  # gRPC's names
        severity = type(request).DESCRIPTOR.fields_by_name["severity"].enum_type
        self.lines.append(
            Line(severity.values_by_number[request.severity].name, request.message, passing=request.ephemeral)
        )
        return empty_pb2.Empty()


class Plugin:
    """A running plugin. Use it as a context manager; calls may come from several threads."""

    def __init__(self, executable: Path) -> None:
        self._engine = _Engine()
        self._server = grpc.server(ThreadPoolExecutor(max_workers=8))
        engine_pb2_grpc.add_EngineServicer_to_server(self._engine, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self._process = subprocess.Popen(
            [executable, f"127.0.0.1:{port}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self._first_line()}")
        self._stub = provider_pb2_grpc.ResourceProviderStub(self._channel)
        self._call(
            "Configure",
            provider_pb2.ConfigureRequest(acceptSecrets=True, sends_old_inputs=True, sends_old_inputs_to_delete=True),
        )

    def __enter__(self) -> Plugin:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._server.stop(grace=None).wait()

    @property
    def logged(self) -> list[Line]:
        """All that the plugin asked the engine to show, so far."""
        return list(self._engine.lines)

    def version(self) -> str:
        return str(self._call("GetPluginInfo", empty_pb2.Empty()).version)

    def schema(self) -> str:
        """The package's schema, as JSON."""
        return str(self._call("GetSchema", provider_pb2.GetSchemaRequest()).schema)

    def check(self, type_: str, inputs: Properties, olds: Properties | None = None) -> Properties:
        """The inputs with defaults and marks of secrets; raises InputError."""
        answer = self._call(
            "Check",
            provider_pb2.CheckRequest(urn=_urn(type_), olds=_struct(olds or {}), news=_struct(inputs)),
        )
        if answer.failures:
            raise InputError("; ".join(f"{failure.property}: {failure.reason}" for failure in answer.failures))
        return _properties(answer.inputs)

    def diff(self, resource: Resource, inputs: Properties) -> dict[str, str]:
        """What those inputs would change: kind of change by property path, empty for no change."""
        answer = self._call(
            "Diff",
            provider_pb2.DiffRequest(
                id=resource.id,
                urn=_urn(resource.type),
                olds=_struct(resource.outputs),
                old_inputs=_struct(resource.inputs),
                news=_struct(self.check(resource.type, inputs, resource.inputs)),
            ),
        )
        changes = {path: str(provider_pb2.PropertyDiff.Kind.Name(d.kind)) for path, d in answer.detailedDiff.items()}
        assert (answer.changes == provider_pb2.DiffResponse.DIFF_SOME) == bool(changes)
        assert bool(answer.replaces) == any(kind.endswith("_REPLACE") for kind in changes.values())
        return changes

    def create(self, type_: str, inputs: Properties, *, preview: bool = False, custom_timeout: float = 0) -> Resource:
        """Check and create; `custom_timeout` in seconds, 0 for none."""
        checked = self.check(type_, inputs)
        answer = self._call(
            "Create",
            provider_pb2.CreateRequest(
                urn=_urn(type_),
                name="it",
                type=type_,
                properties=_struct(checked),
                preview=preview,
                timeout=custom_timeout,
            ),
        )
        return Resource(type_, answer.id, checked, _properties(answer.properties))

    def update(self, resource: Resource, inputs: Properties, *, preview: bool = False) -> Resource:
        """Check and update, without asking for a diff first."""
        checked = self.check(resource.type, inputs, resource.inputs)
        answer = self._call(
            "Update",
            provider_pb2.UpdateRequest(
                id=resource.id,
                urn=_urn(resource.type),
                name="it",
                type=resource.type,
                olds=_struct(resource.outputs),
                old_inputs=_struct(resource.inputs),
                news=_struct(checked),
                preview=preview,
            ),
        )
        return Resource(resource.type, resource.id, checked, _properties(answer.properties))

    def delete(self, resource: Resource) -> None:
        self._call(
            "Delete",
            provider_pb2.DeleteRequest(
                id=resource.id,
                urn=_urn(resource.type),
                name="it",
                type=resource.type,
                properties=_struct(resource.outputs),
                old_inputs=_struct(resource.inputs),
            ),
        )

    def _call(self, method: str, request: object) -> Any:
        try:
            return getattr(self._stub, method)(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise CallError(error.details()) from None

    def _first_line(self) -> int:
        """The port that a plugin prints once it listens; a plugin that prints nothing in time is ended."""
        assert self._process.stdout is not None
        watch = threading.Timer(CALL_SECONDS, self._process.kill)
        watch.start()
        try:
            return int(self._process.stdout.readline())
        finally:
            watch.cancel()


def secret(value: object) -> dict[str, Any]:
    """A value marked as secret, as the engine sends and keeps it."""
    return {rpc._special_sig_key: rpc._special_secret_sig, "value": value}


def is_secret(value: object) -> bool:
    return isinstance(value, Mapping) and value.get(rpc._special_sig_key) == rpc._special_secret_sig


def plain(value: Any) -> Any:
    """A value without the marks of secrets, at any depth."""
    if is_secret(value):
        return plain(value["value"])
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def text_asset(text: str) -> dict[str, str]:
    return {
        rpc._special_sig_key: rpc._special_asset_sig,
        "text": text,
        "hash": hashlib.sha256(text.encode()).hexdigest(),
    }


def file_asset(path: Path) -> dict[str, str]:
    return {
        rpc._special_sig_key: rpc._special_asset_sig,
        "path": str(path),
        "hash": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def file_archive(path: str) -> dict[str, str]:
    """A file or folder to copy as it is."""
    return {
        rpc._special_sig_key: rpc._special_archive_sig,
        "path": path,
        "hash": hashlib.sha256(b"as the engine has it").hexdigest(),
    }


def _urn(type_: str) -> str:
    return f"urn:pulumi:test::test::{type_}::it"


def _struct(properties: Properties) -> struct_pb2.Struct:
    return json_format.ParseDict(dict(properties), struct_pb2.Struct())


def _properties(struct: struct_pb2.Struct) -> Properties:
    return dict(json_format.MessageToDict(struct))
