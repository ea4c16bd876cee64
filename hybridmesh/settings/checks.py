"""The rules that need more than one field. Each looks at what could be read: all findings come at once."""

from collections.abc import Iterator, Mapping

from hybridmesh.istio.ports import PROXY_PORTS

from .access import Callers, check_access
from .control_plane_checks import check_control_plane
from .draft import Draft
from .findings import Finding, one_of
from .google_checks import check_google
from .istiod_checks import check_istiods
from .machine_checks import check_entries, check_hosts, host_findings
from .models import Access, Cluster, ControlPlane, Observability, Sidecar, Versions, Workload
from .network_checks import check_networks, gateway_account
from .observability_checks import check_observability
from .revision_checks import revision_findings
from .routing_checks import NAMESPACE_RULE, routing_findings, service_findings, traffic_policy_findings
from .shape_checks import check_sidecar, check_workload
from .version_checks import check_versions, outside_the_table

NAMESPACES_THERE = frozenset(("default", "kube-node-lease", "kube-public", "kube-system"))
"""Kubernetes' own, which no cluster is without."""
ACCOUNT_THERE = "default"
"""The service account that Kubernetes makes in each namespace."""
ISTIO_PORTS = {*PROXY_PORTS, 15008, 15009}
"""Ports that the proxy and its agent take on every machine, and those that Istio keeps for tunnels (HBONE)."""


def check(draft: Draft) -> Iterator[Finding]:
    """Every finding that needs more than one field; none where nobody can tell which workloads there are."""
    if "workloads" in draft.sections:
        return
    control_plane = draft.section("controlPlane", ControlPlane)
    yield from check_control_plane(draft)
    for name, workload in draft.workloads.items():
        yield from _workload(f"workloads.{name}", name, workload, control_plane)
    if control_plane is not None:
        yield from check_istiods(draft, control_plane)
        yield from revision_findings(control_plane, draft.workloads, draft.networks)
        yield from _versions(draft, control_plane)
    yield from _shapes(draft)
    yield from check_hosts(draft)
    yield from check_networks(draft)
    yield from check_google(draft)
    yield from check_entries(draft)
    yield from _identities(draft.workloads)
    yield from _there_already(draft)
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
        strict=draft.strict,
    )
    for name, access in draft.entries.get("access", {}).items():
        if isinstance(access, Access):
            yield from check_access(f"access.{name}", name, access, callers)
            yield from _without_proxy(f"access.{name}", name, draft)
            yield from _policy_names(f"access.{name}", name, access, draft.entries["access"])


def _without_proxy(path: str, name: str, draft: Draft) -> Iterator[Finding]:
    """Rules for pods that nothing enforces them on. In a namespace of others, ztunnel might."""
    workload = draft.workloads.get(name)
    if workload is None or workload.pods is None or workload.labels.get("sidecar.istio.io/inject") != "false":
        return
    namespace = draft.namespaces.get(workload.namespace)
    others = namespace is not None and namespace.existing
    if not others and "istio.io/dataplane-mode" not in workload.labels:
        yield Finding(
            path,
            "",
            f"is for pods that have no proxy, by the label `sidecar.istio.io/inject: false` of `workloads.{name}`",
            "Nobody would be kept out of them.",
            "leave the label out; or the rules, or give machines that they are for a workload of their own.",
        )


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
        yield from one_of(f"{path}.probe", workload.probe, ("http_get", "tcp_socket", "exec"))
    machines = workload.machines
    if machines is None:
        return
    if not (machines.hosts or machines.fleets or machines.instances):
        yield Finding(
            f"{path}.machines.hosts",
            "{}",
            "is empty",
            "Nothing would run on VMs.",
            "name a machine, or leave `machines` out.",
        )
    for host_name, host in machines.hosts.items():
        yield from host_findings(f"{path}.machines.hosts.{host_name}", host, machines.registration)


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


def _there_already(draft: Draft) -> Iterator[Finding]:
    """What every cluster, or every namespace, has, and this stack would make."""
    plane = draft.section("controlPlane", ControlPlane)
    observability = draft.section("observability", Observability)
    others = {name for name, namespace in draft.namespaces.items() if namespace.existing}
    namespaces = {
        **{f"workloads.{name}.namespace": workload.namespace for name, workload in draft.workloads.items()},
        **{f"networks.{name}.gateway.namespace": gateway.namespace for name, gateway in draft.gateways.items()},
    }
    namespaces = {path: name for path, name in namespaces.items() if name not in others}
    if plane is not None and plane.mode == "install":
        namespaces["controlPlane.namespace"] = plane.namespace
    if observability is not None:
        namespaces["observability.namespace"] = observability.namespace
    for path, namespace in namespaces.items():
        if namespace in NAMESPACES_THERE:
            instead = f"; or `namespaces.{namespace}.existing: true`" if path.startswith(("work", "net")) else ""
            yield Finding(
                path,
                namespace,
                "is there in every cluster, and this stack would make it",
                "Kubernetes would refuse that, half-way through `up`.",
                f"a namespace of its own{instead}.",
            )
    accounts = {
        **{f"workloads.{name}": workload.service_account or name for name, workload in draft.workloads.items()},
        **{f"networks.{name}.gateway": gateway_account(name, gateway) for name, gateway in draft.gateways.items()},
    }
    for path, account in accounts.items():
        if account == ACCOUNT_THERE:
            yield Finding(
                f"{path}.serviceAccount",
                account,
                "is there in every namespace, and this stack would make it",
                "Kubernetes would refuse that; and pods without an account of their own have its identity.",
                "an account of its own.",
            )


def _namespaces(draft: Draft) -> Iterator[Finding]:
    used = draft.used_namespaces
    complete = draft.complete and len(draft.networks) == len(draft.network_names)
    for name, namespace in draft.namespaces.items():
        policy = namespace.traffic_policy
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
        if complete and name not in used:
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
    namespace = draft.namespaces.get(workload.namespace)
    if namespace is not None and namespace.traffic_policy is not None:
        yield Finding(
            f"routing.{NAMESPACE_RULE}",
            "",
            f"makes the DestinationRule `{NAMESPACE_RULE}`, and so does "
            f"`namespaces.{workload.namespace}.trafficPolicy`",
            "One would overwrite the other.",
            "another name for the workload, or leave one of the two out.",
        )
