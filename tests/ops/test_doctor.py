"""The verb `doctor`: what it prints, how it ends, and what its bundle holds and does not hold."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import tarfile
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hybridmesh.__main__ import app
from hybridmesh.ops import doctor, look
from hybridmesh.ops.bundle import scrub
from hybridmesh.ops.look import Seen, View
from hybridmesh.ops.mesh import MeshFacts
from hybridmesh.ops.topology import StackError
from tests.ops.probed import NOW, TOPOLOGY, TRACKED, machine_facts, mesh_facts, probe_output, unit

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJlLW9mLXRva2Vu"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nTUlJRXBBSUJBQUtDQVFFQQ\n-----END RSA PRIVATE KEY-----"
STOPPED = {"units": unit(ActiveState="failed", SubState="failed"), "rules": TRACKED}


@pytest.fixture(autouse=True)
def _stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "stack_topology", lambda _stack: TOPOLOGY)


def seen(changes: Mapping[str, str] | None = None, **sections: str) -> Seen:
    output = probe_output({**(changes or {}), **sections})
    span = (NOW - timedelta(seconds=1), NOW + timedelta(seconds=1))
    return Seen(facts=machine_facts(changes), output=output, asked=span)


def run(
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str,
    machine: Seen | None = None,
    mesh: MeshFacts | None = None,
    others: Mapping[str, Seen] | None = None,
) -> tuple[int, str]:
    machines = {"vm-1": machine or seen(), **(others or {})}
    view = View(
        topology={**TOPOLOGY, "machines": dict.fromkeys(machines, TOPOLOGY["machines"]["vm-1"])},
        mesh=mesh,
        mesh_refusal="" if mesh else "the API server did not answer",
        machines=machines,
        now=NOW,
    )
    monkeypatch.setattr(doctor, "look", lambda *_, **__: view)
    result = CliRunner().invoke(app, ["doctor", *arguments])
    return result.exit_code, result.stdout


def test_a_stack_that_is_well_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, mesh=mesh_facts()) == (0, "All well: istiod, gateway, 1 machine.\n")
    assert run(monkeypatch, mesh=mesh_facts(gateways=None)) == (0, "All well: istiod, 1 machine.\n")


def test_a_finding_says_where_what_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = run(monkeypatch, machine=seen(STOPPED), mesh=mesh_facts())
    assert code == 1
    for part in (
        "● critical  vm-1  service-stopped  istio.service does not run (failed",
        "do     `systemctl start istio`",
        "\n1 critical",
    ):
        assert part in text
    assert "docs/runbook.md#service-stopped" in text


def test_what_one_cause_does_to_many_machines_is_said_once_and_of_each_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Seen(refusal="its bastion: SSH does not answer at 192.0.2.9:22. Fix: start it.")
    another = Seen(refusal="its host key is another. Fix: set it.")
    others = {"vm-2": refused, "vm-3": another, "vm-4": seen()}
    _, text = run(monkeypatch, machine=refused, mesh=mesh_facts(), others=others)
    assert re.findall(r"● critical  (.+?)  ssh-unreachable  it cannot be looked at: (\S+ \S+)", text) == [
        ("vm-1, vm-2", "its bastion:"),
        ("vm-3", "its host"),
    ]
    assert "\n2 critical, " in text
    _, text = run(monkeypatch, "--json", machine=refused, mesh=mesh_facts(), others=others)
    found = [each["machine"] for each in json.loads(text)["findings"] if each["id"] == "ssh-unreachable"]
    assert found == ["vm-1", "vm-2", "vm-3"]


@pytest.mark.parametrize(
    ("machine", "mesh", "code"),
    [
        (seen({"stats": "a.rbac.denied: 2"}), mesh_facts(), 0),
        (Seen(refusal="SSH does not answer. Fix: start it."), mesh_facts(), 2),
        (seen({"unread": "listeners", "listeners": ""}), mesh_facts(), 2),
        (Seen(refusal="SSH does not answer. Fix: start it."), mesh_facts(entries={}), 1),
        (Seen(refusal="SSH does not answer. Fix: start it."), mesh_facts(istiods={"default": 0}), 1),
        (seen(), None, 2),
        (seen(STOPPED), None, 1),
    ],
)
def test_the_exit_code_tells_wrong_from_unknown(
    monkeypatch: pytest.MonkeyPatch, machine: Seen, mesh: MeshFacts | None, code: int
) -> None:
    assert run(monkeypatch, machine=machine, mesh=mesh)[0] == code


def test_who_may_not_read_all_of_the_mesh_is_told_what_is_not_known_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ["could not list pods: 403. Not known for that: a.", "could not list policies: 403. Not known: b."]
    blind = mesh_facts(states={}, endpoints=None, istiods={"default": None}, gateways=None, unread=refused)
    code, text = run(monkeypatch, mesh=blind)
    assert code == 2, "no finding, and not well either"
    assert text == "".join(f"A part of the mesh could not be looked at: {line}\n" for line in refused)
    code, text = run(monkeypatch, "--json", mesh=blind)
    assert (code, json.loads(text)["notLookedAt"]) == (2, {"mesh": " ".join(refused)})
    assert run(monkeypatch, machine=seen(STOPPED), mesh=blind)[0] == 1


def test_json_names_what_could_not_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    _, text = run(monkeypatch, "--json", machine=Seen(refusal="no answer"))
    document = json.loads(text)
    assert document["notLookedAt"] == {"vm-1": "no answer", "mesh": "the API server did not answer"}
    assert [finding["id"] for finding in document["findings"]] == ["ssh-unreachable"]
    assert document["machines"] == ["vm-1"]


def test_a_machine_that_is_none_is_said_with_those_that_are() -> None:
    result = CliRunner().invoke(app, ["doctor", "vm-9"])
    assert result.exit_code == 2
    assert "no machine vm-9. Fix: one of vm-1" in result.output


def test_a_stack_that_cannot_be_read_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_stack: object) -> None:
        raise StackError("nothing was put up yet. Fix: pulumi up.")

    monkeypatch.setattr(look, "stack_topology", refuse)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 2
    assert "Fix: pulumi up" in result.output
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "machines": [],
        "notLookedAt": {"stack": "nothing was put up yet. Fix: pulumi up."},
        "findings": [],
    }


def test_the_bundle_holds_what_was_seen_without_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    logs = f"call with {TOKEN}\nauthorization: Bearer abcdefghijkl\n{KEY}\nhttps://me:hunter2@example.com/x\nlast line"
    machine = seen(None, **{"log/istio.log": logs, "envoy/config_dump.json": json.dumps({"inline_string": KEY})})
    path = tmp_path / "bundle.tar.gz"
    code, _ = run(monkeypatch, "--bundle", str(path), machine=machine, mesh=mesh_facts())
    assert code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
        files = {m.name: archive.extractfile(m).read().decode() for m in archive.getmembers()}  # type: ignore[union-attr]
    assert {"findings.json", "topology.json", "mesh/entries.json", "machines/vm-1/facts/units"} <= set(files)
    log = files["machines/vm-1/log/istio.log"]
    assert "last line" in log
    for name, text in files.items():
        for secret in (TOKEN.rpartition(".")[2], "abcdefghijkl", "TUlJRXBB", "hunter2", "BEGIN RSA PRIVATE"):
            assert secret not in text, (name, secret)
    assert json.loads(files["machines/vm-1/envoy/config_dump.json"])


@pytest.mark.parametrize("name", ["../../../root/.profile", "/etc/cron.d/x", "log/../../x", "log/a/../b", ".."])
def test_a_machine_puts_nothing_beside_its_own_folder_of_the_bundle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "bundle.tar.gz"
    run(monkeypatch, "--bundle", str(path), machine=seen(None, **{name: "id"}), mesh=mesh_facts())
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert "machines/vm-1/facts/end" in names
    assert [name for name in names if ".." in name or "//" in name] == []


def test_a_bundle_over_a_file_that_others_can_read_is_for_nobody_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "bundle.tar.gz"
    path.write_text("of before, and longer than the archive\n" * 1000)
    path.chmod(0o644)
    assert run(monkeypatch, "--bundle", str(path), machine=seen(None), mesh=mesh_facts())[0] == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as archive:
        assert "findings.json" in archive.getnames()


def test_a_bundle_that_goes_to_what_is_no_file_leaves_its_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    path.chmod(0o666)
    read: list[bytes] = []
    reading = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reading.start()
    assert run(monkeypatch, "--bundle", str(path), mesh=mesh_facts())[0] == 0
    reading.join(10)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666, "as root, that of /dev/null would be lost to all"
    with tarfile.open(fileobj=io.BytesIO(read[0])) as archive:
        assert "findings.json" in archive.getnames()


def test_a_bundle_that_cannot_be_written_is_said_before_anything_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nobody_looks(*_: object, **__: object) -> View:
        raise AssertionError

    monkeypatch.setattr(doctor, "look", nobody_looks)
    result = CliRunner().invoke(app, ["doctor", "--bundle", str(tmp_path / "nowhere" / "x.tar.gz")])
    assert result.exit_code == 2
    assert "cannot be written (No such file or directory)" in result.output


def test_a_bundle_of_nothing_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(_self: object) -> None:
        raise StackError("nothing was put up yet")

    monkeypatch.setattr(look.Source, "topology", refuse)
    there = tmp_path / "there.tar.gz"
    there.write_bytes(b"of before")
    for file in (tmp_path / "new.tar.gz", there):
        assert CliRunner().invoke(app, ["doctor", "--bundle", str(file)]).exit_code == 2
    assert (list(tmp_path.iterdir()), there.read_bytes()) == ([there], b"of before")


def test_findings_are_printed_though_the_bundle_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor, "write_bundle", full)
    bundle = ("--bundle", str(tmp_path / "x.tar.gz"))
    code, text = run(monkeypatch, *bundle, machine=seen(STOPPED), mesh=mesh_facts())
    assert (code, "service-stopped" in text) == (1, True)
    assert "service-stopped" in run(monkeypatch, "--json", *bundle, machine=seen(STOPPED), mesh=mesh_facts())[1]


@pytest.mark.parametrize(
    "run", ["A", "A B", "LS0tLS1CRUdJTiA", "LS0tLS1CRUdJTi" + "a" * 50, "b" * 60 + "\\n", "password="]
)
def test_a_long_run_of_base64_as_of_a_ca_bundle_takes_no_minutes(run: str) -> None:
    began = time.process_time()
    scrub(run * (300_000 // len(run)))
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"x {TOKEN} y", "x <token> y"),
        (f"{KEY}\nmore", "<private key taken out>\nmore"),
        (KEY.partition("-----END")[0], "<private key taken out>"),
        # Something ran into the beginning, or the beginning is cut off.
        (f"{TOKEN}{KEY}\n2026 more", "<token><private key taken out>\n2026 more"),
        (KEY.partition("-----\n")[2] + "\n- more", "<private key taken out>\n- more"),
        (json.dumps({"key": KEY, "next": 1}), '{"key": "<private key taken out>", "next": 1}'),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic <taken out>"),
        ("password=hunter2hunter2 x", "password=<taken out> x"),
        ("password=a, user=b; token: c", "password=<taken out>, user=b; token: <taken out>"),
        ("DB_PASS=a,b\\c'd\nnext", "DB_PASS=<taken out>\nnext"),
        ("passphrase: 'correct horse, battery' next", "passphrase: '<taken out>' next"),
        ("passwd: 'it''s' next", "passwd: '<taken out>' next"),
        ('secret_key="one two\nnext', 'secret_key="<taken out>\nnext'),
        (
            "AWS_SECRET_ACCESS_KEY=x X-Api-Key: y apiKey=z",
            "AWS_SECRET_ACCESS_KEY=<taken out> X-Api-Key: <taken out> apiKey=<taken out>",
        ),
        (json.dumps({"password": 'a"b c', "next": 1}), '{"password": "<taken out>", "next": 1}'),
        (json.dumps({"password": "ends in \\", "next": 1}), '{"password": "<taken out>", "next": 1}'),
        (
            json.dumps([json.dumps({"token": 'a"b c', "n": 1})]),
            json.dumps([json.dumps({"token": "<taken out>", "n": 1})]),
        ),
        (json.dumps(["token=abc\nnext", "secret=d"]), json.dumps(["token=<taken out>\nnext", "secret=<taken out>"])),
        ("postgres://me:hun/ter@2@db.example:5432/x", "postgres://db.example:5432/x"),
        ("oci://registry.example:5000/image@sha256:abc", None),
        ("http://192.0.2.1:80/a user@example.com", None),
        (json.dumps({"secret": {"name": "x"}, "token": None, "tokens": ["a"], "password": [], "pass": True}), None),
        ("the password is wrong; PWD=/root, bypass: 1", None),
        ("LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQpNSUlF", "<private key taken out>"),
        ("-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----", None),
        ("istio-token is 600, tokens last 3600", None),
    ],
)
def test_secrets_go_and_the_rest_stays(text: str, clean: str | None) -> None:
    assert scrub(text) == (text if clean is None else clean)
