"""The verb `settings`, as a person runs it."""

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from hybridmesh.__main__ import app
from hybridmesh.settings.reference import reference
from hybridmesh.settings.schema import schema_text
from tests.components.harness import PROJECT_ROOT, write_files
from tests.settings.test_rules import VM_1, Change, at


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_files(tmp_path)
    stack = tmp_path / "Pulumi.dev.yaml"
    stack.write_text((PROJECT_ROOT / "Pulumi.dev.yaml").read_text())
    return stack


def changed(file: Path, *changes: Change) -> Path:
    document = yaml.safe_load(file.read_text())
    sections = {key.removeprefix("hybrid-mesh:"): value for key, value in document["config"].items()}
    for change in changes:
        change(sections)
    document["config"] = {f"hybrid-mesh:{key}": value for key, value in sections.items()}
    file.write_text(yaml.safe_dump(document))
    return file


def check(file: Path, *options: str) -> tuple[int, list[str]]:
    done = CliRunner().invoke(app, ["settings", "check", str(file), *options])
    return done.exit_code, done.stdout.splitlines()


def test_a_good_file_is_said_to_be_good(file: Path) -> None:
    assert check(file) == (0, [f"{file}: good"])


def test_every_finding_is_a_line_and_the_status_is_one(file: Path) -> None:
    changes = (at("cluster/netwrk", "x"), at("routing/echo/weights/vm", 9), at("sidecar/package/version", "1.32.0"))
    status, lines = check(changed(file, *changes))
    assert status == 1
    assert len(lines) == 3
    assert "hybrid-mesh:cluster.netwrk: is not a setting. Nothing would read it. Fix: did you mean `network`?" in lines


def test_a_key_that_pulumi_has_encrypted_is_no_finding_and_all_else_is(file: Path) -> None:
    secure = {"secure": "v1:abc"}
    assert check(changed(file, at(f"{VM_1}/ssh/privateKey", secure))) == (0, [f"{file}: good"])
    status, lines = check(changed(file, at(f"{VM_1}/ssh/port", secure), at("cluster/network", secure)))
    assert status == 1
    assert [line.partition(": is encrypted, ")[0] for line in lines] == [
        "hybrid-mesh:cluster.network",
        "hybrid-mesh:workloads.echo.machines.hosts.vm-1.ssh.port",
    ]
    changes = (at("cluster/network", "A"), at(f"{VM_1}/ssh/port", 22), at(f"{VM_1}/ssh/privateKeyFile", ""))
    status, lines = check(changed(file, *changes))
    assert (status, len(lines)) == (1, 2), "a setting whose name begins with that of an encrypted one is another"


def test_paths_may_be_relative_to_another_folder(file: Path, tmp_path: Path) -> None:
    moved = tmp_path / "stacks"
    moved.mkdir()
    file = file.rename(moved / file.name)
    assert check(file)[0] == 1
    assert check(file, "--root", str(tmp_path))[0] == 0


@pytest.mark.parametrize("text", ["", "config: [", "\x00"])
def test_a_file_that_is_none_is_one_finding(tmp_path: Path, text: str) -> None:
    (tmp_path / "Pulumi.x.yaml").write_text(text)
    status, lines = check(tmp_path / "Pulumi.x.yaml")
    assert (status, len(lines)) == (1, 1)
    _, (line,) = check(tmp_path / "missing.yaml")
    assert line.startswith("missing.yaml: cannot be read: No such file or directory. There would be no settings. Fix: ")


def test_a_key_that_stands_twice_is_found_which_pulumi_refuses_and_yaml_takes(file: Path) -> None:
    text = file.read_text()
    file.write_text(text.replace(" vm-2:", " vm-1:"))
    status, (line,) = check(file)
    assert status == 1
    assert re.fullmatch(
        r"Pulumi\.dev\.yaml: cannot be read: `vm-1` stands twice, line \d+\. There would be no settings\. "
        r"Fix: put that line right\.",
        line,
    )
    merged = text.replace("hybrid-mesh:routing:", "x: &x { a: 1 }\n  y: { <<: *x, a: 2 }\n  hybrid-mesh:routing:")
    file.write_text(merged)
    assert check(file)[0] == 0


@pytest.mark.parametrize("name", ["hybridmesh", "hybrid_mesh", "Hybrid-Mesh"])
def test_a_section_under_a_misspelt_name_of_the_program_is_found(file: Path, name: str) -> None:
    file.write_text(file.read_text().replace("hybrid-mesh:routing:", f"{name}:routing:"))
    status, (line,) = check(file)
    said = f"hybrid-mesh:routing: stands under `{name}`, which is not this program's name. Nothing would read it."
    assert (status, line) == (1, f"{said} Fix: `hybrid-mesh:routing`.")


def test_schema_and_reference_are_printed() -> None:
    assert CliRunner().invoke(app, ["settings", "schema"]).stdout == schema_text()
    assert CliRunner().invoke(app, ["settings", "reference"]).stdout == reference()
