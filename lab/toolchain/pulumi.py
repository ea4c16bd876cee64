"""Pulumi's command line, its language host for Python, and the plugins of the stack."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lab.toolchain import golang, pins
from lab.toolchain.job import Artifact, BuildError, Job

SDK = "github.com/pulumi/pulumi/sdk/v3"
COMMAND_PLUGIN = "pulumi-resource-command"
OFFICIAL = "official"
"""File in the command plugin's artifact: there if it is the official one."""

_CLI = "github.com/pulumi/pulumi/pkg/v3"
_KUBERNETES = "github.com/pulumi/pulumi-kubernetes/provider/v4"
_YAML = "github.com/pulumi/pulumi-yaml"
_VERSION_VARIABLE = f"{SDK}/go/common/version.Version"
_HOST_SCRIPTS = {
    "pulumi-language-python-exec": "python/cmd/pulumi-language-python-exec",
    "pulumi-resource-pulumi-python": "python/dist/pulumi-resource-pulumi-python",
}
_DOWNLOAD_SECONDS = 60.0


def cli() -> Artifact:
    """The command line."""
    version = pins.module_version("pulumi", _CLI)
    return golang.tool(
        "pulumi",
        "pulumi",
        f"{_CLI}/cmd/pulumi",
        variables={_VERSION_VARIABLE: version},
        version_command=(["version"], rf"(?m)^{version}$"),
        seconds=170,
    )


def language_host() -> Artifact:
    """The language host for Python and the two scripts beside it.

    On PATH it counts as the pinned one if it lies beside a `pulumi` of the pinned version: it has no version
    to ask for.
    """
    group = "pulumi-language-python"
    host_version = pins.module_version(group, SDK)
    sdk_version = pins.module_version("pulumi", SDK)
    executables = (group, *_HOST_SCRIPTS)
    flags = f"-s -w -X {_VERSION_VARIABLE}={host_version}"

    def make(job: Job) -> None:
        golang.build(job, pins.TOOLS / group, f"{SDK}/python/cmd/{group}", flags, job.folder / group)
        source = golang.module_folder(job, "pulumi", SDK)
        for name, place in _HOST_SCRIPTS.items():
            shutil.copyfile(source / place, job.folder / name)
            golang.make_executable(job.folder / name)

    def beside_cli() -> list[Path]:
        found = [file.parent / name for file in cli().on_path() for name in executables]
        return found if all(os.access(file, os.X_OK) for file in found) else []

    return Artifact(
        name=group,
        pins=(*pins.go_sources(group), sdk_version, flags, pins.architecture()),
        make=make,
        seconds=20,
        executables=executables,
        aids=("go",),
        lane="go",
        on_path=beside_cli,
    )


def yaml_language_host() -> Artifact:
    """The language host for YAML, which the example of a YAML program runs with."""
    name = "pulumi-language-yaml"
    version = pins.module_version(name, _YAML)
    variables = {f"{_YAML}/pkg/version.Version": version}
    return golang.tool(name, name, f"{_YAML}/cmd/{name}", variables=variables, seconds=60)


def kubernetes_plugin() -> Artifact:
    """The Kubernetes plugin: its published module with a main of ours (lab/tools/pulumi-resource-kubernetes)."""
    name = "pulumi-resource-kubernetes"
    flags = f"-s -w -X main.version={pins.KUBERNETES_PLUGIN_VERSION}"

    def make(job: Job) -> None:
        source = golang.module_folder(job, name, _KUBERNETES) / "cmd" / name
        main = job.folder / "main"
        shutil.copytree(pins.TOOLS / name, main)
        for embedded in ("schema.json", "terraform-mapping.json"):
            shutil.copyfile(source / embedded, main / embedded)
        golang.build(job, main, ".", flags, job.folder / name)
        shutil.rmtree(main)

    return Artifact(
        name=name,
        pins=(*pins.go_sources(name), flags, pins.architecture()),
        make=make,
        seconds=265,
        executables=(name,),
        aids=("go",),
        lane="go",
    )


def command_plugin() -> Artifact:
    """The command plugin: the official one if it is installed or can be downloaded, else the stand-in.

    The stand-in (lab/tools/pulumi-resource-command) is for the embedded environment alone.
    """
    version = pins.python_version("pulumi-command", pins.PROJECT / "requirements.txt")

    def make(job: Job) -> None:
        if not _download(job, version):
            golang.build(job, pins.TOOLS / COMMAND_PLUGIN, ".", "-s -w", job.folder / COMMAND_PLUGIN)

    def installed() -> list[Path]:
        home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
        plugin = home / "plugins" / f"resource-command-v{version}" / COMMAND_PLUGIN
        return [plugin] if os.access(plugin, os.X_OK) else []

    return Artifact(
        name=COMMAND_PLUGIN,
        pins=(*pins.go_sources(COMMAND_PLUGIN), version, pins.architecture()),
        make=make,
        seconds=90,
        executables=(COMMAND_PLUGIN,),
        aids=("go", "pulumi"),
        lane="go",
        on_path=installed,
    )


def command_plugin_is_official(folder: Path) -> bool:
    """Whether that artifact is the official plugin: downloaded, or found installed."""
    return (folder / OFFICIAL).exists() or (folder / COMMAND_PLUGIN).is_symlink()


def _download(job: Job, version: str) -> bool:
    """Fetch the official plugin the official way; whether that went well."""
    home = job.folder / "home"
    try:
        job.run(
            [job.needs["pulumi"] / "pulumi", "plugin", "install", "resource", "command", version],
            env={"PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"},
            seconds=_DOWNLOAD_SECONDS,
        )
        (fetched,) = home.glob(f"plugins/resource-command-v*/{COMMAND_PLUGIN}")
    except (BuildError, ValueError):
        shutil.rmtree(home, ignore_errors=True)
        return False
    fetched.rename(job.folder / COMMAND_PLUGIN)
    shutil.rmtree(home)
    (job.folder / OFFICIAL).touch()
    return True
