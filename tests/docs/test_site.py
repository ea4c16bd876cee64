"""The documentation: the site builds, its links lead somewhere, its commands exist."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import typer.main

import ci.__main__
import hybridmesh.__main__
import lab.__main__
from ci.site import on_config, pages
from tests.components.harness import PROJECT_ROOT

PAGES = [PROJECT_ROOT / "README.md", *sorted((PROJECT_ROOT / "docs").rglob("*.md"))]
CONSOLES: dict[str, typer.Typer] = {
    "hybridmesh": hybridmesh.__main__.app,
    "lab": lab.__main__.app,
    "ci": ci.__main__.app,
}
VALUE_OPTIONS = ("-i", "--instance")


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder), *options],
        cwd=PROJECT_ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_site_builds_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    components = (tmp_path / "reference" / "components" / "index.html").read_text()
    for name in ("SidecarArgs", "certificate_expiry", "Whether its WorkloadEntry is made here"):
        assert name in components, "the reference comes from the code"
    assert '<pre class="mermaid"><code>flowchart LR' in (tmp_path / "index.html").read_text(), "a diagram is none"
    assert "istiod" in (tmp_path / "search" / "search_index.json").read_text()


def test_a_page_that_nobody_listed_is_in_the_navigation(tmp_path: Path) -> None:
    for name in ("listed.md", "new.md", "decisions/001-x.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("# x")
    config = on_config({"docs_dir": str(tmp_path), "nav": [{"Start": "listed.md"}]})
    assert config["nav"] == [{"Start": "listed.md"}, {"More": ["new.md"]}, {"Decisions": ["decisions/001-x.md"]}]
    assert list(pages(config["nav"])) == ["listed.md", "new.md", "decisions/001-x.md"]


def test_the_readme_s_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", (PROJECT_ROOT / "README.md").read_text()):
        assert target.startswith("http") or (PROJECT_ROOT / target).exists(), target


SOURCES = [
    path
    for folder in ("bench", "ci", "components", "hybridmesh", "lab", "policy")
    for path in sorted((PROJECT_ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".sh", ".j2")
]


def test_every_page_that_a_message_names_is_there() -> None:
    texts = "\n".join(source.read_text() for source in SOURCES)
    for name, anchor in set(re.findall(r"\bdocs/([\w/-]+\.md)(?:#([\w-]+))?", texts)):
        page = PROJECT_ROOT / "docs" / name
        assert page.exists(), name
        headings = re.findall(r"^#+ (.+)$", page.read_text().lower(), flags=re.MULTILINE)
        anchors = [re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading)) for heading in headings]
        assert not anchor or anchor in anchors, f"{name}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_test_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    folders = "bench|ci|components|examples|hybridmesh|lab|plugin|policy|tests"
    for name, test in re.findall(rf"`((?:{folders})/[\w./-]*(?:\.\w+|/))(?:::(\w+))?`", text):
        file = PROJECT_ROOT / name
        assert file.exists(), name
        assert not test or f"\ndef {test}(" in file.read_text(), f"{name}::{test}"
    for name in re.findall(r"`(test_\w+\.py)`", text):
        assert list((PROJECT_ROOT / "tests").rglob(name)), name


ASKED_FOR = {
    "istio/istio": "33203 49202 46923 35343 42603 31624 56305 52835 37868 43950 59584 42411 29052 32462",
    "pulumi/pulumi-command": "104 447 755 199",
}


@pytest.mark.parametrize("repository", ASKED_FOR)
def test_what_people_have_asked_for_has_an_answer_and_a_test(repository: str) -> None:
    rows = (PROJECT_ROOT / "docs/answers.md").read_text().splitlines()
    for number in ASKED_FOR[repository].split():
        (row,) = [row for row in rows if f"(https://github.com/{repository}/issues/{number})" in row]
        _, here, tests = row.split(" | ")
        assert here
        assert "::test_" in tests


def recorded(change: str) -> str:
    return (PROJECT_ROOT / "tests/e2e/previews" / f"{change}.txt").read_text()


def test_the_previews_in_readme_and_pages_are_the_recorded_ones() -> None:
    shown = re.findall(r"```text\n(~ .*?)```", (PROJECT_ROOT / "README.md").read_text(), flags=re.DOTALL)
    changes = ("canary-weight", "log-level-of-the-proxies")
    assert [text.replace("dev: ", "") for text in shown] == [recorded(change) for change in changes]
    (comment,) = re.findall(r"```diff\n(.*?)```", (PROJECT_ROOT / "docs/team.md").read_text(), flags=re.DOTALL)
    lines, _, _ = re.sub("^~", "!", recorded("gateway-address"), flags=re.MULTILINE).rpartition("\n\n")
    assert comment == f"{lines}\n"


def test_make_preview_shows_what_the_pages_show() -> None:
    done = subprocess.run(["make", "-n", "preview"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    commands = [line.rpartition("&& ")[2] for line in done.stdout.splitlines() if not line.startswith("make")]
    assert commands == ["python -m hybridmesh preview --stack dev"]


def test_what_the_way_from_an_empty_project_makes_on_google_cloud_is_removed_again_the_last_first() -> None:
    text = (PROJECT_ROOT / "docs/google-cloud.md").read_text()
    blocks = "".join(re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    made, removed = (
        re.findall(rf"^ *gcloud ([a-z -]+) {verb} (\S+)", blocks, flags=re.MULTILINE) for verb in ("create", "delete")
    )
    assert ("compute networks", "mesh") in made
    assert removed == made[::-1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_a_page_exists(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT_ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for named in re.findall(r"(?:`|^|&& )make ([a-z][a-z-]*)", text, flags=re.MULTILINE):
        assert named in targets, f"make {named}"
    assert '"$(python ' not in text, "a shell that has no environment yet has no python of ours either"
    assert_consoles_know(text)
    (verb,) = re.findall(r"python -m hybridmesh (\w+)", text)[:1] or [""]
    for options in re.findall(r"^\| option \| for \|\n\| --- \| --- \|\n((?:\|.*\n)+)", text, flags=re.MULTILINE):
        for option in re.findall(r"`(--[\w-]+)", "".join(row.split(" | ")[0] for row in options.splitlines())):
            assert unknown(CONSOLES["hybridmesh"], [verb, option]) is None, f"{verb} {option}"


def test_every_command_in_a_message_exists() -> None:
    assert_consoles_know("\n".join(source.read_text() for source in SOURCES))


def assert_consoles_know(text: str) -> None:
    for console, rest in re.findall(r"python3? -m (hybridmesh|lab|ci)\b([^`\n|;#)\"']*)", text.replace("\\\n", " ")):
        assert unknown(CONSOLES[console], rest.split()) is None, f"python -m {console}{rest}"


def unknown(console: typer.Typer, words: list[str]) -> str | None:
    """The first word that is no verb where one must stand, or no option of the verb's."""
    command = typer.main.get_command(console)
    rest = list(words)
    while hasattr(command, "commands"):
        while rest and rest[0].startswith("-"):
            rest = rest[2:] if rest[0] in VALUE_OPTIONS else rest[1:]
        if not rest or not re.fullmatch(r"[a-z][\w-]*", rest[0]):  # a placeholder such as VERB
            return None
        name = rest.pop(0)
        if name not in command.commands:
            return name
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = [word.partition("=")[0] for word in itertools.takewhile(lambda word: word != "--", rest)]
    return next((word for word in given if re.match("--?[a-zA-Z]", word) and word not in known), None)


def test_an_unknown_verb_is_found() -> None:
    assert unknown(CONSOLES["lab"], ["machine", "create", "vm-9"]) is None
    assert unknown(CONSOLES["lab"], ["-i", "test", "machine", "paint", "vm-9"]) == "paint"
    assert unknown(CONSOLES["hybridmesh"], ["dance", "--stack", "dev"]) == "dance"
    assert unknown(CONSOLES["hybridmesh"], ["status", "--stack", "dev", "--no-ssh"]) is None
    assert unknown(CONSOLES["hybridmesh"], ["bootstrap", "-f", "x", "--capture-dns=false"]) is None
    assert unknown(CONSOLES["hybridmesh"], ["status", "--colour"]) == "--colour"
    assert unknown(CONSOLES["lab"], ["ssh", "vm-1", "--", "ls", "--all"]) is None
