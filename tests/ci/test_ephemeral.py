"""A pull request's mesh: settings of its own from those of the stack beside it."""

from __future__ import annotations

import copy
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given

from ci.ephemeral import EphemeralError, ephemeral, pull_request_of, stack_name
from hybridmesh.settings import parse
from tests.components.harness import FILES, dev_sections, gcp_sections, read_file
from tests.fuzz import MANY, random
from tests.settings.configurations import configurations
from tests.settings.test_network_rules import host
from tests.settings.test_rules import at

PORTS = [{"name": "http", "port": 8080}]


def test_the_dev_stack_s_is_valid_and_shares_no_name_with_it() -> None:
    before = dev_sections()
    made = ephemeral(before, 7, read_file)
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
    sections = gcp_sections()
    files = {"kubeconfig.gcp": "apiVersion: v1\n", "istio-sidecar.sha256": "ab" * 32}
    of_base = sections["workloads"]["shop"]["machines"]
    of_base["instances"]["shop-canary"]["protect"] = True
    for made_by in (of_base["instances"]["shop-canary"], of_base["fleets"]["shop-fleet"]):
        made_by["serviceAccount"] = "shop@my-project.iam.gserviceaccount.com"
    machines = parse(ephemeral(sections, 7, files.__getitem__), files.__getitem__).workloads["shop"].machines
    assert machines is not None
    assert (set(machines.fleets), set(machines.instances)) == ({"shop-fleet-pr-7"}, {"shop-canary-pr-7"})
    assert not machines.instances["shop-canary-pr-7"].protect, "or it could never be taken down"
    accounts = {made.service_account for made in (*machines.fleets.values(), *machines.instances.values())}
    assert accounts == {None}, "or a pull request's machines could ask for the tokens of the base's"


def test_a_workload_without_machines_of_its_own_loses_what_needs_them() -> None:
    def only_existing(sections: dict[str, Any]) -> dict[str, Any]:
        del sections["workloads"]["echo"]["machines"]["hosts"]["vm-2"]
        return sections

    made = ephemeral(only_existing(dev_sections()), 7, read_file)
    assert "machines" not in made["workloads"]["echo"]
    assert "routing" not in made
    parse(made, read_file)


def exists(number: int) -> dict[str, Any]:
    return {"hosts": {f"old-{number}": host(f"192.0.2.{number}")}}


def test_its_namespaces_are_made_though_those_that_they_come_from_were_there() -> None:
    sections = dev_sections()
    sections["namespaces"] = {"demo": {"existing": True}}
    assert not parse(ephemeral(sections, 7, read_file), read_file).namespaces["demo-pr-7"].existing


def test_a_machine_that_is_lost_there_is_not_made_anew_here() -> None:
    def made_by(name: str) -> dict[str, Any]:
        return {"create": f"make {name}", "delete": f"remove {name}", "agent": True}

    sections = dev_sections()
    hosts = sections["workloads"]["echo"]["machines"]["hosts"]
    hosts["vm-3"] = {"lost": True, "command": made_by("vm-3")}
    hosts["vm-4"] = {"lost": False, "locality": "eu/a", "command": made_by("vm-4")}
    made = ephemeral(sections, 7, read_file)["workloads"]["echo"]["machines"]["hosts"]
    assert set(made) == {"vm-2-pr-7", "vm-4-pr-7"}
    assert made["vm-4-pr-7"] == {"locality": "eu/a", "command": made_by("vm-4-pr-7")}


def test_files_of_machines_that_are_left_out_need_not_be_here_and_those_of_others_must() -> None:
    def read(path: str) -> str:
        if "vm-1" in path:
            raise FileNotFoundError(2, "No such file or directory", path)
        return read_file(path)

    parse(ephemeral(dev_sections(), 7, read), read)
    sections = dev_sections()
    at("workloads/echo/pods/image", {"fromFile": "vm-1"})(sections)
    with pytest.raises(EphemeralError, match=r"cannot read this file: No such file"):
        ephemeral(sections, 7, read)


def test_a_workload_that_only_existing_machines_run_is_left_out_with_all_that_names_it() -> None:
    sections = dev_sections()
    sections["workloads"]["old"] = {"namespace": "old", "ports": PORTS, "machines": exists(50)}
    sections["workloads"]["client"]["ports"] = PORTS
    sections["namespaces"] = {"old": {"trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}}
    sections["routing"]["old"] = {"weights": {"vm": 100}}
    sections["access"] = {
        "old": {"allow": [{"from": ["client"]}]},
        "echo": {
            "allow": [
                {"from": ["old", "client"]},
                {"from": ["old"], "namespaces": ["old"]},
                {"from": ["old"], "principals": ["cluster.local/ns/x/sa/y"]},
            ],
            "deny": [{"from": ["old"], "methods": ["POST"]}],
        },
        "client": {"default": "allow", "deny": [{"from": ["old"]}]},
    }
    made = ephemeral(sections, 7, read_file)
    assert set(made["workloads"]) == {"echo", "client"}
    assert set(made["routing"]) == {"echo"}
    assert "namespaces" not in made
    others = [{"namespaces": ["old-pr-7"]}, {"principals": ["cluster.local/ns/x/sa/y"]}]
    assert made["access"] == {"echo": {"allow": [{"from": ["client"]}, *others], "deny": []}}
    alone = {**sections, "workloads": {"old": sections["workloads"]["old"]}, "routing": {}, "access": {}}
    with pytest.raises(EphemeralError, match="nothing is left"):
        ephemeral(alone, 7, read_file)


def test_pods_whose_machines_are_left_out_lose_what_is_for_machines() -> None:
    sections = dev_sections()
    sections["networks"] = {"dc": {"gateway": {"hosts": {"gw-1": host("198.51.100.5")}}}, "edge": {"direct": True}}
    shape = {"logLevel": "debug", "accessLog": "errors"}
    sections["workloads"]["client"] |= {"machines": exists(51), "network": "dc", "sidecar": shape}
    sections["workloads"]["echo"]["network"] = "edge"
    made = ephemeral(sections, 7, read_file)
    assert made["networks"] == {"edge": {"direct": True}}
    assert made["workloads"]["client"]["sidecar"] == {"accessLog": "errors"}
    assert not made["workloads"]["client"].keys() & {"machines", "network"}
    sections["workloads"]["echo"]["network"] = "dc"
    del sections["networks"]["edge"]
    with pytest.raises(EphemeralError, match=r"workloads\.echo\.network: the gateway of network dc .* Fix: "):
        ephemeral(sections, 7, read_file)


def test_what_there_is_once_in_a_cluster_stays_the_owner_s() -> None:
    sections = dev_sections()
    canary = {"version": "1.31.0", "values": {"a": 1}, "charts": {"path": "x"}}
    sections["controlPlane"]["revisions"] = {"canary": canary}
    sections["observability"] = {"image": "metrics:1", "scrapers": ["10.0.0.0/8"]}
    made = ephemeral(sections, 7, read_file)
    assert made["controlPlane"]["revisions"] == {"canary": {"version": "1.31.0"}}
    assert "observability" not in made


def test_a_service_entry_s_hosts_are_its_own_wherever_they_are_named() -> None:
    sections = dev_sections()
    sections["workloads"]["echo"]["service"] = {"kind": "ServiceEntry", "hosts": ["shop.vm.internal"]}
    hosts = ["demo/*", "./shop.vm.internal", "*/echo.demo.svc.cluster.local", "istio-system/*", "./x.example.com"]
    sections["sidecar"]["egress"] = {"hosts": hosts}
    sections["workloads"]["client"]["sidecar"] = {"egress": {"hosts": ["demo/*"]}}
    made = ephemeral(sections, 7, read_file)
    assert made["workloads"]["echo"]["service"]["hosts"] == ["shop-pr-7.vm.internal"]
    assert made["sidecar"]["egress"]["hosts"] == [
        "demo-pr-7/*",
        "./shop-pr-7.vm.internal",
        "*/echo.demo-pr-7.svc.cluster.local",
        "istio-system/*",
        "./x.example.com",
    ]
    assert made["workloads"]["client"]["sidecar"]["egress"]["hosts"] == ["demo-pr-7/*"]


HOST = "workloads/echo/machines/hosts/vm-2"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("workloads/echo/namespace", {"fromFile": "name"}, "workloads.echo.namespace is not written out"),
        (f"{HOST}/command/delete", {"fromFile": "name"}, "vm-2.command.delete is not written out"),
        (f"{HOST}/meshAddress", "10.0.0.7", "vm-2.meshAddress is that of one machine"),
        (
            "workloads/echo/namespace",
            "Demo",
            "the stack file that it comes from is wrong.\n  hybrid-mesh:workloads.echo",
        ),
        ("workloads/echo/namespace", "x" * 60, "no mesh of a pull request's own can be made of the stack file.\n"),
    ],
)
def test_what_can_have_no_name_of_its_own_is_refused(path: str, value: object, said: str) -> None:
    sections = dev_sections()
    at(path, value)(sections)
    with pytest.raises(EphemeralError, match=re.escape(said)):
        ephemeral(sections, 7, {**FILES, "name": "demo"}.__getitem__)


def with_names(base: dict[str, Any]) -> dict[str, Any]:
    """Settings with commands that name their machines, and another istiod."""
    sections = copy.deepcopy(base)
    with suppress(AttributeError, KeyError, TypeError):  # what is spoilt has no such places
        if sections["controlPlane"]["mode"] == "install":
            sections["controlPlane"]["revisions"] = {"canary": {"values": {"autoscaleEnabled": False}}}
        for workload in sections["workloads"].values():
            for name, machine in workload.get("machines", {}).get("hosts", {}).items():
                if "command" in machine:
                    machine["command"] |= {"create": f"make {name}", "delete": f"remove {name}"}
    return sections


def outcome(sections: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    try:
        return ephemeral(sections, 7, read_file), ""
    except EphemeralError as error:
        return None, str(error)


def test_random_settings_end_in_settings_of_a_mesh_of_its_own_or_in_a_message() -> None:
    ends = {"made": 0, "message": 0}

    @random()
    @given(configurations())
    def one(base: dict[str, Any]) -> None:
        made, message = outcome(with_names(base))
        assert "no mesh of a pull request's own" not in message, "what is not foreseen, and the parser had to find"
        ends["message" if made is None else "made"] += 1
        if made is not None:
            assert parse(made, read_file)

    one()
    assert MANY < 50 or ends["made"] > 0.2 * MANY, ends


def test_access_rules_name_the_new_namespaces() -> None:
    sections = dev_sections()
    rule = {"principals": ["cluster.local/ns/demo/sa/a", "cluster.local/ns/other/sa/b"], "namespaces": ["demo", "x"]}
    sections["access"] = {"echo": {"allow": [rule]}}
    made = ephemeral(sections, 12, read_file)
    assert made["access"]["echo"]["allow"] == [
        {
            "principals": ["cluster.local/ns/demo-pr-12/sa/a", "cluster.local/ns/other/sa/b"],
            "namespaces": ["demo-pr-12", "x"],
        }
    ]


def test_a_command_that_does_not_name_its_machine_is_refused() -> None:
    sections = dev_sections()
    sections["workloads"]["echo"]["machines"]["hosts"]["vm-2"]["command"]["create"] = "make-vm vm-22"
    with pytest.raises(EphemeralError, match=r"vm-2\.command\.create .* Fix: "):
        ephemeral(sections, 7, read_file)


def test_nothing_to_try_is_refused() -> None:
    sections = {**dev_sections(), "workloads": {}, "routing": {}}
    with pytest.raises(EphemeralError, match="no workloads"):
        ephemeral(sections, 7, read_file)


def test_a_stack_s_name_tells_its_pull_request() -> None:
    assert pull_request_of(stack_name(42)) == 42
    assert pull_request_of("gcp") is None
    assert pull_request_of("pr-x") is None
