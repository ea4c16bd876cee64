"""The way to a VM, as a resource's properties tell it (`Connection.packed`), and what is asked there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_fixed

from .inputs import number, text
from .waiting import last_answer

if TYPE_CHECKING:
    from hybridmesh.ops.ssh import Answer, Door, Reachable, SshError

_PAUSE_SECONDS = 2.0


def reachable(machine: str, connection: Mapping[str, Any]) -> Reachable:
    """A machine for the SSH client."""
    # Imported here, for it takes a third of a second, and programs import this package only to name its classes.
    from hybridmesh.ops.ssh import Reachable

    bastion = connection.get("bastion")
    return Reachable(name=machine, door=_door(connection), bastion=_door(bastion) if bastion else None)


def machine_itself(props: Mapping[str, Any]) -> tuple[str, ...]:
    """What tells one machine from another, whatever it is called."""
    way = props["connection"]
    return *found_at(way), host_key(way)


def found_at(way: Mapping[str, Any]) -> tuple[str, ...]:
    """Where SSH finds a machine. Copies of one may share address and key, in networks behind bastions of their own."""
    doors = [way, way["bastion"]] if way.get("bastion") else [way]
    # A number is 22 in JSON, and 22.0 where Pulumi has it from.
    return tuple(found for door in doors for found in (str(door.get("address")), f"{float(door.get('port') or 22):g}"))


def host_key(way: Mapping[str, Any]) -> str:
    """Its host key, without the comment that may follow."""
    return " ".join(str(way.get("hostKey")).split()[:2])


def ask(props: Mapping[str, Any], command: str, stdin: str, seconds: float) -> Answer | SshError:
    """What the VM says to a command that can be run twice. One that does not answer, for it may be booting, is tried
    `dialAttempts` times; `seconds` is the command's limit.
    """
    from hybridmesh.ops.ssh import Limits, run_on_all

    machine = reachable(text(props, "machine"), props["connection"])
    limits = Limits(connect=number(props, "dialSeconds"), command=seconds)
    patiently = Retrying(
        retry=retry_if_result(_is_out_of_reach),
        stop=stop_after_attempt(number(props, "dialAttempts")),
        wait=wait_fixed(_PAUSE_SECONDS),
        retry_error_callback=last_answer,
    )
    return patiently(lambda: run_on_all({machine.name: machine}, command, stdin, limits)[machine.name])


def _is_out_of_reach(answer: Answer | SshError) -> bool:
    return getattr(answer, "kind", "") in ("unreachable", "cut off")


def _door(access: Mapping[str, Any]) -> Door:
    from hybridmesh.ops.ssh import Door

    return Door(
        address=access["address"],
        port=int(access["port"]),
        user=access["user"],
        host_key=access["hostKey"],
        private_key=access.get("privateKey") or None,
        passphrase=access.get("passphrase") or None,
    )
