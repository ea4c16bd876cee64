"""The environment's metadata server, by what an instance of Google Cloud would be told."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lab import cloud

ACCOUNT = "echo@lab-project.iam.gserviceaccount.com"
TEMPLATE = cloud.Template({"startup-script": "#!/bin/sh\n"}, ACCOUNT, (cloud.KUBERNETES_SCOPE, cloud.EMAIL_SCOPE))
TREE = cloud.tree("echo-1", "192.0.2.7", TEMPLATE)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("instance/name", "echo-1"),
        ("instance/attributes/startup-script", "#!/bin/sh\n"),
        ("instance/attributes", "startup-script\n"),
        ("instance/network-interfaces/0/ip", "192.0.2.7"),
        ("instance/service-accounts", f"default/\n{ACCOUNT}/\n"),
        ("instance/service-accounts/default/email", ACCOUNT),
        ("project/project-id", "lab-project"),
        ("", "instance/\nproject/\n"),
    ],
)
def test_a_path_leads_to_what_an_instance_asks_for(path: str, text: str) -> None:
    assert cloud.as_text(cloud.at(TREE, [part for part in path.split("/") if part])) == text


@pytest.mark.parametrize("path", ["instance/attributes/ssh-keys", "instance/network-interfaces/1", "instance/name/x"])
def test_what_is_not_there_is_not_found(path: str) -> None:
    with pytest.raises(KeyError):
        cloud.at(TREE, path.split("/"))


@pytest.mark.parametrize(
    ("scopes", "username"),
    [
        ((cloud.KUBERNETES_SCOPE, cloud.EMAIL_SCOPE), ACCOUNT),
        ((cloud.KUBERNETES_SCOPE,), cloud.unique_id(ACCOUNT)),
        ((cloud.EMAIL_SCOPE,), None),
        ((), None),
    ],
)
def test_a_token_stands_for_its_account_as_far_as_its_scopes_go(scopes: tuple[str, ...], username: str | None) -> None:
    tokens = cloud.Tokens()
    token = tokens.grant(cloud.Template({}, ACCOUNT, scopes))["access_token"]
    status = tokens.review(token)
    assert status["authenticated"] == (username is not None)
    assert status.get("user", {}).get("username") == username


def test_a_token_that_was_not_given_or_has_ended_stands_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = cloud.Tokens()
    assert tokens.review("ya29.made-up") == {"authenticated": False}
    monkeypatch.setattr(cloud, "TOKEN_SECONDS", -1)
    assert tokens.review(tokens.grant(TEMPLATE)["access_token"]) == {"authenticated": False}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A metadata server that takes this process for the instance echo-1."""
    folder = tmp_path / "echo-1"
    folder.mkdir()
    (folder / "address").write_text("127.0.0.1")
    TEMPLATE.write(folder)
    running = ThreadingHTTPServer(("127.0.0.1", 0), cloud.metadata_handler(tmp_path, cloud.Tokens()))
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    running.server_close()


def ask(address: str, flavor: str = "Google") -> tuple[int, str]:
    request = urllib.request.Request(address, headers={"Metadata-Flavor": flavor})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def test_it_answers_an_instance_by_its_address_and_nobody_without_the_header(server: str, tmp_path: Path) -> None:
    assert ask(f"{server}/computeMetadata/v1/instance/name") == (200, "echo-1")
    assert ask(f"{server}/computeMetadata/v1/instance/name", "none")[0] == 403
    assert ask(f"{server}/computeMetadata/v1/instance/other")[0] == 404
    (tmp_path / "echo-1" / "address").write_text("192.0.2.7")
    assert ask(f"{server}/computeMetadata/v1/instance/name")[0] == 404


def test_folders_are_json_where_that_is_asked_for_and_tokens_are_never_in_them(server: str) -> None:
    status, body = ask(f"{server}/computeMetadata/v1/instance/?recursive=true&alt=json")
    document: Any = json.loads(body)
    assert (status, document["attributes"]) == (200, dict(TEMPLATE.metadata))
    assert "ya29." not in body
    token = json.loads(ask(f"{server}/computeMetadata/v1/instance/service-accounts/default/token")[1])
    assert token["access_token"].startswith("ya29.")
