"""The pinned tools of the embedded environment: built once, kept in the user's cache, found again by their pins.

`build()` makes what is missing, `installed()` only looks; both give a `Toolset`. See docs/embedded-tools.md.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.toolchain import debian, images, istio, monitoring, pins, pulumi
from lab.toolchain.builder import Builder
from lab.toolchain.catalogue import catalogue
from lab.toolchain.job import Artifact, BuildError
from lab.toolchain.progress import Progress
from lab.toolchain.store import Store, stamp_of
from lab.toolchain.system import check_system, explain

__all__ = [
    "BuildError",
    "Progress",
    "Sidecar",
    "ToolsMissing",
    "Toolset",
    "UnsuitableSystemError",
    "build",
    "build_machine_root",
    "build_sidecar",
    "check_system",
    "installed",
    "prune",
]


class ToolsMissing(Exception):  # noqa: N818 (what it says is what is wrong)
    """Something has not been built; the message names it and how to build it."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        super().__init__(f"not built yet: {', '.join(self.names)}; build it: python -m lab tools build")


class UnsuitableSystemError(Exception):
    """The environment cannot be built here; the message lists every reason."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """An istio-sidecar package."""

    file: Path
    version: str
    """The package's version, such as `1.31.0`."""
    sha256: str
    """Of the file, in hex."""


def build_machine_root(release: str) -> Path:
    """The root of a machine of another release than the one that everything is made of; built when asked for.

    Raises:
        BuildError: it could not be made.
    """
    name = debian.root_name(release)
    return debian.root_of(build([name]).folders[name])


@dataclass(frozen=True, slots=True)
class Toolset:
    """Where everything is. A property of something that was not asked for raises `ToolsMissing`."""

    folders: Mapping[str, Path]
    """The artifacts by name."""
    bin_dir: Path
    """One folder with every executable by its name, for PATH. Stays valid when other pins are built."""

    @property
    def charts(self) -> Path:
        """A folder with Helm's `base`, `istiod` and `gateway`, of version `pins.ISTIO_VERSION`."""
        return self._folder("istio-files") / "charts"

    @property
    def machine_root(self) -> Path:
        """The root of a Debian with systemd, sshd and the demo app: every machine's lower layer. Never write in it."""
        return debian.root_of(self._folder("machine-root"))

    @property
    def cloud_root(self) -> Path:
        """The same with Google's guest agent and without SSH, for what stands for a cloud's instances."""
        return debian.root_of(self._folder("cloud-root"))

    @property
    def images(self) -> Path:
        """All container images as one OCI archive: `ctr --namespace k8s.io images import` takes it as it is."""
        return self._folder("images") / images.ARCHIVE

    @property
    def monitoring_images(self) -> Path:
        """The images of Prometheus and of the metrics server, as `images`."""
        return self._folder("monitoring-images") / images.ARCHIVE

    @property
    def prometheus_archive(self) -> Path:
        """Prometheus as its own releases are packed, for agents on machines."""
        return self._folder("prometheus") / monitoring.ARCHIVE

    @property
    def prometheus_sha256(self) -> str:
        """The hash of `prometheus_archive`, in hex."""
        return (self._folder("prometheus") / "sha256").read_text().strip()

    @property
    def operator_crds(self) -> Path:
        """A folder with the CustomResourceDefinitions of the Prometheus operator."""
        return self._folder("prometheus-operator-crds")

    @property
    def sidecar_deb(self) -> Path:
        """The package for VMs."""
        return self._folder("sidecar-deb") / istio.file_name("deb")

    @property
    def sidecar_version(self) -> str:
        """The version of `sidecar_deb`."""
        return pins.ISTIO_VERSION

    @property
    def sidecar_sha256(self) -> str:
        """The hash of `sidecar_deb`, in hex."""
        return (self._folder("sidecar-deb") / "sha256").read_text()

    @property
    def command_plugin_is_official(self) -> bool:
        """Whether `pulumi-resource-command` is Pulumi's own, or the stand-in."""
        return pulumi.command_plugin_is_official(self._folder(pulumi.COMMAND_PLUGIN))

    def _folder(self, name: str) -> Path:
        if name not in self.folders:
            raise ToolsMissing([name])
        return self.folders[name]


def build(
    names: Iterable[str] | None = None, progress: Progress | None = None, *, store: Store | None = None
) -> Toolset:
    """Make what is missing, show how it goes, and give everything's place. With nothing missing it takes no time.

    `names` are artifacts, such as `istioctl` or `images`; default everything, the host's Debian packages
    included. `progress` defaults to stderr, `store` to the user's cache.

    Raises:
        UnsuitableSystemError: the environment cannot run here; nothing was touched. Not raised for `names` that are
            executables, which build anywhere that Go does.
        BuildError: something could not be made; the message tells what, why and where its log is.
        KeyError: there is no artifact of such a name.
    """
    everything, known, used = names is None, catalogue(), store or Store()
    wanted = _wanted(known, names)
    if any(not known[name].executables for name in wanted):
        findings = check_system()
        if findings:
            raise UnsuitableSystemError(explain(findings))
    builder = Builder(known, used, progress or Progress())
    builder.build(wanted, host_packages=everything)
    return _toolset(known, used, wanted)


def installed(names: Iterable[str] | None = None, *, store: Store | None = None) -> Toolset:
    """Everything's place, without building. `names` as in `build`.

    Raises:
        ToolsMissing: something is not there, or not in the version that is pinned now.
    """
    known, used = catalogue(), store or Store()
    wanted = _wanted(known, names)
    missing = [name for name in wanted if not used.holds(name, known[name].stamp(known))]
    if names is None and shutil.which("dpkg-query"):
        missing += [f"Debian package {package}" for package in debian.missing_packages()]
    if missing:
        raise ToolsMissing(missing)
    return _toolset(known, used, wanted)


def build_sidecar(version: str, *, family: istio.Family = "deb", broken: bool = False) -> Sidecar:
    """The package for VMs under another version, of the same content: what an upgrade is tried with.

    Args:
        broken: with an agent that ends at once, so that it installs and does not start.

    Raises:
        BuildError: it could not be made.
    """
    known = dict(catalogue())
    package = istio.sidecar(version, family=family, broken=broken)
    known[package.name] = package
    builder = Builder(known, Store(), Progress())
    builder.build([package.name], host_packages=False)
    folder = builder.folder(package.name)
    return Sidecar(folder / istio.file_name(family), version, (folder / "sha256").read_text())


def prune(*, store: Store | None = None) -> list[Path]:
    """Remove from the cache what the pins of this clone no longer name; gives the folders that were removed.

    A running environment keeps what it started from only until its next `up`. What another clone with other
    pins has built is removed too, and built again when it is needed there.
    """
    known, used = catalogue(), store or Store()
    keep = {(name, artifact.stamp(known)) for name, artifact in known.items()}
    wanted = _wanted(known, None)
    if all(used.holds(name, known[name].stamp(known)) for name in wanted):
        keep.add(("bin", _bin_stamp(known, used, wanted)))
    return used.prune(keep)


def _wanted(known: Mapping[str, Artifact], names: Iterable[str] | None) -> list[str]:
    if names is None:
        aids = {aid for artifact in known.values() for aid in artifact.aids}
        return [
            name
            for name, artifact in known.items()
            if (artifact.executables or name not in aids) and not artifact.when_asked
        ]
    wanted = list(names)
    for name in wanted:
        if name not in known:
            raise KeyError(f"no artifact is called {name!r}; there are {', '.join(known)}")
    return wanted


def _toolset(known: Mapping[str, Artifact], store: Store, wanted: list[str]) -> Toolset:
    folders = {name: store.path(name, known[name].stamp(known)) for name in wanted}
    stamp = _bin_stamp(known, store, wanted)
    with store.making("bin", stamp) as making:
        if making is not None:
            for name, folder in folders.items():
                for executable in known[name].executables:
                    _link(folder / executable, making.folder / executable)
    return Toolset(folders, store.path("bin", stamp))


def _bin_stamp(known: Mapping[str, Artifact], store: Store, wanted: list[str]) -> str:
    """Of all executables: where they come from decides the content of `bin_dir`."""
    places = (
        store.path(name, known[name].stamp(known)) / executable
        for name in sorted(wanted)
        for executable in known[name].executables
    )
    return stamp_of(f"{place} {os.path.realpath(place)}" for place in places)


def _link(source: Path, target: Path) -> None:
    """Hard links: pruning the artifact does not take the executable from an environment that runs."""
    if source.is_symlink():
        target.symlink_to(source.readlink())
    else:
        target.hardlink_to(source)
