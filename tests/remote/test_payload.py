"""The payload is deterministic, and its values arrive byte for byte and are never run."""

from __future__ import annotations

import base64
import functools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridmesh import remote
from tests.remote.unpacked import entries, unpacked

COMMANDS = {
    "agent": remote.COMMAND_AGENT,
    "agent-leave": remote.COMMAND_AGENT_LEAVE,
    "bring": remote.COMMAND_BRING,
    "join": remote.COMMAND_JOIN,
    "leave": remote.COMMAND_LEAVE,
    "preflight": remote.COMMAND_PREFLIGHT,
}
CARRIED: Mapping[str, tuple[str, ...]] = {
    "agent": remote.AGENT_SCRIPTS,
    "agent-leave": remote.LEAVE_SCRIPTS,
    "bring": remote.BRING_SCRIPTS,
    "join": (),
    "leave": remote.LEAVE_SCRIPTS,
    "preflight": remote.PREFLIGHT_SCRIPTS,
}
"""The scripts in each command's payload."""
FILES = {
    "cluster.env": "ISTIO_SERVICE_CIDR='*'\n",
    "hosts": "192.0.2.1 istiod.istio-system.svc\n",
    "istio-token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln",
    "mesh.yaml": "defaultConfig: {}\n",
    "root-cert.pem": "-----BEGIN CERTIFICATE-----\n",
}
SETTINGS = {
    "package-url": "http://mirror.example/istio-sidecar.deb",
    "spiffe-id": "spiffe://cluster.local/ns/a/sa/b",
    "token-again": "pulumi up --replace '**::mesh-vm-1-token'",
}
ODD_VALUES = [
    'it\'s "quoted"',
    "$(touch executed) `touch executed`",
    "; touch executed; #",
    "\\n \\0 %s %d",
    "-e * ? [a-z] ~ ! & | <>",
    "  spaces around  ",
    "\ttab",
    "Zürich 東京 🜁",
]


# ---------------------------------------------------------------- the string


def test_the_same_arguments_give_the_same_string_whatever_their_order_or_the_time() -> None:
    first = remote.payload(FILES, SETTINGS)
    time.sleep(1.1)  # a tar's times are whole seconds
    assert remote.payload(dict(reversed(FILES.items())), dict(reversed(SETTINGS.items()))) == first


def test_a_payload_is_one_line_of_ascii() -> None:
    assert re.fullmatch(r"[A-Za-z0-9+/]+=*", remote.payload(FILES, SETTINGS))


def test_only_root_can_read_what_is_unpacked() -> None:
    for name, member in entries(remote.payload(FILES, SETTINGS)).items():
        assert member.mode == (0o700 if name in ("files", "settings") else 0o600), name
        assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", 0), name


def scripts_in(payload: str) -> set[str]:
    return {name for name in entries(payload) if name.endswith(".sh")}


@pytest.mark.parametrize("verb", sorted(set(COMMANDS) - {"join"}))
def test_a_payload_has_the_scripts_that_its_command_needs_and_no_other(verb: str) -> None:
    assert scripts_in(remote.payload({}, SETTINGS, CARRIED[verb])) == set(CARRIED[verb])
    here = Path(remote.__file__).parent
    needed = {f"{other}.sh" for other in COMMANDS if CARRIED[other] == CARRIED[verb]}
    read = set[str]()
    while needed - read:
        script = min(needed - read)
        read.add(script)
        needed |= set(re.findall(r"(?:\. |/bin/sh |\bsh )\./([a-z_-]+\.sh)", (here / script).read_text()))
    assert needed == set(CARRIED[verb])


def test_what_is_brought_is_a_folder_of_its_own_with_the_scripts_of_a_join_and_their_digest() -> None:
    join = {f"brought/{name}" for name in remote.JOIN_SCRIPTS}
    preflight = remote.payload({}, SETTINGS, remote.PREFLIGHT_SCRIPTS, bring=True)
    assert scripts_in(remote.bring_payload()) == join | set(remote.BRING_SCRIPTS)
    assert scripts_in(preflight) == join | set(remote.PREFLIGHT_SCRIPTS)
    for payload in (remote.bring_payload(), preflight):
        assert unpacked(payload)["settings/scripts"].decode() == f"{remote.scripts_digest()}\n"


def test_what_a_join_reads_is_small_for_a_state_has_it_twice_a_machine() -> None:
    assert len(remote.payload(FILES, {**SETTINGS, "scripts": remote.scripts_digest()})) < 1000


def test_a_join_is_brought_every_script_that_it_or_what_it_leaves_there_runs() -> None:
    here = Path(remote.__file__).parent
    mentioned = {
        name
        for script in remote.JOIN_SCRIPTS
        for name in re.findall(r"(?:\./|/scripts/|/next/|\bsh )([a-z_-]+\.sh)", (here / script).read_text())
    }
    # What machines get that join by themselves, in a startup script with all scripts.
    assert mentioned - {"token.sh", "farewell.sh"} <= set(remote.JOIN_SCRIPTS)
    assert {"checks.sh", "switch.sh", "restart.sh", "upkeep.sh", "manifest.sh", "firewall.sh", "leave.sh"} <= mentioned


def test_a_digest_tells_payloads_apart_and_not_more() -> None:
    digest = remote.payload_digest(FILES, SETTINGS)
    assert digest == remote.payload_digest(dict(reversed(FILES.items())), SETTINGS)
    assert digest != remote.payload_digest({**FILES, "istio-token": "other"}, SETTINGS)
    assert digest != remote.payload_digest(FILES, {**SETTINGS, "ssh-port": "2222"})
    assert digest != remote.payload_digest(FILES, {**SETTINGS, "scripts": remote.scripts_digest()})
    assert re.fullmatch("[0-9a-f]{64}", digest)


def test_the_digest_of_the_scripts_changes_with_any_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    script, before = remote._script, remote.scripts_digest()
    assert remote.scripts_digest() == before
    for name in remote.JOIN_SCRIPTS:
        monkeypatch.setattr(remote, "_script", lambda of, name=name: script(of) + (b"\n" if of == name else b""))
        assert remote.scripts_digest() != before, name


@pytest.mark.parametrize(
    ("files", "settings", "named"),
    [
        ({"passwd": ""}, {}, "'passwd'"),
        ({"../passwd": ""}, {}, "'../passwd'"),
        ({}, {"packge-url": "x"}, "'packge-url'"),
        ({}, {"spiffe-id": "a\nb"}, "'spiffe-id'"),
        ({}, {"spiffe-id": "a\0b"}, "'spiffe-id'"),
        ({}, {"drain-seconds": "5s"}, "'5s'"),
        ({}, {"drain-seconds": "-1"}, "'-1'"),
        ({}, {"app-units": "shop.service; reboot"}, "'shop.service; reboot'"),
        ({}, {"scripts": "../.."}, "'../..'"),
        ({}, {"ssh-port": "0"}, "'0'"),
        ({}, {"ssh-port": "65536"}, "'65536'"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(files: Mapping[str, str], settings: Mapping[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        remote.payload(files, settings)


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_any_text_is_in_the_payload_byte_for_byte(text: str) -> None:
    assert unpacked(remote.payload({"mesh.yaml": text}, {}))["files/mesh.yaml"] == text.encode()


def test_a_command_is_one_line_without_any_value() -> None:
    for command in COMMANDS.values():
        assert "\n" not in command
        for value in [*FILES.values(), *SETTINGS.values()]:
            assert value.strip() not in command


# ---------------------------------------------------------------- the commands, run by real shells


@dataclass(frozen=True)
class Vm:
    """A folder that stands for a VM: /run is in it, and PATH says who the user is and whether sudo lets them in."""

    folder: Path
    shell: str

    @property
    def run_folder(self) -> Path:
        return self.folder / "run"

    def become(self, user: str, *, sudo: bool) -> None:
        """Make the commands believe that `user` is logged in; sudo, if allowed, just runs what it is given."""
        tools = self.folder / "bin"
        (tools / "id").write_text(
            f"#!/bin/sh\ncase $1 in -u) test {user} = root && echo 0 || echo 1000;; *) echo {user};; esac\n"
        )
        allowed = (
            f'echo "$@" >>{self.folder}/sudo.log; shift; exec "$@"'
            if sudo
            else 'echo "sudo: a password is required" >&2; exit 1'
        )
        (tools / "sudo").write_text(f"#!/bin/sh\n{allowed}\n")
        for tool in ("id", "sudo"):
            (tools / tool).chmod(0o755)

    def run(self, command: str, stdin: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.shell, "-c", self.local(command)],
            input=stdin,
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def local(self, command: str) -> str:
        """The command but for three paths: where it works, what a join has kept, and which shell takes over."""
        paths = {"/run/": f"{self.run_folder}/", "/var/lib/": f"{self.folder}/lib/", "/bin/sh": self.shell}
        return functools.reduce(lambda text, path: text.replace(path, paths[path]), paths, command)

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "OUT": str(self.folder / "out")}

    def put_scripts(self, place: str) -> Path:
        """A join's, as the package has them now, to a place below `run` or `lib`."""
        folder = self.folder / place
        folder.mkdir(parents=True)
        for name in remote.JOIN_SCRIPTS:
            (folder / name).write_bytes(remote._script(name))
        return folder


@pytest.fixture(params=["sh", "dash", "bash"])
def vm(request: pytest.FixtureRequest, tmp_path: Path) -> Vm:
    shell = shutil.which(request.param)
    if shell is None:
        pytest.skip(f"no {request.param} here")
    for folder in ("run", "bin", "out"):
        (tmp_path / folder).mkdir()
    vm = Vm(tmp_path, shell)
    vm.become("root", sudo=False)
    return vm


def with_script(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let every script be `text`, beside the real lib.sh."""
    library = remote._script("lib.sh")
    monkeypatch.setattr(remote, "_script", lambda name: library if name == "lib.sh" else text.encode())


def join_payload(files: Mapping[str, str], settings: Mapping[str, str]) -> str:
    return remote.payload(files, {**settings, "scripts": remote.scripts_digest()})


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_command_runs_its_script_and_hands_on_output_and_exit_code(
    vm: Vm, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    with_script(monkeypatch, 'echo "$0"; echo complaint >&2; exit 7\n')
    vm.put_scripts("lib/hybrid-mesh/scripts")
    result = vm.run(COMMANDS[verb], remote.payload({}, {"scripts": remote.scripts_digest()}, CARRIED[verb]))
    assert (result.returncode, result.stdout, result.stderr) == (7, f"./{verb}.sh\n", "complaint\n")
    assert list(vm.run_folder.iterdir()) == []


PLACES = ("run/hybrid-mesh-scripts", "lib/hybrid-mesh/brought", "lib/hybrid-mesh/next", "lib/hybrid-mesh/scripts")


@pytest.mark.parametrize("place", PLACES)
def test_a_join_runs_the_scripts_that_it_names_wherever_they_were_brought(
    vm: Vm, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    with_script(monkeypatch, "echo older\n")
    for other in set(PLACES) - {place}:
        vm.put_scripts(other)
    with_script(monkeypatch, 'echo "newer, from $(pwd)"; ls *.sh | paste -sd " " -; echo gone >>upkeep.sh\n')
    folder = vm.put_scripts(place)
    before = {path: path.read_bytes() for path in vm.folder.rglob("*.sh")}
    result = vm.run(remote.COMMAND_JOIN, join_payload(FILES, SETTINGS))
    assert result.returncode == 0, result.stderr
    where, scripts = result.stdout.splitlines()
    assert where.startswith(f"newer, from {vm.run_folder}/hybrid-mesh."), "a copy"
    assert scripts.split() == sorted(remote.JOIN_SCRIPTS)
    assert {path: path.read_bytes() for path in vm.folder.rglob("*.sh")} == before, folder


@pytest.mark.parametrize("change", ["edited", "one more", "one less", "absent"])
def test_scripts_that_are_not_those_of_the_stack_are_not_run(
    vm: Vm, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    with_script(monkeypatch, 'touch "$OUT/ran"\n')
    folder = vm.put_scripts("lib/hybrid-mesh/scripts")
    match change:
        case "edited":
            (folder / "upkeep.sh").write_text("touch other\n")
        case "one more":
            (folder / "zzz.sh").write_text('touch "$OUT/ran"\n')
        case "one less":
            (folder / "restart.sh").unlink()
        case _:
            shutil.rmtree(folder)
    result = vm.run(remote.COMMAND_JOIN, join_payload(FILES, SETTINGS))
    assert (result.returncode, result.stdout) == (1, "")
    assert "at step start: the scripts of the join are not here, or were changed" in result.stderr
    assert "hybrid-mesh: remedy: let them be brought: pulumi up --replace '**::mesh-vm-1-token'\n" in result.stderr
    assert list((vm.folder / "out").iterdir()) == []
    assert list(vm.run_folder.iterdir()) == []


def test_files_and_settings_arrive_byte_for_byte_and_nothing_in_them_is_run(
    vm: Vm, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_script(monkeypatch, '. ./lib.sh\ncp files/* "$OUT/"\nsetting spiffe-id >"$OUT/setting"\n')
    vm.put_scripts("lib/hybrid-mesh/scripts")
    for value in ODD_VALUES:
        files = {"mesh.yaml": f"{value}\n\n{value}", "cluster.env": f"A={value}\n\n", "istio-token": value}
        result = vm.run(remote.COMMAND_JOIN, join_payload(files, {"spiffe-id": value}))
        assert result.returncode == 0, result.stderr
        for name, text in files.items():
            assert (vm.folder / "out" / name).read_bytes() == text.encode()
        assert (vm.folder / "out" / "setting").read_bytes() == f"{value}\n".encode()
        assert not list(vm.folder.rglob("executed")), value


def test_what_is_unpacked_is_for_its_owner_alone(vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    with_script(monkeypatch, "find . -exec stat -c '%a %n' {} +\n")
    vm.put_scripts("lib/hybrid-mesh/scripts")
    vm.folder.joinpath("run").chmod(0o777)
    result = vm.run(remote.COMMAND_JOIN, join_payload(FILES, SETTINGS))
    modes = {path: mode for mode, _, path in (line.partition(" ") for line in result.stdout.splitlines())}
    assert modes.pop(".") == "700"
    assert modes.pop("./files") == "700"
    assert modes.pop("./settings") == "700"
    assert set(modes.values()) == {"600"}
    assert "./files/istio-token" in modes


@pytest.mark.parametrize("stdin", ["", "!!!", base64.b64encode(b"no tar").decode(), "truncated"])
def test_a_payload_that_cannot_be_unpacked_runs_nothing(vm: Vm, monkeypatch: pytest.MonkeyPatch, stdin: str) -> None:
    with_script(monkeypatch, 'touch "$OUT/ran"\n')
    vm.put_scripts("lib/hybrid-mesh/scripts")
    if stdin == "truncated":
        stdin = join_payload(FILES, SETTINGS)[:400]
    result = vm.run(remote.COMMAND_JOIN, stdin)
    assert result.returncode == 1
    assert "hybrid-mesh: FAILED: the payload on stdin cannot be unpacked" in result.stderr
    assert list((vm.folder / "out").iterdir()) == []
    assert list(vm.run_folder.iterdir()) == []


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_leaves_no_token_behind(
    vm: Vm, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, code: int
) -> None:
    with_script(monkeypatch, 'touch "$OUT/started"\nsleep 20\n')
    vm.put_scripts("lib/hybrid-mesh/scripts")
    process = subprocess.Popen(
        [vm.shell, "-c", vm.local(remote.COMMAND_JOIN)],
        stdin=subprocess.PIPE,
        env=vm.env,
        start_new_session=True,
        # Under nohup, or in the background, a shell would have it ignored.
        preexec_fn=lambda: signal.signal(sent, signal.SIG_DFL),  # noqa: PLW1509 - the child has one thread
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(join_payload(FILES, SETTINGS))
    process.stdin.close()
    limit = time.monotonic() + 10
    while not (vm.folder / "out" / "started").exists():
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert list(vm.run_folder.iterdir())
    os.killpg(process.pid, sent)
    assert process.wait(timeout=10) == code
    assert list(vm.run_folder.iterdir()) == []


@dataclass(frozen=True)
class Kept:
    """What joins have kept on a machine: scripts that say which of them were run."""

    folder: Path

    def put(self, place: str, generation: str) -> None:
        kept = self.folder / "lib" / "hybrid-mesh" / place
        (kept / "settings").mkdir(parents=True)
        (kept / "settings" / "generation").write_text(f"{generation}\n")
        (kept / "settings" / "spiffe-id").write_text(f"of {place}\n")
        (kept / "settings" / "join-again").write_text("pulumi up --replace '**::mesh-vm-1-join'\n")
        (kept / "lib.sh").write_text(remote._script("lib.sh").decode())
        (kept / "ready.sh").write_text(f". ./lib.sh\necho {place} $(setting spiffe-id)\npwd\nexit 3\n")


@pytest.mark.parametrize("asked", ["new", "old"])
def test_readiness_is_asked_with_the_scripts_and_settings_that_the_join_of_that_generation_has_brought(
    vm: Vm, asked: str
) -> None:
    kept = Kept(vm.folder)
    kept.put("next", "new")
    kept.put("scripts", "old")
    place = {"new": "next", "old": "scripts"}[asked]
    before = sorted(vm.folder.rglob("*"))
    answer = vm.run(remote.COMMAND_READY, f"{asked} staged 1b4db7eb-4057-5ddf-91e0-36dec72071f5")
    said, where = answer.stdout.splitlines()
    assert (answer.returncode, said) == (3, f"{place} of {place}"), answer.stderr
    assert where.startswith(str(vm.run_folder)), "it writes nothing beside what is kept"
    assert sorted(vm.folder.rglob("*")) == before


@pytest.mark.parametrize("asked", ["other", "\n", "", " staged new", "$(touch executed)"])
@pytest.mark.parametrize("place", ["scripts", "next", ""])
def test_a_machine_that_no_join_of_that_generation_was_run_on_says_so(vm: Vm, asked: str, place: str) -> None:
    if place:
        Kept(vm.folder).put(place, "")
    answer = vm.run(remote.COMMAND_READY, asked)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "at step start: what the stack wants was not brought here by a join" in answer.stderr
    enter = "pulumi up --replace" + (
        " '**::mesh-vm-1-join'" if place else ", with the URN of the command NAME-join of "
    )
    assert f"hybrid-mesh: remedy: let the join run again: {enter}" in answer.stderr
    assert not list(vm.folder.rglob("executed"))
    assert list(vm.run_folder.iterdir()) == []


def test_a_user_with_sudo_becomes_root(vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    with_script(monkeypatch, "cat files/hosts\n")
    vm.put_scripts("lib/hybrid-mesh/scripts")
    vm.become("admin", sudo=True)
    result = vm.run(remote.COMMAND_JOIN, join_payload(FILES, SETTINGS))
    assert (result.returncode, result.stdout) == (0, FILES["hosts"])
    assert FILES["istio-token"] not in (vm.folder / "sudo.log").read_text()


def test_a_user_without_sudo_is_told_what_to_do(vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    with_script(monkeypatch, 'touch "$OUT/ran"\n')
    vm.put_scripts("lib/hybrid-mesh/scripts")
    vm.become("guest", sudo=False)
    result = vm.run(remote.COMMAND_JOIN, join_payload(FILES, SETTINGS))
    assert result.returncode == 77
    assert "guest is not root" in result.stderr
    assert "remedy: log in as root, or allow this user NOPASSWD sudo" in result.stderr
    assert list((vm.folder / "out").iterdir()) == []
