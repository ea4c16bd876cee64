"""What a machine says of itself: the sections that hybridmesh/remote/probe.sh prints, read into facts."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from pydantic import AwareDatetime, BaseModel, ConfigDict

_SECTION = re.compile(r"^@@ ([\w-][\w.-]*(?:/[\w-][\w.-]*)?)$", re.MULTILINE)
"""A name becomes a file of a bundle, and a machine says it: none leads out of a folder."""


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Unit(_Facts):
    """A systemd unit."""

    loaded: bool
    active: str
    """`active`, `inactive`, `failed`, `activating` …"""
    sub: str
    """Such as `running` or `auto-restart`."""
    result: str
    """Why it ended: `success`, `exit-code`, `oom-kill` …"""
    restarts: int
    enabled: str
    """`enabled`, `disabled`, `masked`; empty for a unit without a file."""
    exit_status: int


class Certificate(_Facts):
    """A certificate, by what is written in it."""

    identities: tuple[str, ...]
    """URIs: the SPIFFE ids."""
    not_before: datetime
    not_after: datetime
    fingerprint: str
    """SHA-256, hexadecimal."""
    issuer: str
    subject: str


class Listener(_Facts):
    """A TCP port that something listens on."""

    address: str
    """At which address, as `ss` writes it: `*` and `0.0.0.0` are all."""
    port: int
    process: str
    """Its name; empty where it cannot be told."""


class Reach(_Facts):
    """An address and port that the machine tried to connect to, past its proxy."""

    address: str
    port: int
    result: str
    """`open`, or why not."""

    @property
    def open(self) -> bool:
        return self.result == "open"


class Disk(_Facts):
    """Room on a file system, in KiB, or in inodes."""

    path: str
    size: int
    free: int


class MachineFacts(_Facts):
    """One machine, as the probe found it."""

    clock: datetime
    units: Mapping[str, Unit]
    starting: bool
    """Whether a start that a join asked for is under way."""
    addresses: tuple[str, ...]
    """Those of its interfaces that are up, as `canonical_address` writes them."""
    accepted: tuple[str, ...]
    """Checks of a preflight whose findings do not count."""
    version: str
    """Of the sidecar package; empty where there is none."""
    joined: bool
    """Whether a join was recorded."""
    generation: str
    """What tells that join from others."""
    environment: Mapping[str, str]
    """cluster.env."""
    hosts: tuple[tuple[str, str], ...]
    """Address and name, of our block in /etc/hosts."""
    hosts_wanted: tuple[tuple[str, str], ...]
    """The same as the last join wanted it; host names may stand in the place of addresses."""
    certificate: Certificate | None
    """On its disk."""
    authorities: tuple[Certificate, ...]
    """Those that have signed that one, as far as it brings them."""
    key_mode: str
    """Mode and owner of its key, such as `600 istio-proxy`."""
    roots: tuple[Certificate, ...]
    """Of /etc/certs/root-cert.pem."""
    envoy_expiry: Mapping[str, AwareDatetime]
    """End of the certificate that Envoy uses, by identity."""
    token_expiry: datetime | None
    """End of its token; None where it has none that says so."""
    ready: bool
    """Whether the agent says that the proxy is ready."""
    rules: int
    """How many rules lead to Istio's chains; a flush leaves the chains, and not these."""
    keeps_tracking: bool
    """Whether the rule is there that keeps connection tracking on while no other asks for it."""
    listeners: tuple[Listener, ...]
    tracked: tuple[int, ...]
    """Connections that the kernel keeps in mind, and the most that it can; empty where it keeps none."""
    gateways: tuple[Reach, ...]
    handshakes: tuple[Reach, ...]
    """The same for TLS with istiod, of those that were open; `refused: …` is istiod's certificate."""
    nameservers: tuple[Reach, ...]
    mesh_name: tuple[str, ...]
    """Addresses of the name that only the mesh can resolve."""
    disks: tuple[Disk, ...]
    inodes: tuple[Disk, ...]
    read_only: tuple[str, ...]
    """Folders that must be written to, and cannot be."""
    stats: Mapping[str, str]
    """Those of Envoy's counters that are not zero and say that something is wrong."""
    outbound: Mapping[str, int]
    """Requests that its proxy sent, by Envoy cluster."""
    inbound: Mapping[int, tuple[str, ...]]
    """Hosts with ports to which Envoy sends what comes for a port, as far as it has fixed or used any, by port."""
    denied: tuple[str, ...]
    """Lines of the access log about requests that a policy refused."""
    unmatched: tuple[str, ...]
    """The same about connections of a kind that its proxy takes none of."""
    drift: tuple[str, ...]
    """What was changed by hand since the last join."""
    log: tuple[str, ...]
    """The last lines of the agent's log."""
    unread: frozenset[str]
    """Sections of the probe whose command failed, so that nothing in them says nothing."""

    def unit(self, name: str) -> Unit:
        """A unit; one that is not there is not loaded."""
        return self.units.get(name, _NO_UNIT)

    def holder(self, port: int) -> str | None:
        """Who listens on a port; None if nobody does."""
        return next((listener.process for listener in self.listeners if listener.port == port), None)

    @property
    def expiry(self) -> datetime | None:
        """End of the certificate that it has now: Envoy's, else the one on its disk."""
        if self.envoy_expiry:
            return min(self.envoy_expiry.values())
        return self.certificate.not_after if self.certificate else None


_NO_UNIT = Unit(loaded=False, active="inactive", sub="dead", result="", restarts=0, enabled="", exit_status=0)


class ProbeError(ValueError):
    """What came back is not what the probe prints."""


def sections(output: str) -> dict[str, str]:
    """The probe's sections by name. Raises ProbeError if it did not come to its end."""
    parts = _SECTION.split(output)
    found = {name: text.removeprefix("\n") for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    if "end" not in found:
        raise ProbeError(f"the probe did not come to its end, but to {next(reversed(found), 'nothing')!r}")
    return found


def facts(output: str) -> MachineFacts:
    """What the probe found. Raises ProbeError for anything that it does not print."""
    found = sections(output)
    try:
        return _facts(found)
    except Exception as error:  # a machine may say anything, and is to hold up no other
        said = " ".join(str(error).split()) or type(error).__name__
        raise ProbeError(f"the probe's answer cannot be read: {said}") from error


def _facts(found: Mapping[str, str]) -> MachineFacts:
    chain, unread = certificates(found["certificate"]), frozenset(found["unread"].split())
    return MachineFacts(
        clock=datetime.fromtimestamp(int(found["clock"]), UTC),
        units=_units(found["units"]),
        starting=bool(found["starting"].strip()),
        addresses=tuple(str(ip_address(address)) for address in found["addresses"].split()),
        accepted=tuple(found["accepted"].split()),
        version=found["version"].strip(),
        joined=found["joined"].strip() == "yes",
        generation=found["generation"].strip(),
        environment=environment(found["cluster.env"]),
        hosts=_pairs(found["hosts-block"]),
        hosts_wanted=_pairs(found["hosts-wanted"]),
        certificate=chain[0] if chain else None,
        authorities=chain[1:],
        key_mode=found["key"].strip(),
        roots=certificates(found["root-certificate"]),
        envoy_expiry=_envoy_expiry("" if "certs" in unread else found["certs"]),  # of a slow Envoy's page a part
        token_expiry=_expiry(found["claims"].strip()),
        ready=found["ready"].strip() == "yes",
        rules=len(set(re.findall(r"^-A (?:PREROUTING|OUTPUT) .*-j ISTIO_.*$", found["rules"], re.MULTILINE))),
        keeps_tracking="\n-A HYBRID_MESH " in f"\n{found['rules']}",
        listeners=_listeners(found["listeners"]),
        tracked=tuple(int(count) for count in found["tracked"].split()),
        gateways=_reached(found["gateways"]),
        handshakes=_reached(found["handshakes"]),
        nameservers=_reached(found["nameservers"]),
        mesh_name=tuple(found["mesh-name"].split()),
        disks=_disks(found["disks"]),
        inodes=_disks(found["inodes"]),
        read_only=tuple(found["read-only"].split()),
        stats=dict(line.split(": ", 1) for line in found["stats"].splitlines() if ": " in line),
        outbound=requests_by_cluster(found["outbound"]),
        inbound=_inbound(found["inbound"]),
        denied=tuple(found["denied"].splitlines()),
        unmatched=tuple(found["unmatched"].splitlines()),
        drift=drift(found["manifest-recorded"], found["manifest"]),
        log=tuple((found["agent-log"] + found["agent-errors"]).splitlines()),
        unread=unread,
    )


def environment(text: str) -> dict[str, str]:
    """cluster.env, its quotes taken off."""
    lines = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name: value.replace("'\"'\"'", "\0").strip("'").replace("\0", "'") for name, _, value in lines}


def certificates(text: str) -> tuple[Certificate, ...]:
    """The certificates of a PEM file; what cannot be read is left out."""
    if "BEGIN CERTIFICATE" not in text:
        return ()
    try:
        return tuple(_certificate(found) for found in x509.load_pem_x509_certificates(text.encode()))
    except ValueError:
        return ()


def _certificate(found: x509.Certificate) -> Certificate:
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        identities = tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
    except x509.ExtensionNotFound:
        identities = ()
    return Certificate(
        identities=identities,
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
        fingerprint=found.fingerprint(hashes.SHA256()).hex(),
        issuer=found.issuer.rfc4514_string(),
        subject=found.subject.rfc4514_string(),
    )


def drift(recorded: str, now: str) -> tuple[str, ...]:
    """What differs between two manifests of a machine, in words; nothing where none was recorded."""
    before, after = _manifest(recorded), _manifest(now)
    return tuple(
        f"{name}: {_change(before[name], after.get(name, 'unknown'))}"
        for name in before
        if before[name] != after.get(name)
    )


def _manifest(text: str) -> dict[str, str]:
    return {name: state for name, tab, state in (line.partition("\t") for line in text.splitlines()) if tab}


def _change(before: str, after: str) -> str:
    if after == "absent":
        return "removed"
    if before == "absent":
        return "added"
    content, _, mode = before.partition(" ")
    new_content, _, new_mode = after.partition(" ")
    if re.fullmatch(r"[0-9a-f]{16}", content) and re.fullmatch(r"[0-9a-f]{16}", new_content):
        changes = ["edited"] if content != new_content else []
        return " and ".join(changes + ([f"mode {new_mode}, was {mode}"] if mode != new_mode else []))
    return f"now {after or 'nothing'}, was {before or 'nothing'}"


def requests_by_cluster(clusters: str) -> dict[str, int]:
    """Requests sent, by Envoy cluster, from the /clusters of one Envoy or of several."""
    counted: Counter[str] = Counter()
    for name, count in re.findall(r"^(\S+?)::\S+::rq_total::([0-9]{1,20})$", clusters, re.MULTILINE):
        counted[name] += int(count)
    return dict(counted)  # of a Counter `asdict` makes another thing


def _units(text: str) -> dict[str, Unit]:
    found = {}
    for block in text.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "Id" in values:
            found[values["Id"]] = Unit(
                loaded=values.get("LoadState") in ("loaded", "masked"),
                active=values.get("ActiveState", ""),
                sub=values.get("SubState", ""),
                result=values.get("Result", ""),
                restarts=int(values.get("NRestarts") or 0),
                enabled=values.get("UnitFileState", ""),
                exit_status=int(values.get("ExecMainStatus") or 0),
            )
    return found


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    words = (line.split() for line in text.splitlines())
    return tuple((line[0], line[1]) for line in words if len(line) > 1)


def _envoy_expiry(text: str) -> dict[str, datetime]:
    if not text.strip():
        return {}
    found = {}
    for certificate in json.loads(text).get("certificates", []):
        for own in certificate.get("cert_chain", [])[:1]:
            for name in own.get("subject_alt_names", []):
                if "uri" in name:
                    found[name["uri"]] = datetime.fromisoformat(own["expiration_time"])
    return found


def _expiry(claims: str) -> datetime | None:
    try:
        read: Any = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return datetime.fromtimestamp(int(read["exp"]), UTC)
    except (ArithmeticError, ValueError, KeyError, TypeError):
        return None


def _listeners(text: str) -> tuple[Listener, ...]:
    found = []
    for line in text.splitlines():
        local, _, holder = line.partition(" ")
        address, _, port = local.rpartition(":")
        process = re.search(r'"([^"]+)"', holder)
        if port.isdigit():
            address = address.partition("%")[0].strip("[]")
            found.append(Listener(address=address, port=int(port), process=process[1] if process else ""))
    return tuple(found)


def _inbound(text: str) -> dict[int, tuple[str, ...]]:
    found: dict[int, tuple[str, ...]] = {}
    for port, host in re.findall(r"^inbound\|([0-9]{1,5}) (\S+)$", text, re.MULTILINE):
        found[int(port)] = found.get(int(port), ()) + ((host,) if not host.endswith("_priority") else ())
    return found


def _reached(text: str) -> tuple[Reach, ...]:
    words = (line.split(" ", 2) for line in text.splitlines())
    return tuple(Reach(address=a, port=int(p), result=r) for a, p, r in words)


def _disks(text: str) -> tuple[Disk, ...]:
    words = (line.split() for line in text.splitlines())
    return tuple(
        Disk(path=path, size=int(size), free=int(free))
        for path, size, free in words
        if free.isdigit() and size.isdigit()
    )
