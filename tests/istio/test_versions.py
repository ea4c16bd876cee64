"""Which versions go together, and that docs/versions.md says the same."""

import pytest

from hybridmesh.istio import versions
from tests.components.harness import PROJECT_ROOT


def kinds(istiod: str, sidecar: str | None) -> list[str]:
    return [objection.kind for objection in versions.objections(istiod, sidecar)]


@pytest.mark.parametrize("release", versions.RELEASES, ids=[r.istiod for r in versions.RELEASES])
def test_every_row_of_the_table_is_good_and_follows_istio_s_skew(release: versions.Release) -> None:
    major, minor = release.istiod.split(".")
    assert release.sidecars == (release.istiod, f"{major}.{int(minor) - 1}")
    for sidecar in release.sidecars:
        assert kinds(f"{release.istiod}.3", f"{sidecar}.0") == []
    assert kinds(f"{release.istiod}.0", None) == []


@pytest.mark.parametrize(
    ("istiod", "sidecar", "found"),
    [
        ("1.31.0", "1.32.0", ["sidecar"]),
        ("1.31.0", "1.29.4", ["sidecar"]),
        ("1.31.0", "1.31.5-1.el9", []),
        ("1.31.0", "1.31.0~rc.1", []),
        ("1.31.0", "latest", ["sidecar"]),
        ("1.28.0", "1.28.0", ["istiod"]),
        ("1.28.0", "1.27.0", ["istiod"]),
        ("1.28.0", "1.26.0", ["istiod", "sidecar"]),
        ("2.0.0", "1.31.0", ["istiod", "sidecar"]),
    ],
)
def test_what_is_outside_is_said(istiod: str, sidecar: str, found: list[str]) -> None:
    assert kinds(istiod, sidecar) == found


def test_an_objection_says_which_way_it_is_wrong_and_what_may_break() -> None:
    (newer,) = versions.objections("1.31.0", "1.32.0")
    (older,) = versions.objections("1.31.0", "1.28.0")
    assert newer.problem == "is newer than istiod 1.31.0"
    assert older.problem == "is more than one minor version older than istiod 1.31.0"
    for objection in (newer, older):
        assert objection.consequence == versions.MAY_BREAK["sidecar"]
        assert objection.fix == "one of 1.31, 1.30"


def test_of_what_is_outside_the_table_no_more_is_said_than_can_be_known() -> None:
    (unknown,) = versions.objections("1.31.0", "latest")
    assert unknown.problem == "cannot be compared with istiod 1.31.0"
    istiod, sidecar = versions.objections("2.0.0", "1.31.0")
    assert istiod.problem == "is not in the table of supported versions (1.31, 1.30)"
    assert istiod.consequence == versions.MAY_BREAK["istiod"]
    assert (istiod.fix, sidecar.fix) == ("one of 1.31, 1.30", "one of 2.0"), "before a first minor version is none"


def test_systems_are_words_that_a_shell_can_split() -> None:
    words = versions.systems_line().split(" ")
    assert len(words) == len(set(words)) == len(versions.SYSTEMS)
    assert "debian:12" in words
    assert all(word.count(":") == 1 for word in words)


def test_the_docs_page_has_the_table_as_it_is() -> None:
    page = (PROJECT_ROOT / "docs" / "versions.md").read_text()
    assert versions.markdown() in page, "run `python -m hybridmesh.istio.versions`, put its output into the page"
