"""What a stack's VMs need of its istiods, and whether the Helm values of those that it installs leave it to them."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from hybridmesh.istio.needs import INBOUND, PILOT, Needs, lacks
from hybridmesh.istio.nested import at, merged

from .draft import Draft
from .findings import Finding
from .models import Cluster, ControlPlane, Namespace, Routing, Sidecar, Workload


def needs_of(
    plane: ControlPlane,
    cluster: Cluster,
    sidecar: Sidecar,
    *,
    workloads: Mapping[str, Workload],
    gateways: Collection[str],
    namespaces: Mapping[str, Namespace],
    routing: Mapping[str, Routing],
    strict: bool,
    google: bool,
) -> Needs:
    """What is needed of the control plane's istiod. `gateways`: the networks that have one; `strict`: whether `mtls` is
    STRICT; `google`: whether machines of Google Cloud may join."""
    machines = {name: w.machines for name, w in sorted(workloads.items()) if w.machines is not None}
    registers = [f"workloads.{n}.machines.registration" for n, m in machines.items() if m.registration == "auto"]
    registers += [f"networks.{name}.gateway" for name in sorted(gateways)]
    watched = [f"workloads.{name}.machines.hosts" for name, m in machines.items() if m.hosts]
    watched += [f"networks.{name}.gateway.hosts" for name in sorted(gateways)]
    probes = [f"workloads.{name}.probe" for name in machines if workloads[name].probe is not None]
    plain = _without_tls(workloads, namespaces, routing) if strict else iter(())
    joins = bool(machines or gateways) or google
    return Needs(
        namespace=plane.namespace,
        revision=plane.revision,
        domain=cluster.domain,
        registers=next(iter(registers), ""),
        probe=next(iter(probes), ""),
        joins=joins,
        signs=joins and "CA_ADDR" not in sidecar.environment,
        watched=next(iter(watched), ""),
        finds=joins and not PILOT & sidecar.environment.keys(),
        inbound_port=sidecar.environment.get(INBOUND, ""),
        cut_off_seconds=sidecar.upgrade.cut_off_seconds,
        plain=next(plain, ""),
    )


def _without_tls(
    workloads: Mapping[str, Workload], namespaces: Mapping[str, Namespace], routing: Mapping[str, Routing]
) -> Iterator[str]:
    """What makes a DestinationRule without a word of TLS, in a namespace of the stack's own."""
    for name, route in sorted(routing.items()):
        namespace = namespaces.get(workloads[name].namespace, Namespace()) if name in workloads else None
        if namespace is not None and not namespace.existing and route.over(namespace.traffic_policy).tls is None:
            yield f"routing.{name}"
    for name, namespace in sorted(namespaces.items()):
        policy = namespace.traffic_policy
        if policy is not None and policy.tls is None and not namespace.existing:
            yield f"namespaces.{name}.trafficPolicy"


def check_istiods(draft: Draft, plane: ControlPlane) -> Iterator[Finding]:
    """What VMs lack with the istiods that this stack installs. An adopted one is looked at where it is."""
    cluster, sidecar = draft.section("cluster", Cluster), draft.section_or_default("sidecar", Sidecar)
    if plane.mode == "adopt" or cluster is None or sidecar is None:
        return
    needs = needs_of(
        plane,
        cluster,
        sidecar,
        workloads=draft.workloads,
        gateways=draft.gateways,
        namespaces=draft.namespaces,
        routing=draft.routing,
        strict=draft.strict,
        google="google" in draft.sections,
    )
    seen: set[str] = set()
    for name in (plane.revision, *plane.revisions):
        own = plane.revisions[name].values if name in plane.revisions else {}
        values = merged(plane.values, own)
        environment, mesh = at(values, "env"), at(values, "meshConfig")
        for lack in lacks(
            environment if isinstance(environment, Mapping) else {},
            mesh if isinstance(mesh, Mapping) else {},
            replace(needs, revision=name),
        ):
            of = "controlPlane" if at(own, *lack.place) is None else f"controlPlane.revisions.{name}"
            path = ".".join((of, "values", *lack.place))
            # Which istiod is meant, only who adopts one must say.
            instead = "" if lack.place[-1] == "discoveryAddress" else lack.instead
            if path not in seen:
                yield Finding(
                    path,
                    lack.value,
                    f"makes {'an istiod' if lack.place[0] == 'env' else 'a mesh config'} that {lack.what}",
                    lack.consequence,
                    "; or ".join(filter(None, ("leave it out", instead))) + ".",
                )
            seen.add(path)
