"""What a cloud does for its instances, as far as Google's guest agent and Kubernetes see it: the metadata server that
tells each instance what its template says, and the identity behind the access tokens that it gives.

Runs inside an instance of the environment as `python -m lab.cloud MACHINES`, once a machine was made with a template.
Source: https://cloud.google.com/compute/docs/metadata/querying-metadata, and for tokens
https://cloud.google.com/kubernetes-engine/docs/how-to/role-based-access-control.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

METADATA_ADDRESS = "169.254.169.254"
TOKENS_PORT = 8169
"""At which Kubernetes asks who stands behind an access token; on the node alone."""
TOKEN_SECONDS = 3600
PROJECT = "lab-project"
ZONE = "europe-west3-a"
TEMPLATE_FILE = "template.json"
"""In a machine's folder, for one that was made with a template."""
KUBERNETES_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
EMAIL_SCOPE = "https://www.googleapis.com/auth/userinfo.email"


@dataclass(frozen=True)
class Template:
    """What an instance template says, as far as an instance can see it."""

    metadata: Mapping[str, str]
    """By key, such as `startup-script`."""
    service_account: str
    """The e-mail of the service account that instances run as."""
    scopes: tuple[str, ...]
    """What their access tokens are good for."""

    def write(self, folder: Path) -> None:
        (folder / TEMPLATE_FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Template:
        document = json.loads((folder / TEMPLATE_FILE).read_text())
        return cls(document["metadata"], document["service_account"], tuple(document["scopes"]))


def unique_id(service_account: str) -> str:
    """The number that Google has for a service account besides its e-mail."""
    return str(10**20 + int(hashlib.sha256(service_account.encode()).hexdigest()[:15], 16))


def tree(name: str, address: str, template: Template) -> dict[str, Any]:
    """All that the metadata server tells an instance, but for its tokens."""
    account = {"aliases": ["default"], "email": template.service_account, "scopes": list(template.scopes)}
    number = int(hashlib.sha256(f"{name} {address}".encode()).hexdigest()[:15], 16)
    return {
        "instance": {
            "attributes": dict(template.metadata),
            "hostname": f"{name}.{ZONE}.c.{PROJECT}.internal",
            "id": number,
            "machineType": f"projects/1/machineTypes/{ZONE.rsplit('-', 1)[0]}/lab",
            "name": name,
            "networkInterfaces": [{"ip": address, "forwardedIps": [], "accessConfigs": []}],
            "serviceAccounts": {"default": account, template.service_account: account},
            "tags": [],
            "zone": f"projects/1/zones/{ZONE}",
        },
        "project": {"attributes": {}, "numericProjectId": 1, "projectId": PROJECT},
    }


def at(node: Any, path: list[str]) -> Any:
    """What lies at a path such as `instance/service-accounts/default/email`; KeyError if nothing does."""
    for position, part in enumerate(path):
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise KeyError(part)
            node = node[int(part)]
        elif isinstance(node, dict):
            own = "attributes" in path[:position] or part in node
            node = node[part if own else re.sub(r"-(.)", lambda found: found[1].upper(), part)]
        else:
            raise KeyError(part)
    return node


def as_text(node: Any) -> str:
    """A leaf, or a folder's entries, a line each."""
    if isinstance(node, dict):
        return "".join(
            f"{re.sub(r'(?<=[a-z])([A-Z])', lambda found: f'-{found[1].lower()}', key)}"
            f"{'/' if isinstance(value, dict | list) else ''}\n"
            for key, value in node.items()
        )
    if isinstance(node, list):
        return "".join(f"{index}/\n" if isinstance(item, dict) else f"{item}\n" for index, item in enumerate(node))
    return str(node)


@dataclass(frozen=True)
class _Granted:
    service_account: str
    scopes: tuple[str, ...]
    ends: float


class Tokens:
    """The access tokens that were given, and what Kubernetes is told of them."""

    def __init__(self) -> None:
        self._granted: dict[str, _Granted] = {}

    def grant(self, template: Template) -> dict[str, Any]:
        """A new token for an instance, as the metadata server gives it."""
        token = f"ya29.{secrets.token_urlsafe(48)}"
        self._granted[token] = _Granted(template.service_account, template.scopes, time.time() + TOKEN_SECONDS)
        return {"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"}

    def review(self, token: str) -> dict[str, Any]:
        """The status of a TokenReview: as GKE does, by the e-mail if the token may show it, else by its number."""
        granted = self._granted.get(token)
        if granted is None or granted.ends < time.time() or KUBERNETES_SCOPE not in granted.scopes:
            return {"authenticated": False}
        account = granted.service_account
        username = account if EMAIL_SCOPE in granted.scopes else unique_id(account)
        return {"authenticated": True, "user": {"username": username, "uid": unique_id(account), "groups": []}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        print(self.client_address[0], format % arguments, flush=True)

    def answer(self, body: str, kind: str, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> None:
        content = body.encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Metadata-Flavor": "Google",
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def metadata_handler(machines: Path, tokens: Tokens) -> type[BaseHTTPRequestHandler]:
    """Answers each instance by the address that it asks from."""

    class Handler(_Handler):
        def do_GET(self) -> None:
            address = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(address.query))
            path = [part for part in address.path.split("/") if part]
            if self.headers.get("Metadata-Flavor") != "Google" or "X-Forwarded-For" in self.headers:
                self.answer("Missing Metadata-Flavor:Google header.", "text/html", HTTPStatus.FORBIDDEN)
                return
            folder = self._folder()
            if folder is None or path[:2] != ["computeMetadata", "v1"]:
                self.answer("not found\n", "text/html", HTTPStatus.NOT_FOUND)
                return
            template, path = Template.read(folder), path[2:]
            known = tree(folder.name, self.client_address[0], template)
            if path in [["instance", "service-accounts", a, "token"] for a in known["instance"]["serviceAccounts"]]:
                self.answer(json.dumps(tokens.grant(template)), "application/json")
                return
            try:
                node = at(known, path)
            except KeyError:
                self.answer("not found\n", "text/html", HTTPStatus.NOT_FOUND)
                return
            etag = hashlib.sha256(json.dumps(node).encode()).hexdigest()[:16]
            if query.get("wait_for_change") == "true" and query.get("last_etag") == etag:
                # Nothing changes but at a boot, which asks anew.
                time.sleep(min(float(query.get("timeout_sec", 60)), 300))
            as_json = query.get("recursive") == "true" or query.get("alt") == "json"
            body, kind = (json.dumps(node), "application/json") if as_json else (as_text(node), "application/text")
            self.answer(body, kind, ETag=etag)

        def _folder(self) -> Path | None:
            for file in machines.glob("*/address"):
                if file.read_text() == self.client_address[0] and (file.parent / TEMPLATE_FILE).exists():
                    return file.parent
            return None

    return Handler


def tokens_handler(tokens: Tokens) -> type[BaseHTTPRequestHandler]:
    """Answers Kubernetes' TokenReviews."""

    class Handler(_Handler):
        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = {key: review[key] for key in ("apiVersion", "kind")}
            self.answer(json.dumps({**answer, "status": tokens.review(review["spec"]["token"])}), "application/json")

    return Handler


def main() -> None:
    machines = Path(sys.argv[1])
    tokens = Tokens()
    subprocess.run(["ip", "addr", "replace", f"{METADATA_ADDRESS}/32", "dev", "br0"], check=True, timeout=10)
    reviews = ThreadingHTTPServer(("127.0.0.1", TOKENS_PORT), tokens_handler(tokens))
    threading.Thread(target=reviews.serve_forever, daemon=True).start()
    ThreadingHTTPServer((METADATA_ADDRESS, 80), metadata_handler(machines, tokens)).serve_forever()


if __name__ == "__main__":
    main()
