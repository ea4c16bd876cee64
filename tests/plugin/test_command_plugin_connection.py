"""The property `connection`: identity on both sides, limits, proxies. Both plugins pass."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.plugin import CallError, Plugin, is_secret, plain
from tests.plugin.sshd import PASSWORD, Sshd, free_port, make_key

pytestmark = pytest.mark.lab

COMMAND = "command:remote:Command"


def connect(plugin: Plugin, connection: dict[str, Any]) -> str:
    """Run a command over that connection; its output."""
    return str(plugin.create(COMMAND, {"connection": connection, "create": "echo connected"}).output("stdout"))


def test_what_is_left_out_gets_its_default(plugin: Plugin) -> None:
    checked = plugin.check(COMMAND, {"connection": {"host": "h", "proxy": {"host": "p"}}})

    defaults = {"user": "root", "port": 22, "dialErrorLimit": 10, "perDialTimeout": 15}
    assert plain(checked["connection"]) == {"host": "h", **defaults, "proxy": {"host": "p", **defaults}}


def test_passwords_and_keys_are_secret_by_themselves(plugin: Plugin) -> None:
    fields = dict.fromkeys(("password", "privateKey", "privateKeyPassword"), "x")

    checked = plugin.check(COMMAND, {"connection": {"host": "h", **fields, "proxy": {"host": "p", **fields}}})

    connection = checked["connection"]["value"]
    for place in (connection, connection["proxy"]):
        assert {name for name, value in place.items() if is_secret(value)} == fields.keys()


class TestHostKey:
    """The server's identity."""

    def test_the_right_one_is_accepted(self, plugin: Plugin, sshd: Sshd) -> None:
        assert connect(plugin, sshd.connection) == "connected"

    def test_another_one_is_refused_before_the_command_runs(self, plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
        connection = {**sshd.connection, "hostKey": make_key(tmp_path / "other")}

        with pytest.raises(CallError, match=r"ssh: host key mismatch$"):
            plugin.create(COMMAND, {"connection": connection, "create": f"touch {tmp_path}/trace"})

        assert not (tmp_path / "trace").exists()

    def test_without_one_any_is_accepted(self, plugin: Plugin, sshd: Sshd) -> None:
        connection = {key: value for key, value in sshd.connection.items() if key != "hostKey"}

        assert connect(plugin, connection) == "connected"

    def test_what_is_no_key_is_refused_without_dialling(self, plugin: Plugin, sshd: Sshd) -> None:
        before = sshd.accepted()

        with pytest.raises(CallError, match="failed to parse host key"):
            connect(plugin, {**sshd.connection, "hostKey": "nonsense"})

        assert sshd.accepted() == before


class TestLogin:
    """The client's identity."""

    @staticmethod
    def without_key(sshd: Sshd) -> dict[str, Any]:
        return {key: value for key, value in sshd.connection.items() if key != "privateKey"}

    def test_by_password(self, plugin: Plugin, sshd: Sshd) -> None:
        assert connect(plugin, {**self.without_key(sshd), "password": PASSWORD}) == "connected"

    def test_by_the_wrong_password_fails_and_does_not_tell_it(self, plugin: Plugin, sshd: Sshd) -> None:
        with pytest.raises(CallError, match="handshake failed") as refused:
            connect(plugin, {**self.without_key(sshd), "password": "wrong-password"})

        assert "wrong-password" not in str(refused.value)

    def test_by_nothing_fails(self, plugin: Plugin, sshd: Sshd) -> None:
        with pytest.raises(CallError, match="unable to authenticate"):
            connect(plugin, self.without_key(sshd))

    def test_by_an_encrypted_key(self, plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
        key = tmp_path / "key"
        key.write_text(sshd.private_key)
        key.chmod(0o600)
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", "phrase", "-f", key], check=True, timeout=20)
        connection = {**sshd.connection, "privateKey": key.read_text()}

        assert connect(plugin, {**connection, "privateKeyPassword": "phrase"}) == "connected"
        with pytest.raises(CallError, match="incorrect"):
            connect(plugin, {**connection, "privateKeyPassword": "another phrase"})
        with pytest.raises(CallError, match="passphrase protected"):
            connect(plugin, connection)

    def test_by_what_is_no_key_fails_and_does_not_tell_it(self, plugin: Plugin, sshd: Sshd) -> None:
        with pytest.raises(CallError, match="no key found") as refused:
            connect(plugin, {**sshd.connection, "privateKey": "spoilt-key"})

        assert "spoilt-key" not in str(refused.value)

    def test_by_an_agent(self, plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
        key = tmp_path / "key"
        key.write_text(sshd.private_key)
        key.chmod(0o600)
        socket_path = tmp_path / "agent"
        agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket_path], stdout=subprocess.DEVNULL)
        try:
            _await(socket_path.exists)
            environment = {"SSH_AUTH_SOCK": str(socket_path)}
            subprocess.run(["ssh-add", "-q", key], env=environment, check=True, timeout=20)

            assert connect(plugin, {**self.without_key(sshd), "agentSocketPath": str(socket_path)}) == "connected"
        finally:
            agent.kill()
            agent.wait()


class TestLimits:
    """An unreachable machine is given up."""

    def test_a_closed_port_is_tried_once_more_for_each_allowed_error(self, plugin: Plugin, sshd: Sshd) -> None:
        with pytest.raises(CallError, match=r"^after 2 failed attempts: dial tcp .*: connection refused$"):
            connect(plugin, {**sshd.connection, "port": free_port(), "dialErrorLimit": 2})

    @pytest.mark.parametrize("limit", [0, 2])
    def test_failed_handshakes_count_as_failed_dials(self, plugin: Plugin, sshd: Sshd, limit: int) -> None:
        with _hanging_up() as (port, accepted):
            with pytest.raises(CallError, match=f"^after {limit} failed attempts: ssh: handshake failed"):
                connect(plugin, {**sshd.connection, "port": port, "dialErrorLimit": limit})

            assert len(accepted) == limit + 1

    def test_the_tries_are_shown(self, plugin: Plugin, sshd: Sshd) -> None:
        with pytest.raises(CallError):
            connect(plugin, {**sshd.connection, "port": free_port(), "dialErrorLimit": 2})

        assert [line.text for line in plugin.logged if line.passing] == [
            "Dial 1/2 failed: retrying",
            "Dial 2/2 failed: retrying",
        ]

    def test_a_machine_that_comes_up_late_is_reached(self, plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
        port = free_port()
        connection = {**sshd.connection, "port": port, "dialErrorLimit": -1}
        del connection["hostKey"]
        with ThreadPoolExecutor() as pool:
            connected = pool.submit(connect, plugin, {**connection, "password": PASSWORD})
            _await(lambda: bool(plugin.logged))
            with Sshd(tmp_path / "late", port):
                assert connected.result(timeout=30) == "connected"

        assert plugin.logged[0].text == "Dial 1/inf failed: retrying"

    def test_a_custom_timeout_ends_the_tries(self, plugin: Plugin, sshd: Sshd) -> None:
        """It ends nothing else: neither a handshake nor a command that runs."""
        connection = {**sshd.connection, "port": free_port(), "dialErrorLimit": -1}

        with pytest.raises(CallError, match="deadline exceeded"):
            plugin.create(COMMAND, {"connection": connection, "create": "true"}, custom_timeout=1)

    def test_a_silent_port_is_given_up_after_the_dial_timeout(self, plugin: Plugin, sshd: Sshd) -> None:
        with _silent() as port:
            started = time.monotonic()
            with pytest.raises(CallError, match=r"^after 0 failed attempts: dial tcp .*: i/o timeout$"):
                connect(plugin, {**sshd.connection, "port": port, "perDialTimeout": 1})

        assert 0.9 < time.monotonic() - started < 5


class TestProxy:
    """A connection through another machine."""

    def test_the_command_runs_at_the_far_end(self, plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
        with Sshd(tmp_path / "proxy") as proxy:
            assert connect(plugin, {**sshd.connection, "proxy": proxy.connection}) == "connected"
            assert proxy.accepted() == 1

    def test_the_host_keys_of_both_are_checked(self, plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
        other = make_key(tmp_path / "other")

        with Sshd(tmp_path / "proxy") as proxy:
            with pytest.raises(CallError, match=r"^proxy: .*host key mismatch"):
                connect(plugin, {**sshd.connection, "proxy": {**proxy.connection, "hostKey": other}})
            with pytest.raises(CallError, match=r"^proxy: .*host key mismatch"):
                connect(plugin, {**sshd.connection, "hostKey": other, "proxy": proxy.connection})

    def test_a_proxy_that_is_not_there_is_named_as_such(self, plugin: Plugin, sshd: Sshd) -> None:
        proxy = {**sshd.connection, "port": free_port()}

        with pytest.raises(CallError, match=r"^proxy: after 0 failed attempts: dial tcp .*: connection refused$"):
            connect(plugin, {**sshd.connection, "proxy": proxy})

    def test_a_far_end_that_is_not_there_is_given_up(self, plugin: Plugin, sshd: Sshd) -> None:
        far = {**sshd.connection, "port": free_port(), "dialErrorLimit": 1}

        with pytest.raises(CallError, match=r"^proxy: after 1 failed attempts: ssh: rejected: connect failed"):
            connect(plugin, {**far, "proxy": sshd.connection})


@contextmanager
def _hanging_up() -> Iterator[tuple[int, list[None]]]:
    """A server that accepts and hangs up: its port, and an item for each time it did."""
    accepted: list[None] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return  # closed: the test is over
                accepted.append(None)
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1], accepted
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def _silent() -> Iterator[int]:
    """A port whose queue of connections is full, so that the kernel answers nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            yield port


def _await(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
