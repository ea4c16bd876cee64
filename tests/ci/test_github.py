"""GitHub's API as the workflows use it."""

from __future__ import annotations

import http.client
import io
import urllib.error
import urllib.request

import pytest

from ci.github import Github, GithubError
from tests.ci.fakes import TOKEN, FakeGithub, github


def client(fake: FakeGithub, token: str = TOKEN) -> Github:
    return Github("o/r", token, fake.api)


def test_a_comment_is_written_once_and_rewritten_after() -> None:
    with github() as fake:
        fake.comments[5] = [{"id": n, "body": "<!-- other -->", "user": {"type": "Bot"}} for n in range(150)]
        client(fake).comment(5, "<!-- mine --> one", "<!-- mine -->")
        client(fake).comment(5, "<!-- mine --> two", "<!-- mine -->")
        assert [c["body"] for c in fake.comments[5] if "mine" in c["body"]] == ["<!-- mine --> two"]
        assert len(fake.comments[5]) == 151


@pytest.mark.parametrize("author", [{"login": "mallory", "type": "User"}, None])
def test_a_comment_that_a_person_wrote_is_left_alone_for_its_author_could_change_it_afterwards(author: object) -> None:
    with github() as fake:
        fake.comments[5] = [{"id": 1, "body": "<!-- mine --> theirs", "user": author}]
        client(fake).comment(5, "<!-- mine --> one", "<!-- mine -->")
        client(fake).comment(5, "<!-- mine --> two", "<!-- mine -->")
        assert [c["body"] for c in fake.comments[5]] == ["<!-- mine --> theirs", "<!-- mine --> two"]


def test_open_pull_requests_are_read_page_by_page() -> None:
    with github() as fake:
        fake.open, fake.unlabelled = list(range(1, 231)), [231, 232]
        assert client(fake).open_pull_requests("mesh") == set(range(1, 231))
        assert fake.asked == [f"GET /repos/o/r/pulls?state=open&per_page=100&page={n}" for n in (1, 2, 3)]
        assert client(fake).open_pull_requests("bug") == set(range(1, 233))


def test_drift_goes_into_one_issue() -> None:
    with github() as fake:
        client(fake).issue("Drift in gcp", "first")
        client(fake).issue("Drift in gcp", "second")
        assert [issue["body"] for issue in fake.issues] == ["first"]
        assert [comment["body"] for comment in fake.comments[7]] == ["second"]


def test_drift_goes_into_no_request_of_somebody_who_calls_it_so() -> None:
    with github() as fake:
        fake.issues = [{"number": 3, "title": "Drift in gcp", "body": "mine", "user": {"type": "User"}}]
        client(fake).issue("Drift in gcp", "first")
        client(fake).issue("Drift in gcp", "second")
        assert [issue["body"] for issue in fake.issues] == ["mine", "first"]
        assert {number: len(comments) for number, comments in fake.comments.items()} == {7: 1}


def test_a_refusal_is_said_without_the_token() -> None:
    with github() as fake:
        with pytest.raises(GithubError, match="GitHub answered 401") as refused:
            client(fake, "ghs_wrong").open_pull_requests("mesh")
        assert "ghs_wrong" not in str(refused.value) + repr(client(fake, "ghs_wrong"))
        fake.refuses = 503
        with pytest.raises(GithubError, match="503"):
            client(fake).comment(1, "x", "y")
    with pytest.raises(GithubError, match="cannot be reached"):
        client(fake).open_pull_requests("mesh")


@pytest.mark.parametrize("body", [b"\xff", http.client.IncompleteRead(b"")])
def test_a_refusal_that_cannot_be_read_is_one(monkeypatch: pytest.MonkeyPatch, body: bytes | Exception) -> None:
    class Body(io.BytesIO):
        def read(self, *_: object) -> bytes:
            if isinstance(body, Exception):
                raise body
            return body

    def refuses(*_: object, **__: object) -> None:
        raise urllib.error.HTTPError("", 502, "", http.client.HTTPMessage(), Body())

    monkeypatch.setattr(urllib.request, "urlopen", refuses)
    with pytest.raises(GithubError, match="GitHub answered 502"):
        Github("o/r", TOKEN, "http://127.0.0.1:1").open_pull_requests("mesh")


def test_outside_a_workflow_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    monkeypatch.setenv("GITHUB_REPOSITORY", "o/r")
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:1")
    with pytest.raises(GithubError, match=r"GITHUB_TOKEN not set.* Fix: "):
        Github.of_this_run()


@pytest.mark.parametrize("broken", [http.client.IncompleteRead(b"["), http.client.BadStatusLine("x"), None])
def test_an_answer_that_is_cut_off_or_none_of_github_s_is_told(
    monkeypatch: pytest.MonkeyPatch, broken: Exception | None
) -> None:
    def answers(*_: object, **__: object) -> io.BytesIO:
        if broken is not None:
            raise broken
        return io.BytesIO(b"<html>a proxy's</html>")

    monkeypatch.setattr(urllib.request, "urlopen", answers)
    with pytest.raises(GithubError, match=r"GET pulls.*: GitHub cannot be reached, or its answer be read"):
        Github("o/r", TOKEN, "http://127.0.0.1:1").open_pull_requests("mesh")
