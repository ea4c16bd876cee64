"""What a reviewer reads of a preview."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from markdown_it import MarkdownIt

from ci.drawings import LATER, planned_drawing
from ci.review import DRAWING, NAMES, ROWS, _cell, comment, marker, refusals
from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from hybridmesh.settings import Settings
from tests.components.harness import dev_settings, run
from tests.components.test_google_cloud import ANSWERS
from tests.settings.test_google import gcp_settings
from tests.settings.test_network_rules import far
from tests.settings.test_rules import at

STACK = "urn:pulumi:gcp::hybrid-mesh::"
TEXT = "Previewing update (gcp):\n"
REFUSED = """Policies:
    ❌ hybrid-mesh@v0.1.0 (local: policy)
        - [mandatory]  strict-mtls  (kubernetes:x:PeerAuthentication: peers)
          No plain text between workloads.
          peers takes plain text

Resources:
    1 to create
"""


def step(operation: str, kind: str, name: str, *differing: str, old: Any = None, new: Any = None) -> dict[str, Any]:
    urn = f"{STACK}hybridmesh:hybrid_mesh:HybridMesh${kind}::{name}"
    states = {"oldState": {"inputs": old or {}}, "newState": {"inputs": new or {}}}
    return {"op": operation, "urn": urn, "detailedDiff": {path: {} for path in differing}, **states}


def part(operation: str, kind: str, name: str, owner: str) -> dict[str, Any]:
    """A resource of a component."""
    made = step(operation, kind, name)
    parent = {"parent": f"{STACK}hybridmesh:hybrid_mesh:HybridMesh${owner}"}
    return {**made, "oldState": parent, "newState": parent}


ROUTING = "hybridmesh:routing:Routing::mesh-echo"
STEPS = [
    step("same", "kubernetes:core/v1:Service", "unchanged"),
    step("update", "hybridmesh:sidecar:Sidecar", "mesh-vm-1", old={"mesh.yaml": "a\n"}, new={"mesh.yaml": "b\n"}),
    step("update", "hybridmesh:sidecar:Sidecar", "mesh-vm-2", old={"mesh.yaml": "a\n"}, new={"mesh.yaml": "b\n"}),
    part("update", "command:remote:Command", "mesh-vm-1-join", "hybridmesh:sidecar:Sidecar::mesh-vm-1"),
    part("update", "command:remote:Command", "mesh-vm-2-join", "hybridmesh:sidecar:Sidecar::mesh-vm-2"),
    part("update", "kubernetes:networking.istio.io/v1:VirtualService", "echo", ROUTING),
    part("create", "kubernetes:networking.istio.io/v1:DestinationRule", "echo", ROUTING),
    step("create-replacement", "command:local:Command", "vm-2-machine"),
    step("replace", "command:local:Command", "vm-2-machine", old={"create": "a"}, new={"create": "b"}),
    step("delete", "kubernetes:core/v1:ServiceAccount", "old|one"),
    step("create", "hybridmesh:sidecar:Sidecar", "mesh-vm-3", new={"machine": "vm-3"}),
    step("create", "hybridmesh:sidecar:Sidecar", "mesh-vm-4", new={"machine": "vm-4"}),
]


def test_what_is_lost_comes_first_and_what_changes_alike_is_told_once() -> None:
    rows = [line for line in body().splitlines() if line.startswith("| ")]
    assert rows[2:] == [
        "| **removed** | ServiceAccount old\\|one |  |",
        "| **replaced** | Command vm-2-machine | replaced, because of what it hangs on; create: a => b |",
        "| changed | Routing mesh-echo | VirtualService echo, DestinationRule echo (new) |",
        "| changed | Sidecar mesh-vm-1, mesh-vm-2 | Istio restarts, in turn |",
        "| new | Sidecar mesh-vm-3, mesh-vm-4 |  |",
    ]


def test_a_table_has_an_end() -> None:
    accounts = [
        step("update", "kubernetes:core/v1:ServiceAccount", f"a-{n}", old={"n": 0}, new={"n": n + 1})
        for n in range(ROWS + 20)
    ]
    assert "| … | and 20 more | see below |" in body(plan={"steps": accounts})
    objects = [part("delete", "kubernetes:core/v1:Service", f"s-{n}", ROUTING) for n in range(8)]
    assert "Service s-5, and 2 more |" in body(plan={"steps": objects})


def body(**changed: Any) -> str:
    given: dict[str, Any] = {"before": "flowchart A", "after": "flowchart B", "commit": "0123456789abcdef"}
    given |= {"plan": {"steps": STEPS}, "text": TEXT, "failed": False} | changed
    return comment("gcp", given.pop("plan"), given.pop("text"), **given)


def test_the_comment_says_what_happens_and_draws_the_mesh_before_and_after() -> None:
    said = body()
    assert said.startswith(marker("gcp"))
    assert "### Preview of `gcp`, 0123456789ab\n" in said
    assert "### Preview of `gcp`\n" in body(commit="")
    assert "✅ The policies let this pass. 1 new, 3 changed, 1 removed, 1 replaced.\n" in said
    before, after = said.index("flowchart A"), said.index("flowchart B")
    assert before < after
    assert said.count("```mermaid") == 2


def test_what_turns_the_order_of_letters_is_shown_and_does_not() -> None:
    old, new = ({"create": text} for text in ("make vm-2", "make vm-2 \u202e# ok\u202c\u2066 && rm -r /\x1b[1A\u200b"))
    said = body(plan={"steps": [step("update", "command:local:Command", "vm-2-machine", old=old, new=new)]})
    assert shown(said).count("make vm-2 \\u202e# ok\\u202c\\u2066 && rm -r /\\x1b[1A\\u200b") == 2, (
        "in the table, and in the lines"
    )
    assert [character for character in said if not character.isprintable() and character != "\n"] == []


def test_the_lines_are_coloured_as_a_diff_and_cannot_end_their_fence() -> None:
    files = [{"hosts": f"{line}\n````\n"} for line in ("old", "new")]
    weights = [{"weight": weight} for weight in (90, 80)]
    said = body(
        plan={
            "steps": [
                step("update", "hybridmesh:sidecar:Sidecar", "vm-1", old=files[0], new=files[1]),
                step("update", "hybridmesh:routing:Routing", "echo", old=weights[0], new=weights[1]),
            ]
        }
    )
    assert "\n!     weight: 90 => 80\n" in said
    assert "\n-         old\n+         new\n" in said
    assert "+         new\n          ````\n" in shown(said).partition("every line that changes")[2]
    assert said.rstrip().endswith("```\n\n</details>")


def shown(markdown: str) -> str:
    """What a reader sees of it: its text, without what makes it look as it does."""
    page = MarkdownIt("commonmark").enable("table").render(markdown)
    return html.unescape(re.sub(r"<!--.*?-->|<[^>]*>", "", page, flags=re.DOTALL))


ODD = [
    "a | b ` c `` d ` e",
    "<details><summary>x</summary> &lt; <img src=x> <!-- y",
    "*a* __b__ ~~c~~ [d](https://x.invalid) ![e](f) \\* \\| a_b_c",
    "@acme/team @mallory (#12) GH-12 acme/x#12 https://github.com/acme/x/issues/12",
    "price $5, $HOME and $6; fe80:100:2 is :tada:",
    "--- # - 1. ===",
]


@pytest.mark.parametrize("odd", ODD)
def test_a_value_looks_as_it_is_written_and_calls_nobody(odd: str) -> None:
    old, new = {"label": odd}, {"label": "b"}
    lost = {"urn": STACK, "severity": "warning", "message": f"vm-2 has {odd}"}
    steps = [
        step("update", "command:local:Command", odd.replace("::", ""), old=old, new=new),
        step("update", "kubernetes:core/v1:Service", "next", old={"n": 0}, new={"n": 1}),
    ]
    said = body(plan={"steps": steps, "diagnostics": [lost]})
    without_code = odd.replace("`", "")
    seen = shown(said).replace("`", "")
    assert f"label: {without_code} => b" in seen.partition("every line")[0]
    assert f"Command {without_code}\n" in seen
    assert f"vm-2 has {without_code}" in seen
    assert "changed\nService next\nn: 0 => 1\n" in seen, "the rows after it are rows"
    told = said.partition("<details")[0].partition("✅")[2]
    active = r"[@#](?=\w)|(?<!\\)<(?!!-- -->|/?code>|/?span>)|\$(?!<)|:(?=[\w+-]+:|//)|\bGH(?=-\d)"
    assert re.findall(active, told) == []


def test_what_is_between_backticks_is_code() -> None:
    assert _cell("`create` runs again; a ` b") == "<code>create</code> runs again; a \\` b"
    assert _cell("``") == "<code></code>"


def test_no_line_of_a_value_ends_the_block_that_it_stands_in() -> None:
    args = [{"spec": {"args": [f"{what}\n```\n@acme/team\n   ````  \n<b>"]}} for what in ("old", "new")]
    steps = [step("update", "kubernetes:apps/v1:Deployment", "echo", old=args[0], new=args[1])]
    refused = REFUSED.replace("peers takes plain text", "peers takes\n    ```\n    @acme/team")
    said = body(plan={"steps": steps}, text=refused, failed=True)
    page = MarkdownIt("commonmark").enable("table").render(said)
    blocks = re.findall(r"<pre>.*?</pre>", page, flags=re.DOTALL)
    assert len(blocks) == 4, "policies, two drawings, and lines"
    assert ["@acme/team" in block for block in blocks] == [True, False, False, True]
    outside = re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)
    assert "<b>" not in outside


def test_what_the_program_says_of_it_is_quoted() -> None:
    lost = {"urn": STACK, "severity": "warning", "message": "warning: vm-2 is declared lost"}
    assert "\n> warning: vm-2 is declared lost\n" in body(plan={"steps": STEPS, "diagnostics": [lost]})


def test_a_mesh_that_stays_as_drawn_is_drawn_once() -> None:
    said = body(before="flowchart A", after="flowchart A")
    assert said.count("```mermaid") == 1
    assert "**The mesh before and after**" in said


def test_nothing_changes_and_nothing_is_there() -> None:
    nothing = body(plan={"steps": [STEPS[0]]}, before="A", after="A")
    assert "Nothing changes." in nothing
    assert "<details" not in nothing
    assert "mermaid" not in body(plan={}, before="A", after="A")
    assert "**The mesh before**: nothing to draw." in body(before=None)


def test_a_refusal_is_shown_with_rule_and_resource() -> None:
    assert refusals(TEXT) == ""
    assert refusals(REFUSED).startswith("❌ hybrid-mesh@v0.1.0 (local: policy)\n    - [mandatory]  strict-mtls")
    said = body(text=REFUSED, failed=True)
    assert "❌ A policy refuses this" in said
    assert "- [mandatory]  strict-mtls" in said.partition("<details")[0]


def test_a_long_preview_is_cut_to_what_github_takes() -> None:
    long = {"file": "line\n" * 100_000}
    said = body(plan={"steps": [step("update", "hybridmesh:sidecar:Sidecar", "vm-1", new=long)]})
    assert "<details>" in said, "nobody asked for so many lines"
    assert "<details open>" in body()
    assert len(said) < 65_000
    assert "cut here" in said
    assert said.rstrip().endswith("</details>")
    fences = {"file": "```\n" * 100_000}
    assert len(body(plan={"steps": [step("update", "hybridmesh:sidecar:Sidecar", "vm-1", new=fences)]})) < 65_000


def test_a_thousand_machines_fit_into_a_comment() -> None:
    names = [f"mesh-machine-of-the-far-datacenter-{n}" for n in range(1000)]
    alike = [
        changed
        for n in names
        for changed in (
            step("update", "hybridmesh:sidecar:Sidecar", n, old={"mesh.yaml": "a\n"}, new={"mesh.yaml": "b\n"}),
            part("update", "command:remote:Command", f"{n}-join", f"hybridmesh:sidecar:Sidecar::{n}"),
        )
    ]
    each = [step("update", "kubernetes:core/v1:Secret", n, old={"n": 0}, new={"n": n * 20}) for n in names]
    by_hand = [{"urn": STACK, "severity": "warning", "message": f"{n} was changed by hand: {'|' * 700}"} for n in names]
    refused = "Policies:\n" + "".join(f"        - [mandatory]  strict-mtls  {n} {'x' * 700}\n" for n in names)
    drawn = planned_drawing(dev_settings(a_thousand))
    said = body(
        plan={"steps": [*alike, *each], "diagnostics": by_hand},
        text=refused,
        before=drawn,
        after=f"{drawn} ",
        failed=True,
    )
    assert len(said) < 65_536
    assert said.count("| changed |") < 100
    assert "| see below |" in said
    for told in (
        "**The mesh before**: not drawn, for ",
        "**The mesh after**: not drawn, for ",
        "[mandatory]",
        "more; the run's log",
    ):
        assert told in said
    assert "mermaid" not in said
    assert said.rstrip().endswith("</details>")
    said = body(plan={"steps": alike})
    assert f"Sidecar {', '.join(names[:NAMES])} and {1000 - NAMES} more | Istio restarts, in turn |" in said


def test_the_largest_drawings_leave_room_for_lines() -> None:
    said = body(
        before="a" * DRAWING,
        after="b" * DRAWING,
        plan={"steps": [step("update", "x:y:Z", "z", old={"a": 1}, new={"a": 2})]},
    )
    assert said.count("```mermaid") == 2
    assert "a: 1 => 2" in said.partition("<details")[2]
    assert len(said) < 65_536


def a_thousand(sections: dict[str, Any]) -> None:
    hosts = sections["workloads"]["echo"]["machines"]["hosts"]
    for number in range(1000):
        ssh = {**hosts["vm-1"]["ssh"], "address": f"10.7.{number // 250}.{number % 250 + 1}"}
        hosts[f"machine-{number}"] = {**hosts["vm-1"], "ssh": ssh}


THERE = {"gateway": {"address": "192.0.2.100"}, "machines": {"vm-2": {"meshAddress": "192.0.2.12"}}}
SERVICE_ENTRY = {"kind": "ServiceEntry", "hosts": ["shop.vm.internal"]}
DRAWN = {
    "hosts": (dev_settings(), THERE),
    "a ServiceEntry": (dev_settings(at("workloads/echo/service", SERVICE_ENTRY)), THERE),
    "a lost VM": (dev_settings(at("workloads/echo/machines/hosts/vm-1/lost", True)), THERE),
    "IPv6": (dev_settings(at("workloads/echo/machines/hosts/vm-1/ssh/address", "2001:DB8:0::11")), THERE),
    "fleets": (gcp_settings(), {"gateway": {"address": "192.0.2.100"}}),
    "networks": (dev_settings(far), THERE),
}


@pytest.mark.parametrize(("settings", "there"), DRAWN.values(), ids=DRAWN)
def test_the_drawing_of_settings_is_the_one_of_the_stack(settings: Settings, there: dict[str, Any]) -> None:
    drawings: list[str] = []

    def program() -> Any:
        mesh = HybridMesh("mesh", HybridMeshArgs(settings=settings))
        return mesh.drawing.apply(drawings.append)

    run(program, answers=ANSWERS)
    assert planned_drawing(settings, there) == drawings[0]


def test_a_fleet_and_a_network_s_gateway_are_drawn() -> None:
    assert '    gce-shop-fleet["shop-fleet<br/>shop<br/>fleet"]' in planned_drawing(gcp_settings())
    assert "  cluster ==> vm-gw-1" in planned_drawing(dev_settings(far))


def test_a_drawing_before_anything_is_there_says_what_is_not_known_yet() -> None:
    drawn = planned_drawing(dev_settings())
    assert f"istio-eastwestgateway<br/>{LATER}" in drawn
    assert "vm-1<br/>echo, vm<br/>192.0.2.11" in drawn
    assert '" 10 % among 2 "' in drawn
