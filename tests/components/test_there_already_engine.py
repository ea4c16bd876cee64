"""On Pulumi's real engine: a preview refuses what is there already, and only if the stack does not have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.instance import PROJECT_ROOT
from tests.engine import Engine
from tests.providers.given import GivenStack

pytestmark = pytest.mark.lab

PROGRAM = """
import json
from pathlib import Path

import pulumi

from components import there_already as module
from components.there_already import ThereAlready
from hybridmesh.providers.cluster import ClusterAccess
from tests.providers.fake_cluster import FakeCluster
from tests.providers.joined import Joined

given = json.loads((Path(__file__).parent / "given.json").read_text())
by = {"metadata": {"managedFields": [{"manager": "kubectl-create"}]}}
module.connect = lambda _: FakeCluster(found={f"Service demo/{name}": by for name in given["there"]})
module._OBJECTS = "pulumi-python:"  # no plugin for Kubernetes is needed


class Mesh(pulumi.ComponentResource):
    def __init__(self):
        asks = ThereAlready("mesh", ClusterAccess(kubeconfig="none"))
        super().__init__("test:index:Mesh", "mesh", {}, pulumi.ResourceOptions(transformations=[asks.hooked]))
        for name in given["services"]:
            metadata = {"name": name, "namespace": "demo"}
            inputs = {"machine": name, "apiVersion": "v1", "kind": "Service", "metadata": metadata}
            Joined(f"{name}-service", inputs, pulumi.ResourceOptions(parent=self))


Mesh()
"""


def test_a_preview_refuses_what_is_there_and_is_not_in_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    stack = GivenStack(Engine.of(PROGRAM, tmp_path, "mesh", tools=("pulumi", "pulumi-language-python")))
    stack.put_up({"services": ["echo"], "there": []})
    stack.give({"services": ["echo"], "there": ["echo"]})
    assert "Traceback" not in stack.engine.run("preview").stdout, "its own"
    stack.give({"services": ["echo", "cart"], "there": ["echo", "cart"]})
    refused = stack.engine.run("preview", check=False)
    assert refused.returncode != 0
    assert "Service demo/cart is in the cluster already, made by kubectl-create" in refused.stdout
    assert "demo/echo" not in refused.stdout
    assert "Traceback" not in refused.stdout + refused.stderr


def test_a_preview_of_more_objects_than_the_program_has_threads_comes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    stack = GivenStack(Engine.of(PROGRAM, tmp_path, "mesh", tools=("pulumi", "pulumi-language-python")))
    stack.give({"services": [f"echo-{n}" for n in range(40)], "there": []})
    assert "42 to create" in stack.engine.run("preview", "--parallel", "2").stdout
