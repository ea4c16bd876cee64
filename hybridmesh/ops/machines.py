"""Which machines a stack has, and how to reach them: from its settings, and from its outputs what only they know."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridmesh.settings import Settings, parse, read_below
from hybridmesh.settings import models as given
from hybridmesh.settings.encrypted import encrypted_places
from hybridmesh.settings.files import sections_of, stack_file
from hybridmesh.settings.parser import sections_in

from .ssh import Door, Limits, Reachable
from .topology import StackError, by_number, pulumi_document, run_pulumi


def selected_stack(stack: str | None) -> str:
    """The stack's name: the one given, or else the selected one."""
    return stack or run_pulumi("stack", "--show-name").strip()


def stack_settings(stack: str | None, file: Path | None = None, root: Path | None = None) -> Settings:
    """The settings of a stack of the project in the current folder.

    Pulumi is asked only for what it alone knows: which stack is selected, and what the file holds encrypted.

    Args:
        stack: the stack's name; default the selected one.
        file: its settings; default `Pulumi.<stack>.yaml`.
        root: what paths in the settings are relative to; default the current folder.

    Raises:
        SettingsError: with all that is wrong.
        StackError: pulumi is needed, and not there or refuses.
    """
    name = stack if stack and file else selected_stack(stack)
    file = file or stack_file(name)
    sections = sections_of(file)
    encrypted = {str(section) for section, *_ in encrypted_places(sections)}
    if encrypted:
        given_to_pulumi = ("--stack", name, "--config-file", str(file))
        config = pulumi_document("config", "--json", "--show-secrets", *given_to_pulumi)
        sections = sections_in({key: value.get("objectValue", value.get("value")) for key, value in config.items()})
    return parse(sections, read_below(root or Path.cwd()), encrypted)


def hosts(settings: Settings) -> dict[str, given.Host]:
    """Every machine of a stack by its name, those of gateways included."""
    found = settings.hosts
    return {name: found[name] for name in sorted(found, key=by_number)}


def chosen(machines: Sequence[str] | None, there: Collection[str]) -> list[str]:
    """The machines that are asked for, each once, in the order of their names; where none is, all.

    Raises:
        StackError: there is no such machine.
    """
    unknown = sorted({*(machines or ())} - {*there}, key=by_number)
    if unknown:
        named = ", ".join(sorted(there, key=by_number)) or "none"
        raise StackError(f"the stack has no machine {', '.join(unknown)}. Fix: one of {named}.")
    return sorted({*machines} if machines else there, key=by_number)


def reachable(settings: Settings, topology: Mapping[str, Any] | None) -> dict[str, Reachable | None]:
    """How to reach each machine; None for one that a command makes and that is not made yet.

    Args:
        settings: the stack's.
        topology: the stack's output of that name; None before the first `pulumi up`.
    """
    made = (topology or {}).get("machines", {})
    return {name: _reachable(name, host, made.get(name)) for name, host in hosts(settings).items()}


def limits(settings: Settings) -> Limits:
    """How long the console waits for a machine, by the stack's settings."""
    return Limits(connect=settings.sidecar.timeouts.dial_seconds)


def _reachable(name: str, host: given.Host, made: Mapping[str, Any] | None) -> Reachable | None:
    access = host.ssh or host.command
    assert access is not None  # the parser refuses a host of no kind
    where: dict[str, Any]
    if host.ssh is not None:
        ssh = host.ssh
        where = {"address": ssh.address, "port": ssh.port, "user": ssh.user, "host_key": ssh.host_key}
    elif made is not None:
        where = {key: made[key] for key in ("address", "user")}
        where |= {"port": int(made["port"]), "host_key": made["hostKey"]}
    else:
        return None
    door = Door(**where, private_key=access.key, passphrase=access.passphrase)
    return Reachable(name=name, door=door, bastion=_bastion(access))


def _bastion(access: given.Ssh | given.Command) -> Door | None:
    bastion = access.bastion
    if bastion is None:
        return None
    login = access.bastion_login
    return Door(
        address=bastion.address,
        port=bastion.port,
        user=bastion.user,
        host_key=bastion.host_key,
        private_key=login.key,
        passphrase=login.passphrase,
    )
