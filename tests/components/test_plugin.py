"""The components as a plugin: what its schema says, and what its arguments become."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any, get_args

import pulumi
import pytest
from pulumi.output import _OutputData
from pulumi.provider.experimental.component import ComponentProvider
from pulumi.resource import DependencyResource

import components
from components.access_policy import AccessPolicyArgs
from components.control_plane import ControlPlaneArgs
from components.plugin import COMPONENTS, NAME, made, outputs_among_plain, twin, twins
from components.routing import Routing, RoutingArgs
from components.sidecar import SidecarArgs
from components.telemetry import WorkloadTelemetryArgs
from components.workload import Workload, WorkloadArgs, WorkloadPort
from components.workload_access import WorkloadAccess, WorkloadAccessArgs
from tests.components.harness import KEY, World, dev_sections, run, write_files

HERE_ONLY = {"SshHost", "CommandHost"}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    provider = ComponentProvider(twins(), NAME, None, "0.1.0")
    found: dict[str, Any] = json.loads(provider.schema or "")
    return found


def test_every_component_is_in_the_schema(schema: dict[str, Any]) -> None:
    offered = [getattr(components, name) for name in components.__all__]
    names = {each.__name__ for each in offered if issubclass(each, pulumi.ComponentResource)}
    assert set(schema["resources"]) == {f"hybridmesh:index:{name}" for name in names - HERE_ONLY}


def test_the_package_has_every_class_of_its_own_that_an_argument_takes() -> None:
    def classes(hint: Any) -> set[type]:
        found = {each for part in get_args(hint) for each in classes(part)}
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            found |= {hint} | {each for inside in dataclasses.fields(hint) for each in classes(inside.type)}
        return found

    taken = {each for args in COMPONENTS.values() for each in classes(args)}
    own = {each.__name__ for each in taken if each.__module__.startswith("components.")}
    assert own <= set(components.__all__)


def test_arguments_and_outputs_carry_their_meaning(schema: dict[str, Any]) -> None:
    workload = schema["resources"]["hybridmesh:index:Workload"]
    assert set(workload["requiredInputs"]) == {"workload", "namespace", "serviceAccount"}
    assert workload["inputProperties"]["namespace"] == {"description": "Its namespace.", "type": "string"}
    assert workload["inputProperties"]["ports"]["items"]["$ref"] == "#/types/hybridmesh:index:WorkloadPort"
    assert workload["properties"]["identity"] == {"description": "Its SPIFFE id.", "type": "string"}
    undescribed = [
        f"{token}.{name}"
        for token, resource in schema["resources"].items()
        for name, what in [*resource["inputProperties"].items(), *resource["properties"].items()]
        if not what.get("description")
    ]
    assert undescribed == []


def test_a_mapping_becomes_the_component_s_own_arguments() -> None:
    args = made(
        RoutingArgs,
        {
            "workload": "cart",
            "namespace": "shop",
            "host": "cart.shop",
            "weights": {"vm": 10.0, "k8s": 90.0},
            "tcp_ports": [5432.0],
            "mirror": {"subset": "vm", "percentage": 0.5},
            "policy": {"outlier_detection": {"consecutive_errors": 3.0}},
            "timeout": None,
        },
    )
    assert args.weights == {"vm": 10, "k8s": 90}
    assert all(isinstance(port, int) for port in args.tcp_ports)
    assert args.mirror == components.Mirror(subset="vm", percentage=0.5)
    assert args.policy.outlier_detection == components.OutlierDetection(consecutive_errors=3)
    assert args.timeout is None


def test_a_secret_in_arguments_is_not_printed() -> None:
    connection = {"address": "192.0.2.11", "host_key": "ssh-ed25519 A", "private_key": KEY}
    args = made(components.Connection, connection)
    assert "S3CRET" not in repr(args)


def test_an_argument_that_is_missing_or_unknown_is_named() -> None:
    with pytest.raises(TypeError, match="service_account"):
        made(WorkloadArgs, {"workload": "cart", "namespace": "shop"})
    with pytest.raises(KeyError, match="nonsense"):
        made(SidecarArgs, {"nonsense": 1})


def test_whole_numbers_that_may_be_outputs_are_numbers_to_pulumi(schema: dict[str, Any]) -> None:
    """Its host makes an `int` of whatever it takes for an integer, and an output is none."""
    replicas = schema["resources"]["hybridmesh:index:Pods"]["inputProperties"]["replicas"]
    assert replicas["type"] == "number"
    port = schema["types"]["hybridmesh:index:Connection"]["properties"]["port"]
    assert port["type"] == "number"
    plain = schema["types"]["hybridmesh:index:WorkloadPort"]["properties"]["port"]
    assert plain["type"] == "integer"


def test_addresses_and_variables_may_be_outputs(schema: dict[str, Any]) -> None:
    resources = schema["resources"]
    assert "plain" not in resources["hybridmesh:index:EastWestGateway"]["inputProperties"]["address"]
    assert "plain" not in resources["hybridmesh:index:Pods"]["inputProperties"]["env"]["additionalProperties"]


def test_nothing_is_offered_that_only_a_program_in_python_has(schema: dict[str, Any]) -> None:
    assert "turn" not in schema["resources"]["hybridmesh:index:Sidecar"]["inputProperties"]
    names = {name.rpartition(":")[2] for name in schema["types"]}
    assert names.isdisjoint({"Turn", "Turns", "Lane", "Semaphore"})


def test_an_output_that_would_be_written_into_a_text_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_ERROR_OUTPUT_STRING", "true")  # as the plugin has it
    other: Any = twin(WorkloadAccess, WorkloadAccessArgs)

    def program() -> Any:
        given = {"workload": pulumi.Output.from_input("cart"), "namespace": "shop", "allow": [{"methods": ["GET"]}]}
        return other("cart", given)

    with pytest.raises(pulumi.RunError, match=r"WorkloadAccess: workload: is an output .* Fix: a plain value"):
        run(program)


def test_a_component_s_own_refusal_is_told_though_an_output_stands_in_a_plain_place() -> None:
    other: Any = twin(Routing, RoutingArgs)

    def program() -> Any:
        later = pulumi.Output.from_input("2s")
        given = {"workload": "cart", "host": "cart", "namespace": "shop", "weights": {"vm": 100}, "timeout": later}
        return other("cart", given)

    with pytest.raises(ValueError, match=r"weights\.vm"):
        run(program)


def test_an_output_in_a_plain_place_that_is_written_into_no_text_is_taken() -> None:
    other: Any = twin(Workload, WorkloadArgs)

    def program() -> Any:
        account = pulumi.Output.from_input("cart")
        return other("cart", {"workload": "cart", "namespace": "shop", "service_account": account})

    world = run(program)
    assert world.one("cart-account").value("metadata")["name"] == "cart"


@pytest.mark.parametrize(
    ("args_type", "given", "places"),
    [
        (RoutingArgs, {"namespace": 1, "weights": {"vm": 1, "k8s": 2.0}}, ["weights.vm"]),
        (WorkloadArgs, {"ports": [{"name": "a"}, {"name": 1}]}, ["ports[1].name"]),
        (SidecarArgs, {"package": {"url": 1}, "connection": {"address": 1}}, ["package.url"]),
        (ControlPlaneArgs, {"values": {"pilot": {"hub": 1}}, "mesh_id": 1}, ["meshId"]),
    ],
)
def test_outputs_are_found_where_plain_values_belong(args_type: type, given: dict[str, Any], places: list[str]) -> None:
    """1 stands for an output."""

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: put(item) for key, item in value.items()}
        if isinstance(value, list):
            return [put(item) for item in value]
        return pulumi.Output.from_input("x") if value == 1 else value

    async def find() -> list[str]:
        return list(outputs_among_plain(args_type, put(given)))

    assert asyncio.run(find()) == places


def registered(world: World) -> dict[tuple[str, str], Any]:
    return {(r.type, r.name): r.inputs for r in world.found if r.type != "pulumi:pulumi:Stack"}


@pytest.mark.parametrize("preview", [True, False])
def test_a_twin_registers_what_the_component_does(preview: bool) -> None:
    given = {
        "workload": "cart",
        "namespace": "shop",
        "service_account": "cart",
        "ports": [{"name": "http", "port": 80.0, "target": 8080.0}],
    }
    args = WorkloadArgs(
        workload="cart",
        namespace="shop",
        service_account="cart",
        ports=[WorkloadPort(name="http", port=80, target=8080)],
    )
    other: Any = twin(Workload, WorkloadArgs)
    from_mapping = run(lambda: other("cart", given), preview=preview)
    own = run(lambda: Workload("cart", args), preview=preview)
    assert registered(from_mapping) == registered(own)


def test_the_whole_mesh_takes_a_stack_s_settings(tmp_path: Any) -> None:
    write_files(tmp_path)
    mesh: Any = next(each for each in twins() if each.__name__ == "HybridMesh")
    world = run(lambda: mesh("mesh", {"settings": dev_sections(), "root": str(tmp_path)}))
    assert {resource.type.rpartition(":")[2] for resource in world.found} >= {"Sidecar", "Routing", "Release"}


def test_the_whole_mesh_refuses_settings_as_the_program_does(tmp_path: Any) -> None:
    mesh: Any = next(each for each in twins() if each.__name__ == "HybridMesh")
    with pytest.raises(pulumi.RunError, match=r"hybrid-mesh:cluster"):
        mesh("mesh", {"settings": {}, "root": str(tmp_path)})


@pytest.mark.parametrize("preview", [True, False])
def test_the_whole_mesh_takes_a_key_that_is_a_secret_of_the_stack(tmp_path: Any, preview: bool) -> None:
    write_files(tmp_path)
    mesh: Any = next(each for each in twins() if each.__name__ == "HybridMesh")

    def made_of(key: Any) -> World:
        def program() -> Any:
            sections = dev_sections()
            ssh = sections["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["ssh"]
            del ssh["privateKeyFile"]
            ssh["privateKey"] = key()
            return mesh("mesh", {"settings": sections, "root": str(tmp_path)})

        return run(program, preview=preview)

    world = made_of(lambda: pulumi.Output.secret(KEY))
    assert registered(world) == registered(made_of(lambda: KEY))
    assert "S3CRET" not in str([resource.plain for resource in world.found])


def test_the_whole_mesh_refuses_what_is_not_known_yet_by_name(tmp_path: Any) -> None:
    mesh: Any = next(each for each in twins() if each.__name__ == "HybridMesh")

    def program() -> Any:
        later = pulumi.Output.from_input(pulumi.output.UNKNOWN)
        return mesh("mesh", {"settings": {"gateway": {"address": later}}, "root": str(tmp_path)})

    with pytest.raises(pulumi.RunError, match=r"hybrid-mesh:gateway\.address: is not known before the update.*Fix: "):
        run(program, preview=True)


def test_no_value_of_a_section_with_a_secret_is_shown(tmp_path: Any) -> None:
    def change(sections: dict[str, Any]) -> None:
        with_the_key_as(pulumi.Output.secret(KEY))(sections)
        sections["workloads"]["echo"]["namespace"] = "S3CRET"

    with pytest.raises(pulumi.RunError, match=r"hybrid-mesh:workloads\.echo\.namespace = \*+: ") as refused:
        run(lambda: whole_mesh(tmp_path, change))
    assert "S3CRET" not in str(refused.value)


def whole_mesh(folder: Any, change: Any, wrapped: Any = lambda sections: sections) -> Any:
    write_files(folder)
    mesh: Any = next(each for each in twins() if each.__name__ == "HybridMesh")
    sections = dev_sections()
    change(sections)
    return mesh("mesh", {"settings": wrapped(sections), "root": str(folder)})


def with_the_key_as(value: Any) -> Any:
    def change(sections: dict[str, Any]) -> None:
        ssh = sections["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["ssh"]
        del ssh["privateKeyFile"]
        ssh["privateKey"] = value

    return change


def test_a_secret_that_would_not_be_kept_is_refused_by_name(tmp_path: Any) -> None:
    def change(sections: dict[str, Any]) -> None:
        sections["sidecar"]["environment"]["TOKEN"] = pulumi.Output.secret("S3CRET")
        sections["workloads"]["echo"]["ports"][0]["port"] = pulumi.Output.secret("S3CRET")

    with pytest.raises(pulumi.RunError, match=r"2 settings are wrong") as refused:
        run(lambda: whole_mesh(tmp_path, change))
    assert "hybrid-mesh:sidecar.environment.TOKEN: is encrypted, " in str(refused.value)
    assert "hybrid-mesh:workloads.echo.ports[0].port: is encrypted, " in str(refused.value)
    assert "S3CRET" not in str(refused.value)


def test_what_another_resource_takes_for_secret_is_taken_with_a_warning(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program in YAML has no way to make it plain, such as an address that another stack gives as a secret."""
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda message, *_: warned.append(message))

    def change(sections: dict[str, Any]) -> None:
        data: asyncio.Future[Any] = asyncio.Future()
        owner: Any = DependencyResource("urn:pulumi:dev::shop::pulumi:pulumi:StackReference::owner")
        data.set_result(_OutputData(resources={owner}, value="192.0.2.77", is_known=True, is_secret=True))
        sections["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["ssh"]["address"] = pulumi.Output._from_data(data)

    world = run(lambda: whole_mesh(tmp_path, change))
    assert "192.0.2.77" in str([resource.plain for resource in world.found])
    (warning,) = [message for message in warned if "encrypted" in message]
    assert warning.startswith("hybrid-mesh:workloads.echo.machines.hosts.vm-1.ssh.address: is encrypted, ")
    assert "192.0.2.77" not in warning


def test_settings_that_are_secret_as_a_whole_are_good_if_there_is_a_key_in_them(tmp_path: Any) -> None:
    """As they come where Pulumi does not tell which of them is the secret."""
    world = run(lambda: whole_mesh(tmp_path, with_the_key_as(KEY), pulumi.Output.secret))
    assert "Sidecar" in {resource.type.rpartition(":")[2] for resource in world.found}
    with pytest.raises(pulumi.RunError, match="hybrid-mesh:settings: has something encrypted, "):
        run(lambda: whole_mesh(tmp_path, lambda _: None, pulumi.Output.secret))


@pytest.mark.parametrize(
    ("args_type", "given", "choices"),
    [
        (WorkloadTelemetryArgs, {"requests": "error"}, "all, errors, none"),
        (AccessPolicyArgs, {"mtls": "DISABLE"}, "STRICT, PERMISSIVE"),
        (ControlPlaneArgs, {"mode": "adopted"}, "install, adopt"),
        (components.WorkloadPort, {"name": "a", "port": 1.0, "protocol": "http"}, "HTTP, HTTP2, GRPC, TCP, TLS"),
    ],
)
def test_a_word_that_is_none_of_an_argument_s_is_refused(args_type: type, given: dict[str, Any], choices: str) -> None:
    *_, (field, value) = given.items()
    with pytest.raises(pulumi.RunError) as refused:
        made(args_type, given)
    assert f"{field} = {value!r}: is not one of its values" in str(refused.value)
    assert str(refused.value).endswith(f"Fix: {choices}.")


def test_every_twin_is_made_from_a_component_and_its_arguments() -> None:
    for component, args in COMPONENTS.items():
        assert args.__name__ == f"{component.__name__}Args"
