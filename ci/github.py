"""The little of GitHub's API that the workflows need."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SECONDS = 30
PAGE = 100


class GithubError(Exception):
    """GitHub refused; the message says what was asked for, and never holds the token."""


@dataclass(frozen=True, slots=True)
class Github:
    """One repository."""

    repository: str
    """As `owner/name`."""
    token: str = field(repr=False)
    """The workflow's own token."""
    api: str

    @classmethod
    def of_this_run(cls) -> Github:
        """As GitHub tells a workflow's step by its environment."""
        missing = [name for name in ("GITHUB_REPOSITORY", "GITHUB_TOKEN", "GITHUB_API_URL") if not os.environ.get(name)]
        if missing:
            raise GithubError(f"{', '.join(missing)} not set. Nobody could be asked. Fix: run it in a workflow's step.")
        return cls(os.environ["GITHUB_REPOSITORY"], os.environ["GITHUB_TOKEN"], os.environ["GITHUB_API_URL"])

    def comment(self, pull_request: int, body: str, marker: str) -> None:
        """Write a comment, or rewrite the one of ours that begins with the marker.

        One with the marker that a person wrote is not ours: its author could change what reviewers rely on.
        """
        there = self._pages(f"issues/{pull_request}/comments")
        mine = [c for c in there if str(c["body"]).startswith(marker) and _is_a_workflow_s(c)]
        if mine:
            self._ask("PATCH", f"issues/comments/{mine[0]['id']}", {"body": body})
        else:
            self._ask("POST", f"issues/{pull_request}/comments", {"body": body})

    def open_pull_requests(self, label: str) -> set[int]:
        """The numbers of those with a label."""
        return {
            int(each["number"])
            for each in self._pages("pulls?state=open")
            if label in (one["name"] for one in each["labels"])
        }

    def issue(self, title: str, body: str) -> None:
        """Open an issue, or write into the one of ours that is open under this title. GitHub lists requests, too."""
        there = [i for i in self._pages("issues?state=open") if i["title"] == title and _is_a_workflow_s(i)]
        if there:
            self._ask("POST", f"issues/{there[0]['number']}/comments", {"body": body})
        else:
            self._ask("POST", "issues", {"title": title, "body": body})

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        join = "&" if "?" in path else "?"
        for page in range(1, 100):
            found = self._ask("GET", f"{path}{join}per_page={PAGE}&page={page}")
            yield from found
            if len(found) < PAGE:
                return

    def _ask(self, method: str, path: str, document: object = None) -> Any:
        request = urllib.request.Request(
            f"{self.api}/repos/{self.repository}/{path}",
            data=None if document is None else json.dumps(document).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {self.token}",
                "Accept": "application/vnd.github+json",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = ""
            with contextlib.suppress(OSError, http.client.HTTPException):
                said = error.read(2000).decode(errors="replace")[:500]
            raise GithubError(f"{method} {path}: GitHub answered {error.code}: {said}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise GithubError(f"{method} {path}: GitHub cannot be reached, or its answer be read: {error}") from None


def _is_a_workflow_s(written: Mapping[str, Any]) -> bool:
    return (written.get("user") or {}).get("type") == "Bot"
