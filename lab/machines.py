"""The embedded environment's virtual machines: Debian with systemd in systemd-nspawn, reached by SSH alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import xmlrpc.client
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from pathlib import Path

from lab import toolchain
from lab.cloud import METADATA_ADDRESS, TEMPLATE_FILE, Template
from lab.cluster import program_runs, wait_for, write_program
from lab.instance import (
    Instance,
    LabError,
    in_namespaces_of,
    locked,
    process_start,
    processes,
    run,
    write,
)
from lab.toolchain import Toolset, pins

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
BOOT_SECONDS = 60
SIGRTMIN = 34
REBOOT_SIGNAL = SIGRTMIN + 5
"""systemd(1): SIGRTMIN+5 to PID 1 reboots, SIGRTMIN+4 powers off."""
POWEROFF_SIGNAL = SIGRTMIN + 4
REBOOT_EXIT_CODE = 133


class Network(StrEnum):
    """Where a machine is put. Two networks, the second with a part that its firewall treats differently."""

    FLAT = "flat"
    """The one of node, load balancers and pods: each reaches each."""
    CUTOFF = "cutoff"
    """The cut-off one: its machines reach the load balancers' ports 15012 and 15443, names and packages, and nothing
    outside reaches them but the host's SSH."""
    EDGE = "edge"
    """The cut-off one, with port 15443 open to all others: the place of a gateway."""


def _pass_over_what_is_gone(
    _call: object, _path: str, error: tuple[type[BaseException], BaseException, object]
) -> None:
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]


@dataclass(frozen=True)
class MadeAs:
    """What a machine is made as, for `Machine.create`."""

    network: Network = Network.FLAT
    template: Template | None = None
    release: str = pins.DEBIAN_SUITE


@dataclass(frozen=True)
class Machine:
    """One machine of an instance."""

    instance: Instance
    name: str

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise LabError(f"machine {self.name!r}: use 1 to 40 lower-case letters, digits and inner hyphens")

    @property
    def folder(self) -> Path:
        return self.instance.folder / "machines" / self.name

    @property
    def program(self) -> str:
        return f"machine-{self.name}"

    @property
    def exists(self) -> bool:
        return (self.folder / "address").exists()

    @property
    def address(self) -> str:
        self._require()
        return (self.folder / "address").read_text()

    @property
    def network(self) -> Network:
        """Where it was put; its address tells."""
        address, subnets = IPv4Address(self.address), self.instance.subnets
        if address in subnets.edge:
            return Network.EDGE
        return Network.CUTOFF if address in subnets.cutoff.network else Network.FLAT

    @property
    def host_key(self) -> str:
        """The SSH host key as known_hosts has it: `ssh-ed25519 AAAA…`."""
        self._require()
        return (self.folder / "host_key").read_text()

    def facts(self) -> dict[str, str | int]:
        """How to reach it: what `lab machine create` prints."""
        return {
            "name": self.name,
            "address": self.address,
            "port": 22,
            "user": "root",
            "hostKey": self.host_key,
        }

    # ------------------------------------------------------------------ its life

    @property
    def made_as(self) -> MadeAs:
        """What would make it again; the default where it is not there."""
        if self.instance.slot is None or not self.exists:
            return MadeAs()
        return MadeAs(self.network, Template.read(self.folder) if self.is_of_cloud else None, self.release)

    @property
    def is_of_cloud(self) -> bool:
        """Whether it was made by a template, as a cloud's instance: it runs no sshd."""
        return (self.folder / TEMPLATE_FILE).exists()

    @property
    def release(self) -> str:
        """What it was made of, one of `pins.RELEASES`."""
        file = self.folder / "release"
        return file.read_text() if file.exists() else pins.DEBIAN_SUITE

    def create(
        self,
        tools: Toolset,
        network: Network = Network.FLAT,
        template: Template | None = None,
        release: str = pins.DEBIAN_SUITE,
    ) -> None:
        """Make and boot the machine; one that is there is started if it is off.

        With a template it stands for a cloud's instance, which nobody logs in to; `tools` must have `cloud-root`.
        """
        self.instance.require_running()
        if template is not None:
            root = tools.cloud_root
        elif release == pins.DEBIAN_SUITE:
            root = tools.machine_root
        else:
            root = toolchain.build_machine_root(release)
        with locked(self.instance.folder / "machines.lock"):
            # One at a time: each takes an address that no other has.
            if template is not None:
                start_cloud(self.instance)
            if not self.exists:
                self._prepare(network)
                if template is not None:
                    template.write(self.folder)
                    with (self.folder / "upper/etc/hosts").open("a") as hosts:
                        hosts.write(f"{METADATA_ADDRESS} metadata.google.internal metadata\n")
                (self.folder / "release").write_text(release)
        if (self.network, self.release) != (network, release):
            raise LabError(
                f"machine {self.name} is in network {self.network}, of {self.release}, not in {network}, of {release}; "
                f"delete it first: python -m lab -i {self.instance.name} machine delete {self.name}"
            )
        self._write_program(root, network)
        self.start()

    def _write_program(self, root: Path, network: Network) -> None:
        """Let supervisord boot it from this root, over what an earlier create or other pins wrote."""
        write_program(
            self.instance,
            self.program,
            ["sh", str(Path(__file__).with_name("machine.sh")), self.instance.id, str(self.folder)]
            + [str(root), self.name, "br0" if network is Network.FLAT else "br1"],
            options={
                "autostart": "false",
                "autorestart": "unexpected",
                "exitcodes": ",".join(str(code) for code in range(256) if code != REBOOT_EXIT_CODE),
                "startsecs": "0",
            },
        )
        with contextlib.suppress(xmlrpc.client.Fault):  # BAD_NAME or STILL_RUNNING: no older configuration to give up
            self.instance.supervisor.removeProcessGroup(self.program)
        _add_program(self.instance, self.program)

    def start(self) -> None:
        """Boot it and wait until SSH lets a login in; where there is no sshd, until it boots."""
        self._require()
        # systemd-nspawn outlives its guest by a moment, in which supervisord would start nothing.
        wait_for(f"the end of {self.program}", lambda: self.running or self._has_ended, BOOT_SECONDS)
        if not self.running:
            self.instance.supervisor.startProcess(self.program)
        self._wait_until_up()

    def _wait_until_up(self) -> None:
        if self.is_of_cloud:
            wait_for(f"the boot of {self.name}", lambda: self.running, BOOT_SECONDS)
        else:
            self.wait_for_ssh()

    def wait_for_ssh(self) -> None:
        try:
            wait_for(f"SSH of {self.name}", lambda: self.ssh(["true"], timeout=5) is not None, BOOT_SECONDS)
        except LabError as problem:
            raise LabError(f"{problem}\nits console: {self.instance.folder}/log/{self.program}.log") from problem

    def stop(self) -> None:
        """Power off in an orderly way."""
        self._end(POWEROFF_SIGNAL)

    def kill(self) -> None:
        """Pull the plug: no process of the machine gets to say goodbye."""
        pid = self._guest_pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self._wait_until_off()

    def reboot(self) -> None:
        """Reboot in an orderly way and wait until SSH lets a login in again."""
        before = self._require_guest()
        os.kill(before, REBOOT_SIGNAL)
        wait_for(f"the end of {self.name}", lambda: process_start(before) is None, BOOT_SECONDS)
        wait_for(f"the boot of {self.name}", lambda: self._guest_pid() is not None, BOOT_SECONDS)
        self._wait_until_up()

    def delete(self) -> None:
        """Switch it off and remove it, its files included; nothing to do when it is not there."""
        self.kill()
        with contextlib.suppress(xmlrpc.client.Fault):
            self.instance.supervisor.stopProcess(self.program)
        with contextlib.suppress(xmlrpc.client.Fault):
            self.instance.supervisor.removeProcessGroup(self.program)
        (self.instance.folder / "programs" / f"{self.program}.conf").unlink(missing_ok=True)
        root = self.folder / "root"
        if root.exists():
            self.instance.run(["sh", "-c", 'mountpoint -q "$1" && umount "$1" || true', "-", root])
        with locked(self.instance.folder / "machines.lock"):
            if self.folder.exists():
                # systemd-nspawn, which is ending, takes its lock file away by itself.
                shutil.rmtree(self.folder, onerror=_pass_over_what_is_gone)
            write_names(self.instance)

    @property
    def running(self) -> bool:
        return self._guest_pid() is not None

    def state(self) -> str:
        return "running" if self.running else "off"

    # ------------------------------------------------------------------ SSH

    def ssh_command(self, command: list[str], user: str = "root") -> list[str]:
        """The ssh command line; the host key is checked against the one made for this machine."""
        return ["ssh", "-F", str(self.instance.folder / "ssh" / "config"), f"{user}@{self.name}", *command]

    def ssh(self, command: list[str], *, timeout: float = 60, input_text: str | None = None) -> str:
        """Run a shell command on the machine; returns its stdout."""
        return run(self.ssh_command(["--", *command]), timeout=timeout, input_text=input_text)

    def look(self, command: list[str], *, timeout: float = 60) -> str:
        """Run a command on the machine without SSH, for looking where a connection would disturb what is looked at."""
        return run(in_namespaces_of(self._require_guest()) + command, timeout=timeout)

    # ------------------------------------------------------------------ parts

    @property
    def _has_ended(self) -> bool:
        """Whether supervisord would start it: its systemd-nspawn is over too, or never was."""
        return not program_runs(self.instance.supervisor.getProcessInfo(self.program))

    def _require(self) -> None:
        if not self.exists:
            names = ", ".join(machine.name for machine in machines(self.instance)) or "none"
            raise LabError(f"no machine {self.name} in instance {self.instance.name} (there: {names})")

    def _guest_pid(self) -> int | None:
        """The host's PID of the guest's own PID 1: the child of this machine's systemd-nspawn."""
        root = str(self.folder / "root")
        for entry, arguments in processes():
            if arguments[0].endswith("systemd-nspawn") and f"--directory={root}" in arguments:
                with contextlib.suppress(OSError):
                    for child in (entry / "task" / entry.name / "children").read_text().split():
                        return int(child)
        return None

    def _require_guest(self) -> int:
        self._require()
        pid = self._guest_pid()
        if pid is None:
            raise LabError(f"{self.name} is off; start it: python -m lab -i {self.instance.name} start {self.name}")
        return pid

    def _end(self, how: int) -> None:
        self._require()
        pid = self._guest_pid()
        if pid is not None:
            os.kill(pid, how)
            self._wait_until_off()

    def _wait_until_off(self) -> None:
        wait_for(f"{self.name} to be off", lambda: not self.running, BOOT_SECONDS)

    def _prepare(self, network: Network) -> None:
        """Write into the machine's own layer, before its first boot, what tells it from the others."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        upper = self.folder / "upper"
        for path, mode in (
            ("etc/systemd/network", 0o755),
            ("etc/ssh", 0o755),
            ("root/.ssh", 0o700),
            ("home/admin/.ssh", 0o700),
        ):
            (upper / path).mkdir(parents=True)
            (upper / path).chmod(mode)
        (upper / "root").chmod(0o700)
        subnets = self.instance.subnets
        taken = {machine.address for machine in machines(self.instance)}
        addresses, router = {
            Network.FLAT: (subnets.machines, subnets.bridge),
            Network.CUTOFF: (subnets.cutoff_machines, subnets.cutoff),
            Network.EDGE: (subnets.edge_machines, subnets.cutoff),
        }[network]
        address = next(candidate for candidate in addresses if candidate not in taken)
        (upper / "etc/hostname").write_text(f"{self.name}\n")
        (upper / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        (upper / "etc/resolv.conf").write_text(f"nameserver {subnets.machine_dns}\n")
        (upper / "etc/systemd/network/10-host0.network").write_text(
            f"[Match]\nName=host0\n[Network]\nAddress={address}/{router.network.prefixlen}\n"
            f"Gateway={router.ip}\nLinkLocalAddressing=no\n"
        )
        key = upper / "etc/ssh/ssh_host_ed25519_key"
        _make_key(key)
        for home, owner in (("root", 0), ("home/admin", ADMIN_UID)):
            authorized = upper / home / ".ssh/authorized_keys"
            shutil.copyfile(self.instance.folder / "ssh" / "id_ed25519.pub", authorized)
            authorized.chmod(0o600)
            for owned in (upper / home / ".ssh", authorized):
                os.chown(owned, owner, owner)
        os.chown(upper / "home/admin", ADMIN_UID, ADMIN_UID)
        (self.folder / "host_key").write_text(" ".join(key.with_suffix(".pub").read_text().split()[:2]))
        (self.folder / "address").write_text(address)
        write_names(self.instance)


ADMIN_UID = 1000
"""User `admin` of the machine root: the first ordinary user that Debian makes."""


def start_cloud(instance: Instance) -> None:
    """The metadata server, and what Kubernetes asks of it; nothing to do when they run."""
    write_program(instance, "cloud", [sys.executable, "-m", "lab.cloud", str(instance.folder / "machines")])
    _add_program(instance, "cloud")


def _add_program(instance: Instance, name: str) -> None:
    """Tell supervisord of a program that was written; nothing to do when it knows it."""
    with contextlib.suppress(xmlrpc.client.Fault):  # BAD_NAME or ALREADY_ADDED
        instance.supervisor.reloadConfig()
        instance.supervisor.addProcessGroup(name)


def machines(instance: Instance) -> list[Machine]:
    """The instance's machines, by name."""
    return [Machine(instance, path.parent.name) for path in sorted(instance.folder.glob("machines/*/address"))]


def write_names(instance: Instance) -> None:
    """Tell the machines' DNS and the person's ssh how the machines are called."""
    known = machines(instance)
    write(
        instance.folder / "config" / "machines.hosts",
        "".join(f"{machine.address} {machine.name} {machine.name}.lab.internal\n" for machine in known),
    )
    ssh = instance.folder / "ssh"
    write(ssh / "known_hosts", "".join(f"{machine.address} {machine.host_key}\n" for machine in known))
    common = (
        f"Host *\n  IdentityFile {ssh}/id_ed25519\n  IdentitiesOnly yes\n  UserKnownHostsFile {ssh}/known_hosts\n"
        "  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  BatchMode yes\n  ConnectTimeout 5\n"
        "  LogLevel ERROR\n"
    )
    write(ssh / "config", "".join(f"Host {machine.name}\n  HostName {machine.address}\n" for machine in known) + common)


def write_user_key(instance: Instance) -> None:
    """The key that opens every machine of this instance."""
    ssh = instance.folder / "ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    if not (ssh / "id_ed25519").exists():
        _make_key(ssh / "id_ed25519", f"lab {instance.name}")


def _make_key(path: Path, comment: str = "") -> None:
    """An SSH key without a passphrase, and its public half beside it."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path])


def as_json(machine: Machine) -> str:
    return json.dumps(machine.facts())


def interactive_ssh(machine: Machine, command: list[str], user: str) -> int:
    """Hand the terminal to ssh; returns its exit code."""
    return subprocess.run(machine.ssh_command(command, user), check=False).returncode
