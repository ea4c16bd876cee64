"""Inline programs of the Automation API, several in one process, on the real engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.components.harness import PROJECT_ROOT
from tests.engine import TOOLS, Engine

pytestmark = pytest.mark.lab

PROGRAM = """
import json
from concurrent.futures import ThreadPoolExecutor

from pulumi import automation

from components import Connection, Sidecar, SidecarArgs, SidecarLimits, SidecarPackage
from hybridmesh.providers import ClusterAccess


def program() -> None:
    Sidecar(
        "vm-1",
        SidecarArgs(
            machine="vm-1",
            cluster=ClusterAccess(kubeconfig="none"),
            cluster_name="embedded",
            istio_namespace="istio-system",
            revision="default",
            mesh_config="defaultConfig: {}",
            root_certificate="ROOT",
            gateway_address="127.0.0.1",
            group={"metadata": {"name": "echo", "namespace": "demo"}, "spec": {"template": {}}},
            service_account="echo",
            identity="spiffe://cluster.local/ns/demo/sa/echo",
            connection=Connection(address="127.0.0.1", port=1, host_key="ssh-ed25519 AAAA", private_key="none"),
            mesh_address="127.0.0.1",
            package=SidecarPackage(version="1.31.0", url="http://127.0.0.1:1/deb"),
            limits=SidecarLimits(dial=1, dial_attempts=1),
        ),
    )


def said(stack: str) -> list[str]:
    found = []
    work = automation.create_or_select_stack(stack_name=stack, project_name="inline", program=program)
    for step in (work.preview, work.up, work.preview):
        try:
            step()
            found.append("good")
        except automation.CommandError as error:
            found.append(str(error))
    return found


with ThreadPoolExecutor(2) as side_by_side:
    print(json.dumps(list(side_by_side.map(said, ["one", "other"]))))
"""


def test_they_run_side_by_side_and_after_one_that_has_failed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    engine = Engine(tmp_path, tools=(*TOOLS, "pulumi-resource-command"))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**engine.env, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for before, refused, after in json.loads(done.stdout):
        assert (before, after) == ("good", "good")
        assert "1 finding on 1 of 1 VM. Nothing was changed on any VM." in refused
