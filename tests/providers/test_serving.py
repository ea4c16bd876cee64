"""How many requests the engine's plugin process serves at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
from google.protobuf.struct_pb2 import Struct  # type: ignore[import-untyped]
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from hybridmesh.providers.serving import make_room

PROJECT_ROOT = Path(__file__).parents[2]
AT_ONCE = 12
PROVIDER = f"""
import threading
from pulumi.dynamic import CreateResult, ResourceProvider
from hybridmesh.providers.serving import make_room

meet = threading.Barrier({AT_ONCE})

class Waits(ResourceProvider):
    def create(self, props):
        make_room()
        if props["kind"] == "wait":
            meet.wait(timeout=15)
        return CreateResult("met", {{}})
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Pulumi's own server of dynamic providers, as the engine starts it; its address."""
    (tmp_path / "provider_that_waits.py").write_text(PROVIDER)
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT_ROOT}"}
    command = [sys.executable, "-u", "-m", "pulumi.dynamic", "127.0.0.1:1"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


def test_vms_that_do_not_come_hold_up_no_other(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    from provider_that_waits import Waits  # type: ignore[import-not-found]

    provider = serialize_provider(Waits())

    def create(channel: grpc.Channel, kind: str) -> str:
        properties = Struct()
        properties.update({"__provider": str(provider), "kind": kind})
        request = provider_pb2.CreateRequest(properties=properties)
        answer = provider_pb2_grpc.ResourceProviderStub(channel).Create(request, timeout=30)
        return str(answer.id)

    with grpc.insecure_channel(server) as channel, ThreadPoolExecutor(max_workers=AT_ONCE) as callers:
        assert create(channel, "first") == "met"
        answers = list(callers.map(lambda _: create(channel, "wait"), range(AT_ONCE)))
    assert answers == ["met"] * AT_ONCE, "each waited for all others"


def test_pools_of_other_programs_are_left_alone() -> None:
    with ThreadPoolExecutor(max_workers=4) as pool:
        make_room.cache_clear()
        make_room()
        assert pool._max_workers == 4
