"""Whether the environment can run here at all, asked before anything is touched."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from lab.toolchain import pins
from lab.toolchain.store import cache_root

DISK_GIGABYTES = 15
"""Free space that a first build takes: Go's caches 8 GB, the toolchain's own 3 GB, and room to run."""
PYTHON = (3, 11)
_OWN_CLUSTER = (
    "To use a cluster and hosts of your own instead, no root and no Linux is needed: see docs/own-cluster.md."
)


def problems(*, first_build: bool) -> list[str]:
    """What keeps the environment from being built and run here; `first_build` asks for the space that one takes."""
    findings = _check_platform()
    if first_build:
        findings += _check_disk(cache_root())
    if sys.version_info < PYTHON:
        findings.append(
            f"Python is {platform.python_version()}, and {PYTHON[0]}.{PYTHON[1]} or newer is needed: make the"
            " virtual environment with a newer one."
        )
    return findings


def _check_platform() -> list[str]:
    if platform.system() != "Linux":
        return [f"This is {platform.system()}; the embedded environment needs Linux namespaces. {_OWN_CLUSTER}"]
    findings = []
    if shutil.which("apt-get") is None or shutil.which("dpkg-query") is None:
        findings.append(
            "This Linux has no apt-get and dpkg; the embedded environment installs Debian packages and makes its"
            f" machines from them (Debian 12 is what it is tested on). {_OWN_CLUSTER}"
        )
    if os.geteuid() != 0:
        findings.append(
            "You are not root; namespaces, mounts and containers need it. Run it as root (on a machine of your"
            f" own, or in a virtual one). {_OWN_CLUSTER}"
        )
    if pins.architecture() not in ("amd64", "arm64"):
        findings.append(
            f"The processor is {platform.machine()}; Envoy is there for x86_64 and aarch64 alone. {_OWN_CLUSTER}"
        )
    return findings


def _check_disk(folder: Path) -> list[str]:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free >= DISK_GIGABYTES:
        return []
    return [
        f"{free:.0f} GB are free under {existing}, and a first build needs {DISK_GIGABYTES} GB. Free some, or set"
        " XDG_CACHE_HOME to a folder on a larger disk."
    ]
