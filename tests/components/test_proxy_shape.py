"""What a stack's settings of proxies become, as a whole."""

from typing import Any

import pytest

from components.from_settings import accepted_risks
from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from components.telemetry import access_logging
from hybridmesh.istio import versions
from tests.components.harness import World, dev_settings, run

MODES = pytest.mark.parametrize("preview", [False, True], ids=["up", "preview"])


def mesh(stack: dict[str, Any], own: dict[str, Any] | None = None, *, preview: bool = False, **more: Any) -> World:
    def change(sections: dict[str, Any]) -> None:
        sections["sidecar"] |= stack
        if own is not None:
            sections["workloads"]["echo"]["sidecar"] = own
        sections.update(more)

    settings = dev_settings(change)
    return run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology, preview=preview)


@MODES
def test_a_scope_is_a_sidecar_of_the_workload_s_pods_and_machines(preview: bool) -> None:
    world = mesh({}, {"egress": {"hosts": ["./*"], "outboundTrafficPolicy": "REGISTRY_ONLY"}}, preview=preview)
    (scope,) = world.of_type("/v1:Sidecar")
    assert scope.value("spec") == {
        "workloadSelector": {"labels": {"app": "echo"}},
        "egress": [{"hosts": ["./*"]}],
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
    }
    assert scope.value("metadata")["name"] == "echo"


@MODES
def test_a_service_entry_s_machines_take_requests_for_their_ports_whatever_istiod_knows(preview: bool) -> None:
    def change(sections: dict[str, Any]) -> None:
        echo = sections["workloads"]["echo"]
        echo["service"] = {"kind": "ServiceEntry", "hosts": ["echo.vm.internal"]}
        echo["ports"] += [
            {"name": "calls", "port": 9001, "targetPort": 9091, "protocol": "GRPC"},
            {"name": "again", "port": 9002, "targetPort": 9091, "protocol": "HTTP2"},
        ]

    settings = dev_settings(change)
    world = run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology, preview=preview)
    (scope,) = world.of_type("/v1:Sidecar")
    assert scope.value("spec") == {
        "workloadSelector": {"labels": {"app": "echo"}},
        "ingress": [
            {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}},
            {"port": {"number": 9091, "name": "calls", "protocol": "GRPC"}},
        ],
    }


@MODES
def test_an_access_log_is_a_telemetry_a_workload(preview: bool) -> None:
    world = mesh({"accessLog": "all"}, {"accessLog": "errors"}, preview=preview)
    specs = {r.name: r.value("spec") for r in world.of_type(":Telemetry")}
    assert set(specs) == {"mesh-client-telemetry", "mesh-echo-telemetry"}
    assert specs["mesh-echo-telemetry"]["selector"] == {"matchLabels": {"app": "echo"}}
    assert "filter" in specs["mesh-echo-telemetry"]["accessLogging"][0]
    assert specs["mesh-client-telemetry"]["accessLogging"] == [{"providers": [{"name": "envoy"}]}]


def test_a_log_can_be_turned_off() -> None:
    assert access_logging("none")["disabled"] is True


def test_nothing_asked_for_is_nothing_made() -> None:
    world = mesh({})
    assert world.of_type("/v1:Sidecar") == []
    assert world.of_type(":Telemetry") == []
    assert "annotations" not in world.one("mesh-echo-group").value("spec")["metadata"]


def test_concurrency_goes_through_the_group_so_that_istioctl_would_write_the_same() -> None:
    world = mesh({"concurrency": 4}, {"concurrency": 1})
    annotations = world.one("mesh-echo-group").value("spec")["metadata"]["annotations"]
    assert annotations == {"proxy.istio.io/config": "concurrency: 1\n"}
    assert "concurrency: 1" in world.one("mesh-vm-1", "Sidecar").plain["mesh.yaml"]


def test_a_workload_s_own_word_reaches_its_machines() -> None:
    files = mesh({"dnsCapture": True, "logLevel": "info"}, {"dnsCapture": False}).one("mesh-vm-1", "Sidecar").plain
    assert "DNS_CAPTURE" not in files["cluster.env"]
    assert "--proxyLogLevel=info" in files["cluster.env"]


def test_accepted_versions_are_said_with_what_may_break() -> None:
    def change(sections: dict[str, Any]) -> None:
        sections["versions"] = {"accept": ["istiod", "sidecar", "system"]}
        sections["controlPlane"]["version"] = "1.40.0"

    settings = dev_settings(change)
    risks = accepted_risks(settings)
    assert len(risks) == 3
    for kind, risk in zip(("istiod", "sidecar", "system"), risks, strict=True):
        assert versions.MAY_BREAK[kind] in risk  # type: ignore[index]  # the three kinds
    assert accepted_risks(dev_settings()) == []
