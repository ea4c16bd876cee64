"""Who brings the scripts of a join to a VM, and what is said of one that does not take them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hybridmesh.ops import ssh
from hybridmesh.ops.ssh import Answer, Limits, Reachable, SshError
from hybridmesh.providers import preflight, reach, scripts
from hybridmesh.providers.scripts import ScriptsError, bring
from hybridmesh.remote import COMMAND_BRING, COMMAND_PREFLIGHT, bring_payload
from tests.providers import test_preflight
from tests.providers.test_token import INPUTS

GOOD = Answer("vm-1", 0, "", "hybrid-mesh: step: scripts: bring those of a join\n")
FULL = Answer("vm-1", 1, "", "mv: no space left\nhybrid-mesh: FAILED on vm-1 at step scripts: unexpected exit 1\n")
AWAY = SshError("vm-1", "unreachable", "SSH does not answer at 192.0.2.11:22", "Nothing is known.", "see that it runs.")


class Machines:
    """Answers, the same to all; and what was asked."""

    def __init__(self, answer: Answer | SshError) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, Limits]] = []

    def __call__(
        self, machines: Mapping[str, Reachable], command: str, stdin: str, limits: Limits
    ) -> dict[str, Answer | SshError]:
        self.asked.append((command, stdin, limits))
        return dict.fromkeys(machines, self.answer)


def machines(monkeypatch: pytest.MonkeyPatch, answer: Answer | SshError) -> Machines:
    made = Machines(answer)
    monkeypatch.setattr(ssh, "run_on_all", made)
    monkeypatch.setattr(reach, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(scripts, "_BROUGHT", set())
    return made


def test_a_machine_gets_them_once_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = machines(monkeypatch, GOOD).asked
    bring(INPUTS)
    bring({**INPUTS, "machine": "another name"})
    assert asked == [(COMMAND_BRING, bring_payload(), Limits(connect=15, command=scripts.BRING_SECONDS))]
    bring({**INPUTS, "connection": {**INPUTS["connection"], "hostKey": "ssh-ed25519 BBBB"}})
    assert len(asked) == 2, "another machine at the same address"
    for bastion in ("203.0.113.5", "203.0.113.9"):  # copies of one, in networks of their own
        door = {"address": bastion, "port": 22, "user": "jump", "hostKey": "ssh-ed25519 CCCC"}
        bring({**INPUTS, "connection": {**INPUTS["connection"], "bastion": door}})
    assert len(asked) == 4


def test_a_preflight_without_a_finding_has_brought_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = machines(monkeypatch, GOOD).asked
    assert preflight.look(test_preflight.INPUTS)["findings"] == []
    bring(INPUTS)
    assert [command for command, *_ in asked] == [COMMAND_PREFLIGHT]


def test_a_preflight_with_a_finding_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = machines(monkeypatch, test_preflight.BAD)
    assert len(preflight.look(test_preflight.INPUTS)["findings"]) == 2
    asked.answer = GOOD
    bring(INPUTS)
    assert [command for command, *_ in asked.asked] == [COMMAND_PREFLIGHT, COMMAND_BRING]


def test_a_machine_that_does_not_answer_is_tried_again_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = machines(monkeypatch, AWAY).asked
    with pytest.raises(ScriptsError) as error:
        bring(INPUTS)
    assert str(error.value) == (
        "vm-1: SSH does not answer at 192.0.2.11:22. It does not join, and nothing was changed there. "
        "Fix: see that it runs."
    )
    assert len(asked) == 4
    with pytest.raises(ScriptsError):
        bring(INPUTS)


def test_a_machine_that_does_not_take_them_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    machines(monkeypatch, FULL)
    with pytest.raises(ScriptsError) as error:
        bring(INPUTS)
    head, *said = str(error.value).splitlines()
    assert head == "vm-1 does not take the scripts of its join, and was not changed:"
    assert said == FULL.stderr.splitlines()
