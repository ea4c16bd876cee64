"""The scripts on a real systemd machine of the tests' environment, without an istiod: joining, crashing, leaving.

What a mesh makes of it (readiness, sync, traffic) is tests/e2e's matter.
"""

from __future__ import annotations

import datetime
import platform
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hybridmesh import remote
from lab import packages
from lab.cluster import wait_for
from lab.instance import run
from lab.machines import Machine
from lab.toolchain import pins
from tests.environment import Lab

pytestmark = pytest.mark.lab

LISTING = Path(__file__).resolve().parents[1] / "e2e" / "machine_listing.sh"
TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJub2JvZHkifQ.bm9uZQ"


def root_certificate(organization: str) -> str:
    """A self-signed certificate, PEM: an agent that gets none of the kind does not start."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


ROOT_CERTIFICATE, OTHER_CERTIFICATE = root_certificate("one"), root_certificate("two")
IDENTITY = "spiffe://cluster.local/ns/demo/sa/echo"
FILES = {
    "cluster.env": (
        "ISTIO_INBOUND_PORTS='*'\nISTIO_LOCAL_EXCLUDE_PORTS=22,15090,15021,15020\nISTIO_META_DNS_CAPTURE=true\n"
        "ISTIO_NAMESPACE=demo\nISTIO_SERVICE=echo.demo\nISTIO_SERVICE_CIDR='*'\n"
    ),
    "hosts": "192.0.2.1 istiod.istio-system.svc\n",  # TEST-NET-1: no istiod answers there
    "istio-token": TOKEN,
    "mesh.yaml": "defaultConfig:\n  discoveryAddress: istiod.istio-system.svc:15012\n",
    "root-cert.pem": ROOT_CERTIFICATE,
}


@dataclass(frozen=True)
class Result:
    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Vm:
    """A machine and the settings that fit it."""

    machine: Machine
    settings: Mapping[str, str]

    def run(self, command: str, stdin: str = "", *, user: str = "root", timeout: float = 120) -> Result:
        done = subprocess.run(
            self.machine.ssh_command(["--", command], user),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def out(self, command: str) -> str:
        done = self.run(command)
        assert done.code == 0, done.stderr
        return done.stdout.strip()

    def bring(self, *, user: str = "root") -> Result:
        return self.run(remote.COMMAND_BRING, remote.bring_payload(), user=user)

    def join(self, changes: Mapping[str, str] | None = None, *, user: str = "root", kill_at: str = "") -> Result:
        """Bring the scripts and run the join, with `changes` to files and settings; SIGKILL ends it once it has logged
        `kill_at`.
        """
        brought = self.bring(user=user)
        if brought.code != 0:
            return brought
        values = {**FILES, **self.settings, **(changes or {})}
        files = {name: text for name, text in values.items() if name in remote.FILES}
        settings = {name: text for name, text in values.items() if name in remote.SETTINGS}
        settings["scripts"] = remote.scripts_digest()
        command = remote.COMMAND_JOIN
        if kill_at:
            logged = f"until grep -qs {shlex.quote(kill_at)} /var/log/hybrid-mesh.log; do sleep 0.02; done"
            command = (
                f"cat >/run/payload; setsid /bin/sh -c {shlex.quote(command)} </run/payload >/dev/null 2>&1 & pid=$!; "
                f"timeout 60 sh -c {shlex.quote(logged)}; kill -KILL -- -$pid; rm /run/payload"
            )
        return self.run(command, remote.payload(files, settings), user=user)

    def leave(self, *, user: str = "root") -> Result:
        return self.run(remote.COMMAND_LEAVE, remote.payload(FILES, self.settings, remote.LEAVE_SCRIPTS), user=user)

    def listing(self) -> list[str]:
        """All that makes up the machine, but what takes brought scripts away by itself."""
        done = self.run("sh -s", LISTING.read_text())
        assert done.code == 0, done.stderr
        return [line for line in done.stdout.splitlines() if not line.startswith("unit-file hybrid-mesh-scripts-")]

    def wait_until_started(self) -> str:
        """Wait until the restart that a join asked for is over and Envoy runs; returns the agent's process id."""
        limit = time.monotonic() + 60
        while not self.run(
            "test -z \"$(systemctl list-units --all --no-legend 'hybrid-mesh-start-*')\" && pgrep -xo envoy"
        ).stdout:
            assert time.monotonic() < limit, self.run("systemctl status istio; tail /var/log/istio/*").stdout
            time.sleep(0.2)
        return self.out("pgrep -xo pilot-agent")

    def redirect_rules(self) -> str:
        return self.out("{ iptables-nft-save; iptables-legacy-save; } 2>/dev/null | grep ISTIO_ || :")


@pytest.fixture(scope="module")
def module_vm(lab: Lab) -> Iterator[Vm]:
    machine = lab.machine("remote")
    machine.create(lab.tools)
    mirror = lab.instance.folder / "mirror"
    settings = {f"package-{name}": (mirror / name).read_text() for name in ("url", "sha256", "version")}
    more = {"spiffe-id": IDENTITY, "drain-seconds": "1", "ready-timeout-seconds": "3"}
    yield Vm(machine, {**settings, **more})
    machine.delete()


@pytest.fixture
def with_rpm(lab: Lab, module_vm: Vm) -> Iterator[Vm]:
    """A machine whose packages rpm keeps, with dpkg beside it for other uses."""
    machine = lab.machine("remote-rpm")
    machine.create(lab.tools, release=pins.RPM)
    package = packages.make(lab.instance, pins.ISTIO_VERSION, family="rpm")
    named = {"package-url": package.url, "package-sha256": package.sha256}
    yield Vm(machine, {**module_vm.settings, **named})
    machine.delete()


@pytest.fixture(scope="module")
def pristine(module_vm: Vm) -> list[str]:
    """The listing of the machine before anything was done to it."""
    listing = module_vm.listing()
    assert len([line for line in listing if line.startswith("file ")]) > 10_000
    assert module_vm.listing() == listing
    return listing


@pytest.fixture
def vm(module_vm: Vm, pristine: list[str]) -> Iterator[Vm]:
    """The machine, outside the mesh; whatever a test does to it, leaving brings it back to what it was."""
    yield module_vm
    left = module_vm.leave()
    assert left.code == 0, left.stderr
    assert module_vm.listing() == pristine


def test_joining_delivers_the_files_and_starts_the_proxy_detached(vm: Vm) -> None:
    joined = vm.join()
    assert joined.code == 0, joined.stderr
    vm.wait_until_started()
    for name, target in {
        "istio-token": "/var/run/secrets/tokens/istio-token",
        "mesh.yaml": "/etc/istio/config/mesh",
        "cluster.env": "/var/lib/istio/envoy/cluster.env",
        "root-cert.pem": "/etc/certs/root-cert.pem",
    }.items():
        assert vm.run(f"sudo -u istio-proxy cat {target}").stdout == FILES[name], target
    assert vm.out("stat -c '%a %U' /run/secrets/tokens /run/secrets/tokens/istio-token").splitlines() == [
        "700 istio-proxy",
        "600 istio-proxy",
    ]
    assert f"# BEGIN hybrid-mesh\n{FILES['hosts']}# END hybrid-mesh" in vm.out("cat /etc/hosts")
    assert "--to-ports 15001" in vm.redirect_rules()
    assert f"--gid-owner {vm.out('id -g istio-proxy')} " in vm.redirect_rules()
    assert vm.out("systemctl is-enabled istio hybrid-mesh-conntrack") == "enabled\nenabled"


def test_a_second_join_changes_nothing_and_restarts_nothing(vm: Vm) -> None:
    assert vm.join().code == 0
    process = vm.wait_until_started()
    again = vm.join()
    assert again.code == 0, again.stderr
    assert "nothing changed and Istio is running: no restart" in again.stderr
    assert "write " not in again.stderr
    assert vm.wait_until_started() == process


def test_where_rpm_keeps_the_packages_the_same_scripts_join_and_leave(with_rpm: Vm) -> None:
    before = with_rpm.listing()
    joined = with_rpm.join()
    assert joined.code == 0, joined.stderr
    process = with_rpm.wait_until_started()
    assert with_rpm.out("rpm -q istio-sidecar") == f"istio-sidecar-{pins.ISTIO_VERSION}-1.{platform.machine()}"
    manifest = with_rpm.out("grep ^package /var/lib/hybrid-mesh/manifest").splitlines()
    assert f"package istio-sidecar\tinstalled {pins.ISTIO_VERSION}-1" in manifest
    again = with_rpm.join()
    assert "nothing changed and Istio is running: no restart" in again.stderr
    assert with_rpm.wait_until_started() == process
    left = with_rpm.leave()
    assert left.code == 0, left.stderr
    assert with_rpm.listing() == before


def test_a_changed_file_is_written_alone_and_restarts_the_proxy(vm: Vm) -> None:
    assert vm.join().code == 0
    process = vm.wait_until_started()
    changed = vm.join({"mesh.yaml": FILES["mesh.yaml"] + "  drainDuration: 7s\n"})
    written = [line for line in changed.stderr.splitlines() if "write " in line]
    assert written == ["hybrid-mesh: write /etc/istio/config/mesh"]
    assert vm.wait_until_started() != process


def test_a_changed_address_of_the_gateway_is_written_alone_and_restarts_nothing(vm: Vm) -> None:
    assert vm.join().code == 0
    process = vm.wait_until_started()
    changed = vm.join({"hosts": "192.0.2.2 istiod.istio-system.svc\n"})
    written = [line for line in changed.stderr.splitlines() if "write " in line]
    assert written == ["hybrid-mesh: write /etc/hosts: 192.0.2.2 istiod.istio-system.svc"]
    assert "no restart" in changed.stderr
    assert vm.wait_until_started() == process
    assert vm.out("grep -c istiod /etc/hosts") == "1"


@pytest.mark.full
def test_metrics_are_open_to_the_addresses_asked_for_alone(vm: Vm, lab: Lab) -> None:
    url = f"http://{vm.machine.address}:15020/stats/prometheus"
    ask = ["sh", "-c", 'curl -s -o /dev/null -w "%{http_code}" --connect-timeout 2 -m 5 "$1" || true', "-", url]

    def seen() -> dict[str, str]:
        mine = vm.run(f"curl -s -o /dev/null -w '%{{http_code}}' --connect-timeout 2 -m 5 {url}").stdout
        return {"host": run(ask), "node": lab.instance.run(ask), "itself": mine}

    assert vm.join({"scrapers": f"{lab.instance.subnets.host}/32 2001:db8::/32"}).code == 0
    vm.wait_until_started()
    wait_for("the agent's metrics", lambda: seen()["itself"] == "200", 30)
    assert seen() == {"host": "200", "node": "000", "itself": "200"}
    assert "no restart" in vm.join({"scrapers": f"{lab.instance.subnets.node}/32"}).stderr
    assert seen() == {"host": "000", "node": "200", "itself": "200"}
    vm.machine.reboot()
    vm.wait_until_started()
    wait_for("the agent's metrics after a reboot", lambda: seen()["itself"] == "200", 30)
    assert seen() == {"host": "000", "node": "200", "itself": "200"}
    changed_by_hand = "sh /var/lib/hybrid-mesh/scripts/manifest.sh | diff /var/lib/hybrid-mesh/manifest -"
    assert vm.out(changed_by_hand) == ""
    vm.out("iptables -w -D HYBRID_MESH_METRICS -j DROP")
    name, node = "firewall of 15020 and 15090, IPv4\t", f"{lab.instance.subnets.node}/32"
    assert f"> {name}open to all" in vm.run(changed_by_hand).stdout
    assert f"< {name}open to itself, {node}" in vm.run(changed_by_hand).stdout
    assert vm.join().code == 0
    assert seen() == {"host": "000", "node": "000", "itself": "200"}


@pytest.mark.full
def test_logs_that_have_grown_are_rotated_under_the_proxy_that_writes_them(vm: Vm) -> None:
    assert vm.join().code == 0
    process = vm.wait_until_started()
    assert "hybrid-mesh-logs.timer" in vm.out("systemctl list-timers --no-pager")
    vm.out("sh /var/lib/hybrid-mesh/scripts/upkeep.sh logs")
    assert vm.run("ls /var/log/istio/*.1").code != 0, "small ones are left alone"
    vm.out("head -c 60000000 /dev/zero | tr '\\0' 'x' >>/var/log/istio/istio.log")
    vm.out("systemctl start hybrid-mesh-logs.service")
    assert int(vm.out("stat -c %s /var/log/istio/istio.log.1")) > 50_000_000
    assert vm.out("stat -c %U /var/log/istio/istio.log.1 /var/log/istio/istio.log") == "istio-proxy\nistio-proxy"
    limit = time.monotonic() + 60
    while not 0 < int(vm.out("stat -c %s /var/log/istio/istio.log")) < 1_000_000:
        assert time.monotonic() < limit, "the agent, which finds no istiod, does not write on"
        time.sleep(0.5)
    assert vm.wait_until_started() == process


def test_a_line_that_others_add_to_the_hosts_file_restarts_nothing_and_stays(vm: Vm) -> None:
    assert vm.join().code == 0
    vm.wait_until_started()
    vm.out("echo '192.0.2.9 mine' >>/etc/hosts")
    assert "no restart" in vm.join().stderr
    assert vm.leave().code == 0
    assert vm.out("tail -n 1 /etc/hosts") == "192.0.2.9 mine"
    vm.out("sed -i /mine/d /etc/hosts")


def test_drift_is_repaired(vm: Vm) -> None:
    assert vm.join().code == 0
    vm.wait_until_started()
    vm.out("systemctl disable --now -q istio; rm /etc/istio/config/mesh; echo X=1 >>/var/lib/istio/envoy/cluster.env")
    assert vm.join().code == 0
    vm.wait_until_started()
    assert vm.run("cat /etc/istio/config/mesh /var/lib/istio/envoy/cluster.env").stdout == (
        FILES["mesh.yaml"] + FILES["cluster.env"]
    )
    assert vm.out("systemctl is-enabled istio") == "enabled"


def test_no_open_session_is_cut_when_the_proxy_starts_or_stops(vm: Vm) -> None:
    talking = "for i in $(seq 600); do test -e /run/enough && exit; echo $i; sleep 0.2; done; exit 1"
    alive = ["-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=3"]  # a session that was cut ends, not hangs
    ssh, *rest = vm.machine.ssh_command(["--", talking])
    with subprocess.Popen([ssh, *alive, *rest], stdout=subprocess.DEVNULL) as before:
        assert vm.join().code == 0
        # As pulumi does: the next session is there before the proxy starts.
        with subprocess.Popen([ssh, *alive, *rest], stdout=subprocess.DEVNULL) as after:
            vm.wait_until_started()
            assert vm.redirect_rules()
            time.sleep(1)
            assert vm.leave().code == 0
            vm.out("touch /run/enough")
            assert [session.wait(timeout=30) for session in (before, after)] == [0, 0]
    vm.out("rm /run/enough")


@pytest.mark.parametrize("again", [False, True], ids=["then leave", "then join and leave"])
@pytest.mark.parametrize("step", ["step: record", "step: package: install", "step: files", "step: units"])
def test_a_join_that_was_killed_half_way_is_continued_or_undone(vm: Vm, step: str, again: bool) -> None:
    assert vm.join(kill_at=step).code == 0
    assert vm.out("ls -d /run/hybrid-mesh.????????")
    if again:
        joined = vm.join()
        assert joined.code == 0, joined.stderr
        vm.wait_until_started()
    else:
        assert vm.leave().code == 0
    assert vm.run("ls -d /run/hybrid-mesh.????????").stdout == ""  # nor the token that it had with it


TIMERS = "systemctl list-units --all --no-legend --plain 'hybrid-mesh-scripts-*.timer' | cut -d ' ' -f 1"
BROUGHT = "/run/hybrid-mesh-scripts"


def test_scripts_for_a_machine_outside_go_by_themselves_if_no_join_takes_them(vm: Vm, pristine: list[str]) -> None:
    assert vm.bring().code == 0
    assert vm.out(f"cat {BROUGHT}/*.sh | sha256sum; stat -c '%a %U' {BROUGHT}").splitlines() == [
        f"{remote.scripts_digest()}  -",
        "700 root",
    ]
    [first] = vm.out(TIMERS).splitlines()
    assert vm.listing() == pristine
    take_away = f"systemctl start {first.removesuffix('.timer')}.service"
    assert vm.out(f"{take_away}; ls -d {BROUGHT}") == BROUGHT, "it may be a newer preflight's"
    assert vm.bring().code == 0
    [second] = set(vm.out(TIMERS).splitlines()) - {first}
    vm.out(f"touch -d '-55 minutes' {BROUGHT}; systemctl start {second.removesuffix('.timer')}.service")
    assert vm.run(f"ls -d {BROUGHT}").code != 0
    vm.out(f"systemctl stop {second} {first} 2>/dev/null || :")


def test_a_join_or_a_leave_takes_the_scripts_that_were_brought_and_what_would_take_them(vm: Vm) -> None:
    assert vm.join().code == 0
    assert vm.out(f"{TIMERS}; ls -d {BROUGHT} /var/lib/hybrid-mesh/brought 2>/dev/null || :") == ""
    vm.wait_until_started()
    assert vm.leave().code == 0
    assert vm.bring().code == 0
    assert vm.out(TIMERS)
    assert vm.leave().code == 0
    assert vm.out(f"{TIMERS}; ls -d {BROUGHT} 2>/dev/null || :") == ""


def test_a_member_has_its_scripts_or_gets_them_where_a_reboot_takes_none(vm: Vm) -> None:
    assert vm.join().code == 0
    process = vm.wait_until_started()
    assert vm.bring().stderr == "", "they are there"
    vm.out("echo exit 1 >>/var/lib/hybrid-mesh/scripts/join.sh")
    files = remote.payload(FILES, {**vm.settings, "scripts": remote.scripts_digest()})
    refused = vm.run(remote.COMMAND_JOIN, files)
    assert refused.code == 1
    assert "the scripts of the join are not here, or were changed" in refused.stderr
    assert vm.bring().code == 0
    assert vm.out(f"ls -d {BROUGHT} /var/lib/hybrid-mesh/brought 2>/dev/null || :") == "/var/lib/hybrid-mesh/brought"
    assert vm.run(remote.COMMAND_JOIN, files).code == 0
    assert vm.out("cat /var/lib/hybrid-mesh/scripts/*.sh | sha256sum") == f"{remote.scripts_digest()}  -"
    assert vm.run("ls -d /var/lib/hybrid-mesh/brought").code != 0
    assert vm.wait_until_started() == process


def test_leaving_twice_or_without_having_joined_does_nothing(vm: Vm) -> None:
    for _ in range(2):
        left = vm.leave()
        assert left.code == 0
        assert "is not in the mesh: nothing to do" in left.stderr


def test_what_was_there_before_is_there_again(vm: Vm) -> None:
    vm.out(
        "mkdir /root/bin; mv /usr/local/bin/* /root/bin/; mkdir -p /etc/certs /var/lib/istio/old; "
        "useradd --system --home-dir /var/lib/istio istio-proxy; "
        "chmod 751 /etc/certs; echo mine >/etc/certs/root-cert.pem; echo mine >/etc/certs/app.pem; "
        "echo mine >/etc/certs/cert-chain.pem; echo mine >/etc/certs/key.pem; "
        "ln -s /var/lib/istio /etc/istio; printf '%s' \"$(cat /etc/hosts)\" >/etc/hosts; chmod 640 /etc/hosts"
    )
    before = vm.listing()
    assert vm.join().code == 0
    vm.wait_until_started()
    assert vm.leave().code == 0
    assert vm.listing() == before
    vm.out(
        "mv /root/bin/* /usr/local/bin/; rmdir /root/bin; userdel istio-proxy; "
        "rm -rf /etc/certs /var/lib/istio /etc/istio; chmod 644 /etc/hosts; echo >>/etc/hosts"
    )


@pytest.mark.full
def test_a_certificate_of_another_identity_or_root_goes_and_one_of_a_rotated_root_stays(vm: Vm) -> None:
    def certificates_after(changes: Mapping[str, str] | None = None) -> str:
        vm.wait_until_started()
        vm.out(
            "cd /etc/certs; touch cert-chain.pem key.pem; chown istio-proxy cert-chain.pem key.pem; : >root-cert.pem"
        )
        assert vm.join(changes).code == 0
        return vm.out("cd /etc/certs; echo *")

    assert vm.join().code == 0
    assert certificates_after() == "cert-chain.pem key.pem root-cert.pem"
    rotated = ROOT_CERTIFICATE + OTHER_CERTIFICATE
    assert certificates_after({"root-cert.pem": rotated}) == "cert-chain.pem key.pem root-cert.pem"
    assert certificates_after({"root-cert.pem": OTHER_CERTIFICATE}) == "root-cert.pem"
    assert vm.out("cat /etc/certs/root-cert.pem") == OTHER_CERTIFICATE.strip()
    assert certificates_after({"root-cert.pem": OTHER_CERTIFICATE, "spiffe-id": f"{IDENTITY}2"}) == "root-cert.pem"


def test_preflight_says_all_that_is_wrong_at_once_and_touches_nothing(vm: Vm, pristine: list[str]) -> None:
    vm.out("systemd-run -q --unit=squatter --collect python3 -B -m http.server 15001; sleep 1")
    refused = vm.join({"cluster.env": "ISTIO_INBOUND_PORTS='*'\n", "hosts": "", "package-sha256": "abc"})
    vm.out("systemctl stop squatter")
    assert refused.code == 1
    for finding in (
        "cluster.env would redirect port 22, sshd's, to Envoy",
        "hosts is missing or empty",
        "package-sha256 is 'abc'",
        "port 15001, which the proxy needs, is held by",
        "4 finding(s), nothing was changed",
    ):
        assert finding in refused.stderr
    assert vm.listing() == pristine


def test_an_istio_that_someone_else_installed_is_left_alone(vm: Vm) -> None:
    vm.out("touch /usr/local/bin/pilot-agent")
    refused = vm.join()
    assert refused.code == 1
    assert "an Istio that hybrid-mesh did not install is here" in refused.stderr
    assert "nothing to do" in vm.leave().stderr
    vm.out("rm /usr/local/bin/pilot-agent")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"package-sha256": "0" * 64}, f"expected {'0' * 64}"),
        ({"package-version": "1.0.0"}, "expected istio-sidecar 1.0.0"),
        ({"package-url": "http://user:secret@127.0.0.1:1/x.deb"}, "cannot download http://127.0.0.1:1/x.deb"),
    ],
)
def test_a_wrong_package_is_not_installed(vm: Vm, changes: dict[str, str], said: str) -> None:
    refused = vm.join(changes)
    assert refused.code == 1
    assert said in refused.stderr
    assert "secret" not in refused.stderr
    assert vm.run("dpkg -s istio-sidecar").code != 0


def test_a_package_is_downloaded_past_a_proxy_that_is_not_well(vm: Vm) -> None:
    assert vm.join().code == 0
    vm.wait_until_started()
    assert vm.run(f"curl -s -o /dev/null -m 5 -I {vm.settings['package-url']}").code != 0  # Envoy has no routes yet
    vm.out("rm /var/lib/hybrid-mesh/package")
    again = vm.join()
    assert again.code == 0, again.stderr
    assert "install istio-sidecar" in again.stderr


def test_readiness_that_does_not_come_is_explained_and_no_token_shown(vm: Vm) -> None:
    assert vm.join({"generation": "one"}).code == 0
    vm.wait_until_started()
    vm.out(f"echo 'error using {TOKEN}: connection refused' >>/var/log/istio/istio.log")
    waited = vm.run(remote.COMMAND_READY, "one")
    assert waited.code == 1
    assert waited.stdout == ""
    assert f"FAILED on {vm.machine.name} at step ready: the proxy is not ready, after 3s" in waited.stderr
    assert "remedy: open the way from this VM to istiod's address" in waited.stderr
    assert "error using <token>" in waited.stderr
    assert "systemctl status istio" in waited.stderr
    assert TOKEN not in waited.stderr


def test_an_envoy_that_hangs_is_asked_once_by_who_looks_at_the_machine(vm: Vm) -> None:
    silent = "import socket; s = socket.create_server(('127.0.0.1', 15000)); [s.accept() for _ in iter(int, 1)]"
    assert vm.run(f"systemd-run --quiet --unit=silent python3 -IBc {shlex.quote(silent)}").code == 0
    try:
        vm.out("timeout 10 sh -c 'until ss -Hltn sport = :15000 | grep -q .; do sleep 0.1; done'")
        looked = vm.run(remote.COMMAND_PROBE, remote.probe(""))
        asked = vm.out("ss -Htn state close-wait sport = :15000 | wc -l")
    finally:
        vm.run("systemctl stop silent")
    assert (looked.code, asked) == (0, "1"), looked.stderr
    assert "@@ end" in looked.stdout


def test_the_token_is_in_one_file_alone(vm: Vm) -> None:
    joined = vm.join()
    vm.wait_until_started()
    assert TOKEN not in joined.stderr
    found = vm.run(f"grep -rlsF {TOKEN} / --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev")
    assert found.stdout.split() == ["/run/secrets/tokens/istio-token"]
    assert vm.out("stat -c '%a %U:%G' /var/log/hybrid-mesh.log /var/lib/hybrid-mesh").splitlines() == [
        "600 root:root",
        "700 root:root",
    ]


def test_the_proxy_s_user_can_change_nothing_that_root_runs(vm: Vm) -> None:
    """Envoy takes what strangers send: whoever has it is not to have the machine."""
    assert vm.join().code == 0
    vm.wait_until_started()
    as_proxy = "setpriv --reuid istio-proxy --regid istio-proxy --clear-groups"
    found = vm.out(f"{as_proxy} find /etc /usr /lib /opt /root /var/lib -writable -not -type l 2>/dev/null || true")
    writable = found.splitlines()
    assert "/etc/certs" in writable, "the search finds something"
    assert [path for path in writable if not path.startswith(("/etc/certs", "/var/lib/istio/proxy"))] == []
    assert vm.out("stat -c '%a %U' /var/lib/istio/envoy /etc/istio/config").splitlines() == ["755 root", "755 root"]


BY_IPV6 = """
unshare --net sleep 60 & peer=$!
until [ "$(readlink /proc/$peer/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link add v0 type veth peer name v1 netns $peer
ip -6 addr add 2001:db8::1/64 dev v0 nodad; ip link set v0 up
nsenter -t $peer -n sh -c 'ip -6 addr add 2001:db8::2/64 dev v1 nodad; ip link set v1 up'
python3 -IBc '
import socket, time
held = socket.create_server(("::", 8099), family=socket.AF_INET6)
time.sleep(60)' & app=$!
until ss -Hltn sport = :8099 | grep -q .; do sleep 0.05; done
nsenter -t $peer -n python3 -IBc 'import socket; socket.create_connection(("2001:db8::1", 8099), 4)' && echo reached
kill $peer $app
"""
"""Somebody beside the machine, who knows its IPv6 address."""


def test_nobody_gets_past_the_proxy_by_ipv6(vm: Vm) -> None:
    """The machine has IPv4 first: Istio captures that alone."""
    assert vm.run(BY_IPV6).stdout == "reached\n"
    assert vm.join().code == 0
    vm.wait_until_started()
    answer = vm.run(BY_IPV6)
    assert (answer.stdout, "ConnectionRefusedError" in answer.stderr) == ("", True), answer.stderr
    assert vm.leave().code == 0
    assert vm.run(BY_IPV6).stdout == "reached\n"
    assert "HYBRID_MESH" not in vm.out("ip6tables-save")


def test_a_user_with_sudo_joins_and_leaves(vm: Vm) -> None:
    joined = vm.join(user="admin")
    assert joined.code == 0, joined.stderr
    vm.wait_until_started()
    assert vm.leave(user="admin").code == 0


def test_whoever_is_on_call_can_leave_by_hand(vm: Vm, pristine: list[str]) -> None:
    assert vm.join().code == 0
    vm.wait_until_started()
    left = vm.run("sh /var/lib/hybrid-mesh/scripts/leave.sh")
    assert left.code == 0, left.stderr
    assert vm.listing() == pristine


def test_after_a_reboot_the_proxy_runs_and_a_session_outlives_its_start(vm: Vm) -> None:
    assert vm.join().code == 0
    vm.wait_until_started()
    vm.machine.reboot()
    assert vm.run("timeout 60 sh -c 'until pgrep -x envoy; do sleep 0.2; done'; sleep 1; echo alive").stdout.endswith(
        "alive\n"
    )
    assert "--to-ports 15001" in vm.redirect_rules()
