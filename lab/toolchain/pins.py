"""Reading the files that pin things. Every version is written once, in one of them."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from lab.toolchain.system import ARCHITECTURES

PROJECT = Path(__file__).resolve().parents[2]
TOOLS = PROJECT / "lab" / "tools"
MACHINE = PROJECT / "lab" / "machine"
IMAGES = PROJECT / "lab" / "images"
REQUIREMENTS = PROJECT / "lab" / "requirements.txt"
DEBIAN_PACKAGES = PROJECT / "lab" / "debian-packages.txt"

ISTIO_VERSION = "1.31.0"
"""What the pinned commit of Istio's 1.31 line calls itself here: in binaries, charts and the package."""
KUBERNETES_PLUGIN_VERSION = "4.25.0"
"""The release of pulumi-kubernetes that the pinned commit of its module belongs to."""
DEBIAN_SUITE = "bookworm"
"""What machines and images are made of."""
OTHER_SUITES = ("bullseye",)
"""What a machine may be made of instead; built only when asked for."""
RPM = "rpm"
"""A machine of `DEBIAN_SUITE` whose packages rpm keeps, as on Red Hat's family; built only when asked for."""
RELEASES = (DEBIAN_SUITE, *OTHER_SUITES, RPM)
"""All that a machine may be made of."""
IMAGE_TAG = "1.31"


def architecture() -> str:
    """This machine's architecture as Go and Debian call it; the kernel's name where there is none."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


def lines(path: Path) -> list[str]:
    """The lines of a list, without comments and empty ones."""
    stripped = (line.split("#", 1)[0].strip() for line in path.read_text().splitlines())
    return [line for line in stripped if line]


def go_sources(group: str) -> tuple[bytes, ...]:
    """All that pins a group of Go tools: names and bytes of go.mod, go.sum and its Go and embedded files."""
    folder = TOOLS / group
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("_test.go"))
    return tuple(part for path in files for part in (str(path.relative_to(folder)).encode(), path.read_bytes()))


def module_version(group: str, module: str) -> str:
    """The version of a module that the group's go.mod requires, such as `v1.36.3`."""
    return _only(TOOLS / group / "go.mod", rf"^(?:require)?\s+{re.escape(module)} (v\S+)", module)


def python_version(package: str, requirements: Path = REQUIREMENTS) -> str:
    """The exact version that a requirements file pins."""
    return _only(requirements, rf"^{re.escape(package)}==([^\s;\\]+)", package)


def python_requirement(package: str) -> str:
    """The requirement of a package from lab/requirements.txt, hashes included, as pip reads it."""
    return _only(REQUIREMENTS, rf"^({re.escape(package)}==(?:.*\\\n)*.*\n)", package)


def numbers(version: str) -> tuple[int, ...]:
    """A version to compare: `v1.26.8` becomes (1, 26, 8)."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _only(path: Path, pattern: str, wanted: str) -> str:
    found = re.findall(pattern, path.read_text(), re.MULTILINE)
    if not found:
        raise LookupError(f"{path} pins no version of {wanted}")
    return str(found[0])
