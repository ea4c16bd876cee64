#!/usr/bin/python3
"""The demo app: answers any request with JSON that says who answered and what arrived.

The same file runs on the machines (echo.service) and in the image `echo`. It stands on Python's standard
library alone. Environment: PORT (8080), TCP_PORT (9090: the same app, to be declared as another protocol),
ECHO_PLATFORM (`vm` or `kubernetes`), ECHO_VERSION (any text). `GET /health/ready` answers 200 for as long as the
app is healthy; while the file of ECHO_UNHEALTHY_FILE (/run/echo/unhealthy) is there, it is not, and answers any
request with 503. `?delay=SECONDS` in a query holds the answer back. `GET /seen` tells how many requests came by
`Host`, itself and the probe's left out: what mirroring sent here shows nowhere else.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
        reply: dict[str, object] = {
            "app": "echo",
            "instance": socket.gethostname(),
            "platform": os.environ.get("ECHO_PLATFORM", "vm"),
            "version": os.environ.get("ECHO_VERSION", ""),
            "path": self.path,
            "headers": dict(self.headers.items()),
        }
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


def main() -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    tcp_port = int(os.environ.get("TCP_PORT", "9090"))
    with (
        Server(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Echo) as server,
        Server(("0.0.0.0", tcp_port), Echo) as second,
    ):
        threading.Thread(target=second.serve_forever, daemon=True).start()
        server.serve_forever()


if __name__ == "__main__":
    main()
