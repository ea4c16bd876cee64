"""A stack drawn as SVG: cluster, gateway, networks, machines, and where requests go. Pure: facts in, text out.

Two layouts of the same things: `wide` for a desk, `tall` for a phone. Colours are the page's own (CSS variables).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from markupsafe import Markup, escape

from .mesh import ready_istiods
from .statuses import MachineStatus, WorkloadStatus

MOST = 12
"""Cards of machines drawn in one network; those that are not well come first, and the rest is counted."""
_CARD, _GAP, _PAD = 52, 12, 16
_BOLD, _SMALL = 10, 8
"""Pixels that a letter takes at most, in the page's widest font."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A box with two lines and a state: pods, or a machine."""

    title: str
    detail: str
    state: str
    """`good`, `warn`, `bad`, or `plain`."""
    flows: Mapping[str, str] = field(default_factory=dict)
    """What reaches it, by service: the words at the line."""
    weight: Mapping[str, float] = field(default_factory=dict)
    """Its share of the service's requests, 0 to 1, by service; for the line's width."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """Machines of one network."""

    name: str
    way: str
    cards: Sequence[Card]
    more: str
    """What is not drawn; empty where all is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What is drawn."""

    cluster: str
    istiod: Card
    gateway: Card
    services: Sequence[str]
    pods: Sequence[Card]
    networks: Sequence[Network]


def scene(
    topology: Mapping[str, Any],
    machines: Sequence[MachineStatus],
    splits: Sequence[WorkloadStatus],
    istiods: Mapping[str, int | None],
    gateways: int | None,
    states: Mapping[str, str],
) -> Scene:
    """What there is to draw of a stack.

    Args:
        topology: its output of that name; among its machines those that joined by themselves, too.
        machines: what is known of them. Of those that are equally well the first are drawn.
        splits: how requests are split.
        istiods: how many are ready, by revision; None: nobody knows.
        gateways: how many of the gateway's pods are ready; None: nobody knows.
        states: `good`, `warn` or `bad`, by machine.
    """
    workloads, plane, gateway = topology["workloads"], topology["controlPlane"], topology["gateway"]
    known = {split.name: split for split in splits}
    services = {name: w["host"] for name, w in sorted(workloads.items()) if w["host"]}
    pods = []
    for name, workload in sorted(workloads.items()):
        if workload["pods"]:
            version = workload["pods"]["version"]
            label, share = _flow(workload, version, known.get(name))
            pods.append(
                Card(
                    title=f"{name} pods",
                    detail=f"{version} · {workload['pods']['replicas']:g} replica(s)",
                    state="plain",
                    flows={name: label} if name in services else {},
                    weight={name: share} if name in services else {},
                )
            )
    return Scene(
        cluster=f"cluster {topology['cluster']['name']} · network {topology['cluster']['network']}",
        istiod=Card(
            title="istiod",
            detail=f"{plane['version']} · {_ready(ready_istiods(istiods))}",
            state="bad" if 0 in istiods.values() else "plain" if None in istiods.values() else "good",
        ),
        gateway=Card(
            title="gateway",
            detail=gateway["address"],
            state="plain" if gateways is None else "good" if gateways else "bad",
        ),
        services=list(services),
        pods=sorted(pods, key=lambda card: not card.flows),
        networks=_networks(topology, machines, known, services, states),
    )


def _ready(count: int | None) -> str:
    return "not known" if count is None else f"{count} ready"


def worst_first(machines: Sequence[MachineStatus], states: Mapping[str, str]) -> list[MachineStatus]:
    """Those that are not well, then the others; else in their order."""
    return sorted(machines, key=lambda machine: ("bad", "warn", "good").index(states[machine.name]))


def _networks(
    topology: Mapping[str, Any],
    machines: Sequence[MachineStatus],
    known: Mapping[str, WorkloadStatus],
    services: Mapping[str, str],
    states: Mapping[str, str],
) -> list[Network]:
    facts, found = topology["machines"], []
    names = {facts[machine.name]["network"] for machine in machines}
    for network in sorted(names, key=lambda name: (name != topology["cluster"]["network"], name)):
        mine = worst_first([m for m in machines if facts[m.name]["network"] == network], states)
        cards = [
            replace(_machine(machine, facts[machine.name], topology, known, services), state=states[machine.name])
            for machine in mine[:MOST]
        ]
        rest = mine[MOST:]
        well = all(states[machine.name] == "good" for machine in rest)
        found.append(
            Network(
                name=network,
                way=_way(topology, network),
                cards=cards,
                more=f"and {len(rest)} more{', all well' if well else ''}" if rest else "",
            )
        )
    return found


def _machine(
    machine: MachineStatus,
    facts: Mapping[str, Any],
    topology: Mapping[str, Any],
    known: Mapping[str, WorkloadStatus],
    services: Mapping[str, str],
) -> Card:
    name = facts["workload"]
    flows, weight = {}, {}
    if name in services:
        workload = topology["workloads"][name]
        label, share = _flow(workload, facts["version"], known.get(name))
        among = sum((m["workload"], m["version"]) == (name, facts["version"]) for m in topology["machines"].values())
        flows[name] = f"{label} among {among}" if label and among > 1 else label
        weight[name] = share / among
    return Card(
        title=machine.name,
        detail=" · ".join(part for part in (name, facts["version"], machine.address) if part),
        state="plain",
        flows=flows,
        weight=weight,
    )


def _flow(workload: Mapping[str, Any], version: str, split: WorkloadStatus | None) -> tuple[str, float]:
    """Words and share of what a version of a workload gets; no words where nothing is split."""
    if not workload["weights"] or split is None:
        return "", 0.5
    for subset, labels in (workload["subsets"] or {}).items():
        if labels.get("version") == version:
            share = float(workload["weights"].get(subset, 0))
            return f"{share:g} %", share / 100
    return "", 0.5


def _way(topology: Mapping[str, Any], network: str) -> str:
    if network == topology["cluster"]["network"]:
        return "the cluster's own"
    way = topology.get("networks", {}).get(network)
    if way is None or way["direct"]:
        return "direct"
    return f"through {', '.join(way['gateways'])}" if way["gateways"] else "only calls out"


# ---------------------------------------------------------------------- for a desk

_WIDE, _CLUSTER_RIGHT, _NETWORK_LEFT = 960, 500, 640


def wide(drawn: Scene) -> Markup:
    """Cluster at the left, networks at the right, flows between them."""
    top = 56
    inner = _CLUSTER_RIGHT - 2 * _PAD
    half = (inner - _GAP) // 2
    parts = [
        _card(drawn.istiod, 2 * _PAD, top, half - _PAD),
        _card(drawn.gateway, 2 * _PAD + half + _GAP - _PAD, top, half),
        _dashed(2 * _PAD + half - _PAD, top + _CARD // 2, 2 * _PAD + half + _GAP - _PAD, top + _CARD // 2),
    ]
    y = top + _CARD + 44
    pods_left, pods_width = 290, _CLUSTER_RIGHT - 290 - _PAD
    places: dict[str, tuple[int, int]] = {}
    flows: list[Markup] = []
    lines = [*drawn.services, *(c.title.removesuffix(" pods") for c in drawn.pods if not c.flows)]
    cards = {card.title.removesuffix(" pods"): card for card in drawn.pods}
    for name in lines:
        if name in drawn.services:
            parts.append(_pill(name, 2 * _PAD, y + 6, 150))
            places[name] = (2 * _PAD + 150, y + 6 + 20)
        card = cards.get(name)
        if card is not None:
            parts.append(_card(card, pods_left, y, pods_width))
            if name in places:
                flows.append(_curve(places[name], (pods_left, y + _CARD // 2), card, name))
        y += _CARD + _GAP
    cluster_bottom = y + 8
    ny = 8
    labels: dict[str, Markup] = {}
    for network in drawn.networks:
        height = 48 + len(network.cards) * (_CARD + _GAP) + (24 if network.more else 0)
        parts.append(
            _frame(_NETWORK_LEFT, ny, _WIDE - _NETWORK_LEFT - 8, height, f"network {network.name}", network.way)
        )
        flows.append(_dashed_curve((2 * _PAD + 2 * half + _GAP - _PAD, top + _CARD // 2), (_NETWORK_LEFT, ny + 24)))
        cy = ny + 44
        for card in network.cards:
            parts.append(_card(card, _NETWORK_LEFT + _PAD, cy, _WIDE - _NETWORK_LEFT - 8 - 2 * _PAD))
            for name in card.flows:
                flows.append(_curve(places[name], (_NETWORK_LEFT + _PAD, cy + _CARD // 2), card, name, below=True))
                # Once for all: where the lines to the machines leave the cluster.
                labels[name] = _label(_CLUSTER_RIGHT + 8, _below(places[name][1]) - 8, card.flows[name], "start")
            cy += _CARD + _GAP
        if network.more:
            parts.append(_text(_NETWORK_LEFT + _PAD, cy + 10, network.more, "small"))
        ny += height + _GAP
    height = max(cluster_bottom, ny) + 8
    frame = _frame(8, 8, _CLUSTER_RIGHT - 8, cluster_bottom - 8, drawn.cluster, "")
    return _svg(_WIDE, height, "wide", [frame, *flows, *parts, *labels.values()])


# ---------------------------------------------------------------------- for a phone

_TALL = 380


def tall(drawn: Scene) -> Markup:
    """All in one column; what a service sends hangs on a line down its left."""
    step = min(14, 140 // max(len(drawn.services), 1))
    spine = {name: 34 + step * place for place, name in enumerate(drawn.services)}
    left = 34 + step * max(len(drawn.services), 1) + 62
    width = _TALL - left - 2 * _PAD
    half = (_TALL - 4 * _PAD - _GAP) // 2
    y = 52
    parts = [_card(drawn.istiod, 2 * _PAD, y, half), _card(drawn.gateway, 2 * _PAD + half + _GAP, y, half)]
    y += _CARD + 20
    starts, ends, flows = {}, {}, []
    for name in drawn.services:
        parts.append(_pill(name, spine[name] - 12, y, 180))
        starts[name] = y + 40
        y += 40 + _GAP
    for card in drawn.pods:
        parts.append(_card(card, left, y, width))
        for name in card.flows:
            flows.append(_branch(spine[name], y + _CARD // 2, left, card, name))
            ends[name] = y + _CARD // 2
        y += _CARD + _GAP
    frames = [_frame(8, 8, _TALL - 16, y - 4, drawn.cluster, "")]
    y += 20
    for network in drawn.networks:
        height = 48 + len(network.cards) * (_CARD + _GAP) + (24 if network.more else 0)
        frames.append(_frame(8, y, _TALL - 16, height, f"network {network.name}", network.way))
        cy = y + 44
        for card in network.cards:
            parts.append(_card(card, left, cy, width))
            for name in card.flows:
                flows.append(_branch(spine[name], cy + _CARD // 2, left, card, name))
                ends[name] = cy + _CARD // 2
            cy += _CARD + _GAP
        if network.more:
            parts.append(_text(left, cy + 10, network.more, "small"))
        y += height + _GAP
    spines = [
        Markup('<path class="flow" d="M{0} {1}V{2}" stroke-width="2"/>').format(spine[name], starts[name], ends[name])
        for name in drawn.services
        if name in ends
    ]
    return _svg(_TALL, y, "tall", [*spines, *flows, *frames, *parts])


# ---------------------------------------------------------------------- pieces


def _svg(width: int, height: int, name: str, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="picture {2}" viewBox="0 0 {0} {1}" role="img" aria-label="The topology of the stack">{3}</svg>'
    ).format(width, height, name, Markup("\n").join(parts))


def _card(card: Card, x: int, y: int, width: int) -> Markup:
    dot = (
        Markup("")
        if card.state == "plain"
        else Markup('<circle class="dot {2}" cx="{0}" cy="{1}" r="5"/>').format(x + width - 16, y + 18, card.state)
    )
    return (
        Markup(
            '<g><title>{0}: {1}</title><rect class="card {2}" x="{3}" y="{4}" width="{5}" height="{6}" rx="8"/>'
        ).format(card.title, card.detail, card.state, x, y, width, _CARD)
        + _text(x + 12, y + 22, _short(card.title, (width - 40) // _BOLD), "title")
        + _text(x + 12, y + 40, _short(card.detail, (width - 20) // _SMALL), "small")
        + dot
        + Markup("</g>")
    )


def _pill(name: str, x: int, y: int, width: int) -> Markup:
    return (
        Markup('<rect class="pill" x="{0}" y="{1}" width="{2}" height="40" rx="20"/>').format(x, y, width)
        + _text(x + 16, y + 17, _short(name, (width - 24) // _BOLD), "title")
        + _text(x + 16, y + 32, "service", "small")
    )


def _frame(x: int, y: int, width: int, height: int, title: str, detail: str) -> Markup:
    letters = (width - 2 * _PAD - 8) // _SMALL
    shown = _short(detail, max(letters // 2, letters - len(title)))
    words = _text(x + _PAD, y + 26, _short(title, letters - len(shown.unescape())), "frame-title")
    if detail:
        words += Markup('<text class="small end" x="{0}" y="{1}">{2}</text>').format(x + width - _PAD, y + 26, shown)
    return (
        Markup('<rect class="frame" x="{0}" y="{1}" width="{2}" height="{3}" rx="12"/>').format(x, y, width, height)
        + words
    )


def _text(x: int, y: int, words: str, name: str) -> Markup:
    return Markup('<text class="{2}" x="{0}" y="{1}">{3}</text>').format(x, y, name, words)


def _curve(start: tuple[int, int], end: tuple[int, int], card: Card, service: str, *, below: bool = False) -> Markup:
    """From a service to a card; past the pods, if it goes to a machine."""
    (x1, y1), (x2, y2) = start, end
    if below:
        turn = _CLUSTER_RIGHT - 210
        low = _below(y1)
        middle = f"{x1 + 40} {y1} {x1 + 30} {low} {turn} {low}H{_CLUSTER_RIGHT}C{_CLUSTER_RIGHT + 90} {low}"
        path = f"M{x1} {y1}C{middle} {x2 - 90} {y2} {x2} {y2}"
    else:
        path = f"M{x1} {y1}C{x1 + 40} {y1} {x2 - 40} {y2} {x2} {y2}"
    line = Markup('<path class="flow" d="{0}" stroke-width="{1}"/>').format(path, _thickness(card.weight[service]))
    if below or not card.flows[service]:
        return line
    return line + _label((x1 + x2) // 2, (y1 + y2) // 2 - 8, card.flows[service], "middle")


def _below(y: int) -> int:
    """Where the lines to machines pass below the pods of a service at that height."""
    return y + _CARD // 2 + 6


def _label(x: int, y: int, words: str, anchor: str) -> Markup:
    return Markup('<text class="label {3}" x="{0}" y="{1}">{2}</text>').format(x, y, words, anchor)


def _branch(x: int, y: int, left: int, card: Card, service: str) -> Markup:
    words = card.flows[service].replace(" among ", " ÷ ")
    return Markup(
        '<path class="flow" d="M{0} {1}H{2}" stroke-width="{3}"/><text class="label end" x="{4}" y="{5}">{6}</text>'
    ).format(x, y, left, _thickness(card.weight[service]), left - 6, y - 6, words)


def _dashed(x1: int, y1: int, x2: int, y2: int) -> Markup:
    return Markup('<path class="control" d="M{0} {1}L{2} {3}"/>').format(x1, y1, x2, y2)


def _dashed_curve(start: tuple[int, int], end: tuple[int, int]) -> Markup:
    (x1, y1), (x2, y2) = start, end
    path = f"M{x1} {y1}C{x1 + 70} {y1} {x2 - 70} {y2} {x2} {y2}"
    return Markup('<path class="control" d="{0}"/>').format(path)


def _thickness(share: float) -> str:
    return f"{1.5 + 6 * min(max(share, 0.0), 1.0):.1f}"


def _short(words: str, most: int) -> Markup:
    return escape(words if len(words) <= most else words[: max(most - 1, 1)] + "…")
