"""What the documentation's site does that mkdocs has no setting for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Every page is found in the navigation: what mkdocs.yml does not list comes at its end."""
    folder = Path(config["docs_dir"])
    listed = set(pages(config["nav"]))
    there = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.md"))
    decisions = [page for page in there if page.startswith("decisions/")]
    others = [page for page in there if page not in listed and page not in decisions]
    config["nav"] = [*config["nav"], *([{"More": others}] if others else []), {"Decisions": decisions}]
    return config


def pages(nav: Any) -> Iterator[str]:
    """The pages that a navigation lists."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, Mapping):
        for inner in nav.values():
            yield from pages(inner)
    else:
        for inner in nav:
            yield from pages(inner)
