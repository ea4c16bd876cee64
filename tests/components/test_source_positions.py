"""Where in the program a resource was made is nobody's to keep; where it failed is."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import pytest

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from components.source_positions import without_source_positions
from tests.components.harness import World, dev_settings, run
from tests.components.test_cost import hosts


def world() -> World:
    """Two machines: they are let in by the gate, after the component was made."""

    def change(sections: dict[str, Any]) -> None:
        sections["workloads"]["echo"]["machines"]["hosts"] = hosts(2)

    settings = dev_settings(change)
    return run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology)


def test_no_resource_tells_where_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_MESH_DEBUG", raising=False)
    found = world().found
    assert len(found) > 2 * 7
    assert {resource.name: resource.source_positions for resource in found if resource.source_positions} == {}


def test_who_looks_for_a_fault_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_MESH_DEBUG", "1")
    join = world().one("mesh-vm-000-join")
    assert join.source_positions[0].endswith("components/sidecar.py")
    assert len(join.source_positions) > 5


@without_source_positions()
def _fails() -> None:
    assert len(traceback.extract_stack()) == 1
    raise ValueError("of a provider's making")


def test_an_error_has_its_whole_traceback() -> None:
    with pytest.raises(ValueError, match="making") as raised:
        _fails()
    assert "in _fails" in "".join(traceback.format_exception(raised.value))
    assert getattr(sys, "tracebacklimit", None) is None
    assert len(traceback.extract_stack()) > 5


def test_programs_side_by_side_in_one_process_leave_the_limit_as_it_was() -> None:
    """As the Automation API runs them: the first to come is not the last to leave."""
    one, other = without_source_positions(), without_source_positions()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert sys.tracebacklimit == 1
    other.__exit__(None, None, None)
    assert getattr(sys, "tracebacklimit", None) is None
