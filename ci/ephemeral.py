"""A mesh of its own for a pull request: beside the one it comes from, with the control plane of that."""

from __future__ import annotations

import copy
import re
from typing import Any

PREFIX = "pr-"


class EphemeralError(Exception):
    """A stack file that no ephemeral mesh can be made of."""


def stack_name(pull_request: int) -> str:
    """The stack of a pull request's mesh."""
    return f"{PREFIX}{pull_request}"


def pull_request_of(stack: str) -> int | None:
    """The pull request that a stack belongs to; None where it is none's."""
    found = re.fullmatch(rf"{PREFIX}(\d+)", stack)
    return int(found[1]) if found else None


def ephemeral(sections: dict[str, Any], pull_request: int) -> dict[str, Any]:
    """The settings of a pull request's mesh, from those of the stack that owns the control plane.

    Istio and its gateway are adopted. Each namespace and each machine gets a name of its own. Machines that exist
    (`ssh`) are another mesh's and are left out, and with them what only they did: a workload's routing.

    Raises:
        EphemeralError: nothing is left to try.
    """
    suffix = f"-{stack_name(pull_request)}"
    made = copy.deepcopy(sections)
    for section in ("controlPlane", "gateway"):
        mine = made.setdefault(section, {})
        mine["mode"] = "adopt"
        for key in ("charts", "values", "meshId"):
            mine.pop(key, None)
    made.pop("networks", None)
    namespaces = {str(workload["namespace"]) for workload in made.get("workloads", {}).values()}
    made["namespaces"] = {
        f"{name}{suffix}": {key: value for key, value in (settings or {}).items() if key != "existing"}
        for name, settings in made.get("namespaces", {}).items()
        if name in namespaces
    }
    for key, workload in made.get("workloads", {}).items():
        workload["namespace"] = f"{workload['namespace']}{suffix}"
        _own_machines(key, workload, made, suffix)
    if not made.get("workloads"):
        raise EphemeralError("the stack file has no workloads: there would be nothing to try.")
    for access in made.get("access", {}).values():
        for rule in [*access.get("allow", []), *access.get("deny", [])]:
            rule.update(_renamed(rule, namespaces, suffix))
    return made


def _own_machines(key: str, workload: dict[str, Any], made: dict[str, Any], suffix: str) -> None:
    machines = workload.get("machines")
    if machines is None:
        return
    kept = {name: host for name, host in machines.get("hosts", {}).items() if "ssh" not in host}
    machines["hosts"] = {f"{name}{suffix}": _own_commands(name, host, suffix) for name, host in kept.items()}
    for kind in ("fleets", "instances"):
        if kind in machines:
            machines[kind] = {f"{name}{suffix}": made_by for name, made_by in machines[kind].items()}
    if any(machines.get(kind) for kind in ("hosts", "fleets", "instances")):
        return
    del workload["machines"]
    made.get("routing", {}).pop(key, None)
    if "pods" not in workload:
        del made["workloads"][key]


def _own_commands(machine: str, host: dict[str, Any], suffix: str) -> dict[str, Any]:
    """A host whose commands make another machine than the one of the stack that it comes from."""
    command = dict(host.get("command") or {})
    for verb in ("create", "delete"):
        if verb in command:
            text = re.sub(rf"(?<![\w-]){re.escape(machine)}(?![\w-])", f"{machine}{suffix}", command[verb])
            if text == command[verb]:
                raise EphemeralError(
                    f"{machine}: command.{verb} does not name the machine. A second mesh would share it. "
                    f"Fix: let the command take the name `{machine}` as a word."
                )
            command[verb] = text
    return {**host, **({"command": command} if command else {})}


def _renamed(rule: dict[str, Any], namespaces: set[str], suffix: str) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    if "namespaces" in rule:
        changed["namespaces"] = [f"{name}{suffix}" if name in namespaces else name for name in rule["namespaces"]]
    if "principals" in rule:
        changed["principals"] = [
            re.sub(r"/ns/([^/]+)/", lambda ns: f"/ns/{ns[1]}{suffix if ns[1] in namespaces else ''}/", principal)
            for principal in rule["principals"]
        ]
    return changed
