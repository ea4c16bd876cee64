"""The plugin's schema is what the official Python SDK was made for. Both plugins pass."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Awaitable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import pulumi
import pulumi_command
import pytest
from pulumi import _types

from tests.plugin.plugin import Plugin

pytestmark = pytest.mark.lab

RESOURCES: dict[str, tuple[type, type]] = {
    "command:local:Command": (pulumi_command.local.Command, pulumi_command.local.CommandArgs),
    "command:remote:Command": (pulumi_command.remote.Command, pulumi_command.remote.CommandArgs),
    "command:remote:CopyToRemote": (pulumi_command.remote.CopyToRemote, pulumi_command.remote.CopyToRemoteArgs),
}
"""By type token: the SDK's class and that of its arguments."""


@pytest.fixture
def schema(plugin: Plugin) -> dict[str, Any]:
    return dict(json.loads(plugin.schema()))


def test_the_version_is_the_sdks_in_precedence(plugin: Plugin) -> None:
    assert plugin.version().partition("+")[0] == version("pulumi-command")


@pytest.mark.parametrize("token", RESOURCES)
def test_arguments_have_the_sdks_names_and_types(schema: dict[str, Any], token: str) -> None:
    _, arguments = RESOURCES[token]
    properties = schema["resources"][token]["inputProperties"]

    assert _shapes(schema, properties) == _sdk_shapes(_types.input_type_types(arguments))


@pytest.mark.parametrize("token", RESOURCES)
def test_outputs_have_the_sdks_names_and_types(schema: dict[str, Any], token: str) -> None:
    resource, _ = RESOURCES[token]
    properties = schema["resources"][token]["properties"]

    assert _shapes(schema, properties) == _sdk_shapes(_types.resource_types(resource))


@pytest.mark.parametrize("token", RESOURCES)
def test_what_the_sdk_requires_is_required(schema: dict[str, Any], token: str) -> None:
    _, arguments = RESOURCES[token]

    assert set(schema["resources"][token].get("requiredInputs", [])) == _required(arguments)


@pytest.mark.parametrize("name", ["Connection", "ProxyConnection"])
def test_connections_have_the_sdks_names_types_and_defaults(schema: dict[str, Any], name: str) -> None:
    arguments = getattr(pulumi_command.remote, f"{name}Args")
    properties = schema["types"][f"command:remote:{name}"]["properties"]
    made = arguments(host="h")
    python_names = {pulumi_name: name for name, pulumi_name in _types.input_type_py_to_pulumi_names(arguments).items()}

    assert _shapes(schema, properties) == _sdk_shapes(_types.input_type_types(arguments))
    assert set(schema["types"][f"command:remote:{name}"]["required"]) == _required(arguments) == {"host"}
    for key, spec in properties.items():
        if key != "host":
            assert spec.get("default") == getattr(made, python_names[key]), key


@pytest.mark.parametrize("module", ["local", "remote"])
def test_logging_has_the_sdks_values(schema: dict[str, Any], module: str) -> None:
    values = {value["value"] for value in schema["types"][f"command:{module}:Logging"]["enum"]}

    assert values == {value.value for value in getattr(pulumi_command, module).Logging}


@pytest.mark.parametrize("token", RESOURCES)
def test_secrets_and_replacements_are_the_sdks(
    schema: dict[str, Any], token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource, arguments = RESOURCES[token]
    registered: list[tuple[str, pulumi.ResourceOptions]] = []
    monkeypatch.setattr(
        pulumi.CustomResource, "__init__", lambda _self, type_, _name, _props, opts: registered.append((type_, opts))
    )
    resource("it", **dict.fromkeys(inspect.signature(arguments).parameters) | _placeholders(token))
    ((sdk_token, options),) = registered
    properties = schema["resources"][token]["properties"]

    assert sdk_token == token
    assert set(options.additional_secret_outputs or ()) == {
        name for name in properties if properties[name].get("secret")
    }
    assert set(options.replace_on_changes or ()) == {
        f"{name}[*]" for name in properties if properties[name].get("replaceOnChanges")
    }


def _placeholders(token: str) -> dict[str, Any]:
    """Arguments without which the SDK makes no resource."""
    if token == "command:local:Command":
        return {}
    connection = pulumi_command.remote.ConnectionArgs(host="h")
    if token == "command:remote:Command":
        return {"connection": connection}
    return {"connection": connection, "source": pulumi.StringAsset(""), "remote_path": "/"}


def _required(arguments: type) -> set[str]:
    names = _types.input_type_py_to_pulumi_names(arguments)
    parameters = inspect.signature(arguments).parameters.values()
    return {names[parameter.name] for parameter in parameters if parameter.default is parameter.empty}


def _shapes(schema: dict[str, Any], properties: Mapping[str, Any]) -> dict[str, str]:
    return {name: _shape(schema, spec) for name, spec in properties.items()}


def _shape(schema: dict[str, Any], spec: Mapping[str, Any]) -> str:
    """A property's type as the schema has it, in words that `_sdk_shape` uses too."""
    if "$ref" in spec:
        reference = str(spec["$ref"]).removeprefix("#/types/").removeprefix("pulumi.json#/")
        if reference.startswith("command:"):
            assert reference in schema["types"]
        return reference.rpartition(":")[2]
    if spec["type"] == "array":
        return f"list of {_shape(schema, spec['items'])}"
    if spec["type"] == "object":
        return f"map of {_shape(schema, spec['additionalProperties'])}"
    return str(spec["type"])


def _sdk_shapes(types: Mapping[str, Any]) -> dict[str, str]:
    return {name: _sdk_shape(type_) for name, type_ in types.items()}


def _sdk_shape(type_: Any) -> str:
    """A property's type as the SDK has it."""
    simple = {bool: "boolean", str: "string", int: "integer", float: "number", Any: "Any"}
    if type_ in simple:
        return simple[type_]
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is Sequence:
        return f"list of {_sdk_shape(arguments[0])}"
    if origin is Mapping:
        return f"map of {_sdk_shape(arguments[1])}"
    if origin is typing.Union:
        # pulumi.Input[T] is T, or T to come: an Awaitable, an Output.
        now = {argument for argument in arguments if typing.get_origin(argument) not in (Awaitable, pulumi.Output)}
        return "Asset" if now == {pulumi.Asset, pulumi.Archive} else _sdk_shape(*now)
    return str(type_.__name__).removesuffix("Args")
