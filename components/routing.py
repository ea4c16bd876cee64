"""How the requests for one host are split, and what happens to those that fail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from .traffic_policy import OutlierDetection, TrafficPolicy, traffic_policy

IDEMPOTENT = ("DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE")
"""Methods that may be repeated without doing a thing twice (RFC 9110, 9.2.2)."""
RETRY_IDEMPOTENT = "connect-failure,refused-stream,unavailable,cancelled,reset,gateway-error"
"""Helm's and Istio's default lacks `reset`: a request under way to a machine that dies would fail."""
RETRY_OTHERS = "connect-failure,refused-stream,reset-before-request"
"""Only what surely did not reach the app."""
DEFAULT_POLICY = TrafficPolicy(outlier_detection=OutlierDetection())
"""A machine that dies must not keep its share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeaderMatch:
    """Requests that go to one subset, whatever the weights: a tester's."""

    headers: Mapping[str, str]
    """Exact values by header, in lower case; all must be there."""
    subset: str
    """Where they go."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mirror:
    """A subset that gets copies of requests; its answers are thrown away."""

    subset: str
    """Where the copies go."""
    percentage: float = 100
    """Percent of the requests that are copied."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutingArgs:
    """Inputs of `Routing`."""

    workload: str
    """The workload's name: that of both objects, so that a second owner is refused by Kubernetes."""
    namespace: pulumi.Input[str]
    """The workload's namespace."""
    host: pulumi.Input[str]
    """The service's full host name."""
    aliases: Sequence[str] = ()
    """More host names of it: requests for them are routed as if they named `host`."""
    subsets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Groups of endpoints: labels by name."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """Percent by subset; they add up to 100. None: all endpoints alike."""
    matches: Sequence[HeaderMatch] = ()
    """Requests that go to one subset by their headers; the first that fits counts."""
    mirror: Mirror | None = None
    """Who gets copies of the requests that are split by weight; default nobody."""
    tcp_ports: Sequence[int] = ()
    """The service's ports that are split by connection; all others are split by request."""
    tls_ports: Sequence[int] = ()
    """The same where the app speaks TLS itself: connections are found by their SNI, the full host name."""
    has_http: bool = True
    """Whether there is any other."""
    http_ports: Sequence[int] = ()
    """The others. Needed where the service has more than one port in all: then every route names its own."""
    policy: TrafficPolicy = DEFAULT_POLICY
    """What clients do with connections and endpoints."""
    timeout: str | None = None
    """Limit for a request, its retries included, such as `2s`; default none."""
    retry_attempts: int = 3
    """How often a failed request is tried again; 0 for never."""
    per_try_seconds: int | None = None
    """Limit for each try, with `retry_attempts` of 1 or more; default none."""


class Routing(pulumi.ComponentResource):
    """The one owner of a host's DestinationRule and VirtualService: two of either for one host conflict.

    It does not own the service, nor who may call it.
    """

    def __init__(self, name: str, args: RoutingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        refuse_unknown_subsets(name, args)
        refuse_limit_without_retries(name, args)
        super().__init__(
            "hybridmesh:routing:Routing",
            name,
            {"host": args.host, "weights": {key: args.weights[key] for key in sorted(args.weights)}},
            opts,
        )
        child = pulumi.ResourceOptions(parent=self)
        rule = CustomResource(
            f"{name}-destination-rule",
            api_version="networking.istio.io/v1",
            kind="DestinationRule",
            metadata=ObjectMetaArgs(name=args.workload, namespace=args.namespace),
            spec={"host": args.host, **destination_rule(args)},
            opts=child,
        )
        CustomResource(
            f"{name}-virtual-service",
            api_version="networking.istio.io/v1",
            kind="VirtualService",
            metadata=ObjectMetaArgs(name=args.workload, namespace=args.namespace),
            spec=pulumi.Output.from_input(args.host).apply(lambda host: virtual_service(args, host)),
            # A route to a subset that is not there yet answers 503.
            opts=pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[rule])),
        )
        self.register_outputs({})


def refuse_unknown_subsets(name: str, args: RoutingArgs) -> None:
    """Raises ValueError, with the fix, where requests would go to a subset that there is not."""
    named = [(f"weights.{subset}", subset) for subset in args.weights]
    named += [(f"matches[{index}].subset", match.subset) for index, match in enumerate(args.matches)]
    if args.mirror is not None:
        named.append(("mirror.subset", args.mirror.subset))
    for place, subset in named:
        if subset not in args.subsets:
            raise ValueError(
                f"{name}: {place}: {subset} is no subset (there are: {', '.join(sorted(args.subsets)) or 'none'}). Its "
                "share of the requests would fail with 503. Fix: add it to `subsets`, or drop it."
            )


def refuse_limit_without_retries(name: str, args: RoutingArgs) -> None:
    """Raises ValueError, with the fix, on a limit that Istio refuses beside no retries (its `validateHTTPRetry`)."""
    if args.retry_attempts == 0 and args.per_try_seconds is not None:
        raise ValueError(
            f"{name}: per_try_seconds: {args.per_try_seconds} is the limit of each try, and retry_attempts is 0. It "
            "would limit nothing. Fix: `timeout`, which limits a request that is tried once; or more attempts."
        )


def destination_rule(args: RoutingArgs) -> dict[str, Any]:
    """The DestinationRule's spec, without its host."""
    rule: dict[str, Any] = {"trafficPolicy": traffic_policy(args.policy)}
    if args.subsets:
        rule["subsets"] = [{"name": key, "labels": dict(args.subsets[key])} for key in sorted(args.subsets)]
    return rule


def virtual_service(args: RoutingArgs, host: str) -> dict[str, Any]:
    """The VirtualService's spec."""
    several = len(args.http_ports) + len(args.tls_ports) + len(args.tcp_ports) > 1
    spec: dict[str, Any] = {"hosts": [host, *args.aliases]}
    if args.has_http:
        ports: list[int | None] = [*sorted(args.http_ports)] if several and args.http_ports else [None]
        spec["http"] = [route for port in ports for route in _http(args, host, port)]
    if args.tls_ports:
        spec["tls"] = [
            {
                "match": [{"port": port, "sniHosts": [host, *args.aliases]}],
                "route": _split(args, host, port if several else None),
            }
            for port in sorted(args.tls_ports)
        ]
    if args.tcp_ports:
        spec["tcp"] = [
            {"match": [{"port": port}], "route": _split(args, host, port if several else None)}
            for port in sorted(args.tcp_ports)
        ]
    return spec


def _destination(host: str, port: int | None, subset: str | None = None) -> dict[str, Any]:
    """Where requests go. Without a port: to the one that the client asked for."""
    destination: dict[str, Any] = {"host": host}
    if subset is not None:
        destination["subset"] = subset
    if port is not None:
        destination["port"] = {"number": port}
    return destination


def _split(args: RoutingArgs, host: str, port: int | None) -> list[dict[str, Any]]:
    if not args.weights:
        return [{"destination": _destination(host, port)}]
    return [{"destination": _destination(host, port, key), "weight": args.weights[key]} for key in sorted(args.weights)]


def _http(args: RoutingArgs, host: str, port: int | None) -> list[dict[str, Any]]:
    """The routes of one port; None: of the only one."""
    prefix, on_port = ("", {}) if port is None else (f"{port}-", {"port": port})
    routes: list[dict[str, Any]] = []
    for index, match in enumerate(args.matches):
        headers = {"headers": {key: {"exact": match.headers[key]} for key in sorted(match.headers)}}
        to = {"route": [{"destination": _destination(host, port, match.subset)}]}
        routes += _both(args, f"{prefix}match-{index}-", {**on_port, **headers}, to)
    return routes + _both(args, prefix, on_port, {"route": _split(args, host, port), **_mirrored(args, host, port)})


def _mirrored(args: RoutingArgs, host: str, port: int | None) -> dict[str, Any]:
    if args.mirror is None:
        return {}
    return {
        "mirror": _destination(host, port, args.mirror.subset),
        "mirrorPercentage": {"value": args.mirror.percentage},
    }


def _both(args: RoutingArgs, prefix: str, match: dict[str, Any], to: dict[str, Any]) -> list[dict[str, Any]]:
    """One route for what may be repeated, one for the rest: they differ in what is tried again."""
    limit = {} if args.timeout is None else {"timeout": args.timeout}
    repeatable = {**match, "method": {"regex": "|".join(IDEMPOTENT)}}
    idempotent = {"name": f"{prefix}idempotent", "match": [repeatable], **to, **limit}
    others = {"name": f"{prefix}others", **({"match": [match]} if match else {}), **to, **limit}
    return [
        {**idempotent, "retries": _retries(args, RETRY_IDEMPOTENT)},
        {**others, "retries": _retries(args, RETRY_OTHERS)},
    ]


def _retries(args: RoutingArgs, retry_on: str) -> dict[str, Any]:
    if args.retry_attempts == 0:
        return {"attempts": 0}
    limit = {} if args.per_try_seconds is None else {"perTryTimeout": f"{args.per_try_seconds}s"}
    return {"attempts": args.retry_attempts, "retryOn": retry_on, **limit}
