"""Killing pulumi at a chosen moment of a run, and what a stack, a cluster and a machine are like afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.instance import PROJECT_ROOT
from lab.machines import Machine
from tests.e2e.mesh import ask_kubectl, kubectl
from tests.e2e.stack import STACK, Stack
from tests.environment import Lab

LISTING = (Path(__file__).parent / "machine_listing.sh").read_text()
KILL_SECONDS = 180
_SECRET = "4dabf18193072939515e22adb298388d"
"""What marks a secret in a state."""


@dataclass(frozen=True)
class Moment:
    """The beginning or the end of what the engine does with one resource."""

    resource: str
    phase: str
    """`begins` or `ends`."""
    later: float = 0
    """Seconds after that: in the middle of what takes some."""

    def __str__(self) -> str:
        return f"{self.resource}-{self.phase}"

    def is_like(self, other: Moment) -> bool:
        return (self.resource, self.phase) == (other.resource, other.phase)


def moments(log: Path) -> Iterator[Moment]:
    """What an event log tells so far, of resources that change."""
    kinds = {"resourcePreEvent": "begins", "resOutputsEvent": "ends"}
    for line in log.read_text().rpartition("\n")[0].splitlines():
        event = json.loads(line)
        for kind, phase in kinds.items():
            if kind in event:
                metadata = event[kind]["metadata"]
                if metadata["op"] not in ("same", "read"):
                    yield Moment(metadata["urn"].rsplit("::", 1)[1], phase)


@contextmanager
def running(stack: Stack, verb: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`pulumi up` or `destroy` on its way; at the end of the block it is killed, plugins and all, if it still runs."""
    command = ["pulumi", verb, "--non-interactive", "--yes", "--skip-preview", "--stack", STACK, "--config-file"]
    with (stack.lab.instance.folder / "killed.log").open("w") as output:
        process = subprocess.Popen(
            [*command, str(stack.file), "--event-log", str(log)],
            cwd=PROJECT_ROOT,
            env=stack.env,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _kill_session(process.pid)
        process.wait(timeout=30)


def killed(stack: Stack, verb: str, until: Moment) -> bool:
    """Run `pulumi up` or `destroy` and kill it at a moment. False: it ended before that came."""
    log = stack.lab.instance.folder / "killed-events.json"
    log.write_text("")
    end = time.monotonic() + KILL_SECONDS
    with running(stack, verb, log) as process:
        while process.poll() is None:
            assert time.monotonic() < end, f"{until} did not come within {KILL_SECONDS} s"
            if any(until.is_like(moment) for moment in moments(log)):
                time.sleep(until.later)
                return process.poll() is None
            time.sleep(0.02)
    return False


def _kill_session(leader: int) -> None:
    """SIGKILL to every process of the session that `leader` began; plugins have process groups of their own."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
        except OSError:
            continue
        if session == leader:
            try:
                os.kill(int(entry.name), signal.SIGKILL)
            except ProcessLookupError:
                continue


# ---------------------------------------------------------------------- what is there


def listing_of_state(stack: Stack) -> list[str]:
    """Every resource of a stack: what it is, what it hangs on, what it was asked for. Secrets are starred out."""
    deployment = json.loads(stack.state())["deployment"]
    assert not deployment.get("pending_operations")
    found = []
    for resource in deployment.get("resources") or []:
        assert not resource.get("delete"), resource["urn"]
        assert not resource.get("initErrors"), resource["urn"]
        facts = {key: resource.get(key) for key in ("urn", "parent", "inputs", "protect", "external")}
        facts["dependencies"] = sorted(resource.get("dependencies") or [])
        facts["provider"] = (resource.get("provider") or "").rpartition("::")[0]
        found.append(json.dumps(_plain(facts), sort_keys=True))
    return sorted(found)


def _plain(value: Any) -> Any:
    """Without what differs from run to run: ciphertexts, digests of tokens and of roots, keys of machines made anew."""
    if isinstance(value, dict):
        if _SECRET in value:
            return "[secret]"
        return {key: _plain(inner) for key, inner in value.items() if key not in _OF_ONE_RUN}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return _without_keys(value)


_OF_ONE_RUN = ("joined", "stdin", "trust", "__provider", "found")
"""`found` is an input of what awaits something from the second run on, whatever the first was."""


def _without_keys(value: Any) -> Any:
    """An istiod that is installed anew makes itself a new root, and a machine that is made anew new host keys, by whose
    digests a preflight tells machines apart."""
    return _KEYS.sub("[key]", value) if isinstance(value, str) else value


_KEYS = re.compile(
    r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----|ssh-ed25519 [A-Za-z0-9+/=]+|(?<=\d )[0-9a-f]{16}(?=\")"
)


_KINDS_THAT_COME_AND_GO = {
    "events",
    "leases",
    "endpoints",
    "endpointslices",
    "pods",
    "replicasets",
    "controllerrevisions",
    "ipaddresses",
}
_NOT_ASKED_FOR = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "ownerReferences")
_VOLATILE = ("clusterIP", "clusterIPs", "nodePort", "healthCheckNodePort", "caBundle", "last-applied-configuration")


def listing_of_cluster(lab: Lab) -> list[str]:
    """Every object, with all of it that does not differ from run to run."""
    found = []
    for kind in sorted(kubectl(lab, "api-resources", "--verbs=list", "-o", "name").split()):
        if kind.split(".")[0] in _KINDS_THAT_COME_AND_GO or "metrics" in kind:
            continue
        for item in json.loads(ask_kubectl(lab, "get", kind, "-A", "-o", "json").stdout or "{}").get("items", []):
            metadata = item["metadata"]
            name = f"{kind} {metadata.get('namespace', '')}/{metadata['name']}"
            body = {key: value for key, value in item.items() if key not in ("metadata", "status")}
            if kind == "secrets":
                body = {"type": item["type"], "keys": sorted(item.get("data") or {})}
            body["labels"] = {k: v for k, v in (metadata.get("labels") or {}).items() if k != "modifiedAt"}
            found.append(f"{name} {json.dumps(_constant(body), sort_keys=True)}")
    return sorted(found)


def _constant(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _constant(inner)
            for key, inner in value.items()
            if key not in (*_NOT_ASKED_FOR, *_VOLATILE) and not str(key).endswith(_VOLATILE)
        }
    if isinstance(value, list):
        return [_constant(inner) for inner in value]
    return _without_keys(value)


_CHANGES_BY_ITSELF = re.compile(
    "|".join(
        (
            r" /etc/certs/(cert-chain|key|root-cert)\.pem$",
            r" /var/log/(istio/|hybrid-mesh\.log)",
            r" /var/lib/hybrid-mesh/(delivered/|scripts/|generation$)",
            r" /var/lib/istio/envoy/",
            r" /etc/istio/proxy/",
            r"^listener .*:(3\d{4}|4\d{4}|5\d{4}|6\d{4})$",
        )
    )
)


_SCRATCH = re.compile(r" /var/lib/hybrid-mesh/scripts/(output|pid|rules)$")
"""What a restart leaves beside the scripts."""


def listing_of_machine(machine: Machine) -> list[str]:
    """All that makes up a machine, without hashes of what its proxy writes."""
    everything = machine.ssh(["sh -s"], input_text=LISTING, timeout=120).splitlines()
    lines = [line for line in everything if not _SCRATCH.search(line)]
    return [
        re.sub(r"^file [0-9a-f]{64} ", "file ", line) if _CHANGES_BY_ITSELF.search(line) else line for line in lines
    ]


@dataclass(frozen=True)
class Everything:
    """A stack, its cluster and its machine that is not made by the stack."""

    state: list[str]
    cluster: list[str]
    machine: list[str]

    def differences(self, other: Everything) -> list[str]:
        """Lines that are in one only; empty if all is the same."""
        found = []
        for name in ("state", "cluster", "machine"):
            one, two = set(getattr(self, name)), set(getattr(other, name))
            found += [f"{name} - {line[:400]}" for line in sorted(one - two)]
            found += [f"{name} + {line[:400]}" for line in sorted(two - one)]
        return found


def everything(stack: Stack) -> Everything:
    return Everything(
        listing_of_state(stack), listing_of_cluster(stack.lab), listing_of_machine(stack.lab.machine("vm-1"))
    )
