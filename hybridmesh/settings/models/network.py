"""Networks of VMs other than the cluster's own."""

from collections.abc import Mapping

from .base import Address, Model, Name, Port, setting
from .machines import Host


class NetworkGateway(Model):
    """The way from pods into a network: VMs there that run the proxy as a router, and nothing else."""

    hosts: Mapping[Name, Host] = setting(
        meaning="The gateway machines by name. Each is reached by pods at its mesh address, port 15443.",
        example={"gw-1": {"ssh": {"address": "198.51.100.5"}}},
        wrong="pods would have no way to the VMs of this network.",
        fix="`{gw-1: {ssh: {…}}}`; machines that no workload names.",
    )
    namespace: Name = setting(
        "network-gateways",
        meaning="The Kubernetes namespace of its WorkloadGroup, Gateway and service account.",
        example="network-gateways",
        wrong="it would have no identity.",
        fix="a namespace such as `network-gateways`; not Istio's own.",
    )
    service_account: Name | None = setting(
        None,
        meaning="Its service account, hence its identity; default: the network's name and `-gateway`.",
        example="datacenter-gateway",
        wrong="it would have no identity.",
        fix="a name, or leave it out.",
    )
    address: Address | None = setting(
        None,
        meaning="The one IP address or host name at which pods reach all of its machines, such as that of a load "
        "balancer or of a firewall that forwards; default: the mesh address of each. A host name is resolved by "
        "istiod.",
        example="203.0.113.10",
        wrong="pods would send their requests elsewhere.",
        fix="an IP address or a host name, or leave it out.",
    )
    port: Port = setting(
        15443,
        meaning="The port at which pods reach it. The machines themselves listen on 15443.",
        example=15443,
        wrong="pods would send their requests elsewhere.",
        fix="1 to 65535, or leave it out.",
    )


class Network(Model):
    """One network of VMs, by the name that the VMs' workloads give as `network`."""

    gateway: NetworkGateway | None = setting(
        None,
        meaning="The way from pods to its VMs. The way back is always the east-west gateway.",
        example={"hosts": {"gw-1": {"ssh": {"address": "198.51.100.5"}}}},
        wrong="pods would have no way to the VMs of this network.",
        fix="`{hosts: {…}}`; or `direct: true` where pods do reach the VMs.",
    )
    direct: bool = setting(
        False,
        meaning="`true`: pods reach its VMs at their own addresses, so that only the way back takes a gateway.",
        example=False,
        wrong="it would be unclear how pods reach its VMs.",
        fix="`true` or `false`.",
    )
