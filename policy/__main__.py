#!/usr/bin/env python3
"""The policy pack: hands the engine's resources to the rules. Started by Pulumi, as a folder or as this program."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pulumi_policy
from pulumi_policy import deserialize
from pulumi_policy import policy as sdk
from pulumi_policy.proxy import UnknownValueError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from policy.rules import RULES, SECRET, UNKNOWN, Resource, Rule, StackRule


def known(value: Any) -> Any:
    """A value as the rules take it. pulumi-policy raises on what is not known, which would skip the whole rule."""
    if isinstance(value, Mapping):
        return {key: _item(value, key) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_item(value, index) for index in range(len(value))]
    return value


def _item(container: Any, key: Any) -> Any:
    try:
        return known(container[key])
    except UnknownValueError:
        return UNKNOWN


def without_secrets(value: Any) -> Any:
    """What the engine sends of a resource, with each secret replaced by a mark that it is one."""
    if isinstance(value, dict):
        if value.get(deserialize.SPECIAL_SIG_KEY) == deserialize.SPECIAL_SECRET_SIG:
            return SECRET
        return {key: without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_secrets(inner) for inner in value]
    return value


def resource(given: Any) -> Resource:
    """One of the engine's resources."""
    return Resource(type=given.resource_type, name=given.name, urn=given.urn, inputs=known(given.props))


def check_one(rule: Rule, args: pulumi_policy.ResourceValidationArgs, report: pulumi_policy.ReportViolation) -> None:
    """Run a rule on one resource."""
    for message in rule.check(resource(args), args.get_config()):
        report(f"{args.name} {message}", None)


def check_all(rule: StackRule, args: pulumi_policy.StackValidationArgs, report: pulumi_policy.ReportViolation) -> None:
    """Run a rule on a whole stack."""
    for blamed, message in rule.check([resource(each) for each in args.resources], args.get_config()):
        report(message, blamed.urn)


def policies() -> Iterator[pulumi_policy.Policy]:
    """Every rule as Pulumi takes it."""
    for rule in RULES:
        level = pulumi_policy.EnforcementLevel(rule.level)
        if isinstance(rule, StackRule):
            yield pulumi_policy.StackValidationPolicy(rule.name, rule.description, partial(check_all, rule), level)
        else:
            schema = pulumi_policy.PolicyConfigSchema(properties={k: dict(v) for k, v in rule.settings.items()})
            yield pulumi_policy.ResourceValidationPolicy(
                rule.name,
                rule.description,
                partial(check_one, rule),
                level,
                config_schema=schema if rule.settings else None,
            )


def marked(props: dict[str, Any], proxy_secrets: bool = False) -> dict[str, Any]:
    """In place of pulumi-policy's own: that gives policies a secret's value, and not that it is one."""
    return deserialize.deserialize_properties(without_secrets(props), proxy_secrets)


def main() -> None:
    """Serve the pack until Pulumi ends this process."""
    sdk.deserialize_properties = marked  # type: ignore[attr-defined]  # what it calls, though it does not export it
    pulumi_policy.PolicyPack("hybrid-mesh", list(policies()))


if __name__ == "__main__":
    main()
