"""What of a machine's life needs no machine."""

from __future__ import annotations

import os
import shutil
import xmlrpc.client
from pathlib import Path

import pytest

from lab.instance import Instance
from lab.machines import Machine, _pass_over_what_is_gone


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


class Supervisor:
    """Says that the machine's program runs for a while after its guest is dead, and till then starts nothing."""

    def __init__(self) -> None:
        self.states = ["EXITED", "RUNNING", "RUNNING"]
        self.started = 0

    def getProcessInfo(self, _name: str) -> dict[str, str]:  # noqa: N802 (supervisord has this name)
        return {"statename": self.states.pop() if len(self.states) > 1 else self.states[0]}

    def startProcess(self, name: str) -> None:  # noqa: N802
        if self.states != ["EXITED"]:
            raise xmlrpc.client.Fault(60, f"ALREADY_STARTED: {name}")
        self.started += 1


def test_a_machine_whose_nspawn_is_still_ending_is_started_when_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Supervisor()
    monkeypatch.setattr(Instance, "supervisor", supervisor)
    monkeypatch.setattr(Machine, "exists", True)
    monkeypatch.setattr(Machine, "running", property(lambda _: supervisor.started > 0))
    monkeypatch.setattr(Machine, "wait_for_ssh", lambda _: None)
    Machine(Instance("unit", tmp_path), "vm-1").start()
    assert supervisor.started == 1
