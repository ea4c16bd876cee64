"""Figures have their spread, and a point's table replaces that point's alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import page
from bench.settings import document, made_up
from hybridmesh.settings import parse
from tests.components.harness import read_file

TEXT = "# Page\n<!-- measured: a -->\nold a\n<!-- end -->\nbetween\n<!-- measured: b -->\nold b\n<!-- end -->\n"


def test_a_figure_tells_median_spread_and_runs() -> None:
    assert str(page.Figure([3.0, 1.0, 2.0])) == "2.00 s (1.00 to 3.00, 3 runs)"
    assert str(page.Figure([1234.4], "MiB")) == "1,234 MiB (1 run)"
    assert page.ratio(page.Figure([10, 30, 20]), page.Figure([80])) == "0.25"


def test_a_table_replaces_its_own_and_says_when_on_what_and_beside_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    page.PAGE.write_text(TEXT)
    page.write("a", [("what", "1 s", "2 s")])
    text = page.PAGE.read_text()
    assert "old a" not in text
    assert "old b" in text
    assert "between" in text
    assert "| what | 1 s | 2 s |" in text
    assert "Measured 20" in text
    assert "load average" in text
    page.write("a", [("what", "3 s", "")])
    assert page.PAGE.read_text().count("Measured") == 1


def test_a_point_that_the_page_does_not_have_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    page.PAGE.write_text(TEXT)
    with pytest.raises(ValueError, match="no place"):
        page.write("c", [])


def test_the_page_has_a_place_for_every_point() -> None:
    text = page.PAGE.read_text()
    for point in ("join-many", "join-one", "sixty", "preview", "environment"):
        assert f"<!-- measured: {point} -->" in text


def test_settings_with_many_vms_are_valid() -> None:
    config = document(made_up(300))["config"]
    settings = parse({key.removeprefix("hybrid-mesh:"): value for key, value in config.items()}, read_file)
    machines = settings.workloads["echo"].machines
    assert machines is not None
    assert len(machines.hosts) == 300
