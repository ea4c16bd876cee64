"""The rules of services, routes and traffic policies, each broken once."""

from typing import Any

import pytest

from hybridmesh.settings import Settings, parse
from tests.components.harness import dev_sections, read_file
from tests.settings.test_rules import ECHO, VM_1, Change, at, findings

ROUTE = "routing/echo"
POLICY = {"localityLbSetting": {"failover": [{"from": "a", "to": "b"}]}}
ENTRY = {"kind": "ServiceEntry", "hosts": ["echo.vm.internal"]}
TCP = [{"name": "tcp", "port": 9000, "protocol": "TCP"}]


def locality(setting: dict[str, Any]) -> Change:
    return at(f"{ROUTE}/loadBalancer", {"localityLbSetting": setting})


def entry_of(*hosts: str) -> Change:
    return at(f"{ECHO}/service", {"kind": "ServiceEntry", "hosts": list(hosts)})


HOSTS = "workloads.echo.service.hosts"
LB = "routing.echo.loadBalancer.localityLbSetting"
RULES: list[tuple[str, Change, str, str]] = [
    ("a host is everything", entry_of("*"), f"{HOSTS}[0]", "full host name"),
    ("a host is a wildcard", entry_of("*.internal"), f"{HOSTS}[0]", "full host name"),
    ("a host is a short name", entry_of("echo"), f"{HOSTS}[0]", "full host name"),
    ("a host is an address", entry_of("192.0.2.1"), f"{HOSTS}[0]", "full host name"),
    ("a host is upper case", entry_of("Echo.internal"), f"{HOSTS}[0]", "full host name"),
    ("a host is istiod's", entry_of("istiod.istio-system.svc.cluster.local"), f"{HOSTS}[0]", "Istio or the cluster"),
    ("a host is istiod's, as VMs call it", entry_of("istiod.istio-system.svc"), f"{HOSTS}[0]", "Istio or the cluster"),
    ("a host is istiod's, in short", entry_of("istiod.istio-system"), f"{HOSTS}[0]", "Istio or the cluster"),
    ("a host is the API's, by its namespace", entry_of("kubernetes.default"), f"{HOSTS}[0]", "Kubernetes' API"),
    ("a host is the API's, in short", entry_of("kubernetes.default.svc"), f"{HOSTS}[0]", "Kubernetes' API"),
    ("a host is the API's", entry_of("kubernetes.default.svc.cluster.local"), f"{HOSTS}[0]", "Kubernetes' API"),
    ("a host is the cluster's domain", entry_of("cluster.local"), f"{HOSTS}[0]", "Istio or the cluster"),
    ("a host is named twice", entry_of("a.internal", "a.internal"), f"{HOSTS}[1]", f"that of {HOSTS}[0]"),
    ("a ServiceEntry has no host", at(f"{ECHO}/service", {"kind": "ServiceEntry"}), HOSTS, "is missing"),
    ("a Service has hosts", at(f"{ECHO}/service", {"hosts": ["echo.internal"]}), HOSTS, "for `kind: ServiceEntry`"),
    ("a client has a ServiceEntry", at("workloads/client/service", ENTRY), "workloads.client.service.kind", "ports"),
    ("a kind is unknown", at(f"{ECHO}/service", {"kind": "Entry"}), "workloads.echo.service.kind", "'Service'"),
    ("a protocol is unknown", at(f"{ECHO}/ports/0/protocol", "UDP"), "workloads.echo.ports[0].protocol", "'TLS'"),
    (
        "a registration is unknown",
        at(f"{ECHO}/machines/registration", "manual"),
        "workloads.echo.machines.registration",
        "'static'",
    ),
    ("a weight has no entry", at(f"{VM_1}/weight", 2), "workloads.echo.machines.hosts.vm-1.weight", "static"),
    (
        "a locality is too deep",
        at(f"{VM_1}/locality", "a/b/c/d"),
        "workloads.echo.machines.hosts.vm-1.locality",
        "locality",
    ),
    (
        "a locality has a dot",
        at(f"{VM_1}/locality", "eu.west"),
        "workloads.echo.machines.hosts.vm-1.locality",
        "locality",
    ),
    (
        "testers go nowhere",
        at(f"{ROUTE}/match", [{"headers": {"x": "y"}, "subset": "v3"}]),
        "routing.echo.match[0].subset",
        "names no subset",
    ),
    (
        "testers have no header",
        at(f"{ROUTE}/match", [{"headers": {}, "subset": "vm"}]),
        "routing.echo.match[0].headers",
        "at least 1",
    ),
    (
        "a header is upper case",
        at(f"{ROUTE}/match", [{"headers": {"X-Tester": "y"}, "subset": "vm"}]),
        "routing.echo.match[0].headers.X-Tester",
        "lower case",
    ),
    (
        "a header is YAML's yes",
        at(f"{ROUTE}/match", [{"headers": {"x-tester": True}, "subset": "vm"}]),
        "routing.echo.match[0].headers.x-tester",
        "string",
    ),
    ("a mirror is nowhere", at(f"{ROUTE}/mirror", {"subset": "v3"}), "routing.echo.mirror.subset", "names no subset"),
    (
        "a mirror copies nothing",
        at(f"{ROUTE}/mirror", {"subset": "vm", "percentage": 0}),
        "routing.echo.mirror.percentage",
        "greater than 0",
    ),
    ("a timeout has no unit", at(f"{ROUTE}/timeout", "30"), "routing.echo.timeout", "duration"),
    ("a timeout is a number", at(f"{ROUTE}/timeout", 30), "routing.echo.timeout", "string"),
    (
        "a pool is nothing",
        at(f"{ROUTE}/connectionPool", {"tcp": {"maxConnections": 0}}),
        "routing.echo.connectionPool.tcp.maxConnections",
        "greater than or equal to 1",
    ),
    (
        "a pool is misspelt",
        at(f"{ROUTE}/connectionPool", {"http": {"http2MaxRequest": 5}}),
        "routing.echo.connectionPool.http.http2MaxRequest",
        "not a setting",
    ),
    ("TLS is plain", at(f"{ROUTE}/tls", {"mode": "DISABLE"}), "routing.echo.tls.mode", "ISTIO_MUTUAL"),
    (
        "a balancer is unknown",
        at(f"{ROUTE}/loadBalancer", {"simple": "PASSTHROUGH"}),
        "routing.echo.loadBalancer.simple",
        "ROUND_ROBIN",
    ),
    ("locality says nothing", locality({}), LB, "exactly one"),
    (
        "locality says both",
        locality({"failover": [{"from": "a", "to": "b"}], "distribute": [{"from": "a", "to": {"a": 100}}]}),
        LB,
        "both",
    ),
    (
        "a region fails over to itself",
        locality({"failover": [{"from": "a", "to": "a"}]}),
        f"{LB}.failover[0].to",
        "come from",
    ),
    (
        "a failover has a zone",
        locality({"failover": [{"from": "a/b", "to": "c"}]}),
        f"{LB}.failover[0].from",
        "without zone",
    ),
    (
        "a region is there twice",
        locality({"failover": [{"from": "a", "to": "b"}, {"from": "a", "to": "c"}]}),
        f"{LB}.failover[1].from",
        "too",
    ),
    (
        "shares are 99",
        locality({"distribute": [{"from": "a", "to": {"a": 99}}]}),
        f"{LB}.distribute[0].to",
        "adds up to 99",
    ),
    (
        "a share is nothing",
        locality({"distribute": [{"from": "a", "to": {"a": 100, "b": 0}}]}),
        f"{LB}.distribute[0].to",
        "share of 0",
    ),
    (
        "a locality is after a wider one",
        locality({"distribute": [{"from": "*", "to": {"a": 100}}, {"from": "a/*", "to": {"a": 100}}]}),
        f"{LB}.distribute[1].from",
        "overlaps with distribute[0], *",
    ),
    (
        "a locality is there twice",
        locality({"distribute": [{"from": "a/b", "to": {"a": 100}}, {"from": "a/b/*", "to": {"a": 100}}]}),
        f"{LB}.distribute[1].from",
        "overlaps with distribute[0], a/b",
    ),
    (
        "shares overlap",
        locality({"distribute": [{"from": "a", "to": {"a/b/*": 50, "*": 50}}]}),
        f"{LB}.distribute[0].to",
        "has * and a/b/*, which overlap",
    ),
    (
        "a namespace's policy is wrong",
        at("namespaces/demo", {"trafficPolicy": {"loadBalancer": {"localityLbSetting": {}}}}),
        "namespaces.demo.trafficPolicy.loadBalancer.localityLbSetting",
        "exactly one",
    ),
    (
        "a policy is for others' namespace",
        at("namespaces/demo", {"existing": True, "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}),
        "namespaces.demo.trafficPolicy",
        "not this stack's",
    ),
]


@pytest.mark.parametrize(("change", "path", "problem"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_a_broken_rule_is_found_once_where_it_is(change: Change, path: str, problem: str) -> None:
    (finding,) = findings(change)
    assert finding.path == path
    assert problem in finding.problem
    assert finding.consequence.endswith(".")
    assert finding.fix
    assert "\n" not in str(finding)


def test_failover_needs_outlier_detection() -> None:
    off = at(f"{ROUTE}/outlierDetection", {"maxEjectionPercent": 0})
    (finding,) = findings(off, locality({"failover": [{"from": "a", "to": "b"}]}))
    assert finding.path == f"{LB}.failover"
    assert findings(off, locality({"distribute": [{"from": "a", "to": {"a": 100}}]})) == []


def test_a_subset_that_gets_everything_is_not_mirrored_to() -> None:
    (finding,) = findings(at(f"{ROUTE}/weights", {"k8s": 0, "vm": 100}), at(f"{ROUTE}/mirror", {"subset": "vm"}))
    assert finding.path == "routing.echo.mirror.subset"


def test_a_try_is_no_longer_than_the_request() -> None:
    assert findings(at(f"{ROUTE}/timeout", "2s"), at(f"{ROUTE}/retries", {"perTrySeconds": 2})) == []
    (finding,) = findings(at(f"{ROUTE}/timeout", "1500ms"), at(f"{ROUTE}/retries", {"perTrySeconds": 2}))
    assert finding.path == "routing.echo.retries.perTrySeconds"


def test_a_limit_of_each_try_is_refused_where_nothing_is_tried_again() -> None:
    assert findings(at(f"{ROUTE}/retries", {"attempts": 1, "perTrySeconds": 2})) == []
    for timeout in ("1s", "5s"):
        retries = at(f"{ROUTE}/retries", {"attempts": 0, "perTrySeconds": 2})
        (finding,) = findings(at(f"{ROUTE}/timeout", timeout), retries)
        assert (finding.path, finding.value) == ("routing.echo.retries.perTrySeconds", "2")
        assert "`attempts` is 0" in finding.problem


@pytest.mark.parametrize(
    "change",
    [
        at(f"{ROUTE}/match", [{"headers": {"x": "y"}, "subset": "vm"}]),
        at(f"{ROUTE}/mirror", {"subset": "vm"}),
        at(f"{ROUTE}/timeout", "2s"),
    ],
)
def test_what_needs_requests_is_refused_where_there_are_connections_only(change: Change) -> None:
    for ports in (TCP, [{**TCP[0], "protocol": "TLS"}]):
        (finding,) = findings(at(f"{ECHO}/ports", ports), change)
        assert "needs requests" in finding.problem


def test_several_hosts_are_refused_where_a_connection_does_not_say_which_is_meant() -> None:
    hosts = entry_of("a.internal", "b.internal")
    assert findings(hosts) == findings(hosts, at(f"{ECHO}/ports", [{**TCP[0], "protocol": "TLS"}])) == []
    (finding,) = findings(hosts, at(f"{ECHO}/ports", TCP))
    assert (finding.path, finding.problem) == (HOSTS, "is more than one, and port tcp is TCP")


def test_a_host_belongs_to_one_workload() -> None:
    shop = {"namespace": "demo", "ports": TCP, "pods": {"image": "shop"}}
    of_a_service = at(
        "workloads/shop", {**shop, "service": {"kind": "ServiceEntry", "hosts": ["echo.demo.svc.cluster.local"]}}
    )
    (finding,) = findings(of_a_service)
    assert (finding.path, finding.problem) == ("workloads.shop.service.hosts[0]", "is that of workloads.echo too")
    (finding,) = findings(at(f"{ECHO}/service", ENTRY), at("workloads/shop", {**shop, "service": ENTRY}))
    assert finding.path == "workloads.shop.service.hosts[0]"


def test_a_subset_may_be_found_by_a_label_of_the_workload_s() -> None:
    subset = at(f"{ROUTE}/subsets", {"shop": {"team": "shop"}})
    (finding,) = findings(subset, at(f"{ROUTE}/weights", {"shop": 100}))
    assert finding.path == "routing.echo.subsets.shop"
    assert findings(subset, at(f"{ROUTE}/weights", {"shop": 100}), at(f"{ECHO}/labels", {"team": "shop"})) == []


def test_names_in_another_domain_are_those_of_another_cluster() -> None:
    domain = at("cluster/domain", "corp.example")
    assert findings(domain, entry_of("kubernetes.default.svc.cluster.local")) == []
    (finding,) = findings(domain, entry_of("kubernetes.default.svc.corp.example"))
    assert finding.path == f"{HOSTS}[0]"


def test_without_subsets_a_weight_names_a_version() -> None:
    no_subsets = at(f"{ROUTE}/subsets", ...)
    assert findings(no_subsets) == []
    (finding,) = findings(no_subsets, at(f"{ROUTE}/weights", {"k8s": 90, "cloud": 10}))
    assert (finding.path, finding.problem) == ("routing.echo.weights.cloud", "names no subset (there are: k8s, vm)")


def settings(routing: dict[str, Any]) -> Settings:
    sections = dev_sections()
    sections["routing"] = {"echo": routing}
    return parse(sections, read_file)


def test_each_version_has_a_subset_whether_requests_are_sent_there_or_not() -> None:
    def subsets(routing: dict[str, Any]) -> dict[str, Any]:
        made = settings(routing)
        return {name: dict(labels) for name, labels in made.routing["echo"].subsets_of(made.workloads["echo"]).items()}

    versions = {"k8s": {"version": "k8s"}, "vm": {"version": "vm"}}
    assert subsets({}) == versions
    assert subsets({"weights": {"k8s": 90, "vm": 10}}) == versions
    assert subsets({"weights": {"vm": 100}}) == versions, "else the end of a canary would answer 503 for a while"
    assert subsets({"subsets": {"all": {"app": "echo"}}}) == {**versions, "all": {"app": "echo"}}
    both = {"version": "vm", "app": "echo"}
    assert subsets({"subsets": {"vm": both}}) == {**versions, "vm": both}


def test_a_version_that_is_no_name_has_no_subset() -> None:
    sections = dev_sections()
    sections["workloads"]["echo"]["pods"]["version"] = "1.2"
    sections["routing"] = {"echo": {"weights": {"vm": 100}}}
    made = parse(sections, read_file)
    assert set(made.routing["echo"].subsets_of(made.workloads["echo"])) == {"vm"}


def test_the_subsets_that_requests_are_sent_to_are_known() -> None:
    def used(routing: dict[str, Any]) -> set[str]:
        made = settings(routing)
        return set(made.routing["echo"].used_subsets_of(made.workloads["echo"]))

    assert used({}) == set()
    assert used({"weights": {"k8s": 100, "vm": 0}}) == {"k8s", "vm"}
    assert used({"match": [{"headers": {"x-tester": "yes"}, "subset": "vm"}]}) == {"vm"}
    assert used({"mirror": {"subset": "vm"}}) == {"vm"}
    assert used({"subsets": {"all": {"app": "echo"}}, "weights": {"all": 100}}) == {"all"}


def test_a_host_takes_from_its_namespace_what_it_does_not_say_itself() -> None:
    sections = dev_sections()
    sections["namespaces"] = {"demo": {"trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}, "connectionPool": {}}}}
    sections["routing"]["echo"]["connectionPool"] = {"tcp": {"maxConnections": 7}}
    made = parse(sections, read_file)
    policy = made.routing["echo"].over(made.namespaces["demo"].traffic_policy)
    assert policy.tls is not None
    assert policy.connection_pool is not None
    assert policy.connection_pool.tcp.max_connections == 7
    assert policy.outlier_detection is not None
    assert policy.outlier_detection.consecutive_errors == 5


def test_a_workload_s_rule_does_not_overwrite_its_namespace_s() -> None:
    def change(sections: dict[str, Any]) -> None:
        workload = {key: value for key, value in sections["workloads"]["echo"].items() if key != "machines"}
        sections["workloads"]["namespace-default"] = workload
        sections["routing"]["namespace-default"] = {"timeout": "2s"}

    policy = {"trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}
    (finding,) = findings(change, at("namespaces/demo", policy))
    assert str(finding) == (
        "hybrid-mesh:routing.namespace-default: makes the DestinationRule `namespace-default`, and so does "
        "`namespaces.demo.trafficPolicy`. One would overwrite the other. "
        "Fix: another name for the workload, or leave one of the two out."
    )
    assert findings(change) == []
    assert findings(change, at("routing/namespace-default", ...), at("namespaces/demo", policy)) == []


def test_a_wider_locality_may_follow_those_in_it() -> None:
    places = ["a/b/c", "a/b/*", "a/*", "b", "*"]
    assert findings(locality({"distribute": [{"from": place, "to": {"x": 100}} for place in places]})) == []
