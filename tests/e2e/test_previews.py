"""What a reviewer sees: typical changes, previewed on the running stack. None of them is made.

The texts are recorded in tests/e2e/previews. Those of the last run are in build/previews, to be read, and copied over
the recorded ones where the change was meant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import pytest

from hybridmesh.ops.changes import counted, readable
from lab.instance import PROJECT_ROOT
from tests.e2e.changes import CHANGES, Change, add_vm, echo
from tests.e2e.mesh import kubectl
from tests.e2e.stack import PulumiError, Stack, console, steps_of

pytestmark = pytest.mark.lab
RECORDED = PROJECT_ROOT / "tests" / "e2e" / "previews"
KEPT = PROJECT_ROOT / "build" / "previews"
SECRETS = ("PRIVATE KEY", "eyJ")
"""What a key and a token would be known by."""

TYPICAL = [
    pytest.param(change, id=change.file_name, marks=() if change.sample else pytest.mark.full) for change in CHANGES
]


@pytest.fixture(scope="module")
def running(stack: Stack) -> Stack:
    stack.restore()
    stack.up()
    return stack


@contextmanager
def changed(running: Stack, make: Callable[[dict[str, Any]], object]) -> Iterator[None]:
    """The stack's settings, for a while."""
    content = running.settings()
    prefix = "hybrid-mesh:"
    sections = {key.removeprefix(prefix): value for key, value in content["config"].items()}
    make(sections)
    running.write({**content, "config": {f"{prefix}{key}": value for key, value in sections.items()}})
    try:
        yield
    finally:
        running.restore()


def everywhere(line: str) -> str:
    """A line as it is on every environment: addresses of one, and no digests."""
    line = re.sub(r"\b10\.\d+\.(\d+\.\d+)\b", r"10.64.\1", line)
    return re.sub(r"\b[0-9a-f]{12}(…|[0-9a-f]{52}\b)", "…", line)


@pytest.mark.parametrize("change", TYPICAL)
def test_a_change_s_preview(running: Stack, change: Change) -> None:
    with changed(running, change.make):
        plan = running.plan()
    steps = [step for step in steps_of(plan) if not step.type.startswith("hybridmesh:")]
    assert {step.name: step.operation for step in steps} == {**change.steps, **change.perhaps}
    assert len(steps) == len(change.steps) + len(change.perhaps), "two resources of one name"
    text = json.dumps(plan)
    assert not [secret for secret in SECRETS if secret in text]
    shown = "".join(f"{everywhere(line).rstrip()}\n" for line in [*readable(plan), "", counted(plan)])
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{change.file_name}.txt").write_text(shown)
    assert shown == (RECORDED / f"{change.file_name}.txt").read_text(), "see the module's docstring"


def test_the_console_shows_the_same(running: Stack) -> None:
    weights = next(change for change in CHANGES if change.name == "canary weight")
    with changed(running, weights.make):
        done = console(running.lab, "preview", "--stack", running.name, "--config-file", str(running.file))
    said = "".join(f"{everywhere(line).rstrip()}\n" for line in done.stdout.splitlines())
    *lines, _, total = (RECORDED / f"{weights.file_name}.txt").read_text().splitlines()
    assert said.splitlines() == [*lines, f"{running.name}: {total}"]


@pytest.mark.full
def test_the_engine_s_own_text_has_no_secret_and_no_warning_of_ours(running: Stack) -> None:
    with changed(running, add_vm):
        text = running.preview()
    assert '"vm-3"' in text
    assert not [secret for secret in SECRETS if secret in text]
    # The environment's plugins are those on PATH, of versions of their own.
    assert not re.findall("warning: (?!using|resource plugin).*", text)


@pytest.mark.full
def test_settings_that_are_wrong_are_said_and_nothing_else_is(running: Stack) -> None:
    with changed(running, lambda sections: sections["workloads"]["echo"].update(namespace="Demo")):
        done = console(running.lab, "preview", "--stack", running.name, "--config-file", str(running.file), check=False)
    assert done.returncode == 1
    assert "workloads.echo.namespace" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.full
def test_what_an_up_that_failed_has_left_undone_is_shown_again(running: Stack) -> None:
    def change(sections: dict[str, Any]) -> None:
        echo(sections)["labels"] = {"team": "shop"}
        # Another one: what is installed already is not fetched.
        sections["sidecar"]["package"] |= {"url": "http://127.0.0.1:9/nobody.deb", "sha256": "0" * 64}

    def files() -> list[str]:
        lines = readable(running.plan())
        begin = lines.index("~ Sidecar mesh-vm-1, mesh-vm-2: Istio restarts, in turn") + 1
        found = list(takewhile(lambda line: not line.startswith("~   preflight"), lines[begin:]))
        assert any("ISTIO_METAJSON_LABELS" in line for line in found)
        return found

    with changed(running, change):
        before = files()
        with pytest.raises(PulumiError, match=r"127\.0\.0\.1:9"):
            running.up()
        assert files() == before
    running.up()
    assert steps_of(running.plan()) == []


@pytest.mark.full
def test_what_somebody_else_has_made_is_refused_before_anything_is(running: Stack) -> None:
    new = next(change for change in CHANGES if change.name == "new workload")
    kubectl(running.lab, "create", "namespace", "shop")
    try:
        with changed(running, new.make):
            place = ("--stack", running.name, "--config-file", str(running.file))
            done = console(running.lab, "preview", *place, check=False)
    finally:
        kubectl(running.lab, "delete", "namespace", "shop")
    assert done.returncode == 1
    assert "Namespace shop is in the cluster already, made by kubectl-create and not by this stack" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.full
def test_what_is_lost_is_said(running: Stack) -> None:
    with changed(running, lambda sections: echo(sections)["machines"]["hosts"]["vm-2"].update(lost=True)):
        done = console(running.lab, "preview", "--stack", running.name, "--config-file", str(running.file))
    assert "vm-2 is declared lost" in done.stdout
    assert "$PATH" not in done.stdout


def test_nothing_changed_is_nothing_to_read(running: Stack) -> None:
    plan = running.plan()
    assert steps_of(plan) == []
    assert (readable(plan), counted(plan)) == ([], "nothing changes")
