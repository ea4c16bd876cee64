"""How to reach a machine by SSH, whoever made the machine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pulumi
import pulumi_command

from hybridmesh.providers.packs import pack


@dataclass(frozen=True, kw_only=True, slots=True)
class SshAccess:
    """How to log in to one machine."""

    address: pulumi.Input[str]
    """IP address or host name; of a machine behind a bastion, as the bastion knows it."""
    port: pulumi.Input[int] = 22
    """sshd's port."""
    user: pulumi.Input[str] = "root"
    """Who logs in; not root needs sudo without a password on a machine that joins."""
    host_key: pulumi.Input[str]
    """The public host key, `<type> <base64>`; a machine that shows another one is not talked to."""
    private_key: pulumi.Input[str] | None = field(default=None, repr=False)
    """The private key; kept as a secret. None: the ssh-agent of whoever runs Pulumi has it (`SSH_AUTH_SOCK`)."""
    passphrase: pulumi.Input[str] | None = field(default=None, repr=False)
    """The private key's passphrase; kept as a secret."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bastion(SshAccess):
    """The SSH access of a machine that other machines are reached through."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection(SshAccess):
    """One machine's SSH access."""

    bastion: Bastion | None = None
    """The machine that SSH goes through."""

    def for_commands(self, dial_seconds: int, dial_attempts: int) -> pulumi_command.remote.ConnectionArgs:
        """This as pulumi-command wants it, with limits: without them an unreachable machine hangs the run.

        Only the keys are wrapped here. pulumi-command's SDK makes the whole connection one secret, always; a caller
        that does so at times and at times not gets replacements out of nothing (pulumi-command #447).

        Raises ValueError, with the fix, for a number of attempts that is no limit to it.
        """
        if dial_attempts < 0:
            raise ValueError(
                f"dial_attempts = {dial_attempts}: is less than 0. pulumi-command would try without end, and a machine "
                "that cannot be reached would hang the run. Fix: 0 or more."
            )

        def door(to: SshAccess) -> dict[str, Any]:
            return {
                "host": to.address,
                "port": _port(to.port),
                "user": to.user,
                "host_key": to.host_key,
                "private_key": secret(to.private_key),
                "private_key_password": secret(to.passphrase),
                "per_dial_timeout": dial_seconds,
                "dial_error_limit": dial_attempts,
            }

        proxy = None if self.bastion is None else pulumi_command.remote.ProxyConnectionArgs(**door(self.bastion))
        return pulumi_command.remote.ConnectionArgs(**door(self), proxy=proxy)

    def packed(self, dial_seconds: int, dial_attempts: int) -> pulumi.Output[str]:
        """This, with limits, as one input of a dynamic resource; a secret where it has keys."""
        doors = {"machine": self, "bastion": self.bastion}
        items = {(of, key): value for of, to in doors.items() if to is not None for key, value in _access(to).items()}
        # Pulumi would make an output of each plain value, too.
        later = [at for at, value in items.items() if value is not None and not isinstance(value, str | float)]

        def text(values: Sequence[Any]) -> str:
            known = items | dict(zip(later, values, strict=True))
            machine, bastion = ({key: known[of, key] for of, key in known if of == door} for door in doors)
            connection = {**machine, "bastion": bastion or None}
            return pack("ssh", {"connection": connection, "dialSeconds": dial_seconds, "dialAttempts": dial_attempts})

        return pulumi.Output.all(*(items[at] for at in later)).apply(text)

    def in_words(self) -> pulumi.Output[str]:
        """This as a preview shows it: where to, as whom, and the host key; then the same of the bastion."""
        ways = [_words(self), *([] if self.bastion is None else [_words(self.bastion)])]
        return pulumi.Output.all(*ways).apply(" through ".join)


def _words(to: SshAccess) -> pulumi.Output[str]:
    return pulumi.Output.all(to.user, to.address, to.port, to.host_key).apply(
        lambda known: "{}@{}:{:.0f} {}".format(*known)
    )


def _access(to: SshAccess) -> "dict[str, Any]":
    return {
        "address": to.address,
        "port": _port(to.port),
        "user": to.user,
        "hostKey": to.host_key,
        "privateKey": secret(to.private_key),
        "passphrase": secret(to.passphrase),
    }


def _port(port: pulumi.Input[int]) -> pulumi.Input[float]:
    if isinstance(port, int):
        return float(port)
    return pulumi.Output.from_input(cast("pulumi.Output[int]", port)).apply(float)


def secret(value: pulumi.Input[str] | None) -> "pulumi.Output[str] | None":
    """The value as a secret, if there is one."""
    return None if value is None else pulumi.Output.secret(value)
