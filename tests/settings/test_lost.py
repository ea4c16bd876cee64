"""Machines that are declared lost: what is refused, what is left of the settings, and what a bare reader finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybridmesh.settings.lost import declared_lost, lost_machines, present, sections_of_config, sections_of_file
from hybridmesh.settings.risks import losses
from tests.components.harness import dev_sections, dev_settings
from tests.settings.test_network_rules import far, host
from tests.settings.test_rules import findings

HOSTS = "workloads.echo.machines.hosts"
PLACE = f"{HOSTS}.vm-1.lost"


def lost(value: Any, machine: str = "vm-1") -> Any:
    def change(sections: dict[str, Any]) -> None:
        sections["workloads"]["echo"]["machines"]["hosts"][machine]["lost"] = value

    return change


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("soon", "neither true nor a list of addresses"),
        (1, "neither true nor a list of addresses"),
        ([""], "neither true nor a list of addresses"),
        (["192.0.2.11"], "is its address now"),
        (["192.0.2.99", "192.0.2.11"], "is its address now"),
    ],
)
def test_what_cannot_be_is_refused(value: Any, problem: str) -> None:
    (finding,) = findings(lost(value))
    assert finding.path == PLACE
    assert problem in finding.problem
    assert finding.fix


def test_a_network_without_a_gateway_that_is_not_lost_is_refused() -> None:
    def change(sections: dict[str, Any]) -> None:
        ssh = sections["workloads"]["echo"]["machines"]["hosts"].pop("vm-1")
        sections["workloads"]["echo"]["network"] = "far"
        sections["networks"] = {"far": {"gateway": {"hosts": {"gw-1": {**ssh, "lost": True}}}}}

    (finding,) = findings(change)
    assert finding.path == "networks.far.gateway.hosts"
    assert "no machine that is not lost" in finding.problem


def test_a_lost_machine_is_in_no_setting_any_more_and_is_named() -> None:
    settings = dev_settings(lost(True))
    machines = present(settings).workloads["echo"].machines
    assert machines is not None
    assert list(machines.hosts) == ["vm-2"]
    assert lost_machines(settings) == {"vm-1": PLACE}
    (said,) = losses(settings)
    assert said.startswith(f"vm-1 is declared lost ({PLACE})")
    assert "switch it off" in said


def test_a_gateway_machine_that_is_lost_is_in_no_setting_any_more_either() -> None:
    def change(sections: dict[str, Any]) -> None:
        far(sections)
        hosts = sections["networks"]["far"]["gateway"]["hosts"]
        hosts["gw-2"] = {**host("198.51.100.6"), "lost": True}

    settings = dev_settings(change)
    gateway = present(settings).networks["far"].gateway
    assert gateway is not None
    assert list(gateway.hosts) == ["gw-1"]
    assert lost_machines(settings) == {"gw-2": "networks.far.gateway.hosts.gw-2.lost"}


@pytest.mark.parametrize("gone", [True, False])
def test_another_machine_may_have_the_address_of_a_lost_one_and_of_no_other(gone: bool) -> None:
    def change(sections: dict[str, Any]) -> None:
        hosts = sections["workloads"]["echo"]["machines"]["hosts"]
        hosts["vm-9"] = {"ssh": dict(hosts["vm-1"]["ssh"])}
        hosts["vm-1"]["lost"] = gone

    assert [finding.path for finding in findings(change)] == ([] if gone else [f"{HOSTS}.vm-9.ssh.address"])


@pytest.mark.parametrize("value", [False, ["192.0.2.99"]])
def test_a_machine_with_lost_predecessors_is_there(value: Any) -> None:
    settings = dev_settings(lost(value))
    machines = present(settings).workloads["echo"].machines
    assert machines is not None
    assert list(machines.hosts) == ["vm-1", "vm-2"]
    assert losses(settings) == []


def test_a_bare_reader_finds_the_same_in_config_and_file(tmp_path: Path) -> None:
    sections = dev_sections()
    lost(["192.0.2.99"])(sections)
    lost(True, "vm-2")(sections)
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(yaml.safe_dump({"config": {f"hybrid-mesh:{name}": value for name, value in sections.items()}}))
    for found in (sections_of_file(file), sections_of_config(texts(sections))):
        assert declared_lost(found, "vm-2", "192.0.2.12")
        assert declared_lost(found, "vm-1", "192.0.2.99")
        assert not declared_lost(found, "vm-1", "192.0.2.11")
        assert not declared_lost(found, "vm-3", "192.0.2.13")


def texts(sections: dict[str, Any]) -> dict[str, Any]:
    """As the engine hands a config over."""
    return {f"hybrid-mesh:{name}": json.dumps(value) for name, value in sections.items()}


def test_a_file_that_is_not_there_declares_nobody_lost(tmp_path: Path) -> None:
    assert sections_of_file(tmp_path / "none.yaml") == {}


def test_a_share_of_the_requests_for_machines_that_are_all_lost_is_said_to_fail() -> None:
    def said_of(*machines: str, **weights: int) -> list[str]:
        def change(sections: dict[str, Any]) -> None:
            for machine in machines:
                sections["workloads"]["echo"]["machines"]["hosts"][machine]["lost"] = True
            sections["routing"]["echo"]["weights"] = weights

        return losses(dev_settings(change))

    assert len(said_of("vm-1", k8s=90, vm=10)) == 1, "vm-2 takes its share"
    *_, said = said_of("vm-1", "vm-2", k8s=90, vm=10)
    assert said.startswith("routing.echo.weights.vm = 10: the machines of `echo` are all declared lost")
    assert len(said_of("vm-1", "vm-2", k8s=100, vm=0)) == 2
