"""What the mesh says of itself, and what it could not be asked."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hybridmesh.ops import mesh
from hybridmesh.ops.facts import certificates
from hybridmesh.ops.mesh import Endpoint, endpoints_of, look
from hybridmesh.providers.cluster import ClusterError, Pod, UnansweredError
from tests.ops.probed import ADDRESS, HOST, NOW, TOPOLOGY, certificate, entry, private_key
from tests.ops.sshd import closed_port
from tests.providers.fake_cluster import FakeCluster

ISTIODS = "istio-system app=istiod,istio.io/rev in (default)"
GATEWAYS = "istio-system istio=eastwestgateway"
READY, STARTING = Pod("a", "10.0.0.1", True), Pod("b", "10.0.0.2", False)
BY_ADDRESS = {**TOPOLOGY, "gateway": {**TOPOLOGY["gateway"], "byAddress": True}}


@pytest.mark.parametrize(
    ("pods", "installed", "by_address"),
    [([READY, READY], 2, 2), ([STARTING], 0, 0), ([], 0, None)],
)
def test_of_a_gateway_adopted_by_its_address_pods_that_are_not_found_say_nothing(
    pods: list[Pod], installed: int, by_address: int | None
) -> None:
    cluster = FakeCluster(running={GATEWAYS: pods})
    assert look(TOPOLOGY, cluster).gateways == installed
    assert look(BY_ADDRESS, cluster).gateways == by_address


@pytest.mark.parametrize(
    ("selector", "pods", "count"),
    [({"app": "eastwest", "of": "me"}, [READY], 1), ({"app": "eastwest", "of": "me"}, [], 0), (None, [], None)],
)
def test_a_gateway_s_pods_are_those_that_its_service_selects(
    selector: dict[str, str] | None, pods: list[Pod], count: int | None
) -> None:
    cluster = FakeCluster(
        services={"istio-system/istio-eastwestgateway": {"spec": {"selector": selector}}},
        running={"istio-system app=eastwest,of=me": pods, GATEWAYS: [STARTING]},
    )
    assert look(TOPOLOGY, cluster).gateways == count


def test_istiods_are_counted_by_revision() -> None:
    two = {**TOPOLOGY, "controlPlane": {**TOPOLOGY["controlPlane"], "revisions": ["canary"]}}
    cluster = FakeCluster(running={ISTIODS.replace("default", "canary"): [READY, STARTING]})
    cluster.revisions = "default,canary"
    assert look(two, cluster).istiods == {"default": 0, "canary": 1}


def test_endpoints_that_no_istiod_could_be_asked_for_are_not_known() -> None:
    shards = {HOST: {"demo": {"Shards": {"a": [{"Addresses": [ADDRESS], "Labels": {"app": "echo"}}]}}}}
    page, pods = "istio-system/{}:15014/debug/endpointShardz", {ISTIODS: [READY, STARTING]}
    silent, one = FakeCluster(running=pods), FakeCluster(running=pods, pages={page.format("b"): json.dumps(shards)})
    nobody = FakeCluster(running=pods, pages={page.format("a"): "{}"})
    assert look(TOPOLOGY, silent).endpoints is None
    (line,) = look(TOPOLOGY, silent).unread
    assert "no istiod says which endpoints" in line
    assert look(TOPOLOGY, FakeCluster()).unread == [], "that none runs is another matter"
    odd = FakeCluster(running=pods, pages={page.format("a"): "<html>", page.format("b"): "{}"})
    assert look(TOPOLOGY, odd).endpoints == []
    assert look(TOPOLOGY, one).endpoints == [
        Endpoint(service=HOST, address=ADDRESS, labels={"app": "echo"}, healthy=True)
    ]
    assert look(TOPOLOGY, nobody).endpoints == []


def test_all_that_the_cluster_has_of_a_stack_is_seen() -> None:
    group = {"metadata": {"namespace": "demo", "name": "echo"}}
    sent = f"outbound|8080|vm|{HOST}::{ADDRESS}:8080::rq_total::4\n"
    cluster = FakeCluster(
        custom={"demo/workloadentries": [entry()], "demo/workloadgroups": [group]},
        states=[{"proxy": "vm-1.demo"}],
        maps={"demo/istio-ca-root-cert": {"root-cert.pem": certificate()}},
        running={"demo app=client": [READY], "demo app=echo": [STARTING]},
        pages={"demo/a:15000/clusters": sent, "demo/b:15000/clusters": sent},
    )
    found = look(TOPOLOGY, cluster)
    assert found.entries == {f"demo/echo-{ADDRESS}-embedded": entry()}
    assert found.groups == {"demo/echo": group}
    assert found.states == {"demo": [{"proxy": "vm-1.demo"}]}
    assert found.roots == {"demo": certificates(certificate())}
    assert found.requests == {f"outbound|8080|vm|{HOST}": 8}, "of all that call"
    assert look(TOPOLOGY, FakeCluster()).roots == {"demo": ()}


@pytest.mark.parametrize(("status", "healthy"), [(None, True), (1, True), (2, False), (3, False), (4, False)])
def test_an_endpoint_that_is_ill_or_leaves_is_not_healthy(status: int | None, healthy: bool) -> None:
    found = {"Addresses": [ADDRESS], **({} if status is None else {"HealthStatus": status})}
    shards = {HOST: {"demo": {"Shards": {"a": [found], "b": None}}}, "other": {"demo": {"Shards": {"a": [found]}}}}
    assert endpoints_of(shards, [HOST, "none"]) == [
        Endpoint(service=HOST, address=ADDRESS, labels={}, healthy=healthy)
    ], "only of the services that were asked for"


def test_policies_of_the_root_namespace_hold_in_each_once() -> None:
    def policies(*names: str) -> list[dict[str, Any]]:
        return [{"metadata": {"name": name}} for name in names]

    cluster = FakeCluster(
        custom={
            "demo/authorizationpolicies": policies("own"),
            "istio-system/authorizationpolicies": policies("everywhere"),
            "other/authorizationpolicies": policies("elsewhere"),
        }
    )
    assert look(TOPOLOGY, cluster).policies == {"demo": policies("own", "everywhere")}
    in_root = {name: {**machine, "namespace": "demo"} for name, machine in TOPOLOGY["machines"].items()}
    workloads = {**TOPOLOGY["workloads"], "other": {**TOPOLOGY["workloads"]["client"], "namespace": "istio-system"}}
    found = look({**TOPOLOGY, "machines": in_root, "workloads": workloads}, cluster)
    assert found.policies["istio-system"] == policies("everywhere")


@pytest.mark.parametrize(
    ("config", "root"),
    [
        ("rootNamespace: policies\n", "policies"),
        ("rootNamespace: istio-system\n", "istio-system"),
        ("trustDomain: x\n", "istio-system"),
        ("- no\nmapping", "istio-system"),
        (None, "istio-system"),
    ],
)
def test_the_root_namespace_is_the_mesh_s_and_not_always_istiod_s(config: str | None, root: str) -> None:
    cluster = FakeCluster(
        custom={
            f"{name}/authorizationpolicies": [{"metadata": {"name": name}}] for name in ("policies", "istio-system")
        },
        maps={} if config is None else {"istio-system/istio": {"mesh": config}},
    )
    assert look(TOPOLOGY, cluster).policies == {"demo": [{"metadata": {"name": root}}]}


@pytest.mark.parametrize("error", [ClusterError, UnansweredError])
def test_who_may_not_read_the_mesh_config_is_told_the_rest(
    monkeypatch: pytest.MonkeyPatch, error: type[ClusterError]
) -> None:
    def refuses(_self: object, namespace: str, _name: str) -> None:
        if namespace == "istio-system":
            raise error("refused")

    monkeypatch.setattr(FakeCluster, "config_map", refuses)
    with pytest.raises(UnansweredError) if error is UnansweredError else nullcontext():
        assert look(TOPOLOGY, FakeCluster()).policies == {"demo": []}


ASKED = {
    "AuthorizationPolicies": ("objects_in", "authorizationpolicies", "which calls policies of demo refuse"),
    "WorkloadGroups": ("objects_in", "workloadgroups", "what the groups of demo ask of entries"),
    "root certificate": ("config_map", "istio-ca-root-cert", "the mesh's root certificate in demo"),
    "sync": ("sync_states", "demo", "whether machines of demo are in sync"),
    "Service": ("service", "istio-eastwestgateway", "whether the gateway runs"),
    "istiod": ("pods", "app=istiod,istio.io/rev in (default)", "whether istiod default runs; whether others are told"),
    "pods": ("pods", "app=client", "what pods have sent where"),
    "port": ("ask_pod", "/clusters", "what pods have sent where"),
}


@pytest.mark.parametrize(("method", "about", "unknown"), ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("error", [ClusterError, UnansweredError])
def test_who_may_read_but_a_part_is_told_the_rest_and_what_is_not_known(
    monkeypatch: pytest.MonkeyPatch, method: str, about: str, unknown: str, error: type[ClusterError]
) -> None:
    asked = getattr(FakeCluster, method)

    def refuses(self: object, *arguments: Any) -> Any:
        if about in arguments:
            raise error("no.")
        return asked(self, *arguments)

    monkeypatch.setattr(FakeCluster, method, refuses)
    running = {"demo app=client": [READY], ISTIODS: [READY], GATEWAYS: [READY]}
    shards = {"istio-system/a:15014/debug/endpointShardz": "{}"}
    found = look(TOPOLOGY, FakeCluster(custom={"demo/workloadentries": [entry()]}, running=running, pages=shards))
    assert found.entries == {f"demo/echo-{ADDRESS}-embedded": entry()}
    (line,) = found.unread
    assert line.startswith(f"no. Not known for that: {unknown}")
    assert [found.istiods["default"], found.gateways, found.states.get("demo")] == [
        None if method == "pods" and "istiod" in about else 1,
        None if method == "service" else 1,
        None if method == "sync_states" else [],
    ]


def test_without_workload_entries_of_any_namespace_nothing_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: set[str] = set()

    def refuse(self: FakeCluster, _group: str, _version: str, plural: str, namespace: str) -> Any:
        if plural == "workloadentries" and namespace not in allowed:
            raise ClusterError("refused.")
        return self.custom.get(f"{namespace}/{plural}", [])

    monkeypatch.setattr(FakeCluster, "objects_in", refuse)
    two = {**TOPOLOGY["workloads"], "front": {**TOPOLOGY["workloads"]["client"], "namespace": "shop"}}
    cluster = FakeCluster(custom={"demo/workloadentries": [entry()]})
    with pytest.raises(ClusterError, match="refused"):
        look({**TOPOLOGY, "workloads": two}, cluster)
    allowed.add("demo")
    found = look({**TOPOLOGY, "workloads": two}, cluster)
    assert (list(found.entries), set(found.blind)) == ([f"demo/echo-{ADDRESS}-embedded"], {"shop"})
    assert found.unread == ["refused. Not known for that: whether machines of shop are in the mesh."]


def test_certificates_are_asked_for_within_one_limit_and_not_of_machines_that_told_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over, asked = threading.Event(), []

    def shown(machine: dict[str, Any], _workloads: object) -> datetime:
        asked.append(machine["name"])
        if machine["name"] not in ("vm-1", "vm-2"):
            over.wait(10)
        return NOW

    monkeypatch.setattr(mesh, "_shown_certificate", shown)
    monkeypatch.setattr(mesh, "SHOWN_SECONDS", 0.5)
    machines = {f"vm-{n}": {**TOPOLOGY["machines"]["vm-1"], "name": f"vm-{n}"} for n in range(60)}
    began = time.monotonic()
    try:
        found = mesh.shown_certificates({**TOPOLOGY, "machines": machines}, {}, ["vm-2"])
    finally:
        over.set()
    assert time.monotonic() - began < 5
    assert found == {"vm-1": NOW}
    assert "vm-2" not in asked


@contextmanager
def proxy(folder: Path) -> Iterator[int]:
    """A port where a proxy shows its certificate, and then wants one."""
    (folder / "pem").write_text(certificate() + private_key())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem")
    context.load_verify_locations(folder / "pem")
    context.verify_mode = ssl.CERT_REQUIRED

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listening.accept()
            context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield int(listening.getsockname()[1])


def test_a_proxy_is_asked_for_its_certificate_at_the_first_of_its_ports_that_answers(tmp_path: Path) -> None:
    machines = {"vm-1": {**TOPOLOGY["machines"]["vm-1"], "address": "192.0.2.1", "meshAddress": "127.0.0.1"}}
    with proxy(tmp_path) as port:
        ports = [{"port": port, "target": closed_port()}, {"port": 1, "target": port}]
        workloads = {"echo": {**TOPOLOGY["workloads"]["echo"], "ports": ports}}
        found = mesh.shown_certificates({**TOPOLOGY, "machines": machines, "workloads": workloads}, {}, [])
    assert found == {"vm-1": NOW + timedelta(hours=23)}
    nowhere = {"machines": {"vm-1": {**machines["vm-1"], "workload": "a gateway's"}}, "workloads": workloads}
    assert mesh.shown_certificates({**TOPOLOGY, **nowhere}, {}, []) == {}


def test_the_stack_s_own_machines_are_asked_before_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(mesh, "_shown_certificate", lambda machine, _: asked.append(machine["entry"]))
    monkeypatch.setattr(
        mesh, "others", lambda *_: {f"fleet-{n}": {"entry": f"fleet-{n}"} for n in range(mesh.OTHERS + 8)}
    )
    mesh.shown_certificates(TOPOLOGY, {}, [])
    assert asked[0] == TOPOLOGY["machines"]["vm-1"]["entry"]
    assert len(asked) == 1 + mesh.OTHERS


def test_a_machine_that_shows_a_certificate_of_no_known_version_holds_up_no_other(tmp_path: Path) -> None:
    third, eighth = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"
    odd = ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(certificate()).replace(third, eighth, 1))
    (tmp_path / "shown.pem").write_text(odd + private_key())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "shown.pem")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def show() -> None:
            with suppress(OSError):
                context.wrap_socket(server.accept()[0], server_side=True).close()

        threading.Thread(target=show, daemon=True).start()
        ports = [{"target": server.getsockname()[1]}]
        workloads = {**TOPOLOGY["workloads"], "echo": {**TOPOLOGY["workloads"]["echo"], "ports": ports}}
        machines = {"vm-1": {**TOPOLOGY["machines"]["vm-1"], "meshAddress": "127.0.0.1"}}
        found = mesh.shown_certificates({**TOPOLOGY, "workloads": workloads, "machines": machines}, {}, [])
    assert found == {}
