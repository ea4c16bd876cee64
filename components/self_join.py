"""How machines join the mesh that nobody logs in to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pulumi
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.rbac.v1 import (
    PolicyRuleArgs,
    Role,
    RoleBinding,
    RoleRefArgs,
    SubjectArgs,
)

from hybridmesh.istio import BootstrapOptions, cluster_env, hosts_template, mesh_yaml
from hybridmesh.remote.startup import GOOGLE_IDENTITY, startup_script

from .after import after
from .proxy_choices import (
    SidecarCapture,
    SidecarLimits,
    SidecarPackage,
    SidecarResources,
    agent_environment,
    agent_flags,
    join_settings,
    package_text,
)

METADATA_RANGE = "169.254.169.254/32"
"""A cloud's metadata server: what asks it must be answered whether the proxy runs or not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiServer:
    """Kubernetes' API server, as machines reach it."""

    url: pulumi.Input[str]
    """Such as `https://10.0.0.2`."""
    certificate_authorities: pulumi.Input[str]
    """Who may vouch for it, PEM; no other is believed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfJoinArgs:
    """Inputs of `SelfJoin`."""

    machines: str
    """What the machines are called together: part of the names of Role and RoleBinding."""
    api_server: ApiServer
    """Whom they ask for their token."""
    accounts: pulumi.Input[Sequence[str]] = ()
    """Their cloud's service account as Kubernetes calls it. On Google Cloud two names: its e-mail and its number."""
    identity_source: Mapping[str, str] = field(default_factory=lambda: GOOGLE_IDENTITY)
    """How they learn who they are: `identity-url` and `identity-header` of hybridmesh.remote; default Google's."""
    cluster_name: pulumi.Input[str]
    """Istio's cluster id."""
    istio_namespace: pulumi.Input[str]
    """Istio's root namespace."""
    revision: pulumi.Input[str]
    """istiod's revision."""
    mesh_config: pulumi.Input[str]
    """The mesh config, YAML."""
    root_certificate: pulumi.Input[str]
    """The root certificate, PEM."""
    gateway_address: pulumi.Input[str]
    """IP address or host name at which they reach the east-west gateway."""
    group: pulumi.Input[Mapping[str, Any]]
    """The WorkloadGroup's manifest. Given as its output, they are made after the group, and removed before it."""
    service_account: pulumi.Input[str]
    """The workload's service account: the only one that they may have a token of."""
    identity: pulumi.Input[str]
    """The SPIFFE id that their certificates must carry."""
    package: SidecarPackage
    """What is installed."""
    dns_capture: bool = True
    """Whether the proxy answers DNS on the machine."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """More variables for the agent; nothing secret."""
    log_level: str | None = None
    """Envoy's log level; None: Istio's, warning."""
    capture: SidecarCapture = field(default_factory=SidecarCapture)
    """Which connections go through the proxy. Those to the metadata server never do."""
    resources: SidecarResources = field(default_factory=SidecarResources)
    """What the proxy may use of its machine."""
    app_units: Sequence[str] = ()
    """The application's systemd units: at boot they start once the proxy is ready."""
    supported_systems: str = ""
    """Systems that may join, as words `id:version` of /etc/os-release; empty: any."""
    accept_findings: Sequence[str] = ()
    """Checks before the join whose findings do not count; see hybridmesh.remote.CHECKS."""
    token_seconds: int = 3600
    """How long a token is valid; Kubernetes refuses less than 600."""
    limits: SidecarLimits = field(default_factory=SidecarLimits)
    """How long the steps may take."""
    scrapers: Sequence[pulumi.Input[str]] = ()
    """CIDRs of who may read metrics on the machines (15020, 15090); none: the machine itself."""


class SelfJoin(pulumi.ComponentResource):
    """Owns what lets machines join by themselves: their right to ask for a token, and the script of their boot.

    It owns no machine. Each file that they get is a property of this component, in plain text. None is secret, since
    the token is not among them: before each start of its proxy a machine asks its cloud who it is, and Kubernetes for a
    token of the workload's ServiceAccount. That, of that one, is all that its account may do in the cluster; for which
    audience, Kubernetes does not limit, so that no role should be bound to the ServiceAccount.
    """

    startup_script: pulumi.Output[str]
    """What a machine runs at each boot, as root; known once it would be let in."""

    def __init__(self, name: str, args: SelfJoinArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        files = startup_files(args)
        super().__init__(
            "hybridmesh:self_join:SelfJoin",
            name,
            {
                **files,
                "serviceAccount": args.service_account,
                "apiServer": args.api_server.url,
                "package": package_text(args.package),
            },
            opts,
        )
        child = pulumi.ResourceOptions(parent=self)
        group: pulumi.Output[Mapping[str, Any]] = pulumi.Output.from_input(args.group)
        namespace = group.apply(lambda g: str(g["metadata"]["namespace"]))
        metadata = ObjectMetaArgs(name=f"hybrid-mesh-{args.machines}", namespace=namespace)
        role = Role(
            f"{name}-role",
            metadata=metadata,
            rules=[
                PolicyRuleArgs(
                    api_groups=[""],
                    resources=["serviceaccounts/token"],
                    resource_names=[args.service_account],
                    verbs=["create"],
                )
            ],
            opts=child,
        )
        binding = RoleBinding(
            f"{name}-role-binding",
            metadata=metadata,
            role_ref=RoleRefArgs(
                api_group="rbac.authorization.k8s.io", kind="Role", name=role.metadata.apply(lambda m: str(m.name))
            ),
            subjects=pulumi.Output.from_input(args.accounts).apply(subjects),
            opts=child,
        )
        settings = pulumi.Output.all(
            args.identity,
            args.istio_namespace,
            args.api_server.url,
            namespace,
            args.service_account,
            pulumi.Output.all(*args.scrapers),
        ).apply(lambda known: startup_settings(args, *known))
        script = pulumi.Output.all(pulumi.Output.all(**files), settings).apply(lambda both: startup_script(*both))
        # A machine that boots before it may ask would be refused.
        self.startup_script = after(binding, script)
        self.register_outputs({})


def subjects(accounts: Sequence[str]) -> list[SubjectArgs]:
    """Cloud accounts, which are users to Kubernetes."""
    return [SubjectArgs(api_group="rbac.authorization.k8s.io", kind="User", name=account) for account in accounts]


def startup_files(args: SelfJoinArgs) -> dict[str, pulumi.Output[str]]:
    """The files that machines get: each hangs on nothing but what is in it."""
    inputs = pulumi.Output.all(
        group=args.group,
        mesh_config=args.mesh_config,
        cluster_name=args.cluster_name,
        istio_namespace=args.istio_namespace,
        revision=args.revision,
    )
    way = pulumi.Output.all(args.gateway_address, args.istio_namespace, args.revision)
    return {
        "cluster.env": inputs.apply(
            lambda known: cluster_env(known["group"], known["mesh_config"], options(args, known))
        ),
        "mesh.yaml": inputs.apply(lambda known: mesh_yaml(known["group"], known["mesh_config"], options(args, known))),
        "hosts": way.apply(lambda known: hosts_template(known[0], istio_namespace=known[1], revision=known[2])),
        "root-cert.pem": pulumi.Output.from_input(args.root_certificate),
        "kubernetes-ca.pem": pulumi.Output.from_input(args.api_server.certificate_authorities),
    }


def options(args: SelfJoinArgs, known: Mapping[str, Any]) -> BootstrapOptions:
    """What all machines share; each adds its own address and name at boot."""
    capture = replace(args.capture, exclude_outbound_cidrs=(*args.capture.exclude_outbound_cidrs, METADATA_RANGE))
    return BootstrapOptions(
        cluster_id=known["cluster_name"],
        revision=known["revision"],
        istio_namespace=known["istio_namespace"],
        auto_register=True,
        dns_capture=args.dns_capture,
        standard_places=True,
        local_exclude_ports=capture.exclude_inbound_ports,
        inbound_ports=capture.inbound_ports,
        all_inbound_ports=capture.all_inbound_ports,
        environment=agent_environment(replace(args, capture=capture)),
        agent_flags=agent_flags(args),
    )


def startup_settings(
    args: SelfJoinArgs,
    identity: str,
    istio_namespace: str,
    api_server: str,
    namespace: str,
    service_account: str,
    scrapers: Sequence[str],
) -> dict[str, str]:
    """What the scripts on the machines are told, besides the files."""
    return {
        **join_settings(args, identity, istio_namespace, 22, scrapers),
        **args.identity_source,
        "api-server": api_server,
        "service-account": f"{namespace}/{service_account}",
        "token-seconds": str(args.token_seconds),
        "deregister-seconds": str(args.limits.cut_off),
    }
