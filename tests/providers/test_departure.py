"""How a VM goes from the stack: in which order, without whom, and what is said where it cannot go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pulumi.dynamic import Config, ConfigureRequest

from hybridmesh.ops import ssh
from hybridmesh.ops.ssh import Answer, Limits, Reachable, SshError
from hybridmesh.providers import departure, lost
from hybridmesh.providers.departure import DepartureError, DepartureProvider
from hybridmesh.providers.lost import LostMachinesProvider
from hybridmesh.remote import COMMAND_AGENT_LEAVE, COMMAND_LEAVE
from tests.components.harness import KEY
from tests.providers.conftest import Clock
from tests.providers.fake_cluster import FakeCluster, entry
from tests.providers.unknown import unknown
from tests.remote.unpacked import texts

WAY: dict[str, Any] = {
    "address": "192.0.2.11",
    "port": 22.0,
    "user": "root",
    "hostKey": "ssh-ed25519 A",
    "privateKey": KEY,
}
INPUTS: dict[str, Any] = {
    "kubeconfig": "kubeconfig",
    "context": None,
    "requestSeconds": 15.0,
    "machine": "vm-1",
    "stack": "dev",
    "namespace": "demo",
    "entry": "echo-192.0.2.11",
    "address": "192.0.2.11",
    "connection": WAY,
    "dialSeconds": 15.0,
    "dialAttempts": 4.0,
    "rotationSeconds": 3.0,
    "drainSeconds": 5.0,
}
OTHER = {"address": "192.0.2.21", "hostKey": "ssh-ed25519 B"}
STATIC = {**INPUTS, "entry": "echo-vm-1", "staticEntry": True, "reachedAs": "echo-192.0.2.11"}
LOST = '{"echo": {"machines": {"hosts": {"vm-1": {"lost": %s}}}}}'


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYBRID_MESH_STACK_FILE", raising=False)
    monkeypatch.setattr(departure, "_STAYING", {})
    monkeypatch.setattr(lost, "_SAID", {})


@pytest.fixture
def machine(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine that does as told; `fails` are what the next attempts end with."""
    cluster.entries = {"demo/echo-192.0.2.11": entry()}
    seen = SimpleNamespace(
        asked=[], stdin="", fails=[], answer=Answer("vm-1", 0, "", "hybrid-mesh: vm-1 is as it was\n")
    )

    def run_on_all(
        machines: Mapping[str, Reachable], command: str, stdin: str, limits: Limits
    ) -> dict[str, Answer | SshError]:
        seen.stdin = stdin
        ((name, asked),) = machines.items()
        seen.asked.append((asked, limits))
        cluster.done.append({COMMAND_LEAVE: "leave.sh", COMMAND_AGENT_LEAVE: "agent-leave.sh"}[command])
        return {name: seen.fails.pop(0) if seen.fails else seen.answer}

    monkeypatch.setattr(ssh, "run_on_all", run_on_all)
    return seen


def unreachable() -> SshError:
    return SshError(
        "vm-1", "unreachable", "SSH does not answer at 192.0.2.11:22", "Nothing is known.", "see that it runs"
    )


def configured(**sections: str) -> DepartureProvider:
    """The provider, with a stack's config as the engine hands it over."""
    provider = DepartureProvider()
    raw = {f"hybrid-mesh:{name}": text for name, text in sections.items()}
    provider.configure(ConfigureRequest(Config(raw, "hybrid-mesh")))
    return provider


def test_noting_a_departure_touches_nothing(cluster: FakeCluster, machine: SimpleNamespace) -> None:
    made = DepartureProvider().create(dict(INPUTS))
    assert made.id == "vm-1@192.0.2.11"
    assert made.outs == INPUTS
    DepartureProvider().update("id", dict(INPUTS), {**INPUTS, "drainSeconds": 9.0})
    assert cluster.done == []
    assert machine.asked == []


def test_a_machine_is_out_of_rotation_before_it_drains(cluster: FakeCluster, machine: SimpleNamespace) -> None:
    DepartureProvider().delete("id", dict(INPUTS))
    gone = "delete entry demo/echo-192.0.2.11"
    assert cluster.done == [gone, "leave.sh", gone], "and it is not back when it has left"
    asked, limits = machine.asked[0]
    assert (asked.door.address, asked.door.port, asked.door.private_key) == ("192.0.2.11", 22, KEY)
    assert asked.bastion is None
    assert limits.connect == 15


def test_what_the_machine_says_of_its_leaving_is_said(
    machine: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ("step: stop", "note: /etc/hosts is read-only: see to it: by hand", "vm-1 is as it was")
    machine.answer = Answer("vm-1", 0, "", "".join(f"hybrid-mesh: {line}\n" for line in lines))
    DepartureProvider().delete("id", dict(INPUTS))
    assert capsys.readouterr().out == "vm-1: /etc/hosts is read-only: see to it: by hand\n"


def test_clients_are_given_time_to_see_that_it_is_out_of_rotation(
    cluster: FakeCluster, machine: SimpleNamespace, clock: Clock
) -> None:
    DepartureProvider().delete("id", dict(INPUTS))
    assert clock.monotonic() == 3
    DepartureProvider().delete("id", dict(STATIC))
    assert clock.monotonic() == 6, "as they are where the stack has taken its entry away"
    assert cluster.entries == {}
    DepartureProvider().delete("id", dict(INPUTS))
    assert clock.monotonic() == 6, "nobody calls one that was out before"
    limits = [limits for _, limits in machine.asked]
    assert {limit.command for limit in limits} == {600}, "as long as all of its steps may take"
    assert texts(machine.stdin)["settings/drain-seconds"] == "5\n"


def test_a_static_entry_is_the_stack_s_and_gone_already(cluster: FakeCluster, machine: SimpleNamespace) -> None:
    DepartureProvider().delete("id", dict(STATIC))
    assert cluster.done == ["leave.sh"]
    assert len(machine.asked) == 1


def test_the_way_out_is_the_way_in(machine: SimpleNamespace) -> None:
    bastion = {"address": "203.0.113.5", "port": 22.0, "user": "jump", "hostKey": "ssh-ed25519 J"}
    DepartureProvider().delete("id", {**INPUTS, "connection": {**WAY, "privateKey": None, "bastion": bastion}})
    asked, _ = machine.asked[0]
    assert asked.bastion is not None
    assert (asked.bastion.user, asked.bastion.private_key, asked.door.private_key) == ("jump", None, None)


@pytest.mark.parametrize("kind", ["unreachable", "cut off"])
def test_a_machine_that_boots_or_is_cut_off_is_asked_again(machine: SimpleNamespace, kind: Any) -> None:
    machine.fails = [SshError("vm-1", kind, "problem", "", "")] * 3
    DepartureProvider().delete("id", dict(INPUTS))
    assert len(machine.asked) == 4


def test_a_wrong_key_is_not_tried_twice(machine: SimpleNamespace) -> None:
    machine.fails = [SshError("vm-1", "login", "does not let root in", "", "")]
    with pytest.raises(DepartureError, match="does not let root in"):
        DepartureProvider().delete("id", dict(INPUTS))
    assert len(machine.asked) == 1


def test_a_dead_machine_stays_until_it_is_declared_lost_and_says_how(
    cluster: FakeCluster, machine: SimpleNamespace
) -> None:
    machine.fails = [unreachable()] * 4
    with pytest.raises(DepartureError) as refused:
        DepartureProvider().delete("id", dict(INPUTS))
    for part in ("vm-1: SSH does not answer", "hosts.vm-1.lost: true", "Pulumi.dev.yaml", "lost: [192.0.2.11]"):
        assert part in str(refused.value)
    assert cluster.entries == {}, "requests do not wait for that"


@pytest.mark.usefixtures("machine")
def test_a_metrics_agent_goes_where_it_is_not_wanted_any_more_and_with_a_machine_that_leaves(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier = {**INPUTS, "metricsAgent": True}
    assert DepartureProvider().diff("id", carrier, dict(INPUTS)).changes
    for olds, news in ((INPUTS, carrier), (carrier, carrier), (INPUTS, INPUTS)):
        DepartureProvider().update("id", dict(olds), dict(news))
    assert cluster.done == []
    DepartureProvider().update("id", dict(carrier), dict(INPUTS))
    assert cluster.done == ["agent-leave.sh"], "it stays in rotation"
    cluster.done.clear()
    monkeypatch.setattr(departure, "_STAYING", {})  # another run
    DepartureProvider().delete("id", carrier)
    assert "leave.sh" in cluster.done
    assert "agent-leave.sh" not in cluster.done, "leave.sh takes all away"


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("stays", "done"), [(None, ["agent-leave.sh"]), (True, [])])
def test_a_metrics_agent_goes_with_the_old_name_unless_the_new_one_has_it(
    cluster: FakeCluster, stays: bool | None, done: list[str]
) -> None:
    DepartureProvider().create({**INPUTS, "machine": "web-1", "metricsAgent": stays})
    DepartureProvider().delete("id", {**INPUTS, "metricsAgent": True})
    assert cluster.done == done, "the machine stays in the mesh"


def test_an_agent_that_cannot_be_reached_says_so_and_a_lost_machine_s_is_not_looked_for(
    cluster: FakeCluster, machine: SimpleNamespace
) -> None:
    carrier = {**INPUTS, "metricsAgent": True}
    machine.fails = [unreachable()] * 4
    with pytest.raises(DepartureError) as refused:
        DepartureProvider().update("id", carrier, dict(INPUTS))
    for part in ("vm-1: SSH does not answer", "Its metrics agent may still run.", "hosts.vm-1.lost: true"):
        assert part in str(refused.value)
    assert cluster.done == ["agent-leave.sh"] * 4
    cluster.done.clear()
    configured(workloads=LOST % "true").delete("id", carrier)
    assert cluster.done == ["delete entry demo/echo-192.0.2.11"]


@pytest.mark.parametrize("heard", ["created", "asked after"])
def test_what_another_machine_at_the_address_of_a_lost_one_has_it_keeps(
    cluster: FakeCluster, machine: SimpleNamespace, heard: str
) -> None:
    newcomer = {**INPUTS, "machine": "vm-9", "connection": {**WAY, "hostKey": "ssh-ed25519 B"}}
    provider = configured(workloads=LOST % "true")
    if heard == "created":
        provider.create(newcomer)
    else:
        assert not provider.diff("id", newcomer, dict(newcomer)).changes
    provider.delete("id", dict(INPUTS))
    assert cluster.done == []
    assert machine.asked == []
    machine.fails = [SshError("vm-1", "host key", "shows another host key", "", "")]
    with pytest.raises(DepartureError, match="shows another host key"):
        configured().delete("id", dict(INPUTS))
    assert "delete entry demo/echo-192.0.2.11" not in cluster.done, "nor when the old one is not declared lost"


def test_a_machine_under_another_name_stays_in_the_mesh(
    cluster: FakeCluster,
    machine: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    DepartureProvider().create({**INPUTS, "machine": "web-1"})
    DepartureProvider().delete("id", dict(INPUTS))
    assert cluster.done == []
    assert machine.asked == []
    assert capsys.readouterr().out == "vm-1 (192.0.2.11) is web-1 by now, which stays in the mesh.\n"
    monkeypatch.setattr(departure, "_STAYING", {})  # another run
    DepartureProvider().delete("id", {**INPUTS, "machine": "web-1"})
    assert "leave.sh" in cluster.done, "and leaves under that one"


URN = "urn:pulumi:dev::hybrid-mesh::command:local:Command::mesh-vm-1-machine"
MADE = {**INPUTS, "command": {"urn": URN, "removes": True}}
KEPT = {**INPUTS, "command": {"urn": URN, "removes": False}}


def test_a_machine_under_another_name_is_not_left_to_the_command_that_would_remove_it(
    cluster: FakeCluster, machine: SimpleNamespace
) -> None:
    DepartureProvider().create({**MADE, "machine": "web-1", "command": {"urn": "urn:web-1", "removes": True}})
    with pytest.raises(DepartureError) as refused:
        DepartureProvider().delete("id", dict(MADE))
    for part in ("vm-1 (192.0.2.11) is web-1 by now", "It did not run. Fix: ", f"--target-dependents '{URN}'`"):
        assert part in str(refused.value)
    DepartureProvider().delete("id", dict(KEPT))
    assert cluster.done == []
    assert machine.asked == []


def test_two_machines_that_a_command_made_may_take_each_other_s_name(machine: SimpleNamespace) -> None:
    DepartureProvider().create({**MADE, "machine": "web-1", "command": {"urn": "urn:web-1", "removes": True}})
    DepartureProvider().diff("id", dict(MADE), {**MADE, "connection": {**WAY, **OTHER}, "entry": "echo-192.0.2.21"})
    DepartureProvider().delete("id", dict(MADE))
    assert machine.asked == []


@pytest.mark.parametrize(
    ("way", "entry"),
    [({"hostKey": "ssh-rsa B"}, "echo-192.0.2.21"), (OTHER, INPUTS["entry"])],
    ids=["address", "entry"],
)
def test_what_is_found_where_a_command_made_a_machine_is_that_machine_whatever_its_key(
    cluster: FakeCluster, machine: SimpleNamespace, way: dict[str, Any], entry: str
) -> None:
    DepartureProvider().create({**INPUTS, "machine": "web-1", "connection": {**WAY, **way}, "entry": entry})
    with pytest.raises(DepartureError, match=r"vm-1 \(192\.0\.2\.11\) is web-1 by now"):
        DepartureProvider().delete("id", dict(MADE))
    assert (cluster.done, machine.asked) == ([], [])


def test_a_comment_after_a_host_key_makes_no_other_machine(cluster: FakeCluster, machine: SimpleNamespace) -> None:
    key = f"{WAY['hostKey']} root@vm-1"
    DepartureProvider().create({**INPUTS, "machine": "web-1", "connection": {**WAY, "hostKey": key}})
    DepartureProvider().delete("id", dict(INPUTS))
    assert (cluster.done, machine.asked) == ([], [])
    moved = {**INPUTS, "connection": {**WAY, "hostKey": key, "address": "192.0.2.21"}, "entry": "echo-192.0.2.21"}
    assert not DepartureProvider().diff("id", dict(INPUTS), moved).replaces
    with pytest.raises(DepartureError, match="is the same machine as before"):
        DepartureProvider().diff("id", dict(MADE), moved)


def test_a_machine_behind_another_bastion_with_another_key_is_another() -> None:
    one, other = ({"address": f"203.0.113.{n}", "port": 22, "hostKey": "ssh-ed25519 J"} for n in (5, 9))
    old = {**INPUTS, "connection": {**WAY, "bastion": one}}
    new = {**INPUTS, "connection": {**WAY, "bastion": other, "hostKey": "ssh-ed25519 Z"}, "entry": "echo-198.51.100.7"}
    assert DepartureProvider().diff("id", old, new).replaces
    assert not DepartureProvider().diff("id", old, {**new, "connection": {**old["connection"], "port": 22.0}}).replaces


@pytest.mark.parametrize("way", [{}, {"address": "vm-1.example.com"}, {"hostKey": "ssh-ed25519 B"}])
def test_a_machine_that_a_command_made_and_is_given_by_ssh_is_not_left_to_it(way: dict[str, Any]) -> None:
    given = {**INPUTS, "connection": {**WAY, **way}}
    with pytest.raises(DepartureError) as refused:
        DepartureProvider().diff("id", dict(MADE), given)
    assert 'Nothing was removed. Fix: give `hosts.vm-1.command` `delete: "true"`' in str(refused.value)
    assert DepartureProvider().diff("id", dict(MADE), dict(KEPT)).changes is True
    assert DepartureProvider().diff("id", dict(KEPT), given).changes is True


def test_another_machine_by_ssh_takes_the_name_of_one_that_a_command_made() -> None:
    other = {**INPUTS, "connection": {**WAY, **OTHER}, "entry": "echo-192.0.2.21"}
    assert DepartureProvider().diff("id", dict(MADE), other).replaces


@pytest.mark.parametrize("way", [{"address": "vm-1.example.com"}, {"port": 2222.0}])
def test_a_machine_under_another_name_that_ssh_finds_otherwise_stays_in_the_mesh(
    cluster: FakeCluster, machine: SimpleNamespace, way: dict[str, Any]
) -> None:
    DepartureProvider().create({**INPUTS, "machine": "web-1", "connection": {**WAY, **way}})
    DepartureProvider().delete("id", dict(INPUTS))
    assert cluster.done == []
    assert machine.asked == []


BASTION = {"bastion": {"address": "203.0.113.9", "port": 22.0, "hostKey": "ssh-ed25519 J"}}


@pytest.mark.parametrize("way", [{"address": "vm-1.example.com"}, BASTION], ids=["address", "bastion"])
def test_a_static_one_under_another_name_that_ssh_finds_otherwise_stays_too(
    cluster: FakeCluster, machine: SimpleNamespace, way: dict[str, Any]
) -> None:
    DepartureProvider().create({**STATIC, "machine": "web-1", "entry": "echo-web-1", "connection": {**WAY, **way}})
    DepartureProvider().delete("id", dict(STATIC))
    assert (cluster.done, machine.asked) == ([], [])


def test_a_static_one_with_the_host_key_of_another_leaves(machine: SimpleNamespace) -> None:
    copied = {"machine": "web-1", "entry": "echo-web-1", "reachedAs": "echo-192.0.2.21"}
    DepartureProvider().create({**STATIC, **copied, "connection": {**WAY, "address": "192.0.2.21"}})
    DepartureProvider().delete("id", dict(STATIC))
    assert len(machine.asked) == 1


def test_a_machine_with_the_host_key_of_another_leaves(cluster: FakeCluster, machine: SimpleNamespace) -> None:
    copied = {"machine": "web-1", "connection": {**WAY, "address": "192.0.2.21"}, "entry": "echo-192.0.2.21"}
    DepartureProvider().create({**INPUTS, **copied})
    DepartureProvider().delete("id", dict(INPUTS))
    assert "leave.sh" in cluster.done
    assert len(machine.asked) == 1


def test_a_machine_that_the_settings_have_again_stays_whatever_was_left_to_be_deleted(
    cluster: FakeCluster, machine: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {**INPUTS, "address": "192.0.2.21", "connection": {**WAY, **OTHER}, "entry": "echo-192.0.2.21"}
    # Another machine took the name, and its join failed; the old one's departure was left to be deleted.
    assert DepartureProvider().diff("id", other, dict(INPUTS)).replaces
    DepartureProvider().create(dict(INPUTS))
    DepartureProvider().delete("id", dict(INPUTS))
    assert cluster.done == []
    assert machine.asked == []
    assert capsys.readouterr().out == "vm-1 (192.0.2.11) is in the stack, and stays in the mesh.\n"
    DepartureProvider().delete("id", other)
    gone = "delete entry demo/echo-192.0.2.21"
    assert cluster.done == [gone, "leave.sh", gone], "the other one leaves"


def test_an_entry_that_the_settings_have_again_stays_though_the_machine_leaves(
    cluster: FakeCluster, machine: SimpleNamespace
) -> None:
    DepartureProvider().create({**INPUTS, "connection": {**WAY, **OTHER}})
    DepartureProvider().delete("id", dict(INPUTS))
    assert cluster.done == ["leave.sh"]
    assert len(machine.asked) == 1


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("elsewhere", [{"kubeconfig": "another"}, {"context": "another"}], ids=str)
def test_what_is_called_the_same_in_another_mesh_of_the_stack_is_another_machine_s(
    cluster: FakeCluster, elsewhere: dict[str, str]
) -> None:
    """Machines of two networks may have one address, and copies one host key; the way to them differs."""
    DepartureProvider().create({**INPUTS, **elsewhere, "connection": {**WAY, "address": "203.0.113.9"}})
    DepartureProvider().delete("id", dict(INPUTS))
    gone = "delete entry demo/echo-192.0.2.11"
    assert cluster.done == [gone, "leave.sh", gone]


def test_a_script_that_fails_says_what_it_said(machine: SimpleNamespace) -> None:
    machine.answer = Answer("vm-1", 1, "", "hybrid-mesh: step: stop\nhybrid-mesh: FAILED on vm-1 at step stop: no\n")
    with pytest.raises(DepartureError, match=r"vm-1 could not leave the mesh:\n(.*\n)*.*FAILED on vm-1 at step stop"):
        DepartureProvider().delete("id", dict(INPUTS))


def test_a_machine_whose_sshd_runs_another_command_has_not_left(machine: SimpleNamespace) -> None:
    machine.answer = Answer("vm-1", 0, "welcome\n", "")
    with pytest.raises(DepartureError, match=r"^vm-1: its sshd ran something else.*stays in the stack.*ForceCommand"):
        DepartureProvider().delete("id", dict(INPUTS))


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("workloads", LOST % "true"),
        ("workloads", LOST % '["192.0.2.10", "192.0.2.11"]'),
        ("networks", '{"far": {"gateway": {"hosts": {"vm-1": {"lost": true}}}}}'),
    ],
)
def test_a_lost_machine_is_not_asked(
    cluster: FakeCluster,
    machine: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    section: str,
    text: str,
) -> None:
    configured(**{section: text}).delete("id", dict(INPUTS))
    assert machine.asked == []
    assert cluster.done == ["delete entry demo/echo-192.0.2.11"]
    assert "vm-1 (192.0.2.11) is declared lost" in capsys.readouterr().out


@pytest.mark.parametrize("heard", ["create", "diff"])
@pytest.mark.parametrize(
    ("said", "asked"),
    [(True, 0), (["192.0.2.10", "192.0.2.11"], 0), (["192.0.2.12"], 1), (False, 1)],
)
def test_a_program_whose_settings_are_no_stack_s_says_itself_who_is_lost(
    machine: SimpleNamespace, heard: str, said: object, asked: int
) -> None:
    props = {"kubeconfig": "kubeconfig", "context": None, "requestSeconds": 15.0, "machines": {"vm-1": said}}
    if heard == "create":
        LostMachinesProvider().create(props)
    else:
        assert not LostMachinesProvider().diff("lost", props, dict(props)).changes
    DepartureProvider().delete("id", dict(INPUTS))
    assert len(machine.asked) == asked


def test_who_is_lost_in_one_mesh_is_not_so_in_another_of_the_stack(machine: SimpleNamespace) -> None:
    elsewhere = {"kubeconfig": "kubeconfig", "context": "another", "requestSeconds": 15.0}
    LostMachinesProvider().create({**elsewhere, "machines": {"vm-1": True}})
    DepartureProvider().delete("id", dict(INPUTS))
    assert len(machine.asked) == 1


@pytest.mark.parametrize(
    "text", ["{}", "no JSON", LOST % "false", LOST % '["192.0.2.12"]', LOST.replace("vm-1", "vm-2") % "true"]
)
def test_any_other_machine_is(machine: SimpleNamespace, text: str) -> None:
    configured(workloads=text).delete("id", dict(INPUTS))
    assert len(machine.asked) == 1


@pytest.mark.parametrize("named", [False, True])
def test_a_destroy_which_runs_no_program_reads_the_stack_file(
    machine: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    file = tmp_path / ("elsewhere.yaml" if named else "Pulumi.dev.yaml")
    file.write_text(f"config:\n  hybrid-mesh:workloads: {LOST % 'true'}\n")
    if named:
        monkeypatch.setenv("HYBRID_MESH_STACK_FILE", str(file))
    DepartureProvider().delete("id", dict(INPUTS))
    assert machine.asked == []


@pytest.mark.parametrize("content", ["", "config: 1", "a: [", "config:\n  hybrid-mesh:workloads: {echo: [vm-1]}\n"])
def test_a_stack_file_that_says_nothing_declares_nobody_lost(
    machine: SimpleNamespace, tmp_path: Path, content: str
) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text(content)
    DepartureProvider().delete("id", dict(INPUTS))
    assert len(machine.asked) == 1


def test_another_machine_under_the_name_joins_before_the_old_one_leaves() -> None:
    news = {**INPUTS, "address": "192.0.2.21", "connection": {**WAY, **OTHER}, "entry": "echo-192.0.2.21"}
    answer = DepartureProvider().diff("id", dict(INPUTS), news)
    assert answer.replaces == ["address", "connection"]
    assert answer.delete_before_replace is False


@pytest.mark.parametrize(
    "news",
    [
        {"address": "192.0.2.21"},
        {"port": 2222.0},
        {"hostKey": "ssh-ed25519 B"},
        {"user": "admin"},
        {"bastion": {"address": "203.0.113.5"}},
        {"address": unknown(), "hostKey": unknown()},
    ],
)
def test_a_machine_that_moved_or_was_made_anew_in_its_place_leaves_nobody_behind(news: dict[str, Any]) -> None:
    answer = DepartureProvider().diff("id", dict(INPUTS), {**INPUTS, "connection": {**WAY, **news}})
    assert answer.changes is True
    assert not answer.replaces


@pytest.mark.parametrize("key", ["address", "port", "hostKey"])
def test_one_of_which_not_all_is_known_yet_may_still_be_the_same(key: str) -> None:
    way = {**WAY, **OTHER, "port": 2222.0, key: unknown()}
    news = {**INPUTS, "connection": way, "entry": "echo-192.0.2.21"}
    assert not DepartureProvider().diff("id", dict(INPUTS), news).replaces


def test_one_behind_a_bastion_that_is_not_known_yet_may_still_be_the_same() -> None:
    bastion = {"address": unknown(), "port": 22.0, "user": "jump", "hostKey": "ssh-ed25519 J"}
    news = {**INPUTS, "connection": {**WAY, **OTHER, "bastion": bastion}, "entry": "echo-192.0.2.21"}
    assert not DepartureProvider().diff("id", dict(INPUTS), news).replaces


def test_one_that_is_found_where_it_was_has_taken_the_place_of_the_old_whatever_its_key_and_mesh_address() -> None:
    news = {**INPUTS, "connection": {**WAY, "hostKey": "ssh-ed25519 B"}, "entry": "echo-10.0.0.11"}
    assert not DepartureProvider().diff("id", dict(INPUTS), news).replaces


def test_one_at_another_port_of_the_same_address_is_another_machine_too() -> None:
    news = {**INPUTS, "connection": {**WAY, "port": 2222.0, "hostKey": "ssh-ed25519 B"}, "entry": "echo-192.0.2.21"}
    assert DepartureProvider().diff("id", dict(INPUTS), news).replaces


def test_a_machine_that_the_mesh_reaches_at_the_same_address_has_taken_the_place_of_the_old() -> None:
    news = {**INPUTS, "address": "192.0.2.21", "connection": {**WAY, **OTHER}}
    assert not DepartureProvider().diff("id", dict(INPUTS), news).replaces


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("machine", "web-1"),
        ("stack", "prod"),
        ("namespace", "shop"),
        ("entry", "echo-192.0.2.12"),
        ("staticEntry", True),
        ("reachedAs", "echo-192.0.2.12"),
        ("address", "vm-1.example.com"),
        ("rotationSeconds", 9.0),
        ("dialSeconds", 9.0),
        ("dialAttempts", 9.0),
        ("kubeconfig", "elsewhere"),
        ("context", "other"),
        ("requestSeconds", 9.0),
    ],
)
def test_all_that_a_leave_goes_by_is_noted_for_a_destroy_reads_nothing_else(key: str, value: object) -> None:
    news = {**INPUTS, key: value}
    assert DepartureProvider().diff("id", dict(INPUTS), news).changes is True
    assert DepartureProvider().update("id", dict(INPUTS), dict(news)).outs == news


def test_nothing_changed_is_no_change_and_another_time_to_drain_is_noted() -> None:
    assert DepartureProvider().diff("id", dict(INPUTS), {**INPUTS, "staticEntry": None}).changes is False
    assert DepartureProvider().diff("id", dict(INPUTS), {**INPUTS, "drainSeconds": 9.0}).changes is True
    assert DepartureProvider().diff("id", dict(INPUTS), {**INPUTS, "connection": unknown()}).replaces is None


def test_another_machine_with_a_static_entry_is_refused() -> None:
    news = {**STATIC, "connection": {**WAY, **OTHER}, "reachedAs": "echo-192.0.2.21"}
    with pytest.raises(DepartureError, match=r"vm-1 would become another machine.*Fix: "):
        DepartureProvider().diff("id", dict(STATIC), news)
    assert DepartureProvider().diff("id", dict(INPUTS), news).replaces, "one that istiod registered goes after it"


def test_one_that_was_made_anew_where_the_mesh_reaches_it_keeps_its_static_entry() -> None:
    news = {**STATIC, "connection": {**WAY, **OTHER}}
    answer = DepartureProvider().diff("id", dict(STATIC), news)
    assert (answer.changes, answer.replaces) == (True, None)
    old = {key: value for key, value in STATIC.items() if key != "reachedAs"}
    with pytest.raises(DepartureError, match="would become another machine"):
        DepartureProvider().diff("id", old, news)  # nobody knows where the mesh reached it
