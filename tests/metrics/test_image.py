"""The metrics server's image: it has what the server imports, in the versions that are tested, and not much else."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib

from packaging.requirements import Requirement

from tests.components.harness import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "hybridmesh" / "metrics"
PINS = dict(re.findall(r"^([\w-]+)==(\S+)$", (FOLDER / "requirements.txt").read_text(), re.MULTILINE))


def test_the_server_imports_no_pulumi_and_nothing_that_is_not_pinned() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import hybridmesh.metrics.server, kubernetes.client, kubernetes.config\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT, timeout=60
    )
    by_module = importlib.metadata.packages_distributions()
    modules = set(done.stdout.split()) - {"google"}  # the client asks for google-auth, and others live below that name
    imported = {
        distribution.lower().replace("_", "-") for module in modules for distribution in by_module.get(module, [])
    }
    assert "pulumi" not in imported
    assert imported - PINS.keys() <= {"hybridmesh"}
    assert {"kubernetes", "prometheus-client"} <= imported


def test_all_that_a_pinned_package_needs_is_pinned_in_the_version_that_is_tested() -> None:
    for name, version in PINS.items():
        distribution = importlib.metadata.distribution(name)
        assert distribution.version == version, "make hybridmesh/metrics/requirements.txt anew"
        for text in distribution.requires or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": "", "python_version": "3.11"}):
                assert needed.name.lower().replace("_", "-") in PINS, f"{name} needs {needed}"


def test_the_environment_s_image_holds_what_the_containerfile_copies() -> None:
    copied = re.findall(r"^COPY (hybridmesh\S*) ", (FOLDER / "Containerfile").read_text(), re.MULTILINE)
    recipe = tomllib.loads((PROJECT_ROOT / "lab" / "images" / "monitoring.toml").read_text())["metrics"]
    ours = {source.removeprefix("project:") for source in recipe["files"] if source.startswith("project:")}
    assert ours | {"hybridmesh/metrics/requirements.txt"} == set(copied)
