"""`python -m hybridmesh preflight`: who is asked what, and what is said of whom."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hybridmesh.__main__ import app
from hybridmesh.ops import preflight
from hybridmesh.ops.preflight import look
from hybridmesh.ops.ssh import Answer, Limits, Reachable, SshError
from hybridmesh.ops.topology import StackError
from hybridmesh.remote import COMMAND_PREFLIGHT
from hybridmesh.settings import Settings
from tests.components.harness import KEY, dev_settings
from tests.remote.unpacked import texts

TOPOLOGY: dict[str, Any] = {
    "gateway": {"address": "192.0.2.100"},
    "machines": {
        "vm-2": {
            "address": "192.0.2.12", "port": 22, "user": "root", "hostKey": "ssh-ed25519 A", "meshAddress": "10.0.0.12",
        }
    },
}  # fmt: skip
GOOD = "hybrid-mesh: step: preflight\nhybrid-mesh: step: end: nothing was found\n"
BAD = (
    "hybrid-mesh: step: preflight\n"
    "hybrid-mesh: note: systemd is degraded: x.service\n"
    "hybrid-mesh: finding: ports: port 15001, which the proxy needs, is held by [haproxy] in C:\\[x]; the proxy would "
    "not start -> move that service to another port\n"
    "hybrid-mesh: finding: disk: 3 MiB free at /var/lib; it would not fit -> free 500 MiB there\n"
    "hybrid-mesh: FAILED on vm at step preflight: 2 finding(s), nothing was changed\n"
)
UNREACHABLE = SshError("vm-1", "unreachable", "SSH does not answer", "Nothing is known of the machine.", "see to it.")


class Machines:
    """Machines that answer as a test wants it, and what they were asked."""

    def __init__(self, **answers: Answer | SshError) -> None:
        self.answers = answers
        self.asked: dict[str, dict[str, str]] = {}

    def __call__(
        self, machines: Mapping[str, Reachable], command: str, stdin: Callable[[str], str], limits: Limits
    ) -> dict[str, Answer | SshError]:
        assert command == COMMAND_PREFLIGHT
        assert limits.connect == 15
        for name in machines:
            self.asked[name] = {entry: text.strip() for entry, text in texts(stdin(name)).items()}
        return {name: self.answers.get(name.replace("-", "_"), Answer(name, 0, "", GOOD)) for name in machines}


def answers(monkeypatch: pytest.MonkeyPatch, **given: Answer | SshError) -> Machines:
    machines = Machines(**given)
    monkeypatch.setattr(preflight, "run_on_all", machines)
    return machines


def console(
    monkeypatch: pytest.MonkeyPatch, *arguments: str, settings: Settings | None = None, up: bool = True
) -> Result:
    def topology(_stack: str | None) -> dict[str, Any]:
        if not up:
            raise StackError("the stack has no output `topology`: nothing was put up yet. Fix: pulumi up.")
        return TOPOLOGY

    monkeypatch.setattr(preflight, "stack_settings", lambda _stack, _file: settings or dev_settings())
    monkeypatch.setattr(preflight, "stack_topology", topology)
    return CliRunner().invoke(app, ["preflight", *arguments], env={"COLUMNS": "80"})


def test_a_good_stack_ends_well_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch)
    done = console(monkeypatch)
    assert done.exit_code == 0, done.output
    assert done.output.count("can join") == 2
    assert "0 finding(s) on 0 of 2 machine(s); nothing was changed." in done.output


def test_two_hosts_that_are_one_machine_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    one = f"{GOOD}hybrid-mesh: who: a1 vm-1@192.0.2.11\n"
    answers(monkeypatch, vm_1=Answer("vm-1", 0, "", one), vm_2=Answer("vm-2", 0, "", one))
    done = console(monkeypatch)
    assert done.exit_code == 1
    assert "✗ vm-2: cannot join\n  machine: it is the machine that vm-1 is, too: both addresses lead" in done.output
    assert "● vm-1: can join" in done.output


def test_every_machine_is_looked_at_for_what_up_would_look_for(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = answers(monkeypatch)

    def change(sections: dict[str, Any]) -> None:
        sections["sidecar"]["preflight"] = {"accept": ["clock"]}
        sections["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["ssh"]["port"] = 2222
        sections["versions"] = {"accept": ["system"]}

    assert console(monkeypatch, settings=dev_settings(change)).exit_code == 0
    assert {name: told["settings/mesh-address"] for name, told in machines.asked.items()} == {
        "vm-1": "192.0.2.11",
        "vm-2": "192.0.2.12",
    }
    told = machines.asked["vm-1"]
    expected = {
        "gateway": "192.0.2.100",
        "gateway-ports": "15012 15443",
        "gateway-timeout-seconds": "5",
        "ssh-port": "2222",
        "app-ports": "8080",
        "inbound-ports": "8080",
        "inbound-ports-excluded": "22,15090,15021,15020,2222",
        "dns-capture": "true",
        "accept": "clock",
        "package-version": "1.31.0",
    }
    assert {name: told[f"settings/{name}"] for name in expected} == expected
    assert "settings/supported-systems" not in told
    assert not any(name.startswith("files/") for name in told)
    assert KEY not in str(machines.asked)


def test_what_the_settings_say_counts_and_not_what_the_last_up_left(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = answers(monkeypatch)

    def change(sections: dict[str, Any]) -> None:
        hosts = sections["workloads"]["echo"]["machines"]["hosts"]
        hosts["vm-1"]["ssh"]["address"] = "192.0.2.99"
        hosts["vm-2"]["meshAddress"] = "10.0.0.22"
        sections["gateway"]["address"] = "203.0.113.7"

    old = {"address": "192.0.2.11", "port": 22, "user": "root", "hostKey": "", "meshAddress": "192.0.2.11"}
    up = {**TOPOLOGY, "machines": {**TOPOLOGY["machines"], "vm-1": old}}
    look(dev_settings(change), up, ["vm-1", "vm-2"])
    told = {name: (t["settings/mesh-address"], t["settings/gateway"]) for name, t in machines.asked.items()}
    assert told == {"vm-1": ("192.0.2.99", "203.0.113.7"), "vm-2": ("10.0.0.22", "203.0.113.7")}


def test_findings_are_said_one_a_line_and_end_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, vm_1=Answer("vm-1", 1, "", BAD))
    done = console(monkeypatch)
    assert done.exit_code == 1
    assert done.output.startswith("✗ vm-1: cannot join\n  ports: ")
    assert "\n● vm-2: can join\n" in done.output
    lines = [line for line in done.output.splitlines() if "15001" in line or "3 MiB" in line]
    assert len(lines) == 2
    said = "held by [haproxy] in C:\\[x]. The proxy would not start. Fix: move that service to another port."
    assert lines[0].endswith(said)
    assert "systemd is degraded: x.service" in done.output
    assert "2 finding(s) on 1 of 2 machine(s)" in done.output


def test_a_machine_that_cannot_be_reached_is_a_finding_and_the_others_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers(monkeypatch, vm_1=UNREACHABLE)
    done = console(monkeypatch, "--json")
    assert done.exit_code == 1
    vm1, vm2 = json.loads(done.output)
    assert (vm1["good"], vm1["looked"], vm2["good"]) == (False, False, True)
    (found,) = vm1["findings"]
    assert found == {
        "check": "ssh",
        "value": "SSH does not answer",
        "consequence": "Nothing is known of the machine",
        "remedy": "see to it",
    }


def test_a_script_that_ends_otherwise_is_no_good_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, vm_1=Answer("vm-1", 1, "", "hybrid-mesh: FAILED: the payload cannot be unpacked\n"))
    done = console(monkeypatch, "vm-1")
    assert done.exit_code == 1
    assert "it ended with status 1: hybrid-mesh: FAILED: the payload cannot be unpacked" in done.output


def test_a_command_that_sshd_runs_in_the_place_of_ours_makes_no_good_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, vm_1=Answer("vm-1", 0, "welcome\n", ""))
    done = console(monkeypatch, "vm-1")
    assert done.exit_code == 1
    assert "ran something else than what it was asked to" in done.output
    assert "ForceCommand" in done.output


def test_it_works_before_the_first_up_and_says_what_nobody_knows_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = answers(monkeypatch)
    done = console(monkeypatch, up=False)
    assert done.exit_code == 0, done.output
    assert list(machines.asked) == ["vm-1"]
    assert "settings/gateway" not in machines.asked["vm-1"]
    assert "its address is not known before the first" in done.output
    assert "not made yet" in done.output
    assert "nothing was put up yet" in done.output
    known = dev_settings(lambda s: s["gateway"].update(address="gw.example.com"))
    assert console(monkeypatch, settings=known, up=False).exit_code == 0
    assert machines.asked["vm-1"]["settings/gateway"] == "gw.example.com"


def test_some_machines_can_be_looked_at_alone_and_an_unknown_one_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = answers(monkeypatch)
    assert console(monkeypatch, "vm-2").exit_code == 0
    assert list(machines.asked) == ["vm-2"]
    done = console(monkeypatch, "vm-3", "vm-2")
    assert done.exit_code == 1
    assert "the stack has no machine vm-3. Fix: one of vm-1, vm-2." in done.output


def test_nobody_looks_at_a_machine_that_is_declared_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = answers(monkeypatch)
    settings = dev_settings(lambda s: s["workloads"]["echo"]["machines"]["hosts"]["vm-1"].update(lost=True))
    assert console(monkeypatch, settings=settings).exit_code == 0
    assert list(machines.asked) == ["vm-2"]


def test_a_gateway_machine_needs_no_port_of_services_and_an_adopted_gateway_need_not_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machines = answers(monkeypatch)

    def change(sections: dict[str, Any]) -> None:
        gateway = {"ssh": {"address": "198.51.100.5", "hostKey": "ssh-ed25519 A", "privateKey": KEY}}
        sections["networks"] = {"far": {"gateway": {"hosts": {"gw-1": gateway}}}}
        sections["workloads"]["echo"]["network"] = "far"
        sections["gateway"] = {"mode": "adopt"}

    look(dev_settings(change), TOPOLOGY, ["gw-1", "vm-1"])
    ports = {name: told["settings/gateway-ports"] for name, told in machines.asked.items()}
    assert ports == {"gw-1": "15012", "vm-1": "15012 15443"}
    assert machines.asked["gw-1"]["settings/inbound-ports"] == "*"
    assert machines.asked["gw-1"]["settings/proxy-ports"] == "15443"
    assert "settings/proxy-ports" not in machines.asked["vm-1"]
    assert "settings/proxy-ports-forwarded" not in machines.asked["gw-1"]

    def forwarded(sections: dict[str, Any]) -> None:
        change(sections)
        sections["networks"]["far"]["gateway"]["address"] = "203.0.113.10"

    look(dev_settings(forwarded), TOPOLOGY, ["gw-1"])
    assert machines.asked["gw-1"]["settings/proxy-ports-forwarded"] == "true"
    for own in ({}, {"network": "embedded"}):

        def adopted(sections: dict[str, Any], own: dict[str, str] = own) -> None:
            sections["gateway"] = {"mode": "adopt"}
            sections["workloads"]["echo"] |= own

        look(dev_settings(adopted), TOPOLOGY, ["vm-1"])
        assert machines.asked["vm-1"]["settings/gateway-ports"] == "15012"
