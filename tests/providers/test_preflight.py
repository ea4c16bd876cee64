"""When a VM is looked at, and what is said of one that would not join."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pulumi.runtime.rpc import UNKNOWN

from hybridmesh.ops import ssh
from hybridmesh.ops.ssh import Answer, Limits, Reachable, SshError
from hybridmesh.providers import preflight, reach
from hybridmesh.providers.preflight import PreflightError, PreflightProvider, VerdictProvider
from hybridmesh.remote import COMMAND_PREFLIGHT, scripts_digest
from tests.remote.unpacked import texts

INPUTS: dict[str, Any] = {
    "machine": "vm-1",
    "connection": {
        "address": "192.0.2.11", "port": 22.0, "user": "admin", "hostKey": "ssh-ed25519 AAAA", "privateKey": "S3CRET",
        "passphrase": None, "bastion": None,
    },
    "settings": {"package-url": "http://m/x.deb", "gateway-timeout-seconds": "20"},
    "dialSeconds": 15.0,
    "dialAttempts": 3.0,
    "findings": None,
    "who": None,
}  # fmt: skip
GOOD = Answer(
    "vm-1", 0, "", "hybrid-mesh: note: systemd is degraded: x.service\nhybrid-mesh: who: a1b2\nhybrid-mesh: step: end\n"
)
BAD = Answer(
    "vm-1",
    1,
    "",
    "hybrid-mesh: finding: disk: 3 MiB free; it would not fit -> free some\n"
    "hybrid-mesh: finding: ports: port 15001 is held; the proxy would not start -> move it\n"
    "hybrid-mesh: FAILED on vm-1 at step preflight: 2 finding(s), nothing was changed\n",
)


def problem(kind: ssh.Kind) -> SshError:
    return SshError("vm-1", kind, "it is so", "Nothing is known of the machine.", "do this.")


class Machines:
    """Answers, one after the other, the last for ever; and what was asked."""

    def __init__(self, *answers: Answer | SshError) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Reachable, str, Limits]] = []

    def __call__(
        self, machines: Mapping[str, Reachable], command: str, stdin: str, limits: Limits
    ) -> dict[str, Answer | SshError]:
        assert command == COMMAND_PREFLIGHT
        (machine,) = machines.values()
        self.asked.append((machine, stdin, limits))
        return {machine.name: self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]}


def machines(monkeypatch: pytest.MonkeyPatch, *answers: Answer | SshError) -> Machines:
    made = Machines(*answers)
    monkeypatch.setattr(ssh, "run_on_all", made)
    monkeypatch.setattr(reach, "_PAUSE_SECONDS", 0)
    return made


def sent(payload: str) -> dict[str, str]:
    return {name: text.strip() for name, text in texts(payload).items() if name.startswith(("settings/", "files/"))}


def test_a_good_machine_is_looked_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = machines(monkeypatch, GOOD).asked
    assert PreflightProvider().create(dict(INPUTS)).outs == {**INPUTS, "findings": [], "who": "a1b2"}
    [(machine, stdin, limits)] = asked
    assert str(machine.door) == "admin@192.0.2.11:22"
    assert machine.door.private_key == "S3CRET"
    assert sent(stdin) == {
        "settings/machine": "vm-1",
        "settings/package-url": "http://m/x.deb",
        "settings/gateway-timeout-seconds": "20",
        "settings/scripts": scripts_digest(),
    }
    assert (limits.connect, limits.command) == (15, preflight.LOOK_SECONDS + 20)
    assert capsys.readouterr().out == "vm-1: systemd is degraded: x.service\n"


def found(**changes: Any) -> list[str]:
    outs = PreflightProvider().create({**INPUTS, **changes}).outs
    assert outs is not None
    findings: list[str] = outs["findings"]
    return findings


def test_findings_are_kept_and_looked_at_again_at_the_next_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = machines(monkeypatch, BAD, GOOD).asked
    provider = PreflightProvider()
    state = provider.create(dict(INPUTS)).outs
    assert state is not None
    assert state["findings"] == [
        "disk: 3 MiB free; it would not fit. Fix: free some.",
        "ports: port 15001 is held; the proxy would not start. Fix: move it.",
    ]
    assert provider.diff("id", state, dict(INPUTS)).changes
    state = provider.update("id", state, dict(INPUTS)).outs
    assert state is not None
    assert state["findings"] == []
    assert not provider.diff("id", state, dict(INPUTS)).changes
    assert len(asked) == 2


def test_a_machine_that_boots_is_waited_for_and_one_with_a_wrong_key_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    booting = machines(monkeypatch, problem("unreachable"), problem("cut off"), GOOD)
    assert found() == []
    assert len(booting.asked) == 3
    for kind, attempts in (("unreachable", 3), ("host key", 1), ("login", 1), ("sudo", 1), ("limit", 1)):
        asked = machines(monkeypatch, problem(kind)).asked  # type: ignore[arg-type]  # each is a Kind
        assert found() == ["it is so. Nothing is known of the machine. Fix: do this."]
        assert len(asked) == attempts, kind


def test_what_cannot_be_understood_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    machines(monkeypatch, Answer("vm-1", 1, "", "hybrid-mesh: FAILED: the payload cannot be unpacked\n"))
    (line,) = found()
    assert line.startswith("it could not be looked at, status 1: ")
    assert line.endswith("the payload cannot be unpacked")


def test_a_command_that_sshd_runs_in_the_place_of_ours_finds_nothing_good(monkeypatch: pytest.MonkeyPatch) -> None:
    machines(monkeypatch, Answer("vm-1", 0, "welcome\n", "motd\n"))
    (line,) = found()
    assert "ran something else than what it was asked to" in line
    assert "Fix: see ForceCommand" in line


def test_it_looks_again_for_what_it_looks_at_or_another_way_there_and_not_for_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = machines(monkeypatch, GOOD).asked
    provider = PreflightProvider()
    state = {**INPUTS, "findings": [], "who": "of before"}
    assert not provider.diff("id", state, dict(INPUTS)).changes
    for change, looks in (
        ({"settings": {**INPUTS["settings"], "package-url": "http://m/y.deb"}}, 1),
        ({"connection": {**INPUTS["connection"], "address": "192.0.2.12"}}, 1),
        ({"dialSeconds": 5.0}, 0),
        ({"settings": {**INPUTS["settings"], "gateway-timeout-seconds": "5"}}, 0),
    ):
        asked.clear()
        news = {**INPUTS, **change}
        diff = provider.diff("id", state, news)
        assert diff.changes
        assert not diff.replaces
        assert provider.update("id", state, news).outs == {
            **news,
            "findings": [],
            "who": "a1b2" if looks else "of before",
        }
        assert len(asked) == looks, change


def test_the_verdict_has_all_findings_of_all_machines_each_on_its_line() -> None:
    provider = VerdictProvider()
    good: dict[str, Any] = {"findings": {"vm-1": [], "vm-2": []}}
    bad: dict[str, Any] = {"findings": {"vm-2": ["disk: full"], "vm-1": ["ports: held", "clock: off"], "vm-3": []}}
    assert provider.create(dict(good)).outs == good
    assert not provider.diff("id", good, dict(good)).changes
    assert provider.diff("id", good, bad).changes
    for attempt in (lambda: provider.create(bad), lambda: provider.update("id", good, bad)):
        with pytest.raises(PreflightError) as error:
            attempt()
        assert str(error.value).splitlines() == [
            "3 findings on 2 of 3 VMs. Nothing was changed on any VM.",
            "  vm-1: ports: held",
            "  vm-1: clock: off",
            "  vm-2: disk: full",
        ]
    with pytest.raises(PreflightError, match=r"^1 finding on 1 of 1 VM\."):
        provider.create({"findings": {"vm-1": ["disk: full"]}})


@pytest.mark.parametrize(
    ("who", "same"),
    [
        ({"vm-1": "vm-1@192.0.2.11 a1", "vm-2": "vm-2@192.0.2.12 a1"}, ("vm-2", "vm-1")),
        # It has joined as vm-1, which was looked at before it was booted, or by an earlier version.
        ({"vm-1": "vm-1@192.0.2.11 b2", "vm-2": "vm-2@192.0.2.12 a1 vm-1@192.0.2.11"}, ("vm-2", "vm-1")),
        ({"vm-1": "vm-1@192.0.2.11", "new": "new@192.0.2.12 a1 vm-1@192.0.2.11"}, ("vm-1", "new")),
        ({"vm-1": "vm-1@192.0.2.11 a1", "vm-2": "vm-2@192.0.2.12 b2"}, ()),
        # The two have changed places, or names.
        ({"vm-1": "vm-1@192.0.2.12 b2 vm-2@192.0.2.12", "vm-2": "vm-2@192.0.2.11 a1 vm-1@192.0.2.11"}, ()),
        # It was renamed.
        ({"vm-3": "vm-3@192.0.2.11 a1 vm-1@192.0.2.11"}, ()),
    ],
)
def test_two_hosts_that_are_one_machine_are_refused_before_anything_is_changed(
    who: dict[str, str], same: tuple[str, ...]
) -> None:
    props = {"findings": {name: [] for name in who}, "who": json.dumps(who)}
    if not same:
        assert VerdictProvider().create(props).outs == props
        return
    one, other = same
    with pytest.raises(PreflightError) as error:
        VerdictProvider().create(props)
    assert str(error.value).splitlines() == [
        f"1 finding on 1 of {len(who)} VMs. Nothing was changed on any VM.",
        f"  {one}: machine: it is the machine that {other} is, too: both addresses lead there; each of the two would "
        f"take the other's place in the mesh. Fix: take {one} or {other} out of the settings, or give it the address "
        "of its own machine. If it is a copy of a member, run there: sh /var/lib/hybrid-mesh/scripts/leave.sh.",
    ]


def test_a_host_that_comes_to_be_at_another_s_machine_is_judged() -> None:
    """Where nobody has a finding, as before."""
    provider = VerdictProvider()
    olds = {"findings": {"vm-1": []}, "who": '{"vm-1": "a1"}'}
    assert provider.diff("id", olds, {**olds, "who": '{"vm-1": "b2"}'}).changes
    assert not provider.diff("id", olds, dict(olds)).changes
    assert not provider.diff("id", olds, {**olds, "who": UNKNOWN}).changes, "of a version that did not ask"


def test_a_bastion_is_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = machines(monkeypatch, GOOD).asked
    bastion = {"address": "192.0.2.1", "port": 2222.0, "user": "jump", "hostKey": "ssh-ed25519 B", "privateKey": None}
    PreflightProvider().create({**INPUTS, "connection": {**INPUTS["connection"], "bastion": bastion}})
    assert str(asked[0][0].bastion) == "jump@192.0.2.1:2222"
