"""What the mesh says of a stack's machines: Kubernetes, every istiod, and the proxies that call them."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from cryptography import x509

from hybridmesh.istio import BootstrapError, goyaml, mesh_config_map
from hybridmesh.istio.mesh import DEFAULT_ROOT_NAMESPACE
from hybridmesh.istio.nested import at
from hybridmesh.istio.ports import ISTIOD_MONITORING, PROXY_ADMIN
from hybridmesh.metrics.in_time import answers_in_time
from hybridmesh.providers.cluster import NETWORKING, Cluster, ClusterError, UnansweredError

from .distance import passed_over
from .facts import Certificate, certificates, requests_by_cluster
from .others import others
from .topology import all_revisions

SECURITY = ("security.istio.io", "v1")
CALLERS = 10
"""Of each workload's pods at most so many are asked what they have sent where."""
OTHERS = 32
"""Of machines that are not the stack's own at most so many are asked for their certificate."""
HANDSHAKE_SECONDS = 2.0
SHOWN_SECONDS = 6.0
"""For all of them together."""
_UNHEALTHY = (2, 3, 4)
"""`HealthStatus` in istiod's endpoints: unhealthy, draining, terminating (pilot/pkg/model/service.go)."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A machine's port, as istiod tells it to all proxies."""

    service: str
    address: str
    labels: Mapping[str, str]
    healthy: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshFacts:
    """One stack's mesh, at one moment."""

    entries: Mapping[str, Mapping[str, Any]]
    """WorkloadEntries by namespace/name."""
    groups: Mapping[str, Mapping[str, Any]]
    """WorkloadGroups by namespace/name."""
    policies: Mapping[str, Sequence[Mapping[str, Any]]]
    """AuthorizationPolicies by namespace; those of the root namespace are in each."""
    states: Mapping[str, Sequence[Mapping[str, Any]]]
    """What all istiods say of the proxies in a namespace (/debug/syncz); of one that is not there, nothing is known."""
    endpoints: Sequence[Endpoint] | None
    """All endpoints of the stack's services, as istiod has them; None: no istiod could be asked."""
    istiods: Mapping[str, int | None]
    """How many run and are ready, by revision; None: not known."""
    gateways: int | None
    """How many of the east-west gateway's pods run and are ready; None: nobody knows which they are."""
    roots: Mapping[str, Sequence[Certificate]]
    """The mesh's root certificates, as each namespace has them."""
    requests: Mapping[str, int]
    """Requests that pods have sent, by Envoy cluster, as their proxies count them."""
    passed_over: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Addresses with ports that get nothing from pods, for all have others nearer to them; by Envoy cluster."""
    certificates: Mapping[str, datetime] = field(default_factory=dict)
    """End of the certificate that a machine's proxy shows to whoever connects, by machine; of those that were asked."""
    blind: Collection[str] = ()
    """Namespaces whose WorkloadEntries could not be read: of their machines the mesh tells nothing."""
    unread: Sequence[str] = ()
    """What could not be read, why, and what is not known for that; one line each."""


NOTHING = MeshFacts(
    entries={}, groups={}, policies={}, states={}, endpoints=None, istiods={}, gateways=0, roots={}, requests={}
)
"""Nothing is known of it."""


def ready_istiods(istiods: Mapping[str, int | None]) -> int | None:
    """How many run and are ready, of all revisions; None: not known."""
    counts = [count for count in istiods.values() if count is not None]
    return sum(counts) if len(counts) == len(istiods) else None


def look(topology: Mapping[str, Any], cluster: Cluster) -> MeshFacts:
    """Ask for all of it, at the same time where that is possible.

    Whoever may read but a part is told of that. Raises ClusterError if Kubernetes does not answer, or lets no
    WorkloadEntries be read, without which nothing can be said.
    """
    plane, machines, workloads = topology["controlPlane"], topology["machines"], topology["workloads"]
    namespaces = sorted({m["namespace"] for m in machines.values()} | {w["namespace"] for w in workloads.values()})
    root, for_all = plane["namespace"], _root_namespace(cluster, plane)
    with ThreadPoolExecutor(16) as pool:
        states = {
            ns: pool.submit(cluster.sync_states, root, all_revisions(plane), ns)
            for ns in sorted({m["namespace"] for m in machines.values()})
        }
        endpoints = pool.submit(_endpoints, cluster, topology)
        callers = pool.submit(_callers, cluster, topology)
        kinds = {
            (ns, kind): pool.submit(cluster.objects_in, *group, kind, ns)
            for ns in namespaces
            for group, kind in ((NETWORKING, "workloadentries"), (NETWORKING, "workloadgroups"))
        }
        policies = {
            ns: pool.submit(cluster.objects_in, *SECURITY, "authorizationpolicies", ns)
            for ns in sorted({*namespaces, for_all})
        }
        maps = {ns: pool.submit(cluster.config_map, ns, "istio-ca-root-cert") for ns in namespaces}
        istiods = {
            revision: pool.submit(cluster.pods, root, f"app=istiod,istio.io/rev in ({revision})")
            for revision in all_revisions(plane).split(",")
        }
        gateways = pool.submit(_gateways, cluster, topology)
        entries = {ns: found for (ns, kind), found in kinds.items() if kind == "workloadentries"}
        groups = {ns: found for (ns, kind), found in kinds.items() if kind == "workloadgroups"}
        unread: dict[str, list[str]] = {}

        def read(found: Future[_Answer], unknown: str) -> _Answer | None:
            try:
                return found.result()
            except ClusterError as error:
                unread.setdefault(str(error), []).append(unknown)
                return None

        members = {ns: read(found, f"whether machines of {ns} are in the mesh") for ns, found in entries.items()}
        blind = [ns for ns, found in members.items() if found is None]
        if members and len(blind) == len(members):
            entries[namespaces[0]].result()  # raises
        running = {revision: read(found, f"whether istiod {revision} runs") for revision, found in istiods.items()}
        in_sync = {ns: read(found, f"whether machines of {ns} are in sync") for ns, found in states.items()}
        pages = read(callers, "what pods have sent where") or []
        roots = {ns: read(found, f"the mesh's root certificate in {ns}") for ns, found in maps.items()}
        refusing = {ns: read(found, f"which calls policies of {ns} refuse") or [] for ns, found in policies.items()}
        return MeshFacts(
            entries=_named(found or [] for found in members.values()),
            blind=blind,
            groups=_named(read(found, f"what the groups of {ns} ask of entries") or [] for ns, found in groups.items()),
            policies={ns: [*refusing[ns], *(refusing[for_all] if ns != for_all else [])] for ns in namespaces},
            states={ns: found for ns, found in in_sync.items() if found is not None},
            endpoints=read(endpoints, "whether others are told of the machines"),
            istiods={
                revision: None if found is None else sum(pod.ready for pod in found)
                for revision, found in running.items()
            },
            gateways=read(gateways, "whether the gateway runs"),
            roots={ns: certificates((found or {}).get("root-cert.pem", "")) for ns, found in roots.items()},
            requests=requests_by_cluster("\n".join(pages)),
            passed_over=passed_over(pages),
            unread=[f"{why} Not known for that: {'; '.join(unknown)}." for why, unknown in unread.items()],
        )


def _root_namespace(cluster: Cluster, plane: Mapping[str, Any]) -> str:
    """The namespace whose policies hold for the whole mesh; istiod's, where nobody here may read its mesh config."""
    try:
        found = cluster.config_map(plane["namespace"], mesh_config_map(plane["revision"])) or {}
        return str(at(goyaml.load(found.get("mesh", ""), "mesh config"), "rootNamespace") or DEFAULT_ROOT_NAMESPACE)
    except UnansweredError:
        raise
    except (ClusterError, BootstrapError):
        return str(plane["namespace"])


def _gateways(cluster: Cluster, topology: Mapping[str, Any]) -> int | None:
    """How many of the pods that the gateway's Service selects are ready; an adopted one may be labelled anyhow.

    Of one that is adopted by its address, pods that are not found say nothing: they may be anywhere.
    """
    root, gateway = topology["controlPlane"]["namespace"], topology["gateway"]
    service = cluster.service(root, gateway["name"])
    if service is None:
        selector = {"istio": gateway["name"].removeprefix("istio-")}
    else:
        selector = (service.get("spec") or {}).get("selector") or {}
    found = cluster.pods(root, ",".join(f"{k}={v}" for k, v in sorted(selector.items()))) if selector else []
    known = bool(found) or (bool(selector) and not gateway.get("byAddress"))
    return sum(pod.ready for pod in found) if known else None


def _named(lists: Any) -> dict[str, Mapping[str, Any]]:
    return {f"{item['metadata']['namespace']}/{item['metadata']['name']}": item for found in lists for item in found}


def _endpoints(cluster: Cluster, topology: Mapping[str, Any]) -> list[Endpoint] | None:
    """What istiod tells all proxies of the stack's services; the first istiod that answers will do. None: none runs."""
    plane = topology["controlPlane"]
    pods = cluster.pods(plane["namespace"], f"app=istiod,istio.io/rev in ({all_revisions(plane)})")
    hosts = [w["host"] for w in topology["workloads"].values() if w["host"]]
    for pod in pods:
        with contextlib.suppress(ValueError):
            body = cluster.ask_pod(plane["namespace"], pod.name, ISTIOD_MONITORING, "/debug/endpointShardz")
            return endpoints_of(json.loads(body), hosts)
    if pods:
        raise UnansweredError(
            f"no istiod says which endpoints it tells others of. Check `kubectl port-forward -n {plane['namespace']} "
            f"{pods[0].name} {ISTIOD_MONITORING}`, by which it is asked."
        )
    return None


def endpoints_of(shards: Mapping[str, Any], hosts: Sequence[str]) -> list[Endpoint]:
    """The endpoints of some services in istiod's /debug/endpointShardz (pilot/pkg/model/endpointshards.go)."""
    return [
        Endpoint(
            service=host,
            address=address,
            labels=endpoint.get("Labels") or {},
            healthy=endpoint.get("HealthStatus") not in _UNHEALTHY,
        )
        for host in hosts
        for service in (shards.get(host) or {}).values()
        for found in (service.get("Shards") or {}).values()
        for endpoint in found or []
        for address in endpoint.get("Addresses") or []
    ]


def _callers(cluster: Cluster, topology: Mapping[str, Any]) -> list[str]:
    """`/clusters` of the proxies of pods: whom they know, and what they have sent to whom."""
    pods = [
        (workload["namespace"], pod.name)
        for name, workload in topology["workloads"].items()
        if workload["pods"]
        for pod in cluster.pods(workload["namespace"], f"app={name}")[:CALLERS]
    ]
    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(lambda pod: cluster.ask_pod(pod[0], pod[1], PROXY_ADMIN, "/clusters"), pods))


def shares(workload: Mapping[str, Any], requests: Mapping[str, int]) -> dict[str, int]:
    """How many requests each subset of a workload got, by what callers' proxies counted."""
    return {
        subset: sum(
            count
            for name, count in requests.items()
            if name.startswith("outbound|") and name.split("|")[2:] == [subset, workload["host"]]
        )
        for subset in workload["subsets"] or {}
    }


def shown_certificates(
    topology: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]], known: Collection[str]
) -> dict[str, datetime]:
    """End of the certificates that proxies show to whoever connects, by machine; of those that answer in time.

    Args:
        topology: the stack's.
        entries: WorkloadEntries, of machines that are not the stack's own, too.
        known: machines that need not be asked.
    """
    # The stack's own first, for those that do not answer take the time of those that follow.
    asked = {**topology["machines"], **dict(list(others(topology, entries).items())[:OTHERS])}
    shown = answers_in_time(
        lambda name: _shown_certificate(asked[name], topology["workloads"]),
        [name for name in asked if name not in known],
        seconds=SHOWN_SECONDS,
        at_once=16,
    )
    return {name: end for name, end in shown.items() if end is not None}


def _shown_certificate(machine: Mapping[str, Any], workloads: Mapping[str, Any]) -> datetime | None:
    """End of the certificate that a machine's proxy shows to a caller: it comes before the proxy asks for ours."""
    workload = workloads.get(machine["workload"])
    for port in (workload or {}).get("ports") or []:
        with contextlib.suppress(OSError, ValueError, x509.InvalidVersion):
            return _certificate_at(machine["meshAddress"], int(port["target"]))
    return None


def _certificate_at(address: str, port: int) -> datetime | None:
    # Nothing is sent, and nobody is believed: what counts is the certificate.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["istio", "h2", "http/1.1"])
    with (
        socket.create_connection((address, port), HANDSHAKE_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=None) as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
    if shown is None:
        return None
    certificate = x509.load_der_x509_certificate(shown)
    return certificate.not_valid_after_utc
