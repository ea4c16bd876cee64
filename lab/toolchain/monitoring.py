"""What the environment's metrics are made of: Prometheus, the metrics server's packages, the operator's CRDs."""

from __future__ import annotations

import shutil
import sys

from lab.toolchain import debian, golang, pins
from lab.toolchain.job import Artifact, Job

OPERATOR = "github.com/prometheus-operator/prometheus-operator"
ARCHIVE = "prometheus.tar.gz"
"""Prometheus as its own releases are packed, for agents on machines; its checksum lies beside it, in `sha256`."""

_PROMETHEUS_SECONDS = 600.0
_PIP_SECONDS = 600.0
_PYTHON = "3.11"
"""That of the Debian suite, which the image has."""
_CRDS = ("prometheusrules", "scrapeconfigs")


def prometheus() -> Artifact:
    """Debian's Prometheus and promtool, and `prometheus.tar.gz`."""
    recipe = pins.MACHINE / "prometheus.sh"

    def make(job: Job) -> None:
        root = debian.root_of(job.needs["debian-base"])
        job.run([*debian.OWN_NAMESPACES, "sh", recipe, job.folder, root], seconds=_PROMETHEUS_SECONDS)

    return Artifact(
        name="prometheus",
        pins=(recipe.read_bytes(),),
        make=make,
        seconds=25,
        executables=("prometheus", "promtool"),
        needs=("debian-base",),
    )


def metrics_packages() -> Artifact:
    """What the metrics server imports, in the folder `packages`."""
    requirements = pins.PROJECT / "hybridmesh" / "metrics" / "requirements.txt"

    def make(job: Job) -> None:
        options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-compile"]
        job.run(
            [sys.executable, "-m", "pip", "install", *options, "--python-version", _PYTHON]
            + ["--target", job.folder / "packages", "--requirement", requirements],
            seconds=_PIP_SECONDS,
        )

    return Artifact(
        name="metrics-packages",
        pins=(requirements.read_bytes(), _PYTHON, pins.architecture()),
        make=make,
        seconds=30,
    )


def operator_crds() -> Artifact:
    """The CustomResourceDefinitions of the Prometheus operator that the stack makes objects of."""

    def make(job: Job) -> None:
        source = golang.module_folder(job, "prometheus-operator", OPERATOR)
        for name in _CRDS:
            file = source / "example" / "prometheus-operator-crd" / f"monitoring.coreos.com_{name}.yaml"
            shutil.copyfile(file, job.folder / f"{name}.yaml")

    return Artifact(
        name="prometheus-operator-crds",
        pins=(*pins.go_sources("prometheus-operator"), *_CRDS),
        make=make,
        seconds=15,
        aids=("go",),
        lane="go",
    )
