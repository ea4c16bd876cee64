"""The program in docs/components.md runs."""

import re

from tests.components.harness import PROJECT_ROOT, run


def test_the_program_of_one_s_own_makes_what_the_page_says() -> None:
    page = (PROJECT_ROOT / "docs" / "components.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    # Installed, the package has the components under its own name.
    program = compile(code.replace("hybridmesh.components", "components"), "docs/components.md", "exec")
    world = run(lambda: exec(program, {}))
    assert {r.name for r in world.found} >= {"cart-account", "cart-service", "cart-deployment", "shop-namespace"}
    assert world.is_after(world.one("cart-deployment"), world.one("shop-namespace"))
