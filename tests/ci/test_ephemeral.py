"""A pull request's mesh: settings of its own from those of the stack beside it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ci.ephemeral import EphemeralError, ephemeral, pull_request_of, stack_name
from hybridmesh.settings import parse
from tests.components.harness import PROJECT_ROOT, dev_sections, read_file


def test_the_dev_stack_s_is_valid_and_shares_no_name_with_it() -> None:
    before = dev_sections()
    made = ephemeral(before, 7)
    settings = parse(made, read_file)
    assert before == dev_sections(), "the base is left as it was"
    assert (settings.control_plane.mode, settings.gateway.mode) == ("adopt", "adopt")
    assert {workload.namespace for workload in settings.workloads.values()} == {"demo-pr-7"}
    machines = settings.workloads["echo"].machines
    assert machines is not None
    assert set(machines.hosts) == {"vm-2-pr-7"}, "vm-1 exists, and is the dev stack's"
    command = machines.hosts["vm-2-pr-7"].command
    assert command is not None
    assert command.create == "python -m lab machine create vm-2-pr-7"
    assert command.delete == "python -m lab machine delete vm-2-pr-7"


def test_the_google_cloud_example_s_fleets_and_instances_are_its_own() -> None:
    document = yaml.safe_load((PROJECT_ROOT / "Pulumi.gcp.yaml").read_text())["config"]
    sections = {k.removeprefix("hybrid-mesh:"): v for k, v in document.items() if k.startswith("hybrid-mesh:")}
    files = {"kubeconfig.gcp": "apiVersion: v1\n", "istio-sidecar.sha256": "ab" * 32}
    machines = parse(ephemeral(sections, 7), files.__getitem__).workloads["shop"].machines
    assert machines is not None
    assert (set(machines.fleets), set(machines.instances)) == ({"shop-fleet-pr-7"}, {"shop-canary-pr-7"})


def test_a_workload_without_machines_of_its_own_loses_what_needs_them() -> None:
    def only_existing(sections: dict[str, Any]) -> dict[str, Any]:
        del sections["workloads"]["echo"]["machines"]["hosts"]["vm-2"]
        return sections

    made = ephemeral(only_existing(dev_sections()), 7)
    assert "machines" not in made["workloads"]["echo"]
    assert "echo" not in made["routing"]
    parse(made, read_file)


def test_access_rules_name_the_new_namespaces() -> None:
    sections = dev_sections()
    rule = {"principals": ["cluster.local/ns/demo/sa/a", "cluster.local/ns/other/sa/b"], "namespaces": ["demo", "x"]}
    sections["access"] = {"echo": {"allow": [rule]}}
    made = ephemeral(sections, 12)
    assert made["access"]["echo"]["allow"] == [
        {
            "principals": ["cluster.local/ns/demo-pr-12/sa/a", "cluster.local/ns/other/sa/b"],
            "namespaces": ["demo-pr-12", "x"],
        }
    ]


def test_a_command_that_does_not_name_its_machine_is_refused() -> None:
    sections = dev_sections()
    sections["workloads"]["echo"]["machines"]["hosts"]["vm-2"]["command"]["create"] = "make-vm vm-22"
    with pytest.raises(EphemeralError, match=r"vm-2: command\.create .* Fix: "):
        ephemeral(sections, 7)


def test_nothing_to_try_is_refused() -> None:
    with pytest.raises(EphemeralError, match="no workloads"):
        ephemeral({"cluster": {}, "workloads": {}}, 7)


def test_a_stack_s_name_tells_its_pull_request() -> None:
    assert pull_request_of(stack_name(42)) == 42
    assert pull_request_of("gcp") is None
    assert pull_request_of("pr-x") is None
