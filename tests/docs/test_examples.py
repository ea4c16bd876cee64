"""The documentation's examples of settings are good, as far as they go; and each setting that is named is one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybridmesh.istio.nested import at
from hybridmesh.settings import SettingsError, parse
from hybridmesh.settings.findings import Finding
from hybridmesh.settings.reference import fields
from tests.components.harness import FILES, dev_sections
from tests.docs.test_site import PAGES, SOURCES

PREFIX = "hybrid-mesh:"
KUBECONFIG = FILES[".lab/dev/kubeconfig"]
KEY = FILES[".lab/dev/ssh/id_ed25519"]
OTHERS = {**FILES, ".lab/dev/pod-range": "10.64.64.0/18"}
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


INNER = ("hosts", "machines", "pods")
"""Keys by which a page goes on, where the workload is clear."""
PATHS = {path.replace("[]", ""): "Mapping[" in str(field.annotation) for path, field in fields()}
"""Every setting, and whether it is a mapping."""
NO_SETTINGS = ("cluster.env", "cluster.local", "sidecar.env", "sidecar.istio.io")


def is_setting(name: str) -> bool:
    """Whether it leads to a setting or to where some are, with names of one's own in the place of `<name>`."""
    keys = re.sub(r"\[\d*\]", "", name).split(".")
    for path, is_mapping in PATHS.items():
        free = is_mapping and not any(other.startswith(f"{path}.") for other in PATHS)
        known = path.split(".")
        starts = [start for start, key in enumerate(known) if start == 0 or key in INNER]
        for end in (known[start:] for start in starts):
            fits = all(one in ("<name>", key) for one, key in zip(end, keys, strict=False))
            if fits and (len(keys) <= len(end) or free):
                return True
    return False


def test_every_setting_that_pages_and_messages_name_is_one() -> None:
    sections = "|".join({path.partition(".")[0] for path in PATHS} | {*INNER})
    texts = "\n".join(file.read_text() for file in (*PAGES, *SOURCES))
    named = set(re.findall(rf"`((?:{sections})\.[a-zA-Z<][\w<>.\[\]-]*)(?:`|: )", texts))
    assert [name for name in named if not name.startswith(NO_SETTINGS) and not is_setting(name)] == []


def test_what_is_no_setting_is_found() -> None:
    assert is_setting("workloads.echo.machines.hosts.<vm>.ssh.hostKey")
    assert is_setting("machines.revision")
    assert is_setting("sidecar.environment.CA_ADDR")
    assert not is_setting("machines.hosts.vm-1.hostKey")
    assert not is_setting("gateway.adress")


def read(path: str) -> str:
    return OTHERS.get(path) or (KUBECONFIG if Path(path).parent.name == ".kube" else KEY)


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
    # What it leaves out may be missing, and what it leaves open is wrong; all that it says is right.
    said = [f for f in findings if f.problem not in ("is missing", "names no workload")]
    assert [f for f in said if "…" not in f"{f.path}: {at(sections, *f.path.split('.'))}"] == []
