"""The installed package: one name, whole, and with its dependencies pinned."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.components.harness import PROJECT_ROOT
from tests.examples.conftest import Installed

PACKAGES = ("hybridmesh", "components")


def test_it_has_every_file_of_the_packages_under_one_name(installed: Installed) -> None:
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    wanted = {
        name if name.startswith("hybridmesh/") else f"hybridmesh/{name}"
        for name in listed.stdout.split()
        if (PROJECT_ROOT / name).exists()
    }
    # A folder that is missing belongs into pyproject.toml's `packages`, a kind of file into its `package-data`.
    assert wanted - installed.names() == set()
    assert {name.partition("/")[0] for name in installed.names()} == {"hybridmesh", "hybridmesh-0.1.0.dist-info"}


def test_it_tells_type_checkers_that_it_has_types(installed: Installed) -> None:
    """Else `mypy --strict` refuses the import, and all that a program of one's own takes from it is Any (PEP 561)."""
    assert "hybridmesh/py.typed" in installed.names()


def test_its_dependencies_are_the_program_s(installed: Installed) -> None:
    pinned = {
        line.split("#")[0].strip()
        for line in (PROJECT_ROOT / "requirements.txt").read_text().splitlines()
        if line.split("#")[0].strip()
    }
    lines = installed.metadata().splitlines()
    assert {line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")} == pinned


@pytest.mark.lab
def test_it_comes_from_the_environment_and_offers_every_component(installed: Installed, tmp_path: Path) -> None:
    said = installed.python(
        "import hybridmesh.components as c, hybridmesh.components.plugin; print(c.__file__, len(c.__all__))", tmp_path
    )
    file, count = said.split()
    assert Path(file).is_relative_to(installed.folder)
    import components

    assert int(count) == len(components.__all__)


@pytest.mark.lab
def test_its_console_runs(installed: Installed, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(installed.bin / "hybridmesh"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "status" in done.stdout
