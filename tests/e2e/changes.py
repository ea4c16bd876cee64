"""Typical changes of a stack's settings, and what a preview must show of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Sections = dict[str, Any]

VM_PARTS = ("machine", "preflight", "departure", "token", "join", "ready", "membership")
"""The resources of a VM that a command makes."""
REJOINED = ("join", "ready", "membership")
"""Those that change where what the VM gets changes; the VM stays, and so does its token."""
VMS = ("vm-1", "vm-2")


def of_vms(operation: str, parts: tuple[str, ...], *vms: str) -> dict[str, str]:
    return {f"mesh-{vm}-{part}": operation for vm in vms for part in parts}


ALL_REJOIN = of_vms("update", REJOINED, *VMS)
VERDICT = {"mesh-preflights": "update"}
"""What was found is not known before it is looked for, so that a preview shows the verdict, too."""
LOOKED_AT = {**of_vms("update", ("preflight",), *VMS), **VERDICT}
"""Where what a VM must be fit for changes: it is looked at first."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change."""

    name: str
    """In a reviewer's words."""
    make: Callable[[Sections], object]
    """Changes the stack's sections in place."""
    steps: Mapping[str, str] = field(default_factory=dict)
    """What happens, by resource: exactly this. Components, which own no more than their parts, are not named."""
    perhaps: Mapping[str, str] = field(default_factory=dict)
    """What hangs on a value that only the update can tell, so that a preview shows it besides."""
    sample: bool = False
    """Whether `make test` looks at it, too."""

    @property
    def file_name(self) -> str:
        """Of its preview, as it is recorded."""
        return self.name.replace(" ", "-")


def echo(sections: Sections) -> dict[str, Any]:
    found: dict[str, Any] = sections["workloads"]["echo"]
    return found


def routing(sections: Sections) -> dict[str, Any]:
    found: dict[str, Any] = sections["routing"]["echo"]
    return found


def mesh_config(sections: Sections) -> dict[str, Any]:
    values = sections["controlPlane"]["values"]
    found: dict[str, Any] = values.setdefault("meshConfig", {}).setdefault("defaultConfig", {})
    return found


def add_vm(sections: Sections) -> None:
    hosts = echo(sections)["machines"]["hosts"]
    hosts["vm-3"] = {
        "command": {
            "create": "python -m lab machine create vm-3",
            "delete": "python -m lab machine delete vm-3",
            "privateKeyFile": hosts["vm-2"]["command"]["privateKeyFile"],
        }
    }


def add_workload(sections: Sections) -> None:
    pods = {"image": "hybrid-mesh.lab/echo:1.31", "version": "k8s"}
    sections["workloads"]["cart"] = {"namespace": "shop", "ports": echo(sections)["ports"], "pods": pods}


CHANGES = (
    Change(
        name="canary weight",
        make=lambda s: routing(s).update(weights={"k8s": 80, "vm": 20}),
        steps={"mesh-echo-virtual-service": "update"},
        sample=True,
    ),
    Change(
        name="new VM",
        make=add_vm,
        steps={**of_vms("create", VM_PARTS, "vm-3"), **VERDICT},
        sample=True,
    ),
    Change(
        name="removed VM",
        make=lambda s: echo(s)["machines"]["hosts"].pop("vm-2"),
        steps={**of_vms("delete", VM_PARTS, "vm-2"), **VERDICT},
        sample=True,
    ),
    Change(
        name="new label",
        make=lambda s: echo(s).update(labels={"team": "shop"}),
        steps={
            "mesh-echo-service": "update",
            "mesh-echo-group": "update",
            "mesh-echo-service-policy": "update",
            "mesh-echo-serviceentry-policy": "update",
            "mesh-echo-deployment": "update",
            **ALL_REJOIN,
        },
        sample=True,
    ),
    Change(
        name="sidecar version",
        make=lambda s: s["sidecar"]["package"].update(version="1.31.1"),
        steps={**ALL_REJOIN, **LOOKED_AT},
    ),
    Change(
        name="gateway address",
        make=lambda s: s["gateway"].update(address="192.0.2.77"),
        steps={"mesh-gateway-address": "delete", "mesh-adopters": "update", **ALL_REJOIN, **LOOKED_AT},
        sample=True,
    ),
    Change(
        name="gateway pods",
        make=lambda s: s["gateway"].setdefault("values", {}).update(podAnnotations={"team": "mesh"}),
        steps={"mesh-gateway-release": "update"},
    ),
    Change(
        name="gateway load balancer",
        make=lambda s: s["gateway"].setdefault("values", {}).update(service={"annotations": {"team": "mesh"}}),
        steps={"mesh-gateway-release": "update", "mesh-gateway-address": "update"},
        perhaps={**of_vms("update", ("departure",), *VMS), **ALL_REJOIN, **LOOKED_AT},
        sample=True,
    ),
    Change(
        name="access rule",
        make=lambda s: s.update(access={"echo": {"allow": [{"from": ["client"], "methods": ["GET"]}]}}),
        steps={"mesh-echo-allow": "create", "mesh-echo-default-deny": "create"},
    ),
    Change(
        name="probe",
        make=lambda s: echo(s)["probe"].update(periodSeconds=5),
        steps={"mesh-echo-group": "update", "mesh-echo-deployment": "update", **ALL_REJOIN},
    ),
    Change(
        name="mTLS permissive",
        make=lambda s: s.update(mtls="PERMISSIVE"),
        steps={"mesh-demo-peers": "update"},
    ),
    Change(
        name="more pods",
        make=lambda s: echo(s)["pods"].update(replicas=2),
        steps={"mesh-echo-deployment": "update"},
    ),
    Change(
        name="new image",
        make=lambda s: echo(s)["pods"].update(image="hybrid-mesh.lab/echo:1.32"),
        steps={"mesh-echo-deployment": "update"},
    ),
    Change(
        name="limits of the proxies",
        make=lambda s: s["sidecar"].update(limits={"memory": "512M"}),
        steps=ALL_REJOIN,
    ),
    Change(
        name="log level of the proxies",
        make=lambda s: s["sidecar"].update(logLevel="debug"),
        steps=ALL_REJOIN,
    ),
    Change(
        name="timeout",
        make=lambda s: routing(s).update(timeout="2s"),
        steps={"mesh-echo-virtual-service": "update"},
    ),
    Change(
        name="connection pool",
        make=lambda s: routing(s).update(connectionPool={"tcp": {"maxConnections": 100}}),
        steps={"mesh-echo-destination-rule": "update"},
    ),
    Change(
        name="new workload",
        make=add_workload,
        steps={
            "mesh-adopters": "update",
            "mesh-shop-namespace": "create",
            "mesh-shop-peers": "create",
            "mesh-cart-account": "create",
            "mesh-cart-service": "create",
            "mesh-cart-deployment": "create",
        },
    ),
    Change(
        name="removed workload",
        make=lambda s: s["workloads"].pop("client"),
        steps={"mesh-client-account": "delete", "mesh-client-deployment": "delete"},
    ),
    Change(
        name="Helm value of istiod",
        make=lambda s: s["controlPlane"]["values"]["resources"]["requests"].update(cpu="20m"),
        steps={"mesh-control-plane-istiod": "update"},
    ),
    Change(
        name="mesh config",
        make=lambda s: mesh_config(s).update(holdApplicationUntilProxyStarts=True),
        steps={"mesh-control-plane-istiod": "update", **ALL_REJOIN},
    ),
    Change(
        name="second port",
        make=lambda s: echo(s)["ports"].append({"name": "tcp-raw", "port": 9000, "protocol": "TCP"}),
        steps={
            "mesh-echo-service": "update",
            "mesh-echo-group": "update",
            "mesh-echo-deployment": "update",
            "mesh-echo-virtual-service": "update",
            **ALL_REJOIN,
            **LOOKED_AT,
        },
    ),
)
