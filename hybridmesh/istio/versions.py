"""Which versions of istiod, sidecar and operating system go together: the one table, and how it is read.

Sources: [1] Istio's supported releases, "Control Plane/Data Plane Skew" (istio.io/docs/releases/supported-releases):
istiod may be one minor version ahead of a sidecar, a sidecar never ahead of istiod. [2] tools/docker.yaml of
istio.io/istio 1.31: the systems that Istio tests its packages on (`app_sidecar_*`), with the oldest and the newest.
[3] tools/packaging/packaging.mk of the same: the two kinds of package. [4] This repository's tests.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["istiod", "sidecar", "system"]
_MINOR = re.compile(r"(\d+)\.(\d+)(?:[.~+-].*)?")


@dataclass(frozen=True)
class Release:
    """One minor version of istiod."""

    istiod: str
    """Minor version, such as `1.31`."""
    sidecars: tuple[str, ...]
    """Minor versions of sidecars that it may serve [1]."""
    evidence: str
    """Why it is here."""


@dataclass(frozen=True)
class System:
    """An operating system that the sidecar's package is for."""

    name: str
    """As people call it."""
    id: str
    """`ID` of its /etc/os-release."""
    version: str
    """`VERSION_ID` there; where that has a dot, also its part before it."""
    package: Literal["deb", "rpm"]
    """Which package [3]."""
    evidence: str
    """Why it is here."""


@dataclass(frozen=True)
class Objection:
    """What is outside the table."""

    kind: Kind
    problem: str
    """What it is, to follow the version in a sentence."""
    consequence: str
    """What may break with it."""
    fix: str
    """What the table has instead."""


RELEASES: Final = (
    Release("1.31", ("1.31", "1.30"), "the end-to-end tests run istiod and sidecar 1.31 [4]; skew [1]"),
    Release("1.30", ("1.30", "1.29"), "has every API and file that is used here; not run by the tests; skew [1]"),
)
SYSTEMS: Final = (
    System(
        "Debian 13",
        "debian",
        "13",
        "deb",
        "join, proxy and leaving were run on one by hand, with no mesh around it; newer than Istio tests [2]",
    ),
    System("Debian 12", "debian", "12", "deb", "the end-to-end tests' VMs [4]; Istio's tests [2]"),
    System(
        "Debian 11",
        "debian",
        "11",
        "deb",
        "a VM of it joins, serves and leaves in a test [4]; older than Istio tests [2]",
    ),
    System("Ubuntu 24.04", "ubuntu", "24.04", "deb", "Istio's tests [2]"),
    System("Ubuntu 22.04", "ubuntu", "22.04", "deb", "between 18.04 and 24.04, Istio's oldest and newest [2]"),
    System("Rocky Linux 9", "rocky", "9", "rpm", "Istio's tests [2]"),
    System("Red Hat Enterprise Linux 9", "rhel", "9", "rpm", "binary compatible with Rocky Linux 9 [2]"),
    System("AlmaLinux 9", "almalinux", "9", "rpm", "binary compatible with Rocky Linux 9 [2]"),
    System("CentOS Stream 9", "centos", "9", "rpm", "what Rocky Linux 9 is made of [2]"),
)
MAY_BREAK: Final[dict[Kind, str]] = {
    "istiod": "Files that VMs get, objects and istiod's debug pages may differ: VMs may not join, or `up` may not see "
    "that they did.",
    "sidecar": "The sidecar may refuse configuration that istiod sends, or lack what a policy needs: requests may fail "
    "or go unprotected.",
    "system": "The package may not install, or the proxy not start (C library, iptables): the VM may not join, or not "
    "after its next update.",
}
"""What each exception from the table may cost."""


def systems_line() -> str:
    """The systems as the scripts on a VM read them: `id:version` words."""
    return " ".join(f"{system.id}:{system.version}" for system in SYSTEMS)


def objections(istiod: str, sidecar: str | None) -> Iterator[Objection]:
    """What is outside the table. `sidecar`: the package's version; None where no VM has one."""
    release = next((r for r in RELEASES if r.istiod == minor(istiod)), None)
    if release is None:
        yield Objection(
            "istiod",
            f"is not in the table of supported versions ({_list(r.istiod for r in RELEASES)})",
            MAY_BREAK["istiod"],
            f"one of {_list(r.istiod for r in RELEASES)}",
        )
    if sidecar is None:
        return
    fits = release.sidecars if release is not None else _skew(minor(istiod))
    if minor(sidecar) not in fits:
        yield Objection(
            "sidecar", f"{_relation(istiod, sidecar)} istiod {istiod}", MAY_BREAK["sidecar"], f"one of {_list(fits)}"
        )


def minor(version: str) -> str:
    """`1.31` of `1.31.0` or `1.31.0-1.el9`; empty for what is no version."""
    found = _MINOR.fullmatch(version)
    return f"{found[1]}.{found[2]}" if found else ""


def markdown() -> str:
    """The table as docs/versions.md shows it."""
    lines = ["| istiod | sidecars | why |", "| --- | --- | --- |"]
    lines += [f"| {r.istiod} | {_list(r.sidecars)} | {r.evidence} |" for r in RELEASES]
    lines += ["", "| system | `ID`, `VERSION_ID` | package | why |", "| --- | --- | --- | --- |"]
    lines += [f"| {s.name} | `{s.id}`, `{s.version}` | {s.package} | {s.evidence} |" for s in SYSTEMS]
    lines += ["", "| `versions.accept` | what may break |", "| --- | --- |"]
    lines += [f"| `{kind}` | {text} |" for kind, text in MAY_BREAK.items()]
    return "\n".join(lines) + "\n"


def _skew(istiod: str) -> tuple[str, ...]:
    if not istiod:
        return ()
    major, number = istiod.split(".")
    return tuple(f"{major}.{n}" for n in (int(number), int(number) - 1) if n >= 0)


def _relation(istiod: str, sidecar: str) -> str:
    ours, theirs = _numbers(sidecar), _numbers(istiod)
    if not ours or not theirs:
        return "cannot be compared with"
    return "is newer than" if ours > theirs else "is more than one minor version older than"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in minor(version).split(".") if part)


def _list(versions: Iterable[str]) -> str:
    return ", ".join(versions)


if __name__ == "__main__":
    print(markdown(), end="")
