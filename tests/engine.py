"""Pulumi's real engine with a backend in a folder of its own: for programs that need no cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import toolchain
from lab.instance import PROJECT_ROOT

TOOLS = ("pulumi", "pulumi-language-python", "pulumi-resource-kubernetes")
STACK = "dev"


@dataclass(frozen=True)
class Engine:
    """A project on the real engine. `program` is copied, so that nothing is written beside it."""

    folder: Path
    path: tuple[Path, ...] = ()
    """Folders before all others on PATH."""
    tools: tuple[str, ...] = field(default=TOOLS)

    @classmethod
    def on(cls, program: Path, folder: Path, *path: Path, tools: tuple[str, ...] = TOOLS) -> Engine:
        """A copy of `program`, with a stack."""
        shutil.copytree(program, folder / "program", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "state").mkdir()
        engine = cls(folder, path, tools)
        engine.run("stack", "init", STACK)
        return engine

    @classmethod
    def of(cls, program: str, folder: Path, name: str = "machines", *, tools: tuple[str, ...] = TOOLS) -> Engine:
        """A project that is one program of Python, below `folder`, with a stack."""
        source, engine = folder / "source", folder / "engine"
        source.mkdir()
        engine.mkdir()
        (source / "Pulumi.yaml").write_text(f"name: {name}\nruntime: python\n")
        (source / "__main__.py").write_text(program)
        return cls.on(source, engine, tools=tools)

    @property
    def env(self) -> dict[str, str]:
        folders = [*self.path, PROJECT_ROOT / ".venv" / "bin", toolchain.installed(self.tools).bin_dir]
        return {
            **os.environ,
            "PATH": os.pathsep.join([*map(str, folders), os.environ["PATH"]]),
            "PULUMI_BACKEND_URL": f"file://{self.folder / 'state'}?metadata=skip",
            "PULUMI_HOME": str(self.folder / "home"),
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run pulumi in the program's folder."""
        done = subprocess.run(
            ["pulumi", "--non-interactive", "--color=never", *arguments],
            cwd=self.folder / "program",
            env=self.env,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"pulumi {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done

    def up(self, *options: str, check: bool = True) -> str:
        """What an update says; without `check`, of one that must fail."""
        done = self.run("up", "--yes", "--skip-preview", *options, check=check)
        assert check or done.returncode != 0, done.stdout
        return done.stdout + done.stderr

    def resources(self) -> list[dict[str, Any]]:
        """What is in the state."""
        found: list[dict[str, Any]] = json.loads(self.run("stack", "export").stdout)["deployment"].get("resources", [])
        return found
