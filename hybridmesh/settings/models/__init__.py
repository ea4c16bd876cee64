"""The settings of one stack as frozen models, a file a section.

The stack file's names are camelCase; here they are snake_case. Every field carries its meaning, an example,
and, for the message when it is wrong, its consequence and its fix. Rules that need more than one field are
in `checks`.
"""

from .access import Access, AccessRule
from .base import Model, setting
from .cluster import Cluster
from .control_plane import Charts, ControlPlane, ControlPlaneTimeouts, Revision
from .gateway import Gateway
from .google import (
    ApiServerUrl,
    CertificateAuthority,
    Fleet,
    GceHardware,
    GceInstance,
    Gke,
    Google,
    GoogleApiServer,
    GoogleWay,
    SharedStack,
)
from .machines import Bastion, Command, Host, Machines, Ssh
from .namespace import Namespace
from .network import Network, NetworkGateway
from .observability import AgentPackage, Alerts, AppMetrics, MetricsAgent, Observability, Prometheus
from .pods import Pods
from .probe import Exec, HttpGet, Probe, TcpSocket
from .routing import HeaderMatch, Mirror, Retries, Routing
from .shape import Capture, Egress, Limits, ProxyShape
from .sidecar import Package, PackageFile, Sidecar, SidecarTimeouts, Upgrade
from .stack import Settings, gateways_of, used_namespaces
from .tracing import Tag, Tracing
from .traffic import ConnectionPool, LoadBalancer, OutlierDetection, TrafficPolicy
from .versions import Versions
from .workload import Service, ServicePort, Workload

__all__ = [
    "Access",
    "AccessRule",
    "AgentPackage",
    "Alerts",
    "ApiServerUrl",
    "AppMetrics",
    "Bastion",
    "Capture",
    "CertificateAuthority",
    "Charts",
    "Cluster",
    "Command",
    "ConnectionPool",
    "ControlPlane",
    "ControlPlaneTimeouts",
    "Egress",
    "Exec",
    "Fleet",
    "Gateway",
    "GceHardware",
    "GceInstance",
    "Gke",
    "Google",
    "GoogleApiServer",
    "GoogleWay",
    "HeaderMatch",
    "Host",
    "HttpGet",
    "Limits",
    "LoadBalancer",
    "Machines",
    "MetricsAgent",
    "Mirror",
    "Model",
    "Namespace",
    "Network",
    "NetworkGateway",
    "Observability",
    "OutlierDetection",
    "Package",
    "PackageFile",
    "Pods",
    "Probe",
    "Prometheus",
    "ProxyShape",
    "Retries",
    "Revision",
    "Routing",
    "Service",
    "ServicePort",
    "Settings",
    "SharedStack",
    "Sidecar",
    "SidecarTimeouts",
    "Ssh",
    "Tag",
    "TcpSocket",
    "Tracing",
    "TrafficPolicy",
    "Upgrade",
    "Versions",
    "Workload",
    "gateways_of",
    "setting",
    "used_namespaces",
]
