"""The way of pods into a network of machines: machines there whose proxy is a router."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.core.v1 import ServiceAccount
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from hybridmesh.istio import group_manifest, spiffe_id
from hybridmesh.istio.names import PROXY_CONFIG_ANNOTATION, gateway_group
from hybridmesh.istio.ports import EAST_WEST_TLS

from .after import after
from .registration_policy import RegistrationPolicy, RegistrationPolicyArgs

_NETWORKING = "networking.istio.io/v1"
LISTENER_STATISTICS = f'{{"proxyStatsMatcher":{{"inclusionPrefixes":["listener.0.0.0.0_{EAST_WEST_TLS}."]}}}}'
"""What makes a gateway's proxy keep the statistics of its one listener, which Istio leaves out by default: whether
requests take this way is the first thing that people ask."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkGatewayArgs:
    """Inputs of `NetworkGateway`."""

    network: str
    """The network that it leads into."""
    namespace: pulumi.Input[str]
    """Its namespace, that of all its objects."""
    service_account: str
    """Its service account."""
    trust_domain: pulumi.Input[str] = "cluster.local"
    """The mesh's trust domain."""
    domain: str = "cluster.local"
    """The cluster's DNS domain."""
    service_hosts: Sequence[str] = ()
    """Hosts of ServiceEntries with endpoints in the network: it lets them through beside those of the domain."""
    admission_policies: bool = False
    """Whether Kubernetes refuses machines that register as what they are not: a `RegistrationPolicy`."""


class NetworkGateway(pulumi.ComponentResource):
    """Owns what makes machines the gateway of their network: ServiceAccount, WorkloadGroup and Gateway; if asked for,
    the group's `RegistrationPolicy`.

    It owns neither the machines nor their membership, which is `Sidecar`'s: of a router, with the variables of
    `router_environment`; nor that pods go this way, which istiod is told by `ControlPlane`.
    """

    group: pulumi.Output[dict[str, Any]]
    """The WorkloadGroup's manifest; who uses it joins after the Gateway, and so is a gateway from its first moment."""
    service_account: pulumi.Output[str]
    """Its service account; who uses it waits for it."""
    identity: pulumi.Output[str]
    """Its SPIFFE id."""

    def __init__(self, name: str, args: NetworkGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:network_gateway:NetworkGateway",
            name,
            {"network": args.network, "namespace": args.namespace, "serviceAccount": args.service_account},
            opts,
        )
        child = pulumi.ResourceOptions(parent=self)
        namespace = pulumi.Output.from_input(args.namespace)
        group_name, labels = gateway_group(args.network), gateway_labels(args.network)
        account = ServiceAccount(
            f"{name}-account",
            metadata=ObjectMetaArgs(name=args.service_account, namespace=namespace, labels=labels),
            opts=child,
        )
        self.service_account = after(account, args.service_account)
        self.identity = pulumi.Output.all(args.trust_domain, namespace, self.service_account).apply(
            lambda parts: spiffe_id(*parts)
        )
        gateway = CustomResource(
            f"{name}-services-gateway",
            api_version=_NETWORKING,
            kind="Gateway",
            metadata=ObjectMetaArgs(name=group_name, namespace=namespace, labels=labels),
            spec={"selector": labels, "servers": [services_server(args.domain, args.service_hosts)]},
            opts=child,
        )
        spec, group_namespace = gateway_group_spec(args.network, args.service_account), namespace
        if args.admission_policies:
            policy = RegistrationPolicyArgs(group=group_name, namespace=namespace, labels=labels)
            group_namespace = RegistrationPolicy(name, policy, opts=child).namespace
        group = CustomResource(
            f"{name}-group",
            api_version=_NETWORKING,
            kind="WorkloadGroup",
            metadata=ObjectMetaArgs(name=group_name, namespace=group_namespace, labels=labels),
            spec=spec,
            opts=child,
        )
        both: pulumi.Output[str] = after(gateway, after(group, namespace))
        self.group = both.apply(lambda there: group_manifest(group_name, there, spec))
        self.register_outputs({"identity": self.identity})


def gateway_labels(network: str) -> dict[str, str]:
    """The labels of a network's gateway machines, by which their Gateway finds them."""
    return {"app": gateway_group(network)}


def gateway_group_spec(network: str, service_account: str) -> dict[str, Any]:
    """The WorkloadGroup's spec."""
    return {
        "metadata": {"labels": gateway_labels(network), "annotations": {PROXY_CONFIG_ANNOTATION: LISTENER_STATISTICS}},
        "template": {"serviceAccount": service_account, "network": network},
    }


def services_server(domain: str, hosts: Sequence[str]) -> dict[str, Any]:
    """What lets mutual TLS for services through to them, unopened; the name in it tells which service.

    Istio makes a way for each service whose host one of the names covers: Services are in the cluster's `domain`, the
    `hosts` of ServiceEntries may be anywhere.
    """
    services = "*.local" if f".{domain}".endswith(".local") else f"*.{domain}"
    others = sorted({host for host in hosts if not host.endswith(services.removeprefix("*"))})
    return {
        "port": {"number": EAST_WEST_TLS, "name": "tls", "protocol": "TLS"},
        "tls": {"mode": "AUTO_PASSTHROUGH"},
        "hosts": [services, *others],
    }


def router_environment(network: str) -> Mapping[str, str]:
    """The agent's variables on a gateway machine, whose proxy is a router: it sees this network alone, and takes over
    none of the machine's own connections."""
    return {
        "ISTIO_CUSTOM_IP_TABLES": "true",
        "ISTIO_META_REQUESTED_NETWORK_VIEW": network,
    }
