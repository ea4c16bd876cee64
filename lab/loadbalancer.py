"""What a cloud does for a Service of type LoadBalancer: gives it an address that leads to the node.

Runs inside the instance as `python -m lab.loadbalancer KUBECONFIG ADDRESS...`; kube-proxy does the rest.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from kubernetes import client, config, watch


def assigned(service: Any) -> str | None:
    """The address in a Service's status, if any."""
    ingress = service.status.load_balancer.ingress or []
    return ingress[0].ip if ingress else None


def choose(service: Any, taken: dict[str, str], pool: list[str]) -> str:
    """The address a Service asks for (`spec.loadBalancerIP`), else the pool's first free one."""
    wanted = service.spec.load_balancer_ip
    if wanted in pool and wanted not in taken.values():
        return str(wanted)
    return next(address for address in pool if address not in taken.values())


def main() -> None:
    kubeconfig, *pool = sys.argv[1:]
    config.load_kube_config(kubeconfig)
    api = client.CoreV1Api()
    taken: dict[str, str] = {}
    while True:
        for event in watch.Watch().stream(api.list_service_for_all_namespaces, timeout_seconds=600):
            service = event["object"]
            uid = service.metadata.uid
            if event["type"] == "DELETED" or service.spec.type != "LoadBalancer":
                if address := taken.pop(uid, None):
                    subprocess.run(["ip", "addr", "del", f"{address}/32", "dev", "br0"], check=False, timeout=10)
                continue
            address = taken.get(uid) or assigned(service) or choose(service, taken, pool)
            if uid not in taken:
                taken[uid] = address
                subprocess.run(["ip", "addr", "replace", f"{address}/32", "dev", "br0"], check=True, timeout=10)
            if assigned(service) != address:
                api.patch_namespaced_service_status(
                    service.metadata.name,
                    service.metadata.namespace,
                    {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}},
                )


if __name__ == "__main__":
    main()
