"""What of a machine's life needs no machine."""

from __future__ import annotations

import json
import os
import xmlrpc.client
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.instance import Instance, process_start
from lab.machines import Machine
from lab.toolchain import Toolset


@pytest.mark.parametrize("error", [FileNotFoundError(2, "gone"), PermissionError(13, "refused")])
def test_a_file_that_goes_by_itself_keeps_no_machine_from_being_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    machine = Machine(Instance("unit", tmp_path), "vm-1")
    machine.folder.mkdir(parents=True)
    for part in ("config", "ssh"):
        (machine.instance.folder / part).mkdir()
    (machine.folder / ".#root.lck").touch()
    monkeypatch.setattr(Instance, "supervisor", SimpleNamespace(stopProcess=print, removeProcessGroup=print))
    unlink = os.unlink

    def vanishing(path: str, **options: int) -> None:
        unlink(path, **options)
        if str(path).endswith(".lck"):
            raise error

    monkeypatch.setattr(os, "unlink", vanishing)
    if isinstance(error, FileNotFoundError):
        machine.delete()
        assert not machine.folder.exists()
    else:
        with pytest.raises(PermissionError):
            machine.delete()


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


@pytest.mark.parametrize(("runs", "boots_from"), [(False, "new"), (True, "old")])
def test_a_machine_that_is_off_boots_from_the_root_of_todays_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: bool, boots_from: str
) -> None:
    machine = Machine(Instance("unit", tmp_path), "vm-1")
    for folder in ("machines/vm-1", "programs"):
        (machine.instance.folder / folder).mkdir(parents=True)
    (machine.folder / "address").write_text("10.64.2.1")
    state = {"slot": 0, "init_pid": os.getpid(), "init_start": process_start(os.getpid()), "inotify_before": 128}
    (machine.instance.folder / "instance.json").write_text(json.dumps(state))
    known = {"machine-vm-1": "old"}

    def remove(name: str) -> None:
        if runs:
            raise xmlrpc.client.Fault(91, f"STILL_RUNNING: {name}")
        del known[name]

    def add(name: str) -> None:
        if name in known:
            raise xmlrpc.client.Fault(90, f"ALREADY_ADDED: {name}")
        configuration = (machine.instance.folder / "programs" / f"{name}.conf").read_text()
        known[name] = "new" if str(tmp_path / "root-new" / "root") in configuration else "?"

    supervisor = SimpleNamespace(removeProcessGroup=remove, addProcessGroup=add, reloadConfig=lambda: None)
    monkeypatch.setattr(Instance, "supervisor", supervisor)
    monkeypatch.setattr(Machine, "start", lambda _: None)
    machine.create(Toolset({"machine-root": tmp_path / "root-new"}, tmp_path))
    assert known == {"machine-vm-1": boots_from}
