"""The pack on the real engine."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from lab.instance import PROJECT_ROOT
from tests.engine import Engine

pytestmark = pytest.mark.lab
# The embedded environment's language host cannot start a pack; the engine starts this one as a program.
PACK = str(PROJECT_ROOT / "policy" / "__main__.py")
PROGRAM = """
    import pulumi
    import pulumi_kubernetes as k8s

    config = pulumi.Config()
    key = "-----BEGIN OPENSSH PRIVATE KEY-----"
    cluster = k8s.Provider("cluster", render_yaml_to_directory="rendered")
    here = pulumi.ResourceOptions(provider=cluster)


    class Sidecar(pulumi.ComponentResource):
        def __init__(self, name, package):
            inputs = {"package": package, "address": "10.0.0.7", "key": pulumi.Output.secret(key)}
            super().__init__("hybridmesh:sidecar:Sidecar", name, inputs)


    Sidecar("vm-1", "http://mirror/x.deb 1.31.0" + config.get("checksum", ""))
    k8s.core.v1.Namespace("shop", metadata={"name": "shop", "labels": {"istio-injection": "enabled"}}, opts=here)
    k8s.apiextensions.CustomResource(
        "peers",
        api_version="security.istio.io/v1",
        kind="PeerAuthentication",
        metadata={"name": "default", "namespace": "shop"},
        spec={"mtls": {"mode": config.get("mtls", "STRICT")}},
        opts=here,
    )
    k8s.core.v1.ConfigMap("leak", data={"key": key if config.get_bool("leak") else "none"}, opts=here)
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("pack")
    program = folder / "source"
    program.mkdir()
    (program / "Pulumi.yaml").write_text("name: kept\nruntime: python\n")
    (program / "__main__.py").write_text(textwrap.dedent(PROGRAM))
    return Engine.on(program, folder)


def preview(engine: Engine, *settings: str, config: str = "") -> tuple[int, str]:
    """A preview's exit code and words. Each setting is given a value for this preview, and taken back."""
    for setting in settings:
        engine.run("config", "set", *setting.split("=", 1))
    options = ["--policy-pack-config", config] if config else []
    done = engine.run("preview", "--policy-pack", PACK, *options, check=False)
    for setting in settings:
        engine.run("config", "rm", setting.split("=", 1)[0])
    return done.returncode, done.stdout + done.stderr


def test_a_stack_that_keeps_to_the_rules_passes(engine: Engine) -> None:
    code, said = preview(engine, "checksum= sha256:" + "ab" * 32)
    assert code == 0, said
    assert "hybrid-mesh@v0.1.0" in said


def test_what_breaks_rules_is_refused_by_name_of_rule_and_resource(engine: Engine) -> None:
    code, said = preview(engine, "mtls=PERMISSIVE", "leak=true")
    assert code != 0
    for rule, resource in {
        "package-checksum": "hybridmesh:sidecar:Sidecar: vm-1",
        "strict-mtls": "PeerAuthentication: peers",
        "strict-mtls-everywhere": "Namespace: shop",
        "secrets-are-secret": "ConfigMap: leak",
    }.items():
        assert any(f"[mandatory]  {rule} " in line and resource in line for line in said.splitlines()), (rule, said)
    assert said.count("secrets-are-secret") == 1  # not the sidecar's, which is a secret


def test_levels_are_configurable(engine: Engine, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"all": "disabled", "package-checksum": "advisory"}))
    code, said = preview(engine, "mtls=PERMISSIVE", "leak=true", config=str(config))
    assert code == 0, said
    assert "[advisory]  package-checksum" in said
    assert "strict-mtls" not in said


def test_the_committed_configuration_is_taken(engine: Engine) -> None:
    config = str(PROJECT_ROOT / "policy" / "config.json")
    code, said = preview(engine, "checksum= sha256:" + "ab" * 32, config=config)
    assert code == 0, said
