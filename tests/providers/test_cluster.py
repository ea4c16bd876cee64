"""The requests to a cluster, against an API server of a few lines."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes.stream
import pytest

from hybridmesh.providers import kubernetes_cluster
from hybridmesh.providers.cluster import Cluster, ClusterError, Pod, UnansweredError, connect
from tests.ops.probed import certificate, private_key

Answering = Callable[[socket.socket, int], None]
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n{"data": {"a": ""}}'


class Server:
    """Hands each connection, with its number, to `answer`, and keeps it open."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.answer: Answering = lambda _connection, _number: None
        self.connections: list[socket.socket] = []
        self.heads: list[str] = []
        self.bodies: list[str] = []
        """What came with requests that were read whole."""
        self.place: dict[str, Any] = {"server": f"http://127.0.0.1:{self.port}"}
        self.login = {"token": "t"}
        self._kubeconfig = folder / "kubeconfig"
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections.append(connection)
            self.answer(connection, len(self.connections))

    def cluster(self) -> Cluster:
        self._kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": self.place}],
                    "users": [{"name": "u", "user": self.login}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        return connect({"kubeconfig": str(self._kubeconfig), "requestSeconds": 1.0})

    def stop(self) -> None:
        # Else whoever accepts goes on to wait.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def close(self) -> None:
        with suppress(OSError):
            self.stop()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with closing(Server(tmp_path)) as made:
        yield made


ASKED: dict[str, Callable[[Cluster], Any]] = {
    "get": lambda cluster: cluster.config_map("demo", "echo"),
    "list": lambda cluster: cluster.namespaces_labelled("a=b"),
    "delete": lambda cluster: cluster.delete_workload_entry("demo", "echo"),
    "post": lambda cluster: cluster.mint_token("demo", "echo", "istio-ca", 600),
    "patch": lambda cluster: cluster.disown("v1", "Namespace", "", "demo"),
}


@pytest.mark.parametrize("asked", list(ASKED))
def test_an_api_server_that_says_nothing_is_waited_for_as_long_as_the_setting_says(server: Server, asked: str) -> None:
    cluster = server.cluster()  # a client loads what is asked of it, which is not waiting
    began = time.monotonic()
    with pytest.raises(UnansweredError, match=r"did not answer \(ReadTimeoutError\)"):
        ASKED[asked](cluster)
    assert len(server.connections) == 1
    assert 1 <= time.monotonic() - began < 4, "and not as often as the client would try"


def test_a_connection_that_is_closed_unanswered_is_tried_once_more(server: Server) -> None:
    def closes_the_first(connection: socket.socket, number: int) -> None:
        connection.recv(65536)
        if number > 1:
            connection.sendall(ANSWER)
        connection.close()

    server.answer = closes_the_first
    assert server.cluster().config_map("demo", "echo") == {"a": ""}
    assert len(server.connections) == 2


def test_and_not_twice(server: Server) -> None:
    def closes(connection: socket.socket, _number: int) -> None:
        connection.recv(65536)
        connection.close()

    server.answer = closes
    with pytest.raises(ClusterError, match=r"did not answer \(ProtocolError\)"):
        server.cluster().config_map("demo", "echo")
    assert len(server.connections) == 2


@pytest.mark.parametrize(
    ("status", "again"),
    [("401 Unauthorized", False), ("403 Forbidden", False), ("429 Too Many Requests", True), ("503 Busy", True)],
)
def test_what_may_be_answered_later_is_told_from_what_is_refused(server: Server, status: str, again: bool) -> None:
    def answers(connection: socket.socket, _number: int) -> None:
        connection.recv(65536)
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        connection.close()

    server.answer = answers
    with pytest.raises(ClusterError, match=status) as refused:
        server.cluster().config_map("demo", "echo")
    assert isinstance(refused.value, UnansweredError) is again


def test_an_api_server_that_is_busy_for_an_hour_is_not_waited_for(server: Server) -> None:
    def answers(connection: socket.socket, _number: int) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 429 Busy\r\nRetry-After: 9\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.close()

    server.answer = answers
    cluster = server.cluster()
    began = time.monotonic()
    with pytest.raises(UnansweredError, match="429 Busy"):
        cluster.config_map("demo", "echo")
    assert len(server.connections) == 2, "but asked once more"
    assert 1 <= time.monotonic() - began < 5


def whole_request(connection: socket.socket) -> tuple[str, str]:
    """What was asked: its head, and its body."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(65536)
    head, _, body = got.partition(b"\r\n\r\n")
    length = next((int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head.decode(), body.decode()


def answering(server: Server, status: str, document: Any, kind: str = "application/json") -> list[str]:
    """Lets the server answer this to all, bytes as they are; what it is asked."""
    asked: list[str] = []
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close"

    def answer(connection: socket.socket, _number: int) -> None:
        head_of_it, sent = whole_request(connection)
        asked.append(head_of_it.partition(" HTTP/")[0])
        server.heads.append(head_of_it.lower())
        server.bodies.append(sent)
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        connection.close()

    server.answer = answer
    return asked


NETWORKING = "/apis/networking.istio.io/v1/namespaces/demo"
REQUESTS: list[tuple[Callable[[Cluster], Any], str]] = [
    (lambda c: c.config_map("demo", "echo"), "GET /api/v1/namespaces/demo/configmaps/echo"),
    (lambda c: c.service("demo", "echo"), "GET /api/v1/namespaces/demo/services/echo"),
    (lambda c: c.delete_config_map("demo", "echo"), "DELETE /api/v1/namespaces/demo/configmaps/echo"),
    (
        lambda c: c.helm_records("demo", "r"),
        "GET /api/v1/namespaces/demo/secrets?labelSelector=owner%3Dhelm%2Cname%3Dr",
    ),
    (lambda c: c.delete_helm_record("demo", "r.v1"), "DELETE /api/v1/namespaces/demo/secrets/r.v1"),
    (lambda c: c.mint_token("demo", "echo", "a", 600), "POST /api/v1/namespaces/demo/serviceaccounts/echo/token"),
    (lambda c: c.workload_entry("demo", "echo-1"), f"GET {NETWORKING}/workloadentries/echo-1"),
    (lambda c: c.patch_workload_entry("demo", "echo-1", {}), f"PATCH {NETWORKING}/workloadentries/echo-1"),
    (lambda c: c.delete_workload_entry("demo", "echo-1"), f"DELETE {NETWORKING}/workloadentries/echo-1"),
    (lambda c: c.workload_entries("demo", 9), f"GET {NETWORKING}/workloadentries?limit=9"),
    (
        lambda c: c.namespaces_of("networking.istio.io", "v1", "workloadgroups"),
        "GET /apis/networking.istio.io/v1/workloadgroups",
    ),
    (lambda c: c.namespace_labels("demo"), "GET /api/v1/namespaces/demo"),
    (
        lambda c: c.objects_labelled("gateway.networking.k8s.io", "v1", "gateways", "a=b"),
        "GET /apis/gateway.networking.k8s.io/v1/gateways?labelSelector=a%3Db",
    ),
    (lambda c: c.services_labelled("a=b"), "GET /api/v1/services?labelSelector=a%3Db"),
    (lambda c: c.objects_in("apps", "v1", "deployments", "demo"), "GET /apis/apps/v1/namespaces/demo/deployments"),
    (
        lambda c: c.revision_tags("demo"),
        "GET /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations?labelSelector=istio.io/tag",
    ),
    (lambda c: c.istiods(), "GET /apis/apps/v1/deployments?labelSelector=app%3Distiod"),
    (lambda c: c.istio_crds(), "GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
    (lambda c: c.delete_crd("x"), "DELETE /apis/apiextensions.k8s.io/v1/customresourcedefinitions/x"),
    (lambda c: c.namespaces_labelled("a=b"), "GET /api/v1/namespaces?labelSelector=a%3Db"),
    (lambda c: c.config_maps_labelled("a=b"), "GET /api/v1/configmaps?labelSelector=a%3Db"),
    (
        lambda c: c.pods("demo", "a=b"),
        "GET /api/v1/namespaces/demo/pods?fieldSelector=status.phase%3DRunning&labelSelector=a%3Db",
    ),
]


@pytest.mark.parametrize(("asks", "request_line"), REQUESTS, ids=[line for _, line in REQUESTS])
def test_a_request_is_about_what_it_says(server: Server, asks: Callable[[Cluster], Any], request_line: str) -> None:
    asked = answering(server, "404 Not Found", {})
    with suppress(ClusterError):  # a token of a service account that there is not
        assert not asks(server.cluster()), "what is not there is none"
    assert asked == [request_line]


def test_a_service_account_that_is_gone_is_made_again_by_a_refresh(server: Server) -> None:
    answering(server, "404 Not Found", {})
    with pytest.raises(ClusterError, match=r"no service account demo/echo .* made anew\. Run `pulumi up --refresh`"):
        server.cluster().mint_token("demo", "echo", "istio-ca", 3600)


HTML, JSON = "text/html", "application/json"


@pytest.mark.parametrize("asks", [asks for asks, _ in REQUESTS], ids=[line for _, line in REQUESTS])
@pytest.mark.parametrize(
    ("kind", "body"), [(HTML, "<html>Log in</html>"), (JSON, '{"items": [{"meta'), (JSON, ""), (JSON, "[]")]
)
def test_an_answer_that_is_not_kubernetes_is_said_to_be_none(
    server: Server, asks: Callable[[Cluster], Any], kind: str, body: str
) -> None:
    answering(server, "200 OK", body.encode(), kind)
    with pytest.raises(UnansweredError, match=r"^could not .*: what came from the API server .* is not Kubern"):
        asks(server.cluster())


@pytest.mark.parametrize("asks", [line for line in REQUESTS if "/workload" in line[1] and "echo-1" not in line[1]])
@pytest.mark.parametrize("document", [{}, {"items": None}])
def test_a_list_without_items_is_not_one_of_none(
    server: Server, asks: tuple[Callable[[Cluster], Any], str], document: object
) -> None:
    answering(server, "200 OK", document)
    with pytest.raises(UnansweredError, match="could not list workload"):
        asks[0](server.cluster())


def test_of_definitions_those_of_istio_s_groups_are_its_own(server: Server) -> None:
    groups = ["networking.istio.io", "istio.io", "cert-manager.io", "notistio.io"]
    answering(server, "200 OK", {"items": [{"metadata": {"name": g}, "spec": {"group": g}} for g in groups]})
    assert [crd["metadata"]["name"] for crd in server.cluster().istio_crds()] == ["networking.istio.io"]


def test_a_revision_tag_is_one_of_the_istiod_that_it_leads_to(server: Server) -> None:
    def tag(name: str, revision: str, **client: Any) -> dict[str, Any]:
        return {
            "metadata": {"labels": {"istio.io/tag": name, "istio.io/rev": revision}},
            "webhooks": [{"clientConfig": client}, {"clientConfig": client}],
        }

    there = [tag("prod", "v1-31", service={"namespace": "demo"}), tag("far", "v1-31", url="https://far.example.com")]
    empty = {"metadata": {"labels": {"istio.io/tag": "empty"}}}
    answering(server, "200 OK", {"items": [*there, empty, tag("other", "v1-31", service={"namespace": "elsewhere"})]})
    assert server.cluster().revision_tags("demo") == {"prod": "v1-31"}


def test_an_object_is_told_by_the_version_that_is_stored(server: Server) -> None:
    crd = {
        "spec": {
            "group": "networking.istio.io",
            "names": {"plural": "gateways", "kind": "Gateway"},
            "versions": [{"name": "v1alpha3", "storage": False}, {"name": "v1", "storage": True}],
        }
    }
    asked = answering(server, "200 OK", {"items": [{"metadata": {"namespace": "shop", "name": "front"}}]})
    assert server.cluster().objects_of(crd) == ["Gateway shop/front"]
    assert asked == ["GET /apis/networking.istio.io/v1/gateways"]


def test_what_is_on_its_way_out_is_none_any_more(server: Server) -> None:
    phases = {"demo": "Active", "old": "Terminating"}
    namespaces = [{"metadata": {"name": n, "uid": f"{n}-1"}, "status": {"phase": p}} for n, p in phases.items()]
    answering(server, "200 OK", {"items": namespaces})
    assert server.cluster().namespaces_labelled("") == {"demo": "demo-1"}
    pods = [{"metadata": {"name": "a"}, "status": {"podIP": "10.0.0.1"}}]
    pods.append({"metadata": {"name": "b", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {}})
    answering(server, "200 OK", {"items": pods})
    assert [pod.name for pod in server.cluster().pods("demo", "a=b")] == ["a"]


def test_helm_s_records_come_in_the_order_of_their_versions(server: Server) -> None:
    records = [
        {"metadata": {"name": f"r.v{n}", "labels": {"version": str(n), "status": "superseded"}}} for n in (10, 9)
    ]
    answering(server, "200 OK", {"items": records})
    assert [name for name, _ in server.cluster().helm_records("demo", "r")] == ["r.v9", "r.v10"]


def test_a_server_that_is_not_there_may_come_back(server: Server) -> None:
    cluster = server.cluster()
    server.stop()
    with pytest.raises(UnansweredError, match="did not answer"):
        cluster.config_map("demo", "echo")


def test_a_pod_is_ready_if_kubernetes_says_so(server: Server) -> None:
    def pod(name: str, ready: str | None, **status: str) -> dict[str, Any]:
        conditions = [
            {"type": "Initialized", "status": "True"},
            *([{"type": "Ready", "status": ready}] if ready else []),
        ]
        return {"metadata": {"name": name}, "status": {"conditions": conditions, **status}}

    there = [pod("a", "True", podIP="10.0.0.1"), pod("b", "False", podIP="10.0.0.2"), pod("c", None)]
    answering(server, "200 OK", {"items": there})
    assert server.cluster().pods("demo", "a=b") == [
        Pod("a", "10.0.0.1", True),
        Pod("b", "10.0.0.2", False),
        Pod("c", "", False),
    ]


def test_a_token_is_asked_for_its_audience_and_time(server: Server) -> None:
    answer = {"spec": {"audiences": []}, "status": {"token": "t", "expirationTimestamp": "2026-01-01T01:00:00Z"}}
    answering(server, "201 Created", answer)
    assert server.cluster().mint_token("demo", "echo", "istio-ca", 600) == ("t", "2026-01-01T01:00:00+00:00")
    (body,) = server.bodies
    assert json.loads(body)["spec"] == {"audiences": ["istio-ca"], "expirationSeconds": 600}


class Forward:
    """A way to a pod's port, at the end of which this is said."""

    def __init__(self, said: str) -> None:
        self._near, self.far = socket.socketpair()
        self.far.sendall(said.encode())
        self.far.shutdown(socket.SHUT_WR)
        self.closed = False
        self.websocket = SimpleNamespace(settimeout=lambda _seconds: None)

    def socket(self, port: int) -> socket.socket:
        assert port == 15014
        return self._near

    def close(self) -> None:
        self.closed = True
        self._near.close()


@pytest.mark.parametrize(
    ("status", "body"), [("200 OK", "[]"), ("403 Forbidden", ""), ("500 Internal Server Error", ""), (None, "")]
)
def test_a_pod_is_asked_by_way_of_the_api_server_and_says_nothing_where_it_refuses(
    server: Server, monkeypatch: pytest.MonkeyPatch, status: str | None, body: str
) -> None:
    forward = Forward(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n[]" if status else "")
    asked: list[tuple[str, str, str]] = []

    def portforward(_request: object, pod: str, namespace: str, *, ports: str) -> Forward:
        asked.append((namespace, pod, ports))
        return forward

    monkeypatch.setattr(kubernetes.stream, "portforward", portforward)
    assert server.cluster().ask_pod("demo", "a", 15014, "/debug/x") == body
    assert asked == [("demo", "a", "15014")]
    assert forward.far.recv(65536).startswith(b"GET /debug/x HTTP/1.1\r\n")
    assert forward.closed, "or each look would leave a connection and a thread"


def test_a_pod_to_which_no_way_leads_says_nothing(server: Server) -> None:
    answering(server, "404 Not Found", {})
    assert server.cluster().ask_pod("demo", "a", 15014, "/debug/x") == ""


@pytest.mark.parametrize(
    ("status", "remedy"),
    [("401 Unauthorized", r"the login of the kubeconfig .* has not ended"), ("403 Forbidden", "kubectl auth can-i")],
)
def test_who_may_not_ask_a_pod_is_told_so(server: Server, status: str, remedy: str) -> None:
    somebody = {"kind": "Status", "message": 'User "ann" cannot\n\x1b[31m'}
    answering(server, status, somebody)
    status += r' \(User "ann" cannot \\x1b\[31m\)'
    with pytest.raises(ClusterError, match=f"could not forward port 15014 of pod demo/a: .* {status}.*{remedy}") as no:
        server.cluster().ask_pod("demo", "a", 15014, "/debug/x")
    assert not isinstance(no.value, UnansweredError), "to ask again would change nothing"
    with pytest.raises(ClusterError, match=f"could not list pods a=b in demo: .* {status}.*{remedy}"):
        server.cluster().pods("demo", "a=b")


def test_a_request_that_came_without_a_login_is_told_from_one_that_is_not_allowed(server: Server) -> None:
    """The client goes on so where a program that logs in fails."""
    answering(server, "403 Forbidden", {"kind": "Status", "message": 'User "system:anonymous" cannot list pods'})
    with pytest.raises(ClusterError, match=r"without a login: .* the kubeconfig .*`exec`.*`kubectl auth whoami`"):
        server.cluster().pods("demo", "a=b")


def over_tls(server: Server, folder: Path, shown: str, answer: bytes) -> None:
    """Let it show a certificate, and answer whoever takes it."""
    (folder / "shown.pem").write_text(shown + private_key())

    def answers(connection: socket.socket, _number: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "shown.pem")
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(answer)

    server.answer = answers


def lasting(days: int, organization: str = "mesh") -> str:
    now = datetime.now(UTC)
    return certificate(organization, begin=now - timedelta(days=365), end=now + timedelta(days=days))


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(
    ("days", "said"),
    [(-1, r"Its client certificate has ended, at 20\d\d-.* UTC\."), (1, "the login .* has not ended\\.")],
)
def test_a_client_certificate_that_has_ended_is_named(server: Server, tmp_path: Path, days: int, said: str) -> None:
    server.place = {"server": f"https://127.0.0.1:{server.port}", "insecure-skip-tls-verify": True}
    server.login = {
        "client-certificate-data": base64.b64encode(lasting(days).encode()).decode(),
        "client-key-data": base64.b64encode(private_key().encode()).decode(),
    }
    over_tls(server, tmp_path, lasting(1), b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(ClusterError, match=f"401 Unauthorized.*{said}$"):
        server.cluster().pods("demo", "a=b")


def test_an_api_server_that_is_not_whom_the_kubeconfig_leads_to_is_not_one_that_is_away(
    server: Server, tmp_path: Path
) -> None:
    over_tls(server, tmp_path, lasting(1), b"")
    server.place = {
        "server": f"https://127.0.0.1:{server.port}",
        "certificate-authority-data": base64.b64encode(lasting(1, "other").encode()).decode(),
    }
    with pytest.raises(ClusterError, match=r"shows a certificate that the kubeconfig .* does not lead to \(self") as no:
        server.cluster().pods("demo", "a=b")
    assert not isinstance(no.value, UnansweredError), "to ask again would change nothing"


@pytest.mark.parametrize("said", ["", "<html>", "{}"])
def test_that_no_istiod_says_anything_is_not_that_it_lists_nobody(
    server: Server, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    cluster, running = server.cluster(), [Pod("a", "", True)]
    monkeypatch.setattr(cluster, "pods", lambda *_: running)
    monkeypatch.setattr(cluster, "ask_pod", lambda *_: said)
    with pytest.raises(UnansweredError, match=r"Check `kubectl port-forward -n istio-system a 15014`"):
        cluster.sync_states("istio-system", "default", "demo")
    running.clear()
    assert cluster.sync_states("istio-system", "default", "demo") == []


def test_a_way_to_a_pod_that_never_opens_is_waited_for_within_the_limit(server: Server) -> None:
    said: list[str] = []
    cluster = server.cluster()
    asking = threading.Thread(target=lambda: said.append(cluster.ask_pod("demo", "a", 15014, "/x")), daemon=True)
    asking.start()
    asking.join(10)
    assert said == [""], "it waits for an API server that accepts, and says nothing"
    forwarding(server, OK + b"\r\nhello")
    assert cluster.ask_pod("demo", "a", 15000, "/x") == "hello"


def test_all_istiods_of_a_revision_that_answer_are_heard(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"a": '[{"proxy": "vm-1.demo"}]', "b": "", "c": "{}", "d": '[{"proxy": "vm-2.demo"}]'}
    cluster = server.cluster()
    asked: list[tuple[object, ...]] = []

    def pods(*place: str) -> list[Pod]:
        asked.append(place)
        return [Pod(name, "", True) for name in said]

    def ask_pod(namespace: str, pod: str, *question: object) -> str:
        asked.append((namespace, *question))
        return said[pod]

    monkeypatch.setattr(cluster, "pods", pods)
    monkeypatch.setattr(cluster, "ask_pod", ask_pod)
    assert cluster.sync_states("istio-system", "default,canary", "demo") == [
        {"proxy": "vm-1.demo"},
        {"proxy": "vm-2.demo"},
    ]
    assert asked[:2] == [
        ("istio-system", "app=istiod,istio.io/rev in (default,canary)"),
        ("istio-system", 15014, "/debug/syncz?namespace=demo"),
    ]


def kinds() -> dict[str, Any]:
    """What an API server says of a version's kinds."""

    def resource(name: str, kind: str, *, namespaced: bool) -> dict[str, Any]:
        return {"name": name, "kind": kind, "namespaced": namespaced, "verbs": ["get", "patch"]}

    found = [
        resource("namespaces/status", "Namespace", namespaced=False),
        resource("namespaces", "Namespace", namespaced=False),
        resource("services", "Service", namespaced=True),
        resource("gateways", "Gateway", namespaced=True),
    ]
    return {"kind": "APIResourceList", "resources": found, "groups": [], "metadata": {"name": "echo"}}


@pytest.mark.parametrize(
    ("what", "kinds_at", "path"),
    [
        (("v1", "Namespace", "", "echo"), "/api/v1", "namespaces/echo"),
        (("v1", "Service", "demo", "echo"), "/api/v1", "namespaces/demo/services/echo"),
        (
            ("networking.istio.io/v1", "Gateway", "demo", "echo"),
            "/apis/networking.istio.io/v1",
            "namespaces/demo/gateways/echo",
        ),
        (("v1", "Service", "", "echo"), "/api/v1", "namespaces/default/services/echo"),
        (("v1", "Nothing", "demo", "echo"), "/api/v1", None),
    ],
)
def test_an_object_is_disowned_by_a_patch_of_its_own_kind(
    server: Server, what: tuple[str, str, str, str], kinds_at: str, path: str | None
) -> None:
    asked = answering(server, "200 OK", kinds())
    assert server.cluster().disown(*what) is (path is not None)
    assert asked == [f"GET {kinds_at}", *([f"PATCH {kinds_at}/{path}"] if path else [])]
    if path:
        assert json.loads(server.bodies[-1]) == {"metadata": {"managedFields": [{}]}}
        assert "\r\ncontent-type: application/merge-patch+json" in server.heads[-1]


def test_an_object_is_found_by_its_kind(server: Server) -> None:
    asked = answering(server, "200 OK", {**kinds(), "metadata": {"name": "echo"}})
    found = server.cluster().find("networking.istio.io/v1", "Gateway", "demo", "echo")
    assert found is not None
    assert found["metadata"] == {"name": "echo"}
    assert asked[-1] == "GET /apis/networking.istio.io/v1/namespaces/demo/gateways/echo"
    assert server.cluster().find("v1", "Nothing", "demo", "echo") is None


def test_an_object_of_a_version_that_there_is_not_is_no_object(server: Server) -> None:
    answering(server, "404 Not Found", {})
    assert server.cluster().find("networking.istio.io/v1", "Gateway", "demo", "echo") is None
    assert server.cluster().disown("networking.istio.io/v1", "Gateway", "demo", "echo") is False


def test_an_object_that_was_not_made_has_no_owner(server: Server) -> None:
    asked: list[str] = []

    def answer(connection: socket.socket, _number: int) -> None:
        asked.append(whole_request(connection)[0])
        body = json.dumps(kinds()).encode() if asked[-1].startswith("GET") else b""
        status = "200 OK" if body else "404 Not Found"
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
        connection.close()

    server.answer = answer
    assert server.cluster().disown("v1", "Service", "demo", "echo") is False
    assert len(asked) == 2


def frame(data: bytes) -> bytes:
    """A short one of a websocket, binary."""
    return bytes((0x82, len(data))) + data


def forwarding(server: Server, *parts: bytes, then: bytes = b"") -> None:
    """Lets the server forward a port, behind which this is said; and then a part each tenth of a second, for ever."""

    def answer(connection: socket.socket, _number: int) -> None:
        key = next(line for line in connection.recv(65536).decode().splitlines() if "websocket-key" in line.lower())
        word = f"{key.partition(': ')[2]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(word.encode()).digest()).decode()
        head = f"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}"
        connection.sendall(f"{head}\r\n\r\n".encode())
        port = (15000).to_bytes(2, "little")
        with suppress(OSError):
            for channel in (b"\0", b"\1"):
                connection.sendall(frame(channel + port))
            connection.recv(65536)  # the request
            for part in parts:
                connection.sendall(frame(b"\0" + part))
            while then:
                time.sleep(0.1)
                connection.sendall(frame(b"\0" + then))
        time.sleep(0.3)  # what comes at the very end of a connection, the client may lose
        connection.close()

    server.answer = answer


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (OK + b"\r\nhello", "hello"),
        (OK + b"Content-Length: 5\r\n\r\nhello", "hello"),
        (OK + b"Content-Length: 6\r\n\r\nhello", ""),
        (OK + b"\r\n" + b"x" * 90, "x" * 90),
        (b"HTTP/1.1 404 Not Found\r\n\r\nhello", ""),
        (b"", ""),
    ],
)
def test_a_pod_s_page_is_whole_or_none(server: Server, said: bytes, heard: str) -> None:
    forwarding(server, said)
    assert server.cluster().ask_pod("demo", "echo-1", 15000, "/clusters") == heard


@pytest.mark.parametrize("head", [OK, OK + b"\r\n"])
def test_a_pod_that_never_ends_what_it_says_is_no_longer_listened_to(
    server: Server, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(kubernetes_cluster, "PAGE_SECONDS", 0.5)
    forwarding(server, head, then=b"x")
    began = time.monotonic()
    assert server.cluster().ask_pod("demo", "echo-1", 15000, "/clusters") == ""
    assert time.monotonic() - began < 6


def test_nor_is_one_that_says_more_than_fits(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_cluster, "PAGE_MIB", 0)
    forwarding(server, OK, b"\r\n", b"x" * 90)
    assert server.cluster().ask_pod("demo", "echo-1", 15000, "/clusters") == ""
