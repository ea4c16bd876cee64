"""What this program knows about Istio: pure functions over text and plain data. No Pulumi, no files, no network."""

from .bootstrap import (
    BootstrapFiles,
    BootstrapOptions,
    bootstrap_files,
    cluster_env,
    hosts_file,
    hosts_template,
    mesh_yaml,
    unknown_fields,
)
from .certificate import check_root_certificate, pem_problem
from .errors import BootstrapError
from .group import WorkloadGroup, group_from_yaml, parse_group
from .mesh import MeshConfig, mesh_config_text, parse_mesh_config
from .names import (
    CanonicalService,
    canonical_service,
    dns_label,
    dns_subdomain,
    ip_address,
    is_revisioned,
    istiod_address,
    istiod_host,
    label_key,
    label_map,
    label_value,
    mesh_config_map,
    port_number,
    spiffe_id,
    workload_entry_name,
)

__all__ = [
    "BootstrapError",
    "BootstrapFiles",
    "BootstrapOptions",
    "CanonicalService",
    "MeshConfig",
    "WorkloadGroup",
    "bootstrap_files",
    "canonical_service",
    "check_root_certificate",
    "cluster_env",
    "dns_label",
    "dns_subdomain",
    "group_from_yaml",
    "hosts_file",
    "hosts_template",
    "ip_address",
    "is_revisioned",
    "istiod_address",
    "istiod_host",
    "label_key",
    "label_map",
    "label_value",
    "mesh_config_map",
    "mesh_config_text",
    "mesh_yaml",
    "parse_group",
    "parse_mesh_config",
    "pem_problem",
    "port_number",
    "spiffe_id",
    "unknown_fields",
    "workload_entry_name",
]
