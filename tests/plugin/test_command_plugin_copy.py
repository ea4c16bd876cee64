"""command:remote:CopyToRemote, over a real SSH server. Both plugins pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plugin.plugin import CallError, InputError, Plugin, file_archive, file_asset, is_secret, text_asset
from tests.plugin.sshd import Sshd

pytestmark = pytest.mark.lab

COPY = "command:remote:CopyToRemote"


def copy(sshd: Sshd, source: dict[str, str], to: Path, **inputs: Any) -> dict[str, Any]:
    return {"connection": sshd.connection, "source": source, "remotePath": str(to), **inputs}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "inner").mkdir(parents=True)
    (folder / "a").write_text("a")
    (folder / "inner" / "b").write_text("b")
    return folder


def test_a_text_becomes_a_file_in_folders_made_for_it(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file"

    made = plugin.create(COPY, copy(sshd, text_asset("content ü\n"), target))

    assert target.read_text() == "content ü\n"
    assert made.id
    assert is_secret(made.outputs["connection"])


def test_a_text_replaces_a_longer_file(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("a longer text")

    plugin.create(COPY, copy(sshd, text_asset("short"), target))

    assert target.read_text() == "short"


def test_a_text_needs_the_path_of_a_file(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    with pytest.raises(CallError, match="is a directory; when using a text asset, remotePath must be a file path"):
        plugin.create(COPY, copy(sshd, text_asset("content"), tmp_path))


def test_a_large_file_arrives_byte_by_byte(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 20_000)

    plugin.create(COPY, copy(sshd, file_asset(source), target))

    assert target.read_bytes() == source.read_bytes()


def test_a_file_goes_into_a_folder_that_is_there(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.write_text("content")
    folder.mkdir()

    plugin.create(COPY, copy(sshd, file_asset(source), folder))

    assert (folder / "source").read_text() == "content"


def test_a_folder_goes_into_the_target(plugin: Plugin, sshd: Sshd, tmp_path: Path, tree: Path) -> None:
    plugin.create(COPY, copy(sshd, file_archive(str(tree)), tmp_path / "target"))

    assert (tmp_path / "target" / "tree" / "a").read_text() == "a"
    assert (tmp_path / "target" / "tree" / "inner" / "b").read_text() == "b"


def test_a_folder_with_a_final_slash_becomes_the_target(plugin: Plugin, sshd: Sshd, tmp_path: Path, tree: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "kept").write_text("kept")

    plugin.create(COPY, copy(sshd, file_archive(f"{tree}/"), target))

    assert (target / "inner" / "b").read_text() == "b"
    assert (target / "kept").read_text() == "kept"


def test_a_folder_does_not_go_over_a_file(plugin: Plugin, sshd: Sshd, tmp_path: Path, tree: Path) -> None:
    target = tmp_path / "target"
    target.write_text("kept")

    with pytest.raises(CallError):
        plugin.create(COPY, copy(sshd, file_archive(f"{tree}/"), target))

    assert target.read_text() == "kept"


def test_an_archive_file_is_copied_packed(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    source, target = tmp_path / "source.tgz", tmp_path / "target.tgz"
    source.write_bytes(b"not even a tar")

    plugin.create(COPY, copy(sshd, file_archive(str(source)), target))

    assert target.read_bytes() == b"not even a tar"


def test_another_content_is_an_update_that_copies(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    target = tmp_path / "file"
    made = plugin.create(COPY, copy(sshd, text_asset("old"), target))
    changed = copy(sshd, text_asset("new"), target)

    assert plugin.diff(made, changed) == {"source": "UPDATE"}
    plugin.update(made, changed)

    assert target.read_text() == "new"


def test_another_path_is_an_update_that_copies_and_leaves_the_old(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    made = plugin.create(COPY, copy(sshd, text_asset("content"), tmp_path / "old"))
    changed = copy(sshd, text_asset("content"), tmp_path / "new")

    assert plugin.diff(made, changed) == {"remotePath": "UPDATE"}
    plugin.update(made, changed)

    assert (tmp_path / "old").read_text() == (tmp_path / "new").read_text() == "content"


def test_another_connection_alone_copies_nothing(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    source = text_asset("content")
    made = plugin.create(COPY, copy(sshd, source, tmp_path / "file"))
    before = sshd.accepted()
    changed = copy(sshd, source, tmp_path / "file", connection={**sshd.connection, "dialErrorLimit": 3})

    assert plugin.diff(made, changed) == {"connection": "UPDATE"}
    plugin.update(made, changed)

    assert sshd.accepted() == before


def test_triggers_replace(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    inputs = copy(sshd, text_asset("content"), tmp_path / "file")
    made = plugin.create(COPY, inputs)

    assert plugin.diff(made, {**inputs, "triggers": [1]}) == {"triggers": "ADD_REPLACE"}


def test_preview_copies_nothing(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    before = sshd.accepted()
    made = plugin.create(COPY, copy(sshd, text_asset("old"), tmp_path / "file"))

    plugin.create(COPY, copy(sshd, text_asset("content"), tmp_path / "other"), preview=True)
    plugin.update(made, copy(sshd, text_asset("new"), tmp_path / "file"), preview=True)

    assert (tmp_path / "file").read_text() == "old"
    assert not (tmp_path / "other").exists()
    assert sshd.accepted() == before + 1


def test_delete_leaves_the_copy(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    made = plugin.create(COPY, copy(sshd, text_asset("content"), tmp_path / "file"))

    # A plugin without a delete of its own may answer that there is none; the engine is content with both.
    plugin.delete(made)

    assert (tmp_path / "file").read_text() == "content"


def test_one_copy_is_one_connection(plugin: Plugin, sshd: Sshd, tmp_path: Path, tree: Path) -> None:
    before = sshd.accepted()

    plugin.create(COPY, copy(sshd, file_archive(str(tree)), tmp_path / "target"))

    assert sshd.accepted() == before + 1


def test_a_source_that_is_not_local_is_refused(plugin: Plugin, sshd: Sshd, tmp_path: Path) -> None:
    asset = {key: value for key, value in text_asset("").items() if key != "text"}

    with pytest.raises(InputError, match="asset must be a path-based file asset or a text asset"):
        plugin.check(COPY, copy(sshd, {**asset, "uri": "https://example.com/file"}, tmp_path / "file"))
