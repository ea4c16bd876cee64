"""What of a machine's life needs no machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lab.machines import _pass_over_what_is_gone


@pytest.mark.parametrize("error", [FileNotFoundError(2, "gone"), PermissionError(13, "refused")])
def test_a_file_that_goes_by_itself_keeps_no_machine_from_being_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    folder = tmp_path / "machine"
    folder.mkdir()
    lock = folder / ".#root.lck"
    lock.touch()
    unlink = os.unlink

    def vanishing(path: str, **options: int) -> None:
        unlink(path, **options)
        if str(path).endswith(".lck"):
            raise error

    monkeypatch.setattr(os, "unlink", vanishing)
    if isinstance(error, FileNotFoundError):
        shutil.rmtree(folder, onerror=_pass_over_what_is_gone)
        assert not folder.exists()
    else:
        with pytest.raises(PermissionError):
            shutil.rmtree(folder, onerror=_pass_over_what_is_gone)
