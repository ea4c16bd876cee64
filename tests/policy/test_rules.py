"""Each rule with what it lets pass and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from policy.rules import LABELS, RULES, SECRET, UNKNOWN, Config, Resource, Rule, StackRule
from tests.components.harness import PROJECT_ROOT, Registered, World, dev_settings, run

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2EifQ.c2lnbmF0dXJlLXRleHQ"
SIDECAR = "hybridmesh:sidecar:Sidecar"
FLEET = "hybridmesh:self_join:SelfJoin"
PLANE = "hybridmesh:control_plane:ControlPlane"
REVISION = "hybridmesh:revision:Revision"
RELEASE = "kubernetes:helm.sh/v3:Release"
CHECKED = "http://mirror/istio-sidecar.deb 1.31.0 sha256:" + "ab" * 32


def istio(kind: str, spec: dict[str, Any] | str, namespace: str = "demo") -> Resource:
    inputs = {"kind": kind, "metadata": {"name": "one", "namespace": namespace}, "spec": spec}
    return Resource(type=f"kubernetes:x.istio.io/v1:{kind}", name="one", inputs=inputs)


def other(type_: str, **inputs: Any) -> Resource:
    return Resource(type=type_, name="one", inputs=inputs)


def namespace(name: str = "demo", labels: dict[str, str] | None = None) -> Resource:
    given = {"istio-injection": "enabled"} if labels is None else labels
    return other("kubernetes:core/v1:Namespace", metadata={"name": name, "labels": given})


def peers(mode: str, **more: Any) -> Resource:
    return istio("PeerAuthentication", {"mtls": {"mode": mode}, **more})


def open_metrics(port: str, mode: str = "PERMISSIVE", app: str = "hybrid-mesh-metrics") -> Resource:
    return peers("STRICT", portLevelMtls={port: {"mode": mode}}, selector={"matchLabels": {"app": app}})


def allow(*rules: dict[str, Any] | str, **more: Any) -> Resource:
    return istio("AuthorizationPolicy", {"action": "ALLOW", "rules": list(rules), **more})


def source(**fields: Any) -> dict[str, Any]:
    return {"from": [{"source": fields}]}


def gateway(*hosts: str, mode: str = "PASSTHROUGH") -> Resource:
    return istio("Gateway", {"servers": [{"tls": {"mode": mode}, "hosts": list(hosts)}]})


def split(*weights: int | str | None) -> Resource:
    targets: list[dict[str, Any]] = [
        {"destination": {}} if weight is None else {"weight": weight} for weight in weights
    ]
    return istio("VirtualService", {"http": [{"name": "others", "route": targets}]})


def routes(*targets: dict[str, Any] | str) -> Resource:
    return istio("VirtualService", {"http": [{"route": list(targets)}]})


def group(ports: dict[str, int] | None = None, **spec: Any) -> Resource:
    template = {"serviceAccount": "x", **({"ports": ports} if ports else {})}
    return istio("WorkloadGroup", {"template": template, **spec})


def labelled(**labels: str) -> dict[str, Any]:
    return {"metadata": {"labels": labels}}


HTTP = {"http": 8080}
PASSES: dict[str, list[list[Resource]]] = {
    "strict-mtls": [
        [peers("STRICT", portLevelMtls={"8080": {"mode": "STRICT"}})],
        [open_metrics("9099")],
        [peers(UNKNOWN), istio("PeerAuthentication", UNKNOWN), istio("PeerAuthentication", {"mtls": UNKNOWN})],
        [istio("PeerAuthenticationPatch", {"selector": {}})],
        [istio("DestinationRule", {"trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}, "subsets": [{"name": "vm"}]})],
        [istio("ServiceEntry", {"mtls": {"mode": "DISABLE"}})],
    ],
    "strict-mtls-everywhere": [
        [namespace(), peers("STRICT")],
        [namespace(labels={})],
        [namespace(UNKNOWN)],
        [namespace(), peers(UNKNOWN)],
        [namespace(), istio("PeerAuthentication", UNKNOWN)],
        [namespace(), istio("PeerAuthentication", {"mtls": {"mode": "STRICT"}}, namespace=UNKNOWN)],
        [namespace(), peers("STRICT", selector={})],
    ],
    "no-allow-all": [
        [allow()],
        [allow(source(principals=["cluster.local/ns/demo/sa/client"]))],
        [allow({"to": [{"operation": {"methods": ["GET"]}}]})],
        [allow({"when": [{"key": "source.ip", "values": ["10.0.0.0/8"]}]})],
        [allow(source(ipBlocks=["10.0.0.0/8"], notIpBlocks=["10.1.0.0/16"]))],
        [allow({"to": [{"operation": {"paths": ["/orders/*", "/{*}/items"]}}]})],
        [allow(source(principals=UNKNOWN)), allow({"from": UNKNOWN}), allow(source(principals=[UNKNOWN]))],
        [
            allow(UNKNOWN),
            allow({"from": [UNKNOWN]}),
            allow({"to": [{"operation": UNKNOWN}]}),
            allow({"when": [UNKNOWN]}),
        ],
        [istio("AuthorizationPolicy", UNKNOWN), istio("AuthorizationPolicy", {"rules": UNKNOWN})],
        [allow(source(requestPrincipals=["*"]))],
        [allow({"to": UNKNOWN}), allow({"when": UNKNOWN})],
        [istio("AuthorizationPolicy", {"action": "DENY", "rules": [{}]})],
        [istio("HTTPRoute", {"rules": [{}]}), istio("Telemetry", SECRET)],
    ],
    "no-wildcard-host": [
        [gateway("istiod.istio-system.svc", "demo/shop.example.com")],
        [gateway("*.local", mode="AUTO_PASSTHROUGH")],
        [gateway("*.cluster.local", "shop.vm.internal", mode="AUTO_PASSTHROUGH")],
        [istio("VirtualService", {"hosts": ["*"], "gateways": ["mesh"]}), istio("VirtualService", {"hosts": ["*"]})],
        [istio("VirtualService", {"hosts": ["shop.example.com"], "gateways": ["edge"]})],
        [istio("ServiceEntry", {"hosts": SECRET}), istio("Sidecar", {"egress": [{"hosts": ["*/*"]}]})],
        [istio("VirtualService", {"hosts": ["a"], "http": [{"headers": {"request": {"set": {"x-key": SECRET}}}}]})],
    ],
    "no-public-address": [
        [other("gcp:compute/instance:Instance", networkInterfaces=[{"network": "vpc"}])],
        [other("gcp:compute/instance:Instance", networkInterfaces=[{"network": "vpc", "subnetwork": SECRET}])],
        [other(SIDECAR, address="10.0.0.7"), other(SIDECAR, address=UNKNOWN), other(SIDECAR, address="vm.internal")],
        [other("kubernetes:core/v1:Service", address="8.8.8.8")],
    ],
    "package-checksum": [
        [other(SIDECAR, package=CHECKED), other(SIDECAR, package=UNKNOWN), other(FLEET, package=CHECKED)],
        [other("pkg:index:Thing", package="a b")],
    ],
    "supported-versions": [
        [other(RELEASE, chart="istiod", version="1.31.2"), other(SIDECAR, package=CHECKED)],
        [other(PLANE, version="1.31.0"), other(PLANE), other(REVISION, version=UNKNOWN)],
        [other(RELEASE, chart=".lab/charts/istiod"), other(RELEASE, chart="prometheus", version="2.0.0")],
    ],
    "weights-add-up": [
        [split(90, 10)],
        [split(None)],
        [split(100)],
        [split(UNKNOWN, 10), istio("VirtualService", UNKNOWN), istio("VirtualService", {"http": UNKNOWN})],
        [istio("VirtualService", {"http": [{"route": [{"weight": 100}], "headers": SECRET}]})],
        [routes(UNKNOWN)],
        [other("pkg:index:Thing", spec={"http": [{"route": [{"weight": 1}, {"weight": 2}]}]})],
        [istio("VirtualService", {"http": [{"redirect": {"uri": "/new"}}, {"directResponse": {"status": 404}}]})],
    ],
    "vm-probe": [
        [group(HTTP, probe={"httpGet": {"port": 8080}})],
        [group(), group(HTTP, probe=UNKNOWN), istio("WorkloadGroup", UNKNOWN)],
        [istio("WorkloadGroupPatch", {"template": {"ports": HTTP}})],
    ],
    "secrets-are-secret": [
        [other("command:remote:Command", connection=SECRET, stdin=SECRET)],
        [other("kubernetes:core/v1:Secret", stringData={"password": SECRET}, data={"key": UNKNOWN})],
        [other(SIDECAR, **{"root-cert.pem": "-----BEGIN CERTIFICATE-----\n"})],
        [other(SIDECAR, package="oci://mirror:5000/x@sha256:ab http://[::1]:80/a?b@c", image="a:1@sha256:ab")],
        [other("kubernetes:apps/v1:Deployment", env=["postgres://me:$(PW)@db", "postgres://me@db", "a: b@c"])],
    ],
    "labels": [
        [group(HTTP, **labelled(app="echo", version="vm")), group()],
        [istio("Deployment", {"template": labelled(app="echo", version="k8s")})],
        [group(HTTP, metadata={"labels": UNKNOWN}), other("kubernetes:apps/v1:DeploymentPatch", spec={"replicas": 2})],
    ],
}
REFUSES: dict[str, list[tuple[list[Resource], str]]] = {
    "strict-mtls": [
        ([peers("PERMISSIVE")], "mtls.mode PERMISSIVE"),
        ([istio("PeerAuthentication", {})], "mtls.mode None"),
        ([peers("DISABLE")], "mtls.mode DISABLE"),
        ([peers("STRICT", portLevelMtls={"9000": {"mode": "DISABLE"}})], "on port 9000"),
        ([istio("PeerAuthenticationPatch", {"mtls": {"mode": "DISABLE"}})], "mtls.mode DISABLE"),
        ([istio("PeerAuthentication", SECRET)], "keeps its spec as a secret"),
        ([istio("DestinationRule", {"trafficPolicy": {"tls": SECRET}})], "keeps its spec as a secret"),
        ([open_metrics("9090")], "on port 9090"),
        ([open_metrics("9099", mode="DISABLE")], "on port 9099"),
        ([open_metrics("9099", app="shop")], "on port 9099"),
        ([peers("STRICT", portLevelMtls={"9099": {"mode": "PERMISSIVE"}})], "on port 9099"),
        (
            [peers("PERMISSIVE", selector={"matchLabels": {"app": "hybrid-mesh-metrics"}})],
            "mtls.mode PERMISSIVE",
        ),
        ([istio("DestinationRule", {"trafficPolicy": {"tls": {"mode": "DISABLE"}}})], "trafficPolicy: clients"),
        (
            [istio("DestinationRule", {"subsets": [{"name": "vm", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}]})],
            "subset vm: clients",
        ),
        (
            [
                istio(
                    "DestinationRule",
                    {"trafficPolicy": {"portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "DISABLE"}}]}},
                )
            ],
            "trafficPolicy, port 80",
        ),
    ],
    "strict-mtls-everywhere": [
        ([namespace()], "namespace demo has no PeerAuthentication"),
        ([namespace(labels={"istio.io/rev": "canary"}), peers("PERMISSIVE")], "namespace demo"),
        ([namespace(), peers("STRICT", selector={"matchLabels": {"app": "x"}})], "namespace demo"),
        ([namespace("shop"), peers("STRICT")], "namespace shop"),
        ([namespace(), peers("STRICT", selector=SECRET)], "namespace demo"),
        (
            [
                other(
                    "kubernetes:core/v1:NamespacePatch",
                    metadata={"name": "a", "labels": {"istio-injection": "enabled"}},
                )
            ],
            "namespace a",
        ),
    ],
    "no-allow-all": [
        ([istio("AuthorizationPolicyPatch", {"rules": [{}]})], "rule 0 lets"),
        ([istio("AuthorizationPolicy", SECRET)], "keeps its spec as a secret"),
        ([istio("AuthorizationPolicy", {"rules": [SECRET]})], "keeps its spec as a secret"),
        ([allow({})], "rule 0 lets everyone do everything"),
        ([allow(source(principals=["a"]), source(principals=["*"]))], "rule 1"),
        ([istio("AuthorizationPolicy", {"rules": [{"to": [{"operation": {"paths": ["*"]}}]}]})], "rule 0"),
        *(
            ([allow(rule)], "rule 0")
            for rule in (
                {"to": [{"operation": {"paths": ["/*"]}}]},
                {"to": [{"operation": {"paths": ["/orders", "/{**}"]}}]},
                {"to": [{"operation": {"methods": ["GET"]}}, {"operation": {"notPaths": ["/x"]}}]},
                source(ipBlocks=["0.0.0.0/0"]),
                source(remoteIpBlocks=["::/0"]),
                source(notNamespaces=["other"]),
                {"from": [{"source": {"principals": ["a"]}}, {"source": {"notNamespaces": ["b"]}}]},
                source(ipBlocks=["10.0.0.1/0"]),
                {"when": [{"key": "source.namespace", "values": ["*"]}]},
                {"when": [{"key": "source.namespace", "notValues": ["other"]}]},
                {"when": [{"key": "source.ip", "values": ["10.0.0.0/8", "0.0.0.0/0"]}]},
            )
        ),
    ],
    "no-wildcard-host": [
        ([gateway("*")], "lets through *"),
        ([istio("GatewayPatch", {"servers": [{"hosts": ["*"]}]})], "lets through *"),
        ([istio("Gateway", {"servers": SECRET})], "keeps its spec as a secret"),
        ([istio("VirtualService", SECRET)], "keeps its gateways and hosts as a secret"),
        ([gateway("demo/*.example.com")], "lets through demo/*.example.com"),
        ([gateway("*.local")], "lets through *.local"),
        ([gateway("*", mode="AUTO_PASSTHROUGH")], "lets through *: every host"),
        ([gateway("*.com", "*.local", mode="AUTO_PASSTHROUGH")], "lets through *.com, services outside of local"),
        ([gateway("demo/*.notlocal", mode="AUTO_PASSTHROUGH")], "lets through demo/*.notlocal, services outside"),
        ([istio("VirtualService", {"hosts": ["*"], "gateways": ["edge"]})], "takes * from a gateway"),
        ([istio("VirtualService", {"hosts": ["*"], "gateways": ["mesh", "edge"]})], "takes * from a gateway"),
    ],
    "no-public-address": [
        ([other("gcp:compute/instance:Instance", networkInterfaces=[{"accessConfigs": [{}]}])], "accessConfigs"),
        (
            [other("gcp:compute/instanceTemplate:InstanceTemplate", networkInterfaces=[{"ipv6AccessConfigs": [{}]}])],
            "ipv6AccessConfigs",
        ),
        (
            [other("gcp:compute/instance:Instance", networkInterfaces=[{"network": "vpc"}, {"accessConfigs": [{}]}])],
            "accessConfigs",
        ),
        ([other(SIDECAR, address="8.8.8.8")], "at 8.8.8.8"),
        ([other(SIDECAR, address="2600:1900::1")], "at 2600:1900::1"),
        ([other(SIDECAR, address=SECRET)], "keeps its address as a secret"),
        (
            [other("gcp:compute/instance:Instance", networkInterfaces=[{"accessConfigs": SECRET}])],
            "keeps its networkInterfaces as a secret",
        ),
    ],
    "package-checksum": [
        ([other(SIDECAR, package="http://mirror/x.deb 1.31.0")], "unchecked"),
        ([other(SIDECAR, package="http://mirror/x.deb 1.31.0 sha256:abcd")], "unchecked"),
        ([other(SIDECAR, package=f"{CHECKED}\nhttp://mirror/x.rpm 1.31.0 sha256:")], "unchecked"),
        ([other(FLEET, package="http://mirror/x.deb 1.31.0 sha256:")], "unchecked"),
        ([other(SIDECAR, package=SECRET)], "keeps its package as a secret"),
    ],
    "supported-versions": [
        ([other(RELEASE, chart="istiod", version="1.18.0")], "istiod 1.18.0 is not in the table"),
        ([other(PLANE, version="1.25.0")], "istiod 1.25.0 is not in the table"),
        ([other(REVISION, version="1.25.0")], "istiod 1.25.0 is not in the table"),
        ([other(SIDECAR, package=CHECKED.replace("1.31.0", "1.18.0"))], "sidecar 1.18.0"),
        ([other(FLEET, package=CHECKED.replace("1.31.0", "1.18.0"))], "sidecar 1.18.0"),
        ([other(FLEET, package=SECRET)], "keeps its package as a secret"),
        ([other(PLANE, version=SECRET)], "keeps its version as a secret"),
    ],
    "weights-add-up": [
        ([split(90, 20)], "others: the weights add up to 110"),
        ([split(50)], "add up to 50"),
        ([split(99, None)], "add up to 99"),
        ([istio("VirtualService", {"tcp": [{"route": [{"weight": 1}, {}]}]})], "tcp route 0"),
        ([istio("VirtualService", {"tls": [{"route": [{"weight": 50}, {"weight": 40}]}]})], "tls route 0"),
        *(
            ([hidden], "keeps its weights as a secret")
            for hidden in (
                split(SECRET, 10),
                routes(SECRET),
                istio("VirtualService", SECRET),
                istio("VirtualService", {"tcp": SECRET}),
                istio("VirtualService", {"http": [{"route": SECRET}]}),
            )
        ),
    ],
    "vm-probe": [([group(HTTP)], "has no probe"), ([group(HTTP, probe={})], "has no probe")],
    "secrets-are-secret": [
        ([other("command:remote:Command", connection={"privateKey": KEY})], "connection.privateKey holds a private"),
        ([other("kubernetes:core/v1:ConfigMap", data={"a": [f"token: {TOKEN}"]})], "data.a[0] holds a token"),
        ([other(SIDECAR, package="http://me:pw@mirror/x.deb")], "package holds a password in an address"),
        ([other("kubernetes:apps/v1:Deployment", env=["see postgres://:p:w@db:5432/x"])], "env[0] holds a password"),
        ([other("kubernetes:core/v1:Secret", stringData={"password": "x"})], "stringData.password is in plain text"),
        ([other("kubernetes:core/v1:SecretPatch", data={"password": "eA=="})], "data.password is in plain text"),
        ([other("kubernetes:core/v1:Secret", data={"password": "eA=="})], "data.password is in plain text"),
    ],
    "labels": [
        ([group(HTTP, **labelled(app="echo"))], "no label version"),
        ([istio("Deployment", {"template": labelled(version="k8s")})], "no label app"),
        ([istio("Deployment", {"template": labelled(app="", version="k8s")})], "no label app"),
    ],
}


def violations(
    resources: Sequence[Resource], config: Mapping[str, Config] | None = None
) -> Iterator[tuple[str, Resource, str]]:
    """Everything that is wrong with a stack: rule, resource, message."""
    for rule in RULES:
        mine = (config or {}).get(rule.name, {})
        if isinstance(rule, StackRule):
            for resource, message in rule.check(resources, mine):
                yield rule.name, resource, message
        else:
            for resource in resources:
                for message in rule.check(resource, mine):
                    yield rule.name, resource, message


def found(rule: str, resources: list[Resource]) -> list[str]:
    return [message for name, _, message in violations(resources) if name == rule]


def cases(by_rule: dict[str, list[Any]]) -> list[Any]:
    return [pytest.param(name, case, id=f"{name}-{i}") for name, many in by_rule.items() for i, case in enumerate(many)]


@pytest.mark.parametrize(("rule", "resources"), cases(PASSES))
def test_a_rule_lets_pass(rule: str, resources: list[Resource]) -> None:
    assert found(rule, resources) == []


@pytest.mark.parametrize(("rule", "case"), cases(REFUSES))
def test_a_rule_refuses_and_says_the_fix(rule: str, case: tuple[list[Resource], str]) -> None:
    resources, part = case
    (message,) = found(rule, resources)
    assert part in message
    assert "Fix: " in message


def test_every_rule_has_a_passing_and_a_failing_case() -> None:
    names = {rule.name for rule in RULES}
    assert names == set(PASSES) == set(REFUSES)
    assert len(names) == len(RULES)


def test_labels_that_a_team_asks_for_are_asked_for() -> None:
    resource = group(HTTP, **labelled(app="echo", version="vm"))
    asked = violations([resource], {"labels": {"required": [*LABELS, "team"]}})
    assert [message for rule, _, message in asked if rule == "labels"] == [
        "has no label team: routing, policies and metrics cannot tell it from others. "
        "Fix: setting `workloads.<name>.labels`."
    ]


def test_a_cluster_of_another_domain_is_named_to_the_rule_of_hosts() -> None:
    sections = dev(lambda s: s["cluster"].update(domain="corp.example"))
    resources = [plain(each) for each in sections.found]
    (message,) = found("no-wildcard-host", resources)
    assert message.startswith("lets through *.corp.example, services outside of local: ")
    assert "`domains`" in message
    assert list(violations(resources, {"no-wildcard-host": {"domains": ["corp.example"]}})) == []


def test_the_committed_configuration_names_rules_and_levels_that_exist() -> None:
    config = json.loads((PROJECT_ROOT / "policy" / "config.json").read_text())
    levels = {"advisory", "mandatory", "remediate", "disabled"}
    for name, setting in config.items():
        rule = next((r for r in RULES if r.name == name), None)
        assert name == "all" or rule is not None, name
        settings = {"enforcementLevel": setting} if isinstance(setting, str) else dict(setting)
        assert settings.pop("enforcementLevel") in levels
        known = rule.settings if isinstance(rule, Rule) else {}
        assert set(settings) <= set(known)


def plain(resource: Registered) -> Resource:
    return Resource(type=resource.type, name=resource.name, urn=resource.urn, inputs=resource.plain)


def dev(change: Any = None) -> World:
    from components.hybrid_mesh import HybridMesh, HybridMeshArgs

    settings = dev_settings(change)
    return run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)))


def test_the_committed_dev_stack_keeps_to_every_rule() -> None:
    resources = [plain(each) for each in dev().found]
    kinds = {resource.kind for resource in resources}
    assert {"PeerAuthentication", "Gateway", "VirtualService", "WorkloadGroup", "Sidecar", "Deployment"} <= kinds
    assert list(violations(resources)) == []


@pytest.mark.parametrize("more", [{}, {"delivery": "operator"}, {"prometheus": {"image": "prometheus:1"}}])
def test_a_stack_with_metrics_keeps_to_every_rule(more: dict[str, Any]) -> None:
    given = {"image": "metrics:1", "scrapers": ["10.0.0.0/16"], **more}
    resources = [plain(each) for each in dev(lambda s: s.update(observability=given)).found]
    assert list(violations(resources)) == []


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (lambda s: s.update(mtls="PERMISSIVE"), {"strict-mtls", "strict-mtls-everywhere"}),
        (lambda s: s.update(mtls="none"), {"strict-mtls-everywhere"}),
        (lambda s: s["workloads"]["echo"].pop("probe"), {"vm-probe"}),
        (
            lambda s: s["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["ssh"].update(address="8.8.8.8"),
            {"no-public-address"},
        ),
        (
            lambda s: (
                s["controlPlane"].update(version="1.25.0"),
                s.update(versions={"accept": ["istiod", "sidecar"]}),
            ),
            {"supported-versions"},
        ),
        (
            lambda s: s.update(
                controlPlane={**s["controlPlane"], "revisions": {"old": {"version": "1.25.0"}}},
                versions={"accept": ["istiod"]},
            ),
            {"supported-versions"},
        ),
    ],
    ids=["permissive", "none", "no probe", "public address", "istiod in a folder", "a second istiod in a folder"],
)
def test_settings_that_the_program_takes_and_the_policy_does_not(change: Any, rules: set[str]) -> None:
    assert {rule for rule, _, _ in violations([plain(each) for each in dev(change).found])} == rules


def test_an_istiod_of_a_chart_repository_is_blamed_once() -> None:
    def change(sections: dict[str, Any]) -> None:
        charts = {"repository": "https://charts.example.com"}
        plane = {**sections["controlPlane"], "charts": charts, "version": "1.25.0"}
        revisions = {"old": {"version": "1.24.0"}}
        sections.update(controlPlane={**plane, "revisions": revisions}, versions={"accept": ["istiod", "sidecar"]})

    said = [message.partition(" is ")[0] for _, _, message in violations([plain(each) for each in dev(change).found])]
    assert sorted(said) == ["istiod 1.24.0", "istiod 1.25.0"]


def test_a_stack_rule_blames_a_resource() -> None:
    (rule,) = [rule for rule in RULES if isinstance(rule, StackRule)]
    blamed = namespace()
    assert [resource for resource, _ in rule.check([blamed], {})] == [blamed]


def test_the_page_names_every_rule_with_its_level() -> None:
    page = (PROJECT_ROOT / "docs" / "policy.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [(row.split("|")[1].strip(" `"), row.split("|")[3].strip()) for row in rows] == [
        (rule.name, rule.level) for rule in RULES
    ]
