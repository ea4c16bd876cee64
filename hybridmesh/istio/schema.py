"""The shape of what bootstrap files are made from: Istio's `ProxyConfig` and `WorkloadGroup`, and what is in them.

Transcribed from the descriptors in istioctl of Istio 1.31 (istio.io/api `mesh/v1alpha1/proxy.proto`,
`networking/v1alpha3/{workload_group,workload_entry,destination_rule}.proto`, `networking/v1beta1/proxy_config.proto`).
A test compares both tables with those in the istioctl binary, and prints what to change after an upgrade.
"""

from collections.abc import Mapping
from typing import Final

MESSAGES: Final[Mapping[str, Mapping[str, str]]] = {
    "ClientTLSSettings": {
        "mode": "ClientTLSSettings.TLSmode",
        "client_certificate": "string",
        "private_key": "string",
        "ca_certificates": "string",
        "credential_name": "string",
        "subject_alt_names": "repeated string",
        "sni": "string",
        "insecure_skip_verify": "BoolValue",
        "ca_crl": "string",
    },
    "ConnectionPoolSettings.TCPSettings.TcpKeepalive": {
        "probes": "uint32",
        "time": "Duration",
        "interval": "Duration",
    },
    "ExecHealthCheckConfig": {
        "command": "repeated string",
    },
    "GrpcHealthCheckConfig": {
        "port": "uint32",
        "service": "string",
    },
    "HTTPHeader": {
        "name": "string",
        "value": "string",
    },
    "HTTPHealthCheckConfig": {
        "path": "string",
        "port": "uint32",
        "host": "string",
        "scheme": "string",
        "http_headers": "repeated HTTPHeader",
    },
    "PrivateKeyProvider": {
        "cryptomb": "oneof provider PrivateKeyProvider.CryptoMb",
        "qat": "oneof provider PrivateKeyProvider.QAT",
    },
    "PrivateKeyProvider.CryptoMb": {
        "poll_delay": "Duration",
        "fallback": "BoolValue",
    },
    "PrivateKeyProvider.QAT": {
        "poll_delay": "Duration",
        "fallback": "BoolValue",
    },
    "ProxyConfig": {
        "config_path": "string",
        "binary_path": "string",
        "service_cluster": "oneof cluster_name string",
        "tracing_service_name": "oneof cluster_name ProxyConfig.TracingServiceName",
        "drain_duration": "Duration",
        "discovery_address": "string",
        "discovery_refresh_delay": "Duration",
        "zipkin_address": "string",
        "statsd_udp_address": "string",
        "envoy_metrics_service_address": "string",
        "proxy_admin_port": "int32",
        "availability_zone": "string",
        "control_plane_auth_policy": "AuthenticationPolicy",
        "custom_config_file": "string",
        "stat_name_length": "int32",
        "concurrency": "Int32Value",
        "proxy_bootstrap_template_path": "string",
        "interception_mode": "ProxyConfig.InboundInterceptionMode",
        "tracing": "Tracing",
        "sds": "SDS",
        "envoy_access_log_service": "RemoteService",
        "envoy_metrics_service": "RemoteService",
        "proxy_metadata": "map string",
        "runtime_values": "map string",
        "status_port": "int32",
        "extra_stat_tags": "repeated string",
        "gateway_topology": "Topology",
        "termination_drain_duration": "Duration",
        "mesh_id": "string",
        "readiness_probe": "ReadinessProbe",
        "proxy_stats_matcher": "ProxyConfig.ProxyStatsMatcher",
        "hold_application_until_proxy_starts": "BoolValue",
        "ca_certificates_pem": "repeated string",
        "image": "ProxyImage",
        "private_key_provider": "PrivateKeyProvider",
        "proxy_headers": "ProxyConfig.ProxyHeaders",
        "file_flush_interval": "Duration",
        "file_flush_min_size_kb": "uint32",
        "stats_compression": "BoolValue",
        "connection_settings": "ProxyConfig.ConnectionSettings",
    },
    "ProxyConfig.ConnectionSettings": {
        "profile": "ProxyConfig.ConnectionSettings.Profile",
        "listener_per_connection_buffer_limit_bytes": "Int32Value",
        "cluster_per_connection_buffer_limit_bytes": "Int32Value",
        "http_idle_timeout": "Duration",
        "http_max_connection_duration": "Duration",
        "http_drain_timeout": "Duration",
        "http_request_timeout": "Duration",
        "http_request_headers_timeout": "Duration",
        "http_stream_idle_timeout": "Duration",
        "http_max_stream_duration": "Duration",
        "http_max_concurrent_streams": "Int32Value",
        "http2_initial_stream_window_size": "Int32Value",
        "http2_initial_connection_window_size": "Int32Value",
        "http_headers_with_underscores_action": "ProxyConfig.ConnectionSettings.HeadersWithUnderscoresAction",
        "http_merge_slashes": "BoolValue",
        "http_path_with_escaped_slashes_action": "ProxyConfig.ConnectionSettings.PathWithEscapedSlashesAction",
        "listener_connection_limit": "Int32Value",
        "global_downstream_connection_limit": "Int32Value",
    },
    "ProxyConfig.ProxyHeaders": {
        "forwarded_client_cert": "ForwardClientCertDetails",
        "set_current_client_cert_details": "ProxyConfig.ProxyHeaders.SetCurrentClientCertDetails",
        "request_id": "ProxyConfig.ProxyHeaders.RequestId",
        "server": "ProxyConfig.ProxyHeaders.Server",
        "attempt_count": "ProxyConfig.ProxyHeaders.AttemptCount",
        "envoy_debug_headers": "ProxyConfig.ProxyHeaders.EnvoyDebugHeaders",
        "metadata_exchange_headers": "ProxyConfig.ProxyHeaders.MetadataExchangeHeaders",
        "preserve_http1_header_case": "BoolValue",
        "x_forwarded_host": "ProxyConfig.ProxyHeaders.XForwardedHost",
        "x_forwarded_port": "ProxyConfig.ProxyHeaders.XForwardedPort",
    },
    "ProxyConfig.ProxyHeaders.AttemptCount": {
        "disabled": "BoolValue",
    },
    "ProxyConfig.ProxyHeaders.EnvoyDebugHeaders": {
        "disabled": "BoolValue",
    },
    "ProxyConfig.ProxyHeaders.MetadataExchangeHeaders": {
        "mode": "ProxyConfig.ProxyHeaders.MetadataExchangeMode",
    },
    "ProxyConfig.ProxyHeaders.RequestId": {
        "disabled": "BoolValue",
    },
    "ProxyConfig.ProxyHeaders.Server": {
        "disabled": "BoolValue",
        "value": "string",
    },
    "ProxyConfig.ProxyHeaders.SetCurrentClientCertDetails": {
        "subject": "BoolValue",
        "cert": "BoolValue",
        "chain": "BoolValue",
        "dns": "BoolValue",
        "uri": "BoolValue",
    },
    "ProxyConfig.ProxyHeaders.XForwardedHost": {
        "enabled": "BoolValue",
    },
    "ProxyConfig.ProxyHeaders.XForwardedPort": {
        "enabled": "BoolValue",
    },
    "ProxyConfig.ProxyStatsMatcher": {
        "inclusion_prefixes": "repeated string",
        "inclusion_suffixes": "repeated string",
        "inclusion_regexps": "repeated string",
    },
    "ProxyImage": {
        "image_type": "string",
    },
    "ReadinessProbe": {
        "initial_delay_seconds": "int32",
        "timeout_seconds": "int32",
        "period_seconds": "int32",
        "success_threshold": "int32",
        "failure_threshold": "int32",
        "http_get": "oneof health_check_method HTTPHealthCheckConfig",
        "tcp_socket": "oneof health_check_method TCPHealthCheckConfig",
        "exec": "oneof health_check_method ExecHealthCheckConfig",
        "grpc": "oneof health_check_method GrpcHealthCheckConfig",
    },
    "RemoteService": {
        "address": "string",
        "tls_settings": "ClientTLSSettings",
        "tcp_keepalive": "ConnectionPoolSettings.TCPSettings.TcpKeepalive",
    },
    "SDS": {
        "enabled": "bool",
        "k8s_sa_jwt_path": "string",
    },
    "TCPHealthCheckConfig": {
        "host": "string",
        "port": "uint32",
    },
    "Topology": {
        "num_trusted_proxies": "uint32",
        "forward_client_cert_details": "ForwardClientCertDetails",
        "proxy_protocol": "Topology.ProxyProtocolConfiguration",
    },
    "Topology.ProxyProtocolConfiguration": {},
    "Tracing": {
        "zipkin": "oneof tracer Tracing.Zipkin",
        "lightstep": "oneof tracer Tracing.Lightstep",
        "datadog": "oneof tracer Tracing.Datadog",
        "stackdriver": "oneof tracer Tracing.Stackdriver",
        "open_census_agent": "oneof tracer Tracing.OpenCensusAgent",
        "custom_tags": "map Tracing.CustomTag",
        "max_path_tag_length": "uint32",
        "sampling": "double",
        "tls_settings": "ClientTLSSettings",
        "enable_istio_tags": "BoolValue",
    },
    "Tracing.CustomTag": {
        "literal": "oneof type Tracing.Literal",
        "environment": "oneof type Tracing.Environment",
        "header": "oneof type Tracing.RequestHeader",
    },
    "Tracing.Datadog": {
        "address": "string",
    },
    "Tracing.Environment": {
        "name": "string",
        "default_value": "string",
    },
    "Tracing.Lightstep": {
        "address": "string",
        "access_token": "string",
    },
    "Tracing.Literal": {
        "value": "string",
    },
    "Tracing.OpenCensusAgent": {
        "address": "string",
        "context": "repeated Tracing.OpenCensusAgent.TraceContext",
    },
    "Tracing.RequestHeader": {
        "name": "string",
        "default_value": "string",
    },
    "Tracing.Stackdriver": {
        "debug": "bool",
        "max_number_of_attributes": "Int64Value",
        "max_number_of_annotations": "Int64Value",
        "max_number_of_message_events": "Int64Value",
    },
    "Tracing.Zipkin": {
        "address": "string",
    },
    "WorkloadEntry": {
        "address": "string",
        "ports": "map uint32",
        "labels": "map string",
        "network": "string",
        "locality": "string",
        "weight": "uint32",
        "service_account": "string",
    },
    "WorkloadGroup": {
        "metadata": "WorkloadGroup.ObjectMeta",
        "template": "WorkloadEntry",
        "probe": "ReadinessProbe",
    },
    "WorkloadGroup.ObjectMeta": {
        "labels": "map string",
        "annotations": "map string",
    },
}
"""Fields of each message by their proto names, in the order of their declaration; the type is one of `string`, `bool`,
`int32`, `uint32`, `double`, a well-known type, a message or an enum, after `repeated`, `map` (keys are strings) or
`oneof NAME`."""

ENUMS: Final[Mapping[str, Mapping[str, int]]] = {
    "AuthenticationPolicy": {"NONE": 0, "MUTUAL_TLS": 1, "INHERIT": 1000},
    "ClientTLSSettings.TLSmode": {"DISABLE": 0, "SIMPLE": 1, "MUTUAL": 2, "ISTIO_MUTUAL": 3},
    "ForwardClientCertDetails": {
        "UNDEFINED": 0,
        "SANITIZE": 1,
        "FORWARD_ONLY": 2,
        "APPEND_FORWARD": 3,
        "SANITIZE_SET": 4,
        "ALWAYS_FORWARD_ONLY": 5,
    },
    "ProxyConfig.ConnectionSettings.HeadersWithUnderscoresAction": {
        "HEADERS_WITH_UNDERSCORES_UNSPECIFIED": 0,
        "HEADERS_WITH_UNDERSCORES_ALLOW": 1,
        "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST": 2,
        "HEADERS_WITH_UNDERSCORES_DROP_HEADER": 3,
    },
    "ProxyConfig.ConnectionSettings.PathWithEscapedSlashesAction": {
        "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED": 0,
        "KEEP_UNCHANGED": 1,
        "REJECT_REQUEST": 2,
        "UNESCAPE_AND_REDIRECT": 3,
        "UNESCAPE_AND_FORWARD": 4,
    },
    "ProxyConfig.ConnectionSettings.Profile": {"SIDECAR": 0, "EDGE": 1},
    "ProxyConfig.InboundInterceptionMode": {"REDIRECT": 0, "TPROXY": 1, "NONE": 2},
    "ProxyConfig.ProxyHeaders.MetadataExchangeMode": {"UNDEFINED": 0, "IN_MESH": 1},
    "ProxyConfig.TracingServiceName": {
        "APP_LABEL_AND_NAMESPACE": 0,
        "CANONICAL_NAME_ONLY": 1,
        "CANONICAL_NAME_AND_NAMESPACE": 2,
    },
    "Tracing.OpenCensusAgent.TraceContext": {
        "UNSPECIFIED": 0,
        "W3C_TRACE_CONTEXT": 1,
        "GRPC_BIN": 2,
        "CLOUD_TRACE_CONTEXT": 3,
        "B3": 4,
    },
}
"""Numbers of each enum's values; 0 is the default."""
