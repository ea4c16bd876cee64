"""What Istio leaves in a cluster after Helm has removed it, who may take it away, and what of Istio cannot be changed
as long as it is there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from .cluster import Cluster, ClusterAccess, connect
from .inputs import Properties, changed, number, text
from .waiting import wait_until

_CONFIG_MAP_SELECTOR = "istio.io/config=true"
"""istiod's label on every `istio-ca-root-cert` (`pilot/pkg/serviceregistry/kube/controller/namespacecontroller.go`)."""
_RELEASE_ANNOTATION = "meta.helm.sh/release-name"
_NAMESPACE_ANNOTATION = "meta.helm.sh/release-namespace"
_WATCHED = (
    "kubeconfig",
    "context",
    "requestSeconds",
    "namespace",
    "baseRelease",
    "trustDomain",
    "cleanupSeconds",
)


class IstioRemainsProvider(ResourceProvider):
    """Creates nothing; on delete, which comes after Helm's releases are gone, removes what they left.

    Kept are: what was there before, and everything, once somebody else's istiod or Istio object is there.

    All of Istio comes after it, so that its `check` refuses what would end half-way.
    """

    serialize_as_secret_always = False

    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Compares with what is there."""
        return CheckResult(news, list(_refused(olds, news)))

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


def _refused(olds: Properties, news: Properties) -> Iterator[CheckFailure]:
    namespace, domain = text(olds, "namespace"), text(olds, "trustDomain")
    if namespace and text(news, "namespace") != namespace:
        yield CheckFailure(
            "namespace",
            f"controlPlane.namespace = {news['namespace']}: this stack has installed Istio in {namespace}. Helm gives "
            "the CRDs to no release of another namespace, so that the update would end half-way. Fix: put it back. To "
            "have Istio elsewhere, `pulumi destroy` first, or another cluster.",
        )
    if domain and text(news, "trustDomain") != domain:
        # pilot/pkg/bootstrap/server.go, createPeerCertVerifier: "static and will not update"; nor does it know aliases.
        yield CheckFailure(
            "trustDomain",
            f"controlPlane.trustDomain = {news['trustDomain']}: the certificates of VMs are for {domain}, and istiod "
            "lets in those of the trust domain alone with which it was started. VMs of the one or of the other would "
            "be out of the mesh, whatever aliases it has. Fix: put it back; for another one `pulumi destroy` first.",
        )


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
    trust_domain: str
    """The trust domain."""
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
                "trustDomain": args.trust_domain,
                "cleanupSeconds": args.cleanup_seconds,
                "crdsBefore": None,
                "configMapsBefore": None,
            },
            opts,
        )
