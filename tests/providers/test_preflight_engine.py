"""On Pulumi's real engine: no machine is changed before all are good, and a good one is looked at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.instance import PROJECT_ROOT
from tests.engine import TOOLS, Engine
from tests.ops.sshd import Sshd, closed_port, private, public
from tests.providers.given import GivenStack

pytestmark = pytest.mark.lab

PROGRAM = """
import json
from pathlib import Path

import pulumi

from components.connection import Connection
from components.preflight_gate import PreflightGate
from hybridmesh.providers import PreflightArgs, PreflightCheck
from tests.providers.joined import Joined

machines = json.loads((Path(__file__).parent / "given.json").read_text())
with PreflightGate("preflights", pulumi.ResourceOptions()) as gate:
    for name, way in machines.items():
        check = PreflightCheck(
            f"{name}-preflight",
            PreflightArgs(
                machine=name,
                ssh=Connection(**way).packed(dial_seconds=5, dial_attempts=1),
                settings={"package-url": "http://m/x.deb"},
            ),
        )
        gate.add(name, check, f"192.0.2.{machines[name]['port']}")
        Joined(f"{name}-join", {"machine": name}, pulumi.ResourceOptions(depends_on=gate.passed))
"""
BAD = (1, "hybrid-mesh: finding: disk: 3 MiB free; it would not fit -> free some\nhybrid-mesh: FAILED\n")


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GivenStack:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    return GivenStack(Engine.of(PROGRAM, tmp_path, tools=(*TOOLS, "pulumi-resource-command")))


@pytest.fixture
def servers() -> Iterator[dict[str, Sshd]]:
    with ExitStack() as open_ones:
        yield {name: open_ones.enter_context(Sshd()) for name in ("vm-1", "vm-2")}


def way(server: Sshd, **changes: Any) -> dict[str, Any]:
    return {
        "address": "127.0.0.1",
        "port": server.port,
        "host_key": public(server.host),
        "private_key": private(server.client),
        **changes,
    }


def of_an_earlier_version(engine: Engine) -> None:
    """A state of one that did not ask who a machine is."""
    state = json.loads(engine.run("stack", "export").stdout)
    for resource in state["deployment"]["resources"]:
        for side in ("inputs", "outputs"):
            resource.get(side, {}).pop("who", None)
    (engine.folder / "state.json").write_text(json.dumps(state))
    engine.run("stack", "import", "--file", str(engine.folder / "state.json"))


def test_two_addresses_of_one_machine_are_told_before_it_is_joined_twice(
    stack: GivenStack, servers: dict[str, Sshd]
) -> None:
    vm1, vm2 = servers.values()
    vm1.answer = vm2.answer = (0, "hybrid-mesh: who: a1\n")
    first, both = {"vm-1": way(vm1)}, {"vm-1": way(vm1), "vm-2": way(vm2)}
    said = stack.put_up(both, check=False)
    assert "vm-2: machine: it is the machine that vm-1 is, too" in said
    assert stack.joined() == set()

    stack.put_up(first)
    of_an_earlier_version(stack.engine)
    stack.engine.run("preview", "--expect-no-changes")
    vm2.answer = (0, f"hybrid-mesh: who: b2 vm-1@192.0.2.{vm1.port}\n")
    said = stack.put_up(both, check=False)
    assert "vm-2: machine: it is the machine that vm-1 is, too" in said
    assert stack.joined() == {"vm-1"}


def test_all_findings_come_at_once_and_none_is_joined_before_all_are_good(
    stack: GivenStack, servers: dict[str, Sshd]
) -> None:
    vm1, vm2 = servers.values()
    vm1.answer, vm2.answer = (0, "hybrid-mesh: step end\n"), BAD
    machines = {name: way(server) for name, server in servers.items()}
    said = stack.put_up({**machines, "vm-3": way(vm1, port=closed_port())}, check=False)
    assert "2 findings on 2 of 3 VMs. Nothing was changed on any VM." in said
    assert "vm-2: disk: 3 MiB free; it would not fit. Fix: free some." in said
    assert "vm-3: SSH does not answer at 127.0.0.1:" in said
    assert "PRIVATE KEY" not in said
    assert stack.joined() == set()
    assert (vm1.logins, vm2.logins) == (1, 1)

    vm2.answer = (0, "hybrid-mesh: note: systemd is degraded: x.service\n")
    said = stack.put_up(machines)
    assert "vm-2: systemd is degraded: x.service" in said
    assert stack.joined() == {"vm-1", "vm-2"}
    assert (vm1.logins, vm2.logins) == (1, 2), "a good one is looked at once"

    stack.put_up(machines)
    assert (vm1.logins, vm2.logins) == (1, 2), "nothing is another"

    stack.put_up({"vm-1": machines["vm-1"]})
    assert stack.joined() == {"vm-1"}
    assert (vm1.logins, vm2.logins) == (1, 2), "one that goes needs no look"
