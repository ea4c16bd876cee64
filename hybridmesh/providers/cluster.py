"""The few requests that the providers make of a cluster, each with a limit."""

import functools
import importlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .inputs import Properties, number, text
from .packs import pack
from .serving import make_room

NETWORKING = ("networking.istio.io", "v1")
"""API group and version of WorkloadEntry and WorkloadGroup."""
_CONNECTING = threading.Lock()


class ClusterError(RuntimeError):
    """The cluster did not do what it was asked. The message says what to do."""


class UnansweredError(ClusterError):
    """The cluster could not answer this time: whoever waits for something asks again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterAccess:
    """How to reach a cluster. Paths only: what a kubeconfig holds is nobody's to keep in state."""

    kubeconfig: str
    """Path of the kubeconfig file, relative to the project's root."""
    context: str | None = None
    """Its context; default the current one."""
    request_seconds: int = 15
    """Limit for one request to Kubernetes."""

    def properties(self) -> dict[str, Any]:
        """These as inputs of a dynamic resource."""
        return {"kubeconfig": self.kubeconfig, "context": self.context, "requestSeconds": self.request_seconds}

    def packed(self) -> str:
        """These as one input, of a resource that there is one of for each VM."""
        return pack("cluster", self.properties())


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that runs."""

    name: str
    address: str
    ready: bool


class Cluster(Protocol):
    """What the providers ask of a cluster. Absent objects are None, or left out of lists."""

    def __hash__(self) -> int:
        """What is known of a cluster can be kept under it."""

    def mint_token(self, namespace: str, account: str, audience: str, seconds: int) -> tuple[str, str]:
        """A token of a service account, and when it expires (RFC 3339)."""

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """A ConfigMap's data."""

    def service(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """A Service as Kubernetes shows it."""

    def workload_entry(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """A WorkloadEntry as Kubernetes shows it."""

    def workload_entries(self, namespace: str, at_most: int) -> Mapping[str, Mapping[str, Any]]:
        """A namespace's WorkloadEntries by name, as Kubernetes shows them, or so many of them."""

    def patch_workload_entry(self, namespace: str, name: str, patch: Mapping[str, Any]) -> None:
        """Applies a JSON merge patch to a WorkloadEntry, if it is there."""

    def delete_workload_entry(self, namespace: str, name: str) -> None:
        """Deletes a WorkloadEntry, if it is there."""

    def sync_states(self, namespace: str, revision: str, workload_namespace: str) -> Sequence[Mapping[str, Any]]:
        """What every running istiod of a revision says of the proxies in a namespace (/debug/syncz). Raises
        UnansweredError where some run, and none says anything."""

    def pods(self, namespace: str, selector: str) -> Sequence["Pod"]:
        """Pods that run, by label."""

    def ask_pod(self, namespace: str, pod: str, port: int, path: str) -> str:
        """What a pod answers on a port, by HTTP; empty where it does not. Raises ClusterError where nobody here may
        ask it."""

    def objects_in(self, group: str, version: str, plural: str, namespace: str) -> Sequence[Mapping[str, Any]]:
        """A namespace's objects of a kind; none where the cluster does not know the kind."""

    def objects_labelled(self, group: str, version: str, plural: str, selector: str) -> Sequence[Mapping[str, Any]]:
        """Objects of a kind in all namespaces, by label; none where the cluster does not know the kind."""

    def services_labelled(self, selector: str) -> Sequence[Mapping[str, Any]]:
        """Services of all namespaces, by label, as Kubernetes shows them."""

    def namespaces_of(self, group: str, version: str, plural: str) -> Sequence[str]:
        """The namespaces that have an object of a kind, one for each; none where the cluster does not know the kind."""

    def namespace_labels(self, name: str) -> Mapping[str, str] | None:
        """A namespace's labels."""

    def revision_tags(self, namespace: str) -> Mapping[str, str]:
        """Tags of Istio's revisions, each with the revision of the istiod in a namespace to which it leads."""

    def istiods(self) -> Sequence[str]:
        """Every istiod Deployment, as namespace/name."""

    def istio_crds(self) -> Sequence[Mapping[str, Any]]:
        """The CustomResourceDefinitions of Istio's API groups."""

    def delete_crd(self, name: str) -> None:
        """Deletes a CustomResourceDefinition, if it is there."""

    def objects_of(self, crd: Mapping[str, Any]) -> Sequence[str]:
        """Every object of a CRD, as Kind namespace/name."""

    def namespaces_labelled(self, selector: str) -> Mapping[str, str]:
        """The namespaces with labels, by name, each with its uid; those on their way out left out."""

    def config_maps_labelled(self, selector: str) -> Sequence[tuple[str, str]]:
        """ConfigMaps of all namespaces by label: namespace and name."""

    def delete_config_map(self, namespace: str, name: str) -> None:
        """Deletes a ConfigMap, if it is there."""

    def helm_records(self, namespace: str, release: str) -> Sequence[tuple[str, str]]:
        """What Helm has noted of a release, oldest first: the name of each Secret, and the status that it tells."""

    def delete_helm_record(self, namespace: str, name: str) -> None:
        """Deletes one such Secret, if it is there."""

    def find(self, api_version: str, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        """An object of any kind, as Kubernetes shows it; None where the cluster does not know the kind, too."""

    def disown(self, api_version: str, kind: str, namespace: str, name: str) -> bool:
        """Lets nobody own a field of an object any more, as server-side apply has it; whether there is one."""


def connect(properties: Properties) -> Cluster:
    """The cluster that a resource's inputs, those of `ClusterAccess`, lead to."""
    make_room()
    # Many ask at once as a run begins: each would log in, some in a browser.
    with _CONNECTING:
        return _connect(
            text(properties, "kubeconfig"), text(properties, "context"), number(properties, "requestSeconds")
        )


@functools.lru_cache(maxsize=16)
def _connect(kubeconfig: str, context: str, seconds: int) -> Cluster:
    from .kubernetes_cluster import KubernetesCluster  # here, for programs import this one only to name its classes

    return KubernetesCluster(kubeconfig, context, seconds)


@functools.cache
def load_ahead() -> None:
    """Loads what minting a token takes, two thirds of a second, while whoever calls this waits for a VM."""
    threading.Thread(target=importlib.import_module, args=("kubernetes.client.api.core_v1_api",), daemon=True).start()
