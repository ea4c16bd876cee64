"""A private SSH server: the real one, in namespaces of its own, on a loopback port, ended with its tests.

It needs root. It writes nothing outside its folder: its host key, log, users and passwords lie there, and its
processes, those of its sessions included, end with their PID namespace.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from lab import toolchain

PASSWORD = "correct horse battery staple"
"""The password of root at this server, and only there."""

ACCEPTED_VARIABLE = "HYBRID_MESH_ACCEPTED"
"""The one environment variable that a client may set."""

_PASSWORD_HASH = "$6$hybridmesh$S1MeMDDw5P616mWt4n9Okt08WzQ3ZyzcmXpvbucKLsktMKwr0H6.g8ddFu2OM3ohQBoPsEAZaguiqc09oKsBl/"
_START_SECONDS = 20.0

_IN_NAMESPACES = """
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -m 0755 /run/sshd
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/shadow" /etc/shadow
shift
exec "$@"
"""

_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
LogLevel VERBOSE
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication yes
AllowTcpForwarding yes
MaxStartups 100
AcceptEnv {variable}
Subsystem sftp internal-sftp
"""


class Sshd:
    """A running server at 127.0.0.1, user root. Use it as a context manager."""

    host = "127.0.0.1"
    user = "root"

    def __init__(self, folder: Path, port: int | None = None) -> None:
        """Starts it; `folder` is made. `port` defaults to a free one."""
        self.port = free_port() if port is None else port
        self._folder = folder
        self._log = folder / "log"
        folder.mkdir()
        self.host_key = make_key(folder / "host_key")
        (folder / "authorized_keys").write_text(make_key(folder / "client_key") + "\n")
        self.private_key = (folder / "client_key").read_text()
        config = _CONFIG.format(port=self.port, folder=folder, variable=ACCEPTED_VARIABLE)
        (folder / "config").write_text(config)
        users = Path("/etc/passwd").read_text()
        if "\nsshd:" not in users:
            users += "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
        (folder / "passwd").write_text(users)
        (folder / "shadow").write_text(f"root:{_PASSWORD_HASH}:19000:0:99999:7:::\n")
        (folder / "shadow").chmod(0o600)

        namespaces = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        server = (*_executable(), "-D", "-e", "-r", "-f", folder / "config")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*namespaces, "sh", "-eu", "-c", _IN_NAMESPACES, "sh", folder, *server],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._await_start()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Sshd:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def connection(self) -> dict[str, Any]:
        """The property `connection` of a resource: by key, host key checked, one attempt."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "privateKey": self.private_key,
            "hostKey": self.host_key,
            "dialErrorLimit": 0,
        }

    def accepted(self) -> int:
        """How many TCP connections it has accepted so far."""
        return self._log.read_text().count("Connection from ")

    def established(self) -> int:
        """How many TCP connections to it are open now."""
        local = f"0100007F:{self.port:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[1] == local and row[3] == "01" for row in rows)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _await_start(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while "Server listening" not in self._log.read_text():
            assert self._process.poll() is None, f"sshd ended: {self._log.read_text()}"
            assert time.monotonic() < deadline, f"sshd does not listen after {_START_SECONDS} s"
            time.sleep(0.02)


def make_key(path: Path) -> str:
    """Make an SSH key pair at `path`; returns the public key, type and key without comment."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path],
        check=True,
        timeout=_START_SECONDS,
    )
    return path.with_suffix(".pub").read_text().strip()


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _executable() -> tuple[str | Path, ...]:
    """The server of this machine, else that of the embedded environment's machines, run with its own libraries."""
    installed = Path("/usr/sbin/sshd")
    if os.access(installed, os.X_OK):
        return (installed,)
    root = toolchain.installed(["machine-root"]).machine_root
    (loader,) = (root / "usr/lib").glob("*/ld-linux-*.so.*")
    return (loader, "--library-path", loader.parent, root / "usr/sbin/sshd")
