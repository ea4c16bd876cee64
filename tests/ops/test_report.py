"""The page: what is on it, that it asks for nothing, and that names cannot break it."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hybridmesh.__main__ import app
from hybridmesh.ops import report
from hybridmesh.ops.diagnoses import Finding
from hybridmesh.ops.doctor import examine
from hybridmesh.ops.look import Seen, Source, View
from hybridmesh.ops.picture import MOST
from hybridmesh.ops.report import code, html
from tests.ops.probed import (
    ADDRESS,
    CERTS,
    ENVIRONMENT,
    IDENTITY,
    MANIFEST,
    NOW,
    TOPOLOGY,
    TRACKED,
    TRACKER,
    UNHEALTHY,
    endpoint,
    entry,
    machine_facts,
    member,
    mesh_facts,
    state,
    unit,
)

STOPPED = {"units": f"{unit(ActiveState='inactive', SubState='dead')}\n\n{TRACKER}", "rules": TRACKED, "certs": ""}
VOID = {"meta", "br"}


class Tree(HTMLParser):
    """Tags that are opened and closed in order, their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def view(topology: dict[str, Any] | None = None, machines: dict[str, Seen] | None = None, **mesh: Any) -> View:
    return View(
        topology=topology or TOPOLOGY,
        mesh=mesh_facts(**mesh),
        mesh_refusal="",
        machines={"vm-1": Seen(facts=machine_facts())} if machines is None else machines,
        now=NOW,
    )


def page(seen: View) -> str:
    return html(seen, examine(seen))


def many(count: int) -> View:
    """As many machines, half of them in a network of their own; the last one is stopped, and out."""
    topology, entries, states = deepcopy(TOPOLOGY), {}, []
    topology["networks"] = {"far": {"direct": False, "gateways": ["gw-1"], "addresses": ["198.51.100.5:15443"]}}
    endpoints, machines = [endpoint("10.0.0.5", "k8s")], {}
    for number in range(1, count + 1):
        name, address = f"vm-{number}", f"192.0.2.{number}"
        place = {"meshAddress": address, "entry": f"demo/{name}", "network": "far" if number % 2 else "embedded"}
        topology["machines"][name] = {**TOPOLOGY["machines"]["vm-1"], **place}
        there = {"cluster.env": ENVIRONMENT.replace("NETWORK='embedded'", f"NETWORK='{place['network']}'")}
        there["addresses"] = address
        machines[name] = Seen(facts=machine_facts({**there, **(STOPPED if number == count else {})}))
        if number < count:
            entries[f"demo/{name}"] = entry()
            endpoints.append(endpoint(address, "vm"))
            states.append({**state(), "proxy": f"{name}.demo"})
    topology["workloads"]["echo"]["machines"] = list(machines)
    return view(topology, machines, entries=entries, endpoints=endpoints, states={"demo": states})


def test_a_page_of_a_stack_that_is_well_says_so_and_has_all_parts() -> None:
    tree = Tree(page(view()))
    for words in (
        "all well",
        "1 of 1",
        "23 h",
        "Topology",
        "Traffic",
        "k8s 90 %",
        "k8s 88.7 %",
        "1007 requests",
        "vm-1",
    ):
        assert words in tree.text, words
    assert "What is wrong" not in tree.text
    pictures = [value for tag, name, value in tree.attributes if (tag, name) == ("svg", "class")]
    assert pictures == ["picture wide", "picture tall"]


def test_it_asks_for_nothing_outside_of_itself() -> None:
    text = page(many(3))
    assert """content="default-src 'none'; style-src 'unsafe-inline'\"""" in text
    assert not [(t, n) for t, n, _ in Tree(text).attributes if n in ("src", "href", "srcset", "action", "onload")]
    assert not re.search(r"<(script|link|img|iframe|object)\b|url\(|@import|https?://", text)


def test_dark_is_a_matter_of_the_readers_taste() -> None:
    text = page(view())
    light, dark = re.findall(r"--page: (#\w+);", text)
    assert light != dark
    assert "@media screen and (prefers-color-scheme: dark)" in text, "paper is white"
    assert '<meta name="viewport"' in text


def test_what_is_wrong_comes_first_with_what_to_do() -> None:
    drifted = {"vm-1": Seen(facts=machine_facts({"manifest": MANIFEST.replace("enabled", "disabled")}))}
    whole = page(view(machines=drifted))
    text = Tree(whole).text
    assert '<td data-label="by hand">unit istio.service: now disabled, was enabled</td>' in whole
    assert text.index("What is wrong, and what to do") < text.index("Topology")
    assert "changed by hand: unit istio.service: now disabled, was enabled" in text
    assert "pulumi up --refresh puts it right" in text
    assert "1 finding" in text


def test_machines_that_are_not_well_are_drawn_and_the_rest_is_counted() -> None:
    count = 2 * MOST + 3
    text = page(many(count))
    tree = Tree(text)
    assert f"{count - 1} of {count}" in tree.text
    assert text.count('class="card bad"') == 2, "in each of the two drawings"
    assert "and 2 more, all well" in tree.text
    assert "and 1 more, all well" in tree.text
    assert tree.text.count("through gw-1") == 2
    rows = re.findall(r'<td data-label="machine"><b>(vm-\d+)</b>', text)
    assert len(rows) == count, "the table has all"


def test_the_cluster_s_own_network_is_drawn_first_and_the_others_by_name() -> None:
    seen = many(3)
    for name, network in (("vm-1", "zone"), ("vm-3", "abroad")):
        seen.topology["machines"][name]["network"] = network
        seen.topology["networks"][network] = {"direct": network == "zone", "gateways": [], "addresses": []}
    text = page(seen)
    drawn = re.findall(r'class="frame-title"[^>]*>network (\w+)</text><text[^>]*>(.*?)<', text)
    ways = [("embedded", "the cluster&#39;s own"), ("abroad", "only calls out"), ("zone", "direct")]
    assert drawn == ways * 2
    assert 'class="dot plain"' not in text, "pods of which nothing is said"


def with_members(count: int, *, own: bool = True) -> View:
    """As many machines that joined by themselves beside vm-1, or alone; the last is not healthy."""
    topology = deepcopy(TOPOLOGY)
    topology["google"] = {"echo-fleet": {"kind": "fleet", "workload": "echo", "serviceAccount": "a"}}
    entries, endpoints = {f"demo/echo-{ADDRESS}-embedded": entry()}, [endpoint("10.0.0.5", "k8s")]
    endpoints.append(endpoint(ADDRESS, "vm"))
    if not own:
        topology["machines"], entries = {}, {}
    for number in range(count):
        name, address = f"echo-member-{number}", f"10.3.0.{number}"
        made = member(**({"status": UNHEALTHY} if number == count - 1 else {}))
        made["metadata"]["name"] = name
        made["spec"] |= {"address": address, "network": "far" if number % 2 else ""}
        entries[f"demo/{name}"] = made
        endpoints.append(endpoint(address, "vm"))
    ends = {"vm-1": NOW + timedelta(hours=23), "echo-member-0": NOW + timedelta(hours=5)}
    return view(topology, None if own else {}, entries=entries, endpoints=endpoints, certificates=ends)


@pytest.mark.parametrize("own", [True, False])
def test_machines_that_joined_by_themselves_are_on_the_page(own: bool) -> None:
    text = page(with_members(4, own=own))
    tree = Tree(text)
    assert f"{3 + own} of {4 + own}" in tree.text
    assert "5 h" in tree.text, "the next certificate to end"
    rows = dict(re.findall(r'<td data-label="machine"><b>(.+?)</b></td>\s*<td data-label="state">(.*)</td>', text))
    assert list(rows) == ["echo-member-3", *(["vm-1"] if own else []), *(f"echo-member-{n}" for n in range(3))]
    assert "connected" not in rows["echo-member-0"], "is no trouble"
    assert "status 503" in rows["echo-member-3"]
    assert text.count('class="card bad"') == 2, "in each of the two drawings"
    assert "network far" in tree.text
    assert f"10 % among {4 + own}" in tree.text
    assert "<span>not known</span>" in text, "of a certificate"


def test_hundreds_that_joined_by_themselves_are_counted_and_do_not_hide_the_stack_s_own() -> None:
    text = page(with_members(200))
    assert len(re.findall(r'<td data-label="machine">', text)) == 201
    assert text.count("<g><title>echo-member-") == 2 * (MOST + MOST - 1)
    assert text.count("<g><title>vm-1:") == 2
    assert f"and {100 - MOST} more, all well" in text


def test_a_fleet_of_which_no_machine_is_there_is_not_called_well() -> None:
    text = page(with_members(0, own=False))
    assert "No machine of echo-fleet is in the mesh." in Tree(text).text
    assert '<div class="tile bad"><span>machines well</span><b>0 of 0</b>' in text


def test_a_machine_that_the_doctor_finds_ill_is_not_called_well() -> None:
    """Though the mesh has it in sync and healthy."""
    ill = {"vm-1": Seen(facts=machine_facts({"cluster.env": ENVIRONMENT.replace("NETWORK='embedded'", "NETWORK='x'")}))}
    text = page(view(machines=ill))
    assert '<div class="tile bad"><span>machines well</span><b>0 of 1</b>' in text
    assert text.count('class="card bad"') == 2
    assert '<span class="state bad">not well</span><br><span class="soft">wrong-network, above</span>' in text


def test_a_machine_that_cannot_be_looked_at_may_be_well_all_the_same() -> None:
    text = page(view(machines={"vm-1": Seen(refusal="no answer. Fix: start it.")}))
    assert '<div class="tile good"><span>machines well</span><b>1 of 1</b>' in text
    assert '<span class="state warn">well, but</span><br><span class="soft">not asked over SSH: no answer' in text


def test_a_gateway_whose_pods_are_not_known_is_neither_up_nor_down() -> None:
    text = page(view(gateways=None))
    assert "ready: 1 istiod, gateway not known" in text
    assert '<div class="tile good"><span>control plane</span><b>ready</b>' in text
    assert '<rect class="card plain"' in text.partition("<title>gateway:")[2][:60]
    assert "ready: 1 istiod, 1 gateway" in page(view())
    down = page(view(gateways=0))
    assert '<div class="tile bad"><span>control plane</span><b>gateway down</b>' in down


def test_what_could_not_be_read_is_on_the_page_which_is_not_called_well() -> None:
    shown = Tree(page(view(istiods={"default": None}, unread=["could not list `pods`: 403."]))).text
    for part in ("not all is known", "What could not be seen", "could not list pods: 403.", "not known of istiod"):
        assert part in shown, part
    assert "all well" not in shown


@pytest.mark.parametrize(
    ("known", "state"),
    [({"a": 1}, "good"), ({"a": None}, "warn"), ({"a": 1, "b": None}, "warn"), ({"a": None, "b": 0}, "bad")],
)
def test_a_control_plane_that_nobody_here_may_see_is_not_said_to_be_down(
    known: dict[str, int | None], state: str
) -> None:
    assert f'<div class="tile {state}"><span>control plane</span>' in page(view(istiods=known))


def test_the_same_finding_of_several_machines_is_said_once() -> None:
    machines = {name: Seen(facts=machine_facts({"key": "644 root"})) for name in ("vm-1", "vm-2", "vm-3")}
    seen = many(4)
    text = Tree(page(View(**{**{f: getattr(seen, f) for f in View.__dataclass_fields__}, "machines": machines}))).text
    assert text.count("its private key is open to others") == 1
    assert "vm-1, vm-2, vm-3" in text


def test_the_worst_machines_come_first_in_the_table_and_all_by_their_numbers() -> None:
    rows = re.findall(r'<td data-label="machine"><b>(.+?)</b></td>', page(many(12)))
    assert rows == ["vm-12", *(f"vm-{number}" for number in range(1, 12))]


def test_a_row_has_what_is_known_of_its_machine_and_nothing_of_others() -> None:
    text = page(many(2))
    rows = re.findall(r"<tr>(.*?)</tr>", text.partition("<h2>Machines</h2>")[2], re.DOTALL)[1:]
    joined = (IDENTITY, "{}", "1.31.0", "23 h left until 2026-11-26 11:00:00", "nothing changed")
    ill = "not well not connected to istiod not probed no endpoint of its service service-stopped, above"
    assert [" ".join(re.sub(r"<.*?>", " ", row).split()) for row in rows] == [
        f"vm-2 {ill} {' '.join(joined).format('192.0.2.2')}",
        f"vm-1 well {' '.join(joined).format('192.0.2.1')}",
    ]
    assert re.findall(r'class="bar (\w+)"><div style="width: (\d+)%', text) == [("good", "96")] * 2


def test_a_certificate_that_should_have_been_renewed_is_a_short_bar() -> None:
    certs = json.dumps(CERTS).replace("2026-11-26T11", "2026-11-25T14")
    text = page(view(machines={"vm-1": Seen(facts=machine_facts({"certs": certs}))}))
    assert re.findall(r'class="bar (\w+)"><div style="width: (\d+)%', text) == [("warn", "8")]
    assert '<span class="state warn">well, but</span>' in text


def test_long_names_stay_in_their_boxes() -> None:
    """Letters are as wide as in DejaVu Sans, the widest of the page's fonts, on an average."""
    name = "warehouse-inventory-service-eu-central-production-machine-01"
    topology = deepcopy(TOPOLOGY)
    topology["machines"][name] = {**topology["machines"].pop("vm-1"), "network": name}
    topology["networks"] = {name: {"direct": False, "gateways": [f"{name}-gateway"], "addresses": []}}
    topology["workloads"][name] = {**topology["workloads"].pop("echo"), "machines": [name]}
    topology["machines"][name]["workload"] = name
    topology["gateway"] = {**topology["gateway"], "address": f"{name}.elb.amazonaws.com"}
    text = page(view(topology, {}))
    boxes = r'<rect class="(card|pill)[ \w]*" x="(\d+)" y="\d+" width="(\d+)".*?/>((?:<text.*?</text>)+)'
    found = re.findall(boxes, text)
    assert len(found) == 12
    for box, left, width, words in found:
        room = {"title": 22 if box == "card" else 12, "small": 4}  # beside a title there may be a dot
        for kind, x, said in re.findall(r'<text class="(\w+)" x="(\d+)" y="\d+">(.*?)</text>', words):
            end = int(x) + len(said) * {"title": 9.7, "small": 7.4}[kind]
            assert end <= int(left) + int(width) - room[kind], said
    detailed = r'class="frame-title" x="(\d+)" y="\d+">(.*?)</text><text class="small end" x="(\d+)" y="\d+">(.*?)<'
    frames = re.findall(detailed, text)
    assert frames
    for x, title, end, detail in frames:
        assert int(x) + len(title) * 8.3 < int(end) - len(detail) * 7.4, (title, detail)


@pytest.mark.parametrize("count", [14, 40, 300])
def test_many_services_stay_in_the_picture(count: int) -> None:
    topology = deepcopy(TOPOLOGY)
    topology["workloads"] |= {
        f"shop-{n}": {**TOPOLOGY["workloads"]["echo"], "host": f"shop-{n}.demo.svc", "machines": []}
        for n in range(count)
    }
    text = page(view(topology, {}))
    for drawn in ("wide", "tall"):
        width, picture = re.findall(rf'<svg class="picture {drawn}" viewBox="0 0 (\d+) (.*?)</svg>', text, re.DOTALL)[0]
        boxes = [(int(x), int(w)) for x, w in re.findall(r'<rect [^>]*?x="(-?\d+)"[^>]*? width="(-?\d+)"', picture)]
        assert len(boxes) > count
        assert [(x, w) for x, w in boxes if x < 0 or w <= 0 or x + w > int(width)] == [], drawn


def test_names_cannot_break_the_page() -> None:
    topology = deepcopy(TOPOLOGY)
    topology["cluster"]["name"] = topology["machines"]["vm-1"]["version"] = "<script>alert('x')</script>&\""
    text = page(view(topology))
    assert "<script" not in text
    assert "<script>alert" in Tree(text).text


def test_what_a_machine_says_of_its_health_steers_no_terminal_that_the_page_is_printed_to() -> None:
    said = {"type": "Healthy", "status": "False", "message": "\x1b]0;mine\x07 \u202e503"}
    text = page(view(entries={TOPOLOGY["machines"]["vm-1"]["entry"]: entry(status={"conditions": [said]})}))
    assert r"\x1b]0;mine\x07 \u202e503" in Tree(text).text
    assert re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text) is None


def test_a_certificate_of_the_join_and_one_that_ends_are_told_apart() -> None:
    joined = Tree(page(view(machines={}, certificates={}))).text
    assert "(that of its join)" in joined
    assert "not asked" in joined
    later = page(replace(view(machines={}, certificates={}), now=NOW + timedelta(days=3)))
    assert "ENDED" not in later
    assert "that of its join, which is renewed unseen" in later
    ended = page(view(machines={}, certificates={"vm-1": NOW - timedelta(hours=1)}))
    assert '<div class="tile bad"><span>next certificate ends</span><b>ENDED</b>' in ended
    assert '<div class="tile good"><span>next certificate ends</span><b>not known</b>' in later
    assert 'class="bar bad"' in ended
    assert 'class="bar good"' in page(view())


@pytest.mark.parametrize(
    ("asked", "left", "life", "state"),
    [
        (False, timedelta(minutes=50), None, "bad"),
        (False, timedelta(hours=2), None, "good"),
        (True, timedelta(minutes=50), timedelta(days=1), "bad"),
        (True, timedelta(hours=2), timedelta(days=1), "warn"),
        (True, timedelta(minutes=50), timedelta(hours=1), "good"),
    ],
)
def test_a_certificate_is_as_urgent_at_a_glance_as_in_its_row(
    asked: bool, left: timedelta, life: timedelta | None, state: str
) -> None:
    facts = machine_facts()
    assert facts.certificate is not None
    end = NOW + left
    own = facts.certificate.model_copy(update={"not_before": end - (life or timedelta(days=1)), "not_after": end})
    facts = facts.model_copy(update={"certificate": own, "envoy_expiry": dict.fromkeys(facts.envoy_expiry, end)})
    machines = {"vm-1": Seen(facts=facts)} if asked else {}
    text = page(view(machines=machines, certificates={"vm-1": end}))
    assert f'<div class="tile {state}"><span>next certificate ends</span>' in text
    assert f'class="bar {state}"' in text


def test_a_stack_without_machines_or_traffic_has_a_page() -> None:
    topology = {**TOPOLOGY, "machines": {}, "workloads": {"client": TOPOLOGY["workloads"]["client"]}}
    empty = page(view(topology, {}))
    text = Tree(empty).text
    assert "The stack has no machines." in text
    assert "Traffic" not in text
    assert '<div class="tile good"><span>machines well</span><b>0 of 0</b>' in empty
    assert '<div class="tile good"><span>next certificate ends</span><b>none</b>' in empty


@pytest.mark.parametrize(
    ("severities", "state", "words"),
    [
        ([], "good", "all well"),
        (["note"], "good", "all well"),
        (["note", "warning"], "warn", "1 finding"),
        (["warning", "critical", "note"], "bad", "2 findings"),
    ],
)
def test_the_gravest_finding_colours_the_title(severities: list[Any], state: str, words: str) -> None:
    one = Finding(id="x", severity="note", machine="vm-1", what="w", evidence="e", remedy="r", runbook="b")
    found = [one.model_copy(update={"severity": severity}) for severity in severities]
    assert f'<span class="state {state}">{words}</span></h1>' in html(view(), found)


@pytest.mark.parametrize(
    ("text", "marked"), [("a `b` c", "a <code>b</code> c"), ("<i>`<b>`", "&lt;i&gt;<code>&lt;b&gt;</code>"), ("", "")]
)
def test_commands_in_a_remedy_are_code(text: str, marked: str) -> None:
    assert code(text) == marked


def test_the_verb_asks_machines_unless_it_is_told_not_to_and_a_cluster_must_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[str]] = []

    def look(source: Source, _topology: object, names: list[str], *, certificates: bool) -> View:
        assert (source.stack, certificates) == ("gcp", True)
        asked.append(list(names))
        return replace(view(), mesh=None, mesh_refusal="the API server did not answer")

    monkeypatch.setattr(report, "look", look)
    monkeypatch.setattr(Source, "topology", lambda _self: TOPOLOGY)
    for options in ([], ["--no-ssh"]):
        done = CliRunner().invoke(app, ["report", "--stack", "gcp", "--output", "-", *options])
        assert (done.exit_code, done.stdout) == (1, "")
        assert "the API server did not answer" in done.stderr
    assert asked == [["vm-1"], []]


def test_the_verb_writes_the_file_or_prints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(report, "look", lambda *_, **__: view())
    monkeypatch.setattr(Source, "topology", lambda _self: TOPOLOGY)
    path = tmp_path / "page.html"
    assert CliRunner().invoke(app, ["report", "--output", str(path)]).stdout == f"Written: {path}\n"
    assert CliRunner().invoke(app, ["report", "--output", "-"]).stdout == path.read_text()


def test_a_link_to_where_the_page_goes_stays_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(report, "look", lambda *_, **__: view())
    monkeypatch.setattr(Source, "topology", lambda _self: TOPOLOGY)
    link = tmp_path / "page.html"
    link.symlink_to(tmp_path / "not-there-yet.html")
    assert CliRunner().invoke(app, ["report", "--output", str(link)]).exit_code == 0
    assert link.is_symlink()
    assert link.stat().st_size > 0


def test_a_page_that_cannot_be_written_is_said_before_anything_is_looked_at(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", "--output", str(tmp_path / "nowhere" / "page.html")])
    assert result.exit_code == 2
    assert "cannot be written (No such file or directory): nothing was looked at. Fix: " in " ".join(
        result.output.split()
    )
