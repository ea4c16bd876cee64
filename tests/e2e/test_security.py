"""Who may call what (docs/security.md): calls from pods and from machines, allowed and refused, and why in the log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lab.cluster import wait_for
from lab.traffic import Runner, in_pod, on_machine
from tests.e2e.load import Load, Request
from tests.e2e.mesh import kubectl
from tests.e2e.stack import Stack
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full]

MACHINES = ("vm-1", "vm-2")
URL = "http://echo.demo.svc.cluster.local:8080"
REFUSED = "RBAC: access denied"
ACCESS = {
    "echo": {
        "allow": [
            {"from": ["client"], "methods": ["GET"], "paths": ["/orders", "/orders/*"], "ports": [8080]},
            {"from": ["echo"], "methods": ["GET"], "paths": ["/peers/{*}/state"]},
            {"principals": ["cluster.local/ns/other/sa/stranger"], "methods": ["POST"]},
            {"namespaces": ["other"], "paths": ["/public"]},
        ],
        "deny": [{"from": ["client"], "paths": ["/orders/secret"]}, {"methods": ["DELETE"]}],
    },
    "client": {},
}
CALLS = 30


def policies(lab: Lab) -> dict[str, Any]:
    items = json.loads(kubectl(lab, "get", "authorizationpolicies", "-A", "-o", "json"))["items"]
    return {f"{item['metadata']['namespace']}/{item['metadata']['name']}": item["spec"] for item in items}


@dataclass
class Secured:
    """The stack with access rules, and what a client saw while they came."""

    requests: list[Request]
    callers: dict[str, Runner]


@pytest.fixture(scope="module")
def secured(lab: Lab, stack: Stack) -> Iterator[Secured]:
    stack.change("controlPlane.values.meshConfig.accessLogFile", "/dev/stdout")
    stack.change("routing.echo.weights", {"k8s": 50, "vm": 50})
    pods = stack.settings()["config"]["hybrid-mesh:workloads"]["client"]["pods"]
    stack.change("workloads.stranger", {"namespace": "other", "pods": pods})
    stack.up()
    for name, rules in ACCESS.items():
        stack.change(f"access.{name}", rules)
    client = in_pod(lab.instance, lab.tools, "deploy/client", "demo")
    with Load(lab, path="/orders") as load:
        stack.up()
        # Connections that are open keep the rules of before until Envoy has drained them: 45 s, little by little. Each
        # call of `statuses` is one to the client's proxy, which has several to each server.
        wait_for("refusals", lambda: all(statuses(client, "/elsewhere") == {403} for _ in range(5)), 90)
    callers = {"client": client, "stranger": in_pod(lab.instance, lab.tools, "deploy/stranger", "other")}
    callers |= {name: on_machine(lab.machine(name)) for name in MACHINES}
    yield Secured(load.requests, callers)
    stack.restore()


def call(runner: Runner, path: str, method: str = "GET", calls: int = CALLS) -> list[tuple[int, str]]:
    """Status and body of each of some calls: enough that pods and both machines get some."""
    mark = "--answer--"
    output = runner(
        [
            "curl",
            "--silent",
            "--max-time",
            "10",
            "--globoff",
            "--request",
            method,
            "--write-out",
            f"{mark}%{{http_code}}\n",
        ]
        + [f"{URL}{path}"] * calls
    )
    answers = re.findall(rf"(.*?){mark}(\d+)\n", output, re.DOTALL)
    assert len(answers) == calls, output
    return [(int(status), body) for body, status in answers]


def statuses(runner: Runner, path: str, method: str = "GET", calls: int = CALLS) -> set[int]:
    return {status for status, _ in call(runner, path, method, calls)}


def platforms(answers: list[tuple[int, str]]) -> set[str]:
    return {json.loads(body)["platform"] for _, body in answers}


ALLOWED = [
    ("client", "GET", "/orders"),
    ("client", "GET", "/orders/7?full=1"),
    ("vm-1", "GET", "/peers/vm-2/state"),
    ("vm-2", "GET", "/peers/vm-1/state"),
    ("stranger", "POST", "/anything"),
    ("stranger", "GET", "/public"),
]
DEFAULT = "none"
"""What the log says where no rule allowed the call."""
DENIED = [
    ("client", "POST", "/orders/by-method", DEFAULT),
    ("client", "GET", "/elsewhere/by-path", DEFAULT),
    ("client", "GET", "/orders/secret", "ns[demo]-policy[echo-deny]-rule[0]"),
    ("client", "DELETE", "/orders/by-deny", "ns[demo]-policy[echo-deny]-rule[1]"),
    ("vm-1", "GET", "/orders/from-vm-1", DEFAULT),
    ("vm-2", "GET", "/peers/a/b/state", DEFAULT),
    ("vm-1", "DELETE", "/peers/vm-2/state", "ns[demo]-policy[echo-deny]-rule[1]"),
    ("stranger", "GET", "/orders/from-stranger", DEFAULT),
]


@pytest.mark.parametrize(("caller", "method", "path"), ALLOWED, ids=[" ".join(call) for call in ALLOWED])
def test_what_is_allowed_is_answered_by_pods_and_machines(
    secured: Secured, caller: str, method: str, path: str
) -> None:
    answers = call(secured.callers[caller], path, method)
    assert {status for status, _ in answers} == {200}
    assert platforms(answers) == {"kubernetes", "vm"}


def test_what_is_not_is_refused_by_pods_and_machines_and_the_log_says_why(lab: Lab, secured: Secured) -> None:
    for caller, method, path, _ in DENIED:
        answers = call(secured.callers[caller], path, method)
        assert {(status, body) for status, body in answers} == {(403, REFUSED)}, (caller, method, path)

    def unexplained() -> list[tuple[str, str, str]]:
        logs = {name: lab.machine(name).ssh(["cat /var/log/istio/istio.log"], timeout=60) for name in MACHINES}
        logs["pod"] = kubectl(lab, "logs", "-n", "demo", "deploy/echo", "-c", "istio-proxy", "--tail=-1")
        return [
            (server, path, policy)
            for server, log in logs.items()
            for _, method, path, policy in DENIED
            if f'"{method} {path} HTTP/1.1" 403 - rbac_access_denied_matched_policy[{policy}]' not in log
        ]

    # Envoy writes its access log in blocks, every ten seconds at the latest.
    wait_for("a line for each refusal on each server", lambda: unexplained() == [], 25)


def test_no_allowed_call_fails_while_rules_come(secured: Secured) -> None:
    assert len(secured.requests) > 50
    assert {request.status for request in secured.requests} == {200}


def test_mtls_is_strict_in_every_namespace_of_the_stack(lab: Lab, secured: Secured) -> None:
    assert secured
    items = json.loads(kubectl(lab, "get", "peerauthentications", "-A", "-o", "json"))["items"]
    modes = {item["metadata"]["namespace"]: item["spec"]["mtls"]["mode"] for item in items}
    assert modes == {"demo": "STRICT", "other": "STRICT"}


def test_the_policies_are_those_of_the_docs(lab: Lab, secured: Secured) -> None:
    assert secured
    found = policies(lab)
    assert set(found) == {
        "demo/echo-deny",
        "demo/echo-allow",
        "demo/echo-default-deny",
        "demo/client-default-deny",
    }
    assert found["demo/client-default-deny"] == {"action": "ALLOW", "selector": {"matchLabels": {"app": "client"}}}
    assert found["demo/echo-allow"]["rules"][0] == {
        "from": [{"source": {"principals": ["cluster.local/ns/demo/sa/client"]}}],
        "to": [{"operation": {"methods": ["GET"], "paths": ["/orders", "/orders/*"], "ports": ["8080"]}}],
    }


def test_a_changed_rule_is_a_line_in_the_preview_and_touches_no_machine(stack: Stack, secured: Secured) -> None:
    assert secured
    rules = json.loads(json.dumps(ACCESS["echo"]))
    rules["allow"][0]["methods"] = ["GET", "POST"]
    stack.change("access.echo", rules)
    try:
        assert [(step.operation, step.type) for step in stack.steps()] == [
            ("update", "kubernetes:security.istio.io/v1:AuthorizationPolicy")
        ]
        assert re.search(r'\+ \[1\] *: "POST"', stack.preview())
    finally:
        stack.change("access.echo", ACCESS["echo"])


def test_nothing_is_left_once_the_rules_are_gone(lab: Lab, stack: Stack, secured: Secured) -> None:
    stack.restore()
    stack.up()
    assert policies(lab) == {}
    wait_for("calls to pass", lambda: statuses(secured.callers["client"], "/elsewhere") == {200}, 20)
    assert "other" not in kubectl(lab, "get", "namespaces", "-o", "jsonpath={.items[*].metadata.name}").split()
