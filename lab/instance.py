"""One instance of the embedded environment: its folder, its namespaces, its processes.

An instance is one process tree in network, mount, PID, UTS and IPC namespaces of its own, with supervisord as
PID 1. Ending that one process ends everything in it, and the kernel takes its interfaces, iptables rules and
mounts along: nothing has to be undone piece by piece, whatever state a crash left behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lab.toolchain.store import holder, lock_file
from lab.toolchain.system import cache_root

PROJECT_ROOT = Path(__file__).resolve().parent.parent
CGROUP_ROOT = Path("/sys/fs/cgroup")
HOST_INTERFACE_PREFIX = "hmlab"
"""Interface on the host's side of an instance's veth pair: this and the slot's number."""
INTERFACES = Path("/sys/class/net")
SLOTS = range(64)
MIRROR_PORT = 8000
ISTIOD_PORT = 15012
EAST_WEST_PORT = 15443
"""At which an east-west gateway passes istiod's and the services' TLS on; all that the cut-off network's firewall
knows of Istio."""
SUPERVISOR_SOCKET = "/run/supervisor.sock"
"""Inside the instance's mount namespace; from outside it is reached through /proc/<init>/root."""
INIT = Path(__file__).with_name("init.sh")
SPAWN_SECONDS = 20.0
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
"""Variables that lead programs to a proxy, in upper or lower case."""
LOCK_SECONDS = 180.0
LOCK_QUIET_SECONDS = 2.0
INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_NEEDED = 1024
"""Past some twenty VMs systemd in the next one fails with `Failed to allocate manager object` at the default 128."""


class LabError(Exception):
    """A failure that a person can act on: the message says what happened and what to do."""


@dataclass(frozen=True)
class Subnets:
    """The addresses of one slot, all inside 10.(64+slot).0.0/16."""

    slot: int

    @property
    def prefix(self) -> str:
        return f"10.{64 + self.slot}"

    @property
    def all(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(f"{self.prefix}.0.0/16")

    @property
    def bridge(self) -> ipaddress.IPv4Interface:
        """Node, gateways and machines share this network; the address is the node's."""
        return ipaddress.IPv4Interface(f"{self.prefix}.0.1/20")

    @property
    def host(self) -> str:
        """The host's own address on the bridge."""
        return f"{self.prefix}.0.254"

    @property
    def node(self) -> str:
        return f"{self.prefix}.0.1"

    @property
    def cluster_dns(self) -> str:
        return f"{self.prefix}.0.10"

    @property
    def machine_dns(self) -> str:
        """The machines' resolver: knows the machines and nothing of cluster.local, as a company's own would."""
        return f"{self.prefix}.0.53"

    @property
    def balancers(self) -> ipaddress.IPv4Network:
        """The part of the bridge's network that load balancers take their addresses from."""
        return ipaddress.IPv4Network(f"{self.prefix}.1.0/24")

    @property
    def load_balancers(self) -> list[str]:
        return [str(address) for address in self.balancers.hosts()]

    @property
    def machines(self) -> list[str]:
        return [f"{self.prefix}.{third}.{host}" for third in (2, 3) for host in range(1, 255)]

    @property
    def cutoff(self) -> ipaddress.IPv4Interface:
        """A second network of machines behind a firewall (`firewall`); the address is that of the node in it."""
        return ipaddress.IPv4Interface(f"{self.prefix}.32.1/20")

    @property
    def cutoff_machines(self) -> list[str]:
        return [f"{self.prefix}.34.{host}" for host in range(1, 255)]

    @property
    def edge(self) -> ipaddress.IPv4Network:
        """The part of the cut-off network that its firewall lets others into, on port 15443 alone."""
        return ipaddress.IPv4Network(f"{self.prefix}.33.0/24")

    @property
    def edge_machines(self) -> list[str]:
        return [str(address) for address in self.edge.hosts()]

    @property
    def pods(self) -> str:
        return f"{self.prefix}.64.0/18"

    @property
    def services(self) -> str:
        return f"{self.prefix}.128.0/17"

    @property
    def kubernetes_service(self) -> str:
        return f"{self.prefix}.128.1"


def firewall(subnets: Subnets) -> str:
    """What stands between the cut-off network and all others, as `iptables-restore` reads it.

    In table `mangle`, which kube-proxy and CNI leave alone, and which decides after the addresses of Services have
    been translated; what was asked for is in the connection's original destination. What is not let through is
    dropped and counted, as most firewalls do.
    """
    answers = "-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN"
    return "\n".join(
        [
            "*mangle",
            ":CUTOFF-OUT - [0:0]",
            ":CUTOFF-IN - [0:0]",
            ":CUTOFF-NODE - [0:0]",
            "-A FORWARD -i br1 ! -o br1 -j CUTOFF-OUT",
            "-A FORWARD ! -i br1 -o br1 -j CUTOFF-IN",
            "-A OUTPUT -o br1 -j CUTOFF-IN",
            "-A INPUT -i br1 -j CUTOFF-NODE",
            # From it: load balancers on the ports of an east-west gateway.
            f"-A CUTOFF-OUT {answers}",
            *(
                f"-A CUTOFF-OUT -p tcp -m conntrack --ctorigdst {subnets.balancers} --ctorigdstport {port} -j RETURN"
                for port in (ISTIOD_PORT, EAST_WEST_PORT)
            ),
            "-A CUTOFF-OUT -j DROP",
            # Into it: the host's SSH, and anyone to its edge on the port of an east-west gateway.
            f"-A CUTOFF-IN {answers}",
            f"-A CUTOFF-IN -s {subnets.host} -p tcp --dport 22 -j RETURN",
            f"-A CUTOFF-IN -d {subnets.edge} -p tcp --dport {EAST_WEST_PORT} -j RETURN",
            "-A CUTOFF-IN -j DROP",
            # To the node itself: names and packages. The API server, for one, is out of reach.
            f"-A CUTOFF-NODE {answers}",
            *(f"-A CUTOFF-NODE -p {kind} -d {subnets.machine_dns} --dport 53 -j RETURN" for kind in ("udp", "tcp")),
            f"-A CUTOFF-NODE -p tcp -d {subnets.node} --dport {MIRROR_PORT} -j RETURN",
            "-A CUTOFF-NODE -j DROP",
            "COMMIT",
            "",
        ]
    )


@dataclass(frozen=True)
class State:
    """What an instance must remember between two commands."""

    slot: int
    init_pid: int
    init_start: int
    """Start time of PID `init_pid` in clock ticks since boot: a reused PID has another."""
    inotify_before: int
    """`fs.inotify.max_user_instances` as the first of all clones' instances found it; the last to go puts it back."""


def process_start(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (proc(5), stat field 22); None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def processes() -> Iterator[tuple[Path, list[str]]]:
    """Every process of the host's that runs: its folder in /proc, and its command line."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        yield entry, arguments.decode(errors="replace").split("\0")


def in_namespaces_of(pid: int) -> list[str]:
    """What runs the command that follows in all namespaces of a process."""
    return ["nsenter", f"--target={pid}", "--mount", "--net", "--pid", "--uts", "--ipc", "--"]


def without_proxies() -> dict[str, str]:
    """The environment of what talks to an instance: no proxy leads to it, and none is needed."""
    return {name: value for name, value in os.environ.items() if name.upper() not in PROXIES}


def run(
    command: Sequence[str | Path],
    *,
    timeout: float = 60,
    input_text: str | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a command to its end and return its stdout; a failure carries the command's own words."""
    done = subprocess.run(
        [str(part) for part in command],
        input=input_text,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()
        raise LabError(f"{' '.join(str(part) for part in command[:6])} failed ({done.returncode}): {words}")
    return done.stdout


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=90)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:  # noqa: ARG002 (xmlrpc's signature)
        return _UnixConnection(self._path)


class Instance:
    """A named instance below `.lab/` of the project.

    Args:
        name: lower-case letters, digits and hyphens, at most 20.
        home: the folder that holds all instances; default `.lab` beside this package.
    """

    def __init__(self, name: str, home: Path | None = None) -> None:
        if not name or len(name) > 20 or not all(c.isascii() and (c.isalnum() or c == "-") for c in name):
            raise LabError(f"instance {name!r}: use 1 to 20 letters, digits and hyphens")
        self.name = name
        self.home = home or PROJECT_ROOT / ".lab"
        self.folder = self.home / name

    # ------------------------------------------------------------------ what it is

    @cached_property
    def id(self) -> str:
        """Names this instance among those of all clones on this machine (cgroups)."""
        return f"hmlab-{self.name}-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:6]}"

    @property
    def state(self) -> State | None:
        try:
            return State(**json.loads((self.folder / "instance.json").read_text()))
        except FileNotFoundError:
            return None

    @property
    def init_pid(self) -> int | None:
        """PID, as the host sees it, of the instance's first process; None when the instance is not running."""
        state = self.state
        if state is None or process_start(state.init_pid) != state.init_start:
            return None
        return state.init_pid

    @property
    def running(self) -> bool:
        return self.init_pid is not None

    @property
    def subnets(self) -> Subnets:
        state = self.state
        if state is None:
            raise LabError(f"instance {self.name} was never started; start it: python -m lab up")
        return Subnets(state.slot)

    @property
    def host_interface(self) -> str:
        return f"{HOST_INTERFACE_PREFIX}{self.subnets.slot}"

    def require_running(self) -> int:
        pid = self.init_pid
        if pid is None:
            raise LabError(f"instance {self.name} is not running; start it: python -m lab -i {self.name} up")
        return pid

    # ------------------------------------------------------------------ inside its namespaces

    def inside(self, command: Sequence[str | Path]) -> list[str]:
        """The command line that runs `command` inside the instance."""
        pid = self.require_running()
        return in_namespaces_of(pid) + [str(part) for part in command]

    def run(self, command: Sequence[str | Path], *, timeout: float = 60, input_text: str | None = None) -> str:
        """Run a command inside the instance to its end; return its stdout."""
        return run(self.inside(command), timeout=timeout, input_text=input_text)

    @property
    def supervisor(self) -> Any:
        """supervisord's XML-RPC interface (http://supervisord.org/api.html)."""
        path = f"/proc/{self.require_running()}/root{SUPERVISOR_SOCKET}"
        server: Any = xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(path))
        return server.supervisor

    # ------------------------------------------------------------------ start

    def start_namespaces(self, supervisor_config: str) -> None:
        """Make the namespaces, start supervisord as their first process, connect the host; each where it is missing."""
        with self._allocation_lock():
            self._register()
            if self.running:
                self._connect_host(self.subnets, self.require_running())
                return
            self.clean_leftovers()
            slot = self._free_slot()
            if self.folder.exists() and self.state is None:
                # Of a start that was cut off. What is in it was made for a slot that nobody remembers.
                shutil.rmtree(self.folder)
            for part in ("log", "var-lib", "programs", "machines"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
            for program in (self.folder / "programs").glob("*.conf"):
                # What an earlier start wrote may be of other pins. A machine's is renewed when it boots.
                if not program.name.startswith("machine-"):
                    program.unlink()
            before = self._inotify_before()
            subnets = Subnets(slot)
            self._write_system_files(subnets)
            write(self.folder / "supervisord.conf", supervisor_config)
            self._make_cgroups()
            pid = self._spawn_init(subnets)
            start = process_start(pid)
            if start is None:
                raise LabError(f"the instance's first process ended at once; see {self.folder}/log/init.log")
            state = State(slot, pid, start, before)
            write(self.folder / "instance.json", json.dumps(asdict(state)))
            if int(INOTIFY_INSTANCES.read_text()) < INOTIFY_NEEDED:
                INOTIFY_INSTANCES.write_text(str(INOTIFY_NEEDED))
            self._connect_host(subnets, pid)

    def _inotify_before(self) -> int:
        """The host's own limit: as it is, or as an instance noted it that has raised it and not taken it back."""
        now = int(INOTIFY_INSTANCES.read_text())
        if now != INOTIFY_NEEDED:
            return now
        states = [self.state, *(other.state for other in self._others())]
        return min([now, *(state.inotify_before for state in states if state is not None)])

    def _spawn_init(self, subnets: Subnets) -> int:
        """Start the first process; returns its PID as the host sees it."""
        with (self.folder / "log" / "init.log").open("ab") as log:
            # `unshare` forks, so that its child is PID 1 of the new PID namespace.
            parent = subprocess.Popen(
                ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--mount-proc"]
                + ["--propagation", "private", "sh", str(INIT)]
                + [str(self.folder), sys.executable, subnets.services, str(subnets.cutoff), str(subnets.bridge)]
                + [f"{address}/32" for address in (subnets.cluster_dns, subnets.machine_dns)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env=without_proxies(),
            )
        deadline = time.monotonic() + SPAWN_SECONDS
        child = None
        try:
            while parent.poll() is None and time.monotonic() < deadline:
                children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
                child = int(children[0]) if children else None
                if child and Path(f"/proc/{child}/root{SUPERVISOR_SOCKET}").exists():
                    return child
                time.sleep(0.02)
            raise LabError(f"the namespaces of {self.name} could not be made; see {self.folder}/log/init.log")
        except BaseException:
            # `unshare` ends with its child; without it, the child would live on.
            if child and parent.poll() is None:
                os.kill(child, signal.SIGKILL)
            parent.kill()
            raise

    def _write_system_files(self, subnets: Subnets) -> None:
        system = self.folder / "system"
        system.mkdir(exist_ok=True)
        write(system / "hosts", f"127.0.0.1 localhost\n{subnets.node} node\n")
        write(system / "resolv.conf", f"nameserver {subnets.machine_dns}\n")
        write(system / "firewall", firewall(subnets))

    def _connect_host(self, subnets: Subnets, pid: int) -> None:
        """One veth pair from the host to the bridge, and routes to all behind it: all the host gets."""
        host = self.host_interface
        if not (INTERFACES / host).exists():
            run(["ip", "link", "add", host, "type", "veth", "peer", "name", "host0", "netns", str(pid)])
        run(["ip", "link", "set", host, "alias", self.id])
        self.run(["ip", "link", "set", "host0", "master", "br0", "up"])
        run(["ip", "addr", "replace", f"{subnets.host}/{subnets.bridge.network.prefixlen}", "dev", host])
        run(["ip", "link", "set", host, "up"])
        for network in (subnets.pods, subnets.services, str(subnets.cutoff.network)):
            run(["ip", "route", "replace", network, "via", subnets.node, "dev", host])

    @contextlib.contextmanager
    def _allocation_lock(self) -> Iterator[None]:
        """Held while a slot is chosen and taken, among all clones of this user."""
        cache_root().mkdir(parents=True, exist_ok=True)
        with locked(cache_root() / "instances.lock"):
            yield

    def _free_slot(self) -> int:
        """The slot this instance had, else the first one that touches no network of the host or of an instance."""
        routes = [
            (ipaddress.IPv4Network(route["dst"], strict=False), f"the route to {route['dst']} on {route.get('dev')}")
            for route in json.loads(run(["ip", "-4", "-json", "route", "show", "table", "all"]))
            if route["dst"] != "default" and route.get("type", "unicast") in ("unicast", "local")
        ]
        others = self._others()
        if (state := self.state) is not None:
            network = Subnets(state.slot).all
            users = [
                f"the instance in {other.folder}" for other in others if other.running and other.slot == state.slot
            ]
            users += [user for used, user in routes if network.overlaps(used)]
            if users:
                raise LabError(
                    f"instance {self.name} was made for {network}, which {users[0]} has now: it cannot start there, and"
                    " its certificates and machines are good for no other addresses. End what has the network, or make"
                    f" the instance anew: python -m lab -i {self.name} reset (down removes it)"
                )
            return state.slot
        noted = {other.slot for other in others}
        for slot in SLOTS:
            if slot not in noted and not any(Subnets(slot).all.overlaps(used) for used, _ in routes):
                return slot
        raise LabError(
            "every network of 10.64.0.0/10 is in use on this host or kept by an instance that is not running; the"
            " environment needs one /16 of it: end an instance that nobody needs (python -m lab -i NAME down)"
        )

    @property
    def slot(self) -> int | None:
        """The slot that it runs in or would start in again; None before its first start."""
        state = self.state
        return None if state is None else state.slot

    def _others(self) -> list[Instance]:
        """All clones' instances that have a slot, but this one; those of deleted clones have none any more."""
        others = [Instance(folder.name, folder.parent) for folder in self._registered() if folder != self.folder]
        return [other for other in others if other.slot is not None]

    @staticmethod
    def _register_file() -> Path:
        """Folders of all clones' instances, a line each; read and written under the allocation lock."""
        return cache_root() / "instances"

    def _registered(self) -> list[Path]:
        file = self._register_file()
        return [Path(line) for line in file.read_text().splitlines()] if file.exists() else []

    def _register(self) -> None:
        """Add this instance's folder, and drop those that are gone."""
        known = [folder for folder in self._registered() if folder != self.folder and folder.exists()]
        write(self._register_file(), "".join(f"{folder}\n" for folder in [*known, self.folder]))

    # ------------------------------------------------------------------ cgroups

    def cgroup_folders(self) -> list[Path]:
        """This instance's folder in every cgroup hierarchy of the host (one with cgroup v2)."""
        if (CGROUP_ROOT / "cgroup.controllers").exists():
            return [CGROUP_ROOT / self.id]
        return [hierarchy / self.id for hierarchy in sorted(CGROUP_ROOT.iterdir()) if hierarchy.is_dir()]

    def _make_cgroups(self) -> None:
        for folder in self.cgroup_folders():
            folder.mkdir(exist_ok=True)
            if (clone := folder / "cgroup.clone_children").exists() and folder.parent.name.startswith("cpuset"):
                clone.write_text("1")
                for setting in ("cpuset.cpus", "cpuset.mems"):
                    (folder / setting).write_text((folder.parent / setting).read_text())
            if (controllers := folder / "cgroup.controllers").exists():
                for controller in controllers.read_text().split():
                    with contextlib.suppress(OSError):
                        (folder / "cgroup.subtree_control").write_text(f"+{controller}")

    def _remove_cgroups(self) -> None:
        for folder in self.cgroup_folders():
            for path, _, _ in os.walk(folder, topdown=False):
                deadline = time.monotonic() + 10
                while Path(path).exists():
                    try:
                        os.rmdir(path)
                    except OSError as problem:
                        if time.monotonic() > deadline:
                            raise LabError(f"cgroup {path} is still in use: {problem}") from problem
                        time.sleep(0.1)

    # ------------------------------------------------------------------ end

    def stop_namespaces(self) -> None:
        """End every process of the instance: the kernel ends all of a PID namespace with its first."""
        pid = self.init_pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + 30
            while process_start(pid) is not None:
                if time.monotonic() > deadline:
                    raise LabError(f"process {pid} of instance {self.name} does not end")
                time.sleep(0.05)

    def clean_leftovers(self) -> None:
        """Remove what an instance without processes left: its cgroups, its interface, its runtime files."""
        if self.running:
            return
        for pid in self._orphans():
            with contextlib.suppress(ProcessLookupError):  # it ended with another of them
                os.kill(pid, signal.SIGKILL)
        self._remove_cgroups()
        if self._has_interface():
            with contextlib.suppress(LabError):  # the kernel may be about to remove it with the namespace
                run(["ip", "link", "delete", self.host_interface])

    def _orphans(self) -> list[int]:
        """First processes of this folder that no state file remembers: an `up` was cut off before it wrote one.

        Known by what they run, init.sh or supervisord, and by a PID namespace that is not the host's.
        """
        config, here = str(self.folder / "supervisord.conf"), os.readlink("/proc/self/ns/pid")
        found = []
        for entry, arguments in processes():
            first = arguments[1:3] == [str(INIT), str(self.folder)] or (
                "supervisor.supervisord" in arguments and config in arguments
            )
            with contextlib.suppress(OSError):
                if first and os.readlink(entry / "ns" / "pid") != here:
                    found.append(int(entry.name))
        return found

    def _has_interface(self) -> bool:
        """Whether the host still has this instance's interface; one of that name may be another clone's."""
        if self.slot is None:
            return False
        try:
            return (INTERFACES / self.host_interface / "ifalias").read_text().strip() == self.id
        except OSError:
            return False

    def remove(self) -> None:
        """End the instance and leave no process, mount, interface, rule or file of it."""
        with self._allocation_lock():
            self._remove()

    def _remove(self) -> None:
        state = self.state
        self.stop_namespaces()
        self.clean_leftovers()
        if state is not None:
            deadline = time.monotonic() + 20
            while self._has_interface():
                if time.monotonic() > deadline:
                    raise LabError(f"interface {self.host_interface} does not go away")
                time.sleep(0.1)
            # Another clone's instance needs it as well, and shows by its interface.
            others = any(INTERFACES.glob(f"{HOST_INTERFACE_PREFIX}*"))
            if not others and state.inotify_before < INOTIFY_NEEDED:
                INOTIFY_INSTANCES.write_text(str(state.inotify_before))
        if str(self.folder) in Path("/proc/self/mountinfo").read_text():
            raise LabError(f"something is still mounted below {self.folder}; unmount it, then try again")
        if self.folder.exists():
            shutil.rmtree(self.folder)
        with contextlib.suppress(OSError):
            self.home.rmdir()


@contextlib.contextmanager
def locked(path: Path, seconds: float | None = None) -> Iterator[None]:
    """Hold a lock file, and say so where another process keeps this one waiting.

    seconds: how long what it is held for may take; default `LOCK_SECONDS`, for what builds nothing.

    Raises:
        StoreBusyError: another process holds it for longer.
    """
    begun, said = time.monotonic(), False

    def waiting() -> None:
        nonlocal said
        if not said and time.monotonic() - begun > LOCK_QUIET_SECONDS:
            print(f"waiting for {holder(path)}, which holds {path}", file=sys.stderr, flush=True)
            said = True

    with lock_file(path, waiting, LOCK_SECONDS if seconds is None else seconds, poll=0.02):
        yield


def write(path: Path, text: str) -> None:
    """Write a file as a whole, or leave it alone where it says so already: kube-proxy ends when its file is touched."""
    if path.exists() and path.read_text() == text:
        return
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)
