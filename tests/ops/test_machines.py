"""Which machines the console knows of a stack, and how it would reach them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybridmesh.ops import machines, topology
from hybridmesh.ops.machines import limits, reachable, stack_settings
from hybridmesh.ops.topology import StackError
from hybridmesh.settings import SettingsError
from tests.components.harness import FILES, KEY, dev_sections, dev_settings, write_files

MADE = {"address": "192.0.2.12", "port": 22.0, "user": "admin", "hostKey": "ssh-ed25519 AAAAB"}


def host(sections: dict[str, Any], name: str = "vm-1") -> Any:
    return sections["workloads"]["echo"]["machines"]["hosts"][name]


def test_a_machine_that_exists_is_known_by_the_settings_and_one_that_is_made_by_the_outputs() -> None:
    settings = dev_settings(lambda sections: host(sections)["ssh"].update(port=2222, user="admin"))
    before = reachable(settings, None)
    assert list(before) == ["vm-1", "vm-2"]
    assert before["vm-2"] is None
    vm1, vm2 = reachable(settings, {"machines": {"vm-2": MADE}}).values()
    assert vm1 is not None
    assert vm2 is not None
    assert str(vm1.door) == "admin@192.0.2.11:2222"
    assert vm1.door.host_key == FILES[".lab/dev/machines/vm-1/host_key"].strip()
    assert str(vm2.door) == "admin@192.0.2.12:22"
    assert vm2.door.host_key == "ssh-ed25519 AAAAB"
    assert vm1.door.private_key == vm2.door.private_key == KEY
    assert vm1.bastion is vm2.bastion is None


def test_a_bastion_has_a_key_of_its_own_or_that_of_the_machine() -> None:
    bastion = {"address": "203.0.113.5", "user": "jump", "port": 2200, "hostKey": "ssh-ed25519 AAAAJ"}

    def way(**more: Any) -> Any:
        settings = dev_settings(
            lambda s: host(s)["ssh"].update(bastion={**bastion, **more}, privateKeyPassphrase="phrase")
        )
        found = reachable(settings, None)["vm-1"]
        assert found is not None
        return found

    assert str(way().bastion) == "jump@203.0.113.5:2200"
    assert (way().bastion.private_key, way().bastion.passphrase) == (KEY, "phrase")
    assert way(agent=True).bastion.private_key is None
    own = way(privateKey=KEY.replace("S3CRET", "OTHER"), privateKeyPassphrase="other").bastion
    assert (own.private_key, own.passphrase) == (KEY.replace("S3CRET", "OTHER"), "other")


def test_gateways_of_networks_are_machines_too() -> None:
    gateway = {"ssh": {"address": "198.51.100.5", "hostKey": "ssh-ed25519 A", "agent": True}}

    def change(sections: dict[str, Any]) -> None:
        sections["networks"] = {"far": {"gateway": {"hosts": {"gw-1": gateway}}}}
        sections["workloads"]["echo"]["network"] = "far"

    settings = dev_settings(change)
    found = reachable(settings, None)["gw-1"]
    assert found is not None
    assert found.door.private_key is None


def test_the_time_for_a_machine_to_answer_is_that_of_the_settings() -> None:
    assert limits(dev_settings(lambda s: s["sidecar"].update(timeouts={"dialSeconds": 3}))).connect == 3


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The dev stack in a folder of its own."""
    write_files(tmp_path)
    write(tmp_path, dev_sections())
    return tmp_path


def write(project: Path, sections: dict[str, Any]) -> None:
    config = {f"hybrid-mesh:{name}": value for name, value in sections.items()}
    (project / "Pulumi.dev.yaml").write_text(yaml.safe_dump({"config": config}))


def test_settings_come_from_the_stack_file_without_pulumi(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.chdir(project)
    settings = stack_settings("dev", Path("Pulumi.dev.yaml"))
    assert list(machines.hosts(settings)) == ["vm-1", "vm-2"]
    with pytest.raises(StackError, match="pulumi is not on PATH"):
        stack_settings(None)


def test_the_selected_stack_is_pulumis_to_name(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(machines, "run_pulumi", lambda *arguments: "me/dev\n" if arguments[0] == "stack" else "")
    assert list(machines.hosts(stack_settings(None))) == ["vm-1", "vm-2"]


def test_what_is_encrypted_is_pulumis_to_decrypt(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = dev_sections()
    ssh = host(sections)["ssh"]
    del ssh["privateKeyFile"]
    ssh["privateKey"] = {"secure": "v1:abc"}
    write(project, sections)
    asked: list[tuple[str, ...]] = []

    def pulumi(*arguments: str) -> str:
        asked.append(arguments)
        ssh["privateKey"] = KEY
        shown = {f"hybrid-mesh:{name}": {"value": "…", "objectValue": value} for name, value in sections.items()}
        return json.dumps({**shown, "gcp:project": {"value": "p"}})

    monkeypatch.chdir(project)
    for module in (machines, topology):
        monkeypatch.setattr(module, "run_pulumi", pulumi)
    found = reachable(stack_settings("dev", Path("Pulumi.dev.yaml")), None)["vm-1"]
    assert found is not None
    assert found.door.private_key == KEY
    assert asked == [("config", "--json", "--show-secrets", "--stack", "dev", "--config-file", "Pulumi.dev.yaml")]


def test_a_section_under_a_misspelt_name_is_said_also_where_something_is_encrypted(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = dev_sections()
    host(sections)["ssh"]["privateKey"] = {"secure": "v1:abc"}
    write(project, sections)

    def pulumi(*_: str) -> str:
        host(sections)["ssh"]["privateKey"] = KEY
        shown = {f"hybrid-mesh:{name}": {"objectValue": value} for name, value in sections.items()}
        return json.dumps({**shown, "hybridmesh:mtls": {"value": "PERMISSIVE"}})

    monkeypatch.chdir(project)
    monkeypatch.setattr(topology, "run_pulumi", pulumi)
    with pytest.raises(SettingsError, match=r"mtls: stands under `hybridmesh`, which is not this program's name"):
        stack_settings("dev", Path("Pulumi.dev.yaml"))


def test_wrong_settings_are_all_said(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = dev_sections()
    host(sections)["ssh"]["port"] = 0
    host(sections)["ssh"]["user"] = ""
    write(project, sections)
    monkeypatch.chdir(project)
    with pytest.raises(SettingsError, match=r"ssh\.port(?s:.*)ssh\.user|ssh\.user(?s:.*)ssh\.port"):
        stack_settings("dev", Path("Pulumi.dev.yaml"))


def test_no_value_of_a_section_in_which_something_is_encrypted_is_shown(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = dev_sections()
    sections["cluster"]["network"] = {"secure": "v1:abc"}
    write(project, sections)

    def pulumi(*_: str) -> str:
        sections["cluster"]["network"] = "S3CRET"
        return json.dumps({f"hybrid-mesh:{name}": {"objectValue": value} for name, value in sections.items()})

    monkeypatch.chdir(project)
    for module in (machines, topology):
        monkeypatch.setattr(module, "run_pulumi", pulumi)
    with pytest.raises(SettingsError, match=r"cluster\.network = \*\*\*") as error:
        stack_settings("dev", Path("Pulumi.dev.yaml"))
    assert "S3CRET" not in str(error.value)
