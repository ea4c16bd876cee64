"""The rules of istiod and the east-west gateway that need more than one field."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from hybridmesh.istio import istiod_host
from hybridmesh.istio.adopted import selects
from hybridmesh.istio.names import NAME_LABEL, NETWORK_LABEL, injection_labels
from hybridmesh.istio.nested import at
from hybridmesh.istio.ports import EAST_WEST_TLS, ISTIOD_XDS

from .draft import Draft
from .findings import Finding, one_of
from .models import Cluster, ControlPlane, Gateway, Observability

RELEASE_NAME = 53
"""How long a Helm release's name may be."""

_RESERVED_VALUES: Mapping[tuple[str, ...], str] = {
    ("revision",): "controlPlane.revision",
    ("global", "istioNamespace"): "controlPlane.namespace",
    ("global", "meshID"): "controlPlane.meshId",
    ("global", "network"): "cluster.network",
    ("global", "meshNetworks"): "networks",
    ("global", "multiCluster", "clusterName"): "cluster.name",
    ("global", "proxy", "clusterDomain"): "cluster.domain",
    ("meshConfig", "trustDomain"): "controlPlane.trustDomain",
    ("meshConfig", "rootNamespace"): "controlPlane.namespace",
}

_OTHERS_MAY_SAY: Final = ("replicaCount",)
"""Of the gateway's values those that a caller may leave to somebody else, such as an autoscaler of another kind."""


def check_control_plane(draft: Draft) -> Iterator[Finding]:
    """Every finding about istiod, its charts, and the east-west gateway."""
    control_plane = draft.section("controlPlane", ControlPlane)
    if control_plane is not None:
        yield from _control_plane(control_plane)
        yield from _discovered(draft, control_plane)
    gateway = draft.section_or_default("gateway", Gateway)
    if gateway is not None:
        yield from _gateway(gateway)
    if control_plane is not None and gateway is not None:
        yield from _charts(control_plane, gateway)


def _charts(control_plane: ControlPlane, gateway: Gateway) -> Iterator[Finding]:
    path = "controlPlane.charts"
    if control_plane.charts is not None:
        yield from one_of(path, control_plane.charts, ("path", "repository"))
    elif "install" in (control_plane.mode, gateway.mode):
        which = "controlPlane" if control_plane.mode == "install" else "gateway"
        yield Finding(
            path,
            "",
            f"is missing, and `{which}.mode` is install",
            "There would be nothing to install.",
            f"`{{path: folder}}` or `{{repository: URL}}`; or `{which}.mode: adopt`, to use one that is there.",
        )


def _revisions(control_plane: ControlPlane) -> Iterator[Finding]:
    for name, revision in control_plane.revisions.items():
        if revision.charts is not None and control_plane.mode == "install":
            yield from one_of(f"controlPlane.revisions.{name}.charts", revision.charts, ("path", "repository"))


def _release(path: str, name: str, release: str) -> Iterator[Finding]:
    if len(release) > RELEASE_NAME:
        yield Finding(
            path,
            name,
            "is too long" if release == name else f"is too long: its Helm release would be `{release}`",
            f"Helm refuses a release whose name has more than {RELEASE_NAME} characters.",
            f"at most {RELEASE_NAME - len(release) + len(name)} characters.",
        )


def _control_plane(control_plane: ControlPlane) -> Iterator[Finding]:
    path = "controlPlane"
    yield from _revisions(control_plane)
    if control_plane.mode == "install":
        named = {f"{path}.revision": control_plane.revision}
        named |= {f"{path}.revisions.{name}": name for name in control_plane.revisions}
        for place, given in named.items():
            yield from _release(place, given, istiod_host(revision=given).partition(".")[0])
    if control_plane.mode == "adopt" and control_plane.values:
        yield Finding(
            f"{path}.values",
            "",
            "is not used with `mode: adopt`",
            "An adopted Istio is never changed, so this would have no effect.",
            "leave it out, or `mode: install`.",
        )
    values = {f"{path}.values": control_plane.values}
    values |= {f"{path}.revisions.{name}.values": revision.values for name, revision in control_plane.revisions.items()}
    for place, its in values.items():
        yield from _reserved(place, its)
        yield from _emptied(place, its)


def _emptied(path: str, values: Mapping[str, Any], but: Collection[str] = ()) -> Iterator[Finding]:
    """A key whose lines are gone. Istio's charts fail without what they have there, or refuse a null by a schema."""
    for key, value in values.items():
        if value is None and key not in but:
            yield Finding(
                f"{path}.{key}",
                "",
                "has nothing after it",
                "Helm would take away all that the chart and the stack have there, and fail half-way.",
                "leave it out; to take one thing of it away, name that, and nothing after it.",
            )


def _reserved(path: str, values: Mapping[str, Any]) -> Iterator[Finding]:
    for keys, instead in _RESERVED_VALUES.items():
        value = at(values, *keys)
        if value is not None:
            yield Finding(
                ".".join((path, *keys)),
                str(value),
                f"is set by `{instead}`",
                "istiod and the VMs could be told different things.",
                f"set `{instead}`, and leave this out.",
            )


def _discovered(draft: Draft, control_plane: ControlPlane) -> Iterator[Finding]:
    """Whether each istiod looks at the namespaces that this stack makes. Of an adopted one nobody knows yet."""
    cluster = draft.section("cluster", Cluster)
    if control_plane.mode == "adopt" or cluster is None:
        return
    made = draft.used_namespaces - {name for name, there in draft.namespaces.items() if there.existing}
    observability = draft.section("observability", Observability)
    made |= {observability.namespace} if observability is not None else set()
    labels = dict.fromkeys(sorted(made), injection_labels(control_plane.revision))
    labels[control_plane.namespace] = {NETWORK_LABEL: cluster.network}
    values = {"controlPlane.values": control_plane.values}
    values |= {f"controlPlane.revisions.{name}.values": r.values for name, r in control_plane.revisions.items()}
    for path, its in values.items():
        selectors = at(its, "meshConfig", "discoverySelectors")
        if not isinstance(selectors, list) or not all(map(_is_selector, selectors)) or not selectors:
            continue
        for name, own in labels.items():
            if not any(selects(selector, {NAME_LABEL: name, **own}) for selector in selectors):
                yield Finding(
                    f"{path}.meshConfig.discoverySelectors",
                    "",
                    f"selects no namespace {name}, which this stack makes",
                    "istiod would not look at it: nothing in it would be in the mesh.",
                    f"add `{{matchLabels: {{{NAME_LABEL}: {name}}}}}`.",
                )


def _is_selector(given: Any) -> bool:
    """Whether it has a LabelSelector's form; of what has not, istiod tells."""
    if not isinstance(given, Mapping) or not isinstance(given.get("matchLabels") or {}, Mapping):
        return False
    expressions = given.get("matchExpressions") or []
    return isinstance(expressions, list) and all(
        isinstance(e, Mapping) and isinstance(e.get("values") or [], list) for e in expressions
    )


def _gateway(gateway: Gateway) -> Iterator[Finding]:
    if gateway.mode == "install":
        yield from _release("gateway.name", gateway.name, gateway.name)
        if gateway.name[0].isdigit():
            yield Finding(
                "gateway.name",
                gateway.name,
                "begins with a digit, and is the name of a Service",
                "Kubernetes would refuse the Service.",
                "a name that begins with a letter.",
            )
    if gateway.mode == "install" and gateway.address is None:
        yield from _way_of_vms(gateway.values)
    ours = ("networkGateway", "name", "revision")
    yield from _emptied("gateway.values", gateway.values, but=(*ours, *_OTHERS_MAY_SAY))
    for key in ours:
        if key in gateway.values:
            yield Finding(
                f"gateway.values.{key}",
                str(gateway.values[key]),
                "is set by the stack itself",
                "Gateway, routes and VMs could name different things.",
                "leave it out; see `cluster.network`, `gateway.name` and `controlPlane.revision`.",
            )
    labels = gateway.values.get("labels")
    for key in ("app", "istio"):
        if isinstance(labels, Mapping) and key in labels:
            yield Finding(
                f"gateway.values.labels.{key}",
                str(labels[key]),
                "is set by the stack itself",
                "What the gateway lets through is found by it.",
                "leave it out.",
            )
    scaled, most, least = (at(gateway.values, "autoscaling", key) for key in ("enabled", "maxReplicas", "minReplicas"))
    if str(most) == "1" and least is None and scaled is not False:
        yield Finding(
            "gateway.values.autoscaling.maxReplicas",
            str(most),
            "is less than the two pods that a gateway has at least, if nothing else is said",
            "Kubernetes would refuse the autoscaler.",
            "leave it out; or `minReplicas: 1` beside it, and VMs may drop out while the pod is replaced.",
        )
    if gateway.mode == "adopt" and gateway.values:
        yield Finding(
            "gateway.values",
            "",
            "is not used with `mode: adopt`",
            "An adopted gateway is never changed, so this would have no effect.",
            "leave it out, or `mode: install`.",
        )


def _way_of_vms(values: Mapping[str, Any]) -> Iterator[Finding]:
    """VMs reach a gateway that has an address by a load balancer, at Istio's own ports."""
    kind = at(values, "service", "type")
    if kind not in (None, "LoadBalancer"):
        yield Finding(
            "gateway.values.service.type",
            str(kind),
            "is none to which a load balancer gives an address, and there is no `gateway.address`",
            "VMs would not reach istiod.",
            "leave it out; or `gateway.address`, where VMs reach it.",
        )
    for name, port in (("tls-istiod", ISTIOD_XDS), ("tls", EAST_WEST_TLS)):
        given = at(values, "networkGatewayPorts", name, "port")
        if given is not None and str(given) != str(port):
            yield Finding(
                f"gateway.values.networkGatewayPorts.{name}.port",
                str(given),
                f"is not {port}, at which VMs ask for it, and there is no `gateway.address`",
                "VMs would find nobody there.",
                f"leave it out; or `gateway.address`, where something leads {port} to {given}.",
            )
