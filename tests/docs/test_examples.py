"""The documentation's examples of settings: whole ones are good, and none has a key that nothing reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybridmesh.settings import SettingsError, parse
from hybridmesh.settings.findings import Finding
from tests.components.harness import FILES, dev_sections
from tests.docs.test_site import PAGES

PREFIX = "hybrid-mesh:"
KUBECONFIG = FILES[".lab/dev/kubeconfig"]
KEY = FILES[".lab/dev/ssh/id_ed25519"]
WHOLE = {"cluster", "workloads"}


def examples() -> list[Any]:
    """Each example's page and sections, as a case that its page and place name."""
    found = []
    for page in PAGES:
        texts = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        for number, text in enumerate(text for text in texts if PREFIX in text):
            # What a reader fills in, as whoever read it would.
            document = yaml.safe_load(text.replace("AAAA…", "AAAA").replace("sha256: …", f"sha256: '{'ab' * 32}'"))
            content = document.get("config", document)
            sections = {k.removeprefix(PREFIX): v for k, v in content.items() if k.startswith(PREFIX)}
            found.append(pytest.param(sections, id=f"{page.stem}-{number}"))
    return found


def read(path: str) -> str:
    return FILES.get(path) or (KUBECONFIG if Path(path).parent.name == ".kube" else KEY)


@pytest.mark.parametrize("sections", examples())
def test_an_example_of_settings_is_good(sections: dict[str, Any]) -> None:
    if sections.keys() >= WHOLE and "…" not in str(sections):
        parse(sections, read)
        return
    dev = dev_sections()
    findings: tuple[Finding, ...] = ()
    try:
        parse({**dev, **{name: {**dev.get(name, {}), **section} for name, section in sections.items()}}, read)
    except SettingsError as error:
        findings = tuple(error.findings)
    assert not [f for f in findings if "is not a setting" in str(f) and "…" not in f.path]
