"""What a stack asks of the istiods that it adopts."""

from dataclasses import asdict, replace

from hybridmesh.istio.adopted import Asked
from hybridmesh.istio.names import injection_labels

from .istiod_checks import needs_of
from .models import Gateway, Settings, Workload


def asked_of_adopted(settings: Settings) -> dict[str, Asked]:
    """What is asked of the istiods that are adopted, by revision."""
    plane = settings.control_plane
    made = injection_labels(plane.revision)
    namespaces = {workload.namespace: made for workload in settings.workloads.values()}
    namespaces |= {gateway.namespace: made for gateway in settings.gateways.values()}
    namespaces |= {name: {} for name, there in settings.namespaces.items() if there.existing}
    if settings.observability is not None:
        namespaces[settings.observability.namespace] = made
    versions_at = {plane.revision: (plane.version, "controlPlane.version")}
    for name, revision in plane.revisions.items():
        versions_at[name] = (revision.version or plane.version, f"controlPlane.revisions.{name}.version")
    pods_in = sorted({w.namespace for w in settings.workloads.values() if _goes_by_namespace(w)})
    needs = needs_of(
        plane,
        settings.cluster,
        settings.sidecar,
        workloads=settings.workloads,
        gateways=settings.gateways,
        namespaces=settings.namespaces,
        routing=settings.routing,
        strict=settings.mtls == "STRICT",
        google=settings.google is not None,
    )
    return {
        revision: Asked(
            **asdict(replace(needs, revision=revision)),
            version=version,
            version_at=place,
            cluster=settings.cluster.name,
            network=settings.cluster.network,
            networks=sorted(settings.networks),
            gateway=_adopted_gateway(settings.gateway),
            namespaces=namespaces,
            pods_in=pods_in if revision == plane.revision else [],
            routed={
                name: (settings.workloads[name].namespace, settings.service_hosts(name)) for name in settings.routing
            },
        )
        for revision, (version, place) in versions_at.items()
    }


def _adopted_gateway(gateway: Gateway) -> str | None:
    """The Service of an adopted gateway, empty if its address alone is known; None where the stack makes it."""
    if gateway.mode == "install":
        return None
    return "" if gateway.by_address else gateway.name


def _goes_by_namespace(workload: Workload) -> bool:
    """Whether its pods are injected by their namespace's label, and not, nor kept out, by one of their own."""
    return workload.pods is not None and not workload.labels.keys() & {"sidecar.istio.io/inject", "istio.io/rev"}
