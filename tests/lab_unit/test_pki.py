"""The embedded cluster's certificates are there whole, or made by the next start."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import yaml

from lab.pki import Authority

SERVER = "https://10.64.0.1:6443"


def make(folder: Path) -> None:
    authority = Authority(folder / "pki")
    authority.create()
    authority.service_account_key()
    authority.kubeconfig(folder / "kubeconfig", SERVER, "admin", "admin", "system:masters")


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_disk_that_was_full_leaves_no_half_file_that_counts_as_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "whole")
    writes, write = len(files(tmp_path / "whole")), Path.write_bytes
    for full_at in range(writes):
        folder, left = tmp_path / str(full_at), full_at

        def full(path: Path, content: bytes) -> int:
            nonlocal left
            left -= 1
            if left < 0:
                path.touch()
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(path, content)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "write_bytes", full)
            with pytest.raises(OSError, match="No space left"):
                make(folder)
        make(folder)
        assert [str(file.relative_to(folder)) for file in files(folder)] == [
            str(file.relative_to(tmp_path / "whole")) for file in files(tmp_path / "whole")
        ]
        assert all(file.stat().st_size for file in files(folder))
        assert yaml.safe_load((folder / "kubeconfig").read_text())["clusters"][0]["cluster"]["server"] == SERVER
        assert {file.stat().st_mode & 0o777 for file in files(folder)} == {0o600}
