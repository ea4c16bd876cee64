"""A VM's boots and sleeps, as docs/life-of-a-vm.md says it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from lab.cluster import wait_for
from lab.machines import Machine
from lab.pki import Authority
from lab.traffic import ask, in_pod, on_machine
from tests.e2e.machine import connections, property_of, running
from tests.e2e.mesh import kubectl, objects
from tests.e2e.stack import Stack
from tests.environment import Lab

pytestmark = pytest.mark.lab

HOST = "echo.demo.svc.cluster.local"
URL = f"http://{HOST}:8080/"
TOKEN = "/run/secrets/tokens/istio-token"
BLOCK = "sed -n '/^# BEGIN hybrid-mesh$/,/^# END hybrid-mesh$/p' /etc/hosts"
CERTIFICATE_SECONDS = 60


def connected_at(lab: Lab, machine: Machine) -> str:
    """When its proxy came; empty while it is out."""
    for entry in objects(lab, "workloadentries").values():
        if entry["spec"]["address"] == machine.address:
            annotations: dict[str, str] = entry["metadata"].get("annotations") or {}
            return "" if "istio.io/disconnectedAt" in annotations else annotations.get("istio.io/connectedAt", "")
    return ""


def serves(lab: Lab, machine: Machine) -> bool:
    answers = ask(in_pod(lab.instance, lab.tools, "deploy/client", "demo"), URL, 40)
    return machine.name in answers.by_instance


def orderly(machine: Machine) -> None:
    """A reboot, of a machine whose hosts file some tool has written anew."""
    machine.ssh(["sed -i '/^# BEGIN hybrid-mesh$/,/^# END hybrid-mesh$/d' /etc/hosts"])
    machine.reboot()


def hard(machine: Machine) -> None:
    """The plug is pulled; at the next boot no DNS server answers."""
    machine.ssh(["cp /etc/resolv.conf /root/resolv.conf; echo nameserver 192.0.2.53 >/etc/resolv.conf; sync"])
    machine.kill()
    machine.start()


@pytest.fixture
def resolver(lab: Lab) -> Iterator[None]:
    """Put right afterwards, and told to the agent, which looks at it but once."""
    yield
    machine = lab.machine("vm-1")
    machine.start()
    machine.ssh(["[ ! -f /root/resolv.conf ] || { mv /root/resolv.conf /etc/resolv.conf; systemctl restart istio; }"])
    wait_for("names of the mesh", lambda: machine.ssh([f"getent hosts {HOST} || :"]) != "", 60)
    wait_for("the machine to be in again", lambda: connected_at(lab, machine) != "", 60)


@pytest.mark.usefixtures("resolver")
@pytest.mark.parametrize("how", [orderly, hard])
def test_a_machine_comes_back_by_itself_and_in_order(lab: Lab, up: Stack, how: Callable[[Machine], None]) -> None:
    machine = lab.machine("vm-1")
    before, block = connected_at(lab, machine), machine.ssh([BLOCK])
    assert before
    began = time.monotonic()
    how(machine)
    wait_for("the machine to be in again", lambda: connected_at(lab, machine) not in ("", before), 60)
    print(f"{how.__name__}: in after {time.monotonic() - began:.1f} s, boot included")
    # Names of the mesh are the agent's to know, whatever the DNS server says.
    answers = ask(on_machine(machine), URL, 20)
    assert answers.answered == 20, answers
    network, way, istio, ready, app = (
        property_of(machine, unit, name)
        for unit, name in (
            ("systemd-networkd.service", "ActiveEnterTimestampMonotonic"),
            ("hybrid-mesh-network.service", "ExecMainExitTimestampMonotonic"),
            ("istio.service", "ExecMainStartTimestampMonotonic"),
            ("hybrid-mesh-ready.service", "ActiveEnterTimestampMonotonic"),
            ("echo.service", "ExecMainStartTimestampMonotonic"),
        )
    )
    assert 0 < network < way < istio < ready < app, "network, hosts, Istio, ready, app"
    assert machine.ssh([BLOCK]) == block
    assert machine.ssh([f"test -e {TOKEN} || echo gone"]).strip() == "gone", (
        "a reboot takes the token, and nobody cares"
    )
    wait_for("requests to reach it", lambda: serves(lab, machine), 60)
    assert up.steps() == []


def test_a_token_that_a_reboot_took_restarts_nothing_when_it_is_brought_back(lab: Lab, up: Stack) -> None:
    machine = lab.machine("vm-1")
    machine.ssh([f"rm -f {TOKEN}"])
    before = running(machine)
    up.change("sidecar.limits", {"tasks": 1000})
    up.up()
    assert machine.ssh([f"stat -c %a {TOKEN}"]).strip() == "600"
    after = running(machine)
    assert (after.agent, after.envoy) == (before.agent, before.envoy)
    up.restore()
    up.up()


# ---------------------------------------------------------------------- a long sleep


def expired_token(lab: Lab) -> str:
    """A token of the VMs' service account that ended an hour ago, signed by the cluster's own key."""
    fresh = kubectl(lab, "create", "token", "echo", "-n", "demo", "--audience", "istio-ca").strip()
    head, body, _ = fresh.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    for name in ("exp", "iat", "nbf"):
        claims[name] -= 2 * 3600
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    key = serialization.load_pem_private_key(
        Authority(lab.instance.folder / "pki").service_account_key().read_bytes(), None
    )
    assert isinstance(key, rsa.RSAPrivateKey)
    signature = key.sign(f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


@pytest.mark.full
@pytest.mark.parametrize("registration", ["auto", "static"])
def test_a_machine_that_slept_past_its_certificate_and_token_is_healed_by_up_alone(
    lab: Lab, up: Stack, registration: str
) -> None:
    machine, other = lab.machine("vm-1"), lab.machine("vm-2")
    up.change("sidecar.environment", {"CLOUD_PLATFORM": "none", "SECRET_TTL": f"{CERTIFICATE_SECONDS}s"})
    up.change("workloads.echo.machines.registration", registration)
    up.up()
    machine.stop()
    wait_for("it to be out", lambda: not connected_at(lab, machine), 60)
    time.sleep(CERTIFICATE_SECONDS + 5)
    machine.start()
    put = f"umask 077; cat >{TOKEN}; chown istio-proxy: {TOKEN}"
    machine.ssh([f"install -d -o istio-proxy -m 700 {TOKEN.rpartition('/')[0]}; {put}"], input_text=expired_token(lab))
    since = machine.ssh(["wc -l </var/log/istio/istio.log"]).strip()
    refused = (
        f"tail -n +{since} /var/log/istio/istio.log | grep -c -e Unauthenticated -e 'authentication failure' || true"
    )
    wait_for("istiod to refuse the expired token", lambda: int(machine.ssh([refused])) > 0, 60)
    assert not connected_at(lab, machine)
    elsewhere, here = running(other), connections(machine)
    changed = {step.name for step in up.steps()}
    assert "mesh-vm-1-token" in changed
    assert not any("vm-2" in name for name in changed), changed
    assert connections(machine) == here, "Kubernetes was asked, not the machine"
    began = time.monotonic()
    # Whoever runs it with --refresh gets the same.
    up.up(*(["--refresh"] if registration == "static" else []))
    print(f"{registration}: healed in {time.monotonic() - began:.1f} s")
    assert connected_at(lab, machine)
    # Under refresh every machine is asked for its drift, by one connection.
    asked = 1 if registration == "static" else 0
    assert 1 + asked <= connections(machine) - here <= 3 + asked
    assert running(other) == replace(elsewhere, connections=elsewhere.connections + asked), "nobody else is disturbed"
    wait_for("requests to reach it", lambda: serves(lab, machine), 30)
    assert up.steps() == []
    up.restore()
    up.up()
