"""What the benchmarks' console says before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.__main__ import app


def test_a_comparison_with_a_playbook_that_cannot_run_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(app, ["join"])
    assert done.exit_code == 2
    assert "ansible-playbook is not here" in done.output
    assert "Fix: `make bench`" in done.output
