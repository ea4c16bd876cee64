"""Nothing is changed on any VM before every VM was found good: docs/preflight.md, docs/ssh.md."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.instance import PROJECT_ROOT
from lab.machines import Machine
from tests.e2e.machine import connections, running
from tests.e2e.stack import PulumiError, Stack, console
from tests.environment import Lab
from tests.plugin.sshd import make_key

pytestmark = pytest.mark.lab

LISTING = (Path(__file__).parent / "machine_listing.sh").read_text()
DIAL_SECONDS = 3

# A small disk, and tools that lie, stand before the real ones on the scripts' PATH.
FAULTS = r"""
set -eu
mount -t tmpfs -o size=1m,mode=755 tmpfs /usr/local
mkdir -p /usr/local/bin /usr/local/sbin
lie() { printf '#!/bin/sh\n%s\n' "$2" >"/usr/local/sbin/$1"; chmod 755 "/usr/local/sbin/$1"; }
lie date 'if [ "${1-}" = +%s ]; then echo $(($(/usr/bin/date +%s) + 1000)); else exec /usr/bin/date "$@"; fi'
lie getconf 'echo glibc 2.17'
lie uname 'if [ "${1-}" = -m ]; then echo armv7l; else exec /usr/bin/uname "$@"; fi'
touch /usr/local/bin/pilot-agent
groupadd --system istio-proxy
systemd-run -q --unit=squatter --collect python3 -B -m http.server 15001
systemd-run -q --unit=broken /bin/false || :
iptables -A INPUT -p tcp --dport 15006 -j DROP
iptables -A OUTPUT -p tcp --dport 15443 -j REJECT
iptables -A OUTPUT -p tcp --dport 15012 -j REJECT
cp /etc/resolv.conf /root/resolv.conf; echo 'search lab.internal' >/etc/resolv.conf
cp --remove-destination "$(readlink -f /etc/os-release)" /etc/os-release
sed -i 's/^VERSION_ID=.*/VERSION_ID="10"/' /etc/os-release
sleep 1
"""
FOUND = {
    "address": "192.0.2.77 is on no interface that is up",
    "architecture": "armv7l",
    "clock": "s ahead of that of the package's server",
    "disk": "0 MiB free at /usr/local",
    "eastwest": ":15443, the gateway, cannot be reached: Connection refused",
    "firewall": "port 15006, where the proxy takes what comes for the application at 8080, is closed",
    "gateway": ":15012, the gateway, cannot be reached: Connection refused, this machine's own iptables (REJECT) drops",
    "leftovers": "an Istio that hybrid-mesh did not install is here",
    "libc": "glibc 2.17",
    "ports": "port 15001, which the proxy needs, is held by",
    "resolver": "/etc/resolv.conf names no server",
    "system": "debian 10 is not in the table",
}
"""What is wrong, by check."""


@dataclass(frozen=True)
class Faulty:
    """A machine with a fault for each check, and what it looked like before anybody looked."""

    machine: Machine
    listing: list[str]


def listing(machine: Machine) -> list[str]:
    return machine.ssh(["sh -s"], input_text=LISTING, timeout=120).splitlines()


def host(lab: Lab, machine: Machine, **changes: Any) -> dict[str, Any]:
    """A host of the settings; changes of its `ssh`, but for the mesh address."""
    key = lab.instance.folder / "ssh" / "id_ed25519"
    mesh_address = changes.pop("meshAddress", machine.address)
    ssh = {
        "address": machine.address,
        "hostKey": machine.host_key,
        "privateKeyFile": str(key.relative_to(PROJECT_ROOT)),
    }
    given = {name: value for name, value in {**ssh, **changes}.items() if value is not None}
    return {"ssh": given, "meshAddress": mesh_address}


def add_hosts(stack: Stack, hosts: dict[str, Any]) -> None:
    known = stack.settings()["config"]["hybrid-mesh:workloads"]["echo"]["machines"]["hosts"]
    stack.change("workloads.echo.machines.hosts", {**known, **hosts})


@pytest.fixture(scope="module")
def faulty(lab: Lab) -> Iterator[Faulty]:
    machine = lab.machine("faulty")
    machine.create(lab.tools)
    machine.ssh(["sh -s"], input_text=FAULTS)
    yield Faulty(machine, listing(machine))
    machine.delete()


def test_all_findings_come_at_once_and_no_machine_is_changed(lab: Lab, up: Stack, faulty: Faulty) -> None:
    vm1 = lab.machine("vm-1")
    before, count = running(vm1), connections(faulty.machine)
    add_hosts(up, {"faulty": host(lab, faulty.machine, meshAddress="192.0.2.77")})
    up.change("workloads.echo.labels", {"team": "shop"})  # vm-1 would be changed, too
    up.change("sidecar.timeouts.gatewaySeconds", 2)
    with pytest.raises(PulumiError) as refused:
        up.up()
    said = str(refused.value)
    assert "on 1 of 3 VMs. Nothing was changed on any VM." in said
    for check, what in FOUND.items():
        (line,) = {line.strip() for line in said.splitlines() if f"faulty: {check}: " in line and what in line}
        assert " Fix: " in line
    assert "systemd is degraded" in said, "a unit of others that failed is a note"
    assert connections(faulty.machine) - count == 1
    assert running(vm1) == before, "the labels of a good machine wait for the bad one"
    assert listing(faulty.machine) == faulty.listing

    look = console(lab, "preflight", "--stack", "dev", "--config-file", str(up.file), "--json", check=False)
    assert look.returncode == 1, look.stderr
    reports = {report["machine"]: report for report in json.loads(look.stdout)}
    assert {name: report["good"] for name, report in reports.items()} == {"faulty": False, "vm-1": True, "vm-2": True}
    assert {found["check"] for found in reports["faulty"]["findings"]} == set(FOUND)
    up.restore()
    up.up()
    assert listing(faulty.machine) == faulty.listing, "nor is it when it goes"


@pytest.fixture
def doors(lab: Lab, tmp_path: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Hosts that let nobody in, each for another reason."""
    machine = lab.machine("doors")
    machine.create(lab.tools)
    machine.ssh(
        [
            "printf 'Port %s\\n' 22 2201 2202 2203 >/etc/ssh/sshd_config.d/ports.conf; systemctl restart ssh; "
            "useradd --create-home plain; cp -r /root/.ssh /home/plain/; chown -R plain: /home/plain/.ssh; "
            "systemd-run -q python3 -B -c "
            "'import socket, time; s = socket.create_server((\"\", 2205)); time.sleep(600)'"
        ]
    )
    yield {
        "another": host(lab, machine, port=2201, hostKey=make_key(tmp_path / "other"), meshAddress="192.0.2.81"),
        "stranger": host(lab, machine, port=2202, user="nobody", meshAddress="192.0.2.82"),
        "no-sudo": host(lab, machine, port=2203, user="plain", meshAddress="192.0.2.83"),
        "closed": host(lab, machine, port=2204, meshAddress="192.0.2.84"),
        "silent": host(lab, machine, port=2205, meshAddress="192.0.2.85"),
    }
    machine.delete()


def test_each_way_not_to_get_in_has_its_own_message_within_its_time(
    lab: Lab, up: Stack, doors: dict[str, dict[str, Any]]
) -> None:
    add_hosts(up, doors)
    up.change("sidecar.timeouts", {"dialSeconds": DIAL_SECONDS, "dialAttempts": 2})
    began = time.monotonic()
    with pytest.raises(PulumiError) as refused:
        up.up()
    took = time.monotonic() - began
    expected = {
        "another": "shows another host key than ssh-ed25519 of hostKey",
        "stranger": "does not let nobody in with the private key",
        "no-sudo": "plain is not root there, and sudo is refused (sudo: ",
        "closed": "SSH does not answer at",
        "silent": f"no answer within {DIAL_SECONDS} s",
    }
    for name, what in expected.items():
        (line,) = {line.strip() for line in str(refused.value).splitlines() if f"{name}: " in line and what in line}
        assert " Fix: " in line
    print(f"five ways not to get in: {took:.0f} s, of which SSH may take {2 * DIAL_SECONDS + 2} s")
    assert took < 90
    look = console(lab, "preflight", "--stack", "dev", "--config-file", str(up.file), "--json", *expected, check=False)
    assert look.returncode == 1, look.stderr
    for report in json.loads(look.stdout):
        (found,) = report["findings"]
        assert (found["check"], report["looked"]) == ("ssh", False)
        assert expected[report["machine"]] in found["value"]
    up.restore()
    up.up()  # Nobody has to let anybody in for a machine to go that was never in.
