"""A machine that exists and is reached by SSH."""

from dataclasses import dataclass

import pulumi

from hybridmesh.istio.names import canonical_address

from .connection import Connection, secret


@dataclass(frozen=True, kw_only=True, slots=True)
class SshHostArgs(Connection):
    """Inputs of `SshHost`."""

    mesh_address: pulumi.Input[str] | None = None
    """IP address at which the mesh reaches it; default `address`."""


class SshHost:
    """Names a machine that exists, in the words of `CommandHost`, which makes one.

    It is no resource: nothing is made, and a preview shows the way to a machine at its `Sidecar`
    (docs/decisions/038).
    """

    address: pulumi.Output[str]
    """Where SSH reaches it."""
    mesh_address: pulumi.Output[str]
    """The IP address at which the mesh reaches it."""
    connection: Connection
    """How to reach it, for `Sidecar`."""

    def __init__(self, args: SshHostArgs) -> None:
        self.address = pulumi.Output.from_input(args.address)
        reached_at = self.address if args.mesh_address is None else pulumi.Output.from_input(args.mesh_address)
        self.mesh_address = reached_at.apply(canonical_address)
        self.connection = Connection(
            address=args.address,
            port=args.port,
            user=args.user,
            host_key=args.host_key,
            private_key=secret(args.private_key),
            passphrase=secret(args.passphrase),
            bastion=args.bastion,
        )
