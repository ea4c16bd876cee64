"""leave.sh as a whole, on a machine that is a folder, with programs of its own: where it is cut off, and what is not
ours. What systemd, dpkg and the kernel make of it is test_on_a_machine.py's matter.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hybridmesh import remote
from tests.remote.test_scripts import BLOCK, SCRIPTS, function

TOOLS = (
    "awk cat chmod cut date dirname find flock grep head mkdir readlink rm rmdir sed sh sleep sort stat tail tar "
    "timeout touch tr wc"
)
PROGRAMS = {
    "systemctl": """case "$*" in
        "cat "*) find "$ROOT/etc/systemd" "$ROOT/lib/systemd" -name "${2%.service}.service" | grep -q . ;;
        is-active*) exit 3 ;;
    esac""",
    "dpkg-query": 'grep -qx "$2" "$ROOT/packages"',
    "dpkg": """shift 2
    for package; do
        ! grep -qx "$package" "$ROOT/needed" || { echo "$package is needed by another"; failed=1; continue; }
        grep -vx "$package" "$ROOT/packages" >left; cat left >"$ROOT/packages"
        [ "$package" != istio-sidecar ] || rm -rf "$ROOT/usr/local/bin/"* "$ROOT/lib/systemd/system/istio.service"
    done
    exit ${failed-0}""",
    "getent": 'grep -q "^$1 $2\\$" "$ROOT/users"',
    "userdel": 'grep -v "^passwd $1\\$" "$ROOT/users" >left; cat left >"$ROOT/users"',
    "groupdel": 'grep -v "^group $1\\$" "$ROOT/users" >left; cat left >"$ROOT/users"',
    "iptables": "exit 1",
    "iptables-save": 'cat "$ROOT/rules"',
    "iptables-restore": '! grep -q "^-X ISTIO_" || sed -i /ISTIO_/d "$ROOT/rules"',
    "chown": "",
    "mv": f'exec {shutil.which("mv")} "$@"',
    "install": 'shift 7; exec cp "$1" "$2"',
}
RULES = "*nat\n:PREROUTING ACCEPT [0:0]\n:ISTIO_INBOUND - [0:0]\n-A PREROUTING -p tcp -j ISTIO_INBOUND\nCOMMIT\n"
FREE = "".join(line for line in RULES.splitlines(keepends=True) if "ISTIO_" not in line)
FAILURES = {
    "systemctl stop": "Istio cannot be stopped",
    "systemctl --no-reload": "Istio cannot be disabled",
    "iptables-restore --noflush": "Istio's iptables rules are still there: :ISTIO_INBOUND",
    "dpkg --force-remove-reinstreq": "istio-sidecar cannot be removed",
    "userdel istio-proxy": "user istio-proxy cannot be removed",
    "mv -fT": "cannot be written",
    "systemctl daemon-reload": "unexpected exit 1; run it again",
}
"""Each program that can fail where a machine leaves, by its first word, and what is said."""


class Machine:
    """A folder in the place of /."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("bin", "payload", "run", "lib/systemd/system", "etc/systemd/system", "usr/local/bin", "var/log"):
            (root / name).mkdir(parents=True)
        for name in TOOLS.split():
            (root / "bin" / name).symlink_to(shutil.which(name) or f"/bin/{name}")
        (root / "bin" / "cp").symlink_to(shutil.which("cp") or "/bin/cp")
        for name, text in PROGRAMS.items():
            (root / "bin" / name).write_text(f'#!/bin/sh\n[ "$FAILS" != "{name} $1" ] || exit 1\n{text}\n')
            (root / "bin" / name).chmod(0o755)
        self.put("etc/os-release", "ID=debian\n")
        self.put("etc/hosts", "127.0.0.1 localhost\n")
        self.put("etc/certs/app.pem", "mine\n")
        self.put("etc/istio/mine", "mine\n")
        self.put("var/lib/mine", "mine\n")
        self.put("packages", "bash\n")
        self.put("needed", "")
        self.put("users", "passwd root\n")
        self.put("rules", FREE)
        for script in remote.LEAVE_SCRIPTS:
            (root / "payload" / script).write_text(self.here((SCRIPTS / script).read_text()))

    def here(self, script: str) -> str:
        """A script whose / is this folder."""
        text = re.sub(r"(?<![\w.])/(?=(?:etc|var|run|usr/local)/)", f"{self.root}/", script)
        text = re.sub("^PATH=.*", f"PATH={self.root}/bin", text, flags=re.MULTILINE)
        return text.replace("tar -C / ", f"tar -C {self.root} ").replace('"/$path"', f'"{self.root}/$path"')

    def put(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def run(self, script: str, fails: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.root / "bin" / "sh", "-c", script],
            cwd=self.root / "payload",
            env={"ROOT": str(self.root), "FAILS": fails, "PATH": f"{self.root}/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def join(self, *, environment: str = "", rules: str = RULES) -> None:
        """What a join, and the start of its proxy, leave there; the record is made by join.sh's own words."""
        record = self.here(function("join.sh", "record_before"))
        done = self.run(f"sync() {{ :; }}; . ./lib.sh\n{record}record_before")
        assert done.returncode == 0, done.stderr
        for name in ("envoy", "pilot-agent"):
            self.put(f"usr/local/bin/{name}", "")
        self.put("lib/systemd/system/istio.service", "")
        for name in ("hybrid-mesh-conntrack.service", "hybrid-mesh-logs.timer", "istio.service.d/hybrid-mesh.conf"):
            self.put(f"etc/systemd/system/{name}", "")
        self.put("var/lib/istio/envoy/cluster.env", environment)
        for name in ("var/log/istio/istio.log", "etc/certs/key.pem", "run/secrets/tokens/istio-token"):
            self.put(name, "secret\n")
        self.put("etc/hosts", f"127.0.0.1 localhost\n{BLOCK}")
        self.put("packages", "bash\nistio-sidecar\nsudo\nlibsudo\n")
        self.put("var/lib/hybrid-mesh/added-packages", "libsudo\nsudo\n")
        self.put("users", "passwd root\npasswd istio-proxy\ngroup istio-proxy\n")
        self.put("rules", rules)

    def leave(self, fails: str = "") -> subprocess.CompletedProcess[str]:
        return self.run("exec sh ./leave.sh", fails)

    def listing(self) -> dict[str, str]:
        ours = {"bin", "payload", "needed"}
        return {
            str(path.relative_to(self.root)): path.read_text() if path.is_file() else ""
            for path in sorted(self.root.rglob("*"))
            if path.relative_to(self.root).parts[0] not in ours and path.name != "hybrid-mesh.lock"
        }


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_that_leaves_is_as_it_was_and_may_be_told_again(machine: Machine) -> None:
    before = machine.listing()
    machine.join()
    assert machine.listing() != before
    left = machine.leave()
    assert (left.returncode, machine.listing()) == (0, before), left.stderr
    assert "note: " not in left.stderr
    again = machine.leave()
    assert (again.returncode, machine.listing()) == (0, before)
    assert again.stderr.endswith("is not in the mesh: nothing to do\n")


@pytest.mark.parametrize("rules", ["ours", "somebody else's"])
@pytest.mark.parametrize("fails", FAILURES)
def test_a_departure_that_failed_half_way_is_ended_by_the_next(machine: Machine, fails: str, rules: str) -> None:
    custom = rules != "ours"
    before = machine.listing() | ({"rules": RULES} if custom else {})
    machine.join(environment="ISTIO_CUSTOM_IP_TABLES='true'\n" if custom else "")
    failed = machine.leave(fails)
    if custom and fails.startswith("iptables"):
        assert failed.returncode == 0, "nobody touches them"
    else:
        assert failed.returncode == 1
        assert FAILURES[fails] in failed.stderr
    left = machine.leave()
    assert (left.returncode, machine.listing()) == (0, before), left.stderr


def test_a_machine_of_which_somebody_has_taken_half_away_is_as_it_was(machine: Machine) -> None:
    before = machine.listing()
    machine.join()
    by_hand = 'dpkg --force --purge istio-sidecar; rm -rf "$ROOT"/var/lib/istio "$ROOT"/etc/systemd/system/*'
    assert machine.run(by_hand).returncode == 0
    machine.put("users", "passwd root\ngroup istio-proxy\n")
    left = machine.leave()
    assert (left.returncode, machine.listing()) == (0, before), left.stderr


def test_packages_of_others_stay_and_one_of_ours_that_they_need_by_now(machine: Machine) -> None:
    before = machine.listing()
    machine.join()
    machine.put("packages", "bash\nistio-sidecar\nsudo\nlibsudo\nvim\n")
    machine.put("needed", "libsudo\n")
    left = machine.leave()
    assert left.returncode == 0
    assert "note: not every package that came with the join could be removed" in left.stderr
    assert machine.listing() == before | {"packages": "bash\nlibsudo\nvim\n"}


def test_a_user_that_was_there_before_the_join_stays(machine: Machine) -> None:
    machine.put("users", "passwd root\npasswd istio-proxy\ngroup istio-proxy\n")
    before = machine.listing()
    machine.join()
    left = machine.leave()
    assert (left.returncode, machine.listing()) == (0, before), left.stderr


def test_what_others_have_put_into_a_folder_of_ours_stays_and_is_told(machine: Machine) -> None:
    machine.join()
    machine.put("run/secrets/others/token", "mine\n")
    left = machine.leave()
    assert left.returncode == 0
    assert f"note: {machine.root}/run/secrets is not empty and stays: {machine.root}/run/secrets/others" in left.stderr
    assert machine.listing()["run/secrets/others/token"] == "mine\n"
