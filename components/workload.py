"""What runs under one identity, in Kubernetes, on machines, or both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.core.v1 import Service, ServiceAccount, ServicePortArgs, ServiceSpecArgs
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from hybridmesh.istio import group_manifest, spiffe_id
from hybridmesh.istio.names import PROXY_CONFIG_ANNOTATION

from .after import after
from .registration_policy import RegistrationPolicy, RegistrationPolicyArgs


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadPort:
    """One port of a service."""

    name: str
    """Its name."""
    port: int
    """The port that clients use."""
    target: int
    """The port that the app listens on."""
    protocol: Literal["HTTP", "HTTP2", "GRPC", "TCP", "TLS"] = "HTTP"
    """What is spoken there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadArgs:
    """Inputs of `Workload`."""

    workload: str
    """Its name: that of Service or ServiceEntry and WorkloadGroup, and its label `app`."""
    namespace: pulumi.Input[str]
    """Its namespace."""
    service_account: str
    """Its service account."""
    trust_domain: pulumi.Input[str] = "cluster.local"
    """The mesh's trust domain."""
    domain: str = "cluster.local"
    """The cluster's DNS domain."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels besides `app` and `version`."""
    ports: Sequence[WorkloadPort] = ()
    """Its ports; with none it is a client, and gets no Service."""
    service_entry_hosts: Sequence[str] = ()
    """Full host names of a ServiceEntry in place of a Service; the first is the workload's own."""
    has_machines: bool = False
    """Whether a part of it runs on machines, which takes a WorkloadGroup."""
    machines_version: str = "vm"
    """Label `version` of the machines."""
    network: str = ""
    """The machines' network."""
    probe: Mapping[str, Any] | None = None
    """The machines' readiness probe, as in a WorkloadGroup."""
    concurrency: int | None = None
    """Worker threads of the machines' proxies; 0 is one per CPU, None what Istio takes."""
    admission_policies: bool = False
    """Whether Kubernetes refuses machines that register as what they are not: a `RegistrationPolicy`."""


class Workload(pulumi.ComponentResource):
    """Owns ServiceAccount, Service or ServiceEntry, and WorkloadGroup with, if asked for, its `RegistrationPolicy`.

    It owns neither the namespace, which others may share, nor what runs: that is `Pods`' and `Sidecar`'s.
    """

    identity: pulumi.Output[str]
    """Its SPIFFE id."""
    host: pulumi.Output[str]
    """Its service's full host name, of no use without ports."""
    service_account: pulumi.Output[str]
    """Its service account; who uses it waits for it."""
    group: pulumi.Output[dict[str, Any]]
    """The WorkloadGroup's manifest; empty without machines."""

    def __init__(self, name: str, args: WorkloadArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:workload:Workload",
            name,
            {"workload": args.workload, "namespace": args.namespace, "serviceAccount": args.service_account},
            opts,
        )
        self._name, self._args = name, args
        self._child = pulumi.ResourceOptions(parent=self)
        self._namespace = pulumi.Output.from_input(args.namespace)
        account = ServiceAccount(
            f"{name}-account",
            metadata=ObjectMetaArgs(
                name=args.service_account, namespace=self._namespace, labels={"app": args.workload}
            ),
            opts=self._child,
        )
        self.service_account = after(account, args.service_account)
        self.identity = pulumi.Output.all(args.trust_domain, self._namespace, self.service_account).apply(
            lambda parts: spiffe_id(*parts)
        )
        self.host = self._make_host()
        self.group = self._make_group() if args.has_machines else pulumi.Output.from_input({})
        self.register_outputs({"identity": self.identity, "host": self.host})

    def _make_host(self) -> pulumi.Output[str]:
        """The host name, and what makes it known."""
        name, args = self._name, self._args
        host = self._namespace.apply(lambda ns: f"{args.workload}.{ns}.svc.{args.domain}")
        if not args.ports:
            return host
        labels = {**args.labels, "app": args.workload}
        if args.service_entry_hosts:
            entry = CustomResource(
                f"{name}-service-entry",
                api_version="networking.istio.io/v1",
                kind="ServiceEntry",
                metadata=ObjectMetaArgs(name=args.workload, namespace=self._namespace, labels=labels),
                spec=service_entry_spec(args),
                opts=self._child,
            )
            return after(entry, args.service_entry_hosts[0])
        service = Service(
            f"{name}-service",
            metadata=ObjectMetaArgs(
                name=args.workload,
                namespace=self._namespace,
                labels=labels,
                # Kubernetes knows no endpoints on machines, so that waiting for one could last for ever.
                annotations={"pulumi.com/skipAwait": "true"},
            ),
            spec=ServiceSpecArgs(selector={"app": args.workload}, ports=[_service_port(p) for p in args.ports]),
            opts=self._child,
        )
        return after(service, host)

    def _make_group(self) -> pulumi.Output[dict[str, Any]]:
        """The WorkloadGroup; its manifest, once it is there."""
        args, spec = self._args, workload_group_spec(self._args)
        namespace = self._namespace
        if args.admission_policies:
            policy = RegistrationPolicyArgs(group=args.workload, namespace=namespace, labels=spec["metadata"]["labels"])
            namespace = RegistrationPolicy(self._name, policy, opts=self._child).namespace
        group = CustomResource(
            f"{self._name}-group",
            api_version="networking.istio.io/v1",
            kind="WorkloadGroup",
            metadata=ObjectMetaArgs(name=args.workload, namespace=namespace, labels={"app": args.workload}),
            spec=spec,
            opts=self._child,
        )
        # What stands behind the group alone: the policies before it need no place in each of its VMs' states.
        there: pulumi.Output[str] = after(group, self._namespace)
        return there.apply(lambda namespace: group_manifest(args.workload, namespace, spec))


def workload_group_spec(args: WorkloadArgs) -> dict[str, Any]:
    """The WorkloadGroup's spec."""
    template: dict[str, Any] = {"serviceAccount": args.service_account}
    if args.network:
        template["network"] = args.network
    if args.ports:
        template["ports"] = {port.name: port.target for port in args.ports}
    metadata: dict[str, Any] = {"labels": {**args.labels, "app": args.workload, "version": args.machines_version}}
    if args.concurrency is not None:
        metadata["annotations"] = {PROXY_CONFIG_ANNOTATION: f"concurrency: {args.concurrency}\n"}
    spec: dict[str, Any] = {"metadata": metadata, "template": template}
    if args.probe is not None:
        spec["probe"] = machine_probe(args.probe)
    return spec


def service_entry_spec(args: WorkloadArgs) -> dict[str, Any]:
    """The ServiceEntry's spec: its endpoints are the WorkloadEntries, and pods, with the workload's label."""
    return {
        "hosts": list(args.service_entry_hosts),
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [
            {"name": port.name, "number": port.port, "targetPort": port.target, "protocol": port.protocol}
            for port in args.ports
        ],
        "workloadSelector": {"labels": {"app": args.workload}},
    }


def machine_probe(probe: Mapping[str, Any]) -> dict[str, Any]:
    """A probe for Istio's agent on a machine.

    By TCP the agent would ask at the machine's own address, which leads to the proxy there, and that takes every
    connection: the app would never be unhealthy. By HTTP and by 127.0.0.1 the agent reaches the app itself.
    """
    if "tcpSocket" not in probe:
        return dict(probe)
    return {**probe, "tcpSocket": {"host": "127.0.0.1", **probe["tcpSocket"]}}


def _service_port(port: WorkloadPort) -> ServicePortArgs:
    return ServicePortArgs(
        name=port.name,
        port=port.port,
        target_port=port.target,
        protocol="TCP",
        # Istio goes by this before it goes by the name.
        app_protocol=port.protocol.lower(),
    )
