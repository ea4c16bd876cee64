"""Each diagnosis of `doctor`, provoked on real machines: what it says, and that it is gone once that is undone."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import socket
import tarfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from lab.cluster import wait_for
from lab.machines import Machine
from tests.e2e.machine import connections
from tests.e2e.mesh import ask_kubectl, kubectl, objects
from tests.e2e.stack import PulumiError, Stack, console
from tests.e2e.test_life import TOKEN, expired_token
from tests.environment import Lab

pytestmark = pytest.mark.lab

MACHINES = ("vm-1", "vm-2")
IDENTITY = "spiffe://cluster.local/ns/demo/sa/echo"
CHAIN = "/etc/certs/cert-chain.pem"
ENVIRONMENT = "/var/lib/istio/envoy/cluster.env"
SENT_DRAIN = "cat /var/lib/hybrid-mesh/scripts/settings/drain-seconds"
Says = Mapping[tuple[str, str], str]
"""What must be said, by machine (empty: the stack) and diagnosis."""


def doctor(lab: Lab, stack: Stack, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = console(lab, "doctor", "--json", "--stack", "dev", "--config-file", str(stack.file), *arguments, check=False)
    assert done.returncode in (0, 1, 2), done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, document


def expect(lab: Lab, stack: Stack, says: Says, seconds: float = 60) -> dict[tuple[str, str], dict[str, Any]]:
    """Ask until all is said that must be; what takes a moment to be seen gets it."""
    end = time.monotonic() + seconds
    while True:
        code, document = doctor(lab, stack)
        found = {(finding["machine"], finding["id"]): finding for finding in document["findings"]}
        if says.keys() <= found.keys() or time.monotonic() > end:
            break
    missing = {key: sorted(found) for key in says if key not in found}
    assert missing == {}
    for key, words in says.items():
        assert words in found[key]["what"], key
        assert found[key]["remedy"]
    assert code == 1
    return found


def expect_well(lab: Lab, stack: Stack, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    code, document = doctor(lab, stack)
    while code != 0 and time.monotonic() < end:
        code, document = doctor(lab, stack)
    assert (code, document["findings"]) == (0, [])


@contextmanager
def on(machine: Machine, do: str, undo: str, text: str | None = None) -> Iterator[None]:
    """A command on a machine, and what takes it back."""
    machine.ssh([do], input_text=text)
    try:
        yield
    finally:
        machine.ssh([undo], timeout=120)


@contextmanager
def changed(machine: Machine, path: str, how: str, text: str | None = None) -> Iterator[None]:
    """A file that is changed, and put back as it was."""
    kept = f"/root/kept{path.replace('/', '-')}"
    with on(machine, f"cp -a {path} {kept} && {how}", f"cp -a {kept} {path} && rm {kept}", text):
        yield


@contextmanager
def applied(lab: Lab, document: Mapping[str, Any]) -> Iterator[None]:
    """An object in the cluster."""
    done = ask_kubectl(lab, "apply", "-f", "-", document=document)
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        kubectl(lab, "delete", document["kind"], "-n", "demo", document["metadata"]["name"])


@contextmanager
def patched(lab: Lab, kind: str, name: str, patch: object, back: object) -> Iterator[None]:
    def apply(document: object) -> tuple[int, str]:
        arguments = ("patch", kind, name, "-n", "demo", "--type", "merge", "--patch", json.dumps(document))
        done = ask_kubectl(lab, *arguments)
        return done.returncode, done.stderr

    assert apply(patch)[0] == 0
    try:
        yield
    finally:
        # istiod may have taken an entry away meanwhile, or made it anew.
        code, said = apply(back)
        assert code == 0 or "NotFound" in said, said


def signed(lab: Lab, begin: timedelta, end: timedelta, identity: str = IDENTITY) -> tuple[str, str]:
    """A certificate by the mesh's own authority, and its key."""
    secret = json.loads(kubectl(lab, "get", "secret", "istio-ca-secret", "-n", "istio-system", "-o", "json"))["data"]
    authority = x509.load_pem_x509_certificate(base64.b64decode(secret["ca-cert.pem"]))
    signer = serialization.load_pem_private_key(base64.b64decode(secret["ca-key.pem"]), None)
    assert isinstance(signer, rsa.RSAPrivateKey)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(authority.subject, x509.Name([]), key.public_key(), x509.random_serial_number())
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=True)
        .sign(signer, hashes.SHA256())
    )
    pem = [c.public_bytes(serialization.Encoding.PEM).decode() for c in (certificate, authority)]
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return "".join(pem), private.decode()


def strangers_root(begin: timedelta = timedelta(0), end: timedelta = timedelta(days=1)) -> str:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "stranger")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


# What a Lua filter is given here is no Lua: istiod passes it on, and Envoy refuses the listener.
BAD_FILTER = {
    "apiVersion": "networking.istio.io/v1alpha3",
    "kind": "EnvoyFilter",
    "metadata": {"name": "bad", "namespace": "demo"},
    "spec": {
        "workloadSelector": {"labels": {"app": "echo", "version": "vm"}},
        "configPatches": [
            {
                "applyTo": "HTTP_FILTER",
                "match": {
                    "context": "SIDECAR_INBOUND",
                    "listener": {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}},
                },
                "patch": {
                    "operation": "INSERT_BEFORE",
                    "value": {
                        "name": "envoy.filters.http.lua",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                            "default_source_code": {"inline_string": "this is no lua ("},
                        },
                    },
                },
            }
        ],
    },
}
DENY_ALL = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "nobody", "namespace": "demo"},
    "spec": {"selector": {"matchLabels": {"app": "echo"}}, "action": "DENY", "rules": [{}]},
}


def metrics_can_be_read(machine: Machine) -> bool:
    """By this machine, which is no scraper."""
    try:
        socket.create_connection((machine.address, 15020), 1).close()
    except OSError:
        return False
    return True


def entries(lab: Lab) -> list[str]:
    found = sorted(objects(lab, "workloadentries"))
    assert len(found) == len(MACHINES)
    return found


def test_a_dozen_at_once_and_what_is_undone_is_gone(lab: Lab, up: Stack) -> None:
    """One look at what would take as many tries: files, disk, clock, rules, names, labels, policies, filters."""
    expect_well(lab, up)
    first, second = (lab.machine(name) for name in MACHINES)
    gateway = up.outputs()["topology"]["gateway"]["address"]
    labels = {"metadata": {"labels": {"version": "hand"}}, "spec": {"labels": {"version": "hand"}}}
    back = {"metadata": {"labels": {"version": "vm"}}, "spec": {"labels": {"version": "vm"}}}
    block = f"iptables -w %s OUTPUT -p tcp -d {gateway} --dport 15012 -j REJECT --reject-with tcp-reset"
    wrong = "s/^ISTIO_META_CLUSTER_ID=.*/ISTIO_META_CLUSTER_ID=other/; s/^ISTIO_META_NETWORK=.*/ISTIO_META_NETWORK=far/"
    package = "/^Package: istio-sidecar$/,/^$/s/^Version: .*/Version: 1.28.0/"
    with ExitStack() as provoked:
        for context in (
            changed(first, ENVIRONMENT, f"sed -i '{wrong}' {ENVIRONMENT}"),
            changed(first, "/etc/hosts", f"sed -i 's/^{gateway} /192.0.2.1 /' /etc/hosts"),
            changed(first, "/etc/certs/root-cert.pem", "cat >/etc/certs/root-cert.pem", strangers_root()),
            changed(first, "/etc/certs/key.pem", "chmod 644 /etc/certs/key.pem"),
            changed(first, "/var/lib/dpkg/status", f"sed -i '{package}' /var/lib/dpkg/status"),
            on(first, "systemctl disable istio", "systemctl enable istio"),
            on(first, "systemctl stop hybrid-mesh-conntrack", "systemctl start hybrid-mesh-conntrack"),
            on(first, "mount -t tmpfs -o size=1m tmpfs /var/log/istio", "umount /var/log/istio"),
            on(
                first,
                'printf \'#!/bin/sh\\nexec /bin/date -d "3 hours ago" "$@"\\n\' >/usr/local/sbin/date && '
                "chmod 755 /usr/local/sbin/date",
                "rm /usr/local/sbin/date",
            ),
            on(first, "mkdir -p /run/echo && touch /run/echo/unhealthy", "rm /run/echo/unhealthy"),
            on(
                second,
                "iptables-legacy -t nat -F; iptables-nft -t nat -F",
                "systemctl restart hybrid-mesh-metrics; systemctl restart istio",
            ),
            on(second, block % "-I", block % "-D"),
            on(
                second,
                f"printf '#!/bin/sh\\n/bin/ip \"$@\" | grep -v {second.address}/\\n' >/usr/local/sbin/ip && "
                "chmod 755 /usr/local/sbin/ip",
                "rm /usr/local/sbin/ip",
            ),
            changed(second, "/etc/resolv.conf", "echo nameserver 192.0.2.53 >/etc/resolv.conf"),
            *(patched(lab, "workloadentry", name, labels, back) for name in entries(lab)),
            applied(lab, BAD_FILTER),
            applied(lab, DENY_ALL),
        ):
            provoked.enter_context(context)
        found = expect(
            lab,
            up,
            {
                ("vm-1", "wrong-cluster-id"): "ISTIO_META_CLUSTER_ID is other, and should be embedded",
                ("vm-1", "wrong-network"): "ISTIO_META_NETWORK is far, and should be embedded",
                ("vm-1", "hosts-stale"): f"leads istiod's name to 192.0.2.1, and the gateway is at {gateway}",
                ("vm-1", "wrong-trust-root"): "trusts another root than the mesh's (O=stranger)",
                ("vm-1", "key-open"): "open to others: 644 istio-proxy",
                ("vm-1", "version-skew"): "its sidecar 1.28.0 is more than one minor version older than istiod 1.31.0",
                ("vm-1", "service-disabled"): "istio.service is disabled",
                ("vm-1", "tracker-stopped"): "hybrid-mesh-conntrack.service is inactive",
                ("vm-1", "disk-full"): "/var/log/istio is full",
                ("vm-1", "clock-skew"): "behind: certificates and tokens count as ended",
                ("vm-1", "entry-unhealthy"): "not healthy by the workload's probe: ",
                ("vm-1", "labels-drifted"): "version is hand, should be vm",
                ("vm-1", "policy-denies"): "every call to it is refused by AuthorizationPolicy demo/nobody",
                ("vm-1", "config-rejected"): "Envoy refused Listener from istiod, and goes on with what it had",
                ("vm-1", "changed-by-hand"): f"file {ENVIRONMENT}: edited",
                ("vm-2", "address-gone"): "which is on no interface of it (",
                ("vm-2", "rules-missing"): "no iptables rule leads anything to it",
                ("vm-2", "gateway-unreachable"): f"it does not reach the gateway at {gateway}:15012",
                ("vm-2", "dns-broken"): "none of its DNS servers answers: 192.0.2.53",
                ("", "subset-empty"): "subset vm of echo gets 10 % of the requests, and has no endpoint",
            },
        )
        status = json.loads(
            console(lab, "status", "--json", "--stack", "dev", "--config-file", str(up.file), check=False).stdout
        )
        by_name = {machine["name"]: machine for machine in status["machines"]}
        assert f"file {ENVIRONMENT}: edited" in by_name["vm-1"]["drift"]
        assert by_name["vm-1"]["sidecar_version"] == "1.28.0"
        assert by_name["vm-2"]["drift"] == []
    assert ("vm-1", "out-of-sync") not in found, "that is but the consequence of what Envoy refused"
    assert ("vm-1", "gateway-unreachable") not in found, "that is but the consequence of the hosts file"
    # The agent has read the stranger's root.
    first.ssh(["systemctl restart istio"])
    expect_well(lab, up)


@pytest.mark.full
def test_what_was_changed_by_hand_is_put_right_under_refresh_alone(lab: Lab, up: Stack) -> None:
    machine, other = lab.machine("vm-1"), lab.machine("vm-2")
    here, there = connections(machine), connections(other)
    assert up.steps() == []
    assert (connections(machine), connections(other)) == (here, there), "without --refresh nobody is asked"
    mode = machine.ssh([f"stat -c '%a %U:%G' {ENVIRONMENT}"])
    machine.ssh(
        [
            "echo '# by hand' >>/etc/istio/config/mesh; "
            f"chmod 644 {ENVIRONMENT}; "
            "systemctl disable istio 2>/dev/null; "
            "printf '#!/bin/sh\\nexit 1\\n' >/usr/local/bin/istio-start.sh; "
            "systemctl disable --now hybrid-mesh-metrics 2>/dev/null"
        ]
    )
    other.ssh(["iptables -w -I HYBRID_MESH_METRICS -p tcp -s 192.0.2.0/24 -m tcp --dport 15090 -j ACCEPT"])
    assert metrics_can_be_read(machine)
    assert up.steps() == [], "and nothing is seen"
    found = expect(
        lab,
        up,
        {
            ("vm-1", "changed-by-hand"): "firewall of 15020 and 15090, IPv4: now open to all, was open to itself",
            ("vm-2", "changed-by-hand"): "was open to itself",
        },
    )
    assert "unit hybrid-mesh-metrics.service: now disabled, was enabled" in found["vm-1", "changed-by-hand"]["what"]
    assert "; -s 192.0.2.0/24 -p tcp" in found["vm-2", "changed-by-hand"]["what"]
    shown = console(lab, "preview", "--refresh", "--stack", up.name, "--config-file", str(up.file)).stdout
    assert "Sidecar mesh-vm-1, mesh-vm-2: what was changed by hand is put right" in shown
    assert "vm-1 was changed by hand: file /etc/istio/config/mesh: edited" in shown
    assert "file /etc/istio/config/mesh: edited" in up.up("--refresh")
    assert not metrics_can_be_read(machine)
    assert "192.0.2.0" not in other.ssh(["iptables-save"])
    assert "by hand" not in machine.ssh(["cat /etc/istio/config/mesh"])
    assert machine.ssh([f"stat -c '%a %U:%G' {ENVIRONMENT}"]) == mode
    assert machine.ssh(["systemctl is-enabled istio"]).strip() == "enabled"
    assert "pilot-agent" in machine.ssh(["cat /usr/local/bin/istio-start.sh"])
    expect_well(lab, up)
    assert up.steps() == []
    assert "PRIVATE KEY" not in up.state()


@pytest.mark.full
def test_a_machine_that_was_put_back_from_an_older_copy_is_told_and_joins_again_under_refresh(
    lab: Lab, up: Stack
) -> None:
    """Of its disk what a join leaves; its certificate is good still."""
    machine, other = lab.machine("vm-1"), lab.machine("vm-2")
    disk = (
        "--exclude=installed-file etc/istio/config/mesh var/lib/istio/envoy/cluster.env var/lib/hybrid-mesh "
        "etc/systemd/system/istio.service.d"
    )
    machine.ssh([f"tar -C / -cpf /root/copy.tar {disk}"])
    up.change("sidecar.logLevel", "debug")
    up.up()
    assert "proxyLogLevel=debug" in machine.ssh([f"cat {ENVIRONMENT}"])
    machine.ssh(
        [
            "systemctl stop istio && tar -C / -xpf /root/copy.tar && rm /root/copy.tar && "
            "systemctl daemon-reload && systemctl start istio"
        ],
        timeout=120,
    )

    def is_back() -> bool:
        return [(f["machine"], f["id"]) for f in doctor(lab, up)[1]["findings"]] == [("vm-1", "another-join")]

    wait_for("vm-1, with that finding alone", is_back, 90)
    expect(lab, up, {("vm-1", "another-join"): "its disk was put back from an older copy"})
    assert up.steps() == [], "istiod has it, and nothing on it was changed by hand"
    there = connections(other)
    said = up.up_in_words("--refresh")
    assert "vm-1 runs another join than the last that ended well" in said
    assert "vm-2 runs another join" not in said
    assert connections(other) == there + 1, "it was looked at"
    assert "proxyLogLevel=debug" in machine.ssh([f"cat {ENVIRONMENT}"])
    expect_well(lab, up)
    assert up.steps() == []
    assert "runs another join" not in up.up_in_words("--refresh")
    up.change("sidecar.logLevel", None)
    up.up()
    expect_well(lab, up)


def test_a_machine_whose_health_istiod_has_lost_is_told_and_connects_anew_by_the_next_up(lab: Lab, up: Stack) -> None:
    """As where many join at once: istiod could not note what the agent said, and the agent does not say it again."""
    expect_well(lab, up)
    first, other = lab.machine("vm-1"), lab.machine("vm-2")
    (name,) = [
        key for key, entry in objects(lab, "workloadentries").items() if entry["spec"]["address"] == first.address
    ]
    lost = json.dumps({"status": {"conditions": None}})
    kubectl(lab, "patch", "workloadentry", name, "-n", "demo", "--subresource", "status", "--type", "merge", "-p", lost)
    expect(lab, up, {("vm-1", "health-unheard"): "istiod has lost what it said of its app's health"})
    there = connections(other)
    assert {step.name for step in up.steps()} == {
        "mesh-vm-1-token",
        "mesh-vm-1-join",
        "mesh-vm-1-ready",
        "mesh-vm-1-membership",
    }
    up.up()
    assert connections(other) == there
    expect_well(lab, up)
    assert up.steps() == []


def test_scripts_that_were_changed_by_hand_run_no_join_and_are_brought_by_the_remedy(lab: Lab, up: Stack) -> None:
    machine = lab.machine("vm-1")
    before = machine.ssh(["cat /var/lib/hybrid-mesh/scripts/*.sh | sha256sum"])
    machine.ssh(["echo true >>/var/lib/hybrid-mesh/scripts/leave.sh"])
    up.change("sidecar.timeouts.drainSeconds", 6)
    with pytest.raises(
        PulumiError, match="at step start: the scripts of the join are not here, or were changed"
    ) as said:
        up.up()
    [remedy] = set(re.findall(r"remedy: let them be brought: pulumi up (--replace '.*?')", str(said.value)))
    assert machine.ssh([SENT_DRAIN]) != "6\n"
    up.up(*shlex.split(remedy))
    assert machine.ssh([SENT_DRAIN]) == "6\n"
    assert machine.ssh(["cat /var/lib/hybrid-mesh/scripts/*.sh | sha256sum"]) == before
    up.change("sidecar.timeouts.drainSeconds", None)
    machine.ssh(["rm /var/lib/hybrid-mesh/scripts/leave.sh"])
    assert "file /var/lib/hybrid-mesh/scripts/leave.sh: removed" in up.up("--refresh")
    assert machine.ssh([SENT_DRAIN]) != "6\n"
    expect_well(lab, up)
    assert up.steps() == []


def test_the_bundle_has_logs_and_states_and_no_secret(lab: Lab, up: Stack, tmp_path: Path) -> None:
    machine = lab.machine("vm-1")
    secrets = [
        machine.ssh([f"cat {TOKEN}"]).strip().rpartition(".")[2],
        *machine.ssh(["grep -v -e ----- /etc/certs/key.pem"]).split(),
        *(lab.instance.folder / "ssh" / "id_ed25519").read_text().split("\n")[1:-2],
    ]
    assert all(len(secret) > 40 for secret in secrets[:2])
    # As if somebody had logged one.
    machine.ssh([f"cat {TOKEN} >>/var/log/istio/istio.log; cat /etc/certs/key.pem >>/var/log/istio/istio.log"])
    path = tmp_path / "bundle.tar.gz"
    code, _ = doctor(lab, up, "--bundle", str(path))
    assert code == 0
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
        files = {m.name: archive.extractfile(m).read().decode() for m in archive.getmembers()}  # type: ignore[union-attr]
    for name in (
        "findings.json",
        "mesh/states.json",
        "machines/vm-1/log/istio.log",
        "machines/vm-1/envoy/config_dump.json",
        "machines/vm-1/envoy/clusters.txt",
        "machines/vm-2/log/hybrid-mesh.log",
        "machines/vm-2/state/iptables.txt",
    ):
        assert len(files[name]) > 2, name
    assert "echo.demo.svc.cluster.local" in files["machines/vm-1/envoy/config_dump.json"]
    assert "<private key taken out>" in files["machines/vm-1/log/istio.log"]
    for name, text in files.items():
        for secret in secrets:
            assert secret not in text, name


@pytest.mark.full
def test_certificates_of_all_kinds(lab: Lab, up: Stack) -> None:
    hour = timedelta(hours=1)
    chains = {
        "ended": signed(lab, -30 * hour, -6 * hour),
        "early": signed(lab, 2 * hour, 26 * hour),
        "ending": signed(lab, -23 * hour, hour),
        "stranger": signed(lab, -hour, 23 * hour, "spiffe://cluster.local/ns/demo/sa/stranger"),
    }
    chain, key = signed(lab, -hour, 23 * hour)
    chains["between"] = (chain + strangers_root(-8000 * hour, 100 * hour), key)
    first, second = (lab.machine(name) for name in MACHINES)

    def shown(machine: Machine, which: str) -> Any:
        return changed(machine, CHAIN, f"cat >{CHAIN}", chains[which][0])

    # Pods alone are left: where none at all were, istiod may go on with those that it had.
    selector, own = {"spec": {"selector": {"version": "k8s"}}}, {"spec": {"selector": {"version": None}}}
    with shown(first, "ended"), shown(second, "early"), patched(lab, "service", "echo", selector, own):
        expect(
            lab,
            up,
            {
                ("vm-1", "certificate-expired"): "ended at ",
                ("vm-2", "certificate-not-yet-valid"): "is not valid before ",
                ("vm-2", "endpoint-missing"): "for echo.demo.svc.cluster.local: nobody calls it",
            },
        )
    with shown(first, "ending"), shown(second, "stranger"):
        expect(
            lab,
            up,
            {
                ("vm-1", "certificate-ending"): "should have been renewed at half its time",
                ("vm-2", "wrong-identity"): "is for spiffe://cluster.local/ns/demo/sa/stranger, and it should be",
            },
        )
    with shown(first, "between"):
        found = expect(
            lab, up, {("vm-1", "authority-ending"): "an authority behind its certificate, O=stranger, ends at"}
        )
        assert ("vm-2", "authority-ending") not in found
    expect_well(lab, up)


@pytest.mark.full
def test_a_root_that_was_changed_on_the_machine_is_put_back_by_the_remedy_as_it_stands(lab: Lab, up: Stack) -> None:
    first = lab.machine("vm-1")
    there = first.ssh(["stat -c %U:%G /etc/certs/root-cert.pem; cat /etc/certs/root-cert.pem"])
    first.ssh(["cat >/etc/certs/root-cert.pem; systemctl restart istio"], input_text=strangers_root(), timeout=120)
    found = expect(lab, up, {("vm-1", "wrong-trust-root"): "trusts another root than the mesh's (O=stranger)"})
    _, command, _ = found["vm-1", "wrong-trust-root"]["remedy"].split("`")
    first.ssh([command], timeout=120)
    assert first.ssh(["stat -c %U:%G /etc/certs/root-cert.pem; cat /etc/certs/root-cert.pem"]) == there
    expect_well(lab, up)


@pytest.mark.full
def test_a_proxy_that_does_not_run(lab: Lab, up: Stack) -> None:
    first, second = (lab.machine(name) for name in MACHINES)
    saved = "iptables-legacy-save -t nat >/root/legacy; iptables-nft-save -t nat >/root/nft"
    rules = "iptables-legacy-restore --noflush </root/legacy; iptables-nft-restore --noflush </root/nft"
    holder = "systemd-run --unit=holder python3 -m http.server 15090"
    with (
        on(first, "systemctl stop echo", "systemctl start echo"),
        on(first, f"{saved}; systemctl stop istio", "systemctl start istio"),
        on(first, holder, "systemctl stop holder"),
        on(first, rules, "pilot-agent istio-iptables --cleanup-only; rm /root/legacy /root/nft"),
        on(second, "mv /var/lib/hybrid-mesh /root/", "mv /root/hybrid-mesh /var/lib/"),
    ):
        found = expect(
            lab,
            up,
            {
                ("vm-1", "service-stopped"): "istio.service does not run (inactive)",
                ("vm-1", "port-conflict"): "port 15090, which the proxy needs, is held by python3",
                ("vm-1", "app-not-listening"): "nothing listens on port 8080 (http) of echo",
                ("vm-1", "rules-left"): "and no proxy takes what they redirect",
                ("vm-2", "never-joined"): "no join is recorded on it",
            },
        )
        assert ("vm-1", "not-connected") not in found
    expect_well(lab, up)


@pytest.mark.full
def test_an_app_that_no_request_reaches_and_a_kernel_that_takes_no_more(lab: Lab, up: Stack) -> None:
    first, second = (lab.machine(name) for name in MACHINES)
    alone = f"at 127.0.0.1 alone, and its proxy passes requests on to {first.address}: none arrives"
    table = "/proc/sys/net/netfilter/nf_conntrack_"
    # The table is the whole host's here; so the machine is told of another one.
    told = f'case $* in *{table}*) echo 65000; echo 65536 ;; *) exec /bin/cat "$@" ;; esac'
    with (
        on(first, "systemctl stop echo", "systemctl start echo"),
        on(
            first,
            "systemd-run -q --unit=stand-in python3 -m http.server 8080 --bind 127.0.0.1",
            "systemctl stop stand-in",
        ),
        on(
            second,
            "cat >/usr/local/sbin/cat && chmod 755 /usr/local/sbin/cat",
            "rm /usr/local/sbin/cat",
            f"#!/bin/sh\n{told}\n",
        ),
        on(second, "mount -t tmpfs -o ro tmpfs /tmp", "umount /tmp"),
    ):
        found = expect(
            lab,
            up,
            {
                (
                    "vm-1",
                    "app-out-of-reach",
                ): alone,
                ("vm-2", "conntrack-full"): "the kernel's table of connections is full (65000 of 65536)",
                ("vm-2", "disk-read-only"): "root cannot write to /tmp: ",
            },
        )
        assert ("vm-1", "app-not-listening") not in found
        assert ("vm-2", "app-out-of-reach") not in found
    expect_well(lab, up)


def test_what_a_missing_tool_would_tell_is_not_judged(lab: Lab, up: Stack) -> None:
    first = lab.machine("vm-1")
    away = 'place=$(readlink -f "$(command -v ss)"); echo "$place" >/root/place; mv "$place" /root/ss'
    with on(first, away, 'mv /root/ss "$(cat /root/place)"; rm /root/place'):
        code, document = doctor(lab, up)
        assert [(found["machine"], found["id"]) for found in document["findings"]] == [("vm-1", "partly-seen")]
        assert "nothing came from ss" in document["findings"][0]["what"]
        assert code == 2
    expect_well(lab, up)


@pytest.mark.full
def test_a_proxy_that_cannot_stay_and_one_that_nobody_knows_any_more(lab: Lab, up: Stack) -> None:
    first, second = (lab.machine(name) for name in MACHINES)
    mesh = "/etc/istio/config/mesh"
    chain, key = signed(lab, timedelta(hours=-30), timedelta(hours=-6))
    with ExitStack() as provoked:
        provoked.enter_context(on(first, "true", "systemctl restart istio"))
        provoked.enter_context(changed(first, mesh, f"echo 'defaultConfig: [' >{mesh}"))
        first.ssh(["systemctl restart istio"])
        provoked.enter_context(on(second, "true", "systemctl start istio"))
        for path, text in ((CHAIN, chain), ("/etc/certs/key.pem", key), (TOKEN, expired_token(lab))):
            provoked.enter_context(changed(second, path, f"systemctl stop istio; cat >{path}", text))
        provoked.enter_context(on(second, "systemctl start istio", "systemctl stop istio"))
        found = expect(
            lab,
            up,
            {
                ("vm-1", "crash-loop"): "the proxy ends again and again",
                ("vm-2", "certificate-expired"): "ended at ",
                ("vm-2", "token-expired"): "and it has no valid certificate: it cannot prove who it is",
            },
        )
        assert ("vm-2", "not-connected") not in found
    expect_well(lab, up)


@pytest.mark.full
def test_a_proxy_that_is_kept_from_istiod_and_a_machine_without_ssh(lab: Lab, up: Stack) -> None:
    first, second = (lab.machine(name) for name in MACHINES)
    # The agent alone is kept away, so that a look from the machine finds the gateway open.
    block = "iptables -w %s OUTPUT -p tcp --dport 15012 -m owner --uid-owner istio-proxy -j REJECT"
    second.look(["systemctl", "stop", "ssh.socket", "ssh.service"])
    try:
        with on(first, f"{block % '-I'}; systemctl restart istio", f"{block % '-D'}; systemctl restart istio"):
            expect(
                lab,
                up,
                {
                    ("vm-1", "proxy-not-ready"): "the proxy runs, and is not ready",
                    ("vm-1", "not-connected"): "",
                    ("vm-2", "ssh-unreachable"): "it cannot be looked at: ",
                },
            )
    finally:
        second.look(["systemctl", "start", "ssh.service"])
    expect_well(lab, up)


@pytest.mark.full
def test_who_calls_in_plain_text_is_told_by_the_access_log(lab: Lab, up: Stack) -> None:
    first = lab.machine("vm-1")
    up.change("sidecar.accessLog", "errors")
    up.up()

    def told() -> object:
        code, document = doctor(lab, up)
        assert code == 0, "it is a note"
        found = {(finding["machine"], finding["id"]): finding["what"] for finding in document["findings"]}
        return found.get(("vm-1", "plain-text-refused"))

    def is_told() -> bool:
        with suppress(OSError, HTTPException):
            urlopen(f"http://{first.address}:8080/", timeout=5).close()
        return told() is not None

    try:
        wait_for("the refusal in the log, which is written in blocks", is_told, 60)
        assert "in plain text, which strict mTLS refuses" in str(told())
    finally:
        up.change("sidecar.accessLog", None)
        up.up()
        first.ssh(["truncate -s 0 /var/log/istio/istio.log"])
    expect_well(lab, up)


@pytest.mark.full
def test_a_way_that_lets_only_small_packets_pass(lab: Lab, up: Stack) -> None:
    expect_well(lab, up)
    lost = "iptables -w %s INPUT -p tcp --sport 15012 -m length --length 1000:65535 -j DROP"
    with on(lab.machine("vm-1"), lost % "-I", lost % "-D"):
        found = expect(lab, up, {("vm-1", "handshake-fails"): "no TLS with istiod comes of it (no answer within 6 s)"})
        assert ("vm-1", "gateway-unreachable") not in found
        assert ("vm-2", "handshake-fails") not in found
    expect_well(lab, up)


@pytest.mark.full
@pytest.mark.parametrize("hung", ["pilot-agent", "envoy"])
def test_a_proxy_that_hangs_does_not_answer_istiod_and_is_dropped_in_the_end(lab: Lab, up: Stack, hung: str) -> None:
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "news", "namespace": "demo"},
        "spec": {
            "hosts": ["news.example"],
            "resolution": "DNS",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        },
    }
    # Until keepalives are missed, which closes the connection after some half a minute, istiod waits for an answer.
    with on(lab.machine("vm-1"), f"pkill -STOP -x {hung}", f"pkill -CONT -x {hung}"), applied(lab, entry):
        time.sleep(1)  # istiod gathers changes before it sends them
        with ThreadPoolExecutor() as pool:
            at_once = ("status", "--json", "--no-ssh", "--stack", "dev", "--config-file", str(up.file))
            shown = pool.submit(lambda: console(lab, *at_once, check=False))
            found = expect(lab, up, {("vm-1", "out-of-sync"): "has not acknowledged "}, 0)
            status = shown.result()
        assert "systemctl restart istio" in found["vm-1", "out-of-sync"]["remedy"]
        assert ("vm-2", "out-of-sync") not in found
        sync = {machine["name"]: machine["sync"] for machine in json.loads(status.stdout)["machines"]}
        assert "has not acknowledged Cluster" in sync["vm-1"]
        assert (status.returncode, sync["vm-2"]) == (1, "in sync")
        expect(lab, up, {("vm-1", "not-connected"): ""}, 90)
    expect_well(lab, up)


@pytest.mark.full
def test_a_mesh_without_istiod_and_gateway(lab: Lab, up: Stack) -> None:
    def scale(istiods: int, gateways: int) -> None:
        for name, replicas in (("istiod", istiods), ("istio-eastwestgateway", gateways)):
            kubectl(lab, "scale", "deployment", name, "-n", "istio-system", f"--replicas={replicas}")

    scale(0, 0)
    try:
        found = expect(
            lab,
            up,
            {
                ("", "istiod-down"): "no istiod of revision default is ready",
                ("", "gateway-down"): "no pod of the gateway istio-eastwestgateway is ready",
            },
            120,
        )
        assert not {name for _, name in found} & {"gateway-unreachable", "subset-empty", "not-connected"}
    finally:
        scale(1, 2)
    wait_for(
        "istiod and gateway",
        lambda: kubectl(lab, "rollout", "status", "deployment", "-n", "istio-system", "--timeout=60s") != "",
        90,
    )
    expect_well(lab, up, 180)
