"""Requests to the demo app from a pod or from a machine, and who answered them."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lab.instance import Instance, run, without_proxies
from lab.machines import Machine
from lab.toolchain import Toolset

Runner = Callable[[list[str]], str]
"""Runs a command somewhere and returns its stdout."""


@dataclass
class Answers:
    """Who answered how many requests; `failed` counts the statuses other than 200 (000: no answer at all)."""

    requests: int
    by_platform: Counter[str] = field(default_factory=Counter)
    by_instance: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def answered(self) -> int:
        return sum(self.by_instance.values())

    def __str__(self) -> str:
        shares = ", ".join(f"{count} by {name}" for name, count in sorted(self.by_instance.items()))
        failures = "".join(f", {count} failed with status {status}" for status, count in self.failed.items())
        return f"{self.answered} of {self.requests} requests answered: {shares or 'none'}{failures}"


def ask(runner: Runner, url: str, requests: int = 1, options: Sequence[str] = ()) -> Answers:
    """Send GET requests one after the other by curl and count the demo app's answers.

    Args:
        runner: runs curl where the requests shall come from.
        url: of the demo app; a counter is added as its query.
        requests: how many.
        options: further options of curl, such as headers.
    """
    separator = "\n--answer--"
    output = runner(
        ["curl", "--silent", "--max-time", "10", *options, "--write-out", f"{separator}%{{http_code}}\n"]
        + [f"{url}?request=[1-{requests}]"]
    )
    answers = Answers(requests)
    body: list[str] = []
    for line in output.splitlines():
        if not line.startswith(separator.strip()):
            body.append(line)
            continue
        status = line.removeprefix(separator.strip())
        if status == "200":
            answer = json.loads("\n".join(body))
            answers.by_platform[answer["platform"]] += 1
            answers.by_instance[answer["instance"]] += 1
        else:
            answers.failed[status] += 1
        body = []
    return answers


def in_pod(instance: Instance, tools: Toolset, target: str, namespace: str) -> Runner:
    """Runs commands in a pod's first container; `target` as kubectl has it, such as `deploy/client`."""
    kubectl = [str(tools.bin_dir / "kubectl"), "--kubeconfig", str(instance.folder / "kubeconfig")]

    def runner(command: list[str]) -> str:
        # curl's exit code is that of its last transfer; the statuses tell more.
        tolerant = ["sh", "-c", '"$@" || true', "-", *command]
        command = [*kubectl, "exec", "--quiet", "-n", namespace, target, "--", *tolerant]
        return run(command, timeout=300, env=without_proxies())

    return runner


def on_machine(machine: Machine) -> Runner:
    """Runs commands on a machine, over SSH."""

    def runner(command: list[str]) -> str:
        return machine.ssh([shlex.join(command) + " || true"], timeout=300)

    return runner
