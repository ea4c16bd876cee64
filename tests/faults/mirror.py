"""A package mirror with a fault, run on the environment's node: `mirror.py ADDRESS PORT FILE slow|corrupt`."""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ADDRESS, PORT, FILE, FAULT = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
CHUNK = 65536
PAUSE_SECONDS = 1.0


class Mirror(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(FILE.stat().st_size))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        with FILE.open("rb") as file:
            while chunk := file.read(CHUNK):
                if FAULT == "corrupt" and file.tell() == CHUNK:
                    chunk = chunk[:-1] + bytes([chunk[-1] ^ 1])
                self.wfile.write(chunk)
                if FAULT == "slow":
                    time.sleep(PAUSE_SECONDS)


ThreadingHTTPServer((ADDRESS, PORT), Mirror).serve_forever()
