"""Ports of Istio that a VM, its firewall or its host has to know. Source of each: a file of istio.io/istio 1.31."""

from typing import Final

PROXY_ADMIN: Final = 15000
"""Envoy's admin page, on 127.0.0.1 of the VM only (pkg/config/mesh/mesh.go, ProxyAdminPort)."""
PROXY_OUTBOUND: Final = 15001
"""Where outgoing connections are redirected to (pkg/config/mesh/mesh.go, ProxyListenPort)."""
AGENT_DEBUG: Final = 15004
"""istiod's debug pages, by way of the agent (pilot/cmd/pilot-agent/status/server.go, istioReservedPorts)."""
PROXY_INBOUND: Final = 15006
"""Where incoming connections are redirected to (pkg/config/mesh/mesh.go, ProxyInboundListenPort)."""
ISTIOD_XDS: Final = 15012
"""istiod's xDS and certificate signing by mutual TLS: the one port that a VM must reach, directly or through the
east-west gateway (pilot/pkg/bootstrap, --secureGRPCAddr; istioctl/pkg/workload, IstiodAddr)."""
ISTIOD_MONITORING: Final = 15014
"""istiod's metrics and debug pages, `/debug/syncz` among them (pilot/cmd/pilot-discovery, --monitoringAddr)."""
AGENT_STATUS: Final = 15020
"""The agent's merged metrics, health, and on localhost drain and quit (pkg/config/mesh/mesh.go, StatusPort)."""
AGENT_HEALTH: Final = 15021
"""`/healthz/ready`, for load balancers and for us (pilot/cmd/pilot-agent/options, ENVOY_STATUS_PORT)."""
AGENT_DNS: Final = 15053
"""Where DNS queries are redirected to with DNS capture (pilot/cmd/pilot-agent/options, DNS_PROXY_ADDR)."""
ENVOY_METRICS: Final = 15090
"""Envoy's `/stats/prometheus` (pilot/cmd/pilot-agent/options, ENVOY_PROMETHEUS_PORT)."""
PROXY_PORTS: Final = (
    PROXY_ADMIN,
    PROXY_OUTBOUND,
    AGENT_DEBUG,
    PROXY_INBOUND,
    AGENT_STATUS,
    AGENT_HEALTH,
    AGENT_DNS,
    ENVOY_METRICS,
)
"""What the agent and Envoy bind on a VM; as in hybridmesh/remote/checks.sh."""
EAST_WEST_TLS: Final = 15443
"""Mutual TLS between networks, through gateways (samples/multicluster/expose-services.yaml)."""
SSH: Final = 22
"""Never redirected: a VM that cannot be reached cannot be repaired (istioctl/pkg/workload, excludePorts)."""
