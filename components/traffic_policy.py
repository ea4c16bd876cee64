"""What a client's proxy does with the connections and endpoints of a host."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from hybridmesh.settings.routing_checks import NAMESPACE_RULE


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionPool:
    """How much of a host one client's proxy may use at once. None: Envoy's own limit, mostly none."""

    max_connections: int | None = None
    """Connections by HTTP/1.1 and TCP."""
    connect_timeout: str | None = None
    """Limit for a connection to be made, such as `30ms`."""
    http1_max_pending_requests: int | None = None
    """Requests that wait for a connection."""
    http2_max_requests: int | None = None
    """Requests under way, HTTP/1.1's too."""
    max_requests_per_connection: int | None = None
    """Requests after which a connection is closed."""
    max_retries: int | None = None
    """Retries under way."""
    idle_timeout: str | None = None
    """How long a connection without requests is kept, such as `1h`."""


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
class LoadBalancer:
    """Which endpoint gets the next request."""

    simple: Literal["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"] | None = None
    """The algorithm; default Istio's, LEAST_REQUEST."""
    failover: Mapping[str, str] = field(default_factory=dict)
    """Which region takes over from which, once a client's own has no healthy endpoint. Needs outlier detection."""
    distribute: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Percent of the requests by the endpoints' locality, by the client's, in this order; instead of failover. Istio
    refuses a locality after a wider one that it is in, such as `*`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrafficPolicy:
    """A DestinationRule's trafficPolicy."""

    connection_pool: ConnectionPool | None = None
    """Limits of connections and requests; default none."""
    outlier_detection: OutlierDetection | None = None
    """When an endpoint is left out; default never."""
    load_balancer: LoadBalancer | None = None
    """Which endpoint is next; default Istio's."""
    tls: Literal["ISTIO_MUTUAL"] | None = None
    """ISTIO_MUTUAL: mTLS to every endpoint, whatever is known of it. Default: to those that have a sidecar."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NamespaceTrafficArgs:
    """Inputs of `NamespaceTraffic`."""

    namespace: str
    """The namespace."""
    waits_for: pulumi.Input[str]
    """The same, as the output of what makes it."""
    domain: str = "cluster.local"
    """The cluster's DNS domain."""
    policy: TrafficPolicy
    """What holds for the namespace's services."""


class NamespaceTraffic(pulumi.ComponentResource):
    """Owns the DestinationRule for all Kubernetes Services of one namespace.

    Istio reads one rule a host, the one that names it most closely: a host with a `Routing` has a rule of its own,
    and nothing of this one. In the services' namespace, not the clients': there it would hide rules of others.
    """

    def __init__(self, name: str, args: NamespaceTrafficArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        host = f"*.{args.namespace}.svc.{args.domain}"
        super().__init__("hybridmesh:traffic_policy:NamespaceTraffic", name, {"host": host}, opts)
        CustomResource(
            f"{name}-destination-rule",
            api_version="networking.istio.io/v1",
            kind="DestinationRule",
            metadata=ObjectMetaArgs(name=NAMESPACE_RULE, namespace=args.waits_for),
            spec={"host": host, "trafficPolicy": traffic_policy(args.policy)},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def traffic_policy(policy: TrafficPolicy) -> dict[str, Any]:
    """The policy as Istio writes it."""
    document: dict[str, Any] = {}
    if policy.connection_pool is not None:
        document["connectionPool"] = _connection_pool(policy.connection_pool)
    if policy.load_balancer is not None:
        document["loadBalancer"] = _load_balancer(policy.load_balancer)
    outliers = policy.outlier_detection
    if outliers is not None:
        document["outlierDetection"] = {
            "consecutiveGatewayErrors": outliers.consecutive_errors,
            "consecutive5xxErrors": 0,
            "interval": f"{outliers.interval_seconds}s",
            "baseEjectionTime": f"{outliers.base_ejection_seconds}s",
            "maxEjectionPercent": outliers.max_ejection_percent,
        }
    if policy.tls is not None:
        document["tls"] = {"mode": policy.tls}
    return document


def _connection_pool(pool: ConnectionPool) -> dict[str, Any]:
    tcp = {"maxConnections": pool.max_connections, "connectTimeout": pool.connect_timeout}
    http = {
        "http1MaxPendingRequests": pool.http1_max_pending_requests,
        "http2MaxRequests": pool.http2_max_requests,
        "maxRequestsPerConnection": pool.max_requests_per_connection,
        "maxRetries": pool.max_retries,
        "idleTimeout": pool.idle_timeout,
    }
    parts = {"tcp": _without_none(tcp), "http": _without_none(http)}
    return {key: part for key, part in parts.items() if part}


def _load_balancer(balancer: LoadBalancer) -> dict[str, Any]:
    document: dict[str, Any] = {"simple": balancer.simple or "LEAST_REQUEST"}
    if balancer.failover:
        document["localityLbSetting"] = {
            "enabled": True,
            "failover": [{"from": key, "to": balancer.failover[key]} for key in sorted(balancer.failover)],
        }
    elif balancer.distribute:
        document["localityLbSetting"] = {
            "enabled": True,
            "distribute": [{"from": key, "to": dict(to)} for key, to in balancer.distribute.items()],
        }
    return document


def _without_none(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value is not None}
