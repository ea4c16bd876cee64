"""Which VMs the settings of a program declare lost, where the stack's config, which providers read, does not say so."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from .cluster import ClusterAccess
from .inputs import changed, text

_SAID: dict[tuple[str, str, str], bool | Sequence[str]] = {}
"""What is declared lost, by the cluster and the VM's name: the VM itself, or addresses that it had. An engine has one
process for all dynamic resources of a run, and deletes nothing before it has asked after every one that stays."""


class LostMachinesProvider(ResourceProvider):
    """Notes, in each run of the program, what is declared lost."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Notes it."""
        _note(props)
        return CreateResult("lost", props)

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Notes it."""
        _note(news)
        return DiffResult(changes=bool(changed(olds, news, ("machines", "kubeconfig", "context", "requestSeconds"))))

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Noted already."""
        return UpdateResult(news)


def _note(props: Mapping[str, Any]) -> None:
    _SAID.update({_key(props, machine): said for machine, said in props["machines"].items()})


def said_lost(props: Mapping[str, Any], address: str) -> bool:
    """Whether the program has declared the VM lost that was reached at `address`."""
    said = _SAID.get(_key(props, text(props, "machine")), False)
    return said if isinstance(said, bool) else address in said


def _key(props: Mapping[str, Any], machine: str) -> tuple[str, str, str]:
    return text(props, "kubeconfig"), text(props, "context"), machine


class LostMachines(Resource, name="LostMachines"):
    """That VMs are declared lost. It must be made in the run that takes them out."""

    def __init__(
        self,
        name: str,
        cluster: ClusterAccess,
        machines: Mapping[str, bool | Sequence[str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`machines`: by name, true for the VM itself, or addresses that it had."""
        super().__init__(LostMachinesProvider(), name, {**cluster.properties(), "machines": dict(machines)}, opts)
