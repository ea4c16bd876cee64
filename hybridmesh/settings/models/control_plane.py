"""The control plane."""

from collections.abc import Mapping
from typing import Any, Literal

from .base import Domain, Model, Name, Seconds, Text, Url, Version, setting


class Charts(Model):
    """Where Istio's Helm charts `base`, `istiod` and `gateway` come from. One of the two."""

    path: Text | None = setting(
        None,
        meaning="A folder that holds the charts, relative to the project's root.",
        example=".lab/dev/charts",
        wrong="Helm would find no chart.",
        fix="a folder with the folders base, istiod and gateway.",
    )
    repository: Url | None = setting(
        None,
        meaning="A Helm repository that serves the charts, in version `controlPlane.version`.",
        example="https://istio-release.storage.googleapis.com/charts",
        wrong="Helm would find no chart.",
        fix="the URL of a Helm repository; of one that asks for a password, its charts in a folder (`path`).",
    )


class ControlPlaneTimeouts(Model):
    """How long the control plane may take."""

    install_seconds: Seconds = setting(
        300,
        meaning="Limit for each of Istio's Helm releases to become ready.",
        example=300,
        wrong="`up` would wait for ever, or give up at once.",
        fix="seconds, 1 to 86400.",
    )
    root_certificate_seconds: Seconds = setting(
        120,
        meaning="Limit for istiod to publish its root certificate after its start.",
        example=120,
        wrong="`up` would wait for ever, or give up at once.",
        fix="seconds, 1 to 86400.",
    )
    cleanup_seconds: Seconds = setting(
        60,
        meaning="Limit, on destroy, for Kubernetes to collect what Istio leaves behind.",
        example=60,
        wrong="`destroy` would wait for ever, or give up at once.",
        fix="seconds, 1 to 86400.",
    )


class Revision(Model):
    """One more istiod beside the first."""

    version: Version | None = setting(
        None,
        meaning="Its version, of the charts too if they come from a repository; default: the control plane's.",
        example="1.31.1",
        wrong="it would be unclear which charts to install.",
        fix='a full version in quotes, such as `"1.31.1"`.',
    )
    charts: Charts | None = setting(
        None,
        meaning="Where its chart comes from; default: as the control plane's.",
        example={"path": "charts-1.31.1"},
        wrong="there would be nothing to install.",
        fix="`{path: folder}` or `{repository: URL}`.",
    )
    values: Mapping[str, Any] = setting(
        default_factory=dict,
        meaning="Helm values of its own, over the control plane's.",
        example={"autoscaleEnabled": False},
        wrong="Helm would refuse them.",
        fix="a mapping, as in the chart's values.yaml.",
    )


class ControlPlane(Model):
    """istiod: installed by this stack, or adopted as it is."""

    mode: Literal["install", "adopt"] = setting(
        "install",
        meaning="`install` brings Istio by Helm and removes it on destroy; `adopt` reads an existing one.",
        example="install",
        wrong="it would be unclear who owns Istio.",
        fix="`install` or `adopt`.",
    )
    namespace: Name = setting(
        "istio-system",
        meaning="Istio's root namespace.",
        example="istio-system",
        wrong="istiod would not be found.",
        fix="the namespace that istiod runs in, mostly `istio-system`.",
    )
    revision: Name = setting(
        "default",
        meaning="Istio's revision; `default` is the one without a name.",
        example="default",
        wrong="VMs would ask an istiod that does not exist.",
        fix="`default`, or a revision such as `1-31-0`.",
    )
    version: Version = setting(
        meaning="Istio's version.",
        example="1.31.0",
        wrong="it would be unclear which charts to install, and which sidecars fit them.",
        fix='a full version in quotes, such as `"1.31.0"`.',
    )
    charts: Charts | None = setting(
        None,
        meaning="Where the Helm charts come from. Needed to install the control plane or the gateway.",
        example={"path": ".lab/dev/charts"},
        wrong="there would be nothing to install.",
        fix="`{path: folder}` or `{repository: URL}`.",
    )
    mesh_id: Name | None = setting(
        None,
        meaning="Istio's mesh id; default: none, which Istio reads as the trust domain.",
        example="shop",
        wrong="telemetry of two meshes would be mixed.",
        fix="a name that no other mesh has, or leave it out.",
    )
    trust_domain: Domain = setting(
        "cluster.local",
        meaning="The root of every identity: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`. "
        "With `mode: adopt` the mesh's own is used.",
        example="cluster.local",
        wrong="certificates would carry identities that no policy knows.",
        fix="a domain, mostly `cluster.local`.",
    )
    values: Mapping[str, Any] = setting(
        default_factory=dict,
        meaning="More Helm values for the istiod chart. A null below its first keys takes away what the chart "
        "has there.",
        example={"autoscaleEnabled": False},
        wrong="Helm would refuse them.",
        fix="a mapping, as in the chart's values.yaml.",
    )
    revisions: Mapping[Name, Revision] = setting(
        default_factory=dict,
        meaning="More istiods of the same mesh, by their revisions, beside that of `revision`. VMs are moved to one by "
        "`machines.revision`, or one by one by `hosts.<name>.revision`.",
        example={"canary": {}},
        wrong="VMs would ask an istiod that does not exist.",
        fix="`{canary: {}}`.",
    )
    admission_policies: bool | None = setting(
        None,
        meaning="Whether Kubernetes refuses a VM that registers with labels by which requests for another workload of "
        "its namespace would come to it (ValidatingAdmissionPolicy, which takes rights over the cluster). Default: "
        "with `mode: install`.",
        example=True,
        wrong="a stolen VM could answer for other workloads of its namespace.",
        fix="true or false, or leave it out.",
    )
    timeouts: ControlPlaneTimeouts = setting(
        default_factory=ControlPlaneTimeouts,
        meaning="How long the control plane may take.",
        example={"installSeconds": 300},
        wrong="`up` would wait for ever, or give up at once.",
        fix="a mapping of limits in seconds.",
    )

    @property
    def makes_admission_policies(self) -> bool:
        """Whether Kubernetes holds VMs to the labels of their WorkloadGroups."""
        return self.mode == "install" if self.admission_policies is None else self.admission_policies
