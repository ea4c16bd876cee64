"""The requests to a cluster, against an API server of a few lines."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from hybridmesh.providers.cluster import Cluster, ClusterError, UnansweredError, connect

Answering = Callable[[socket.socket, int], None]
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n{"data": {"a": ""}}'


class Server:
    """Hands each connection, with its number, to `answer`, and keeps it open."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.answer: Answering = lambda _connection, _number: None
        self.connections: list[socket.socket] = []
        self._kubeconfig = folder / "kubeconfig"
        self._kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections.append(connection)
            self.answer(connection, len(self.connections))

    def cluster(self) -> Cluster:
        return connect({"kubeconfig": str(self._kubeconfig), "requestSeconds": 1.0})

    def stop(self) -> None:
        # Else whoever accepts goes on to wait.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def close(self) -> None:
        with suppress(OSError):
            self.stop()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with closing(Server(tmp_path)) as made:
        yield made


ASKED: dict[str, Callable[[Cluster], Any]] = {
    "get": lambda cluster: cluster.config_map("demo", "echo"),
    "list": lambda cluster: cluster.namespaces_labelled("a=b"),
    "delete": lambda cluster: cluster.delete_workload_entry("demo", "echo"),
    "post": lambda cluster: cluster.mint_token("demo", "echo", "istio-ca", 600),
}


@pytest.mark.parametrize("asked", list(ASKED))
def test_an_api_server_that_says_nothing_is_waited_for_as_long_as_the_setting_says(server: Server, asked: str) -> None:
    began = time.monotonic()
    with pytest.raises(UnansweredError, match=r"did not answer \(ReadTimeoutError\)"):
        ASKED[asked](server.cluster())
    assert len(server.connections) == 1
    assert 1 <= time.monotonic() - began < 1.9


def test_a_connection_that_is_closed_unanswered_is_tried_once_more(server: Server) -> None:
    def closes_the_first(connection: socket.socket, number: int) -> None:
        connection.recv(65536)
        if number > 1:
            connection.sendall(ANSWER)
        connection.close()

    server.answer = closes_the_first
    assert server.cluster().config_map("demo", "echo") == {"a": ""}
    assert len(server.connections) == 2


def test_and_not_twice(server: Server) -> None:
    def closes(connection: socket.socket, _number: int) -> None:
        connection.recv(65536)
        connection.close()

    server.answer = closes
    with pytest.raises(ClusterError, match="did not answer"):
        server.cluster().config_map("demo", "echo")
    assert len(server.connections) == 2


@pytest.mark.parametrize(
    ("status", "again"),
    [("401 Unauthorized", False), ("403 Forbidden", False), ("429 Too Many Requests", True), ("503 Busy", True)],
)
def test_what_may_be_answered_later_is_told_from_what_is_refused(server: Server, status: str, again: bool) -> None:
    def answers(connection: socket.socket, _number: int) -> None:
        connection.recv(65536)
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        connection.close()

    server.answer = answers
    with pytest.raises(ClusterError, match=status) as refused:
        server.cluster().config_map("demo", "echo")
    assert isinstance(refused.value, UnansweredError) is again


def test_a_server_that_is_not_there_may_come_back(server: Server) -> None:
    cluster = server.cluster()
    server.stop()
    with pytest.raises(UnansweredError, match="did not answer"):
        cluster.config_map("demo", "echo")
