"""The program with as many VMs as asked for, and with mocks in the place of engine and providers: `program.py N MODE`.

MODE is `preview`, of a stack of which nothing is there, or `up`, where all is known; or `bare`, for Pulumi's own share:
N resources of ten texts each, and nothing of ours. Prints JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import pulumi
import pulumi.runtime.mocks

from bench.settings import document, made_up
from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from hybridmesh.garbage import collect_what_is_new
from hybridmesh.settings import parse
from tests.components.harness import Answers, World, read_file


class Monitor(pulumi.runtime.mocks.MockMonitor):
    """Counts what is registered, and keeps nothing of it, as an engine in a process of its own."""

    count = 0

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the engine's name
        answer = super().RegisterResource(request)  # type: ignore[no-untyped-call]  # pulumi's own
        self.count += 1
        self.resources.clear()
        return answer


BARE_PROPERTIES = 10
"""As many as a resource of ours has on average."""


def bare(count: int) -> pulumi.Output[str]:
    """Resources that do nothing."""
    texts = {f"p{number}": "text" for number in range(BARE_PROPERTIES)}
    return [pulumi.CustomResource("bench:index:Bare", f"bare-{number}", texts) for number in range(count)][-1].urn


def mesh(count: int) -> pulumi.Output[Any]:
    """The program."""
    config = document(made_up(count))["config"]
    settings = parse({key.removeprefix("hybrid-mesh:"): value for key, value in config.items()}, read_file)
    return HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology


def main(count: int, mode: str) -> None:
    collect_what_is_new()  # as in the program
    preview = mode != "up"
    answers = Answers(World(preview=preview, first=preview))
    monitor = Monitor(answers)
    pulumi.runtime.mocks.set_mocks(answers, project="hybrid-mesh", stack="dev", preview=preview, monitor=monitor)
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    # pulumi types none of its test helpers.
    pulumi.runtime.test(lambda: (bare if mode == "bare" else mesh)(count))()  # type: ignore[no-untyped-call]
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "wall": time.perf_counter() - began,
                "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                "rss": after.ru_maxrss / 1024,
                "resources": monitor.count,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
