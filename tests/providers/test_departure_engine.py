"""On Pulumi's real engine: a machine that a command made stays under another name, as it is said how."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.instance import PROJECT_ROOT
from tests.engine import TOOLS, Engine
from tests.providers.given import GivenStack

pytestmark = pytest.mark.lab

PROGRAM = """
import json
from pathlib import Path

import pulumi

from components.command_host import CommandHost, CommandHostArgs
from hybridmesh.providers import ClusterAccess, Departure, DepartureArgs
from tests.providers.joined import Joined

given = json.loads((Path(__file__).parent / "given.json").read_text())
all_ = []
for name, delete in given["machines"].items():
    host = CommandHost(name, CommandHostArgs(machine=name, create=given["create"], delete=delete))
    departure = Departure(
        f"{name}-departure",
        DepartureArgs(
            cluster=ClusterAccess(kubeconfig="none"),
            machine=name,
            namespace="demo",
            entry=host.mesh_address.apply(lambda address: f"echo-{address}"),
            command=host.command,
            address=host.address,
            ssh=host.connection.packed(dial_seconds=5, dial_attempts=1),
        ),
    )
    all_ += [departure, Joined(f"{name}-join", {"machine": name}, pulumi.ResourceOptions(depends_on=[departure]))]
Joined("adopters", {"machine": "adopters"}, pulumi.ResourceOptions(depends_on=all_))
"""
MADE = '{"address": "192.0.2.12", "hostKey": "ssh-ed25519 AAAA"}'


@dataclass(frozen=True)
class Stack(GivenStack):
    """A stack of machines that commands make, and those that are there."""

    machine: Path

    @property
    def remove(self) -> str:
        return f"rm -f {self.machine}"

    def up(self, machines: dict[str, str], *, check: bool = True) -> str:
        return self.put_up({"create": f"touch {self.machine}; echo '{MADE}'", "machines": machines}, check=check)


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    engine = Engine.of(PROGRAM, tmp_path, tools=(*TOOLS, "pulumi-resource-command"))
    return Stack(engine, tmp_path / "machine")


def test_a_machine_under_another_name_is_forgotten_under_the_old_one_as_it_says(stack: Stack) -> None:
    stack.up({"vm-2": stack.remove})
    said = stack.up({"shop-2": stack.remove}, check=False)
    assert "vm-2 (192.0.2.12) is shop-2 by now" in said
    assert stack.machine.exists()

    _, *words = shlex.split(said.partition("with `")[2].partition("`")[0])
    assert words[:3] == ["state", "delete", "--target-dependents"]
    stack.engine.run(*words, "--yes")
    assert stack.joined() == {"shop-2", "adopters"}
    said = stack.up({"shop-2": stack.remove})
    assert "departure" not in said
    stack.engine.run("up", "--yes", "--skip-preview", "--expect-no-changes")
    assert stack.machine.exists()


def test_a_command_that_removes_nothing_lets_the_name_change(stack: Stack) -> None:
    stack.up({"vm-2": stack.remove})
    stack.up({"vm-2": "true"})
    stack.up({"shop-2": stack.remove})
    assert stack.machine.exists()
    assert stack.joined() == {"shop-2", "adopters"}


def test_a_machine_that_is_replaced_is_removed_and_made_anew(stack: Stack) -> None:
    """And not found made, and removed after."""
    stack.up({"vm-2": stack.remove})
    stack.engine.run("up", "--yes", "--skip-preview", "--replace", "**vm-2-machine")
    assert stack.machine.exists()
    stack.engine.run("up", "--yes", "--skip-preview", "--expect-no-changes")
