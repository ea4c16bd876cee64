#!/usr/bin/python3
"""The demo app: answers any request with JSON that says who answered and what arrived.

The same file runs on the machines (echo.service) and in the image `echo`. Environment: PORT (8080), TCP_PORT (9090:
the same app, to be declared as another protocol), ECHO_PLATFORM (`vm` or `kubernetes`), ECHO_VERSION (any text); and
where they are given, TLS_PORT (the same app behind TLS and a certificate of its own) and GRPC_PORT (the same answer to
any unary gRPC call). `GET /health/ready` answers 200 for as long as the app is healthy; while the file of
ECHO_UNHEALTHY_FILE (/run/echo/unhealthy) is there, it is not, and answers any request with 503. `?delay=SECONDS` in a
query holds the answer back. `GET /seen` tells how many requests came by `Host`, itself and the probe's left out: what
mirroring sent here shows nowhere else.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

READY_PATH = "/health/ready"
SEEN_PATH = "/seen"
MAX_DELAY = 60.0
"""Seconds that an answer is held back at most."""
MAX_BODY = 1 << 20
"""Bytes of a request's body that are read; a longer one ends the connection after the answer."""

seen: Counter[str] = Counter()
"""Requests by their header `Host`."""
_lock = threading.Lock()


def answer_to(path: str, headers: Mapping[str, str]) -> dict[str, object]:
    """What any answer says."""
    return {
        "app": "echo",
        "instance": socket.gethostname(),
        "platform": os.environ.get("ECHO_PLATFORM", "vm"),
        "version": os.environ.get("ECHO_VERSION", ""),
        "path": path,
        "headers": headers,
    }


class Echo(BaseHTTPRequestHandler):
    """One connection; HTTP/1.1 keeps it alive between requests."""

    protocol_version = "HTTP/1.1"
    server_version = "echo"
    sys_version = ""
    timeout = 75  # seconds an idle connection is kept
    # Head and body in one packet: else the kernel holds the second back until the first is acknowledged.
    wbufsize = -1
    disable_nagle_algorithm = True

    def answer(self) -> None:
        """Answer the request, whatever its method and path."""
        self.drop_body()
        path, _, query = self.path.partition("?")
        healthy = not os.path.exists(os.environ.get("ECHO_UNHEALTHY_FILE", "/run/echo/unhealthy"))
        if path not in (READY_PATH, SEEN_PATH):
            with _lock:
                seen[self.headers.get("Host", "")] += 1
            time.sleep(delay(query))
        reply = answer_to(self.path, dict(self.headers.items()))
        if isinstance(self.connection, ssl.SSLSocket):
            reply["sni"] = getattr(self.connection, "sni", None)
        if path == READY_PATH:
            reply["ready"] = healthy
        if path == SEEN_PATH:
            reply["seen"] = dict(seen)
        body = json.dumps(reply).encode() + b"\n"
        self.send_response(200 if healthy else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815 (http.server's names)

    def drop_body(self) -> None:
        """Read the request's body, or else it would be taken for the next request."""
        length = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding") or not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
        else:
            self.rfile.read(int(length))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a probe a second would fill the journal."""


def delay(query: str) -> float:
    """The seconds that a query asks for; 0 for none, and for what is no number."""
    try:
        return min(max(float(parse_qs(query)["delay"][0]), 0.0), MAX_DELAY)
    except (KeyError, ValueError):
        return 0.0


class Server(ThreadingHTTPServer):
    """Takes bursts of connections, and never waits for one that idles."""

    daemon_threads = True
    request_queue_size = 1024


def behind_tls(server: Server) -> Server:
    """The server with TLS of its own: a certificate that it signs itself; answers say which host the client named."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda connection, host, _: setattr(connection, "sni", host)
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-subj", "/CN=echo", "-days", "30", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        context.load_cert_chain(certificate, key)
    # The handshake is left to the connection's own thread: a client that never ends it would hold up all others.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


def grpc_server(port: int) -> tuple[Any, int]:
    """A gRPC server that answers any unary call with the JSON of the others, and the port that it listens on."""
    # Where it is asked for alone: it is larger than all the rest.
    import grpc  # type: ignore[import-untyped]

    def call(method: str, metadata: Mapping[str, str]) -> Any:
        reply = json.dumps(answer_to(method, metadata)).encode()
        return grpc.unary_unary_rpc_method_handler(lambda *_: reply)

    class Calls(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, handler_call_details: Any) -> Any:
            metadata = {key: value for key, value in handler_call_details.invocation_metadata if isinstance(value, str)}
            return call(handler_call_details.method, metadata)

    server = grpc.server(ThreadPoolExecutor(4), handlers=[Calls()])
    return server, server.add_insecure_port(f"0.0.0.0:{port}")


def main() -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ports = {
        name: int(port) for name in ("PORT", "TCP_PORT", "TLS_PORT", "GRPC_PORT") if (port := os.environ.get(name))
    }
    others = [Server(("0.0.0.0", ports.get("TCP_PORT", 9090)), Echo)]
    if "TLS_PORT" in ports:
        others.append(behind_tls(Server(("0.0.0.0", ports["TLS_PORT"]), Echo)))
    for other in others:
        threading.Thread(target=other.serve_forever, daemon=True).start()
    if "GRPC_PORT" in ports:
        calls, _ = grpc_server(ports["GRPC_PORT"])  # kept: without a name it would be ended at once
        calls.start()
    with Server(("0.0.0.0", ports.get("PORT", 8080)), Echo) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
