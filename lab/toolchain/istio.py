"""What is made of Istio's module besides its binaries: the charts, and the package for VMs."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
from pathlib import Path

from lab.toolchain import golang, pins
from lab.toolchain.job import Artifact, Job

MODULE = "istio.io/istio"
DEB = "istio-sidecar.deb"

_CHARTS = {"base": "base", "istiod": "istio-control/istio-discovery", "gateway": "gateway"}
_EPOCH = 1788000000
"""The time that every file of the package bears: the pinned commit's week, so that equal pins give equal bytes."""
_DPKG_SECONDS = 120.0

_FILES = {
    "common/istio-start.sh": ("usr/local/bin/istio-start.sh", 0o755),
    "common/istio.service": ("lib/systemd/system/istio.service", 0o644),
    "common/sidecar.env": ("var/lib/istio/envoy/sidecar.env", 0o644),
    "common/envoy_bootstrap.json": ("var/lib/istio/envoy/envoy_bootstrap_tmpl.json", 0o644),
}
"""Where the official package has what tools/packaging holds (tools/packaging/packaging.mk)."""

_CONTROL = """\
Package: istio-sidecar
Version: {version}
License: Apache
Vendor: istio.io
Architecture: {architecture}
Maintainer: istio@istio.io
Installed-Size: {kilobytes}
Depends: iproute2, iptables, sudo, hostname
Section: default
Priority: optional
Homepage: http://istio.io
Description: Istio Sidecar
"""
"""What fpm writes for the official package, from the options in packaging.mk."""

_CONFIG_FILES = """\
/var/lib/istio/envoy/envoy_bootstrap_tmpl.json
/var/lib/istio/envoy/sidecar.env
"""

_CHANGELOG = """\
istio-sidecar ({version}) whatever; urgency=medium

  * Package created with FPM.

 -- istio@istio.io
"""


def files() -> Artifact:
    """Parts of the module: `charts/{base,istiod,gateway}` and `packaging`."""

    def make(job: Job) -> None:
        source = golang.module_folder(job, "istio", MODULE)
        shutil.copytree(source / "tools" / "packaging", job.folder / "packaging")
        for name, place in _CHARTS.items():
            shutil.copytree(source / "manifests" / "charts" / place, job.folder / "charts" / name)
        for parent, folders, names in os.walk(job.folder):  # the module cache is read-only
            for name in folders:
                Path(parent, name).chmod(0o755)
            for name in names:
                Path(parent, name).chmod(0o644)
        for name in _CHARTS:
            _set_chart_version(job.folder / "charts" / name / "Chart.yaml")

    return Artifact(
        name="istio-files",
        pins=(*pins.go_sources("istio"), pins.ISTIO_VERSION, *_CHARTS, *_CHARTS.values()),
        make=make,
        seconds=15,
        aids=("go",),
        lane="go",
    )


def sidecar(version: str = pins.ISTIO_VERSION) -> Artifact:
    """The Debian package for VMs, laid out as the official one: `istio-sidecar.deb`, its `sha256` beside it.

    Another `version` gives a package of the same content under that version, for trying upgrades.
    """

    def make(job: Job) -> None:
        _pack(job, version)
        digest = hashlib.sha256((job.folder / DEB).read_bytes()).hexdigest()
        (job.folder / "sha256").write_text(digest)

    return Artifact(
        name="sidecar-deb",
        pins=(version, _CONTROL, _CONFIG_FILES, _CHANGELOG, str(_EPOCH), repr(_FILES)),
        make=make,
        seconds=3,
        needs=("pilot-agent", "envoy", "istio-files"),
    )


def _pack(job: Job, version: str) -> None:
    tree = job.folder / "tree"
    packaging = job.needs["istio-files"] / "packaging"
    for part, (place, mode) in _FILES.items():
        _install(packaging / part, tree / place, mode)
    for name in ("envoy", "pilot-agent"):
        _install(job.needs[name] / name, tree / "usr/local/bin" / name, 0o755)
    changelog = tree / "usr/share/doc/istio-sidecar/changelog.gz"
    changelog.parent.mkdir(parents=True)
    changelog.write_bytes(gzip.compress(_CHANGELOG.format(version=version).encode(), mtime=0))

    contents = sorted(path for path in tree.rglob("*") if path.is_file())
    control = tree / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        _CONTROL.format(
            version=version,
            architecture=pins.architecture(),
            kilobytes=sum(-(-path.stat().st_size // 1024) for path in contents),
        )
    )
    (control / "conffiles").write_text(_CONFIG_FILES)
    (control / "md5sums").write_text(
        "".join(f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n" for path in contents)
    )
    _install(packaging / "postinst.sh", control / "postinst", 0o755)
    for folder in (tree, *(path for path in tree.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    for file in (control / "control", control / "conffiles", control / "md5sums", changelog):
        file.chmod(0o644)

    job.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, job.folder / DEB],
        env={"SOURCE_DATE_EPOCH": str(_EPOCH)},
        seconds=_DPKG_SECONDS,
    )
    shutil.rmtree(tree)


def _install(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)
    os.utime(target, (_EPOCH, _EPOCH))


def _set_chart_version(chart: Path) -> None:
    """Do what Istio's release builder does to the placeholder of a chart's versions."""
    text, count = re.subn(r"(?m)^(version|appVersion): .*$", rf"\1: {pins.ISTIO_VERSION}", chart.read_text())
    if count != 2:
        raise ValueError(f"{chart} has no version and appVersion to set")
    chart.write_text(text)
