"""The machines of a stack that are reached by SSH."""

from collections.abc import Iterator, Mapping

import pulumi

from hybridmesh.settings import Settings

from .command_host import CommandHost
from .from_settings import command_host_args, ssh_host_args
from .ssh_host import SshHost


class Hosts(Mapping[str, SshHost | CommandHost]):
    """Every machine of the settings by its name, made once: by who asks for it first."""

    def __init__(self, name: str, settings: Settings, opts: pulumi.ResourceOptions) -> None:
        self._name, self._opts = name, opts
        self._given = settings.hosts
        self._made: dict[str, SshHost | CommandHost] = {}

    def __getitem__(self, machine: str) -> SshHost | CommandHost:
        if machine not in self._made:
            self._made[machine] = self._make(machine)
        return self._made[machine]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

    def _make(self, machine: str) -> SshHost | CommandHost:
        host = self._given[machine]
        if host.ssh is not None:
            return SshHost(ssh_host_args(host.ssh, host.mesh_address))
        if host.command is not None:
            args = command_host_args(machine, host.command, host.mesh_address)
            return CommandHost(f"{self._name}-{machine}", args, opts=self._opts)
        raise ValueError(f"machine {machine} is of no kind; hybridmesh.settings.parse refuses such settings.")
