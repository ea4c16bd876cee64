"""A Pulumi stack on the tests' environment, driven by the CLI as a person would."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.instance import PROJECT_ROOT
from tests.environment import Lab

STACK = "dev"
GZIP = b"\x1f\x8b"


class PulumiError(Exception):
    """pulumi ended with an error; the message is all it said."""


@dataclass(frozen=True)
class Step:
    """What a preview or an update does with one resource."""

    operation: str
    urn: str
    changed: frozenset[str]
    """Names of the properties that differ."""

    @property
    def name(self) -> str:
        return self.urn.rsplit("::", 1)[1]

    @property
    def type(self) -> str:
        return self.urn.split("::")[2].rsplit("$", 1)[-1]


def steps_of(plan: dict[str, Any]) -> list[Step]:
    """What a preview would do, resources that stay the same left out."""
    return [
        Step(step["op"], step["urn"], frozenset(step.get("detailedDiff") or step.get("diffReasons") or ()))
        for step in plan["steps"]
        if step["op"] != "same" and step["op"] != "read"
    ]


class Stack:
    """The committed stack `dev`, with the tests' environment in place of a person's, and changes to its settings."""

    def __init__(self, lab: Lab, name: str = STACK) -> None:
        self.lab = lab
        self.name = name
        self.file = lab.instance.folder / f"Pulumi.{name}.yaml"
        self.restore()
        self.run("stack", "select", "--create", name)

    def restore(self) -> None:
        """Settings as committed."""
        committed = (PROJECT_ROOT / "Pulumi.dev.yaml").read_text()
        mine = str(self.lab.instance.folder.relative_to(PROJECT_ROOT))
        self.file.write_text(committed.replace(".lab/dev", mine))

    def settings(self) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load(self.file.read_text())
        return content

    def write(self, content: dict[str, Any]) -> None:
        """Settings as a whole."""
        self.file.write_text(yaml.safe_dump(content, sort_keys=False))

    def change(self, path: str, value: object) -> None:
        """Set one value; `path` such as `routing.echo.weights`. None takes it out."""
        content = self.settings()
        first, *middle, last = path.split(".")
        place: Any = content["config"]
        key = f"hybrid-mesh:{first}"
        for part in middle:
            place = place.setdefault(key, {})
            key = part
        place = place.setdefault(key, {})
        place[last] = value
        if value is None:
            del place[last]
        self.file.write_text(yaml.safe_dump(content, sort_keys=False))

    @property
    def env(self) -> dict[str, str]:
        """The environment of pulumi. With what it calls debug commands it has `--event-log`."""
        return {**self.lab.env, "PULUMI_DEBUG_COMMANDS": "true"}

    def run(
        self, *arguments: str, timeout: float = 300, env: dict[str, str] | None = None, warnings: bool = False
    ) -> str:
        """Run pulumi; returns stdout, with its warnings if asked for, and raises with stdout and stderr if it fails."""
        done = subprocess.run(
            ["pulumi", "--non-interactive", "--color=never", *arguments],
            cwd=PROJECT_ROOT,
            env={**self.env, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise PulumiError(f"pulumi {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout + done.stderr if warnings else done.stdout

    def _on_stack(
        self,
        verb: str,
        *arguments: str,
        timeout: float = 600,
        env: dict[str, str] | None = None,
        warnings: bool = False,
    ) -> str:
        settings = ("--stack", self.name, "--config-file", str(self.file))
        return self.run(verb, *settings, *arguments, timeout=timeout, env=env, warnings=warnings)

    def up(self, *options: str, env: dict[str, str] | None = None) -> str:
        """What a person reads."""
        return self._on_stack("up", "--yes", "--skip-preview", "--diff", *options, env=env, warnings=True)

    def up_in_words(self, *options: str) -> str:
        """`up` with what is said on the way, which goes to stderr where differences are shown."""
        return self._on_stack("up", "--yes", "--skip-preview", *options)

    def preview(self) -> str:
        """What a person reads."""
        return self._on_stack("preview", "--diff", "--show-full-output", warnings=True)

    def plan(self) -> dict[str, Any]:
        """A preview as Pulumi tells it to machines."""
        answer: dict[str, Any] = json.loads(self._on_stack("preview", "--json"))
        return answer

    def steps(self) -> list[Step]:
        """What a preview would do, resources that stay the same left out."""
        return steps_of(self.plan())

    def destroy(self, env: dict[str, str] | None = None) -> str:
        return self._on_stack("destroy", "--yes", "--skip-preview", env=env)

    def outputs(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.run("stack", "output", "--json", "--stack", self.name))
        return answer

    def state(self) -> str:
        """The state as it is stored, secrets encrypted."""
        return self.run("stack", "export", "--stack", self.name)

    def secret_inputs(self, machine: str) -> str:
        """What a VM's join reads on stdin, as it travels: a part out of the member that has the token."""
        exported = json.loads(self.run("stack", "export", "--show-secrets", "--stack", self.name))
        urn = f"::mesh-{machine}-join"
        text = next(r["inputs"]["stdin"] for r in exported["deployment"]["resources"] if r["urn"].endswith(urn))
        return str(json.loads(text["plaintext"]))[-400:-300]

    def kept(self) -> Iterator[tuple[Path, bytes]]:
        """What the files of whoever runs Pulumi have: backend, workspace, logs of the plugins, and Pulumi's own logs,
        which it compresses until it knows the stack's key, and encrypts from then on."""
        for folder in ("state", "pulumi-home", "log"):
            for path in (self.lab.instance.folder / folder).rglob("*"):
                if path.is_file():
                    content = path.read_bytes()
                    is_compressed = content.startswith(GZIP)
                    # One that is being written has no end yet.
                    yield (
                        path,
                        zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content) if is_compressed else content,
                    )

    def resources(self) -> list[dict[str, Any]]:
        deployment = json.loads(self.state())["deployment"]
        found: list[dict[str, Any]] = deployment.get("resources") or []
        return found


def console(
    lab: Lab, *arguments: str, check: bool = True, typed: str | None = None, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m hybridmesh` on the tests' environment.

    Args:
        typed: what a person answers.
        path: a folder of programs before all others.
    """
    return subprocess.run(
        [sys.executable, "-m", "hybridmesh", *arguments],
        cwd=PROJECT_ROOT,
        env=lab.env if path is None else {**lab.env, "PATH": f"{path}:{lab.env['PATH']}"},
        input=typed,
        capture_output=True,
        text=True,
        timeout=300,
        check=check,
    )
