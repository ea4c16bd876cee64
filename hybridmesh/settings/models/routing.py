"""How a workload's requests are split."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from .base import Duration, HeaderName, Labels, Model, Name, Number, Percent, Seconds, Text, Whole, is_name, setting
from .traffic import OutlierDetection, TrafficPolicy
from .workload import Workload


class Retries(Model):
    """What a client's proxy tries again: requests that are safe to repeat (GET, PUT, …) after a reset too."""

    attempts: Annotated[Whole, Field(ge=0, le=10)] = setting(
        3,
        meaning="How often; 0 for never.",
        example=3,
        wrong="a failing service would be flooded.",
        fix="0 to 10.",
    )
    per_try_seconds: Seconds | None = setting(
        None,
        meaning="Limit for each try, with `attempts` of 1 or more; default none.",
        example=2,
        wrong="a slow endpoint would use up all the time.",
        fix="seconds, 1 to 86400, or leave it out.",
    )


class HeaderMatch(Model):
    """Requests that go to one subset, whatever the weights: a tester's."""

    headers: Mapping[HeaderName, Text] = setting(
        meaning="Exact values by header; all must be there.",
        example={"x-tester": "yes"},
        wrong="testers would get what everybody gets.",
        fix='names in lower case, values in quotes: `{x-tester: "yes"}`.',
        min_length=1,
    )
    subset: Name = setting(
        meaning="Where they go.",
        example="vm",
        wrong="testers would be answered 503.",
        fix="one of the subsets.",
    )


class Mirror(Model):
    """Who gets copies of requests; its answers are thrown away."""

    subset: Name = setting(
        meaning="Where the copies go. Those of POST too: nothing that does a thing twice should be mirrored to.",
        example="vm",
        wrong="the copies would go nowhere.",
        fix="one of the subsets.",
    )
    percentage: Annotated[Number, Field(gt=0, le=100)] = setting(
        100,
        meaning="Percent of the requests that are copied.",
        example=10,
        wrong="the copies could flood the subset.",
        fix="more than 0, at most 100.",
    )


class Routing(TrafficPolicy):
    """How the requests for one workload are split, and what clients do with those that fail."""

    subsets: Mapping[Name, Labels] = setting(
        default_factory=dict,
        meaning="Groups of its endpoints by label, beside one for each `version` of its pods and machines, by that "
        "name.",
        example={"k8s": {"version": "k8s"}, "vm": {"version": "vm"}},
        wrong="there would be nothing to split between.",
        fix="`{k8s: {version: k8s}, vm: {version: vm}}`, or leave it out.",
    )
    weights: Mapping[Name, Percent] = setting(
        default_factory=dict,
        meaning="Percent of the requests by subset; they add up to 100. Without them all endpoints are alike.",
        example={"k8s": 90, "vm": 10},
        wrong="Istio would refuse the route.",
        fix="`{k8s: 90, vm: 10}`, or leave it out.",
    )
    match: tuple[HeaderMatch, ...] = setting(
        (),
        meaning="Requests that go to one subset by their headers, whatever the weights; the first that fits counts.",
        example=[{"headers": {"x-tester": "yes"}, "subset": "vm"}],
        wrong="testers would get what everybody gets.",
        fix='`[{headers: {x-tester: "yes"}, subset: vm}]`.',
    )
    mirror: Mirror | None = setting(
        None,
        meaning="Who gets copies of the requests that are split by weight.",
        example={"subset": "vm", "percentage": 10},
        wrong="the copies would go nowhere.",
        fix="`{subset: vm, percentage: 10}`, or leave it out.",
    )
    timeout: Duration | None = setting(
        None,
        meaning="Limit for a request, its retries included, after which the client gets 504; default none.",
        example="2s",
        wrong="a slow service would hold up its clients.",
        fix="a number with ms, s, m or h, such as `2s`.",
    )
    retries: Retries = setting(
        default_factory=Retries,
        meaning="What is tried again.",
        example={"attempts": 3},
        wrong="requests to a dying VM would fail.",
        fix="a mapping.",
    )

    def subsets_of(self, workload: Workload) -> Mapping[str, Mapping[str, str]]:
        """The subsets as they are made: one for each version, and those given.

        They are made whether requests are sent there or not: a rule that loses a subset is there before the route that
        no longer leads to it.
        """
        versions = (part.version for part in (workload.pods, workload.machines) if part is not None)
        return {**{version: {"version": version} for version in versions if is_name(version)}, **self.subsets}

    def used_subsets_of(self, workload: Workload) -> Mapping[str, Mapping[str, str]]:
        """Those that weights, match and mirror send requests to."""
        used = {*self.weights, *(m.subset for m in self.match), *([self.mirror.subset] if self.mirror else [])}
        return {name: labels for name, labels in self.subsets_of(workload).items() if name in used}

    def over(self, defaults: TrafficPolicy | None) -> TrafficPolicy:
        """Its traffic policy: what it says itself, else what its namespace says; endpoints that fail are left out."""
        base = defaults or TrafficPolicy()
        return TrafficPolicy.model_construct(
            connection_pool=self.connection_pool or base.connection_pool,
            outlier_detection=self.outlier_detection or base.outlier_detection or OutlierDetection(),
            load_balancer=self.load_balancer or base.load_balancer,
            tls=self.tls or base.tls,
        )
