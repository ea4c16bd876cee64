"""A mesh of its own for a pull request: beside the one it comes from, with the control plane of that."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybridmesh.settings import Finding, ReadFile, findings_in
from hybridmesh.settings.shapes import MACHINES_ONLY

PREFIX = "pr-"
_OF_THE_BASE = frozenset(("protect", "serviceAccount"))
"""Of a fleet or an instance. What Google keeps from being deleted could not go with the pull request. And who runs as
the account of the base's machines may have their tokens, and is let through by their firewall rules, as they by its."""


class EphemeralError(Exception):
    """A stack file that no ephemeral mesh can be made of."""


def stack_name(pull_request: int) -> str:
    """The stack of a pull request's mesh."""
    return f"{PREFIX}{pull_request}"


def pull_request_of(stack: str) -> int | None:
    """The pull request that a stack belongs to; None where it is none's."""
    found = re.fullmatch(rf"{PREFIX}(\d+)", stack)
    return int(found[1]) if found else None


def ephemeral(sections: dict[str, Any], pull_request: int, read_file: ReadFile) -> dict[str, Any]:
    """The settings of a pull request's mesh, from those of the stack that owns the control plane.

    Istio and its gateway are adopted. Each namespace, each machine and each host of a ServiceEntry gets a name of its
    own. Machines that exist (`ssh`) are another mesh's and are left out, and with them what only they did: a workload,
    its routing, its access, rules for it as a caller. So are networks' gateways, metrics and alerts.

    Raises:
        EphemeralError: nothing is left to try, or what is left cannot have names of its own.
    """
    # What is said of machines that are left out counts for nobody: their files need not be here.
    left_out = tuple(_existing_machines(sections))
    wrong = [finding for finding in findings_in(sections, read_file) if not finding.path.startswith(left_out)]
    _refuse("the stack file that it comes from is wrong.", wrong)
    made = copy.deepcopy(sections)
    _adopt(made)
    workloads = made.setdefault("workloads", {})
    if not workloads:
        raise EphemeralError("the stack file has no workloads: there would be nothing to try.")
    own = _Own.of(workloads, f"-{stack_name(pull_request)}")
    for key in list(workloads):
        had_machines = workloads[key].get("machines") is not None
        own.workload(f"workloads.{key}", workloads[key])
        if had_machines and "machines" not in workloads[key]:
            made.get("routing", {}).pop(key, None)
        if workloads[key].get("pods") is None and "machines" not in workloads[key]:
            del workloads[key]
    if not workloads:
        raise EphemeralError(
            "each workload has `ssh` machines alone, which are another mesh's: nothing is left to try."
        )
    own.egress("sidecar", made.get("sidecar"))
    _keep_networks(made, workloads)
    kept = {workload["namespace"] for workload in workloads.values()}
    made["namespaces"] = {
        own.name(name): {key: value for key, value in settings.items() if key != "existing"}
        for name, settings in made.get("namespaces", {}).items()
        if own.name(name) in kept
    }
    made["access"] = {
        key: access for key, access in made.get("access", {}).items() if key in workloads and own.access(key, access)
    }
    made = {section: value for section, value in made.items() if value != {}}
    _refuse("no mesh of a pull request's own can be made of the stack file.", findings_in(made, read_file))
    return made


def _refuse(what: str, findings: Sequence[Finding]) -> None:
    if findings:
        raise EphemeralError("\n".join([what, *(f"  {finding}" for finding in findings)]))


def _existing_machines(sections: dict[str, Any]) -> Iterator[str]:
    """Where the settings of machines that are reached by `ssh` begin; of what is wrong in shape, nothing."""
    workloads = sections.get("workloads")
    for key, workload in workloads.items() if isinstance(workloads, dict) else ():
        machines = workload.get("machines") if isinstance(workload, dict) else None
        hosts = machines.get("hosts") if isinstance(machines, dict) else None
        for name, host in hosts.items() if isinstance(hosts, dict) else ():
            if isinstance(host, dict) and "ssh" in host:
                yield f"workloads.{key}.machines.hosts.{name}."


def _adopt(made: dict[str, Any]) -> None:
    """Takes away what only the owner of Istio says, and what there is once in a cluster."""
    for section in ("controlPlane", "gateway"):
        mine = made.setdefault(section, {})
        mine["mode"] = "adopt"
        for key in ("charts", "values", "meshId"):
            mine.pop(key, None)
    for revision in made["controlPlane"].get("revisions", {}).values():
        for key in ("charts", "values"):
            revision.pop(key, None)
    made.pop("observability", None)


def _keep_networks(made: dict[str, Any], workloads: Mapping[str, Any]) -> None:
    """Leaves out networks in which no machine is left."""
    members = {workload.get("network"): key for key, workload in workloads.items()}
    made["networks"] = {name: network for name, network in made.get("networks", {}).items() if name in members}
    for name, network in made["networks"].items():
        if network.get("gateway") is not None:
            raise EphemeralError(
                f"workloads.{members[name]}.network: the gateway of network {name} is another mesh's. This one would "
                "have none there. Fix: a workload in the cluster's network, or in one that is `direct`; `ssh` machines "
                "are left out."
            )


@dataclass(frozen=True)
class _Own:
    """Gives names of their own to what has names of the stack that it comes from."""

    suffix: str
    namespaces: frozenset[str]
    """Those of the workloads there."""
    hosts: frozenset[str]
    """Those of the ServiceEntries there."""
    workloads: dict[str, Any]
    """Those that are left."""

    @classmethod
    def of(cls, workloads: dict[str, Any], suffix: str) -> _Own:
        namespaces = (_text(f"workloads.{key}.namespace", each["namespace"]) for key, each in workloads.items())
        hosts = (
            _text(f"workloads.{key}.service.hosts", host)
            for key, each in workloads.items()
            for host in each.get("service", {}).get("hosts", [])
        )
        return cls(suffix, frozenset(namespaces), frozenset(hosts), workloads)

    def name(self, name: str) -> str:
        return f"{name}{self.suffix}"

    def namespace(self, name: str) -> str:
        """A namespace's; that of one that is not the stack's stays."""
        return self.name(name) if name in self.namespaces else name

    def host(self, host: str) -> str:
        """A host's: by its first label, or by its namespace; that of one that is not the stack's stays."""
        if host in self.hosts:
            first, _, domain = host.partition(".")
            return f"{self.name(first)}.{domain}"
        return re.sub(r"\.([^.]+)\.svc(?=\.|$)", lambda found: f".{self.namespace(found[1])}.svc", host)

    def workload(self, path: str, workload: dict[str, Any]) -> None:
        workload["namespace"] = self.name(workload["namespace"])
        if "hosts" in workload.get("service", {}):
            workload["service"]["hosts"] = [self.host(host) for host in workload["service"]["hosts"]]
        self.egress(f"{path}.sidecar", workload.get("sidecar"))
        if workload.get("network") is not None:
            _text(f"{path}.network", workload["network"])
        if workload.get("machines") is None or self.machines(f"{path}.machines", workload["machines"]):
            return
        del workload["machines"]
        workload.pop("network", None)
        for key in MACHINES_ONLY & (workload.get("sidecar") or {}).keys():
            del workload["sidecar"][key]

    def machines(self, path: str, machines: dict[str, Any]) -> bool:
        """Whether any are left."""
        machines["hosts"] = {
            self.name(name): self.machine(f"{path}.hosts.{name}", name, host)
            for name, host in machines.get("hosts", {}).items()
            if host.get("ssh") is None and host.get("lost") is not True
        }
        for kind in ("fleets", "instances"):
            if kind in machines:
                machines[kind] = {
                    self.name(name): {key: value for key, value in made_by.items() if key not in _OF_THE_BASE}
                    for name, made_by in machines[kind].items()
                }
        return any(machines.get(kind) for kind in ("hosts", "fleets", "instances"))

    def machine(self, path: str, name: str, host: dict[str, Any]) -> dict[str, Any]:
        """A host whose commands make another machine than the one of the stack that it comes from."""
        if host.get("meshAddress") is not None:
            raise EphemeralError(
                f"{path}.meshAddress is that of one machine. A second mesh would have another one there. "
                "Fix: leave it out, and let `command.create` print the address."
            )
        command = dict(host["command"])
        for verb in ("create", "delete"):
            before = _text(f"{path}.command.{verb}", command[verb])
            command[verb] = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", self.name(name), before)
            if command[verb] == before:
                raise EphemeralError(
                    f"{path}.command.{verb} does not name the machine. A second mesh would share it. "
                    f"Fix: let the command take the name `{name}` as a word."
                )
        return {**{key: value for key, value in host.items() if key != "lost"}, "command": command}

    def egress(self, path: str, shape: dict[str, Any] | None) -> None:
        egress = (shape or {}).get("egress") or {}
        if "hosts" in egress:
            named = (_text(f"{path}.egress.hosts", entry).split("/", 1) for entry in egress["hosts"])
            egress["hosts"] = [f"{self.namespace(where)}/{self.host(host)}" for where, host in named]

    def access(self, key: str, access: dict[str, Any]) -> bool:
        """Whether it still says anything."""
        for kind in ("allow", "deny"):
            if kind in access:
                access[kind] = list(self.rules(f"access.{key}.{kind}", access[kind]))
        return bool(access.get("default") != "allow" or access.get("deny"))

    def rules(self, path: str, rules: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        """Those for anybody who is left."""
        for rule in rules:
            changed = dict(rule)
            if "from" in rule:
                changed["from"] = [name for name in rule["from"] if _text(f"{path}.from", name) in self.workloads]
            if "namespaces" in rule:
                changed["namespaces"] = [
                    self.namespace(_text(f"{path}.namespaces", name)) for name in rule["namespaces"]
                ]
            if "principals" in rule:
                changed["principals"] = [self.principal(_text(f"{path}.principals", who)) for who in rule["principals"]]
            if not changed.get("from", True):
                del changed["from"]
                if not changed.keys() & {"namespaces", "principals"}:
                    continue
            yield changed

    def principal(self, principal: str) -> str:
        return re.sub(r"/ns/([^/]+)/", lambda found: f"/ns/{self.namespace(found[1])}/", principal)


def _text(path: str, value: Any) -> str:
    if not isinstance(value, str):
        raise EphemeralError(
            f"{path} is not written out in the stack file. No name of its own could be made of it. Fix: write it there."
        )
    return value
