"""On Pulumi's real engine: what a refresh has seen of one resource is known when another one is compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.instance import PROJECT_ROOT
from tests.engine import Engine

pytestmark = pytest.mark.lab

PROGRAM = """
import pulumi

from tests.providers.looked_at import LookedAt, MembershipProvider, TokenProvider

token = LookedAt(TokenProvider(), "token")
LookedAt(MembershipProvider(), "membership", pulumi.ResourceOptions(depends_on=[token]))
"""


def test_a_refresh_looks_at_all_before_the_first_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    engine = Engine.of(PROGRAM, tmp_path)
    engine.up()
    engine.run("up", "--yes", "--skip-preview", "--expect-no-changes")
    assert "1 to update" in engine.run("preview", "--refresh").stdout
    said = engine.run("up", "--yes", "--skip-preview", "--refresh").stdout
    assert "runs another join: True" in said
    assert "1 updated" in said
