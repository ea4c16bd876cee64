"""The console: its help, as a terminal of 80 columns shows it, and what it prints and writes."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rich.console
import typer.main
from rich.console import ConsoleOptions, RenderResult
from rich.segment import ControlType, Segment
from rich.style import Style
from typer.testing import CliRunner

from hybridmesh.__main__ import app
from hybridmesh.ops.console import Console, try_to_write
from hybridmesh.settings.reference import reference
from tests.components.harness import PROJECT_ROOT


def verbs(command: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from verbs(inner, *words, name)


@pytest.mark.parametrize(("words", "command"), [*verbs(typer.main.get_command(app))], ids=str)
def test_help_is_whole_on_80_columns(words: tuple[str, ...], command: Any) -> None:
    done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"})
    lines = done.output.splitlines()
    assert done.exit_code == 0
    assert all(len(line) <= 80 for line in lines)
    assert not [line for line in lines[1:] if line.endswith(("...", "…"))], "what is cut off"
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help, parameter.name
            for name in (*parameter.opts, *parameter.secondary_opts):
                assert name in done.output
            assert "--json" not in parameter.opts or "for scripts" in parameter.help, "a machine is a VM here"


def test_a_terminal_that_does_not_know_a_sign_is_shown_another() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hybridmesh", "settings", "reference"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        cwd=PROJECT_ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("latin-1") == reference().encode("latin-1", errors="replace").decode("latin-1")


def test_whoever_reads_may_stop_reading() -> None:
    command = f"{shlex.quote(sys.executable)} -m hybridmesh settings schema | true"
    done = subprocess.run(
        ["bash", "-c", command], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dance"], "No such command 'dance'."),
        (["status", "--interval", "0"], "Invalid value for '--interval': Input should be greater than or equal to 0.5"),
        (["settings", "check"], "Missing argument 'file'."),
    ],
)
def test_a_word_that_is_wrong_is_one_line(words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, words, env={"COLUMNS": "80"})
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (2, f"Error: {said}")


class Drawn:
    """What rich draws itself, without a text of its own."""

    def __rich_console__(self, console: rich.console.Console, options: ConsoleOptions) -> RenderResult:
        yield Segment("vm-1 \x1b[2J\u202e", Style(bold=True))
        yield Segment("\x1b[H", control=[(ControlType.HOME,)])


def test_nothing_that_is_drawn_steers_a_terminal_but_what_is_there_for_that() -> None:
    found = [*Console(force_terminal=True).render(Drawn())]
    assert [(segment.text, bool(segment.control)) for segment in found] == [
        ("vm-1 \\x1b[2J\\u202e", False),
        ("\x1b[H", True),
    ]
    assert found[0].style == Style(bold=True)


def test_whether_a_pipe_can_be_written_is_not_tried_for_its_reader_would_take_that_for_the_end(tmp_path: Path) -> None:
    pipe = tmp_path / "page"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try_to_write(pipe, "--output")
    waiting = select.poll()
    waiting.register(reader)
    assert waiting.poll(0) == [], "nobody has come, or gone"
    os.close(reader)


def test_a_file_that_cannot_be_written_is_named_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="cannot be written") as refused:
        try_to_write(tmp_path / "nowhere" / "page", "--output")
    assert refused.value.param_hint == "--output"
    try_to_write(tmp_path / "page", "--output")
    assert not (tmp_path / "page").exists(), "it was but tried"
