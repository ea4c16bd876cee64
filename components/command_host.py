"""A machine that a configured pair of commands makes and removes."""

import json
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_command

from hybridmesh.istio.names import canonical_address, is_ip_address

from .connection import Bastion, Connection, secret
from .timeouts import within

REMOVES_NOTHING = "true"
"""A delete command for a machine that is to stay."""


@dataclass(frozen=True, slots=True)
class MadeMachine:
    """What a command says of the machine that it made."""

    address: str
    port: int
    user: str
    host_key: str


def made_machine(stdout: str, machine: str) -> MadeMachine:
    """Reads the line of JSON that the command for `machine` printed.

    `{"address", "hostKey"}` and, if they are not 22 and root, `{"port", "user"}`; other keys are passed over.
    Raises ValueError, with the fix, for anything else.
    """
    expected = '`{"address": "192.0.2.12", "port": 22, "user": "root", "hostKey": "ssh-ed25519 AAAA…"}`'
    fix = (
        f"Fix: let it print one line of JSON on stdout, such as {expected}, and everything else on stderr; then change "
        "the command's text, by a comment at its end for one, so that it runs again."
    )
    told = f"the command that makes {machine}"
    try:
        document: Any = json.loads(stdout)
    except json.JSONDecodeError as error:
        raise ValueError(f"{told} printed no JSON: {stdout.strip()[:200]!r}. {fix}") from error
    if not isinstance(document, dict):
        # Not a wrong type that a programmer passed, but a wrong text that a command printed.
        raise ValueError(f"{told} printed JSON that is no object: {stdout.strip()[:200]!r}. {fix}")  # noqa: TRY004
    address, host_key = document.get("address"), document.get("hostKey")
    port, user = document.get("port", 22), document.get("user", "root")
    if not isinstance(address, str) or not is_ip_address(address):
        raise ValueError(f"{told} gave {address!r} as address, which is not an IP address. {fix}")
    if not isinstance(host_key, str) or not host_key.strip():
        raise ValueError(f"{told} gave no hostKey: nobody could tell the machine from another one. {fix}")
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise ValueError(f"{told} gave {port!r} as port. {fix}")
    if not isinstance(user, str) or not user:
        raise ValueError(f"{told} gave {user!r} as user. {fix}")
    return MadeMachine(address, port, user, host_key.strip())


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandHostArgs:
    """Inputs of `CommandHost`."""

    machine: str
    """The machine's name, for messages."""
    create: pulumi.Input[str]
    """Makes the machine, or finds it made, and prints one line of JSON; see `made_machine`. Idempotent."""
    delete: pulumi.Input[str]
    """Removes the machine, if it is there. Idempotent. `true` removes nothing."""
    seconds: int = 300
    """Limit for each of the two."""
    private_key: pulumi.Input[str] | None = field(default=None, repr=False)
    """The private key that the machine lets in; kept as a secret. None: the ssh-agent of whoever runs Pulumi has it."""
    passphrase: pulumi.Input[str] | None = field(default=None, repr=False)
    """The private key's passphrase; kept as a secret."""
    bastion: Bastion | None = None
    """The machine that SSH goes through."""
    mesh_address: pulumi.Input[str] | None = None
    """IP address at which the mesh reaches it; default the one that the command prints."""


class CommandHost(pulumi.ComponentResource):
    """Owns one machine, through commands that run where Pulumi runs.

    It makes the machine and removes it. What runs on it is `Sidecar`'s.
    """

    address: pulumi.Output[str]
    """Where SSH reaches it."""
    mesh_address: pulumi.Output[str]
    """The IP address at which the mesh reaches it."""
    connection: Connection
    """How to reach it, for `Sidecar`."""
    command: pulumi.Output[dict[str, Any]]
    """What made it, for `Sidecar`: its `urn`, and whether it `removes` the machine as it goes."""

    def __init__(self, name: str, args: CommandHostArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:command_host:CommandHost",
            name,
            {"create": args.create, "delete": args.delete, "meshAddress": args.mesh_address},
            opts,
        )
        command = pulumi_command.local.Command(
            f"{name}-machine",
            create=args.create,
            delete=args.delete,
            add_previous_output_in_env=False,
            logging=pulumi_command.local.Logging.STDERR,
            opts=pulumi.ResourceOptions(
                parent=self,
                custom_timeouts=within(args.seconds),
                # `pulumi up --replace`: a new one that is made first would be found made, and removed after.
                delete_before_replace=True,
            ),
        )
        self.command = pulumi.Output.all(command.urn, args.delete).apply(
            lambda known: {"urn": known[0], "removes": known[1].strip() != REMOVES_NOTHING}
        )
        made = command.stdout.apply(lambda stdout: made_machine(stdout, args.machine))
        self.address = made.apply(lambda m: m.address)
        reached_at = self.address if args.mesh_address is None else pulumi.Output.from_input(args.mesh_address)
        self.mesh_address = reached_at.apply(canonical_address)
        self.connection = Connection(
            address=self.address,
            port=made.apply(lambda m: m.port),
            user=made.apply(lambda m: m.user),
            host_key=made.apply(lambda m: m.host_key),
            private_key=secret(args.private_key),
            passphrase=secret(args.passphrase),
            bastion=args.bastion,
        )
        self.register_outputs({"address": self.address, "meshAddress": self.mesh_address})
