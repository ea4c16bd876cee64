"""A machine that exists and is reached by SSH."""

from dataclasses import dataclass

import pulumi

from .connection import Connection, secret


@dataclass(frozen=True, kw_only=True, slots=True)
class SshHostArgs(Connection):
    """Inputs of `SshHost`."""

    mesh_address: pulumi.Input[str] | None = None
    """IP address at which the mesh reaches it; default `address`."""


class SshHost(pulumi.ComponentResource):
    """Names a machine that exists.

    Owns nothing: it neither makes the machine nor touches it. What runs on it is `Sidecar`'s.
    """

    address: pulumi.Output[str]
    """Where SSH reaches it."""
    mesh_address: pulumi.Output[str]
    """The IP address at which the mesh reaches it."""
    connection: Connection
    """How to reach it, for `Sidecar`."""

    def __init__(self, name: str, args: SshHostArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:ssh_host:SshHost",
            name,
            {
                "address": args.address,
                "port": args.port,
                "user": args.user,
                "hostKey": args.host_key,
                "meshAddress": args.mesh_address,
            },
            opts,
        )
        self.address = pulumi.Output.from_input(args.address)
        self.mesh_address = self.address if args.mesh_address is None else pulumi.Output.from_input(args.mesh_address)
        self.connection = Connection(
            address=args.address,
            port=args.port,
            user=args.user,
            host_key=args.host_key,
            private_key=secret(args.private_key),
            passphrase=secret(args.passphrase),
            bastion=args.bastion,
        )
        # Its inputs say it all: outputs would be one more write of the state for each machine.
        self.register_outputs({})
