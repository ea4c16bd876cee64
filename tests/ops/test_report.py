"""The page: what is on it, that it asks for nothing, and that names cannot break it."""

from __future__ import annotations

import re
from copy import deepcopy
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hybridmesh.__main__ import app
from hybridmesh.ops import report
from hybridmesh.ops.doctor import examine
from hybridmesh.ops.look import Seen, Source, View
from hybridmesh.ops.picture import MOST
from hybridmesh.ops.report import code, html
from tests.ops.probed import (
    ENVIRONMENT,
    MANIFEST,
    NOW,
    TOPOLOGY,
    TRACKER,
    endpoint,
    entry,
    machine_facts,
    mesh_facts,
    state,
    unit,
)

STOPPED = {"units": f"{unit(ActiveState='inactive', SubState='dead')}\n\n{TRACKER}", "rules": "", "certs": ""}
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
    assert "@media (prefers-color-scheme: dark)" in text
    assert '<meta name="viewport"' in text


def test_what_is_wrong_comes_first_with_what_to_do() -> None:
    drifted = {"vm-1": Seen(facts=machine_facts({"manifest": MANIFEST.replace("enabled", "disabled")}))}
    text = Tree(page(view(machines=drifted))).text
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


def test_a_machine_that_the_doctor_finds_ill_is_not_called_well() -> None:
    """Though the mesh has it in sync and healthy."""
    ill = {"vm-1": Seen(facts=machine_facts({"cluster.env": ENVIRONMENT.replace("NETWORK='embedded'", "NETWORK='x'")}))}
    text = page(view(machines=ill))
    assert "0 of 1" in Tree(text).text
    assert text.count('class="card bad"') == 2
    assert '<span class="state bad">not well</span><br><span class="soft">wrong-network, above</span>' in text


def test_the_same_finding_of_several_machines_is_said_once() -> None:
    machines = {name: Seen(facts=machine_facts({"key": "644 root"})) for name in ("vm-1", "vm-2", "vm-3")}
    seen = many(4)
    text = Tree(page(View(**{**{f: getattr(seen, f) for f in View.__dataclass_fields__}, "machines": machines}))).text
    assert text.count("its private key is open to others") == 1
    assert "vm-1, vm-2, vm-3" in text


def test_names_cannot_break_the_page() -> None:
    topology = deepcopy(TOPOLOGY)
    topology["cluster"]["name"] = topology["machines"]["vm-1"]["version"] = "<script>alert('x')</script>&\""
    text = page(view(topology))
    assert "<script" not in text
    assert "<script>alert" in Tree(text).text


def test_a_certificate_of_the_join_and_one_that_ends_are_told_apart() -> None:
    joined = Tree(page(view(machines={}, certificates={}))).text
    assert "(that of its join)" in joined
    assert "not asked" in joined
    ended = page(view(machines={}, certificates={"vm-1": NOW - timedelta(hours=1)}))
    assert "ENDED" in ended
    assert 'class="bar bad"' in ended


def test_a_stack_without_machines_or_traffic_has_a_page() -> None:
    topology = {**TOPOLOGY, "machines": {}, "workloads": {"client": TOPOLOGY["workloads"]["client"]}}
    text = Tree(page(view(topology, {}))).text
    assert "The stack has no machines." in text
    assert "Traffic" not in text


@pytest.mark.parametrize(
    ("text", "marked"), [("a `b` c", "a <code>b</code> c"), ("<i>`<b>`", "&lt;i&gt;<code>&lt;b&gt;</code>"), ("", "")]
)
def test_commands_in_a_remedy_are_code(text: str, marked: str) -> None:
    assert code(text) == marked


def test_the_verb_writes_the_file_or_prints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(report, "look", lambda *_, **__: view())
    monkeypatch.setattr(Source, "topology", lambda _self: TOPOLOGY)
    path = tmp_path / "page.html"
    assert CliRunner().invoke(app, ["report", "--output", str(path)]).stdout == f"Written: {path}\n"
    assert CliRunner().invoke(app, ["report", "--output", "-"]).stdout == path.read_text()
