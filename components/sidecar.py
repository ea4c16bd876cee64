"""One machine's membership in the mesh."""

import asyncio
import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import pulumi
import pulumi_command
from pulumi_kubernetes.apiextensions import CustomResource

from hybridmesh.istio import (
    BootstrapOptions,
    cluster_env,
    hosts_template,
    mesh_yaml,
    static_entry_name,
)
from hybridmesh.istio.members import entry_name, group_at, group_ports, static_entry
from hybridmesh.istio.ports import EAST_WEST_TLS, ISTIOD_XDS
from hybridmesh.providers import (
    ClusterAccess,
    Departure,
    DepartureArgs,
    IstioToken,
    IstioTokenArgs,
    Membership,
    MembershipArgs,
    PreflightArgs,
    PreflightCheck,
)
from hybridmesh.remote import COMMAND_JOIN, COMMAND_READY, scripts_digest
from hybridmesh.remote.join import dated_payload, last_line, ready_report
from hybridmesh.remote.preflight import Preflight

from .after import after, behind
from .connection import Connection
from .preflight_gate import PreflightGate
from .proxy_choices import (
    SidecarCapture,
    SidecarLimits,
    SidecarPackage,
    SidecarResources,
    agent_environment,
    agent_flags,
    join_settings,
    package_text,
    resource_settings,
)
from .source_positions import without_source_positions
from .ssh_help import SshHelp
from .turns import Turn
from .whole import whole


@dataclass(frozen=True, kw_only=True, slots=True)
class SidecarArgs:
    """Inputs of `Sidecar`."""

    machine: str
    """The machine's name: that of its proxy in istiod, too."""
    cluster: ClusterAccess
    """The cluster, for token and membership."""
    cluster_name: pulumi.Input[str]
    """Istio's cluster id."""
    istio_namespace: pulumi.Input[str]
    """Istio's root namespace."""
    revision: pulumi.Input[str]
    """istiod's revision."""
    mesh_config: pulumi.Input[str]
    """The mesh config, YAML."""
    root_certificate: pulumi.Input[str]
    """The root certificate, PEM."""
    gateway_address: pulumi.Input[str]
    """IP address or host name at which the machine reaches the east-west gateway. A name is resolved on the machine,
    which follows it."""
    group: pulumi.Input[Mapping[str, Any]]
    """The WorkloadGroup's manifest. Given as its output, the machine joins after the group, and leaves before it."""
    service_account: pulumi.Input[str]
    """The workload's service account."""
    identity: pulumi.Input[str]
    """The SPIFFE id that its certificate must carry."""
    static_entry: bool = False
    """Whether its WorkloadEntry is made here; default: istiod makes it when the proxy connects, and removes it."""
    locality: str | None = None
    """Where it is, as region/zone/subzone; default: what its cloud says."""
    weight: int | None = None
    """Its share of the requests among the endpoints; default 1. Of a static entry only."""
    connection: Connection
    """How to reach the machine."""
    mesh_address: pulumi.Input[str]
    """IP address at which the mesh reaches the machine."""
    package: SidecarPackage
    """What is installed."""
    dns_capture: bool = True
    """Whether the proxy answers DNS on the machine."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """More variables for the agent; nothing secret."""
    router: bool = False
    """Whether the proxy is a router, as a network's gateway is; default: a sidecar."""
    log_level: str | None = None
    """Envoy's log level, with components' own after it; None: Istio's, warning."""
    capture: SidecarCapture = field(default_factory=SidecarCapture)
    """Which connections go through the proxy."""
    resources: SidecarResources = field(default_factory=SidecarResources)
    """What the proxy may use of the machine."""
    app_units: Sequence[str] = ()
    """The application's systemd units: at boot they start once the proxy is ready."""
    scrapers: Sequence[pulumi.Input[str]] = ()
    """CIDR ranges that may read metrics on the machine, which are outside of mutual TLS; none: the machine itself."""
    command: pulumi.Input[Mapping[str, Any]] | None = None
    """`CommandHost.command`, where that has made the machine."""
    metrics_agent: bool = False
    """Whether a `MetricsAgent` runs on it. A machine that leaves takes it away; one that stays does
    as soon as this is not said any more."""
    supported_systems: str = ""
    """Systems that may join, as words `id:version` of /etc/os-release; empty: any."""
    gateway_ports: Sequence[int] = (ISTIOD_XDS, EAST_WEST_TLS)
    """The gateway's ports that the machine must reach."""
    proxy_ports: Sequence[int] = ()
    """The proxy's own ports for what comes from other networks; a gateway machine's."""
    proxy_ports_forwarded: bool = False
    """Whether others reach those through another address or port, such as a load balancer's: then a preflight does not
    ask whether the machine's firewall lets them in."""
    accept_findings: Sequence[str] = ()
    """Checks of a preflight whose findings do not count; see hybridmesh.remote.CHECKS."""
    token_seconds: int = 3600
    """How long the token is valid."""
    limits: SidecarLimits = field(default_factory=SidecarLimits)
    """How long the steps may take."""
    turn: Turn | None = None
    """When a proxy that serves may be restarted; default: at once."""


_OUTPUTS = ("entry", "identity", "certificateExpiry", "version", "synced", "joined")
"""The component's, as they are registered."""


class Sidecar(pulumi.ComponentResource):
    """Owns one machine's membership: preflight, package, files, start, readiness, removal; its WorkloadEntry, if that
    is static.

    It owns neither the machine nor the workload. Each file that the machine gets is a property of this component, in
    plain text, so that a preview shows it line by line, and one unknown value hides its own file only. The one secret
    is the token; it travels with the files on stdin.
    """

    entry: pulumi.Output[str]
    """The machine's WorkloadEntry, as namespace/name; known once the mesh has the machine."""
    identity: pulumi.Output[str]
    """The SPIFFE id in its certificate."""
    certificate_expiry: pulumi.Output[str]
    """When the certificate that it joined with ends (RFC 3339). It is renewed at half its time."""
    version: pulumi.Output[str]
    """The version of its sidecar."""
    synced: pulumi.Output[bool]
    """Whether istiod has had every type acknowledged by it."""
    joined: pulumi.Output[str]
    """Words of its last join, other ones with each, known once the mesh has the machine: for what a join must be
    followed by."""
    asked_for: pulumi.Output[bool]
    """True, in a preview too, once all that it consists of is asked for. Made with a gate, it is not at first: who
    depends on the component as a whole waits for this."""

    @without_source_positions()
    def __init__(
        self,
        name: str,
        args: SidecarArgs,
        opts: pulumi.ResourceOptions | None = None,
        *,
        gate: PreflightGate | None = None,
        ssh_help: SshHelp | None = None,
    ) -> None:
        """Makes it. `gate`: what the preflights of several machines lead to, and what admits them; without one, its own
        preflight alone counts. `ssh_help`: who tells what is wrong with SSH, if it is one for several machines."""
        if args.weight is not None and not args.static_entry:
            raise ValueError(
                f"{name}: weight = {args.weight}: needs `static_entry`. istiod makes the WorkloadEntry by the group, "
                "which has one weight for all its machines. Fix: static_entry=True, or leave it out."
            )
        group = whole(_group_here(args))
        files = bootstrap_files(args, group)
        besides = {
            "limits": resource_settings(args.resources) or None,
            "appUnits": list(args.app_units) or None,
            "package": package_text(args.package),
        }
        super().__init__(
            "hybridmesh:sidecar:Sidecar",
            name,
            {
                "machine": args.machine,
                "address": args.mesh_address,
                "ssh": args.connection.in_words(),
                **files,
                **besides,
                "scrapers": list(args.scrapers) or None,
            },
            opts,
        )
        self._name, self._args, self._group, self._files = name, args, group, files
        self._plain = whole(pulumi.Output.all(**files))
        self._brought = self._plain.apply(lambda known: json.dumps({**known, **besides}, sort_keys=True))
        self._child = pulumi.ResourceOptions(parent=self)
        self._ssh_help = ssh_help or SshHelp(name)
        self._ssh = args.connection.packed(args.limits.dial, args.limits.dial_attempts)
        if gate is None:
            with PreflightGate(f"{name}-preflights", self._child) as own:
                self._look(own)
            _, outputs = self._make_membership(own.passed, lambda: None)
            self.asked_for = pulumi.Output.from_input(True)
        else:
            self._look(gate)
            joining: pulumi.Output[Mapping[str, Any]] = pulumi.Output.from_input(
                asyncio.ensure_future(self._join(gate))
            )
            outputs = {key: joining.apply(itemgetter(key)) for key in _OUTPUTS}
            self.asked_for = joining.apply(lambda _: True)
        self.entry = outputs["entry"]
        self.identity = outputs["identity"]
        self.certificate_expiry = outputs["certificateExpiry"]
        self.version = outputs["version"]
        self.synced = outputs["synced"]
        self.joined = outputs["joined"]
        self.register_outputs(outputs)

    async def _join(self, gate: PreflightGate) -> Mapping[str, pulumi.Output[Any]]:
        """Makes what changes the machine, once that is admitted; this component's outputs."""
        verdict, place = await gate.admission()
        membership, outputs = self._make_membership(verdict, place.give_back)
        place.ends_with(membership)
        # A view, which Pulumi does not take apart: each output keeps what it depends on.
        return MappingProxyType(outputs)

    @without_source_positions()
    def _make_membership(
        self, verdict: pulumi.Input[Sequence[pulumi.Resource]], make_room: Callable[[], None]
    ) -> tuple[Membership, dict[str, pulumi.Output[Any]]]:
        """All that is made once the machine was found good; and this component's outputs.

        `make_room`: called before it waits for the restarts of others, for which nobody else is to wait.
        """
        name, args = self._name, self._args
        namespace = self._make_departure(verdict)
        if args.static_entry:
            entry = self._make_entry(namespace)
        else:
            entry = pulumi.Output.all(self._group, args.mesh_address).apply(lambda both: entry_name(*both))
        join, joined = self._make_join(namespace, entry)
        due = joined if args.turn is None else args.turn.when_due(joined, make_room)
        asks = None
        if args.turn is not None:
            asks = args.turn.guards(f"{name}-ready", args.cluster, self._group, namespace, entry, args.limits.sync)
        ready = self._command("ready", COMMAND_READY, behind(join, due), asks)
        # The report holds nothing secret either.
        report = pulumi.Output.unsecret(ready.stdout).apply(lambda stdout: ready_report(stdout, args.machine))
        membership = Membership(
            f"{name}-membership",
            MembershipArgs(
                cluster=args.cluster,
                machine=args.machine,
                namespace=behind(ready, namespace),
                entry=behind(ready, entry),
                static_entry=args.static_entry,
                group=behind(ready, self._group),
                istio_namespace=behind(ready, pulumi.Output.from_input(args.istio_namespace)),
                revision=behind(ready, pulumi.Output.from_input(args.revision)),
                joined=behind(ready, joined),
                brought=behind(ready, self._brought),
                sync_seconds=args.limits.sync,
            ),
            opts=self._child,
        )
        if args.turn is not None:
            args.turn.ends_with(membership.synced)
        return membership, {
            "entry": membership.registration,
            "identity": report.apply(lambda r: r.identity),
            "certificateExpiry": report.apply(lambda r: r.certificate_expiry),
            "version": report.apply(lambda r: r.version),
            "synced": membership.synced,
            "joined": behind(membership, joined),
        }

    def _make_departure(self, verdict: pulumi.Input[Sequence[pulumi.Resource]]) -> "pulumi.Output[str]":
        """How the machine will leave; the workload's namespace, by which all that is done to the machine follows it."""
        args = self._args
        departure = Departure(
            f"{self._name}-departure",
            DepartureArgs(
                cluster=args.cluster,
                machine=args.machine,
                address=args.connection.address,
                ssh=self._ssh,
                namespace=self._group.apply(lambda g: str(g["metadata"]["namespace"])),
                # After the gateway too: the machine needs it until it has left.
                entry=pulumi.Output.all(self._group, args.mesh_address, args.gateway_address).apply(
                    lambda known: entry_of(args, known[0], known[1])
                ),
                static_entry=args.static_entry,
                reached_as=pulumi.Output.all(self._group, args.mesh_address).apply(lambda both: entry_name(*both))
                if args.static_entry
                else None,
                metrics_agent=args.metrics_agent,
                command=args.command,
                rotation_seconds=args.limits.rotation,
                drain_seconds=args.limits.drain,
            ),
            # One that would not join is never in the mesh, and so need not leave it.
            opts=pulumi.ResourceOptions.merge(self._child, pulumi.ResourceOptions(depends_on=verdict)),
        )
        return after(departure, departure.namespace)

    def _make_join(
        self, namespace: "pulumi.Output[str]", entry: "pulumi.Output[str]"
    ) -> "tuple[pulumi_command.remote.Command, pulumi.Output[str]]":
        """The join with its token; and what tells it from others."""
        args, scripts = self._args, scripts_digest()
        token = IstioToken(
            f"{self._name}-token",
            IstioTokenArgs(
                cluster=args.cluster,
                machine=args.machine,
                ssh=self._ssh,
                namespace=namespace,
                service_account=args.service_account,
                entry=entry,
                identity=args.identity,
                trust=pulumi.Output.from_input(args.root_certificate).apply(fingerprint),
                scripts=scripts,
                expiration_seconds=args.token_seconds,
            ),
            opts=self._child,
        )
        settings = whole(
            pulumi.Output.all(
                args.identity,
                args.istio_namespace,
                args.connection.port,
                pulumi.Output.all(*args.scrapers),
                token.repair,
            ).apply(lambda known: {**join_settings(args, *known), "scripts": scripts, **ways_to_repeat(self._name)})
        )
        everything = pulumi.Output.all(self._plain, token.token, settings)
        dated = everything.apply(
            lambda known: MappingProxyType(dated_payload({**known[0], "istio-token": known[1]}, known[2]))
        )
        join_payload: pulumi.Output[str] = pulumi.Output.secret(dated.apply(itemgetter("payload")))
        join = self._command("join", COMMAND_JOIN, join_payload)
        # Whoever waits for the join must see that it was done anew, even if it wants what an earlier one wanted, after
        # which another failed half-way. A digest gives nothing away, nor do the two words that a join says;
        # pulumi-command makes every output of a command with a secret input secret.
        joined = pulumi.Output.unsecret(
            pulumi.Output.all(dated, join.stdout).apply(
                lambda both: f"{both[0]['generation']} {last_line(both[1])}".strip()
            )
        )
        return join, joined

    @cached_property
    def _connection(self) -> pulumi_command.remote.ConnectionArgs:
        limits = self._args.limits
        return self._args.connection.for_commands(limits.dial, limits.dial_attempts)

    def _command(
        self, role: str, text: str, stdin: "pulumi.Output[str]", before: pulumi.ResourceHookBinding | None = None
    ) -> pulumi_command.remote.Command:
        """What runs on the machine, and is told of where its SSH fails. `before`: hooks that come first."""
        args, name = self._args, self._name
        help_ = self._ssh_help.on(args.machine, patience_seconds(args.limits), f"{name}-{role}")
        hooks = pulumi.ResourceHookBinding.merge(before, help_)
        return pulumi_command.remote.Command(
            f"{name}-{role}",
            connection=self._connection,
            create=text,
            stdin=stdin,
            add_previous_output_in_env=False,
            logging=pulumi_command.remote.Logging.NONE,
            opts=pulumi.ResourceOptions.merge(self._child, pulumi.ResourceOptions(hooks=hooks)),
        )

    def _look(self, gate: PreflightGate) -> None:
        """Makes what finds out whether the machine can join."""
        args = self._args
        known = pulumi.Output.all(
            self._group, self._files["cluster.env"], args.gateway_address, args.mesh_address, args.connection.port
        )
        preflight = PreflightCheck(
            f"{self._name}-preflight",
            PreflightArgs(
                machine=args.machine,
                ssh=self._ssh,
                settings=known.apply(lambda values: preflight_settings(args, *values)),
            ),
            opts=self._child,
        )
        gate.add(args.machine, preflight, args.mesh_address)

    def _make_entry(self, namespace: "pulumi.Output[str]") -> "pulumi.Output[str]":
        """The WorkloadEntry, which must be there before the proxy names it; and its name, once it is."""
        args, group = self._args, self._group
        name = group.apply(lambda g: static_entry_name(g["metadata"]["name"], args.machine))
        manifest = pulumi.Output.all(group, args.mesh_address).apply(
            lambda both: static_entry(both[0], both[1], args.locality, args.weight)
        )
        entry = CustomResource(
            f"{self._name}-entry",
            api_version="networking.istio.io/v1",
            kind="WorkloadEntry",
            metadata={
                "name": name,
                "namespace": namespace,
                "labels": manifest.apply(lambda m: m["metadata"]["labels"]),
                "annotations": manifest.apply(lambda m: m["metadata"]["annotations"]),
            },
            spec=manifest.apply(lambda m: m["spec"]),
            opts=self._child,
        )
        return after(entry, name)


def ways_to_repeat(name: str) -> dict[str, str]:
    """What to enter for another join, or another token, of the component of this name: for the machine to say.

    By a pattern, for a URN has the stack's name, and with another one every machine would join again. One of the same
    name that belongs to something else is made anew with it, which does no harm.
    """
    return {f"{role}-again": f"pulumi up --replace {shlex.quote(f'**::{name}-{role}')}" for role in ("join", "token")}


def _group_here(args: SidecarArgs) -> "pulumi.Output[Mapping[str, Any]]":
    """The group's manifest with what is this machine's alone: its locality, which its proxy is told by a label."""
    return whole(args.group).apply(lambda group: group_at(group, args.locality))


def bootstrap_files(args: SidecarArgs, group: "pulumi.Output[Mapping[str, Any]]") -> dict[str, pulumi.Output[str]]:
    """The files that the machine gets, the token apart: each hangs on nothing but what is in it."""
    inputs = whole(
        pulumi.Output.all(
            group=group,
            mesh_config=args.mesh_config,
            cluster_name=args.cluster_name,
            istio_namespace=args.istio_namespace,
            revision=args.revision,
        )
    )
    on_machine = pulumi.Output.all(inputs, args.mesh_address, args.connection.port)
    way = pulumi.Output.all(args.gateway_address, args.istio_namespace, args.revision)
    return {
        "cluster.env": on_machine.apply(lambda known: cluster_env_of(args, *known)),
        "mesh.yaml": inputs.apply(lambda known: mesh_yaml_of(args, known)),
        "hosts": way.apply(lambda known: hosts_template(known[0], istio_namespace=known[1], revision=known[2])),
        "root-cert.pem": pulumi.Output.from_input(args.root_certificate),
    }


def cluster_env_of(args: SidecarArgs, known: Mapping[str, Any], address: str, ssh_port: int) -> str:
    """The machine's `cluster.env`."""
    return cluster_env(
        known["group"],
        known["mesh_config"],
        _options(
            args,
            known,
            internal_ip=address,
            local_exclude_ports=(int(ssh_port), *args.capture.exclude_inbound_ports),
            inbound_ports=args.capture.inbound_ports,
            all_inbound_ports=args.capture.all_inbound_ports,
        ),
    )


def mesh_yaml_of(args: SidecarArgs, known: Mapping[str, Any]) -> str:
    """The machine's `mesh.yaml`."""
    return mesh_yaml(known["group"], known["mesh_config"], _options(args, known))


def _options(args: SidecarArgs, known: Mapping[str, Any], **more: Any) -> BootstrapOptions:
    return BootstrapOptions(
        cluster_id=known["cluster_name"],
        revision=known["revision"],
        istio_namespace=known["istio_namespace"],
        auto_register=not args.static_entry,
        workload_entry=static_entry_name(known["group"]["metadata"]["name"], args.machine) if args.static_entry else "",
        dns_capture=args.dns_capture,
        standard_places=True,
        # The proxy's name in istiod, which else is the machine's own host name.
        environment={**agent_environment(args), "POD_NAME": args.machine},
        agent_role="router" if args.router else "",
        agent_flags=agent_flags(args),
        **more,
    )


def entry_of(args: SidecarArgs, group: Mapping[str, Any], address: str) -> str:
    """The name of a machine's WorkloadEntry, whoever makes it."""
    name: str = group["metadata"]["name"]
    return static_entry_name(name, args.machine) if args.static_entry else entry_name(group, address)


def patience_seconds(limits: SidecarLimits) -> int:
    """When a command that has not ended is worth a word: all attempts to connect, and all that it may wait for."""
    connecting = limits.dial * (limits.dial_attempts + 1)
    return connecting + limits.download + 4 * limits.install + limits.ready


def preflight_settings(
    args: SidecarArgs,
    group: Mapping[str, Any],
    cluster_env_file: str,
    gateway_address: str,
    mesh_address: str,
    ssh_port: int,
) -> dict[str, str]:
    """What a preflight looks at."""
    looked_at = Preflight(
        package=args.package.by_kind,
        package_version=args.package.version,
        ssh_port=ssh_port,
        mesh_address=mesh_address,
        app_ports=[int(port) for port in group_ports(group).values()],
        proxy_ports=args.proxy_ports,
        proxy_ports_forwarded=args.proxy_ports_forwarded,
        cluster_env=cluster_env_file,
        dns_capture=args.dns_capture,
        gateway=gateway_address,
        gateway_ports=args.gateway_ports,
        gateway_seconds=args.limits.gateway,
        supported_systems=args.supported_systems,
        accept=args.accept_findings,
    )
    return looked_at.settings()


def fingerprint(root_certificate: str) -> str:
    """What tells one trust bundle from another."""
    return hashlib.sha256(root_certificate.encode()).hexdigest()[:16]
