"""The metrics server: tells Prometheus where VMs and pods are (`/targets`, `/pods`), and what the mesh says of VMs
(`/metrics`).

It runs in the cluster, and reads what it may there: WorkloadEntries and pods of some namespaces, istiod's addresses,
and, with a token of its own, istiod's sync states. It keeps nothing: each answer is of this moment.
"""

from __future__ import annotations

import http.client
import itertools
import json
import math
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from hybridmesh.istio.names import istiod_host
from hybridmesh.istio.ports import ISTIOD_MONITORING

from .exposition import exposition
from .in_time import answers_in_time
from .targets import Machine, Vm, pod_targets, targets, vms

PORT = 9099
CONFIG = Path("/etc/hybrid-mesh/config.json")
TOKEN = Path("/var/run/secrets/hybrid-mesh/istio-token")
"""A token of the server's service account for audience `istio-ca`, which istiod knows it by."""
_WAITS = "X-Prometheus-Scrape-Timeout-Seconds"
"""The header by which Prometheus says how long it waits for an answer."""
_API_SECONDS = 5
_ISTIOD_SECONDS = 3
"""For all istiods together, which are asked at once; less where Prometheus does not wait so long for the page."""
_AT_ONCE_OF_AN_ISTIOD = 8
"""Namespaces of which one istiod is asked at a time."""


class AskedError(ValueError):
    """A request that cannot be answered as it is."""


class MeshError(RuntimeError):
    """Kubernetes or istiod did not say what it was asked."""


@dataclass(frozen=True, slots=True)
class Config:
    """What the stack tells the server: `config.json`. Read anew for each answer, as it changes with the machines."""

    namespaces: Sequence[str]
    """Whose WorkloadEntries are VMs of the mesh."""
    pods_in: Sequence[str]
    """Whose pods are scraped."""
    network: str
    """The cluster's own."""
    agents: Sequence[str]
    """Networks whose VMs an agent there scrapes."""
    istio_namespace: str
    revision: str
    """Of the first istiod."""
    machines: Sequence[Machine] = field(default=())
    revisions: Sequence[str] = ()
    """Of the istiods beside it."""

    @classmethod
    def read(cls, path: Path) -> Config:
        """The file's content. Raises `MeshError` where it cannot be read."""
        try:
            document = json.loads(path.read_text())
            machines = tuple(Machine(**machine) for machine in document.pop("machines"))
            return cls(**document, machines=machines)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise MeshError(f"{path} cannot be read: {error}") from error


class Mesh(Protocol):
    """What the server asks."""

    def entries(self, namespace: str) -> Sequence[Mapping[str, Any]]:
        """A namespace's WorkloadEntries. Raises `MeshError`."""

    def pods(self, namespace: str) -> Sequence[Mapping[str, Any]]:
        """A namespace's pods. Raises `MeshError`."""

    def istiods(self, namespace: str, revision: str) -> Sequence[str]:
        """The addresses of istiod's pods. Raises `MeshError`."""

    def states(self, istiod: str, namespace: str) -> Sequence[Mapping[str, Any]]:
        """What one istiod says of the proxies in a namespace. Raises `MeshError`."""


class Cluster:
    """A `Mesh`, as a pod in it reads it."""

    def __init__(self, token: Path = TOKEN) -> None:
        import urllib3
        from kubernetes import client, config

        config.load_incluster_config()
        configuration = client.Configuration.get_default_copy()
        # Once more at most, and soon: Prometheus does not wait, and asks again itself.
        configuration.retries = urllib3.Retry(1, retry_after_max=1)
        api = client.ApiClient(configuration)
        self._refused, self._token = client.ApiException, token
        self._custom, self._discovery = client.CustomObjectsApi(api), client.DiscoveryV1Api(api)
        self._core = client.CoreV1Api(api)

    def entries(self, namespace: str) -> Sequence[Mapping[str, Any]]:
        items: Sequence[Mapping[str, Any]] = self._ask(
            f"list WorkloadEntries in {namespace}",
            lambda found: list(found["items"]),
            self._custom.list_namespaced_custom_object,
            "networking.istio.io",
            "v1",
            namespace,
            "workloadentries",
        )
        return items

    def pods(self, namespace: str) -> Sequence[Mapping[str, Any]]:
        items: Sequence[Mapping[str, Any]] = self._ask(
            f"list pods in {namespace}",
            lambda found: list(json.loads(found.data)["items"]),
            self._core.list_namespaced_pod,
            namespace,
            _preload_content=False,
        )
        return items

    def istiods(self, namespace: str, revision: str) -> Sequence[str]:
        service = istiod_host(namespace, revision).partition(".")[0]
        slices = self._ask(
            f"list the endpoints of {namespace}/{service}",
            lambda found: found.items,
            self._discovery.list_namespaced_endpoint_slice,
            namespace,
            label_selector=f"kubernetes.io/service-name={service}",
        )
        endpoints = [endpoint for each in slices for endpoint in each.endpoints or []]
        # Of one of which it is not said, Kubernetes means that it is.
        ready = [e for e in endpoints if e.conditions is None or e.conditions.ready is not False]
        # In a cluster of two address families a pod is in the slices of both: asked by IPv4, and once.
        ready.sort(key=lambda endpoint: ":" not in endpoint.addresses[0])
        return sorted({_pod_of(endpoint): endpoint.addresses[0] for endpoint in ready}.values())

    def states(self, istiod: str, namespace: str) -> Sequence[Mapping[str, Any]]:
        host = f"[{istiod}]" if ":" in istiod else istiod
        url = f"http://{host}:{ISTIOD_MONITORING}/debug/syncz?namespace={namespace}"
        try:
            request = urllib.request.Request(
                url, headers={"Authorization": f"Bearer {self._token.read_text().strip()}"}
            )
            with urllib.request.urlopen(request, timeout=_ISTIOD_SECONDS) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as error:
            remedy = (
                ": let it, by DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES in istiod's environment"
                if error.code == HTTPStatus.FORBIDDEN
                else ""
            )
            raise MeshError(f"istiod {istiod} answers {error.code} {error.reason}{remedy}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise MeshError(f"istiod {istiod} does not tell sync states: {error}") from error
        return said if isinstance(said, list) else []

    def _ask(self, what: str, read: Callable[[Any], Any], request: Any, *arguments: Any, **options: Any) -> Any:
        import urllib3.exceptions

        try:
            return read(request(*arguments, _request_timeout=_API_SECONDS, **options))
        except self._refused as error:
            raise MeshError(f"could not {what}: the API server answered {error.status} {error.reason}") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise MeshError(f"could not {what}: the API server does not answer ({type(error).__name__})") from error
        except (ValueError, TypeError, KeyError) as error:
            raise MeshError(f"could not {what}: what the API server answers is no list of Kubernetes'") from error


def _pod_of(endpoint: Any) -> str:
    """What tells two of a Service's endpoints apart: the pod, or else the address."""
    return str((endpoint.target_ref and endpoint.target_ref.name) or endpoint.addresses[0])


def known_vms(mesh: Mesh, config: Config) -> list[Vm]:
    """Every VM that mesh or stack has."""
    entries = [entry for namespace in config.namespaces for entry in mesh.entries(namespace)]
    return vms(entries, config.machines, config.network)


def targets_page(mesh: Mesh, config: Config, network: str | None) -> bytes:
    """The VMs of a network; of all networks without an agent where none is given."""
    known = known_vms(mesh, config)
    own = sorted({vm.network for vm in known} - set(config.agents))
    return json.dumps(targets(known, own if network is None else [network]), indent=1).encode()


def pods_page(mesh: Mesh, config: Config) -> bytes:
    """The pods with a proxy, and gateways."""
    pods = [pod for namespace in config.pods_in for pod in mesh.pods(namespace)]
    return json.dumps(pod_targets(pods, config.network), indent=1).encode()


def metrics_page(mesh: Mesh, config: Config, seconds: float = _ISTIOD_SECONDS) -> bytes:
    """What the mesh says of its VMs. An istiod that does not answer within some seconds is counted, and hides nothing
    else; so is a revision of which none is there."""
    istiods: list[str] = []
    answered: list[bool] = []
    for revision in (config.revision, *config.revisions):
        found = mesh.istiods(config.istio_namespace, revision)
        if not found:
            print(f"no istiod of revision {revision} is ready in {config.istio_namespace}", file=sys.stderr, flush=True)
            answered.append(False)
        istiods.extend(found)
    said = _states(mesh, istiods, config.namespaces, seconds)
    answered += [each is not None for each in said]
    states = [state for each in said for state in each or ()]
    return exposition(known_vms(mesh, config), config.machines, states, answered)


def _states(
    mesh: Mesh, istiods: Sequence[str], namespaces: Sequence[str], seconds: float
) -> list[Sequence[Mapping[str, Any]] | None]:
    """What each istiod says of the proxies in some namespaces; None: it did not, or not in time."""

    def ask(question: tuple[str, str]) -> Sequence[Mapping[str, Any]] | None:
        try:
            return mesh.states(*question)
        except MeshError as error:
            print(error, file=sys.stderr, flush=True)
            return None

    answers = answers_in_time(
        ask,
        itertools.product(istiods, namespaces),
        seconds=seconds,
        at_once=max(len(istiods) * _AT_ONCE_OF_AN_ISTIOD, 1),
    )
    found: list[Sequence[Mapping[str, Any]] | None] = []
    for istiod in istiods:
        if any((istiod, namespace) not in answers for namespace in namespaces):
            print(f"istiod {istiod} does not tell sync states within {seconds:g} s", file=sys.stderr, flush=True)
        said = [answers.get((istiod, namespace)) for namespace in namespaces]
        found.append(None if None in said else [state for states in said for state in states or ()])
    return found


class Handler(BaseHTTPRequestHandler):
    """One request. A failure is 503, upon which Prometheus keeps the targets that it has."""

    mesh: Mesh
    config: Path
    protocol_version = "HTTP/1.1"
    server_version = "hybrid-mesh"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        """Answers."""
        url = urlsplit(self.path)
        try:
            if url.path == "/targets":
                network = parse_qs(url.query).get("network", [None])[0]
                self._answer(200, "application/json", targets_page(self.mesh, Config.read(self.config), network))
            elif url.path == "/pods":
                self._answer(200, "application/json", pods_page(self.mesh, Config.read(self.config)))
            elif url.path == "/metrics":
                page = metrics_page(self.mesh, Config.read(self.config), self._seconds())
                self._answer(200, "text/plain; version=0.0.4; charset=utf-8", page)
            elif url.path == "/healthz":
                self._answer(200, "text/plain", b"ok\n")
            else:
                self._answer(404, "text/plain", b"/targets, /targets?network=NAME, /pods, /metrics or /healthz\n")
        except AskedError as error:
            self._answer(400, "text/plain", f"{error}\n".encode())
        except MeshError as error:
            print(error, file=sys.stderr, flush=True)
            self._answer(503, "text/plain", f"{error}\n".encode())

    def _seconds(self) -> float:
        """How long istiods may take: half of what Prometheus waits, as it says, leaves time for all else."""
        waits = self.headers.get(_WAITS)
        if waits is None:
            return _ISTIOD_SECONDS
        try:
            seconds = float(waits)
        except ValueError:
            seconds = math.nan
        if not seconds > 0:
            raise AskedError(
                f"{_WAITS} = {waits!r} is no number of seconds. Nobody knows how long the answer may take, and nothing "
                "was asked. Fix: seconds above 0, such as 10, or leave the header out."
            )
        return min(seconds / 2, _ISTIOD_SECONDS)

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each scrape."""


class _Server(ThreadingHTTPServer):
    """Listens for IPv4 and IPv6, whichever the cluster's pods have."""

    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    daemon_threads = True

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of who waits for no answer any more."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def serve(mesh: Mesh, config: Path = CONFIG, port: int = PORT) -> ThreadingHTTPServer:
    """A server that is bound, and not yet served."""
    handler = type("BoundHandler", (Handler,), {"mesh": mesh, "config": config})
    return _Server(("", port), handler)
