"""What runs on a VM: the command texts that pulumi-command executes, and the one string they read from stdin.

A command text is constant: it carries no value, so a failure that prints it tells nothing, and two VMs run the
same text. Everything else (scripts, files, settings) travels on stdin as a payload. A VM needs nothing of ours
beforehand: the scripts are part of the payload, but for those of a join, which are brought there on their own, since
all that a join reads is in a stack's state, twice a VM. `leave.sh` undoes what any earlier version's join did.

Pure: nothing here touches a network, a clock or a process.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import shlex
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Final

import deflate

__all__ = [
    "AGENT_SCRIPTS",
    "ANOTHER_RAN",
    "ANOTHER_RAN_FIX",
    "BRING_SCRIPTS",
    "CHECKS",
    "COMMAND_AGENT",
    "COMMAND_AGENT_LEAVE",
    "COMMAND_BRING",
    "COMMAND_JOIN",
    "COMMAND_LEAVE",
    "COMMAND_PREFLIGHT",
    "COMMAND_PROBE",
    "COMMAND_READY",
    "FILES",
    "JOIN_SCRIPTS",
    "LEAVE_SCRIPTS",
    "MANIFESTS",
    "PREFLIGHT_SCRIPTS",
    "SCRIPTS_FOLDER",
    "SETTINGS",
    "STARTUP_SCRIPTS",
    "bring_payload",
    "has_run",
    "payload",
    "payload_digest",
    "probe",
    "scripts_digest",
    "startup_payload",
]

JOIN_SCRIPTS: Final = (
    "checks.sh",
    "firewall.sh",
    "join.sh",
    "leave.sh",
    "lib.sh",
    "manifest.sh",
    "ready.sh",
    "restart.sh",
    "self_units.sh",
    "switch.sh",
    "upkeep.sh",
)
"""Those of a join over SSH, which are brought to the machine before it and kept there; as they lie beside this
module."""

STARTUP_SCRIPTS: Final = (*JOIN_SCRIPTS, "boot.sh", "farewell.sh", "token.sh")
"""Those of a machine that joins by itself, all in its startup script, which has to fit into a cloud's metadata."""

PREFLIGHT_SCRIPTS: Final = ("bring.sh", "checks.sh", "filter.sh", "lib.sh", "manifest.sh", "preflight.sh")
AGENT_SCRIPTS: Final = ("agent.sh", "lib.sh")
LEAVE_SCRIPTS: Final = ("agent-leave.sh", "leave.sh", "lib.sh")
"""Those of both ways to leave."""
BRING_SCRIPTS: Final = ("bring.sh", "lib.sh")
PROBE_FUNCTIONS: Final = ("scrub", "proxy_group", "unredirected", "as_proxy", "can_connect")
"""What the probe, which comes without a payload, takes of lib.sh."""

FILES: Final = frozenset(
    {
        "cluster.env",
        "hosts",
        "istio-token",
        "kubernetes-ca.pem",
        "mesh.yaml",
        "prometheus.yml",
        "root-cert.pem",
    }
)
"""The files a payload may carry. A join needs the five bootstrap files; a machine that gets its token by itself needs
`kubernetes-ca.pem` in the place of `istio-token`; an agent needs `prometheus.yml`; leave needs none."""

SETTINGS: Final[Mapping[str, str]] = {
    "package-url": "where the istio-sidecar package is downloaded from; http, https or file",
    "package-sha256": "its SHA-256, 64 hex digits",
    **{
        f"package-{what}-{kind}": f"the same, for VMs of this kind: {kind.replace('-', ', ')}"
        for what in ("url", "sha256")
        for kind in ("deb-amd64", "deb-arm64", "rpm-amd64", "rpm-arm64")
    },
    "package-version": "its version, which the downloaded package must have; without the release of an rpm",
    "spiffe-id": "the identity that the VM's certificate must carry",
    "istio-namespace": "istiod's namespace, for the hints in failures; default istio-system",
    "ssh-port": "the port sshd listens on, which must never be redirected to Envoy; default 22",
    "download-timeout-seconds": "limit of the package's download; default 300",
    "install-timeout-seconds": "limit of each call of the package manager, waiting for its lock included; default 300",
    "ready-timeout-seconds": "limit of the wait for a ready agent; default 90",
    "boot-timeout-seconds": "limit of the wait for a ready proxy at boot, before the application's units; default 60",
    "drain-seconds": "time that open requests get before the proxy stops; default 5, 0 does not drain",
    "cpu-quota": "CPUQuota of istio.service, such as 150%; default none",
    "memory-max": "MemoryMax of istio.service, such as 512M; default none",
    "memory-high": "MemoryHigh of istio.service; default none",
    "tasks-max": "TasksMax of istio.service; default systemd's own",
    "gateway": "IP addresses and host names of the east-west gateway, words; none: nobody looks at the way to it",
    "gateway-ports": "its ports that must be reached, words; default 15012 15443",
    "gateway-timeout-seconds": "how long a preflight waits for the gateway to answer; default 30",
    "machine": "its name in the stack, for a preflight",
    "mesh-address": "the address that the mesh has of this machine; default: nobody looks for it",
    "app-ports": "ports of the application, words, which the machine's own firewall must let in; default none",
    "proxy-ports": "ports of the proxy here for other networks, words, let in by the firewall, too; default none",
    "proxy-ports-forwarded": "true if others come to them through another address or port, so that nobody knows what "
    "the firewall sees; default false",
    "dns-capture": "true if the proxy answers DNS here; default false",
    "accept": "checks of a preflight, words, whose findings do not count; default none",
    "inbound-ports": "ISTIO_INBOUND_PORTS of cluster.env, for a preflight, which has no files",
    "inbound-ports-excluded": "ISTIO_LOCAL_EXCLUDE_PORTS of cluster.env, for a preflight",
    "supported-systems": "words id:version; a system that is none of them is refused; default: any will do",
    "api-server": "https://host:port of Kubernetes, which the machine asks for its token; default: it gets one",
    "service-account": "namespace/name of the ServiceAccount that it asks for a token of",
    "identity-url": "where its cloud's metadata server says who it is: JSON with an access_token",
    "identity-header": "the header that the metadata server wants",
    "token-seconds": "how long its tokens are valid; default 3600",
    "deregister-seconds": "time between leaving istiod and draining, when the machine shuts down; with api-server",
    "app-units": "systemd units, words, that start at boot once the proxy is ready; default none",
    "agent-url": "where the archive with Prometheus, which runs as an agent, is downloaded from",
    "agent-sha256": "its SHA-256, 64 hex digits",
    "scrapers": "CIDR ranges, words, that may read metrics on the VM; default none but the VM itself",
    "cut-off-seconds": "time for istiod to take a VM out whose proxy is disconnected; default 15, 0 does not wait",
    "scripts": "scripts_digest(): those that the join runs, wherever on the VM they were brought",
    "repair": "read by nothing on the VM: changing it makes the join run again, over what was changed by hand",
    "joined": "read by nothing on the VM: it changes with each join, after which the metrics agent is looked at again",
    "join-again": "what to enter for another join, for the hints in failures",
    "token-again": "the same for another token",
    "generation": "what tells one join from another; the join writes it down, ready.sh looks for it",
}
"""The settings a payload may carry, each one line of text. The scripts hold the defaults."""

CHECKS: Final[Mapping[str, str]] = {
    "address": "the mesh address is on an interface of the VM that is up",
    "architecture": "x86_64 or aarch64",
    "clock": "not more than a minute off, by the package's server",
    "disk": "500 MiB free at /usr/local and /var/lib; nothing is read-only, and /etc/hosts can be replaced",
    "eastwest": "a route and a TCP connection to the gateway's port 15443, for calls to services of the cluster",
    "firewall": "the VM's own firewall lets the application's ports in",
    "gateway": "a route and a TCP connection to the gateway's port 15012, for certificate and configuration",
    "init": "systemd is up, and not going down; a failed unit of others is a note",
    "leftovers": "no Istio of another installation, no half user, no line of others that leads to another istiod",
    "libc": "the GNU C library, new enough for Envoy",
    "package": "the package's address answers",
    "ports": "nobody else holds a port of the proxy, nor leads one of the application's past it",
    "resolver": "the gateway's name has an address; DNS capture would see the VM's queries",
    "system": "in the table of supported systems",
    "systemd": "booted by systemd",
    "tools": "what the join needs is there, or can be installed",
}
"""What a preflight looks at and can be told to accept, each with what is good. Some findings are never accepted:
those about root, SSH (which would be cut off) and the payload."""

_SECONDS: Final = frozenset(name for name in SETTINGS if name.endswith("-seconds"))

_RESOURCES: Final = frozenset({"cpu-quota", "memory-max", "memory-high", "tasks-max"})

_PATTERNS: Final[Mapping[str, tuple[str, str]]] = {
    "api-server": (r"https://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*[A-Za-z0-9])?", "https://HOST or https://HOST:PORT"),
    "service-account": (r"[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?", "NAMESPACE/NAME"),
    "identity-url": (r"https?://[!#-\[\]-~]+", "an address without blanks, quotes and backslashes"),
    "identity-header": (r"[A-Za-z0-9-]+: [!#-\[\]-~]+", "NAME: VALUE without quotes and backslashes"),
}
"""What goes into a request of the machine's; the meaning is for the error."""

_UNIT: Final = r"[A-Za-z0-9:_.\\@-]+\.(service|target|timer)"

_IN_A_FOLDER: Final = (
    "umask 077; "
    "d=$(mktemp -d /run/hybrid-mesh.XXXXXXXX) || exit 1; "
    'trap "rm -rf $d" EXIT; trap "exit 129" HUP; trap "exit 130" INT; trap "exit 143" TERM; '
)
"""Runs as root. `exit` in a signal's trap runs the EXIT trap too, so that the directory goes on every path."""

_UNPACKED: Final = (
    f"{_IN_A_FOLDER}"
    "if ! base64 -d | tar -xzof - -C $d || ! test -f $d/settings.lines; then "
    'echo "hybrid-mesh: FAILED: the payload on stdin cannot be unpacked into /run" >&2; exit 1; fi; '
    "cd $d || exit 1; "
    'while IFS= read -r l; do printf "%s\\n" "${l#* }" >"settings/${l%% *}"; done <settings.lines || exit 1; '
)
_UNPACK: Final = f"{_UNPACKED}/bin/sh ./@SCRIPT@ </dev/null"

SCRIPTS_FOLDER: Final = "/var/lib/hybrid-mesh/scripts"
"""Where a join keeps its scripts on the machine, and what it names in the machine's manifest."""

_BROUGHT: Final = (
    f"{_UNPACKED}"
    "LC_ALL=C; export LC_ALL; "
    "for brought in /run/hybrid-mesh-scripts /var/lib/hybrid-mesh/brought /var/lib/hybrid-mesh/next "
    f"{SCRIPTS_FOLDER}; do "
    'if test "$(cat $brought/*.sh 2>/dev/null | sha256sum)" = "$(cat settings/scripts)  -"; then '
    "cp $brought/*.sh . && /bin/sh ./@SCRIPT@ </dev/null; exit; fi; done; "
    'echo "hybrid-mesh: FAILED on $(uname -n) at step start: the scripts of the join are not here, or were changed" '
    ">&2; "
    'echo "hybrid-mesh: remedy: let them be brought: $(cat settings/token-again)" >&2; exit 1'
)
"""Runs what bring.sh has laid ready, or a join has kept, byte for byte."""

_KEPT: Final = (
    f"{_IN_A_FOLDER}"
    "read -r generation _; "
    f"for kept in /var/lib/hybrid-mesh/next {SCRIPTS_FOLDER}; do "
    'if test -n "$generation" && test "$(cat $kept/settings/generation 2>/dev/null)" = "$generation"; then '
    "cp -R $kept/lib.sh $kept/@SCRIPT@ $kept/settings $d && cd $d && /bin/sh ./@SCRIPT@ </dev/null; exit; fi; done; "
    'echo "hybrid-mesh: FAILED on $(uname -n) at step start: what the stack wants was not brought here by a join, '
    'or was taken away" >&2; '
    f"again=$(cat /var/lib/hybrid-mesh/next/settings/join-again {SCRIPTS_FOLDER}/settings/join-again 2>/dev/null | "
    "head -n 1); "
    'echo "hybrid-mesh: remedy: let the join run again: '
    '${again:-pulumi up --replace, with the URN of the command NAME-join of this VM}" >&2; exit 1'
)
"""What a join has laid ready for a switch, or else what runs: whichever is of the generation that stdin names."""

_AS_ROOT: Final = (
    'if test "$(id -u)" = 0; then exec /bin/sh -c "$1" hybrid-mesh; fi; '
    "if sudo -n /bin/sh -c : </dev/null; then "
    'exec sudo -n /bin/sh -c "$1" hybrid-mesh; fi; '
    'echo "hybrid-mesh: FAILED: $(id -un) is not root on $(uname -n), and sudo -n is refused" >&2; '
    'echo "hybrid-mesh: remedy: log in as root, or allow this user NOPASSWD sudo" >&2; exit 77'
)


def _command(script: str, program: str = _UNPACK) -> str:
    """Return the text that runs `script`, of the payload on stdin unless `program` says otherwise; any login shell can
    read it.

    Both programs are single-quoted words without a quote inside, so that sh, csh and fish hand them over alike.
    """
    return f"exec /bin/sh -c '{_AS_ROOT}' hybrid-mesh '{program.replace('@SCRIPT@', script)}'"


COMMAND_BRING: Final = _command("bring.sh")
"""Brings JOIN_SCRIPTS, if they are not there; idempotent. Needs `bring_payload()`."""

COMMAND_JOIN: Final = _command("join.sh", _BROUGHT)
"""Installs, configures and starts the proxy, detached; idempotent. Needs a payload without scripts and with all five
files, and the scripts that setting `scripts` names on the machine."""

COMMAND_PREFLIGHT: Final = _command("preflight.sh")
"""Says all that would keep the machine out, at once; changes nothing. Needs settings and PREFLIGHT_SCRIPTS. With a
payload that brings JOIN_SCRIPTS it leaves those, if there is no finding."""

COMMAND_READY: Final = _command("ready.sh", _KEPT)
"""Waits until the proxy is ready; prints one JSON line. Reads one line, whose first word is the generation of the join,
whose scripts and settings it takes: `payload_digest` of the join's payload, and no secret."""

COMMAND_AGENT: Final = _command("agent.sh")
"""Runs a Prometheus agent on a member; idempotent. Needs AGENT_SCRIPTS and `prometheus.yml`, and no secret."""

COMMAND_AGENT_LEAVE: Final = _command("agent-leave.sh")
"""Undoes that, on a machine that stays; else COMMAND_LEAVE does. Needs LEAVE_SCRIPTS, and reads nothing else."""

COMMAND_LEAVE: Final = _command("leave.sh")
"""Undoes a join, a half one too. Needs LEAVE_SCRIPTS and no files; reads only `drain-seconds`."""

ANOTHER_RAN: Final = "its sshd ran something else than what it was asked to, which ended well"
ANOTHER_RAN_FIX: Final = (
    "see ForceCommand in /etc/ssh/sshd_config and command= in ~/.ssh/authorized_keys there: this user's must be neither"
)
"""What is wrong, and what to do, where a command ends with 0 and its script has not run."""

COMMAND_PROBE: Final = f"exec /bin/sh -c '{_AS_ROOT}' hybrid-mesh 'exec /bin/sh -s'"
"""Looks at the machine and changes nothing. Reads what `probe` gives; no payload, and nothing secret."""


def payload(
    files: Mapping[str, str], settings: Mapping[str, str], scripts: Sequence[str] = (), *, bring: bool = False
) -> str:
    """Return what a command reads from stdin: base64 of a compressed tar with `scripts`, `files` and `settings`.

    The same arguments give the same string on every machine: entries are sorted, times and owners are zero, and the
    compressor is a pinned one, for zlib's output differs from build to build. It is compressed because a state has
    it twice a machine, and is written as a whole after each step of the engine.
    Directories have mode 0700, everything else 0600. With `istio-token` among `files` the result is as secret as
    the token; without it, it is as public as its arguments.

    files: bootstrap files by name (see FILES), byte for byte what lands on the VM (UTF-8).
    settings: values by name (see SETTINGS), each one line. They are read as data and never evaluated.
    scripts: those that the command needs in the payload.
    bring: whether JOIN_SCRIPTS come along besides, for bring.sh, and their digest with them.
    Raises ValueError naming the entry that is unknown, of more than one line, or not a number where one is due.
    """
    entries: dict[str, bytes | None] = {**_scripts(scripts)}
    if bring:
        entries |= {"brought": None} | {f"brought/{name}": text for name, text in _scripts(JOIN_SCRIPTS).items()}
        settings = {**settings, "scripts": scripts_digest()}
    # Two members of one gzip stream: the scripts are the same for all machines, and are compressed once.
    packed = _packed(_tar_entries(entries)) if entries else b""
    packed += deflate.gzip_compress(_content(files, settings) + _END, _FAST)
    return base64.b64encode(packed).decode("ascii")


def has_run(stderr: str) -> bool:
    """Whether it is a script of a payload that wrote this: each says its steps. An sshd may run a command of its own in
    the place of any, and that end well.
    """
    return any(line.startswith("hybrid-mesh: ") for line in stderr.splitlines())


def bring_payload() -> str:
    """Return what COMMAND_BRING reads from stdin; nothing secret."""
    return payload({}, {}, BRING_SCRIPTS, bring=True)


def startup_payload() -> str:
    """Return base64 of a compressed tar with STARTUP_SCRIPTS, and nothing else."""
    return base64.b64encode(_packed(_tar_entries(_scripts(STARTUP_SCRIPTS)) + _END)).decode("ascii")


def payload_digest(files: Mapping[str, str], settings: Mapping[str, str]) -> str:
    """Return the SHA-256, in hex, of what the payload with the same arguments carries, which names its scripts.

    Safe to show: a token has far too many bits to be guessed. Raises ValueError as `payload` does.
    """
    return hashlib.sha256(_content(files, settings)).hexdigest()


def probe(mesh_name: str, *, bundle: bool = False) -> str:
    """Return what COMMAND_PROBE reads from stdin.

    mesh_name: a name that only the mesh can resolve; may be empty.
    bundle: whether whole logs and Envoy's configuration are wanted, too.
    """
    given = {"MESH_NAME": mesh_name, "BUNDLE": "yes" if bundle else "no"}
    library, script = (text.decode() for text in _scripts(("lib.sh", "probe.sh")).values())
    functions = (
        text
        for name in PROBE_FUNCTIONS
        for text in re.findall(rf"^{name}\(\) {{\n.*?^}}\n", library, re.DOTALL | re.MULTILINE)
    )
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items()) + "".join(functions) + script


def scripts_digest() -> str:
    """Return the SHA-256, in hex, of JOIN_SCRIPTS, one after the other by their names: `cat *.sh | sha256sum` in the
    folder that they were brought to. It changes when this package brings other ones.
    """
    return hashlib.sha256(b"".join(text for _, text in sorted(_scripts(JOIN_SCRIPTS).items()))).hexdigest()


MANIFESTS: Final = f"""\
echo '@@ manifest-recorded'; cat /var/lib/hybrid-mesh/manifest 2>/dev/null
echo '@@ manifest'; sh {SCRIPTS_FOLDER}/manifest.sh </dev/null 2>/dev/null
echo '@@ generation'; cat /var/lib/hybrid-mesh/generation 2>/dev/null
echo '@@ end'
"""
"""What COMMAND_PROBE may read instead: sections of the probe, what the join left, what is there now, and which join it
was."""


def _check_setting(name: str, value: str) -> None:
    if name not in SETTINGS:
        raise ValueError(f"payload: no setting {name!r}; known are {', '.join(sorted(SETTINGS))}")
    if re.search(r"[\n\r\0]", value):
        raise ValueError(f"payload: setting {name!r} has more than one line; the scripts read one")
    if name in _SECONDS and not re.fullmatch(r"[0-9]{1,5}", value):
        raise ValueError(f"payload: setting {name!r} is {value!r}; give whole seconds, 0 to 99999")
    if name in _RESOURCES and not re.fullmatch(r"[1-9][0-9]{0,11}[%KMGT]?", value):
        raise ValueError(f"payload: setting {name!r} is {value!r}; give a number with %, K, M, G, T or nothing")
    if name in _PATTERNS and not re.fullmatch(_PATTERNS[name][0], value):
        raise ValueError(f"payload: setting {name!r} is {value!r}; give {_PATTERNS[name][1]}")
    if name == "app-units" and not re.fullmatch(rf"({_UNIT}( |$))*", value):
        raise ValueError(f"payload: setting 'app-units' is {value!r}; give names of units such as shop.service")
    if name == "scrapers" and not re.fullmatch(r"([0-9a-f.:]+/[0-9]{1,3}( |$))*", value):
        raise ValueError(f"payload: setting 'scrapers' is {value!r}; give CIDR ranges such as 10.0.0.0/16")
    if name == "scripts" and not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"payload: setting 'scripts' is {value!r}; give what scripts_digest() returns")
    if name == "ssh-port" and not (re.fullmatch(r"[0-9]{1,5}", value) and 0 < int(value) < 65536):
        raise ValueError(f"payload: setting 'ssh-port' is {value!r}; give a port, 1 to 65535")


def _content(files: Mapping[str, str], settings: Mapping[str, str]) -> bytes:
    """The part of the tar that is one machine's."""
    for name in files:
        if name not in FILES:
            raise ValueError(f"payload: no file {name!r} goes to a VM; known are {', '.join(sorted(FILES))}")
    for name, value in settings.items():
        _check_setting(name, value)
    # One entry for all: each of its own is a kilobyte that is compressed, slowly, to nothing.
    lines = "".join(f"{name} {value}\n" for name, value in sorted(settings.items()))
    entries: dict[str, bytes | None] = {"files": None, "settings": None, "settings.lines": lines.encode()}
    return _tar_entries(entries | {f"files/{name}": text.encode() for name, text in files.items()})


def _scripts(names: Iterable[str]) -> dict[str, bytes]:
    return {name: _script(name) for name in names}


@functools.cache
def _script(name: str) -> bytes:
    return resources.files(__name__).joinpath(name).read_bytes()


_END: Final = bytes(2 * tarfile.BLOCKSIZE)
"""Of a tar."""


def _tar_entries(entries: Mapping[str, bytes | None]) -> bytes:
    """A tar without its end; None is a folder."""
    parts: list[bytes] = []
    for name, content in sorted(entries.items()):
        member = tarfile.TarInfo(name)  # owner, group and time are zero unless set
        if content is None:
            member.type = tarfile.DIRTYPE
            member.mode = 0o700
            parts.append(member.tobuf(tarfile.USTAR_FORMAT))
        else:
            member.mode = 0o600
            member.size = len(content)
            parts += [member.tobuf(tarfile.USTAR_FORMAT), content, bytes(-len(content) % tarfile.BLOCKSIZE)]
    return b"".join(parts)


_BEST, _FAST = 12, 9
"""libdeflate's levels: 3 % fewer bytes, in ten times the time."""


@functools.lru_cache(maxsize=8)
def _packed(scripts: bytes) -> bytes:
    return bytes(deflate.gzip_compress(scripts, _BEST))
