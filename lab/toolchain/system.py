"""Whether the environment can run here at all, asked before anything is touched.

Also a program, `python3 lab/toolchain/system.py`, for before there is a virtual environment: so this file stands
on the standard library alone, and is understood by any Python that a system may have.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

DISK_GIGABYTES = 20
"""Free space that a first build takes: Go's build cache 11 GB, Go's modules 5 GB, the toolchain's own cache 2 GB,
and room to run (measured on Debian 12)."""
ROOM_GIGABYTES = 4
"""What of that is needed however much is built already."""
GO_PARTS = (
    "pilot-discovery",
    "pilot-agent",
    "istioctl",
    "istio-files",
    "pause",
    "pulumi",
    "pulumi-language-python",
    "pulumi-language-yaml",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
    "pulumi-resource-kubernetes",
    "coredns",
    "actionlint",
    "pulumi-resource-command",
    "prometheus-operator-crds",
)
"""The parts that fill Go's caches; the catalogue itself needs packages, which are not there yet."""
PROJECT = Path(__file__).resolve().parents[2]
CGROUPS = Path("/sys/fs/cgroup")
PYTHON = (3, 11)
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What the environment is built for: the kernel's name, and Go's and Debian's."""

_SPECIAL = re.compile(r"""[\s%#,:;?*\[\]"'\\$`]""")
"""What supervisord's configuration, an overlay mount, PATH or Pulumi's backend takes for something else in a path."""
_NAMESPACES = ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork"]
_ASK_SECONDS = 10.0
_OWN_CLUSTER = "To use a cluster and hosts of your own, which needs none of this, see docs/own-cluster.md."


def cache_root() -> Path:
    """Where built tools are kept: `$XDG_CACHE_HOME/hybrid-mesh`, default `~/.cache/hybrid-mesh`."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    base = Path(configured) if configured.startswith("/") else Path.home() / ".cache"
    return base / "hybrid-mesh"


def check_system() -> list[str]:
    """What keeps the environment from being built and run on this machine: some sentences each, none if it can.

    Installs and writes nothing, and starts nothing that stays. Free disk space counts until everything was built once.
    """
    if platform.system() != "Linux":
        return [f"This is {platform.system()}, and the environment needs Linux namespaces."]
    findings = []
    if shutil.which("apt-get") is None or shutil.which("dpkg-query") is None:
        findings.append(
            "This Linux has no apt-get and dpkg. The environment installs Debian packages and makes its machines"
            " of them (tested on Debian 12)."
        )
    if os.geteuid() != 0:
        findings.append(
            "You are not root, and namespaces, mounts and containers need root. Run it as root, best in a virtual"
            " machine that is yours alone."
        )
    if platform.machine() not in ARCHITECTURES:
        findings.append(
            f"The processor is {platform.machine()}. Envoy and Go come for {' and '.join(ARCHITECTURES)} alone."
        )
    if sys.version_info < PYTHON:
        findings.append(
            f"Python is {platform.python_version()}, and {'.'.join(map(str, PYTHON))} or newer is needed. Install"
            " one and have it as python3 first on PATH."
        )
    for what, path, remedy in (
        ("The project lies", PROJECT, "Move it to a folder"),
        ("The tools are kept", cache_root(), "Set XDG_CACHE_HOME to a folder"),
    ):
        special = _SPECIAL.search(str(path))
        if special:
            findings.append(
                f"{what} in {str(path)!r}, and {special.group()!r} in a path means something else to programs of the"
                f" environment, which would not start. {remedy} with letters, digits, '-', '_' and '.' alone."
            )
    if os.geteuid() == 0:  # another user may make no namespace, and his cache is not the one that will be filled
        findings += _check_namespaces() + _check_cgroups(CGROUPS) + _check_disk(cache_root())
    return findings


def _check_namespaces() -> list[str]:
    try:
        subprocess.run([*_NAMESPACES, "true"], capture_output=True, timeout=_ASK_SECONDS, check=True)
    except subprocess.CalledProcessError as problem:
        reason = problem.stderr.decode(errors="replace").strip()
    except (OSError, subprocess.TimeoutExpired) as problem:
        reason = str(problem)
    else:
        return []
    return [
        f"No namespace can be made ({reason}), and the cluster and each machine need some of their own. A container"
        " needs --privileged for that; best is a virtual machine."
    ]


def _check_cgroups(root: Path) -> list[str]:
    hierarchies = [root] if (root / "cgroup.controllers").exists() else [one for one in root.glob("*") if one.is_dir()]
    closed = [str(one) for one in hierarchies if not os.access(one, os.W_OK)]
    if hierarchies and not closed:
        return []
    what = f"{closed[0]} cannot be written to" if closed else f"There are no cgroups at {root}"
    return [
        f"{what}, and the cluster and each machine need cgroups of their own. A container needs --privileged for that;"
        " best is a virtual machine."
    ]


def _check_disk(cache: Path) -> list[str]:
    if any(cache.glob("bin/*/kubelet")):
        return []  # all was built once; what a changed pin builds anew is little
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free / 1e9
    # An interrupted first build goes on from where it was: Go's caches have what its finished parts took.
    missing = sum(not any(cache.glob(f"{part}/[0-9a-f]*")) for part in GO_PARTS)
    needed = ROOM_GIGABYTES + (DISK_GIGABYTES - ROOM_GIGABYTES) * missing / len(GO_PARTS)
    if free >= needed:
        return []
    what = "a first build" if missing == len(GO_PARTS) else "the rest of a first build"
    return [
        f"{free:.0f} GB are free at {existing}, and {what} needs {needed:.0f} GB (Go's caches, most of it). Free some,"
        " or set XDG_CACHE_HOME, GOCACHE and GOMODCACHE to folders on a larger disk."
    ]


def explain(findings: list[str]) -> str:
    """Findings as a person reads them, with what to do instead."""
    return "\n".join(["The embedded environment cannot run here.", *(f"- {one}" for one in findings), _OWN_CLUSTER])


if __name__ == "__main__":
    found = check_system()
    if found:
        sys.exit(explain(found))
