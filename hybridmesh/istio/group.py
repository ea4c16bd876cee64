"""WorkloadGroups: what stands for all VMs of one workload."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import goyaml, protojson
from .errors import BootstrapError
from .names import PROXY_CONFIG_ANNOTATION, dns_label, dns_subdomain, port_number

FIELD = "WorkloadGroup"
"""How errors call it."""


@dataclass(frozen=True)
class WorkloadGroup:
    """What bootstrap files need of a WorkloadGroup."""

    name: str
    namespace: str
    service_account: str
    """`default` where the group names none."""
    network: str
    """Empty: the VMs are in no named network."""
    ports: Mapping[str, int]
    """Ports of the app by name; none: all incoming connections go through the proxy."""
    labels: Mapping[str, str]
    """Of `spec.metadata`, and over them those of `spec.template`."""
    proxy_configs: tuple[tuple[str, str], ...]
    """Annotations `proxy.istio.io/config` with where they are, in the order in which they apply."""
    probe: protojson.Message | None
    """The readiness probe as Istio would write it."""
    unknown: tuple[str, ...]
    """Paths in `spec` that Istio does not know, and so leaves out."""


def parse_group(group: Mapping[str, Any]) -> WorkloadGroup:
    """Reads a WorkloadGroup manifest (any version of networking.istio.io).

    Labels are taken as they are: istiod and Kubernetes check them. Raises `BootstrapError` where Istio could not read
    it, or no VM could join by it.
    """
    if not group:
        raise BootstrapError(
            FIELD,
            None,
            "is empty",
            "No VM could join by it.",
            "the group's own manifest; a component `Workload` has one with `has_machines`.",
        )
    kind = group.get("kind", FIELD)
    if kind != FIELD:
        raise BootstrapError(
            f"{FIELD} kind", kind, f"is not {FIELD}", "A VM joins by a WorkloadGroup only.", "the group's own manifest."
        )
    metadata = _mapping(group.get("metadata"), f"{FIELD} metadata")
    unknown: list[str] = []
    spec = protojson.read("WorkloadGroup", group.get("spec"), f"{FIELD} spec", unknown.append)
    template = spec.get("template", {})
    spec_metadata = spec.get("metadata", {})
    ports: dict[str, int] = template.get("ports", {})
    for name, port in ports.items():
        port_number(port, f"{FIELD} spec.template.ports.{name}")
    annotations = (
        (f"{FIELD} metadata.annotations", _mapping(metadata.get("annotations"), f"{FIELD} metadata.annotations")),
        (f"{FIELD} spec.metadata.annotations", spec_metadata.get("annotations", {})),
    )
    return WorkloadGroup(
        name=dns_subdomain(_text(metadata, "name"), f"{FIELD} metadata.name"),
        namespace=dns_label(_text(metadata, "namespace"), f"{FIELD} metadata.namespace"),
        service_account=dns_subdomain(
            template.get("serviceAccount") or "default", f"{FIELD} spec.template.serviceAccount"
        ),
        network=template.get("network", ""),
        ports=ports,
        labels={**spec_metadata.get("labels", {}), **template.get("labels", {})},
        proxy_configs=tuple(
            (f"{where}[{PROXY_CONFIG_ANNOTATION}]", _annotation(where, of))
            for where, of in annotations
            if PROXY_CONFIG_ANNOTATION in of
        ),
        probe=spec.get("probe"),
        unknown=tuple(unknown),
    )


def group_from_yaml(text: str) -> Mapping[str, Any]:
    """The one WorkloadGroup manifest among the documents of `text`. Raises `BootstrapError` where that is not so."""
    documents = [d for d in goyaml.load_all(text, FIELD) if d is not None]
    groups = [d for d in documents if isinstance(d, dict) and (len(documents) == 1 or d.get("kind") == FIELD)]
    if len(groups) != 1:
        found = f"{len(groups)} WorkloadGroups among {len(documents)} documents"
        raise BootstrapError(
            FIELD, None, f"is not clear: the text has {found}", "VMs join by exactly one.", "a file with one of them."
        )
    return groups[0]


def _mapping(value: Any, field: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BootstrapError(field, value, "is not a mapping", "Kubernetes would refuse it.", "`key: value` pairs.")
    return value


def _text(metadata: Mapping[str, Any], key: str) -> str:
    value = metadata.get(key)
    if value is None or value == "":
        raise BootstrapError(
            f"{FIELD} metadata.{key}",
            value,
            "is missing",
            "The VM's proxy would belong to no workload of the mesh.",
            f"set metadata.{key}.",
        )
    if not isinstance(value, str):
        raise BootstrapError(
            f"{FIELD} metadata.{key}", value, "is not text", "Kubernetes would refuse it.", "quote it in the YAML."
        )
    return value


def _annotation(where: str, annotations: Mapping[str, Any]) -> str:
    value = annotations[PROXY_CONFIG_ANNOTATION]
    if not isinstance(value, str | None):
        raise BootstrapError(
            f"{where}[{PROXY_CONFIG_ANNOTATION}]",
            value,
            "is not text",
            "Kubernetes would refuse it.",
            "YAML as text: put `|` after the annotation's name, the settings indented below.",
        )
    return value or ""


def group_manifest(name: str, namespace: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """A WorkloadGroup as Kubernetes has it."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": FIELD,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
