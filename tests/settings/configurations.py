"""Random configurations, most of them valid: built from the models, so that a new setting takes part by itself."""

import copy
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import annotated_types
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from hybridmesh.settings import models as given
from hybridmesh.settings.models import base
from tests.components.harness import KEY

Sections = dict[str, Any]

NAMES = st.sampled_from(["echo", "orders", "shop-1", "a", "x9", "n" * 40])
_TEXTS: Mapping[Any, Sequence[str]] = {
    base.Name: ["demo", "shop", "a-1", "x" * 50],
    base.PortName: ["http", "tcp-1", "a"],
    base.LabelKey: ["team", "example.com/tier"],
    base.LabelValue: ["shop", "v1", "A_b.c", "k8s"],
    base.Domain: ["cluster.local", "mesh.example.com"],
    base.EnvironmentName: ["LOG_LEVEL", "A"],
    base.Url: ["https://example.com/x.deb", "http://192.0.2.1:8000/a"],
    base.Version: ["1.31.0", "1.30.2"],
    base.Sha256: ["ab" * 32],
    base.HostKey: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"],
    base.IpAddress: ["192.0.2.7", "2001:db8::1"],
    base.Cidr: ["10.0.0.0/8", "2001:db8::/32"],
    base.MemorySize: ["64M", "512M", "1G"],
    base.EgressHost: ["./*", "istio-system/*", "*/*.example.com"],
    base.LogLevel: ["info", "warning,http:debug"],
}
_BY_MEANING = {repr(kind): values for kind, values in _TEXTS.items()}
_KEY_FILE = ".lab/dev/ssh/id_ed25519"


def _scalar(annotation: Any, metadata: Sequence[Any]) -> st.SearchStrategy[Any] | None:
    """Values of a kind that stands for itself; None for a kind that this cannot make."""
    known = _BY_MEANING.get(repr(typing.Annotated[(annotation, *metadata)])) if metadata else None
    if known is not None:
        return st.sampled_from(known)
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        low, high = (_limit(metadata, kind, name, otherwise) for kind, name, otherwise in _BOUNDS)
        return st.one_of(st.integers(low, min(high, low + 20)), st.sampled_from([low, high]))
    if annotation is str:
        return st.sampled_from(["x", "some text", "größer", "a: b"])
    return None


_BOUNDS = ((annotated_types.Ge, "ge", 0), (annotated_types.Le, "le", 10**6))


def _limit(metadata: Sequence[Any], kind: type[Any], name: str, otherwise: int) -> int:
    parts = [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
    return next((int(getattr(part, name)) for part in parts if isinstance(part, kind)), otherwise)


def values(annotation: Any, metadata: Sequence[Any] = ()) -> st.SearchStrategy[Any] | None:
    """Values of an annotation, as a stack file would have them; None where only an example will do."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return values(arguments[0], (*arguments[1:], *metadata))
    if origin in (typing.Union, types.UnionType):
        inner = [a for a in arguments if a is not type(None)]
        return values(inner[0]) if len(inner) == 1 else None
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        item = values(arguments[0])
        return None if item is None else st.lists(item, min_size=1, max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return model(annotation)
    if annotation is SecretStr or origin is not None:
        return None
    return _scalar(annotation, metadata)


def model(kind: type[BaseModel]) -> st.SearchStrategy[Any]:
    """A model as a mapping: what it needs, and now and then what it may have."""
    needed: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in kind.model_fields.items():
        found = values(field.annotation, field.metadata)
        example = st.just((field.examples or [None])[0])
        if field.is_required():
            needed[field.alias or name] = example if found is None else found
        elif found is not None:
            optional[field.alias or name] = found
    return _some(needed, optional)


@st.composite
def _some(
    draw: st.DrawFn, needed: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]
) -> dict[str, Any]:
    made = {name: draw(value) for name, value in needed.items()}
    if optional:
        for name in draw(st.lists(st.sampled_from(sorted(optional)), max_size=2, unique=True)):
            made[name] = draw(optional[name])
    return made


def only(kind: type[BaseModel], *fields: str) -> st.SearchStrategy[Any]:
    """Any of some fields of a model, by their names in a stack file: those that no rule ties to others."""
    found = {f.alias or n: values(f.annotation, f.metadata) for n, f in kind.model_fields.items()}
    return _some({}, {name: value for name in fields if (value := found.get(name)) is not None})


CHARTS = st.sampled_from([{"path": "charts"}, {"repository": "https://charts.example.com"}])
MODES = st.sampled_from(["install", "adopt"])
PROBES = st.sampled_from(
    [
        {"httpGet": {"path": "/ready", "port": 8080}},
        {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        {"exec": {"command": ["/usr/bin/test", "-e", "/run/ready"]}, "failureThreshold": 5},
    ]
)


@st.composite
def _hosts(draw: st.DrawFn, workload: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 3))):
        name = f"vm-{workload}-{number}"
        if draw(st.booleans()):
            key = draw(st.sampled_from([{"privateKeyFile": _KEY_FILE}, {"privateKey": KEY}]))
            address = f"192.0.2.{workload * 10 + number + 1}"
            made[name] = {"ssh": {"address": address, "hostKey": "ssh-ed25519 AAAA", **key}}
            if draw(st.booleans()):
                made[name]["ssh"] |= draw(only(given.Ssh, "port", "user"))
        else:
            made[name] = {"command": {"create": "make", "delete": "remove", "privateKeyFile": _KEY_FILE}}
    return made


@st.composite
def _workload(draw: st.DrawFn, number: int) -> dict[str, Any]:
    made: dict[str, Any] = {"namespace": draw(st.sampled_from(["demo", "shop", "back-end"]))}
    count = draw(st.integers(0, 3))
    if count:
        protocols = st.sampled_from(["HTTP", "HTTP2", "GRPC", "TCP"])
        made["ports"] = [{"name": f"p{i}", "port": 8080 + i, "protocol": draw(protocols)} for i in range(count)]
    where = draw(st.sampled_from(["pods", "machines", "both"]))
    if where != "machines":
        made["pods"] = {"image": "echo:1", **draw(only(given.Pods, "replicas", "command", "readySeconds"))}
    if where != "pods":
        made["machines"] = {"hosts": draw(_hosts(number))}
        made |= draw(only(given.Workload, "serviceAccount"))
        if "serviceAccount" in made:
            made["serviceAccount"] = f"account-{number}"
        if draw(st.booleans()):
            made["sidecar"] = draw(SHAPES)
    if draw(st.booleans()):
        made["probe"] = draw(PROBES)
    return made


SHAPES = only(given.ProxyShape, "dnsCapture", "concurrency", "logLevel", "accessLog", "egress")


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
    if any("machines" in workload for workload in sections["workloads"].values()):
        package = {"url": "http://192.0.2.1/x.deb", "sha256": "ab" * 32, "version": "1.30.1"}
        sections["sidecar"] = {"package": package, **draw(SHAPES), **draw(only(given.Sidecar, "limits", "timeouts"))}
    for name, workload in sections["workloads"].items():
        parts = [part for part in ("pods", "machines") if part in workload]
        if workload.get("ports") and draw(st.booleans()):
            first = draw(st.integers(0, 100)) if len(parts) == 2 else 100
            versions = {"pods": "k8s", "machines": "vm"}
            sections.setdefault("routing", {})[name] = {
                "subsets": {part: {"version": versions[part]} for part in parts},
                "weights": dict(zip(parts, (first, 100 - first), strict=False)),
            }
    if draw(st.booleans()):
        sections["observability"] = {"image": "metrics:1", "scrapers": ["10.0.0.0/8"]} | draw(
            only(given.Observability, "scrapeSeconds", "delivery", "imagePullPolicy", "alerts", "dashboardLabels")
        )
    if draw(st.booleans()):
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
)


@st.composite
def spoilt(draw: st.DrawFn) -> Sections:
    """A good one with one to three places changed for nonsense, taken away, or added to."""
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
            what = draw(st.sampled_from(["replace", "remove", "add"]))
            if what == "remove":
                del holder[key]
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
