"""How the requests for one host are split, and what happens to those that fail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

IDEMPOTENT = ("DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE")
"""Methods that may be repeated without doing a thing twice (RFC 9110, 9.2.2)."""
RETRY_IDEMPOTENT = "connect-failure,refused-stream,unavailable,cancelled,reset,gateway-error"
"""Helm's and Istio's default lacks `reset`: a request under way to a machine that dies would fail."""
RETRY_OTHERS = "connect-failure,refused-stream,reset-before-request"
"""Only what surely did not reach the app."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutlierDetection:
    """When a client's proxy leaves an endpoint out."""

    consecutive_errors: int = 5
    """Gateway errors (502, 503, 504, resets) in a row. The app's own 500s do not count."""
    interval_seconds: int = 5
    """Time between two looks."""
    base_ejection_seconds: int = 15
    """How long it stays out at first."""
    max_ejection_percent: int = 100
    """Share of the endpoints that may be out at once; 0 turns it off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutingArgs:
    """Inputs of `Routing`."""

    workload: str
    """The workload's name: that of both objects, so that a second owner is refused by Kubernetes."""
    namespace: pulumi.Input[str]
    """The workload's namespace."""
    host: pulumi.Input[str]
    """The service's full host name."""
    subsets: Mapping[str, Mapping[str, str]]
    """Groups of endpoints: labels by name."""
    weights: Mapping[str, int]
    """Percent by subset; they add up to 100."""
    tcp_ports: Sequence[int] = ()
    """The service's ports that are split by connection; all others are split by request."""
    has_http: bool = True
    """Whether there is any other."""
    outlier_detection: OutlierDetection = OutlierDetection()
    """When an endpoint is left out."""
    retry_attempts: int = 3
    """How often a failed request is tried again; 0 for never."""
    per_try_seconds: int | None = None
    """Limit for each try; default none."""


class Routing(pulumi.ComponentResource):
    """The one owner of a host's DestinationRule and VirtualService: two of either for one host conflict.

    It does not own the service, nor who may call it.
    """

    def __init__(self, name: str, args: RoutingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
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


def destination_rule(args: RoutingArgs) -> dict[str, Any]:
    """The DestinationRule's spec, without its host."""
    outliers = args.outlier_detection
    return {
        "trafficPolicy": {
            "outlierDetection": {
                "consecutiveGatewayErrors": outliers.consecutive_errors,
                "consecutive5xxErrors": 0,
                "interval": f"{outliers.interval_seconds}s",
                "baseEjectionTime": f"{outliers.base_ejection_seconds}s",
                "maxEjectionPercent": outliers.max_ejection_percent,
            }
        },
        "subsets": [{"name": key, "labels": dict(args.subsets[key])} for key in sorted(args.subsets)],
    }


def virtual_service(args: RoutingArgs, host: str) -> dict[str, Any]:
    """The VirtualService's spec."""
    route = [
        {"destination": {"host": host, "subset": key}, "weight": args.weights[key]} for key in sorted(args.weights)
    ]
    spec: dict[str, Any] = {"hosts": [host]}
    if args.has_http:
        spec["http"] = [
            {
                "name": "idempotent",
                "match": [{"method": {"regex": "|".join(IDEMPOTENT)}}],
                "route": route,
                "retries": _retries(args, RETRY_IDEMPOTENT),
            },
            {"name": "others", "route": route, "retries": _retries(args, RETRY_OTHERS)},
        ]
    if args.tcp_ports:
        spec["tcp"] = [{"match": [{"port": port} for port in sorted(args.tcp_ports)], "route": route}]
    return spec


def _retries(args: RoutingArgs, retry_on: str) -> dict[str, Any]:
    if args.retry_attempts == 0:
        return {"attempts": 0}
    limit = {} if args.per_try_seconds is None else {"perTryTimeout": f"{args.per_try_seconds}s"}
    return {"attempts": args.retry_attempts, "retryOn": retry_on, **limit}
