"""The scripts' parts that need no VM: how they read, mask and rewrite text. The rest runs in test_on_a_machine.py."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridmesh import remote
from tests.environment import as_root, needs_namespaces

PROJECT = Path(__file__).resolve().parents[2]
SCRIPTS = PROJECT / "hybridmesh" / "remote"
TOKEN = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.eyJhdWQiOlsiaXN0aW8tY2EiXX0.c2lnbmF0dXJl-_"
BLOCK = "# BEGIN hybrid-mesh\n192.0.2.1 istiod.istio-system.svc\n# END hybrid-mesh\n"


def sh(text: str, *, folder: Path, stdin: str = "") -> str:
    """What `text` prints with lib.sh loaded, in `folder` as that of an unpacked payload."""
    result = ended(text, folder=folder, stdin=stdin)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode()


def ended(text: str, *, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[bytes]:
    """The same, however it ends."""
    return subprocess.run(
        ["sh", "-c", f". {SCRIPTS}/lib.sh\n{text}"],
        input=stdin.encode(),
        cwd=folder,
        capture_output=True,
        timeout=20,
        check=False,
    )


def function(script: str, name: str) -> str:
    """The text of one function of a script that cannot be loaded without being run."""
    found = re.search(rf"^{name}\(\) \{{\n.*?^\}}\n", (SCRIPTS / script).read_text(), re.DOTALL | re.MULTILINE)
    assert found, f"{script} has no function {name}"
    return found[0]


# ---------------------------------------------------------------- as texts


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize(
    "command", [remote.COMMAND_PREFLIGHT, remote.COMMAND_JOIN, remote.COMMAND_READY, remote.COMMAND_LEAVE]
)
def test_shellcheck_finds_nothing_in_the_commands(command: str) -> None:
    words = shlex.split(command)
    assert words[:3] == ["exec", "/bin/sh", "-c"]
    for program in (words[3], words[5]):
        # SC2064: the folder's name is meant to be put into the trap when it is set, and has no odd character.
        subprocess.run(
            ["shellcheck", "--shell=sh", "--exclude=SC2064,SC2086", "-"],
            input=program,
            text=True,
            check=True,
            timeout=60,
        )


def test_no_script_evaluates_a_value() -> None:
    for script in SCRIPTS.glob("*.sh"):
        commands = re.sub(r"^\s*#.*$", "", script.read_text(), flags=re.MULTILINE)
        assert not re.search(r"\beval\b|\bxargs\b|\. +(\"?\$|files|settings)", commands), script


def test_every_setting_that_a_script_reads_is_declared_and_every_declared_one_is_read() -> None:
    called = re.compile(r"(?m)(?:\(|^ *)setting \"?([a-z0-9-]+)")
    read = {name for script in SCRIPTS.glob("*.sh") for name in called.findall(script.read_text())}
    by_kind = {name for name in remote.SETTINGS if re.fullmatch("package-(url|sha256)-(deb|rpm)-(amd64|arm64)", name)}
    assert len(by_kind) == 8
    assert read - {"package-url-", "package-sha256-"} == remote.SETTINGS.keys() - by_kind - {"repair", "joined"}


def test_the_package_carries_the_scripts() -> None:
    names = {entry.name for entry in resources.files(remote).iterdir() if entry.name.endswith(".sh")}
    payloads = {*remote.STARTUP_SCRIPTS, *remote.PREFLIGHT_SCRIPTS, *remote.AGENT_SCRIPTS, *remote.LEAVE_SCRIPTS}
    assert names == {*payloads, "probe.sh"}, "the probe comes on stdin"


# ---------------------------------------------------------------- lib.sh


@pytest.mark.parametrize("script", ["lib.sh", "probe.sh"])
@pytest.mark.parametrize(
    ("given_by", "direct"),
    [
        ({}, ""),
        ({"no_proxy": "a.example"}, "a.example,"),
        ({"NO_PROXY": "b.example,c.example"}, "b.example,c.example,"),
        ({"no_proxy": "a.example", "NO_PROXY": "b.example"}, "a.example,"),
    ],
)
def test_what_a_machine_asks_past_its_http_proxy_is_asked_so(
    tmp_path: Path, script: str, given_by: dict[str, str], direct: str
) -> None:
    head = (SCRIPTS / script).read_text().partition("\nexport PATH LC_ALL no_proxy\n")
    assert head[1]
    done = subprocess.run(
        ["sh", "-c", f"{head[0]}{head[1]}env"], cwd=tmp_path, env=given_by, capture_output=True, text=True, check=True
    )
    assert f"no_proxy={direct}localhost,127.0.0.1" in done.stdout.splitlines()


@pytest.mark.parametrize("openssl", ["is here", "is not", "refuses"])
def test_a_large_file_has_one_digest_whoever_makes_it(tmp_path: Path, openssl: str) -> None:
    (tmp_path / "package").write_bytes(b"package")
    kind = {"is here": "", "is not": "openssl() { return 127; }\n", "refuses": "openssl() { echo no; return 1; }\n"}
    assert sh(f"{kind[openssl]}large_digest package", folder=tmp_path) == f"{sha256(b'package').hexdigest()}\n"


def test_a_setting_that_is_absent_or_empty_has_its_default(tmp_path: Path) -> None:
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings/drain-seconds").write_text("\n")
    (tmp_path / "settings/ssh-port").write_text("2222\n")
    text = "setting ready-timeout-seconds 90; setting drain-seconds 5; setting ssh-port 22; setting spiffe-id"
    assert sh(text, folder=tmp_path) == "90\n5\n2222\n\n"


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        (f"token {TOKEN} refused", "token <token> refused"),
        (f'{{"a":"{TOKEN}","b":"{TOKEN}"}}', '{"a":"<token>","b":"<token>"}'),
        ("authorization: Bearer abc.def", "authorization: Bearer <token>"),
        ("get http://user:secret@mirror.example/a", "get http://mirror.example/a"),
        ("get http://user:s@cret@mirror.example/a", "get http://mirror.example/a"),
        ("http://mirror.example?by=me@example.com", "http://mirror.example?by=me@example.com"),
        ("eye.of.the.storm", "eye.of.the.storm"),
    ],
)
def test_tokens_and_passwords_are_masked(tmp_path: Path, line: str, masked: str) -> None:
    assert sh("scrub", folder=tmp_path, stdin=f"{line}\n") == f"{masked}\n"


def test_what_a_package_manager_says_as_it_fails_is_masked_too(tmp_path: Path) -> None:
    result = ended("quietly sh -c 'echo Status code: 401 for https://me:S3CRET@mirror/repo; exit 7'", folder=tmp_path)
    assert "Status code: 401 for https://mirror/repo" in result.stderr.decode().splitlines()
    assert b"S3CRET" not in result.stderr
    assert result.returncode == 7


def test_what_a_failure_says_is_masked_and_names_machine_step_and_remedy(tmp_path: Path) -> None:
    result = ended(f"step files; fail 'refused: {TOKEN}' 'mint another'", folder=tmp_path)
    machine = subprocess.run(["uname", "-n"], capture_output=True, text=True, check=True).stdout.strip()
    assert result.returncode == 1
    assert result.stderr.decode().splitlines() == [
        "hybrid-mesh: step: files",
        f"hybrid-mesh: FAILED on {machine} at step files: refused: <token>",
        "hybrid-mesh: remedy: mint another",
    ]


def test_an_unexpected_failure_names_its_step(tmp_path: Path) -> None:
    result = ended("step units; false", folder=tmp_path)
    assert result.returncode == 1
    assert "at step units: unexpected exit 1" in result.stderr.decode()


@pytest.mark.parametrize("led_to", ["victim", "folder"])
def test_a_file_is_written_with_its_mode_and_through_no_link(tmp_path: Path, led_to: str) -> None:
    (tmp_path / "source").write_text("new\n")
    (tmp_path / "victim").write_text("untouched\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "target").symlink_to(led_to)
    (tmp_path / "target.hybrid-mesh-new").symlink_to("victim")
    sh('write_file source target 640 "$(id -u):$(id -g)"', folder=tmp_path)
    assert (tmp_path / "target").read_text() == "new\n"
    assert (tmp_path / "target").stat().st_mode & 0o7777 == 0o640
    assert not (tmp_path / "target").is_symlink()
    assert (tmp_path / "victim").read_text() == "untouched\n"
    assert list((tmp_path / "folder").iterdir()) == []
    assert not (tmp_path / "target.hybrid-mesh-new").is_symlink()


FULL = 'install() { printf cut >"$8.hybrid-mesh-new" 2>/dev/null || :; return 1; }\n'
"""A disk on which a file's first bytes have found room."""


def test_a_full_disk_costs_nothing_of_a_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("new\n")
    (tmp_path / "target").write_text("old\n")
    full = FULL.replace("$8", "target")
    # A caller that goes on after a failure turns `set -e` off for all that it calls.
    assert sh(f"{full}write_file source target 640 root:root || echo refused", folder=tmp_path) == "refused\n"
    assert (tmp_path / "target").read_text() == "old\n"
    assert not (tmp_path / "target.hybrid-mesh-new").exists()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/cat").write_text("#!/bin/sh\nprintf cut; exit 1\n")
    (tmp_path / "bin/cat").chmod(0o755)
    full = f'PATH={tmp_path}/bin:$PATH; as_proxy() {{ "$@"; }}\n'
    of_proxy = "write_file source target 640 istio-proxy:istio-proxy || echo refused"
    assert sh(f"{full}{of_proxy}", folder=tmp_path) == "refused\n"
    assert (tmp_path / "target").read_text() == "old\n"
    assert not (tmp_path / "target.hybrid-mesh-new").exists()


@pytest.mark.parametrize("full", [FULL.replace("$8", "etc-hosts"), "cat() { return 1; }\n"], ids=["disk", "run"])
def test_a_full_disk_costs_no_line_of_the_hosts_file(tmp_path: Path, full: str) -> None:
    (tmp_path / "etc-hosts").write_text("127.0.0.1 localhost\n")
    (tmp_path / "hosts").write_text("192.0.2.1 istiod\n")
    text = "STATE=.; HOSTS=etc-hosts; LOG=log; refresh_hosts || echo refused"
    assert sh(f"{full}{text}", folder=tmp_path) == "refused\n"
    assert (tmp_path / "etc-hosts").read_text() == "127.0.0.1 localhost\n"


LINES = st.lists(st.sampled_from(["127.0.0.1 localhost", "", "# note", "10.0.0.1 $(id) `id` \\n %s", "::1 six"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(before=LINES, after=LINES)
def test_taking_our_block_out_of_the_hosts_file_leaves_every_other_line(
    tmp_path: Path, before: list[str], after: list[str]
) -> None:
    head, tail = ("".join(f"{line}\n" for line in lines) for lines in (before, after))
    (tmp_path / "hosts").write_text(head + BLOCK + tail)
    assert sh("HOSTS=hosts; hosts_without_block", folder=tmp_path) == head + tail


def test_a_block_without_its_end_costs_no_line_that_follows(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n# BEGIN hybrid-mesh\n10.0.0.1 mine\n")
    assert sh("HOSTS=hosts; hosts_without_block", folder=tmp_path) == "127.0.0.1 localhost\n10.0.0.1 mine\n"
    (tmp_path / "hosts").write_text(f"# BEGIN hybrid-mesh\n10.0.0.1 mine\n{BLOCK}10.0.0.2 too\n")
    assert sh("HOSTS=hosts; hosts_without_block", folder=tmp_path) == "10.0.0.1 mine\n10.0.0.2 too\n"


RESOLVER = """unredirected() { shift 2; "$@"; }
getent() { grep " $2$" names; }
can_connect() { ! grep -qx "$1" silent 2>/dev/null; }
"""
"""In place of the system's: files `names`, and `silent` of addresses at which nobody listens, that the test writes."""


def test_a_host_name_in_the_place_of_an_address_is_resolved_to_all_of_its_addresses(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("192.0.2.9 gw.example.com\n192.0.2.1 gw.example.com\nfd00::1 gw.example.com\n")
    (tmp_path / "given").write_text("gw.example.com istiod.istio-system.svc\n192.0.2.7 other\n")
    assert sh(f"{RESOLVER}hosts_lines given", folder=tmp_path) == (
        "192.0.2.1 istiod.istio-system.svc\n192.0.2.9 istiod.istio-system.svc\nfd00::1 istiod.istio-system.svc\n"
        "192.0.2.7 other\n"
    )


def refresh(folder: Path, given: str, names: str) -> str:
    """/etc/hosts after our block was brought up to date, with what DNS says."""
    (folder / "hosts-given").write_text(given)
    (folder / "names").write_text(names)
    text = "STATE=.; HOSTS=etc-hosts; cp hosts-given hosts; LOG=log; chown() { :; }; refresh_hosts && cat etc-hosts"
    return sh(RESOLVER + text, folder=folder)


def test_a_name_without_an_address_leads_where_it_last_did(tmp_path: Path) -> None:
    (tmp_path / "etc-hosts").write_text("127.0.0.1 localhost\n")
    given, head, tail = "gw.example.com istiod\n", "127.0.0.1 localhost\n# BEGIN hybrid-mesh\n", "# END hybrid-mesh\n"
    assert refresh(tmp_path, given, "192.0.2.1 gw.example.com\n") == f"{head}192.0.2.1 istiod\n{tail}"
    (tmp_path / "etc-hosts").write_text("127.0.0.1 localhost\n")  # a tool has written it anew
    assert refresh(tmp_path, given, "") == f"{head}192.0.2.1 istiod\n{tail}"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("", "gw.example.com has no address on this VM"),
        ("192.0.2.1 gw.example.com\n", "our block cannot be written to etc-hosts"),
    ],
)
def test_a_hosts_file_that_cannot_be_replaced_is_told_from_a_name_without_an_address(
    tmp_path: Path, names: str, said: str
) -> None:
    (tmp_path / "etc-hosts").write_text("127.0.0.1 localhost\n")
    (tmp_path / "files").mkdir()
    (tmp_path / "files/hosts").write_text("gw.example.com istiod\n")
    (tmp_path / "names").write_text(names)
    busy = 'mv() { case $3 in etc-hosts) return 1 ;; esac; command mv "$@"; }; '
    text = f"{RESOLVER}{busy}STATE=.; HOSTS=etc-hosts\n{function('join.sh', 'deliver_hosts')}STEP=files; deliver_hosts"
    done = ended(text, folder=tmp_path)
    assert done.returncode == 1
    assert f"at step files: {said}\n" in done.stderr.decode()


def test_an_address_goes_when_it_was_missing_from_many_answers_in_a_row(tmp_path: Path) -> None:
    (tmp_path / "etc-hosts").write_text("127.0.0.1 localhost\n")
    given, head, tail = "gw.example.com istiod\n", "127.0.0.1 localhost\n# BEGIN hybrid-mesh\n", "# END hybrid-mesh\n"
    one, other = (f"192.0.2.{n} gw.example.com\n" for n in (1, 2))
    both = f"{head}192.0.2.1 istiod\n192.0.2.2 istiod\n{tail}"
    refresh(tmp_path, given, one)
    for _ in range(12):  # DNS gives one of two, in turn
        assert refresh(tmp_path, given, other) == both
        assert refresh(tmp_path, given, one) == both
    for _ in range(18):
        assert refresh(tmp_path, given, one) == both
    assert refresh(tmp_path, given, "") == both, "no answer is not one that lacks it"
    assert refresh(tmp_path, given, one) == f"{head}192.0.2.1 istiod\n{tail}"
    assert not (tmp_path / "hosts-missing").exists()
    assert refresh(tmp_path, given, other) == both, "it is counted anew"
    (tmp_path / "hosts-known").unlink()
    assert refresh(tmp_path, given, other) == f"{head}192.0.2.2 istiod\n{tail}"


def test_an_address_at_which_nobody_listens_goes_with_the_first_answer_that_lacks_it(tmp_path: Path) -> None:
    (tmp_path / "etc-hosts").write_text("127.0.0.1 localhost\n")
    given, head, tail = "gw.example.com istiod\n", "127.0.0.1 localhost\n# BEGIN hybrid-mesh\n", "# END hybrid-mesh\n"
    one, other, third = (f"192.0.2.{n} gw.example.com\n" for n in (1, 2, 3))
    refresh(tmp_path, given, one + other)
    (tmp_path / "silent").write_text("192.0.2.1\n")
    assert refresh(tmp_path, given, third) == f"{head}192.0.2.2 istiod\n192.0.2.3 istiod\n{tail}"
    (tmp_path / "silent").write_text("192.0.2.2\n192.0.2.3\n")
    assert refresh(tmp_path, given, third) == f"{head}192.0.2.3 istiod\n{tail}", "what DNS says stays"


def test_a_name_that_never_had_an_address_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "etc-hosts").write_text("127.0.0.1 localhost\n")
    (tmp_path / "hosts").write_text("gw.example.com istiod\n")
    (tmp_path / "names").write_text("")
    assert sh(f"{RESOLVER}STATE=.; HOSTS=etc-hosts; refresh_hosts || echo none", folder=tmp_path) == "none\n"
    assert (tmp_path / "etc-hosts").read_text() == "127.0.0.1 localhost\n"


@pytest.mark.parametrize(
    ("word", "is_one"), [("192.0.2.1", True), ("fd00::1", True), ("gw.example.com", False), ("1.example", False)]
)
def test_addresses_are_told_from_names(tmp_path: Path, word: str, is_one: bool) -> None:
    assert sh(f"is_address {word} && echo yes || echo no", folder=tmp_path) == ("yes\n" if is_one else "no\n")


def test_a_limit_is_not_over_because_the_clock_was_set(tmp_path: Path) -> None:
    """At boot, above all, a clock may jump by a day."""
    (tmp_path / "day").write_text("1")
    jumps = 'date() { day=$(($(cat day) + 1)); echo $day >day; /bin/date -d "now + $day days" "$@"; }\n'
    wait = "now; end=$((NOW + 3)); is_past $end && echo over; is_past $end && echo over; echo waits"
    assert sh(f"{jumps}{wait}", folder=tmp_path) == "waits\n"
    assert sh(f"{jumps}now; end=$((NOW + 1)); sleep 1.1; is_past $end && echo over", folder=tmp_path) == "over\n"


def test_connections_to_addresses_that_the_gateway_no_longer_has_are_found(tmp_path: Path) -> None:
    (tmp_path / "etc-hosts").write_text("192.0.2.8 istiod\n# BEGIN hybrid-mesh\n192.0.2.1 istiod\n# END hybrid-mesh\n")
    lines = (
        "0 0 192.0.2.5:4000 192.0.2.1:15012\n0 0 192.0.2.5:4001 192.0.2.8:15012\n0 0 [fd00::5]:4002 [fd00::9]:15012\n"
    )
    (tmp_path / "sockets").write_text(lines)
    assert sh("HOSTS=etc-hosts; ss() { cat sockets; }; old_peers", folder=tmp_path) == "192.0.2.8\nfd00::9\n"


def left(folder: Path, *peers: str) -> tuple[int, list[str]]:
    """How leaving ends where the agent goes to each of these, one after the other, and which connections are closed."""
    (folder / "etc-hosts").write_text("# BEGIN hybrid-mesh\n192.0.2.1 istiod\n# END hybrid-mesh\n")
    (folder / "sockets").write_text("".join(f"0 0 192.0.2.5:4000 {peer}:15012\n" for peer in peers))
    fake = """HOSTS=etc-hosts
now() { NOW=$((${NOW-0} + 1)); }
sleep() { :; }
timeout() { shift; "$@"; }
ss() {
    if [ "$1" != -K ]; then head -n 1 sockets; return; fi
    echo "$3" >>closed
    if [ "$(wc -l <sockets)" -gt 1 ]; then sed -i 1d sockets; fi
}
"""
    code = int(sh(f"{fake}leave_old_addresses && echo 0 || echo 1", folder=folder).splitlines()[-1])
    closed = folder / "closed"
    return code, closed.read_text().split() if closed.exists() else []


def test_an_agent_that_goes_to_an_old_address_once_more_is_sent_on(tmp_path: Path) -> None:
    assert left(tmp_path, "192.0.2.8", "[fd00::9]", "192.0.2.1") == (0, ["192.0.2.8", "[fd00::9]"])


def test_an_agent_that_is_where_it_should_be_stays(tmp_path: Path) -> None:
    assert left(tmp_path, "192.0.2.1") == (0, [])


def test_connections_that_the_kernel_does_not_close_are_given_up_after_a_while(tmp_path: Path) -> None:
    code, closed = left(tmp_path, "192.0.2.8")
    assert (code, len(closed) > 5) == (1, True)


CONNECTIONS = """STATE=.
timeout() { shift; "$@"; }
is_past() { return 0; }
ss() {
    if [ "$1" != -K ]; then cat sockets; return; fi
    echo closed >>closings
    [ ! -f after ] || mv after sockets
}
"""
ONE = "0 0 192.0.2.5:4000 192.0.2.1:15012\n"


@pytest.mark.parametrize(
    ("before", "after", "code", "closings"),
    [
        (ONE, ONE.replace("4000", "4001"), 0, 1),
        (ONE, "", 0, 1),
        (ONE, ONE, 1, 1),
        (ONE + ONE.replace("4000", "4001"), ONE, 1, 1),
        ("", "", 0, 0),
    ],
    ids=["another", "not yet", "the kernel closes none", "not all", "there was none"],
)
def test_an_agent_connects_anew_once_what_it_had_is_closed(
    tmp_path: Path, before: str, after: str, code: int, closings: int
) -> None:
    (tmp_path / "sockets").write_text(before)
    (tmp_path / "after").write_text(after)
    assert sh(f"{CONNECTIONS}connect_anew && echo 0 || echo 1", folder=tmp_path) == f"{code}\n"
    log = tmp_path / "closings"
    assert (log.read_text().count("closed") if log.exists() else 0) == closings


@pytest.mark.parametrize(
    ("release", "family"),
    [
        ("ID=debian\n", "deb"),
        ("ID=ubuntu\nID_LIKE=debian\n", "deb"),
        ('ID="linuxmint"\nID_LIKE="ubuntu debian"\n', "deb"),
        ('ID="rhel"\n', "rpm"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "rpm"),
        ("ID=fedora\n", "rpm"),
        ("ID=alpine\nNAME=debian\n", ""),
    ],
)
def test_the_package_family_is_known_by_the_systems_own_word(tmp_path: Path, release: str, family: str) -> None:
    (tmp_path / "os-release").write_text(release)
    text = function("lib.sh", "package_family").replace("/etc/os-release", "os-release")
    assert sh(f"{text}package_family", folder=tmp_path).strip() == family


@pytest.mark.parametrize(
    ("release", "machine", "taken"),
    [
        ("ID=debian\n", "x86_64", "deb-amd64"),
        ("ID=ubuntu\n", "aarch64", "deb-arm64"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "x86_64", "rpm-amd64"),
        ("ID=fedora\n", "aarch64", "rpm-arm64"),
    ],
)
@pytest.mark.parametrize("of_its_own", [True, False])
def test_a_vm_takes_the_package_of_its_family_and_architecture(
    tmp_path: Path, release: str, machine: str, taken: str, of_its_own: bool
) -> None:
    (tmp_path / "os-release").write_text(release)
    (tmp_path / "settings").mkdir()
    kinds = ("deb-amd64", "deb-arm64", "rpm-amd64", "rpm-arm64") if of_its_own else ("",)
    for kind in kinds:
        name = f"package-url-{kind}" if kind else "package-url"
        (tmp_path / "settings" / name).write_text(f"http://mirror/{kind or 'all'}\n")
    parts = [function("lib.sh", name) for name in ("package_family", "package_kind")]
    choice = next(line for line in (SCRIPTS / "checks.sh").read_text().splitlines() if line.startswith("URL="))
    text = "\n".join([*parts, f"uname() {{ echo {machine}; }}", "KIND=$(package_kind)", choice, 'echo "$URL"'])
    found = sh(text.replace("/etc/os-release", "os-release"), folder=tmp_path).strip()
    assert found == f"http://mirror/{taken if of_its_own else 'all'}"


# ---------------------------------------------------------------- checks.sh


@pytest.mark.parametrize(
    ("inbound", "excluded", "port", "redirected"),
    [
        ("'*'", "22,15090,15021,15020", "22", False),
        ("'*'", "15090,22", "2222", True),
        ("'*'", "15090,2222,22", "2222", False),
        ("8080,9090", "22", "2222", False),
        ("8080,2222", "22", "2222", True),
        ("8080,2222", "22,2222", "2222", True),  # exclusions only count where everything is redirected
        ("", "", "22", False),
    ],
)
def test_a_redirection_of_sshds_port_is_found(
    tmp_path: Path, inbound: str, excluded: str, port: str, redirected: bool
) -> None:
    (tmp_path / "files").mkdir()
    lines = f"ISTIO_INBOUND_PORTS={inbound}\nISTIO_LOCAL_EXCLUDE_PORTS={excluded}\n"
    (tmp_path / "files/cluster.env").write_text(lines)
    parts = [function("checks.sh", n) for n in ("cluster_env", "list_has", "check_ssh", "is_redirected", "finding")]
    text = "\n".join([*parts, "sshd_ports() { :; }", f"SSH_PORT={port}", ": >findings", "check_ssh", "cat findings"])
    assert bool(sh(text, folder=tmp_path)) is redirected


# ---------------------------------------------------------------- ready.sh


def certificate(uri: str, expiry: str) -> dict[str, object]:
    return {
        "path": "<inline>",
        "serial_number": "1",
        "subject_alt_names": [{"uri": uri}] if uri else [],
        "days_until_expiration": "0",
        "valid_from": "2026-01-01T00:00:00Z",
        "expiration_time": expiry,
    }


@pytest.mark.parametrize("indent", [None, 1])
def test_own_certificates_are_told_from_those_of_authorities(tmp_path: Path, indent: int | None) -> None:
    # The layout of Envoy's admin API, envoy.admin.v3.Certificates
    document = {
        "certificates": [
            {"ca_cert": [certificate("spiffe://cluster.local/ns/root", "2036-01-01T00:00:00Z")], "cert_chain": []},
            {
                "ca_cert": [certificate("", "2036-01-01T00:00:00Z")],
                "cert_chain": [certificate("spiffe://cluster.local/ns/demo/sa/echo", "2026-01-02T00:00:00Z")],
            },
        ]
    }
    (tmp_path / "certs").write_text(json.dumps(document, indent=indent))
    text = "fetch() { cat certs; }\nown_certificates"
    assert sh(text, folder=tmp_path) == "spiffe://cluster.local/ns/demo/sa/echo 2026-01-02T00:00:00Z\n"
    (tmp_path / "certs").write_text('{"certificates":[]}')
    assert sh(text, folder=tmp_path) == ""


@pytest.mark.parametrize(
    ("certificates", "good"),
    [
        ("spiffe://x 2026-01-02T00:00:01Z\n", True),
        ("spiffe://x 2026-01-02T00:00:00Z\n", False),
        ("spiffe://x/y 2027-01-01T00:00:00Z\n", False),
        ("spiffe://x/y 2027-01-01T00:00:00Z\nspiffe://x 2027-01-01T00:00:00Z\n", True),
        ("", False),
    ],
)
def test_a_certificate_is_good_until_it_ends_and_for_its_identity_alone(
    tmp_path: Path, certificates: str, good: bool
) -> None:
    (tmp_path / "certificates").write_text(certificates)
    fake = "stamp() { STAMP=2026-01-02T00:00:00Z; }; own_certificates() { cat certificates; }; SPIFFE_ID=spiffe://x\n"
    text = f"{fake}if has_good_certificate; then echo yes; else echo no; fi"
    assert sh(text, folder=tmp_path) == ("yes\n" if good else "no\n")


TRUE, FALSE = "return 0", "return 1"


@pytest.mark.parametrize(
    ("differs", "facts", "reasons", "restarts"),
    [
        ("", {}, "", "no"),
        ("", {"has_our_token": FALSE}, "", "no"),
        ("", {"has_our_token": FALSE, "is_connected": FALSE}, "", "no"),
        ("", {"has_our_token": FALSE, "has_good_certificate": FALSE}, "token\n", "no"),
        ("", {"has_our_token": FALSE, "has_good_certificate": FALSE, "is_connected": FALSE}, "", "yes"),
        ("", {"has_our_token": FALSE, "connect_anew": FALSE}, "token\n", "no"),
        ("", {"has_our_token": FALSE, "is_ready": FALSE}, "", "yes"),
        (r"mesh.yaml\n", {"has_our_token": FALSE}, "mesh.yaml\n", "no"),
        (r"mesh.yaml\n", {"has_our_token": FALSE, "is_connected": FALSE}, "", "no"),
    ],
    ids=[
        "nothing",
        "it serves",
        "istiod is away",
        "its certificate has ended",
        "it has, and the VM is out",
        "the kernel closes no connection",
        "its proxy is not ready",
        "with a change",
        "with a change, while it is out",
    ],
)
def test_a_new_token_restarts_a_proxy_that_cannot_do_without_it_and_no_other(
    tmp_path: Path, differs: str, facts: dict[str, str], reasons: str, restarts: str
) -> None:
    (tmp_path / "package").touch()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "istio-token").write_text(TOKEN)
    (tmp_path / "delivered").mkdir()
    names = ("is_ready", "is_connected", "has_our_token", "has_good_certificate", "connect_anew")
    fakes = "".join(f"{name}() {{ {facts.get(name, TRUE)}; }}\n" for name in names)
    fakes += f"reasons_to_restart() {{ printf '{differs}'; }}\n"
    scripts = function("join.sh", "find_reasons") + function("join.sh", "deliver_token")
    said = "if [ -e restart-needed ]; then echo yes; else echo no; fi"
    fakes += 'TOKENS=.; as_proxy() { "$@"; }\n'
    text = f"STATE=.\n{scripts}{fakes}find_reasons; cat reasons; [ -s reasons ] || deliver_token; {said}"
    assert sh(text, folder=tmp_path) == f"{reasons}{restarts}\n"
    if not reasons:
        assert (tmp_path / "istio-token").read_text() == TOKEN


def test_a_switch_that_an_earlier_run_has_begun_is_waited_for_as_long_as_one_of_this_run(tmp_path: Path) -> None:
    """Pulumi may have been killed in a roll: the switch goes on, and may have to come all the way back."""
    shutil.copy(SCRIPTS / "ready.sh", tmp_path)
    (tmp_path / "next/settings").mkdir(parents=True)
    (tmp_path / "next/settings/generation").write_text("new\n")
    (tmp_path / "lib.sh").write_text(
        """
        setting() { case $1 in generation) echo new ;; spiffe-id) echo identity ;; *) echo "$2" ;; esac; }
        within() { echo "$1 $2" >>waits; [ "$(wc -l <waits)" = 1 ] || echo new >generation; }
        for name in proxy_group step unfit_certificate now quietly; do eval "$name() { :; }"; done
        fail() { exit 1; }
        STATE=.
        """
    )
    subprocess.run(["sh", "./ready.sh"], cwd=tmp_path, capture_output=True, timeout=20, check=False)
    before, own, ready, *_ = [line.split() for line in (tmp_path / "waits").read_text().splitlines()]
    assert before == own == [own[0], "restart_is_over"]
    assert int(own[0]) > 2 * int(ready[0]), "until the new one is given up, and the old one is back"


@pytest.mark.parametrize("value", ["plain", 'say "hi"', "back\\slash\\n", "%s $(id)", "東京", "tab\tbell\a", ""])
def test_a_json_string_is_json_whatever_is_in_it(tmp_path: Path, value: str) -> None:
    (tmp_path / "value").write_text(value)
    printed = sh(function("ready.sh", "json_string") + 'json_string "$(cat value)"', folder=tmp_path)
    assert json.loads(printed) == re.sub(r"[\t\a]", "", value)


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("x509: certificate has expired or is not yet valid", "clock"),
        ("x509: certificate has expired or is not yet valid", "restart istiod"),
        ("x509: certificate signed by unknown authority", "root certificate"),
        ("transport: authentication handshake failed: context deadline exceeded", "large packets are lost"),
        ("transport: authentication handshake failed: EOF", "broken off on the way"),
        (
            "authentication handshake failed: read tcp 192.0.2.11:4->192.0.2.1:15012: read: connection reset",
            "broken off",
        ),
        ("failed to create TLS dial option with root certificates", "not a certificate"),
        ("rpc error: code = Unauthenticated desc = authentication failure", "token"),
        ("lookup istiod.istio-system.svc: no such host", "/etc/hosts"),
        ("dial tcp 192.0.2.1:15012: connect: connection refused", "port 15012"),
        ("nothing of note", "see the log lines"),
    ],
)
def test_the_remedy_fits_what_the_agent_says(tmp_path: Path, line: str, remedy: str) -> None:
    (tmp_path / "istio.log").write_text(f"{line}\n")
    text = 'as_proxy() { "$@"; }\n' + function("ready.sh", "remedy").replace("/var/log/istio/", f"{tmp_path}/")
    assert remedy in sh(f"NAMESPACE=istio-system\n{text}remedy", folder=tmp_path)


SAVED = """# Generated by iptables-save
*raw
:PREROUTING ACCEPT [0:0]
:ISTIO_INBOUND - [0:0]
-A PREROUTING -j ISTIO_INBOUND
-A ISTIO_INBOUND -p udp -m udp --sport 53 -j CT --zone 1
COMMIT
*nat
:OUTPUT ACCEPT [0:0]
:HYBRID_MESH - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A OUTPUT -d 192.0.2.1/32 -j ACCEPT
-A OUTPUT -j ISTIO_OUTPUT
-A OUTPUT -p udp -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
COMMIT
"""


def test_every_rule_and_chain_of_istio_goes_and_no_other(tmp_path: Path) -> None:
    assert sh("without_istio", folder=tmp_path, stdin=SAVED).splitlines() == [
        "*raw",
        "-F ISTIO_INBOUND",
        "-D PREROUTING -j ISTIO_INBOUND",
        "-X ISTIO_INBOUND",
        "COMMIT",
        "*nat",
        "-F ISTIO_OUTPUT",
        "-F ISTIO_REDIRECT",
        "-D OUTPUT -j ISTIO_OUTPUT",
        "-D OUTPUT -p udp -j ISTIO_OUTPUT",
        "-X ISTIO_OUTPUT",
        "-X ISTIO_REDIRECT",
        "COMMIT",
    ]


def limits(folder: Path, **settings: str) -> list[str]:
    (folder / "settings").mkdir(exist_ok=True)
    for name, value in settings.items():
        (folder / "settings" / name.replace("_", "-")).write_text(f"{value}\n")
    return sh(function("join.sh", "limits") + "limits", folder=folder).splitlines()[2:]


def test_limits_are_those_given_and_no_others(tmp_path: Path) -> None:
    assert limits(tmp_path) == []
    assert limits(tmp_path, memory_max="512M", cpu_quota="150%") == ["CPUQuota=150%", "MemoryMax=512M"]


@pytest.mark.parametrize(
    ("release", "refused"),
    [
        ('ID=debian\nVERSION_ID="12"\n', False),
        ('ID="rocky"\nVERSION_ID="9.4"\n', False),
        ('ID=ubuntu\nVERSION_ID="24.04"\n', False),
        ('ID=ubuntu\nVERSION_ID="24.10"\n', True),
        ('ID=debian\nVERSION_ID="11"\n', True),
        ("ID=debian\n", True),
        ('ID=rocky\nVERSION_ID="8.10"\n', True),
        ("ID=arch\n", True),
    ],
)
def test_a_system_outside_the_table_is_a_finding(tmp_path: Path, release: str, refused: bool) -> None:
    (tmp_path / "os-release").write_text(release)
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "supported-systems").write_text("debian:12 ubuntu:24.04 rocky:9\n")
    parts = [function("checks.sh", name) for name in ("finding", "check_supported", "os_release")]
    text = "\n".join(parts).replace("/etc/os-release", str(tmp_path / "os-release"))
    sh(f": >findings\n{text}\ncheck_supported", folder=tmp_path)
    found = (tmp_path / "findings").read_text()
    assert ("not in the table of supported ones" in found) is refused
    assert ("versions.accept to [system]" in found) is refused


# ---------------------------------------------------------------- packages that come with a join

PACKAGES = (
    'STATE=.; INSTALL_LIMIT=9; write_file() { cp "$1" "$2"; }; all_packages() { sort -u packages; }\n'
    "package_manager() { echo dnf; }; missing_packages() { cat missing; }\n"
    + "".join(function("join.sh", name) for name in ("install_missing", "update_lists", "add_missing_packages"))
)
"""A machine whose packages are the lines of the file `packages`."""


def added(folder: Path) -> list[str]:
    """What a departure would take away now."""
    sh(f"{PACKAGES}record_cut_off_packages", folder=folder)
    file = folder / "added-packages"
    return file.read_text().split() if file.exists() else []


def joined(folder: Path, install: str, *, missing: str = "sudo\n") -> int:
    """A join's exit code. `install`: what the package manager does."""
    (folder / "missing").write_text(missing)
    return ended(f"{PACKAGES}timeout() {{ {install}; }}\nadd_missing_packages", folder=folder).returncode


def install_by_hand(folder: Path, *names: str) -> None:
    with (folder / "packages").open("a") as file:
        file.writelines(f"{name}\n" for name in names)


def test_what_comes_with_a_missing_package_goes_with_the_machine_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "packages").write_text("bash\n")
    assert joined(tmp_path, "printf 'sudo\\nlibsudo\\n' >>packages") == 0
    install_by_hand(tmp_path, "postgresql")
    assert joined(tmp_path, "false", missing="") == 0
    assert joined(tmp_path, "echo hostname >>packages", missing="hostname\n") == 0
    assert added(tmp_path) == ["hostname", "libsudo", "sudo"]


def test_what_an_admin_installs_after_a_join_that_could_not_is_no_package_of_ours(tmp_path: Path) -> None:
    (tmp_path / "packages").write_text("bash\n")
    assert joined(tmp_path, "echo libsudo >>packages; return 1") == 1
    install_by_hand(tmp_path, "sudo", "postgresql")
    assert joined(tmp_path, "false", missing="") == 0
    assert added(tmp_path) == ["libsudo"]


def test_of_an_installation_that_was_cut_off_only_what_was_asked_for_is_ours(tmp_path: Path) -> None:
    (tmp_path / "packages").write_text("bash\n")
    joined(tmp_path, "echo sudo >>packages; kill -KILL $$")
    install_by_hand(tmp_path, "postgresql")
    assert added(tmp_path) == ["sudo"]


def test_lists_of_packages_that_another_apt_is_fetching_are_waited_for(tmp_path: Path) -> None:
    (tmp_path / "packages").write_text("bash\n")
    (tmp_path / "missing").write_text("sudo\n")
    apt = (
        "sleep() { :; }; package_manager() { echo apt-get; }\n"
        'timeout() { echo "$3" >>asked; case $3 in\n'
        "install) [ -e fetched ] && echo sudo >>packages ;;\n"
        "update) [ $(grep -c update asked) -gt 2 ] && : >fetched ||\n"
        "    { echo 'E: Could not get lock /var/lib/apt/lists/lock.'; return 100; } ;;\nesac; }\n"
    )
    done = ended(f"{PACKAGES}{apt}add_missing_packages", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "asked").read_text().split() == ["install", "update", "update", "update", "install"]


@pytest.mark.parametrize(
    ("said", "waits"),
    [
        ("E: Could not get lock /var/lib/dpkg/lock-frontend.", "waits\n"),
        ("can't create transaction lock on /var/lib/rpm/.rpm.lock", "waits\n"),
        ("403  Blocked by policy", ""),
        ("iproute is needed by (installed) libblockdev", ""),
    ],
)
def test_only_a_lock_is_waited_for(tmp_path: Path, said: str, waits: str) -> None:
    (tmp_path / "output").write_text(f"{said}\n")
    assert sh("now; ! locked_until $((NOW + 9)) || echo waits", folder=tmp_path) == waits


def test_without_a_list_of_what_is_here_nothing_is_installed(tmp_path: Path) -> None:
    (tmp_path / "packages").write_text("")
    assert joined(tmp_path, "echo sudo >>packages") == 1
    assert (tmp_path / "packages").read_text() == ""


# ---------------------------------------------------------------- leaving


def test_packages_that_came_with_a_join_are_removed_once_the_package_manager_is_free(tmp_path: Path) -> None:
    (tmp_path / "added-packages").write_text("libsudo\nsudo\n")
    text = (
        "STATE=.; sleep() { :; }; record_cut_off_packages() { :; }\n"
        "purge() { echo x >>asked; [ $(wc -l <asked) -gt 2 ] || { echo 'dpkg frontend lock was locked'; return 2; }\n"
        'echo "$@" >removed; }\n'
    ) + "".join(function("leave.sh", name) for name in ("purge_all", "remove_added_packages"))
    done = ended(f"{text}remove_added_packages", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "note: " not in done.stderr.decode()
    assert (tmp_path / "removed").read_text() == "libsudo sudo\n"


def test_a_departure_that_cannot_write_the_hosts_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "etc-hosts").write_text(f"127.0.0.1 localhost\n{BLOCK}")
    text = f"HOSTS=etc-hosts; mv() {{ return 1; }}; was_here() {{ false; }}\n{function('leave.sh', 'restore_hosts')}"
    said = ended(f"{text}restore_hosts", folder=tmp_path).stderr.decode()
    assert "at step hosts: etc-hosts cannot be written\n" in said
    assert "remedy: make it a file that root may replace: ls -l etc-hosts, lsattr etc-hosts (chattr -i" in said


def test_a_departure_tells_of_rules_that_somebody_has_saved(tmp_path: Path) -> None:
    (tmp_path / "rules.v4").write_text("*nat\n:ISTIO_OUTPUT - [0:0]\n-A OUTPUT -j ISTIO_OUTPUT\nCOMMIT\n")
    (tmp_path / "rules.v6").write_text("*filter\n:INPUT DROP [0:0]\nCOMMIT\n")
    text = f"SAVED_RULES='rules.v4 rules.v6 nothing'\n{function('leave.sh', 'tell_of_saved_rules')}tell_of_saved_rules"
    said = ended(text, folder=tmp_path)
    assert said.returncode == 0
    (note,) = said.stderr.decode().splitlines()
    assert note.startswith("hybrid-mesh: note: rules.v4 has rules of Istio saved, which the next boot would bring back")


# ---------------------------------------------------------------- certificates


@pytest.mark.parametrize(
    ("delivered", "kept"),
    [
        ({}, False),
        ({"spiffe-id": "spiffe://x"}, True),
        ({"spiffe-id": "spiffe://y"}, False),
        ({"spiffe-id": ""}, True),
    ],
    ids=["before the first join", "of a join", "of a join as somebody else", "of one that a full disk cut off"],
)
def test_a_certificate_that_no_join_of_ours_has_brought_about_goes(
    tmp_path: Path, delivered: dict[str, str], kept: bool
) -> None:
    certificates = tmp_path / "certs"
    certificates.mkdir()
    for name in ("cert-chain.pem", "key.pem", "app.pem"):
        (certificates / name).touch()
    for name, text in delivered.items():
        (tmp_path / "delivered").mkdir(exist_ok=True)
        (tmp_path / "delivered" / name).write_text(f"{text}\n")
    names = (("lib.sh", "unfit_certificate"), ("join.sh", "drop_unfit_certificate"))
    drop = "".join(function(*name) for name in names).replace("/etc/certs", str(certificates))
    sh(f"STATE=.; SPIFFE_ID=spiffe://x\n{drop}drop_unfit_certificate", folder=tmp_path)
    assert sorted(path.name for path in certificates.iterdir()) == ["app.pem"] + ["cert-chain.pem", "key.pem"] * kept


def token_until(end: int) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"aud": ["istio-ca"], "exp": end}).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJSUzI1NiJ9.{claims}.c2lnbmF0dXJl"


@pytest.mark.parametrize("more", ["", "e", "ee", "eee"])
def test_the_end_of_a_token_is_read_whatever_its_length(tmp_path: Path, more: str) -> None:
    now = int(time.time())
    for end, has_ended in ((now - 5, "yes"), (now + 60, "no")):
        head, claims, tail = token_until(end).split(".")
        text = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)).decode().replace('"aud"', f'"aud{more}>?"')
        claims = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        (tmp_path / "token").write_text(f"{head}.{claims}.{tail}")
        assert sh("if has_ended token; then echo yes; else echo no; fi", folder=tmp_path) == f"{has_ended}\n"
    (tmp_path / "token").write_text("no token")
    assert sh("if has_ended token; then echo yes; else echo no; fi", folder=tmp_path) == "no\n"


@pytest.mark.parametrize(
    ("identity", "seconds", "goes_on"),
    [("spiffe://x", -5, True), ("spiffe://y", 60, True), ("spiffe://y", -5, False)],
    ids=["the certificate will do", "the token will do", "neither"],
)
def test_a_change_whose_turn_comes_after_its_token_has_ended_is_not_tried_if_the_certificate_would_go(
    tmp_path: Path, identity: str, seconds: int, goes_on: bool
) -> None:
    files = tmp_path / "next/files"
    files.mkdir(parents=True)
    (files / "istio-token").write_text(token_until(int(time.time()) + seconds))
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings/token-again").write_text("pulumi up --replace '**::mesh-vm-7-token'\n")
    (tmp_path / "delivered").mkdir()
    (tmp_path / "delivered/spiffe-id").write_text("spiffe://x\n")
    done = ended(
        f"STATE=.; SPIFFE_ID={identity}\n{function('ready.sh', 'check_token')}check_token; echo on", folder=tmp_path
    )
    assert (done.stdout == b"on\n", done.returncode == 0) == (goes_on, goes_on)
    said = done.stderr.decode()
    assert ("the token that came with the change has ended" in said) is not goes_on
    assert ("(the identity was spiffe://x)" in said and "--replace '**::mesh-vm-7-token'" in said) is not goes_on


def test_a_machine_that_has_lost_what_a_join_laid_ready_says_what_to_enter(tmp_path: Path) -> None:
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings/join-again").write_text("pulumi up --replace '**::mesh-vm-7-join'\n")
    functions = "".join(function("ready.sh", name) for name in ("is_switched", "switch"))
    done = ended(f"STATE=.; GENERATION=new\n{functions}switch", folder=tmp_path)
    assert done.returncode == 1
    said = done.stderr.decode()
    assert "this VM neither runs what the stack wants, nor has it laid ready\n" in said
    assert "remedy: let the join run again: pulumi up --replace '**::mesh-vm-7-join'\n" in said


# ---------------------------------------------------------------- the way back, and upkeep


INSTALL = (
    "STATE=.; DOWNLOAD_LIMIT=5; KIND=deb-amd64; SHA256=new; VERSION=1.31.0; has_our_package() { false; }\n"
    'obtain_package() { file=$1; mkdir -p "$(dirname "$file")"; echo new >"$file"; }\n'
    "installed_version() { echo 1.31.0; }\n"
    + "".join(function("join.sh", name) for name in ("install_package", "keep_way_back"))
)


def test_an_installation_that_fails_forgets_nothing_of_what_is_installed(tmp_path: Path) -> None:
    old = f"{sha256(b'old').hexdigest()} 1.30.0\n"
    (tmp_path / "package").write_text(old)
    (tmp_path / "installed-file").write_text("old")
    assert ended(f"{INSTALL}install_file() {{ return 1; }}\ninstall_package", folder=tmp_path).returncode == 1
    assert (tmp_path / "package").read_text() == old
    sh(f"{INSTALL}keep_way_back", folder=tmp_path)
    sh(f"{INSTALL}install_file() {{ :; }}\ninstall_package", folder=tmp_path)
    assert (tmp_path / "package").read_text() == "new 1.31.0\n"
    assert (tmp_path / "installed-file").read_text() == "new\n"


def test_an_installation_that_fails_in_a_switch_is_undone_by_putting_the_package_back(tmp_path: Path) -> None:
    (tmp_path / "switching").touch()
    (tmp_path / "previous").mkdir()
    for folder in (tmp_path, tmp_path / "previous"):
        (folder / "package").write_text("old 1.30.0\n")
    (tmp_path / "previous/installed-file").write_text("old")
    assert ended(f"{INSTALL}install_file() {{ return 1; }}\ninstall_package", folder=tmp_path).returncode == 1
    back = 'PREVIOUS=previous; install_file() { echo "$1"; }\n' + function("switch.sh", "restore_package")
    assert sh(f"{INSTALL}{back}restore_package", folder=tmp_path) == "previous/installed-file\n"


@pytest.mark.parametrize("name", ["package-url-deb-amd64", "package-url"])
def test_the_way_back_is_downloaded_from_where_the_last_join_had_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "scripts/settings").mkdir(parents=True)
    (tmp_path / "scripts/settings" / name).write_text("http://mirror/old.deb\n")
    (tmp_path / "package").write_text(f"{sha256(b'old').hexdigest()} 1.30.0\n")
    sh(f'{INSTALL}fetch() {{ [ "$2" != http://mirror/old.deb ] || printf old; }}\nkeep_way_back', folder=tmp_path)
    assert (tmp_path / "installed-file").read_text() == "old"
    (tmp_path / "scripts/settings" / name).unlink()
    (tmp_path / "installed-file").unlink()
    lost = ended(f"{INSTALL}keep_way_back", folder=tmp_path).stderr.decode()
    assert "what is installed is not at an address that is known here" in lost


def test_before_the_way_back_has_unpacked_all_nothing_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / "previous").mkdir()
    (tmp_path / "previous/parts").write_text("etc/certs\n")
    text = (
        "PREVIOUS=previous; UPKEEP=; parts() { echo etc/certs; echo etc/more; }; tar() { echo full; return 2; }\n"
        'rm() { echo "$@" >>removed; }; mv() { echo "$@" >>removed; }\n' + function("switch.sh", "restore_parts")
    )
    done = ended(f"{text}restore_parts", folder=tmp_path)
    assert done.returncode == 1
    assert "the files that were here cannot be put back" in done.stderr.decode()
    assert (tmp_path / "removed").read_text() == "-rf previous/unpacked\n"


@pytest.mark.parametrize(
    ("verb", "state", "stopped"),
    [("back", "active", True), ("back", "inactive", False), ("before-start", "activating", False)],
)
def test_a_start_that_waits_for_the_way_back_is_not_called_off(
    tmp_path: Path, verb: str, state: str, stopped: bool
) -> None:
    (tmp_path / "switching").touch()
    text = (
        "STATE=.; PREVIOUS=previous\n"
        f'systemctl() {{ if [ "$1" = show ]; then echo {state}; else echo "$@" >>said; fi; }}\n'
        'timeout() { shift; "$@"; }; clean_rules() { :; }; restore_package() { :; }; restore_parts() { :; }\n'
        "open_gates() { :; }\n" + function("switch.sh", "back")
    )
    sh(f"{text}back {verb}", folder=tmp_path)
    assert (tmp_path / "said").exists() == stopped
    assert not (tmp_path / "switching").exists()


@pytest.mark.parametrize(
    ("verbs", "called"), [("back | before-start)", "before-start"), ("back)", "back")], ids=["ours", "of before"]
)
def test_a_switch_that_other_scripts_have_laid_ready_is_undone_by_a_verb_that_they_know(
    tmp_path: Path, verbs: str, called: str
) -> None:
    (tmp_path / "switching").touch()
    (tmp_path / "next").mkdir()
    (tmp_path / "next/switch.sh").write_text(f'case $1 in\n    {verbs} echo "$1" ;;\nesac\n')
    assert sh("STATE=.; undo_half_switch before-start", folder=tmp_path) == f"{called}\n"


@pytest.mark.parametrize(("given", "seconds"), [("", 60), ("45", 45)])
def test_applications_wait_for_the_proxy_at_boot_as_long_as_they_are_told(
    tmp_path: Path, given: str, seconds: int
) -> None:
    for folder in ("settings", "files"):
        (tmp_path / folder).mkdir()
    (tmp_path / "settings/boot-timeout-seconds").write_text(f"{given}\n")
    (tmp_path / "files/hosts").touch()
    names = ("upkeep_unit", "upkeep_timer", "metrics_unit", "upkeep_units")
    sh(f"{''.join(function('join.sh', name) for name in names)}upkeep_units", folder=tmp_path)
    unit = (tmp_path / "hybrid-mesh-ready.service").read_text().splitlines()
    assert f"ExecStart=/bin/sh /var/lib/hybrid-mesh/scripts/upkeep.sh ready {seconds}" in unit
    assert f"TimeoutStartSec={seconds + 30}" in unit


@pytest.mark.parametrize("has_labels", [True, False])
def test_with_selinux_systemd_may_start_the_metrics_agent(tmp_path: Path, has_labels: bool) -> None:
    chcon = f'chcon() {{ echo "$*"; {"" if has_labels else "return 1; "}}}'
    text = f"set -e; AGENT=/agent; {chcon}\n{function('agent.sh', 'label_program')}label_program"
    assert sh(text, folder=tmp_path) == "-t bin_t /agent/prometheus\n"
    script = (SCRIPTS / "agent.sh").read_text()
    assert script.index("\ninstall_agent\nlabel_program\n") < script.index(' restart "$AGENT_UNIT"'), (
        "also one of before"
    )


@as_root
@needs_namespaces
@pytest.mark.skipif(shutil.which("iptables") is None, reason="iptables is not installed")
@pytest.mark.parametrize("tracked", [True, False])
def test_connections_are_tracked_after_the_host_s_own_rules_are_loaded_in_the_place_of_all(tracked: bool) -> None:
    rule = "-A HYBRID_MESH -m conntrack --ctstate INVALID -j RETURN"
    loaded = r"printf '*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n' | iptables-restore"
    systemctl = f"systemctl() {{ {str(tracked).lower()}; }}"
    boot = f"iptables -t nat -N HYBRID_MESH; iptables -t nat {rule}; {loaded}; (. ./firewall.sh); (. ./firewall.sh)"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", f"{systemctl}; {boot}; iptables -t nat -S HYBRID_MESH", "firewall.sh", "set"],
        cwd=SCRIPTS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.count(rule) == tracked, done.stderr


def upkeep(folder: Path, *verb: str, **programs: str) -> subprocess.CompletedProcess[str]:
    """The script as a unit runs it, on a machine that is `folder`: waits of a second, and programs of its own."""
    for name in ("scripts", "run", "bin"):
        (folder / name).mkdir(exist_ok=True)
    for name, text in {"install": 'shift 7; cp "$1" "$2"', **programs}.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    there = {
        "^STATE=.*": f"STATE={folder}/state",
        "^HOSTS=.*": f"HOSTS={folder}/etc-hosts",
        "^LOG=.*": f"LOG={folder}/log",
        "^PATH=": f"PATH={folder}/bin:",
        "/run/hybrid-mesh": f"{folder}/run/hybrid-mesh",
        "^WAY_LIMIT=.*": "WAY_LIMIT=1",
    }
    for name in ("lib.sh", "upkeep.sh"):
        text = (SCRIPTS / name).read_text()
        for found, place in there.items():
            text = re.sub(found, place, text, flags=re.MULTILINE)
        (folder / "scripts" / name).write_text(text)
    command = ["sh", str(folder / "scripts" / "upkeep.sh"), *verb]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert not list(folder.glob("run/*upkeep*")), "it leaves nothing"
    return done


def member(folder: Path, address: str = "192.0.2.1") -> None:
    (folder / "state").mkdir()
    (folder / "state" / "hosts").write_text(f"{address} istiod.istio-system.svc\n")
    known = [f"{address} istiod.istio-system.svc\n" for address in ("2001:db8::1", "192.0.2.1")]
    (folder / "state" / "hosts-known").write_text("".join(known))
    (folder / "etc-hosts").write_text("127.0.0.1 localhost\n")


@pytest.mark.parametrize("verb", ["network", "follow", "ready", "logs"])
def test_what_a_member_does_for_itself_ends_well_where_nothing_of_a_join_is(tmp_path: Path, verb: str) -> None:
    done = upkeep(tmp_path, verb)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_verb_that_upkeep_does_not_know_is_refused(tmp_path: Path) -> None:
    member(tmp_path)
    done = upkeep(tmp_path, "folow")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1] == "hybrid-mesh: remedy: upkeep.sh network, follow, ready SECONDS or logs"


@pytest.mark.parametrize("has_way", [True, False])
def test_before_istio_starts_a_way_to_one_of_the_gateway_s_addresses_is_waited_for_a_while(
    tmp_path: Path, has_way: bool
) -> None:
    member(tmp_path)
    asked = f"route get {'192.0.2.1' if has_way else '192.0.2.9'}"
    done = upkeep(tmp_path, "network", ip=f'[ "$*" = "{asked}" ]', ss="")
    assert done.returncode == 0
    assert ("note: no way to istiod after 1s; Istio starts nevertheless" in done.stderr) is not has_way
    assert BLOCK in (tmp_path / "etc-hosts").read_text(), "its name leads there, whenever a way comes"


@pytest.mark.parametrize("is_ready", [True, False])
def test_applications_wait_for_the_proxy_a_while(tmp_path: Path, is_ready: bool) -> None:
    member(tmp_path)
    answers = f'case "$*" in *" http://127.0.0.1:15021/healthz/ready") {str(is_ready).lower()} ;; *) false ;; esac'
    done = upkeep(tmp_path, "ready", "1", curl=answers)
    assert done.returncode == 0
    assert ("note: the proxy is not ready after 1s; applications start nevertheless" in done.stderr) is not is_ready


def test_the_hosts_file_is_left_to_a_join_that_is_running(tmp_path: Path) -> None:
    member(tmp_path)
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "hybrid-mesh.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert upkeep(tmp_path, "follow", ss="").stderr == ""
        assert (tmp_path / "etc-hosts").read_text() == "127.0.0.1 localhost\n"
    assert "hybrid-mesh: write " in upkeep(tmp_path, "follow", ss="").stderr
    assert BLOCK in (tmp_path / "etc-hosts").read_text()
    assert upkeep(tmp_path, "follow", ss="").stderr == "", "nothing is to do"


def test_a_gateway_s_name_that_cannot_be_followed_is_told(tmp_path: Path) -> None:
    member(tmp_path, "east.example.com")
    (tmp_path / "state" / "hosts-known").unlink()
    done = upkeep(tmp_path, "follow", getent="", ss="")
    assert (done.returncode, done.stderr) == (0, "hybrid-mesh: note: east.example.com has no address on this VM\n")


def rotate(folder: Path, become: str, before: str = "") -> str:
    """Logs above ten bytes, in `folder`; `become` stands for what makes a process the proxy's. What it says of them."""
    text = function("upkeep.sh", "rotate").replace("/var/log/istio/", f"{folder}/")
    says = 'log() { echo "$1"; }; LOG=log; STATE=.'
    return sh(f'setpriv() {{ shift 5; {become} "$@"; }}; LOG_LIMIT=10; {says}\n{before}{text}rotate', folder=folder)


def test_a_log_of_which_there_is_no_room_for_a_copy_is_emptied_all_the_same(tmp_path: Path) -> None:
    for name in ("istio.log", "istio.err.log"):
        (tmp_path / name).write_text("x" * 100)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/cp").write_text('#!/bin/sh\nprintf cut >"$3"\nexit 1\n')
    (tmp_path / "bin/cp").chmod(0o755)
    said = rotate(tmp_path, "", f"PATH={tmp_path}/bin:$PATH\n")
    assert said.splitlines() == [
        f"note: there is no room for a copy of {tmp_path}/{name}: it is emptied without one"
        for name in ("istio.log", "istio.err.log")
    ]
    assert {file.name: file.stat().st_size for file in tmp_path.glob("istio*")} == {"istio.log": 0, "istio.err.log": 0}


def test_our_own_log_is_rotated_too(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("x" * 100)
    assert rotate(tmp_path, "") == ""
    assert (tmp_path / "log.1").read_text() == "x" * 100
    assert not (tmp_path / "log").exists()
    (tmp_path / "log").write_text("short\n")
    rotate(tmp_path, "")
    assert (tmp_path / "log").read_text() == "short\n"


NOBODY = 65534


@as_root
@pytest.mark.parametrize("name", ["istio.log", "istio.log.new", "istio.log.1"])
def test_the_rotation_of_a_log_goes_through_no_link_of_the_proxy(name: str) -> None:
    with tempfile.TemporaryDirectory() as made:  # pytest's own are root's alone
        root = Path(made)
        root.chmod(0o755)
        folder, victim = root / "logs", root / "passwd"
        folder.mkdir()
        victim.write_text("root:x:0:0 and more\n")
        (folder / "istio.log").write_text("attacker:x:0:0\n")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(victim)
        for path in (folder, *folder.iterdir()):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        rotate(folder, f"command setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups")
        assert victim.read_text() == "root:x:0:0 and more\n"
        assert victim.stat().st_uid == 0
        if name != "istio.log":
            assert (folder / "istio.log.1").read_text() == "attacker:x:0:0\n"
            assert not (folder / "istio.log.1").is_symlink()
            assert (folder / "istio.log").read_text() == ""


@as_root
def test_a_log_that_the_proxy_may_not_write_is_neither_copied_nor_said_to_be_empty() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.chown(folder, NOBODY, NOBODY)
        (folder / "istio.log").write_text("of root's, and long")
        said = rotate(folder, f"command setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups")
        assert said.startswith(f"note: {folder}/istio.log cannot be emptied by istio-proxy, and goes on growing")
        assert [file.name for file in folder.glob("istio*")] == ["istio.log"]
        assert (folder / "istio.log").read_text() == "of root's, and long"


AS_NOBODY = f'setpriv() {{ shift 5; command setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "$@"; }}\n'
"""In the place of the proxy's user."""


@pytest.fixture
def of_proxy() -> Iterator[Path]:
    """A folder of the proxy's; beside it `etc`, one of root's. Not one of pytest's, which are root's alone."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        root.chmod(0o755)
        for name in ("etc", "proxy"):
            (root / name).mkdir()
            (root / name).chmod(0o755)
        os.chown(root / "proxy", NOBODY, NOBODY)
        yield root / "proxy"
        etc = (root / "etc").stat()
        assert (etc.st_uid, etc.st_mode & 0o7777) == (0, 0o755)


@as_root
@pytest.mark.parametrize("name", ["istio-token", "istio-token.hybrid-mesh-new"])
def test_what_is_the_proxy_s_is_written_by_it_and_through_no_link(of_proxy: Path, name: str) -> None:
    (of_proxy.parent / "source").write_text(TOKEN)
    (of_proxy.parent / "source").chmod(0o600)
    (of_proxy / name).symlink_to("../etc")
    text = "write_file source proxy/istio-token 600 istio-proxy:istio-proxy"
    sh(f"{AS_NOBODY}{text}", folder=of_proxy.parent)
    written = of_proxy / "istio-token"
    assert (written.read_text(), written.is_symlink()) == (TOKEN, False)
    assert (written.stat().st_uid, written.stat().st_mode & 0o7777) == (NOBODY, 0o600)
    assert list(of_proxy.iterdir()) == [written]
    assert list((of_proxy.parent / "etc").iterdir()) == []


@as_root
def test_a_folder_that_the_proxy_has_exchanged_for_a_link_takes_nothing_of_its(of_proxy: Path) -> None:
    (of_proxy.parent / "source").write_text(TOKEN)
    (of_proxy / "tokens").symlink_to("../etc")
    text = "write_file source proxy/tokens/istio-token 600 istio-proxy:istio-proxy || echo refused"
    assert sh(f"{AS_NOBODY}{text}", folder=of_proxy.parent) == "refused\n"
    assert list((of_proxy.parent / "etc").iterdir()) == []


TOKEN_FOLDER = f"""
TOKENS=proxy/tokens
ensure_folder() {{ :; }}
chown() {{ command chown "$1" {NOBODY}:{NOBODY} "$3"; }}
{AS_NOBODY}"""


@as_root
@pytest.mark.parametrize("there", ["nothing", "a folder of root's", "a link"])
def test_the_folder_of_the_token_is_the_proxy_s_whatever_is_there(of_proxy: Path, there: str) -> None:
    tokens = of_proxy / "tokens"
    if there == "a folder of root's":
        tokens.mkdir(0o755)
    if there == "a link":
        tokens.symlink_to("../etc")
    done = ended(f"{TOKEN_FOLDER}ensure_token_folder", folder=of_proxy.parent)
    assert done.returncode == 0, done.stderr
    assert (b"note: proxy/tokens is a link of root, to ../etc: it is removed" in done.stderr) == (there == "a link")
    assert (tokens.stat().st_uid, tokens.stat().st_mode & 0o7777) == (NOBODY, 0o700)
    assert not tokens.is_symlink()


@as_root
def test_a_link_that_comes_back_where_the_token_s_folder_belongs_changes_no_other_folder(of_proxy: Path) -> None:
    (of_proxy / "tokens").symlink_to("../etc")
    done = ended(f"rm() {{ :; }}\n{TOKEN_FOLDER}ensure_token_folder", folder=of_proxy.parent)
    assert done.returncode != 0, "and the fixture finds etc as it was"


@as_root
def test_what_istio_s_start_runs_as_root_is_in_a_folder_that_the_proxy_cannot_change(of_proxy: Path) -> None:
    text = function("lib.sh", "guard_folders")
    for place in ("/var/lib/istio/envoy", "/etc/istio/config"):
        assert place in text
        text = text.replace(place, str(of_proxy))
    (of_proxy / "sidecar.env").touch()
    plant = "as_proxy mv proxy/sidecar.env proxy/old 2>/dev/null || echo refused"
    assert sh(f"{AS_NOBODY}{text}guard_folders; {plant}", folder=of_proxy.parent) == "refused\n"
    assert of_proxy.stat().st_mode & 0o7777 == 0o755, "and read it"


def test_a_join_guards_these_folders_after_it_has_installed_and_so_does_the_way_back() -> None:
    """The package's installation gives them to the proxy, each time."""
    applied = function("join.sh", "apply")
    assert applied.index("install_package") < applied.index("deliver_files")
    assert "guard_folders" in function("join.sh", "deliver_files")
    back = function("switch.sh", "back")
    assert back.index("restore_package") < back.index("restore_parts")
    assert "guard_folders" in function("switch.sh", "restore_parts")


@as_root
@pytest.mark.parametrize("kept", ["a token", "a link"])
def test_the_way_back_puts_the_token_through_no_link_and_reads_none(of_proxy: Path, kept: str) -> None:
    root = of_proxy.parent
    (root / "shadow").write_text("root's\n")
    (root / "shadow").chmod(0o600)
    (root / "previous").mkdir()
    (root / "previous/parts").write_text("proxy/tokens/istio-token\netc/kept\n")
    (root / "proxy/tokens").symlink_to("../etc")
    restore = function("switch.sh", "restore_parts").replace('"/$', f'"{root}/$')
    fakes = """
    STATE=. PREVIOUS=previous UPKEEP='' TRACKER='' LOG=log
    parts() { :; }
    timeout() { :; }
    guard_folders() { :; }
    tar() {
        mkdir -p previous/unpacked/proxy/tokens previous/unpacked/etc
        MAKE previous/unpacked/proxy/tokens/istio-token
        echo kept >previous/unpacked/etc/kept
    }
    """
    make = f"ln -s {root}/shadow" if kept == "a link" else "echo token >"
    text = f"{fakes.replace('MAKE ', f'{make} ')}{restore}{TOKEN_FOLDER}TOKENS={root}/proxy/tokens\n"
    done = ended(f"{text}restore_parts", folder=root)
    assert done.returncode == 0, done.stderr
    token = of_proxy / "tokens/istio-token"
    if kept == "a token":
        assert (token.read_text(), token.stat().st_uid) == ("token\n", NOBODY)
    else:
        assert not token.exists()
    assert [file.name for file in (root / "etc").iterdir()] == ["kept"]


@as_root
def test_of_the_proxy_s_logs_a_failure_shows_nothing_that_the_proxy_could_not_read(of_proxy: Path) -> None:
    (of_proxy.parent / "shadow").write_text("root:secret lookup istiod\n")
    (of_proxy.parent / "shadow").chmod(0o600)
    (of_proxy / "istio.err.log").symlink_to("../shadow")
    (of_proxy / "istio.log").write_text("its own\n")
    fakes = f"timeout() {{ :; }}; NAMESPACE=istio-system\n{AS_NOBODY}"
    text = function("ready.sh", "show_logs") + function("ready.sh", "remedy")
    text = text.replace("/var/log/istio/", "proxy/")
    said = sh(f"{fakes}{text}show_logs 2>/dev/null; remedy", folder=of_proxy.parent)
    assert "its own\n" in said
    assert "secret" not in said
    assert "see the log lines" in said.splitlines()[-1]


def test_of_a_link_the_mode_of_what_it_leads_to_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("bin")
    (tmp_path / "etc-hosts").write_text("127.0.0.1 localhost\n")
    folders = "/etc/certs /var/log/istio /run/secrets /usr/local/bin"
    text = function("join.sh", "record_before").replace(folders, str(tmp_path / "link"))
    sh(f"STATE=state; HOSTS=etc-hosts\n{text}record_before", folder=tmp_path)
    assert (tmp_path / "state/before/folders").read_text().split()[0] == "755"


def manifest(folder: Path, *, enabled: str, **programs: str) -> dict[str, str]:
    """What the script says of a machine that is `folder`, by name; `enabled` are states of units, in their order."""
    (folder / "bin").mkdir(exist_ok=True)
    # Of several units it says no more after one that is not there.
    states = f'shift; for unit; do case "{enabled}" in *"$unit "*) echo enabled ;; *) exit 1 ;; esac; done'
    for name, text in {"systemctl": states, "dpkg-query": "exit 1", "rpm": "exit 1", **programs}.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    text = (SCRIPTS / "manifest.sh").read_text()
    text = re.sub(r"(?<![a-z])/(?:etc|var|lib|usr/local/bin)/", rf"{folder}\g<0>", text)
    text = re.sub("^PATH=.*", f"PATH={folder}/bin:$PATH", text, flags=re.MULTILINE)
    done = subprocess.run(["sh", "-s"], input=text, capture_output=True, text=True, timeout=20, check=True)
    lines = [line.partition("\t") for line in done.stdout.replace(str(folder), "").splitlines()]
    return {name: state for name, _, state in lines}


def put(folder: Path, path: str, text: str, mode: int) -> str:
    """A file; whose it is."""
    file = folder / path.removeprefix("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return f"{file.owner()}:{file.group()}"


def test_what_a_join_left_is_told_by_content_and_what_else_counts(tmp_path: Path) -> None:
    mesh, limits, envoy = (
        "/etc/istio/config/mesh",
        "/etc/systemd/system/istio.service.d/hybrid-mesh-limits.conf",
        "/usr/local/bin/envoy",
    )
    owner = put(tmp_path, mesh, "a: 1\n", 0o640)
    for path, mode in ((limits, 0o600), (envoy, 0o755)):
        put(tmp_path, path, "a: 1\n", mode)
    os.utime(tmp_path / envoy.removeprefix("/"), (0, 1_700_000_000))
    digest = sha256(b"a: 1\n").hexdigest()[:16]
    said = manifest(tmp_path, enabled="")
    assert {name: state for name, state in said.items() if name.endswith((mesh, limits, envoy))} == {
        f"file {mesh}": f"{digest} 640 {owner}",
        f"file {limits}": digest,
        f"package-file {envoy}": f"5 bytes of 1700000000, 755 {owner}",
    }
    others = {name for name, state in said.items() if state == "absent"}
    assert {"file /var/lib/istio/envoy/cluster.env", "file /var/lib/hybrid-mesh/scripts/upkeep.sh"} <= others
    assert {"package-file /lib/systemd/system/istio.service"} <= others
    assert len(others) == len([name for name in said if "file " in name]) - 3


def test_units_are_told_each_by_its_own_state_though_one_is_not_there(tmp_path: Path) -> None:
    units = ["istio.service", "hybrid-mesh-conntrack.service", "hybrid-mesh-ready.service", "hybrid-mesh-logs.timer"]
    units.append("hybrid-mesh-metrics.service")

    def told(missing: str) -> dict[str, str]:
        there = "".join(f"{unit} " for unit in units if unit != missing)
        found = manifest(tmp_path, enabled=there)
        return {name: state for name, state in found.items() if name.startswith("unit ")}

    assert told("") == {f"unit {unit}": "enabled" for unit in units}
    for missing in units:
        assert told(missing) == {f"unit {unit}": "enabled" if unit != missing else "" for unit in units}


def test_the_package_the_hosts_block_and_the_firewall_are_told(tmp_path: Path) -> None:
    lines = BLOCK.splitlines(keepends=True)[1:-1]
    put(tmp_path, "/etc/hosts", f"127.0.0.1 localhost\n{BLOCK}::1 x\n", 0o644)
    put(tmp_path, "/var/lib/hybrid-mesh/hosts-known", "".join(lines), 0o600)
    put(tmp_path, "/var/lib/hybrid-mesh/scripts/firewall.sh", "echo IPv4 open to itself\n", 0o600)
    said = manifest(tmp_path, enabled="", rpm="echo installed 1.31.0-1")
    assert said["firewall of 15020 and 15090, IPv4"] == "open to itself"
    assert (said["hosts block"], said["package istio-sidecar"]) == ("as written", "installed 1.31.0-1")
    put(tmp_path, "/etc/hosts", BLOCK.replace("192.0.2.1 ", "192.0.2.7 "), 0o644)
    said = manifest(tmp_path, enabled="", rpm="echo package istio-sidecar is not installed")
    assert (said["hosts block"], said["package istio-sidecar"]) == ("192.0.2.7 istiod.istio-system.svc,", "")
    of_dpkg = {"dpkg-query": "echo installed 1.31.0"}
    assert manifest(tmp_path, enabled="", **of_dpkg)["package istio-sidecar"] == "installed 1.31.0"


@pytest.mark.parametrize(
    ("counts", "taken"),
    [
        ({}, False),
        ({"samples_total": "0"}, False),
        ({"samples_total": "10", "samples_pending": "10"}, False),
        ({"samples_total": "10", "samples_failed_total": "7", "samples_pending": "3"}, False),
        ({"samples_total": "1.2e+06", "samples_failed_total": "10", "samples_pending": "500"}, True),
        ({"samples_in_total": "10", "metadata_total": "3"}, False),
    ],
)
def test_an_agent_writes_once_the_receiver_has_taken_a_sample(
    tmp_path: Path, counts: dict[str, str], taken: bool
) -> None:
    lines = "".join(f'prometheus_remote_storage_{name}{{url="x"}} {count}\n' for name, count in counts.items())
    (tmp_path / "metrics").write_text(f"# TYPE prometheus_remote_storage_samples_total counter\n{lines}")
    text = f"fetch() {{ cat metrics; }}\n{function('agent.sh', 'written')}if written; then echo yes; fi"
    assert sh(text, folder=tmp_path) == "yes\n" * taken


@pytest.mark.parametrize(
    ("said", "flag"),
    [("prometheus, version 2.53.2 (branch: x)", "--enable-feature=agent"), ("prometheus, version 3.2.0", "--agent")],
)
def test_an_agent_is_started_as_its_version_has_it(tmp_path: Path, said: str, flag: str) -> None:
    (tmp_path / "prometheus").write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    (tmp_path / "prometheus").chmod(0o755)
    assert sh(f"AGENT=.\n{function('agent.sh', 'mode')}mode", folder=tmp_path) == f"{flag}\n"


IPTABLES = """
echo "$*" >>"$0.asked"
shift 2
case $* in *HYBRID_MESH_CAPTURED*) of=.captured ;; *) of= ;; esac
case $1 in
    -C) [ -s "$0.jumps$of" ] ;;
    -I) echo x >>"$0.jumps$of" ;;
    -D) [ -s "$0.jumps$of" ] && sed -i 1d "$0.jumps$of" ;;
    -F) [ -e "$0-restore.read$of" ] ;;
    -X) rm "$0-restore.read$of" ;;
    -S) sed 's/^:/-N /' "$0-restore.read" "$0.more" 2>/dev/null || : ;;
esac"""
"""Rules of two chains, and how many lead to each."""


def firewall(folder: Path, verb: str, scrapers: str = "", *, tools: tuple[str, ...] = ("iptables", "ip6tables")) -> str:
    """What the script prints on a machine with these programs."""
    for name in ("settings", "bin"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "settings" / "scrapers").write_text(f"{scrapers}\n")
    for tool in ("iptables", "ip6tables"):
        restore = """
            cat >"$0.new"
            of=
            ! grep -q HYBRID_MESH_CAPTURED "$0.new" || of=.captured
            mv "$0.new" "$0.read$of" """
        for name, text in ((tool, IPTABLES if tool in tools else "exit 3"), (f"{tool}-restore", restore)):
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / "bin" / name).chmod(0o755)
    text = (SCRIPTS / "firewall.sh").read_text().replace("PATH=", f"PATH={folder}/bin:")
    text = text.replace("CLUSTER_ENV=/var/lib/istio/envoy/", f"CLUSTER_ENV={folder}/")
    (folder / "firewall.sh").write_text(text.replace("[ -d /proc/sys/net/ipv6 ]", "true"))
    command = ["sh", str(folder / "firewall.sh"), verb]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout


def test_metrics_are_open_to_a_machine_itself_and_to_scrapers_of_each_family(tmp_path: Path) -> None:
    assert firewall(tmp_path, "show") == "IPv4 open to all\nIPv6 open to all\n"
    for _ in range(2):
        firewall(tmp_path, "set", "192.0.2.0/24 2001:db8::/64 198.51.100.7/32")
        assert (tmp_path / "bin" / "iptables-restore.read").read_text().splitlines() == [
            "*filter",
            ":HYBRID_MESH_METRICS - [0:0]",
            "-A HYBRID_MESH_METRICS -i lo -j RETURN",
            "-A HYBRID_MESH_METRICS -s 192.0.2.0/24 -j ACCEPT",
            "-A HYBRID_MESH_METRICS -s 198.51.100.7/32 -j ACCEPT",
            "-A HYBRID_MESH_METRICS -j DROP",
            "COMMIT",
        ]
    six = (tmp_path / "bin" / "ip6tables-restore.read").read_text().splitlines()
    assert [line for line in six if " -s " in line] == ["-A HYBRID_MESH_METRICS -s 2001:db8::/64 -j ACCEPT"]
    inserted = [line for line in (tmp_path / "bin" / "iptables.asked").read_text().splitlines() if " -I " in line]
    assert inserted == ["-w 10 -I INPUT 1 -p tcp -m multiport --dports 15020,15090 -j HYBRID_MESH_METRICS"]
    assert firewall(tmp_path, "show").splitlines() == [
        "IPv4 open to itself, 192.0.2.0/24, 198.51.100.7/32",
        "IPv6 open to itself, 2001:db8::/64",
    ]


def test_a_rule_of_somebody_else_is_shown_as_it_is_and_one_that_is_missing_opens_all(tmp_path: Path) -> None:
    firewall(tmp_path, "set")
    (tmp_path / "bin" / "iptables.more").write_text("-A HYBRID_MESH_METRICS -s 203.0.113.9/32 -p tcp -j ACCEPT\n")
    assert firewall(tmp_path, "show").splitlines()[0] == "IPv4 open to itself; -s 203.0.113.9/32 -p tcp -j ACCEPT"
    chain = tmp_path / "bin" / "iptables-restore.read"
    chain.write_text(chain.read_text().replace("-i lo -j RETURN", "-i lo -j DROP"))
    assert firewall(tmp_path, "show").startswith("IPv4 closed to all; -i lo -j DROP; ")
    chain.write_text("-A HYBRID_MESH_METRICS -i lo -j RETURN\n")
    assert firewall(tmp_path, "show").startswith("IPv4 open to all; ")


def test_no_rule_for_metrics_stays_also_where_there_were_several_or_none(tmp_path: Path) -> None:
    firewall(tmp_path, "clear")
    firewall(tmp_path, "set")
    (tmp_path / "bin" / "iptables.jumps").write_text("x\nx\n")
    firewall(tmp_path, "clear")
    for of in ("iptables", "ip6tables", "captured"):
        tool, chain = ("ip6tables", ".captured") if of == "captured" else (of, "")
        assert (tmp_path / "bin" / f"{tool}.jumps{chain}").read_text() == ""
        assert not (tmp_path / "bin" / f"{tool}-restore.read{chain}").exists()


CLOSED = "-A HYBRID_MESH_CAPTURED -p tcp --dport {} -j REJECT --reject-with tcp-reset"


@pytest.mark.parametrize(
    ("cluster_env", "rules"),
    [
        ("ISTIO_INBOUND_PORTS=8080,9090\n", [CLOSED.format(8080), CLOSED.format(9090)]),
        ("ISTIO_INBOUND_PORTS='8080,9090'\n", [CLOSED.format(8080), CLOSED.format(9090)]),
        (
            "ISTIO_INBOUND_PORTS='*'\nISTIO_LOCAL_EXCLUDE_PORTS=22,15090\n",
            [
                *(f"-A HYBRID_MESH_CAPTURED -p tcp --dport {port} -j RETURN" for port in (15006, 22, 15090)),
                "-A HYBRID_MESH_CAPTURED -p tcp -j REJECT --reject-with tcp-reset",
            ],
        ),
        ("ISTIO_INBOUND_PORTS=8080\nISTIO_CUSTOM_IP_TABLES=true\n", []),
        ("ISTIO_INBOUND_PORTS=''\n", []),
        ("ISTIO_INBOUND_PORTS='80 -j ACCEPT;x'\n", []),
        ("", []),
    ],
    ids=["a port each", "in quotes", "all", "a router", "none", "nonsense", "no file yet"],
)
def test_what_comes_by_ipv6_past_the_proxy_is_refused(tmp_path: Path, cluster_env: str, rules: list[str]) -> None:
    (tmp_path / "cluster.env").write_text(cluster_env)
    for _ in range(2):
        firewall(tmp_path, "set")
    read = (tmp_path / "bin" / "ip6tables-restore.read.captured").read_text().splitlines()
    assert read[:3] == ["*filter", ":HYBRID_MESH_CAPTURED - [0:0]", "-A HYBRID_MESH_CAPTURED -i lo -j RETURN"]
    assert read[3:] == [*rules, "COMMIT"]
    inserted = [line for line in (tmp_path / "bin" / "ip6tables.asked").read_text().splitlines() if "--syn" in line]
    assert inserted.count("-w 10 -I INPUT 1 -p tcp --syn -j HYBRID_MESH_CAPTURED") == 1
    assert not (tmp_path / "bin" / "iptables-restore.read.captured").exists(), "Istio always captures IPv4"


PEERS = """
set -e
unshare --net sleep 50 & peer=$!
trap 'kill $peer $server 2>/dev/null' EXIT
until [ "$(readlink /proc/$peer/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link set lo up
ip link add v0 type veth peer name v1 netns $peer
ip -6 addr add 2001:db8::1/64 dev v0 nodad
ip link set v0 up
nsenter -t $peer -n sh -c 'ip -6 addr add 2001:db8::2/64 dev v1 nodad; ip link set v1 up'
python3 -c '
import socket, time
held = [socket.create_server(("::", port), family=socket.AF_INET6) for port in (22, 8080, 15006)]
print("listens", flush=True)
time.sleep(50)' >listens & server=$!
until [ -s listens ]; do sleep 0.01; done
reached() {
    $1 python3 -c '
import contextlib, socket
for port in (22, 8080, 15006):
    with contextlib.suppress(OSError):
        socket.create_connection(("2001:db8::1", port), 4).close()
        print(port, end=" ")
print()'
}
for verb in '' set clear; do
    [ -z "$verb" ] || sh ./firewall.sh $verb
    reached "nsenter -t $peer -n"
done
sh ./firewall.sh set
reached ''
if [ "$1" = captured ]; then
    ip6tables -t nat -A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 15006
    reached "nsenter -t $peer -n"
fi
"""


@as_root
@needs_namespaces
@pytest.mark.skipif(shutil.which("ip6tables") is None, reason="iptables is not installed")
@pytest.mark.parametrize("ports", ["8080", "'*'"])
def test_the_kernel_refuses_it_and_lets_through_what_istio_captures(tmp_path: Path, ports: str) -> None:
    (tmp_path / "cluster.env").write_text(f"ISTIO_INBOUND_PORTS={ports}\nISTIO_LOCAL_EXCLUDE_PORTS=22\n")
    text = (SCRIPTS / "firewall.sh").read_text()
    (tmp_path / "firewall.sh").write_text(text.replace("/var/lib/istio/envoy/cluster.env", "cluster.env"))
    command = ["unshare", "--net", "sh", "-c", PEERS, "peers", "captured"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    said = [line.split() for line in done.stdout.splitlines()]
    every, closed = ["22", "8080", "15006"], ["22", "15006"]
    assert said == [every, closed, every, every, every], f"before, set, clear, itself, captured; {done.stderr}"


def test_a_machine_without_ipv6_has_rules_of_the_other_family_alone(tmp_path: Path) -> None:
    firewall(tmp_path, "set", "192.0.2.0/24", tools=("iptables",))
    assert not (tmp_path / "bin" / "ip6tables-restore.read").exists()
    assert firewall(tmp_path, "show", tools=("iptables",)) == "IPv4 open to itself, 192.0.2.0/24\n"
    firewall(tmp_path, "clear", tools=("iptables",))


def test_metrics_are_closed_after_a_host_has_loaded_its_own_rules() -> None:
    order = re.search(r"^After=(.*)$", function("join.sh", "metrics_unit"), re.MULTILINE)
    assert order
    assert {"iptables.service", "nftables.service", "netfilter-persistent.service"} <= set(order[1].split())
