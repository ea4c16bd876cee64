"""A namespace of workloads."""

from .base import Model, setting
from .traffic import TrafficPolicy


class Namespace(Model):
    """How a namespace of workloads is had."""

    existing: bool = setting(
        False,
        meaning="`true`: it exists, with its injection label, and is not this stack's to change or remove.",
        example=False,
        wrong="the stack could remove a namespace that others use.",
        fix="`true` or `false`.",
    )
    traffic_policy: TrafficPolicy | None = setting(
        None,
        meaning="What holds for every Kubernetes Service in it (DestinationRule for `*.<namespace>.svc.<domain>`); a "
        "`routing` takes from it what it does not say itself.",
        example={"tls": {"mode": "ISTIO_MUTUAL"}, "connectionPool": {"http": {"maxRequestsPerConnection": 1000}}},
        wrong="services without a routing of their own would have Istio's defaults.",
        fix="a mapping, or leave it out.",
    )
