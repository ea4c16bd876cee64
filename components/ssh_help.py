"""What pulumi-command's errors mean: it says what SSH said, and neither of which machine nor what to do about it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import pulumi

from .hooks import ERROR_HOOKS, RESOURCE_HOOKS, supports

_UNREACHABLE: Final = (
    "SSH does not answer. Nothing was done there. Fix: see that it runs, and that its sshd and every firewall in "
    "between let this machine in"
)
_MEANINGS: Final = (
    (
        "host key mismatch",
        "it shows another host key than the settings' hostKey. It is not talked to: it may be another machine, or "
        "somebody in between. Fix: if the machine was made anew, compare `ssh-keygen -lf "
        "/etc/ssh/ssh_host_ed25519_key.pub` there, and set hostKey",
    ),
    (
        "unable to authenticate",
        "it does not let the user in with this key. Nothing was done there. Fix: add the public key to the user's "
        "~/.ssh/authorized_keys there, or set `user` to the one whose key it is",
    ),
    (
        "passphrase protected",
        "its private key has a passphrase. Nobody can log in. Fix: privateKeyPassphrase as a secret, or an agent",
    ),
    (
        "decryption password incorrect",
        "privateKeyPassphrase does not open its private key. Nobody can log in. Fix: set the right one",
    ),
    ("ssh: no key found", "its private key cannot be read. Nobody can log in. Fix: a key in PEM or OpenSSH form"),
    (
        "dial unix",
        "the ssh-agent at SSH_AUTH_SOCK does not answer. Nobody can log in. Fix: start an agent and add the key, or "
        "unset SSH_AUTH_SOCK and give a private key in the settings",
    ),
    (
        "handshake failed",
        "it hangs up before anybody logs in. Nothing was done there. Fix: see its sshd's log: too many connections "
        "(MaxStartups), or an address that is blocked (fail2ban)",
    ),
    ("failed attempts: dial tcp", _UNREACHABLE),
    ("connection refused", _UNREACHABLE),
    ("connect failed", _UNREACHABLE),
    ("i/o timeout", _UNREACHABLE),
    (
        "remote command exited without exit status",
        "the connection was lost while the command ran. Nothing is known of what it did. Fix: run `pulumi up` again: "
        "what runs on a machine can be run twice",
    ),
)
"""What is in an error, the first that fits, and what it means."""


def meaning(machine: str, errors: Sequence[str]) -> str | None:
    """What the latest of `errors` means; None where it says so itself, as the scripts do, or nobody knows."""
    error = errors[0] if errors else ""
    if "hybrid-mesh: FAILED" in error:
        return None
    for mark, words in _MEANINGS:
        if mark in error:
            at = f"{machine}, at its bastion or beyond" if "proxy: " in error else machine
            return f"{at}: {words}. `python -m hybridmesh preflight {machine}` looks again, and changes nothing."
    return None


class SshHelp:
    """Tells, as a run goes on, what went wrong with a machine's SSH. It changes nothing about the run.

    One for all machines of a stack, since each hook is a request to the engine before anything else happens.
    """

    def __init__(self, name: str) -> None:
        self._told: dict[str, tuple[str, float]] = {}
        self._timers: dict[str, threading.Timer] = {}
        self._binding = self._hooks(name)

    def on(self, machine: str, patience_seconds: float, *commands: str) -> pulumi.ResourceHookBinding:
        """The hooks for a machine's commands, by the names of these resources. `patience_seconds`: how long one may go
        on before somebody is told, if it should end by then."""
        self._told |= dict.fromkeys(commands, (machine, patience_seconds))
        return self._binding

    def _hooks(self, name: str) -> pulumi.ResourceHookBinding:
        """pulumi-command waits for a host that accepts connections and says nothing, for ever, and no limit of the
        engine's ends that.
        """
        on_error = [pulumi.ErrorHook(f"{name}-ssh-help", self._explain)] if supports(ERROR_HOOKS) else None
        if not supports(RESOURCE_HOOKS):
            return pulumi.ResourceHookBinding(on_error=on_error)
        options = pulumi.ResourceHookOptions(ignore_errors=True)
        start = pulumi.ResourceHook(f"{name}-ssh-waits", self._start, options)
        stop = pulumi.ResourceHook(f"{name}-ssh-answered", self._stop, options)
        return pulumi.ResourceHookBinding(
            before_create=[start],
            before_update=[start],
            after_create=[stop],
            after_update=[stop],
            on_error=on_error,
        )

    def _explain(self, args: pulumi.ErrorHookArgs) -> bool:
        self._end(args.urn)
        machine, _ = self._told[args.name]
        words = meaning(machine, args.errors)
        if words is not None:
            pulumi.log.error(words)
        return False

    def _start(self, args: pulumi.ResourceHookArgs) -> None:
        machine, patience = self._told[args.name]
        self._timers[args.urn] = later(patience, lambda: pulumi.log.warn(still_silent(machine, patience)))

    def _stop(self, args: pulumi.ResourceHookArgs) -> None:
        self._end(args.urn)

    def _end(self, urn: str) -> None:
        timer = self._timers.pop(urn, None)
        if timer is not None:
            timer.cancel()


def still_silent(machine: str, patience_seconds: float) -> str:
    """What is said of a machine that should have answered by now."""
    return (
        f"{machine}: no answer after {patience_seconds:g} s. It may accept connections and say nothing, which "
        "pulumi-command waits for without end; the other machines go on. Fix: look at its sshd, or press Ctrl-C "
        f"twice; `python -m hybridmesh preflight {machine}` says within seconds whether it answers."
    )


def later(seconds: float, action: Callable[[], None]) -> threading.Timer:
    """A timer that keeps no program from ending."""
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer
