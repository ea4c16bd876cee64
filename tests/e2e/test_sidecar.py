"""How proxies on VMs behave, by the stack's settings: limits, concurrency, logs, capture, DNS, what they are sent."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pytest

from lab.cluster import wait_for
from lab.traffic import in_pod
from tests.e2e.mesh import kubectl
from tests.e2e.stack import Stack, Step
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full]

HOST = "echo.demo.svc.cluster.local"
HOSTS_OWN = "vm-2.lab.internal"
URL = f"http://{HOST}:8080"
MACHINES = ("vm-1", "vm-2")
NAT = "{ iptables-nft-save -t nat; iptables-legacy-save -t nat; } 2>/dev/null | grep ISTIO_"
SHOW = "systemctl show istio -p CPUQuotaPerSecUSec -p MemoryMax -p MemoryHigh -p TasksMax"
LIMITS = {"cpuPercent": 150, "memory": "512M", "memoryHigh": "384M", "tasks": 512}
SHAPE: dict[str, Any] = {
    "dnsCapture": False,
    "concurrency": 1,
    "logLevel": "info,http:debug",
    "egress": {"hosts": ["./*"], "outboundTrafficPolicy": "REGISTRY_ONLY"},
    "capture": {"inboundPorts": [8080, 9100], "excludeOutboundPorts": [9102]},
}


@dataclass(frozen=True)
class Proxy:
    """What was seen of the proxy on vm-1."""

    rules: str
    dump: dict[str, Any]
    size: int
    agent: str
    names: dict[str, bool]

    @property
    def bootstrap(self) -> dict[str, Any]:
        found: dict[str, Any] = self.dump["configs"][0]["bootstrap"]
        return found

    @property
    def clusters(self) -> set[str]:
        dumps = [c for c in self.dump["configs"] if c["@type"].endswith("ClustersConfigDump")]
        return {c["cluster"]["name"] for c in dumps[0]["dynamic_active_clusters"]}


def mirror(lab: Lab) -> SplitResult:
    """Where the environment serves packages: a host that the mesh does not know."""
    return urlsplit((lab.instance.folder / "mirror" / "url").read_text().strip())


def look(lab: Lab) -> Proxy:
    vm = lab.machine("vm-1")
    dump = vm.ssh(["curl -s localhost:15000/config_dump"])
    names = ("echo.demo", HOST, HOSTS_OWN)
    resolved = {name: bool(vm.ssh([f"getent hosts {name} || true"])) for name in names}
    return Proxy(vm.ssh([NAT]), json.loads(dump), len(dump), vm.ssh(["pgrep -xo pilot-agent"]), resolved)


def show(lab: Lab) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lab.machine("vm-1").ssh([SHOW]).split())


def status(address: str, port: int) -> str:
    """What a caller without a sidecar gets."""
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", f"http://{address}:{port}/"]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout


def status_from_vm(lab: Lab, url: str) -> str:
    return lab.machine("vm-1").ssh([f"curl -s -o /dev/null -w '%{{http_code}}' --max-time 5 {url} || true"])


@dataclass(frozen=True)
class Seen:
    before: Proxy
    steps: list[Step]
    """What a preview said of limits alone."""
    preview: str
    limited: Proxy
    shown: dict[str, str]
    after: Proxy


@pytest.fixture(scope="module")
def seen(lab: Lab, stack: Stack) -> Iterator[Seen]:
    """vm-1 as committed, then with limits, then with everything."""
    stack.restore()
    stack.up()
    before = look(lab)
    stack.change("sidecar.limits", LIMITS)
    steps, preview = stack.steps(), stack.preview()
    stack.up()
    limited, shown = look(lab), show(lab)
    stack.change("sidecar.accessLog", "all")
    stack.change("sidecar.limits", {"memory": "1G"})
    stack.change("workloads.echo.sidecar", SHAPE)
    stack.change("workloads.echo.sidecar.capture.excludeOutboundCidrs", [f"{mirror(lab).hostname}/32"])
    stack.up()
    for name in ("vm-1", "vm-2"):
        for port in (9100, 9101, 9102):
            lab.machine(name).ssh([f"systemd-run -q --unit=web-{port} python3 -m http.server {port} -d /run/sshd"])
    yield Seen(before, steps, preview, limited, shown, look(lab))
    for name in ("vm-1", "vm-2"):
        lab.machine(name).ssh(["systemctl stop web-9100 web-9101 web-9102"])
    stack.restore()


# ---------------------------------------------------------------------- limits


def test_systemd_has_the_limits(seen: Seen) -> None:
    assert seen.shown == {
        "CPUQuotaPerSecUSec": "1.500000s",
        "MemoryMax": str(512 * 1024**2),
        "MemoryHigh": str(384 * 1024**2),
        "TasksMax": "512",
    }


def test_new_limits_reach_the_proxy_as_it_runs(seen: Seen) -> None:
    assert seen.limited.agent == seen.before.agent


def test_a_preview_of_limits_says_just_that(seen: Seen) -> None:
    sidecars = {step.name for step in seen.steps if step.type == "hybridmesh:sidecar:Sidecar"}
    assert sidecars == {"mesh-vm-1", "mesh-vm-2"}
    assert "memory-max" in seen.preview
    assert {step.operation for step in seen.steps} == {"update"}


def test_limits_that_are_taken_away_are_gone(lab: Lab, seen: Seen) -> None:
    assert seen.after
    shown = show(lab)
    assert shown["CPUQuotaPerSecUSec"] == "infinity"
    assert shown["MemoryMax"] == str(1024**3)


# ---------------------------------------------------------------------- Envoy


def test_the_admin_page_is_on_loopback_alone(lab: Lab, seen: Seen) -> None:
    assert seen.before.bootstrap["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 15000}
    vm = lab.machine("vm-1")
    assert {line.split()[3] for line in vm.ssh(["ss -Hltn sport = :15000"]).splitlines()} == {"127.0.0.1:15000"}
    assert status(vm.address, 15000) == "000"


def test_xds_leaves_the_vm_by_mutual_tls_alone(lab: Lab, stack: Stack, seen: Seen) -> None:
    bootstrap = seen.before.bootstrap
    assert bootstrap["dynamic_resources"]["ads_config"]["grpc_services"] == [
        {"envoy_grpc": {"cluster_name": "xds-grpc"}}
    ]
    (xds,) = (c for c in bootstrap["static_resources"]["clusters"] if c["name"] == "xds-grpc")
    (endpoint,) = xds["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"] == {"pipe": {"path": "./etc/istio/proxy/XDS"}}, "Envoy asks the agent alone"
    vm, gateway = lab.machine("vm-1"), stack.outputs()["topology"]["gateway"]["address"]
    peers = {line.split()[4] for line in vm.ssh(["ss -Htnp state all | grep pilot-agent | grep ESTAB"]).splitlines()}
    assert f"{gateway}:15012" in peers
    assert not {peer for peer in peers if peer.endswith((":15010", ":15014"))}
    tls = vm.ssh(
        [
            # As the proxy's own user, whose connections are not captured.
            "echo | setpriv --reuid=istio-proxy --regid=istio-proxy --clear-groups "
            f"openssl s_client -connect {gateway}:15012 -servername istiod.istio-system.svc "
            "-CAfile /etc/certs/root-cert.pem -verify_return_error 2>&1"
        ]
    )
    assert "Verify return code: 0 (ok)" in tls, "istiod shows a certificate of the mesh"
    assert "Acceptable client certificate CA names\nO = cluster.local" in tls, "and asks for the VM's"


def test_concurrency_and_log_level_are_those_asked_for(lab: Lab, seen: Seen) -> None:
    assert seen.after
    vm = lab.machine("vm-1")
    assert json.loads(vm.ssh(["curl -s localhost:15000/server_info"]))["command_line_options"]["concurrency"] == 1
    levels = dict(
        line.split(": ") for line in vm.ssh(["curl -s -X POST localhost:15000/logging"]).splitlines() if ": " in line
    )
    levels = {name.strip(): level for name, level in levels.items()}
    assert (levels["http"], levels["upstream"]) == ("debug", "info")


# ---------------------------------------------------------------------- what it is sent


def test_a_vm_in_a_scope_is_sent_less_and_still_what_it_calls(lab: Lab, seen: Seen) -> None:
    other = "outbound|443||kubernetes.default.svc.cluster.local"
    assert other in seen.before.clusters
    assert other not in seen.after.clusters
    assert len(seen.after.clusters) < len(seen.before.clusters)
    assert seen.after.size < 0.9 * seen.before.size, (seen.before.size, seen.after.size)
    service = kubectl(lab, "get", "service", "-n", "demo", "echo", "-o", "jsonpath={.spec.clusterIP}")
    assert status_from_vm(lab, f"--resolve {HOST}:8080:{service} {URL}") == "200"


# ---------------------------------------------------------------------- access log


def test_a_request_is_a_line_in_the_log_of_vm_and_pod(lab: Lab, seen: Seen) -> None:
    assert seen.after
    path = f"/seen-{seen.after.agent.strip()}"
    runner = in_pod(lab.instance, lab.tools, "deploy/client", "demo")

    def logged() -> bool:
        for _ in range(20):
            runner(["curl", "-s", "-o", "/dev/null", "--max-time", "10", f"{URL}{path}"])
        on_vms = [lab.machine(n).ssh([f"grep -c 'GET {path} ' /var/log/istio/istio.log || true"]) for n in MACHINES]
        on_pod = kubectl(lab, "logs", "-n", "demo", "deploy/client", "-c", "istio-proxy", "--since=5m")
        return any(int(count) for count in on_vms) and f"GET {path} " in on_pod

    wait_for("the request in both logs", logged, 60)


# ---------------------------------------------------------------------- capture


def test_ports_asked_for_are_captured_and_others_are_not(lab: Lab, seen: Seen) -> None:
    for port in (8080, 9100):
        assert f"--dport {port} -j ISTIO_IN_REDIRECT" in seen.after.rules
    assert "--dport 9100" not in seen.before.rules
    assert "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT" not in seen.after.rules
    address = lab.machine("vm-1").address
    assert status(address, 9100) == "000", "captured, so that plain text is refused"
    assert status(address, 9101) == "200"


def test_an_excluded_port_leaves_past_the_proxy(lab: Lab, seen: Seen) -> None:
    assert "-A ISTIO_OUTPUT -p tcp -m tcp --dport 9102 -j RETURN" in seen.after.rules
    assert "--dport 9102" not in seen.before.rules
    address = lab.machine("vm-2").address
    # The registry knows neither: what goes through the proxy is refused, what bypasses it is not.
    assert status_from_vm(lab, f"http://{address}:9101/") in ("000", "502")
    assert status_from_vm(lab, f"http://{address}:9102/") == "200"


def test_an_excluded_address_is_called_past_the_proxy(lab: Lab, seen: Seen) -> None:
    url = mirror(lab)
    rule = f"-A ISTIO_OUTPUT -d {url.hostname}/32 -j RETURN"
    assert rule in seen.after.rules
    assert rule not in seen.before.rules
    # The registry knows it no more than vm-2's other ports, which are refused.
    assert status_from_vm(lab, f"--head {url.geturl()}") == "200"


# ---------------------------------------------------------------------- DNS


def test_with_dns_capture_names_of_the_mesh_and_of_the_host_are_known(seen: Seen) -> None:
    assert "--to-ports 15053" in seen.before.rules
    assert all(seen.before.names.values()), seen.before.names


def test_without_dns_capture_the_host_knows_its_own_names_and_none_of_the_mesh(seen: Seen) -> None:
    assert "15053" not in seen.after.rules
    assert seen.after.names[HOSTS_OWN], "the host's resolver"
    assert not seen.after.names["echo.demo"]
    assert not seen.after.names[HOST], "known to the agent alone"
