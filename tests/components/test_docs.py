"""The programs in docs/components.md and docs/reuse.md run."""

import re
from pathlib import Path

import pytest
import yaml

from tests.components.harness import PROJECT_ROOT, dev_sections, run, write_files


def test_the_program_of_one_s_own_makes_what_the_page_says() -> None:
    page = (PROJECT_ROOT / "docs" / "components.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    # Installed, the package has the components under its own name.
    program = compile(code.replace("hybridmesh.components", "components"), "docs/components.md", "exec")
    world = run(lambda: exec(program, {}))
    assert {r.name for r in world.found} >= {"cart-account", "cart-service", "cart-deployment", "shop-namespace"}
    assert world.is_after(world.one("cart-deployment"), world.one("shop-namespace"))


def test_a_whole_mesh_by_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (PROJECT_ROOT / "docs" / "reuse.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    write_files(tmp_path)
    (tmp_path / "mesh.yaml").write_text(yaml.safe_dump(dev_sections()))
    monkeypatch.chdir(tmp_path)
    program = compile(code.replace("hybridmesh.components", "components"), "docs/reuse.md", "exec")
    world = run(lambda: exec(program, {}))
    assert {"mesh-vm-1-join", "mesh-vm-2-machine"} <= {r.name for r in world.found}
