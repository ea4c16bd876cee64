"""Whether an Istio that was installed by others goes with a stack's settings, and lets VMs in."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .names import GATEWAY_PORT_LABEL, NAME_LABEL, NETWORK_LABEL, is_revisioned
from .needs import Lack, Needs, lacks
from .nested import at
from .ports import EAST_WEST_TLS
from .versions import minor

Labels = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Asked(Needs):
    """What a stack says of the Istio that it adopts, and needs of it."""

    version: str
    """Its version."""
    version_at: str
    """The setting that says so."""
    cluster: str
    """Istio's cluster id."""
    network: str
    """The network of the cluster's pods."""
    networks: Sequence[str]
    """Other networks that have VMs."""
    gateway: str | None
    """The Service of the gateway into the cluster's network, where that is somebody else's too; empty if its address
    alone is known. None: the stack has made it."""
    namespaces: Mapping[str, Labels]
    """The namespaces that it uses, with the labels that they will have; none where they are somebody else's."""
    pods_in: Sequence[str]
    """Those of them in which it has pods."""
    routed: Mapping[str, tuple[str, Sequence[str]]]
    """Workloads with a routing, each with its namespace and its hosts, full names."""


@dataclass(frozen=True, kw_only=True)
class Istiod:
    """What is there. None: nobody could say."""

    image: str | None
    """Its image."""
    chart: str
    """The version of the chart that it was installed by, by its label; empty where it has none."""
    environment: Mapping[str, str] | None
    """Its variables, without those that its Deployment has from elsewhere."""
    arguments: Sequence[str]
    """What it is started with."""
    mesh: Mapping[str, Any]
    """The mesh config."""
    networks: Mapping[str, Any]
    """The mesh networks, by name."""
    gateways: Sequence[Mapping[str, Any]] | None
    """What has the label of a network: Services, and Gateways of the Gateway API."""
    injected: Mapping[str, Any] | None
    """The Helm values that it injects pods by."""
    labels: Mapping[str, Labels | None]
    """The labels of its namespace and of those that the stack uses, as far as they are there."""
    rules: Mapping[str, Sequence[Mapping[str, Any]]]
    """VirtualServices and DestinationRules of namespaces that are somebody else's."""


def misfits(there: Istiod, asked: Asked) -> Iterator[str]:
    """What keeps the two from going together, each with the setting, the consequence and the fix."""
    yield from _version(there, asked)
    yield from _cluster(there, asked)
    yield from map(_of_adopted, lacks(there.environment or {}, there.mesh, asked))
    yield from _network(there, asked)
    yield from _root(there, asked)
    for namespace in sorted({asked.namespace, *asked.namespaces}):
        yield from _namespace(namespace, there, asked)


def remarks(there: Istiod, asked: Asked) -> Iterator[str]:
    """What takes effect from what the stack makes."""
    for kind in ("VirtualService", "DestinationRule"):
        exported = there.mesh.get(f"default{kind}ExportTo") or ["*"]
        if asked.routed and "*" not in exported:
            yield (
                f"routing: callers in other namespaces may go without it: in the adopted mesh a {kind} is for "
                f"some alone (default{kind}ExportTo: {', '.join(map(str, exported))})."
            )
    yield from _way_in(there, asked)
    for name, (namespace, hosts) in sorted(asked.routed.items()):
        for rule in there.rules.get(namespace, ()):
            own = rule["metadata"]["name"]
            both = sorted(_hosts(rule, namespace, asked.domain) & {*hosts})
            if own != name and both:
                yield (
                    f"routing.{name}: {rule['kind']} {namespace}/{own} is for {both[0]}, too. Istio goes by the older "
                    f"of the two: let its owner take it away, or leave `routing.{name}` out."
                )


def _way_in(there: Istiod, asked: Asked) -> Iterator[str]:
    """Where istiod knows no gateway of a network it takes what is there for reachable (`EndpointsByNetworkFilter`;
    istio/istio #42411)."""
    known = at(there.networks, asked.network, "gateways")
    if not asked.networks or asked.gateway is None or there.gateways is None or known:
        return
    if not any(_leads_into(asked.network, gateway) for gateway in there.gateways):
        label = f"{NETWORK_LABEL}={asked.network}"
        yield (
            f"networks.{asked.networks[0]}: the adopted istiod knows no gateway into network {asked.network}: no "
            f"Service with port {EAST_WEST_TLS}, and no Gateway, has the label {label}, and meshNetworks names none. "
            "It leads VMs of other networks to pods' own addresses. Unless these can be reached from there, let its "
            f"owner say which it is: `kubectl label service {asked.gateway or 'NAME'} -n {asked.namespace} {label}`."
        )


def _leads_into(network: str, gateway: Mapping[str, Any]) -> bool:
    """Whether istiod takes it for a gateway of the network: a Service if it has the port, which a label may name."""
    labels = gateway["metadata"]["labels"]
    ports = {str(port["port"]) for port in gateway["spec"].get("ports") or ()}
    has_port = labels.get(GATEWAY_PORT_LABEL, str(EAST_WEST_TLS)) in ports
    return labels[NETWORK_LABEL] == network and (gateway.get("kind") == "Gateway" or has_port)


def _hosts(rule: Mapping[str, Any], namespace: str, domain: str) -> set[str]:
    """The hosts of a VirtualService or DestinationRule, in full, as far as it is for all proxies."""
    spec = rule.get("spec") or {}
    if spec.get("workloadSelector") or "mesh" not in (spec.get("gateways") or ["mesh"]):
        return set()
    named = spec.get("hosts") or [spec.get("host") or ""]
    return {host if "." in host else f"{host}.{namespace}.svc.{domain}" for host in named}


def _version(there: Istiod, asked: Asked) -> Iterator[str]:
    """By the image's tag, or where it has a digest alone, by its chart; a vendor's own count tells nothing."""
    tag = (there.image or "").partition("@")[0].rpartition("/")[2].partition(":")[2] or there.chart
    found = minor(tag)
    if found and found.partition(".")[0] == asked.version.partition(".")[0] and found != minor(asked.version):
        yield (
            f"{asked.version_at} = {asked.version}: the adopted istiod is {tag}. What goes together was looked up for "
            "another one: VMs may not join, or refuse what istiod sends. Fix: the version that it has."
        )


def _cluster(there: Istiod, asked: Asked) -> Iterator[str]:
    cluster = (there.environment or {}).get("CLUSTER_ID", "")
    aliases = " ".join(there.arguments).partition("--clusterAliases")[2]
    if asked.joins and cluster not in ("", asked.cluster) and asked.cluster not in re.split("[ =,]", aliases):
        yield (
            f"cluster.name = {asked.cluster}: the adopted istiod calls its cluster {cluster}. It would refuse every "
            f"VM's token. Fix: `cluster.name: {cluster}`."
        )


def _of_adopted(lack: Lack) -> str:
    subject = "istiod" if lack.place[0] == "env" else "mesh config"
    fix = "; or ".join(filter(None, (lack.instead, f"let Istio's owner {lack.repair}")))
    return f"{lack.setting}: the adopted {subject} {lack.what}. {lack.consequence} Fix: {fix}."


def _network(there: Istiod, asked: Asked) -> Iterator[str]:
    labels = there.labels.get(asked.namespace)
    label = (labels or {}).get(NETWORK_LABEL, "")
    of_mesh = at(there.mesh, "defaultConfig", "proxyMetadata", "ISTIO_META_NETWORK")
    value = str(at(there.injected, "global", "network") or of_mesh or "")
    told = {label, value} - {"", asked.network}
    if told:
        found = " and ".join(sorted(told))
        yield (
            f"cluster.network = {asked.network}: the adopted mesh calls the network of its pods {found}. Pods and VMs "
            "would take each other for another network's, and go by gateways, if by any. Fix: "
            f"`cluster.network: {min(told)}`."
        )
        return
    if not asked.networks:
        return
    # Istio takes a proxy or an endpoint of no network for one of the asker's own.
    missing: list[str] = []
    if labels is not None and not label and not at(there.networks, asked.network, "endpoints"):
        missing.append(f"`kubectl label namespace {asked.namespace} {NETWORK_LABEL}={asked.network}`")
    if there.injected is not None and not value:
        missing.append(f"Helm value `global.network: {asked.network}` and new pods")
    if missing:
        yield (
            f"networks.{asked.networks[0]}: the adopted mesh does not say that its pods are in another network, "
            f"{asked.network}. Pods and VMs would call each other directly, and not by gateways. Fix: this stack never "
            f"changes an adopted Istio; let its owner say so, by {' and '.join(missing)}."
        )


def _root(there: Istiod, asked: Asked) -> Iterator[str]:
    root = there.mesh.get("rootNamespace")
    if root in asked.namespaces:
        yield (
            f"namespace {root}: it is the root namespace of the adopted mesh. Policies made there hold for the whole "
            "mesh. Fix: a namespace of its own for what this stack has in it."
        )


def _namespace(name: str, there: Istiod, asked: Asked) -> Iterator[str]:
    made, labels = asked.namespaces.get(name), there.labels.get(name)
    if labels is None and not made:
        return
    labels = {NAME_LABEL: name, **(labels or {}), **(made or {})}
    selectors = there.mesh.get("discoverySelectors") or ()
    if selectors and not any(selects(selector, labels) for selector in selectors):
        own = f"make it with such a label, and `namespaces.{name}.existing: true`"
        yield (
            f"namespace {name}: the adopted istiod does not look at it, by its `discoverySelectors`. Nothing in it "
            f"would be in the mesh, and no VM of it could join. Fix: {own if made else 'give it such a label'}; or let "
            "Istio's owner select it."
        )
    if not made and name in asked.pods_in and there.injected is not None and not _is_injected(labels, there.injected):
        label = f"istio.io/rev={asked.revision}" if is_revisioned(asked.revision) else "istio-injection=enabled"
        yield (
            f"namespaces.{name}.existing = true: no istiod injects pods there. Those of this stack would have no "
            "proxy, and call in plain text, without an identity. Fix: "
            f"`kubectl label --overwrite namespace {name} {label}`."
        )


def _is_injected(labels: Labels, values: Mapping[str, Any]) -> bool:
    """Whether pods of a namespace are in the mesh; in an ambient one without a proxy of their own."""
    by_default = at(values, "sidecarInjectorWebhook", "enableNamespacesByDefault")
    told = labels.get("istio-injection", "enabled" if "istio.io/rev" in labels or by_default else "")
    return told == "enabled" or labels.get("istio.io/dataplane-mode") == "ambient"


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Whether a Kubernetes LabelSelector selects what has these labels."""
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(expression, labels) for expression in selector.get("matchExpressions") or ()
    )


def _holds(expression: Mapping[str, Any], labels: Labels) -> bool:
    key, values = str(expression.get("key")), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels
