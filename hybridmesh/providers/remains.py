"""What Istio leaves in a cluster after Helm has removed it, and who may take it away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from .cluster import Cluster, ClusterAccess, connect
from .inputs import changed, number
from .waiting import wait_until

_CONFIG_MAP_SELECTOR = "istio.io/config=true"
"""istiod's label on every `istio-ca-root-cert` (`pilot/pkg/serviceregistry/kube/controller/namespacecontroller.go`)."""
_RELEASE_ANNOTATION = "meta.helm.sh/release-name"
_NAMESPACE_ANNOTATION = "meta.helm.sh/release-namespace"
_WATCHED = ("kubeconfig", "context", "requestSeconds", "namespace", "baseRelease", "cleanupSeconds")


class IstioRemainsProvider(ResourceProvider):
    """Creates nothing; on delete, which comes after Helm's releases are gone, removes what they left.

    Kept are: what was there before, and everything, once somebody else's istiod or Istio object is there.
    """

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Notes what is there before this stack brings Istio."""
        cluster = connect(props)
        before = sorted(crd["metadata"]["name"] for crd in cluster.istio_crds())
        maps = sorted(f"{ns}/{name}" for ns, name in cluster.config_maps_labelled(_CONFIG_MAP_SELECTOR))
        return CreateResult(
            f"istio-remains-of-{props['namespace']}", {**props, "crdsBefore": before, "configMapsBefore": maps}
        )

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Another way to the cluster, or another limit, is noted."""
        return DiffResult(changes=bool(changed(olds, news, _WATCHED)))

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Keeps what was noted at first."""
        return UpdateResult({**news, **{k: olds[k] for k in ("crdsBefore", "configMapsBefore")}})

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        """Removes what Istio left, and says what is kept, and why."""
        for line in clean_up(connect(props), props, number(props, "cleanupSeconds")):
            # The engine shows what a plugin prints.
            print(line, flush=True)


def clean_up(cluster: Cluster, props: Mapping[str, Any], seconds: float) -> Sequence[str]:
    """Removes what may be removed; what is kept and why, one line each."""
    others = list(cluster.istiods())
    if others:
        return [f"Istio's CRDs and root certificates are kept: istiod still runs as {', '.join(sorted(others))}."]
    crds = [crd for crd in cluster.istio_crds() if is_ours(crd, props)]
    # WorkloadEntries go a moment after their WorkloadGroup, by Kubernetes' garbage collection.
    wait_until(lambda: ", ".join(_objects(cluster, crds)), seconds)
    objects = _objects(cluster, crds)
    if objects:
        shown = ", ".join(objects[:10]) + (f" and {len(objects) - 10} more" if len(objects) > 10 else "")
        return [
            f"Istio's CRDs and root certificates are kept: {shown} would be lost with them. Delete them, and then "
            f"`kubectl delete crd {' '.join(crd['metadata']['name'] for crd in crds)}`."
        ]
    for crd in crds:
        cluster.delete_crd(crd["metadata"]["name"])
    maps_before = props.get("configMapsBefore") or []
    for namespace, name in cluster.config_maps_labelled(_CONFIG_MAP_SELECTOR):
        if f"{namespace}/{name}" not in maps_before:
            cluster.delete_config_map(namespace, name)
    crds_before = props.get("crdsBefore") or []
    return [f"CRD {name} is kept: it was there before this stack." for name in crds_before]


def is_ours(crd: Mapping[str, Any], props: Mapping[str, Any]) -> bool:
    """Whether our Helm release brought the CRD; Helm writes itself into its annotations, and leaves them."""
    annotations = crd["metadata"].get("annotations") or {}
    return (
        annotations.get(_RELEASE_ANNOTATION) == props["baseRelease"]
        and annotations.get(_NAMESPACE_ANNOTATION) == props["namespace"]
        and crd["metadata"]["name"] not in (props.get("crdsBefore") or [])
    )


def _objects(cluster: Cluster, crds: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for crd in crds for name in cluster.objects_of(crd)]


@dataclass(frozen=True, kw_only=True, slots=True)
class IstioRemainsArgs:
    """Inputs of `IstioRemains`."""

    cluster: ClusterAccess
    """The cluster."""
    namespace: str
    """Istio's root namespace."""
    base_release: str
    """Name of the Helm release that brings Istio's CRDs."""
    cleanup_seconds: int = 60
    """How long to wait for Kubernetes to collect objects that belong to deleted ones."""


class IstioRemains(Resource, name="IstioRemains"):
    """What Istio will leave behind. Everything of Istio's must depend on it, so that it is deleted last."""

    def __init__(self, name: str, args: IstioRemainsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            IstioRemainsProvider(),
            name,
            {
                **args.cluster.properties(),
                "namespace": args.namespace,
                "baseRelease": args.base_release,
                "cleanupSeconds": args.cleanup_seconds,
                "crdsBefore": None,
                "configMapsBefore": None,
            },
            opts,
        )
