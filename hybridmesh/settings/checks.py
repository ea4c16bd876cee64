"""The rules that need more than one field. Each looks at what could be read: all findings come at once."""

from collections.abc import Iterator, Mapping
from typing import Any

from hybridmesh.istio import istiod_host, static_entry_name
from hybridmesh.istio.adopted import selects
from hybridmesh.istio.names import NAME_LABEL, NETWORK_LABEL, injection_labels, is_ip_address
from hybridmesh.istio.ports import PROXY_PORTS

from .access import Callers, check_access
from .draft import Draft
from .findings import Finding
from .google_checks import check_google
from .login_checks import check_login
from .lost import check_lost
from .models import (
    Access,
    Charts,
    Cluster,
    Command,
    ControlPlane,
    Gateway,
    Host,
    Namespace,
    Observability,
    Probe,
    Sidecar,
    Ssh,
    Versions,
    Workload,
)
from .network_checks import check_networks, gateway_hosts
from .observability_checks import check_observability
from .revision_checks import revision_findings
from .routing_checks import NAMESPACE_RULE, routing_findings, service_findings, traffic_policy_findings
from .shape_checks import check_sidecar, check_workload
from .version_checks import check_versions, outside_the_table

ISTIO_PORTS = {*PROXY_PORTS, 15008, 15009}
"""Ports that the proxy and its agent take on every machine, and those that Istio keeps for tunnels (HBONE)."""
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


def check(draft: Draft) -> Iterator[Finding]:
    """Every finding that needs more than one field."""
    control_plane = draft.section("controlPlane", ControlPlane)
    if control_plane is not None:
        yield from _control_plane(control_plane)
        yield from _discovered(draft, control_plane)
    gateway = draft.section_or_default("gateway", Gateway)
    if gateway is not None:
        yield from _gateway(gateway)
    if control_plane is not None and gateway is not None:
        yield from _charts(control_plane, gateway)
    for name, workload in draft.workloads.items():
        yield from _workload(f"workloads.{name}", name, workload, control_plane)
    if control_plane is not None:
        yield from revision_findings(control_plane, draft.workloads, draft.networks)
        yield from _versions(draft, control_plane)
    yield from _shapes(draft)
    for path, _, host in gateway_hosts(draft.networks):
        yield from _host(path, host, "auto")
    yield from _package(draft)
    yield from _hosts(draft)
    yield from check_networks(draft)
    yield from check_google(draft)
    yield from _mesh_addresses(draft.workloads)
    yield from _static_entries(draft.workloads)
    yield from _identities(draft.workloads)
    cluster = draft.section("cluster", Cluster)
    domain = cluster.domain if cluster is not None else "cluster.local"
    yield from service_findings(draft.workloads, domain, control_plane.namespace if control_plane is not None else "")
    for name, routing in draft.routing.items():
        yield from routing_findings(f"routing.{name}", name, routing, draft.entries.get("workloads", {}))
    yield from _rule_names(draft)
    yield from _access(draft, control_plane)
    yield from _namespaces(draft)
    yield from check_observability(draft)


def _access(draft: Draft, control_plane: ControlPlane | None) -> Iterator[Finding]:
    callers = Callers(
        trust_domain=control_plane.trust_domain if control_plane else "",
        workloads=draft.workloads,
        names=frozenset(draft.entries.get("workloads", {})),
        strict=draft.sections.get("mtls", "STRICT") == "STRICT",
    )
    for name, access in draft.entries.get("access", {}).items():
        if isinstance(access, Access):
            yield from check_access(f"access.{name}", name, access, callers)
            yield from _policy_names(f"access.{name}", name, access, draft.entries["access"])


def _policy_names(path: str, name: str, access: Access, others: Mapping[str, Access | None]) -> Iterator[Finding]:
    other = name.removesuffix("-default")
    first = others.get(other) if other != name else None
    if first is not None and first.default == "deny" and access.deny:
        yield Finding(
            f"{path}.deny",
            "",
            f"makes the policy `{name}-deny`, and so does `default: deny` of `access.{other}`",
            "Pulumi would refuse two of one name.",
            f"another name for one of the workloads `{other}` and `{name}`.",
        )


def _charts(control_plane: ControlPlane, gateway: Gateway) -> Iterator[Finding]:
    path = "controlPlane.charts"
    if control_plane.charts is not None:
        yield from _one_of(path, control_plane.charts, ("path", "repository"))
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
            yield from _one_of(f"controlPlane.revisions.{name}.charts", revision.charts, ("path", "repository"))


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
    yield from _reserved(f"{path}.values", control_plane.values)
    for name, revision in control_plane.revisions.items():
        yield from _reserved(f"{path}.revisions.{name}.values", revision.values)


def _reserved(path: str, values: Mapping[str, Any]) -> Iterator[Finding]:
    for keys, instead in _RESERVED_VALUES.items():
        value: Any = values
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
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
    given = draft.sections.get("namespaces") or {}
    made = {w.namespace for w in draft.workloads.values()}
    made |= {n.gateway.namespace for n in draft.networks.values() if n.gateway is not None}
    made -= {name for name, there in given.items() if not isinstance(there, Namespace) or there.existing}
    observability = draft.section("observability", Observability)
    made |= {observability.namespace} if observability is not None else set()
    labels = dict.fromkeys(sorted(made), injection_labels(control_plane.revision))
    labels[control_plane.namespace] = {NETWORK_LABEL: cluster.network}
    values = {"controlPlane.values": control_plane.values}
    values |= {f"controlPlane.revisions.{name}.values": r.values for name, r in control_plane.revisions.items()}
    for path, its in values.items():
        mesh = its.get("meshConfig")
        selectors = mesh.get("discoverySelectors") if isinstance(mesh, Mapping) else None
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
    for key in ("networkGateway", "name", "revision"):
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
    if gateway.mode == "adopt" and gateway.values:
        yield Finding(
            "gateway.values",
            "",
            "is not used with `mode: adopt`",
            "An adopted gateway is never changed, so this would have no effect.",
            "leave it out, or `mode: install`.",
        )


def _one_of(path: str, model: Charts | Host | Probe | Ssh | Command, names: tuple[str, ...]) -> Iterator[Finding]:
    aliases = [type(model).model_fields[n].alias or n for n in names]
    given = [a for n, a in zip(names, aliases, strict=True) if getattr(model, n) is not None]
    if len(given) != 1:
        problem = f"has {' and '.join(given)}" if given else "has none of them"
        yield Finding(
            path,
            "",
            f"{problem}; it takes exactly one of {', '.join(aliases)}",
            "It would be unclear which one counts.",
            f"give one of {', '.join(aliases)}.",
        )


def _workload(path: str, name: str, workload: Workload, control_plane: ControlPlane | None) -> Iterator[Finding]:
    if control_plane is not None and workload.namespace == control_plane.namespace:
        yield Finding(
            f"{path}.namespace",
            workload.namespace,
            "is Istio's root namespace",
            "Policies made there hold for the whole mesh.",
            "a namespace of its own.",
        )
    if workload.pods is None and workload.machines is None:
        yield Finding(
            path,
            "",
            "has neither pods nor machines",
            "It would be a name without anything behind it.",
            "give `pods`, `machines`, or both.",
        )
    for key in ("app", "version"):
        if workload.labels.get(key, name) != name or (key == "version" and key in workload.labels):
            instead = f"`{name}`" if key == "app" else "`pods.version` and `machines.version`"
            yield Finding(
                f"{path}.labels.{key}",
                workload.labels[key],
                f"is set by the stack itself, to {instead}",
                "Service and subsets would select nothing.",
                "leave it out.",
            )
    yield from _ports(path, workload)
    if workload.probe is not None:
        yield from _one_of(f"{path}.probe", workload.probe, ("http_get", "tcp_socket", "exec"))
    machines = workload.machines
    if machines is not None and not (machines.hosts or machines.fleets or machines.instances):
        yield Finding(
            f"{path}.machines.hosts",
            "{}",
            "is empty",
            "Nothing would run on VMs.",
            "name a machine, or leave `machines` out.",
        )
    for host_name, host in (workload.machines.hosts if workload.machines else {}).items():
        registration = workload.machines.registration if workload.machines else ""
        yield from _host(f"{path}.machines.hosts.{host_name}", host, registration)


def _ports(path: str, workload: Workload) -> Iterator[Finding]:
    seen: dict[tuple[str, object], int] = {}
    for index, port in enumerate(workload.ports):
        for kind, value in (("name", port.name), ("port", port.port)):
            first = seen.setdefault((kind, value), index)
            if first != index:
                yield Finding(
                    f"{path}.ports[{index}].{kind}",
                    str(value),
                    f"is that of ports[{first}] too",
                    "Kubernetes would refuse the Service.",
                    "give each port a name and a number of its own.",
                )
        if workload.pods is not None and "--" in port.name:
            yield Finding(
                f"{path}.ports[{index}].name",
                port.name,
                "has two hyphens in a row, and `pods` are given",
                "Kubernetes would refuse the Deployment: a container's port has no such name.",
                "a name with single hyphens.",
            )
        if port.target in ISTIO_PORTS:
            yield Finding(
                f"{path}.ports[{index}].port",
                str(port.target),
                "is one that Istio's proxy takes, beside the app",
                "App and proxy would fight for it.",
                "let the app listen on another port (`targetPort`).",
            )


def _host(path: str, host: Host, registration: str) -> Iterator[Finding]:
    yield from _one_of(path, host, ("ssh", "command"))
    yield from check_lost(path, host)
    if host.weight is not None and registration != "static":
        yield Finding(
            f"{path}.weight",
            str(host.weight),
            "needs `machines.registration: static`",
            "istiod makes the WorkloadEntry by the group, which has one weight for all its machines.",
            "`registration: static`, or leave it out.",
        )
    for kind in ("ssh", "command"):
        access = getattr(host, kind)
        if isinstance(access, Ssh | Command):
            yield from check_login(f"{path}.{kind}", access)
    if host.ssh is not None and host.mesh_address is None and not is_ip_address(host.ssh.address):
        yield Finding(
            f"{path}.meshAddress",
            "",
            "is missing, and `ssh.address` is a host name",
            "The mesh needs the machine's IP address, and would not know it.",
            "the IP address at which the mesh reaches the machine.",
        )


def _package(draft: Draft) -> Iterator[Finding]:
    with_machines = [f"workloads.{n}" for n, w in draft.workloads.items() if w.machines is not None]
    with_machines += [f"networks.{n}.gateway" for n, network in draft.networks.items() if network.gateway is not None]
    sidecar = draft.section_or_default("sidecar", Sidecar)
    if with_machines and sidecar is not None and sidecar.package is None:
        yield Finding(
            "sidecar.package",
            "",
            f"is missing, and `{with_machines[0]}` has machines",
            "Its VMs could not install the sidecar.",
            "`{url, sha256, version}` of the `istio-sidecar` package.",
        )


def _versions(draft: Draft, control_plane: ControlPlane) -> Iterator[Finding]:
    accepted = draft.section_or_default("versions", Versions)
    sidecar = draft.section("sidecar", Sidecar) or Sidecar()
    if accepted is not None:
        found = outside_the_table(control_plane, sidecar, draft.workloads, draft.networks)
        yield from check_versions(found, accepted)


def _shapes(draft: Draft) -> Iterator[Finding]:
    sidecar = draft.section_or_default("sidecar", Sidecar)
    if sidecar is None:
        return
    yield from check_sidecar(sidecar)
    for name, workload in draft.workloads.items():
        yield from check_workload(f"workloads.{name}", workload, sidecar)


def _hosts(draft: Draft) -> Iterator[Finding]:
    names: dict[str, str] = {}
    endpoints: dict[tuple[object, ...], str] = {}
    of_workloads = [
        (f"workloads.{workload_name}.machines.hosts.{name}", name, host)
        for workload_name, workload in draft.workloads.items()
        for name, host in (workload.machines.hosts if workload.machines else {}).items()
    ]
    for path, name, host in (*of_workloads, *gateway_hosts(draft.networks)):
        first = names.setdefault(name, path)
        if first != path:
            yield Finding(
                path,
                "",
                f"has the name of {first}",
                "The two could not be told apart.",
                "give each machine a name of its own in the whole stack.",
            )
        # Where one was that is gone for good, another may be by now.
        if host.ssh is not None and not host.gone:
            first = endpoints.setdefault(_endpoint(host), path)
            if first != path:
                yield Finding(
                    f"{path}.ssh.address",
                    host.ssh.address,
                    f"is that of {first} too",
                    "One machine cannot be two members of the mesh.",
                    "list each machine once; one workload, or one network's gateway, a machine.",
                )


def _mesh_addresses(workloads: Mapping[str, Workload]) -> Iterator[Finding]:
    """istiod names a machine's WorkloadEntry after its workload, address and network."""
    for workload_name, workload in workloads.items():
        machines = workload.machines
        if machines is None or machines.registration == "static":
            continue
        seen: dict[str, tuple[str, Host]] = {}
        for name, host in machines.hosts.items():
            address = host.mesh_address or (host.ssh.address if host.ssh is not None else None)
            if address is None or host.gone:
                continue
            key = "meshAddress" if host.mesh_address is not None else "ssh.address"
            path = f"workloads.{workload_name}.machines.hosts.{name}.{key}"
            first, other = seen.setdefault(address, (path, host))
            # The same machine twice is found where SSH reaches it.
            if first != path and (host.ssh is None or _endpoint(host) != _endpoint(other)):
                yield Finding(
                    path,
                    address,
                    f"is that of {first} too",
                    "Both would have one WorkloadEntry, and requests for one would go to the other.",
                    "`meshAddress`, at which the mesh reaches this machine and no other.",
                )


def _endpoint(host: Host) -> tuple[object, ...]:
    """Where SSH finds a machine, as far as it tells it from others; empty if not by SSH."""
    if host.ssh is None:
        return ()
    # Behind another bastion, an address is another network's; the mesh has to know it by another one.
    way = host.ssh.bastion if host.mesh_address is not None else None
    return host.ssh.address, host.ssh.port, *((way.address, way.port) if way is not None else ())


def _static_entries(workloads: Mapping[str, Workload]) -> Iterator[Finding]:
    seen: dict[tuple[str, str], str] = {}
    for workload_name, workload in workloads.items():
        if workload.machines is None or workload.machines.registration != "static":
            continue
        for name in workload.machines.hosts:
            path, entry = f"workloads.{workload_name}.machines.hosts.{name}", static_entry_name(workload_name, name)
            first = seen.setdefault((workload.namespace, entry), path)
            if first != path:
                yield Finding(
                    path,
                    "",
                    f"would have the WorkloadEntry {entry}, as {first} has",
                    "Both would make the same object.",
                    "another name for the machine.",
                )


def _identities(workloads: Mapping[str, Workload]) -> Iterator[Finding]:
    seen: dict[tuple[str, str], str] = {}
    for name, workload in workloads.items():
        account = workload.service_account or name
        first = seen.setdefault((workload.namespace, account), name)
        if first != name:
            yield Finding(
                f"workloads.{name}.serviceAccount",
                account,
                f"is that of workloads.{first} too",
                "Policies could not tell the two apart, and both would make the same object.",
                "give each workload an account of its own.",
            )


def _namespaces(draft: Draft) -> Iterator[Finding]:
    used = {w.namespace for w in draft.workloads.values()}
    used |= {n.gateway.namespace for n in draft.networks.values() if n.gateway is not None}
    namespaces = draft.sections.get("namespaces") or {}
    complete = draft.complete and len(draft.networks) == len(draft.network_names)
    for name, namespace in namespaces.items():
        policy = namespace.traffic_policy if isinstance(namespace, Namespace) else None
        if policy is not None:
            yield from traffic_policy_findings(f"namespaces.{name}.trafficPolicy", policy)
        if policy is not None and namespace.existing:
            yield Finding(
                f"namespaces.{name}.trafficPolicy",
                "",
                "is for a namespace that is not this stack's (`existing: true`)",
                "It would change services of others in it.",
                "give the policy in `routing.<workload>`, or leave it out.",
            )
        if isinstance(namespace, Namespace) and complete and name not in used:
            yield Finding(
                f"namespaces.{name}",
                "",
                "is the namespace of no workload",
                "Nothing would read it.",
                f"one of {', '.join(sorted(used)) or 'none: there are no workloads'}.",
            )


def _rule_names(draft: Draft) -> Iterator[Finding]:
    workload = draft.workloads.get(NAMESPACE_RULE)
    if workload is None or NAMESPACE_RULE not in draft.routing:
        return
    namespace = (draft.sections.get("namespaces") or {}).get(workload.namespace)
    if isinstance(namespace, Namespace) and namespace.traffic_policy is not None:
        yield Finding(
            f"routing.{NAMESPACE_RULE}",
            "",
            f"makes the DestinationRule `{NAMESPACE_RULE}`, and so does "
            f"`namespaces.{workload.namespace}.trafficPolicy`",
            "One would overwrite the other.",
            "another name for the workload, or leave one of the two out.",
        )
