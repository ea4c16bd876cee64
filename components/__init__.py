"""The parts of a mesh with virtual machines in it, one component a file, each named after what it is."""

from .access_policy import AccessPolicy, AccessPolicyArgs
from .command_host import CommandHost, CommandHostArgs
from .connection import Bastion, Connection
from .control_plane import ControlPlane, ControlPlaneArgs, HelmCharts, NetworkAddress
from .east_west_gateway import EastWestGateway, EastWestGatewayArgs
from .hybrid_mesh import HybridMesh, HybridMeshArgs
from .mesh_namespace import MeshNamespace, MeshNamespaceArgs
from .metrics_agent import MetricsAgent, MetricsAgentArgs
from .network_gateway import NetworkGateway, NetworkGatewayArgs
from .observability import Observability, ObservabilityArgs, OwnPrometheus
from .pods import AppMetrics, Pods, PodsArgs
from .proxy_choices import SidecarCapture, SidecarLimits, SidecarPackage, SidecarResources
from .proxy_scope import ProxyScope, ProxyScopeArgs
from .registration_policy import RegistrationPolicy, RegistrationPolicyArgs
from .routing import HeaderMatch, Mirror, Routing, RoutingArgs
from .sidecar import Sidecar, SidecarArgs
from .ssh_host import SshHost, SshHostArgs
from .telemetry import Traces, TraceTag, WorkloadTelemetry, WorkloadTelemetryArgs
from .traffic_policy import (
    ConnectionPool,
    LoadBalancer,
    NamespaceTraffic,
    NamespaceTrafficArgs,
    OutlierDetection,
    TrafficPolicy,
)
from .turns import Turn, Turns
from .workload import Workload, WorkloadArgs, WorkloadPort
from .workload_access import AccessRule, WorkloadAccess, WorkloadAccessArgs

__all__ = [
    "AccessPolicy",
    "AccessPolicyArgs",
    "AccessRule",
    "AppMetrics",
    "Bastion",
    "CommandHost",
    "CommandHostArgs",
    "Connection",
    "ConnectionPool",
    "ControlPlane",
    "ControlPlaneArgs",
    "EastWestGateway",
    "EastWestGatewayArgs",
    "HeaderMatch",
    "HelmCharts",
    "HybridMesh",
    "HybridMeshArgs",
    "LoadBalancer",
    "MeshNamespace",
    "MeshNamespaceArgs",
    "MetricsAgent",
    "MetricsAgentArgs",
    "Mirror",
    "NamespaceTraffic",
    "NamespaceTrafficArgs",
    "NetworkAddress",
    "NetworkGateway",
    "NetworkGatewayArgs",
    "Observability",
    "ObservabilityArgs",
    "OutlierDetection",
    "OwnPrometheus",
    "Pods",
    "PodsArgs",
    "ProxyScope",
    "ProxyScopeArgs",
    "RegistrationPolicy",
    "RegistrationPolicyArgs",
    "Routing",
    "RoutingArgs",
    "Sidecar",
    "SidecarArgs",
    "SidecarCapture",
    "SidecarLimits",
    "SidecarPackage",
    "SidecarResources",
    "SshHost",
    "SshHostArgs",
    "TraceTag",
    "Traces",
    "TrafficPolicy",
    "Turn",
    "Turns",
    "Workload",
    "WorkloadAccess",
    "WorkloadAccessArgs",
    "WorkloadArgs",
    "WorkloadPort",
    "WorkloadTelemetry",
    "WorkloadTelemetryArgs",
]
