"""SSH servers in this process, for tests of what asks them."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import asyncssh

from hybridmesh.ops.ssh import Door


def key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


def private(made: asyncssh.SSHKey, passphrase: str | None = None) -> str:
    # bcrypt takes half a second for the usual number of rounds.
    return made.export_private_key("openssh", passphrase, rounds=16, ignore_few_rounds=True).decode()


def public(made: asyncssh.SSHKey) -> str:
    return " ".join(made.export_public_key("openssh").decode().split()[:2])


class Sshd:
    """One server on a loopback port. `echo` says what it reads, `sleep` never ends, nor does what `yes stdout` or
    `yes stderr` prints; a number is an exit."""

    def __init__(self, users: tuple[str, ...] = ("root",), more_hosts: tuple[asyncssh.SSHKey, ...] = ()) -> None:
        self.host, self.client = key(), key()
        self._hosts = [self.host, *more_hosts]
        """The keys that it can show."""
        self.users = users
        self.logins = 0
        self.drops = 0
        """So many connections it ends unheard."""
        self.answer = (0, "")
        """Status and stderr of any command that is none of the above."""
        self.forwarded: list[tuple[str, int]] = []
        self.port = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Sshd:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def door(self, **changes: str | int | None) -> Door:
        given: dict[str, str | int | None] = {
            "address": "127.0.0.1",
            "port": self.port,
            "host_key": public(self.host),
            "private_key": private(self.client),
        }
        return Door(**{**given, **changes})  # type: ignore[arg-type]  # each is of its field's type

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        outer = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                if outer.drops:
                    outer.drops -= 1
                    conn.abort()

            def begin_auth(self, username: str) -> bool:
                self._user = username
                return True

            def public_key_auth_supported(self) -> bool:
                return True

            def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
                return username in outer.users and key == outer.client.convert_to_public()

            def auth_completed(self) -> None:
                outer.logins += 1

            def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
                del orig_host, orig_port
                outer.forwarded.append((dest_host, dest_port))
                return True

        server = await asyncssh.create_server(
            Server, "127.0.0.1", 0, server_host_keys=self._hosts, process_factory=self._run
        )
        self.port = server.sockets[0].getsockname()[1]

    async def _run(self, process: asyncssh.SSHServerProcess[str]) -> None:
        command = process.command or ""
        if command == "echo":
            process.stdout.write(await process.stdin.read())
            process.exit(0)
        elif command == "sleep":
            await asyncio.sleep(60)
        elif command.startswith("yes "):
            stream = getattr(process, command.removeprefix("yes "))
            with suppress(OSError, asyncssh.Error):
                while True:
                    stream.write("y\n" * 10_000)
                    await stream.drain()
        elif command == "drop":
            connection = process.channel.get_connection()
            connection.abort()
        elif command.startswith("sudo"):
            process.stderr.write(command.removeprefix("sudo ") + "\n")
            process.stderr.write("hybrid-mesh: FAILED: admin is not root on vm, and sudo -n is refused\n")
            process.stderr.write("hybrid-mesh: remedy: log in as root, or allow this user NOPASSWD sudo\n")
            process.exit(77)
        elif command.isdigit():
            process.exit(int(command))
        else:
            await process.stdin.read()
            code, said = self.answer
            process.stderr.write(said)
            process.exit(code)


@contextmanager
def silent() -> Iterator[int]:
    """A port where connections are accepted, and nobody ever says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
