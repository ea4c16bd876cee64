"""What a change does to VMs, as docs/life-of-a-vm.md has it in a table: those concerned, and no more than needed."""

from __future__ import annotations

import base64
import datetime
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from hybridmesh.ops.changes import changes, readable
from lab.cluster import wait_for
from lab.instance import write
from lab.machines import Machine, write_names
from lab.traffic import ask, in_pod
from tests.e2e.machine import Running, running
from tests.e2e.mesh import ask_kubectl, kubectl, objects
from tests.e2e.stack import Stack
from tests.environment import Lab

pytestmark = pytest.mark.lab

MACHINES = ("vm-1", "vm-2")
NAME = "gateway.lab.internal"
PLANE = "istio-system"
GATEWAY = "istio-eastwestgateway"


@dataclass(frozen=True)
class Effect:
    """What a change did to a machine."""

    connections: int
    restarted: bool


def seen(lab: Lab) -> dict[str, Running]:
    return {name: running(lab.machine(name)) for name in MACHINES}


def effects(before: dict[str, Running], after: dict[str, Running]) -> dict[str, Effect]:
    return {
        name: Effect(
            after[name].connections - before[name].connections,
            (after[name].agent, after[name].envoy) != (before[name].agent, before[name].envoy),
        )
        for name in MACHINES
    }


def locality_of_one(stack: Stack) -> None:
    stack.change("workloads.echo.machines.hosts.vm-1.locality", "lab/a")


def labels(stack: Stack) -> None:
    stack.change("workloads.echo.labels", {"team": "shop"})


def ports(stack: Stack) -> None:
    more = {"name": "http-more", "port": 8081, "targetPort": 8081, "protocol": "HTTP"}
    there = stack.settings()["config"]["hybrid-mesh:workloads"]["echo"]["ports"]
    stack.change("workloads.echo.ports", [*(port for port in there if port["name"] != more["name"]), more])


def probe(stack: Stack) -> None:
    stack.change("workloads.echo.probe", {"httpGet": {"path": "/health/ready", "port": 8080}, "periodSeconds": 1})


def proxies_mesh_config(stack: Stack) -> None:
    stack.change("controlPlane.values.meshConfig", {"defaultConfig": {"proxyMetadata": {"SEEN": "yes"}}})


def others_mesh_config(stack: Stack) -> None:
    defaults = {"proxyMetadata": {"SEEN": "yes"}}
    stack.change("controlPlane.values.meshConfig", {"defaultConfig": defaults, "accessLogEncoding": "JSON"})


def units(stack: Stack) -> None:
    stack.change("workloads.echo.machines.units", ["echo.service", "other.service"])


def way_to_the_cluster(stack: Stack) -> None:
    stack.change("sidecar.timeouts.apiSeconds", 20)


def token_lifetime(stack: Stack) -> None:
    stack.change("sidecar.tokenSeconds", 1200)


RESTART, HOT, NOTHING = "restart", "hot", "nothing"


@pytest.mark.full
@pytest.mark.parametrize(
    ("change", "on_vm_1", "on_vm_2"),
    [
        (locality_of_one, RESTART, NOTHING),
        (labels, RESTART, RESTART),
        (ports, RESTART, RESTART),
        (probe, RESTART, RESTART),
        (proxies_mesh_config, RESTART, RESTART),
        (others_mesh_config, NOTHING, NOTHING),
        (units, HOT, HOT),
        (way_to_the_cluster, NOTHING, NOTHING),
        (token_lifetime, NOTHING, NOTHING),
    ],
)
def test_a_change_reaches_those_concerned_and_does_no_more_than_needed(
    lab: Lab, up: Stack, change: Callable[[Stack], None], on_vm_1: str, on_vm_2: str
) -> None:
    before = seen(lab)
    change(up)
    announced = {name for told in changes(up.plan()) if told.remark.startswith("Istio restarts") for name in told.names}
    up.up()
    done = effects(before, seen(lab))
    print(change.__name__, done)
    for name, wanted in zip(MACHINES, (on_vm_1, on_vm_2), strict=True):
        effect = done[name]
        assert effect.restarted == (wanted == RESTART), name
        assert effect.restarted == (f"mesh-{name}" in announced), announced
        assert effect.connections == 0 if wanted == NOTHING else 1 <= effect.connections <= 3, name
    assert up.steps() == []


@pytest.mark.full
def test_what_was_changed_is_what_the_proxies_and_the_mesh_have(lab: Lab, up: Stack) -> None:
    for change in (locality_of_one, labels, ports, probe, proxies_mesh_config):
        change(up)
    up.up()
    entries = {entry["spec"]["address"]: entry["spec"] for entry in objects(lab, "workloadentries").values()}
    for name in MACHINES:
        machine = lab.machine(name)
        spec = entries[machine.address]
        assert spec["labels"]["team"] == "shop"
        assert spec["ports"]["http-more"] == 8081
        assert spec.get("locality") == ("lab/a" if name == "vm-1" else None)
        info = json.loads(machine.ssh(["curl -s localhost:15000/server_info"]))["node"]
        assert info["metadata"]["LABELS"]["team"] == "shop"
        assert info["metadata"]["PROXY_CONFIG"]["readinessProbe"]["periodSeconds"] == 1
        assert info["metadata"]["PROXY_CONFIG"]["proxyMetadata"]["SEEN"] == "yes"


# ---------------------------------------------------------------------- the gateway's address


@pytest.fixture
def second_way(lab: Lab, up: Stack) -> Iterator[str]:
    """Another address that leads to the same gateway."""
    assert up.resources()
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "second-way", "namespace": PLANE},
        "spec": {
            "type": "LoadBalancer",
            "selector": {"istio": "eastwestgateway"},
            "ports": [{"name": "istiod", "port": 15012}, {"name": "tls", "port": 15443}],
        },
    }
    assert ask_kubectl(lab, "apply", "-f", "-", document=service).returncode == 0

    def address() -> str:
        path = "jsonpath={.status.loadBalancer.ingress[0].ip}"
        return kubectl(lab, "get", "service", "second-way", "-n", PLANE, "-o", path)

    wait_for("its address", lambda: address() != "", 30)
    yield address()
    kubectl(lab, "delete", "service", "second-way", "-n", PLANE)


def call_it(lab: Lab, address: str | None) -> None:
    """Let the environment's DNS know the gateway's name by this address, or by none."""
    write_names(lab.instance)
    names = lab.instance.folder / "config" / "machines.hosts"
    if address is not None:
        write(names, names.read_text() + f"{address} {NAME}\n")
    time.sleep(1.5)  # CoreDNS reads the file every second


def peers(machine: Machine) -> set[str]:
    """Where the agent is connected to."""
    lines = machine.look(["ss", "-Hnt", "state", "established", "dport", "=", ":15012"]).splitlines()
    return {line.split()[3].rpartition(":")[0] for line in lines}


def istiods_address(machine: Machine) -> str:
    return machine.look(["sh", "-c", "sed -n 's/ istiod.istio-system.svc//p' /etc/hosts"]).strip()


@pytest.mark.full
def test_a_gateway_s_host_name_is_followed_by_every_machine_with_nothing_restarted(
    lab: Lab, up: Stack, second_way: str
) -> None:
    first = up.outputs()["topology"]["gateway"]["address"]
    machines = [lab.machine(name) for name in MACHINES]
    up.restore()
    up.up()
    try:
        call_it(lab, first)
        before = seen(lab)
        up.change("gateway.address", NAME)
        preview = up.preview()
        assert f"+ {NAME} istiod.istio-system.svc" in preview
        up.up()
        for effect in effects(before, seen(lab)).values():
            assert not effect.restarted
            assert 1 <= effect.connections <= 3
        assert {istiods_address(m) for m in machines} == {first}
        before = seen(lab)
        moved = time.monotonic()
        call_it(lab, second_way)
        added = {f"{first}\n{second_way}"}
        wait_for("the new address", lambda: {istiods_address(m) for m in machines} == added, 90)
        print(f"added within {time.monotonic() - moved:.1f} s")
        for machine in machines:
            machine.look(["sh", "-c", "for i in $(seq 20); do sh /var/lib/hybrid-mesh/scripts/upkeep.sh follow; done"])
        wait_for("the agents to follow", lambda: all(peers(m) == {second_way} for m in machines), 30)
        assert {istiods_address(m) for m in machines} == {second_way}
        call_it(lab, None)
        for machine in machines:
            machine.look(["sh", "/var/lib/hybrid-mesh/scripts/upkeep.sh", "follow"])
            assert istiods_address(machine) == second_way, "a name without an address leads where it last did"
        assert effects(before, seen(lab)) == dict.fromkeys(MACHINES, Effect(0, restarted=False))
        machines[0].reboot()
        wait_for("it to be in again, by an address from before", lambda: peers(machines[0]) == {second_way}, 90)
        call_it(lab, second_way)
        assert up.steps() == []
        up.restore()
        before = seen(lab)
        up.up()
        assert not any(effect.restarted for effect in effects(before, seen(lab)).values())
        for machine in machines:
            wait_for("the agents to go back", lambda m=machine: peers(m) == {first}, 30)  # type: ignore[misc]
            assert "hybrid-mesh-follow" not in machine.look(["systemctl", "list-unit-files", "--no-pager"])
    finally:
        write_names(lab.instance)


@pytest.mark.full
def test_another_address_of_the_gateway_is_gone_to_with_nothing_restarted(lab: Lab, up: Stack, second_way: str) -> None:
    machines = [lab.machine(name) for name in MACHINES]
    up.restore()
    up.up()
    before = seen(lab)
    # One agent connects anew as the join begins: what it reads of the hosts file then it goes by for some seconds more.
    once = "until ss -Hnt state established sport = :22 | grep -q .; do sleep 0.02; done; ss -K dport = :15012"
    machines[0].look(["systemd-run", "--property=RuntimeMaxSec=100", "sh", "-c", once])
    up.change("gateway.address", second_way)
    up.up()
    assert effects(before, seen(lab)) == dict.fromkeys(MACHINES, Effect(3, restarted=False))
    for machine in machines:
        wait_for("the agents to go there", lambda m=machine: peers(m) == {second_way}, 30)  # type: ignore[misc]
        assert istiods_address(machine) == second_way
    up.restore()
    up.up()


def made_anew(lab: Lab, address: str) -> None:
    """Deletes the gateway's Service and makes another one like it, to which its load balancer gives an address."""
    service = json.loads(kubectl(lab, "get", "service", GATEWAY, "-n", PLANE, "-o", "json"))
    spec = {key: value for key, value in service["spec"].items() if key not in ("clusterIP", "clusterIPs")}
    metadata = {key: service["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    kubectl(lab, "delete", "service", GATEWAY, "-n", PLANE)
    document = {**service, "metadata": metadata, "spec": {**spec, "loadBalancerIP": address}, "status": {}}
    done = ask_kubectl(lab, "create", "-f", "-", document=document)
    assert done.returncode == 0, done.stderr
    wait_for("its address", lambda: address in kubectl(lab, "get", "service", GATEWAY, "-n", PLANE), 15)


def test_another_address_of_its_load_balancer_is_previewed_and_gone_to(lab: Lab, up: Stack) -> None:
    """A cloud gives another one to a Service that somebody made anew; nothing of the stack's has changed."""
    machines = [lab.machine(name) for name in MACHINES]
    up.restore()
    up.up()
    assert up.steps() == []
    first, before = up.outputs()["topology"]["gateway"]["address"], seen(lab)
    other = str(ip_address(first) + 1)
    try:
        made_anew(lab, other)
        shown = readable(up.plan())
        assert f"~   address: found: {first} => {other}" in shown
        assert f"+         {other} istiod.istio-system.svc" in shown
        up.up()
        assert up.outputs()["topology"]["gateway"]["address"] == other
        assert up.steps() == []
        assert not any(effect.restarted for effect in effects(before, seen(lab)).values())
        for machine in machines:
            wait_for("the agents to go there", lambda m=machine: peers(m) == {other}, 60)  # type: ignore[misc]
    finally:
        made_anew(lab, first)
    up.up()
    assert up.outputs()["topology"]["gateway"]["address"] == first


def test_a_name_that_a_machine_cannot_resolve_stops_before_a_change_and_says_so(lab: Lab, up: Stack) -> None:
    up.restore()
    up.up()
    before = {name: lab.machine(name).ssh(["cat /etc/hosts"]) for name in MACHINES}
    up.change("gateway.address", "nowhere.lab.internal")
    with pytest.raises(Exception, match=r"nowhere\.lab\.internal has no address on this VM"):
        up.up()
    assert {name: lab.machine(name).ssh(["cat /etc/hosts"]) for name in MACHINES} == before
    up.restore()
    up.up()
    assert up.steps() == []


# ---------------------------------------------------------------------- trust


def new_root() -> tuple[str, str]:
    """A root certificate and its key, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "another")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def give_istiod(lab: Lab, certificate: str, key: str, roots: str) -> None:
    """Let istiod sign by this authority, and have proxies trust these roots."""
    data = {"ca-cert.pem": certificate, "ca-key.pem": key, "cert-chain.pem": certificate, "root-cert.pem": roots}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cacerts", "namespace": PLANE}}
    assert ask_kubectl(lab, "apply", "-f", "-", document={**secret, "stringData": data}).returncode == 0
    restart_istiod(lab, roots)


def restart_istiod(lab: Lab, roots: str) -> None:
    kubectl(lab, "rollout", "restart", "deployment/istiod", "-n", PLANE)
    kubectl(lab, "rollout", "status", "deployment/istiod", "-n", PLANE, "--timeout=100s")

    def published() -> str:
        found = objects(lab, "configmaps")["istio-ca-root-cert"]
        return str(found["data"]["root-cert.pem"])

    wait_for("the new roots", lambda: published().strip() == roots.strip(), 60)


def authorities(machine: Machine) -> int:
    """How many roots Envoy trusts for the mesh."""
    certificates = json.loads(machine.ssh(["curl -s localhost:15000/certs"]))["certificates"]
    return max(len(entry["ca_cert"]) for entry in certificates)


@pytest.mark.full
def test_new_roots_reach_every_machine_and_a_machine_without_a_fit_certificate_rejoins(lab: Lab, up: Stack) -> None:
    up.restore()
    up.up()
    machine = lab.machine("vm-1")
    secret = json.loads(kubectl(lab, "get", "secret", "istio-ca-secret", "-n", PLANE, "-o", "json"))["data"]
    old, old_key = (base64.b64decode(secret[name]).decode() for name in ("ca-cert.pem", "ca-key.pem"))
    new, new_key = new_root()
    chain = "openssl verify -CAfile /etc/certs/root-cert.pem /etc/certs/cert-chain.pem >/dev/null && echo fits"
    try:
        give_istiod(lab, old, old_key, old.strip() + "\n" + new)
        serial = machine.ssh(["sha256sum /etc/certs/cert-chain.pem"])
        up.up("--refresh")
        assert machine.ssh(["grep -c BEGIN /etc/certs/root-cert.pem"]).strip() == "2"
        assert up.steps() == []
        give_istiod(lab, new, new_key, new)
        machine.ssh(["rm -f /run/secrets/tokens/istio-token"])  # an old one would be of no use
        up.up()
        assert machine.ssh(["sha256sum /etc/certs/cert-chain.pem"]) != serial
        assert machine.ssh([chain]).strip() == "fits"
        assert machine.ssh(["openssl x509 -noout -issuer -in /etc/certs/cert-chain.pem"]).strip().endswith("another")
        assert up.steps() == []
    finally:
        kubectl(lab, "delete", "secret", "cacerts", "-n", PLANE, "--ignore-not-found")
        restart_istiod(lab, old)
        up.up()
        for deployment in ("echo", "client"):
            kubectl(lab, "rollout", "restart", f"deployment/{deployment}", "-n", "demo")
            kubectl(lab, "rollout", "status", f"deployment/{deployment}", "-n", "demo", "--timeout=100s")
    assert machine.ssh([chain]).strip() == "fits"


def empty_cluster(lab: Lab) -> None:
    """Takes away all that the stack and Istio have in the cluster: it is one that was made anew under the same name."""
    kinds = ["validatingwebhookconfigurations", "mutatingwebhookconfigurations", "clusterroles", "clusterrolebindings"]
    for kind in [*kinds, "customresourcedefinitions"]:
        found = [name for name in kubectl(lab, "get", kind, "-o", "name").split() if "istio" in name]
        if found:
            kubectl(lab, "delete", "--timeout=100s", *found)
    kubectl(lab, "delete", "namespace", "demo", PLANE, "--timeout=110s")


@pytest.mark.full
def test_a_cluster_that_was_made_anew_gets_all_of_it_by_a_refresh(lab: Lab, up: Stack) -> None:
    up.restore()
    up.change("routing.echo.weights", {"k8s": 0, "vm": 100})
    up.up()
    machine = lab.machine("vm-1")
    root = machine.ssh(["cat /etc/certs/root-cert.pem"])
    empty_cluster(lab)
    up.up("--refresh")
    assert machine.ssh(["cat /etc/certs/root-cert.pem"]) != root, "another istiod has made itself another root"
    assert up.steps() == []
    answers = ask(in_pod(lab.instance, lab.tools, "deploy/client", "demo"), "http://echo.demo:8080/", 60)
    assert answers.answered == 60
    assert set(answers.by_instance) == {*MACHINES}
