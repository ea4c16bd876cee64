"""How to reach a machine by SSH, whoever made the machine."""

from dataclasses import dataclass, field

import pulumi
import pulumi_command


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """One machine's SSH access."""

    address: pulumi.Input[str]
    """IP address or host name."""
    port: pulumi.Input[int] = 22
    """sshd's port."""
    user: pulumi.Input[str] = "root"
    """Who logs in; not root needs sudo without a password."""
    host_key: pulumi.Input[str]
    """The public host key, `<type> <base64>`; a machine that shows another one is not talked to."""
    private_key: pulumi.Input[str] = field(repr=False)
    """The private key; kept as a secret."""

    def for_commands(self, dial_seconds: int, dial_attempts: int) -> pulumi_command.remote.ConnectionArgs:
        """This as pulumi-command wants it, with limits: without them an unreachable machine hangs the run.

        Only the key is wrapped here. pulumi-command's SDK makes the whole connection one secret, always; a caller
        that does so at times and at times not gets replacements out of nothing (pulumi-command #447).
        """
        return pulumi_command.remote.ConnectionArgs(
            host=self.address,
            port=pulumi.Output.from_input(self.port).apply(float),
            user=self.user,
            host_key=self.host_key,
            private_key=pulumi.Output.secret(self.private_key),
            per_dial_timeout=dial_seconds,
            dial_error_limit=dial_attempts,
        )
