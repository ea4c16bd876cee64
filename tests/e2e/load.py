"""A steady load on the demo app from a pod or a VM, request by request."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lab.machines import Machine
from tests.environment import Lab

SCRIPT = """
import http.client, json, sys, threading, time
host, path, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
while not over.wait(pause):
    began, status, instance = time.time(), 0, "-"
    try:
        connection = http.client.HTTPConnection(host, 8080, timeout=10)
        connection.request("GET", path)
        response = connection.getresponse()
        status, body = response.status, response.read()
        instance = json.loads(body)["instance"] if body.startswith(b"{") else "-"
        connection.close()
    except OSError:
        pass
    print(began, time.time(), status, instance, flush=True)
"""
"""It ends when its stdin does."""


@dataclass(frozen=True)
class Request:
    """One request as the client saw it. The pods' clock is this machine's."""

    began: float
    ended: float
    status: int
    """0: no answer at all."""
    instance: str
    """Who answered; `-` where the app did not."""


@dataclass
class Load:
    """One request after another from the client's pod, or from a VM, for as long as it is open."""

    lab: Lab
    path: str = "/"
    host: str = "echo.demo.svc.cluster.local"
    pause: float = 0.02
    """Seconds between two requests."""
    machine: Machine | None = None
    """The VM that they come from; None: the client's pod."""
    _process: subprocess.Popen[str] | None = field(default=None, init=False)

    def __enter__(self) -> Load:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(self._command(), stdin=subprocess.PIPE, stdout=log, text=True)
        try:
            self.wait("the first request", bool, 20)
        except AssertionError:
            self.__exit__()
            raise
        return self

    def _command(self) -> list[str]:
        client = ["python3", "-c", SCRIPT, self.host, self.path, str(self.pause)]
        if self.machine is not None:
            return self.machine.ssh_command(["--", shlex.join(client)])
        kubectl = [str(self.lab.bin / "kubectl"), "--kubeconfig", str(self.lab.kubeconfig)]
        return [*kubectl, "exec", "--stdin", "-n", "demo", "deploy/client", "--quiet", "--", *client]

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.communicate(timeout=30)

    @property
    def requests(self) -> list[Request]:
        """All so far."""
        whole = self._log.read_text().rpartition("\n")[0].splitlines()
        parts = (line.split() for line in whole)
        return [Request(float(began), float(ended), int(status), who) for began, ended, status, who in parts]

    def wait(self, what: str, condition: Callable[[list[Request]], bool], seconds: float) -> None:
        """Until the requests so far are so."""
        end = time.time() + seconds
        while not condition(self.requests):
            if time.time() > end:
                raise AssertionError(f"not within {seconds} s: {what}; last: {self.requests[-5:]}")
            time.sleep(0.2)

    @property
    def _log(self) -> Path:
        source = "pod" if self.machine is None else self.machine.name
        return self.lab.instance.folder / f"load-{source}.log"
