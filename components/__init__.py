"""The parts of a mesh with virtual machines in it, one component a file, each named after what it is."""

from .access_policy import AccessPolicy, AccessPolicyArgs
from .command_host import CommandHost, CommandHostArgs
from .connection import Connection
from .control_plane import ControlPlane, ControlPlaneArgs, HelmCharts
from .east_west_gateway import EastWestGateway, EastWestGatewayArgs
from .hybrid_mesh import HybridMesh, HybridMeshArgs
from .mesh_namespace import MeshNamespace, MeshNamespaceArgs
from .pods import Pods, PodsArgs
from .routing import Routing, RoutingArgs
from .sidecar import Sidecar, SidecarArgs, SidecarPackage
from .ssh_host import SshHost, SshHostArgs
from .workload import Workload, WorkloadArgs, WorkloadPort

__all__ = [
    "AccessPolicy",
    "AccessPolicyArgs",
    "CommandHost",
    "CommandHostArgs",
    "Connection",
    "ControlPlane",
    "ControlPlaneArgs",
    "EastWestGateway",
    "EastWestGatewayArgs",
    "HelmCharts",
    "HybridMesh",
    "HybridMeshArgs",
    "MeshNamespace",
    "MeshNamespaceArgs",
    "Pods",
    "PodsArgs",
    "Routing",
    "RoutingArgs",
    "Sidecar",
    "SidecarArgs",
    "SidecarPackage",
    "SshHost",
    "SshHostArgs",
    "Workload",
    "WorkloadArgs",
    "WorkloadPort",
]
