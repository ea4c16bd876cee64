"""What the console and the Makefile's verbs do before anything of the environment runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("verb", ["preview", "destroy"])
def test_a_verb_on_the_environment_runs_nothing_where_there_is_none(verb: str, tmp_path: Path) -> None:
    called = tmp_path / "called"
    for name in ("pulumi", "python"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$0" >>{called}\n')
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["make", verb, f"PYTHON={sys.executable}"],
        cwd=PROJECT,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not called.exists()
    assert done.returncode != 0
    assert "not built yet" in done.stderr
