"""More versions of the sidecar's package, for trying upgrades: the same content under another version number."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab import toolchain
from lab.instance import MIRROR_PORT, Instance, LabError, run
from lab.toolchain import istio

VERSION = re.compile(r"\d+\.\d+\.\d+([+~][0-9A-Za-z.]+)?")


@dataclass(frozen=True)
class Package:
    """A package on an instance's mirror, as `hybrid-mesh:sidecar.package` names it."""

    url: str
    sha256: str
    version: str


def make(instance: Instance, version: str, *, broken: bool = False, family: istio.Family = "deb") -> Package:
    """Put the sidecar's package under another version on the instance's mirror; one that is there is taken as it is."""
    if not VERSION.fullmatch(version):
        raise LabError(f"version {version!r}: use three numbers such as 1.31.1, with +words after them if you like")
    mirror = instance.folder / "mirror" / "files"
    if not mirror.exists():
        raise LabError(f"instance {instance.name} has no mirror yet; start it: python -m lab -i {instance.name} up")
    file = mirror / f"istio-sidecar_{version}{'_broken' if broken else ''}.{family}"
    if not file.exists():
        built = toolchain.build_sidecar(version, family=family, broken=broken).file
        with tempfile.TemporaryDirectory(dir=instance.folder) as folder:
            Path(shutil.copy(built, folder)).rename(file)
    url = f"http://{instance.subnets.node}:{MIRROR_PORT}/{file.name}"
    return Package(url, run(["sha256sum", file]).split()[0], version)
