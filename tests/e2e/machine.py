"""What tests see of a machine without a connection to it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lab.machines import Machine


def connections(machine: Machine) -> int:
    """How many connections sshd has seen; asking makes none."""
    journal = machine.look(["journalctl", "--unit=ssh", "--no-pager", "--output=cat"])
    return len(re.findall(r"^Connection from ", journal, re.MULTILINE))


def property_of(machine: Machine, unit: str, name: str) -> int:
    """A number that systemd has of a unit, such as ActiveEnterTimestampMonotonic."""
    return int(machine.look(["systemctl", "show", "--value", f"--property={name}", unit]))


@dataclass(frozen=True)
class Running:
    """What runs on a machine, for telling whether it was restarted."""

    connections: int
    agent: int
    """When istio.service started its process."""
    envoy: str


def running(machine: Machine) -> Running:
    started = property_of(machine, "istio.service", "ExecMainStartTimestampMonotonic")
    return Running(connections(machine), started, machine.look(["pgrep", "-xo", "envoy"]).strip())
