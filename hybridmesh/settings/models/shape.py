"""How a workload's proxies behave: settings that a stack gives for all, and a workload for itself."""

from typing import Annotated, Literal

from pydantic import Field

from .base import Cidr, EgressHost, LogLevel, MemorySize, Model, Port, Whole, setting
from .tracing import Tracing


class Limits(Model):
    """What the proxy may use of a VM: systemd's resource control of `istio.service`."""

    cpu_percent: Annotated[Whole, Field(ge=1, le=100000)] | None = setting(
        None,
        meaning="Share of one CPU's time (`CPUQuota`); 200 is two CPUs. Default: no limit.",
        example=100,
        wrong="the proxy would stand still, or take the app's CPU time.",
        fix="1 to 100000, or leave it out.",
    )
    memory: MemorySize | None = setting(
        None,
        meaning="Memory above which the kernel ends the proxy, and systemd starts it again (`MemoryMax`). "
        "Default: no limit.",
        example="512M",
        wrong="the proxy would not start, or take the app's memory.",
        fix="a size of at least 64M such as `512M` or `1G`, or leave it out.",
    )
    memory_high: MemorySize | None = setting(
        None,
        meaning="Memory above which the kernel slows the proxy down (`MemoryHigh`). Default: none.",
        example="384M",
        wrong="the proxy would be slowed down for nothing, or never.",
        fix="a size below `memory`, or leave it out.",
    )
    tasks: Annotated[Whole, Field(ge=64, le=1000000)] | None = setting(
        None,
        meaning="Most threads of agent and proxy (`TasksMax`). Default: systemd's own.",
        example=512,
        wrong="the proxy could not start its workers.",
        fix="64 to 1000000, or leave it out.",
    )


class Capture(Model):
    """Which connections of a VM go through the proxy: Istio's iptables rules."""

    inbound_ports: tuple[Port, ...] | None = setting(
        None,
        meaning="Ports whose incoming connections are captured. Default: those of the workload (`targetPort`); "
        "all of them where it has none. An empty list captures nothing.",
        example=[8080, 9100],
        wrong="callers would speak mTLS to an app that does not.",
        fix="a list of ports with those of the workload, or leave it out.",
    )
    all_inbound_ports: bool = setting(
        False,
        meaning="Whether every incoming connection is captured, but for SSH, Istio's own and `excludeInboundPorts`.",
        example=True,
        wrong="ports that are nobody's would be reachable in plain text.",
        fix="`true` or `false`.",
    )
    exclude_inbound_ports: tuple[Port, ...] = setting(
        (),
        meaning="Ports whose incoming connections bypass the proxy though others are captured.",
        example=[9100],
        wrong="what listens there would be cut off from callers without a sidecar.",
        fix="a list of ports, none of them the workload's own.",
    )
    outbound_cidrs: tuple[Cidr, ...] | None = setting(
        None,
        meaning="Addresses whose outgoing connections are captured. Default: all.",
        example=["10.0.0.0/8"],
        wrong="calls to the mesh would leave in plain text.",
        fix="a list of CIDR ranges, or leave it out.",
    )
    exclude_outbound_cidrs: tuple[Cidr, ...] = setting(
        (),
        meaning="Addresses whose outgoing connections bypass the proxy.",
        example=["192.0.2.0/24"],
        wrong="calls to the mesh would leave in plain text.",
        fix="a list of CIDR ranges.",
    )
    exclude_outbound_ports: tuple[Port, ...] = setting(
        (),
        meaning="Ports whose outgoing connections bypass the proxy, wherever they lead.",
        example=[5432],
        wrong="calls to the mesh would leave in plain text.",
        fix="a list of ports.",
    )


class Egress(Model):
    """What a workload's proxies know of the mesh: Istio's `Sidecar`, for its pods and VMs alike."""

    hosts: tuple[EgressHost, ...] = setting(
        meaning="Services that they are told of, as `namespace/host`: `.` is their own namespace, `*` is any, "
        "`~` is none.",
        example=["./*", "shop/orders.shop.svc.cluster.local"],
        wrong="the proxy would not know the services that the app calls.",
        fix="a list such as `[./*, istio-system/*]`.",
        min_length=1,
    )
    outbound_traffic_policy: Literal["ALLOW_ANY", "REGISTRY_ONLY"] | None = setting(
        None,
        meaning="Whether hosts that they are not told of can be called all the same. Default: the mesh's policy.",
        example="REGISTRY_ONLY",
        wrong="the app could call what it should not, or not what it should.",
        fix="ALLOW_ANY or REGISTRY_ONLY, or leave it out.",
    )


class ProxyShape(Model):
    """How a workload's proxies behave, where that differs from `sidecar`; field by field."""

    dns_capture: bool = setting(
        True,
        meaning="Whether the proxy answers DNS on the VM, so that apps there find services by name.",
        example=True,
        wrong="apps on VMs could not find services by name.",
        fix="`true` or `false`.",
    )
    concurrency: Annotated[Whole, Field(ge=0, le=1024)] | None = setting(
        None,
        meaning="Worker threads of the proxy on VMs; 0 is one per CPU. Default: Istio's own.",
        example=2,
        wrong="the proxy would be slow, or take the app's CPUs.",
        fix="0 to 1024, or leave it out.",
    )
    log_level: LogLevel | None = setting(
        None,
        meaning="Envoy's log level on VMs, for all and `,` for single components. Default: Istio's, warning.",
        example="warning,http:debug",
        wrong="the proxy would not start.",
        fix="trace, debug, info, warning, error, critical or off, such as `info` or `warning,rbac:debug`.",
    )
    access_log: Literal["all", "errors", "none"] | None = setting(
        None,
        meaning="Which requests the proxies of pods and VMs log: `errors` is a status of 400 or more, or none. "
        "Default: what the mesh has.",
        example="errors",
        wrong="nobody could tell afterwards who called whom.",
        fix="all, errors or none, or leave it out.",
    )
    tracing: Tracing | None = setting(
        None,
        meaning="Which requests the proxies of pods and VMs trace. Default: what the mesh has.",
        example={"samplingPercent": 1.0, "tags": {"team": {"literal": "shop"}}},
        wrong="nobody could tell afterwards where a slow request spent its time.",
        fix="`{samplingPercent, tags}`, or leave it out.",
    )
    limits: Limits = setting(
        default_factory=Limits,
        meaning="What the proxy may use of a VM.",
        example={"cpuPercent": 100, "memory": "512M"},
        wrong="the proxy could take what the app needs.",
        fix="a mapping, or leave it out.",
    )
    capture: Capture = setting(
        default_factory=Capture,
        meaning="Which connections of a VM go through the proxy.",
        example={"excludeOutboundPorts": [5432]},
        wrong="connections would bypass the mesh, or be caught by it.",
        fix="a mapping, or leave it out.",
    )
    egress: Egress | None = setting(
        None,
        meaning="What the proxies of pods and VMs know of the mesh. Default: all of it.",
        example={"hosts": ["./*"]},
        wrong="every proxy would be sent the whole mesh, and each change of it.",
        fix="`{hosts: [./*]}`, or leave it out.",
    )
