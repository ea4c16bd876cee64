"""Generated inputs: WorkloadGroups and mesh configs as people, tools and accidents write them."""

import re
from dataclasses import dataclass, replace
from typing import Any

import yaml
from hypothesis import assume
from hypothesis import strategies as st

from hybridmesh.istio import goyaml
from hybridmesh.istio.bootstrap import go_json
from hybridmesh.istio.schema import ENUMS, MESSAGES

NAMESPACES = ("bootstrap-demo", "bootstrap-9")
SERVICE_ACCOUNTS = ("default", "echo", "db.reader")
REVISIONS = ("default", "canary", "1-20-0")

no_surrogates_or_nul = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
ISTIOCTL_BREAKS = "\x7f\ufeff\ufffe\uffff" + "".join(map(chr, range(0x80, 0xA0)))
"""Characters that istioctl writes raw into JSON that it reads as YAML: it fails, or turns them into blanks."""
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=ISTIOCTL_BREAKS), max_size=20)
"""Any other text at all."""
word = st.from_regex(re.compile(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", re.ASCII), fullmatch=True)
quotable = st.sampled_from(
    [
        "",
        "y",
        "no",
        "~",
        "null",
        "007",
        "0o17",
        "0x1F",
        "1_000",
        "1e3",
        "12:30",
        "2024-01-01",
        ".5",
        "-.inf",
        "<<",
        "a b",
    ]
    + [
        "w",
        "ww",
        "\\",
        "it's",
        '"',
        "$HOME `id` $(id)",
        "<a&b>",
        "a#b",
        "a: b",
        "- a",
        "{}",
        "é",
        "日本",
        "🚀",
        " x ",
        "x\n",
    ]
    + ["\u2028", "\x00", "\x1b", "\ue000", "\U0010ffff", "\t", "a\\nb", "w=w,@%+:./-"]
)
tricky = st.text(st.sampled_from("<>&'\"\\ $`{}#:=w\n\u2028é日🚀"), max_size=8)
value = st.one_of(word, quotable, tricky, text)
label_key = st.one_of(
    st.sampled_from(["app", "version", "app.kubernetes.io/name", "app.kubernetes.io/version"]),
    st.sampled_from(["service.istio.io/canonical-name", "service.istio.io/canonical-revision", "istio.io/rev"]),
    value,
)
labels = st.dictionaries(label_key, value, max_size=5)
variable = st.from_regex(re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,12}", re.ASCII), fullmatch=True)
metadata_key = st.one_of(
    variable,
    variable.map("ISTIO_META_{}".format),
    st.sampled_from(["ISTIO_META_DNS_CAPTURE", "CANONICAL_SERVICE", "ISTIO_META_POD_PORTS", "TRUST_DOMAIN", "CA_ADDR"]),
    st.sampled_from(["ISTIO_META_AUTO_REGISTER_GROUP", "ISTIO_SVC_IP", "FOO", "FOO1", "FOO_"]),
)
port = st.integers(1, 65535)
duration = st.one_of(
    st.sampled_from(
        ["0", "0s", "5s", "5.000s", "1.5h", "-3s", "+2m", "250ms", "1h2m3.000004s", "7us", "7µs", ".5s", "1.s"]
    ),
    st.tuples(st.integers(0, 10**6), st.sampled_from(["ns", "us", "ms", "s", "m"])).map(lambda t: f"{t[0]}{t[1]}"),
    st.tuples(st.integers(0, 999), st.integers(0, 10**9)).map(lambda t: f"{t[0]}.{t[1]:09d}s"),
)


def _integer(low: int, high: int) -> st.SearchStrategy[Any]:
    numbers = st.one_of(
        st.integers(low, high), st.sampled_from([0, 1, low, high, 15090, 15021]).filter(lambda n: n >= low)
    )
    return st.one_of(numbers, numbers.map(str))


def _scalar(kind: str) -> st.SearchStrategy[Any]:
    if kind in ENUMS:
        return st.one_of(st.sampled_from(list(ENUMS[kind])), st.sampled_from([*ENUMS[kind].values(), 77]))
    return {
        "string": value,
        "bool": st.booleans(),
        "BoolValue": st.booleans(),
        "int32": _integer(-(2**31), 2**31 - 1),
        "Int32Value": _integer(-(2**31), 2**31 - 1),
        "uint32": _integer(0, 2**32 - 1),
        "Int64Value": _integer(-(2**63), 2**63 - 1),
        "double": st.one_of(
            st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["NaN", "-Infinity", 5, "1e3"])
        ),
        "Duration": duration,
    }[kind]


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


@st.composite
def message(draw: st.DrawFn, name: str, most: int = 6) -> dict[str, Any]:
    """A message with up to `most` of its fields, spelled in either way."""
    fields = draw(st.lists(st.sampled_from(list(MESSAGES[name]) or [""]), max_size=most, unique=True))
    drawn: dict[str, Any] = {}
    for field in filter(None, fields):
        *modifier, kind = MESSAGES[name][field].split()
        one = message(kind, 3) if kind in MESSAGES else _scalar(kind)
        if field == "proxy_metadata":
            one = st.dictionaries(metadata_key, value, max_size=4)
        elif modifier == ["repeated"]:
            one = st.lists(one, max_size=3)
        elif modifier == ["map"]:
            one = st.dictionaries(value.filter(_no_merge), one, max_size=3)
        drawn[draw(st.sampled_from([field, camel(field)]))] = draw(st.one_of(one, one, one, st.none()))
    if draw(st.integers(0, 9)) == 0:
        drawn[draw(st.sampled_from(["drainduration", "fromTheFuture", "discovery-address"]))] = draw(value)
    return drawn


def spelled(data: Any) -> st.SearchStrategy[str]:
    """`data` as YAML text, in one of several styles; each is read alike by all who read YAML as Go does."""
    return st.sampled_from(
        [
            goyaml.dump(data),
            go_json(data),
            yaml.safe_dump(data, default_style='"', allow_unicode=True),
            "# a comment\n---\n" + goyaml.dump(data) + "---\nanother: document\n",
        ]
    )


annotation = message("ProxyConfig").flatmap(spelled)


@dataclass(frozen=True)
class Case:
    """One run of istioctl, and of ours."""

    group: str
    mesh_config: str
    revision: str
    cluster_id: str
    ingress_ip: str
    internal_ip: str
    external_ip: str
    auto_register: bool
    dns_capture: bool


PLAIN = Case(
    group="""
kind: WorkloadGroup
metadata: {name: echo, namespace: bootstrap-demo}
spec: {metadata: {labels: {app: echo}}, template: {serviceAccount: echo, ports: {http: 8080}}}
""",
    mesh_config="{}",
    revision="default",
    cluster_id="one",
    ingress_ip="10.0.0.1",
    internal_ip="",
    external_ip="",
    auto_register=False,
    dns_capture=True,
)

_ODD_MESHES = (
    "trustDomain: {}",
    "defaultConfig: {}",
    "defaultConfig:\n  meshId: {}",
    "defaultConfig:\n  statusPort: {}",
    "defaultConfig:\n  drainDuration: {}",
    "defaultConfig:\n  concurrency: {}",
    "defaultConfig:\n  tracing:\n    sampling: {}",
    "defaultConfig:\n  tracing:\n    stackdriver:\n      maxNumberOfAttributes: {}",
    "defaultConfig:\n  holdApplicationUntilProxyStarts: {}",
    "defaultConfig:\n  interceptionMode: {}",
    "defaultConfig:\n  proxyMetadata:\n    FOO: {}",
    "defaultConfig:\n  proxyMetadata: {}",
    "defaultConfig:\n  runtimeValues:\n    {}: x",
    "defaultConfig:\n  extraStatTags:\n  - {}",
    "defaultConfig:\n  extraStatTags: {}",
    "defaultConfig: &a\n  configPath: a\n  <<: {{configPath: b, binaryPath: b}}\n  binaryPath: {}",
    "x: &a {{configPath: b}}\ndefaultConfig:\n  meshId: m\n  <<: [*a, {{meshId: {}}}]",
    "{}",
)
_ODD_GROUPS = (
    "spec: {}",
    "spec:\n  metadata:\n    labels:\n      app: {}",
    "spec:\n  metadata:\n    labels:\n      {}: x",
    "spec:\n  metadata:\n    labels: {}",
    "spec:\n  metadata:\n    annotations:\n      proxy.istio.io/config: {}",
    "spec:\n  template: {}",
    "spec:\n  template:\n    network: {}",
    "spec:\n  template:\n    ports:\n      {}: 80",
    "spec:\n  template:\n    weight: {}",
    "spec:\n  probe: {}",
    "spec:\n  probe:\n    httpGet:\n      port: {}",
    "spec:\n  probe:\n    httpGet: {{}}\n    tcpSocket: {}",
    "spec:\n  probe:\n    exec:\n      command: [a, {}]",
)
odd = st.one_of(
    st.from_regex(re.compile(r"[-+.0-9xobEe_yYnNtruefalsoTF~:]{1,8}", re.ASCII), fullmatch=True),
    st.from_regex(re.compile(r"[-+]?0?[xob]?[0-9_]{1,22}(\.[0-9]*)?(e[-+]?[0-9]{1,3})?", re.ASCII), fullmatch=True),
    st.tuples(quotable, st.sampled_from(["'", '"'])).map(
        lambda t: t[1] + t[0].translate({10: "n", 39: "q", 34: "q"}) + t[1]
    ),
    duration,
    st.sampled_from(
        [
            "",
            "~",
            "yes",
            "'5'",
            '"5s"',
            "!!str 5",
            '!!int "5"',
            "!!float 5",
            "!!bool yes",
            "!!int x",
            "!foo x",
            "!!null x",
        ]
        + [
            "[1]",
            "[]",
            "{}",
            "{a: 1}",
            "{1: 2}",
            "{true: x}",
            "&b x",
            "*b",
            "<<",
            "'<<'",
            ".inf",
            "-.inf",
            ".nan",
            "NaN",
        ]
        + [
            "MUTUAL_TLS",
            "TPROXY",
            "1",
            "2",
            "77",
            "-1",
            "1.0",
            "8e3",
            "'8e3'",
            "'1.0'",
            "4294967296",
            "18446744073709551616",
        ]
        + [
            "'{meshId: x}'",
            "'meshId: 5'",
            "'a: b: c'",
            "'[1]'",
            "'%'",
            "@a",
            "`a`",
            "a #b",
            "a: b",
            "- a",
            "? a",
            "|",
            ">",
        ]
        + [
            "'statusPort: 0'",
            '"\\ud800"',
            '"\\q"',
            "2024-01-01",
            "12:30:45",
            "1_000",
            "0o17",
            "017",
            "08",
        ]
        + [
            "9223372036854775808",
            "-9223372036854775809",
            "+5",
            "+0x1F",
            "-0b1",
            "-0",
            "0.0",
            "1e999",
            "1e22",
            "0x1p-2",
            ".5",
        ]
    ),
)


@st.composite
def oddly_spelled(draw: st.DrawFn) -> Case:
    """A case with one value spelled in a way that readers of YAML may differ on."""
    spelling = draw(odd)
    template = draw(st.sampled_from(_ODD_MESHES + _ODD_GROUPS))
    plain = goyaml.resolve(spelling.removeprefix("!!float").strip("'\" "))
    assume(not (plain == 0 and "-" in spelling))  # to Go, -0 is not a uint32
    if "{}: " in template:
        assume(not (isinstance(plain, float) or spelling.startswith("!!float")))  # as keys we refuse them
    if "{{" in template:
        assume(not spelling.endswith(":"))  # in braces: PyYAML and Go differ on which colon ends a key
    if template in _ODD_MESHES:
        return replace(PLAIN, mesh_config=template.format(spelling))
    spec = template.format(spelling)
    return replace(PLAIN, group=f"metadata: {{name: echo, namespace: {NAMESPACES[0]}}}\n{spec}\n")


@st.composite
def groups(draw: st.DrawFn) -> dict[str, Any]:
    """A WorkloadGroup that can exist."""
    metadata: dict[str, Any] = {"name": draw(word.filter(_subdomain)), "namespace": draw(st.sampled_from(NAMESPACES))}
    if draw(st.booleans()):
        metadata["labels"] = draw(labels)
    annotations = st.dictionaries(word, value, max_size=2)
    for where in draw(st.lists(st.sampled_from(["group", "spec"]), max_size=2, unique=True)):
        drawn = {**draw(annotations), "proxy.istio.io/config": draw(st.one_of(annotation, st.just("")))}
        if where == "group":
            metadata["annotations"] = drawn
        else:
            metadata["spec"] = drawn
    spec_annotations = metadata.pop("spec", None)
    spec: dict[str, Any] = {
        "template": {
            "serviceAccount": draw(st.sampled_from(SERVICE_ACCOUNTS)),
            **draw(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "network": value,
                        "ports": st.dictionaries(value, st.one_of(port, port.map(str), st.just(8080)), max_size=4),
                        "labels": labels,
                        "weight": st.integers(0, 100),
                        "locality": word,
                        "address": value,
                    },
                )
            ),
        }
    }
    if draw(st.booleans()):
        spec["template"]["service_account"] = spec["template"].pop("serviceAccount")
    if draw(st.booleans()) or spec_annotations:
        spec["metadata"] = {"labels": draw(labels), "annotations": spec_annotations}
    if draw(st.booleans()):
        spec["probe"] = draw(message("ReadinessProbe", 4))
    return {
        "apiVersion": f"networking.istio.io/{draw(st.sampled_from(['v1', 'v1beta1', 'v1alpha3']))}",
        "kind": "WorkloadGroup",
        "metadata": metadata,
        "spec": spec,
    }


@st.composite
def mesh_configs(draw: st.DrawFn) -> dict[str, Any]:
    """A mesh config; `defaultConfig` has `proxyMetadata` where it is there at all: istioctl can crash without."""
    mesh: dict[str, Any] = {"rootNamespace": "istio-system", "accessLogFile": "/dev/stdout"}
    if draw(st.booleans()):
        mesh[draw(st.sampled_from(["trustDomain", "trust_domain"]))] = draw(value)
    if draw(st.integers(0, 9)):
        config = {"proxyMetadata": {"MESH": "1"}, **draw(message("ProxyConfig"))}
        config.pop("proxy_metadata", None)
        config["proxyMetadata"] = {"MESH": "1", **(config["proxyMetadata"] or {})}
        mesh[draw(st.sampled_from(["defaultConfig", "default_config"]))] = config
    return mesh


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A case that istioctl accepts."""
    address = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
    svc_ip = draw(st.sampled_from(["", "internal", "external"]))
    return Case(
        group=draw(groups().flatmap(spelled)),
        mesh_config=draw(mesh_configs().flatmap(spelled)),
        revision=draw(st.sampled_from(REVISIONS)),
        cluster_id=draw(value.filter(lambda text: "\0" not in text)),
        ingress_ip=draw(st.one_of(address, st.just(""))),
        internal_ip=draw(address) if svc_ip == "internal" else "",
        external_ip=draw(address) if svc_ip == "external" else "",
        auto_register=draw(st.booleans()),
        dns_capture=draw(st.booleans()),
    )


def _no_merge(key: str) -> bool:
    """istioctl writes the key `<<` without quotes, and so as a merge of what is no mapping."""
    return key != "<<"


def _subdomain(name: str) -> bool:
    return all(re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", part) for part in name.split("."))
