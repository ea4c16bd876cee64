"""Random configurations, most of them valid: every section of a stack file, and what ties its parts together."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from hybridmesh.settings import models as given
from tests.components.harness import KEY
from tests.settings.values import only

Sections = dict[str, Any]

NAMES = st.sampled_from(["echo", "orders", "shop-1", "a", "x9", "n" * 40])
NETWORKS = ("datacenter", "edge")
PARTS: Mapping[str, str] = {"pods": "k8s", "machines": "vm"}
"""The version that each part of a workload has by default, hence its subset."""
_KEY_FILE = ".lab/dev/ssh/id_ed25519"
CHARTS = st.sampled_from([{"path": "charts"}, {"repository": "https://charts.example.com"}])
MODES = st.sampled_from(["install", "adopt"])
PROBES = st.sampled_from(
    [
        {"httpGet": {"path": "/ready", "port": 8080}},
        {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        {"exec": {"command": ["/usr/bin/test", "-e", "/run/ready"]}, "failureThreshold": 5},
    ]
)
LOCALITIES = st.sampled_from(
    [
        {"failover": [{"from": "lab", "to": "edge"}, {"from": "edge", "to": "lab"}]},
        {"distribute": [{"from": "lab/a/*", "to": {"lab/a/*": 20, "lab/b/*": 80}}]},
    ]
)
CALLS = st.sampled_from([{}, {"methods": ["GET"], "paths": ["/orders", "/orders/*"]}, {"methods": ["POST"]}])
SHAPES = only(given.ProxyShape, "dnsCapture", "concurrency", "logLevel", "accessLog", "egress")
POD_SHAPES = only(given.ProxyShape, "accessLog", "egress")


@st.composite
def _host(draw: st.DrawFn, address: str, *, static: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = draw(only(given.Host, "locality", "weight") if static else only(given.Host, "locality"))
    if draw(st.booleans()):
        key = draw(st.sampled_from([{"privateKeyFile": _KEY_FILE}, {"privateKey": KEY}]))
        made["ssh"] = {
            "address": address,
            "hostKey": "ssh-ed25519 AAAA",
            **key,
            **draw(only(given.Ssh, "port", "user")),
        }
    else:
        made["command"] = {"create": "make", "delete": "remove", "privateKeyFile": _KEY_FILE}
    return made


@st.composite
def _machines(draw: st.DrawFn, workload: int) -> dict[str, Any]:
    made: dict[str, Any] = draw(only(given.Machines, "registration", "units"))
    static = made.get("registration") == "static"
    made["hosts"] = {
        f"vm-{workload}-{number}": draw(_host(f"192.0.2.{workload * 10 + number + 1}", static=static))
        for number in range(draw(st.integers(1, 3)))
    }
    return made


@st.composite
def _service(draw: st.DrawFn, number: int, ports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What makes the host name known: a connection by TCP cannot say which of two names it means."""
    hosts = [f"w{number}.vm.internal", f"other-{number}.vm.internal"]
    count = 1 if any(port["protocol"] == "TCP" for port in ports) else draw(st.integers(1, 2))
    return {"kind": "ServiceEntry", "hosts": hosts[:count]}


@st.composite
def _workload(draw: st.DrawFn, number: int) -> dict[str, Any]:
    made: dict[str, Any] = {"namespace": draw(st.sampled_from(["demo", "shop", "back-end"]))}
    count = draw(st.integers(0, 3))
    if count:
        protocols = st.sampled_from(["HTTP", "HTTP2", "GRPC", "TCP", "TLS"])
        made["ports"] = [{"name": f"p{i}", "port": 8080 + i, "protocol": draw(protocols)} for i in range(count)]
        if draw(st.integers(0, 2)) == 0:
            made["service"] = draw(_service(number, made["ports"]))
    where = draw(st.sampled_from(["pods", "machines", "both"]))
    if where != "machines":
        made["pods"] = {"image": "echo:1", **draw(only(given.Pods, "replicas", "command", "env", "dnsCapture"))}
    if where != "pods":
        made["machines"] = draw(_machines(number))
        if draw(st.booleans()):
            made["serviceAccount"] = f"account-{number}"
    if draw(st.booleans()):
        made["sidecar"] = draw(POD_SHAPES if where == "pods" else SHAPES)
    if draw(st.booleans()):
        made["probe"] = draw(PROBES)
    return made


@st.composite
def _routing(draw: st.DrawFn, workload: Mapping[str, Any]) -> dict[str, Any]:
    """All that a routing can say, as far as it goes with the workload's parts and ports."""
    parts = [part for part in PARTS if part in workload]
    made: dict[str, Any] = draw(only(given.Routing, "connectionPool", "outlierDetection", "tls"))
    first = draw(st.one_of(st.integers(0, 100), st.sampled_from([0, 100]))) if len(parts) == 2 else 100
    if draw(st.booleans()):
        made["subsets"] = {part: {"version": PARTS[part]} for part in parts}
    names = [part if "subsets" in made else PARTS[part] for part in parts]
    made["weights"] = dict(zip(names, (first, 100 - first), strict=False))
    if any(port["protocol"] not in ("TCP", "TLS") for port in workload["ports"]):
        made |= draw(only(given.Routing, "timeout"))
        if draw(st.booleans()):
            made["match"] = [{"headers": {"x-tester": "yes"}, "subset": draw(st.sampled_from(names))}]
        if len(names) == 2 and draw(st.booleans()):
            made["mirror"] = {"subset": min(names, key=made["weights"].__getitem__)}
            made["mirror"] |= draw(only(given.Mirror, "percentage"))
    if made.get("outlierDetection", {}).get("maxEjectionPercent") != 0 and draw(st.booleans()):
        made["loadBalancer"] = {"localityLbSetting": draw(LOCALITIES)}
    return made


@st.composite
def _access(draw: st.DrawFn, name: str, workloads: Mapping[str, Any]) -> dict[str, Any]:
    """Rules that do not cover each other: for a client none."""
    ports = workloads[name].get("ports", [])
    if not ports:
        return {}
    http = all(port["protocol"] not in ("TCP", "TLS") for port in ports)
    callers = st.sampled_from(
        [
            {"from": [draw(st.sampled_from(sorted(workloads)))]},
            {"namespaces": ["elsewhere"]},
            {"principals": ["cluster.local/ns/far/sa/stranger"]},
        ]
    )
    calls = draw(CALLS) if http else {}
    allow = [{**draw(callers), **calls}] if draw(st.booleans()) else []
    deny = [{"namespaces": ["bad"], **calls}] if draw(st.booleans()) else []
    default = "allow" if deny and not allow and draw(st.booleans()) else "deny"
    return {"default": default, **({"allow": allow} if allow else {}), **({"deny": deny} if deny else {})}


@st.composite
def _networks(draw: st.DrawFn, sections: Sections) -> dict[str, Any]:
    """Networks of VMs; an adopted istiod would have to know their gateways already."""
    made: dict[str, Any] = {}
    remote = [w for w in sections["workloads"].values() if "machines" in w and draw(st.booleans())]
    for workload, name in zip(remote, NETWORKS, strict=False):
        workload["network"] = name
        hosts = {f"gw-{name}-{n}": draw(_host(f"198.51.100.{len(made) * 10 + n + 1}")) for n in range(2)}
        ways: list[dict[str, Any]] = [{"direct": True}]
        if sections["controlPlane"]["mode"] == "install":
            ways.append({"gateway": {"hosts": hosts}})
        if not workload.get("ports"):
            ways.append({})
        made[name] = draw(st.sampled_from(ways))
    return made


@st.composite
def good(draw: st.DrawFn) -> Sections:
    """A configuration that nothing is wrong with, unless two of its settings do not go together."""
    plane: dict[str, Any] = {"mode": draw(MODES), "version": draw(st.sampled_from(["1.31.0", "1.30.3"]))}
    gateway: dict[str, Any] = {"mode": draw(MODES)}
    if "install" in (plane["mode"], gateway["mode"]):
        plane["charts"] = draw(CHARTS)
    plane |= draw(only(given.ControlPlane, "revision", "meshId", "trustDomain", "timeouts"))
    gateway |= draw(only(given.Gateway, "name", "address", "installSeconds"))
    sections: Sections = {
        "cluster": {"name": "c", "network": "n", "kubeconfig": ".lab/dev/kubeconfig"}
        | draw(only(given.Cluster, "name", "network", "domain")),
        "controlPlane": plane,
        "gateway": gateway,
        "workloads": {
            name: draw(_workload(number))
            for number, name in enumerate(draw(st.lists(NAMES, min_size=0, max_size=3, unique=True)))
        },
    }
    workloads: dict[str, Any] = sections["workloads"]
    if any("machines" in workload for workload in workloads.values()):
        one = {"url": "http://192.0.2.1/x.deb", "sha256": "ab" * 32, "version": "1.30.1"}
        kinds = {"version": "1.30.1", "files": {"deb-amd64": {"sha256": "ab" * 32}, "rpm-arm64": {"sha256": "cd" * 32}}}
        sections["sidecar"] = {
            "package": draw(st.sampled_from([one, kinds])),
            **draw(SHAPES),
            **draw(only(given.Sidecar, "limits", "timeouts", "environment", "tokenSeconds")),
            "upgrade": draw(st.sampled_from([{}, {"batchSize": 3}, {"cutOffSeconds": 0}])),
        }
        networks = draw(_networks(sections))
        if networks:
            sections["networks"] = networks
    for name, workload in workloads.items():
        if workload.get("ports") and draw(st.booleans()):
            sections.setdefault("routing", {})[name] = draw(_routing(workload))
        if draw(st.integers(0, 3)) == 0:
            sections.setdefault("access", {})[name] = draw(_access(name, workloads))
        if draw(st.integers(0, 4)) == 0:
            policy = draw(only(given.TrafficPolicy, "connectionPool", "outlierDetection", "tls"))
            sections.setdefault("namespaces", {})[workload["namespace"]] = {"trafficPolicy": policy}
    if draw(st.booleans()):
        sections["observability"] = {"image": "metrics:1", "scrapers": ["10.0.0.0/8"]} | draw(
            only(given.Observability, "scrapeSeconds", "delivery", "imagePullPolicy", "alerts", "dashboardLabels")
        )
    if draw(st.booleans()):
        sections["versions"] = draw(only(given.Versions, "accept"))
    # Rules by identity need callers that have one.
    if "access" not in sections and draw(st.booleans()):
        sections["mtls"] = draw(st.sampled_from(["STRICT", "PERMISSIVE", "none"]))
    return sections


NONSENSE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=True),
    st.text(max_size=8),
    st.sampled_from(
        [[], {}, [[]], {"fromFile": "gone"}, {"fromFile": 1}, {"secure": "v1:x"}, "\x00", "-", "*", [None]]
    ),
).map(copy.deepcopy)  # what is spoilt once may be spoilt again


@st.composite
def spoilt(draw: st.DrawFn) -> Sections:
    """A good one with one to three places changed for nonsense, taken away, added to, or put one level down."""
    sections = copy.deepcopy(draw(good()))  # parts of it are shared by all that are drawn
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = sections
        while True:
            keys: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(holder[key], dict | list) and holder[key] and draw(st.integers(0, 4)):
                holder = holder[key]
                continue
            what = draw(st.sampled_from(["replace", "remove", "add", "wrap"]))
            if what == "remove":
                del holder[key]
            elif what == "wrap":
                holder[key] = draw(st.sampled_from([[holder[key]], {"x": holder[key]}]))
            elif what == "add" and isinstance(holder, dict):
                holder[draw(st.text(max_size=6))] = draw(NONSENSE)
            else:
                holder[key] = draw(NONSENSE)
            break
    return sections


@st.composite
def configurations(draw: st.DrawFn) -> Sections:
    """Four good ones to one that is spoilt."""
    return draw(spoilt() if draw(st.integers(0, 4)) == 0 else good())
