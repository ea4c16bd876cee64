"""Which requests a workload's proxies log."""

from dataclasses import dataclass
from typing import Any, Literal

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessLogArgs:
    """Inputs of `AccessLog`."""

    workload: str
    """The workload, whose pods and machines carry its name as label `app`."""
    namespace: pulumi.Input[str]
    """Its namespace."""
    requests: Literal["all", "errors", "none"]
    """Which are logged; `errors`: a status of 400 or more, or a request that got none."""


class AccessLog(pulumi.ComponentResource):
    """Owns one workload's `Telemetry`, its access log: one line a request.

    A pod's goes to its container's output, a machine's to /var/log/istio/istio.log. It does not own where the lines
    are collected.
    """

    def __init__(self, name: str, args: AccessLogArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:access_log:AccessLog",
            name,
            {"workload": args.workload, "namespace": args.namespace, "requests": args.requests},
            opts,
        )
        CustomResource(
            f"{name}-access-log",
            api_version="telemetry.istio.io/v1",
            kind="Telemetry",
            metadata=ObjectMetaArgs(
                name=f"{args.workload}-access-log", namespace=args.namespace, labels={"app": args.workload}
            ),
            spec={
                "selector": {"matchLabels": {"app": args.workload}},
                "accessLogging": [access_logging(args.requests)],
            },
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def access_logging(requests: Literal["all", "errors", "none"]) -> dict[str, Any]:
    """One item of a Telemetry's `accessLogging`, for the log that every mesh has."""
    log: dict[str, Any] = {"providers": [{"name": "envoy"}]}
    if requests == "none":
        log["disabled"] = True
    if requests == "errors":
        log["filter"] = {"expression": "!has(response.code) || response.code >= 400 || response.code == 0"}
    return log
