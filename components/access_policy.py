"""Who may talk to whom, and how."""

from dataclasses import dataclass
from typing import Literal

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessPolicyArgs:
    """Inputs of `AccessPolicy`."""

    namespace: pulumi.Input[str]
    """The namespace that it holds for. One of ours: a mesh-wide policy would change an adopted mesh."""
    mtls: Literal["STRICT", "PERMISSIVE"] = "STRICT"
    """STRICT refuses plain text; PERMISSIVE takes both."""


class AccessPolicy(pulumi.ComponentResource):
    """Owns the PeerAuthentication of one namespace, pods and VMs alike.

    It does not own what callers are allowed to do once they are known: that is `WorkloadAccess`'s.
    """

    def __init__(self, name: str, args: AccessPolicyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:access_policy:AccessPolicy", name, {"namespace": args.namespace, "mtls": args.mtls}, opts
        )
        CustomResource(
            f"{name}-peers",
            api_version="security.istio.io/v1",
            kind="PeerAuthentication",
            # Istio reads one policy a namespace, and takes the oldest: by this name there is but one.
            metadata=ObjectMetaArgs(name="default", namespace=args.namespace),
            spec={"mtls": {"mode": args.mtls}},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})
