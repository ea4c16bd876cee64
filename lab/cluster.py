"""The embedded Kubernetes cluster: real etcd, API server, controllers, kubelet with containerd, kube-proxy, CoreDNS.

Every setting that differs from a default stands here with its reason; the parts are started and kept running by
the instance's supervisord.
"""

from __future__ import annotations

import json
import operator
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from tenacity import RetryCallState, Retrying, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

from lab.cloud import TOKENS_PORT
from lab.instance import MIRROR_PORT, PROJECT_ROOT, SUPERVISOR_SOCKET, Instance, LabError, Subnets, write
from lab.pki import Authority
from lab.toolchain import Toolset, images

API_PORT = 6443


@dataclass(frozen=True)
class Cluster:
    """The cluster of one instance."""

    instance: Instance
    tools: Toolset

    @property
    def folder(self) -> Path:
        return self.instance.folder

    @property
    def authority(self) -> Authority:
        return Authority(self.folder / "pki")

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    # ------------------------------------------------------------------ programs

    def supervisor_config(self) -> str:
        """supervisord's configuration (http://supervisord.org/configuration.html): all programs but the machines."""
        sections = [
            "[unix_http_server]",
            f"file={SUPERVISOR_SOCKET}",
            "chmod=0700",
            "[supervisord]",
            f"logfile={self.folder}/log/supervisord.log",
            "logfile_maxbytes=5MB",
            "logfile_backups=1",
            "pidfile=/run/supervisord.pid",
            f"childlogdir={self.folder}/log",
            "minfds=4096",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
            "[include]",
            f"files = {self.folder}/programs/*.conf",
        ]
        return "\n".join(sections) + "\n"

    def write_programs(self) -> None:
        """Write certificates, configuration files and one supervisord program a part."""
        subnets = self.instance.subnets
        self._write_pki(subnets)
        self._write_configs(subnets)
        for priority, (name, command) in enumerate(self._commands(subnets).items(), start=1):
            write_program(self.instance, name, command, priority=priority)

    def _commands(self, subnets: Subnets) -> dict[str, list[str]]:
        folder, pki, binaries = self.folder, self.folder / "pki", self.tools.bin_dir
        return {
            "etcd": [
                f"{binaries}/etcd",
                f"--data-dir={folder}/etcd",
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
                # The environment is thrown away; waiting for the disk at every write only slows it.
                "--unsafe-no-fsync",
            ],
            "containerd": ["/usr/bin/containerd", "--config", f"{folder}/config/containerd.toml"],
            "kube-apiserver": [
                f"{binaries}/kube-apiserver",
                "--etcd-servers=http://127.0.0.1:2379",
                f"--advertise-address={subnets.node}",
                f"--secure-port={API_PORT}",
                f"--service-cluster-ip-range={subnets.services}",
                f"--client-ca-file={pki}/ca.crt",
                f"--tls-cert-file={pki}/apiserver.crt",
                f"--tls-private-key-file={pki}/apiserver.key",
                f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
                f"--kubelet-client-key={pki}/apiserver-kubelet.key",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={pki}/service-accounts.key",
                f"--service-account-signing-key-file={pki}/service-accounts.key",
                # Tokens that it does not know itself are the cloud's: see lab/cloud.py.
                f"--authentication-token-webhook-config-file={folder}/config/cloud-tokens.kubeconfig",
                "--authentication-token-webhook-version=v1",
                "--authentication-token-webhook-cache-ttl=5s",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--allow-privileged=true",
                "--profiling=false",
            ],
            "kube-controller-manager": [
                f"{binaries}/kube-controller-manager",
                f"--kubeconfig={folder}/config/kube-controller-manager.kubeconfig",
                f"--service-account-private-key-file={pki}/service-accounts.key",
                f"--root-ca-file={pki}/ca.crt",
                "--use-service-account-credentials=true",
                "--leader-elect=false",
                "--concurrent-namespace-syncs=20",
            ],
            "kube-scheduler": [
                f"{binaries}/kube-scheduler",
                f"--kubeconfig={folder}/config/kube-scheduler.kubeconfig",
                "--leader-elect=false",
            ],
            "kubelet": [
                f"{binaries}/kubelet",
                f"--config={folder}/config/kubelet.yaml",
                f"--kubeconfig={folder}/config/kubelet.kubeconfig",
                f"--root-dir={folder}/kubelet",
                f"--node-ip={subnets.node}",
                "--hostname-override=node",
            ],
            "kube-proxy": [f"{binaries}/kube-proxy", f"--config={folder}/config/kube-proxy.yaml"],
            "coredns": [f"{binaries}/coredns", "-conf", f"{folder}/config/Corefile"],
            "loadbalancer": [
                sys.executable,
                "-m",
                "lab.loadbalancer",
                str(self.kubeconfig),
                *subnets.load_balancers,
            ],
            "mirror": [sys.executable, "-m", "http.server", str(MIRROR_PORT)]
            + ["--bind", subnets.node, "--directory", f"{folder}/mirror/files"],
        }

    def _write_pki(self, subnets: Subnets) -> None:
        authority, server = self.authority, f"https://{subnets.node}:{API_PORT}"
        authority.create()
        authority.service_account_key()
        authority.issue(
            "apiserver",
            "kube-apiserver",
            hosts=[subnets.node, subnets.kubernetes_service, "127.0.0.1", "kubernetes.default.svc"],
        )
        authority.issue("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters")
        (self.folder / "config").mkdir(exist_ok=True)
        authority.kubeconfig(self.kubeconfig, server, "admin", "admin", "system:masters")
        for name, common_name, organization in (
            ("kube-controller-manager", "system:kube-controller-manager", None),
            ("kube-scheduler", "system:kube-scheduler", None),
            ("kube-proxy", "system:kube-proxy", None),
            ("kubelet", "system:node:node", "system:nodes"),
            ("coredns", "system:coredns", None),
        ):
            path = self.folder / "config" / f"{name}.kubeconfig"
            authority.kubeconfig(path, server, name, common_name, organization)

    def _write_configs(self, subnets: Subnets) -> None:
        config, folder = self.folder / "config", self.folder
        _write_yaml(config / "kubelet.yaml", self._kubelet(subnets))
        _write_yaml(config / "cloud-tokens.kubeconfig", _CLOUD_TOKENS)
        _write_yaml(config / "kube-proxy.yaml", self._kube_proxy(subnets))
        write(config / "containerd.toml", _CONTAINERD.format(folder=folder, pause=images.reference("pause")))
        (config / "cni").mkdir(exist_ok=True)
        write(config / "cni" / "10-pods.conflist", json.dumps(_pod_network(subnets)))
        (config / "machines.hosts").touch()
        write(
            config / "Corefile",
            _COREFILE.format(
                cluster=subnets.cluster_dns,
                machines=subnets.machine_dns,
                kubeconfig=f"{config}/coredns.kubeconfig",
                hosts=f"{config}/machines.hosts",
            ),
        )
        self._fill_mirror(subnets)
        self._copy_charts()

    def _kubelet(self, subnets: Subnets) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "x509": {"clientCAFile": f"{self.folder}/pki/ca.crt"},
                "webhook": {"enabled": True},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.instance.id}",
            "clusterDNS": [subnets.cluster_dns],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "enforceNodeAllocatable": [],
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
            },
            "failCgroupV1": False,
            "failSwapOn": False,
            # The only node has every image it will ever have: nothing may be collected.
            "imageGCHighThresholdPercent": 100,
            "podCIDR": subnets.pods,
            "resolvConf": "/etc/resolv.conf",
            "serializeImagePulls": False,
            "maxPods": 250,
            # A test that waits for a pod should not wait for the kubelet's patience.
            "syncFrequency": "10s",
        }

    def _kube_proxy(self, subnets: Subnets) -> dict[str, Any]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clusterCIDR": subnets.pods,
            "hostnameOverride": "node",
            "clientConnection": {"kubeconfig": f"{self.folder}/config/kube-proxy.kubeconfig"},
            # These sysctls are the host's, not the namespace's.
            "conntrack": {"maxPerCore": 0, "min": 0},
            "metricsBindAddress": "127.0.0.1:10249",
        }

    def _fill_mirror(self, subnets: Subnets) -> None:
        """The package for machines, and how a stack names it."""
        mirror = self.folder / "mirror"
        (mirror / "files").mkdir(parents=True, exist_ok=True)
        if _text(mirror / "sha256") != self.tools.sidecar_sha256:
            shutil.copyfile(self.tools.sidecar_deb, mirror / "files" / "istio-sidecar.deb")
        write(mirror / "url", f"http://{subnets.node}:{MIRROR_PORT}/istio-sidecar.deb")
        write(mirror / "sha256", self.tools.sidecar_sha256)
        write(mirror / "version", self.tools.sidecar_version)

    def _copy_charts(self) -> None:
        """As a whole, or again where a start was cut off."""
        charts, half, noted = (self.folder / name for name in ("charts", "charts.part", "charts-from"))
        if charts.exists() and _text(noted) == str(self.tools.charts):
            return
        for old in (half, charts):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(self.tools.charts, half)
        half.rename(charts)
        write(noted, str(self.tools.charts))

    # ------------------------------------------------------------------ readiness

    def load_images(self) -> None:
        """Give containerd the images; nothing to do when it has them."""
        self._import(self.tools.images, self.folder / "images")

    def load_monitoring(self) -> None:
        """What a stack with `observability` takes: images, Prometheus for an agent on a machine, the pods' range."""
        self._import(self.tools.monitoring_images, self.folder / "monitoring-images")
        mirror, node = self.folder / "mirror", self.instance.subnets.node
        if _text(mirror / "prometheus-sha256") != self.tools.prometheus_sha256:
            shutil.copyfile(self.tools.prometheus_archive, mirror / "files" / "prometheus.tar.gz")
        write(mirror / "prometheus-url", f"http://{node}:{MIRROR_PORT}/prometheus.tar.gz")
        write(mirror / "prometheus-sha256", self.tools.prometheus_sha256)
        write(self.folder / "pod-range", self.instance.subnets.pods)

    def _import(self, archive: Path, noted: Path) -> None:
        """Import an archive of images unless `noted` says that it was the last; its path says of which pins it is."""
        wait_for("containerd", lambda: self._ctr("version"), 30)
        if _text(noted) != str(archive):
            self._ctr("images", "import", str(archive), timeout=120)
            write(noted, str(archive))

    def _ctr(self, *arguments: str, timeout: float = 20) -> str:
        return self.instance.run(["ctr", "--namespace=k8s.io", *arguments], timeout=timeout)

    def api(self) -> client.ApiClient:
        configuration = client.Configuration()
        config.load_kube_config(str(self.kubeconfig), client_configuration=configuration)
        configuration.proxy = None  # it takes one from the environment, and no proxy leads to an instance
        return client.ApiClient(configuration)

    def wait_for_api(self) -> None:
        """Wait until the API server is ready, then let CoreDNS read what it serves."""
        wait_for("the API server", self._api_ready, 60)
        _apply_dns_role(self.api())

    def _api_ready(self) -> Any:
        return client.CoreV1Api(self.api()).read_namespace("default", _request_timeout=2)

    def wait_for_node(self) -> None:
        """Wait until the node takes pods."""
        wait_for("the node", self._node_ready, 60)

    def _node_ready(self) -> bool:
        core = client.CoreV1Api(self.api())
        # A controller makes it, a second or two after the API server is up; until then every pod is refused.
        core.read_namespaced_service_account("default", "default", _request_timeout=2)
        node = core.read_node("node", _request_timeout=2).to_dict()
        return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"] or [])


def write_program(
    instance: Instance,
    name: str,
    command: list[str],
    *,
    priority: int = 100,
    options: dict[str, str] | None = None,
) -> None:
    """Write one program of supervisord; every program writes to a log of its own name."""
    escaped = " ".join(_quote(part) for part in command)
    settings = {
        "command": escaped,
        "directory": str(PROJECT_ROOT),
        "priority": str(priority),
        "autorestart": "true",
        "startsecs": "1",
        "startretries": "30",
        "stopwaitsecs": "20",
        "redirect_stderr": "true",
        "stdout_logfile": f"{instance.folder}/log/{name}.log",
        "stdout_logfile_maxbytes": "20MB",
        "stdout_logfile_backups": "1",
        "environment": f'PATH="{os.environ["PATH"]}",HOME="/root",PYTHONUNBUFFERED="1"',
        **(options or {}),
    }
    lines = [f"[program:{name}]", *(f"{key}={value}" for key, value in settings.items())]
    write(instance.folder / "programs" / f"{name}.conf", "\n".join(lines) + "\n")


def _quote(part: str) -> str:
    return shlex.quote(part).replace("%", "%%")


def program_runs(info: dict[str, Any]) -> bool:
    """Whether supervisord, which said `info` of a program, runs it already and would not start it."""
    return info["statename"] in ("RUNNING", "STARTING", "BACKOFF")


def wait_for(what: str, ready: Callable[[], Any], seconds: float) -> None:
    """Ask until the answer is true or the time is over; the last refusal is part of the error."""

    def give_up(state: RetryCallState) -> None:
        assert state.outcome is not None
        reason = state.outcome.exception() or "it answers, but is not ready"
        raise LabError(f"{what} was not ready after {seconds:.0f} s: {reason}")

    Retrying(
        retry=retry_if_exception_type(Exception) | retry_if_result(operator.not_),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(0.1),
        retry_error_callback=give_up,
    )(ready)


def _text(path: Path) -> str:
    """What a file says; nothing where there is none."""
    return path.read_text() if path.exists() else ""


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    write(path, yaml.safe_dump(content, sort_keys=False))


def _pod_network(subnets: Subnets) -> dict[str, Any]:
    """A list of CNI plugins, as JSON has it."""
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "hairpinMode": True,
                # Machines and pods see each other's own addresses: one flat network.
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": subnets.pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _apply_dns_role(api_client: client.ApiClient) -> None:
    """CoreDNS may list what it serves (https://coredns.io/plugins/kubernetes/), and nothing else."""
    api: Any = client.RbacAuthorizationV1Api(api_client)
    for create, body in ((api.create_cluster_role, _DNS_ROLE), (api.create_cluster_role_binding, _DNS_ROLE_BINDING)):
        try:
            create(body)
        except client.ApiException as problem:
            if problem.status != HTTPStatus.CONFLICT:  # it is there
                raise


_DNS_ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "system:coredns"},
    "rules": [
        {"apiGroups": [""], "resources": ["services", "namespaces", "pods"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ],
}
_DNS_ROLE_BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "system:coredns"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
    "subjects": [{"kind": "User", "name": "system:coredns", "apiGroup": "rbac.authorization.k8s.io"}],
}

_CLOUD_TOKENS = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "cloud", "cluster": {"server": f"http://127.0.0.1:{TOKENS_PORT}"}}],
    "contexts": [{"name": "cloud", "context": {"cluster": "cloud", "user": ""}}],
    "current-context": "cloud",
}

_CONTAINERD = """\
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE no process may lower its OOM score, and every pod would fail.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/config/cni"
"""

# The last block answers NXDOMAIN to every other name, so that no query waits for a server out there.
_COREFILE = """\
cluster.local:53 in-addr.arpa:53 {{
    bind {cluster}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 5
    }}
}}
lab.internal:53 {{
    bind {cluster} {machines}
    errors
    hosts {hosts} {{
        reload 1s
        ttl 5
    }}
}}
.:53 {{
    bind {cluster} {machines}
    errors
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
"""
