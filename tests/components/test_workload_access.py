"""Which policies a workload's access becomes, in which order, and whom they name."""

from collections.abc import Callable
from typing import Any

import pytest

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from components.workload_access import AccessRule, WorkloadAccess, WorkloadAccessArgs, principal
from hybridmesh.settings import Settings
from tests.components.harness import World, dev_settings, run

MODES = pytest.mark.parametrize("preview", [False, True], ids=["up", "preview"])
CLIENT = AccessRule(callers=["spiffe://cluster.local/ns/demo/sa/client"])


def registered(preview: bool = False, **changes: Any) -> World:
    args = WorkloadAccessArgs(workload="echo", namespace="demo", **changes)
    return run(lambda: WorkloadAccess("mesh-echo", args).urn, preview=preview)


def mesh(settings: Settings) -> Callable[[], object]:
    return lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology


@MODES
def test_without_rules_one_empty_policy_refuses_everyone(preview: bool) -> None:
    world = registered(preview)
    (policy,) = world.of_type("AuthorizationPolicy")
    assert policy.name == "mesh-echo-default-deny"
    assert policy.value("apiVersion") == "security.istio.io/v1"
    assert policy.value("metadata") == {"name": "echo-default-deny", "namespace": "demo"}
    assert policy.value("spec") == {"selector": {"matchLabels": {"app": "echo"}}, "action": "ALLOW"}


@MODES
def test_what_is_allowed_is_there_before_all_else_is_refused_and_goes_after(preview: bool) -> None:
    world = registered(preview, allow=[CLIENT], deny=[AccessRule(paths=["/admin/*"])])
    deny, allow, rest = (world.one(f"mesh-echo-{role}") for role in ("deny", "allow", "default-deny"))
    assert world.is_after(rest, allow)
    assert world.is_after(rest, deny)
    assert world.is_after(allow, deny)
    assert allow.value("spec") == {
        "selector": {"matchLabels": {"app": "echo"}},
        "action": "ALLOW",
        "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/demo/sa/client"]}}]}],
    }
    assert deny.value("spec")["action"] == "DENY"
    assert deny.value("spec")["rules"] == [{"to": [{"operation": {"paths": ["/admin/*"]}}]}]


def test_allowed_by_default_is_no_policy_of_its_own() -> None:
    world = registered(default_deny=False, deny=[CLIENT])
    assert {policy.name for policy in world.of_type("AuthorizationPolicy")} == {"mesh-echo-deny"}


def test_callers_of_any_kind_match_and_what_they_call_is_narrowed() -> None:
    rule = AccessRule(
        callers=["spiffe://td/ns/a/sa/b"],
        principals=["td/ns/c/sa/d"],
        namespaces=["e"],
        methods=["GET"],
        paths=["/x"],
        ports=[8080],
    )
    assert registered(allow=[rule]).one("mesh-echo-allow").value("spec")["rules"] == [
        {
            "from": [{"source": {"principals": ["td/ns/a/sa/b", "td/ns/c/sa/d"]}}, {"source": {"namespaces": ["e"]}}],
            "to": [{"operation": {"methods": ["GET"], "paths": ["/x"], "ports": ["8080"]}}],
        }
    ]


def test_an_identity_is_written_without_its_scheme() -> None:
    assert principal("spiffe://cluster.local/ns/demo/sa/client") == "cluster.local/ns/demo/sa/client"


@MODES
def test_what_is_denied_by_method_or_path_is_denied_on_the_ports_that_have_them(preview: bool) -> None:
    def change(sections: dict[str, Any]) -> None:
        sections["workloads"]["echo"]["ports"].append({"name": "tcp", "port": 9000, "protocol": "TCP"})
        deny = [{"methods": ["DELETE"]}, {"from": ["client"]}, {"paths": ["/x"], "ports": [8080]}]
        sections["access"] = {"echo": {"deny": deny}}

    world = run(mesh(dev_settings(change)), preview=preview)
    assert world.one("mesh-echo-deny").value("spec")["rules"] == [
        {"to": [{"operation": {"methods": ["DELETE"], "ports": ["8080"]}}]},
        {"from": [{"source": {"principals": ["cluster.local/ns/demo/sa/client"]}}]},
        {"to": [{"operation": {"paths": ["/x"], "ports": ["8080"]}}]},
    ]


def test_ports_of_the_app_and_none_where_it_speaks_tls_itself_have_methods() -> None:
    def change(sections: dict[str, Any]) -> None:
        sections["workloads"]["echo"]["ports"] = [
            {"name": "http", "port": 80, "targetPort": 8080},
            {"name": "tls", "port": 443, "targetPort": 8443, "protocol": "TLS"},
        ]
        sections["access"] = {"echo": {"deny": [{"methods": ["DELETE"]}, {"paths": ["/admin"]}]}}

    rules = run(mesh(dev_settings(change))).one("mesh-echo-deny").value("spec")["rules"]
    assert [rule["to"][0]["operation"]["ports"] for rule in rules] == [["8080"], ["8080"]]


def test_all_that_a_rule_of_the_settings_says_is_in_its_policy() -> None:
    rule: dict[str, Any] = {
        "from": ["client"],
        "principals": ["cluster.local/ns/far/sa/stranger"],
        "namespaces": ["shop"],
        "methods": ["GET"],
        "paths": ["/orders"],
        "ports": [8080],
    }
    world = run(mesh(dev_settings(lambda sections: sections.update(access={"echo": {"allow": [rule]}}))))
    callers = ["cluster.local/ns/demo/sa/client", "cluster.local/ns/far/sa/stranger"]
    assert world.one("mesh-echo-allow").value("spec")["rules"] == [
        {
            "from": [{"source": {"principals": callers}}, {"source": {"namespaces": ["shop"]}}],
            "to": [{"operation": {"methods": ["GET"], "paths": ["/orders"], "ports": ["8080"]}}],
        }
    ]


@pytest.mark.parametrize(("default", "refused"), [("deny", True), ("allow", False)])
def test_what_no_rule_matches_is_refused_or_not_as_the_settings_say(default: str, refused: bool) -> None:
    access = {"echo": {"default": default, "deny": [{"from": ["client"]}]}}
    world = run(mesh(dev_settings(lambda sections: sections.update(access=access))))
    assert ("mesh-echo-default-deny" in world.names()) is refused


@MODES
def test_a_workload_of_the_stack_is_named_by_its_identity(preview: bool) -> None:
    def change(sections: dict[str, Any]) -> None:
        sections["controlPlane"]["trustDomain"] = "shop.example"
        sections["workloads"]["client"]["serviceAccount"] = "shopper"
        sections["access"] = {"echo": {"allow": [{"from": ["client"], "methods": ["GET"]}]}}

    world = run(mesh(dev_settings(change)), preview=preview)
    policy = world.one("mesh-echo-allow")
    assert policy.value("spec")["rules"] == [
        {
            "from": [{"source": {"principals": ["shop.example/ns/demo/sa/shopper"]}}],
            "to": [{"operation": {"methods": ["GET"]}}],
        }
    ]
    assert world.is_after(policy, world.one("mesh-client-account"))
    assert world.is_after(policy, world.one("mesh-demo-namespace"))
    assert policy.provider.rpartition("::")[0] == world.one("mesh-kubernetes").urn


def test_the_article_s_policy_can_be_had() -> None:
    def change(sections: dict[str, Any]) -> None:
        workload = sections["workloads"].pop("echo")
        sections["workloads"]["shopping-cart"] = {**workload, "namespace": "ecommerce"}
        sections["routing"] = {}
        sections["access"] = {
            "shopping-cart": {
                "allow": [
                    {"principals": ["cluster.local/ns/default/sa/payment-service"], "methods": ["GET", "POST"]},
                ]
            }
        }

    world = run(mesh(dev_settings(change)))
    policy = world.one("mesh-shopping-cart-allow")
    assert policy.value("metadata")["namespace"] == "ecommerce"
    assert policy.value("spec") == {
        "selector": {"matchLabels": {"app": "shopping-cart"}},
        "action": "ALLOW",
        "rules": [
            {
                "from": [{"source": {"principals": ["cluster.local/ns/default/sa/payment-service"]}}],
                "to": [{"operation": {"methods": ["GET", "POST"]}}],
            }
        ],
    }


def test_nobody_is_kept_out_where_nothing_is_said() -> None:
    assert run(mesh(dev_settings())).of_type("AuthorizationPolicy") == []


@MODES
def test_pods_with_a_probe_have_it_led_through_the_agent(preview: bool) -> None:
    world = run(mesh(dev_settings()), preview=preview)
    for name, led in (("mesh-echo-deployment", "true"), ("mesh-client-deployment", None)):
        template = world.one(name).value("spec")["template"]
        assert template["metadata"]["annotations"].get("sidecar.istio.io/rewriteAppHTTPProbers") == led
