"""How the console reaches machines: SSH, many machines at a time, each step with a limit.

A machine is known by its host key, which must be the one that the settings or the stack's outputs name. What runs
there is one constant command text (see hybridmesh.remote), with whatever it needs on stdin. No secret is in a
message or in a repr. Nothing of a person's own SSH configuration (~/.ssh) is read but the agent, and that only
where the settings say so.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import asyncssh
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from hybridmesh.legible import legible

SUDO_REFUSED = 77
"""What the commands of hybridmesh.remote end with where their user is not root and sudo is refused."""

_HOST_KEY_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)

MOST_MIB = 128
"""So much is kept of what one command prints, on stdout as on stderr: the largest bundles have a part of that."""
_PART = 65536
_DIALS = 4
"""An sshd that has too many logins under way drops new ones unheard (MaxStartups): so often it is tried in all."""
_LONGEST_PAUSE_SECONDS = 4

Kind = Literal["unreachable", "host key", "login", "key", "agent", "sudo", "limit", "cut off"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """One sshd and how to get in."""

    address: str
    """IP address or host name."""
    port: int = 22
    user: str = "root"
    host_key: str
    """`<type> <base64>`."""
    private_key: str | None = field(default=None, repr=False)
    """None: the agent has it."""
    passphrase: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.user}@{self.address}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reachable:
    """A machine, and the way to it."""

    name: str
    """As the stack calls it."""
    door: Door
    bastion: Door | None = None
    """What the way goes through."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """In seconds, but for the last."""

    connect: float = 15
    """TCP, handshake and login of one sshd, a silent one included."""
    command: float = 60
    """The command, from its start to its end."""
    at_once: int = 50
    """Machines at a time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command on a machine said, so that it can be printed."""

    machine: str
    code: int
    stdout: str
    stderr: str


class SshError(Exception):
    """A machine that could not be asked. Names it, the consequence and the fix."""

    def __init__(
        self, machine: str, kind: Kind, problem: str, consequence: str, fix: str, *, shared: str | None = None
    ) -> None:
        self.machine = machine
        self.kind = kind
        self.problem = problem
        self.shared = problem if shared is None else shared
        """The problem, without what tells the machine from others that may have it too."""
        self.consequence = consequence
        self.fix = fix
        super().__init__(f"{machine}: {problem}. {consequence} Fix: {fix}")


def run_on_all(
    machines: Mapping[str, Reachable],
    command: str,
    stdin: Callable[[str], str] | str = "",
    limits: Limits = Limits(),
) -> dict[str, Answer | SshError]:
    """Run `command` on all machines at once; each has its answer or its error, and none waits for another.

    Args:
        machines: by name.
        command: the same constant text for all.
        stdin: the text that it reads, or what gives it by the machine's name. It may hold secrets.
        limits: see there.
    """
    # With a factory the runner leaves the thread's own event loop alone, which may be Pulumi's.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(_run_on_all(machines, command, stdin, limits))


async def _run_on_all(
    machines: Mapping[str, Reachable], command: str, stdin: Callable[[str], str] | str, limits: Limits
) -> dict[str, Answer | SshError]:
    places = asyncio.Semaphore(limits.at_once)

    async def ask(name: str, machine: Reachable, bastions: _Bastions) -> Answer | SshError:
        async with places:
            try:
                return await _run_on(machine, command, stdin(name) if callable(stdin) else stdin, limits, bastions)
            except SshError as error:
                return error

    async with _bastions(limits) as bastions:
        answers = await asyncio.gather(*(ask(name, machine, bastions) for name, machine in machines.items()))
    return dict(zip(machines, answers, strict=True))


class _EndlessError(Exception):
    """A command prints more than is kept."""


async def _shown(stream: asyncssh.SSHReader[str]) -> str:
    """All that comes, fit to be printed. Lines of a file that came from Windows, such as a certificate's, are lines."""
    parts: list[str] = []
    size, half_an_end = 0, ""
    while part := await stream.read(_PART):
        text = half_an_end + part
        half_an_end = "\r" if text.endswith("\r") else ""
        parts.append(legible(text.removesuffix("\r").replace("\r\n", "\n")))
        size += len(parts[-1])
        if size > MOST_MIB * 2**20:
            raise _EndlessError
    return "".join([*parts, legible(half_an_end)])


async def _run_on(machine: Reachable, command: str, stdin: str, limits: Limits, bastions: _Bastions) -> Answer:
    tunnel = await bastions.to(machine)
    async with await _open(machine.name, machine.door, tunnel, limits) as connection:
        try:
            async with asyncio.timeout(limits.command):
                process = await connection.create_process(command, encoding="utf-8", errors="replace")
                with suppress(BrokenPipeError):  # it ended without reading all of it
                    process.stdin.write(stdin)
                    process.stdin.write_eof()
                stdout, stderr = await asyncio.gather(_shown(process.stdout), _shown(process.stderr))
                done = await process.wait()
        except TimeoutError:
            raise SshError(
                machine.name,
                "limit",
                f"the command did not end within {limits.command:g} s",
                "Nothing is known of the machine.",
                f"look at what it does there: `ssh {_for_ssh(machine.door)} ps -ef`; then try again.",
            ) from None
        except _EndlessError:
            raise SshError(
                machine.name,
                "limit",
                f"it prints more than {MOST_MIB} MiB, and was listened to no longer",
                "Nothing is known of the machine.",
                f"see what prints so much: `ssh {_for_ssh(machine.door)} true` is to print nothing.",
            ) from None
        except (OSError, asyncssh.Error) as error:
            raise _cut_off(machine, error) from None
    if done.exit_status is None:
        raise _cut_off(machine, "the command was ended by a signal")
    answer = Answer(machine.name, done.exit_status, stdout, stderr)
    if answer.code == SUDO_REFUSED and "sudo -n is refused" in answer.stderr:
        raise SshError(
            machine.name,
            "sudo",
            f"{machine.door.user} is not root there, and sudo is refused ({_words_of_sudo(answer.stderr)})",
            "Nothing can be installed or looked at there.",
            f"`{machine.door.user} ALL=(ALL) NOPASSWD: ALL` in /etc/sudoers.d on the machine, and "
            f"`Defaults:{machine.door.user} !requiretty` where it wants a terminal; or `user: root`.",
        )
    return answer


def _words_of_sudo(stderr: str) -> str:
    """What sudo said, or the shell where there is none; the command's own lines follow it."""
    said = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("hybrid-mesh: ")]
    return said[-1] if said else "it asks for a password"


def _cut_off(machine: Reachable, error: object) -> SshError:
    return SshError(
        machine.name,
        "cut off",
        f"the connection to {machine.door} was lost while the command ran ({_words(error)})",
        "Nothing is known of what it did.",
        "try again; what runs on a machine can be run twice.",
    )


class _Bastions:
    """One connection to each bastion, for all machines behind it: of many that log in at once, sshd drops some."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._opened: dict[Door, asyncio.Task[asyncssh.SSHClientConnection]] = {}

    async def to(self, machine: Reachable) -> asyncssh.SSHClientConnection | None:
        """What the way to a machine goes through; None: it has none. Raises SshError."""
        door = machine.bastion
        if door is None:
            return None
        if door not in self._opened or _is_closed(self._opened[door]):
            self._opened[door] = asyncio.create_task(_open(machine.name, door, None, self._limits))
        try:
            return await asyncio.shield(self._opened[door])
        except SshError as error:
            problem = f"its bastion: {error.problem}"
            raise SshError(machine.name, error.kind, problem, error.consequence, error.fix) from None

    async def close(self) -> None:
        """Closes them all."""
        for opening in self._opened.values():
            opening.cancel()
        for opened in await asyncio.gather(*self._opened.values(), return_exceptions=True):
            if isinstance(opened, asyncssh.SSHClientConnection):
                opened.close()
                await opened.wait_closed()


def _is_closed(opening: asyncio.Task[asyncssh.SSHClientConnection]) -> bool:
    """Whether it was open, and was lost since."""
    return opening.done() and opening.exception() is None and opening.result().is_closed()


@asynccontextmanager
async def _bastions(limits: Limits) -> AsyncIterator[_Bastions]:
    bastions = _Bastions(limits)
    try:
        yield bastions
    finally:
        await bastions.close()


async def _open(
    name: str, door: Door, tunnel: asyncssh.SSHClientConnection | None, limits: Limits
) -> asyncssh.SSHClientConnection:
    try:
        async with asyncio.timeout(limits.connect), _keys(name, door) as keys:

            async def dial() -> asyncssh.SSHClientConnection:
                return await asyncssh.connect(
                    door.address,
                    door.port,
                    username=door.user,
                    client_keys=keys,
                    known_hosts=([_host_key(name, door)], [], []),
                    server_host_key_algs=_algorithms(door.host_key),
                    tunnel=tunnel or (),
                    config=None,
                    agent_path=None,
                    password=None,
                    gss_host=None,
                    preferred_auth="publickey",
                    keepalive_interval=5,
                    keepalive_count_max=6,
                )

            patiently = AsyncRetrying(
                retry=retry_if_exception_type((asyncssh.ConnectionLost, ConnectionResetError)),
                stop=stop_after_attempt(_DIALS),
                wait=wait_random_exponential(max=_LONGEST_PAUSE_SECONDS),
                reraise=True,
            )
            return await patiently(dial)
    except asyncssh.PermissionDenied:
        raise _refused(name, door) from None
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        raise _another_host(name, door, error) from None
    except TimeoutError:
        raise _unreachable(name, door, f"no answer within {limits.connect:g} s") from None
    except (OSError, asyncssh.Error) as error:
        raise _unreachable(name, door, _words(error)) from None


@asynccontextmanager
async def _keys(name: str, door: Door) -> AsyncIterator[list[asyncssh.SSHKey] | list[asyncssh.SSHKeyPair]]:
    """What opens the door; an agent stays connected as long as it may have to sign."""
    if door.private_key is not None:
        yield [_private_key(name, door.private_key, door.passphrase)]
        return
    agent, keys = await _agent(name)
    try:
        yield keys
    finally:
        agent.close()


async def _agent(name: str) -> tuple[asyncssh.SSHAgentClient, list[asyncssh.SSHKeyPair]]:
    path = os.environ.get("SSH_AUTH_SOCK", "")
    try:
        if not path:
            raise OSError("SSH_AUTH_SOCK is not set")
        agent = await asyncssh.connect_agent(path)
        keys: list[asyncssh.SSHKeyPair] = list(await agent.get_keys())
        if not keys:
            agent.close()
            raise OSError("it holds no key")
    except (OSError, ValueError) as error:
        raise SshError(
            name,
            "agent",
            f"the ssh-agent has no key for it ({_words(error)})",
            "Nobody can log in.",
            '`eval "$(ssh-agent)" && ssh-add KEY`, or give a private key in the settings.',
        ) from None
    return agent, keys


def _private_key(name: str, text: str, passphrase: str | None) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_private_key(text, passphrase)
    except asyncssh.KeyEncryptionError:
        given = "does not open it" if passphrase else "is missing"
        problem, fix = f"its private key has a passphrase, and privateKeyPassphrase {given}", "the right passphrase."
    except (asyncssh.KeyImportError, ValueError):
        problem = "its private key cannot be read, or privateKeyPassphrase does not open it"
        fix = "a private key in PEM or OpenSSH form, and its passphrase if it has one."
    raise SshError(name, "key", problem, "Nobody can log in.", fix)


def _host_key(name: str, door: Door) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_public_key(door.host_key)
    except (asyncssh.KeyImportError, ValueError):
        raise SshError(
            name,
            "host key",
            f"hostKey is no public key: {door.host_key[:40]!r}",
            "Nobody could tell the machine from another one.",
            f"what `ssh-keyscan {door.address}` prints after the address, checked on the machine itself.",
        ) from None


def _algorithms(host_key: str) -> list[str]:
    """Those of the expected key first, and all others: a host without such a key had better show what it has."""
    kind = "rsa-" if host_key.startswith("ssh-rsa ") else host_key.split(" ")[0]
    return sorted(_HOST_KEY_ALGORITHMS, key=lambda algorithm: not algorithm.startswith(kind))


def _refused(name: str, door: Door) -> SshError:
    what = "any key of the ssh-agent" if door.private_key is None else "the private key"
    return SshError(
        name,
        "login",
        f"{door.address}:{door.port} does not let {door.user} in with {what}",
        "Nobody can log in.",
        f"add the public key to ~{door.user}/.ssh/authorized_keys there, or name the user whose key it is.",
        shared=f"sshd does not let {door.user} in with {what}",
    )


def _another_host(name: str, door: Door, error: Exception) -> SshError:
    return SshError(
        name,
        "host key",
        f"{door.address}:{door.port} shows another host key than {door.host_key.split()[0]} of hostKey "
        f"({_words(error)})",
        "It is not talked to: it may be another machine, or somebody in between.",
        "if the machine was made anew, compare `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there, "
        "and set hostKey.",
    )


def _unreachable(name: str, door: Door, reason: str) -> SshError:
    return SshError(
        name,
        "unreachable",
        f"SSH does not answer at {door.address}:{door.port} ({reason})",
        "Nothing is known of the machine.",
        f"see that it runs, and that its sshd and every firewall in between let this machine in on port {door.port}.",
        shared=f"SSH does not answer ({reason})",
    )


def _words(error: object) -> str:
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return (legible(" ".join(str(error).split())) or type(error).__name__).rstrip(".")


def _for_ssh(door: Door) -> str:
    return f"-p {door.port} {door.user}@{door.address}" if door.port != 22 else f"{door.user}@{door.address}"
