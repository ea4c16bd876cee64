"""The ports that a join opens on a VM are those that docs/security.md lists and justifies, and no other."""

from __future__ import annotations

import re
import subprocess

import pytest

from lab.cluster import wait_for
from lab.instance import PROJECT_ROOT
from lab.machines import Machine
from tests.e2e.stack import Stack
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full]

ROW = re.compile(r"^\| (tcp|udp) (all|127\.0\.0\.1):(\d+) \| (\S+) \|", re.MULTILINE)

Port = tuple[str, str, str, str]


def listening(machine: Machine) -> set[Port]:
    """Protocol, address, port and program of all that listens; looking makes no connection."""
    found = set()
    for line in machine.look(["ss", "-Hltunp"]).splitlines():
        protocol, _, _, _, local, _, *holders = line.split()
        address, _, port = local.rpartition(":")
        everywhere = address in ("0.0.0.0", "*", "[::]")
        program = re.search(r'\(\("([^"]+)"', " ".join(holders))
        found.add((protocol, "all" if everywhere else address, port, program.group(1) if program else "?"))
    return found


def documented() -> set[Port]:
    text = (PROJECT_ROOT / "docs" / "security.md").read_text()
    return {(row[0], row[1], row[2], row[3]) for row in ROW.findall(text)}


def reached(machine: Machine, port: str) -> bool:
    """Whether a caller outside of the mesh gets a plain HTTP answer."""
    done = subprocess.run(
        ["curl", "-s", "-o", "/dev/null", "--max-time", "4", f"http://{machine.address}:{port}/"],
        check=False,
        timeout=10,
    )
    return done.returncode == 0


def test_a_join_opens_what_is_listed_and_nothing_else(lab: Lab, up: Stack) -> None:
    assert up
    machine, before = lab.machine("vm-1"), lab.machine("not-joined")
    before.create(lab.tools)
    try:
        # Its sshd, and the app of the machine's image.
        wait_for("the app", lambda: any(port == "8080" for _, _, port, _ in listening(before)), 30)
        was_open = listening(before)
    finally:
        before.delete()
    opened = listening(machine) - was_open
    assert opened == documented()
    assert was_open <= listening(machine), "nothing that was open is closed"


def test_what_answers_from_outside_of_the_mesh_is_what_is_said(lab: Lab, up: Stack) -> None:
    assert up
    machine = lab.machine("vm-1")
    ports = sorted({port for protocol, address, port, _ in documented() if (protocol, address) == ("tcp", "all")})
    assert {port for port in ports if reached(machine, port)} == {"15021"}
