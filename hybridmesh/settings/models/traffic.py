"""What clients' proxies do with connections and endpoints."""

from collections.abc import Mapping
from typing import Literal

from .base import AtLeastOne, Duration, LocalityMatch, Model, Percent, Region, Seconds, setting


class OutlierDetection(Model):
    """When a client's proxy stops using an endpoint that fails."""

    consecutive_errors: AtLeastOne = setting(
        5,
        meaning="Gateway errors (502, 503, 504, resets) in a row after which it is left out.",
        example=5,
        wrong="a dead VM would keep its share of requests.",
        fix="1 or more.",
    )
    interval_seconds: Seconds = setting(
        5,
        meaning="Time between two looks.",
        example=5,
        wrong="a dead VM would keep its share of requests.",
        fix="seconds, 1 to 86400.",
    )
    base_ejection_seconds: Seconds = setting(
        15,
        meaning="How long it is left out at first; longer each time.",
        example=15,
        wrong="a recovered VM would stay out.",
        fix="seconds, 1 to 86400.",
    )
    max_ejection_percent: Percent = setting(
        100,
        meaning="Share of the endpoints that may be left out at once.",
        example=100,
        wrong="dead VMs would keep their share of requests.",
        fix="0 to 100; 0 turns it off.",
    )


class TcpPool(Model):
    """A client's connections."""

    max_connections: AtLeastOne | None = setting(
        None,
        meaning="Connections by HTTP/1.1 and TCP, from one client's proxy to all endpoints; default no limit.",
        example=100,
        wrong="requests would fail, or a service would be flooded.",
        fix="1 or more, or leave it out.",
    )
    connect_timeout: Duration | None = setting(
        None,
        meaning="Limit for a connection to be made; default 10s.",
        example="30ms",
        wrong="a dead endpoint would hold up requests, or a live one would look dead.",
        fix="a number with ms, s, m or h, such as `30ms`.",
    )


class HttpPool(Model):
    """A client's requests."""

    http1_max_pending_requests: AtLeastOne | None = setting(
        None,
        meaning="Requests that wait for a connection; the next is answered 503. Default no limit.",
        example=1024,
        wrong="requests would fail, or pile up.",
        fix="1 or more, or leave it out.",
        alias="http1MaxPendingRequests",
    )
    http2_max_requests: AtLeastOne | None = setting(
        None,
        meaning="Requests under way, HTTP/1.1's too; the next is answered 503. Default no limit.",
        example=1000,
        wrong="requests would fail, or a service would be flooded.",
        fix="1 or more, or leave it out.",
        alias="http2MaxRequests",
    )
    max_requests_per_connection: AtLeastOne | None = setting(
        None,
        meaning="Requests after which a connection is closed; default no limit. 1 turns keep-alive off.",
        example=10,
        wrong="connections would be made anew too often, or stay with one endpoint.",
        fix="1 or more, or leave it out.",
    )
    max_retries: AtLeastOne | None = setting(
        None,
        meaning="Retries under way; default no limit.",
        example=3,
        wrong="retries could flood a service that fails.",
        fix="1 or more, or leave it out.",
    )
    idle_timeout: Duration | None = setting(
        None,
        meaning="How long a connection without requests is kept; default 1h.",
        example="1h",
        wrong="connections would be cut, or pile up.",
        fix="a number with ms, s, m or h, such as `1h`.",
    )


class ConnectionPool(Model):
    """How much of a service one client's proxy may use at once."""

    tcp: TcpPool = setting(
        default_factory=TcpPool,
        meaning="Connections.",
        example={"maxConnections": 100, "connectTimeout": "30ms"},
        wrong="requests would fail, or a service would be flooded.",
        fix="a mapping, or leave it out.",
    )
    http: HttpPool = setting(
        default_factory=HttpPool,
        meaning="Requests.",
        example={"http2MaxRequests": 1000, "maxRequestsPerConnection": 10},
        wrong="requests would fail, or a service would be flooded.",
        fix="a mapping, or leave it out.",
    )


class Failover(Model):
    """Which region takes over from which."""

    from_: Region = setting(
        meaning="The clients' region.",
        example="europe-west3",
        wrong="nothing would take over.",
        fix="a region, without zone.",
        alias="from",
    )
    to: Region = setting(
        meaning="The region that takes over once the clients' own has no healthy endpoint.",
        example="europe-west4",
        wrong="nothing would take over.",
        fix="a region, without zone.",
    )


class Distribute(Model):
    """How the requests of one locality are spread."""

    from_: LocalityMatch = setting(
        meaning="The clients' locality.",
        example="europe-west3/*",
        wrong="requests would be spread in another way.",
        fix="`region/zone/subzone`; `*` stands for any.",
        alias="from",
    )
    to: Mapping[LocalityMatch, Percent] = setting(
        meaning="Percent by the endpoints' locality; they add up to 100.",
        example={"europe-west3/*": 80, "europe-west4/*": 20},
        wrong="Istio would refuse the rule.",
        fix="`{europe-west3/*: 80, europe-west4/*: 20}`.",
    )


class LocalityLbSetting(Model):
    """Load balancing by locality. One of the two."""

    failover: tuple[Failover, ...] = setting(
        (),
        meaning="Which region takes over from which. Endpoints nearby are preferred.",
        example=[{"from": "europe-west3", "to": "europe-west4"}],
        wrong="nothing would take over.",
        fix="`[{from: region, to: region}]`.",
    )
    distribute: tuple[Distribute, ...] = setting(
        (),
        meaning="Shares by locality.",
        example=[{"from": "europe-west3/*", "to": {"europe-west3/*": 80, "europe-west4/*": 20}}],
        wrong="requests would be spread in another way.",
        fix="`[{from: locality, to: {locality: percent}}]`.",
    )


class LoadBalancer(Model):
    """Which endpoint gets the next request."""

    simple: Literal["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"] = setting(
        "LEAST_REQUEST",
        meaning="The algorithm.",
        example="ROUND_ROBIN",
        wrong="Istio would refuse the rule.",
        fix="LEAST_REQUEST, ROUND_ROBIN or RANDOM.",
    )
    locality_lb_setting: LocalityLbSetting | None = setting(
        None,
        meaning="By locality; default: the mesh's setting.",
        example={"failover": [{"from": "europe-west3", "to": "europe-west4"}]},
        wrong="requests would cross regions.",
        fix="`{failover: [...]}` or `{distribute: [...]}`.",
    )


class Tls(Model):
    """TLS from a client's proxy to the service."""

    mode: Literal["ISTIO_MUTUAL"] = setting(
        meaning="`ISTIO_MUTUAL`: mTLS with Istio's certificates to every endpoint. Without it: to those that have a "
        "sidecar, which Istio finds out by itself.",
        example="ISTIO_MUTUAL",
        wrong="requests would go out in plain text, and STRICT endpoints would refuse them.",
        fix="ISTIO_MUTUAL, or leave `tls` out.",
    )


class TrafficPolicy(Model):
    """What clients' proxies do with connections and endpoints: a DestinationRule's trafficPolicy."""

    connection_pool: ConnectionPool | None = setting(
        None,
        meaning="How much of a service one client's proxy may use at once; default no limit.",
        example={"tcp": {"maxConnections": 100}, "http": {"maxRequestsPerConnection": 10}},
        wrong="requests would fail, or a service would be flooded.",
        fix="`{tcp: {...}, http: {...}}`.",
    )
    outlier_detection: OutlierDetection | None = setting(
        None,
        meaning="When an endpoint that fails is left out. A `routing` without it has these defaults.",
        example={"consecutiveErrors": 5},
        wrong="a dead VM would keep its share of requests.",
        fix="a mapping.",
    )
    load_balancer: LoadBalancer | None = setting(
        None,
        meaning="Which endpoint gets the next request; default LEAST_REQUEST.",
        example={"simple": "ROUND_ROBIN"},
        wrong="requests would be spread in another way.",
        fix="a mapping, or leave it out.",
    )
    tls: Tls | None = setting(
        None,
        meaning="mTLS demanded by the client; default: wherever the endpoint has a sidecar.",
        example={"mode": "ISTIO_MUTUAL"},
        wrong="requests could go out in plain text.",
        fix="`{mode: ISTIO_MUTUAL}`, or leave it out.",
    )
