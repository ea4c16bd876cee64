"""How the proxies of one workload behave: the stack's word, and over it, field by field, the workload's own."""

from collections.abc import Mapping
from typing import Any

from hybridmesh.istio.bootstrap import FOLDERS
from hybridmesh.istio.ports import AGENT_HEALTH, ENVOY_METRICS

from .models import Egress, ProxyShape, Workload

_SHAPE = frozenset(field.alias or name for name, field in ProxyShape.model_fields.items())
MACHINES_ONLY = {"dnsCapture", "concurrency", "logLevel", "limits", "capture"}
"""Fields that mean nothing to a workload without machines."""
RESERVED_VARIABLES: Mapping[str, str] = {
    "ISTIO_INBOUND_PORTS": "capture.inboundPorts",
    "ISTIO_LOCAL_EXCLUDE_PORTS": "capture.excludeInboundPorts",
    "ISTIO_SERVICE_CIDR": "capture.outboundCidrs",
    "ISTIO_SERVICE_EXCLUDE_CIDR": "capture.excludeOutboundCidrs",
    "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE": "capture.excludeOutboundPorts",
    "ISTIO_META_DNS_CAPTURE": "dnsCapture",
}
"""Variables of `cluster.env` that have a setting of their own."""
FIXED_PORTS: Mapping[str, int] = {"ENVOY_STATUS_PORT": AGENT_HEALTH, "ENVOY_PROMETHEUS_PORT": ENVOY_METRICS}
"""Variables that move a port which scripts, firewall and metrics know."""
_OF_A_MOVED_FOLDER: Mapping[str, str] = {
    "ISTIO_LOG_DIR": "Nobody would find its logs, nor empty them: they would fill the disk.",
    "OUTPUT_CERTS": "A VM would never renew the certificate that it has there, or find none after a reboot; and leave "
    "its key behind when it leaves the mesh.",
}
FIXED_FOLDERS: Mapping[str, tuple[str, str]] = {
    variable: (folder, _OF_A_MOVED_FOLDER[variable]) for variable, folder in FOLDERS.items()
}
"""Variables that move a folder which the scripts on a VM know, with that folder, and what follows."""
VM_VARIABLES: Mapping[str, str] = {
    "CANONICAL_REVISION": "`machines.version`",
    "CANONICAL_SERVICE": "the workload's name",
    "ISTIO_META_AUTO_REGISTER_GROUP": "`machines.registration`",
    "ISTIO_META_CLUSTER_ID": "`cluster.name`",
    "ISTIO_META_MESH_ID": "`controlPlane.meshId`",
    "ISTIO_META_POD_PORTS": "`workloads.<name>.ports`",
    "ISTIO_META_WORKLOAD_ENTRY": "`machines.registration`",
    "ISTIO_META_WORKLOAD_NAME": "the workload's name",
    "ISTIO_METAJSON_LABELS": "`workloads.<name>.labels`",
    "ISTIO_NAMESPACE": "`workloads.<name>.namespace`",
    "ISTIO_SERVICE": "the workload's name and `workloads.<name>.namespace`",
    "ISTIO_SVC_IP": "`hosts.<name>.meshAddress`",
    "POD_NAME": "the machine's name",
    "POD_NAMESPACE": "`workloads.<name>.namespace`",
    "SERVICE_ACCOUNT": "`workloads.<name>.serviceAccount`",
    "TRUST_DOMAIN": "`controlPlane.trustDomain`",
}
"""Variables of `cluster.env` that tell a VM who it is: what `hybridmesh.istio.cluster_env` writes of itself."""


def proxy_shape(sidecar: ProxyShape, workload: Workload | None) -> ProxyShape:
    """The settings that count for `workload`; a field that it sets itself, if only to its default, is its own.

    None: a gateway machine, which has the stack's.
    """
    own = workload.sidecar if workload is not None else None
    given = {name: value for name, value in _given(sidecar).items() if name in _SHAPE}
    return ProxyShape.model_validate(given if own is None else _over(given, _given(own)))


def in_scope(egress: Egress, own: str, namespace: str, host: str) -> bool:
    """Whether proxies in the namespace `own` are told of a service of another."""
    for entry in egress.hosts:
        place, _, name = entry.partition("/")
        there = place == "*" or namespace == (own if place == "." else place)
        if there and (name in ("*", host) or (name.startswith("*.") and host.endswith(name[1:]))):
            return True
    return False


def _given(shape: ProxyShape) -> dict[str, Any]:
    return shape.model_dump(by_alias=True, exclude_unset=True)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        if not isinstance(under, dict) or not isinstance(value, dict):
            merged[name] = value
        elif name == "tags":  # one has one source, so half of one and half of another is none
            merged[name] = under | value
        else:
            merged[name] = _over(under, value)
    return merged
