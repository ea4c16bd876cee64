"""A service or a client."""

from collections.abc import Mapping
from typing import Literal

from .base import HostName, Labels, Model, Name, Port, PortName, setting
from .machines import Host, Machines
from .observability import AppMetrics
from .pods import Pods
from .probe import Probe
from .shape import ProxyShape


class ServicePort(Model):
    """One port of a service."""

    name: PortName = setting(
        meaning="Its name.",
        example="http",
        wrong="neither the Service nor the WorkloadGroup could be made.",
        fix="a short name such as `http`.",
    )
    port: Port = setting(
        meaning="The port that clients use.",
        example=8080,
        wrong="clients could not reach the service.",
        fix="1 to 65535.",
    )
    target_port: Port | None = setting(
        None,
        meaning="The port that the app listens on, in pods and on VMs; default: `port`.",
        example=8080,
        wrong="the proxy would not reach the app.",
        fix="1 to 65535, or leave it out.",
    )
    protocol: Literal["HTTP", "HTTP2", "GRPC", "TCP", "TLS"] = setting(
        "HTTP",
        meaning="What is spoken there. HTTP, HTTP2 and GRPC are routed by request, TCP by connection; TLS, which the "
        "app itself speaks, by connection too, for clients that name the full host name (SNI).",
        example="HTTP",
        wrong="the proxy would take it for something else, and routes would not apply.",
        fix="HTTP, HTTP2, GRPC, TCP or TLS.",
    )

    @property
    def target(self) -> int:
        """The port that the app listens on."""
        return self.target_port or self.port

    @property
    def by_request(self) -> bool:
        """Whether the proxy reads requests there, and not connections alone."""
        return self.protocol not in ("TCP", "TLS")


class Service(Model):
    """What makes a workload's host name known."""

    kind: Literal["Service", "ServiceEntry"] = setting(
        "Service",
        meaning="`Service`: Kubernetes', which its DNS serves to everybody in the cluster. `ServiceEntry`: Istio's, "
        "STATIC with a workloadSelector, which only proxies know.",
        example="ServiceEntry",
        wrong="nobody would know the workload by a name.",
        fix="Service or ServiceEntry.",
    )
    hosts: tuple[HostName, ...] = setting(
        (),
        meaning="The host names of a ServiceEntry; the first is the workload's own, the others lead to it.",
        example=["shop.vm.internal"],
        wrong="the mesh could take over names that belong to others.",
        fix="full host names such as `shop.vm.internal`.",
    )


class Workload(Model):
    """A service, or a client: what runs under one identity, in Kubernetes, on VMs, or both."""

    namespace: Name = setting(
        meaning="Its Kubernetes namespace.",
        example="demo",
        wrong="it would have no identity.",
        fix="a namespace such as `demo`; not Istio's own.",
    )
    service_account: Name | None = setting(
        None,
        meaning="Its service account, hence its identity; default: the workload's name.",
        example="echo",
        wrong="it would have no identity.",
        fix="a name, or leave it out.",
    )
    network: Name | None = setting(
        None,
        meaning="The network of its VMs, one of `networks`; default: `cluster.network`. To and from another one, "
        "requests go through gateways.",
        example="datacenter",
        wrong="traffic would take a route that does not exist.",
        fix="a name in `networks`, or leave it out.",
    )
    labels: Labels = setting(
        default_factory=dict,
        meaning="Labels of its pods, group and VMs, besides `app` and `version`.",
        example={"team": "shop"},
        wrong="Kubernetes would refuse the object.",
        fix="`{key: value}`.",
    )
    ports: tuple[ServicePort, ...] = setting(
        (),
        meaning="Its ports. With none it is a client, and gets no Service.",
        example=[{"name": "http", "port": 8080, "protocol": "HTTP"}],
        wrong="clients could not reach it.",
        fix="`[{name: http, port: 8080}]`.",
    )
    service: Service = setting(
        default_factory=Service,
        meaning="What makes its host name known.",
        example={"kind": "ServiceEntry", "hosts": ["shop.vm.internal"]},
        wrong="nobody would know the workload by a name.",
        fix="`{kind: ServiceEntry, hosts: [...]}`, or leave it out.",
    )
    probe: Probe | None = setting(
        None,
        meaning="Whether the app is ready, on VMs and in pods.",
        example={"httpGet": {"path": "/health/ready", "port": 8080}},
        wrong="requests would go to apps that are not ready.",
        fix="`{httpGet: {path, port}}`.",
    )
    metrics: AppMetrics | None = setting(
        None,
        meaning="Metrics of the app's own, on VMs and in pods: they are scraped with the proxy's. Default: none.",
        example={"port": 9100},
        wrong="what the app itself counts would not be seen.",
        fix="`{port, path}`, or leave it out.",
    )
    pods: Pods | None = setting(
        None,
        meaning="The part that runs in Kubernetes.",
        example={"image": "hybrid-mesh.lab/echo:1.31"},
        wrong="nothing would run in Kubernetes.",
        fix="`{image: …}`, or leave it out.",
    )
    machines: Machines | None = setting(
        None,
        meaning="The part that runs on VMs.",
        example={"hosts": {"vm-1": {"ssh": {}}}},
        wrong="nothing would run on VMs.",
        fix="`{hosts: {…}}`, or leave it out.",
    )
    sidecar: ProxyShape | None = setting(
        None,
        meaning="How its proxies behave, where that differs from `sidecar`, field by field.",
        example={"logLevel": "debug"},
        wrong="its proxies would behave like all others.",
        fix="a mapping, or leave it out.",
    )

    @property
    def hosts(self) -> Mapping[str, Host]:
        """Its machines that are reached by SSH, by name."""
        return self.machines.hosts if self.machines is not None else {}
