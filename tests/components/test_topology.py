"""The drawing of what is there."""

from typing import Any

from components.topology import drawing

TOPOLOGY: dict[str, Any] = {
    "cluster": {"name": "embedded", "network": "near"},
    "controlPlane": {"version": "1.31.0"},
    "gateway": {"name": "gw", "address": "192.0.2.100"},
    "workloads": {
        "echo": {
            "host": "echo.demo.svc.cluster.local",
            "pods": {"replicas": 2, "version": "k8s"},
            "machines": ["vm-1", "vm-2"],
            "weights": {"k8s": 90.0, "vm": 10.0},
            "subsets": {"k8s": {"version": "k8s"}, "vm": {"version": "vm"}},
        },
        "client": {
            "host": None,
            "pods": {"replicas": 1, "version": "k8s"},
            "machines": [],
            "weights": None,
            "subsets": None,
        },
        "plain": {
            "host": "plain.demo.svc.cluster.local",
            "pods": None,
            "machines": ["vm-3"],
            "weights": None,
            "subsets": None,
        },
    },
    "networks": {"far": {"direct": False, "gateways": ["gw-1"], "addresses": ["192.0.2.20:15443"]}},
    "machines": {
        "gw-1": {"workload": "far-gateway", "version": "", "meshAddress": "192.0.2.20", "network": "far"},
        "vm-1": {"workload": "echo", "version": "vm", "meshAddress": "192.0.2.11", "network": "near"},
        "vm-2": {"workload": "echo", "version": "vm", "meshAddress": "192.0.2.12", "network": "far"},
        "vm-3": {"workload": "plain", "version": "vm", "meshAddress": "192.0.2.13", "network": "far"},
    },
}


def test_it_shows_every_part_and_how_requests_are_split() -> None:
    lines = drawing(TOPOLOGY).splitlines()
    assert lines[0] == "flowchart LR"
    assert '  service-echo --" 90 % "--> pods-echo' in lines
    assert '  service-echo --" 10 % among 2 "--> vm-vm-1' in lines
    assert "  service-plain ----> vm-vm-3" in lines
    assert '  subgraph network-far["machines, network far"]' in lines
    assert sum(line.strip() == "end" for line in lines) == 3
    assert not any("service-client" in line for line in lines)
    assert '    vm-gw-1["gw-1<br/>far-gateway<br/>192.0.2.20"]' in lines
    assert "  cluster ==> vm-gw-1" in lines


def test_what_is_drawn_does_not_hang_on_the_order_of_keys() -> None:
    def turned(value: Any) -> Any:
        return {k: turned(v) for k, v in reversed(value.items())} if isinstance(value, dict) else value

    assert drawing(turned(TOPOLOGY)) == drawing(TOPOLOGY)


def test_fleets_are_drawn_by_their_workload() -> None:
    google = {
        "echo-fleet": {"kind": "fleet", "workload": "echo", "version": "vm"},
        "one": {"kind": "instance", "workload": "client", "version": "vm"},
    }
    lines = drawing({**TOPOLOGY, "google": google}).splitlines()
    assert '    gce-echo-fleet["echo-fleet<br/>echo<br/>fleet"]' in lines
    assert '  service-echo --" 10 % together "--> gce-echo-fleet' in lines
    assert '  service-echo --" 10 % together "--> vm-vm-1' in lines
    assert "  gce-one -. xDS .-> gateway" in lines
    assert "  service-client --> gce-one" not in lines


def test_a_quote_ends_no_text() -> None:
    assert '"emb"' not in drawing({**TOPOLOGY, "cluster": {"name": 'x"emb"', "network": "near"}})
