"""Which requests a workload's proxies log and trace."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceTag:
    """Where a tag's value comes from: a text, or a request header, or a variable of the proxy's agent."""

    literal: str | None = None
    """Always this text."""
    header: str | None = None
    """The value of this request header."""
    environment: str | None = None
    """The value of this variable of the proxy's agent."""
    default: str | None = None
    """What it says where header or variable is not there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traces:
    """Which requests are traced."""

    sampling_percent: float = 1.0
    """Share of the requests, where the caller has not decided."""
    provider: str | None = None
    """Where they go: one of the mesh's `extensionProviders`; None: its default ones."""
    tags: Mapping[str, TraceTag] = field(default_factory=dict)
    """What each trace carries besides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadTelemetryArgs:
    """Inputs of `WorkloadTelemetry`."""

    workload: str
    """The workload, whose pods and machines carry its name as label `app`."""
    namespace: pulumi.Input[str]
    """Its namespace."""
    requests: Literal["all", "errors", "none"] | None = None
    """Which are logged; `errors`: a status of 400 or more, or a request that got none. None: what the mesh has."""
    traces: Traces | None = None
    """Which are traced; None: what the mesh has."""


class WorkloadTelemetry(pulumi.ComponentResource):
    """Owns one workload's `Telemetry`: its access log, one line a request, and its traces.

    A pod's log goes to its container's output, a machine's to /var/log/istio/istio.log. It does not own where lines
    and traces are collected. One object for both, as of two that select a workload Istio reads one.
    """

    def __init__(self, name: str, args: WorkloadTelemetryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:telemetry:WorkloadTelemetry",
            name,
            {"workload": args.workload, "namespace": args.namespace, "requests": args.requests},
            opts,
        )
        CustomResource(
            f"{name}-telemetry",
            api_version="telemetry.istio.io/v1",
            kind="Telemetry",
            metadata=ObjectMetaArgs(name=args.workload, namespace=args.namespace, labels={"app": args.workload}),
            spec=telemetry_spec(args),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def telemetry_spec(args: WorkloadTelemetryArgs) -> dict[str, Any]:
    """The Telemetry's spec."""
    spec: dict[str, Any] = {"selector": {"matchLabels": {"app": args.workload}}}
    if args.requests is not None:
        spec["accessLogging"] = [access_logging(args.requests)]
    if args.traces is not None:
        spec["tracing"] = [tracing(args.traces)]
    return spec


def access_logging(requests: Literal["all", "errors", "none"]) -> dict[str, Any]:
    """One item of a Telemetry's `accessLogging`, for the log that every mesh has."""
    log: dict[str, Any] = {"providers": [{"name": "envoy"}]}
    if requests == "none":
        log["disabled"] = True
    if requests == "errors":
        log["filter"] = {"expression": "!has(response.code) || response.code >= 400 || response.code == 0"}
    return log


def tracing(traces: Traces) -> dict[str, Any]:
    """One item of a Telemetry's `tracing`."""
    item: dict[str, Any] = {"randomSamplingPercentage": traces.sampling_percent}
    if traces.provider is not None:
        item["providers"] = [{"name": traces.provider}]
    if traces.tags:
        item["customTags"] = {name: _tag(traces.tags[name]) for name in sorted(traces.tags)}
    return item


def _tag(tag: TraceTag) -> dict[str, Any]:
    if tag.literal is not None:
        return {"literal": {"value": tag.literal}}
    default = {} if tag.default is None else {"defaultValue": tag.default}
    if tag.header is not None:
        return {"header": {"name": tag.header, **default}}
    return {"environment": {"name": tag.environment, **default}}
