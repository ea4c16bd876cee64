"""On Pulumi's real engine: what may not be encrypted is refused in a preview, and put right by what that says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from lab.instance import PROJECT_ROOT
from tests.components.harness import KEY, dev_sections, write_files
from tests.engine import STACK, Engine

pytestmark = pytest.mark.lab

PROGRAM = """
from pathlib import Path

import pulumi

from hybridmesh.settings import SettingsError
from hybridmesh.settings.pulumi_config import from_pulumi_config

try:
    from_pulumi_config(Path(__file__).parent)
except SettingsError as error:
    raise pulumi.RunError(str(error)) from error
"""
SSH = "hybrid-mesh:workloads.echo.machines.hosts.vm-1.ssh"
ENCRYPTED = ("hybrid-mesh:sidecar.environment.TOKEN", 'hybrid-mesh:workloads.echo.labels["example.com/team"]')


def test_what_may_not_be_encrypted_is_refused_and_put_right_by_the_commands_that_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    engine = Engine.of(PROGRAM, tmp_path, "hybrid-mesh")
    project = engine.folder / "program"
    write_files(project)
    file = project / f"Pulumi.{STACK}.yaml"
    config = {f"hybrid-mesh:{section}": value for section, value in dev_sections().items()}
    del config["hybrid-mesh:workloads"]["echo"]["machines"]["hosts"]["vm-1"]["ssh"]["privateKeyFile"]
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "config": config}))
    engine.run("config", "set", "--secret", "--path", "--", f"{SSH}.privateKey", KEY)
    unseen = "hybrid-mesh:workloads: something in it is encrypted"
    assert unseen not in engine.run("preview").stdout
    elsewhere = file.rename(project / "elsewhere.yaml")
    assert unseen in engine.run("preview", "--config-file", str(elsewhere)).stdout
    elsewhere.rename(file)
    for place in ENCRYPTED:
        engine.run("config", "set", "--secret", "--path", place, "S3CRET")
    assert "S3CRET" not in file.read_text()
    refused = engine.run("preview", check=False)
    assert refused.returncode != 0
    said = refused.stdout + refused.stderr
    assert "2 settings are wrong; nothing was touched." in said
    assert "S3CRET" not in said
    told = re.findall(r"`pulumi (config set --plaintext --path) '([^']+)'`", said)
    assert [place for _, place in told] == list(ENCRYPTED)
    for command, place in told:
        engine.run(*command.split(), place, "shown")
    engine.run("preview")
