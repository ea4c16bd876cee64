"""pulumi that takes too long is stopped, and not killed unless it must be."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from hybridmesh.ops import topology
from hybridmesh.ops.topology import UnfinishedError, ended_pulumi
from tests.ci.fakes import program
from tests.engine import TOOLS, Engine

IN_ORDER = 'echo "signal $1" >> "$(dirname "$0")/ended"; echo ended in order; exit 1'


@pytest.mark.parametrize(
    ("script", "last"),
    [
        (f"ended() {{ {IN_ORDER}; }}; trap 'ended INT' INT; trap 'ended TERM' TERM", "signal INT"),
        (f"ended() {{ {IN_ORDER}; }}; trap '' INT; trap 'ended TERM' TERM", "signal TERM"),
        ("trap '' INT TERM", ""),
    ],
    ids=["at once", "told twice", "killed"],
)
def test_over_its_limit_it_is_let_end_in_order_and_what_it_said_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, last: str
) -> None:
    steps = ((signal.SIGINT, 0.5), (signal.SIGTERM, 0.5), (signal.SIGKILL, 0.5))
    monkeypatch.setattr(topology, "ENDING_SECONDS", steps)
    # What it has started keeps its pipes open for longer.
    program(tmp_path, "pulumi", f"{script}\necho joined\necho warned >&2\nsleep 2 & wait; wait")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    begun = time.monotonic()
    with pytest.raises(UnfinishedError) as stopped:
        ended_pulumi("--non-interactive", "up", seconds=0.5)
    assert time.monotonic() - begun < 5
    assert str(stopped.value).startswith("`pulumi up` did not end within 0 s, and was stopped. Fix: ")
    assert "`python -m hybridmesh recover`" in str(stopped.value)
    assert stopped.value.stdout == ("joined\nended in order\n" if last else "joined\n")
    assert stopped.value.stderr == "warned\n"
    ended = tmp_path / "ended"
    assert (ended.read_text().strip() if ended.exists() else "") == last


@pytest.mark.lab
def test_the_engine_ends_in_order_and_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "from pathlib import Path\nfrom pulumi_command.local import Command\n"
        'Command("vm-1-join", create="sleep 6" if Path("slow").exists() else "true")\n'
    )
    engine = Engine.of(program, tmp_path, "hybrid-mesh", tools=(*TOOLS, "pulumi-resource-command"))
    slow = engine.folder / "program" / "slow"
    slow.touch()
    monkeypatch.chdir(engine.folder / "program")
    with pytest.raises(UnfinishedError) as stopped:
        ended_pulumi("up", "--non-interactive", "--yes", "--skip-preview", seconds=4, env=engine.env)
    assert "creating failed" in stopped.value.stdout
    slow.unlink()
    assert "pending operations" not in engine.run("up", "--yes", "--skip-preview").stderr
