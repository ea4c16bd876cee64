"""What a workload's proxies know of the mesh, and of the workload's own ports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from .workload import WorkloadPort


@dataclass(frozen=True, kw_only=True, slots=True)
class ProxyScopeArgs:
    """Inputs of `ProxyScope`."""

    workload: str
    """The workload, whose pods and machines carry its name as label `app`."""
    namespace: pulumi.Input[str]
    """Its namespace."""
    hosts: Sequence[str] = ()
    """Services that its proxies are told of, as `namespace/host`; `.` is the own namespace, `*` any. Default: all."""
    outbound_traffic_policy: Literal["ALLOW_ANY", "REGISTRY_ONLY"] | None = None
    """Whether other hosts can be called all the same; default: the mesh's policy."""
    ports: Sequence[WorkloadPort] = ()
    """The workload's ports, for proxies to take their requests whatever istiod knows of the endpoint at the moment.
    Default: what istiod knows."""


class ProxyScope(pulumi.ComponentResource):
    """Owns one workload's `Sidecar`, as Istio calls it: istiod sends its proxies these services, and no others.

    It is no protection: who may call is decided where a call arrives. It does not own how a machine joins, which is
    the component `Sidecar`'s.
    """

    def __init__(self, name: str, args: ProxyScopeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:proxy_scope:ProxyScope",
            name,
            {"workload": args.workload, "namespace": args.namespace, "hosts": list(args.hosts)},
            opts,
        )
        CustomResource(
            f"{name}-scope",
            api_version="networking.istio.io/v1",
            kind="Sidecar",
            metadata=ObjectMetaArgs(name=args.workload, namespace=args.namespace, labels={"app": args.workload}),
            spec=sidecar_spec(args),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def sidecar_spec(args: ProxyScopeArgs) -> dict[str, Any]:
    """The Sidecar's spec."""
    spec: dict[str, Any] = {"workloadSelector": {"labels": {"app": args.workload}}}
    if args.ports:
        # One listener for an app's port, however many of the service's ports lead to it.
        targets = {port.target: port for port in reversed(args.ports)}
        spec["ingress"] = [
            {"port": {"number": target, "name": targets[target].name, "protocol": targets[target].protocol}}
            for target in sorted(targets)
        ]
    if args.hosts:
        spec["egress"] = [{"hosts": list(args.hosts)}]
    if args.outbound_traffic_policy is not None:
        spec["outboundTrafficPolicy"] = {"mode": args.outbound_traffic_policy}
    return spec
