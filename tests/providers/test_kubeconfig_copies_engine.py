"""On Pulumi's real engine, with its real Kubernetes plugin: an update and a preview leave no key behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.instance import PROJECT_ROOT
from tests.engine import Engine

pytestmark = pytest.mark.lab

PROGRAM = """
import os

import pulumi_kubernetes

from hybridmesh.kubeconfig_copies import without_copies_in_the_end

if "LEFT_AS_IT_IS" not in os.environ:
    without_copies_in_the_end("kubeconfig")
pulumi_kubernetes.Provider("cluster", kubeconfig="kubeconfig")
"""
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: x
contexts: [{name: x, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: S3CRET-TOKEN}}]
"""


def test_the_plugin_s_copies_of_a_kubeconfig_go_with_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.of(PROGRAM, tmp_path)
    (engine.folder / "program" / "kubeconfig").write_text(KUBECONFIG)
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("LEFT_AS_IT_IS", "")
    engine.up()
    left = [path for path in folder.glob("kubeconfig*") if "S3CRET-TOKEN" in path.read_text()]
    assert left, "or this test shows nothing"
    monkeypatch.delenv("LEFT_AS_IT_IS")
    engine.up()
    engine.run("preview")
    assert not [path.name for path in folder.glob("kubeconfig*")]
    assert (engine.folder / "program" / "kubeconfig").exists()
