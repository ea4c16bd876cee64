"""How a machine will leave the mesh, noted before anything is done to it."""

from typing import Any

import pulumi

from hybridmesh.providers import ClusterAccess, Departure, DepartureArgs

from .connection import Bastion, Connection


def departure(
    name: str,
    *,
    cluster: ClusterAccess,
    machine: str,
    connection: Connection,
    namespace: pulumi.Input[str],
    entry: pulumi.Input[str],
    static_entry: bool,
    dial: int,
    dial_attempts: int,
    rotation: int,
    drain: int,
    opts: pulumi.ResourceOptions,
) -> Departure:
    """The resource whose delete is the machine's leaving. Everything that is done to the machine must come after it."""
    bastion = connection.bastion
    return Departure(
        f"{name}-departure",
        DepartureArgs(
            cluster=cluster,
            machine=machine,
            namespace=namespace,
            entry=entry,
            static_entry=static_entry,
            address=connection.address,
            port=connection.port,
            user=connection.user,
            host_key=connection.host_key,
            private_key=connection.private_key,
            passphrase=connection.passphrase,
            bastion=None if bastion is None else _door(bastion),
            dial_seconds=dial,
            dial_attempts=dial_attempts,
            rotation_seconds=rotation,
            drain_seconds=drain,
        ),
        opts=opts,
    )


def _door(bastion: Bastion) -> dict[str, pulumi.Input[Any]]:
    return {
        "address": bastion.address,
        "port": bastion.port,
        "user": bastion.user,
        "hostKey": bastion.host_key,
        "privateKey": bastion.private_key,
        "passphrase": bastion.passphrase,
    }
