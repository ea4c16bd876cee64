"""Machines that are gone for good, as `hosts.<machine>.lost` declares them: docs/leaving.md."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from hybridmesh.istio.nested import at

from .findings import NAMESPACE, Finding
from .models import Host, Machines, Network, NetworkGateway, Settings, Workload

STACK_FILE_VARIABLE = "HYBRID_MESH_STACK_FILE"
"""Names the stack file where that is not `Pulumi.<stack>.yaml`, as with `pulumi --config-file`."""


def present(settings: Settings) -> Settings:
    """The settings without the machines that are declared lost."""
    workloads = {name: _workload(workload) for name, workload in settings.workloads.items()}
    networks = {name: _network(network) for name, network in settings.networks.items()}
    return settings.model_copy(update={"workloads": workloads, "networks": networks})


def lost_machines(settings: Settings) -> dict[str, str]:
    """Where each lost machine is declared so, by its name."""
    found = {}
    for section, kind in (("workloads", "machines"), ("networks", "gateway")):
        for name, entry in getattr(settings, section).items():
            part: Machines | NetworkGateway | None = getattr(entry, kind)
            for machine, host in (part.hosts if part else {}).items():
                if host.gone:
                    found[machine] = f"{section}.{name}.{kind}.hosts.{machine}.lost"
    return found


def declarations(settings: Settings) -> dict[str, bool | list[str]]:
    """What is declared lost, by the machine's name: the machine itself, or addresses that it had."""
    return {
        machine: host.lost if isinstance(host.lost, bool) else list(host.lost)
        for machine, host in settings.hosts.items()
        if host.lost
    }


def check_lost(path: str, host: Host) -> Iterator[Finding]:
    """A machine cannot be both here and gone."""
    address = host.ssh.address if host.ssh else None
    if isinstance(host.lost, tuple) and address in host.lost:
        yield Finding(
            f"{path}.lost",
            str(address),
            f"is its address now (`{path}.ssh.address`)",
            "It would be in the mesh, and gone for good.",
            "addresses that it had before; or `true`, if it is this one that is gone.",
        )


def declared_lost(sections: Mapping[str, Any], machine: str, address: str) -> bool:
    """Whether sections of a stack file declare lost the machine that was reached at `address`.

    Reads what is there without judging it: a machine must be able to go whatever else is wrong with the settings.
    """
    for section, kind in (("workloads", "machines"), ("networks", "gateway")):
        for entry in _values(sections.get(section)):
            lost = at(entry, kind, "hosts", machine, "lost")
            if lost is True or (isinstance(lost, list) and address in lost):
                return True
    return False


def sections_of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The sections in a stack's config as the engine hands it over, every value as a text."""
    prefix = f"{NAMESPACE}:"
    found: dict[str, Any] = {}
    for key, text in config.items():
        if key.startswith(prefix) and isinstance(text, str):
            try:
                found[key.removeprefix(prefix)] = json.loads(text)
            except json.JSONDecodeError:
                continue
    return found


def sections_of_file(file: Path) -> dict[str, Any]:
    """The sections of a stack file; nothing where there is no such file."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    prefix = f"{NAMESPACE}:"
    config = at(document, "config")
    if not isinstance(config, dict):
        return {}
    return {str(key).removeprefix(prefix): value for key, value in config.items() if str(key).startswith(prefix)}


def _workload(workload: Workload) -> Workload:
    if workload.machines is None:
        return workload
    machines = workload.machines.model_copy(update={"hosts": _present(workload.machines.hosts)})
    return workload.model_copy(update={"machines": machines})


def _network(network: Network) -> Network:
    if network.gateway is None:
        return network
    gateway = network.gateway.model_copy(update={"hosts": _present(network.gateway.hosts)})
    return network.model_copy(update={"gateway": gateway})


def _present(hosts: Mapping[str, Host]) -> dict[str, Host]:
    return {name: host for name, host in hosts.items() if not host.gone}


def _values(value: object) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []
