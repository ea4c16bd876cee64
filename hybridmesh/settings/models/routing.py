"""How a workload's requests are split."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from .base import Labels, Model, Name, Percent, Seconds, no_bool, setting


class OutlierDetection(Model):
    """When a client's proxy stops using an endpoint that fails."""

    consecutive_errors: Annotated[int, BeforeValidator(no_bool), Field(ge=1)] = setting(
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


class Retries(Model):
    """What a client's proxy tries again: requests that are safe to repeat (GET, PUT, …) after a reset too."""

    attempts: Annotated[int, BeforeValidator(no_bool), Field(ge=0, le=10)] = setting(
        3,
        meaning="How often; 0 for never.",
        example=3,
        wrong="a failing service would be flooded.",
        fix="0 to 10.",
    )
    per_try_seconds: Seconds | None = setting(
        None,
        meaning="Limit for each try; default none.",
        example=2,
        wrong="a slow endpoint would use up all the time.",
        fix="seconds, 1 to 86400, or leave it out.",
    )


class Routing(Model):
    """How the requests for one workload are split."""

    subsets: Mapping[Name, Labels] = setting(
        meaning="Groups of its endpoints by label.",
        example={"k8s": {"version": "k8s"}, "vm": {"version": "vm"}},
        wrong="there would be nothing to split between.",
        fix="`{k8s: {version: k8s}, vm: {version: vm}}`.",
    )
    weights: Mapping[Name, Percent] = setting(
        meaning="Percent of the requests by subset; they add up to 100.",
        example={"k8s": 90, "vm": 10},
        wrong="Istio would refuse the route.",
        fix="`{k8s: 90, vm: 10}`.",
    )
    outlier_detection: OutlierDetection = setting(
        default_factory=OutlierDetection,
        meaning="When an endpoint that fails is left out.",
        example={"consecutiveErrors": 5},
        wrong="a dead VM would keep its share of requests.",
        fix="a mapping.",
    )
    retries: Retries = setting(
        default_factory=Retries,
        meaning="What is tried again.",
        example={"attempts": 3},
        wrong="requests to a dying VM would fail.",
        fix="a mapping.",
    )
