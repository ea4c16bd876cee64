"""pulumi that takes too long is stopped, and not killed unless it must be."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hybridmesh.__main__ import app
from hybridmesh.ops import topology
from hybridmesh.ops.topology import StackError, UnfinishedError, ended_pulumi, run_pulumi, with_fix
from tests.ci.fakes import program
from tests.components.harness import PROJECT_ROOT
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


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("PULUMI_ACCESS_TOKEN must be set for login during non-interactive CLI sessions", "`pulumi login`"),
        ("no Pulumi.yaml project file found (searching upwards from /tmp)", "the project's folder"),
        ("if you're using the --stack flag, pass the fully qualified name (a/b/c)", "the project's folder"),
        ("no stack selected; please use `pulumi stack select` to choose one", "`--stack NAME`"),
        ("no stack named 'dev' found", "`pulumi stack ls`"),
        ("get stack secrets manager: incorrect passphrase", "PULUMI_CONFIG_PASSPHRASE"),
        ("get stack secrets manager: passphrase must be set with PULUMI_CONFIG_PASSPHRASE", "the stack's own in"),
    ],
)
def test_what_pulumi_misses_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, fix: str
) -> None:
    program(tmp_path, "pulumi", f"echo {shlex.quote(f'error: {said}')} >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(StackError) as error:
        run_pulumi("stack", "output")
    first, _, second = str(error.value).partition(". Fix: ")
    assert first == f"`pulumi stack` failed: error: {said}"
    assert fix in second


def test_what_pulumi_says_is_read_as_it_is_written_whatever_the_terminal_s_letters(tmp_path: Path) -> None:
    program(tmp_path, "pulumi", "printf 'prod-\\303\\251 \\342\\200\\242 \\377'")
    says = "import sys; from hybridmesh.ops.topology import run_pulumi; sys.stdout.write(ascii(run_pulumi('stack')))"
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", says],
        env={**os.environ, **plain},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == ascii("prod-é • \ufffd"), done.stderr


@pytest.mark.parametrize("printed", ["", "Using pulumi 3.259", "null", "[]", '{"a": 1} done'])
def test_what_is_no_json_document_is_said_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str
) -> None:
    program(tmp_path, "pulumi", f"echo {shlex.quote(printed)}")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for verb in ("status", "recover", "teardown"):
        result = CliRunner().invoke(app, [verb, "--stack", "dev"])
        assert (result.exit_code, result.stdout) == (1, "")
        assert "did not print one JSON document: nothing is known of the stack. Fix: " in result.stderr
        assert not printed or printed not in result.stderr


def test_nothing_is_added_to_what_is_not_about_that() -> None:
    said = "hybrid-mesh:workloads.echo.machines.hosts.vm-1.ssh.privateKeyPassphrase: is missing. Fix: a passphrase."
    assert with_fix(said) == said


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


def test_a_program_that_does_not_export_its_mesh_is_told_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "pulumi", """echo '{"other": 1}'""")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(StackError, match=r"no output `topology`.* Fix: pulumi up; .*pulumi\.export\(\"topology\""):
        topology.stack_topology(None)
