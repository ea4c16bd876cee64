"""The demo app answers as the tests of traffic rely on."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from lab.machine.echo_app import MAX_BODY, Echo, Server, behind_tls, delay, grpc_server, seen


@pytest.fixture
def connection() -> Iterator[http.client.HTTPConnection]:
    with Server(("127.0.0.1", 0), Echo) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        client = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
        yield client
        client.close()
        server.shutdown()
        serving.join(10)


def ask(connection: http.client.HTTPConnection, method: str, path: str, **options: Any) -> dict[str, Any]:
    connection.request(method, path, **options)
    response = connection.getresponse()
    assert response.status == 200
    answer: dict[str, Any] = json.loads(response.read())
    return answer


def test_it_says_who_answered_and_what_arrived(
    connection: http.client.HTTPConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHO_VERSION", "v7")
    monkeypatch.setenv("ECHO_PLATFORM", "kubernetes")
    monkeypatch.setattr("socket.gethostname", lambda: "pod-1")
    answer = ask(connection, "GET", "/a/b?c=d", headers={"x-request-id": "42"})
    assert answer["headers"]["x-request-id"] == "42"
    del answer["headers"]
    assert answer == {
        "app": "echo",
        "instance": "pod-1",
        "platform": "kubernetes",
        "version": "v7",
        "path": "/a/b?c=d",
    }


def test_it_is_a_vm_where_nothing_else_is_said(
    connection: http.client.HTTPConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ECHO_PLATFORM", raising=False)
    assert ask(connection, "GET", "/")["platform"] == "vm"


def test_it_is_ready(connection: http.client.HTTPConnection) -> None:
    assert ask(connection, "GET", "/health/ready")["app"] == "echo"


def test_it_fails_every_request_while_its_file_of_ill_health_is_there(
    connection: http.client.HTTPConnection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unhealthy = tmp_path / "unhealthy"
    monkeypatch.setenv("ECHO_UNHEALTHY_FILE", str(unhealthy))
    ask(connection, "GET", "/health/ready")
    unhealthy.touch()
    for path in ("/health/ready", "/"):
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 503
        assert json.loads(response.read())["app"] == "echo"
    unhealthy.unlink()
    ask(connection, "GET", "/")


def test_a_connection_serves_many_requests_bodies_included(connection: http.client.HTTPConnection) -> None:
    ask(connection, "GET", "/1")
    used = connection.sock
    assert ask(connection, "POST", "/2", body=b"GET /not-a-request HTTP/1.1\r\n\r\n")["path"] == "/2"
    assert ask(connection, "DELETE", "/3")["path"] == "/3"
    assert connection.sock is used


def test_head_gets_no_body(connection: http.client.HTTPConnection) -> None:
    connection.request("HEAD", "/")
    assert connection.getresponse().read() == b""
    assert ask(connection, "GET", "/next")["path"] == "/next"


@pytest.mark.parametrize("length", ["-1", "many", str(MAX_BODY + 1)])
def test_a_body_that_is_not_read_ends_the_connection(connection: http.client.HTTPConnection, length: str) -> None:
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", length)
    connection.endheaders()
    response = connection.getresponse()
    assert json.loads(response.read())["path"] == "/"
    assert connection.sock is None or connection.sock.recv(1) == b""


def test_it_tells_what_came_by_host_without_probes_and_the_question_itself(
    connection: http.client.HTTPConnection,
) -> None:
    seen.clear()
    for path in ("/1", "/2", "/health/ready", "/seen"):
        ask(connection, "GET", path, headers={"Host": "echo-shadow"})
    assert ask(connection, "GET", "/seen")["seen"] == {"echo-shadow": 2}


@pytest.mark.parametrize(
    ("query", "seconds"), [("", 0), ("delay=0.25", 0.25), ("a=b&delay=1", 1), ("delay=x", 0), ("delay=999", 60)]
)
def test_an_answer_is_held_back_for_as_long_as_is_asked_for(query: str, seconds: float) -> None:
    assert delay(query) == seconds


def test_behind_tls_it_tells_which_host_the_client_named() -> None:
    with behind_tls(Server(("127.0.0.1", 0), Echo)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = ("127.0.0.1", server.server_port)
        with socket.create_connection(address):  # a client that says nothing must hold up no other
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with socket.create_connection(address, timeout=10) as plain:
                named = context.wrap_socket(plain, server_hostname="shop.vm.internal")
                named.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: named.recv(65536), b""))
        server.shutdown()
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["sni"] == "shop.vm.internal"


def test_it_answers_any_grpc_call() -> None:
    server, port = grpc_server(0)
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        reply = channel.unary_unary("/shop.Orders/List")(b"", timeout=10, metadata=[("x-tester", "yes")])
    server.stop(0)
    answer = json.loads(reply)
    assert (answer["path"], answer["headers"]["x-tester"]) == ("/shop.Orders/List", "yes")
