"""The environment that is measured on: an instance of its own, with the stack up and one VM in it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.settings import document, host
from lab import toolchain
from lab.__main__ import start
from lab.instance import PROJECT_ROOT, Instance
from lab.machines import Machine
from tests.e2e.stack import Stack
from tests.engine import Engine
from tests.environment import Lab

INSTANCE = "bench"
FIRST = "vm-1"
"""The VM that is always in, so that there is a group that others join."""


def timed(work: Callable[[], object]) -> float:
    """Seconds of wall time that it takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


@dataclass
class Site:
    """The environment, its stack, and more machines."""

    lab: Lab
    stack: Stack
    environment_seconds: float
    machines: list[Machine] = field(default_factory=list)

    def make(self, count: int) -> float:
        """More machines; returns the seconds that it takes to boot them. Their last units have started by then: what a
        machine does to boot is nobody's join."""
        self.machines = [self.lab.machine(f"m-{number:03d}") for number in range(count)]
        seconds = timed(lambda: self._each(lambda machine: machine.create(self.lab.tools)))
        return seconds + timed(lambda: self._each(_wait_for_units))

    def delete(self) -> None:
        self._each(lambda machine: machine.delete())
        self.machines = []

    def _each(self, work: Callable[[Machine], object]) -> None:
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(work, self.machines))

    def want(self, machines: Sequence[Machine], change: Callable[[dict[str, object]], object] | None = None) -> None:
        """Settings with these machines, and the first."""
        hosts = {m.name: host(m.address, m.host_key) for m in (self.lab.machine(FIRST), *machines)}
        content = document(hosts)
        if change is not None:
            change(content["config"])
        mine = str(self.lab.instance.folder.relative_to(PROJECT_ROOT))
        self.stack.file.write_text(yaml.safe_dump(content).replace(".lab/dev", mine))

    def up(self) -> float:
        """`pulumi up`, as wide as there are VMs, as the peers are; returns its seconds."""
        return timed(lambda: self.stack.up_in_words(f"--parallel={max(16, len(self.machines))}"))

    @property
    def gateway(self) -> str:
        address: str = self.stack.outputs()["topology"]["gateway"]["address"]
        return address

    def mirror(self, name: str) -> str:
        return (self.lab.instance.folder / "mirror" / name).read_text().strip()

    def state_bytes(self) -> int:
        """Of the stack's state, as it is stored."""
        return len(self.stack.state())

    def resources(self) -> int:
        return len(self.stack.resources())


def _wait_for_units(machine: Machine) -> None:
    machine.ssh(["systemctl is-system-running --wait || :"], timeout=60)


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """It, from nothing; taken down afterwards."""
    instance, tools = Instance(INSTANCE), toolchain.installed()
    instance.remove()
    try:
        seconds = timed(lambda: start(instance, [FIRST], tools))
        lab = Lab(instance, tools)
        made = Site(lab, Stack(lab), seconds)
        made.want([])
        made.stack.up()
        yield made
    finally:
        instance.remove()


def engine(folder: Path, resources: int) -> Engine:
    """As many resources that do nothing, on the same engine, up."""
    made = Engine.on(PROJECT_ROOT / "bench" / "trivial", folder)
    grow(made, resources)
    return made


def grow(made: Engine, resources: int) -> float:
    """To so many resources; returns the seconds of `up`."""
    made.run("config", "set", "count", str(resources))
    return timed(lambda: made.run("up", "--yes", "--skip-preview"))


def answer(text: str) -> dict[str, float]:
    """One line of JSON."""
    found: dict[str, float] = json.loads(text.strip().splitlines()[-1])
    return found
