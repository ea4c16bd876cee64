"""Who scrapes machines that Prometheus cannot reach."""

from dataclasses import dataclass

import pulumi
import pulumi_command

from hybridmesh.remote import AGENT_SCRIPTS, COMMAND_AGENT, payload

from .connection import Connection


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsAgentArgs:
    """Inputs of `MetricsAgent`."""

    connection: Connection
    """How to reach the machine that it runs on."""
    joined: pulumi.Input[str]
    """`Sidecar.joined` of the machine: the agent comes after it, and after each later join again."""
    url: str
    """Where the machine downloads Prometheus: a release archive."""
    sha256: str
    """Its SHA-256, 64 hexadecimal digits."""
    config: pulumi.Input[str]
    """Its prometheus.yml; nothing secret."""
    dial_seconds: int = 15
    """One attempt to connect by SSH."""
    dial_attempts: int = 4
    """How often to try."""
    download_seconds: int = 120
    """The machine's download."""
    ready_seconds: int = 120
    """Start of the agent until what it wrote has arrived."""


class MetricsAgent(pulumi.ComponentResource):
    """Owns a Prometheus in agent mode on a machine of the mesh: it scrapes the machines of its network, and writes on
    by mutual TLS what it finds. `up` waits until that has arrived.

    It owns neither the machine nor its membership, whose identity it calls with. Nor the agent's end:
    that is part of the machine's departure, by its `Sidecar`'s `metrics_agent`, so that a lost machine blocks nothing.
    """

    def __init__(self, name: str, args: MetricsAgentArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:metrics_agent:MetricsAgent",
            name,
            {"package": f"{args.url} sha256:{args.sha256}", "prometheus.yml": args.config},
            opts,
        )
        settings = {
            "agent-url": args.url,
            "agent-sha256": args.sha256,
            "download-timeout-seconds": str(args.download_seconds),
            "ready-timeout-seconds": str(args.ready_seconds),
        }
        # Nothing in it is secret, and nothing in it can be read: a preview had better not print it.
        stdin: pulumi.Output[str] = pulumi.Output.secret(
            pulumi.Output.all(args.config, args.joined).apply(
                lambda known: payload({"prometheus.yml": known[0]}, {**settings, "joined": known[1]}, AGENT_SCRIPTS)
            )
        )
        pulumi_command.remote.Command(
            f"{name}-agent",
            connection=args.connection.for_commands(args.dial_seconds, args.dial_attempts),
            create=COMMAND_AGENT,
            stdin=stdin,
            add_previous_output_in_env=False,
            logging=pulumi_command.remote.Logging.NONE,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})
