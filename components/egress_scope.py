"""What a workload's proxies know of the mesh."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs


@dataclass(frozen=True, kw_only=True, slots=True)
class EgressScopeArgs:
    """Inputs of `EgressScope`."""

    workload: str
    """The workload, whose pods and machines carry its name as label `app`."""
    namespace: pulumi.Input[str]
    """Its namespace."""
    hosts: Sequence[str]
    """Services that its proxies are told of, as `namespace/host`; `.` is the own namespace, `*` is any."""
    outbound_traffic_policy: Literal["ALLOW_ANY", "REGISTRY_ONLY"] | None = None
    """Whether other hosts can be called all the same; default: the mesh's policy."""


class EgressScope(pulumi.ComponentResource):
    """Owns one workload's `Sidecar`, as Istio calls it: istiod sends its proxies these services, and no others.

    It is no protection: who may call is decided where a call arrives. It does not own how a machine joins, which is
    the component `Sidecar`'s.
    """

    def __init__(self, name: str, args: EgressScopeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:egress_scope:EgressScope",
            name,
            {"workload": args.workload, "namespace": args.namespace, "hosts": list(args.hosts)},
            opts,
        )
        CustomResource(
            f"{name}-egress",
            api_version="networking.istio.io/v1",
            kind="Sidecar",
            metadata=ObjectMetaArgs(name=args.workload, namespace=args.namespace, labels={"app": args.workload}),
            spec=sidecar_spec(args),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def sidecar_spec(args: EgressScopeArgs) -> dict[str, Any]:
    """The Sidecar's spec."""
    spec: dict[str, Any] = {
        "workloadSelector": {"labels": {"app": args.workload}},
        "egress": [{"hosts": list(args.hosts)}],
    }
    if args.outbound_traffic_policy is not None:
        spec["outboundTrafficPolicy"] = {"mode": args.outbound_traffic_policy}
    return spec
