"""Fleets: machines that boot with Google's guest agent by the component's template, join and leave by themselves."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from lab.cloud import PROJECT
from lab.cluster import wait_for
from lab.machines import Machine, machines
from tests.e2e.fleet import Alone, Fleet, Members
from tests.e2e.load import Load
from tests.e2e.machine import property_of
from tests.e2e.mesh import ask_kubectl, objects
from tests.e2e.stack import Stack, console
from tests.environment import Lab

pytestmark = pytest.mark.lab

TOKEN = "/run/secrets/tokens/istio-token"
CERTIFICATE_SECONDS = 60
EVERYONE_ELSE = {"vm-1", "vm-2"}


@pytest.fixture(scope="module")
def up(lab: Lab, stack: Stack) -> Iterator[Stack]:
    """The stack, with all requests going to VMs."""
    stack.restore()
    stack.change("routing.echo.weights", {"k8s": 0, "vm": 100})
    stack.up()
    yield stack
    for machine in machines(lab.instance):
        if machine.is_of_cloud:
            machine.delete()
    stack.restore()
    stack.up()


@pytest.fixture(scope="module")
def fleet(lab: Lab, up: Stack) -> Iterator[Fleet]:
    with Fleet(lab, up.outputs()["topology"]["gateway"]["address"]).allowed() as fleet:
        yield fleet


@pytest.fixture
def one(fleet: Fleet) -> Iterator[Machine]:
    """A fleet of one machine; whatever a test makes of it is gone afterwards."""
    machine = fleet.add("one")
    fleet.wait_for_members([machine])
    yield machine
    for each in machines(fleet.lab.instance):
        if each.is_of_cloud:
            each.delete()
    fleet.wait_for_members([], 30)


def journal(machine: Machine, unit: str) -> str:
    return machine.look(["journalctl", "--boot", f"--unit={unit}", "--no-pager", "--output=cat"])


def assert_it_has_only_the_token_that_it_asked_for(fleet: Fleet, machine: Machine) -> None:
    secret = machine.look(["cat", TOKEN])
    assert re.fullmatch(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", secret)
    assert machine.look(["stat", "-c", "%a %U", TOKEN]).split() == ["600", "istio-proxy"]
    for text in (machine.look(["journalctl", "--no-pager"]), machine.look(["cat", "/var/log/hybrid-mesh.log"])):
        assert "ya29." not in text
        assert not re.search(r"eyJ[\w-]+\.eyJ", text)
    assert "eyJ" not in fleet.template.metadata["startup-script"].split("base64 -d")[0]
    assert machine.look(["systemctl", "show", "--value", "--property=LoadState", "ssh"]).strip() == "masked"


@pytest.mark.full
def test_a_fleet_scales_up_and_down_with_no_ssh_no_secret_and_no_failed_request(fleet: Fleet, one: Machine) -> None:
    assert_it_has_only_the_token_that_it_asked_for(fleet, one)
    with Load(fleet.lab) as load:
        began = time.monotonic()
        more = fleet.resize(add=["two", "three", "four"])
        fleet.wait_for_members([one, *more])
        print(f"1 → 4: in after {time.monotonic() - began:.1f} s")
        names = {one.name, *(machine.name for machine in more)}
        load.wait("requests to reach all four", lambda r: {x.instance for x in r} >= names, 30)
        began = time.monotonic()
        fleet.resize(remove=[one, more[0]])
        print(f"4 → 2: gone after {time.monotonic() - began:.1f} s")
        fleet.wait_for_members(more[1:], 20)
        gone = time.time()
        load.wait("requests afterwards", lambda r: len([x for x in r if x.began > gone]) > 200, 30)
    assert [r for r in load.requests if r.status != 200] == []
    late = {r.instance for r in load.requests if r.began > gone}
    assert late == EVERYONE_ELSE | {machine.name for machine in more[1:]}
    # Everything that a fleet has to say, it says where a cloud keeps it.
    console = (fleet.lab.instance.folder / "log" / f"{more[1].program}.log").read_text()
    assert "hybrid-mesh: in the mesh: " in console
    assert "hybrid-mesh: in the mesh: " in journal(more[1], "google-startup-scripts")


@pytest.mark.full
def test_a_changed_template_rolls_through_the_group_one_by_one_with_no_failed_request(
    fleet: Fleet, one: Machine
) -> None:
    fleet = replace(fleet, surge=1)
    changed = replace(fleet, environment={"SECRET_TTL": "12h"})
    assert changed.template != fleet.template
    two = fleet.add("two")
    fleet.wait_for_members([one, two])
    with Load(fleet.lab) as load, Members(fleet) as counted:
        began = time.monotonic()
        new = changed.roll([one, two], ["three", "four"])
        print(f"2 of 2 rolled after {time.monotonic() - began:.1f} s")
        changed.wait_for_members(new, 20)
        done = time.time()
        load.wait("requests afterwards", lambda r: len([x for x in r if x.began > done]) > 200, 30)
    assert [r for r in load.requests if r.status != 200] == []
    late = {r.instance for r in load.requests if r.began > done}
    assert late == EVERYONE_ELSE | {machine.name for machine in new}
    assert counted.fewest >= 2, "there were never fewer than before"
    for machine in new:
        assert "SECRET_TTL='12h'" in machine.look(["cat", "/var/lib/istio/envoy/cluster.env"])


@pytest.mark.full
def test_status_and_doctor_tell_of_a_fleet_s_machines(fleet: Fleet, up: Stack, one: Machine) -> None:
    def ask(verb: str) -> dict[str, Any]:
        arguments = (verb, "--json", "--stack", "dev", "--config-file", str(up.file))
        answer: dict[str, Any] = json.loads(console(fleet.lab, *arguments, check=False).stdout)
        return answer

    [seen] = ask("status")["others"]
    assert (seen["address"], seen["identity"]) == (one.address, "spiffe://cluster.local/ns/demo/sa/echo")
    assert (seen["good"], seen["health"], seen["endpoint"]) == (True, "healthy", "seen by all")
    assert seen["certificate_expiry"] > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "as its proxy shows it"
    one.look(["sh", "-c", "mkdir -p /run/echo && touch /run/echo/unhealthy"])
    wait_for("it to be out of rotation", lambda: one.address not in fleet.members(), 30)
    [ill] = ask("status")["others"]
    assert (ill["good"], ill["endpoint"]) == (False, "not seen")
    [finding] = [f for f in ask("doctor")["findings"] if f["id"] == "member-unhealthy"]
    assert seen["name"] in finding["what"]
    one.look(["rm", "/run/echo/unhealthy"])
    wait_for("it to be back", lambda: one.address in fleet.members(), 30)
    assert ask("doctor")["findings"] == []


@pytest.mark.full
def test_a_rebooted_machine_asks_for_its_token_before_the_proxy_starts_and_starts_it_once(
    fleet: Fleet, one: Machine
) -> None:
    before = one.look(["cat", TOKEN])
    with Load(fleet.lab) as load:
        one.reboot()
        fleet.wait_for_members([one])
        rebooted = time.time()
        load.wait("requests to reach it", lambda r: any(x.began > rebooted and x.instance == one.name for x in r), 30)
        wait_for("the startup script to end", lambda: "exit status 0" in journal(one, "google-startup-scripts"), 60)
    assert [r for r in load.requests if r.status != 200] == []
    assert one.look(["cat", TOKEN]) != before
    assert one.look(["systemctl", "show", "--value", "--property=NRestarts", "istio"]).strip() == "0"
    assert "nothing changed and Istio is running: no restart" in journal(one, "google-startup-scripts")
    ready, app = (
        property_of(one, unit, name)
        for unit, name in (
            ("hybrid-mesh-ready.service", "ActiveEnterTimestampMonotonic"),
            ("echo.service", "ExecMainStartTimestampMonotonic"),
        )
    )
    assert 0 < ready < app


@pytest.mark.full
def test_a_recreated_machine_joins_under_its_old_name_and_knows_its_zone(fleet: Fleet, one: Machine) -> None:
    fleet.remove(one)
    fleet.wait_for_members([], 20)
    # Asked for no platform, as on Google Cloud, the agent finds out by itself.
    again = replace(fleet, environment={"CLOUD_PLATFORM": ""}).add("one")
    fleet.wait_for_members([again])
    entries = objects(fleet.lab, "workloadentries").values()
    [locality] = [e["spec"].get("locality") for e in entries if e["spec"]["address"] == again.address]
    assert locality == "europe-west3/europe-west3-a", "the agent asks the metadata server, too"


@pytest.mark.full
def test_a_machine_that_slept_past_its_certificate_comes_back_by_itself(fleet: Fleet) -> None:
    short = replace(fleet, environment={"SECRET_TTL": f"{CERTIFICATE_SECONDS}s"})
    machine = short.add("sleeper")
    try:
        fleet.wait_for_members([machine])
        machine.stop()
        fleet.wait_for_members([], 30)
        time.sleep(CERTIFICATE_SECONDS + 5)
        machine.start()
        began = time.monotonic()
        fleet.wait_for_members([machine])
        print(f"slept: in after {time.monotonic() - began:.1f} s, boot included")
    finally:
        machine.delete()
    fleet.wait_for_members([], 30)


@pytest.mark.full
def test_a_machine_with_another_service_account_is_refused_and_says_so(fleet: Fleet) -> None:
    stranger = f"stranger@{PROJECT}.iam.gserviceaccount.com"
    machine = fleet.add("stranger", replace(fleet.template, service_account=stranger))
    try:
        wait_for(
            "the startup script to fail", lambda: "exit status 1" in journal(machine, "google-startup-scripts"), 150
        )
        told = journal(machine, "google-startup-scripts")
        assert "FAILED on echo-fleet-stranger at step ready" in told
        assert "Kubernetes gives this machine's account no token of demo/echo" in told
        assert "403" in told
        assert machine.address not in fleet.members()
        console = (fleet.lab.instance.folder / "log" / f"{machine.program}.log").read_text()
        assert "not in the mesh: Kubernetes gives this machine's account no token" in console
    finally:
        machine.delete()


@pytest.mark.full
def test_a_machine_without_the_scope_for_kubernetes_is_refused_and_says_so(fleet: Fleet) -> None:
    machine = fleet.add("scopeless", replace(fleet.template, scopes=()))
    try:
        wait_for(
            "the startup script to fail", lambda: "exit status 1" in journal(machine, "google-startup-scripts"), 150
        )
        assert "Kubernetes does not know who this machine is" in journal(machine, "google-startup-scripts")
    finally:
        machine.delete()


@pytest.fixture
def alone(lab: Lab, up: Stack) -> Iterator[Alone]:
    """What one machine that is no group's needs in the cluster."""
    with Alone(lab, up.outputs()["topology"]["gateway"]["address"]).allowed() as alone:
        yield alone


@pytest.mark.full
def test_a_single_instance_does_the_same(alone: Alone) -> None:
    machine = alone.add()
    try:
        alone.wait_for_members([machine])
        assert_it_has_only_the_token_that_it_asked_for(alone, machine)
        first = machine.look(["cat", TOKEN])
        with Load(alone.lab) as load:
            load.wait("requests to reach it", lambda r: any(x.instance == machine.name for x in r), 30)
            machine.reboot()
            alone.wait_for_members([machine])
            back = time.time()
            assert machine.look(["cat", TOKEN]) != first, "it has asked for another"
            load.wait(
                "requests to reach it", lambda r: any(x.began > back and x.instance == machine.name for x in r), 30
            )
            alone.remove(machine)
            alone.wait_for_members([], 20)
            gone = time.time()
            load.wait("requests afterwards", lambda r: len([x for x in r if x.began > gone]) > 200, 30)
        assert [r for r in load.requests if r.status != 200] == []
        assert {r.instance for r in load.requests if r.began > gone} == EVERYONE_ELSE
    finally:
        if machine.exists:
            machine.delete()


def test_the_account_may_ask_for_that_token_and_nothing_else(fleet: Fleet) -> None:
    account = str(fleet.world.one("echo-fleet-role-binding").value("subjects")[0]["name"])

    def may(*what: str) -> bool:
        return ask_kubectl(fleet.lab, "auth", "can-i", *what, "--as", account, "-n", "demo").stdout.strip() == "yes"

    assert may("create", "serviceaccounts/echo", "--subresource=token")
    for verb, what in (("create", "serviceaccounts/client"), ("get", "serviceaccounts/echo")):
        assert not may(verb, what, "--subresource=token"), (verb, what)
    for verb, what in (("get", "secrets"), ("list", "pods"), ("create", "serviceaccounts"), ("get", "serviceaccounts")):
        assert not may(verb, what), (verb, what)
