"""A VM's way out of the mesh: out of rotation, then drained, stopped and cleaned; or, if it is lost, without it."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import ConfigureRequest, CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from hybridmesh.remote import (
    ANOTHER_RAN,
    ANOTHER_RAN_FIX,
    COMMAND_AGENT_LEAVE,
    COMMAND_LEAVE,
    LEAVE_SCRIPTS,
    has_run,
    payload,
)

from .cluster import Cluster, ClusterAccess, connect
from .inputs import changed, entry_in_its_mesh, in_its_mesh, is_unknown, its_entry, number, text
from .lost import said_lost
from .packs import pack, takes_packs
from .reach import ask, found_at, host_key, machine_itself

SECTIONS = ("workloads", "networks")
"""Where machines are, in a stack's settings."""
LEAVE_SECONDS = 600
"""Limit for all that leave.sh does: each of its steps has a limit of its own, and these are the worst that add up."""
_STAYS = (
    "It is out of rotation, and stays in the stack until it has left: if it still runs, it would come back into the "
    "mesh by itself."
)
_WATCHED = (
    "address",
    "connection",
    "machine",
    "stack",
    "namespace",
    "entry",
    "staticEntry",
    "reachedAs",
    "metricsAgent",
    "command",
    "rotationSeconds",
    "drainSeconds",
    "dialSeconds",
    "dialAttempts",
    "kubeconfig",
    "context",
    "requestSeconds",
)


class DepartureError(RuntimeError):
    """A machine that could not be taken out of the mesh. The message says what to do."""


@takes_packs
class DepartureProvider(ResourceProvider):
    """Creates nothing, and is made before anything is done to the VM, so that `destroy` undoes a half-made join too.

    Its delete is the VM's leaving, in one order: the WorkloadEntry goes, clients are given time to see that, the proxy
    drains and stops, and the VM is cleaned. A VM that is declared lost is not asked.

    The VM's metrics agent goes with it; where the VM stays without, by the update that says so.

    What another VM of the stack has by now, which came up at the same address or is the same under another name, it
    keeps. Nor is a machine left to the command that made it and would remove it, where that goes and the machine stays.
    """

    serialize_as_secret_always = False
    _configured: Mapping[str, Any] = {}

    def configure(self, req: ConfigureRequest) -> None:
        """Keeps the stack's settings as they come: they say who is lost. At `destroy` they are those of the last
        `up`."""
        self._configured = {key: req.config.get(key) for key in (f"hybrid-mesh:{name}" for name in SECTIONS)}

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Notes how to leave."""
        _heard_of(props)
        return CreateResult(f"{props['machine']}@{_address(props)}", props)

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Another machine under the same name is a replacement: it joins, and then the old one leaves.

        A machine that keeps its host key is the same one wherever it is found, and one that is found where it was is
        the same or has taken the old one's place; in both cases nobody is left behind. Nor is anybody where the mesh
        reaches the new one at the address of the old.
        """
        _heard_of(news)
        _refuse_removal(olds, news)
        if not _is_another(olds, news):
            return DiffResult(changes=bool(changed(olds, news, _WATCHED)))
        if news.get("staticEntry") and olds.get("staticEntry"):
            raise DepartureError(
                f"{news['machine']} would become another machine, at {_address(news)}. Its WorkloadEntry is static: "
                "requests would go there before it has joined. Fix: take the machine out of the settings, `pulumi up`, "
                "and put the new one in; or give the new one another name."
            )
        return DiffResult(changes=True, replaces=["address", "connection"], delete_before_replace=False)

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Notes how to leave by now, and takes a metrics agent away that is not to be there any more."""
        _take_agent_away(olds, news)
        return UpdateResult(news)

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        """Takes the VM out of the mesh."""
        heir = next((_STAYING[sign] for sign in _signs(props) if sign in _STAYING), None)
        if heir is not None:
            _stay(props, heir)
            return
        _refuse_removal_of_one_found_there(props)
        if self._is_lost(props):
            _forget(props)
        else:
            _leave(props)

    def _is_lost(self, props: Mapping[str, Any]) -> bool:
        # Imported here, as below, for it takes a fifth of a second, and few runs take a VM out.
        from hybridmesh.settings import lost

        if said_lost(props, _address(props)):
            return True
        places = (lost.sections_of_config(self._configured), lost.sections_of_file(stack_file(props)))
        return any(lost.declared_lost(sections, text(props, "machine"), _address(props)) for sections in places)


_STAYING: dict[tuple[str, ...], Mapping[str, Any]] = {}
"""Machines of the settings, by what is theirs: their WorkloadEntry, and the machine itself. An engine has one process
for all dynamic resources of a run, and asks after every one that stays before it deletes the first. A `destroy` asks
after none."""


def _heard_of(news: Mapping[str, Any]) -> None:
    """Notes what a machine has that stays in the stack; what is not known yet, in a preview, is nobody's."""
    if _is_known(news["connection"]) and not is_unknown(news["entry"]):
        _STAYING.update(dict.fromkeys([entry_in_its_mesh(news), *_signs(news)], news))


def _signs(props: Mapping[str, Any]) -> Sequence[tuple[str, ...]]:
    """What tells a machine from another: where SSH finds it or where the mesh does, and its host key. Machines that
    are copies of one may share that alone."""
    return machine_itself(props), in_its_mesh(props, _place(props), host_key(props["connection"]))


def _place(props: Mapping[str, Any]) -> str:
    """Where the mesh reaches a machine, as istiod names an entry; a static one has the VM's name, wherever that is."""
    return text(props, "reachedAs") or text(props, "entry")


def _delete_entry(cluster: Cluster, props: Mapping[str, Any]) -> None:
    """Takes a machine out of rotation; a static entry is a resource of the stack, and gone already."""
    if not props.get("staticEntry") and entry_in_its_mesh(props) not in _STAYING:
        cluster.delete_workload_entry(*its_entry(props))


def _address(props: Mapping[str, Any]) -> str:
    """Where SSH reaches the VM."""
    return text(props, "address")


def _is_another(olds: Mapping[str, Any], news: Mapping[str, Any]) -> bool:
    """Whether it is another machine by now; one that is not known yet may still be the same."""
    old, new = olds["connection"], news["connection"]
    if not _is_known(new):
        return False
    elsewhere = _place(olds) != _place(news)
    return elsewhere and found_at(old) != found_at(new) and host_key(old) != host_key(new)


def _is_known(way: Mapping[str, Any]) -> bool:
    """Whether a way to a machine is known, as far as it tells the machine from others."""
    if is_unknown(way) or is_unknown(way.get("bastion")):
        return False
    parts = (way.get("address"), way.get("port"), way.get("hostKey"), *(way.get("bastion") or {}).values())
    return not any(is_unknown(part) for part in parts)


def _stay(props: Mapping[str, Any], heir: Mapping[str, Any]) -> None:
    """Leaves a machine that the settings have, whatever they call it, in the mesh."""
    _take_agent_away(props, heir)
    machine = text(heir, "machine")
    if machine == text(props, "machine"):
        _say(f"{machine} ({_address(props)}) is in the stack, and stays in the mesh.")
        return
    _refuse_removal_of_heir(props, machine)
    _say(f"{props['machine']} ({_address(props)}) is {machine} by now, which stays in the mesh.")


def _take_agent_away(olds: Mapping[str, Any], news: Mapping[str, Any]) -> None:
    """Takes a metrics agent away that is not to be there any more."""
    if olds.get("metricsAgent") and not news.get("metricsAgent"):
        _run(news, COMMAND_AGENT_LEAVE, "take its metrics agent away", "Its metrics agent may still run.")


def _refuse_removal(olds: Mapping[str, Any], news: Mapping[str, Any]) -> None:
    """Raises DepartureError if a machine that keeps its name would be removed by the command that made it."""
    if not _command(olds).get("removes") or news.get("command") is not None or not _is_known(news["connection"]):
        return
    if not _is_another(olds, news):
        machine = text(olds, "machine")
        raise DepartureError(
            f"{machine} is the same machine as before ({_address(olds)}), and has no `command` any more: the "
            f"`command.delete` that it had would remove it. Nothing was removed. Fix: give `hosts.{machine}.command` "
            '`delete: "true"` in place of that, `pulumi up`, and then take `command` out; or put it back.'
        )


def _refuse_removal_of_heir(props: Mapping[str, Any], heir: str) -> None:
    """Raises DepartureError if a machine that stays would be removed by the command that made it under another name."""
    command = _command(props)
    if not command.get("removes") or any(_command(other).get("urn") == command["urn"] for other in _STAYING.values()):
        return
    machine = text(props, "machine")
    raise DepartureError(
        f"{machine} ({_address(props)}) is {heir} by now, which stays in the mesh: the `command.delete` that {machine} "
        f"had would remove that machine. It did not run. Fix: let Pulumi forget {machine}, with "
        f"`pulumi state delete --target-dependents '{command['urn']}'`, and `pulumi up`."
    )


def _refuse_removal_of_one_found_there(props: Mapping[str, Any]) -> None:
    """The same for one of which another host key is given: where one is found, there is no second."""
    for other in _STAYING.values():
        if found_at(other["connection"]) == found_at(props["connection"]) or entry_in_its_mesh(
            other
        ) == entry_in_its_mesh(props):
            _refuse_removal_of_heir(props, text(other, "machine"))


def _command(props: Mapping[str, Any]) -> Mapping[str, Any]:
    """What made the machine; empty if nothing of this stack did."""
    command = props.get("command")
    return command if isinstance(command, Mapping) else {}


def stack_file(props: Mapping[str, Any]) -> Path:
    """The file that says who is lost when no program runs, as in `destroy`."""
    from hybridmesh.settings.lost import STACK_FILE_VARIABLE

    return Path(os.environ.get(STACK_FILE_VARIABLE) or f"Pulumi.{text(props, 'stack')}.yaml")


def _forget(props: Mapping[str, Any]) -> None:
    """Takes a lost machine's WorkloadEntry away."""
    _delete_entry(connect(props), props)
    _say(f"{props['machine']} ({_address(props)}) is declared lost: it is out of the mesh, and was not asked.")


def _leave(props: Mapping[str, Any]) -> None:
    cluster = connect(props)
    served = bool(props.get("staticEntry")) or cluster.workload_entry(*its_entry(props)) is not None
    _delete_entry(cluster, props)
    if served:
        time.sleep(number(props, "rotationSeconds"))
    _run(props, COMMAND_LEAVE, "leave the mesh", _STAYS)
    # While it still was connected, another istiod may have taken it for new.
    _delete_entry(cluster, props)


def _run(props: Mapping[str, Any], command: str, what: str, consequence: str) -> None:
    """Runs a script on the VM that can be run twice. Raises DepartureError, which says what that leads to."""
    # Imported here, for it takes a third of a second, and programs import this package only to name its classes.
    from hybridmesh.ops.ssh import SshError

    stdin = payload({}, {"drain-seconds": str(number(props, "drainSeconds"))}, LEAVE_SCRIPTS)
    answer = ask(props, command, stdin, LEAVE_SECONDS)
    if isinstance(answer, SshError):
        raise DepartureError(_remedy(props, f"{answer.problem}. {consequence}"))
    machine = text(props, "machine")
    if answer.code != 0:
        said = answer.stderr.strip().splitlines()[-20:]
        raise DepartureError("\n".join([f"{machine} could not {what}:", *said]))
    if not has_run(answer.stderr):
        raise DepartureError(f"{machine}: {ANOTHER_RAN}. {consequence} Fix: {ANOTHER_RAN_FIX}; then run this again.")
    for line in answer.stderr.splitlines():
        if "note: " in line:
            _say(f"{machine}: {line.partition('note: ')[2]}")


def _remedy(props: Mapping[str, Any], problem: str) -> str:
    from hybridmesh.settings.lost import STACK_FILE_VARIABLE

    machine, file = text(props, "machine"), stack_file(props)
    return (
        f"{machine}: {problem} Fix: make it reachable and run this again. If it is gone for good, "
        f"declare it lost (`hosts.{machine}.lost: true` in {file}, or `lost: [{_address(props)}]` if {machine} is "
        "another machine by now; docs/leaving.md), and run this again. With `--config-file`, name the file in "
        f"{STACK_FILE_VARIABLE} too."
    )


def _say(line: str) -> None:
    # The engine shows what a plugin prints.
    print(line, flush=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class DepartureArgs:
    """Inputs of `Departure`."""

    cluster: ClusterAccess
    """The cluster."""
    machine: str
    """The VM's name in the settings."""
    namespace: pulumi.Input[str]
    """The workload's namespace."""
    entry: pulumi.Input[str]
    """Name of the VM's WorkloadEntry."""
    static_entry: bool = False
    """Whether that is not istiod's, but a resource of the stack. It must be made after this, and so goes before."""
    reached_as: pulumi.Input[str] | None = None
    """Of a static entry: the name that istiod would give it, by where the mesh reaches the VM."""
    metrics_agent: bool = False
    """Whether a Prometheus agent runs on it, which has to go before the VM stays without."""
    command: pulumi.Input[Mapping[str, Any]] | None = None
    """What made it: its `urn`, and whether it `removes` the machine as it goes. None: nothing of this stack."""
    address: pulumi.Input[str]
    """Where SSH reaches it: apart, since a key hides the way there from a preview."""
    ssh: pulumi.Input[str] = field(repr=False)
    """The way to it, as `Connection.packed` gives it."""
    rotation_seconds: int = 3
    """How long clients get to see that the VM is out of rotation, before it drains."""
    drain_seconds: int = 5
    """How long its proxy serves the requests that it has."""


class Departure(Resource, name="Departure"):
    """That a VM will leave the mesh, however it goes from the stack."""

    namespace: pulumi.Output[str]
    """The workload's namespace."""

    def __init__(self, name: str, args: DepartureArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            DepartureProvider(),
            name,
            {
                "cluster": args.cluster.packed(),
                "machine": args.machine,
                "stack": pulumi.get_stack(),
                "namespace": args.namespace,
                "entry": args.entry,
                "staticEntry": args.static_entry or None,
                "reachedAs": args.reached_as,
                "metricsAgent": args.metrics_agent or None,
                "command": args.command,
                "address": args.address,
                "ssh": args.ssh,
                "limits": pack(
                    "limits", {"rotationSeconds": args.rotation_seconds, "drainSeconds": args.drain_seconds}
                ),
            },
            opts,
        )
