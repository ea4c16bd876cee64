"""The part of a workload that runs in Kubernetes."""

from collections.abc import Mapping
from typing import Literal

from .base import Count, EnvironmentName, LabelValue, Model, Seconds, Text, setting


class Pods(Model):
    """The part of a workload that runs in Kubernetes."""

    image: Text = setting(
        meaning="The container image.",
        example="hybrid-mesh.lab/echo:1.31",
        wrong="the pods could not start.",
        fix="an image that the cluster's nodes can pull, or have.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = setting(
        "IfNotPresent",
        meaning="When the image is pulled.",
        example="IfNotPresent",
        wrong="the pods could not start.",
        fix="Always, IfNotPresent or Never.",
    )
    replicas: Count = setting(1, meaning="How many pods.", example=1, wrong="nobody would serve.", fix="0 or more.")
    version: LabelValue = setting(
        "k8s",
        meaning="Their label `version`, which subsets select.",
        example="k8s",
        wrong="no subset could select the pods.",
        fix="a label value such as `k8s`.",
    )
    command: tuple[Text, ...] = setting(
        (),
        meaning="Command and arguments instead of the image's own.",
        example=["/app/echo", "--port=8080"],
        wrong="the pods could not start.",
        fix="a list of texts.",
    )
    env: Mapping[EnvironmentName, str] = setting(
        default_factory=dict,
        meaning="Environment variables; nothing secret.",
        example={"LOG_LEVEL": "info"},
        wrong="the pods could not start.",
        fix="a mapping of texts.",
    )
    dns_capture: bool = setting(
        False,
        meaning="Whether their proxies answer DNS, so that they find the hosts of ServiceEntries by name.",
        example=True,
        wrong="the pods could not find services that only Istio knows.",
        fix="`true` or `false`.",
    )
    ready_seconds: Seconds = setting(
        300,
        meaning="Limit for the pods to become ready.",
        example=300,
        wrong="pods that cannot start would hold up the whole run.",
        fix="seconds, 1 to 86400.",
    )
    resources: Mapping[Literal["requests", "limits"], Mapping[str, str]] = setting(
        default_factory=dict,
        meaning="Kubernetes resource requests and limits.",
        example={"requests": {"cpu": "10m", "memory": "32Mi"}},
        wrong="the pods could not be placed.",
        fix="`{requests: {cpu: 10m}, limits: {…}}`.",
    )
