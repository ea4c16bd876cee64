"""Each check of a preflight by itself, with the system's answers in place of a system."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import get_args

import pytest

from hybridmesh import remote
from hybridmesh.istio.ports import PROXY_PORTS
from hybridmesh.remote.preflight import Found, Preflight, findings_in, notes_in, who_in
from hybridmesh.settings.models.sidecar import Check
from tests.remote.test_scripts import SCRIPTS, function

ADDRESSES = (
    "1: lo    inet 127.0.0.1/8 scope host lo\n"
    "2: eth0    inet 192.0.2.11/24 brd 192.0.2.255 scope global eth0\n"
    "3: eth1    inet6 fd00::5/64 scope global\n"
)


class Sandbox:
    """The functions of the scripts, with commands that the test defines; findings are what they find."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "settings").mkdir()
        self.said = ""

    def run(self, text: str, *, fakes: str = "", **settings: str) -> tuple[Found, ...]:
        for old in (self.folder / "settings").iterdir():
            old.unlink()
        for name, value in settings.items():
            (self.folder / "settings" / name.replace("_", "-")).write_text(f"{value}\n")
        preflight = (SCRIPTS / "preflight.sh").read_text().split("\nstep preflight\n")[0]
        preflight = preflight.replace('cd -- "$(dirname -- "$0")"', "").replace(
            ". ./checks.sh", f". {SCRIPTS}/checks.sh"
        )
        preflight = preflight.replace(". ./filter.sh", f". {SCRIPTS}/filter.sh")
        (self.folder / "lib.sh").write_text((SCRIPTS / "lib.sh").read_text())
        program = f"{preflight}\nSTATE=$PWD/state\n{fakes}\n{text}\nreport\n"
        done = subprocess.run(
            ["sh", "-c", program], cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        self.said = done.stderr
        found = findings_in(done.stderr)
        assert done.returncode == (1 if found else 0), done.stderr
        return found


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def one(found: tuple[Found, ...], check: str, *parts: str) -> None:
    assert len(found) == 1, found
    assert found[0].check == check
    for part in parts:
        assert part in f"{found[0].value}; {found[0].consequence} -> {found[0].remedy}"


def test_what_can_be_accepted_is_what_is_looked_at() -> None:
    assert set(get_args(Check)) == set(remote.CHECKS)
    scripts = "".join((SCRIPTS / name).read_text() for name in ("checks.sh", "preflight.sh"))
    for check in remote.CHECKS:
        assert f"finding {check} " in scripts or f"check={check} " in scripts, check


def test_findings_are_read_as_they_are_written(sandbox: Sandbox) -> None:
    found = sandbox.run("finding disk 'a; b -> [c]' 'it would not fit' 'free some (1; 2)'; finding ports x y z")
    assert found == (
        Found("disk", "a; b -> [c]", "it would not fit", "free some (1; 2)"),
        Found("ports", "x", "y", "z"),
    )
    assert "2 finding(s), nothing was changed" in sandbox.said


def test_a_finding_that_is_accepted_is_a_note_and_ssh_is_never_accepted(sandbox: Sandbox) -> None:
    assert sandbox.run("finding address a b c", accept="clock address") == ()
    assert notes_in(sandbox.said) == ("address: a; accepted",)
    one(sandbox.run("finding ssh a b c", accept="address"), "ssh")
    assert "ssh" not in remote.CHECKS
    assert "root" not in remote.CHECKS


@pytest.mark.parametrize(("machine", "good"), [("x86_64", True), ("aarch64", True), ("armv7l", False)])
def test_an_architecture_without_a_package_is_found(sandbox: Sandbox, machine: str, good: bool) -> None:
    found = sandbox.run("check_system", fakes=f"uname() {{ echo {machine}; }}")
    assert [f.check for f in found if f.check == "architecture"] == [] if good else ["architecture"]


@pytest.mark.parametrize(
    ("answer", "found"),
    [("echo glibc 2.36", ""), ("echo glibc 2.30", ""), ("echo glibc 2.9", "glibc 2.9"), ("false", "no GNU C library")],
)
def test_a_c_library_that_envoy_cannot_use_is_found(sandbox: Sandbox, answer: str, found: str) -> None:
    result = sandbox.run("check_libc", fakes=f"getconf() {{ {answer}; }}")
    if found:
        one(result, "libc", found, "Envoy would not start")
    else:
        assert result == ()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('[ "${SUDO_USER-}$1 $2 $3 $4" = "-n -E -u nobody" ] && shift 4 && "$@"', ""),
        ("echo 'sudo: sorry, you must have a tty to run sudo' >&2; return 1", "you must have a tty"),
        ("echo 'root is not in the sudoers file.' >&2; return 1", "not in the sudoers file"),
    ],
)
def test_a_sudo_that_would_not_start_the_proxy_is_found(sandbox: Sandbox, answer: str, found: str) -> None:
    result = sandbox.run("check_sudo", fakes=f'SUDO_USER=ann; timeout() {{ shift; "$@"; }}; sudo() {{ {answer}; }}')
    if found:
        one(result, "tools", found, "the proxy would not start", "/etc/sudoers")
    else:
        assert result == ()
    assert sandbox.run("check_sudo", fakes='command() { [ "$2" != sudo ]; }') == (), "it is installed later"
    assert sandbox.run("check_sudo", fakes="timeout() { return 124; }; sudo() { :; }") == (), "it waits for a resolver"


def test_a_sudo_that_hands_on_no_environment_is_found(sandbox: Sandbox) -> None:
    warned = "echo \"sudo-rs: preserving the entire environment is not supported, '-E' is ignored\" >&2"
    ignores = f'timeout() {{ shift; "$@"; }}; sudo() {{ {warned}; shift 4; env -i "$@"; }}'
    result = sandbox.run("check_sudo", fakes=ignores)
    one(result, "tools", "sudo -E keeps no environment", "without its settings", "/usr/bin/sudo.ws")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("running", ""),
        ("degraded", ""),
        ("starting", "still booting"),
        ("stopping", "systemd is stopping"),
        ("maintenance", "systemd is maintenance"),
        ("", "systemd is silent"),
    ],
)
def test_the_state_of_the_system_is_judged(sandbox: Sandbox, state: str, said: str) -> None:
    fakes = (
        f'timeout() {{ shift; "$@"; }}; systemctl() {{ case $1 in is-system-running) echo {state}; return 1 ;; '
        '*) echo "app.service loaded failed failed App" ;; esac; }; BOOT_LIMIT=1'
    )
    found = sandbox.run("check_init", fakes=fakes)
    if said:
        one(found, "init", said)
    else:
        assert found == ()
    assert ("note: systemd is degraded: app.service" in sandbox.said) == (state == "degraded")


def test_a_boot_that_ends_while_one_waits_is_good(sandbox: Sandbox) -> None:
    fakes = "system_state() { if [ -e waited ]; then echo running; else : >waited; echo starting; fi; }"
    assert sandbox.run("check_init", fakes=fakes) == ()


def test_a_full_disk_is_found(sandbox: Sandbox) -> None:
    full = "df() { printf 'head\\n/dev/x 100 50 204800 50%% /\\n'; }"
    found = sandbox.run("check_disk", fakes=full)
    assert {f.value for f in found} == {"200 MiB free at /usr/local", "200 MiB free at /var/lib"}


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("192.0.2.11", ""),
        ("fd00::5", ""),
        ("192.0.2.12", "on no interface that is up (eth0=192.0.2.11 eth1=fd00::5)"),
        ("127.0.0.1", "loopback"),
    ],
)
def test_a_mesh_address_that_is_not_here_is_found(sandbox: Sandbox, address: str, said: str) -> None:
    found = sandbox.run("check_address", fakes=f"ip() {{ cat <<'END'\n{ADDRESSES}END\n}}", mesh_address=address)
    if said:
        one(found, "address", said, "meshAddress")
    else:
        assert found == ()


@pytest.mark.parametrize(
    ("holder", "found"),
    [
        ('0.0.0.0:15001 0.0.0.0:* users:(("haproxy",pid=7,fd=3))', "port 15001"),
        ('[::]:15090 [::]:* users:(("node",pid=7,fd=3))', "port 15090"),
        ('0.0.0.0:8080 0.0.0.0:* users:(("app",pid=7,fd=3))', ""),
    ],
)
def test_a_port_of_the_proxy_that_another_holds_is_found(sandbox: Sandbox, holder: str, found: str) -> None:
    result = sandbox.run("check_ports", fakes=f"ss() {{ echo 'LISTEN 0 128 {holder}'; }}")
    if found:
        one(result, "ports", found, "is held by users")
    else:
        assert result == ()


@pytest.mark.parametrize(
    ("program", "package"),
    [("iptables", "iptables"), ("sudo", "sudo"), ("hostname", "hostname"), ("ip", "iproute2"), ("cmp", "diffutils")],
)
def test_a_program_that_the_join_needs_and_that_is_not_here_is_installed(
    sandbox: Sandbox, program: str, package: str
) -> None:
    fakes = f'command() {{ [ "$2" != {program} ]; }}; package_family() {{ echo deb; }}'
    assert sandbox.run('[ "$(missing_packages)" = ' + package + " ]", fakes=fakes) == ()


@pytest.mark.parametrize("folder", ["/usr/local", "/lib/systemd/system", "/etc", "/var/lib", "/var/log"])
def test_a_folder_that_the_join_or_the_package_writes_and_that_is_read_only_is_found(
    sandbox: Sandbox, folder: str
) -> None:
    text = function("checks.sh", "check_writable").replace(f" {folder}", " ./nowhere", 1)
    for other in ("/usr/local", "/lib/systemd/system", "/etc", "/var/lib", "/var/log"):
        text = text.replace(f" {other}", " .", 1)
    one(sandbox.run("check_writable", fakes=f"{text}\ncheck_hosts() {{ :; }}"), "disk", "./nowhere is read-only")


def test_a_hosts_file_that_cannot_be_replaced_is_found(sandbox: Sandbox) -> None:
    hosts = sandbox.folder / "etc-hosts"
    one(sandbox.run("check_hosts", fakes=f"HOSTS={hosts}"), "disk", f"{hosts} cannot be written", f"chattr -i {hosts}")
    hosts.write_text("127.0.0.1 localhost\n")
    assert sandbox.run("check_hosts", fakes=f"HOSTS={hosts}") == ()
    one(sandbox.run("check_hosts", fakes="HOSTS=/dev/shm"), "disk", "/dev/shm is a mount of its own", "umount /dev/shm")
    hosts.write_text("# BEGIN hybrid-mesh\n192.0.2.1 istiod\n# END hybrid-mesh\n")
    assert sandbox.run("check_hosts", fakes=f"HOSTS={hosts}; awk() {{ :; }}") == (), "a member's may be right"


def test_a_port_at_which_a_gateway_machine_s_proxy_listens_is_one_of_the_proxy_s(sandbox: Sandbox) -> None:
    fakes = """ss() { echo 'LISTEN 0 128 0.0.0.0:15443 0.0.0.0:* users:(("haproxy",pid=7,fd=3))'; }"""
    assert sandbox.run("check_ports", fakes=fakes) == ()
    one(sandbox.run("check_ports", fakes=fakes, proxy_ports="15443"), "ports", "port 15443", "is held by users")


def test_the_ports_of_the_proxy_are_the_same_to_the_doctor_and_to_the_settings(sandbox: Sandbox) -> None:
    sandbox.run("echo ports: $PROXY_PORTS >&2")
    assert f"ports: {' '.join(map(str, PROXY_PORTS))}\n" in sandbox.said


def test_ports_of_our_own_proxy_are_no_conflict(sandbox: Sandbox) -> None:
    (sandbox.folder / "state/before").mkdir(parents=True)
    ours = 'LISTEN 0 128 0.0.0.0:15001 0.0.0.0:* users:(("envoy",pid=7,fd=3))'
    assert sandbox.run("check_ports", fakes=f"ss() {{ echo '{ours}'; }}") == ()


NO_ISTIO = "installed_version() { :; }; systemctl() { return 1; }; "


def test_leftovers_of_another_installation_are_found(sandbox: Sandbox) -> None:
    getent = "getent() { [ $1 = group ]; }"
    assert sandbox.run("check_leftovers", fakes=NO_ISTIO + "getent() { return 2; }") == ()
    one(sandbox.run("check_leftovers", fakes=NO_ISTIO + getent), "leftovers", "group istio-proxy exists", "groupdel")
    of_nobody = "getent() { [ $1 = passwd ]; }; id() { echo nogroup; }"
    one(sandbox.run("check_leftovers", fakes=NO_ISTIO + of_nobody), "leftovers", "of group nogroup", "usermod -g")
    for group in ("istio-proxy", "users"):
        both = f"getent() {{ :; }}; id() {{ echo {group}; }}"
        assert sandbox.run("check_leftovers", fakes=NO_ISTIO + both) == (), "the package goes by the group's name"
    other = "installed_version() { echo 1.18.0; }; systemctl() { return 1; }; getent() { return 2; }"
    one(sandbox.run("check_leftovers", fakes=other), "leftovers", "an Istio that hybrid-mesh did not install")
    (sandbox.folder / "state/before").mkdir(parents=True)
    assert sandbox.run("check_leftovers", fakes=other) == ()


@pytest.mark.parametrize(
    ("env", "noted"),
    [("A=b\nPOD_NAME=vm-1\nZ=z\n", True), ("POD_NAME='vm-1'\n", True), ("POD_NAME='vm-9'\n", False), ("A=b\n", False)],
)
def test_a_machine_that_has_joined_by_another_name_is_told_of_and_is_good(
    sandbox: Sandbox, env: str, noted: bool
) -> None:
    (sandbox.folder / "cluster.env").write_text(env)
    text = "CLUSTER_ENV=cluster.env; LOG=/dev/null; tell_of_another_name"
    assert sandbox.run(text, machine="vm-9") == ()
    assert notes_in(sandbox.said) == (), "one that has never joined has another's file, not its own"
    (sandbox.folder / "state/before").mkdir(parents=True)
    assert sandbox.run(text, machine="vm-9") == ()
    assert [note.partition(":")[0] for note in notes_in(sandbox.said)] == ["it has joined as vm-1 before"] * noted
    assert sandbox.run(text.replace("cluster.env;", "nothing;"), machine="vm-9") == ()
    assert notes_in(sandbox.said) == ()


def who(sandbox: Sandbox, env: str, addresses: str = ADDRESSES, started: int = 1) -> list[str]:
    (sandbox.folder / "cluster.env").write_text(env)
    stat = " ".join(["1 (init (x)) S", *["0"] * 18, str(started), "0"])
    fakes = f"ip() {{ printf '%s' '{addresses}'; }}; CLUSTER_ENV=cluster.env; LOG=/dev/null; "
    fakes += f'sed() {{ case $2 in /proc/1/stat) echo "{stat}" | command sed "$1" ;; *) command sed "$@" ;; esac; }}'
    assert sandbox.run('log "who: $(who_it_is | paste -sd " " -)"', fakes=fakes) == ()
    return who_in(sandbox.said).split()


def test_who_a_machine_is_is_told_by_itself_and_by_what_it_has_joined_as(sandbox: Sandbox) -> None:
    env = "ISTIO_SVC_IP=192.0.2.11\nPOD_NAME='vm-1'\n"
    (itself,) = who(sandbox, env)
    assert re.fullmatch("[0-9a-f]{16}", itself)
    (sandbox.folder / "state/before").mkdir(parents=True)
    assert who(sandbox, env) == [itself, "vm-1@192.0.2.11"]
    copied = ADDRESSES.replace("192.0.2.11", "192.0.2.12")
    assert who(sandbox, env, copied) == [itself], "a copy is another machine"
    assert who(sandbox, "A=b\n") == [itself]
    assert who(sandbox, "A=b\n", started=2) != [itself], "another container of this host, in a namespace of that number"


# ---------------------------------------------------------------- names


def resolver(sandbox: Sandbox, *, resolv: str, hosts: str = "files dns", resolved: bool = False) -> tuple[Found, ...]:
    (sandbox.folder / "resolv.conf").write_text(resolv)
    (sandbox.folder / "nsswitch.conf").write_text(f"passwd: files\nhosts: {hosts}\n")
    text = function("preflight.sh", "check_resolver").replace("/etc/", f"{sandbox.folder}/")
    active = "0" if resolved else "3"
    fakes = f"{text}\nsystemctl() {{ return {active}; }}"
    return sandbox.run("check_resolver", fakes=fakes, dns_capture="true")


def test_queries_that_dns_capture_would_not_see_are_found(sandbox: Sandbox) -> None:
    assert resolver(sandbox, resolv="nameserver 127.0.0.53\n", resolved=True) == ()
    assert resolver(sandbox, resolv="nameserver 192.0.2.53\n", hosts="files resolve dns") == ()
    one(resolver(sandbox, resolv="search example.com\n"), "resolver", "names no server", "dnsCapture")
    past = resolver(
        sandbox, resolv="nameserver 127.0.0.53\n", hosts="files resolve [!UNAVAIL=return] dns", resolved=True
    )
    one(past, "resolver", "past port 53", "take the word resolve out")


def test_without_dns_capture_nobody_looks_at_resolv_conf(sandbox: Sandbox) -> None:
    assert sandbox.run("check_resolver") == ()


def test_a_gateway_s_name_without_an_address_is_found(sandbox: Sandbox) -> None:
    text = "echo 'gw.example.com istiod' >way; check_gateway_names way"
    one(sandbox.run(text, fakes="addresses_of() { :; }"), "resolver", "gw.example.com has no address")
    assert sandbox.run(text, fakes="addresses_of() { echo 192.0.2.9; }") == ()
    assert sandbox.run("echo '192.0.2.1 istiod' >way; check_gateway_names way") == ()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("192.0.2.9 istiod.istio-system.svc", "192.0.2.9"),
        ("192.0.2.9\tgateway istiod-v1-31.mesh.svc # by hand", "192.0.2.9"),
        ("192.0.2.1 istiod.istio-system.svc", ""),
        ("192.0.2.9 my-istiod.istio-system.svc", ""),
        ("# 192.0.2.9 istiod.istio-system.svc", ""),
        ("# BEGIN hybrid-mesh\n192.0.2.9 istiod.istio-system.svc\n# END hybrid-mesh", ""),
    ],
)
def test_a_line_of_others_that_leads_to_another_istiod_is_found(sandbox: Sandbox, line: str, found: str) -> None:
    hosts = sandbox.folder / "etc-hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{line}\n")
    text = "echo '192.0.2.1 istiod' >way; check_other_lines way"
    result = sandbox.run(text, fakes=f"HOSTS={hosts}")
    if found:
        one(result, "leftovers", f"{hosts} leads istiod", f"to {found}, by a line that is not of hybrid-mesh")
    else:
        assert result == ()
    named = text.replace("192.0.2.1", "gw.example.com")
    assert sandbox.run(named, fakes=f"HOSTS={hosts}; addresses_of() {{ echo 192.0.2.1; echo 192.0.2.9; }}") == ()
    assert sandbox.run(": >way; check_other_lines way", fakes=f"HOSTS={hosts}") == (), "nobody knows the gateway yet"


# ---------------------------------------------------------------- ways

ROUTE = "ip() { echo '192.0.2.1 dev eth0 src 192.0.2.11'; }; dropped_by() { :; }; "


def test_ports_of_the_gateway_that_cannot_be_reached_are_found_each(sandbox: Sandbox) -> None:
    refused = "can_connect() { echo 'bash: connect: Connection refused'; return 1; }"
    settings = {"gateway": "192.0.2.1", "gateway_timeout_seconds": "0"}
    found = sandbox.run("check_way", fakes=ROUTE + refused, **settings)
    assert [f.check for f in found] == ["eastwest", "gateway"]
    assert found[1].value == "192.0.2.1:15012, the gateway, cannot be reached: Connection refused"
    assert found[1].consequence == "the proxy would get no certificate and no configuration"
    some = "can_connect() { [ $2 = 15012 ]; }"
    one(sandbox.run("check_way", fakes=ROUTE + some, **settings), "eastwest", "192.0.2.1:15443", "no answer within 5s")
    assert sandbox.run("check_way", fakes=ROUTE + some, gateway_ports="15012", **settings) == ()


def test_a_gateway_that_comes_in_time_is_good_and_one_of_its_addresses_is_enough(sandbox: Sandbox) -> None:
    late = "can_connect() { if [ -e asked ]; then return 0; fi; : >asked; return 1; }"
    assert sandbox.run("check_way", fakes=ROUTE + late, gateway="192.0.2.1") == ()
    one_of_two = "can_connect() { [ $1 = 192.0.2.2 ]; }; addresses_of() { echo 192.0.2.1; echo 192.0.2.2; }"
    settings = {"gateway": "gw.example.com", "gateway_timeout_seconds": "0"}
    assert sandbox.run("check_way", fakes=ROUTE + one_of_two, **settings) == ()


def test_no_route_and_a_rule_of_its_own_that_drops_are_told(sandbox: Sandbox) -> None:
    never = "can_connect() { return 1; }; "
    settings = {"gateway": "192.0.2.1", "gateway_ports": "15012", "gateway_timeout_seconds": "0"}
    no_route = "ip() { return 2; }; dropped_by() { :; }; "
    one(sandbox.run("check_way", fakes=never + no_route, **settings), "gateway", "there is no route to 192.0.2.1")
    drops = (
        ROUTE + never + "dropped_by() { [ $1 = output ] && [ $2 = 15012 ] && [ $3 = eth0 ] && [ $4 = 192.0.2.1 ] &&"
        " echo 'iptables (DROP)'; }"
    )
    one(sandbox.run("check_way", fakes=drops, **settings), "gateway", "this machine's own iptables (DROP) drops it")


def test_without_a_gateway_nobody_looks_for_the_way(sandbox: Sandbox) -> None:
    assert sandbox.run("check_way", fakes="can_connect() { exit 9; }") == ()


def test_connecting_is_tried_for_real(sandbox: Sandbox) -> None:
    connect = 'can_connect 127.0.0.1 {} 5 >output 2>&1 || finding gateway "$(why)" b c'
    without_bash = 'command() { [ "$2" != bash ]; }'
    for fakes in (":", without_bash):
        with answering() as url:
            port = url.rpartition(":")[2].split("/")[0]
            assert sandbox.run(connect.format(port), fakes=fakes) == ()
        one(sandbox.run(connect.format(port), fakes=fakes), "gateway", "refused")


def test_a_port_of_the_application_that_the_firewall_closes_is_found(sandbox: Sandbox) -> None:
    fakes = f"ip() {{ cat <<'END'\n{ADDRESSES}END\n}}\ndropped_by() {{ [ $2 = 9090 ] && echo 'ufw (DROP)' || :; }}"
    settings = {"mesh_address": "192.0.2.11", "app_ports": "8080 9090"}
    found = sandbox.run("check_firewall", fakes=fakes, **settings)
    one(found, "firewall", "port 9090 of the application is closed on eth0 by ufw (DROP)", "ufw allow 9090/tcp")
    assert sandbox.run("check_firewall", fakes=fakes, **settings, inbound_ports="9090") == ()
    fakes = (
        "ip() { [ $2-$3 = -4-route ] && echo 'default via 192.0.2.1 dev eth9 proto dhcp'; }; "
        "dropped_by() { [ $3 = eth9 ] && echo 'iptables (DROP)'; }"
    )
    found = sandbox.run("check_firewall", fakes=fakes, mesh_address="203.0.113.7", app_ports="8080")
    one(found, "firewall", "closed on eth9 by iptables (DROP)")
    fakes = (
        "ip() { [ $2-$3 = -6-route ] && echo 'default via fe80::1 dev eth6 proto ra'; }; "
        "dropped_by() { [ $3-$4 = eth6-2001:db8::11 ] && echo 'ip6tables (DROP)'; }"
    )
    found = sandbox.run("check_firewall", fakes=fakes, mesh_address="2001:db8::11", app_ports="8080")
    one(found, "firewall", "closed on eth6 by ip6tables (DROP)", "ip6tables -I INPUT")


def test_a_gateway_machine_s_port_that_the_firewall_closes_is_found(sandbox: Sandbox) -> None:
    fakes = f"ip() {{ cat <<'END'\n{ADDRESSES}END\n}}\ndropped_by() {{ [ $2 = 15443 ] && echo 'ufw (DROP)' || :; }}"
    # Its proxy takes over none of the machine's connections, whatever cluster.env says.
    settings = {"mesh_address": "192.0.2.11", "proxy_ports": "15443", "inbound_ports": "*"}
    found = sandbox.run("check_firewall", fakes=fakes, **settings)
    one(found, "firewall", "port 15443, where the proxy takes what comes from other networks,", "ufw allow 15443/tcp")
    assert sandbox.run("check_firewall", fakes=fakes, **settings, proxy_ports_forwarded="true") == ()


def test_what_the_proxy_takes_must_come_in_at_its_port(sandbox: Sandbox) -> None:
    fakes = (
        f"ip() {{ cat <<'END'\n{ADDRESSES}END\n}}\ndropped_by() {{ [ $2-$5 = 15006-1 ] && echo 'ufw (DROP)' || :; }}"
    )
    settings = {"fakes": fakes, "mesh_address": "192.0.2.11", "app_ports": "8080 9090"}
    for inbound, ports in (("*", "8080 9090"), ("8080", "8080")):
        found = sandbox.run("check_firewall", **settings, inbound_ports=inbound)
        what = f"port 15006, where the proxy takes what comes for the application at {ports}, is closed on eth0"
        one(found, "firewall", what, "ufw allow 15006/tcp")
    assert sandbox.run("check_firewall", **settings, inbound_ports="*", inbound_ports_excluded="8080,9090") == ()


def test_a_port_of_the_application_that_a_container_takes_past_the_proxy_is_found(sandbox: Sandbox) -> None:
    fakes = (
        f"ip() {{ cat <<'END'\n{ADDRESSES}END\n}}\n"
        "detour() { [ $1-$2-$3 = 8080-eth0-192.0.2.11 ] && echo '172.17.0.2:80 by chain DOCKER' || :; }"
    )
    settings = {"fakes": fakes, "mesh_address": "192.0.2.11", "app_ports": "8080 9090"}
    found = sandbox.run("check_detours", **settings, inbound_ports="8080,9090")
    what = "port 8080 of the application is led to 172.17.0.2:80 by chain DOCKER"
    one(found, "ports", what, "the proxy would not see what comes in", "docker run --network host")
    assert sandbox.run("check_detours", **settings, inbound_ports="9090") == (), "it would see nothing of it anyway"


# ---------------------------------------------------------------- the package, and the time


@contextmanager
def answering(
    *, head: int = 200, get: int = 200, skew: float = 0, age: int | None = None, dates: bool = False
) -> Iterator[str]:
    """A mirror whose clock is off by so many seconds; or a cache, whose answer is so many seconds old, and which may
    date it anew."""

    class Mirror(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(head)

        def do_GET(self) -> None:
            self.answer(get)

        def answer(self, status: int) -> None:
            self.send_response_only(status)
            self.send_header("Date", self.date_time_string(time.time() + skew - (0 if dates else age or 0)))
            if age is not None:
                self.send_header("Age", str(age))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = HTTPServer(("127.0.0.1", 0), Mirror)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/istio-sidecar.deb"
    finally:
        server.shutdown()
        server.server_close()


def test_a_package_that_cannot_be_had_is_found(sandbox: Sandbox) -> None:
    with answering() as url:
        assert sandbox.run("check_package", package_url=url) == ()
    one(
        sandbox.run("check_package", package_url=url), "package", url, "cannot be downloaded", "package.url to a mirror"
    )
    with answering(head=404, get=404) as url:
        one(sandbox.run("check_package", package_url=url), "package", "404")
    with answering(head=405) as url:
        assert sandbox.run("check_package", package_url=url) == (), "there are servers that know no HEAD"
    url = "http://me:S3CRET@127.0.0.1:1/x.deb"
    one(sandbox.run("check_package", package_url=url), "package")
    assert "S3CRET" not in sandbox.said
    assert sandbox.run("check_package", package_url="file:///x.deb") == ()


def test_a_package_that_is_installed_already_need_not_be_had(sandbox: Sandbox) -> None:
    assert sandbox.run("check_package", fakes="has_our_package() { :; }", package_url="http://127.0.0.1:1/x.deb") == ()


@pytest.mark.parametrize(("skew", "said"), [(0, ""), (30, ""), (400, "behind"), (-400, "ahead")])
def test_a_clock_that_is_off_is_found(sandbox: Sandbox, skew: int, said: str) -> None:
    with answering(skew=skew) as url:
        found = sandbox.run("check_package", package_url=url)
    if said:
        one(found, "clock", f"s {said} of that of the package's server", "certificates", "set-ntp")
    else:
        assert found == ()


@pytest.mark.parametrize("dates", [False, True], ids=["the server's date", "its own date"])
def test_the_answer_of_a_cache_is_as_old_as_it_says(sandbox: Sandbox, dates: bool) -> None:
    with answering(age=1800, dates=dates) as url:
        assert sandbox.run("check_package", package_url=url) == ()
    with answering(age=1800, skew=400, dates=dates) as url:
        one(sandbox.run("check_package", package_url=url), "clock", "s behind")


def test_of_several_answers_the_last_counts(sandbox: Sandbox) -> None:
    proxy = "HTTP/1.1 200 Connection established\\r\\nDate: Thu, 01 Jan 1970 00:00:00 GMT\\r\\nAge: 9\\r\\n\\r\\n"
    fakes = f"headers() {{ printf '{proxy}'; printf \"HTTP/2 $1\\r\\ndate: $(LC_ALL=C date -u -R)\\r\\n\\r\\n\"; }}"
    good, gone = (fakes.replace("$1", status) for status in ("200 OK", "404 Not Found"))
    url = "https://m/x.deb"
    assert sandbox.run(": >output; check_package", fakes=good, package_url=url) == ()
    one(sandbox.run(": >output; check_package", fakes=gone, package_url=url), "package", url)


# ---------------------------------------------------------------- what it is told

TOLD = {
    "package": {"": ("http://m/x.deb", "ab" * 32)},
    "package_version": "1.31.0",
    "ssh_port": 22,
    "mesh_address": "192.0.2.11",
    "app_ports": [9090, 8080, 9090],
    "cluster_env": "A=b\nISTIO_INBOUND_PORTS='8080,9090'\nISTIO_LOCAL_EXCLUDE_PORTS='22,15090'\n",
    "dns_capture": True,
    "gateway": "gw.example.com",
}


def test_what_it_is_told_is_what_the_script_knows() -> None:
    told = Preflight(**TOLD, accept=["clock", "address"]).settings()  # type: ignore[arg-type]  # each of its type
    assert told.keys() <= remote.SETTINGS.keys()
    assert told["app-ports"] == "8080 9090"
    assert told["inbound-ports"] == "8080,9090"
    assert told["inbound-ports-excluded"] == "22,15090"
    assert told["gateway-ports"] == "15012 15443"
    assert told["accept"] == "address clock"
    assert "supported-systems" not in told
    assert remote.payload({}, told, remote.PREFLIGHT_SCRIPTS)
