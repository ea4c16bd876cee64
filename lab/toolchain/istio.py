"""What is made of Istio's module besides its binaries: the charts, and the package for VMs."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Literal

from lab.toolchain import debian, golang, pins
from lab.toolchain.job import Artifact, Job

MODULE = "istio.io/istio"
Family = Literal["deb", "rpm"]
"""What keeps a machine's packages."""
BROKEN = "#!/bin/sh\necho 'broken on purpose' >&2\nexit 3\n"
"""In the place of the agent of a package that installs and does not start."""

_CHARTS = {"base": "base", "istiod": "istio-control/istio-discovery", "gateway": "gateway"}
_EPOCH = 1788000000
"""The time that every file of the package bears: the pinned commit's week, so that equal pins give equal bytes."""
_PACK_SECONDS = 120.0

_FILES = {
    "common/istio-start.sh": ("usr/local/bin/istio-start.sh", 0o755),
    "common/istio.service": ("lib/systemd/system/istio.service", 0o644),
    "common/sidecar.env": ("var/lib/istio/envoy/sidecar.env", 0o644),
    "common/envoy_bootstrap.json": ("var/lib/istio/envoy/envoy_bootstrap_tmpl.json", 0o644),
}
"""Where the official package has what tools/packaging holds (tools/packaging/packaging.mk)."""

_SPEC, _RPMBUILD = pins.MACHINE / "sidecar.spec", pins.MACHINE / "rpmbuild.sh"

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


def file_name(family: Family) -> str:
    """The package's file in its artifact."""
    return f"istio-sidecar.{family}"


def sidecar(version: str = pins.ISTIO_VERSION, *, family: Family = "deb", broken: bool = False) -> Artifact:
    """The package for VMs, laid out as the official one: `istio-sidecar.deb` or `.rpm`, its `sha256` beside it.

    Another `version` gives a package of the same content under that version, for trying upgrades; `broken` one that
    installs and does not start.
    """
    pack = {"deb": _deb, "rpm": _rpm}[family]
    of_family: tuple[str | bytes, ...] = (_CONTROL, _CONFIG_FILES, _CHANGELOG, str(_EPOCH))
    if family == "rpm":
        of_family = (_SPEC.read_bytes(), _RPMBUILD.read_bytes())

    def make(job: Job) -> None:
        work, file = job.folder / "work", job.folder / file_name(family)
        _lay_out(job, work / "tree", broken=broken)
        pack(job, work / "tree", version, file)
        shutil.rmtree(work)
        (job.folder / "sha256").write_text(hashlib.sha256(file.read_bytes()).hexdigest())

    return Artifact(
        name=f"sidecar-{family}",
        pins=(version, *of_family, repr(_FILES), *((BROKEN,) if broken else ())),
        make=make,
        seconds=3,
        needs=("pilot-agent", "envoy", "istio-files", *((debian.RPM_ROOT,) if family == "rpm" else ())),
        when_asked=family == "rpm",
    )


def _lay_out(job: Job, tree: Path, *, broken: bool) -> None:
    """The package's files, where it installs them."""
    for part, (place, mode) in _FILES.items():
        _install(_packaging(job) / part, tree / place, mode)
    for name in ("envoy", "pilot-agent"):
        _install(job.needs[name] / name, tree / "usr/local/bin" / name, 0o755)
    if broken:
        (tree / "usr/local/bin/pilot-agent").write_text(BROKEN)


def _packaging(job: Job) -> Path:
    return job.needs["istio-files"] / "packaging"


def _rpm(job: Job, tree: Path, version: str, file: Path) -> None:
    """As rpmbuild packs it, which needs a root with rpm."""
    root = debian.root_of(job.needs[debian.RPM_ROOT])
    shutil.copyfile(_packaging(job) / "postinst.sh", tree.with_suffix(".postinst"))
    job.run([*debian.OWN_NAMESPACES, "sh", _RPMBUILD, root, _SPEC, tree.parent, version], seconds=_PACK_SECONDS)
    (made,) = (tree.parent / "RPMS").rglob("*.rpm")
    made.rename(file)


def _deb(job: Job, tree: Path, version: str, file: Path) -> None:
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
    _install(_packaging(job) / "postinst.sh", control / "postinst", 0o755)
    for folder in (tree, *(path for path in tree.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    for written in (control / "control", control / "conffiles", control / "md5sums", changelog):
        written.chmod(0o644)

    job.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, file],
        env={"SOURCE_DATE_EPOCH": str(_EPOCH)},
        seconds=_PACK_SECONDS,
    )


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
