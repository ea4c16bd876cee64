"""The part of a workload that runs in Kubernetes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment, DeploymentSpecArgs
from pulumi_kubernetes.core.v1 import (
    ContainerArgs,
    ContainerPortArgs,
    EnvVarArgs,
    PodSpecArgs,
    PodTemplateSpecArgs,
    ProbeArgs,
    ResourceRequirementsArgs,
)
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs

from hybridmesh.istio import injection_annotations
from hybridmesh.istio.names import PROXY_CONFIG_ANNOTATION

from .after import after
from .timeouts import within

REWRITE_PROBES = {"sidecar.istio.io/rewriteAppHTTPProbers": "true"}
"""Istio's default, but one that a mesh may turn off: then no pod with a probe would get ready under strict mTLS."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AppMetrics:
    """Where the app serves metrics of its own."""

    port: int
    """Its port, in plain HTTP."""
    path: str = "/metrics"
    """Its path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PodsArgs:
    """Inputs of `Pods`."""

    workload: str
    """The workload's name: that of the Deployment, and its label `app`."""
    namespace: pulumi.Input[str]
    """Its namespace, which must be labelled for injection."""
    service_account: pulumi.Input[str]
    """Its service account."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels besides `app` and `version`."""
    version: str = "k8s"
    """Label `version`, which subsets select."""
    image: pulumi.Input[str]
    """The container image."""
    image_pull_policy: str = "IfNotPresent"
    """When the image is pulled."""
    replicas: pulumi.Input[int] = 1
    """How many pods."""
    command: Sequence[str] = ()
    """Command and arguments instead of the image's own."""
    env: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Environment variables; nothing secret: the Deployment shows it."""
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Resource requests and limits of the app's container."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """The ports that the app listens on, by name."""
    injected_as: pulumi.Input[str] = ""
    """What their proxies are told when they are injected (`hybridmesh.istio.injected_as`): the pods roll when it
    changes. Empty: they never roll for it."""
    dns_capture: bool = False
    """Whether their proxies answer DNS, so that they find the hosts of ServiceEntries by name."""
    ready_seconds: int = 300
    """Limit for the pods to become ready."""
    metrics: AppMetrics | None = None
    """The app's own metrics, which the sidecar's agent adds to the proxy's."""
    probe: Mapping[str, Any] | None = None
    """Readiness probe as in Kubernetes. istiod's injector leads one by HTTP or TCP through the sidecar's agent: kubelet
    has no certificate of the mesh, and strict mTLS would refuse it."""


class Pods(pulumi.ComponentResource):
    """Owns one Deployment; `up` waits until its pods are ready.

    It owns neither namespace nor service account nor Service: these are the workload's, which may run on VMs too.
    """

    namespace: pulumi.Output[str]
    """Its namespace, for what comes after the pods are ready: a route to them."""

    def __init__(self, name: str, args: PodsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:pods:Pods",
            name,
            {"workload": args.workload, "image": args.image, "replicas": args.replicas, "version": args.version},
            opts,
        )
        labels = {**args.labels, "app": args.workload, "version": args.version}
        container = ContainerArgs(
            name="app",
            image=args.image,
            image_pull_policy=args.image_pull_policy,
            command=list(args.command) or None,
            env=[EnvVarArgs(name=key, value=args.env[key]) for key in sorted(args.env)] or None,
            ports=_container_ports(args.ports) or None,
            resources=_resources(args.resources),
            readiness_probe=probe_args(args.probe) if args.probe else None,
        )
        deployment = Deployment(
            f"{name}-deployment",
            # Istio's telemetry calls the workload by the Deployment's name.
            metadata=ObjectMetaArgs(name=args.workload, namespace=args.namespace, labels=labels),
            spec=DeploymentSpecArgs(
                replicas=args.replicas,
                # Not by version: a selector cannot change, so that all pods would go before those of another come.
                selector=LabelSelectorArgs(match_labels={"app": args.workload}),
                template=PodTemplateSpecArgs(
                    metadata=ObjectMetaArgs(labels=labels, annotations=_annotations(args)),
                    spec=PodSpecArgs(service_account_name=args.service_account, containers=[container]),
                ),
            ),
            opts=pulumi.ResourceOptions(
                parent=self,
                custom_timeouts=within(args.ready_seconds),
                # One that was made with the version in its selector stays as it is.
                ignore_changes=["spec.selector"],
            ),
        )
        self.namespace = after(deployment, args.namespace)
        self.register_outputs({})


def _container_ports(ports: Mapping[str, int]) -> list[ContainerPortArgs]:
    """One a port of the app, by the first name: Kubernetes refuses a number that is there twice."""
    names: dict[int, str] = {}
    for name, port in ports.items():
        names.setdefault(port, name)
    return [ContainerPortArgs(name=names[port], container_port=port) for port in sorted(names, key=names.__getitem__)]


def _annotations(args: PodsArgs) -> dict[str, pulumi.Input[str]] | None:
    annotations: dict[str, pulumi.Input[str]] = {
        **(REWRITE_PROBES if args.probe else {}),
        **injection_annotations(args.injected_as),
    }
    if args.dns_capture:
        annotations[PROXY_CONFIG_ANNOTATION] = 'proxyMetadata:\n  ISTIO_META_DNS_CAPTURE: "true"\n'
    if args.metrics is not None:
        # Istio's injector takes them over to the agent, and leads Prometheus there.
        annotations["prometheus.io/scrape"] = "true"
        annotations["prometheus.io/port"] = str(args.metrics.port)
        annotations["prometheus.io/path"] = args.metrics.path
    return annotations or None


def _resources(resources: Mapping[str, Mapping[str, str]]) -> ResourceRequirementsArgs | None:
    if not resources:
        return None
    return ResourceRequirementsArgs(
        requests=dict(resources.get("requests", {})) or None, limits=dict(resources.get("limits", {})) or None
    )


def probe_args(probe: Mapping[str, Any]) -> ProbeArgs:
    """A WorkloadGroup's probe, which is shaped as Kubernetes' own, as a container's."""
    return ProbeArgs(
        http_get=probe.get("httpGet"),
        tcp_socket=probe.get("tcpSocket"),
        exec_=probe.get("exec"),
        initial_delay_seconds=probe.get("initialDelaySeconds"),
        timeout_seconds=probe.get("timeoutSeconds"),
        period_seconds=probe.get("periodSeconds"),
        success_threshold=probe.get("successThreshold"),
        failure_threshold=probe.get("failureThreshold"),
    )
