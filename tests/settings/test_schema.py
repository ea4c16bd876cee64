"""That the JSON schema for editors is that of the models, and takes what the parser takes."""

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml

from hybridmesh.settings.schema import schema, schema_text
from tests.components.harness import PROJECT_ROOT
from tests.settings.test_rules import ECHO, VM_1, at

VALIDATOR = jsonschema.Draft202012Validator(schema())


def stack_file() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "Pulumi.dev.yaml").read_text())
    return document


def errors(change: Callable[[dict[str, Any]], object]) -> list[str]:
    document = stack_file()
    sections = {key.removeprefix("hybrid-mesh:"): value for key, value in document["config"].items()}
    change(sections)
    document["config"] = {f"hybrid-mesh:{key}": value for key, value in sections.items()}
    return [error.message for error in VALIDATOR.iter_errors(document)]


def test_the_committed_schema_is_that_of_the_models() -> None:
    committed = (PROJECT_ROOT / "docs" / "stack.schema.json").read_text()
    assert committed == schema_text(), "run `python -m hybridmesh settings schema > docs/stack.schema.json`"


def test_it_is_a_schema_and_every_stack_file_here_fits() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    files = sorted(PROJECT_ROOT.glob("Pulumi.*.yaml"))
    assert PROJECT_ROOT / "Pulumi.dev.yaml" in files
    for file in files:
        assert list(VALIDATOR.iter_errors(yaml.safe_load(file.read_text()))) == []


def test_what_pulumi_and_others_keep_in_a_stack_file_fits() -> None:
    document = stack_file()
    document["config"]["gcp:project"] = "shop"
    document["secretsprovider"] = "passphrase"
    assert list(VALIDATOR.iter_errors(document)) == []


@pytest.mark.parametrize(
    "change",
    [
        at("cluster/name", {"fromFile": "name"}),
        at(f"{VM_1}/ssh/port", {"fromFile": "port"}),
        at(f"{VM_1}/ssh/privateKey", {"secure": "v1:abc"}),
        at(f"{VM_1}/ssh/privateKeyPassphrase", {"secure": "v1:abc"}),
        at("mtls", "PERMISSIVE"),
        at("sidecar/capture", {"inboundPorts": [8080]}),
        at(f"{ECHO}/sidecar", {"egress": None}),
    ],
)
def test_what_is_good_fits(change: Callable[[dict[str, Any]], object]) -> None:
    assert errors(change) == []


@pytest.mark.parametrize(
    "change",
    [
        at("gatway", {}),
        at("cluster", ...),
        at("cluster/name", "my cluster"),
        at("cluster/netwrk", "x"),
        at("mtls", "strict"),
        at("sidecar/dnsCaptre", True),
        at("sidecar/logLevel", "loud"),
        at("sidecar/limits/cpuPercent", 0),
        at(f"{ECHO}/ports/0/port", 70000),
        at(f"{ECHO}/labels", {"-": "x"}),
        at(f"{VM_1}/ssh/port", {"fromfile": "port"}),
        at(f"{VM_1}/ssh/port", {"secure": "v1:abc"}),
        at("mtls", {"secure": "v1:abc"}),
        at("sidecar/environment", {"TOKEN": {"secure": "v1:abc"}}),
    ],
)
def test_what_is_wrong_in_itself_does_not(change: Callable[[dict[str, Any]], object]) -> None:
    assert errors(change)


def test_every_field_has_its_meaning_and_example_in_the_editor() -> None:
    for name, model in schema()["$defs"].items():
        for field, value in model.get("properties", {}).items():
            if name not in ("fromFile", "secure"):
                assert "description" in value or "$ref" in value, f"{name}.{field}"
                assert json.dumps(value["examples"])
