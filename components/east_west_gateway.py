"""The way of machines to istiod, and of one network to another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.helm.v3 import Release
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from hybridmesh.istio import injection_annotations, is_revisioned
from hybridmesh.istio.names import PROXY_CONFIG_ANNOTATION
from hybridmesh.istio.nested import merged
from hybridmesh.istio.ports import ISTIOD_XDS
from hybridmesh.providers import AwaitedAddress, AwaitedAddressArgs, ClusterAccess

from .after import after
from .control_plane import HelmCharts, charts_to_install, with_ours
from .network_gateway import LISTENER_STATISTICS, services_server
from .timeouts import within

_NETWORKING = "networking.istio.io/v1"
_PODS = 2
"""istiod takes a VM that is without a connection for ten seconds (PILOT_WORKLOAD_ENTRY_GRACE_PERIOD) out of endpoints,
though it serves, and a lone pod's successor may come later."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EastWestGatewayArgs:
    """Inputs of `EastWestGateway`."""

    mode: Literal["install", "adopt"] = "install"
    """`install` owns the gateway and what it lets through; `adopt` only reads its address."""
    cluster: ClusterAccess
    """The cluster, for what no plugin does."""
    gateway: str = "istio-eastwestgateway"
    """Its release, Service and Deployment."""
    namespace: pulumi.Input[str]
    """Its namespace: Istio's own. Given as istiod's output, the gateway follows istiod."""
    revision: str = "default"
    """The revision of istiod that configures it."""
    injected_as: pulumi.Input[str] = ""
    """What its pods' proxies are told when they are injected, as `PodsArgs.injected_as`."""
    network: str
    """The network that it leads into."""
    discovery_host: pulumi.Input[str]
    """The host name by which machines ask for istiod: none but such are let through."""
    more_discovery_hosts: Sequence[pulumi.Input[str]] = ()
    """Those of further istiods, which are let through the same way."""
    domain: str = "cluster.local"
    """The cluster's DNS domain."""
    service_hosts: Sequence[str] = ()
    """Hosts of ServiceEntries with endpoints in the network, if machines of other networks call them: it lets them
    through beside those of the domain."""
    charts: HelmCharts | None = None
    """Where the charts come from. Needed to install."""
    address: pulumi.Input[str] | None = None
    """IP address or host name at which machines reach it; default what its Service says."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """More Helm values. Without them it has two pods at least, and a drained node takes one of them at a time."""
    install_seconds: int = 300
    """Limit for the release, its address included."""


class EastWestGateway(pulumi.ComponentResource):
    """Owns one gateway and what it lets through: istiod, and services by mutual TLS. Adopted, it owns nothing.

    It does not own the load balancer in front of it, which the cluster makes for its Service.
    """

    address: pulumi.Output[str]
    """IP address or host name at which machines reach it."""

    def __init__(self, name: str, args: EastWestGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:east_west_gateway:EastWestGateway",
            name,
            {"gateway": args.gateway, "network": args.network, "address": args.address},
            opts,
        )
        if args.mode == "install":
            self._install(name, args)
            self._expose(name, args)
        elif args.address is not None:
            self.address = pulumi.Output.from_input(args.address)
        else:
            self.address = self._awaited_address(name, args, args.namespace)
        self.register_outputs({"address": self.address})

    def _install(self, name: str, args: EastWestGatewayArgs) -> None:
        charts = charts_to_install(name, args.charts, "; or mode adopt, to use a gateway that is there")
        release = Release(
            f"{name}-release",
            name=args.gateway,
            namespace=args.namespace,
            values=gateway_values(args),
            timeout=args.install_seconds,
            **charts.release("gateway"),
            opts=pulumi.ResourceOptions(parent=self, custom_timeouts=within(args.install_seconds)),
        )
        if args.address is not None:
            self.address = after(release, args.address)
        else:
            self.address = self._awaited_address(name, args, after(release, args.namespace))

    def _awaited_address(
        self, name: str, args: EastWestGatewayArgs, namespace: pulumi.Input[str]
    ) -> pulumi.Output[str]:
        adopted = args.mode == "adopt"
        # Not all values, or each change of the gateway's pods looked in a preview as if all VMs joined anew.
        asked = {} if adopted else gateway_values(args).get("service", {})
        return AwaitedAddress(
            f"{name}-address",
            AwaitedAddressArgs(
                cluster=args.cluster,
                namespace=namespace,
                name=args.gateway,
                service=pulumi.Output.json_dumps(asked, sort_keys=True),
                limit_seconds=0 if adopted else args.install_seconds,
                remedy="VMs would not reach istiod. Fix: give its Service a load balancer, or set `gateway.address` to "
                "where the gateway is reached.",
                adopted=adopted,
            ),
            opts=pulumi.ResourceOptions(parent=self),
        ).found

    def _expose(self, name: str, args: EastWestGatewayArgs) -> None:
        child = pulumi.ResourceOptions(parent=self)
        selector = {"istio": args.gateway.removeprefix("istio-")}
        hosts = pulumi.Output.all(args.discovery_host, *args.more_discovery_hosts)
        istiod_gateway = f"{args.gateway}-istiod"
        CustomResource(
            f"{name}-istiod-gateway",
            api_version=_NETWORKING,
            kind="Gateway",
            metadata=ObjectMetaArgs(name=istiod_gateway, namespace=args.namespace),
            spec=hosts.apply(lambda h: {"selector": selector, "servers": [istiod_server(*h)]}),
            opts=child,
        )
        CustomResource(
            f"{name}-istiod-route",
            api_version=_NETWORKING,
            kind="VirtualService",
            metadata=ObjectMetaArgs(name=istiod_gateway, namespace=args.namespace),
            spec=hosts.apply(lambda h: istiod_route(h, istiod_gateway, args.domain)),
            opts=child,
        )
        CustomResource(
            f"{name}-services-gateway",
            api_version=_NETWORKING,
            kind="Gateway",
            metadata=ObjectMetaArgs(name=f"{args.gateway}-services", namespace=args.namespace),
            spec={
                "selector": selector,
                "servers": [services_server(args.domain, args.service_hosts)],
            },
            opts=child,
        )


def gateway_values(args: EastWestGatewayArgs) -> dict[str, Any]:
    """The gateway chart's values: the caller's, over them ours, and under them what a caller may have otherwise."""
    defaults: dict[str, Any] = {
        "podAnnotations": {PROXY_CONFIG_ANNOTATION: LISTENER_STATISTICS},
        "autoscaling": {"minReplicas": _PODS},
        "replicaCount": _PODS,  # what counts where a caller has no autoscaling
    }
    if "podDisruptionBudget" not in args.values:  # whole, for Kubernetes takes only one of its two limits
        defaults["podDisruptionBudget"] = {"maxUnavailable": 1}
    revision = {"revision": args.revision} if is_revisioned(args.revision) else {}
    injected = {"podAnnotations": injection_annotations(args.injected_as)}
    return with_ours(merged(defaults, args.values), {"networkGateway": args.network, **revision, **injected})


def istiod_server(*hosts: str) -> dict[str, Any]:
    """What lets TLS for `hosts`, and nothing else, through to istiods, which end it themselves.

    Not to their webhooks, which ask callers for no certificate: those are for Kubernetes, which is in the cluster.
    """
    return {
        "port": {"number": ISTIOD_XDS, "name": f"tls-{ISTIOD_XDS}", "protocol": "TLS"},
        "tls": {"mode": "PASSTHROUGH"},
        "hosts": list(hosts),
    }


def istiod_route(hosts: Sequence[str], gateway: str, domain: str) -> dict[str, Any]:
    """The VirtualService's spec that leads from the gateway to each istiod."""
    return {
        "hosts": list(hosts),
        "gateways": [gateway],
        "tls": [
            {
                "match": [{"port": ISTIOD_XDS, "sniHosts": [host]}],
                "route": [{"destination": {"host": f"{host}.{domain}", "port": {"number": ISTIOD_XDS}}}],
            }
            for host in hosts
        ],
    }
