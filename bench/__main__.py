"""`python -m bench POINT…`: measures, and writes what it measured into docs/benchmarks.md."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from bench import peers
from bench.page import Figure, ratio, write
from bench.site import Site, answer, engine, grow, site, timed
from lab import packages
from lab.instance import PROJECT_ROOT
from lab.machines import Machine
from tests.e2e.machine import connections
from tests.e2e.mesh import kubectl

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
SIZES = (125, 250, 500, 1000)
MOST_MIB = 500
SOCKET_LIMIT = 3


@app.command()
def preview(runs: Annotated[int, typer.Option(help="Of each size.")] = 1) -> None:
    """The program with up to 1,000 VMs, engine and providers mocked: time and memory."""
    rows: list[tuple[str, str, str]] = []

    def measured(mode: str, sizes: Sequence[int]) -> dict[int, list[dict[str, float]]]:
        """Runs of each size, in turn, so that a machine that others use meets all sizes alike."""
        found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
        for _ in range(runs):
            for size in sizes:
                command = [sys.executable, "-m", "bench.program", str(size), mode]
                ran = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
                found[size].append(answer(ran.stdout))
        return found

    def told(what: str, unit: str, found: dict[int, list[dict[str, float]]], most: str) -> None:
        smallest = min(found)
        least = Figure([one["cpu"] for one in found[smallest]]).median / smallest
        for size, ran in found.items():
            cpu, rss = (Figure([one[key] for one in ran], unit) for key, unit in (("cpu", "s"), ("rss", "MiB")))
            growth = f"linear; this is {cpu.median / size / least:.2f} times that"
            rows.append((f"{what}, {size} {unit}: CPU time", str(cpu), growth if size > smallest else ""))
            resources = "" if unit == "resources" else f", {ran[0]['resources']} resources"
            limit = most if size == max(found) else ""
            rows.append((f"the same: resident memory, mocks included{resources}", str(rss), limit))

    new = measured("preview", SIZES)
    told("preview of a new stack", "VMs", new, f"{MOST_MIB} MiB")
    told("a stack where all is known", "VMs", measured("up", SIZES), f"{MOST_MIB} MiB")
    resources = [int(ran[0]["resources"]) for ran in new.values()]
    told("Pulumi alone, of ten texts each", "resources", measured("bare", resources), "")
    write("preview", rows)


T = TypeVar("T")


def counted(machines: Sequence[Machine], work: Callable[[], T]) -> tuple[T, list[int]]:
    """What the work returns, and SSH connections a VM meanwhile."""
    before = [connections(machine) for machine in machines]
    done = work()
    return done, [connections(machine) - was for machine, was in zip(machines, before, strict=True)]


def joined(here: Site, machines: Sequence[Machine]) -> tuple[float, list[int]]:
    """Ours: seconds of `up`, and SSH connections a VM."""
    here.want(machines)
    return counted(machines, here.up)


def left(here: Site) -> float:
    """Ours taken back: seconds of `up`."""
    here.want([])
    return here.up()


@app.command()
def join(
    vms: Annotated[int, typer.Option(min=2, help="How many join at once; of a single one `one` tells.")] = 20,
    runs: Annotated[int, typer.Option(help="Rounds of ours, playbook and floor.")] = 3,
) -> None:
    """VMs joined at once: ours, the playbook, the floor, in turn."""
    if shutil.which("ansible-playbook") is None:
        typer.echo(
            "Error: ansible-playbook is not here, so that there is nothing to compare with. Fix: `make bench`, "
            "which installs it first, or the packages of bench/debian-packages.txt by apt-get.",
            err=True,
        )
        raise typer.Exit(2)
    ours: list[float] = []
    playbook: list[float] = []
    floor: list[float] = []
    leave: list[float] = []
    seen: list[int] = []
    alone: list[float] = []
    with site() as here, tempfile.TemporaryDirectory() as folder:
        base = here.resources()
        idle = engine(Path(folder), base)
        for _ in range(runs):
            here.make(vms)
            seconds, counts = joined(here, here.machines)
            ours.append(seconds)
            seen += counts
            grown = here.resources()
            alone.append(grow(idle, grown))
            grow(idle, base)
            leave.append(left(here))
            playbook.append(timed(lambda: peers.playbook(here, here.machines)))
            here.delete()
            here.make(vms)
            floor.append(timed(lambda: peers.floor(here, here.machines)))
            here.delete()
    figures = Figure(ours), Figure(playbook), Figure(floor)
    write(
        "join-many",
        [
            (f"{vms} VMs join at once: `pulumi up`", str(figures[0]), ""),
            ("the playbook (ansible-core, istioctl, as many forks)", str(figures[1]), ""),
            ("the bare floor (scp, dpkg, start, wait; `xargs -P`)", str(figures[2]), ""),
            ("ours / playbook", ratio(figures[0], figures[1]), "0.25"),
            ("ours / floor", ratio(figures[0], figures[2]), "0.8"),
            (f"the engine alone, {grown - base} new resources that do nothing", str(Figure(alone)), ""),
            ("SSH connections a VM, preflight included", f"{min(seen)} to {max(seen)}", f"{SOCKET_LIMIT}"),
            (f"{vms} VMs leave at once: `pulumi up`", str(Figure(leave)), ""),
        ],
    )


@app.command()
def one(runs: Annotated[int, typer.Option()] = 3) -> None:
    """One VM joined, beside the engine's own time for as many resources and the floor."""
    ours: list[float] = []
    floor: list[float] = []
    floors: list[float] = []
    with site() as here, tempfile.TemporaryDirectory() as folder:
        base = here.resources()
        idle = engine(Path(folder), base)
        for _ in range(runs):
            here.make(1)
            ours.append(joined(here, here.machines)[0])
            grown = here.resources()
            floors.append(grow(idle, grown))
            left(here)
            grow(idle, base)
            floor.append(timed(lambda: peers.floor(here, here.machines)))
            here.delete()
    limit = Figure(floors).median + 1.3 * Figure(floor).median
    write(
        "join-one",
        [
            ("one VM joins: `pulumi up`", str(Figure(ours)), f"{limit:.1f} s: the engine + 1.3 times the floor"),
            (
                f"the engine alone, {grown} resources that do nothing, {grown - base} of them new",
                str(Figure(floors)),
                "",
            ),
            ("the bare floor", str(Figure(floor)), ""),
        ],
    )


@app.command()
def unchanged(
    vms: Annotated[int, typer.Option(help="Besides the first.")] = 99,
    runs: Annotated[int, typer.Option()] = 3,
) -> None:
    """`up` with no change of a stack with many real VMs, beside the engine alone with as many resources."""
    with site() as here, tempfile.TemporaryDirectory() as folder:
        here.make(vms)
        joined(here, here.machines)
        resources = here.resources()
        idle = engine(Path(folder), resources)
        pairs, opened = counted(here.machines, lambda: [(here.up(), grow(idle, resources)) for _ in range(runs)])
    ours, alone = (Figure(seconds) for seconds in zip(*pairs, strict=True))
    write(
        "unchanged",
        [
            (
                f"`up` with no change, {vms + 1} VMs, {resources} resources",
                str(ours),
                f"{1.5 * alone.median:.1f} s",
            ),
            ("the engine alone, as many resources that do nothing", str(alone), ""),
            ("ours / the engine alone", ratio(ours, alone), "1.5"),
            ("SSH connections of these", str(sum(opened)), "0"),
        ],
    )


def _upgraded(package: packages.Package, at_once: int) -> Any:
    def change(config: dict[str, Any]) -> None:
        config["hybrid-mesh:sidecar"]["package"] = asdict(package)
        config["hybrid-mesh:sidecar"]["upgrade"] = {"batchSize": at_once}

    return change


@app.command()
def many(
    vms: Annotated[int, typer.Option(help="Besides the first.")] = 59,
    at_once: Annotated[int, typer.Option(help="Restarted at a time in the upgrade.")] = 10,
) -> None:
    """Many real VMs in one stack: join, canary, upgrade, destroy; state and memory."""
    rows: list[tuple[str, str, str]] = []

    def row(what: str, values: Sequence[float], limit: str = "", unit: str = "s") -> None:
        rows.append((what, str(Figure(values, unit)), limit))
        print(*rows[-1], flush=True)

    with site() as here:
        small_state, small = here.state_bytes(), here.resources()
        row(f"{vms} VMs boot", [here.make(vms)])
        seconds, counts = joined(here, here.machines)
        row(f"{vms} VMs join at once: `pulumi up`", [seconds])
        rows.append(("SSH connections a VM", f"{min(counts)} to {max(counts)}", f"{SOCKET_LIMIT}"))
        resources = here.resources()
        row("state a VM", [(here.state_bytes() - small_state) / vms / 1024], unit="KiB")
        row("resources a VM", [(resources - small) / vms], unit="")
        top = kubectl(here.lab, "exec", "-n", "istio-system", "deploy/istiod", "--", "cat", "/proc/1/status")
        found = re.search(r"VmRSS:\s+(\d+)", top)
        if found:
            row("istiod's resident memory", [int(found.group(1)) / 1024], unit="MiB")

        def canary(config: dict[str, Any]) -> None:
            config["hybrid-mesh:routing"]["echo"]["weights"] = {"k8s": 50, "vm": 50}

        here.want(here.machines, canary)
        row("canary from 90/10 to 50/50", [here.up()])
        upgrade = packages.make(here.lab.instance, "1.31.8")
        here.want(here.machines, _upgraded(upgrade, at_once))
        seconds, opened = counted(here.machines, here.up)
        row(f"upgrade of {vms + 1} VMs, {at_once} at a time", [seconds])
        rows.append(("SSH connections a VM, of the upgrade", f"{min(opened)} to {max(opened)}", f"{SOCKET_LIMIT}"))
        row("destroy of all", [timed(here.stack.destroy)])
    write("sixty", rows)


@app.command()
def environment(runs: Annotated[int, typer.Option()] = 3) -> None:
    """`make dev` from nothing, and again; tools are built."""

    def make(verb: str) -> None:
        subprocess.run(["make", verb], cwd=PROJECT_ROOT, check=True, capture_output=True, timeout=600)

    first: list[float] = []
    again: list[float] = []
    up: list[float] = []
    for _ in range(runs):
        make("down")
        up.append(timed(lambda: subprocess.run([sys.executable, "-m", "lab", "up"], cwd=PROJECT_ROOT, check=True)))
        first.append(up[-1] + timed(lambda: make("dev")))
        again.append(timed(lambda: make("dev")))
        make("destroy")
    make("down")
    write(
        "environment",
        [
            ("the environment from nothing, tools built: `python -m lab up`", str(Figure(up)), "60 s"),
            ("`make dev` from nothing, tools built", str(Figure(first)), ""),
            ("`make dev` again", str(Figure(again)), "20 s"),
        ],
    )


if __name__ == "__main__":
    # A shell has what it runs in the background ignore it; Pulumi ends its plugins by it, and would wait 5 s for each.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    app()
