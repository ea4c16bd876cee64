"""The package as another program has it: built as a wheel, installed into an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.components.harness import PROJECT_ROOT


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the package, and the checkout's nowhere on its path."""

    folder: Path
    wheel: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    def names(self) -> set[str]:
        """The files in the wheel."""
        with zipfile.ZipFile(self.wheel) as opened:
            return set(opened.namelist())

    def metadata(self) -> str:
        (name,) = [name for name in self.names() if name.endswith(".dist-info/METADATA")]
        with zipfile.ZipFile(self.wheel) as opened:
            return opened.read(name).decode()

    def python(self, program: str, cwd: Path) -> str:
        """What a program prints there."""
        done = subprocess.run(
            [str(self.bin / "python"), "-c", program],
            cwd=cwd,
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, f"pip {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built from a copy of the tracked files, as setuptools writes beside what it builds."""
    folder = tmp_path_factory.mktemp("installed")
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    source = folder / "source"
    for name in filter(None, tracked.stdout.split("\0")):
        file = PROJECT_ROOT / name
        if file.is_file() and not name.startswith(("lab/", "tests/", "docs/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(file.read_bytes())
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("hybridmesh-*.whl")
    environment = folder / "venv"
    venv.create(environment, symlinks=True)
    pip("--python", str(environment / "bin" / "python"), "install", "--no-deps", str(wheel))
    # What it depends on comes from the tests' own environment: pip would fetch the same pinned versions.
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(environment, wheel)
