"""A machine that is well, as the probe prints it, and a mesh that is well; each test spoils what it is about."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hybridmesh.ops.diagnoses import Case
from hybridmesh.ops.facts import MachineFacts, certificates, facts
from hybridmesh.ops.mesh import Endpoint, MeshFacts

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
IDENTITY = "spiffe://cluster.local/ns/demo/sa/echo"
HOST = "echo.demo.svc.cluster.local"
ADDRESS = "192.0.2.11"
TOPOLOGY: dict[str, Any] = {
    "cluster": {"name": "embedded", "network": "embedded", "kubeconfig": "kubeconfig", "context": None},
    "controlPlane": {
        "mode": "install", "namespace": "istio-system", "revision": "default", "version": "1.31.0",
        "trustDomain": "cluster.local", "discoveryHost": "istiod.istio-system.svc",
    },
    "gateway": {"name": "istio-eastwestgateway", "address": "192.0.2.100"},
    "networks": {},
    "workloads": {
        "client": {
            "namespace": "demo", "host": None, "ports": [], "machines": [], "weights": None, "subsets": None,
            "pods": {"replicas": 1, "version": "k8s", "image": "echo"},
            "identity": "spiffe://cluster.local/ns/demo/sa/client", "serviceAccount": "client",
        },
        "echo": {
            "namespace": "demo", "host": HOST, "machines": ["vm-1"],
            "ports": [{"name": "http", "port": 8080, "target": 8080, "protocol": "HTTP"}],
            "pods": {"replicas": 2, "version": "k8s", "image": "echo"}, "weights": {"k8s": 90, "vm": 10},
            "subsets": {"k8s": {"version": "k8s"}, "vm": {"version": "vm"}},
            "identity": IDENTITY, "serviceAccount": "echo",
        },
    },
    "machines": {
        "vm-1": {
            "workload": "echo", "namespace": "demo", "network": "embedded", "version": "vm", "registration": "auto",
            "locality": None, "kind": "ssh", "address": ADDRESS, "meshAddress": ADDRESS, "port": 22, "user": "root",
            "identity": IDENTITY, "entry": f"demo/echo-{ADDRESS}-embedded", "synced": True,
            "certificateExpiry": "2026-11-26T11:00:00Z", "sidecarVersion": "1.31.0", "generation": "0a1b2c",
            "hostKey": "ssh-ed25519 AAAA",
            "privateKeyFile": "id_ed25519",
        }
    },
}  # fmt: skip
LABELS = {
    "app": "echo",
    "version": "vm",
    "service.istio.io/canonical-name": "echo",
    "service.istio.io/canonical-revision": "vm",
}


@functools.cache
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def certificate(
    organization: str = "mesh",
    *,
    begin: datetime = NOW - timedelta(hours=1),
    end: datetime = NOW + timedelta(hours=23),
    identity: str = "",
    host: str = "",
) -> str:
    """A certificate, PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)])
    builder = x509.CertificateBuilder(name, name, _key().public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(begin).not_valid_after(end)
    names = [x509.UniformResourceIdentifier(identity)] if identity else []
    hosts = [x509.DNSName(host)] if host else []
    if names or hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([*names, *hosts]), critical=True)
    return builder.sign(_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def private_key() -> str:
    """Of every certificate, PEM."""
    form, closed = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return _key().private_bytes(serialization.Encoding.PEM, form, closed).decode()


def claims(expires: datetime) -> str:
    """A token's claims, as the probe prints them."""
    document = {"sub": "system:serviceaccount:demo:echo", "aud": ["istio-ca"], "exp": int(expires.timestamp())}
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def unit(name: str = "istio.service", **changes: str) -> str:
    """A unit as systemctl shows it."""
    values = {
        "Result": "success", "NRestarts": "0", "ExecMainStatus": "0", "Id": name, "LoadState": "loaded",
        "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled",
    }  # fmt: skip
    return "\n".join(f"{key}={value}" for key, value in {**values, **changes}.items())


TRACKER = unit("hybrid-mesh-conntrack.service", SubState="exited")
TRACKED = "-A HYBRID_MESH -m conntrack --ctstate INVALID -j RETURN"
CERTS = {
    "certificates": [
        {
            "cert_chain": [
                {"subject_alt_names": [{"uri": IDENTITY}], "expiration_time": "2026-11-26T11:00:00Z"},
            ]
        }
    ]
}
LISTENERS = (
    "\n".join(f'0.0.0.0:{port} users:(("envoy",pid=7,fd=1))' for port in (15000, 15001, 15006, 15021, 15090))
    + '\n*:15020 users:(("pilot-agent",pid=6,fd=9))\n0.0.0.0:22 users:(("sshd",pid=1,fd=3))'
    + '\n0.0.0.0:8080 users:(("echo-app",pid=3,fd=3))\n'
)
ENVIRONMENT = "ISTIO_META_CLUSTER_ID='embedded'\nISTIO_META_NETWORK='embedded'\nISTIO_META_DNS_CAPTURE='true'\n"
MANIFEST = (
    "package istio-sidecar\tinstalled 1.31.0\nfile /etc/istio/config/mesh\t0123456789abcdef 640 root:istio-proxy\n"
    "unit istio.service\tenabled\nfile /etc/systemd/system/istio.service.d/hybrid-mesh-limits.conf\tabsent\n"
    "firewall of 15020 and 15090, IPv4\topen to itself, 192.0.2.0/24\n"
)


def probe_output(changes: Mapping[str, str] | None = None) -> str:
    """What the probe prints, some sections changed."""
    sections = {
        "clock": str(int(NOW.timestamp())),
        "system": "vm-1\nx86_64\ndebian\n12",
        "units": f"{unit()}\n\n{TRACKER}",
        "starting": "",
        "addresses": f"127.0.0.1\n{ADDRESS}\nfe80::1",
        "accepted": "clock",
        "version": "1.31.0",
        "joined": "yes",
        "generation": "0a1b2c",
        "cluster.env": ENVIRONMENT,
        "hosts-block": "192.0.2.100 istiod.istio-system.svc",
        "hosts-wanted": "192.0.2.100 istiod.istio-system.svc",
        "certificate": certificate(identity=IDENTITY),
        "root-certificate": certificate(),
        "key": "600 istio-proxy",
        "claims": claims(NOW - timedelta(hours=1)),
        "certs": json.dumps(CERTS),
        "ready": "yes",
        "rules": f":ISTIO_INBOUND - [0:0]\n-A OUTPUT -j ISTIO_OUTPUT\n{TRACKED}",
        "listeners": LISTENERS,
        "tracked": "900\n65536",
        "connections": "192.0.2.100:15012",
        "gateways": "192.0.2.100 15012 open",
        "handshakes": "192.0.2.100 15012 open",
        "nameservers": "192.0.2.53 53 open",
        "mesh-name": "240.240.0.1",
        "disks": "/ 10000000 5000000\n/run 800000 799000",
        "inodes": "/ 100000 90000",
        "read-only": "",
        "stats": "server.uptime: 100",
        "outbound": f"outbound|8080|vm|{HOST}::192.0.2.11:8080::rq_total::7",
        "inbound": f"inbound|8080 {ADDRESS}:8080\ninbound|8080 default_priority",
        "denied": "",
        "unmatched": "",
        "manifest": MANIFEST,
        "manifest-recorded": MANIFEST,
        "agent-log": "2026-11-25T11:00:00Z info Envoy proxy is ready",
        "agent-errors": "",
        "unread": "",
        "end": str(int(NOW.timestamp())),
    }
    lines = ((name, text.rstrip("\n")) for name, text in {**sections, **(changes or {})}.items())
    return "".join(f"@@ {name}\n" + (f"{text}\n" if text else "") for name, text in lines)


def machine_facts(changes: Mapping[str, str] | None = None) -> MachineFacts:
    return facts(probe_output(changes))


def entry(**changes: Any) -> dict[str, Any]:
    """The machine's WorkloadEntry."""
    made: dict[str, Any] = {
        "metadata": {
            "name": f"echo-{ADDRESS}-embedded",
            "namespace": "demo",
            "labels": dict(LABELS),
            "annotations": {
                "istio.io/connectedAt": "2026-11-25T11:00:00Z",
                "proxy.istio.io/health-checks-enabled": "true",
            },
        },
        "spec": {"address": ADDRESS, "labels": dict(LABELS), "ports": {"http": 8080}},
        "status": {"conditions": [{"type": "Healthy", "status": "True"}]},
    }
    return {**made, **changes}


UNHEALTHY = {"conditions": [{"type": "Healthy", "status": "False", "message": "status 503"}]}
"""The status of a WorkloadEntry whose app does not answer its probe."""


def member(**changes: Any) -> dict[str, Any]:
    """The WorkloadEntry of a machine that joined by itself."""
    made = entry(**changes)
    made["metadata"] = {
        **made["metadata"],
        "name": "echo-192.0.2.77",
        "annotations": {**made["metadata"]["annotations"], "istio.io/autoRegistrationGroup": "echo"},
    }
    made["spec"] = {**made["spec"], "address": "192.0.2.77", "serviceAccount": "echo"}
    return made


GROUP = {"spec": {"metadata": {"labels": {"app": "echo", "version": "vm"}}, "template": {"ports": {"http": 8080}}}}


def state(**changes: str) -> dict[str, Any]:
    """The machine's proxy in /debug/syncz."""
    both = {"sent": "n1", "acked": "n1"}
    prefix = "type.googleapis.com/envoy.config."
    resources = {f"{prefix}cluster.v3.Cluster": both, f"{prefix}listener.v3.Listener": {**both, **changes}}
    return {"proxy": "vm-1.demo", "resources": resources}


def endpoint(address: str, version: str, *, healthy: bool = True) -> Endpoint:
    return Endpoint(service=HOST, address=address, labels={"app": "echo", "version": version}, healthy=healthy)


def mesh_facts(**changes: Any) -> MeshFacts:
    known: dict[str, Any] = {
        "entries": {f"demo/echo-{ADDRESS}-embedded": entry()},
        "groups": {"demo/echo": GROUP},
        "policies": {"demo": []},
        "states": {"demo": [state()]},
        "endpoints": [endpoint("10.0.0.5", "k8s"), endpoint(ADDRESS, "vm")],
        "istiods": {"default": 1},
        "gateways": 1,
        "roots": {"demo": certificates(certificate())},
        "requests": {f"outbound|8080|k8s|{HOST}": 893, f"outbound|8080|vm|{HOST}": 107, "xds-grpc": 4},
        "certificates": {"vm-1": NOW + timedelta(hours=23)},
    }
    return MeshFacts(**{**known, **changes})


def case(probe: Mapping[str, str] | None = None, mesh: Mapping[str, Any] | None = None, *, refusal: str = "") -> Case:
    """The machine, something about it or its mesh changed."""
    return Case(
        name="vm-1",
        topology=TOPOLOGY,
        mesh=mesh_facts(**(mesh or {})),
        now=NOW,
        facts=None if refusal else machine_facts(probe),
        refusal=refusal,
        asked=(NOW - timedelta(seconds=1), NOW + timedelta(seconds=1)),
        mesh_name=HOST,
    )
