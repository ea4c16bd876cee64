"""A namespace whose pods get a sidecar."""

from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.core.v1 import Namespace
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from hybridmesh.istio.names import injection_labels

from .after import after


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshNamespaceArgs:
    """Inputs of `MeshNamespace`."""

    namespace: str
    """Its name in Kubernetes: part of every identity in it."""
    revision: pulumi.Input[str] = "default"
    """The revision of istiod that injects its pods. Given as istiod's output, the namespace follows istiod, and so
    does everything in it: pods get their sidecar, and go before istiod does."""


class MeshNamespace(pulumi.ComponentResource):
    """Owns one namespace, however many workloads live in it.

    It does not own what is in it; that depends on `namespace` below, and so goes first.
    """

    namespace: pulumi.Output[str]
    """Its name; what uses it waits for the namespace."""

    def __init__(self, name: str, args: MeshNamespaceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("hybridmesh:mesh_namespace:MeshNamespace", name, {"namespace": args.namespace}, opts)
        namespace = Namespace(
            f"{name}-namespace",
            metadata=ObjectMetaArgs(
                name=args.namespace, labels=pulumi.Output.from_input(args.revision).apply(injection_labels)
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.namespace = after(namespace, args.namespace)
        self.register_outputs({"namespace": self.namespace})
