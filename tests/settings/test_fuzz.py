"""Random configurations end in settings, a sample of them in a resource graph, or in a clear message: no traceback."""

import sys
from collections.abc import Sequence
from typing import Any

import pulumi
import pytest
from hypothesis import given

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from hybridmesh.settings import Finding, Settings, SettingsError, parse
from tests.components.harness import SECRETS, read_file, run
from tests.fuzz import MANY, random
from tests.settings.configurations import configurations

GRAPH_OF_EACH = 10
"""Every tenth good one becomes a graph: that takes ten times as long as reading it."""


def graph(parsed: Settings) -> int:
    world = run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=parsed)).topology)
    assert world.one("mesh", "HybridMesh")
    machines = [h for w in parsed.workloads.values() if w.machines for h in w.machines.hosts]
    machines += [h for n in parsed.networks.values() if n.gateway for h in n.gateway.hosts]
    assert {r.name for r in world.of_type(":Sidecar") if "hybridmesh" in r.type} == {f"mesh-{m}" for m in machines}
    return len(world.found)


def outcome(sections: dict[str, Any]) -> tuple[Settings | None, Sequence[Finding]]:
    try:
        return parse(sections, read_file), ()
    except SettingsError as error:
        return None, error.findings


@pytest.mark.timeout(3000)
def test_random_configurations_end_in_a_graph_or_a_message(monkeypatch: Any) -> None:
    monkeypatch.setattr(pulumi.log, "warn", lambda *_: None)
    ends = {"good": 0, "message": 0, "graph": 0}

    @random()
    @given(configurations())
    def one(sections: dict[str, Any]) -> None:
        parsed, findings = outcome(sections)
        assert parsed is not None or findings
        for finding in findings:
            line = str(finding)
            assert line.isprintable(), "a finding is one line, that a terminal only shows"
            assert finding.problem
            assert finding.consequence
            assert finding.fix
            assert not any(secret in line for secret in SECRETS)
        ends["message" if parsed is None else "good"] += 1
        if parsed is not None and ends["good"] % GRAPH_OF_EACH == 1:
            assert graph(parsed) > 3
            ends["graph"] += 1

    one()
    print(f"{ends} of {MANY}", file=sys.stderr)
    count = ends["good"] + ends["message"]
    assert count >= MANY
    if MANY < 50:
        return  # too few for shares to say anything
    assert ends["good"] > 0.6 * count, ends
    assert ends["message"] > 0.05 * count, ends
    assert ends["graph"] > 0.09 * ends["good"], ends
