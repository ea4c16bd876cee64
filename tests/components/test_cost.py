"""What a VM costs a run, counted: what grows with the number of VMs must grow no faster."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from tests.components.harness import dev_settings, run

MOST_OUTPUTS = 450
"""Outputs that Pulumi makes for a VM; each is a task, and some two KiB while a run lasts."""


def hosts(count: int) -> dict[str, Any]:
    return {
        f"vm-{n:03d}": {
            "ssh": {
                "address": f"192.0.2.{n + 1}",
                "hostKey": "ssh-ed25519 AAAA",
                "privateKeyFile": ".lab/dev/ssh/id_ed25519",
            }
        }
        for n in range(count)
    }


def cost(monkeypatch: pytest.MonkeyPatch, machines: int) -> tuple[int, int]:
    """Outputs and resources of a stack where all is known."""

    def change(sections: dict[str, Any]) -> None:
        sections["workloads"]["echo"]["machines"]["hosts"] = hosts(machines)

    settings, made = dev_settings(change), 0
    track = pulumi.Output._track

    def count(self: pulumi.Output[Any]) -> None:
        nonlocal made
        made += 1
        track(self)

    with monkeypatch.context() as patch:
        patch.setattr(pulumi.Output, "_track", count)
        world = run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology)
    return made, len(world.found)


def test_a_vm_costs_seven_resources_and_no_more_outputs_the_more_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    few, some, many = (cost(monkeypatch, machines) for machines in (2, 12, 32))
    assert (some[1] - few[1], many[1] - some[1]) == (7 * 10, 7 * 20)
    first, later = (some[0] - few[0]) / 10, (many[0] - some[0]) / 20
    print(f"{first:.0f} and {later:.0f} outputs a VM")
    assert later <= first * 1.02
    assert first < MOST_OUTPUTS
