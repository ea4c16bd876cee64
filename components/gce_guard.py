"""Who machines on Google Cloud are there, and who may talk to them."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import pulumi
from pulumi_gcp import compute, serviceaccount

from hybridmesh.istio.ports import AGENT_HEALTH, AGENT_STATUS, EAST_WEST_TLS, ENVOY_METRICS, ISTIOD_XDS, SSH
from hybridmesh.settings.google_checks import project_of_account, project_of_link

IAP_RANGE = "35.235.240.0/20"
"""Where connections through Identity-Aware Proxy come from. Source: cloud.google.com/iap/docs/using-tcp-forwarding."""
HEALTH_CHECK_RANGES = ("35.191.0.0/16", "130.211.0.0/22")
"""Where Google's health checks come from. Source: cloud.google.com/load-balancing/docs/health-check-concepts."""
_ALLOW, _DENY = 1000, 65000
"""Priorities: the smaller number wins; all that is allowed goes before what is denied."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """Where machines may connect to, besides what the mesh itself needs."""

    name: str
    """Part of the rule's name."""
    ranges: Sequence[str]
    """CIDRs."""
    ports: Sequence[int] = ()
    """TCP ports; none: all, of every protocol."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GceGuardArgs:
    """Inputs of `GceGuard`."""

    members: str
    """What the machines are called together: the rules are named after it, and the service account that is made."""
    account: str | None = None
    """The e-mail of a service account that is there; None: one is made."""
    project: str
    """The id of the machines' project, and so of their account."""
    network: pulumi.Input[str]
    """The VPC network, by name or self link. The rules are of its project: in a Shared VPC, the host project."""
    app_ports: Sequence[int] = ()
    """TCP ports that the application listens on."""
    clients: Sequence[str] = ()
    """CIDRs of who calls the application: pods, gateways, other machines."""
    observers: Sequence[pulumi.Input[str]] = ()
    """CIDRs of who reads metrics and health (15020, 15021, 15090), such as Prometheus. Google's checks may always."""
    ssh: bool = False
    """Whether SSH is let in, through Identity-Aware Proxy alone."""
    gateway_address: pulumi.Input[str]
    """Of the east-west gateway; its ports 15012 and 15443 may be reached. A host name: at any address."""
    api_server: pulumi.Input[str] | None = None
    """Kubernetes' API server, `https://…`, for machines that get their token by themselves. A host name: its port may
    be reached at any address."""
    ways: Sequence[Way] = ()
    """What else may be reached: pods, the mirror of packages, databases."""
    deny_other_egress: bool = True
    """Whether nothing else may."""
    make_rules: bool = True
    """Whether the firewall rules are made; if not, others make them."""
    log_rules: bool = False
    """Whether the rules that are made log each connection."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One rule of a firewall, of the machines of one account."""

    role: str
    """What it is for: part of its name."""
    direction: str
    """`INGRESS` or `EGRESS`."""
    ranges: pulumi.Input[Sequence[str]]
    """CIDRs of who is at the other end."""
    ports: Sequence[pulumi.Input[int]] = ()
    """TCP ports; none: all, of every protocol."""
    deny: bool = False
    """Whether it denies what no other rule allows."""


class GceGuard(pulumi.ComponentResource):
    """Owns a service account, unless one is there, and the firewall rules of the machines that run as it, unless others
    make them: then it says what has to be allowed.

    An account that it makes has no role in the project: it is a name, for the rules here and for Kubernetes' RBAC. The
    metadata server, which is name server too, needs no rule.
    """

    email: pulumi.Output[str]
    """The service account's e-mail, by which Kubernetes knows it."""
    unique_id: pulumi.Output[str]
    """Its number, by which Kubernetes knows it if the machine's scopes do not show the e-mail."""
    rules: list[pulumi.Resource]
    """The firewall rules. Machines depend on them, for one that leaves without its rules loses its requests; not by an
    input, or a rule that is replaced would take the template that a group uses with it."""
    must_be_allowed: dict[str, pulumi.Output[str]]
    """In words, what the rules of others have to allow, by what it is for; nothing where the rules are made here."""

    def __init__(self, name: str, args: GceGuardArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        wanted = rules_of(args)
        self.must_be_allowed = {} if args.make_rules else {rule.role: in_words(rule) for rule in wanted}
        told = {"mustBeAllowed": self.must_be_allowed} if self.must_be_allowed else {}
        super().__init__("hybridmesh:gce_guard:GceGuard", name, {"members": args.members, **told}, opts)
        self._name, self._args = name, args
        account = self._find_account(args.account) if args.account is not None else self._make_account()
        self.email, self.unique_id = account.email, account.unique_id
        self.rules = [self._make_rule(rule) for rule in wanted] if args.make_rules else []
        self.register_outputs({"email": self.email, "uniqueId": self.unique_id})

    def _make_account(self) -> serviceaccount.Account:
        return serviceaccount.Account(
            f"{self._name}-account",
            account_id=self._args.members,
            display_name=f"{self._args.members}: machines of the mesh",
            project=self._args.project,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _find_account(self, email: str) -> serviceaccount.Account:
        """Of the name that one has which is made: where the stack has made this very one, it lets go of it, and does
        not remove it (pulumi, pkg/resource/deploy/step_generator.go, GenerateReadSteps)."""
        path = f"projects/{project_of_account(email)}/serviceAccounts/{email}"
        opts = pulumi.ResourceOptions(parent=self)
        return serviceaccount.Account.get(f"{self._name}-account", path, opts=opts)

    def _make_rule(self, rule: Rule) -> compute.Firewall:
        args, incoming = self._args, rule.direction == "INGRESS"
        ports = [pulumi.Output.from_input(port).apply(str) for port in rule.ports]
        tcp = compute.FirewallAllowArgs(protocol="tcp", ports=ports)
        return compute.Firewall(
            f"{self._name}-{rule.role}",
            name=f"{args.members}-{rule.role}",
            # Google takes a network's rules in its own project alone: cloud.google.com/vpc/docs/shared-vpc.
            project=pulumi.Output.from_input(args.network).apply(lambda link: project_of_link(link, args.project)),
            network=args.network,
            direction=rule.direction,
            priority=_DENY if rule.deny else _ALLOW,
            source_ranges=rule.ranges if incoming else None,
            destination_ranges=None if incoming else rule.ranges,
            allows=None if rule.deny else [tcp if ports else compute.FirewallAllowArgs(protocol="all")],
            denies=[compute.FirewallDenyArgs(protocol="all")] if rule.deny else None,
            # By account rather than by tag, which whoever may edit an instance could give to another one. A rule's
            # accounts may be those of another project: cloud.google.com/firewall/docs/using-firewalls, "Targets".
            target_service_accounts=[self.email],
            log_config=compute.FirewallLogConfigArgs(metadata="INCLUDE_ALL_METADATA") if args.log_rules else None,
            opts=pulumi.ResourceOptions(parent=self),
        )


def rules_of(args: GceGuardArgs) -> list[Rule]:
    """All rules that machines need."""
    rules = []
    if args.app_ports and args.clients:
        rules.append(_incoming("app", args.clients, args.app_ports))
    if args.observers:
        rules.append(_incoming("observers", args.observers, [AGENT_STATUS, AGENT_HEALTH, ENVOY_METRICS]))
    rules.append(_incoming("health", HEALTH_CHECK_RANGES, [AGENT_HEALTH]))
    if args.ssh:
        rules.append(_incoming("iap", [IAP_RANGE], [SSH]))
    gateway = pulumi.Output.all(pulumi.Output.from_input(args.gateway_address).apply(range_of))
    rules.append(_outgoing("gateway", gateway, [ISTIOD_XDS, EAST_WEST_TLS]))
    if args.api_server is not None:
        url = pulumi.Output.from_input(args.api_server)
        rules.append(_outgoing("kubernetes", pulumi.Output.all(url.apply(host_range)), [url.apply(port_of)]))
    rules += [_outgoing(way.name, list(way.ranges), way.ports) for way in args.ways]
    if args.deny_other_egress:
        rules.append(Rule(role="deny", direction="EGRESS", ranges=["0.0.0.0/0"], deny=True))
    return rules


def _incoming(role: str, ranges: Sequence[pulumi.Input[str]], ports: Sequence[int]) -> Rule:
    once = pulumi.Output.all(*ranges).apply(lambda known: list(dict.fromkeys(known)))
    return Rule(role=f"in-{role}", direction="INGRESS", ranges=once, ports=sorted(set(ports)))


def _outgoing(role: str, ranges: pulumi.Input[Sequence[str]], ports: Sequence[pulumi.Input[int]]) -> Rule:
    return Rule(role=f"out-{role}", direction="EGRESS", ranges=ranges, ports=ports)


def in_words(rule: Rule) -> pulumi.Output[str]:
    """A rule as one reads it who has to make it."""

    def words(ranges: Sequence[str], ports: Sequence[int]) -> str:
        if rule.deny:
            return "EGRESS: nothing else"
        what = f"tcp {', '.join(map(str, ports))}" if ports else "all protocols"
        return f"{rule.direction}: {what} {'from' if rule.direction == 'INGRESS' else 'to'} {', '.join(ranges)}"

    return pulumi.Output.all(rule.ranges, pulumi.Output.all(*rule.ports)).apply(lambda both: words(*both))


def range_of(address: str) -> str:
    """The CIDR of one address; of a host name, whose addresses change, all of them."""
    try:
        return str(ipaddress.ip_network(address))
    except ValueError:
        return "0.0.0.0/0"


def host_range(url: str) -> str:
    """The CIDR of an `https://…` server."""
    return range_of(urlsplit(url).hostname or "")


def port_of(url: str) -> int:
    """The port of an `https://…` server."""
    return urlsplit(url).port or 443
