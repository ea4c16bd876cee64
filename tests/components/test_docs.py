"""The programs in docs/components.md and docs/reuse.md run, and the stack file in docs/answers.md makes its mesh."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from hybridmesh.settings import parse
from tests.components.harness import PROJECT_ROOT, dev_sections, run, write_files


def test_the_program_of_one_s_own_makes_what_the_page_says() -> None:
    page = (PROJECT_ROOT / "docs" / "components.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    # Installed, the package has the components under its own name.
    program = compile(code.replace("hybridmesh.components", "components"), "docs/components.md", "exec")
    world = run(lambda: exec(program, {}))
    assert {r.name for r in world.found} >= {"cart-account", "cart-service", "cart-deployment", "shop-namespace"}
    assert world.is_after(world.one("cart-deployment"), world.one("shop-namespace"))


def test_the_table_has_every_component_with_its_outputs() -> None:
    page = (PROJECT_ROOT / "docs" / "components.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", page, flags=re.MULTILINE))
    missing = {}
    for file in (PROJECT_ROOT / "components").glob("*.py"):
        module = importlib.import_module(f"components.{file.stem}")
        for name, each in inspect.getmembers(module, inspect.isclass):
            if issubclass(each, pulumi.ComponentResource) and each.__module__ == module.__name__:
                outputs = {key for key in inspect.get_annotations(each) if not key.startswith("_")}
                told = set(re.findall(r"`(\w+)`", rows[name].rpartition(" | ")[2]))
                missing[name] = sorted(outputs - told)
    # Its row says that they are those of the row before.
    assert missing.pop("CommandHost") == ["address", "connection", "mesh_address"]
    assert {name: outputs for name, outputs in missing.items() if outputs} == {}


def test_a_whole_mesh_by_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (PROJECT_ROOT / "docs" / "reuse.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    write_files(tmp_path)
    (tmp_path / "mesh.yaml").write_text(yaml.safe_dump(dev_sections()))
    monkeypatch.chdir(tmp_path)
    program = compile(code.replace("hybridmesh.components", "components"), "docs/reuse.md", "exec")
    world = run(lambda: exec(program, {}))
    assert {"mesh-vm-1-join", "mesh-vm-2-machine"} <= {r.name for r in world.found}


def test_the_article_as_one_stack_file_makes_all_that_it_makes_by_hand() -> None:
    page = (PROJECT_ROOT / "docs" / "answers.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    config = yaml.safe_load(text.replace("AAAA…", "AAAA"))["config"]
    sections = {key.removeprefix("hybrid-mesh:"): value for key, value in config.items()}
    settings = parse(sections, lambda _: "apiVersion: v1\n")
    world = run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology)

    def spec(name: str) -> Any:
        return world.one(name).value("spec")

    group = spec("mesh-shopping-cart-group")
    assert (group["template"]["serviceAccount"], group["template"]["network"]) == ("shopping-cart-sa", "vm-network")
    assert group["metadata"]["labels"]["app"] == "shopping-cart"
    assert group["probe"]["httpGet"]["path"] == "/health/ready"
    entry = spec("mesh-catalogue-service-entry")
    assert (entry["resolution"], entry["workloadSelector"]) == ("STATIC", {"labels": {"app": "catalogue"}})
    route, *_ = spec("mesh-shopping-cart-virtual-service")["http"]
    assert {way["destination"]["subset"]: way["weight"] for way in route["route"]} == {"k8s": 90, "vm": 10}
    rule = spec("mesh-shopping-cart-destination-rule")
    assert {subset["name"] for subset in rule["subsets"]} == {"k8s", "vm"}, "which the article forgets"
    assert rule["trafficPolicy"]["connectionPool"] == {
        "tcp": {"maxConnections": 100, "connectTimeout": "30ms"},
        "http": {"http2MaxRequests": 1000, "maxRequestsPerConnection": 10},
    }
    assert rule["trafficPolicy"]["tls"] == {"mode": "ISTIO_MUTUAL"}
    allowed = spec("mesh-shopping-cart-allow")["rules"]
    assert allowed[0]["from"] == [{"source": {"principals": ["cluster.local/ns/default/sa/payment-service"]}}]
    assert allowed[0]["to"] == [{"operation": {"methods": ["GET", "POST"]}}]
    pods = spec("mesh-shopping-cart-deployment")["template"]
    assert pods["metadata"]["annotations"]["sidecar.istio.io/rewriteAppHTTPProbers"] == "true"
    joined = {name.removeprefix("mesh-").removesuffix("-join") for name in world.names() if name.endswith("-join")}
    assert joined == {"gw-1", "vm1", "vm2", "vm3"}
    files = world.one("mesh-vm1", "Sidecar").plain
    assert "ISTIO_META_NETWORK='vm-network'" in files["cluster.env"]
    assert "ISTIO_META_CLUSTER_ID='cluster-east'" in files["cluster.env"]
