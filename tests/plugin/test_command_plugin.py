"""command:remote:Command, over a real SSH server. Both the official plugin and the stand-in pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.plugin import UNKNOWN, CallError, InputError, Line, Plugin, is_secret, plain, secret
from tests.plugin.sshd import ACCEPTED_VARIABLE, Sshd

pytestmark = pytest.mark.lab

COMMAND = "command:remote:Command"


def command(sshd: Sshd, **inputs: Any) -> dict[str, Any]:
    """Inputs of a Command at that server."""
    return {"connection": sshd.connection, **inputs}


def test_create_runs_the_create_command_and_keeps_both_streams(plugin: Plugin, sshd: Sshd) -> None:
    made = plugin.create(COMMAND, command(sshd, create="printf 'one\\ntwo\\n\\n'; echo warning >&2"))

    assert made.output("stdout") == "one\ntwo\n"  # exactly one newline is cut off
    assert made.output("stderr") == "warning"
    assert made.id


def test_create_without_a_create_command_opens_no_connection(plugin: Plugin, sshd: Sshd) -> None:
    before = sshd.accepted()

    made = plugin.create(COMMAND, command(sshd, delete="true"))

    assert (made.output("stdout"), made.output("stderr")) == ("", "")
    assert sshd.accepted() == before


def test_stdin_arrives_whole_and_ends(plugin: Plugin, sshd: Sshd) -> None:
    stdin = "".join(f"line {number} ü\n" for number in range(20_000))

    made = plugin.create(COMMAND, command(sshd, create="wc -c; echo read to the end", stdin=stdin))

    assert made.output("stdout").split("\n") == [str(len(stdin.encode())), "read to the end"]


def test_a_command_without_stdin_reads_an_empty_one(plugin: Plugin, sshd: Sshd) -> None:
    assert plugin.create(COMMAND, command(sshd, create="wc -c")).output("stdout") == "0"


def test_much_output_arrives_whole(plugin: Plugin, sshd: Sshd) -> None:
    create = "yes 0123456789abcde | head -c 3000000"

    made = plugin.create(COMMAND, command(sshd, create=create, logging="none"))

    assert made.output("stdout") == ("0123456789abcde\n" * 187_500)[:-1]


def test_update_runs_the_update_command_with_the_new_stdin(plugin: Plugin, sshd: Sshd) -> None:
    inputs = command(sshd, create="echo created", update="echo updated; cat", stdin="old")
    made = plugin.create(COMMAND, inputs)

    changed = plugin.update(made, {**inputs, "stdin": "new"})

    assert changed.output("stdout") == "updated\nnew"


def test_update_without_an_update_command_runs_the_create_command(plugin: Plugin, sshd: Sshd) -> None:
    inputs = command(sshd, create="cat", stdin="old")
    made = plugin.create(COMMAND, inputs)

    assert plugin.update(made, {**inputs, "stdin": "new"}).output("stdout") == "new"


def test_update_with_nothing_to_run_keeps_the_outputs(plugin: Plugin, sshd: Sshd) -> None:
    made = plugin.create(COMMAND, command(sshd, create="echo created"))
    before = sshd.accepted()

    changed = plugin.update(made, command(sshd, delete="true"))

    assert changed.output("stdout") == "created"
    assert sshd.accepted() == before


def test_delete_runs_the_delete_command_with_the_stdin_in_the_state(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    made = plugin.create(COMMAND, command(sshd, delete=f"cat >{trace}", stdin=secret("token")))

    plugin.delete(made)

    assert trace.read_text() == "token"


def test_delete_without_a_delete_command_opens_no_connection(plugin: Plugin, sshd: Sshd) -> None:
    made = plugin.create(COMMAND, command(sshd, create="true"))
    before = sshd.accepted()

    plugin.delete(made)

    assert sshd.accepted() == before


@pytest.mark.parametrize("step", ["create", "update", "delete"])
def test_failure_tells_status_command_and_all_output(plugin: Plugin, sshd: Sshd, step: str) -> None:
    failing = "echo to stdout; echo to stderr >&2; exit 3"
    inputs = command(sshd, **{step: failing})

    steps: dict[str, Callable[[], object]] = {
        "create": lambda: plugin.create(COMMAND, inputs),
        "update": lambda: plugin.update(plugin.create(COMMAND, command(sshd, create="true")), inputs),
        "delete": lambda: plugin.delete(plugin.create(COMMAND, inputs)),
    }

    with pytest.raises(CallError) as refused:
        steps[step]()

    first, *output = str(refused.value).splitlines()
    assert first == f'Process exited with status 3: running "{failing}":'
    assert sorted(output) == ["to stderr", "to stdout"]


def test_failure_by_a_signal_tells_the_signal(plugin: Plugin, sshd: Sshd) -> None:
    with pytest.raises(CallError, match="Process exited with status 143 from signal TERM: running"):
        plugin.create(COMMAND, command(sshd, create="kill -TERM $$"))


def test_failure_shows_no_secret(plugin: Plugin, sshd: Sshd) -> None:
    connection = {**sshd.connection, "password": "pass-secret"}
    inputs = {"connection": connection, "stdin": secret("stdin-secret"), "create": "cat >/dev/null; exit 1"}

    with pytest.raises(CallError) as refused:
        plugin.create(COMMAND, inputs)

    shown = str(refused.value) + str(plugin.logged)
    for hidden in ("stdin-secret", "pass-secret", sshd.private_key, sshd.private_key.splitlines()[1]):
        assert hidden not in shown


class TestDiff:
    """What Pulumi will do about changed inputs."""

    @staticmethod
    def diff(plugin: Plugin, sshd: Sshd, old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
        inputs = command(sshd, create="true", stdin="old")
        return plugin.diff(plugin.create(COMMAND, {**inputs, **old}), {**inputs, **new})

    def test_the_same_inputs_are_no_change(self, plugin: Plugin, sshd: Sshd) -> None:
        assert self.diff(plugin, sshd, {}, {}) == {}

    def test_another_stdin_is_an_update_in_place(self, plugin: Plugin, sshd: Sshd) -> None:
        assert self.diff(plugin, sshd, {}, {"stdin": "new"}) == {"stdin": "UPDATE"}

    def test_another_command_is_an_update_in_place(self, plugin: Plugin, sshd: Sshd) -> None:
        changes = self.diff(plugin, sshd, {"delete": "true"}, {"create": "false", "update": "true"})

        assert changes == {"create": "UPDATE", "update": "ADD", "delete": "DELETE"}

    def test_another_connection_is_an_update_in_place(self, plugin: Plugin, sshd: Sshd) -> None:
        other = {**sshd.connection, "dialErrorLimit": 4}

        assert self.diff(plugin, sshd, {}, {"connection": other}) == {"connection": "UPDATE"}

    def test_a_connection_newly_marked_secret_is_no_change(self, plugin: Plugin, sshd: Sshd) -> None:
        assert self.diff(plugin, sshd, {}, {"connection": secret(sshd.connection)}) == {}

    def test_added_or_removed_triggers_replace(self, plugin: Plugin, sshd: Sshd) -> None:
        assert self.diff(plugin, sshd, {}, {"triggers": ["a"]}) == {"triggers": "ADD_REPLACE"}
        assert self.diff(plugin, sshd, {"triggers": ["a"]}, {}) == {"triggers": "DELETE_REPLACE"}

    def test_a_changed_trigger_is_named_so_that_the_sdk_replaces(self, plugin: Plugin, sshd: Sshd) -> None:
        """The plugin calls it an update; the SDK's `replace_on_changes=["triggers[*]"]` makes it a replacement."""
        changes = self.diff(plugin, sshd, {"triggers": ["a", 1]}, {"triggers": ["a", {"b": 2}]})

        assert changes == {"triggers[1]": "UPDATE"}


class TestPreview:
    """A preview connects to nothing and shows what will be known only later."""

    def test_create(self, plugin: Plugin, sshd: Sshd) -> None:
        before = sshd.accepted()

        shown = plugin.create(COMMAND, command(sshd, create="echo x", stdin="text"), preview=True)

        assert plain(shown.outputs)["stdin"] == "text"
        assert (shown.output("stdout"), shown.output("stderr")) == (UNKNOWN, UNKNOWN)
        assert sshd.accepted() == before

    def test_update(self, plugin: Plugin, sshd: Sshd) -> None:
        inputs = command(sshd, create="cat", stdin="old")
        made = plugin.create(COMMAND, inputs)
        before = sshd.accepted()

        shown = plugin.update(made, {**inputs, "stdin": "new"}, preview=True)

        assert plain(shown.outputs)["stdin"] == "new"
        assert (shown.output("stdout"), shown.output("stderr")) == (UNKNOWN, UNKNOWN)
        assert sshd.accepted() == before

    def test_inputs_that_are_not_known_yet(self, plugin: Plugin, sshd: Sshd) -> None:
        connection = {**sshd.connection, "host": UNKNOWN}

        shown = plugin.create(COMMAND, {"connection": connection, "create": "cat", "stdin": UNKNOWN}, preview=True)

        assert plain(shown.outputs)["stdin"] == UNKNOWN
        assert plain(shown.outputs)["create"] == "cat"
        assert shown.output("stdout") == UNKNOWN


class TestSecrets:
    """What is marked secret in the state."""

    def test_the_connection_is_secret_without_being_marked(self, plugin: Plugin, sshd: Sshd) -> None:
        made = plugin.create(COMMAND, command(sshd, create="true"))

        assert is_secret(made.inputs["connection"])
        assert is_secret(made.outputs["connection"])

    def test_a_secret_stdin_stays_secret(self, plugin: Plugin, sshd: Sshd) -> None:
        made = plugin.create(COMMAND, command(sshd, create="cat >/dev/null", stdin=secret("token")))

        assert is_secret(made.outputs["stdin"])

    def test_output_is_plain_even_where_stdin_is_secret(self, plugin: Plugin, sshd: Sshd) -> None:
        """So a command must not print what it was given; or `additional_secret_outputs` names its outputs."""
        made = plugin.create(COMMAND, command(sshd, create="cat", stdin=secret("token")))

        assert made.outputs["stdout"] == "token"


class TestEnvironment:
    """Variables, which the server takes only where its AcceptEnv names them."""

    def test_an_accepted_variable_is_set(self, plugin: Plugin, sshd: Sshd) -> None:
        inputs = command(sshd, create=f'echo "${ACCEPTED_VARIABLE}"', environment={ACCEPTED_VARIABLE: "a  b"})

        assert plugin.create(COMMAND, inputs).output("stdout") == "a  b"

    def test_a_refused_variable_fails_and_is_named(self, plugin: Plugin, sshd: Sshd) -> None:
        with pytest.raises(CallError) as refused:
            plugin.create(COMMAND, command(sshd, create="true", environment={"REFUSED": "v"}))

        assert str(refused.value) == 'could not set environment variable "REFUSED": ssh: setenv failed'
        assert [line.severity for line in plugin.logged if "'REFUSED'" in line.text] == ["ERROR"]

    def test_refused_previous_outputs_are_a_warning(self, plugin: Plugin, sshd: Sshd) -> None:
        made = plugin.create(COMMAND, command(sshd, create="echo out; echo err >&2"))

        changed = plugin.update(made, command(sshd, create="echo again"))

        assert changed.output("stdout") == "again"
        warnings = [line.text for line in plugin.logged if line.severity == "WARNING"]
        assert len(warnings) == 2
        assert any("'PULUMI_COMMAND_STDOUT'" in text for text in warnings)
        assert any("'PULUMI_COMMAND_STDERR'" in text for text in warnings)

    def test_previous_outputs_are_not_offered_where_that_is_off(self, plugin: Plugin, sshd: Sshd) -> None:
        inputs = command(sshd, create="echo out", addPreviousOutputInEnv=False)
        made = plugin.create(COMMAND, inputs)

        plugin.update(made, {**inputs, "create": "echo again"})

        assert [line for line in plugin.logged if line.severity == "WARNING"] == []


@pytest.mark.parametrize(
    ("logging", "shown"),
    [
        (None, {"to stdout", "to stderr"}),
        ("stdoutAndStderr", {"to stdout", "to stderr"}),
        ("stdout", {"to stdout"}),
        ("stderr", {"to stderr"}),
        ("none", set()),
    ],
)
def test_logging_says_what_is_shown_but_not_what_is_kept(
    plugin: Plugin, sshd: Sshd, logging: str | None, shown: set[str]
) -> None:
    inputs = command(sshd, create="echo to stdout; echo to stderr >&2")

    made = plugin.create(COMMAND, inputs if logging is None else {**inputs, "logging": logging})

    assert set(plugin.logged) == {Line("INFO", text, passing=True) for text in shown}
    assert (made.output("stdout"), made.output("stderr")) == ("to stdout", "to stderr")


def test_a_last_line_without_an_end_is_shown(plugin: Plugin, sshd: Sshd) -> None:
    plugin.create(COMMAND, command(sshd, create="printf 'one\\r\\ntwo\\n\\nthree'"))

    assert [line.text for line in plugin.logged] == ["one", "two", "", "three"]


def test_lines_are_shown_while_the_command_runs(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    waiting = f"echo first; while [ ! -e {go_on} ]; do sleep 0.05; done; echo last"

    with ThreadPoolExecutor() as pool:
        made = pool.submit(plugin.create, COMMAND, command(sshd, create=f"timeout 30 sh -c '{waiting}'"))
        try:
            deadline = time.monotonic() + 20
            while not plugin.logged and time.monotonic() < deadline:
                time.sleep(0.02)
            shown = [line.text for line in plugin.logged]
        finally:
            go_on.touch()

    assert shown == ["first"]
    assert made.result().output("stdout") == "first\nlast"


def test_one_command_is_one_connection(plugin: Plugin, sshd: Sshd) -> None:
    before = sshd.accepted()

    plugin.create(COMMAND, command(sshd, create="true"))

    assert sshd.accepted() == before + 1


def test_many_commands_run_at_once_each_over_its_own_connection(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    """Each waits until all have started, so that they end only if none waits for another to end."""
    count = 24
    before = sshd.accepted()
    create = (
        f"touch {tmp_path}/$(cat); i=0; "
        f"while [ $(ls {tmp_path} | wc -l) -lt {count} ]; do i=$((i+1)); [ $i -lt 300 ] || exit 1; sleep 0.1; done; "
        "echo done"
    )

    with ThreadPoolExecutor(count) as pool:
        made = list(
            pool.map(lambda n: plugin.create(COMMAND, command(sshd, create=create, stdin=str(n))), range(count))
        )

    assert [resource.output("stdout") for resource in made] == ["done"] * count
    assert len({resource.id for resource in made}) == count
    assert sshd.accepted() == before + count


def test_a_custom_timeout_does_not_end_a_command_that_runs(plugin: Plugin, sshd: Sshd) -> None:
    """So a command that must end has to see to that itself, by `timeout` for one."""
    made = plugin.create(COMMAND, command(sshd, create="sleep 2; echo done"), custom_timeout=1)

    assert made.output("stdout") == "done"


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ({"connection": {"port": 22}}, "host"),
        ({"connection": {"host": "h", "hots": "h"}}, "hots"),
        ({"connection": {"host": "h"}, "creat": "true"}, "creat"),
        ({"connection": {"host": "h"}, "create": 4}, "create"),
        ({"create": "true"}, "connection"),
    ],
)
def test_inputs_outside_the_schema_are_refused_by_name(plugin: Plugin, inputs: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=rf"\b{named}\b"):
        plugin.check(COMMAND, inputs)
