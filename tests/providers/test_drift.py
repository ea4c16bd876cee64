"""When a VM counts as changed by hand, who looks, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from hybridmesh import remote
from hybridmesh.ops import ssh
from hybridmesh.providers import drift, membership
from hybridmesh.providers.token import IstioTokenProvider
from tests.ops.probed import MANIFEST
from tests.providers import test_membership
from tests.providers.fake_cluster import FakeCluster
from tests.providers.test_token import INPUTS, MEMBER

BASTION = {"address": "192.0.2.1", "port": 2222.0, "user": "jump", "hostKey": "ssh-ed25519 BBBB", "privateKey": None}


class Machines:
    """In the place of SSH: one answer, and what was asked."""

    def __init__(self, answer: str | ssh.SshError) -> None:
        self.answer = answer
        self.asked: list[tuple[ssh.Reachable, str, str]] = []

    def run_on_all(
        self, machines: Mapping[str, ssh.Reachable], command: str, stdin: str, limits: ssh.Limits
    ) -> dict[str, ssh.Answer | ssh.SshError]:
        assert limits.connect == 15
        ((name, machine),) = machines.items()
        self.asked.append((machine, command, stdin))
        return {name: ssh.Answer(name, 0, self.answer, "") if isinstance(self.answer, str) else self.answer}


@pytest.fixture(autouse=True)
def member(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.entries = dict(MEMBER)
    for notes in ("_RUNS", "_LEFT"):
        monkeypatch.setattr(drift, notes, {})


def machines(monkeypatch: pytest.MonkeyPatch, answer: str | ssh.SshError) -> Machines:
    made = Machines(answer)
    monkeypatch.setattr(ssh, "run_on_all", made.run_on_all)
    return made


def manifests(now: str = MANIFEST, generation: str = "digest-2") -> str:
    return f"@@ manifest-recorded\n{MANIFEST}@@ manifest\n{now}@@ generation\n{generation}\n@@ end\n"


def made(**changes: object) -> dict[str, Any]:
    outs = IstioTokenProvider().create(dict(INPUTS)).outs
    assert outs is not None
    return {**outs, **changes}


def test_only_a_refresh_opens_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = machines(monkeypatch, manifests(MANIFEST)).asked
    state = made()
    assert not IstioTokenProvider().diff("id", state, dict(INPUTS)).changes
    IstioTokenProvider().update("id", state, dict(INPUTS))
    assert asked == []
    IstioTokenProvider().read("id", state)
    [(machine, command, stdin)] = asked
    assert (command, stdin) == (remote.COMMAND_PROBE, remote.MANIFESTS)
    assert (str(machine.door), machine.door.private_key, machine.bastion) == ("admin@192.0.2.11:22", "KEY", None)


def test_a_machine_as_it_was_left_shows_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    machines(monkeypatch, manifests(MANIFEST))
    state = made()
    assert IstioTokenProvider().read("id", state).outs == state


def test_metrics_that_were_opened_by_hand_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machines(monkeypatch, manifests(MANIFEST.replace("open to itself, 192.0.2.0/24", "open to all")))
    state = IstioTokenProvider().read("id", made()).outs
    said = "firewall of 15020 and 15090, IPv4: now open to all, was open to itself, 192.0.2.0/24"
    assert state is not None
    assert state["drift"] == [said]
    assert f"vm-1 was changed by hand: {said}" in capsys.readouterr().out


def test_a_change_by_hand_is_told_and_leads_to_a_repair_with_the_same_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cluster: FakeCluster
) -> None:
    machines(monkeypatch, manifests(MANIFEST.replace("enabled", "disabled")))
    state = IstioTokenProvider().read("id", made()).outs
    assert state is not None
    assert state["drift"] == ["unit istio.service: now disabled, was enabled"]
    assert "vm-1 was changed by hand: unit istio.service: now disabled" in capsys.readouterr().out
    assert IstioTokenProvider().diff("id", state, dict(INPUTS)).changes
    cluster.done.clear()
    after = IstioTokenProvider().update("id", state, dict(INPUTS)).outs
    assert cluster.done == [], "the scripts are there"
    assert after is not None
    assert (after["drift"], after["repair"], after["token"]) == ([], "1", state["token"])
    assert not IstioTokenProvider().diff("id", after, dict(INPUTS)).changes
    again = IstioTokenProvider().update("id", {**after, "drift": ["x"]}, dict(INPUTS)).outs
    assert again is not None
    assert again["repair"] == "2"


def test_scripts_that_were_changed_by_hand_are_brought_again(
    monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster
) -> None:
    script = f"file {remote.SCRIPTS_FOLDER}/upkeep.sh"
    recorded, now = f"{MANIFEST}{script}\t0123456789abcdef\n", f"{MANIFEST}{script}\tabsent\n"
    machines(monkeypatch, f"@@ manifest-recorded\n{recorded}@@ manifest\n{now}@@ generation\n@@ end\n")
    state = IstioTokenProvider().read("id", made()).outs
    assert state is not None
    assert state["drift"] == [f"{script}: removed"]
    cluster.done.clear()
    IstioTokenProvider().update("id", state, dict(INPUTS))
    assert cluster.done == ["bring scripts to vm-1"]


@pytest.mark.parametrize(
    "answer",
    [ssh.SshError("vm-1", "unreachable", "SSH does not answer", "Nothing is known.", "start it."), "sh: syntax error"],
)
def test_a_machine_that_cannot_be_looked_at_holds_up_no_refresh(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str | ssh.SshError
) -> None:
    machines(monkeypatch, answer)
    state = made(drift=["known before"])
    assert IstioTokenProvider().read("id", state).outs == state
    assert "vm-1 was not looked at for changes by hand: " in capsys.readouterr().out


def test_another_way_to_the_machine_is_noted_and_joins_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = machines(monkeypatch, manifests(MANIFEST)).asked
    news = {**INPUTS, "connection": {**INPUTS["connection"], "bastion": BASTION}}
    assert IstioTokenProvider().diff("id", made(repair="3"), news).changes
    after = IstioTokenProvider().update("id", made(repair="3"), news).outs
    assert after is not None
    assert after["repair"] == "3"
    IstioTokenProvider().read("id", after)
    bastion = asked[0][0].bastion
    assert bastion is not None
    assert str(bastion) == "jump@192.0.2.1:2222"


def refreshed(state: dict[str, Any], joined: str) -> dict[str, Any]:
    """The token's state after a refresh of it and of the membership, of which `joined` is in the state."""
    read = IstioTokenProvider().read("id", state).outs
    membership.MembershipProvider().read("id", {**test_membership.INPUTS, "joined": joined})
    assert read is not None
    return read


def test_a_machine_that_was_put_back_from_an_older_copy_joins_again_with_the_same_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cluster: FakeCluster
) -> None:
    """All is as its own, older join has left it, and istiod has it connected."""
    machines(monkeypatch, manifests(generation="digest-1"))
    state = refreshed(made(), "digest-2 applied 0a1b")
    assert state["drift"] == []
    cluster.done.clear()
    assert IstioTokenProvider().diff("id", state, dict(INPUTS)).changes
    assert "vm-1 runs another join than the last that ended well" in capsys.readouterr().out
    after = IstioTokenProvider().update("id", state, dict(INPUTS)).outs
    assert after is not None
    assert (after["repair"], after["token"]) == ("1", state["token"])
    assert cluster.done == ["bring scripts to vm-1"], "it has those of then"


def test_a_machine_of_which_nothing_is_left_joins_again_though_its_proxy_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    machines(monkeypatch, "@@ manifest-recorded\n@@ manifest\n@@ generation\n@@ end\n")
    assert IstioTokenProvider().diff("id", refreshed(made(), "digest-2 applied 0a1b"), dict(INPUTS)).changes


@pytest.mark.parametrize("joined", ["digest-2 staged 0a1b", "digest-2", ""], ids=["same", "of old", "edited"])
def test_a_machine_that_runs_its_last_join_does_not_join_again(monkeypatch: pytest.MonkeyPatch, joined: str) -> None:
    machines(monkeypatch, manifests())
    assert not IstioTokenProvider().diff("id", refreshed(made(), joined), dict(INPUTS)).changes


def test_a_machine_called_the_same_in_another_mesh_of_the_stack_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    state = made()
    machines(monkeypatch, manifests(generation="digest-9"))
    IstioTokenProvider().read("id", {**state, "kubeconfig": "another"})
    machines(monkeypatch, manifests())
    state = refreshed(state, "digest-2 applied 0a1b")
    membership.MembershipProvider().read("id", {**test_membership.INPUTS, "context": "another", "joined": "digest-9"})
    assert not IstioTokenProvider().diff("id", state, dict(INPUTS)).changes


def test_nothing_is_concluded_of_a_machine_that_was_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    machines(monkeypatch, ssh.SshError("vm-1", "unreachable", "SSH does not answer", "Nothing is known.", "start it."))
    assert not IstioTokenProvider().diff("id", refreshed(made(), "digest-2 applied 0a1b"), dict(INPUTS)).changes
