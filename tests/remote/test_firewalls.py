"""What the scripts say of a machine's own firewall, and what it does: real rules, real connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.cluster import wait_for
from lab.machines import Machine
from tests.environment import Lab

pytestmark = pytest.mark.lab

SCRIPT = (Path(__file__).resolve().parents[2] / "hybridmesh" / "remote" / "filter.sh").read_text()
APP, PROXY = 8080, 15006
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


@dataclass(frozen=True)
class Walled:
    """A machine with something that listens, and its interface."""

    machine: Machine
    interface: str

    def dropper(self, port: int, *, redirected: bool = False) -> str:
        """What the scripts say drops a new connection."""
        return self.script(f"dropped_by input {port} {self.interface} {self.machine.address} {'1' * redirected}")

    def open_as_told(self, port: int) -> None:
        self.machine.ssh([self.script(f"how_to_open ufw {port}")])

    def script(self, call: str) -> str:
        return self.machine.ssh(["sh -s"], input_text=f"{SCRIPT}\n{call}\n").strip()

    def is_open(self) -> bool:
        """Whether a new connection to the application comes in."""
        try:
            socket.create_connection((self.machine.address, APP), timeout=1).close()
        except OSError:
            return False
        return True


@pytest.fixture(scope="module")
def walled(lab: Lab) -> Iterator[Walled]:
    machine = lab.machine("walled")
    machine.create(lab.tools)
    yield Walled(machine, machine.ssh(["ip -o -4 route get 192.0.2.1 | sed 's/.* dev //; s/ .*//'"]).strip())
    machine.delete()


@pytest.mark.parametrize(("policy", "rules", "expected"), NFTABLES.values(), ids=NFTABLES.keys())
def test_nftables(walled: Walled, policy: str, rules: str, expected: str) -> None:
    table = TABLE.format(hook=HOOK.format(policy=policy), rules=rules.replace("host0", walled.interface) + ";")
    walled.machine.ssh(["nft -f -"], input_text=table)
    try:
        assert walled.dropper(APP) == expected
        assert walled.is_open() == (expected == "")
    finally:
        walled.machine.ssh(["nft delete table inet own"])


def test_ufw_and_the_command_that_opens_a_port(walled: Walled) -> None:
    assert walled.is_open()
    walled.machine.ssh(["ufw allow 22/tcp && ufw --force enable"])
    try:
        assert walled.dropper(APP).startswith("ufw (")
        assert not walled.is_open()
        walled.open_as_told(APP)
        assert walled.dropper(APP) == ""
        assert walled.is_open()
        # As Istio does it.
        walled.machine.ssh([f"systemd-run -q --unit=proxy python3 -B -m http.server {PROXY}"])
        walled.machine.ssh([f"iptables -t nat -A PREROUTING -p tcp --dport {APP} -j REDIRECT --to-ports {PROXY}"])
        assert not walled.is_open(), "what is open is the application's port, and nothing comes to it any more"
        assert walled.dropper(PROXY, redirected=True).startswith("ufw (")
        walled.open_as_told(PROXY)
        assert walled.dropper(PROXY, redirected=True) == ""
        wait_for("what is redirected to come in", walled.is_open, 10)
    finally:
        walled.machine.ssh(["iptables -t nat -F PREROUTING; ufw disable; systemctl stop proxy"])


def test_a_rule_for_redirected_connections(walled: Walled) -> None:
    """As firewalld has it: what comes in by a redirection of the machine's own is let in, whatever its port."""
    rules = f"type filter hook input priority filter; policy drop; {FIRST}; ct status dnat accept;"
    walled.machine.ssh(["nft -f -"], input_text=f"table inet own {{ chain in {{ {rules} }}; }}")
    try:
        assert walled.dropper(APP) == "nftables (DROP)"
        assert not walled.is_open()
        walled.machine.ssh([f"systemd-run -q --unit=proxy python3 -B -m http.server {PROXY}"])
        walled.machine.ssh([f"iptables -t nat -A PREROUTING -p tcp --dport {APP} -j REDIRECT --to-ports {PROXY}"])
        assert walled.dropper(PROXY, redirected=True) == ""
        wait_for("what is redirected to come in", walled.is_open, 10)
    finally:
        walled.machine.ssh(["iptables -t nat -F PREROUTING; nft delete table inet own; systemctl stop proxy"])
