"""The second network is cut off: what its firewall lets through, and that nothing else gets past it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from lab import toolchain
from lab.__main__ import start
from lab.cluster import wait_for
from lab.instance import EAST_WEST_PORT, ISTIOD_PORT, MIRROR_PORT, Instance, LabError
from lab.machines import Machine, Network
from lab.toolchain.images import reference

pytestmark = pytest.mark.lab

OBJECTS = f"""
apiVersion: v1
kind: Pod
metadata: {{ name: echo, labels: {{ app: echo }} }}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{ name: echo, image: "{reference("echo")}", imagePullPolicy: IfNotPresent }}]
---
apiVersion: v1
kind: Service
metadata: {{ name: echo }}
spec:
  type: LoadBalancer
  selector: {{ app: echo }}
  ports:
    - {{ name: app, port: 8080 }}
    - {{ name: xds, port: {ISTIOD_PORT}, targetPort: 8080 }}
    - {{ name: tls, port: {EAST_WEST_PORT}, targetPort: 8080 }}
"""
Target = tuple[str, int]
"""Address and port."""
_PROBE = "(timeout 2 bash -c 'exec 3<>/dev/tcp/{0}/{1}' 2>/dev/null && echo {0} {1}) &"


def probes(targets: Sequence[Target]) -> str:
    """A shell script that asks all of them at once, and prints those that take a connection."""
    return " ".join(_PROBE.format(*target) for target in targets) + " wait"


def answered(output: str) -> set[Target]:
    return {(line.split()[0], int(line.split()[1])) for line in output.splitlines()}


@dataclass(frozen=True)
class Site:
    """Machines in both networks, a pod, and its Service behind a load balancer."""

    instance: Instance
    tools: toolchain.Toolset
    pod: str
    cluster_ip: str
    balancer: str

    def machine(self, name: str) -> Machine:
        return Machine(self.instance, name)

    def address(self, name: str) -> str:
        return self.machine(name).address

    def from_machine(self, name: str, *targets: Target) -> set[Target]:
        """Those of the targets that take a connection from a machine."""
        return answered(self.machine(name).ssh([probes(targets)]))

    def from_pod(self, *targets: Target) -> set[Target]:
        return answered(self.kubectl("exec", "echo", "--", "bash", "-c", probes(targets)))

    def from_host(self, *targets: Target) -> set[Target]:
        done = subprocess.run(["bash", "-c", probes(targets)], capture_output=True, text=True, check=True, timeout=20)
        return answered(done.stdout)

    def kubectl(self, *arguments: str, input_text: str | None = None) -> str:
        done = subprocess.run(
            [self.tools.bin_dir / "kubectl", "--kubeconfig", self.instance.folder / "kubeconfig", *arguments],
            input=input_text,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    instance, tools = Instance("networks", tmp_path_factory.mktemp("networks") / "lab"), toolchain.installed()
    try:
        start(instance, ["vm-1", "far-1@cutoff", "far-2@cutoff", "gw-1@edge"], tools)
        bare = Site(instance, tools, "", "", "")
        bare.kubectl("apply", "-f", "-", input_text=OBJECTS)
        bare.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "pod/echo")

        def service() -> dict[str, dict[str, dict[str, list[dict[str, str]]]]]:
            answer: dict[str, dict[str, dict[str, list[dict[str, str]]]]] = json.loads(
                bare.kubectl("get", "service", "echo", "-o", "json")
            )
            return answer

        wait_for("the load balancer", lambda: service()["status"]["loadBalancer"].get("ingress"), 30)
        pod = bare.kubectl("get", "pod", "echo", "-o", "jsonpath={.status.podIP}")
        cluster_ip = bare.kubectl("get", "service", "echo", "-o", "jsonpath={.spec.clusterIP}")
        balancer = service()["status"]["loadBalancer"]["ingress"][0]["ip"]
        listen = f"systemd-run --quiet --unit=listener python3 -m http.server {EAST_WEST_PORT}"
        for name in ("far-1", "gw-1", "vm-1"):
            Machine(instance, name).ssh([listen])
        made = Site(instance, tools, pod, cluster_ip, balancer)
        wait_for("the pod behind its load balancer", lambda: made.from_machine("vm-1", (balancer, 8080)), 30)
        listener = (made.address("far-1"), EAST_WEST_PORT)
        wait_for("the listener", lambda: made.from_machine("far-2", listener), 10)
        yield made
    finally:
        instance.remove()


CUT_OFF = pytest.mark.parametrize("name", ["far-1", "gw-1"])


@CUT_OFF
def test_a_machine_there_reaches_neither_pods_nor_services_nor_machines_nor_the_cluster(site: Site, name: str) -> None:
    vm, subnets = site.address("vm-1"), site.instance.subnets
    cluster = [
        (site.pod, 8080),
        (site.cluster_ip, 8080),
        (site.cluster_ip, EAST_WEST_PORT),
        (site.balancer, 8080),
        (subnets.node, 6443),
        (subnets.kubernetes_service, 443),
    ]
    machine = [(vm, 8080), (vm, EAST_WEST_PORT), (vm, 22)]
    # Each is there: the same question from the other network is answered.
    assert site.from_machine("vm-1", *cluster) == set(cluster)
    assert site.from_pod(*machine) == set(machine)
    assert site.from_machine(name, *cluster, *machine) == set()


@CUT_OFF
def test_a_machine_there_reaches_an_east_west_gateway_packages_and_names(site: Site, name: str) -> None:
    allowed = [(site.balancer, ISTIOD_PORT), (site.balancer, EAST_WEST_PORT), (site.instance.subnets.node, MIRROR_PORT)]
    assert site.from_machine(name, *allowed) == set(allowed)
    names = site.machine(name).ssh(["getent hosts vm-1.lab.internal"]).split()
    assert names[0] == site.address("vm-1")


def test_nobody_outside_reaches_a_machine_there_but_the_host_by_ssh(site: Site) -> None:
    far = [(site.address("far-1"), port) for port in (8080, EAST_WEST_PORT, 22)]
    assert site.from_machine("far-2", *far) == set(far), "there is nothing to reach"
    assert site.from_pod(*far) == set()
    assert site.from_machine("vm-1", *far) == set()
    assert site.from_host(*far) == {(site.address("far-1"), 22)}


def test_its_edge_is_reached_on_the_port_of_a_gateway_alone(site: Site) -> None:
    edge = [(site.address("gw-1"), port) for port in (8080, EAST_WEST_PORT, 22)]
    assert site.from_machine("far-1", *edge) == set(edge)
    for reached in (site.from_pod(*edge), site.from_machine("vm-1", *edge)):
        assert reached == {(site.address("gw-1"), EAST_WEST_PORT)}


def test_a_machine_s_network_is_kept_and_not_changed_by_a_second_create(site: Site) -> None:
    machine = site.machine("far-1")
    machine.create(site.tools, Network.CUTOFF)
    assert machine.network is Network.CUTOFF
    assert site.machine("gw-1").network is Network.EDGE
    with pytest.raises(LabError, match=r"far-1 is in network cutoff, of bookworm, not in flat, .* delete it first"):
        machine.create(site.tools)


def test_an_unknown_network_is_answered_with_those_that_there_are(site: Site) -> None:
    with pytest.raises(LabError, match="use one of flat, cutoff, edge"):
        start(site.instance, ["vm-3@moon"], site.tools)
