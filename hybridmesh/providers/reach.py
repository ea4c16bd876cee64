"""The way to a VM, as a resource's properties tell it (`Connection.properties`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridmesh.ops.ssh import Door, Reachable


def reachable(machine: str, connection: Mapping[str, Any]) -> Reachable:
    """A machine for the SSH client."""
    # Imported here, for it takes a third of a second, and programs import this package only to name its classes.
    from hybridmesh.ops.ssh import Reachable

    bastion = connection.get("bastion")
    return Reachable(name=machine, door=_door(connection), bastion=_door(bastion) if bastion else None)


def _door(access: Mapping[str, Any]) -> Door:
    from hybridmesh.ops.ssh import Door

    return Door(
        address=access["address"],
        port=int(access["port"]),
        user=access["user"],
        host_key=access["hostKey"],
        private_key=access.get("privateKey") or None,
        passphrase=access.get("passphrase") or None,
    )
