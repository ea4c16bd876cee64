"""Who may call one workload, and what for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessRule:
    """One kind of call. Callers of any of the three kinds match; what is empty is not looked at."""

    callers: Sequence[pulumi.Input[str]] = ()
    """Callers by SPIFFE id, as a workload's output `identity` has it."""
    principals: Sequence[pulumi.Input[str]] = ()
    """Callers by identity as Istio's policies write it: without `spiffe://`."""
    namespaces: Sequence[str] = ()
    """Callers by the namespace in their identity."""
    methods: Sequence[str] = ()
    """HTTP methods."""
    paths: Sequence[str] = ()
    """HTTP paths."""
    ports: Sequence[int] = ()
    """Ports that the app listens on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadAccessArgs:
    """Inputs of `WorkloadAccess`."""

    workload: str
    """The workload's name: its label `app`, by which policies select pods and machines, and the policies' prefix."""
    namespace: pulumi.Input[str]
    """The workload's namespace."""
    default_deny: bool = True
    """Whether calls that no rule matches are refused."""
    allow: Sequence[AccessRule] = ()
    """What is let through."""
    deny: Sequence[AccessRule] = ()
    """What is refused, even if it is allowed too."""
    http_ports: Sequence[int] = ()
    """Ports on which the app speaks HTTP: what a rule of `deny` with methods or paths, but without ports, is for.
    Istio, which sees neither of them on any other port, would refuse all there."""


class WorkloadAccess(pulumi.ComponentResource):
    """Owns the AuthorizationPolicies of one workload, for its pods and its machines alike.

    Up to three, each named after what it does, since a refusal's log line names the policy: `<workload>-deny`,
    `<workload>-allow` and the empty `<workload>-default-deny`. What is allowed is there before all else is refused,
    and goes after. A caller that gets another identity is that here before it is so itself.

    It does not own how identities come about (`AccessPolicy`, `Workload`).
    """

    def __init__(self, name: str, args: WorkloadAccessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:workload_access:WorkloadAccess",
            name,
            {
                "workload": args.workload,
                "default": "deny" if args.default_deny else "allow",
                "allow": len(args.allow),
                "deny": len(args.deny),
            },
            opts,
        )
        self._name = name
        self._args = args
        before: list[pulumi.Resource] = []
        if args.deny:
            before.append(self._policy("deny", "DENY", [on_http(rule, args.http_ports) for rule in args.deny], before))
        if args.allow:
            before.append(self._policy("allow", "ALLOW", args.allow, before))
        if args.default_deny:
            self._policy("default-deny", "ALLOW", (), before)
        self.register_outputs({})

    def _policy(
        self,
        role: str,
        action: Literal["ALLOW", "DENY"],
        rules: Sequence[AccessRule],
        after: Sequence[pulumi.Resource],
    ) -> CustomResource:
        args = self._args
        spec: dict[str, Any] = {"selector": {"matchLabels": {"app": args.workload}}, "action": action}
        if rules:
            spec["rules"] = [policy_rule(rule) for rule in rules]
        return CustomResource(
            f"{self._name}-{role}",
            api_version="security.istio.io/v1",
            kind="AuthorizationPolicy",
            metadata=ObjectMetaArgs(name=f"{args.workload}-{role}", namespace=args.namespace),
            spec=spec,
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(after)),
        )


def on_http(rule: AccessRule, ports: Sequence[int]) -> AccessRule:
    """A rule about methods or paths, for the ports that have them."""
    return replace(rule, ports=ports) if (rule.methods or rule.paths) and not rule.ports else rule


def policy_rule(rule: AccessRule) -> dict[str, Any]:
    """One rule of an AuthorizationPolicy."""
    callers = [pulumi.Output.from_input(caller).apply(principal) for caller in rule.callers]
    sources: list[Mapping[str, Any]] = []
    if callers or rule.principals:
        sources.append({"principals": [*callers, *rule.principals]})
    if rule.namespaces:
        sources.append({"namespaces": list(rule.namespaces)})
    operation: dict[str, list[str]] = {
        key: values
        for key, values in (
            ("methods", list(rule.methods)),
            ("paths", list(rule.paths)),
            ("ports", [str(port) for port in rule.ports]),
        )
        if values
    }
    document: dict[str, Any] = {}
    if sources:
        document["from"] = [{"source": source} for source in sources]
    if operation:
        document["to"] = [{"operation": operation}]
    return document


def principal(spiffe_id: str) -> str:
    """A SPIFFE id as Istio's policies write it."""
    return spiffe_id.removeprefix("spiffe://")
