"""One look at a stack: what each machine is asked."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import pytest

from hybridmesh.ops import look, mesh
from hybridmesh.ops.doctor import examine
from hybridmesh.ops.look import Seen, Source, View, look_at_machines
from hybridmesh.ops.ssh import Answer, Door, Limits, Reachable
from tests.components.harness import dev_settings
from tests.ops.probed import CERTS, HOST, NOW, TOPOLOGY, machine_facts, mesh_facts, probe_output
from tests.ops.sshd import closed_port, key, private, public

OTHER = "aaa.shop.svc.cluster.local"


def two_workloads() -> dict[str, Any]:
    """A second service, first by its name, in a namespace of its own; and a machine that only calls."""
    topology = deepcopy(TOPOLOGY)
    topology["workloads"]["aaa"] = {**topology["workloads"]["echo"], "namespace": "shop", "host": OTHER, "machines": []}
    topology["machines"]["vm-2"] = {**topology["machines"]["vm-1"], "workload": "client"}
    return topology


def scoped(*hosts: str) -> Callable[[dict[str, Any]], None]:
    def change(sections: dict[str, Any]) -> None:
        if hosts:
            sections["sidecar"]["egress"] = {"hosts": list(hosts)}
        sections["workloads"]["client"].pop("pods", None)
        vm = sections["workloads"]["echo"]["machines"]["hosts"].pop("vm-2")
        sections["workloads"]["client"]["machines"] = {"hosts": {"vm-2": vm}}

    return change


@pytest.mark.parametrize(
    ("egress", "asked"),
    [
        ((), {"vm-1": HOST, "vm-2": OTHER}),
        (("./*",), {"vm-1": HOST, "vm-2": HOST}),
        (("shop/*", "istio-system/*"), {"vm-1": OTHER, "vm-2": OTHER}),
        (("*/*.demo.svc.cluster.local",), {"vm-1": HOST, "vm-2": HOST}),
        ((f"*/{OTHER}",), {"vm-1": OTHER, "vm-2": OTHER}),
        (("istio-system/*", "demo/*.cluster.other"), {"vm-1": "", "vm-2": ""}),
        (("~/*",), {"vm-1": "", "vm-2": ""}),
    ],
)
def test_each_machine_resolves_a_name_that_its_proxy_is_told_of(
    monkeypatch: pytest.MonkeyPatch, egress: tuple[str, ...], asked: Mapping[str, str]
) -> None:
    topology, told = two_workloads(), {}

    def run(
        machines: Mapping[str, Reachable], _command: str, stdin: Callable[[str], str], _limits: Limits
    ) -> dict[str, Answer]:
        for name in machines:
            told[name] = stdin(name).partition("\n")[0].removeprefix("MESH_NAME=").strip("'")
        unresolved = probe_output({"mesh-name": ""})
        return {name: Answer(name, 0, unresolved, "") for name in machines}

    monkeypatch.setattr(look, "stack_settings", lambda *_: dev_settings(scoped(*egress)))
    monkeypatch.setattr(look, "run_on_all", run)
    seen = look_at_machines(Source(), topology, ["vm-1", "vm-2"])
    assert told == asked
    view = View(topology=topology, mesh=None, mesh_refusal="", machines=seen, now=NOW)
    findings = {f.machine: f.what for f in examine(view) if f.id == "dns-broken"}
    wrong = {
        name: f"{host} is not resolved on it, though the agent answers DNS" for name, host in asked.items() if host
    }
    assert findings == wrong


def test_ctrl_c_ends_a_look_at_machines_that_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "stack_settings", lambda *_: None)
    monkeypatch.setattr(look, "mesh_name", lambda *_: "")
    monkeypatch.setattr(look, "limits", lambda _settings: Limits(connect=20))
    monkeypatch.setattr(look, "cluster_of", lambda _topology: None)
    monkeypatch.setattr(mesh, "look", lambda *_: mesh_facts())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        door = Door(
            address="127.0.0.1", port=silent.getsockname()[1], host_key=public(key()), private_key=private(key())
        )
        monkeypatch.setattr(look, "reachable", lambda *_: {"vm-1": Reachable(name="vm-1", door=door)})
        interrupt = threading.Timer(1, os.kill, [os.getpid(), signal.SIGINT])
        interrupt.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            look.look(Source(), TOPOLOGY, ["vm-1"])
        interrupt.join()
    assert time.monotonic() - began < 10


def test_a_mesh_that_says_nothing_is_waited_for_where_ctrl_c_ends_it_if_no_machine_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked_in: list[threading.Thread] = []

    def of_this_thread(*_: object) -> mesh.MeshFacts:
        asked_in.append(threading.current_thread())
        return mesh_facts()

    monkeypatch.setattr(look, "cluster_of", lambda _topology: None)
    monkeypatch.setattr(mesh, "look", of_this_thread)
    look.look(Source(), TOPOLOGY, [])
    assert asked_in == [threading.main_thread()]


@pytest.mark.parametrize(("wanted", "known"), [(False, []), (True, [["vm-1"]])])
def test_certificates_are_looked_at_where_they_are_wanted_and_ssh_has_not_told_them(
    monkeypatch: pytest.MonkeyPatch, wanted: bool, known: list[list[str]]
) -> None:
    asked: list[list[str]] = []
    end = {"vm-2": NOW}

    def shown(_topology: object, _entries: object, told: list[str]) -> dict[str, Any]:
        asked.append(told)
        return end

    machines = {"vm-1": Seen(facts=machine_facts()), "vm-2": Seen(refusal="no answer")}
    monkeypatch.setattr(look, "look_at_machines", lambda *_, **__: machines)
    monkeypatch.setattr(look, "cluster_of", lambda _topology: None)
    monkeypatch.setattr(mesh, "look", lambda *_: mesh_facts(certificates={}))
    monkeypatch.setattr(mesh, "shown_certificates", shown)
    found = look.look(Source(), TOPOLOGY, ["vm-1", "vm-2"], certificates=wanted)
    assert asked == known
    assert found.mesh is not None
    assert found.mesh.certificates == (end if wanted else {})


def test_an_answer_that_cannot_be_read_is_told_in_one_line_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    odd = {"vm-1": {"certs": '{"certificates": null}'}, "vm-2": {"certs": json.dumps(CERTS).replace("T11:00:00Z", "")}}
    answers = {name: Answer(name, 0, probe_output(changes), "") for name, changes in odd.items()}
    monkeypatch.setattr(look, "stack_settings", lambda *_: dev_settings())
    monkeypatch.setattr(look, "run_on_all", lambda *_: answers)
    topology = deepcopy(TOPOLOGY)
    topology["machines"]["vm-2"] = topology["machines"]["vm-1"]
    seen = look_at_machines(Source(), topology, ["vm-1", "vm-2"])
    for machine in seen.values():
        assert machine.facts is None
        assert machine.refusal.startswith("the probe's answer cannot be read: ")
        assert "\n" not in machine.refusal


def test_what_several_machines_have_in_common_reads_as_one_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def door(number: int, port: int) -> Door:
        return Door(address=f"127.0.0.{number}", port=port, host_key=public(key()), private_key=private(key()))

    closed = closed_port()
    ways = {f"vm-{n}": Reachable(name=f"vm-{n}", door=door(n, closed)) for n in (1, 2)}
    behind = {f"vm-{n}": Reachable(name=f"vm-{n}", door=door(n, 22), bastion=door(9, closed)) for n in (3, 4)}
    monkeypatch.setattr(look, "stack_settings", lambda *_: None)
    monkeypatch.setattr(look, "mesh_name", lambda *_: "")
    monkeypatch.setattr(look, "limits", lambda _settings: Limits())
    monkeypatch.setattr(look, "reachable", lambda *_: ways | behind)

    def refusals(*names: str) -> list[str]:
        return [seen.refusal.partition(". Fix: ")[0] for seen in look_at_machines(Source(), TOPOLOGY, names).values()]

    of_all = ["SSH does not answer (Connection refused)"] * 2
    of_the_bastion = [f"its bastion: SSH does not answer at 127.0.0.9:{closed} (Connection refused)"] * 2
    assert refusals("vm-1", "vm-2", "vm-3", "vm-4") == of_all + of_the_bastion
    assert refusals("vm-1", "vm-3") == [
        f"SSH does not answer at 127.0.0.1:{closed} (Connection refused)",
        of_the_bastion[0],
    ]
