"""What the workflows talk to: GitHub, and programs on PATH that note how they were called."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "ghs_S3CRET"


class FakeGithub:
    """One repository's comments, issues and pull requests, by the API's own paths."""

    def __init__(self) -> None:
        self.comments: dict[int, list[dict[str, Any]]] = {}
        self.issues: list[dict[str, Any]] = []
        self.open: list[int] = []
        self.unlabelled: list[int] = []
        self.asked: list[str] = []
        self.refuses = 0
        self.api = ""

    def answer(self, method: str, path: str, body: dict[str, Any], query: str) -> Any:
        """What GitHub says."""
        comments = re.fullmatch(r"/repos/o/r/issues/(\d+)/comments", path)
        one = re.fullmatch(r"/repos/o/r/issues/comments/(\d+)", path)
        page = int(re.findall(r"[?&]page=(\d+)", query)[0]) if method == "GET" else 1
        if comments and method == "GET":
            return self.comments.get(int(comments[1]), [])[(page - 1) * 100 : page * 100]
        if comments:
            mine = self.comments.setdefault(int(comments[1]), [])
            mine.append({"id": 1000 + len(mine), "body": body["body"], "user": {"type": "Bot"}})
            return mine[-1]
        if one and method == "PATCH":
            (found,) = [c for many in self.comments.values() for c in many if c["id"] == int(one[1])]
            found["body"] = body["body"]
            return found
        if path == "/repos/o/r/pulls":
            labels = [{"name": "bug"}, {"name": "mesh"}]
            pulls = [{"number": number, "labels": labels} for number in self.open]
            pulls += [{"number": number, "labels": labels[:1]} for number in self.unlabelled]
            return pulls[(page - 1) * 100 : page * 100]
        if path == "/repos/o/r/issues" and method == "GET":
            return self.issues if page == 1 else []
        assert path == "/repos/o/r/issues", path
        self.issues.append({"number": 7, **body, "user": {"type": "Bot"}})
        return self.issues[-1]


@contextmanager
def github() -> Iterator[FakeGithub]:
    fake = FakeGithub()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            fake.asked.append(f"{self.command} {self.path}")
            path, _, query = self.path.partition("?")
            allowed = self.headers["Authorization"] == f"Bearer {TOKEN}" and not fake.refuses
            answer = fake.answer(self.command, path, body, f"?{query}") if allowed else {"message": "no"}
            self.send_response(200 if allowed else fake.refuses or 401)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_POST = do_PATCH = _serve  # noqa: N815 - the names that http.server asks for

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    fake.api = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()


def program(folder: Path, name: str, script: str) -> None:
    """A program in `folder` that notes its arguments in `calls`, and then runs the script."""
    file = folder / name
    file.write_text(f'#!/bin/bash\necho "{name} $*" >> "{folder / "calls"}"\n{script}\n')
    file.chmod(0o755)


def calls(folder: Path) -> list[str]:
    """How the programs were called."""
    noted = folder / "calls"
    return noted.read_text().splitlines() if noted.exists() else []
