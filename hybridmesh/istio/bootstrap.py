"""The files with which a VM joins the mesh, as `istioctl x workload entry configure` would make them.

Each comes from a function of its own, since in a program whose inputs are not all known yet, what is unknown to one
file must not hide another. Source: istioctl/pkg/workload/workload.go of Istio 1.31.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import goyaml, protojson
from .errors import BootstrapError
from .group import WorkloadGroup, parse_group
from .mesh import MeshConfig, parse_mesh_config
from .names import (
    canonical_service,
    dns_label,
    dns_subdomain,
    ip_address,
    ip_addresses,
    is_revisioned,
    istiod_address,
    istiod_host,
    port_number,
)
from .ports import AGENT_HEALTH, AGENT_STATUS, ENVOY_METRICS, SSH

_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AGENT_FLAGS = "ISTIO_AGENT_FLAGS"
FOLDERS: Mapping[str, str] = {"ISTIO_LOG_DIR": "/var/log/istio", "OUTPUT_CERTS": "/etc/certs"}
"""Variables of the agent that move a folder, and where the scripts on a VM know it to be."""
_READ_ONLY = "bash lets nobody set it: the script would stop at that line, and Istio never start."
_OF_ROOT = "What the script runs as root would load it, and the proxy would not: sudo takes it away."
_OF_THE_START: Mapping[str, str] = {
    "PATH": "The script might not find hostname, iptables or sudo, or find others; the proxy's is set by sudo.",
    "IFS": "The script would join the agent's flags by it.",
    "SHELL": "sudo starts the agent with it: with a shell that is none, such as /bin/false, Istio would never start.",
    "LD_AUDIT": _OF_ROOT,
    "LD_LIBRARY_PATH": _OF_ROOT,
    "LD_PRELOAD": _OF_ROOT,
    "BASHOPTS": _READ_ONLY,
    "BASH_VERSINFO": _READ_ONLY,
    "EUID": _READ_ONLY,
    "PPID": _READ_ONLY,
    "SHELLOPTS": _READ_ONLY,
    "UID": _READ_ONLY,
}
"""Variables of `istio-start.sh` (tools/packaging/common), of the bash that runs it and the sudo that it runs, and what
follows if cluster.env sets them."""
_DNS_CAPTURE = "ISTIO_META_DNS_CAPTURE"
_NEEDS_QUOTES = re.compile(r"[^w@%+=:,./-]")
"""As istioctl has it, where the letter w is safe and others are not; but for the backslash, which it leaves bare: a
shell drops it, and one at the end of a line joins the next variable to this one."""


@dataclass(frozen=True, kw_only=True)
class BootstrapOptions:
    """What is neither in the WorkloadGroup nor in the mesh config. Raises `BootstrapError` on a wrong value."""

    cluster_id: str = ""
    """The cluster whose istiod the VM joins, as that istiod calls it (Helm `global.multiCluster.clusterName`, else
    `Kubernetes`). istiod refuses a name that it does not know, and takes an empty one for its own cluster."""
    revision: str = "default"
    """istiod's revision; `default` and empty are the one without."""
    istio_namespace: str = "istio-system"
    """The namespace that istiod runs in."""
    ingress_addresses: tuple[str, ...] = ()
    """IP addresses at which the VM reaches istiod: those of the east-west gateway. None: `hosts` is empty, and the VM
    must find istiod by DNS."""
    internal_ip: str = ""
    """The VM's IP address as pods reach it. Empty: the VM takes its first one, wrong where it has several."""
    external_ip: str = ""
    """Instead of `internal_ip`, an address outside the VM that leads to it, by NAT."""
    auto_register: bool = False
    """Whether istiod makes a WorkloadEntry when the VM connects."""
    workload_entry: str = ""
    """Instead, the name of a WorkloadEntry that is there before the VM connects, in the group's namespace."""
    dns_capture: bool | None = True
    """Whether the VM's DNS queries go to the agent, which knows the names in the mesh. None: as proxyMetadata of mesh
    and group has it, for which istioctl takes `--capture-dns=false`."""
    standard_places: bool = False
    """Whether agent and admin page are at Istio's own ports, 15020 and 15000, and logs and certificates in its own
    folders, whatever mesh and group say: those that firewall, metrics and scripts of the VM know."""
    trust_domain: str | None = None
    """Default: the mesh config's."""
    local_exclude_ports: Sequence[int] = ()
    """Ports besides SSH's 22 and Istio's own whose incoming connections bypass the proxy, such as another SSH port."""
    inbound_ports: Sequence[int] | None = None
    """Ports whose incoming connections go to the proxy. None: those of the group, all where it has none."""
    all_inbound_ports: bool = False
    """Whether those of every port do, but for the excluded."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for `cluster.env`, over all others: settings of the agent, such as `CLOUD_PLATFORM` or `PROXY_GID`."""
    agent_role: str = ""
    """What the agent runs, such as `router`; default: a sidecar. Before the flags that it has by a variable."""
    agent_flags: str = ""
    """Flags of the agent, after those that it has by a variable."""

    def __post_init__(self) -> None:
        if is_revisioned(self.revision):
            dns_label(self.revision, "revision")
        dns_label(self.istio_namespace, "Istio's namespace")
        ip_addresses(self.ingress_addresses, "ingress address")
        if self.auto_register and self.workload_entry:
            raise BootstrapError(
                "workload entry",
                self.workload_entry,
                "is given together with auto-registration",
                "istiod would make another WorkloadEntry for the same VM.",
                "one of the two.",
            )
        if self.workload_entry:
            dns_subdomain(self.workload_entry, "workload entry")
        if self.internal_ip and self.external_ip:
            raise BootstrapError(
                "internal IP and external IP",
                f"{self.internal_ip} and {self.external_ip}",
                "are both given",
                "The VM has one address in the mesh.",
                "the one at which pods reach it.",
            )
        if self.internal_ip:
            ip_address(self.internal_ip, "internal IP")
        if self.external_ip:
            ip_address(self.external_ip, "external IP")
        for port in self.local_exclude_ports:
            port_number(port, "local exclude ports")
        for port in self.inbound_ports or ():
            port_number(port, "inbound ports")


@dataclass(frozen=True)
class BootstrapFiles:
    """What is generated; the root certificate and the token are passed on as they are."""

    cluster_env: str
    """`/var/lib/istio/envoy/cluster.env`"""
    mesh_yaml: str
    """`/etc/istio/config/mesh`"""
    hosts: str
    """Lines for `/etc/hosts`"""


def bootstrap_files(group: Mapping[str, Any], mesh_config: str, options: BootstrapOptions) -> BootstrapFiles:
    """All three; arguments and errors as for each one."""
    return BootstrapFiles(
        cluster_env=cluster_env(group, mesh_config, options),
        mesh_yaml=mesh_yaml(group, mesh_config, options),
        hosts=hosts_file(options.ingress_addresses, istio_namespace=options.istio_namespace, revision=options.revision),
    )


def mesh_yaml(group: Mapping[str, Any], mesh_config: str, options: BootstrapOptions) -> str:
    """The agent's configuration, `{defaultConfig: …}`.

    `group`: the WorkloadGroup's manifest. `mesh_config`: the YAML text under `mesh` in istiod's ConfigMap. Raises
    `BootstrapError` on what Istio could not read, or no proxy could start with.
    """
    proxy_config = _proxy_config(parse_group(group), parse_mesh_config(mesh_config), options, [])
    return goyaml.dump({"defaultConfig": protojson.written("ProxyConfig", proxy_config)})


def cluster_env(group: Mapping[str, Any], mesh_config: str, options: BootstrapOptions) -> str:
    """The environment of the VM's Istio service, sorted `NAME=value` lines for a shell.

    Arguments and errors as for `mesh_yaml`.
    """
    parsed = parse_group(group)
    proxy_config = _proxy_config(parsed, parse_mesh_config(mesh_config), options, [])
    status_port = proxy_config.get("statusPort") or AGENT_STATUS
    excluded = [SSH, ENVOY_METRICS, AGENT_HEALTH]
    if status_port not in (ENVOY_METRICS, AGENT_HEALTH):
        excluded.append(status_port)
    excluded += [port for port in dict.fromkeys(options.local_exclude_ports) if port not in excluded]
    environment = {
        **proxy_config["proxyMetadata"],
        "ISTIO_INBOUND_PORTS": _inbound_ports(parsed, options),
        "ISTIO_LOCAL_EXCLUDE_PORTS": ",".join(map(str, excluded)),
        "ISTIO_NAMESPACE": parsed.namespace,
        "ISTIO_SERVICE": f"{parsed.name}.{parsed.namespace}",
        "ISTIO_SERVICE_CIDR": "*",
    }
    if is_revisioned(options.revision):
        environment["CA_ADDR"] = istiod_address(options.istio_namespace, options.revision)
    if options.internal_ip or options.external_ip:
        environment["ISTIO_SVC_IP"] = options.internal_ip or options.external_ip
    if options.external_ip:
        environment["REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION"] = "true"
    environment |= options.environment
    if options.agent_role or options.agent_flags:
        words = (options.agent_role, environment.get(_AGENT_FLAGS), options.agent_flags)
        environment[_AGENT_FLAGS] = " ".join(filter(None, words))
    for name in environment:
        if not _ENVIRONMENT_NAME.fullmatch(name):
            raise BootstrapError(
                "name in proxyMetadata or environment",
                name,
                "is not the name of a variable",
                "The shell that starts Istio on the VM would stop at that line of cluster.env, or run it.",
                "letters, digits and _ only, not a digit first.",
            )
        if changes_user(name, environment[name]):
            raise BootstrapError(
                f"{name} in proxyMetadata or environment",
                environment[name],
                "lets another user than istio-proxy run the proxy",
                "Its logs on the VM would be that user's: nothing could empty them, and they would fill the disk.",
                "leave it out, wherever it stands: the mesh's defaultConfig, an annotation of the WorkloadGroup, the "
                "environment. VMs that ran with it need `chown istio-proxy: /var/log/istio/*.log` first.",
            )
        consequence = breaks_start(name, environment[name])
        if consequence:
            raise BootstrapError(
                f"{name} in proxyMetadata or environment",
                environment[name],
                "is a variable of the script that starts Istio on the VM",
                consequence,
                "leave it out, wherever it stands: the mesh's defaultConfig, an annotation of the WorkloadGroup, the "
                "environment.",
            )
    lines = sorted(f"{name}={shell_quote(value)}" for name, value in environment.items())
    return "\n".join(lines) + "\n"


def changes_user(variable: str, value: str) -> bool:
    """Whether `istio-start.sh` of the package runs the agent, by this variable, as another user than its own."""
    if variable == "EXEC_USER":
        return value not in ("", "istio-proxy")
    return variable == "ISTIO_INBOUND_INTERCEPTION_MODE" and value == "TPROXY"


def breaks_start(variable: str, value: str) -> str:
    """What goes wrong when `istio-start.sh` of the package reads this variable from cluster.env; empty: nothing."""
    if variable == "USER" and value == "istio-proxy":
        return "The script would think that it runs as istio-proxy already, and run the proxy as root."
    if variable == "ISTIO_BIN_BASE" and value.rstrip("/") not in ("", "/usr/local/bin"):
        return "The script would not find pilot-agent, which the package has in /usr/local/bin."
    return _OF_THE_START.get(variable, "")


def _inbound_ports(group: WorkloadGroup, options: BootstrapOptions) -> str:
    """`*`, or a list; Istio reads the excluded ports only with `*`."""
    bypassing = next((port for port in group.ports.values() if port in options.local_exclude_ports), None)
    if bypassing is not None:
        raise BootstrapError(
            "port of the WorkloadGroup",
            bypassing,
            "is sshd's, or excluded from the proxy",
            "Callers would speak mTLS to an app that does not, and plain text would not be refused.",
            "let the app listen on another port.",
        )
    if options.all_inbound_ports or (options.inbound_ports is None and not group.ports):
        return "*"
    # istioctl repeats a port that the group has under two names.
    ports = group.ports.values() if options.inbound_ports is None else set(options.inbound_ports)
    return ",".join(str(port) for port in sorted(ports) if port not in options.local_exclude_ports)


def hosts_file(addresses: Iterable[str], *, istio_namespace: str = "istio-system", revision: str = "default") -> str:
    """Lines for the VM's `/etc/hosts` that lead to istiod, one per IP address; none: empty.

    Raises `BootstrapError` on a host name: a hosts file cannot have one, it has to be resolved first.
    """
    host = istiod_host(istio_namespace, revision)
    return "".join(f"{address} {host}\n" for address in ip_addresses(addresses, "ingress address"))


def hosts_template(address: str, *, istio_namespace: str = "istio-system", revision: str = "default") -> str:
    """As `hosts_file`, for one address, which may be a host name: the VM resolves it, and goes on doing so.

    Raises `BootstrapError` on what is neither.
    """
    try:
        return hosts_file([address], istio_namespace=istio_namespace, revision=revision)
    except BootstrapError:
        # Not by its last label, an address that is none (192.0.2.300) would pass for a name.
        if not re.fullmatch(r"[a-z0-9.-]*[a-z][a-z0-9-]*\.?", address.lower()):
            raise
        name = dns_subdomain(address.lower().removesuffix("."), "gateway's host name")
        return f"{name} {istiod_host(istio_namespace, revision)}\n"


def unknown_fields(group: Mapping[str, Any], mesh_config: str) -> tuple[str, ...]:
    """Where group, mesh config and annotations have fields that Istio does not know, and leaves out: often typos."""
    parsed, mesh = parse_group(group), parse_mesh_config(mesh_config)
    unknown = [*parsed.unknown, *mesh.unknown]
    _proxy_config(parsed, mesh, BootstrapOptions(), unknown)
    return tuple(unknown)


def shell_quote(value: str) -> str:
    """`value` as istioctl quotes it in `cluster.env` (pkg/util/shellescape), and backslashes too."""
    if not value:
        return "''"
    return "'" + value.replace("'", "'\"'\"'") + "'" if _NEEDS_QUOTES.search(value) else value


def go_json(data: Any) -> str:
    """`data` as Go's encoding/json writes it: compact, keys sorted, safe in HTML, other characters as they are."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _proxy_config(
    group: WorkloadGroup, mesh: MeshConfig, options: BootstrapOptions, unknown: list[str]
) -> protojson.Message:
    """The mesh's defaultConfig with the group's annotations, probe and metadata; adds to `unknown`."""
    config = dict(mesh.default_config)
    if is_revisioned(options.revision) and not config.get("discoveryAddress"):
        config["discoveryAddress"] = istiod_address(options.istio_namespace, options.revision)
    metadata: dict[str, str] = dict(config.get("proxyMetadata", {}))
    for where, text in group.proxy_configs:
        over = protojson.read("ProxyConfig", goyaml.load(text, where), where, unknown.append)
        config = protojson.merge("ProxyConfig", config, over)
        metadata |= over.get("proxyMetadata", {})
    if options.dns_capture is False and _DNS_CAPTURE in metadata:  # of the mesh, for its pods
        metadata[_DNS_CAPTURE] = "false"
    if options.standard_places:
        for variable in FOLDERS:
            metadata.pop(variable, None)
        config.pop("statusPort", None)
        config.pop("proxyAdminPort", None)
    config.pop("readinessProbe", None)
    if group.probe is not None:
        config["readinessProbe"] = group.probe
    config["proxyMetadata"] = metadata | _metadata(group, mesh, config, options)
    return config


def _metadata(
    group: WorkloadGroup, mesh: MeshConfig, config: protojson.Message, options: BootstrapOptions
) -> dict[str, str]:
    canonical = canonical_service(group.labels, group.name)
    metadata = {
        "CANONICAL_SERVICE": canonical.name,
        "CANONICAL_REVISION": canonical.revision,
        "POD_NAMESPACE": group.namespace,
        "SERVICE_ACCOUNT": group.service_account,
        "TRUST_DOMAIN": mesh.trust_domain if options.trust_domain is None else options.trust_domain,
        "ISTIO_META_CLUSTER_ID": options.cluster_id,
        "ISTIO_META_MESH_ID": config.get("meshId", ""),
        "ISTIO_META_NETWORK": group.network,
        "ISTIO_META_WORKLOAD_NAME": group.name,
        "ISTIO_METAJSON_LABELS": go_json(canonical.on(group.labels)),
    }
    if group.ports:
        metadata["ISTIO_META_POD_PORTS"] = _pod_ports(group.ports)
    if options.dns_capture:
        metadata[_DNS_CAPTURE] = "true"
    if options.auto_register:
        metadata["ISTIO_META_AUTO_REGISTER_GROUP"] = group.name
    if options.workload_entry:
        metadata["ISTIO_META_WORKLOAD_ENTRY"] = options.workload_entry
    return metadata


def _pod_ports(ports: Mapping[str, int]) -> str:
    # Not sorted by key: Go writes a struct's fields in their order, and leaves out an empty name.
    entries = (
        ([f'"name":{go_json(name)}'] if name else []) + [f'"containerPort":{port}', '"protocol":""']
        for name, port in sorted(ports.items())
    )
    return "[" + ",".join("{" + ",".join(entry) + "}" for entry in entries) + "]"
