"""What a reviewer reads of a plan. On the environment: tests/e2e/test_previews.py."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hybridmesh.__main__ import app
from hybridmesh.ops.changes import counted, readable, remarks
from hybridmesh.providers.packs import pack
from lab.instance import PROJECT_ROOT
from tests.components.harness import Registered
from tests.components.test_changes import registered
from tests.engine import TOOLS, Engine
from tests.providers.given import GivenStack

STACK = "urn:pulumi:dev::hybrid-mesh::"
MESH = f"{STACK}hybridmesh:hybrid_mesh:HybridMesh::mesh"
SIDECAR = f"{STACK}hybridmesh:hybrid_mesh:HybridMesh$hybridmesh:sidecar:Sidecar::mesh-vm-1"
ROUTING = f"{STACK}hybridmesh:hybrid_mesh:HybridMesh$hybridmesh:routing:Routing::mesh-echo"
GATEWAY = f"{STACK}hybridmesh:hybrid_mesh:HybridMesh$hybridmesh:east_west_gateway:EastWestGateway::mesh-gateway"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def step(
    operation: str,
    kind: str,
    name: str,
    old: dict[str, Any] | None = None,
    new: dict[str, Any] | None = None,
    parent: str = MESH,
    **more: Any,
) -> dict[str, Any]:
    states = {"oldState": old, "newState": new}
    urn = f"{parent.rpartition('::')[0]}${kind}::{name}"
    found = {key: {"inputs": inputs, "parent": parent} for key, inputs in states.items() if inputs is not None}
    return {"op": operation, "urn": urn, **found, **more}


def shown(*steps: dict[str, Any]) -> list[str]:
    return readable({"steps": list(steps)})


def updated(old: dict[str, Any], new: dict[str, Any], **more: Any) -> list[str]:
    title, *lines = shown(step("update", "hybridmesh:sidecar:Sidecar", "mesh-vm-1", old, new, **more))
    assert title == "~ Sidecar mesh-vm-1"
    return lines


def test_only_what_differs_is_shown_by_where_it_stands() -> None:
    old = {"same": 1, "spec": {"a": {"b": 1, "c": 2}, "x.y/z": "old"}, "__internal": 1}
    new = {"same": 1, "spec": {"a": {"b": 3, "c": 2}, "x.y/z": "new"}, "__internal": 2}
    assert updated(old, new) == ["~     spec.a.b: 1 => 3", '~     spec["x.y/z"]: old => new']


def test_a_file_s_lines_are_shown_with_two_around_them() -> None:
    old = "\n".join(f"line {n}" for n in range(20))
    new = old.replace("line 3\n", "line three\n").replace("line 15\n", "")
    assert updated({"hosts": old}, {"hosts": new}) == [
        "~     hosts:",
        "          line 1",
        "          line 2",
        "-         line 3",
        "+         line three",
        "          line 4",
        "          line 5",
        "          …",
        "          line 13",
        "          line 14",
        "-         line 15",
        "          line 16",
        "          line 17",
    ]


def test_what_is_new_or_gone_is_shown_whole() -> None:
    lines = updated({"gone": {"a": [1.0]}}, {"file": "a: 1\nb: 2\n", "none": {}})
    assert lines == [
        "+     file: |",
        "+       a: 1",
        "+       b: 2",
        "-     gone:",
        "-       a:",
        "-       - 1",
        "+     none: {}",
    ]


def test_no_value_looks_like_a_change_of_something_else() -> None:
    forged = "a\n~ Sidecar vm-1: Istio restarts, in turn"
    told = '"a\\n~ Sidecar vm-1: Istio restarts, in turn"'
    assert updated({"args": [forged]}, {"args": ["b\nc"]}) == [f"-     args: {told}", '+     args: "b\\nc"']
    assert updated({"size": forged}, {"size": 5}) == [f"~     size: {told} => 5"]
    assert updated({"set": {forged: 1}}, {"set": {forged: 2}}) == [f"~     set.{told}: 1 => 2"]
    named = ([{"name": forged, "port": port}] for port in (1, 2))
    assert updated({"ports": next(named)}, {"ports": next(named)}) == [f"~     ports[{told}].port: 1 => 2"]


def test_items_of_lists_are_the_same_by_name() -> None:
    old = {"ports": [{"name": "http", "port": 1}, {"name": "raw", "port": 2}], "units": ["a", "b"], "hosts": [{"x": 1}]}
    new = {"ports": [{"name": "raw", "port": 2}, {"name": "http", "port": 9}], "units": ["b", "c"], "hosts": [{"x": 2}]}
    assert updated(old, new) == [
        "~     hosts[0].x: 1 => 2",
        "~     ports[http].port: 1 => 9",
        "~     ports: in another order",
        "-     units: a",
        "+     units: c",
    ]


def test_of_a_list_it_is_told_where_what_stays_stands_otherwise() -> None:
    def lists(old: list[Any], new: list[Any]) -> list[str]:
        return [line.split(maxsplit=1)[1] for line in updated({"x": old}, {"x": new})]

    first, second, third = ({"name": name} for name in "abc")
    assert lists([first, second], [second, first]) == ["x: in another order"], "the first route that matches counts"
    assert lists([first, second], [third, first, second]) == ["x[c]:", "name: c"]
    assert lists(["a", "b"], ["b", "a"]) == ["x: in another order"]
    assert lists(["a", "b", "c"], ["c", "b"]) == ["x: a", "x: in another order"]
    assert lists(["a", "a"], ["a"]) == ["x: other counts"]
    assert lists([80], ["80"]) == ["x: 80", "x: 80"], "a number, and the text"


def test_items_that_get_names_or_lose_them_are_compared_by_place() -> None:
    bare, named = {"ports": [{"port": 1}]}, {"ports": [{"port": 1, "name": "http"}]}
    assert updated(bare, named) == ["+     ports[0].name: http"]
    assert updated(named, bare) == ["-     ports[0].name: http"]


def test_secrets_unknown_values_digests_and_certificates_are_told_and_not_shown() -> None:
    digest, certificate = "0123456789ab" + "0" * 52, "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
    _, *lines = shown(
        step("update", "kubernetes:core/v1:Secret", "s", {"a": digest, "c": 1}, {"a": "1" * 64, "c": UNKNOWN})
    )
    assert lines == ["~     a: 0123456789ab… => 111111111111…", "~     c: 1 => (known after the update)"]
    files = {"hosts": "192.0.2.1 istiod\n", "mesh": "a: 1\nb: 2\n"}
    assert updated(files, dict.fromkeys(files, UNKNOWN)) == [
        "~     hosts: 192.0.2.1 istiod => (known after the update)",
        "~     mesh: (known after the update)",
    ]
    secret = {"k": "[secret]", "in": {"key": "[secret]"}}
    assert updated(secret, secret, diffReasons=["k", "in"]) == [
        "~     in: a secret in it, changed",
        "~     k: secret, changed",
    ]
    assert updated({"k": "plain", "p": "[secret]"}, {"k": "[secret]", "p": "plain"}) == [
        "~     k: secret, changed",
        "~     p: secret, changed",
    ]
    (line,) = updated({}, {"root": certificate})
    assert re.fullmatch(r"\+     root: \(certificate [0-9a-f]{12}…\)", line)


def test_what_the_cluster_or_a_vm_has_otherwise_is_said() -> None:
    same = {"spec": {"a": 1}}
    assert updated(same, same, detailedDiff={"spec.a": {"inputDiff": False}}) == ["~     spec: not as it was put up"]


def test_resources_stand_below_their_component_and_objects_have_their_name_in_the_cluster() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo", "namespace": "demo"}, "spec": {}}
    assert shown(
        step("update", "command:remote:Command", "mesh-vm-1-ready", {"stdin": "a"}, {"stdin": "b"}, parent=SIDECAR),
        step("create", "command:remote:Command", "mesh-vm-1-join", None, {"create": "long shell"}, parent=SIDECAR),
        step("same", "kubernetes:core/v1:Service", "unchanged"),
        step("update", "hybridmesh:sidecar:Sidecar", "mesh-vm-1", {"a": 1}, {"a": 2}),
        step("delete", "kubernetes:core/v1:Service", "mesh-echo-service", service, None, parent=ROUTING),
        step("update", "hybridmesh:hybrid_mesh:HybridMesh", "mesh", {}, {}, parent=f"{STACK}pulumi:pulumi:Stack::s"),
    ) == [
        "  Routing mesh-echo",
        "-   Service demo/echo",
        "",
        "~ Sidecar mesh-vm-1",
        "~     a: 1 => 2",
        "+   join",
        "~   ready: stdin: a => b",
    ]


Inputs = dict[str, Any]


def vm(name: str, old: Inputs, new: Inputs, **parts: tuple[Inputs, Inputs]) -> Iterator[dict[str, Any]]:
    """The steps of a machine whose files or parts change."""
    parent = SIDECAR.replace("mesh-vm-1", name)
    kinds = {
        "departure": "pulumi-python:dynamic:Departure",
        "token": "pulumi-python:dynamic:IstioToken",
        "membership": "pulumi-python:dynamic:Membership",
    }
    yield step("update" if old != new else "same", "hybridmesh:sidecar:Sidecar", name, old, new)
    for part, (before, after) in parts.items():
        kind = kinds.get(part, "command:remote:Command")
        yield step("update", kind, f"{name}-{part}", before, after, parent=parent)


JOINED: dict[str, tuple[Inputs, Inputs]] = {
    "join": ({"stdin": "[secret]"}, {"stdin": "[secret]"}),
    "ready": ({"stdin": "0" * 64}, {"stdin": UNKNOWN}),
    "membership": ({"joined": "0" * 64, "labels": {"a": "b"}}, {"joined": "1" * 64, "labels": {"a": "b"}}),
}


def test_machines_that_change_alike_are_told_once_and_of_how_it_is_done_only_what_can_be_read() -> None:
    labelled = {**JOINED, "membership": ({"joined": "0" * 64, "labels": {}}, {"joined": UNKNOWN, "labels": {"a": "b"}})}
    alike = [step for n in (10, 1, 2) for step in vm(f"mesh-vm-{n}", {"hosts": "a"}, {"hosts": "b"}, **JOINED)]
    other = vm("mesh-vm-3", {"hosts": "a"}, {"hosts": "b"}, **labelled)
    assert shown(*alike, *other) == [
        "~ Sidecar mesh-vm-1, mesh-vm-2, mesh-vm-10",
        "~     hosts: a => b",
        "~   join, ready, membership",
        "",
        "~ Sidecar mesh-vm-3",
        "~     hosts: a => b",
        "~   join, ready",
        "~   membership",
        "+       labels.a: b",
    ]


ENV, LABELLED = "A='1'\nB='2'\n", "A='1'\nB='3'\n"
ITS_LINES = ["~     cluster.env:", "          A='1'", "-         B='2'", "+         B='3'"]


def left_undone(had: str | None, gets: str, *sidecar: dict[str, Any], **parts: tuple[Inputs, Inputs]) -> list[str]:
    """What is shown after an `up` that failed; `had`: what the machine has; `sidecar`: the step of its component."""
    old = {"joined": "0" * 64, **({} if had is None else {"brought": had})}
    steps = vm("mesh-vm-1", {}, {}, **{**JOINED, **parts, "membership": (old, {"joined": UNKNOWN, "brought": gets})})
    return shown(*(step for step in steps if step["op"] != "same"), *sidecar)


def has(env: str) -> str:
    return json.dumps({"cluster.env": env, "package": "1.31.0", "limits": None})


def test_what_an_up_that_failed_has_left_undone_is_shown_as_it_was_before_it() -> None:
    """The state has the component as it is to be; that the machine is otherwise its membership tells."""
    restarts = "~ Sidecar mesh-vm-1: Istio restarts, in turn"
    assert left_undone(has(ENV), has(LABELLED)) == [restarts, *ITS_LINES, "~   join, ready, membership"]
    # Another change after it: both are to be done, and what was taken back is not.
    inputs = {"machine": "vm-1", "cluster.env": LABELLED, "package": "1.31.0"}
    again = step("update", "hybridmesh:sidecar:Sidecar", "mesh-vm-1", {**inputs, "limits": {"cpu": 1}}, inputs)
    changed = {**again, "diffReasons": ["limits"]}
    assert left_undone(has(ENV), has(LABELLED), changed) == [restarts, *ITS_LINES, "~   join, ready, membership"]
    back = step("update", "hybridmesh:sidecar:Sidecar", "mesh-vm-1", inputs, {**inputs, "cluster.env": ENV})
    assert left_undone(has(ENV), has(ENV), back) == ["  Sidecar mesh-vm-1", "~   join, ready, membership"]


def test_after_a_roll_that_ended_half_way_lines_are_shown_and_it_is_not_said_who_restarts() -> None:
    staged = {"ready": ({"stdin": "0" * 64}, {"stdin": f"{'1' * 64} staged 1b4db7eb-4057-5ddf-91e0-36dec72071f5"})}
    title, *lines = left_undone(has(ENV), has(LABELLED), **staged)
    assert title == "~ Sidecar mesh-vm-1: Istio restarts, in turn, unless an earlier run has done it"
    assert lines[:4] == ITS_LINES


def test_a_machine_that_never_joined_is_new_whatever_the_state_has_of_it() -> None:
    part = step("create", "pulumi-python:dynamic:Membership", "mesh-vm-1-membership", None, parent=SIDECAR)
    part["newState"] = {"inputs": {"brought": has(ENV)}, "parent": SIDECAR}
    lines = ["+     cluster.env: |", "+       A='1'", "+       B='2'", "+     package: 1.31.0", "+   membership"]
    assert shown(part) == ["+ Sidecar mesh-vm-1", *lines]
    inputs = {"cluster.env": ENV, "package": "1.31.0"}
    again = step("update", "hybridmesh:sidecar:Sidecar", "mesh-vm-1", {**inputs, "package": "1.30.0"}, inputs)
    assert shown(again, part) == ["+ Sidecar mesh-vm-1", *lines]


@pytest.mark.parametrize("had", [None, "[secret]", UNKNOWN], ids=["earlier", "secret", "unknown"])
def test_where_it_is_not_known_what_a_machine_has_the_plan_is_shown_as_it_is(had: str | None) -> None:
    assert left_undone(had, has(LABELLED)) == ["  Sidecar mesh-vm-1", "~   join, ready, membership"]
    one = step("update", "hybridmesh:sidecar:Sidecar", "mesh-vm-1", {"hosts": "a"}, {"hosts": "b"})
    assert left_undone(had, UNKNOWN, one)[:2] == ["~ Sidecar mesh-vm-1", "~     hosts: a => b"]


def test_of_new_machines_that_are_much_alike_the_second_is_told_by_what_differs() -> None:
    def new(name: str, **more: Any) -> dict[str, Any]:
        env = "".join(f"{key}='same'\n" for key in "ABCDEFGH") + f"POD_NAME='{name}'\n"
        inputs = {"cluster.env": env, "machine": name, "units": ["a.service"], **more}
        return step("create", "hybridmesh:sidecar:Sidecar", f"mesh-{name}", None, inputs)

    first, second, third = "\n".join(shown(new("vm-1"), new("vm-2"), new("vm-3", more="lines"))).split("\n\n")
    assert len(first.splitlines()) == 14
    assert first.splitlines()[0] == "+ Sidecar mesh-vm-1", "nothing restarts of what is new"
    assert second.splitlines() == [
        "+ Sidecar mesh-vm-2, as mesh-vm-1 but for",
        "+     cluster.env: |",
        "+       POD_NAME='vm-2'",
        "+     machine: vm-2",
    ]
    assert len(third.splitlines()) == 15


def test_a_command_that_is_another_one_since_the_program_is_tells_that_and_not_its_text() -> None:
    parent = step("same", "hybridmesh:sidecar:Sidecar", "mesh-vm-1", {}, {})
    old, new = ({"create": f"exec /bin/sh -c '{word}'", "delete": "true"} for word in ("long", "longer"))
    ready = step("update", "command:remote:Command", "mesh-vm-1-ready", old, new, parent=SIDECAR)
    assert shown(parent, ready)[1:] == ["~   ready: create: as this version of hybrid-mesh has it"]


def test_a_verdict_that_only_the_update_knows_and_nothing_that_goes_are_not_shown() -> None:
    findings = {"vm-1": UNKNOWN, "vm-2": ["disk"], "vm-4": UNKNOWN}
    assert shown(
        step(
            "update",
            "pulumi-python:dynamic:Preflights",
            "mesh-preflights",
            {"findings": {"vm-1": [], "vm-2": [], "vm-3": []}, "who": '{"vm-1": "0a1b", "vm-3": "2c3d"}'},
            {"findings": findings, "who": '{"vm-1": "0a1b"}'},
        )
    ) == ["~ Preflights mesh-preflights", "+     findings.vm-2: disk"]


@pytest.mark.parametrize("file", ["cluster.env", "mesh.yaml", "package", "root-cert.pem"])
def test_a_restart_is_said(file: str) -> None:
    title, *_ = shown(*vm("mesh-vm-1", {file: "a"}, {file: "b"}, **JOINED))
    assert title == "~ Sidecar mesh-vm-1: Istio restarts, in turn"


def test_of_a_change_that_is_taken_back_after_its_join_has_failed_no_restart_is_said() -> None:
    """The engine would run nothing, and the machine may have a half of it."""
    title, *_ = shown(*vm("mesh-vm-1", {"cluster.env": "a"}, {"cluster.env": "b"}))
    assert title == "~ Sidecar mesh-vm-1: nothing is done there (docs/recovery.md)"


def test_a_restart_that_an_earlier_run_has_not_come_to_is_said_and_no_words_of_joins() -> None:
    """Of a roll that has ended half-way, the machines that had no turn, and the one that did not come back."""
    was, will = (
        f"{str(digit) * 64} {word} 1b4db7eb-4057-5ddf-91e0-36dec72071f{digit}"
        for digit, word in enumerate(("applied", "staged"))
    )
    membership = ({"joined": was}, {"joined": will})
    left = [step for n in (1, 2) for step in vm(f"mesh-vm-{n}", {}, {}, ready=({"stdin": was}, {"stdin": will}))]
    assert shown(*left) == [
        "  Sidecar mesh-vm-1, mesh-vm-2: Istio restarts, in turn, unless an earlier run has done it",
        "~   ready",
    ]
    assert shown(*vm("mesh-vm-3", {}, {}, membership=membership)) == ["  Sidecar mesh-vm-3", "~   membership"]
    edited = vm("mesh-vm-3", {}, {}, membership=({"joined": ""}, {"joined": will}))
    assert shown(*edited) == ["  Sidecar mesh-vm-3", "~   membership"], "its entry was, as a refresh has found"


def test_what_comes_of_a_change_is_said_of_the_machine() -> None:
    token = {"scripts": "0" * 64, "expirationSeconds": 3600}
    steps = list(vm("mesh-vm-1", {}, {}, token=(token, token), **JOINED))
    title = "  Sidecar mesh-vm-1"
    assert shown(*steps)[0] == f"{title}: it joins anew, having been out or put back"
    assert shown(*steps)[1:] == ["~   token, join, ready, membership"]
    steps[1]["oldState"]["outputs"] = {"drift": ["file /etc/hosts: edited"]}
    assert shown(*steps)[0] == f"{title}: what was changed by hand is put right"
    steps[1]["oldState"].pop("outputs")
    for key in ("entry", "namespace", "serviceAccount"):
        elsewhere = vm("mesh-vm-1", {}, {}, token=({key: "one"}, {key: "another"}))
        assert shown(*elsewhere)[0] == f"{title}: it joins anew, by another identity or address"
    replaced = step("replace", "pulumi-python:dynamic:Departure", "mesh-vm-1-departure", {}, {}, parent=SIDECAR)
    assert shown(*steps, replaced)[0] == f"{title}: another machine joins, and then the old one leaves"
    longer = {**token, "expirationSeconds": 7200}
    assert shown(*vm("mesh-vm-1", {}, {}, token=(token, longer))) == [
        title,
        "~   token: expirationSeconds: 3600 => 7200",
    ]


def test_other_commands_of_a_machine_say_that_the_old_one_is_not_removed() -> None:
    kind, old = (
        "hybridmesh:command_host:CommandHost",
        {"create": "make a", "delete": "rm a", "meshAddress": "192.0.2.2"},
    )
    said = "`create` runs again; should it make another machine, nobody removes the old one (docs/leaving.md)"
    title = "~ CommandHost mesh-vm-2"
    for key in ("create", "delete"):
        lines = shown(step("update", kind, "mesh-vm-2", old, {**old, key: "b"}))
        assert lines == [f"{title}: {said}", f"~     {key}: {old[key]} => b"]
    assert shown(step("update", kind, "mesh-vm-2", old, {**old, "meshAddress": "192.0.2.3"}))[0] == title
    parent = step("same", kind, "mesh-vm-2", old, old)["urn"]
    child = step("update", "command:local:Command", "mesh-vm-2-machine", {"dir": "a"}, {"dir": "b"}, parent=parent)
    assert shown(child) == ["  CommandHost mesh-vm-2", "~   machine: dir: a => b"], "it stays as it is itself"
    assert said not in "".join(
        shown(step("delete", kind, "mesh-vm-2", old), step("create", kind, "mesh-vm-3", None, old))
    )


def test_of_a_command_a_digest_that_is_another_is_not_shown_and_one_that_goes_is() -> None:
    def told(*values: str) -> list[str]:
        old, new = ({"environment": {"OF": value}} for value in values)
        return shown(step("update", "command:remote:Command", "mesh-vm-1-join", old, new, parent=SIDECAR))[1:]

    assert told("a" * 64, "b" * 64) == ["~   join"]
    assert told("a" * 64, "none") == ["~   join: environment.OF: aaaaaaaaaaaa… => none"]
    assert told("none", "b" * 64) == ["~   join: environment.OF: none => bbbbbbbbbbbb…"]


def test_of_what_is_noted_for_the_engine_only_the_rest_is_shown() -> None:
    old = {"own": ["demo"], "resources": {"istiod": [f"{MESH}-istiod"]}}
    new = {"own": ["demo", "shop"], "resources": {}, "itself": MESH}
    assert shown(step("update", "pulumi-python:dynamic:Adopters", "mesh-adopters", old, new)) == [
        "~ Adopters mesh-adopters",
        "+     own: shop",
    ]


def test_what_travels_in_packs_is_shown_one_by_one() -> None:
    was, will = ({"rotationSeconds": 3, "drainSeconds": seconds} for seconds in (5, 2))
    ssh = {"ssh": "[secret]"}

    def departure(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
        kind, name = "pulumi-python:dynamic:Departure", "mesh-vm-1-departure"
        return shown(step("update", kind, name, old | ssh, new | ssh, parent=SIDECAR))[1:]

    packed = {"limits": pack("limits", will)}
    assert departure({"limits": pack("limits", was)}, packed) == ["~   departure: drainSeconds: 5 => 2"]
    assert departure(was, packed) == ["~   departure: drainSeconds: 5 => 2"], "of an earlier version's state"
    assert departure({"limits": pack("limits", was)}, {"limits": UNKNOWN}) == ["~   departure"]


def test_a_secret_that_is_not_known_yet_is_not_shown_as_removed() -> None:
    kind, name = "pulumi-python:dynamic:Departure", "mesh-vm-1-departure"
    was, will = {"machine": "vm-1", "ssh": "[secret]"}, {"machine": "vm-1"}
    assert shown(step("update", kind, name, was, will, parent=SIDECAR))[1:] == ["~   departure"]
    elsewhere = step("update", kind, name, {**was, "context": "here"}, will, parent=SIDECAR)
    assert shown(elsewhere)[1:] == ["~   departure", "-       context: here"], "what goes is"


def test_an_awaited_value_is_shown_if_it_is_another_and_not_as_removed_if_it_is_not_known() -> None:
    def awaited(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
        kind, name = "pulumi-python:dynamic:AwaitedAddress", "mesh-gateway-address"
        return shown(step("update", kind, name, old, new, parent=GATEWAY))[1:]

    was = {"service": "{}", "found": "192.0.2.1"}
    assert awaited(was, {**was, "found": "192.0.2.2"}) == ["~   address: found: 192.0.2.1 => 192.0.2.2"]
    assert awaited(was, {"service": '{"a": 1}'}) == ['~   address: service: {} => {"a": 1}']


def test_of_a_new_object_is_shown_what_its_title_does_not_say_and_of_a_release_what_was_chosen() -> None:
    policy = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "echo", "namespace": "demo"}, "spec": {"a": 1}}
    release = {"name": "istiod", "namespace": "istio-system", "values": {"a": {}}, "atomic": False, "keyring": ""}
    assert shown(
        step("create", "kubernetes:security.istio.io/v1:X", "x", None, policy),
        step("create", "kubernetes:helm.sh/v3:Release", "y", None, release),
    ) == [
        "+ X demo/echo",
        "+     spec:",
        "+       a: 1",
        "",
        "+ Release y",
        "+     name: istiod",
        "+     namespace: istio-system",
        "+     values: {}",
    ]


def test_a_replacement_is_named_with_its_reason_and_counted_once() -> None:
    plan = {
        "steps": [
            step("create-replacement", "command:local:Command", "vm", {"create": "a"}, {"create": "b"}),
            step("replace", "command:local:Command", "vm", {"create": "a"}, {"create": "b"}, replaceReasons=["create"]),
            step("delete-replaced", "command:local:Command", "vm", {"create": "a"}, None),
            step("create", "hybridmesh:sidecar:Sidecar", "mesh-vm-1", None, {}),
        ]
    }
    assert readable(plan)[:2] == ["! Command vm: replaced, because of create", "~     create: a => b"]
    assert counted(plan) == "1 replaced"
    del plan["steps"][1]["replaceReasons"]
    assert readable(plan)[0] == "! Command vm: replaced, because of what it hangs on"
    assert counted({}) == "nothing changes"


def test_what_an_earlier_run_left_stands_beside_what_has_its_name_by_now() -> None:
    departure = step("update", "pulumi-python:dynamic:Departure", "mesh-vm-1-departure", {"a": 1}, {"a": 2}, SIDECAR)
    plan = {"steps": [departure, {"op": "delete", "urn": departure["urn"], "left": True}]}
    assert readable(plan) == [
        "- Departure mesh-vm-1-departure: what an earlier run could not remove",
        "",
        "  Sidecar mesh-vm-1",
        "~   departure: a: 1 => 2",
    ]
    assert counted(plan) == "1 changed, 1 removed"


LOST = {"urn": MESH, "severity": "warning", "message": "warning: vm-2 is declared lost\n"}
BY_HAND = {"severity": "info", "message": "vm-1 was changed by hand: file /etc/hosts: edited\n\n"}
"""As `pulumi preview --json --refresh` has it."""
ENGINE = {"severity": "warning", "message": "warning: using a plugin from $PATH"}


def test_what_the_program_says_of_it_is_said_once_and_the_engine_s_own_is_not() -> None:
    failure = {"urn": MESH, "severity": "error", "message": "error"}
    plan = {"diagnostics": [ENGINE, LOST, BY_HAND, LOST, failure, {**BY_HAND, "message": "\n"}]}
    assert remarks(plan) == ["warning: vm-2 is declared lost", BY_HAND["message"].strip()]


def plan_of(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What the engine would tell of an update from one workload `echo` to another, with routing."""

    def stack(given: dict[str, Any]) -> dict[tuple[str, str], Registered]:
        def change(sections: dict[str, Any]) -> None:
            sections["workloads"]["echo"].update(given.get("workload", {}))
            for key in given.get("without", ()):
                del sections["workloads"]["echo"][key]
            routing = {key: given[key] for key in ("weights", "subsets") if key in given}
            sections["routing"] = {"echo": routing} if routing else {}

        return registered(change)

    old, new = stack(before), stack(after)
    steps = []
    for key in old.keys() | new.keys():
        was, will = (dict(there[key].inputs) if key in there else None for there in (old, new))
        if was != will:
            steps.append(step("create" if was is None else "delete" if will is None else "update", *key, was, will))
    return {"steps": steps}


PODS_ALONE = {"without": ["machines"], "weights": {"k8s": 100}}


@pytest.mark.parametrize("protocol", ["HTTP", "TCP", "TLS"])
@pytest.mark.parametrize("before", [PODS_ALONE, {"without": ["machines"]}], ids=["routed", "not routed"])
def test_a_weight_that_counts_before_the_first_vm_has_joined_is_noted(before: dict[str, Any], protocol: str) -> None:
    of_either = {"workload": {"ports": [{"name": "main", "port": 8080, "protocol": protocol}]}}
    assert remarks(plan_of({**before, **of_either}, {"weights": {"k8s": 90, "vm": 10}, **of_either})) == [
        "10 % of echo's requests go to vm, which has no VM until this update is done: they fail meanwhile. Fix: first "
        "the VMs, with weight 0, then the weight."
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (PODS_ALONE, {"weights": {"k8s": 100, "vm": 0}}),
        ({"weights": {"k8s": 100, "vm": 0}}, {"weights": {"k8s": 90, "vm": 10}}),
        (PODS_ALONE, PODS_ALONE),
        (PODS_ALONE, {"weights": {"all": 100}, "subsets": {"all": {"app": "echo"}}}),
        (PODS_ALONE, {"weights": {"k8s": 100}, "workload": {"pods": {"image": "echo:2", "version": "k8s"}}}),
        ({"without": ["machines", "ports", "probe"]}, {"weights": {"k8s": 90, "vm": 10}}),
        (
            {"without": ["machines", "ports", "probe"]},
            {
                "weights": {"k8s": 90, "vm": 10},
                "workload": {"service": {"kind": "ServiceEntry", "hosts": ["shop.vm.internal"]}},
            },
        ),
    ],
    ids=["no weight", "VMs there", "nothing changes", "pods too", "pods alone", "nobody calls it yet", "nor by a name"],
)
def test_no_other_weight_is(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert remarks(plan_of(before, after)) == []


def run(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *options: str,
    code: int = 0,
    out: str = "",
    state: dict[str, Any] | None = None,
) -> Any:
    """The console, with a pulumi that says `out` of a preview; the preview's arguments and environment are noted."""
    program = tmp_path / "pulumi"
    noted = f'[ "$1" = preview ] || exec cat {tmp_path}/state\necho "$@" > {tmp_path}/asked\nenv > {tmp_path}/env'
    (tmp_path / "state").write_text(json.dumps(state or {}))
    program.write_text(f"#!/bin/sh\n{noted}\ncat {tmp_path}/out\necho broken >&2\nexit {code}\n")
    program.chmod(0o755)
    (tmp_path / "out").write_text(out)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return CliRunner().invoke(app, ["preview", "--stack", "dev", *options])


def test_the_console_asks_pulumi_and_shows_lines_and_total(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    steps = [step("update", "hybridmesh:routing:Routing", "mesh-echo", {"a": "[b]"}, {"a": "[c]"})]
    plan = {"steps": steps, "diagnostics": [ENGINE, BY_HAND]}
    done = run(monkeypatch, tmp_path, "--refresh", "--config-file", "x.yaml", out=json.dumps(plan))
    assert done.exit_code == 0
    lines = ["~ Routing mesh-echo", "~     a: [b] => [c]", BY_HAND["message"].strip(), "dev: nothing changes"]
    assert done.stdout.splitlines() == lines
    asked = (tmp_path / "asked").read_text()
    assert "preview --json" in asked
    assert "--stack dev --refresh --config-file x.yaml" in asked
    told = f"HYBRID_MESH_STACK_FILE={Path('x.yaml').absolute()}\n"
    assert told in (tmp_path / "env").read_text(), "the program asks that file what is encrypted"


def test_the_console_shows_what_an_earlier_run_left_and_nothing_else_of_the_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    urn = f"{STACK}pulumi-python:dynamic:Departure::mesh-vm-1-departure"
    stays, goes = {"urn": urn, "inputs": {"ssh": "S3CRET"}}, {"urn": urn, "inputs": {"ssh": "S3CRET"}, "delete": True}
    state = {"deployment": {"resources": [stays, goes]}}
    done = run(monkeypatch, tmp_path, out='{"steps": []}', state=state)
    left = "- Departure mesh-vm-1-departure: what an earlier run could not remove"
    assert done.stdout.splitlines() == [left, "dev: 1 removed"]


@pytest.mark.lab
def test_what_the_engine_would_remove_is_shown(tmp_path: Path) -> None:
    program = (
        "from pulumi import Config\nfrom pulumi_command.local import Command\n"
        'Command("vm-1-departure", create="true", delete="test -e back", triggers=[Config().require("machine")])\n'
    )
    engine = Engine.of(program, tmp_path, "hybrid-mesh", tools=(*TOOLS, "pulumi-resource-command"))
    for machine in ("old", "new"):
        engine.run("config", "set", "machine", machine)
        assert (engine.run("up", "--yes", "--skip-preview", check=False).returncode == 0) == (machine == "old")
    left = ["- Command vm-1-departure: what an earlier run could not remove", "dev: 1 removed"]
    assert shown_by_the_console(engine) == left
    assert shown_by_the_console(engine, "--refresh") == left
    (engine.folder / "program" / "back").touch()
    engine.run("up", "--yes", "--skip-preview")
    assert shown_by_the_console(engine) == ["dev: nothing changes"]


UNDONE = """
import json
from pathlib import Path

import pulumi
from pulumi.dynamic import CreateResult, Resource, ResourceProvider, UpdateResult

given = json.loads((Path(__file__).parent / "given.json").read_text())


class JoinProvider(ResourceProvider):
    def create(self, props):
        assert not props["fails"]
        return CreateResult("done", props)

    def update(self, _id, _olds, news):
        assert not news["fails"]
        return UpdateResult(news)


class Join(Resource, name="Join"):
    pass


class Membership(Resource, name="Membership"):
    pass


class Sidecar(pulumi.ComponentResource):
    def __init__(self):
        super().__init__("hybridmesh:sidecar:Sidecar", "mesh-vm-1", {"cluster.env": given["env"]})
        parent = pulumi.ResourceOptions(parent=self)
        join = Join(JoinProvider(), "mesh-vm-1-join", given, parent)
        brought = json.dumps({"cluster.env": given["env"]})
        after = pulumi.ResourceOptions(parent=self, depends_on=[join])
        member = {"joined": given["env"], "brought": brought, "fails": False}
        Membership(JoinProvider(), "mesh-vm-1-membership", member, after)
        self.register_outputs({"joined": join.id})


Sidecar()
"""


@pytest.mark.lab
def test_what_an_up_that_failed_has_left_undone_is_in_the_plan_of_the_engine(tmp_path: Path) -> None:
    stack = GivenStack(Engine.of(UNDONE, tmp_path, "hybrid-mesh", tools=TOOLS[:2]))
    for had in (None, ENV):
        stack.put_up({"env": LABELLED, "fails": True}, check=False)
        stack.give({"env": LABELLED, "fails": False})
        title, *lines = shown_by_the_console(stack.engine)
        if had is None:
            assert [title, *lines[:3]] == [
                "+ Sidecar mesh-vm-1",
                "+     cluster.env: |",
                "+       A='1'",
                "+       B='3'",
            ]
        else:
            assert [title, *lines[:4]] == ["~ Sidecar mesh-vm-1: Istio restarts, in turn", *ITS_LINES]
            stack.give({"env": had, "fails": False})
            taken_back = shown_by_the_console(stack.engine)[0]
            assert taken_back == "~ Sidecar mesh-vm-1: nothing is done there (docs/recovery.md)"
        stack.put_up({"env": ENV, "fails": False})
    assert shown_by_the_console(stack.engine) == ["dev: nothing changes"]


def shown_by_the_console(engine: Engine, *options: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "hybridmesh", "preview", "--stack", "dev", *options],
        cwd=engine.folder / "program",
        env={**engine.env, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def test_what_pulumi_refuses_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = {"diagnostics": [{"severity": "error", "message": "a wrong value"}, {"severity": "info", "message": "x"}]}
    for out in (json.dumps(said), "no JSON"):
        done = run(monkeypatch, tmp_path, code=255, out=out)
        assert done.exit_code == 1
        assert "ended with 255" in done.stderr
        assert ("a wrong value\nbroken" in done.stderr) == (out != "no JSON")
        assert "broken" in done.stderr


@pytest.mark.parametrize("out", ["", "{}", "[]", '{"type": "a"}\n{"type": "b"}\n', '{"steps": null}'])
def test_what_cannot_be_read_is_not_taken_for_no_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, out: str
) -> None:
    done = run(monkeypatch, tmp_path, out=out)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "did not print one JSON document with steps" in done.stderr
    assert (out.partition("\n")[0] or "nothing") in done.stderr


def test_pulumi_is_not_let_print_a_document_for_each_event(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PULUMI_ENABLE_STREAMING_JSON_PREVIEW", "true")
    monkeypatch.setenv("PULUMI_BACKEND_URL", "file:///somewhere")
    assert run(monkeypatch, tmp_path, out='{"steps": []}').exit_code == 0
    environment = (tmp_path / "env").read_text()
    assert "STREAMING" not in environment
    assert "PULUMI_BACKEND_URL=file:///somewhere" in environment


def test_without_pulumi_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Fix: install the Pulumi CLI" in CliRunner().invoke(app, ["preview", "--stack", "dev"]).stderr
    with pytest.raises(FileNotFoundError):
        subprocess.run(["pulumi"], check=False)
