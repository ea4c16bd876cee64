"""A cluster, through the official client. Loading that takes half a second, and most programs never ask a cluster."""

import binascii
import functools
import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import urllib3
import websocket
import yaml
from kubernetes import client, config
from kubernetes.config import exec_provider

from hybridmesh.istio.ports import ISTIOD_MONITORING
from hybridmesh.legible import legible

from .cluster import NETWORKING, ClusterError, Pod, UnansweredError
from .serving import WORKERS

LOGIN_SECONDS = 120
"""For the program by which a kubeconfig logs in (`exec`): somebody may have to do so in a browser meanwhile."""
PAGE_SECONDS = 60
"""For all of what a pod answers, which may be long. Each part of it has the limit of a request."""
PAGE_MIB = 256
"""More than that is no answer."""

_CRDS = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
_WEBHOOKS = ("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations")
_NOT_ALLOWED = {
    401: "Check that the login of the kubeconfig {} has not ended.",
    403: "Check what the user of the kubeconfig {} may do: `kubectl auth can-i --list`.",
}
"""What to do, by how the API server refuses."""
_NOBODY = (
    "The request came without a login: check the user of the kubeconfig {}, and that the program by which it logs in, "
    "where it names one (`exec`), is installed here and logged in: `kubectl auth whoami`."
)
"""The same for `system:anonymous`: the client goes on without a login where such a program fails."""
_TAG = "istio.io/tag"
"""Label of the webhook of a revision tag: its name (istio, the istiod chart's revision-tags-mwc.yaml)."""


class _OnceMore(urllib3.Retry):
    """One try more, at once, for a connection that the server closed while it was idle; none for what took the whole
    limit, which is for both."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> "_OnceMore":
        if isinstance(error, urllib3.exceptions.TimeoutError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


class _LimitedWebSocket(websocket.WebSocket):
    """One that opens within the limit. The client's own has none: to a node that is gone, or through a proxy that keeps
    upgrades to itself, it opens for ever."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.settimeout(websocket.getdefaulttimeout())


class _LimitedLogin(subprocess.Popen[str]):
    """One that ends within the limit. The client waits for ever for a program that waits for a network, or for input
    that nobody gives."""

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:
        try:
            return super().communicate(input, LOGIN_SECONDS if timeout is None else timeout)
        except subprocess.TimeoutExpired as error:
            self.kill()
            self.wait()
            # The client logs what this says, and goes on without a login; arguments may be secret.
            raise config.ConfigException(
                f"{error.cmd[0]}, by which the kubeconfig logs in, gave no login within {error.timeout:g} s and was "
                "ended. See by `kubectl version` with this kubeconfig what it waits for"
            ) from None


# It takes no limit otherwise.
exec_provider.subprocess = SimpleNamespace(  # type: ignore[attr-defined,assignment]
    Popen=_LimitedLogin, PIPE=subprocess.PIPE
)


@contextmanager
def _ended_after(seconds: float, stream: socket.socket) -> Iterator[None]:
    """Ends a connection that lasts longer, as if the other side had."""

    def end() -> None:
        with suppress(OSError):  # it has ended meanwhile
            stream.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class KubernetesCluster:
    """A `Cluster`, by a kubeconfig and a context in it; each request within so many seconds."""

    def __init__(self, kubeconfig: str, context: str, seconds: int) -> None:
        self._kubeconfig, self._seconds = kubeconfig, seconds
        try:
            configuration = client.Configuration()
            # A connection for each thread that asks; urllib3 complains of those that it must throw away.
            configuration.connection_pool_maxsize = WORKERS
            # An API server that is busy says how long to wait, and may say an hour.
            configuration.retries = _OnceMore(total=1, retry_after_max=seconds)
            api = config.new_client_from_config(
                str(Path(kubeconfig).expanduser()), context or None, client_configuration=configuration
            )
        except (config.ConfigException, OSError) as error:
            raise _unusable(kubeconfig, str(error).rstrip(".")) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            line = f" (line {mark.line + 1})" if (mark := getattr(error, "problem_mark", None)) else ""
            raise _unusable(kubeconfig, f"it is not YAML{line}") from error
        except binascii.Error as error:
            raise _unusable(kubeconfig, "a certificate or a key in it is not in base64") from error
        except (TypeError, AttributeError) as error:  # of the client's, where a list or a mapping is something else
            raise _unusable(kubeconfig, "it is YAML, and not of a kubeconfig's form") from error
        websocket.setdefaulttimeout(seconds)
        self._api = api

    # Each when it is asked, for that loads its models, and most runs ask after a WorkloadEntry alone.

    @functools.cached_property
    def _core(self) -> Any:
        return client.CoreV1Api(self._api)

    @functools.cached_property
    def _custom(self) -> Any:
        return client.CustomObjectsApi(self._api)

    def mint_token(self, namespace: str, account: str, audience: str, seconds: int) -> tuple[str, str]:
        request = client.AuthenticationV1TokenRequest(
            spec=client.V1TokenRequestSpec(audiences=[audience], expiration_seconds=seconds)
        )
        answer = self._ask(
            f"mint a token of service account {namespace}/{account}",
            self._core.create_namespaced_service_account_token,
            account,
            namespace,
            request,
        )
        if answer is None:
            raise ClusterError(
                f"there is no service account {namespace}/{account} to mint a token of: somebody has deleted it, or "
                "the cluster was made anew. Run `pulumi up --refresh`."
            )
        return answer.status.token, answer.status.expiration_timestamp.isoformat()

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        path = f"namespaces/{namespace}/configmaps/{name}"
        found = self._ask(f"read ConfigMap {namespace}/{name}", self._get_core, path)
        return None if found is None else found.get("data") or {}

    def service(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        path = f"namespaces/{namespace}/services/{name}"
        found: Mapping[str, Any] | None = self._ask(f"read Service {namespace}/{name}", self._get_core, path)
        return found

    def workload_entry(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = self._ask(
            f"read WorkloadEntry {namespace}/{name}",
            self._custom.get_namespaced_custom_object,
            *NETWORKING,
            namespace,
            "workloadentries",
            name,
        )
        return found

    def workload_entries(self, namespace: str, at_most: int) -> Mapping[str, Mapping[str, Any]]:
        found = self._list(*NETWORKING, "workloadentries", namespace, limit=at_most)
        return {entry["metadata"]["name"]: entry for entry in found}

    def patch_workload_entry(self, namespace: str, name: str, patch: Mapping[str, Any]) -> None:
        self._ask(
            f"patch WorkloadEntry {namespace}/{name}",
            self._custom.patch_namespaced_custom_object,
            *NETWORKING,
            namespace,
            "workloadentries",
            name,
            patch,
        )

    def delete_workload_entry(self, namespace: str, name: str) -> None:
        self._ask(
            f"delete WorkloadEntry {namespace}/{name}",
            self._custom.delete_namespaced_custom_object,
            *NETWORKING,
            namespace,
            "workloadentries",
            name,
        )

    def sync_states(self, namespace: str, revision: str, workload_namespace: str) -> Sequence[Mapping[str, Any]]:
        pods = self.pods(namespace, f"app=istiod,istio.io/rev in ({revision})")
        path = f"/debug/syncz?namespace={workload_namespace}"
        said = [_list_in(self.ask_pod(namespace, pod.name, ISTIOD_MONITORING, path)) for pod in pods]
        if pods and not any(states is not None for states in said):
            raise UnansweredError(
                f"no istiod of revision {revision} says which proxies it has in sync. Check `kubectl port-forward -n "
                f"{namespace} {pods[0].name} {ISTIOD_MONITORING}`, by which it is asked."
            )
        return [state for states in said for state in states or ()]

    def pods(self, namespace: str, selector: str) -> Sequence[Pod]:
        found = self._ask(
            f"list pods {selector} in {namespace}",
            self._core.list_namespaced_pod,
            namespace,
            label_selector=selector,
            field_selector="status.phase=Running",
        )
        return [
            Pod(
                pod.metadata.name,
                pod.status.pod_ip or "",
                any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or []),
            )
            for pod in (found.items if found else [])
            # One that goes away has nothing to say, and may keep whoever asks waiting.
            if pod.metadata.deletion_timestamp is None
        ]

    def ask_pod(self, namespace: str, pod: str, port: int, path: str) -> str:
        from kubernetes.stream import portforward, ws_client

        ws_client.WebSocket = _LimitedWebSocket  # type: ignore[attr-defined,assignment]  # it takes no limit otherwise
        # A client of its own, for the stream replaces the client's way to call while it opens.
        core = client.CoreV1Api(client.ApiClient(self._api.configuration))
        forward = None
        try:
            forward = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
            forward.websocket.settimeout(None)  # what comes through it has limits of its own
            connection = http.client.HTTPConnection("localhost", port, timeout=self._seconds)
            connection.sock = forward.socket(port)
            connection.sock.settimeout(self._seconds)
            began = time.monotonic()
            with _ended_after(PAGE_SECONDS, connection.sock):
                connection.request("GET", path, headers={"Connection": "close"})
                answer = connection.getresponse()
                body = answer.read(PAGE_MIB * 2**20 + 1)
        except client.ApiException as error:
            # The client's own error for a stream that does not open hides what the API server said.
            answered = error.__context__ or error
            status = getattr(answered, "status_code", None) or error.status
            if status in _NOT_ALLOWED:
                what = f"forward port {port} of pod {namespace}/{pod}"
                said = getattr(answered, "resp_body", None) or error.body
                raise self._refused(what, status, http.HTTPStatus(status).phrase, said) from error
            return ""
        except (OSError, http.client.HTTPException):
            # A pod that starts or goes away has nothing to say; who waits asks again.
            return ""
        finally:
            if forward is not None:
                forward.close()
        whole = not answer.length and len(body) <= PAGE_MIB * 2**20 and time.monotonic() - began < PAGE_SECONDS
        return body.decode(errors="replace") if answer.status == 200 and whole else ""

    def objects_in(self, group: str, version: str, plural: str, namespace: str) -> Sequence[Mapping[str, Any]]:
        return self._list(group, version, plural, namespace)

    def _list(
        self, group: str, version: str, plural: str, namespace: str, **options: Any
    ) -> Sequence[Mapping[str, Any]]:
        return self._ask_for_list(
            f"list {plural} in {namespace}",
            self._custom.list_namespaced_custom_object,
            group,
            version,
            namespace,
            plural,
            **options,
        )

    def _everywhere(self, group: str, version: str, plural: str, **options: Any) -> Sequence[Mapping[str, Any]]:
        return self._ask_for_list(
            f"list {plural}", self._custom.list_cluster_custom_object, group, version, plural, **options
        )

    def objects_labelled(self, group: str, version: str, plural: str, selector: str) -> Sequence[Mapping[str, Any]]:
        return self._everywhere(group, version, plural, label_selector=selector)

    def services_labelled(self, selector: str) -> Sequence[Mapping[str, Any]]:
        return self._ask_for_list("list Services", self._get_core, f"services?labelSelector={quote(selector, safe='')}")

    def namespaces_of(self, group: str, version: str, plural: str) -> Sequence[str]:
        return [item["metadata"]["namespace"] for item in self._everywhere(group, version, plural)]

    def namespace_labels(self, name: str) -> Mapping[str, str] | None:
        found = self._ask(f"read Namespace {name}", self._get_core, f"namespaces/{name}")
        return None if found is None else found["metadata"].get("labels") or {}

    def revision_tags(self, namespace: str) -> Mapping[str, str]:
        tags: dict[str, str] = {}
        for tag in self._everywhere(*_WEBHOOKS, label_selector=_TAG):
            services = [webhook["clientConfig"].get("service") or {} for webhook in tag.get("webhooks") or ()]
            if any(service.get("namespace") == namespace for service in services):
                labels = tag["metadata"]["labels"]
                tags[labels[_TAG]] = labels.get("istio.io/rev", "")
        return tags

    def istiods(self) -> Sequence[str]:
        found = self._everywhere("apps", "v1", "deployments", label_selector="app=istiod")
        return [f"{d['metadata']['namespace']}/{d['metadata']['name']}" for d in found]

    def istio_crds(self) -> Sequence[Mapping[str, Any]]:
        return [crd for crd in self._everywhere(*_CRDS) if crd["spec"]["group"].endswith(".istio.io")]

    def delete_crd(self, name: str) -> None:
        self._ask(f"delete CustomResourceDefinition {name}", self._custom.delete_cluster_custom_object, *_CRDS, name)

    def objects_of(self, crd: Mapping[str, Any]) -> Sequence[str]:
        spec = crd["spec"]
        version = next(v["name"] for v in spec["versions"] if v["storage"])
        kind = spec["names"]["kind"]
        items = self._everywhere(spec["group"], version, spec["names"]["plural"])
        return [f"{kind} {i['metadata'].get('namespace', '')}/{i['metadata']['name']}" for i in items]

    def namespaces_labelled(self, selector: str) -> Mapping[str, str]:
        found = self._ask("list namespaces", self._core.list_namespace, label_selector=selector)
        there = [n for n in found.items if n.status.phase != "Terminating"] if found else []
        return {n.metadata.name: n.metadata.uid for n in there}

    def config_maps_labelled(self, selector: str) -> Sequence[tuple[str, str]]:
        found = self._ask("list ConfigMaps", self._core.list_config_map_for_all_namespaces, label_selector=selector)
        return [(c.metadata.namespace, c.metadata.name) for c in found.items] if found else []

    def delete_config_map(self, namespace: str, name: str) -> None:
        self._ask(f"delete ConfigMap {namespace}/{name}", self._core.delete_namespaced_config_map, name, namespace)

    def helm_records(self, namespace: str, release: str) -> Sequence[tuple[str, str]]:
        found = self._ask(
            f"list Helm's records of {namespace}/{release}",
            self._core.list_namespaced_secret,
            namespace,
            label_selector=f"owner=helm,name={release}",
        )
        records = sorted(found.items, key=lambda s: int(s.metadata.labels["version"])) if found else []
        return [(record.metadata.name, record.metadata.labels["status"]) for record in records]

    def delete_helm_record(self, namespace: str, name: str) -> None:
        self._ask(f"delete Secret {namespace}/{name}", self._core.delete_namespaced_secret, name, namespace)

    def find(self, api_version: str, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        path = self._path(api_version, kind, namespace, name)
        if path is None:
            return None
        found: Mapping[str, Any] | None = self._ask(f"read {kind} {namespace}/{name}", self._request, "GET", path)
        return found

    def disown(self, api_version: str, kind: str, namespace: str, name: str) -> bool:
        path = self._path(api_version, kind, namespace, name)
        if path is None:
            return False
        nobody: Mapping[str, Any] = {"metadata": {"managedFields": [{}]}}
        return self._ask(f"patch {kind} {namespace}/{name}", self._request, "PATCH", path, nobody) is not None

    def _path(self, api_version: str, kind: str, namespace: str, name: str) -> str | None:
        """Where an object is; None where the cluster does not know the kind."""
        # Not by the client's own discovery, whose requests have no limit.
        root = f"/{'apis' if '/' in api_version else 'api'}/{api_version}"
        known = self._ask(f"list the kinds of {api_version}", self._request, "GET", root)
        of_kind = [r for r in known["resources"] if r["kind"] == kind and "/" not in r["name"]] if known else []
        if not of_kind:
            return None
        place = f"namespaces/{namespace or 'default'}/" if of_kind[0]["namespaced"] else ""
        return f"{root}/{place}{of_kind[0]['name']}/{name}"

    def _get_core(self, path: str, **options: Any) -> Any:
        """One of Kubernetes' core objects, without the half a second that the client takes to load their models."""
        return self._request("GET", f"/api/v1/{path}", **options)

    def _request(self, method: str, path: str, body: Any = None, *, _request_timeout: int) -> Any:
        request = self._api.param_serialize(
            method,
            path,
            header_params={
                "Accept": "application/json",
                **({} if body is None else {"Content-Type": "application/merge-patch+json"}),
            },
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = self._api.call_api(*request, _request_timeout=_request_timeout)
        answer.read()
        return self._api.response_deserialize(answer, {"200": "object"}).data

    def _ask(self, what: str, request: Any, *arguments: Any, **options: Any) -> Any:
        """Makes a request within the limit. None where there is no such object."""
        try:
            answer = request(*arguments, _request_timeout=self._seconds, **options)
        except client.ApiException as error:
            if error.status == 404:
                return None
            status = error.status or 0
            if status == http.HTTPStatus.TOO_MANY_REQUESTS or status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
                raise UnansweredError(_answered(what, status, error.reason)) from error
            raise self._refused(what, status, error.reason, error.body) from error
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            untrusted = next((e for e in reason.args if isinstance(e, ssl.SSLCertVerificationError)), None)
            if untrusted is not None:
                raise ClusterError(
                    f"could not {what}: the API server shows a certificate that the kubeconfig {self._kubeconfig} does "
                    f"not lead to ({untrusted.verify_message}). Check that the kubeconfig is of this cluster and has "
                    "its present certificate authority, this machine's clock, and HTTPS_PROXY."
                ) from error
            raise UnansweredError(
                f"could not {what}: the API server of {self._kubeconfig} did not answer "
                f"({type(reason).__name__}). Check that the cluster is up and reachable from here."
            ) from error
        except ValueError as error:  # of JSON's, or of the client's models
            raise self._unreadable(what) from error
        if isinstance(answer, str | list):
            raise self._unreadable(what)
        return answer

    def _ask_for_list(self, what: str, request: Any, *arguments: Any, **options: Any) -> Sequence[Mapping[str, Any]]:
        """The items of a list; none where the cluster does not know the kind."""
        answer = self._ask(what, request, *arguments, **options)
        if answer is None:
            return []
        if not isinstance(answer.get("items"), list):
            raise self._unreadable(what)
        items: list[Mapping[str, Any]] = answer["items"]
        return items

    def _refused(self, what: str, status: int, reason: str, body: str | bytes | None) -> ClusterError:
        if status not in _NOT_ALLOWED:
            return ClusterError(_answered(what, status, reason))
        # Whom it takes us for is in its words alone, and may be nobody: system:anonymous.
        words = f"{reason} ({said})" if (said := _message_in(body)) else reason
        remedy = _NOBODY if "system:anonymous" in words else _NOT_ALLOWED[status]
        return ClusterError(f"{_answered(what, status, words)} {remedy.format(self._kubeconfig)}{self._ended()}")

    def _ended(self) -> str:
        """That the certificate by which the kubeconfig logs in has ended; empty where it has not, or there is none."""
        from cryptography import x509  # here, for it takes longer to load than most requests

        try:
            pem = Path(self._api.configuration.cert_file or "").read_bytes()
            end = x509.load_pem_x509_certificate(pem).not_valid_after_utc
        except (OSError, ValueError):
            return ""
        return f" Its client certificate has ended, at {end:%Y-%m-%d %H:%M} UTC." if end < datetime.now(UTC) else ""

    def _unreadable(self, what: str) -> UnansweredError:
        return UnansweredError(
            f"could not {what}: what came from the API server of {self._kubeconfig} is not Kubernetes' JSON, or is cut "
            "off. Check what stands between here and the cluster: HTTPS_PROXY and NO_PROXY, a login page, a load "
            "balancer."
        )


def _answered(what: str, status: int, reason: str) -> str:
    return f"could not {what}: the API server answered {status} {reason}."


def _message_in(body: str | bytes | None) -> str:
    """The message of a `Status` of Kubernetes'; empty where a body is none."""
    try:
        found = json.loads(body or "")
    except ValueError:
        return ""
    message = found.get("message") if isinstance(found, dict) else None
    return legible(" ".join(message.split()))[:300] if isinstance(message, str) else ""


def _list_in(page: str) -> list[Mapping[str, Any]] | None:
    """What a page of JSON lists; None where it is no list."""
    try:
        found = json.loads(page)
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def _unusable(kubeconfig: str, why: str) -> ClusterError:
    return ClusterError(
        f"cannot use the kubeconfig {kubeconfig}: {why}. Check the settings `cluster.kubeconfig` and `cluster.context`."
    )
