"""What the pack hands over: the engine's resources to the rules, and to the engine what these say."""

from __future__ import annotations

from typing import Any

import pulumi_policy
from pulumi_policy import deserialize
from pulumi_policy.proxy import UNKNOWN_OBJECT_VALUE, UNKNOWN_STRING_VALUE, unknown_checking_proxy

from policy import __main__ as pack
from policy.rules import RULES, SECRET, UNKNOWN, Rule, StackRule

A_SECRET = {deserialize.SPECIAL_SIG_KEY: deserialize.SPECIAL_SECRET_SIG, "value": {"deep": "S3CRET"}}
POLICIES: dict[str, Any] = {policy.name: policy for policy in pack.policies()}


def sent(inputs: dict[str, Any]) -> Any:
    """Inputs as a policy has them once the engine has sent them."""
    return unknown_checking_proxy(pack.marked(inputs))


def said(rule: str, args: Any) -> list[tuple[str, str | None]]:
    """What a policy reports, and of which URN."""
    found: list[tuple[str, str | None]] = []
    POLICIES[rule].validate(args, lambda message, urn=None: found.append((message, urn)))
    return found


def one(type_: str, inputs: dict[str, Any], config: dict[str, Any] | None = None) -> Any:
    options: Any = None
    return pulumi_policy.ResourceValidationArgs(type_, sent(inputs), "urn:one", "one", options, None, config)


def test_what_is_secret_and_what_nobody_knows_yet_is_marked_wherever_it_is() -> None:
    given = {
        "spec": {"ports": [UNKNOWN_STRING_VALUE, {"key": A_SECRET}], "size": 3},
        "metadata": UNKNOWN_OBJECT_VALUE,
        "keys": [A_SECRET, "text"],
    }
    assert pack.known(sent(given)) == {
        "spec": {"ports": [UNKNOWN, {"key": SECRET}], "size": 3},
        "metadata": UNKNOWN,
        "keys": [SECRET, "text"],
    }


def test_each_rule_is_a_policy_with_its_level_and_what_can_be_configured() -> None:
    assert list(POLICIES) == [rule.name for rule in RULES]
    for rule in RULES:
        policy = POLICIES[rule.name]
        assert policy.description == rule.description
        assert policy.enforcement_level.value == rule.level
        assert isinstance(policy, pulumi_policy.StackValidationPolicy) is isinstance(rule, StackRule)
        asked = rule.settings if isinstance(rule, Rule) else {}
        assert ({} if policy.config_schema is None else policy.config_schema.properties) == asked


def test_what_a_rule_says_begins_with_the_resource_s_name() -> None:
    sidecar = one("hybridmesh:sidecar:Sidecar", {"address": "8.8.8.8", "package": UNKNOWN_STRING_VALUE})
    ((message, urn),) = said("no-public-address", sidecar)
    assert message.startswith("one is in the mesh at 8.8.8.8, a public address")
    assert urn is None, "the engine knows of which it asked"
    assert said("package-checksum", sidecar) == [], "nobody knows yet"


def test_a_rule_goes_by_its_configuration() -> None:
    gateway = {"spec": {"servers": [{"tls": {"mode": "AUTO_PASSTHROUGH"}, "hosts": ["*.corp.example"]}]}}
    type_ = "kubernetes:networking.istio.io/v1:Gateway"
    assert len(said("no-wildcard-host", one(type_, gateway))) == 1
    assert said("no-wildcard-host", one(type_, gateway, {"domains": ["corp.example"]})) == []


def test_of_a_whole_stack_the_resource_to_blame_is_named_by_its_urn() -> None:
    def namespace(name: str, injection: str) -> Any:
        inputs = {"metadata": {"name": name, "labels": {"istio-injection": injection}}}
        rest: list[Any] = [None, None, None, [], {}]
        return pulumi_policy.PolicyResource("kubernetes:core/v1:Namespace", sent(inputs), f"urn:{name}", name, *rest)

    args = pulumi_policy.StackValidationArgs([namespace("other", "disabled"), namespace("shop", "enabled")])
    ((message, urn),) = said("strict-mtls-everywhere", args)
    assert message.startswith("namespace shop has no PeerAuthentication with STRICT")
    assert urn == "urn:shop"
