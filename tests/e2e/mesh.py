"""What tests ask of the mesh: Kubernetes' objects, and what a proxy has been told."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.environment import Lab


def ask_kubectl(lab: Lab, *arguments: str, document: object = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl, with `document` as JSON on stdin if there is one; a refusal is an answer too."""
    return subprocess.run(
        [str(lab.bin / "kubectl"), "--kubeconfig", str(lab.kubeconfig), *arguments],
        input=None if document is None else json.dumps(document),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def kubectl(lab: Lab, *arguments: str) -> str:
    """What kubectl prints; an assertion fails if it does."""
    done = ask_kubectl(lab, *arguments)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def objects(lab: Lab, kind: str, namespace: str = "demo") -> dict[str, Any]:
    """A namespace's objects of a kind, by name."""
    items = json.loads(kubectl(lab, "get", kind, "-n", namespace, "-o", "json"))["items"]
    return {item["metadata"]["name"]: item for item in items}


def ask_proxy(lab: Lab, deployment: str, path: str, namespace: str = "demo") -> str:
    """What the admin page of a pod's proxy answers."""
    agent = ("-c", "istio-proxy", "--", "pilot-agent", "request", "GET", path)
    return kubectl(lab, "exec", "-n", namespace, f"deploy/{deployment}", *agent)


def proxy_config(lab: Lab, deployment: str, resource: str, namespace: str = "demo") -> list[dict[str, Any]]:
    """What a pod's proxy has by xDS; `resource` as Envoy's config_dump has it, such as `dynamic_active_clusters`."""
    answer = ask_proxy(lab, deployment, f"config_dump?resource={resource}", namespace)
    configs: list[dict[str, Any]] = json.loads(answer).get("configs", [])
    return configs


def localities(lab: Lab, cluster_name: str) -> dict[str, str]:
    """The endpoints that the client's proxy has for a cluster: where each is, by its address."""
    statuses = json.loads(ask_proxy(lab, "client", "clusters?format=json"))["cluster_statuses"]
    (found,) = [status for status in statuses if status["name"] == cluster_name]
    return {
        host["address"]["socket_address"]["address"]: "/".join(host.get("locality", {}).values())
        for host in found.get("host_statuses", [])
    }


def cluster(lab: Lab, name: str, deployment: str = "client") -> dict[str, Any]:
    """One cluster of a pod's proxy, such as `outbound|8080|vm|echo.demo.svc.cluster.local`."""
    clusters = [config["cluster"] for config in proxy_config(lab, deployment, "dynamic_active_clusters")]
    found = {c["name"]: c for c in clusters}
    assert name in found, sorted(found)
    chosen: dict[str, Any] = found[name]
    return chosen
