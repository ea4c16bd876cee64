"""What somebody can do who has a VM, as docs/security.md says it: its token, its certificate and root on it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import CompletedProcess
from typing import Any

import pytest

from lab.cluster import wait_for
from lab.machines import Machine
from tests.e2e.mesh import ask_kubectl, ask_proxy, kubectl, objects
from tests.e2e.stack import Stack, console
from tests.environment import Lab
from tests.faults.seen import is_in, wait_until_in

pytestmark = [pytest.mark.lab, pytest.mark.full]

TOKEN = "/run/secrets/tokens/istio-token"
IDENTITY = "spiffe://cluster.local/ns/demo/sa/echo"
SETTINGS = ("/var/lib/istio/envoy/cluster.env", "/etc/istio/config/mesh")
ASKED = {
    "own namespace's secrets": "/api/v1/namespaces/demo/secrets",
    "istio's secrets": "/api/v1/namespaces/istio-system/secrets/istio-ca-secret",
    "another namespace's secrets": "/api/v1/namespaces/kube-system/secrets",
    "pods": "/api/v1/namespaces/demo/pods",
    "workload entries": "/apis/networking.istio.io/v1/namespaces/demo/workloadentries",
    "a token of itself": "/api/v1/namespaces/demo/serviceaccounts/echo/token",
}


@dataclass(frozen=True)
class Thief:
    """Root on a VM of the mesh, who knows where Kubernetes is."""

    machine: Machine
    api: str

    def asks(self, path: str, *credentials: str) -> int:
        """Which status Kubernetes answers with."""
        command = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10", *credentials]
        return int(self.machine.ssh([" ".join([*command, f"{self.api}{path}"])]))

    def claims(self, **values: str) -> None:
        """Says that it is somebody else, and starts the proxy anew without the certificate that it had."""
        edits = "; ".join(
            f"sed -i \"s|^{name}=.*|{name}='{value}'|\" {SETTINGS[0]}; "
            f"sed -i 's|{name}: .*|{name}: {value}|' {SETTINGS[1]}"
            for name, value in values.items()
        )
        self.machine.ssh([f"systemctl stop istio; rm -f /etc/certs/cert-chain.pem /etc/certs/key.pem; {edits}"])
        self.machine.ssh(["systemctl start --no-block istio"])

    def identities(self) -> set[str]:
        """Of the certificates that its proxy has."""
        answer = self.machine.ssh(["curl -s --max-time 5 localhost:15000/certs || true"])
        certificates = json.loads(answer or "{}").get("certificates", [])
        return {
            name.get("uri", "")
            for certificate in certificates
            for part in certificate["cert_chain"]
            for name in part["subject_alt_names"]
        }


@pytest.fixture(scope="module")
def thief(lab: Lab, up: Stack) -> Iterator[Thief]:
    """vm-1, stolen; given back as it was."""
    machine = lab.machine("vm-1")
    up.up()
    api = kubectl(lab, "config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
    token = kubectl(lab, "create", "token", "echo", "-n", "demo", "--audience", "istio-ca").strip()
    folder = f"install -d -o istio-proxy -m 700 {TOKEN.rpartition('/')[0]}"
    machine.ssh([f"{folder}; umask 077; cat >{TOKEN}; chown istio-proxy: {TOKEN}"], input_text=token)
    kept = " ".join(SETTINGS)
    machine.ssh([f"tar -C / -cpf /root/kept.tar {kept.replace('/', '', 1).replace(' /', ' ')}"])
    yield Thief(machine, api)
    machine.ssh(["systemctl stop istio; tar -C / -xpf /root/kept.tar; rm -f /root/kept.tar"])
    machine.ssh(["rm -f /etc/certs/cert-chain.pem /etc/certs/key.pem; systemctl start --no-block istio"])
    wait_until_in(lab, machine)


def test_its_token_and_its_certificate_open_nothing_in_kubernetes(thief: Thief) -> None:
    with_token = ("-H", f'"Authorization: Bearer $(cat {TOKEN})"')
    with_certificate = ("--cert", "/etc/certs/cert-chain.pem", "--key", "/etc/certs/key.pem")
    for what, path in ASKED.items():
        assert thief.asks(path, *with_token) == 401, f"{what}, by token"
        assert thief.asks(path, *with_certificate) in (401, 403), f"{what}, by certificate"
        assert thief.asks(path) in (401, 403), f"{what}, by nothing"


def test_its_files_hold_no_other_token_key_or_kubeconfig(thief: Thief) -> None:
    found = thief.machine.ssh(
        [
            "grep -rlE --no-messages 'eyJhbGciOi[A-Za-z0-9_-]+\\.|certificate-authority-data|PRIVATE KEY' "
            "/etc /var/lib /run /root /home /usr/local/bin --exclude-dir=ssl | sort || true"
        ]
    ).split()
    assert set(found) <= {TOKEN, "/etc/certs/key.pem", "/etc/ssh/ssh_host_ed25519_key"} | {
        path
        for path in found
        if path.startswith(("/var/lib/dpkg", "/usr/local/bin/", "/var/lib/hybrid-mesh/installed"))
    }, found


def test_istiod_s_webhooks_which_ask_for_no_certificate_are_out_of_reach(thief: Thief) -> None:
    gateway = thief.machine.ssh(["head -n 1 /var/lib/hybrid-mesh/hosts-known"]).split()[0]

    def is_open(port: int) -> bool:
        # As the proxy, whose connections Envoy does not take to itself.
        dial = f"timeout 3 setpriv --regid istio-proxy --clear-groups bash -c 'exec 3<>/dev/tcp/{gateway}/{port}'"
        return thief.machine.ssh([f"if {dial} 2>/dev/null; then echo open; fi"]).strip() == "open"

    assert is_open(15012)
    assert not is_open(15017)


def labels_of(lab: Lab, machine: Machine) -> list[str]:
    """The workloads that the mesh takes a machine for."""
    entries = objects(lab, "workloadentries").values()
    return [entry["spec"]["labels"]["app"] for entry in entries if entry["spec"]["address"] == machine.address]


def says_it_is(lab: Lab, machine: Machine, now: str, then: str) -> None:
    """Registers anew, with other labels; istiod leaves an entry's labels alone while it is there."""
    machine.ssh(["systemctl stop istio"])
    wait_for("its entry to go", lambda: labels_of(lab, machine) == [], 60)
    edit = f"s/{now}/{then}/"
    machine.ssh([f"sed -i '{edit}' {' '.join(SETTINGS)}; systemctl start --no-block istio"])


@contextmanager
def let_pass(lab: Lab) -> Iterator[None]:
    """What Kubernetes refuses of the group's VMs, for a while."""

    def bind(action: str) -> None:
        patch = json.dumps({"spec": {"validationActions": [action]}})
        names = [f"echo.demo.{kind}.hybrid-mesh" for kind in ("service", "serviceentry")]
        kubectl(lab, "patch", "validatingadmissionpolicybinding", *names, "--type=merge", "-p", patch)

    bind("Audit")
    try:
        yield
    finally:
        bind("Deny")


def findings(lab: Lab, up: Stack, kind: str) -> list[dict[str, str]]:
    """What the doctor says of a kind."""
    said = console(lab, "doctor", "--json", "--stack", "dev", "--config-file", str(up.file), check=False).stdout
    return [finding for finding in json.loads(said)["findings"] if finding["id"] == kind]


def test_one_that_says_it_is_another_workload_is_told_by_the_doctor(lab: Lab, up: Stack, thief: Thief) -> None:
    """As it is where Kubernetes refuses no such VM: `controlPlane.admissionPolicies: false`."""

    def joins_as(now: str, then: str) -> None:
        says_it_is(lab, thief.machine, f'"app":"{now}"', f'"app":"{then}"')
        wait_for("its new entry", lambda: labels_of(lab, thief.machine) == [then], 60)

    with let_pass(lab):
        joins_as("echo", "client")
        try:
            [finding] = findings(lab, up, "another-workload")
        finally:
            joins_as("client", "echo")
    assert "joined as echo says that it is client" in finding["what"]


def made(lab: Lab, *documents: Mapping[str, Any]) -> None:
    for document in documents:
        done = ask_kubectl(lab, "apply", "-f", "-", document=document)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def victims(lab: Lab, up: Stack) -> Iterator[None]:
    """A Service and a ServiceEntry of other workloads in the namespace, which nothing runs, and that the API server's
    policies know of: it hears of them, and of a binding, a moment later."""
    assert up
    made(
        lab,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "victim", "namespace": "demo"},
            "spec": {"selector": {"tier": "victim"}, "ports": [{"name": "http", "port": 8080}]},
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": "ledger-of-others", "namespace": "demo"},
            "spec": {
                "hosts": ["ledger-of-others.internal"],
                "resolution": "STATIC",
                "ports": [{"name": "http", "number": 8080, "protocol": "HTTP"}],
                "workloadSelector": {"labels": {"tier": "ledger"}},
            },
        },
    )
    tiers = ("victim", "ledger")
    wait_for("the policies", lambda: all(registering(lab, {"tier": tier}, GROUP).returncode for tier in tiers), 30)
    yield
    kubectl(lab, "delete", "service", "-n", "demo", "victim")
    kubectl(lab, "delete", "serviceentry", "-n", "demo", "ledger-of-others")


GROUP = {"istio.io/autoRegistrationGroup": "echo"}
SELECTED = "denied request: {} selects this VM by the labels that it says it has, and not WorkloadGroup echo"
ANOTHER = "denied request: this VM says that it has another label app than WorkloadGroup demo/echo"
ENTRIES: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "its own": ({"app": "echo", "version": "vm"}, GROUP, ""),
    "of before a change": ({"app": "echo", "version": "old", "team": "shop"}, GROUP, ""),
    "with one of its instance in Google Cloud": ({"app": "echo", "version": "vm", "goog-x": "y"}, GROUP, ""),
    "none at all": ({}, GROUP, ""),
    "written by somebody": ({"app": "victim"}, {}, ""),
    "by a group of others": ({"app": "victim"}, {"istio.io/autoRegistrationGroup": "others"}, ""),
    "of a Service": ({"app": "echo", "tier": "victim"}, GROUP, SELECTED.format("Service demo/victim")),
    "of a workload that has no Service yet": ({"app": "client"}, GROUP, ANOTHER),
    "of a ServiceEntry, too": (
        {"app": "echo", "version": "vm", "tier": "ledger"},
        GROUP,
        SELECTED.format("ServiceEntry demo/ledger-of-others"),
    ),
}
"""Labels and annotations of an entry, and what Kubernetes says to it."""


def registering(lab: Lab, has: Mapping[str, str], annotations: Mapping[str, str]) -> CompletedProcess[str]:
    """What Kubernetes would say to an entry with these labels and annotations."""
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": "tried", "namespace": "demo", "labels": has, "annotations": annotations},
        "spec": {"address": "192.0.2.1", "labels": has},
    }
    return ask_kubectl(lab, "create", "--dry-run=server", "-f", "-", document=document)


@pytest.mark.usefixtures("victims")
@pytest.mark.parametrize("labels", ENTRIES)
def test_kubernetes_refuses_what_a_service_takes_that_does_not_take_the_group(lab: Lab, labels: str) -> None:
    has, annotations, refusal = ENTRIES[labels]
    done = registering(lab, has, annotations)
    assert (done.returncode == 0) is (refusal == "")
    assert refusal in done.stderr


@pytest.mark.usefixtures("victims", "thief")
def test_an_entry_that_is_there_may_be_changed(lab: Lab, thief: Thief) -> None:
    wait_until_in(lab, thief.machine)
    entries = objects(lab, "workloadentries").items()
    [mine] = [name for name, entry in entries if entry["spec"]["address"] == thief.machine.address]
    patch = json.dumps({"spec": {"labels": {"app": "victim"}}})
    kubectl(lab, "patch", "workloadentry", "-n", "demo", mine, "--type=merge", "--dry-run=server", "-p", patch)


@pytest.mark.usefixtures("victims")
def test_one_that_says_it_is_another_workload_is_no_endpoint_of_it(lab: Lab, up: Stack, thief: Thief) -> None:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    endpoint = f"outbound|8080||victim.demo.svc.cluster.local::{thief.machine.address}:8080::"

    def is_endpoint() -> bool:
        return endpoint in ask_proxy(lab, "client", "clusters")

    mine, another = '"app":"echo"', '"app":"echo","tier":"victim"'
    says_it_is(lab, thief.machine, mine, another)
    try:
        wait_for("the refusal", lambda: any("ValidatingAdmissionPolicy" in line for line in refusals(lab, since)), 60)
        assert labels_of(lab, thief.machine) == []
        assert not is_endpoint()
        wait_for("the doctor to tell", lambda: findings(lab, up, "registration-refused") != [], 60)
        [finding] = findings(lab, up, "registration-refused")
        assert finding["machine"] == "vm-1"
        assert "echo.demo.service.hybrid-mesh" in finding["what"]
        with let_pass(lab):
            wait_for("it to be one", is_endpoint, 120)
    finally:
        says_it_is(lab, thief.machine, another, mine)
    wait_until_in(lab, thief.machine)
    assert not is_endpoint()


CLAIMS = {
    "another service account": {"ISTIO_META_AUTO_REGISTER_GROUP": "stolen", "SERVICE_ACCOUNT": "client"},
    "a group of another service account": {"ISTIO_META_AUTO_REGISTER_GROUP": "stolen"},
    "another namespace": {"POD_NAMESPACE": "other", "ISTIO_NAMESPACE": "other"},
}


@pytest.fixture(scope="module")
def other_groups(lab: Lab, up: Stack) -> Iterator[None]:
    """A group of another service account, and one like its own in another namespace."""
    assert up
    kubectl(lab, "create", "namespace", "other")
    manifests = [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadGroup",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"metadata": {"labels": {"app": name}}, "template": {"serviceAccount": account}},
        }
        for name, namespace, account in (("stolen", "demo", "client"), ("echo", "other", "echo"))
    ]
    made(lab, *manifests)
    yield
    kubectl(lab, "delete", "workloadgroup", "-n", "demo", "stolen")
    kubectl(lab, "delete", "namespace", "other")


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.usefixtures("other_groups")
def test_istiod_lets_it_be_nobody_else(lab: Lab, thief: Thief, claim: str) -> None:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    thief.claims(**CLAIMS[claim])
    try:
        wait_for("istiod's refusal", lambda: refusals(lab, since) != [], 60)
        print(f"{claim}: {refusals(lab, since)[-1]}")
        time.sleep(5)
        mine = {**objects(lab, "workloadentries"), **objects(lab, "workloadentries", "other")}
        registered = {n: e for n, e in mine.items() if e["spec"]["address"] == thief.machine.address and connected(e)}
        assert registered == {}, "it is registered as nothing"
        assert thief.identities() <= {IDENTITY}, "its token is worth one identity, whatever it claims"
    finally:
        thief.machine.ssh(["systemctl stop istio; tar -C / -xpf /root/kept.tar; systemctl start --no-block istio"])
    wait_until_in(lab, thief.machine)
    assert thief.identities() == {IDENTITY}
    assert is_in(lab, lab.machine("vm-2"))


def connected(entry: dict[str, dict[str, dict[str, str]]]) -> bool:
    return "istio.io/disconnectedAt" not in (entry["metadata"].get("annotations") or {})


def refusals(lab: Lab, since: str) -> list[str]:
    """What istiod says of proxies that it refuses."""
    log = kubectl(lab, "logs", "-n", "istio-system", "deploy/istiod", f"--since-time={since}")
    words = (
        "no identities",
        "not authorized",
        "Unauthorized",
        "does not match",
        "mismatch",
        "denied",
        "authorization failed",
    )
    return [line for line in log.splitlines() if any(word in line for word in words)]
