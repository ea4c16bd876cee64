"""The cluster."""

from .base import ClusterId, Domain, Model, Name, Text, setting


class Cluster(Model):
    """The Kubernetes cluster that the mesh's control plane runs in."""

    name: ClusterId = setting(
        meaning="Istio's cluster id. A VM's token is refused unless the VM and istiod agree on it. An Istio that was "
        "installed without one calls its cluster `Kubernetes`.",
        example="embedded",
        wrong="istiod would refuse every VM's token.",
        fix="the name that istiod knows this cluster by, such as `embedded`.",
    )
    network: Name = setting(
        meaning="Istio's name for the network that the cluster's pods are in.",
        example="embedded",
        wrong="the mesh could not tell direct routes from those through a gateway.",
        fix="one name per routable network, such as `embedded`.",
    )
    kubeconfig: Text = setting(
        meaning="Path of the kubeconfig file, relative to the project's root. If it moves, leave a copy at the old "
        "path until an `up` with the new one is done.",
        example=".lab/dev/kubeconfig",
        wrong="the cluster could not be reached.",
        fix="the path of a kubeconfig file; `make dev` makes the one of the embedded environment.",
    )
    context: Text | None = setting(
        None,
        meaning="Context within that kubeconfig; default its current one.",
        example="kind-dev",
        wrong="another cluster than the one meant could be changed.",
        fix="a name that `kubectl config get-contexts` lists.",
    )
    domain: Domain = setting(
        "cluster.local",
        meaning="The cluster's DNS domain.",
        example="cluster.local",
        wrong="routes would name hosts that do not exist.",
        fix="the domain that the cluster's DNS serves, mostly `cluster.local`.",
    )
