"""command:local:Command. Both plugins pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plugin.plugin import UNKNOWN, CallError, Line, Plugin, is_secret, secret

pytestmark = pytest.mark.lab

COMMAND = "command:local:Command"


def run(plugin: Plugin, create: str, **inputs: Any) -> str:
    """The output of a create command."""
    return str(plugin.create(COMMAND, {"create": create, **inputs}).output("stdout"))


def test_create_update_and_delete_run_their_commands(plugin: Plugin, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    inputs = {name: f"echo {name} >>{trace}; cat >>{trace}" for name in ("create", "update", "delete")}

    made = plugin.create(COMMAND, {**inputs, "stdin": "1\n"})
    changed = plugin.update(made, {**inputs, "stdin": "2\n"})
    plugin.delete(changed)

    assert trace.read_text().split() == ["create", "1", "update", "2", "delete", "2"]


def test_both_streams_are_kept_without_one_final_newline(plugin: Plugin) -> None:
    made = plugin.create(COMMAND, {"create": "printf 'one\\n\\n'; echo warning >&2"})

    assert (made.output("stdout"), made.output("stderr")) == ("one\n", "warning")


def test_update_without_an_update_command_runs_the_create_command(plugin: Plugin) -> None:
    made = plugin.create(COMMAND, {"create": "cat", "stdin": "old"})

    assert plugin.update(made, {"create": "cat", "stdin": "new"}).output("stdout") == "new"


def test_update_with_nothing_to_run_keeps_the_outputs(plugin: Plugin) -> None:
    made = plugin.create(COMMAND, {"create": "echo created"})

    assert plugin.update(made, {"delete": "true"}).output("stdout") == "created"


def test_failure_tells_status_command_and_all_output(plugin: Plugin) -> None:
    with pytest.raises(CallError) as refused:
        run(plugin, "echo to stdout; echo to stderr >&2; exit 3", stdin=secret("stdin-secret"))

    first, *output = str(refused.value).splitlines()
    assert first == 'exit status 3: running "echo to stdout; echo to stderr >&2; exit 3":'
    assert sorted(output) == ["to stderr", "to stdout"]


def test_dir_is_where_it_runs(plugin: Plugin, tmp_path: Path) -> None:
    assert run(plugin, "pwd", dir=str(tmp_path)) == str(tmp_path)
    with pytest.raises(CallError, match="no such file or directory"):
        run(plugin, "pwd", dir=str(tmp_path / "missing"))


def test_interpreter_runs_the_command_text(plugin: Plugin) -> None:
    assert run(plugin, "text", interpreter=["echo", "-n", "given"]) == "given text"
    assert run(plugin, "echo $0", interpreter=[]) == "/bin/sh"


def test_environment_is_added_to_the_plugins_own(plugin: Plugin) -> None:
    assert run(plugin, 'echo "$A" "${PATH:+path}"', environment={"A": "a  b"}) == "a  b path"
    assert run(plugin, "echo $PATH", environment={"PATH": "/mine"}) == "/mine"


def test_the_previous_output_is_in_the_environment_of_the_next_run(plugin: Plugin) -> None:
    show = 'echo "[$PULUMI_COMMAND_STDOUT][$PULUMI_COMMAND_STDERR]"'
    inputs = {"create": f"{show}; echo warning >&2", "update": show}

    made = plugin.create(COMMAND, inputs)
    assert made.output("stdout") == "[][]"
    assert plugin.update(made, inputs).output("stdout") == "[[][]][warning]"
    assert plugin.update(made, {**inputs, "addPreviousOutputInEnv": False}).output("stdout") == "[][]"


@pytest.mark.parametrize(
    ("logging", "shown"),
    [(None, {"out", "err"}), ("stdout", {"out"}), ("stderr", {"err"}), ("none", set())],
)
def test_logging_says_what_is_shown(plugin: Plugin, logging: str | None, shown: set[str]) -> None:
    run(plugin, "echo out; echo err >&2", **({} if logging is None else {"logging": logging}))

    assert set(plugin.logged) == {Line("INFO", text, passing=True) for text in shown}


def test_assets_are_the_files_that_the_rules_select(plugin: Plugin, tmp_path: Path) -> None:
    make = "mkdir -p src/deep; echo 1 >src/a.js; echo 2 >src/deep/b.js; echo 3 >src/secret.js; echo 4 >c.txt"

    made = plugin.create(
        COMMAND,
        {
            "create": make,
            "dir": str(tmp_path),
            "assetPaths": ["src/**.js", "!**secret.*", "*.txt"],
            "archivePaths": ["src/*"],
        },
    )

    assets = made.output("assets")
    assert {name: Path(asset["path"]).read_text().strip() for name, asset in assets.items()} == {
        "src/a.js": "1",
        "src/deep/b.js": "2",
        "c.txt": "4",
    }
    assert made.output("archive")["assets"].keys() == {"src/a.js", "src/secret.js"}


def test_a_later_rule_takes_a_file_in_again(plugin: Plugin, tmp_path: Path) -> None:
    made = plugin.create(COMMAND, {"create": "touch a b", "dir": str(tmp_path), "assetPaths": ["*", "!*", "b"]})

    assert made.output("assets").keys() == {"b"}


def test_a_changed_input_is_an_update_and_triggers_replace(plugin: Plugin) -> None:
    inputs = {"create": "true", "stdin": "old", "environment": {"A": "1"}}
    made = plugin.create(COMMAND, inputs)

    assert plugin.diff(made, inputs) == {}
    assert plugin.diff(made, {**inputs, "stdin": "new"}) == {"stdin": "UPDATE"}
    assert plugin.diff(made, {**inputs, "environment": {"A": "2"}}) == {"environment.A": "UPDATE"}
    assert plugin.diff(made, {**inputs, "triggers": ["a"]}) == {"triggers": "ADD_REPLACE"}


def test_preview_runs_nothing(plugin: Plugin, tmp_path: Path) -> None:
    inputs = {"create": f"touch {tmp_path}/trace"}

    shown = plugin.create(COMMAND, inputs, preview=True)

    assert shown.output("stdout") == UNKNOWN
    assert not (tmp_path / "trace").exists()


def test_a_secret_stdin_stays_secret(plugin: Plugin) -> None:
    made = plugin.create(COMMAND, {"create": "cat >/dev/null", "stdin": secret("token")})

    assert is_secret(made.outputs["stdin"])
