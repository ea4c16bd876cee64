"""What is seen of the mesh: the metrics server, what Prometheus and Grafana are given, a Prometheus if need be."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi
import yaml
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.core.v1 import ConfigMap, Service, ServiceAccount, ServicePortArgs, ServiceSpecArgs
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.rbac.v1 import Role, RoleBinding, RoleRefArgs, SubjectArgs

from hybridmesh.istio import injection_annotations
from hybridmesh.istio.ports import AGENT_STATUS, ENVOY_METRICS, ISTIOD_MONITORING
from hybridmesh.metrics.dashboard import dashboard_text
from hybridmesh.metrics.rules import Agent, Gateway, Thresholds, rules
from hybridmesh.metrics.scrape import (
    PROMETHEUS,
    PROMETHEUS_PORT,
    RULES_FILE,
    SERVER,
    jobs,
    prometheus_config,
    scrape_config_spec,
)
from hybridmesh.metrics.server import PORT
from hybridmesh.providers.token import AUDIENCE

from .after import after

DASHBOARD = "hybrid-mesh-dashboard"
WRITE_PATH = "/api/v1/write"

_MONITORING = "monitoring.coreos.com"
_NOBODY = 65534
_VERSION = "k8s"
"""Label `version` of its pods, as other pods of a stack have it by default. No selector has it: a Deployment's cannot
change."""
_LOCKED_DOWN = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnPrometheus:
    """A Prometheus of the stack's own."""

    image: str
    """Its image, with the command `prometheus`."""
    retention_hours: int = 48
    """How long it keeps what it has scraped."""
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Resource requests and limits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservabilityArgs:
    """Inputs of `Observability`."""

    namespace: pulumi.Input[str]
    """Its namespace. Labelled for injection, so that agents in other networks reach it through gateways."""
    namespace_name: str
    """The same, known from the start."""
    injected_as: pulumi.Input[str] = ""
    """What its pods' proxies are told when they are injected, as `PodsArgs.injected_as`."""
    domain: str = "cluster.local"
    """The cluster's DNS domain."""
    image: str
    """The metrics server's image."""
    image_pull_policy: str = "IfNotPresent"
    """When images are pulled."""
    config: pulumi.Input[Mapping[str, Any]]
    """What the server is told: `hybridmesh.metrics.server.Config` as JSON has it."""
    entries_in: Mapping[str, pulumi.Input[str]]
    """Namespaces whose WorkloadEntries are VMs of the mesh, by name; given as outputs, roles follow them."""
    pods_in: Mapping[str, pulumi.Input[str]]
    """Namespaces whose pods are scraped, by name."""
    istio_namespace: pulumi.Input[str]
    """istiod's namespace."""
    seconds: int = 15
    """How often is scraped."""
    gateways: Sequence[Gateway] = ()
    """Gateways that are missed when they do not answer."""
    agents: Sequence[str] = ()
    """Networks whose agent is missed when nothing comes from it; without a Prometheus of its own, after it was seen."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    """From when on somebody is told."""
    runbook: str = ""
    """The address of docs/metrics.md, where people reach it, for the alerts' links; empty: they have none."""
    delivery: Literal["files", "operator"] = "files"
    """ConfigMaps, or objects of the Prometheus operator."""
    operator_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of the latter."""
    dashboard_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of the dashboard's ConfigMap."""
    prometheus: OwnPrometheus | None = None
    """A Prometheus of its own; None where there is one."""
    writers: Sequence[pulumi.Input[str]] = ()
    """Identities (SPIFFE) of the agents, which alone may write to it."""


class Observability(pulumi.ComponentResource):
    """Owns the metrics server, what Prometheus and Grafana are given, and, if asked for, a Prometheus.

    It owns neither the namespace, nor agents in other networks (`MetricsAgent`), nor the firewall on VMs (`Sidecar`).
    The server may list WorkloadEntries where there are VMs, pods where they are scraped, and istiod's addresses; with
    its token, which is for istiod alone, it asks for sync states. Prometheus has no rights in Kubernetes.
    """

    server: pulumi.Output[str]
    """`host:port` of the metrics server; who uses it waits for it."""
    write_to: pulumi.Output[str]
    """Where agents write to the stack's own Prometheus; who uses it waits for it. Of no use without one."""

    def __init__(self, name: str, args: ObservabilityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:observability:Observability",
            name,
            {"namespace": args.namespace, "image": args.image, "delivery": args.delivery},
            opts,
        )
        self._name, self._args = name, args
        self._child = pulumi.ResourceOptions(parent=self)
        host = f"{SERVER}.{args.namespace_name}.svc.{args.domain}"
        self._server = f"{host}:{PORT}"
        agents = [Agent(network, to_others=args.prometheus is None) for network in args.agents]
        self._rules = rules(self._server, args.gateways, agents, args.thresholds, args.seconds, args.runbook)
        self.server = after(self._make_server(), self._server)
        self._config_map("dashboard", DASHBOARD, {"hybrid-mesh.json": dashboard_text()}, args.dashboard_labels)
        self.write_to = pulumi.Output.from_input("")
        if args.prometheus is not None:
            write_to = f"http://{PROMETHEUS}.{args.namespace_name}.svc.{args.domain}:{PROMETHEUS_PORT}{WRITE_PATH}"
            self.write_to = after(self._make_prometheus(args.prometheus), write_to)
        elif args.delivery == "operator":
            self._make_operator_objects()
        else:
            self._make_files()
        self.register_outputs({"server": self.server})

    # ------------------------------------------------------------------ the server

    def _make_server(self) -> Deployment:
        args = self._args
        account = self._account("server", SERVER)
        self._make_roles(account)
        config = self._config_map(
            "config", SERVER, {"config.json": pulumi.Output.from_input(args.config).apply(_pretty)}, {}
        )
        if args.prometheus is None:
            # A Prometheus outside of the mesh has no certificate. What it reads here names VMs, and holds no secret.
            # Policy pack: `strict-mtls` lets this one port pass.
            CustomResource(
                f"{self._name}-server-open",
                api_version="security.istio.io/v1",
                kind="PeerAuthentication",
                metadata=self._meta(SERVER),
                spec={
                    "selector": {"matchLabels": {"app": SERVER}},
                    "mtls": {"mode": "STRICT"},
                    "portLevelMtls": {str(PORT): {"mode": "PERMISSIVE"}},
                },
                opts=self._child,
            )
        deployment = self._deployment(
            "server",
            SERVER,
            account,
            # istiod's addresses are those of pods, which no service of the mesh stands for.
            annotations={"traffic.sidecar.istio.io/excludeOutboundPorts": str(ISTIOD_MONITORING)},
            container={
                "image": args.image,
                "ports": [{"name": "http", "containerPort": PORT}],
                "resources": {"requests": {"cpu": "10m", "memory": "128Mi"}},
                "volumeMounts": [
                    {"name": "config", "mountPath": "/etc/hybrid-mesh", "readOnly": True},
                    {"name": "token", "mountPath": "/var/run/secrets/hybrid-mesh", "readOnly": True},
                ],
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 2},
            },
            volumes=[
                {"name": "config", "configMap": {"name": after(config, SERVER)}},
                {
                    "name": "token",
                    "projected": {
                        "sources": [
                            {
                                "serviceAccountToken": {
                                    "path": "istio-token",
                                    "audience": AUDIENCE,
                                    "expirationSeconds": 3600,
                                }
                            }
                        ]
                    },
                },
            ],
        )
        self._service("server", SERVER, PORT)
        return deployment

    def _make_roles(self, account: pulumi.Output[str]) -> None:
        """What the server may look at."""
        args = self._args
        for namespace in sorted(args.entries_in):
            self._role(
                f"entries-{namespace}",
                args.entries_in[namespace],
                f"{SERVER}-{args.namespace_name}",
                {"apiGroups": ["networking.istio.io"], "resources": ["workloadentries"], "verbs": ["list"]},
                account,
            )
        for namespace in sorted(args.pods_in):
            self._role(
                f"pods-{namespace}",
                args.pods_in[namespace],
                f"{SERVER}-{args.namespace_name}-pods",
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
                account,
            )
        self._role(
            "istiod",
            args.istio_namespace,
            f"{SERVER}-{args.namespace_name}-istiod",
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]},
            account,
        )

    # ------------------------------------------------------------------ what others read

    def _make_files(self) -> tuple[pulumi.Output[str], str]:
        """The name of their ConfigMap, and what tells them from others."""
        documents = {
            "prometheus.yml": _yaml(prometheus_config(self._server, self._args.seconds)),
            RULES_FILE: _yaml(self._rules),
        }
        files = self._config_map("files", PROMETHEUS, documents, {})
        digest = hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest()
        return after(files, PROMETHEUS), digest[:16]

    def _make_operator_objects(self) -> None:
        args = self._args
        for job in jobs(self._server):
            CustomResource(
                f"{self._name}-{job.name}",
                api_version=f"{_MONITORING}/v1alpha1",
                kind="ScrapeConfig",
                metadata=self._meta(job.name, args.operator_labels),
                spec=scrape_config_spec(job, args.seconds),
                opts=self._child,
            )
        CustomResource(
            f"{self._name}-rules",
            api_version=f"{_MONITORING}/v1",
            kind="PrometheusRule",
            metadata=self._meta("hybrid-mesh", args.operator_labels),
            spec=self._rules,
            opts=self._child,
        )

    # ------------------------------------------------------------------ Prometheus

    def _make_prometheus(self, own: OwnPrometheus) -> Deployment:
        args = self._args
        files, digest = self._make_files()
        account = self._account("prometheus", PROMETHEUS)
        deployment = self._deployment(
            "prometheus",
            PROMETHEUS,
            account,
            annotations={
                # Metrics are outside of mutual TLS: the proxy has no part in reading them.
                "traffic.sidecar.istio.io/excludeOutboundPorts": f"{AGENT_STATUS},{ENVOY_METRICS}",
                # It reads its configuration when it starts.
                "hybrid-mesh/config": digest,
            },
            container={
                "image": own.image,
                "command": ["prometheus"],
                "args": [
                    "--config.file=/etc/prometheus/prometheus.yml",
                    "--storage.tsdb.path=/prometheus",
                    f"--storage.tsdb.retention.time={own.retention_hours}h",
                    *(["--web.enable-remote-write-receiver"] if args.writers else []),
                ],
                "ports": [{"name": "http", "containerPort": PROMETHEUS_PORT}],
                "resources": {key: dict(value) for key, value in own.resources.items()},
                "volumeMounts": [
                    {"name": "config", "mountPath": "/etc/prometheus", "readOnly": True},
                    {"name": "data", "mountPath": "/prometheus"},
                ],
                "readinessProbe": {"httpGet": {"path": "/-/ready", "port": PROMETHEUS_PORT}, "periodSeconds": 2},
            },
            volumes=[
                {"name": "config", "configMap": {"name": files}},
                {"name": "data", "emptyDir": {}},
            ],
        )
        self._service("prometheus", PROMETHEUS, PROMETHEUS_PORT)
        CustomResource(
            f"{self._name}-writers",
            api_version="security.istio.io/v1",
            kind="AuthorizationPolicy",
            metadata=self._meta(PROMETHEUS),
            spec=pulumi.Output.all(*args.writers).apply(writers_policy),
            opts=self._child,
        )
        return deployment

    # ------------------------------------------------------------------ parts

    def _meta(self, name: str, labels: Mapping[str, str] | None = None) -> ObjectMetaArgs:
        return ObjectMetaArgs(name=name, namespace=self._args.namespace, labels=dict(labels or {}) or None)

    def _account(self, role: str, name: str) -> pulumi.Output[str]:
        account = ServiceAccount(f"{self._name}-{role}-account", metadata=self._meta(name), opts=self._child)
        return after(account, name)

    def _config_map(
        self, role: str, name: str, data: Mapping[str, pulumi.Input[str]], labels: Mapping[str, str]
    ) -> ConfigMap:
        return ConfigMap(f"{self._name}-{role}", metadata=self._meta(name, labels), data=dict(data), opts=self._child)

    def _role(
        self,
        role: str,
        namespace: pulumi.Input[str],
        name: str,
        rule: Any,
        account: pulumi.Output[str],
    ) -> None:
        metadata = ObjectMetaArgs(name=name, namespace=namespace)
        made = Role(f"{self._name}-{role}-role", metadata=metadata, rules=[rule], opts=self._child)
        RoleBinding(
            f"{self._name}-{role}-binding",
            metadata=metadata,
            role_ref=RoleRefArgs(api_group="rbac.authorization.k8s.io", kind="Role", name=after(made, name)),
            subjects=[SubjectArgs(kind="ServiceAccount", name=account, namespace=self._args.namespace)],
            opts=self._child,
        )

    def _deployment(
        self,
        role: str,
        name: str,
        account: pulumi.Output[str],
        *,
        annotations: Mapping[str, pulumi.Input[str]],
        container: dict[str, Any],
        volumes: list[dict[str, Any]],
    ) -> Deployment:
        labels = {"app": name, "version": _VERSION}
        annotations = {**annotations, **injection_annotations(self._args.injected_as)}
        # As Kubernetes itself has it: the SDK's classes for all of this are three times as long.
        spec: Any = {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {
                    "serviceAccountName": account,
                    "securityContext": {"runAsNonRoot": True, "runAsUser": _NOBODY, "fsGroup": _NOBODY},
                    "containers": [
                        {
                            **container,
                            "name": "app",
                            "imagePullPolicy": self._args.image_pull_policy,
                            "securityContext": _LOCKED_DOWN,
                        }
                    ],
                    "volumes": volumes,
                },
            },
        }
        return Deployment(
            f"{self._name}-{role}-deployment", metadata=self._meta(name, labels), spec=spec, opts=self._child
        )

    def _service(self, role: str, name: str, port: int) -> None:
        Service(
            f"{self._name}-{role}-service",
            metadata=self._meta(name, {"app": name}),
            spec=ServiceSpecArgs(
                selector={"app": name},
                ports=[ServicePortArgs(name="http", port=port, target_port=port, app_protocol="http")],
            ),
            opts=self._child,
        )


def _yaml(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=120)


def _pretty(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def writers_policy(writers: Sequence[str]) -> dict[str, Any]:
    """Refuses writes of all but agents: whoever could write could silence an alert."""
    principals = sorted({identity.removeprefix("spiffe://") for identity in writers})
    rule: dict[str, Any] = {"to": [{"operation": {"paths": [WRITE_PATH]}}]}
    if principals:
        rule["from"] = [{"source": {"notPrincipals": principals}}]
    return {"selector": {"matchLabels": {"app": PROMETHEUS}}, "action": "DENY", "rules": [rule]}
