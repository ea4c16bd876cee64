"""Names that Kubernetes and Istio give to things, and which ones they accept."""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

from .errors import BootstrapError
from .ports import ISTIOD_XDS

CANONICAL_NAME_LABEL = "service.istio.io/canonical-name"
CANONICAL_REVISION_LABEL = "service.istio.io/canonical-revision"
PROXY_CONFIG_ANNOTATION = "proxy.istio.io/config"
"""Proxy settings of one workload, as YAML text over the mesh's `defaultConfig`."""
NAME_LABEL = "kubernetes.io/metadata.name"
"""Kubernetes' own on each namespace: its name."""
NETWORK_LABEL = "topology.istio.io/network"
"""Of istiod's namespace: the network of the cluster's pods; of anything else, its own."""
GATEWAY_PORT_LABEL = "networking.istio.io/gatewayPort"
"""Of a Service with the label of a network: its port that leads there, where that is not 15443."""
LOCALITY_LABEL = "topology.istio.io/locality"
"""Where a proxy is, with dots for slashes; over what its cloud says (pkg/model/proxy.go, GetLocalityLabel)."""
AUTO_REGISTRATION_ANNOTATION = "istio.io/autoRegistrationGroup"
"""On a WorkloadEntry that istiod has made: the WorkloadGroup by which its VM registered."""
HEALTH_CHECKS_ANNOTATION = "proxy.istio.io/health-checks-enabled"
"""On a WorkloadEntry: `true` makes it an endpoint only while its probe succeeds; with any value istiod notes on it
when its proxy comes and goes (pilot/pkg/autoregistration/internal/health/util.go)."""
INJECTION_ANNOTATION = "hybrid-mesh/injected-as"
"""On pods with a sidecar: what they were injected as, `injected_as`. What changes it rolls them."""
BASE_RELEASE = "istio-base"
"""The Helm release that brings Istio's CRDs, as Istio's guide calls it."""

_NAME_LABELS = (CANONICAL_NAME_LABEL, "app.kubernetes.io/name", "app")
_REVISION_LABELS = (CANONICAL_REVISION_LABEL, "app.kubernetes.io/version", "version")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_WORKLOAD_ENTRY_NAME_MAX = 253
_Told = TypeVar("_Told")


class CanonicalService(NamedTuple):
    """How the mesh's metrics and traces call a workload."""

    name: str
    revision: str

    def on(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Labels, with those that say so."""
        return {**labels, CANONICAL_NAME_LABEL: self.name, CANONICAL_REVISION_LABEL: self.revision}


def canonical_service(labels: Mapping[str, str], workload: str) -> CanonicalService:
    """The canonical service of a workload called `workload` with these labels.

    A label that is there but empty counts. Default revision: `latest`. Source: pkg/kube/labels/labels.go.
    """
    name = next((labels[key] for key in _NAME_LABELS if key in labels), workload)
    revision = next((labels[key] for key in _REVISION_LABELS if key in labels), "latest")
    return CanonicalService(name, revision)


def is_revisioned(revision: str) -> bool:
    """Whether istiod's names carry the revision: they do not for none and for `default`."""
    return revision not in ("", "default")


def istiod_host(namespace: str = "istio-system", revision: str = "default") -> str:
    """The host name by which a VM reaches istiod, and which istiod's certificate carries: never `.cluster.local`."""
    return f"istiod{f'-{revision}' if is_revisioned(revision) else ''}.{namespace}.svc"


def istiod_address(namespace: str = "istio-system", revision: str = "default") -> str:
    """`host:port` of istiod's xDS and certificate signing."""
    return f"{istiod_host(namespace, revision)}:{ISTIOD_XDS}"


def injected_as(cluster: str, network: str, istiod: str, trust_domain: str) -> str:
    """What a pod's proxy is told when istiod injects it, and never again: `istiod` is its host name.

    One that is told otherwise than istiod is now loses its connection, and with its certificate, in a day, its calls.
    One with a certificate of another trust domain is refused by whoever is told of the new one.
    """
    return f"cluster {cluster}, network {network}, istiod {istiod}, trust domain {trust_domain}"


def injection_labels(revision: str) -> dict[str, str]:
    """The labels that make istiod of a revision inject sidecars into a namespace's pods."""
    return {"istio.io/rev": revision} if is_revisioned(revision) else {"istio-injection": "enabled"}


def injection_annotations(told: _Told) -> dict[str, _Told]:
    """Those of a pod template that let its pods roll when what they are told changes; none where nothing is said."""
    return {INJECTION_ANNOTATION: told} if told else {}


def mesh_config_map(revision: str = "default") -> str:
    """The name of the ConfigMap, in Istio's namespace, whose key `mesh` is the mesh config."""
    return f"istio-{revision}" if is_revisioned(revision) else "istio"


def spiffe_id(trust_domain: str, namespace: str, service_account: str) -> str:
    """The identity in a workload's certificate; `@` in a trust domain becomes `.` (pkg/spiffe/spiffe.go).

    Raises `BootstrapError` where one of the three is empty: such an identity would match nobody.
    """
    for field, value in (
        ("trust domain", trust_domain),
        ("namespace", namespace),
        ("service account", service_account),
    ):
        if not value:
            raise BootstrapError(
                f"{field} of a SPIFFE id", value, "is empty", "No certificate would carry it.", f"name the {field}."
            )
    return f"spiffe://{trust_domain.replace('@', '.')}/ns/{namespace}/sa/{service_account}"


def gateway_group(network: str) -> str:
    """The name of a network's gateway in Kubernetes: that of its WorkloadGroup and Gateway."""
    return f"{network}-gateway"


def static_entry_name(workload: str, machine: str) -> str:
    """The name of a machine's static WorkloadEntry; never one that istiod would take for its own."""
    return f"{workload}-{machine}"


def workload_entry_name(group: str, address: str, network: str = "") -> str:
    """The name that istiod gives to the WorkloadEntry of an auto-registered VM.

    `address`: the VM's IP address as its proxy reports it. A name that is too long loses its beginning
    (pilot/pkg/autoregistration/controller.go).
    """
    parts = [group, address.replace(":", "-"), *([network] if network else [])]
    return "-".join(parts)[-_WORKLOAD_ENTRY_NAME_MAX:]


def dns_label(value: str, field: str) -> str:
    """`value`, if it is an RFC 1123 label, as a namespace or a revision must be. Raises `BootstrapError`."""
    if len(value) > 63 or not _DNS_LABEL.fullmatch(value):
        raise BootstrapError(
            field,
            value,
            "is not an RFC 1123 label",
            "Kubernetes would refuse it.",
            "at most 63 of a-z, 0-9 and -, with a letter or digit at both ends.",
        )
    return value


def dns_subdomain(value: str, field: str) -> str:
    """`value`, if it is an RFC 1123 subdomain, as most objects' names must be. Raises `BootstrapError`."""
    if len(value) > 253 or not all(_DNS_LABEL.fullmatch(part) for part in value.split(".")):
        raise BootstrapError(
            field,
            value,
            "is not an RFC 1123 subdomain",
            "Kubernetes would refuse it.",
            "at most 253 of a-z, 0-9, - and ., with a letter or digit at both ends and around each dot.",
        )
    return value


def port_number(value: int, field: str) -> int:
    """`value`, if it is a TCP port, 1 to 65535. Raises `BootstrapError`."""
    if not 1 <= value <= 65535:
        raise BootstrapError(
            field,
            value,
            "is not a port",
            "The VM's redirect rules could not be set, and its proxy would not start.",
            "a number from 1 to 65535.",
        )
    return value


def is_ip_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def ip_address(value: str, field: str) -> str:
    """`value`, if it is an IPv4 or IPv6 address, as it was written. Raises `BootstrapError`."""
    if not is_ip_address(value):
        raise BootstrapError(
            field,
            value,
            "is not an IP address",
            "The VM would give the mesh an address that nothing can reach, or not find istiod.",
            "an IPv4 or IPv6 address; of a host name, what it resolves to.",
        )
    return value


def canonical_address(address: str) -> str:
    """An IP address as proxies report it and istiod names entries after it; anything else as it is."""
    return str(ipaddress.ip_address(address)) if is_ip_address(address) else address


def ip_addresses(values: Iterable[str], field: str) -> tuple[str, ...]:
    """`values`, if each is an IP address, without repetition, in their order. Raises `BootstrapError`."""
    return tuple(dict.fromkeys(ip_address(value, field) for value in values))
