"""On Pulumi's real engine: the last one that callers have is not touched, and what is said to do about it works."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.instance import PROJECT_ROOT
from tests.engine import Engine
from tests.providers.given import GivenStack

pytestmark = pytest.mark.lab

PROGRAM = """
import json
from pathlib import Path

import pulumi

from components import turns as module
from components.turns import Turns
from hybridmesh.providers.cluster import ClusterAccess
from tests.providers.fake_cluster import FakeCluster, entry
from tests.providers.joined import Joined

given = json.loads((Path(__file__).parent / "given.json").read_text())


def named(name, found):
    return {**found, "metadata": {**found["metadata"], "name": name}}


there = {f"demo/{name}": named(name, entry(healthy=healthy)) for name, healthy in given["healthy"].items()}
module.connect = lambda _: FakeCluster(entries=there)
turns = Turns(1, keep_one=given["keepOne"])
lane = turns.of_workload()
for machine, generation in given["generations"].items():
    turn = lane.of(f"vm-{machine}")
    group = pulumi.Output.from_input({"metadata": {"name": "echo"}})
    where, name = pulumi.Output.from_input("demo"), pulumi.Output.from_input(machine)
    joined = turn.when_due(pulumi.Output.from_input(f"{generation} staged 1"), lambda: None)
    hooks = turn.guards(f"{machine}-ready", ClusterAccess(kubeconfig="none"), group, where, name, 0)
    ready = Joined(f"{machine}-ready", {"machine": joined}, pulumi.ResourceOptions(hooks=hooks))
    turn.ends_with(ready.id.apply(bool))
"""


class Stack(GivenStack):
    """A stack with VMs of one workload, by the last letters of their names."""

    def up(self, generations: dict[str, int], *options: str, down: str = "", keep: bool = True) -> str:
        healthy = {machine: machine not in down for machine in generations}
        given = {"generations": generations, "healthy": healthy, "keepOne": keep}
        return self.put_up(given, *options, check=not (down and keep))

    def runs(self) -> set[str]:
        return {name.split()[0] for name in self.joined()}


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    return Stack(Engine.of(PROGRAM, tmp_path, "mesh", tools=("pulumi", "pulumi-language-python")))


def test_the_last_one_that_callers_have_is_not_touched_while_another_has_nothing_to_change(stack: Stack) -> None:
    stack.up({"a": 1, "b": 2})
    said = stack.up({"a": 3, "b": 2}, down="b")
    assert "vm-a is not restarted, and keeps what it runs" in said
    assert "vm-b: its app is not healthy by the probe: connection refused" in said
    assert "Traceback" not in said
    assert stack.runs() == {"1", "2"}
    stack.up({"a": 1, "b": 2}, down="")
    stack.up({"a": 3, "b": 2}, down="b", keep=False)
    assert stack.runs() == {"3", "2"}


def test_a_change_that_may_mend_the_other_gets_there_by_continue_on_error(stack: Stack) -> None:
    stack.up({"a": 1, "b": 2})
    assert "vm-a is not restarted" in stack.up({"a": 3, "b": 4}, down="b")
    assert stack.runs() == {"1", "2"}
    said = stack.up({"a": 3, "b": 4}, "--continue-on-error", down="b")
    assert "did not come back" not in said
    assert stack.runs() == {"1", "4"}
    stack.up({"a": 3, "b": 4})
    assert stack.runs() == {"3", "4"}
