"""What the scripts say of a machine's own firewall, and what it does: real rules, real connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import wait_for
from lab.machines import Machine
from tests.environment import Lab

pytestmark = pytest.mark.lab

SCRIPT = (Path(__file__).resolve().parents[2] / "hybridmesh" / "remote" / "filter.sh").read_text()
PORT = 8080
TABLE = "table inet own {{ chain mine {{ tcp dport 8080 accept; }}; chain in {{ {hook}; {rules} }}; }}"
HOOK = "type filter hook input priority filter; policy {policy}"
FIRST = "iif lo accept; ct state established,related accept; tcp dport 22 accept"

NFTABLES = {
    "nothing": ("accept", "", ""),
    "a policy": ("drop", FIRST, "nftables (DROP)"),
    "a port": ("drop", f"{FIRST}; tcp dport {{ 80, 8000-8090 }} counter accept", ""),
    "another port": ("drop", f"{FIRST}; tcp dport {{ 80, 443 }} counter accept", "nftables (DROP)"),
    "all but SSH": ("accept", "tcp dport != 22 ct state new reject with tcp reset", "nftables (REJECT)"),
    "a log first": ("accept", 'tcp dport 8080 log prefix "closed: " drop', "nftables (DROP)"),
    "another protocol": ("accept", "udp dport 8080 drop; meta l4proto icmp drop", ""),
    "a chain of its own": ("drop", f"{FIRST}; meta l4proto tcp jump mine", ""),
    "another interface": ("accept", 'iifname != "host0" tcp dport 8080 drop', ""),
    "states as a map": ("drop", "ct state vmap { established : accept, related : accept }; tcp dport 22 accept",
                        "nftables (DROP)"),
}  # fmt: skip
"""By what they hold to: policy, rules, and what is to be said."""


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[Machine]:
    machine = lab.machine("walled")
    machine.create(lab.tools)
    yield machine
    machine.delete()


def said(machine: Machine, call: str) -> str:
    return machine.ssh(["sh -s"], input_text=f"{SCRIPT}\n{call}\n").strip()


def is_open(machine: Machine) -> bool:
    try:
        socket.create_connection((machine.address, PORT), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(("policy", "rules", "expected"), NFTABLES.values(), ids=NFTABLES.keys())
def test_nftables(machine: Machine, policy: str, rules: str, expected: str) -> None:
    interface = machine.ssh(["ip -o -4 route get 192.0.2.1 | sed 's/.* dev //; s/ .*//'"]).strip()
    table = TABLE.format(hook=HOOK.format(policy=policy), rules=rules.replace("host0", interface) + ";")
    machine.ssh(["nft -f -"], input_text=table)
    try:
        assert said(machine, f"dropped_by input {PORT} {interface}") == expected
        assert is_open(machine) == (expected == "")
    finally:
        machine.ssh(["nft delete table inet own"])


def test_ufw_and_the_command_that_opens_a_port(machine: Machine) -> None:
    assert is_open(machine)
    interface = machine.ssh(["ip -o -4 route get 192.0.2.1 | sed 's/.* dev //; s/ .*//'"]).strip()
    machine.ssh(["ufw allow 22/tcp && ufw --force enable"])
    try:
        assert said(machine, f"dropped_by input {PORT} {interface}").startswith("ufw (")
        assert not is_open(machine)
        remedy = said(machine, f"how_to_open ufw {PORT}")
        machine.ssh([remedy])
        assert said(machine, f"dropped_by input {PORT} {interface}") == ""
        wait_for("the port to be open", lambda: is_open(machine), 5)
    finally:
        machine.ssh(["ufw disable"])
