"""What Prometheus is told of VMs: by the page of targets, by the metrics server's own metrics."""

from __future__ import annotations

import http.client
import http.server
import io
import json
import re
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes
import pytest
import urllib3
from kubernetes import client
from prometheus_client.parser import text_string_to_metric_families

from hybridmesh.istio.sync import sync_objection
from hybridmesh.metrics import exposition
from hybridmesh.metrics.server import Cluster, Config, MeshError, metrics_page, pods_page, serve, targets_page
from hybridmesh.metrics.targets import Machine, pod_targets, targets, vms

MACHINES = (
    Machine("vm-1", "demo", "echo", "embedded", "192.0.2.11"),
    Machine("vm-2", "demo", "echo", "embedded", "192.0.2.12"),
    Machine("far-1", "demo", "remote", "far", "192.0.2.11"),
)


NETWORKS = ["embedded", "far"]


def entry(name: str, address: str, network: str = "", **more: Any) -> dict[str, Any]:
    """A WorkloadEntry as istiod makes it, its proxy connected."""
    annotations = {"istio.io/autoRegistrationGroup": "echo", "istio.io/connectedAt": "2026-01-01T00:00:00Z"}
    found: dict[str, Any] = {
        "metadata": {"name": name, "namespace": "demo", "annotations": annotations | more.pop("annotations", {})},
        "spec": {"address": address, "network": network, "labels": {"app": "echo", "version": "vm"}},
        **more,
    }
    return found


def labels(page: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {target["labels"]["vm"]: target["labels"]["network"] for target in page}


def test_a_target_says_which_vm_workload_version_and_network_it_is() -> None:
    (target,) = targets(
        vms([entry("echo-192.0.2.11-embedded", "192.0.2.11", "embedded")], MACHINES, "embedded"), ["embedded"]
    )
    assert target == {
        "targets": ["192.0.2.11:15020"],
        "labels": {
            "vm": "vm-1",
            "namespace": "demo",
            "workload": "echo",
            "version": "vm",
            "network": "embedded",
            "platform": "vm",
            "__metrics_path__": "/stats/prometheus",
        },
    }


def test_a_vm_of_a_fleet_is_a_target_by_the_name_of_its_entry() -> None:
    assert labels(targets(vms([entry("echo-192.0.2.99", "192.0.2.99")], MACHINES, "embedded"), NETWORKS)) == {
        "echo-192.0.2.99": "embedded"
    }


def test_one_address_in_two_networks_is_two_vms() -> None:
    entries = [entry("a", "192.0.2.11", "embedded"), entry("b", "192.0.2.11", "far")]
    known = vms(entries, MACHINES, "embedded")
    assert labels(targets(known, NETWORKS)) == {"vm-1": "embedded", "far-1": "far"}
    assert labels(targets(known, ["far"])) == {"far-1": "far"}


def test_who_takes_a_vm_s_address_in_another_namespace_neither_bears_its_name_nor_hides_that_it_is_out() -> None:
    other = entry("echo-192.0.2.11", "192.0.2.11", "embedded")
    other["metadata"]["namespace"] = "others"
    known = vms([other], MACHINES[:1], "embedded")
    assert [(vm.namespace, vm.name, vm.entry is None) for vm in known] == [
        ("others", "echo-192.0.2.11", False),
        ("demo", "vm-1", True),
    ]


def test_what_has_no_proxy_or_is_going_away_is_no_target() -> None:
    by_hand = entry("by-hand", "192.0.2.50")
    by_hand["metadata"]["annotations"] = {}
    going = entry("going", "192.0.2.51")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert targets(vms([by_hand, going, entry("nowhere", "")], (), "embedded"), NETWORKS) == []


def test_an_ipv6_address_is_bracketed() -> None:
    assert targets(vms([entry("a", "2001:db8::1")], (), "embedded"), NETWORKS)[0]["targets"] == ["[2001:db8::1]:15020"]


def pod(name: str, **changes: Any) -> dict[str, Any]:
    """A pod as Kubernetes shows it, injected by istiod."""
    annotations = {f"prometheus.io/{key}": value for key, value in SCRAPED.items()}
    labels = {"app": "echo", "version": "k8s", "service.istio.io/canonical-name": "echo"}
    found: dict[str, Any] = {
        "metadata": {"name": name, "namespace": "demo", "annotations": annotations, "labels": labels},
        "status": {"phase": "Running", "podIP": "192.0.2.77"},
    }
    for part, values in changes.items():
        found[part] = {**found[part], **values}
    return found


SCRAPED = {"scrape": "true", "port": "15020", "path": "/stats/prometheus"}


def test_a_pod_is_a_target_with_the_labels_of_its_workload() -> None:
    assert pod_targets([pod("echo-1")], "embedded") == [
        {
            "targets": ["192.0.2.77:15020"],
            "labels": {
                "pod": "echo-1",
                "namespace": "demo",
                "workload": "echo",
                "version": "k8s",
                "network": "embedded",
                "platform": "pod",
                "__metrics_path__": "/stats/prometheus",
            },
        }
    ]


def test_a_pod_without_a_proxy_or_that_does_not_run_is_none() -> None:
    refusing = {f"prometheus.io/{key}": value for key, value in {**SCRAPED, "scrape": "false"}.items()}
    others = [
        pod("bare", metadata={"labels": {"app": "echo"}}),
        pod("unlabelled", metadata={"labels": None}),
        pod("unwilling", metadata={"annotations": refusing}),
        pod("quiet", metadata={"annotations": {}}),
        pod("starting", status={"phase": "Pending", "podIP": None}),
        pod("over", status={"phase": "Succeeded"}),
        pod("unplaced", status={"podIP": None}),
        pod(
            "by-name",
            metadata={"annotations": {f"prometheus.io/{k}": v for k, v in {**SCRAPED, "port": "http"}.items()}},
        ),
        pod("going", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    ]
    assert pod_targets(others, "embedded") == []


def test_a_pod_says_itself_where_its_metrics_are_and_in_which_network_it_is() -> None:
    told = {"prometheus.io/scrape": "true", "prometheus.io/port": "9102"}
    labels = {"service.istio.io/canonical-name": "echo", "topology.istio.io/network": "far"}
    gateway = pod("gw", metadata={"annotations": told, "labels": labels}, status={"podIP": "2001:db8::7"})
    (target,) = pod_targets([gateway], "embedded")
    assert target["targets"] == ["[2001:db8::7]:9102"]
    assert (target["labels"]["network"], target["labels"]["__metrics_path__"]) == ("far", "/metrics")


def test_a_vm_whose_entry_names_no_network_is_in_the_cluster_s() -> None:
    known = vms([entry("e", "192.0.2.12")], MACHINES, "embedded")
    assert [(vm.name, vm.network, vm.entry is not None) for vm in known] == [
        ("vm-2", "embedded", True),
        ("far-1", "far", False),
        ("vm-1", "embedded", False),
    ]
    assert labels(targets(known, NETWORKS)) == {"vm-2": "embedded"}, "one that the mesh does not have is no target"
    assert vms([{"metadata": {"name": "e", "namespace": "demo"}, "spec": {}}], (), "embedded") == []


# ---------------------------------------------------------------------- the server


SYNCED = {"Cluster": {"sent": "1", "acked": "1"}, "Listener": {"sent": "2", "acked": "2"}}
STALE = {"Cluster": {"sent": "3", "acked": "1"}, "Listener": {"sent": "2", "acked": "2"}}


@dataclass
class FakeMesh:
    found: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    running: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    said: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By istiod; one that says nothing refuses."""
    canaries: Sequence[str] = ()
    """Which of them are of revision `canary`; the others are of the first."""
    broken: bool = False
    silent: Sequence[str] = ()
    """Istiods that keep whoever asks them waiting."""
    over: threading.Event = field(default_factory=threading.Event)

    def entries(self, namespace: str) -> Sequence[Mapping[str, Any]]:
        if self.broken:
            raise MeshError("could not list WorkloadEntries")
        return self.found.get(namespace, [])

    def pods(self, namespace: str) -> Sequence[Mapping[str, Any]]:
        return self.running.get(namespace, [])

    def istiods(self, namespace: str, revision: str) -> Sequence[str]:
        assert (namespace, revision) in (("istio-system", "default"), ("istio-system", "canary"))
        return sorted(istiod for istiod in self.said if (istiod in self.canaries) == (revision == "canary"))

    def states(self, istiod: str, namespace: str) -> Sequence[Mapping[str, Any]]:
        if istiod in self.silent:
            self.over.wait(5)
        if not self.said[istiod]:
            raise MeshError(f"istiod {istiod} answers 403")
        return [s for s in self.said[istiod] if s["proxy"].endswith(f".{namespace}")]


CONFIG = Config(("demo",), ("demo", "istio-system"), "embedded", ("far",), "istio-system", "default", MACHINES)


def metrics(mesh: FakeMesh, config: Config = CONFIG) -> dict[tuple[str, ...], float]:
    """Samples by name and what tells them apart."""
    page = metrics_page(mesh, config).decode()
    return {
        (
            sample.name,
            *(sample.labels.get(k, "") for k in ("vm", "proxy", "answers") if sample.labels.get(k)),
        ): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_a_vm_that_should_be_there_and_is_not_is_said_to_be_disconnected() -> None:
    found = metrics(FakeMesh({"demo": [entry("e", "192.0.2.11", "embedded")]}))
    connected = {key[1]: value for key, value in found.items() if key[0] == "hybrid_mesh_vm_connected"}
    assert connected == {"vm-1": 1, "vm-2": 0, "far-1": 0}


def test_health_is_said_of_probed_vms_alone() -> None:
    probed = {"annotations": {"proxy.istio.io/health-checks-enabled": "true"}}
    ill = {"status": {"conditions": [{"type": "Healthy", "status": "False", "message": "503"}]}}
    found = metrics(
        FakeMesh(
            {
                "demo": [
                    entry("a", "192.0.2.11", "embedded", **ill, **probed),
                    entry("b", "192.0.2.12", "embedded"),
                ]
            }
        )
    )
    assert {key[1]: value for key, value in found.items() if key[0] == "hybrid_mesh_vm_healthy"} == {"vm-1": 0}


def test_sync_is_said_of_every_proxy_and_an_istiod_that_refuses_is_counted() -> None:
    states = [
        {"proxy": "vm-1.demo", "resources": SYNCED},
        {"proxy": "vm-2.demo", "resources": STALE},
        {"proxy": "fleet-abc.demo", "resources": SYNCED},
    ]
    found = metrics(FakeMesh(said={"10.0.0.1": states, "10.0.0.2": []}))
    synced = {key[1:]: value for key, value in found.items() if key[0] == "hybrid_mesh_proxy_synced"}
    assert synced == {("vm-1", "vm-1"): 1, ("vm-2", "vm-2"): 0, ("fleet-abc",): 1}
    assert found[("hybrid_mesh_istiods", "yes")] == 1
    assert found[("hybrid_mesh_istiods", "no")] == 1


def test_the_page_of_a_mesh_of_thousands_looks_at_each_state_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []

    def objection(states: Sequence[Mapping[str, Any]], proxy: str) -> str:
        looked_at.append(len(states))
        return sync_objection(states, proxy)

    monkeypatch.setattr(exposition, "sync_objection", objection)
    states = [{"proxy": f"fleet-{n}.demo", "resources": SYNCED} for n in range(300)]
    found = metrics(FakeMesh(said={"10.0.0.1": states, "10.0.0.2": [*states[:100]]}))
    assert sum(looked_at) == 400
    assert [value for key, value in found.items() if key[0] == "hybrid_mesh_proxy_synced"] == [1] * 300


def test_every_revision_is_asked_and_one_without_an_istiod_does_not_answer() -> None:
    both = replace(CONFIG, revisions=("canary",))
    said = {"10.0.0.1": [{"proxy": "vm-1.demo", "resources": SYNCED}]}
    moved = {"10.0.0.2": [{"proxy": "vm-2.demo", "resources": SYNCED}]}
    found = metrics(FakeMesh(said=said | moved, canaries=["10.0.0.2"]), both)
    assert [found[("hybrid_mesh_proxy_synced", vm, vm)] for vm in ("vm-1", "vm-2")] == [1, 1]
    assert [found[("hybrid_mesh_istiods", answers)] for answers in ("yes", "no")] == [2, 0]
    found = metrics(FakeMesh(said=said), both)
    assert [found[("hybrid_mesh_istiods", answers)] for answers in ("yes", "no")] == [1, 1]


def test_networks_with_an_agent_are_left_to_it() -> None:
    mesh = FakeMesh({"demo": [entry("a", "192.0.2.11", "embedded"), entry("b", "192.0.2.11", "far")]})
    assert labels(json.loads(targets_page(mesh, CONFIG, None))) == {"vm-1": "embedded"}
    assert labels(json.loads(targets_page(mesh, CONFIG, "far"))) == {"far-1": "far"}


def test_pods_of_each_namespace_are_found() -> None:
    gateway = pod("gateway-1", metadata={"namespace": "istio-system"})
    mesh = FakeMesh(running={"demo": [pod("echo-1")], "istio-system": [gateway], "other": [pod("not-ours")]})
    assert [t["labels"]["pod"] for t in json.loads(pods_page(mesh, CONFIG))] == ["echo-1", "gateway-1"]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[FakeMesh, str, Path]]:
    mesh, file = FakeMesh({"demo": [entry("e", "192.0.2.11", "embedded")]}), tmp_path / "config.json"
    file.write_text(
        json.dumps(
            {
                "namespaces": ["demo"],
                "pods_in": ["demo"],
                "network": "embedded",
                "agents": [],
                "istio_namespace": "istio-system",
                "revision": "default",
                "machines": [],
            }
        )
    )
    server = serve(mesh, file, 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield mesh, f"http://127.0.0.1:{server.server_address[1]}", file
    server.shutdown()
    server.server_close()


def get(url: str | urllib.request.Request) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_it_answers_and_follows_its_configuration(served: tuple[FakeMesh, str, Path]) -> None:
    mesh, url, file = served
    assert get(f"{url}/healthz") == (200, "ok\n")
    mesh.running = {"demo": [pod("echo-1")]}
    assert [target["labels"]["pod"] for target in json.loads(get(f"{url}/pods")[1])] == ["echo-1"]
    assert labels(json.loads(get(f"{url}/targets")[1])) == {"e": "embedded"}
    document = json.loads(file.read_text())
    document["machines"] = [
        {"name": "vm-1", "namespace": "demo", "workload": "echo", "network": "embedded", "address": "192.0.2.11"}
    ]
    file.write_text(json.dumps(document))
    assert labels(json.loads(get(f"{url}/targets")[1])) == {"vm-1": "embedded"}
    assert 'hybrid_mesh_vm_connected{namespace="demo",network="embedded"' in get(f"{url}/metrics")[1]
    assert get(f"{url}/")[0] == 404


def test_prometheus_asks_again_and_again_over_one_connection(served: tuple[FakeMesh, str, Path]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(served[1].rpartition(":")[2]), timeout=5)
    connection.connect()
    used = connection.sock
    for path, status in (("/healthz", 200), ("/nothing", 404), ("/targets", 200)):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, len(answer.read())) == (status, int(answer.headers["Content-Length"]))
    assert connection.sock is used
    connection.close()


def test_istiods_that_are_silent_cost_half_of_what_prometheus_waits_and_hide_no_other(
    served: tuple[FakeMesh, str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    mesh, url, _ = served
    states = [{"proxy": "vm-1.demo", "resources": SYNCED}]
    mesh.silent = [f"10.0.0.{n}" for n in range(2, 6)]
    mesh.said = {"10.0.0.1": states, **dict.fromkeys(mesh.silent, states)}
    asked = urllib.request.Request(f"{url}/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "1"})
    began = time.monotonic()
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            page = answer.read().decode()
    finally:
        mesh.over.set()
    assert time.monotonic() - began < 4
    assert capsys.readouterr().err.splitlines() == [
        f"istiod {istiod} does not tell sync states within 0.5 s" for istiod in mesh.silent
    ]
    for line in (
        'hybrid_mesh_istiods{answers="yes"} 1.0',
        'hybrid_mesh_istiods{answers="no"} 4.0',
        'hybrid_mesh_proxy_synced{namespace="demo",proxy="vm-1",vm=""} 1.0',
    ):
        assert line in page


@pytest.mark.parametrize("waits", ["soon", "", "0", "-1", "nan"])
def test_a_page_that_prometheus_waits_for_in_no_time_that_is_one_is_refused_with_what_is_wrong(
    served: tuple[FakeMesh, str, Path], waits: str
) -> None:
    asked = urllib.request.Request(f"{served[1]}/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": waits})
    code, said = get(asked)
    assert (code, said.count(" Fix: ")) == (400, 1)
    assert f"X-Prometheus-Scrape-Timeout-Seconds = {waits!r} is no number of seconds" in said


def test_who_waits_no_longer_leaves_no_traceback(
    served: tuple[FakeMesh, str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    mesh, url, _ = served
    mesh.silent = ["10.0.0.1"]
    mesh.said = {"10.0.0.1": []}
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as gone:
        gone.sendall(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\nGET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    mesh.over.set()
    time.sleep(1)
    assert get(f"{url}/healthz")[0] == 200
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_it_is_reached_by_either_kind_of_address(served: tuple[FakeMesh, str, Path], host: str) -> None:
    if host == "[::1]" and not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6 here")
    assert get(f"http://{host}:{served[1].rpartition(':')[2]}/healthz") == (200, "ok\n")


@pytest.fixture
def in_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cluster:
    """What the server asks in a pod."""
    monkeypatch.setattr(kubernetes.config, "load_incluster_config", lambda: None)
    token = tmp_path / "token"
    token.write_text("S3CRET\n")
    return Cluster(token)


def test_istiods_that_are_ready_are_asked(monkeypatch: pytest.MonkeyPatch, in_cluster: Cluster) -> None:
    def endpoint(address: str, **conditions: Any) -> client.V1Endpoint:
        return client.V1Endpoint(addresses=[address], conditions=client.V1EndpointConditions(**conditions))

    bare = client.V1Endpoint(addresses=["10.0.0.4"])
    several = [endpoint("10.0.0.1", ready=True), endpoint("10.0.0.2", ready=False), endpoint("10.0.0.3"), bare]
    slices = [client.V1EndpointSlice(address_type="IPv4", endpoints=each) for each in (several, several[:1], None)]
    asked: list[tuple[str, str]] = []

    def answer(_self: object, namespace: str, *, label_selector: str, **_: object) -> client.V1EndpointSliceList:
        asked.append((namespace, label_selector))
        return client.V1EndpointSliceList(items=slices)

    monkeypatch.setattr(client.DiscoveryV1Api, "list_namespaced_endpoint_slice", answer)
    found = in_cluster.istiods("istio-system", "canary")
    assert found == ["10.0.0.1", "10.0.0.3", "10.0.0.4"], "what Kubernetes does not say of one, it means as ready"
    assert asked == [("istio-system", "kubernetes.io/service-name=istiod-canary")]


def test_entries_and_pods_are_asked_for_within_a_limit(monkeypatch: pytest.MonkeyPatch, in_cluster: Cluster) -> None:
    asked: list[tuple[Any, ...]] = []

    def answer(found: Any) -> Any:
        def listed(_self: object, *place: str, _request_timeout: int, **_: object) -> Any:
            asked.append((*place, _request_timeout))
            return found

        return listed

    monkeypatch.setattr(client.CustomObjectsApi, "list_namespaced_custom_object", answer({"items": [{"a": 1}]}))
    pods = SimpleNamespace(data=b'{"items": [{"b": 2}]}')
    monkeypatch.setattr(client.CoreV1Api, "list_namespaced_pod", answer(pods))
    assert (in_cluster.entries("demo"), in_cluster.pods("demo")) == ([{"a": 1}], [{"b": 2}])
    assert asked == [("networking.istio.io", "v1", "demo", "workloadentries", 5), ("demo", 5)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (client.ApiException(status=403, reason="Forbidden"), "the API server answered 403 Forbidden"),
        (urllib3.exceptions.ReadTimeoutError(None, "/", ""), "the API server does not answer (ReadTimeoutError)"),  # type: ignore[arg-type]  # nobody looks at it
        (ConnectionResetError(), "the API server does not answer (ConnectionResetError)"),
    ],
)
def test_an_api_server_that_refuses_or_is_silent_is_said(
    monkeypatch: pytest.MonkeyPatch, in_cluster: Cluster, error: Exception, said: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(client.CoreV1Api, "list_namespaced_pod", refuse)
    with pytest.raises(MeshError, match=re.escape(f"could not list pods in demo: {said}")):
        in_cluster.pods("demo")


class ApiServer(http.server.BaseHTTPRequestHandler):
    """Answers all alike."""

    status, body, times = 200, b"", 0

    def do_GET(self) -> None:
        type(self).times += 1
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After", "600")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def api_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[ApiServer]]:
    answering = type("Answering", (ApiServer,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), answering) as server:
        at = client.Configuration(host=f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(kubernetes.config, "load_incluster_config", lambda: None)
        monkeypatch.setattr(client.Configuration, "_default", at)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield answering
        server.shutdown()


ASKS: dict[str, Callable[[Cluster], Any]] = {
    "entries": lambda cluster: cluster.entries("demo"),
    "pods": lambda cluster: cluster.pods("demo"),
    "istiods": lambda cluster: cluster.istiods("istio-system", "default"),
}


@pytest.mark.parametrize("asks", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize("body", [b"<html>", b"", b'{"items": [{"meta', b'{"items": null}', b"[]", b"{}"])
def test_an_answer_that_is_no_list_is_said_and_ends_no_thread(
    api_server: type[ApiServer], asks: Callable[[Cluster], Any], body: bytes
) -> None:
    api_server.body = body
    with pytest.raises(MeshError, match=r"could not list .*: what the API server answers is no list of Kubernetes'"):
        asks(Cluster())


def test_a_busy_api_server_is_not_waited_for_as_long_as_it_says(api_server: type[ApiServer]) -> None:
    api_server.status = 429
    began = time.monotonic()
    with pytest.raises(MeshError, match="429 Too Many Requests"):
        Cluster().entries("demo")
    assert api_server.times == 2
    assert time.monotonic() - began < 5, "or each scrape would leave a thread that sleeps"


def test_an_istiod_of_two_address_families_is_one(monkeypatch: pytest.MonkeyPatch, in_cluster: Cluster) -> None:
    def endpoint(pod: str, *addresses: str) -> client.V1Endpoint:
        return client.V1Endpoint(addresses=list(addresses), target_ref=client.V1ObjectReference(kind="Pod", name=pod))

    slices = [
        client.V1EndpointSlice(address_type="IPv4", endpoints=[endpoint("a", "10.0.0.1"), endpoint("b", "10.0.0.2")]),
        client.V1EndpointSlice(address_type="IPv6", endpoints=[endpoint("a", "fd00::1"), endpoint("c", "fd00::3")]),
    ]
    told = client.V1EndpointSliceList(items=slices)
    monkeypatch.setattr(client.DiscoveryV1Api, "list_namespaced_endpoint_slice", lambda *_, **__: told)
    for told.items in (slices, slices[::-1]):
        assert in_cluster.istiods("istio-system", "default") == ["10.0.0.1", "10.0.0.2", "fd00::3"]


@pytest.mark.parametrize("broken", [http.client.IncompleteRead(b"["), http.client.BadStatusLine("x")])
def test_an_istiod_that_ends_in_the_middle_of_its_answer_is_one_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, in_cluster: Cluster, broken: Exception
) -> None:
    def ends(*_: object, **__: object) -> None:
        raise broken

    monkeypatch.setattr(urllib.request, "urlopen", ends)
    with pytest.raises(MeshError, match=r"istiod 10\.0\.0\.1 does not tell sync states"):
        in_cluster.states("10.0.0.1", "demo")


@pytest.mark.parametrize(("address", "host"), [("10.0.0.1", "10.0.0.1"), ("2001:db8::1", "[2001:db8::1]")])
def test_an_istiod_is_asked_with_the_server_s_token(
    monkeypatch: pytest.MonkeyPatch, in_cluster: Cluster, address: str, host: str
) -> None:
    asked: list[urllib.request.Request] = []

    def answer(request: urllib.request.Request, timeout: float) -> io.BytesIO:
        assert timeout > 0
        asked.append(request)
        return io.BytesIO(b'[{"proxy": "vm-1.demo"}]')

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    assert in_cluster.states(address, "demo") == [{"proxy": "vm-1.demo"}]
    assert asked[0].full_url == f"http://{host}:15014/debug/syncz?namespace=demo"
    assert asked[0].get_header("Authorization") == "Bearer S3CRET"


@pytest.mark.parametrize(("code", "remedy"), [(403, True), (500, False)])
def test_an_istiod_that_refuses_is_said_with_what_lets_it_answer(
    monkeypatch: pytest.MonkeyPatch, in_cluster: Cluster, code: int, remedy: bool
) -> None:
    def refuse(request: urllib.request.Request, **_: object) -> None:
        raise urllib.error.HTTPError(request.full_url, code, "No", Message(), None)

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(MeshError, match=f"istiod 10.0.0.1 answers {code} No") as said:
        in_cluster.states("10.0.0.1", "demo")
    assert ("DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES" in str(said.value)) is remedy


def test_an_istiod_that_is_away_or_says_something_else_is_said(
    monkeypatch: pytest.MonkeyPatch, in_cluster: Cluster
) -> None:
    def answer(said: bytes | OSError) -> Any:
        def asked(*_: object, **__: object) -> io.BytesIO:
            if isinstance(said, OSError):
                raise said
            return io.BytesIO(said)

        return asked

    for wrong in (urllib.error.URLError("no route to host"), TimeoutError("timed out"), b"<html>"):
        monkeypatch.setattr(urllib.request, "urlopen", answer(wrong))
        with pytest.raises(MeshError, match=r"istiod 10\.0\.0\.1 does not tell sync states: "):
            in_cluster.states("10.0.0.1", "demo")
    monkeypatch.setattr(urllib.request, "urlopen", answer(b'{"error": "none"}'))
    assert in_cluster.states("10.0.0.1", "demo") == []


def test_what_it_cannot_tell_is_503_upon_which_prometheus_keeps_its_targets(
    served: tuple[FakeMesh, str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    mesh, url, file = served
    mesh.broken = True
    assert get(f"{url}/targets") == (503, "could not list WorkloadEntries\n")
    assert "could not list WorkloadEntries" in capsys.readouterr().err
    for wrong in ("{", "{}", "[]", json.dumps({**json.loads(file.read_text()), "later": 1})):
        file.write_text(wrong)
        assert get(f"{url}/metrics")[0] == 503, wrong
