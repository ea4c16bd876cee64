"""What a mesh with virtual machines must keep to: plain functions over what resources are given.

Nothing here knows Pulumi: `__main__.py` hands the engine's resources over, tests hand over a preview's or a state's.
A check yields what is wrong with a resource, with the consequence and the fix; what is not known yet, it lets pass.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hybridmesh.istio import versions
from hybridmesh.metrics.scrape import SERVER
from hybridmesh.metrics.server import PORT

SECRET: Final = "[secret]"
"""Stands for a value that Pulumi keeps as a secret, as `pulumi preview --json` shows it."""
UNKNOWN: Final = "[unknown]"
"""Stands for a value that nobody can know before the update."""

Config = Mapping[str, Any]
Level = Literal["mandatory", "advisory"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """One resource of a stack."""

    type: str
    """Its type token, such as `kubernetes:core/v1:Namespace`."""
    name: str
    """Its name in the program."""
    urn: str = ""
    """Its URN."""
    inputs: Mapping[str, Any]
    """What it is given; secrets and unknown values replaced by `SECRET` and `UNKNOWN`."""

    @property
    def kind(self) -> str:
        """The last word of its type; a patch (`PeerAuthenticationPatch`) is of the kind that it changes."""
        kind = self.type.rpartition(":")[2]
        return kind.removesuffix("Patch") if self.is_patch else kind

    @property
    def is_patch(self) -> bool:
        """Whether it changes an object that is there, by server-side apply: what it does not give stays as it is."""
        return self.type.startswith("kubernetes:") and self.type.endswith("Patch")

    @property
    def spec(self) -> Mapping[str, Any]:
        """A Kubernetes object's spec."""
        return _mapping(self.inputs.get("spec"))

    @property
    def metadata(self) -> Mapping[str, Any]:
        """A Kubernetes object's metadata."""
        return _mapping(self.inputs.get("metadata"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What each resource must keep to by itself."""

    name: str
    """By which configuration sets its level."""
    description: str
    """One sentence."""
    check: Callable[[Resource, Config], Iterator[str]]
    """What is wrong with a resource."""
    level: Level = "mandatory"
    """What it is without configuration."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """JSON schema of what can be configured besides the level, each with its default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StackRule:
    """What the resources of a stack must keep to together."""

    name: str
    description: str
    check: Callable[[Sequence[Resource], Config], Iterator[tuple[Resource, str]]]
    """Which resource is to blame, and what is wrong."""
    level: Level = "mandatory"


def strict_mtls(resource: Resource, _: Config) -> Iterator[str]:
    """No peer may be taken in plain text, and no client may send it."""
    fix = "Fix: STRICT (setting `mtls`)."
    if resource.kind in ("PeerAuthentication", "DestinationRule"):
        yield from _hidden(resource.inputs.get("spec"))
    if resource.kind == "PeerAuthentication":
        mode = _at(resource.inputs, "spec", "mtls", "mode")
        if mode not in ("STRICT", UNKNOWN, SECRET) and not (mode is None and resource.is_patch):
            yield f"takes plain text (mtls.mode {mode}): callers would have no identity. {fix}"
        for port, setting in _mapping(resource.spec.get("portLevelMtls")).items():
            mode = _mapping(setting).get("mode")
            # The port from which a Prometheus outside of the mesh reads where VMs are.
            of_metrics = (str(port), mode) == (str(PORT), "PERMISSIVE") and _selects_metrics_server(resource)
            if mode in ("PERMISSIVE", "DISABLE") and not of_metrics:
                yield f"takes plain text on port {port}: callers would have no identity there. {fix}"
    if resource.kind == "DestinationRule":
        for place, policy in _traffic_policies(resource.spec):
            mode = _mapping(policy.get("tls")).get("mode")
            if mode in ("DISABLE", "SIMPLE"):
                yield (
                    f"{place}: clients talk to it without their identity (tls.mode {mode}), which a STRICT server "
                    "refuses. Fix: ISTIO_MUTUAL, or leave `tls` out."
                )


def strict_mtls_everywhere(resources: Sequence[Resource], _: Config) -> Iterator[tuple[Resource, str]]:
    """Every namespace with workloads of the mesh has a policy of its own that refuses plain text."""
    strict = {
        _at(r.inputs, "metadata", "namespace")
        for r in resources
        if r.kind == "PeerAuthentication"
        and _at(r.inputs, "spec", "selector") in (None, {}, UNKNOWN)
        and _at(r.inputs, "spec", "mtls", "mode") in ("STRICT", UNKNOWN)
    }
    if UNKNOWN in strict:
        return
    for resource in resources:
        labels = _mapping(resource.metadata.get("labels"))
        injected = labels.get("istio-injection") == "enabled" or "istio.io/rev" in labels
        name = resource.metadata.get("name")
        is_namespace = resource.type in ("kubernetes:core/v1:Namespace", "kubernetes:core/v1:NamespacePatch")
        if is_namespace and injected and name not in strict | {UNKNOWN}:
            yield (
                resource,
                f"namespace {name} has no PeerAuthentication with STRICT: its pods and VMs may take plain text. "
                "Fix: setting `mtls: STRICT`, or an `AccessPolicy` for it.",
            )


def no_allow_all(resource: Resource, _: Config) -> Iterator[str]:
    """No AuthorizationPolicy may let everyone do everything."""
    if resource.kind != "AuthorizationPolicy":
        return
    hidden = list(_hidden(resource.inputs.get("spec")))
    yield from hidden
    if hidden or resource.spec.get("action", "ALLOW") != "ALLOW":
        return
    for index, rule in enumerate(_list(resource.spec.get("rules"))):
        if not _limits(rule):
            yield (
                f"rule {index} lets everyone do everything: it limits neither callers nor what they may do. "
                "Fix: name callers, methods or paths in `access`; without any rule, all is refused."
            )


def no_wildcard_host(resource: Resource, config: Config) -> Iterator[str]:
    """A gateway lets through only hosts that are named."""
    fix = "Fix: the host's full name."
    if resource.kind == "Gateway":
        yield from _hidden(resource.inputs.get("spec"))
        domains = config.get("domains", DOMAINS)
        for host, passes_services in _let_through(resource):
            name = host.rpartition("/")[2]
            # What carries mutual TLS between networks, unopened: each service still checks who calls. Which is the
            # cluster's domain, no resource says.
            if passes_services and name.startswith("*."):
                if not any(name.endswith(f".{domain}") for domain in domains):
                    yield (
                        f"lets through {host}, services outside of {', '.join(domains) or 'every domain'}: every "
                        "one that anyone adds there would be open to other networks. Fix: the host's full name; or "
                        "the cluster's domain (setting `cluster.domain`) in `domains` of this rule's configuration."
                    )
            elif name.startswith("*"):
                yield f"lets through {host}: every host that anyone adds would be open to the outside. {fix}"
    if resource.kind == "VirtualService":
        judged = [_at(resource.inputs, "spec", key) for key in ("gateways", "hosts")]
        yield from _hidden(judged, "gateways and hosts")
    if resource.kind == "VirtualService" and _list(resource.spec.get("gateways")) not in ([], ["mesh"]):
        for host in _list(resource.spec.get("hosts")):
            if str(host).startswith("*"):
                yield f"takes {host} from a gateway: requests for any host would end up there. {fix}"


def no_public_address(resource: Resource, _: Config) -> Iterator[str]:
    """A VM is reached from inside only."""
    fix = "Fix: an internal address; for the way out, a NAT."
    if resource.type.startswith("gcp:compute/"):
        interfaces = resource.inputs.get("networkInterfaces")
        ways_out = [_at(each, key) for each in _list(interfaces) for key in ("accessConfigs", "ipv6AccessConfigs")]
        yield from _hidden(ways_out or interfaces, "networkInterfaces")
        for interface in _list(interfaces):
            for key in ("accessConfigs", "ipv6AccessConfigs"):
                if _list(_mapping(interface).get(key)):
                    yield f"has a public address ({key}): the whole internet could try its ports. {fix}"
    if resource.type == "hybridmesh:sidecar:Sidecar":
        address = resource.inputs.get("address")
        yield from _hidden(address, "address")
        if _is_public(address):
            yield f"is in the mesh at {address}, a public address: its traffic would leave yours. {fix}"


def package_checksum(resource: Resource, _: Config) -> Iterator[str]:
    """What is installed on a VM is what was meant."""
    package = resource.inputs.get("package")
    if resource.type not in _WITH_PACKAGE or package in (None, UNKNOWN):
        return
    hidden = list(_hidden(package, "package"))
    yield from hidden
    if not hidden and not all(re.search(r" sha256:[0-9a-f]{64}$", file) for file in str(package).splitlines()):
        yield (
            f"installs {package!r} unchecked: whoever can change that download runs on the VM as root. "
            "Fix: `sidecar.package.sha256`, 64 hexadecimal digits."
        )


def supported_versions(resource: Resource, _: Config) -> Iterator[str]:
    """Istio's parts have versions that are known to work with this program."""
    known = f"Fix: one of {', '.join(release.istiod for release in versions.RELEASES)}."
    chart = resource.type == "kubernetes:helm.sh/v3:Release" and str(resource.inputs.get("chart")).endswith("istiod")
    # A chart in a folder has no version among its inputs, and what is adopted has no chart: the component says it, for
    # a chart of a repository, too.
    if (chart and not any(f"{owner}$" in resource.urn for owner in _WITH_ISTIOD)) or resource.type in _WITH_ISTIOD:
        version = resource.inputs.get("version")
        yield from _hidden(version, "version")
        if version not in (None, UNKNOWN, SECRET):
            for objection in versions.objections(str(version), None):
                yield f"istiod {version} {objection.problem}. {objection.consequence} {known}"
    package = resource.inputs.get("package")
    if resource.type in _WITH_PACKAGE:
        yield from _hidden(package, "package")
    if resource.type in _WITH_PACKAGE and isinstance(package, str) and len(package.split()) > 1:
        version = package.split()[1]
        if versions.minor(version) not in {sidecar for release in versions.RELEASES for sidecar in release.sidecars}:
            yield f"sidecar {version} goes with no supported istiod. {versions.MAY_BREAK['sidecar']} {known}"


def weights_add_up(resource: Resource, _: Config) -> Iterator[str]:
    """The shares of a canary are percents of the whole."""
    if resource.kind != "VirtualService":
        return
    routes = {protocol: _at(resource.inputs, "spec", protocol) for protocol in ("http", "tls", "tcp")}
    yield from _hidden([_weights(found) for found in routes.values()], "weights")
    for protocol, found in routes.items():
        for index, weights in enumerate(_weights(found)):
            if not isinstance(weights, list) or {UNKNOWN, SECRET} & {*weights} or weights in ([], [None]):
                continue
            total = sum(int(weight or 0) for weight in weights)
            if total != 100:
                name = _mapping(found[index]).get("name") or f"{protocol} route {index}"
                yield (
                    f"{name}: the weights add up to {total:g}, not 100: the shares are not what they look like. "
                    "Fix: percents that add up to 100 (setting `routing.<name>.weights`)."
                )


def vm_probe(resource: Resource, _: Config) -> Iterator[str]:
    """Requests go to a VM only while its app says that it is well."""
    if resource.kind != "WorkloadGroup" or not _at(resource.inputs, "spec", "template", "ports"):
        return  # without ports nobody calls it: a client, or a network's gateway
    if _at(resource.inputs, "spec", "probe") in (None, {}) and not resource.is_patch:
        yield (
            "has no probe: requests go to its VMs even while the app there is down. "
            "Fix: setting `workloads.<name>.probe`."
        )


def secrets_are_secret(resource: Resource, _: Config) -> Iterator[str]:
    """Keys and tokens are kept as secrets, wherever they are."""
    fix = "Fix: `pulumi config set --secret`, or pulumi.Output.secret in a program."
    for path, text in _texts(resource.inputs):
        for what, pattern in _CREDENTIALS.items():
            if pattern.search(text):
                yield f"{path} holds {what} in plain text: it would be in the state, and in every preview. {fix}"
    if resource.type in ("kubernetes:core/v1:Secret", "kubernetes:core/v1:SecretPatch"):
        for key in ("data", "stringData"):
            for entry, value in _mapping(resource.inputs.get(key)).items():
                if value not in (SECRET, UNKNOWN):
                    yield f"{key}.{entry} is in plain text: it would be in the state, and in every preview. {fix}"


def labels(resource: Resource, config: Config) -> Iterator[str]:
    """Workloads carry the labels by which routing, policies and metrics tell them apart."""
    required = config.get("required", LABELS)
    if resource.kind == "WorkloadGroup" and not _mapping(resource.spec.get("template")).get("ports"):
        return
    where = {"WorkloadGroup": ("metadata",), "Deployment": ("template", "metadata")}.get(resource.kind)
    if where is None or resource.is_patch:
        return
    found = _at(resource.inputs, "spec", *where, "labels")
    if found in (UNKNOWN, SECRET):
        return
    given = _mapping(found)
    for label in required:
        if not given.get(label):
            yield (
                f"has no label {label}: routing, policies and metrics cannot tell it from others. "
                "Fix: setting `workloads.<name>.labels`."
            )


_WITH_ISTIOD: Final = ("hybridmesh:control_plane:ControlPlane", "hybridmesh:revision:Revision")
_WITH_PACKAGE: Final = ("hybridmesh:sidecar:Sidecar", "hybridmesh:self_join:SelfJoin")

DOMAINS: Final = ["local"]
"""Domains of clusters, whose services gateways pass on to each other."""

LABELS: Final = ["app", "version"]
"""The labels that every workload has."""

_CREDENTIALS: Final = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    # Not a port, and not what Kubernetes puts in from elsewhere: `$(NAME)`.
    "a password in an address": re.compile(r"""://[^\s/?#@:"']*:(?!\$)[^\s/?#"'\\]+@"""),
    "a token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
}

RULES: Final[tuple[Rule | StackRule, ...]] = (
    Rule(name="strict-mtls", description="No plain text between workloads.", check=strict_mtls),
    StackRule(
        name="strict-mtls-everywhere",
        description="Every namespace of the mesh refuses plain text.",
        check=strict_mtls_everywhere,
    ),
    Rule(name="no-allow-all", description="No AuthorizationPolicy lets everyone do everything.", check=no_allow_all),
    Rule(
        name="no-wildcard-host",
        description="Gateways let through hosts by name.",
        check=no_wildcard_host,
        settings={"domains": {"type": "array", "items": {"type": "string"}, "default": DOMAINS}},
    ),
    Rule(name="no-public-address", description="No VM has a public address.", check=no_public_address),
    Rule(name="package-checksum", description="The sidecar's package has a checksum.", check=package_checksum),
    Rule(name="supported-versions", description="Istio's versions are supported ones.", check=supported_versions),
    Rule(name="weights-add-up", description="The weights of a canary add up to 100.", check=weights_add_up),
    Rule(name="vm-probe", description="Every workload that is called on VMs has a probe.", check=vm_probe),
    Rule(name="secrets-are-secret", description="Keys and tokens are kept as secrets.", check=secrets_are_secret),
    Rule(
        name="labels",
        description="Workloads carry the labels that tell them apart.",
        check=labels,
        level="advisory",
        settings={"required": {"type": "array", "items": {"type": "string"}, "default": LABELS}},
    ),
)


def _let_through(gateway: Resource) -> Iterator[tuple[str, bool]]:
    """Hosts of a Gateway, each with whether it passes mutual TLS for them on as it is."""
    for server in map(_mapping, _list(gateway.spec.get("servers"))):
        mode = _mapping(server.get("tls")).get("mode")
        yield from ((str(host), mode == "AUTO_PASSTHROUGH") for host in _list(server.get("hosts")))


def _selects_metrics_server(resource: Resource) -> bool:
    return _mapping(resource.spec.get("selector")).get("matchLabels") == {"app": SERVER}


def _limits(rule: Any) -> bool:
    """Whether a rule of an AuthorizationPolicy leaves out anyone or anything but what it names to be left out."""
    if UNKNOWN in (rule, _at(rule, "from"), _at(rule, "to"), _at(rule, "when")):
        return True
    parts = _mapping(rule)
    if any(_is_narrow({"values": _at(condition, "values")}) for condition in _list(parts.get("when"))):
        return True
    sources = [_at(part, "source") for part in _list(parts.get("from"))]
    operations = [_at(part, "operation") for part in _list(parts.get("to"))]
    return any(parts and all(_is_narrow(part) for part in parts) for parts in (sources, operations))


def _is_narrow(part: Any) -> bool:
    """Whether one of its fields names something else than "any"; `notPaths` and the like let all others through."""
    if part == UNKNOWN:
        return True
    named = [(key, values) for key, values in _mapping(part).items() if not key.startswith("not")]
    # Any principal of a request is one of a valid token (JWT) all the same.
    return any(
        values == UNKNOWN or (_list(values) and (key == "requestPrincipals" or not any(map(_is_any, _list(values)))))
        for key, values in named
    )


def _is_any(value: Any) -> bool:
    """Whether it stands for everyone, every path or every address."""
    if value in ("*", "/*", "/{**}"):
        return True
    try:
        return ipaddress.ip_network(str(value), strict=False).prefixlen == 0
    except ValueError:
        return False


def _traffic_policies(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    places = [("trafficPolicy", _mapping(spec.get("trafficPolicy")))]
    for subset in _list(spec.get("subsets")):
        name = _mapping(subset).get("name")
        places.append((f"subset {name}", _mapping(_mapping(subset).get("trafficPolicy"))))
    for place, policy in places:
        yield place, policy
        for setting in _list(policy.get("portLevelSettings")):
            port = _mapping(_mapping(setting).get("port")).get("number")
            yield f"{place}, port {port}", _mapping(setting)


def _weights(routes: Any) -> list[Any]:
    """The weights of each route; instead of them, what hides them, or None."""
    if not isinstance(routes, list | tuple):
        return [routes]
    targets = [_at(route, "route") for route in routes]
    return [[_at(target, "weight") for target in many] if isinstance(many, list | tuple) else many for many in targets]


def _is_public(address: Any) -> bool:
    try:
        return ipaddress.ip_address(str(address)).is_global
    except ValueError:
        return False


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a resource's inputs, with where it is."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{path}[{index}]")


def _at(value: Any, *keys: str) -> Any:
    """What is there; UNKNOWN or SECRET where something on the way there is, None where nothing is."""
    for key in keys:
        if value in (UNKNOWN, SECRET):
            return value
        value = _mapping(value).get(key)
    return value


def _hidden(value: Any, what: str = "spec") -> Iterator[str]:
    """What is wrong with something that is, or holds, a secret, where it must be judged."""
    if any(text == SECRET for _, text in _texts(value)):
        yield (
            f"keeps its {what} as a secret, or a part of it: neither this pack nor who reads a preview can judge that. "
            "Fix: leave what is no credential out of pulumi.Output.secret; what another stack gives, make plain there."
        )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
