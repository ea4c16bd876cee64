"""The east-west gateway."""

from collections.abc import Mapping
from typing import Any, Literal

from .base import Address, Model, Name, Seconds, setting


class Gateway(Model):
    """The east-west gateway: the way of VMs to istiod and to services of another network."""

    mode: Literal["install", "adopt"] = setting(
        "install",
        meaning="`install` brings it by Helm and removes it on destroy; `adopt` reads the address of an existing one.",
        example="install",
        wrong="it would be unclear who owns the gateway.",
        fix="`install` or `adopt`.",
    )
    name: Name = setting(
        "istio-eastwestgateway",
        meaning="Its Helm release, Service and Deployment.",
        example="istio-eastwestgateway",
        wrong="it could not be installed.",
        fix="a name that no other gateway in its namespace has.",
    )
    address: Address | None = setting(
        None,
        meaning="IP address or host name at which VMs reach it; default: what the cluster's load balancer says. A host "
        "name is resolved on each VM, which follows its addresses.",
        example="192.0.2.100",
        wrong="VMs would not reach istiod.",
        fix="an IP address, a full host name, or leave it out.",
    )
    values: Mapping[str, Any] = setting(
        default_factory=dict,
        meaning="More Helm values for the gateway chart. Without them it has two pods at least, and a drained node "
        "takes one of them at a time. A null below its first keys, or `replicaCount`'s, takes "
        "away what the chart or the stack has there.",
        example={"autoscaling": {"minReplicas": 3}},
        wrong="Helm would refuse them.",
        fix="a mapping, as in the chart's values.yaml.",
    )
    install_seconds: Seconds = setting(
        300,
        meaning="Limit for the gateway to become ready and to get its address.",
        example=300,
        wrong="`up` would wait for ever, or give up at once.",
        fix="seconds, 1 to 86400.",
    )

    @property
    def by_address(self) -> bool:
        """Whether it is adopted by its address alone: nobody says where its pods are, or what they are labelled."""
        return self.mode == "adopt" and self.address is not None
