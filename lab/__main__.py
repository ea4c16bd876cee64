"""The embedded environment's console: `python -m lab up | down | status | reset | env | …`."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lab import machines as vm
from lab import packages, toolchain
from lab.cluster import Cluster, program_runs
from lab.instance import PROJECT_ROOT, Instance, LabError, locked
from lab.machines import Machine, MadeAs
from lab.toolchain import istio, pins
from lab.toolchain.store import BUILD_SECONDS, StoreBusyError
from lab.traffic import ask, in_pod, on_machine

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A real Kubernetes cluster and real VMs on this machine, in namespaces of their own.",
)
machine_app = typer.Typer(no_args_is_help=True, help="Make and remove single machines (what a CommandHost runs).")
tools_app = typer.Typer(no_args_is_help=True, help="The pinned tools that the environment is made of.")
app.add_typer(machine_app, name="machine")
app.add_typer(tools_app, name="tools")
err = Console(stderr=True, highlight=False, soft_wrap=True)

PASSPHRASE = "embedded"
"""Opens the secrets of stacks on the embedded environment: public, as is everything that it protects there."""


class _Context:
    instance: Instance


context = _Context()
Name = Annotated[str, typer.Argument(help="The machine's name.")]


@app.callback()
def _choose(
    instance: Annotated[
        str,
        typer.Option("--instance", "-i", envvar="HYBRID_MESH_LAB", help="Which instance; several live side by side."),
    ] = "dev",
) -> None:
    context.instance = Instance(instance)


@app.command()
def up(
    machine: Annotated[
        list[str] | None,
        typer.Option(help="A machine to make at once, as NAME or NAME@NETWORK (flat, cutoff, edge); repeatable."),
    ] = None,
) -> None:
    """Start the environment; what already runs stays as it is."""
    instance, tools = context.instance, toolchain.build()
    if machine:
        start(instance, machine, tools)
    else:
        _start(instance, {"vm-1": Machine(instance, "vm-1").made_as}, tools)


def start(instance: Instance, names: list[str], tools: toolchain.Toolset) -> None:
    """Bring the cluster and the named machines up; every step does nothing where its work is done.

    Args:
        instance: what is to run.
        names: the machines, each as NAME or NAME@NETWORK.
        tools: what it is made of.
    """
    _start(instance, dict(_placed(name) for name in names), tools)


def _start(instance: Instance, machines: dict[str, MadeAs], tools: toolchain.Toolset) -> None:
    """The same, with machines by name; those of an instance that did not run boot again as well."""
    begun = time.monotonic()
    cluster, whole = Cluster(instance, tools), instance.folder / "started"
    if not instance.running:
        whole.unlink(missing_ok=True)

    def step(what: str, work: Callable[[], object]) -> None:
        work()
        err.print(f"[dim]{time.monotonic() - begun:5.1f} s[/]  {what}")

    step("namespaces and network", lambda: instance.start_namespaces(cluster.supervisor_config()))
    # The certificates, for one, must not be made by two at once. A machine's root may have to be built first.
    with locked(instance.folder / "up.lock", BUILD_SECONDS):
        if not whole.exists():  # also where a start was cut off
            machines = {machine.name: machine.made_as for machine in vm.machines(instance)} | machines
        for private in ("state", "pulumi-home"):
            (instance.folder / private).mkdir(mode=0o700, exist_ok=True)
        vm.write_user_key(instance)
        cluster.write_programs()
        step("programs", lambda: start_programs(instance))
        with ThreadPoolExecutor(max_workers=8) as pool:
            images = pool.submit(cluster.load_images)
            booted = {name: pool.submit(_create, Machine(instance, name), how, tools) for name, how in machines.items()}
            step("API server", cluster.wait_for_api)
            step("images", images.result)
            step("node", cluster.wait_for_node)
            for name, boot in booted.items():
                step(f"machine {name}", boot.result)
        whole.touch()


def _create(machine: Machine, how: MadeAs, tools: toolchain.Toolset) -> None:
    """Make and boot a machine, with what it takes besides where it is of a cloud."""
    used = tools if how.template is None else toolchain.build(["cloud-root"])
    machine.create(used, how.network, how.template, how.release)


def _placed(text: str) -> tuple[str, MadeAs]:
    """A machine's name, and what it is made as, from NAME or NAME@NETWORK."""
    name, _, network = text.partition("@")
    known = [str(each) for each in vm.Network]
    if "@" in text and network not in known:
        raise LabError(f"machine {text!r}: there is no network {network!r}; use one of {', '.join(known)}")
    return name, MadeAs(vm.Network(network or vm.Network.FLAT))


def start_programs(instance: Instance) -> None:
    """Start every program of the cluster that does not run: the first time, or after one of them died."""
    supervisor = instance.supervisor
    added, _, _ = supervisor.reloadConfig()[0]
    for name in added:
        supervisor.addProcessGroup(name)
    for info in supervisor.getAllProcessInfo():
        if not info["name"].startswith("machine-") and not program_runs(info):
            supervisor.startProcess(info["name"], False)


@app.command()
def down() -> None:
    """End the environment and remove every process, mount, interface, rule and file of it."""
    context.instance.remove()
    err.print(f"instance {context.instance.name} is gone")


@app.command()
def reset() -> None:
    """Start again from nothing, with the machines that were there."""
    tools = toolchain.build()
    machines = {machine.name: machine.made_as for machine in vm.machines(context.instance)}
    context.instance.remove()
    _start(context.instance, machines or {"vm-1": MadeAs()}, tools)


@app.command()
def status() -> None:
    """What runs."""
    instance = context.instance
    if not instance.running:
        err.print(f"instance {instance.name} is not running; start it: python -m lab -i {instance.name} up")
        raise typer.Exit(1)
    table = Table("part", "state", "detail", box=None, pad_edge=False)
    for info in instance.supervisor.getAllProcessInfo():
        if not info["name"].startswith("machine-"):
            table.add_row(info["name"], info["statename"].lower(), Text(info["description"]))
    for machine in vm.machines(instance):
        network = "" if machine.network is vm.Network.FLAT else f", network {machine.network}"
        table.add_row(machine.name, machine.state(), machine.address + network)
    Console(highlight=False).print(table)


@app.command()
def env() -> None:
    """What plain pulumi, kubectl and istioctl need: env="$(.venv/bin/python -m lab env)" && eval "$env"."""
    for name, value in environment(context.instance, toolchain.installed()).items():
        print(f"export {name}={shlex.quote(value)}")


def environment(instance: Instance, tools: toolchain.Toolset) -> dict[str, str]:
    """The environment variables of a shell that works on an instance; keys are names, values are final."""
    folder = instance.folder
    path = [str(PROJECT_ROOT / ".venv" / "bin"), str(tools.bin_dir), os.environ["PATH"]]
    return {
        "HYBRID_MESH_LAB": instance.name,
        "PATH": os.pathsep.join(dict.fromkeys(os.pathsep.join(path).split(os.pathsep))),
        "KUBECONFIG": str(folder / "kubeconfig"),
        # Without notes beside each file, which a killed pulumi leaves half, so that nobody can read the state
        # (docs/recovery.md), and for which each write of the state is summed up by MD5.
        "PULUMI_BACKEND_URL": f"file://{folder / 'state'}?metadata=skip",
        "PULUMI_HOME": str(folder / "pulumi-home"),
        "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # As a program, for the language host here does not know how the CLI starts a folder (docs/policy.md).
        "HYBRID_MESH_POLICY_PACK": str(PROJECT_ROOT / "policy" / "__main__.py"),
        **_past_proxies(instance),
    }


def _past_proxies(instance: Instance) -> dict[str, str]:
    """What keeps a shell's programs from asking a proxy, if it has one, for an instance's addresses."""
    if instance.slot is None:
        return {}
    known = (os.environ.get("NO_PROXY") or os.environ.get("no_proxy", "")).split(",")
    listed = ",".join(dict.fromkeys([*filter(None, known), str(instance.subnets.all)]))
    return {"NO_PROXY": listed, "no_proxy": listed}


@app.command()
def monitoring() -> None:
    """Load what a stack with `observability` takes: Prometheus and the metrics server (docs/metrics.md)."""
    context.instance.require_running()
    load_monitoring(context.instance)


def load_monitoring(instance: Instance) -> None:
    """Give an instance the images as they are now, made anew where the project's own code has changed."""
    Cluster(instance, toolchain.build(["monitoring-images", "prometheus"])).load_monitoring()


@app.command()
def traffic(
    url: Annotated[str, typer.Option(help="Of the demo app.")] = "http://echo.demo.svc.cluster.local:8080/",
    namespace: Annotated[str, typer.Option(help="Of the client's pods.")] = "demo",
    client: Annotated[str, typer.Option(help="The client's Deployment.")] = "client",
    requests: Annotated[int, typer.Option(help="How many from each.")] = 100,
) -> None:
    """Send requests from the client's pod and from every machine, and show who answered."""
    instance, tools = context.instance, toolchain.installed()
    sources = {f"pod of {client}": in_pod(instance, tools, f"deploy/{client}", namespace)}
    sources |= {machine.name: on_machine(machine) for machine in vm.machines(instance)}
    complete = True
    for source, runner in sources.items():
        answers = ask(runner, url, requests)
        complete = complete and answers.answered == requests
        print(f"{source} → {url}: {answers}")
    if not complete:
        raise typer.Exit(1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def ssh(
    name: Name,
    command: Annotated[list[str] | None, typer.Argument(help="Run this instead of a shell.")] = None,
    user: Annotated[str, typer.Option(help="root, or admin, who has sudo.")] = "root",
) -> None:
    """Log in to a machine, or run a command there."""
    machine = Machine(context.instance, name)
    machine.facts()
    raise typer.Exit(vm.interactive_ssh(machine, command or [], user))


@app.command(name="start")
def start_machine(name: Name) -> None:
    """Boot a machine that is off."""
    Machine(context.instance, name).start()


@app.command()
def stop(name: Name) -> None:
    """Power a machine off."""
    Machine(context.instance, name).stop()


@app.command()
def kill(name: Name) -> None:
    """Pull a machine's plug."""
    Machine(context.instance, name).kill()


@app.command()
def reboot(name: Name) -> None:
    """Reboot a machine and wait until it can be logged in to."""
    Machine(context.instance, name).reboot()


@machine_app.command()
def create(
    name: Name,
    network: Annotated[
        vm.Network,
        typer.Option(help="flat: with node and pods; cutoff: behind a firewall; edge: there, with port 15443 open."),
    ] = vm.Network.FLAT,
    release: Annotated[
        str, typer.Option(help=f"{', '.join(pins.RELEASES)}; {pins.RPM}: rpm keeps its packages.")
    ] = pins.DEBIAN_SUITE,
) -> None:
    """Make a machine and boot it; prints how to reach it as one line of JSON."""
    if release not in pins.RELEASES:
        raise LabError(f"release {release!r}: use one of {', '.join(pins.RELEASES)}")
    machine = Machine(context.instance, name)
    machine.create(toolchain.installed(), network, release=release)
    print(vm.as_json(machine))


@machine_app.command()
def delete(name: Name) -> None:
    """Remove a machine; nothing to do when it is not there."""
    Machine(context.instance, name).delete()


@app.command()
def package(
    version: Annotated[str, typer.Argument(help="Its version, such as 1.31.1.")],
    broken: Annotated[bool, typer.Option(help="It installs, and does not start.")] = False,
    family: Annotated[istio.Family, typer.Option(help="What keeps the packages of the machine.")] = "deb",
) -> None:
    """Put another version of the sidecar's package on the mirror; prints what `sidecar.package` takes, as JSON."""
    made = packages.make(context.instance, version, broken=broken, family=family)
    print(json.dumps(asdict(made)))


@tools_app.command()
def build() -> None:
    """Install and build what is missing."""
    toolchain.build()


@tools_app.command()
def prune() -> None:
    """Remove from the cache what this project's pins no longer name."""
    for folder in toolchain.prune():
        err.print(f"removed {folder}", markup=False)


def main() -> None:
    # The machines' own users read what is written for them here, and pods run as others; what is private says so.
    os.umask(0o022)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an arrow, where the terminal knows none
    try:
        app()
    except (
        LabError,
        toolchain.ToolsMissing,
        toolchain.BuildError,
        toolchain.UnsuitableSystemError,
        StoreBusyError,
        subprocess.TimeoutExpired,
        xmlrpc.client.Fault,
    ) as problem:
        err.print(f"[red]error:[/] {escape(str(problem))}")
        sys.exit(1)


if __name__ == "__main__":
    main()
