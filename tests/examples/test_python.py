"""The example in Python, with mocks and on the real engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.components.harness import KEY, PROJECT_ROOT, World, run
from tests.engine import Engine
from tests.examples.conftest import Installed

EXAMPLE = PROJECT_ROOT / "examples" / "python"
VM = {
    "address": "192.0.2.11",
    "hostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
    "clusterName": "embedded",
    "network": "embedded",
    "package": {"url": "http://192.0.2.1/istio-sidecar.deb", "sha256": "ab" * 32, "version": "1.31.0"},
}


def with_mocks(monkeypatch: pytest.MonkeyPatch, *, preview: bool, **config: str) -> World:
    """A run of the example. Installed, the package has the components under its own name."""
    given = {f"hybrid-mesh:{key}": value for key, value in config.items()}
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps(given))
    program = compile(
        (EXAMPLE / "__main__.py").read_text().replace("hybridmesh.components", "components"), "example", "exec"
    )
    return run(lambda: exec(program, {}), preview=preview)


@pytest.mark.parametrize("preview", [True, False])
def test_with_mocks_the_cart_runs_in_pods(monkeypatch: pytest.MonkeyPatch, preview: bool) -> None:
    world = with_mocks(monkeypatch, preview=preview)
    assert world.is_after(world.one("cart-deployment"), world.one("shop-namespace"))
    assert not world.of_type("Sidecar")
    assert not [r for r in world.found if r.read]


@pytest.mark.parametrize("preview", [True, False])
def test_with_mocks_and_a_vm_it_joins_the_mesh_that_is_there(monkeypatch: pytest.MonkeyPatch, preview: bool) -> None:
    world = with_mocks(monkeypatch, preview=preview, vm=json.dumps(VM), privateKey=KEY)
    assert world.is_after(world.one("cart-vm-join"), world.one("cart-group"))
    assert not world.of_type("Release")
    assert "S3CRET" not in json.dumps([r.plain for r in world.found], default=str)


@pytest.fixture(scope="module")
def engine(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.on(EXAMPLE, tmp_path_factory.mktemp("python"), installed.bin)


@pytest.mark.lab
def test_on_the_engine_it_makes_the_objects_and_removes_them(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "of a person's shell: not for what goes to a folder")
    engine.run("config", "set", "renderTo", str(tmp_path))
    engine.run("up", "--yes", "--skip-preview")
    objects = rendered(tmp_path)
    assert set(objects) == {
        "Namespace/shop",
        "PeerAuthentication/default",
        "ServiceAccount/front",
        "Deployment/front",
        "ServiceAccount/cart",
        "Service/cart",
        "Deployment/cart",
        "AuthorizationPolicy/cart-allow",
        "AuthorizationPolicy/cart-default-deny",
    }
    sources = objects["AuthorizationPolicy/cart-allow"]["spec"]["rules"][0]["from"]
    assert sources == [{"source": {"principals": ["cluster.local/ns/shop/sa/front"]}}]
    engine.run("preview", "--expect-no-changes")
    engine.run("destroy", "--yes", "--skip-preview")
    assert rendered(tmp_path) == {}


def rendered(folder: Path) -> dict[str, Any]:
    """The objects that the Kubernetes plugin wrote, by kind and name."""
    documents = [yaml.safe_load(file.read_text()) for file in folder.rglob("*.yaml")]
    return {f"{document['kind']}/{document['metadata']['name']}": document for document in documents}
