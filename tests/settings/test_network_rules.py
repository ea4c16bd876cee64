"""Network mode, groups, gateways and mesh against each other: what docs/multi-network.md says is refused, is."""

import re
from pathlib import Path
from typing import Any

import pytest

from hybridmesh.settings import Finding, parse
from tests.components.harness import dev_sections, read_file
from tests.settings.test_rules import Change, at, both
from tests.settings.test_rules import findings as findings_in_dev

PROJECT_ROOT = Path(__file__).parents[2]
KEY = ".lab/dev/ssh/id_ed25519"
GATEWAY = "networks/far/gateway"
REMOTE = "workloads/remote"


def host(address: str) -> dict[str, Any]:
    return {"ssh": {"address": address, "hostKey": "ssh-ed25519 AAAAC3Nz", "privateKeyFile": KEY}}


def far(sections: dict[str, Any]) -> None:
    """A service on a VM of another network, with a gateway there."""
    sections["networks"] = {"far": {"gateway": {"hosts": {"gw-1": host("198.51.100.5")}}}}
    sections["workloads"]["remote"] = {
        "namespace": "demo",
        "network": "far",
        "ports": [{"name": "http", "port": 8080}],
        "machines": {"hosts": {"far-1": host("198.51.100.11")}},
    }


def second(sections: dict[str, Any]) -> None:
    """A second such network."""
    sections["networks"]["farther"] = {"gateway": {"hosts": {"gw-2": host("203.0.113.5")}}}
    sections["workloads"]["remoter"] = {
        "namespace": "demo",
        "network": "farther",
        "machines": {"hosts": {"farther-1": host("203.0.113.11")}},
    }


def adopted(sections: dict[str, Any]) -> None:
    sections["gateway"] = {"mode": "adopt", "address": "198.51.100.5"}


def long_name(sections: dict[str, Any]) -> None:
    sections["networks"]["n" * 56] = sections["networks"].pop("far")
    sections["workloads"]["remote"]["network"] = "n" * 56


# The first cell of the row in the docs, what is changed, where the finding is, and a word of the problem.
REFUSED: list[tuple[str, Change, str, str]] = [
    (
        "a workload's network is defined nowhere",
        at(f"{REMOTE}/network", "fra"),
        "workloads.remote.network",
        "neither `cluster.network` nor one of `networks`",
    ),
    (
        "pods call VMs of a network without a gateway",
        at(GATEWAY, ...),
        "networks.far.gateway",
        "pods call `workloads.remote` there",
    ),
    ("a network has a gateway and is direct", at("networks/far/direct", True), "networks.far.direct", "together with"),
    (
        "a network of `networks` is the cluster's own",
        at("networks/embedded", {"direct": True}),
        "networks.embedded",
        "the cluster's own",
    ),
    (
        "a network with a gateway has a name of more than 55",
        long_name,
        f"networks.{'n' * 56}",
        "longer than 55, and has a gateway",
    ),
    ("a network is that of no VM", at("networks/near", {"direct": True}), "networks.near", "no workload's machines"),
    (
        "a workload has a network and no VMs",
        at("workloads/client/network", "far"),
        "workloads.client.network",
        "and it has none",
    ),
    (
        "a label names the network",
        at(f"{REMOTE}/labels", {"topology.istio.io/network": "embedded"}),
        "workloads.remote.labels.topology.istio.io/network",
        "set by `network`",
    ),
    (
        "a variable names the network, or makes every VM a router",
        at("sidecar/environment", {"ISTIO_META_NETWORK": "far"}),
        "sidecar.environment.ISTIO_META_NETWORK",
        "set by `workloads.<name>.network`",
    ),
    (
        "Helm values of istiod name networks",
        at("controlPlane/values/global/meshNetworks", {"far": {}}),
        "controlPlane.values.global.meshNetworks",
        "is set by `networks`",
    ),
    ("a gateway has no machines", at(f"{GATEWAY}/hosts", {}), "networks.far.gateway.hosts", "is empty"),
    (
        "a gateway machine runs an app too",
        at(f"{GATEWAY}/hosts/gw-1/ssh/address", "198.51.100.11"),
        "networks.far.gateway.hosts.gw-1.ssh.address",
        "workloads.remote.machines.hosts.far-1",
    ),
    (
        "a gateway machine's mesh address is that of an app's machine",
        at(f"{GATEWAY}/hosts/gw-1/meshAddress", "198.51.100.11"),
        "networks.far.gateway.hosts.gw-1.meshAddress",
        "workloads.remote.machines.hosts.far-1",
    ),
    (
        "a gateway machine has the name of another machine",
        at(f"{GATEWAY}/hosts/far-1", host("198.51.100.6")),
        "networks.far.gateway.hosts.far-1",
        "has the name of",
    ),
    (
        "two networks have gateways at one address and port",
        both(second, at("networks/farther/gateway/address", "198.51.100.5")),
        "networks.farther.gateway.address",
        "networks.far.gateway.hosts.gw-1.ssh.address",
    ),
    (
        "a gateway is at the address of the east-west gateway",
        adopted,
        "networks.far.gateway.hosts.gw-1.ssh.address",
        "`gateway.address` too",
    ),
    (
        "a gateway lives in Istio's own namespace",
        at(f"{GATEWAY}/namespace", "istio-system"),
        "networks.far.gateway.namespace",
        "root namespace",
    ),
    (
        "a gateway has the identity of a workload",
        both(at(f"{GATEWAY}/namespace", "demo"), at(f"{GATEWAY}/serviceAccount", "echo")),
        "networks.far.gateway.serviceAccount",
        "workloads.echo too",
    ),
    (
        "two gateways are one identity",
        both(second, at("networks/farther/gateway/serviceAccount", "far-gateway")),
        "networks.farther.gateway.serviceAccount",
        "networks.far.gateway too",
    ),
    (
        "a gateway has the name of a workload in its namespace",
        both(
            at(f"{GATEWAY}/namespace", "demo"),
            at("workloads/far-gateway", {"namespace": "demo", "serviceAccount": "x", "pods": {"image": "i"}}),
        ),
        "networks.far.gateway.namespace",
        "workloads.far-gateway too",
    ),
    (
        "a gateway machine is of no kind of host",
        at(f"{GATEWAY}/hosts/gw-1", {}),
        "networks.far.gateway.hosts.gw-1",
        "none of them",
    ),
    ("there are gateway machines and no package", at("sidecar/package", ...), "sidecar.package", "is missing"),
]
IN_THE_CLUSTER = (
    "the adopted istiod does not know a gateway",
    "the adopted mesh does not say which network its pods are in, or says another",
)
"""The rows that take a look at the cluster: tests/components/test_network_gateway.py, providers/test_adopted.py."""


def findings(change: Change) -> list[Finding]:
    return findings_in_dev(far, change)


def test_the_example_is_accepted() -> None:
    assert findings(lambda _: None) == []
    assert findings(second) == []


@pytest.mark.parametrize(
    ("change", "path", "problem"), [rule[1:] for rule in REFUSED], ids=[rule[0] for rule in REFUSED]
)
def test_a_combination_is_refused_in_one_finding(change: Change, path: str, problem: str) -> None:
    (finding,) = findings(change)
    assert finding.path == path
    assert problem in str(finding)
    assert finding.consequence.endswith(".")
    assert finding.fix


def test_the_docs_table_has_each_refused_combination_and_no_other() -> None:
    page = (PROJECT_ROOT / "docs" / "multi-network.md").read_text()
    table = page.partition("## What is refused")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| .+ \|$", table, re.MULTILINE)[2:]
    assert sorted(rows) == sorted([*(rule[0] for rule in REFUSED), *IN_THE_CLUSTER])


@pytest.mark.parametrize(
    ("variable", "value", "refused"),
    [
        ("ISTIO_META_REQUESTED_NETWORK_VIEW", "far", True),
        ("ISTIO_AGENT_FLAGS", "router", True),
        ("ISTIO_AGENT_FLAGS", "--concurrency=2 router", True),
        ("ISTIO_AGENT_FLAGS", "--concurrency=2", False),
    ],
)
def test_no_variable_makes_a_router_of_every_vm(variable: str, value: str, refused: bool) -> None:
    found = findings(at("sidecar/environment", {variable: value}))
    assert [f.path for f in found] == ([f"sidecar.environment.{variable}"] if refused else [])


def test_the_addresses_of_one_network_say_nothing_of_another_s() -> None:
    def same(sections: dict[str, Any]) -> None:
        second(sections)
        sections["workloads"]["remoter"]["machines"]["hosts"]["farther-1"] |= {"meshAddress": "198.51.100.5"}

    assert findings(same) == []


def test_an_account_s_name_may_be_there_twice_in_two_namespaces() -> None:
    def accounts(sections: dict[str, Any]) -> None:
        second(sections)
        sections["networks"]["farther"]["gateway"] |= {"namespace": "edge", "serviceAccount": "far-gateway"}
        sections["workloads"]["client"]["serviceAccount"] = "far-gateway"

    assert findings(accounts) == []


def test_a_wrong_workload_s_network_is_not_taken_for_nobody_s() -> None:
    assert [f.path for f in findings(at(f"{REMOTE}/ports/0/port", 0))] == ["workloads.remote.ports[0].port"]


def test_a_network_of_clients_alone_needs_no_gateway_since_nobody_calls_them() -> None:
    def clients(sections: dict[str, Any]) -> None:
        del sections["networks"]["far"]["gateway"]
        del sections["workloads"]["remote"]["ports"]

    assert findings(clients) == []


def test_a_network_that_pods_reach_is_said_to_be_direct() -> None:
    def direct(sections: dict[str, Any]) -> None:
        sections["networks"]["far"] = {"direct": True}

    assert findings(direct) == []


def test_several_gateway_machines_may_stand_behind_one_address_or_each_for_itself() -> None:
    def more(sections: dict[str, Any]) -> None:
        sections["networks"]["far"]["gateway"]["hosts"]["gw-2"] = host("198.51.100.6")

    assert findings(more) == []
    assert findings(both(more, at(f"{GATEWAY}/address", "192.0.2.77"))) == []


def test_a_gateway_machine_may_have_a_mesh_address_of_its_own() -> None:
    assert findings(at(f"{GATEWAY}/hosts/gw-1/meshAddress", "198.51.100.77")) == []


def test_one_address_may_lead_to_two_networks_by_two_ports() -> None:
    def ports(sections: dict[str, Any]) -> None:
        second(sections)
        for name, port in (("far", 15443), ("farther", 15444)):
            sections["networks"][name]["gateway"] |= {"address": "192.0.2.77", "port": port}

    assert findings(ports) == []


def test_a_network_that_cannot_be_read_is_not_taken_for_a_missing_one() -> None:
    assert [f.path for f in findings(at("networks/far/dirct", True))] == ["networks.far.dirct"]
    assert [f.path for f in findings(at("networks", "far"))] == ["networks"]


def test_a_gateway_s_namespace_may_be_described() -> None:
    assert findings(at("namespaces", {"network-gateways": {"existing": True}})) == []


def test_its_defaults() -> None:
    sections = dev_sections()
    far(sections)
    gateway = parse(sections, read_file).networks["far"].gateway
    assert gateway is not None
    assert (gateway.namespace, gateway.service_account, gateway.address, gateway.port) == (
        "network-gateways",
        None,
        None,
        15443,
    )
