"""The example in YAML: the components as a plugin, on the real engine."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess

import pytest

from tests.components.harness import PROJECT_ROOT
from tests.engine import TOOLS, Engine
from tests.examples.test_python import rendered

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The example and the plugin, as they lie to each other in the checkout."""
    folder = tmp_path_factory.mktemp("yaml")
    (folder / "examples").mkdir()
    (folder / "plugin").symlink_to(PROJECT_ROOT / "plugin")
    shutil.copytree(PROJECT_ROOT / "examples" / "yaml", folder / "source")
    # Engine.on puts the program one folder down; the example lies two folders down.
    plugin = (folder / "source" / "Pulumi.yaml").read_text().replace("../../plugin", "../plugin")
    (folder / "source" / "Pulumi.yaml").write_text(plugin)
    return Engine.on(folder / "source", folder, tools=(*TOOLS, "pulumi-language-yaml"))


def test_it_makes_what_the_same_components_make_in_python(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "of a person's shell: not for what goes to a folder")
    engine.run("up", "--yes", "--skip-preview")
    objects = rendered(engine.folder / "program" / "rendered")
    assert objects["WorkloadGroup/cart"]["spec"]["template"] == {"serviceAccount": "cart", "ports": {"http": 8080}}
    routes = objects["VirtualService/cart"]["spec"]["http"]
    assert [[target["weight"] for target in route["route"]] for route in routes] == [[90, 10], [90, 10]]
    sources = objects["AuthorizationPolicy/cart-allow"]["spec"]["rules"][0]["from"]
    assert sources == [{"source": {"principals": ["cluster.local/ns/shop/sa/front"]}}]
    types = {resource["type"] for resource in engine.resources()}
    # The same tokens as in a program in Python, so that policies and state see the same things.
    assert {"hybridmesh:workload:Workload", "hybridmesh:routing:Routing"} <= types
    assert "identity" in engine.run("stack", "output").stdout


def test_a_second_run_changes_nothing_and_destroy_leaves_nothing(engine: Engine) -> None:
    engine.run("preview", "--expect-no-changes")
    engine.run("destroy", "--yes", "--skip-preview")
    assert rendered(engine.folder / "program" / "rendered") == {}


def test_what_is_missing_is_named_before_anything_is_made(engine: Engine) -> None:
    program = engine.folder / "program" / "Pulumi.yaml"
    good = program.read_text()
    program.write_text(good.replace("      serviceAccount: cart\n", "", 1))
    try:
        done = engine.run("preview", check=False)
    finally:
        program.write_text(good)
    assert done.returncode != 0
    assert "serviceAccount" in done.stdout + done.stderr


def test_its_schema_is_had_as_the_page_says(engine: Engine) -> None:
    (command,) = re.findall(r"`(pulumi package get-schema [^`]+)`", (PROJECT_ROOT / "docs/reuse.md").read_text())
    done = subprocess.run(
        shlex.split(command), cwd=PROJECT_ROOT, env=engine.env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "hybridmesh:index:Workload" in json.loads(done.stdout)["resources"]
