"""What is removed of the copies that Pulumi's Kubernetes plugin leaves of a kubeconfig, and what is not."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from hybridmesh.kubeconfig_copies import remove_copies
from tests.components.harness import PROJECT_ROOT

KEY = "users:\n- {name: u, user: {client-key-data: S0VZ, client-certificate-data: Q0VSVA==}}\n"
COPY = "users:\n- name: u\n  user:\n    client-certificate-data: Q0VSVA==\n    client-key-data: S0VZ\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder."""
    there = tmp_path / "tmp"
    there.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(there))
    return there


def written(path: Path, text: str = COPY, *, mode: int = 0o600, age: float = 0) -> Path:
    path.write_text(text, "latin-1")
    path.chmod(mode)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_the_copies_go_and_the_kubeconfig_stays(tmp_path: Path, folder: Path) -> None:
    own = written(tmp_path / "kubeconfig", KEY)
    copies = [written(folder / "kubeconfig1175964228"), written(folder / "kubeconfig98373494")]
    remove_copies(str(own))
    assert own.exists()
    assert not [copy for copy in copies if copy.exists()]


@pytest.mark.parametrize(
    ("name", "text", "mode", "age"),
    [
        ("kubeconfig1175964228", COPY.replace("S0VZ", "T1RIRVI="), 0o600, 0),
        ("kubeconfig1175964228", COPY, 0o644, 0),
        ("kubeconfig1175964228", COPY, 0o600, 7200),
        ("kubeconfig-prod", COPY, 0o600, 0),
        ("kubeconfig1175964228", "users: [", 0o600, 0),
        ("kubeconfig1175964228", "\xff", 0o600, 0),
        ("kubeconfig1175964228", "- a list", 0o600, 0),
    ],
    ids=["another's", "not as written by it", "old", "somebody's", "no YAML", "bytes", "no kubeconfig"],
)
def test_what_may_be_somebody_else_s_stays(
    tmp_path: Path, folder: Path, name: str, text: str, mode: int, age: float
) -> None:
    own = written(tmp_path / "kubeconfig", KEY)
    other = written(folder / name, text, mode=mode, age=age)
    remove_copies(str(own))
    assert other.exists()


def test_a_kubeconfig_in_the_temporary_folder_is_no_copy(folder: Path) -> None:
    own = written(folder / "kubeconfig1175964228", KEY)
    remove_copies(str(own))
    assert own.exists()


@pytest.mark.parametrize("text", [KEY.replace("client-key-data: S0VZ, ", ""), "users: [", "- a list", "users: 3", ""])
def test_where_nothing_is_secret_nothing_is_removed(tmp_path: Path, folder: Path, text: str) -> None:
    own, copy = written(tmp_path / "kubeconfig", text), written(folder / "kubeconfig1175964228", text)
    remove_copies(str(own))
    assert copy.exists()


def test_a_kubeconfig_that_is_gone_by_then_hinders_nothing(tmp_path: Path, folder: Path) -> None:
    copy = written(folder / "kubeconfig1175964228")
    remove_copies(str(tmp_path / "kubeconfig"))
    assert copy.exists()


def test_it_is_done_at_the_end_of_the_program_wherever_that_has_gone_meanwhile(tmp_path: Path, folder: Path) -> None:
    written(tmp_path / "kubeconfig", KEY)
    copy = written(folder / "kubeconfig1175964228")
    program = (
        f"import os, pathlib, sys; sys.path.insert(0, {str(PROJECT_ROOT)!r})\n"
        "from hybridmesh.kubeconfig_copies import without_copies_in_the_end\n"
        "without_copies_in_the_end('kubeconfig')\n"
        f"os.chdir('/'); assert pathlib.Path({str(copy)!r}).exists()\n"
    )
    environment = {**os.environ, "TMPDIR": str(folder)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, timeout=60)
    assert not copy.exists()
