"""What is made of facts: each diagnosis alone, what it says, and what it does not repeat."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hybridmesh.ops import diagnoses
from hybridmesh.ops.diagnoses import BY_ID, DIAGNOSES, Finding, diagnose
from hybridmesh.ops.diagnoses.model import duration
from hybridmesh.ops.facts import certificates
from hybridmesh.ops.mesh import Endpoint
from tests.ops.probed import (
    ADDRESS,
    ENVIRONMENT,
    HOST,
    IDENTITY,
    LABELS,
    LISTENERS,
    MANIFEST,
    NOW,
    TOPOLOGY,
    TRACKED,
    TRACKER,
    UNHEALTHY,
    case,
    certificate,
    claims,
    endpoint,
    entry,
    member,
    state,
    unit,
)

PROJECT = Path(__file__).parents[2]
ENTRY = f"demo/echo-{ADDRESS}-embedded"
STOPPED = unit(ActiveState="inactive", SubState="dead")
ELSEWHERE = [endpoint("10.0.0.5", "k8s"), endpoint("192.0.2.12", "vm")]
DENY_ALL = {"metadata": {"name": "no", "namespace": "demo"}, "spec": {"action": "DENY", "rules": [{}]}}
ALLOW_NOTHING = {
    "metadata": {"name": "none", "namespace": "demo"},
    "spec": {"selector": {"matchLabels": {"app": "echo"}}},
}


@dataclass(frozen=True)
class Spoiled:
    """What is wrong, and what is said of it."""

    says: str
    probe: Mapping[str, str] = field(default_factory=dict)
    mesh: Mapping[str, Any] = field(default_factory=dict)
    refusal: str = ""


def old(hours: int) -> str:
    return certificate(begin=NOW - timedelta(hours=30), end=NOW - timedelta(hours=hours), identity=IDENTITY)


def authority(name: str, *, days: float, left: float) -> str:
    """One that lasts so many days, of which so many are left."""
    return certificate(name, begin=NOW + timedelta(days=left - days), end=NOW + timedelta(days=left))


UNTRUSTED = "192.0.2.100 15012 refused: SSL certificate problem: unable to get local issuer certificate"


REFUSED = (
    "2026-11-25T11:00:00Z\twarn\txdsproxy\tupstream terminated with unexpected error rpc error: code = Unknown desc = "
    "auto-registration WorkloadEntry of vm-1.demo failed: error creating WorkloadEntry: "
    'workloadentries.networking.istio.io "echo-192.0.2.11-embedded" is forbidden: ValidatingAdmissionPolicy '
    "'echo.demo.service.hybrid-mesh' with binding 'echo.demo.service.hybrid-mesh' denied request: Service demo/shop "
    "selects this VM by the labels that it says it has, and not WorkloadGroup echo"
)


def on(*addresses: str) -> str:
    """What listens, where the app does at these."""
    others = [line for line in LISTENERS.splitlines() if "echo-app" not in line]
    return "\n".join([*others, *(f'{address} users:(("echo-app",pid=3,fd=3))' for address in addresses)])


WRONG: dict[str, Spoiled] = {
    "ssh-unreachable": Spoiled("SSH does not answer", refusal="SSH does not answer. Fix: start it."),
    "partly-seen": Spoiled(
        "nothing came from systemctl; ss: what that would tell of it is not judged",
        {"unread": "key units listeners", "units": "", "listeners": ""},
    ),
    "never-joined": Spoiled("no join is recorded", {"joined": ""}),
    "service-stopped": Spoiled(
        "istio.service does not run (inactive)", {"units": f"{STOPPED}\n\n{TRACKER}", "rules": TRACKED}
    ),
    "crash-loop": Spoiled(
        "ends again and again: 4 restarts so far, exit status 255, exit-code",
        {
            "units": unit(SubState="auto-restart", ActiveState="activating", NRestarts="4", ExecMainStatus="255",
                          Result="exit-code") + f"\n\n{TRACKER}",
        },
    ),
    "service-disabled": Spoiled(
        "istio.service is disabled", {"units": f"{unit(UnitFileState='disabled')}\n\n{TRACKER}"}
    ),
    "proxy-not-ready": Spoiled("is not ready", {"ready": "no"}),
    "rules-missing": Spoiled("no iptables rule", {"rules": TRACKED}),
    "rules-left": Spoiled(
        "redirect rules stand (1), and no proxy",
        {"units": f"{unit(ActiveState='failed', Result='exit-code')}\n\n{TRACKER}"},
    ),
    "tracker-stopped": Spoiled(
        "hybrid-mesh-conntrack.service is inactive",
        {"units": f"{unit()}\n\n{unit('hybrid-mesh-conntrack.service', ActiveState='inactive')}"},
    ),
    "port-conflict": Spoiled(
        "port 15090, which the proxy needs, is held by python3",
        {"listeners": LISTENERS + '*:15090 users:(("python3",pid=9,fd=3))'},
    ),
    "app-not-listening": Spoiled(
        "nothing listens on port 8080 (http) of echo", {"listeners": LISTENERS.replace("8080", "8081")}
    ),
    "app-out-of-reach": Spoiled(
        f"echo listens on port 8080 (http) at 127.0.0.1 alone, and its proxy passes requests on to {ADDRESS}: none",
        {"listeners": on("127.0.0.1:8080")},
    ),
    "conntrack-full": Spoiled(
        "table of connections is full (65000 of 65536): new connections, SSH's too", {"tracked": "65000\n65536"}
    ),
    "disk-full": Spoiled("/var/log is full: 1 MiB of 97 MiB", {"disks": "/var/log 100000 1024"}),
    "disk-read-only": Spoiled("root cannot write to /etc/certs, /run", {"read-only": "/etc/certs\n/run"}),
    "changed-by-hand": Spoiled(
        "file /etc/istio/config/mesh: edited", {"manifest": MANIFEST.replace("0123456789abcdef", "fedcba9876543210")}
    ),
    "another-join": Spoiled("another join than the last of a `pulumi up` that ended", {"generation": "older"}),
    "version-skew": Spoiled("its sidecar 1.28.0 is more than one minor version older", {"version": "1.28.0"}),
    "hosts-stale": Spoiled(
        "leads istiod's name to 192.0.2.1, and the gateway is at 192.0.2.100",
        {"hosts-block": "192.0.2.1 istiod.istio-system.svc", "gateways": "192.0.2.1 15012 no answer within 3 s"},
    ),
    "gateway-unreachable": Spoiled(
        "192.0.2.100:15012 (connection refused)", {"gateways": "192.0.2.100 15012 connection refused", "ready": "no"}
    ),
    "handshake-fails": Spoiled(
        "gateway at 192.0.2.100:15012, and no TLS with istiod comes of it (no answer within 6 s)",
        {"handshakes": "192.0.2.100 15012 no answer within 6 s"},
    ),
    "address-gone": Spoiled(
        f"sends its requests to {ADDRESS}, which is on no interface of it (192.0.2.12)",
        {"addresses": "127.0.0.1\n192.0.2.12"},
    ),
    "dns-broken": Spoiled(
        "none of its DNS servers answers: 192.0.2.53", {"nameservers": "192.0.2.53 53 no answer within 3 s"}
    ),
    "clock-skew": Spoiled("its clock is 2 h behind", {"clock": str(int(NOW.timestamp()) - 7300)}),
    "certificate-expired": Spoiled("ended at 2026-11-25 10:00:00", {"certificate": old(2), "certs": "", "claims": ""}),
    "certificate-not-yet-valid": Spoiled(
        "not valid before 2026-11-25 14:00:00 UTC, in 2 h",
        {"certificate": certificate(begin=NOW + timedelta(hours=2), end=NOW + timedelta(hours=26), identity=IDENTITY)},
    ),
    "certificate-ending": Spoiled(
        "ends in 60 min",
        {"certificate": certificate(begin=NOW - timedelta(hours=23), end=NOW + timedelta(hours=1), identity=IDENTITY)},
    ),
    "authority-ending": Spoiled(
        "an authority behind its certificate, O=between, ends at 2026-12-24 12:00 UTC: from then on no certificate",
        {"certificate": certificate(identity=IDENTITY) + authority("between", days=365, left=29)},
    ),
    "token-expired": Spoiled(
        "its token ended at 2026-11-25 11:00:00 UTC, and it has no valid certificate", {"certificate": "", "certs": ""}
    ),
    "key-open": Spoiled("open to others: 644 istio-proxy", {"key": "644 istio-proxy"}),
    "wrong-identity": Spoiled("is for spiffe://else", {"certificate": certificate(identity="spiffe://else")}),
    "wrong-cluster-id": Spoiled(
        "ISTIO_META_CLUSTER_ID is other, and should be embedded",
        {"cluster.env": "ISTIO_META_CLUSTER_ID=other\nISTIO_META_NETWORK=embedded\n"},
    ),
    "wrong-network": Spoiled(
        "ISTIO_META_NETWORK is empty, and should be embedded", {"cluster.env": "ISTIO_META_CLUSTER_ID=embedded\n"}
    ),
    "wrong-trust-root": Spoiled("another root than the mesh's (O=other)", {"root-certificate": certificate("other")}),
    "not-connected": Spoiled("there is no WorkloadEntry", mesh={"entries": {}}),
    "registration-refused": Spoiled(
        "Kubernetes refuses the WorkloadEntry that istiod would make of it: ValidatingAdmissionPolicy "
        "'echo.demo.service.hybrid-mesh' with binding 'echo.demo.service.hybrid-mesh' denied request: Service demo",
        {"agent-log": REFUSED},
        mesh={"entries": {}},
    ),
    "config-rejected": Spoiled(
        "Envoy refused Listener from istiod, and goes on with what it had: bad filter",
        mesh={"states": {"demo": [state(lastError="bad\n filter", acked="n0")]}},
    ),
    "out-of-sync": Spoiled("has not acknowledged Listener", mesh={"states": {"demo": [state(acked="n0")]}}),
    "entry-unhealthy": Spoiled(
        "not healthy by the workload's probe: status 503",
        mesh={
            "entries": {ENTRY: entry(status=UNHEALTHY)},
            "endpoints": ELSEWHERE,
        },
    ),
    "health-unheard": Spoiled(
        "istiod has lost what it said of its app's health",
        mesh={"entries": {ENTRY: entry(status={})}, "endpoints": ELSEWHERE},
    ),
    "labels-drifted": Spoiled(
        "version is hand, should be vm",
        mesh={"entries": {ENTRY: entry(spec={"address": ADDRESS, "labels": {**LABELS, "version": "hand"}})}},
    ),
    "endpoint-missing": Spoiled(
        f"no endpoint {ADDRESS} for {HOST}", mesh={"endpoints": ELSEWHERE}
    ),
    "policy-denies": Spoiled("refused by AuthorizationPolicy demo/no", mesh={"policies": {"demo": [DENY_ALL]}}),
    "plain-text-refused": Spoiled("which strict mTLS refuses; the last: NR b", {"unmatched": "NR a\nNR b"}),
    "istiod-down": Spoiled("no istiod of revision default is ready", mesh={"istiods": {"default": 0}}),
    "gateway-down": Spoiled("no pod of the gateway istio-eastwestgateway is ready", mesh={"gateways": 0}),
    "subset-empty": Spoiled(
        "subset vm of echo gets 10 % of the requests, and has no endpoint",
        mesh={"endpoints": [endpoint("10.0.0.5", "k8s"), endpoint(ADDRESS, "hand")]},
    ),
    "member-unhealthy": Spoiled(
        "echo-192.0.2.77, a machine that joined echo by itself, is not healthy by the workload's probe: status 503",
        mesh={"entries": {ENTRY: entry(), "demo/echo-192.0.2.77": member(status=UNHEALTHY)}},
    ),
    "another-workload": Spoiled(
        "a machine that joined as echo says that it is client: requests to client may come to it",
        mesh={
            "entries": {
                ENTRY: entry(),
                "demo/echo-192.0.2.77": member(spec={"address": "192.0.2.77", "labels": {**LABELS, "app": "client"}}),
                "demo/echo-192.0.2.78": member(spec={"address": "192.0.2.78", "labels": {**LABELS, "app": "own"}}),
            }
        },
    ),
    "farther-than-others": Spoiled(
        f"vm-1 ({ADDRESS}), 192.0.2.77: no request to echo:8080, subset vm, goes there from pods",
        mesh={
            "passed_over": {
                f"outbound|8080|vm|{HOST}": [f"{ADDRESS}:8080", "192.0.2.77:8080"],
                f"outbound|8080||{HOST}": ["10.0.0.5:8080"],
                "outbound|80||elsewhere.demo.svc.cluster.local": ["192.0.2.78:80"],
            }
        },
    ),
}  # fmt: skip
"""Each diagnosis, and what leads to it."""
WITH_IT = {"rules-left": {"service-stopped"}}
"""Others that the same facts lead to, and that it does not explain."""
OF_STACK = {
    "istiod-down",
    "gateway-down",
    "subset-empty",
    "member-unhealthy",
    "another-workload",
    "farther-than-others",
}
"""What is told once, however many machines there are."""


def found(spoiled: Spoiled) -> list[Finding]:
    judged = case(spoiled.probe, spoiled.mesh, refusal=spoiled.refusal)
    return diagnose([judged], judged)


def test_a_machine_that_is_well_has_no_finding() -> None:
    assert found(Spoiled("")) == []


@pytest.mark.parametrize("name", WRONG)
def test_each_is_found_alone_and_says_what_it_saw(name: str) -> None:
    findings = {finding.id: finding for finding in found(WRONG[name])}
    assert set(findings) == {name} | WITH_IT.get(name, set())
    finding = findings[name]
    assert WRONG[name].says in finding.what
    assert finding.machine == ("" if name in OF_STACK else "vm-1")
    assert finding.remedy
    assert finding.runbook == f"docs/runbook.md#{name}"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (
            "subset-empty",
            "`pulumi up --target '**:mesh-echo-destination-rule' --target '**:mesh-echo-virtual-service'`",
        ),
        ("istiod-down", "`kubectl get pods -n istio-system -l app=istiod,istio.io/rev=default`"),
        ("clock-skew", "`systemctl restart istio`"),
        ("certificate-ending", "`grep -iE 'csr|certificate|unauthenticated' /var/log/istio/istio.log | tail`"),
        ("wrong-identity", "`rm /etc/certs/cert-chain.pem /etc/certs/key.pem; systemctl restart istio`"),
        (
            "wrong-trust-root",
            "`install -m 644 -o istio-proxy -g istio-proxy /var/lib/hybrid-mesh/delivered/root-cert.pem "
            "/etc/certs/root-cert.pem; systemctl restart istio`",
        ),
        ("proxy-not-ready", "`curl -s 127.0.0.1:15021/healthz/ready; tail /var/log/istio/istio.log`"),
        ("conntrack-full", "`sysctl -w net.netfilter.nf_conntrack_max=131072`"),
        ("disk-read-only", '`mount -o remount,rw "$(findmnt -no TARGET --target /etc/certs)"`'),
        ("rules-missing", "`systemctl restart hybrid-mesh-metrics`"),
        (
            "gateway-down",
            "`kubectl get endpointslices -n istio-system -l kubernetes.io/service-name=istio-eastwestgateway`",
        ),
    ],
)
def test_a_remedy_is_a_command_that_can_be_run_as_it_stands(name: str, command: str) -> None:
    (remedy,) = {finding.remedy for finding in found(WRONG[name]) if finding.id == name}
    assert command in remedy


@pytest.mark.parametrize(
    ("between", "roots", "severity"),
    [
        (authority("between", days=365, left=31), certificate(), None),
        (authority("between", days=3650, left=31), certificate(), None),
        (authority("between", days=10, left=1.1), certificate(), None),
        (authority("between", days=10, left=0.9), certificate(), "warning"),
        (authority("between", days=365, left=-1), certificate(), "critical"),
        ("", certificate() + authority("mesh", days=365, left=-1), None),
        ("", authority("mesh", days=365, left=20), "warning"),
        (authority("mesh", days=365, left=20), authority("mesh", days=365, left=20), "warning"),
    ],
    ids=[
        "a month",
        "of ten years",
        "short-lived",
        "a tenth left",
        "ended",
        "an old root",
        "the root",
        "the root twice",
    ],
)
def test_an_authority_that_ends_is_told_once_and_in_time(between: str, roots: str, severity: str | None) -> None:
    probe = {"certificate": certificate(identity=IDENTITY) + between, "root-certificate": roots}
    mesh = {"roots": {"demo": certificates(roots)}}
    assert [(f.id, f.severity) for f in found(Spoiled("", probe, mesh))] == (
        [("authority-ending", severity)] if severity else []
    )


@pytest.mark.parametrize(
    ("first", "address", "past"),
    [("2001:db8::53", ADDRESS, True), ("192.0.2.53", ADDRESS, False), ("2001:db8::53", "2001:db8::11", False)],
)
def test_a_name_server_that_is_asked_past_the_agent_is_named(first: str, address: str, past: bool) -> None:
    machine = {**TOPOLOGY["machines"]["vm-1"], "meshAddress": address}
    probe = {"mesh-name": "", "nameservers": f"{first} 53 open\n192.0.2.54 53 open", "addresses": address}
    judged = replace(case(probe), topology={**TOPOLOGY, "machines": {"vm-1": machine}})
    (finding,) = (f for f in diagnose([judged], judged) if f.id == "dns-broken")
    assert ("2001:db8::53, is asked by IPv6, past the agent" in finding.what) == past
    assert ("one with an IPv4 address first" in finding.remedy) == past


def test_what_is_masked_must_be_unmasked_before_it_starts() -> None:
    masked = unit(LoadState="masked", UnitFileState="masked", ActiveState="inactive", SubState="dead")
    remedies = {f.id: f.remedy for f in found(Spoiled("", {"units": f"{masked}\n\n{TRACKER}", "rules": TRACKED}))}
    assert "`systemctl unmask istio`, then `systemctl enable --now istio`" in remedies["service-stopped"]
    assert "`systemctl unmask istio.service`, then" in remedies["service-disabled"]
    assert "`systemctl enable istio.service` there, or" in found(WRONG["service-disabled"])[0].remedy
    assert found(WRONG["service-stopped"])[0].remedy.startswith("`systemctl start istio` there, or pulumi up")


def restarted(times: int) -> str:
    return f"{unit(NRestarts=str(times))}\n\n{TRACKER}"


def left(share: int) -> str:
    """A certificate of a hundred hours, of which so many are left."""
    return certificate(begin=NOW - timedelta(hours=100 - share), end=NOW + timedelta(hours=share), identity=IDENTITY)


@pytest.mark.parametrize(
    ("probe", "ids"),
    [
        ({"units": restarted(2), "ready": "no"}, ["proxy-not-ready"]),
        ({"units": restarted(3), "ready": "no"}, ["crash-loop"]),
        ({"units": restarted(30)}, []),
        ({"disks": "/ 10000000 300000"}, []),
        ({"disks": "/ 10000000 299999"}, ["disk-full"]),
        ({"disks": "/ 1000000000 1048576"}, []),
        ({"disks": "/ 1000000000 1048575"}, ["disk-full"]),
        ({"disks": "/run 100000 20480"}, []),
        ({"disks": "/run 100000 20479"}, ["disk-full"]),
        ({"inodes": "/ 100000 1000"}, []),
        ({"inodes": "/ 100000 999"}, ["disk-full"]),
        ({"inodes": "/ 65000000 10000"}, []),
        ({"inodes": "/ 65000000 9999"}, ["disk-full"]),
        ({"tracked": "62259\n65536"}, []),
        ({"tracked": "62260\n65536"}, ["conntrack-full"]),
        ({"tracked": "65536"}, []),
        ({"tracked": ""}, []),
        ({"tracked": "5\n0"}, []),
        ({"listeners": on("127.0.0.1:8080", "[::1]:8080")}, ["app-out-of-reach"]),
        ({"listeners": on("[::ffff:127.0.0.1]:8080")}, ["app-out-of-reach"]),
        ({"listeners": on("127.0.0.1%lo:8080")}, ["app-out-of-reach"]),
        ({"listeners": on("192.0.2.99:8080")}, ["app-out-of-reach"]),
        ({"listeners": on("192.0.2.99:8080"), "addresses": "10.0.0.7", "accepted": "address"}, []),
        ({"listeners": on("127.0.0.1:8080"), "addresses": "10.0.0.7", "accepted": "address"}, ["app-out-of-reach"]),
        ({"listeners": on("127.0.0.1:8080", f"{ADDRESS}:8080")}, []),
        ({"listeners": on("*:8080")}, []),
        ({"listeners": on("[::]:8080")}, []),
        ({"listeners": on("127.0.0.1:8080"), "inbound": "inbound|8080 default_priority\ninbound|8080 127.0.0.1:8080"},
         []),
        ({"listeners": on("127.0.0.1:8080"), "inbound": "inbound|8080 [::1]:8080\ninbound|8080 default_priority"}, []),
        ({"listeners": on("127.0.0.1:8080"), "inbound": "inbound|8080 default_priority"}, ["app-out-of-reach"]),
        ({"listeners": on("127.0.0.1:8080"), "inbound": "inbound|9090 default_priority"}, []),
        ({"listeners": on("127.0.0.1:8080"), "inbound": ""}, []),
        ({"certificate": left(21)}, []),
        ({"certificate": left(19)}, ["certificate-ending"]),
        ({"key": "400 istio-proxy"}, []),
        ({"key": "640 istio-proxy"}, ["key-open"]),
        ({"key": ""}, []),
        ({"clock": str(int(NOW.timestamp()) + 61)}, []),
        ({"clock": str(int(NOW.timestamp()) + 62)}, ["clock-skew"]),
        ({"clock": str(int(NOW.timestamp()) - 61)}, []),
        ({"clock": str(int(NOW.timestamp()) - 62)}, ["clock-skew"]),
        ({"nameservers": "192.0.2.53 53 no answer\n192.0.2.54 53 open"}, []),
        ({"gateways": "192.0.2.100 15012 no answer\n192.0.2.101 15012 open"}, []),
        ({"handshakes": ""}, []),
        ({"handshakes": "192.0.2.100 15012 no answer\n192.0.2.101 15012 open"}, []),
        ({"handshakes": "192.0.2.100 15012 broken off: reset\n192.0.2.101 15012 no answer"}, ["handshake-fails"]),
        ({"handshakes": UNTRUSTED}, ["handshake-fails"]),
        ({"handshakes": UNTRUSTED, "cluster.env": f"{ENVIRONMENT}XDS_ROOT_CA=/etc/other.pem\n"}, []),
        ({"handshakes": UNTRUSTED.replace("local issuer", "issuer")}, []),
        ({"handshakes": "192.0.2.100 15012 refused: SSL certificate problem: EE certificate key too weak"}, []),
        ({"handshakes": UNTRUSTED, "root-certificate": certificate() + authority("mesh", days=365, left=99)}, []),
        ({"handshakes": UNTRUSTED, "root-certificate": certificate() + certificate("other")}, ["handshake-fails"]),
        ({"listeners": f"{LISTENERS}*:15004\n"}, ["port-conflict"]),
        ({"listeners": f"{LISTENERS}*:15014 users:((\"python3\",pid=9,fd=3))\n"}, []),
        ({"units": f"{unit(UnitFileState='enabled-runtime')}\n\n{TRACKER}"}, []),
        ({"units": f"{unit()}\n\n{TRACKER}".replace("exited\nUnitFileState=enabled", "exited\nUnitFileState=disabled")},
         ["service-disabled"]),
        ({"units": f"{unit(ActiveState='deactivating', SubState='stop-sigterm')}\n\n{TRACKER}"}, ["service-stopped"]),
        ({"units": f"{STOPPED}\n\n{TRACKER}", "rules": TRACKED, "starting": "yes"}, []),
        ({"rules": "-A OUTPUT -j ISTIO_OUTPUT"}, ["tracker-stopped"]),
        ({"rules": "-A OUTPUT -j ISTIO_OUTPUT\n-A HYBRID_MESH_METRICS -i lo -j RETURN"}, ["tracker-stopped"]),
        ({"rules": ""}, ["rules-missing"]),
        ({"rules": "", "unread": "rules"}, ["partly-seen"]),
        ({"rules": "", "joined": ""}, ["never-joined", "rules-missing"]),
        ({"cluster.env": ""}, []),
        ({"rules": TRACKED, "cluster.env": f"{ENVIRONMENT}ISTIO_CUSTOM_IP_TABLES=true\n"}, []),
        ({"addresses": ""}, []),
        ({"addresses": "127.0.0.1\n192.0.2.12", "accepted": "address clock"}, []),
        ({"addresses": "127.0.0.1\n192.0.2.12", "joined": ""}, ["never-joined"]),
        ({"mesh-name": ""}, ["dns-broken"]),
        ({"mesh-name": "", "cluster.env": ENVIRONMENT.replace("'true'", "'false'")}, []),
    ],
    ids=str,
)  # fmt: skip
def test_a_little_less_is_none(probe: dict[str, str], ids: list[str]) -> None:
    assert [finding.id for finding in found(Spoiled("", probe))] == ids


def test_there_is_no_diagnosis_that_nothing_leads_to() -> None:
    assert set(WRONG) == {diagnosis.id for diagnosis in DIAGNOSES}
    assert len(DIAGNOSES) == len(BY_ID) >= 20


IT_CANNOT_COME = {
    "never-joined", "service-stopped", "crash-loop", "hosts-stale", "gateway-unreachable", "handshake-fails",
    "certificate-expired", "token-expired", "wrong-cluster-id", "wrong-trust-root", "wrong-identity", "istiod-down",
    "gateway-down", "registration-refused",
}  # fmt: skip
CONSEQUENCES = {
    "service-stopped": {"never-joined"},
    "service-disabled": {"never-joined"},
    "changed-by-hand": {"never-joined"},
    "partly-seen": {"never-joined"},
    "rules-missing": {"crash-loop"},
    "tracker-stopped": {"rules-missing"},
    "proxy-not-ready": IT_CANNOT_COME | {"config-rejected", "port-conflict", "wrong-network"},
    "gateway-unreachable": {"hosts-stale", "gateway-down"},
    "handshake-fails": {"hosts-stale", "wrong-trust-root", "istiod-down", "gateway-down"},
    "authority-ending": {"wrong-trust-root"},
    "certificate-ending": {"gateway-unreachable", "handshake-fails", "hosts-stale", "istiod-down", "gateway-down"},
    "not-connected": IT_CANNOT_COME,
    "out-of-sync": IT_CANNOT_COME | {"config-rejected"},
    "entry-unhealthy": {"app-not-listening"},
    "health-unheard": {"app-not-listening", "proxy-not-ready"},
    "endpoint-missing": IT_CANNOT_COME
    | {"not-connected", "entry-unhealthy", "health-unheard", "app-not-listening", "labels-drifted"},
    "subset-empty": {"istiod-down"},
}
"""By what each is but a consequence of."""


def test_there_is_no_other_consequence() -> None:
    assert {d.id: d.explained_by for d in DIAGNOSES if d.explained_by} == CONSEQUENCES
    assert set().union(*CONSEQUENCES.values()) <= set(BY_ID)


NOT_AT_ONCE = {
    "rules-missing": {"crash-loop"},
    "proxy-not-ready": {"crash-loop", "service-stopped"},
    "out-of-sync": {"registration-refused"},
    "endpoint-missing": {"not-connected", "istiod-down", "registration-refused"},
}
"""Of these, what this page has of the cause takes the place of what it has of the consequence."""


@pytest.mark.parametrize("name", CONSEQUENCES)
def test_a_consequence_is_left_out_where_its_cause_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    consequence = WRONG[name]
    for cause in CONSEQUENCES[name] - NOT_AT_ONCE.get(name, set()):
        of = WRONG[cause]
        both = Spoiled("", {**consequence.probe, **of.probe}, {**consequence.mesh, **of.mesh})
        ids = {finding.id for finding in found(both)}
        assert (cause in ids, name in ids) == (True, False), cause
        with monkeypatch.context() as unexplained:
            unexplained.setattr(diagnoses, "_is_explained", lambda *_: False)
            assert name in {finding.id for finding in found(both)}, cause


@pytest.mark.parametrize(
    ("result", "said", "remedy"),
    [
        ("no answer within 6 s", "(no answer within 6 s): the proxy", "`ping -c 3 -M do -s 1372 192.0.2.100`"),
        ("broken off: Connection reset by peer", "(broken off: Connection reset by peer): the", "between reads TLS"),
        (
            UNTRUSTED.partition("15012 ")[2],
            "is not istiod.istio-system.svc by the mesh's root certificate (SSL certificate problem: unable to get",
            "see whose certificate that is",
        ),
    ],
)
def test_a_handshake_that_fails_says_how_with_a_command_that_shows_it(result: str, said: str, remedy: str) -> None:
    (finding,) = found(Spoiled("", {"handshakes": f"192.0.2.100 15012 {result}"}))
    assert said in finding.what
    assert remedy in finding.remedy
    assert "--resolve istiod.istio-system.svc:15012:192.0.2.100 https://istiod.istio-system.svc:15012/" in (
        finding.evidence
    )


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        ({"listeners": f"{LISTENERS}*:15004\n"}, "port 15004, which the proxy needs, is held by somebody else"),
        ({"root-certificate": ""}, "another root than the mesh's (no certificate): "),
        ({"certificate": certificate(), "certs": ""}, "the certificate on its disk is for nobody, and it should be"),
        ({"cluster.env": "ISTIO_META_NETWORK=embedded\n"}, "ISTIO_META_CLUSTER_ID is empty, and should be embedded"),
    ],
    ids=str,
)
def test_what_is_not_there_has_a_word_too(probe: dict[str, str], said: str) -> None:
    (finding,) = found(Spoiled("", probe))
    assert said in finding.what


def test_a_stopped_proxy_is_said_once_and_not_by_its_consequences() -> None:
    spoiled = Spoiled(
        "",
        {"units": f"{STOPPED}\n\n{TRACKER}", "rules": TRACKED, "ready": "no", "certs": ""},
        {"entries": {}, "endpoints": [endpoint("10.0.0.5", "k8s")]},
    )
    # That a subset is empty is the whole stack's matter, and worth a line.
    assert [(f.id, f.machine) for f in found(spoiled)] == [("subset-empty", ""), ("service-stopped", "vm-1")]


def test_a_machine_that_cannot_be_looked_at_may_be_out_of_the_mesh_too() -> None:
    off = case(mesh={"entries": {}, "endpoints": [endpoint("10.0.0.5", "k8s")]}, refusal="SSH does not answer.")
    assert {f.id for f in diagnose([off], replace(off, name=""))} >= {"ssh-unreachable", "not-connected"}


def test_another_machines_trouble_explains_nothing_here() -> None:
    topology = {**TOPOLOGY, "machines": {**TOPOLOGY["machines"], "vm-2": TOPOLOGY["machines"]["vm-1"]}}
    stopped = replace(case({"units": f"{STOPPED}\n\n{TRACKER}", "rules": TRACKED}), topology=topology)
    out = replace(case(mesh={"entries": {}}), name="vm-2", topology=topology)
    assert {(f.id, f.machine) for f in diagnose([stopped, out], stopped)} >= {
        ("service-stopped", "vm-1"),
        ("not-connected", "vm-2"),
    }


def test_a_sidecar_is_not_compared_with_an_istiod_that_its_machine_does_not_follow() -> None:
    env = "ISTIO_META_CLUSTER_ID=embedded\nISTIO_META_NETWORK=embedded\n"
    newer = {"version": "1.32.0", "cluster.env": env}
    assert [f.id for f in found(Spoiled("", newer))] == ["version-skew"]
    lines = "192.0.2.100 istiod-v1-32.istio-system.svc"
    assert found(Spoiled("", {**newer, "hosts-block": lines, "hosts-wanted": lines})) == []
    of_others = {**newer, "cluster.env": f"CA_ADDR=ca.example.com:443\n{env}"}
    assert [f.id for f in found(Spoiled("", of_others))] == ["version-skew"], "a CA of others is no other istiod"


def test_without_the_cluster_only_the_machine_is_judged() -> None:
    judged = case(
        mesh={"entries": {}, "istiods": {"default": 0}, "gateways": 0, "states": {}, "endpoints": [], "roots": {}}
    )
    assert diagnose([judged], judged, mesh_is_known=False) == []


def test_a_gateway_whose_pods_are_not_known_is_not_down_and_hides_nothing() -> None:
    out = case(mesh={"entries": {}, "gateways": None})
    assert [f.id for f in diagnose([out], out)] == ["not-connected"]


def test_of_two_istiods_the_one_that_is_down_is_named_and_hides_no_machine_s_trouble() -> None:
    out = case(mesh={"entries": {}, "istiods": {"default": 0, "canary": 1}})
    findings = diagnose([out], out)
    assert {f.id for f in findings} == {"istiod-down", "not-connected"}
    assert "no istiod of revision default is ready" in next(f.what for f in findings if f.id == "istiod-down")


def test_endpoints_that_could_not_be_asked_for_are_not_missing() -> None:
    assert found(Spoiled("", mesh={"endpoints": None})) == []
    assert [f.id for f in found(Spoiled("", mesh={"endpoints": []}))] != []


def test_an_ended_token_is_nobodys_matter_while_there_is_a_certificate() -> None:
    assert found(Spoiled("", {"claims": claims(NOW - timedelta(days=30))})) == []


def test_calls_that_a_policy_refused_are_a_note() -> None:
    [finding] = found(Spoiled("", {"stats": "http.inbound_0.0.0.0_8080.rbac.denied: 3", "denied": "GET /x 403"}))
    assert (finding.id, finding.severity) == ("policy-denies", "note")
    assert "refused 3 calls" in finding.what
    assert "GET /x 403" in finding.what
    assert "accessLog" not in finding.remedy
    [unlogged] = found(Spoiled("", {"stats": "http.inbound_0.0.0.0_8080.rbac.denied: 3"}))
    assert "`sidecar.accessLog: errors`, and pulumi up" in unlogged.remedy


def test_what_a_gateway_takes_none_of_is_not_plain_text() -> None:
    gateway = {**TOPOLOGY, "machines": {"vm-1": {**TOPOLOGY["machines"]["vm-1"], "workload": "gw"}}}
    judged = replace(case({"unmatched": "NR filter_chain_not_found"}), topology=gateway)
    assert "plain-text-refused" not in {f.id for f in diagnose([judged], judged)}


@pytest.mark.parametrize(
    ("policy", "severity"),
    [
        ({"action": "DENY", "rules": [{}]}, "warning"),
        ({"action": "DENY", "rules": [{"from": [{"source": {"namespaces": ["x"]}}]}]}, None),
        ({"action": "DENY"}, None),
        ({"action": "AUDIT", "rules": [{}]}, None),
        ({"action": "ALLOW"}, "warning"),
        ({"action": "DENY", "rules": [{}], "selector": {"matchLabels": {"app": "echo", "version": "vm"}}}, "warning"),
        ({"action": "DENY", "rules": [{}], "selector": {"matchLabels": {"app": "echo", "version": "k8s"}}}, None),
        ({"action": "DENY", "rules": [{}], "targetRefs": [{"kind": "Gateway", "name": "edge"}]}, None),
        ({"action": "DENY", "rules": [{}], "targetRef": {"kind": "Gateway", "name": "edge"}}, None),
    ],
    ids=str,
)
def test_a_policy_refuses_all_of_a_machine_s_calls_only_where_it_does(
    policy: dict[str, Any], severity: str | None
) -> None:
    findings = found(Spoiled("", mesh={"policies": {"demo": [{**DENY_ALL, "spec": policy}]}}))
    assert [(f.id, f.severity) for f in findings] == ([("policy-denies", severity)] if severity else [])


def test_the_default_deny_that_the_stack_s_settings_ask_for_is_a_note() -> None:
    own = {**ALLOW_NOTHING, "metadata": {"name": "echo-default-deny", "namespace": "demo"}}
    [finding] = found(Spoiled("", mesh={"policies": {"demo": [own]}}))
    assert (finding.id, finding.severity) == ("policy-denies", "note")
    [both] = found(Spoiled("", mesh={"policies": {"demo": [own, DENY_ALL]}}))
    assert both.severity == "warning"
    assert "demo/no, demo/echo-default-deny" in both.what


@pytest.mark.parametrize(
    ("unread", "empty"),
    [
        ("units", {"units": ""}),
        ("starting", {"units": f"{STOPPED}\n\n{TRACKER}", "rules": TRACKED}),
        ("ready", {"ready": ""}),
        ("rules", {"rules": TRACKED}),
        ("listeners", {"listeners": ""}),
        ("addresses", {"addresses": "10.0.0.9"}),
        ("manifest", {"manifest": ""}),
    ],
)
def test_what_could_not_be_read_is_neither_well_nor_wrong(unread: str, empty: dict[str, str]) -> None:
    assert [finding.id for finding in found(Spoiled("", empty | {"unread": unread}))] == ["partly-seen"]
    assert found(Spoiled("", {"unread": "accepted key claims"})) == [], "files that are not there are told as such"


def test_what_a_probe_said_that_is_there_no_more_is_nobody_s_illness() -> None:
    entries = {ENTRY: entry(status=UNHEALTHY), "demo/echo-192.0.2.77": member(status=UNHEALTHY)}
    for there in entries.values():
        del there["metadata"]["annotations"]["proxy.istio.io/health-checks-enabled"]
    assert found(Spoiled("", mesh={"entries": entries})) == []


def test_what_the_mesh_says_of_others_is_not_said_of_a_machine() -> None:
    refused = {**state(lastError="bad filter"), "proxy": "vm-2.demo"}
    elsewhere = [endpoint("10.0.0.5", "k8s"), endpoint(ADDRESS, "vm"), endpoint("192.0.2.12", "hand")]
    for mesh in (
        {"states": {"demo": [state(), refused]}},
        {"endpoints": elsewhere},
        {"entries": {ENTRY: entry(), "demo/echo-192.0.2.77": member()}},
        {"entries": {ENTRY: entry(), "demo/echo-192.0.2.77": member(status={})}},
        {"policies": {"demo": [], "other": [DENY_ALL]}},
    ):
        assert found(Spoiled("", mesh=mesh)) == [], mesh


def test_a_subset_is_empty_where_requests_go_to_nobody() -> None:
    def ids(weights: dict[str, int] | None, *endpoints: Endpoint) -> list[str]:
        echo = {**TOPOLOGY["workloads"]["echo"], "weights": weights}
        topology = {**TOPOLOGY, "workloads": {**TOPOLOGY["workloads"], "echo": echo}}
        judged = replace(case(mesh={"endpoints": list(endpoints)}), topology=topology)
        return [finding.id for finding in diagnose([judged], judged)]

    pods, vm = endpoint("10.0.0.5", "k8s"), endpoint(ADDRESS, "vm")
    assert ids({"k8s": 90, "vm": 10}, vm) == ["subset-empty"]
    assert ids({"k8s": 0, "vm": 100}, vm) == []
    assert ids(None, vm) == [], "without shares all endpoints get requests alike"
    assert ids({"k8s": 90, "vm": 10}, vm, replace(pods, healthy=False)) == ["subset-empty"], "503, too"
    assert ids({"k8s": 90, "vm": 10}, vm, replace(pods, service="other.demo.svc.cluster.local")) == ["subset-empty"]


@pytest.mark.parametrize(
    "spec", [{"address": ADDRESS, "labels": {"app": "far-gateway"}}, {"address": ADDRESS}], ids=["labels", "none"]
)
def test_a_gateway_s_machine_is_judged_without_a_workload(spec: dict[str, Any]) -> None:
    machine = {**TOPOLOGY["machines"]["vm-1"], "workload": "far-gateway"}
    there = entry(metadata={**entry()["metadata"], "labels": {}}, spec=spec, status={})
    mesh = {"entries": {ENTRY: there}, "groups": {}, "endpoints": ELSEWHERE}
    judged = replace(case(mesh=mesh), topology={**TOPOLOGY, "machines": {"vm-1": machine}})
    assert diagnose([judged], judged) == []
    out = replace(judged, mesh=replace(judged.mesh, entries={}))
    assert [finding.id for finding in diagnose([out], out)] == ["not-connected"]


def test_a_machine_that_only_calls_is_missed_by_nobody() -> None:
    echo = {**TOPOLOGY["workloads"]["echo"], "host": None, "weights": None, "subsets": None}
    topology = {**TOPOLOGY, "workloads": {**TOPOLOGY["workloads"], "echo": echo}}
    judged = replace(case(mesh={"endpoints": []}), topology=topology)
    assert diagnose([judged], judged) == []


def test_of_a_proxy_that_is_away_nothing_is_said_but_that() -> None:
    annotations = {"istio.io/disconnectedAt": "2026-11-25T11:30:00Z"}
    away = entry(metadata={**entry()["metadata"], "annotations": annotations}, status=UNHEALTHY)
    mesh = {"entries": {ENTRY: away}, "states": {"demo": []}, "endpoints": ELSEWHERE}
    assert [finding.id for finding in found(Spoiled("", mesh=mesh)) if finding.machine] == ["not-connected"]


def test_since_when_a_proxy_is_away_is_said_where_it_is_known() -> None:
    def said(**annotations: str) -> str:
        away = entry(metadata={**entry()["metadata"], "annotations": annotations})
        return next(f.what for f in found(Spoiled("", mesh={"entries": {ENTRY: away}})) if f.id == "not-connected")

    assert "since 2026-11-25T11:30:00Z" in said(**{"istio.io/disconnectedAt": "2026-11-25T11:30:00Z"})
    assert "since its making" in said()


def test_nothing_is_said_of_an_entry_that_nobody_here_may_read() -> None:
    assert found(Spoiled("", mesh={"entries": {}, "blind": {"demo"}})) == []
    assert [f.id for f in found(Spoiled("", mesh={"entries": {}, "blind": {"shop"}}))] == ["not-connected"]
    chosen = {"metadata": {"namespace": "demo", "name": "some"}}
    policies = [
        {"metadata": {"namespace": "demo", "name": "nothing"}, "spec": {}},
        {**chosen, "spec": {"selector": {"matchLabels": LABELS}, "rules": [{}]}},
    ]
    seen = {"policies": {"demo": policies}}
    assert found(Spoiled("", mesh=seen)) == []
    assert found(Spoiled("", mesh={**seen, "entries": {}, "blind": {"demo"}})) == [], "which one is for it is not known"


def test_a_machine_s_locality_belongs_to_its_labels() -> None:
    machine = {**TOPOLOGY["machines"]["vm-1"], "locality": "eu/a"}
    there = {**LABELS, "topology.istio.io/locality": "eu.a"}
    placed = entry(metadata={**entry()["metadata"], "labels": there}, spec={"address": ADDRESS, "labels": there})

    def ids(known: dict[str, Any]) -> list[str]:
        judged = replace(case(mesh={"entries": {ENTRY: known}}), topology={**TOPOLOGY, "machines": {"vm-1": machine}})
        return [finding.id for finding in diagnose([judged], judged)]

    assert ids(placed) == []
    assert ids(entry()) == ["labels-drifted"]


@pytest.mark.parametrize("spec", [{}, {"spec": None}])
def test_an_entry_or_a_group_without_a_spec_hides_no_finding(spec: dict[str, Any]) -> None:
    bare = {key: value for key, value in entry().items() if key != "spec"} | spec
    empty = {"metadata": {"name": "echo", "namespace": "demo"}, **spec}
    for mesh in ({"entries": {ENTRY: bare}}, {"groups": {"demo/echo": empty}}):
        (finding,) = found(Spoiled("", mesh=mesh))
        assert (finding.id, finding.machine) == ("labels-drifted", "vm-1")


def test_a_policy_that_allows_nothing_refuses_all_unless_another_allows_something() -> None:
    some = {"metadata": {"name": "some", "namespace": "demo"}, "spec": {"rules": [{"from": []}]}}
    assert [f.id for f in found(Spoiled("", mesh={"policies": {"demo": [ALLOW_NOTHING]}}))] == ["policy-denies"]
    assert found(Spoiled("", mesh={"policies": {"demo": [ALLOW_NOTHING, some]}})) == []
    bare = {"metadata": {"name": "bare", "namespace": "demo"}}
    assert [f.id for f in found(Spoiled("", mesh={"policies": {"demo": [bare]}}))] == ["policy-denies"]
    assert found(Spoiled("", mesh={"policies": {"demo": [bare, some]}})) == []
    other = {"metadata": {}, "spec": {"selector": {"matchLabels": {"app": "else"}}}}
    assert found(Spoiled("", mesh={"policies": {"demo": [other]}})) == []


@pytest.mark.parametrize(("said", "is_tried"), [("true", True), ("True", True), ("1", True), ("false", False)])
def test_a_policy_that_is_only_tried_refuses_nothing(said: str, is_tried: bool) -> None:
    dry = {"istio.io/dry-run": said}
    tried = {**DENY_ALL, "metadata": {"name": "no", "namespace": "demo", "annotations": dry}}
    assert [f.id for f in found(Spoiled("", mesh={"policies": {"demo": [tried]}}))] == ["policy-denies"] * (
        not is_tried
    )


def test_what_policies_that_are_only_tried_would_have_refused_is_no_refusal() -> None:
    shadow = "http.inbound_0.0.0.0_8080;.rbac.istio_dry_run_deny_shadow_denied: 12"
    assert found(Spoiled("", {"stats": shadow})) == []


def test_a_gateway_with_a_host_name_is_compared_by_name() -> None:
    topology = {**TOPOLOGY, "gateway": {"name": "istio-eastwestgateway", "address": "gw.example"}}
    follows = replace(case({"hosts-wanted": "gw.example istiod.istio-system.svc"}), topology=topology)
    assert diagnose([follows], follows) == []
    stays = replace(case({"hosts-wanted": "old.example istiod.istio-system.svc"}), topology=topology)
    [finding] = diagnose([stays], stays)
    assert "follows the name old.example, and the gateway's is gw.example" in finding.what


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (200_000, "55 h")],
)
def test_a_duration_is_said_as_people_do(seconds: int, said: str) -> None:
    assert duration(timedelta(seconds=seconds)) == said


def test_the_last_line_of_the_log_that_tells_of_trouble_is_the_evidence() -> None:
    again = {"units": restarted(4), "ready": "no"}
    log = "info begins\nerror of before\nwarn Envoy exited, failed to   bind\ninfo waits"
    [finding] = found(Spoiled("", {**again, "agent-log": log}))
    assert finding.evidence == "warn Envoy exited, failed to bind"
    [quiet] = found(Spoiled("", {**again, "agent-log": "info begins"}))
    assert quiet.evidence == "nothing in /var/log/istio says why"


def test_the_worst_comes_first() -> None:
    findings = found(
        Spoiled("", {"key": "644 root", "nameservers": "192.0.2.53 53 no route", "stats": "rbac.denied: 1"})
    )
    assert [f.severity for f in findings] == ["critical", "warning", "note"]


def test_the_runbook_has_an_entry_for_each_and_no_other() -> None:
    entries = re.findall(r"^## (\S+)$", (PROJECT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert sorted(entries) == sorted(BY_ID)
    assert len(entries) == len(set(entries))


def test_each_is_provoked_on_real_machines() -> None:
    folder = PROJECT / "tests" / "e2e"
    provoked = {name for name in BY_ID if f'"{name}")' in (folder / "test_doctor.py").read_text()}
    elsewhere = {
        "farther-than-others": "test_traffic.py",
        "member-unhealthy": "test_fleet.py",
        "another-workload": "../faults/test_stolen.py",
        "registration-refused": "../faults/test_stolen.py",
    }
    for name, file in elsewhere.items():
        assert f'"{name}"' in (folder / file).read_text()
    assert provoked | set(elsewhere) == set(BY_ID)
