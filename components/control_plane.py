"""istiod: installed by Helm, or adopted as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi
import yaml
from pulumi_kubernetes.core.v1 import Namespace
from pulumi_kubernetes.helm.v3 import Release, RepositoryOptsArgs
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from hybridmesh.istio import is_revisioned, istiod_address, istiod_host, mesh_config_map, parse_mesh_config
from hybridmesh.istio.names import BASE_RELEASE, NETWORK_LABEL, canonical_address
from hybridmesh.istio.nested import at, merged
from hybridmesh.providers import AwaitedConfigMap, AwaitedConfigMapArgs, ClusterAccess, IstioRemains, IstioRemainsArgs

from .after import after
from .timeouts import within

ROOT_CERTIFICATE_MAP = "istio-ca-root-cert"
ROOT_CERTIFICATE_KEY = "root-cert.pem"
MESH_CONFIG_KEY = "mesh"
MESH_NETWORKS_KEY = "meshNetworks"
DEBUG_READERS = "DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES"

_CHANGES_MESH_CONFIG = (
    ("compatibilityVersion",),
    ("profile",),
    ("platform",),
    ("configMap",),
    ("global", "profile"),
    ("global", "platform"),
    ("global", "variant"),
    ("global", "remotePilotAddress"),
    ("global", "proxy", "variant"),
    ("global", "proxy", "tracer"),
    ("istiodRemote",),
)
"""Values of the istiod chart, besides `meshConfig`, that reach into the mesh config (its templates/configmap.yaml and
zzz_profile.yaml)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HelmCharts:
    """Where Istio's charts come from. One of the two."""

    path: str | None = None
    """A folder with the charts in it, relative to the project's root."""
    repository: str | None = None
    """A Helm repository."""
    version: str | None = None
    """The version wanted of the repository; a folder has the one it has."""

    def release(self, chart: str) -> dict[str, Any]:
        """The inputs of a Helm release of one of the charts. Raises ValueError where there are none."""
        if self.path is None and self.repository is None:
            raise ValueError(
                "HelmCharts: has neither path nor repository. There would be nothing to install. Fix: one of the two."
            )
        if self.path is not None:
            return {"chart": f"{self.path.rstrip('/')}/{chart}"}
        return {
            "chart": chart,
            "version": self.version,
            "repository_opts": RepositoryOptsArgs(repo=self.repository),
        }


def chart_version(charts: HelmCharts | None) -> str | None:
    """The version of some charts, as far as it is told."""
    return None if charts is None else charts.version


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkAddress:
    """Where pods reach a gateway of another network."""

    address: pulumi.Input[str]
    """IP address or host name."""
    port: int
    """Port."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlPlaneArgs:
    """Inputs of `ControlPlane`."""

    mode: Literal["install", "adopt"] = "install"
    """`install` owns Istio; `adopt` only reads it."""
    cluster: ClusterAccess
    """The cluster, for what no plugin does."""
    cluster_name: str
    """Istio's cluster id."""
    network: str
    """The cluster's network."""
    domain: str = "cluster.local"
    """The cluster's DNS domain."""
    namespace: str = "istio-system"
    """Istio's root namespace."""
    revision: str = "default"
    """istiod's revision."""
    charts: HelmCharts | None = None
    """Where the charts come from. Needed to install."""
    version: str | None = None
    """istiod's version, for who judges the plan: charts in a folder, and an istiod that is adopted, do not say theirs.
    Default: that of `charts`, if it is told."""
    mesh_id: str | None = None
    """The mesh's id; default none."""
    trust_domain: str = "cluster.local"
    """The trust domain; of no effect on an adopted mesh."""
    mesh_networks: Mapping[str, Sequence[NetworkAddress]] = field(default_factory=dict)
    """The gateways of networks without a Service in the cluster, by network. Of an adopted mesh it is demanded that
    it knows them."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """More Helm values for istiod."""
    debug_readers: Sequence[str] = ()
    """Namespaces that may ask istiod for its debug pages, such as sync states. Of an adopted one its owner says so."""
    install_seconds: int = 300
    """Limit for each release."""
    root_certificate_seconds: int = 120
    """Limit for istiod to publish its root certificate."""
    cleanup_seconds: int = 60
    """Limit, on destroy, for Kubernetes to collect what Istio leaves."""


class ControlPlane(pulumi.ComponentResource):
    """Owns Istio's namespace, CRDs and istiod with `mode: install`; nothing with `mode: adopt`.

    It does not own gateways, nor anything in the namespaces of workloads.
    """

    namespace: pulumi.Output[str]
    """Istio's root namespace; who uses it waits for istiod."""
    revision: pulumi.Output[str]
    """istiod's revision; who uses it waits for istiod."""
    mesh_config: pulumi.Output[str]
    """The mesh config, YAML as in its ConfigMap."""
    root_certificate: pulumi.Output[str]
    """The root certificate, PEM."""
    trust_domain: pulumi.Output[str]
    """The trust domain."""
    discovery_host: pulumi.Output[str]
    """The host name by which machines ask for istiod."""
    cluster_name: pulumi.Output[str]
    """Istio's cluster id."""

    def __init__(self, name: str, args: ControlPlaneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:control_plane:ControlPlane",
            name,
            {
                "mode": args.mode,
                "namespace": args.namespace,
                "revision": args.revision,
                "network": args.network,
                "version": args.version or chart_version(args.charts),
            },
            opts,
        )
        if args.mode == "install":
            self._install(name, args)
        else:
            self._adopt(name, args)
        self.trust_domain = self.mesh_config.apply(lambda text: parse_mesh_config(text).effective_trust_domain)
        self.discovery_host = self.revision.apply(lambda revision: istiod_host(args.namespace, revision))
        self.cluster_name = self.revision.apply(lambda _: args.cluster_name)
        self.register_outputs(
            {
                "meshConfig": self.mesh_config,
                "trustDomain": self.trust_domain,
                "discoveryHost": self.discovery_host,
                "rootCertificate": self.root_certificate,
            }
        )

    def _install(self, name: str, args: ControlPlaneArgs) -> None:
        charts = charts_to_install(name, args.charts, "; or mode adopt, to use an Istio that is there")
        child = pulumi.ResourceOptions(parent=self)
        remains = IstioRemains(
            f"{name}-remains",
            IstioRemainsArgs(
                cluster=args.cluster,
                namespace=args.namespace,
                base_release=BASE_RELEASE,
                trust_domain=args.trust_domain,
                cleanup_seconds=args.cleanup_seconds,
            ),
            opts=child,
        )
        namespace = Namespace(
            f"{name}-namespace",
            metadata=ObjectMetaArgs(name=after(remains, args.namespace), labels={NETWORK_LABEL: args.network}),
            opts=child,
        )
        base = Release(
            f"{name}-base",
            name=BASE_RELEASE,
            namespace=after(namespace, args.namespace),
            values={"defaultRevision": args.revision, "global": {"istioNamespace": args.namespace}},
            timeout=args.install_seconds,
            **charts.release("base"),
            opts=pulumi.ResourceOptions(parent=self, custom_timeouts=within(args.install_seconds)),
        )
        istiod = istiod_release(name, args, charts, after(base, args.namespace), self)
        self.namespace = after(istiod, args.namespace)
        self.revision = after(istiod, args.revision)
        self.mesh_config = released_mesh_config(name, args, istiod, self)
        self.root_certificate = self._awaited_root_certificate(name, args)

    def _adopt(self, name: str, args: ControlPlaneArgs) -> None:
        self.mesh_config = adopted_mesh_config(name, args, pulumi.ResourceOptions(parent=self))
        self.namespace = pulumi.Output.from_input(args.namespace)
        self.revision = pulumi.Output.from_input(args.revision)
        self.root_certificate = self._awaited_root_certificate(name, args)

    def _awaited_root_certificate(self, name: str, args: ControlPlaneArgs) -> pulumi.Output[str]:
        adopted = args.mode == "adopt"
        if adopted:
            remedy = f"`controlPlane.mode` adopt is for an Istio that runs: istiod writes it to {args.namespace}."
        else:
            log = f"kubectl logs -n {args.namespace} -l app=istiod"
            remedy = (
                f"istiod writes it soon after its start: look at its log, `{log}`. If the cluster was made anew, run "
                "`pulumi up --refresh`."
            )
        return AwaitedConfigMap(
            f"{name}-root-certificate",
            AwaitedConfigMapArgs(
                cluster=args.cluster,
                namespace=self.namespace,
                name=ROOT_CERTIFICATE_MAP,
                key=ROOT_CERTIFICATE_KEY,
                limit_seconds=0 if adopted else args.root_certificate_seconds,
                remedy=remedy,
                adopted=adopted,
            ),
            opts=pulumi.ResourceOptions(parent=self),
        ).found


def adopted_mesh_config(name: str, args: ControlPlaneArgs, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    """The mesh config of an istiod that is there, once it is sure that it knows the gateways of other networks."""
    mesh = _adopted(name, MESH_CONFIG_KEY, args, opts)
    gateways = {
        network: [pulumi.Output.all(gateway.address, gateway.port) for gateway in args.mesh_networks[network]]
        for network in sorted(args.mesh_networks)
    }
    if not gateways:
        return mesh
    known = pulumi.Output.all(mesh, _adopted(f"{name}-networks", MESH_NETWORKS_KEY, args, opts), gateways)
    return known.apply(lambda all_: knows_gateways(all_[0], all_[1], all_[2], args.revision))


def _adopted(name: str, key: str, args: ControlPlaneArgs, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    """What the ConfigMap of an istiod that is there has under `key`; empty if nothing."""
    return AwaitedConfigMap(
        f"{name}-mesh-config",
        AwaitedConfigMapArgs(
            cluster=args.cluster,
            namespace=args.namespace,
            name=mesh_config_map(args.revision),
            key=key,
            optional=True,
            remedy=f"No istiod of revision {args.revision} is there to be adopted. Fix: `controlPlane.namespace` and "
            "`controlPlane.revision` of the one that is, or `controlPlane.mode: install`.",
            adopted=True,
        ),
        opts=opts,
    ).found


def charts_to_install(name: str, charts: HelmCharts | None, otherwise: str = "") -> HelmCharts:
    """The charts. Raises ValueError where there are none; `otherwise`: what else than to give them."""
    if charts is None:
        raise ValueError(
            f"{name}: charts is missing. There would be nothing to install. Fix: HelmCharts(path=…) or "
            f"HelmCharts(repository=…){otherwise}."
        )
    return charts


def istiod_release(
    name: str, args: ControlPlaneArgs, charts: HelmCharts, namespace: pulumi.Input[str], parent: pulumi.Resource
) -> Release:
    """The release of an istiod, called as Istio calls its Service. `namespace`: as an output of what it follows."""
    return Release(
        f"{name}-istiod",
        name=istiod_host(args.namespace, args.revision).partition(".")[0],
        namespace=namespace,
        values=istiod_values(args),
        timeout=args.install_seconds,
        **charts.release("istiod"),
        opts=pulumi.ResourceOptions(parent=parent, custom_timeouts=within(args.install_seconds)),
    )


def released_mesh_config(
    name: str, args: ControlPlaneArgs, istiod: Release, parent: pulumi.Resource
) -> pulumi.Output[str]:
    """The mesh config that a release of the istiod chart writes; where nobody can tell it before, unknown as long as
    the release is."""
    expected = installed_mesh_config(args)
    if expected is not None:
        # Values may be outputs.
        return after(istiod, pulumi.Output.from_input(expected).apply(_as_yaml))
    return AwaitedConfigMap(
        f"{name}-mesh-config",
        AwaitedConfigMapArgs(
            cluster=args.cluster,
            namespace=istiod.status.apply(lambda _: args.namespace),
            name=mesh_config_map(args.revision),
            key=MESH_CONFIG_KEY,
            limit_seconds=args.install_seconds,
            remedy=f"The chart of istiod writes it: look at its release, `helm status -n {args.namespace} …`.",
        ),
        opts=pulumi.ResourceOptions(parent=parent),
    ).found


def istiod_values(args: ControlPlaneArgs) -> dict[str, Any]:
    """The istiod chart's values: the caller's, and over them what machines are told too, so that both agree."""
    ours: dict[str, Any] = {
        "revision": args.revision if is_revisioned(args.revision) else "",
        "global": {
            "istioNamespace": args.namespace,
            "network": args.network,
            "multiCluster": {"clusterName": args.cluster_name},
            "proxy": {"clusterDomain": args.domain},
            **({"meshNetworks": mesh_networks(args.mesh_networks)} if args.mesh_networks else {}),
            **({} if args.mesh_id is None else {"meshID": args.mesh_id}),
        },
        "meshConfig": {"trustDomain": args.trust_domain},
        **({"env": {DEBUG_READERS: _debug_readers(args)}} if args.debug_readers else {}),
    }
    return with_ours(args.values, ours)


def with_ours(values: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Helm values of the caller, and over them ours.

    Raises TypeError, with the fix, for an output in the place of a whole mapping that has ours in it: what it will
    have besides would be lost.
    """
    _refuse_whole_outputs(values, ours, "values")
    return merged(values, ours)


def _refuse_whole_outputs(values: Mapping[str, Any], ours: Mapping[str, Any], path: str) -> None:
    for key, value in ours.items():
        there = values.get(key)
        if isinstance(value, Mapping) and isinstance(there, pulumi.Output):
            raise TypeError(
                f"{path}.{key}: is an output as a whole. What has to be in it could not be put there. Fix: a mapping, "
                "in which single values are outputs."
            )
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            _refuse_whole_outputs(there, value, f"{path}.{key}")


def _debug_readers(args: ControlPlaneArgs) -> pulumi.Input[str]:
    """Those that the caller's values name, such as Kiali's namespace, and ours."""
    named = at(args.values, "env", DEBUG_READERS)

    def all_of(text: str | None) -> str:
        names = (name.strip() for name in (text or "").split(","))
        return ",".join(dict.fromkeys(filter(None, (*names, *args.debug_readers))))

    return named.apply(all_of) if isinstance(named, pulumi.Output) else all_of(named)


def mesh_networks(gateways: Mapping[str, Sequence[NetworkAddress]]) -> dict[str, Any]:
    """Istio's `meshNetworks`. `endpoints` is empty: which machines are in a network, they say themselves."""
    return {
        network: {"endpoints": [], "gateways": [{"address": way.address, "port": way.port} for way in ways]}
        for network, ways in sorted(gateways.items())
    }


def knows_gateways(
    mesh_config: str, networks_text: str, gateways: Mapping[str, Sequence[Sequence[Any]]], revision: str
) -> str:
    """`mesh_config`, once it is sure that an adopted istiod, with `networks_text` as its mesh networks (YAML), knows
    `gateways`, address and port of each by network.

    Raises ValueError, with the fix, where it does not: pods would call machines that they cannot reach.
    """
    document = yaml.safe_load(networks_text) or {}
    networks: Mapping[str, Any] = document.get("networks") or {}
    for network, ways in gateways.items():
        there = [
            (canonical_address(str(gateway.get("address"))), int(gateway.get("port") or 0))
            for gateway in (networks.get(network) or {}).get("gateways") or []
        ]
        wanted = {(canonical_address(address), int(port)) for address, port in ways}
        missing = sorted(wanted - set(there))
        if missing:
            address, port = missing[0]
            raise ValueError(
                f"networks.{network}.gateway: the adopted istiod of revision {revision} does not know "
                f"{', '.join(f'{a} with port {p}' for a, p in missing)} as its gateway. Pods would call the machines "
                "there directly, which they cannot reach, or another port of it. Fix: this stack never changes an "
                f"adopted Istio; add `{network}: {{endpoints: [], gateways: [{{address: {address}, port: {port}}}]}}` "
                "to its Helm value `global.meshNetworks`."
            )
    return mesh_config


def installed_mesh_config(args: ControlPlaneArgs) -> dict[str, Any] | None:
    """The mesh config that the istiod chart will write, as far as machines need it, or None where it cannot be told.

    It is worked out rather than read, so that a preview shows every file that hangs on it, before there is an istiod
    and where a change of settings changes it. Source: the chart's templates/configmap.yaml.
    """
    values = istiod_values(args)
    if any(at(values, *keys) is not None for keys in _CHANGES_MESH_CONFIG):
        return None
    default_config: dict[str, Any] = {"discoveryAddress": istiod_address(args.namespace, args.revision)}
    if args.mesh_id is not None:
        default_config["meshId"] = args.mesh_id
    config = {"rootNamespace": args.namespace, "defaultConfig": default_config}
    return merged(config, values.get("meshConfig", {}))


def _as_yaml(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=True)
