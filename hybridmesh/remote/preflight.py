"""What a preflight is told and what it says: the same for the stack, which runs it, and for the console."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_FINDING = re.compile(
    r"^hybrid-mesh: finding: (?P<check>[a-z]+): (?P<value>.*); (?P<consequence>.*?) -> (?P<remedy>.*)$"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preflight:
    """What is looked at on one machine."""

    package: Mapping[str, tuple[str, str]]
    """Its URL and SHA-256 by the kind of machine; the kind is empty for all alike."""
    package_version: str
    ssh_port: int
    """Never to be redirected."""
    mesh_address: str
    """Must be on an interface; empty where nobody knows it."""
    app_ports: Sequence[int]
    """The machine's own firewall must let them in."""
    proxy_ports: Sequence[int] = ()
    """Those at which its proxy takes what comes from other networks: the firewall must let them in, too."""
    proxy_ports_forwarded: bool = False
    """Whether that comes through another address or port, so that nobody knows what the firewall sees of it."""
    cluster_env: str
    """Its `cluster.env`, for the ports that are redirected."""
    dns_capture: bool
    """Whether the proxy will answer DNS."""
    gateway: str
    """IP address or host name of the east-west gateway; empty where it is not there yet."""
    gateway_ports: Sequence[int] = (15012, 15443)
    """Those that the machine must reach."""
    gateway_seconds: int = 30
    """How long the gateway may take to answer."""
    supported_systems: str = ""
    """Words `id:version`; empty: any."""
    accept: Sequence[str] = ()
    """Checks whose findings do not count."""

    def settings(self) -> dict[str, str]:
        """This as the script reads it."""
        lines = dict(line.partition("=")[::2] for line in self.cluster_env.splitlines())
        given = {
            **package_settings(self.package),
            "package-version": self.package_version,
            "ssh-port": str(int(self.ssh_port)),
            "mesh-address": self.mesh_address,
            "app-ports": _words(sorted(set(self.app_ports))),
            "proxy-ports": _words(self.proxy_ports),
            "proxy-ports-forwarded": "true" if self.proxy_ports_forwarded else "",
            "inbound-ports": lines["ISTIO_INBOUND_PORTS"].strip("'"),
            "inbound-ports-excluded": lines["ISTIO_LOCAL_EXCLUDE_PORTS"].strip("'"),
            "dns-capture": "true" if self.dns_capture else "",
            "gateway": self.gateway,
            "gateway-ports": _words(self.gateway_ports),
            "gateway-timeout-seconds": str(self.gateway_seconds),
            "supported-systems": self.supported_systems,
            "accept": _words(sorted(self.accept)),
        }
        return {name: value for name, value in given.items() if value}


def package_settings(by_kind: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """What the scripts are told of where the package is."""
    return {
        f"package-{name}" + (f"-{kind}" if kind else ""): value
        for kind, file in by_kind.items()
        for name, value in zip(("url", "sha256"), file, strict=True)
    }


@dataclass(frozen=True, slots=True)
class Found:
    """One finding of a preflight."""

    check: str
    value: str
    consequence: str
    remedy: str


def findings_in(stderr: str) -> tuple[Found, ...]:
    """The findings among the lines that a preflight wrote."""
    matches = (_FINDING.match(line) for line in stderr.splitlines())
    return tuple(Found(m["check"], m["value"], m["consequence"], m["remedy"]) for m in matches if m is not None)


def notes_in(stderr: str) -> tuple[str, ...]:
    """What a preflight saw and did not hold against the machine."""
    mark = "hybrid-mesh: note: "
    return tuple(line.removeprefix(mark) for line in stderr.splitlines() if line.startswith(mark))


def who_in(stderr: str) -> str:
    """What tells the machine that a preflight has looked at from others, words; empty where it did not come so far."""
    mark = "hybrid-mesh: who: "
    return next((line.removeprefix(mark) for line in stderr.splitlines() if line.startswith(mark)), "")


def host_of(name: str, mesh_address: str) -> str:
    """A word that tells the host of the settings from others, as `who_in` has it of one that has joined."""
    return f"{name}@{mesh_address}" if mesh_address else ""


def twins(signs: Mapping[str, str]) -> dict[str, Found]:
    """Hosts of the settings that are the same machine as another one: those that have one of its words."""
    first: dict[str, str] = {}
    found: dict[str, Found] = {}
    for name, words in sorted(signs.items()):
        there = next((first[word] for word in words.split() if word in first), None)
        if there is not None:
            found[name] = Found(
                "machine",
                f"it is the machine that {there} is, too: both addresses lead there",
                "each of the two would take the other's place in the mesh",
                f"take {name} or {there} out of the settings, or give it the address of its own machine. If it is a "
                "copy of a member, run there: sh /var/lib/hybrid-mesh/scripts/leave.sh",
            )
        first |= {word: name for word in words.split() if word not in first}
    return found


def _words(values: Iterable[object]) -> str:
    return " ".join(map(str, values))
