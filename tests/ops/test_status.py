"""What the console says of a stack's machines."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.live import Live
from rich.text import Text
from typer.testing import CliRunner

from hybridmesh.__main__ import app
from hybridmesh.ops import status, topology
from hybridmesh.ops.console import Console
from hybridmesh.ops.look import Seen, Source, View
from hybridmesh.ops.mesh import NOTHING
from hybridmesh.ops.status_page import page
from hybridmesh.ops.statuses import (
    MachineStatus,
    machine_status,
    machine_statuses,
    other_statuses,
    remaining,
    workload_statuses,
)
from tests.components.harness import PROJECT_ROOT
from tests.ops.probed import (
    ADDRESS,
    HOST,
    MANIFEST,
    NOW,
    TOPOLOGY,
    UNHEALTHY,
    endpoint,
    entry,
    machine_facts,
    member,
    mesh_facts,
    state,
)

ENTRY = f"demo/echo-{ADDRESS}-embedded"
MACHINE = TOPOLOGY["machines"]["vm-1"]
GOOGLE = {"kind": "fleet", "workload": "echo", "serviceAccount": "echo@p.iam.gserviceaccount.com"}
NETWORKS = {
    "far": {"direct": False, "gateways": ["gw-1"], "addresses": ["10.9.0.1:15443"]},
    "near": {"direct": True, "gateways": [], "addresses": []},
    "callers": {"direct": False, "gateways": [], "addresses": []},
}


def judged(seen: Seen | None = None, **mesh: Any) -> MachineStatus:
    return machine_status("vm-1", MACHINE, TOPOLOGY["workloads"]["echo"], mesh_facts(**mesh), seen or Seen())


def view(seen: Mapping[str, Seen] | None = None, **mesh: Any) -> View:
    machines = {"vm-1": Seen(facts=machine_facts())} if seen is None else seen
    return View(
        topology={**TOPOLOGY, "networks": NETWORKS},
        mesh=mesh_facts(**mesh),
        mesh_refusal="",
        machines=machines,
        now=NOW,
    )


def run(monkeypatch: pytest.MonkeyPatch, what: View, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(status, "look", lambda *_, **__: what)
    monkeypatch.setattr(Source, "topology", lambda _self: what.topology)
    result = CliRunner().invoke(app, ["status", *arguments])
    return result.exit_code, result.stdout


# ---------------------------------------------------------------------- one machine


def test_a_machine_that_is_in_sync_and_healthy_is_good() -> None:
    assert judged().good


def test_a_machine_without_an_entry_is_not_connected() -> None:
    found = judged(entries={})
    assert not found.good
    assert found.sync == "not connected to istiod"


def test_a_type_that_is_not_acknowledged_is_named() -> None:
    found = judged(states={"demo": [state(acked="n0")]})
    assert not found.good
    assert "Listener" in found.sync


def test_a_machine_of_which_istiod_could_not_be_asked_is_not_called_unseen() -> None:
    blind = judged(endpoints=None)
    assert (blind.good, blind.endpoint) == (True, "not known")


@pytest.mark.parametrize("said", ["dial tcp [fd00::5]:8080: connection refused", "no file [/etc/istio/x]", "a\\[b]"])
def test_what_a_probe_says_is_shown_with_its_brackets(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    unhealthy = {"conditions": [{"type": "Healthy", "status": "False", "message": said}]}
    code, text = run(monkeypatch, view(entries={ENTRY: entry(status=unhealthy)}))
    assert (code, " ".join(said.split()) in " ".join(text.split())) == (1, True), text


def test_what_a_probe_says_steers_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    unhealthy = {"conditions": [{"type": "Healthy", "status": "False", "message": "\x1b[2J\x9b1A gone"}]}
    _, text = run(monkeypatch, view(entries={ENTRY: entry(status=unhealthy)}))
    assert ("\\x1b[2J\\x9" in text, "b1A gone" in text) == (True, True), "all of it, in as many lines as it takes"
    assert not {"\x1b", "\x9b"} & {*text}


def test_what_a_probe_or_envoy_says_in_lines_is_told_in_one_and_cannot_pass_for_another_machine_s() -> None:
    forged = "gone\n\n● vm-2   192.0.2.12  seen by all  in sync  healthy"
    unhealthy = {"conditions": [{"type": "Healthy", "status": "False", "message": forged}]}
    refused = {"demo": [{**state(lastError=forged, acked="n0"), "proxy": "vm-1.demo"}]}
    for mesh in ({"entries": {ENTRY: entry(status=unhealthy)}}, {"states": refused}):
        lines = on_a_terminal(view(**mesh), 200)
        assert [line for line in lines if line.startswith("● vm-2")] == []
        assert any("gone ● vm-2 192.0.2.12 seen by all" in line for line in lines), lines


def test_colours_stay_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard")
    with Live(console=console, auto_refresh=False) as live:
        live.update(Text("a\x1b[8mb", "red"), refresh=True)
    assert "\x1b[31ma\\x1b[8mb\x1b[0m" in console.file.getvalue()  # type: ignore[attr-defined]  # it is the one above


def test_every_verb_prints_by_the_one_console() -> None:
    files = [file for file in (PROJECT_ROOT / "hybridmesh").rglob("*.py") if file.name != "console.py"]
    assert len(files) > 50
    assert [file.name for file in files if re.search(r"rich\.console import .*\bConsole\b", file.read_text())] == []


def on_a_terminal(what: View, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(page(what, machine_statuses(what), workload_statuses(what)))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_on_a_terminal_of_80_columns_a_machine_is_a_line_without_what_is_long() -> None:
    lines = on_a_terminal(view(), 80)
    assert "● vm-1   192.0.2.11  seen by all  in sync  healthy  23 h left    nothing" in lines, lines
    (row,) = [line for line in on_a_terminal(view(), 200) if line.startswith("● vm-1")]
    for more in ("spiffe://cluster.local/ns/demo/sa/echo", "1.31.0", "until 2026-11-26T11:00:00Z"):
        assert more in row


@pytest.mark.parametrize(("width", "row"), [(80, "not in sync  unhealthy"), (200, "not in sync  status 503")])
def test_what_is_too_long_for_the_table_is_told_below_it(width: int, row: str) -> None:
    proxy = {**state(acked="n0"), "proxy": "vm-1.demo"}
    lines = on_a_terminal(view(entries={ENTRY: entry(status=UNHEALTHY)}, states={"demo": [proxy]}), width)
    assert any(row.replace("unhealthy", "status 503") in line for line in lines), lines
    told = "vm-1: not in sync: its proxy has not acknowledged Listener. Look at /var/log/istio on the VM."
    assert told in " ".join(lines)
    said = "dial tcp 127.0.0.1:8080: connect: connection refused"
    unhealthy = {"conditions": [{"type": "Healthy", "status": "False", "message": said}]}
    assert f"vm-1: unhealthy: {said}" in on_a_terminal(view(entries={ENTRY: entry(status=unhealthy)}), width)


def test_into_a_pipe_lines_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "a-service-" * 30
    found = view()
    topology = {**found.topology, "workloads": {**TOPOLOGY["workloads"], long: TOPOLOGY["workloads"]["client"]}}
    _, text = run(monkeypatch, replace(found, topology=topology))
    assert f"workload  {long}: 1 pod(s)" in text.splitlines()


def test_machines_stand_by_their_numbers() -> None:
    machines = dict.fromkeys(("vm-10", "vm-2", "vm-1"), MACHINE)
    found = replace(view({}), topology={**TOPOLOGY, "machines": machines})
    assert [machine.name for machine in machine_statuses(found)] == ["vm-1", "vm-2", "vm-10"]


def test_a_stack_without_machines_says_so() -> None:
    empty = replace(view({}), topology={**TOPOLOGY, "machines": {}})
    assert "The stack has no machines." in on_a_terminal(empty, 80)
    fleet = replace(empty, topology={**empty.topology, "google": {"fleet-2": GOOGLE, "fleet-10": GOOGLE}})
    assert "No machine of fleet-2, fleet-10 is in the mesh." in on_a_terminal(fleet, 80)


def test_an_unhealthy_app_says_what_the_probe_said() -> None:
    found = judged(entries={ENTRY: entry(status=UNHEALTHY)})
    assert not found.good
    assert found.health == "status 503"


def test_a_machine_without_a_probe_is_good_and_called_unprobed() -> None:
    unprobed = entry(status=UNHEALTHY)  # of when it had one
    del unprobed["metadata"]["annotations"]["proxy.istio.io/health-checks-enabled"]
    found = judged(entries={ENTRY: unprobed})
    assert found.good
    assert found.health == "not probed"


def test_a_probe_that_has_not_answered_yet_is_not_called_none() -> None:
    found = judged(entries={ENTRY: entry(status={})})
    assert (found.healthy, found.good) == (False, False), "as istiod has it"
    assert found.health == "the probe has not answered yet"


def test_a_machine_that_others_are_not_told_of_is_not_good() -> None:
    found = judged(endpoints=[])
    assert (found.endpoint, found.good) == ("not seen", False)
    others = [endpoint("192.0.2.12", "vm"), replace(endpoint(ADDRESS, "vm"), service="other.demo.svc.cluster.local")]
    for known in (others, [*others, replace(endpoint(ADDRESS, "vm"), healthy=False)]):
        assert judged(endpoints=known).endpoint == "not seen", "others' endpoints, and one that is ill, are none of it"
    caller = machine_status("vm-1", MACHINE, None, mesh_facts(endpoints=[]), Seen())
    assert (caller.endpoint, caller.good) == ("has no service", True)
    unnamed = machine_status("vm-1", MACHINE, TOPOLOGY["workloads"]["client"], mesh_facts(endpoints=[]), Seen())
    assert (unnamed.endpoint, unnamed.good) == ("has no service", True)


@pytest.mark.parametrize(
    ("seen", "shown", "expiry", "of"),
    [
        (Seen(facts=machine_facts()), {}, "2026-11-26T11:00:00Z", "now"),
        (Seen(), {"vm-1": NOW + timedelta(hours=3)}, "2026-11-25T15:00:00Z", "now"),
        (Seen(), {}, MACHINE["certificateExpiry"], "join"),
    ],
)
def test_the_certificate_is_the_one_that_it_has_where_that_can_be_known(
    seen: Seen, shown: Mapping[str, Any], expiry: str, of: str
) -> None:
    found = judged(seen, certificates=shown)
    assert (found.certificate_expiry, found.certificate_of) == (expiry, of)


def test_a_certificate_of_the_join_is_not_called_ended_for_it_was_renewed_unseen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shown(later: timedelta) -> str:
        return " ".join(run(monkeypatch, replace(view({}, certificates={}), now=NOW + later))[1].split())

    assert "23 h left, until 2026-11-26T11:00:00Z (of its join)" in shown(timedelta())
    for later in (timedelta(hours=12), timedelta(days=30)):
        assert "not known (joined until 2026-11-26T11:00:00Z)" in shown(later)
        assert "ENDED" not in shown(later)


def test_a_certificate_that_was_seen_is_told_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {"vm-1": NOW + timedelta(hours=3)}
    shown = " ".join(run(monkeypatch, view({}, certificates=seen))[1].split())
    assert "3 h left, until 2026-11-25T15:00:00Z" in shown
    assert "of its join" not in shown
    over = replace(view({}, certificates=seen), now=NOW + timedelta(hours=4))
    assert "ENDED, until 2026-11-25T15:00:00Z" in " ".join(run(monkeypatch, over)[1].split())


def test_the_version_and_changes_by_hand_are_the_machines_own_word() -> None:
    facts = machine_facts({"version": "1.30.2", "manifest": MANIFEST.replace("enabled", "disabled")})
    found = judged(Seen(facts=facts))
    assert found.sidecar_version == "1.30.2"
    assert found.drift == ("unit istio.service: now disabled, was enabled",)
    assert judged().drift is None, "nobody asked"


# ---------------------------------------------------------------------- the split


def test_the_split_is_measured_by_all_that_call() -> None:
    [split] = workload_statuses(view())
    assert split.requests == {"k8s": 893, "vm": 114}, "the pods' and the machine's"
    assert {name: round(share, 1) for name, share in split.measured.items()} == {"k8s": 88.7, "vm": 11.3}


def test_a_split_can_be_measured_since_an_earlier_look() -> None:
    earlier = {f"outbound|8080|k8s|{HOST}": 800, f"outbound|8080|vm|{HOST}": 100}
    [split] = workload_statuses(view({}), earlier)
    assert split.requests == {"k8s": 93, "vm": 7}
    [one] = workload_statuses(view({}), {f"outbound|8080|k8s|{HOST}": 893, f"outbound|8080|vm|{HOST}": 100})
    assert one.requests == {"k8s": 0, "vm": 7}, "one of them was not called since"
    [anew] = workload_statuses(view({}), {f"outbound|8080|k8s|{HOST}": 5000})
    assert anew.requests == {"k8s": 893, "vm": 107}, "a proxy that began to count anew is counted from nothing"


def test_nothing_is_measured_where_nobody_called(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = view({}, requests={})
    [split] = workload_statuses(silent)
    assert split.measured == {}
    assert "split k8s 90 %, vm 10 % (no requests to measure)" in run(monkeypatch, silent)[1]


# ---------------------------------------------------------------------- the verb


@pytest.mark.parametrize(("mesh", "code"), [({}, 0), ({"entries": {}}, 1)])
def test_the_verb_ends_with_1_where_a_machine_is_out(
    monkeypatch: pytest.MonkeyPatch, mesh: Mapping[str, Any], code: int
) -> None:
    ended, text = run(monkeypatch, view(**mesh))
    assert ended == code
    for part in ("vm-1", MACHINE["identity"], "23 h left", "k8s 90 %, vm 10 %", "192.0.2.100, 1 ready"):
        assert part in text
    assert "measured k8s 88.7 %, vm 11.3 % of 1007 requests" in text


def test_each_workload_and_each_column_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = view()
    workloads = seen.topology["workloads"]
    fleet = {**workloads["client"], "pods": None}
    found = replace(seen, topology={**seen.topology, "workloads": {**workloads, "fleet": fleet}})
    lines = [line.rstrip() for line in run(monkeypatch, found)[1].splitlines()]
    split = "split k8s 90 %, vm 10 % (measured k8s 88.7 %, vm 11.3 % of 1007 requests)"
    assert [line for line in lines if line.startswith("workload")] == [
        "workload  client: 1 pod(s)",
        f"workload  echo: 2 pod(s) and machines vm-1, as {HOST}, {split}",
        "workload  fleet: machines on Google Cloud",
    ]
    [header] = [line for line in lines if line.startswith("machine ")]
    names = ("machine", "identity", "address", "endpoint", "sidecar", "sync", "health", "certificate", "by", "hand")
    assert tuple(header.split()) == names


def test_the_stack_and_file_that_are_named_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Source] = []

    def look(source: Source, *_: object, **__: object) -> View:
        asked.append(source)
        return view()

    monkeypatch.setattr(status, "look", look)
    monkeypatch.setattr(Source, "topology", lambda _self: TOPOLOGY)
    CliRunner().invoke(app, ["status", "--stack", "gcp", "--config-file", "other.yaml"])
    assert asked == [Source(stack="gcp", config_file=Path("other.yaml"))]


def test_the_way_into_each_network_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run(monkeypatch, view())[1].splitlines()
    for line in (
        "network   far: reached through gw-1 at 10.9.0.1:15443",
        "network   near: reached directly",
        "network   callers: its machines call, and are not called",
    ):
        assert line in [s.rstrip() for s in shown]


def with_a_member(**changes: Any) -> View:
    made = member(**changes)
    known = {f"demo/echo-{ADDRESS}-embedded": entry(), "demo/echo-192.0.2.77": made}
    return view(entries=known, endpoints=[endpoint(ADDRESS, "vm"), endpoint("192.0.2.77", "vm")])


def test_machines_that_joined_by_themselves_have_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = run(monkeypatch, with_a_member())
    [row] = [line for line in text.splitlines() if "echo-192.0.2.77" in line]
    assert code == 0
    assert row.split() == [
        *("●", "echo-192.0.2.77", MACHINE["identity"], "192.0.2.77", "seen", "by", "all", "not", "asked", "connected"),
        *("healthy", "not", "known", "not", "asked"),
    ]
    code, text = run(monkeypatch, with_a_member(status=UNHEALTHY))
    assert (code, "status 503" in text) == (1, True)


def test_of_machines_that_joined_by_themselves_the_certificate_that_they_show_is_told() -> None:
    known = replace(with_a_member().mesh or NOTHING, certificates={"echo-192.0.2.77": NOW + timedelta(hours=5)})
    [found] = other_statuses(replace(with_a_member(), mesh=known))
    assert (found.certificate_expiry, found.certificate_of) == ("2026-11-25T17:00:00Z", "now")


def test_what_leaves_or_is_not_the_stack_s_has_none() -> None:
    gone, stranger, static = member(), member(), member()
    gone["metadata"]["annotations"]["istio.io/disconnectedAt"] = "2026-11-25T11:30:00Z"
    stranger["metadata"]["annotations"]["istio.io/autoRegistrationGroup"] = "elsewhere"
    del static["metadata"]["annotations"]["istio.io/autoRegistrationGroup"]
    elsewhere = member()
    elsewhere["metadata"]["namespace"] = "other"
    for each in (gone, stranger, static, elsewhere):
        assert other_statuses(view(entries={"demo/x": each})) == []


def test_fleets_have_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    account = "echo-fleet@p.iam.gserviceaccount.com"
    seen = view()
    google = {"echo-fleet": {"kind": "fleet", "workload": "echo", "serviceAccount": account}}
    shown = run(monkeypatch, replace(seen, topology={**seen.topology, "google": google}))[1]
    assert f"fleet     echo-fleet: of echo, on Google Cloud as {account}" in shown


def row(text: str) -> str:
    """The row of `vm-1`."""
    [line] = [line for line in text.splitlines() if line[1:].startswith(" vm-1 ")]
    return line.rstrip()


def test_changes_by_hand_and_machines_that_were_not_asked_have_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    drifted = Seen(facts=machine_facts({"manifest": MANIFEST.replace("enabled", "disabled")}))
    code, text = run(monkeypatch, view({"vm-1": drifted}))
    assert (code, "vm-1: changed by hand: unit istio.service: now disabled" in text) == (0, True)
    assert (row(text)[0], row(text).endswith("1 change")) == ("▲", True)
    well = row(run(monkeypatch, view())[1])
    assert (well[0], well.endswith("nothing")) == ("●", True)
    code, text = run(monkeypatch, view({"vm-1": Seen(refusal="no answer. Fix: start it.")}))
    assert (code, "vm-1: not asked over SSH: no answer. Fix: start it." in text) == (0, True)
    assert (row(text)[0], row(text).endswith("not asked")) == ("▲", True)


def test_a_gateway_whose_pods_are_not_known_is_not_called_down(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = run(monkeypatch, view(gateways=None))
    line = "gateway   istio-eastwestgateway at 192.0.2.100, its pods are not known"
    assert (code, line in [s.rstrip() for s in text.splitlines()]) == (0, True)
    assert "at 192.0.2.100, NONE READY" in run(monkeypatch, view(gateways=0))[1]


def test_json_has_all_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    document = json.loads(run(monkeypatch, view(), "--json")[1])
    [machine], [workload] = document["machines"], document["workloads"]
    assert (machine["good"], machine["endpoint"], machine["certificate_of"]) == (True, "seen by all", "now")
    assert (workload["wanted"], workload["requests"]) == ({"k8s": 90, "vm": 10}, {"k8s": 893, "vm": 114})
    assert (document["istiods"], document["revisions"], document["gateways"]) == (1, {"default": 1}, 1)


def test_json_has_machines_that_joined_by_themselves_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    document = json.loads(run(monkeypatch, with_a_member(status=UNHEALTHY), "--json")[1])
    assert [(machine["name"], machine["good"]) for machine in document["machines"]] == [("vm-1", True)]
    assert [(machine["name"], machine["good"]) for machine in document["others"]] == [("echo-192.0.2.77", False)]


def test_machines_are_asked_over_ssh_unless_nobody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def look(_source: Source, _topology: object, names: list[str], **_: bool) -> View:
        asked.append(list(names))
        return view()

    monkeypatch.setattr(status, "look", look)
    monkeypatch.setattr(Source, "topology", lambda _self: TOPOLOGY)
    for options in ([], ["--no-ssh"]):
        assert CliRunner().invoke(app, ["status", *options]).exit_code == 0
    assert asked == [["vm-1"], []]


def test_each_istiod_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run(monkeypatch, view(istiods={"default": 0, "canary": 1}))[1].splitlines()
    for line in (
        "istiod    1.31.0, revision default, trust domain cluster.local, NONE READY",
        "istiod    revision canary, 1 ready",
    ):
        assert line in [s.rstrip() for s in shown]


def test_a_cluster_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    blind = replace(view(), mesh=None, mesh_refusal="the API server did not answer")
    monkeypatch.setattr(status, "look", lambda *_, **__: blind)
    monkeypatch.setattr(Source, "topology", lambda _self: TOPOLOGY)
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 1
    assert "did not answer" in result.output


def test_changes_by_hand_that_could_not_be_read_are_neither_some_nor_none(monkeypatch: pytest.MonkeyPatch) -> None:
    hung = {"vm-1": Seen(facts=machine_facts({"manifest": "", "unread": "manifest"}))}
    code, text = run(monkeypatch, view(hung))
    assert code == 0
    assert text.splitlines()[-1].endswith("not asked")
    assert "changed by hand" not in text


def test_of_a_machine_whose_entry_nobody_here_may_read_nothing_is_known() -> None:
    shown = judged(entries={}, blind={"demo"})
    assert (shown.sync, shown.health, shown.healthy, shown.good) == ("not known", "not known", None, False)
    shown = judged(entries={}, blind={"shop"}, states={})
    assert (shown.sync, shown.good) == ("not connected to istiod", False)


def test_what_keeps_all_machines_from_being_asked_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = {f"vm-{n}": TOPOLOGY["machines"]["vm-1"] for n in (1, 2, 10)}
    refused = {name: Seen(refusal="no passphrase.") for name in ("vm-1", "vm-10")} | {"vm-2": Seen(refusal="off.")}
    many = replace(view(refused), topology={**TOPOLOGY, "machines": machines})
    lines = [line.rstrip() for line in run(monkeypatch, many)[1].splitlines() if "not asked over SSH" in line]
    assert lines == ["vm-1, vm-10: not asked over SSH: no passphrase.", "vm-2: not asked over SSH: off."]


REFUSED = "could not list pods in istio-system: 403 Forbidden. Not known for that: whether istiod default runs."


def test_what_could_not_be_read_is_said_and_no_machine_is_called_well_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    blind = view(states={}, endpoints=None, istiods={"default": None}, gateways=None, unread=[REFUSED])
    code, text = run(monkeypatch, blind)
    assert code == 1
    lines = [line.rstrip() for line in text.splitlines()]
    assert f"not seen: {REFUSED}" in lines
    assert "istiod    1.31.0, revision default, trust domain cluster.local, not known whether it runs" in lines
    assert "✗ vm-1" in text
    assert "istiod does not list" not in text, "nobody asked it"
    document = json.loads(run(monkeypatch, blind, "--json")[1])
    assert (document["istiods"], document["revisions"], document["notSeen"]) == (None, {"default": None}, [REFUSED])
    assert document["machines"][0]["sync"] == "not known"
    assert json.loads(run(monkeypatch, view(), "--json")[1])["notSeen"] == []


def test_watching_asks_the_mesh_each_time_and_machines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    clock = iter([0.0, 10.0, 20.0, 31.0, 31.5])

    def look(_source: Source, _topology: object, names: list[str], **_: bool) -> View:
        asked.append(len(names))
        return view({} if not names else None)

    def pause(_seconds: float) -> None:
        if len(asked) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(status, "look", look)
    monkeypatch.setattr(time, "sleep", pause)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock, 40.0))
    monkeypatch.setattr(Source, "topology", lambda _self: TOPOLOGY)
    result = CliRunner().invoke(app, ["status", "--watch"])
    assert result.exit_code == 130
    assert asked == [1, 0, 0, 1, 0]


def watched(monkeypatch: pytest.MonkeyPatch, *views: View) -> str:
    """What is printed of one look after another."""
    looks = iter(views)

    def pause(_seconds: float) -> None:
        if len(views) == looked[0]:
            raise KeyboardInterrupt

    def look(*_: object, **__: bool) -> View:
        looked[0] += 1
        return next(looks)

    looked = [0]
    monkeypatch.setattr(status, "look", look)
    monkeypatch.setattr(time, "sleep", pause)
    monkeypatch.setattr(Source, "topology", lambda _self: views[0].topology)
    return CliRunner().invoke(app, ["status", "--watch", "--no-ssh"]).stdout


def test_watching_a_cluster_that_answers_no_more_says_since_when(monkeypatch: pytest.MonkeyPatch) -> None:
    minutes = [NOW + timedelta(minutes=n) for n in range(4)]
    blind = [replace(view(), mesh=None, mesh_refusal="it did not answer", now=minute) for minute in minutes[1:3]]
    text = watched(monkeypatch, view(), *blind, replace(view(), now=minutes[3]))
    seen, since = (f"{minute.astimezone():%H:%M:%S}" for minute in minutes[:2])
    said = f"as seen at {seen}; the API server has not answered since {since}: it did not answer"
    assert text.count(said) == 2, text
    assert text.count("● vm-1") == 4, "each look is printed where there is no terminal"
    assert text.rindex(said) < text.rindex("cluster   embedded"), "it is over"


def test_watching_goes_on_where_the_state_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[tuple[list[str], bool]] = []
    clock = iter([0.0, 31.0, 31.0, 32.0])

    def look(_source: Source, _topology: object, names: list[str], certificates: bool = False, **_: bool) -> View:
        looked.append((list(names), certificates))
        return view()

    def pause(_seconds: float) -> None:
        if len(looked) == 3:
            raise KeyboardInterrupt

    states = [TOPOLOGY]

    def topology_of(_self: Source) -> dict[str, Any]:
        if not states:
            raise topology.StackError("no route to host")
        return states.pop()

    monkeypatch.setattr(status, "look", look)
    monkeypatch.setattr(time, "sleep", pause)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock, 40.0))
    monkeypatch.setattr(Source, "topology", topology_of)
    result = CliRunner().invoke(app, ["status", "--watch"])
    assert result.exit_code == 130, "ended by hand, and not by the state"
    assert result.stdout.count("the stack's state cannot be read since") == 1
    assert "no route to host" in " ".join(result.stdout.split())
    assert looked == [(["vm-1"], True), (["vm-1"], True), ([], False)]


@pytest.mark.parametrize("terminal", [False, True])
def test_watching_shows_what_came_since_beside_what_machines_said_last(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    drifted = Seen(facts=machine_facts({"manifest": MANIFEST.replace("enabled", "disabled")}))
    looks, printed = [view({"vm-1": drifted}), view({}, entries={})], StringIO()

    def pause(_seconds: float) -> None:
        if not looks:
            raise KeyboardInterrupt

    monkeypatch.setattr(status, "look", lambda *_, **__: looks.pop(0))
    monkeypatch.setattr(status, "_console", lambda: Console(file=printed, force_terminal=terminal, width=300))
    monkeypatch.setattr(time, "sleep", pause)
    monkeypatch.setattr(Source, "topology", lambda _self: TOPOLOGY)
    looks.append(looks[-1])
    CliRunner().invoke(app, ["status", "--watch"])
    text = Text.from_ansi(printed.getvalue()).plain
    before, after = text.index("▲ vm-1"), text.rindex("✗ vm-1")
    assert before < after
    assert "not connected to istiod" in text[after:]
    assert "vm-1: changed by hand: unit istio.service: now disabled" in text[after:]


def test_watching_shows_what_is_not_well_first(monkeypatch: pytest.MonkeyPatch) -> None:
    text = watched(monkeypatch, replace(with_a_member(status=UNHEALTHY), machines={}))
    assert text.index("✗ echo-192.0.2.77") < text.index("● vm-1")


def test_watching_and_json_are_two_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Source, "topology", lambda _self: TOPOLOGY)
    result = CliRunner().invoke(app, ["status", "--watch", "--json"])
    assert result.exit_code == 2
    assert "leave one of them out" in result.output


def test_without_pulumi_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(topology.StackError, match="install the Pulumi CLI"):
        topology.stack_topology("dev")


@pytest.mark.parametrize(
    ("expiry", "said"),
    [("2026-11-26T12:00:00Z", "24 h left"), ("2026-11-25T12:30:00Z", "30 min left"), ("2026-11-25T12:00:00Z", "ENDED")],
)
def test_time_left_is_said_as_people_do(expiry: str, said: str) -> None:
    assert remaining(expiry, NOW) == said


def test_a_mesh_of_which_nothing_is_known_has_no_good_machine() -> None:
    assert not machine_status("vm-1", MACHINE, None, NOTHING, Seen()).good
