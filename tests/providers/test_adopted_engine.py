"""On Pulumi's real engine: an Istio that does not go with the settings is refused before anything is made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from lab.instance import PROJECT_ROOT
from tests.engine import Engine

pytestmark = pytest.mark.lab

PROGRAM = """
import json
from pathlib import Path

import pulumi

from hybridmesh.istio.adopted import Asked
from hybridmesh.providers import AdoptedIstiod, ClusterAccess
from tests.providers.joined import Joined

given = json.loads((Path(__file__).parent / "given.json").read_text())
there = AdoptedIstiod("mesh-adopted-default", ClusterAccess(kubeconfig=given["kubeconfig"]), Asked(**given["asked"]))
Joined("vm-1-join", {"machine": "vm-1"}, pulumi.ResourceOptions(depends_on=there))
"""
ASKED: dict[str, Any] = {
    "namespace": "istio-system",
    "revision": "default",
    "version": "1.31.0",
    "version_at": "controlPlane.version",
    "cluster": "prod",
    "network": "prod",
    "domain": "cluster.local",
    "networks": [],
    "namespaces": {},
    "pods_in": [],
    "registers": "",
    "probe": "",
    "joins": True,
    "signs": True,
    "watched": "",
    "finds": True,
    "inbound_port": "15006",
    "cut_off_seconds": 15,
    "plain": "",
    "gateway": None,
    "routed": {"echo": ["demo", ["echo.demo.svc.cluster.local"]]},
}


class Cluster(HTTPServer):
    """An API server that has what `objects` has, by path."""

    objects: Mapping[str, Any]

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.kubeconfig = folder / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.server_port}"}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        users = [{"name": "u", "user": {}}]
        document = {"clusters": [cluster], "users": users, "contexts": [context], "current-context": "x"}
        self.kubeconfig.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **document}))


class _Answer(BaseHTTPRequestHandler):
    server: Cluster

    def do_GET(self) -> None:
        found = self.server.objects.get(self.path)
        body = json.dumps(found).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def network(name: str) -> Mapping[str, Any]:
    mesh = {"data": {"mesh": "defaultVirtualServiceExportTo: ['.']\n"}}
    return {
        "/api/v1/namespaces/istio-system": {"metadata": {"labels": {"topology.istio.io/network": name}}},
        "/api/v1/namespaces/istio-system/configmaps/istio": mesh,
    }


def test_it_is_refused_before_anything_is_made_and_what_is_asked_is_no_change(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    engine = Engine.of(PROGRAM, tmp_path, "mesh")

    def asks(**changes: Any) -> None:
        given = {"kubeconfig": str(cluster.kubeconfig), "asked": {**ASKED, **changes}}
        (engine.folder / "program" / "given.json").write_text(json.dumps(given))

    cluster.objects = network("net1")
    asks()
    said = engine.up(check=False)
    assert "has a problem: cluster.network = prod: the adopted mesh calls the network of its pods net1." in said
    assert not [r for r in engine.resources() if r["type"].endswith(":Joined")]
    cluster.objects = network("prod")
    assert "routing: callers in other namespaces may go without it" in engine.up()
    asks(watched="workloads.echo.machines.hosts")
    assert "3 unchanged" in engine.run("preview").stdout
    cluster.objects = network("net2")
    assert "of its pods net2." in engine.run("preview", check=False).stdout, "each run looks"
    engine.run("destroy", "--yes", "--skip-preview")
