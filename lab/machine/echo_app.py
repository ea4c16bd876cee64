#!/usr/bin/python3
"""The demo app: answers any request with JSON that says who answered and what arrived.

The same file runs on the machines (echo.service) and in the image `echo`. It stands on Python's standard
library alone. Environment: PORT (8080), ECHO_PLATFORM (`vm` or `kubernetes`), ECHO_VERSION (any text).
`GET /health/ready` answers 200 for as long as the app runs.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

READY_PATH = "/health/ready"
MAX_BODY = 1 << 20
"""Bytes of a request's body that are read; a longer one ends the connection after the answer."""


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
        path = self.path.split("?", 1)[0]
        reply: dict[str, object] = {
            "app": "echo",
            "instance": socket.gethostname(),
            "platform": os.environ.get("ECHO_PLATFORM", "vm"),
            "version": os.environ.get("ECHO_VERSION", ""),
            "path": self.path,
            "headers": dict(self.headers.items()),
        }
        if path == READY_PATH:
            reply["ready"] = True
        body = json.dumps(reply).encode() + b"\n"
        self.send_response(200)
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


class Server(ThreadingHTTPServer):
    """Takes bursts of connections, and never waits for one that idles."""

    daemon_threads = True
    request_queue_size = 1024


def main() -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Server(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Echo) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
