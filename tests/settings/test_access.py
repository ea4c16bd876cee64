"""Every rule of `access`, broken once, and what must pass."""

from typing import Any

import pytest

from tests.settings.test_rules import Change, at, both, findings

CLIENT = {"from": ["client"]}


def access(**given: Any) -> Change:
    """The access of workload `echo`."""
    return at("access", {"echo": given})


def with_tcp(protocol: str = "TCP", **given: Any) -> Change:
    def change(sections: dict[str, Any]) -> None:
        sections["workloads"]["echo"]["ports"].append({"name": "tcp", "port": 9000, "protocol": protocol})
        sections["access"] = {"echo": given}

    return change


def loose(mtls: str, **given: Any) -> Change:
    def change(sections: dict[str, Any]) -> None:
        sections["mtls"] = mtls
        sections["access"] = {"echo": given}

    return change


# What is changed, where the finding is, and a word of the problem.
RULES: list[tuple[str, Change, str, str]] = [
    ("the workload is unknown", at("access", {"ecco": {}}), "access.ecco", "names no workload"),
    ("the default is unknown", access(default="DENY"), "access.echo.default", "'deny' or 'allow'"),
    ("allow has no caller", access(allow=[{}]), "access.echo.allow[0]", "names no caller"),
    ("allow has a method only", access(allow=[{"methods": ["GET"]}]), "access.echo.allow[0]", "names no caller"),
    ("callers are no list", access(allow=[{"from": "client"}]), "access.echo.allow[0].from", "valid tuple"),
    ("callers are none", access(allow=[{"from": []}]), "access.echo.allow[0].from", "empty list"),
    ("a caller is unknown", access(allow=[{"from": ["cliant"]}]), "access.echo.allow[0].from", "no workload"),
    ("a denied caller is unknown", access(deny=[{"from": ["x"]}]), "access.echo.deny[0].from", "no workload"),
    ("anyone is a caller", access(allow=[{"principals": ["*"]}]), "access.echo.allow[0].principals[0]", "without `*`"),
    (
        "a principal has a wildcard",
        access(allow=[{"principals": ["cluster.local/ns/demo/*"]}]),
        "access.echo.allow[0].principals[0]",
        "without `*`",
    ),
    (
        "a principal is a SPIFFE id",
        access(allow=[{"principals": ["spiffe://cluster.local/ns/demo/sa/client"]}]),
        "access.echo.allow[0].principals[0]",
        "is not an identity",
    ),
    ("a namespace is a wildcard", access(allow=[{"namespaces": ["*"]}]), "access.echo.allow[0].namespaces[0]", "label"),
    (
        "a method is no method",
        access(allow=[{**CLIENT, "methods": ["get"]}]),
        "access.echo.allow[0].methods[0]",
        "'GET'",
    ),
    ("a path is none", access(allow=[{**CLIENT, "paths": ["orders"]}]), "access.echo.allow[0].paths[0]", "not a path"),
    ("a path has a query", access(allow=[{**CLIENT, "paths": ["/a?b"]}]), "access.echo.allow[0].paths[0]", "not a"),
    (
        "a path has an inner *",
        access(allow=[{**CLIENT, "paths": ["/a/*/b"]}]),
        "access.echo.allow[0].paths[0]",
        "not a",
    ),
    (
        "a template goes on",
        access(allow=[{**CLIENT, "paths": ["/{**}/{*}"]}]),
        "access.echo.allow[0].paths[0]",
        "not a path",
    ),
    (
        "a template has what Istio takes in none",
        access(allow=[{**CLIENT, "paths": ["/größe/{*}"]}]),
        "access.echo.allow[0].paths[0]",
        "not a path",
    ),
    ("all paths", access(allow=[{**CLIENT, "paths": ["/*"]}]), "access.echo.allow[0].paths[0]", "every path"),
    (
        "all paths by a template",
        access(allow=[{**CLIENT, "paths": ["/{**}"]}]),
        "access.echo.allow[0].paths[0]",
        "every path",
    ),
    ("any path", access(deny=[{"paths": ["*"]}]), "access.echo.deny[0].paths[0]", "not a path"),
    ("a port is not the app's", access(allow=[{**CLIENT, "ports": [80]}]), "access.echo.allow[0].ports", "no port"),
    (
        "a port is the Service's and not the app's",
        both(
            at("workloads/echo/ports/0", {"name": "http", "port": 80, "targetPort": 8080}),
            access(deny=[{"ports": [80]}]),
        ),
        "access.echo.deny[0].ports",
        "no port that the app listens on",
    ),
    ("deny has nothing", access(deny=[{}]), "access.echo.deny[0]", "no caller and no call"),
    ("allow by default, with rules", access(default="allow", allow=[CLIENT]), "access.echo.default", "contradicts"),
    ("allow by default, without rules", access(default="allow"), "access.echo", "allows every call"),
    ("a rule is there twice", access(allow=[CLIENT, CLIENT]), "access.echo.allow[1]", "allow[0] does not match"),
    (
        "a rule is part of another",
        access(deny=[CLIENT, {**CLIENT, "methods": ["POST"]}]),
        "access.echo.deny[1]",
        "deny[0] does not match",
    ),
    (
        "allow and deny are one",
        access(allow=[{**CLIENT, "methods": ["GET"]}], deny=[{**CLIENT, "methods": ["GET"]}]),
        "access.echo.allow[0]",
        "deny[0] does not match too",
    ),
    (
        "allow and deny are one identity",
        access(allow=[CLIENT], deny=[{"principals": ["cluster.local/ns/demo/sa/client"]}]),
        "access.echo.allow[0]",
        "deny[0] does not match too",
    ),
    (
        "allow and deny are one identity by its account",
        both(
            at("workloads/client/serviceAccount", "shopper"),
            access(allow=[CLIENT], deny=[{"principals": ["cluster.local/ns/demo/sa/shopper"]}]),
        ),
        "access.echo.allow[0]",
        "deny[0] does not match too",
    ),
    (
        "deny is wider than allow",
        access(allow=[{**CLIENT, "methods": ["GET"]}], deny=[{"namespaces": ["demo"]}]),
        "access.echo.allow[0]",
        "deny[0] does not match too",
    ),
    (
        "a client has rules",
        at("access", {"client": {"allow": [{"from": ["echo"]}]}}),
        "access.client.allow[0]",
        "has no ports",
    ),
    (
        "methods are denied on TCP",
        with_tcp(deny=[{**CLIENT, "methods": ["POST"], "ports": [8080, 9000]}]),
        "access.echo.deny[0]",
        "holds for a TCP port",
    ),
    (
        "paths are allowed on TCP",
        with_tcp(allow=[{**CLIENT, "paths": ["/a"], "ports": [9000]}]),
        "access.echo.allow[0]",
        "holds for a TCP port",
    ),
    (
        "methods are allowed on TLS",
        with_tcp("TLS", allow=[{**CLIENT, "methods": ["GET"], "ports": [9000]}]),
        "access.echo.allow[0]",
        "holds for a TLS port",
    ),
    (
        "plain text passes a deny",
        loose("PERMISSIVE", default="allow", deny=[CLIENT]),
        "access.echo.deny[0]",
        "`mtls` is not STRICT",
    ),
    (
        "plain text passes a deny where nothing is said of it",
        loose("none", default="allow", deny=[CLIENT]),
        "access.echo.deny[0]",
        "`mtls` is not STRICT",
    ),
    (
        "the pods have no proxy",
        both(at("workloads/echo/labels", {"sidecar.istio.io/inject": "false"}), access(allow=[CLIENT])),
        "access.echo",
        "is for pods that have no proxy",
    ),
    ("a key is misspelt", access(allow=[{"frm": ["client"]}]), "access.echo.allow[0].frm", "not a setting"),
]


@pytest.mark.parametrize(("change", "path", "problem"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_nonsense_is_refused_where_it_is_once_and_with_a_fix(change: Change, path: str, problem: str) -> None:
    (finding,) = findings(change)
    assert finding.path == path
    assert problem in finding.problem
    assert finding.consequence.endswith(".")
    assert finding.fix
    assert "\n" not in str(finding)


SENSE = {
    "pods without a proxy, in a namespace of others who may see to it": both(
        both(at("workloads/echo/labels", {"sidecar.istio.io/inject": "false"}), access(allow=[CLIENT])),
        at("namespaces", {"demo": {"existing": True}}),
    ),
    "VMs alone, which have a proxy whatever pods have": both(
        both(at("workloads/echo/labels", {"sidecar.istio.io/inject": "false"}), access(allow=[CLIENT])),
        both(at("workloads/echo/pods", ...), at("routing", {})),
    ),
    "nobody may call": access(),
    "a client is not called": at("access", {"client": {}}),
    "one caller": access(allow=[CLIENT]),
    "the article's": access(
        allow=[{"principals": ["cluster.local/ns/default/sa/payment-service"], "methods": ["GET", "POST"]}]
    ),
    "all that can be said": access(
        allow=[
            {
                **CLIENT,
                "namespaces": ["shop"],
                "methods": ["GET"],
                "paths": [
                    "/",
                    "/orders",
                    "/orders/*",
                    "/o*",
                    "*/health",
                    "/orders/{*}/items",
                    "/größe/*",
                    "/a~%20(b)/{**}",
                ],
                "ports": [8080],
            }
        ],
        deny=[{"paths": ["/admin/*"]}, {"namespaces": ["test"]}],
    ),
    "a caller of one kind, narrowed": access(allow=[CLIENT], deny=[{**CLIENT, "methods": ["DELETE"]}]),
    "callers that overlap in part": access(
        allow=[CLIENT, {"from": ["client", "echo"], "methods": ["GET"]}], deny=[{"namespaces": ["shop"]}]
    ),
    "a caller by its identity of now, and by that to be": access(
        allow=[{**CLIENT, "principals": [f"cluster.local/ns/demo/sa/{name}" for name in ("client", "client-2")]}]
    ),
    "one caller, for each path": access(allow=[{**CLIENT, "paths": ["/a"]}, {**CLIENT, "paths": ["/b"]}]),
    "one caller, for methods that overlap": access(
        allow=[{**CLIENT, "methods": ["GET"]}, {**CLIENT, "methods": ["GET", "POST"]}]
    ),
    "one caller, for each port": with_tcp(allow=[{**CLIENT, "ports": [8080]}, {**CLIENT, "ports": [9000]}]),
    "callers of whom one is denied": access(allow=[{"from": ["client", "echo"]}], deny=[CLIENT]),
    "a namespace, but for a caller of another that is denied": access(
        allow=[{**CLIENT, "namespaces": ["shop"]}], deny=[{"namespaces": ["demo"]}]
    ),
    "deny alone": access(default="allow", deny=[{**CLIENT, "methods": ["DELETE"]}]),
    "deny without callers, in plain text": loose("none", default="allow", deny=[{"paths": ["/admin/*"]}]),
    "methods on the HTTP port": with_tcp(deny=[{**CLIENT, "methods": ["POST"], "ports": [8080]}]),
    "methods where there is TCP too": with_tcp(
        allow=[{**CLIENT, "methods": ["GET"]}], deny=[{**CLIENT, "methods": ["POST"]}]
    ),
    "methods on both ports": with_tcp(allow=[{**CLIENT, "methods": ["GET"], "ports": [8080, 9000]}]),
    "deny by port": with_tcp(default="allow", deny=[{"ports": [9000]}]),
    "callers on the TCP port": with_tcp(allow=[{**CLIENT, "ports": [9000]}]),
}


@pytest.mark.parametrize("change", SENSE.values(), ids=SENSE)
def test_sense_is_taken(change: Change) -> None:
    assert findings(change) == []


def test_a_wrong_workload_is_not_taken_for_an_unknown_caller() -> None:
    found = findings(access(allow=[CLIENT]), at("workloads/client/pods", {"image": ""}))
    assert [finding.path for finding in found] == ["workloads.client.pods.image"]


def two_called(access: dict[str, Any]) -> Change:
    """A workload `echo-default` beside `echo`, and the access of both."""

    def change(sections: dict[str, Any]) -> None:
        sections["workloads"]["echo-default"] = {**sections["workloads"]["echo"], "namespace": "shop"}
        del sections["workloads"]["echo-default"]["machines"]
        sections["access"] = access

    return change


def test_two_policies_of_one_name_are_refused() -> None:
    refusing = {"default": "allow", "deny": [CLIENT]}
    (finding,) = findings(two_called({"echo": {"allow": [CLIENT]}, "echo-default": refusing}))
    assert str(finding) == (
        "hybrid-mesh:access.echo-default.deny: makes the policy `echo-default-deny`, and so does `default: deny` of "
        "`access.echo`. Pulumi would refuse two of one name. "
        "Fix: another name for one of the workloads `echo` and `echo-default`."
    )
    assert findings(two_called({"echo": refusing, "echo-default": refusing})) == []
    assert findings(two_called({"echo": {"allow": [CLIENT]}, "echo-default": {"allow": [CLIENT]}})) == []


def test_the_nearest_workload_is_named() -> None:
    (finding,) = findings(access(allow=[{"from": ["cliant"]}]))
    assert str(finding) == (
        "hybrid-mesh:access.echo.allow[0].from = cliant: names no workload. The rule would be for nobody. "
        "Fix: did you mean `client`?"
    )


def test_a_grpc_probe_is_refused_with_the_reason() -> None:
    (finding,) = findings(at("workloads/echo/probe", {"grpc": {"port": 8080}}), access())
    assert finding.path == "workloads.echo.probe.grpc"
    assert "crashes Istio's agent on a VM once the app turns NOT_SERVING" in finding.problem
    assert "tcpSocket" in finding.fix
