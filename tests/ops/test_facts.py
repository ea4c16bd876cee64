"""How the probe's sections are read."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hybridmesh import remote
from hybridmesh.ops.facts import ProbeError, drift, environment, facts, requests_by_cluster, sections
from tests.environment import as_root
from tests.ops.probed import (
    CERTS,
    HOST,
    IDENTITY,
    MANIFEST,
    NOW,
    TRACKED,
    TRACKER,
    certificate,
    claims,
    machine_facts,
    private_key,
    probe_output,
    unit,
)

CHANGES = [
    ("package istio-sidecar\tinstalled 1.30.0", "package istio-sidecar: now installed 1.30.0, was installed 1.31.0"),
    ("file /etc/istio/config/mesh\tfedcba9876543210 640 root:istio-proxy", "file /etc/istio/config/mesh: edited"),
    (
        "file /etc/istio/config/mesh\t0123456789abcdef 644 root:root",
        "file /etc/istio/config/mesh: mode 644 root:root, was 640 root:istio-proxy",
    ),
    (
        "file /etc/istio/config/mesh\tfedcba9876543210 644 root:root",
        "file /etc/istio/config/mesh: edited and mode 644 root:root, was 640 root:istio-proxy",
    ),
    ("file /etc/istio/config/mesh\tabsent", "file /etc/istio/config/mesh: removed"),
    ("unit istio.service\tdisabled", "unit istio.service: now disabled, was enabled"),
    ("unit istio.service\t", "unit istio.service: now nothing, was enabled"),
    (
        "file /etc/systemd/system/istio.service.d/hybrid-mesh-limits.conf\t0123456789abcdef",
        "file /etc/systemd/system/istio.service.d/hybrid-mesh-limits.conf: added",
    ),
]


def test_a_machine_that_is_well_is_read_whole() -> None:
    found = machine_facts()
    assert found.clock == NOW
    assert found.unit("istio.service").sub == "running"
    assert not found.unit("no.service").loaded
    assert found.certificate is not None
    assert found.certificate.identities == (IDENTITY,)
    assert found.expiry == NOW + timedelta(hours=23)
    assert found.token_expiry == NOW - timedelta(hours=1)
    assert found.holder(8080) == "echo-app"
    assert found.holder(1) is None
    assert found.outbound == {f"outbound|8080|vm|{HOST}": 7}
    assert found.drift == ()


def test_a_machine_of_which_there_is_nothing_is_read_too() -> None:
    empty = {name: "" for name in sections(probe_output()) if name not in ("clock", "end", "ready")}
    found = facts(probe_output(empty | {"ready": "no"}))
    assert not found.joined
    assert found.certificate is None
    assert found.expiry is None
    assert found.token_expiry is None
    assert found.drift == ()


@pytest.mark.parametrize("output", ["", "sh: not found", probe_output().partition("@@ end")[0]])
def test_an_answer_that_was_cut_off_is_refused(output: str) -> None:
    with pytest.raises(ProbeError, match="did not come to its end"):
        facts(output)


def test_an_answer_without_one_of_its_parts_is_refused() -> None:
    with pytest.raises(ProbeError, match="cannot be read: 'joined'"):
        facts(probe_output().replace("@@ joined\nyes\n", ""))


@pytest.mark.parametrize(
    "changes",
    [
        {"clock": "noon"},
        {"addresses": "none"},
        {"clock": "9" * 30},
        {"certs": "<html>"},
        {"certs": "[]"},
        {"certs": "[" * 100_000},
        {"certs": '{"certificates": null}'},
        {"certs": json.dumps(CERTS).replace("T11:00:00Z", "")},
        {"gateways": "what"},
    ],
    ids=lambda changes: " ".join(f"{name}: {text[:30]}" for name, text in changes.items()),
)
def test_an_answer_that_is_none_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ProbeError, match="cannot be read"):
        facts(probe_output(changes))


@pytest.mark.parametrize("damaged", ["-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----", "nothing"])
def test_a_certificate_that_cannot_be_read_is_none(damaged: str) -> None:
    assert machine_facts({"certificate": damaged}).certificate is None


ENDLESS = base64.urlsafe_b64encode(b'{"sub": "x", "aud": [], "exp": Infinity}').decode()


@pytest.mark.parametrize("damaged", ["!", "e30", "W10", claims(NOW)[:-9], ENDLESS])
def test_claims_that_cannot_be_read_are_none(damaged: str) -> None:
    assert machine_facts({"claims": damaged}).token_expiry is None


def test_the_certificate_that_envoy_uses_counts_before_that_on_disk() -> None:
    old = certificate(begin=NOW - timedelta(hours=30), end=NOW - timedelta(hours=6), identity=IDENTITY)
    assert machine_facts({"certificate": old}).expiry == NOW + timedelta(hours=23)
    assert machine_facts({"certificate": old, "certs": ""}).expiry == NOW - timedelta(hours=6)


def test_of_the_certificates_that_envoy_uses_the_first_to_end_counts() -> None:
    (whole,) = CERTS["certificates"][0]["cert_chain"]
    soon = {"subject_alt_names": [{"uri": f"{IDENTITY}-2"}], "expiration_time": "2026-11-25T15:00:00Z"}
    root = {"subject_alt_names": [{"uri": "spiffe://root"}], "expiration_time": "2026-11-25T13:00:00Z"}
    both = {"certificates": [{"cert_chain": [whole, root]}, {"cert_chain": [soon]}, {"ca_cert": []}]}
    assert machine_facts({"certs": json.dumps(both)}).expiry == NOW + timedelta(hours=3)


def test_variables_lose_their_quotes_and_nothing_else() -> None:
    text = "A=b\n# no=B\nnothing\nB='x y'\nC=''\nD='it'\"'\"'s'\nE='{\"a\":1}'\n"
    assert environment(text) == {"A": "b", "B": "x y", "C": "", "D": "it's", "E": '{"a":1}'}


def test_requests_are_summed_over_a_clusters_endpoints() -> None:
    text = "a::10.0.0.1:80::rq_total::3\na::10.0.0.2:80::rq_total::4\na::10.0.0.2:80::cx_total::9\n"
    text += "b::[::1]:80::rq_total::1\n"
    text += f"c::10.0.0.1:80::rq_total::{'9' * 5000}\n"
    assert requests_by_cluster(text) == {"a": 7, "b": 1}


@pytest.mark.parametrize(("line", "said"), CHANGES)
def test_each_change_by_hand_is_said_in_words(line: str, said: str) -> None:
    name = line.partition("\t")[0]
    now = "\n".join(line if old.startswith(f"{name}\t") else old for old in MANIFEST.splitlines())
    assert drift(MANIFEST, now) == (said,)


def test_of_what_the_machine_cannot_tell_it_is_said_that_it_is_not_known() -> None:
    lines = [line for line in MANIFEST.splitlines() if not line.startswith("file /etc/istio/config/mesh")]
    said = "file /etc/istio/config/mesh: now unknown, was 0123456789abcdef 640 root:istio-proxy"
    assert drift(MANIFEST, "\n".join(lines)) == (said,)
    assert drift("file /a\tunreadable\n", "file /a\t0123456789abcdef 640 root:root\n") == (
        "file /a: now 0123456789abcdef 640 root:root, was unreadable",
    )


def test_nothing_is_said_of_what_no_join_noted() -> None:
    assert drift("", MANIFEST) == ()
    assert drift(MANIFEST, MANIFEST + "file /new\tabsent\n") == ()


def test_the_probe_runs_on_a_machine_without_istio_and_can_be_read() -> None:
    """Here, whatever machine this is: it changes nothing."""
    done = subprocess.run(
        ["sh", "-s"], input=remote.probe("no.such.name"), capture_output=True, text=True, timeout=60, check=True
    )
    assert not facts(done.stdout).joined
    assert set(sections(probe_output())) <= set(sections(done.stdout))


SIGNATURE = "c2lnbmF0dXJl"
PROGRAMS = {
    "systemctl": 'case $1 in show) cat "$0.said" ;; *) echo hybrid-mesh-start-1.service ;; esac',
    "dpkg-query": "echo 'unknown ok not-installed'; exit 1",
    "rpm": "echo installed 1.31.0-1",
    "ip": """
        echo '1: lo    inet 127.0.0.1/8 scope host lo'
        echo '2: eth0    inet6 2001:db8::11/64 scope global'
        echo '2: eth0    inet 192.0.2.11/24 brd 192.0.2.255 scope global eth0'""",
    "ss": """
        case $* in
            -Hltnp)
                echo 'LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))'
                echo 'LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=1,fd=3))'
                echo 'LISTEN 0 128 127.0.0.1:15000 0.0.0.0:* users:(("envoy",pid=7,fd=1))' ;;
            *) echo '0 0 192.0.2.11:40000 192.0.2.100:15012'; echo '0 0 [2001:db8::11]:40000 [2001:db8::100]:15012' ;;
        esac""",
    "curl": """
        case $* in
            */certs) cat "$0.said" ;;
            */stats*) echo 'server.uptime: 100'; echo 'listener_manager.listener_create_failure: 0' ;;
            */clusters)
                echo 'outbound|8080|vm|echo::192.0.2.11:8080::rq_total::7'
                echo 'outbound|8080|vm|echo::192.0.2.11:8080::cx_total::2'
                echo 'inbound|8080||::default_priority::max_connections::4294967295'
                echo 'inbound|8080||::high_priority::max_connections::1024'
                echo 'inbound|8080||::127.0.0.1:8080::cx_total::2'
                echo 'inbound|8080||::127.0.0.1:8080::rq_total::5'
                echo 'inbound|9090||::default_priority::max_connections::4294967295'
                echo 'inbound|9090||::[2001:db8::11]:9090::rq_total::5' ;;
        esac""",
    "iptables-save": "echo ':ISTIO_OUTPUT - [0:0]'; echo '-A OUTPUT -j ISTIO_OUTPUT'; echo '-A OUTPUT -j OTHER'",
    "iptables-legacy-save": "",
    "iptables-nft-save": f"echo '-A PREROUTING -j ISTIO_INBOUND'; echo '{TRACKED}'",
    "bash": '[ "$4" = 15012 ] || { echo Connection refused >&2; exit 1; }',  # as can_connect asks it
    "setpriv": 'shift 5; exec "$@"',  # as_proxy
    "getent": "if [ $1 = ahosts ]; then echo '240.240.0.1 STREAM'; echo '240.240.0.1 DGRAM'; fi",
    "df": """
        echo 'Filesystem 1024-blocks Used Available Capacity Mounted on'
        echo '/dev/vda1 1000 600 400 60% /'; echo '/dev/vda1 1000 600 400 60% /'
        [ $1 = -Pk ] || echo 'none 0 0 0 - /run'""",
}
"""What a machine's programs answer, one each."""


def probed_machine(folder: Path, *, bundle: bool = False, links: Sequence[str] = (), proxy: str = "") -> str:
    """What the probe prints of a machine that is `folder`. Of `links`, each leads to a file of root's; `proxy` makes a
    process the proxy's, which is nobody else than we unless given."""
    denied = "GET / 403 rbac_access_denied_x\nNR filter_chain_not_found"
    log = f"first\n{denied}\ntoken eyJh.{claims(NOW)}.{SIGNATURE}\n{private_key()}@@ end\n"
    files = {
        "etc/shadow": "root:of.root.alone:rbac_access_denied\n",
        "etc/os-release": 'ID="rocky"\nVERSION_ID="9.4"\nPLATFORM_ID=x\n',
        "etc/hosts": "127.0.0.1 localhost\n# BEGIN hybrid-mesh\n192.0.2.100 istiod.x.svc\n# END hybrid-mesh\n::1 x\n",
        "etc/resolv.conf": "search x\nnameserver 192.0.2.53\n",
        "etc/certs/key.pem": private_key(),
        "etc/certs/cert-chain.pem": certificate(identity=IDENTITY),
        "etc/certs/root-cert.pem": certificate(),
        "run/secrets/tokens/istio-token": f"eyJhbGciOiJub25lIn0.{claims(NOW)}.{SIGNATURE}",
        "var/lib/istio/envoy/cluster.env": "A='b c'\n",
        "var/lib/hybrid-mesh/before/folders": "",
        "var/lib/hybrid-mesh/generation": "0a1b2c\n",
        "var/lib/hybrid-mesh/hosts": "east.example.com istiod.x.svc\n",
        "var/lib/hybrid-mesh/manifest": MANIFEST,
        "var/lib/hybrid-mesh/scripts/manifest.sh": f"cat <<'X'\n{MANIFEST.replace('enabled', 'disabled')}X\n",
        "var/lib/hybrid-mesh/scripts/settings/accept": "clock\n",
        "var/log/istio/istio.log": log,
        "var/log/istio/istio.err.log": "last\n",
        "bin/systemctl.said": f"{unit()}\n\n{TRACKER}\n",
        "bin/curl.said": json.dumps(CERTS),
        **{f"bin/{name}": f"#!/bin/sh\n{text}\n" for name, text in PROGRAMS.items()},
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o700 if name.startswith("bin/") else 0o600)
    for name in links:
        (folder / name).unlink()
        (folder / name).symlink_to(folder / "etc/shadow")
    if proxy:
        (folder / "bin/setpriv").write_text(f'#!/bin/sh\nshift 5\nexec {proxy} "$@"\n')
    script = re.sub(r"/(?:etc|var|run/secrets)/", rf"{folder}\g<0>", remote.probe("echo.x", bundle=bundle))
    script = script.replace("PATH=/usr", f"PATH={folder}/bin:/usr", 1)
    return subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_probe_finds_what_is_there(tmp_path: Path) -> None:
    found = facts(probed_machine(tmp_path))
    assert (found.version, found.joined, found.generation) == ("1.31.0-1", True, "0a1b2c")
    assert (found.starting, found.ready, found.accepted) == (True, True, ("clock",))
    assert found.unit("istio.service").active == "active"
    assert found.unit("hybrid-mesh-conntrack.service").sub == "exited"
    assert set(found.addresses) == {"127.0.0.1", "192.0.2.11", "2001:db8::11"}
    assert (found.hosts, found.hosts_wanted) == (
        (("192.0.2.100", "istiod.x.svc"),),
        (("east.example.com", "istiod.x.svc"),),
    )
    assert found.environment == {"A": "b c"}
    assert found.certificate is not None
    assert (found.certificate.identities, len(found.roots), set(found.envoy_expiry)) == ((IDENTITY,), 1, {IDENTITY})
    assert found.key_mode.startswith("600 ")
    assert (found.rules, found.keeps_tracking) == (2, True), "of both kinds of iptables"
    assert [(found.holder(port), port) for port in (22, 15000, 8080)] == [("sshd", 22), ("envoy", 15000), (None, 8080)]
    assert {(each.address, each.port) for each in found.listeners} == {
        ("0.0.0.0", 22),
        ("::", 22),
        ("127.0.0.1", 15000),
    }
    assert [(r.address, r.port, r.result) for r in (*found.gateways, *found.nameservers)] == [
        ("192.0.2.100", 15012, "open"),
        ("192.0.2.53", 53, "connection refused"),
    ]
    assert found.mesh_name == ("240.240.0.1",)
    assert [disk.model_dump() for disk in (*found.disks, *found.inodes)] == [
        {"path": "/", "size": 1000, "free": 400}
    ] * 2
    assert (found.stats, found.outbound) == ({"server.uptime": "100"}, {"outbound|8080|vm|echo": 7})
    assert found.inbound == {8080: ("127.0.0.1:8080",), 9090: ("[2001:db8::11]:9090",)}
    assert found.read_only == (), "of the folders that are there"
    assert found.denied == ("GET / 403 rbac_access_denied_x",)
    assert found.unmatched == ("NR filter_chain_not_found",)
    assert found.drift == ("unit istio.service: now disabled, was enabled",)
    shown = ("token <token>", "<private key taken out>", " @@ end", "last")
    assert found.log == ("first", "GET / 403 rbac_access_denied_x", "NR filter_chain_not_found", *shown)


def test_no_secret_leaves_the_machine_with_what_the_probe_finds(tmp_path: Path) -> None:
    said = probed_machine(tmp_path, bundle=True)
    assert "log/istio.log" in sections(said)
    assert sections(said)["log/istio.log"].count("<private key taken out>") == 1
    for secret in (SIGNATURE, *private_key().splitlines()[1:-1]):
        assert secret not in said


@as_root
def test_the_probe_shows_nothing_of_root_s_by_a_link_in_a_folder_of_the_proxy_s() -> None:
    logs = ("var/log/istio/istio.log", "var/log/istio/istio.err.log")
    others = ("etc/certs/cert-chain.pem", "etc/certs/root-cert.pem", "run/secrets/tokens/istio-token")
    with tempfile.TemporaryDirectory() as made:  # pytest's own are root's alone
        Path(made).chmod(0o755)
        nobody = "/usr/bin/setpriv --reuid 65534 --regid 65534 --clear-groups"
        said = probed_machine(Path(made), bundle=True, links=(*logs, *others), proxy=nobody)
    assert "log/istio.log" in sections(said)
    assert "of.root.alone" not in said


def test_half_a_page_of_a_slow_envoy_hides_nothing_else() -> None:
    half = json.dumps(CERTS)[:40]
    found = machine_facts({"certs": half, "unread": "certs", "certificate": certificate(end=NOW)})
    assert (found.envoy_expiry, found.expiry) == ({}, NOW), "the one on its disk"
    with pytest.raises(ProbeError, match="cannot be read"):
        machine_facts({"certs": half})


def test_the_probe_tells_what_failed_from_what_is_not_there(tmp_path: Path) -> None:
    def looked(**tools: str) -> frozenset[str]:
        for name, does in tools.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
            (tmp_path / name).chmod(0o755)
        script = re.sub("^PATH=", f"PATH={tmp_path}:", remote.probe(""), flags=re.MULTILINE)
        done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, timeout=60, check=True)
        return facts(done.stdout).unread & asked

    asked = {"units", "starting", "ready", "rules", "listeners", "addresses", "manifest", "system"}
    tools = {"systemctl": ":", "curl": "exit 7", "ss": ":", "ip": ":", "iptables-legacy-save": "exit 1"}
    nat = {"iptables-nft-save": "echo '-A OUTPUT -j ISTIO_OUTPUT'", "iptables-save": "exit 1"}
    assert looked(**tools, **nat) == set(), "that the proxy is not ready is an answer, too"
    failing = dict.fromkeys(("systemctl", "ss", "ip"), "echo half; exit 1")
    unread = {"units", "starting", "ready", "rules", "listeners", "addresses"}
    assert looked(**failing, **{"curl": "exit 127", "iptables-nft-save": "exit 124"}) == unread
    assert "rules" in looked(**{"iptables-nft-save": "exit 1"}), "none of them answers"


@pytest.mark.parametrize("tracked", [True, False])
def test_the_rule_that_tracks_connections_is_told_from_others(tmp_path: Path, tracked: bool) -> None:
    nat = f":HYBRID_MESH - [0:0]\n-A OUTPUT -j ISTIO_OUTPUT\n{TRACKED if tracked else ''}"
    for kind, does in {"-legacy": f"echo '{nat}'", "-nft": "exit 1", "": "exit 1"}.items():
        (tmp_path / f"iptables{kind}-save").write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / f"iptables{kind}-save").chmod(0o755)
    script = re.sub("^PATH=", f"PATH={tmp_path}:", remote.probe(""), flags=re.MULTILINE)
    text = script.replace("\nmain </dev/null\n", "\nrules\n")
    shown = subprocess.run(["sh", "-s"], input=text, capture_output=True, text=True, timeout=60, check=True).stdout
    found = machine_facts({"rules": shown})
    assert (found.rules, found.keeps_tracking) == (1, tracked)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_the_probe_names_the_folders_that_root_cannot_write_to(tmp_path: Path) -> None:
    for name in ("etc/certs", "var/log/istio"):
        (tmp_path / name).mkdir(parents=True)
    script = re.sub(r"/(?:etc|var)/", rf"{tmp_path}\g<0>", remote.probe(""))
    text = script.replace("\nmain </dev/null\n", f"\nmount -t tmpfs -o ro tmpfs {tmp_path}/etc/certs\nread_only\n")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-s"], input=text, capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == f"{tmp_path}/etc/certs\n"


@pytest.mark.parametrize("shell", ["bash", "python3"])
def test_the_probe_tells_an_open_port_from_a_closed_one_with_what_is_there(tmp_path: Path, shell: str) -> None:
    for name in ("cut", "getent", "id", "sed", "setpriv", "timeout", shell):
        if found := sys.executable if name == "python3" else shutil.which(name):
            (tmp_path / name).symlink_to(Path(found).resolve())
    script = re.sub("^PATH=.*$", f"PATH={tmp_path}", remote.probe(""), flags=re.MULTILINE)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (server, closed)]
        asked = "".join(f"open_port 127.0.0.1 {port}\n" for port in ports)
        text = script.replace("\nmain </dev/null\n", f"\n{asked}")
        said = subprocess.run(["/bin/sh", "-s"], input=text, capture_output=True, text=True, timeout=30, check=True)
    assert said.stdout == f"127.0.0.1 {ports[0]} open\n127.0.0.1 {ports[1]} connection refused\n"


ISTIOD = "istiod.istio-system.svc"
BEGUN, TOMORROW = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(days=1)
GOOD = certificate(begin=BEGUN, end=TOMORROW, host=ISTIOD)
ENDED = certificate(begin=BEGUN, end=BEGUN + timedelta(minutes=1), host=ISTIOD)
STRANGER = certificate("stranger", begin=BEGUN, end=TOMORROW, host=ISTIOD)
FOR_ANOTHER = certificate(begin=BEGUN, end=TOMORROW, host="other.svc")


@pytest.mark.parametrize(
    ("shows", "root", "said"),
    [
        (GOOD, GOOD, r"open"),
        (STRANGER, GOOD, r"refused: SSL certificate problem: .+"),
        (ENDED, ENDED, r"refused: SSL certificate problem: certificate has expired"),
        (FOR_ANOTHER, FOR_ANOTHER, r"refused: SSL: .*does not match.*|refused: SSL: no alternative certificate .+"),
        ("reset", GOOD, r"broken off: .+"),
        ("silence", GOOD, r"no answer within 6 s"),
        (GOOD, "", None),
        (GOOD, "no certificate", None),
    ],
    ids=["good", "stranger", "ended", "for another", "reset", "silence", "no root", "damaged root"],
)
def test_the_probe_tells_whether_tls_with_istiod_comes_about(
    tmp_path: Path, shows: str, root: str, said: str | None
) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs/root-cert.pem").write_text(root)
    (tmp_path / "hosts").write_text(f"# BEGIN hybrid-mesh\n127.0.0.1 {ISTIOD}\n# END hybrid-mesh\n")
    (tmp_path / "shown.pem").write_text(shows + private_key())
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as kept:

        def serve() -> None:
            with suppress(OSError):  # the test's end
                while connection := kept.enter_context(server.accept()[0]):
                    if shows == "reset":
                        connection.recv(1)
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        connection.close()
                    elif shows != "silence":
                        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                        context.load_cert_chain(tmp_path / "shown.pem")
                        with suppress(OSError):
                            context.wrap_socket(connection, server_side=True).close()

        threading.Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        script = re.sub(r"/etc/(hosts|certs)\b", rf"{tmp_path}/\1", remote.probe("")).replace("15012", str(port))
        waits = "--max-time 1" if shows == "silence" else "--max-time 20"
        text = script.replace("--max-time 6", waits).replace("\nmain </dev/null\n", "\nhandshakes\n")
        done = subprocess.run(["/bin/sh", "-s"], input=text, capture_output=True, text=True, timeout=30, check=True)
        server.shutdown(socket.SHUT_RDWR)
    assert re.fullmatch(f"127.0.0.1 {port} (?:{said})\n" if said else "", done.stdout), done.stdout


def test_the_probe_asks_nobody_for_tls_who_takes_no_connection(tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs/root-cert.pem").write_text(GOOD)
    (tmp_path / "hosts").write_text(f"# BEGIN hybrid-mesh\n127.0.0.1 {ISTIOD}\n# END hybrid-mesh\n")
    script = re.sub(r"/etc/(hosts|certs)\b", rf"{tmp_path}/\1", remote.probe(""))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        script = script.replace("15012", str(closed.getsockname()[1]))
        text = script.replace("\nmain </dev/null\n", "\nhandshakes\n")
        done = subprocess.run(["/bin/sh", "-s"], input=text, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == ""


@pytest.mark.parametrize("answers", [True, False])
def test_a_name_server_that_answers_by_udp_alone_is_one(tmp_path: Path, *, answers: bool) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    asked = []
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            question, who = server.recvfrom(512)
            asked.append(question)
            server.sendto(question[:2] + b"\x81\x05" + question[4:], who)  # "refused"

        if answers:
            threading.Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        script = re.sub(r"\b53\b", str(port), remote.probe("").replace("/etc/resolv.conf", f"{tmp_path}/resolv.conf"))
        text = script.replace("timeout 3 bash", f"timeout {20 if answers else 1} bash").replace(
            "\nmain </dev/null\n", "\nnameservers\n"
        )
        said = subprocess.run(["/bin/sh", "-s"], input=text, capture_output=True, text=True, timeout=30, check=True)
    assert said.stdout == f"127.0.0.1 {port} {'open' if answers else 'connection refused'}\n"
    header, question = b"\x01\0\0\x01\0\0\0\0\0\0", b"\0\0\x02\0\x01"
    assert asked == ([b"hm" + header + question] if answers else [])


def test_files_that_were_written_with_tabs_are_read_as_others(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("# BEGIN hybrid-mesh\n127.0.0.1\tistiod.istio-system.svc\n# END hybrid-mesh\n")
    (tmp_path / "resolv.conf").write_text("nameserver\t127.0.0.2\noptions edns0\n")
    script = re.sub(r"/etc/(hosts|resolv\.conf)\b", rf"{tmp_path}/\1", remote.probe(""))
    text = script.replace("\nmain </dev/null\n", "\ngateways\nnameservers\n")
    said = subprocess.run(["/bin/sh", "-s"], input=text, capture_output=True, text=True, timeout=30, check=True)
    assert [line.split(" ", 2)[:2] for line in said.stdout.splitlines()] == [
        ["127.0.0.1", "15012"],
        ["127.0.0.2", "53"],
    ]


def test_what_the_probe_is_told_is_data() -> None:
    text = remote.probe("$(touch /tmp/x)'; exit 1; '", bundle=True)
    assert text.splitlines()[0] == """MESH_NAME='$(touch /tmp/x)'"'"'; exit 1; '"'"''"""
    assert text.splitlines()[1] == "BUNDLE=yes"


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        (
            "a\n-----BEGIN EC PRIVATE KEY-----\nMHcC\nabc\n-----END EC PRIVATE KEY-----\nb\n",
            "a\n<private key taken out>\nb\n",
        ),
        ("{-----BEGIN PRIVATE KEY-----\\nMHcC\\n-----END PRIVATE KEY-----}\nb\n", "<private key taken out>\nb\n"),
        (f"{claims(NOW)}.x.-----BEGIN EC PRIVATE KEY-----\nMHcC\n", "<private key taken out>\n"),
        ("MHcC\nabc=\n-----END EC PRIVATE KEY-----\nb\n", "<private key taken out>\nb\n"),
        ("-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----\nvm\n", None),
        ("vm\nx86\ndebian\n", None),
    ],
)  # fmt: skip
def test_a_private_key_in_a_log_stays_on_the_machine(log: str, shown: str | None) -> None:
    script = (Path(remote.__file__).parent / "probe.sh").read_text()
    function = re.search(r"^without_keys\(\) \{\n.*?^\}\n", script, re.DOTALL | re.MULTILINE)
    assert function
    done = subprocess.run(
        ["sh", "-c", f"{function[0]}\nwithout_keys"], input=log, capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == (log if shown is None else shown)
