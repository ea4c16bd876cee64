"""What a stack's settings of proxies become, as a whole."""

from typing import Any

import pytest

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from components.telemetry import access_logging
from hybridmesh.istio import versions
from hybridmesh.settings.risks import accepted_risks
from tests.components.harness import World, dev_settings, run
from tests.remote.unpacked import texts
from tests.settings.test_observability_rules import seen

MODES = pytest.mark.parametrize("preview", [False, True], ids=["up", "preview"])
LIMITS_ON_A_VM = ("download-timeout", "install-timeout", "ready-timeout", "boot-timeout", "drain", "cut-off")


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


def test_a_log_level_joins_flags_of_the_mesh_s_own() -> None:
    def change(sections: dict[str, Any]) -> None:
        metadata = {"ISTIO_AGENT_FLAGS": "--concurrency=2"}
        sections["controlPlane"]["values"]["meshConfig"]["defaultConfig"]["proxyMetadata"] = metadata
        sections["sidecar"]["logLevel"] = "debug"

    settings = dev_settings(change)
    world = run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology)
    lines = world.one("mesh-vm-1", "Sidecar").plain["cluster.env"].splitlines()
    assert "ISTIO_AGENT_FLAGS='--concurrency=2 --proxyLogLevel=debug'" in lines


def test_what_the_settings_say_of_proxies_reaches_the_machines() -> None:
    limits = {"cpuPercent": 150, "memory": "512M", "memoryHigh": "384M", "tasks": 512}
    capture = {
        "allInboundPorts": True,
        "excludeInboundPorts": [9100],
        "excludeOutboundCidrs": ["192.0.2.0/24"],
        "excludeOutboundPorts": [5432],
    }
    world = mesh({"limits": limits, "capture": capture, "preflight": {"accept": ["clock"]}})
    shown = world.one("mesh-vm-1", "Sidecar").plain
    assert shown["limits"] == {"cpu-quota": "150%", "memory-max": "512M", "memory-high": "384M", "tasks-max": "512"}
    for line in (
        "ISTIO_INBOUND_PORTS='*'",
        "ISTIO_LOCAL_EXCLUDE_PORTS='22,15090,15021,15020,9100'",
        "ISTIO_SERVICE_EXCLUDE_CIDR='192.0.2.0/24'",
        "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE='5432'",
    ):
        assert line in shown["cluster.env"].splitlines()
    told = texts(world.one("mesh-vm-1-join").value("stdin"))
    assert told["settings/accept"] == "clock\n"
    assert told["settings/supported-systems"] == f"{versions.systems_line()}\n"
    some = mesh({"capture": {"inboundPorts": [8080, 9100], "outboundCidrs": ["10.0.0.0/8"]}})
    lines = some.one("mesh-vm-1", "Sidecar").plain["cluster.env"].splitlines()
    assert {"ISTIO_INBOUND_PORTS='8080,9100'", "ISTIO_SERVICE_CIDR='10.0.0.0/8'"} <= set(lines)


def test_machines_of_any_system_join_where_that_is_accepted() -> None:
    world = mesh({}, versions={"accept": ["system"]})
    assert "settings/supported-systems" not in texts(world.one("mesh-vm-1-join").value("stdin"))


def test_every_limit_of_the_settings_is_that_of_what_it_is_called_after() -> None:
    names = ("dial", "download", "install", "ready", "sync", "rotation", "drain", "gateway", "api", "boot")
    seconds = {f"{name}Seconds": number for number, name in enumerate(names, 11)}
    timeouts = {**seconds, "dialAttempts": 7}
    world = mesh({"timeouts": timeouts, "upgrade": {"cutOffSeconds": 31}, "tokenSeconds": 632})
    told = texts(world.one("mesh-vm-1-join").value("stdin"))
    assert {name: told[f"settings/{name}-seconds"].strip() for name in LIMITS_ON_A_VM} == {
        "download-timeout": "12",
        "install-timeout": "13",
        "ready-timeout": "14",
        "boot-timeout": "20",
        "drain": "17",
        "cut-off": "31",
    }
    departure, membership = world.one("mesh-vm-1-departure"), world.one("mesh-vm-1-membership")
    assert [departure.inside(key) for key in ("rotationSeconds", "drainSeconds", "requestSeconds")] == [16, 17, 19]
    assert [departure.inside(key) for key in ("dialSeconds", "dialAttempts")] == [11, 7]
    assert membership.inside("syncSeconds") == 15
    assert world.one("mesh-vm-1-token").value("expirationSeconds") == 632
    assert world.one("mesh-vm-1-preflight").inside("settings")["gateway-timeout-seconds"] == "18"
    connection = world.one("mesh-vm-1-join").value("connection")
    assert (connection["perDialTimeout"], connection["dialErrorLimit"]) == (11, 7)


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


@pytest.mark.parametrize("of", ["", "revisions.next."])
def test_charts_that_come_in_plain_text_are_said_to_be_anybody_s(of: str) -> None:
    def charts(sections: dict[str, Any], scheme: str) -> None:
        plane = sections["controlPlane"]
        if of:
            plane["revisions"] = {"next": {"version": "1.31.1"}}
            plane = plane["revisions"]["next"]
        plane["charts"] = {"repository": f"{scheme}://charts.example.com/istio"}

    assert accepted_risks(dev_settings(lambda sections: charts(sections, "https"))) == []
    (risk,) = accepted_risks(dev_settings(lambda sections: charts(sections, "http")))
    assert risk.startswith(f"controlPlane.{of}charts.repository = http://charts.example.com/istio: charts come in ")
    assert "Better: https, or a folder" in risk


def test_rules_by_identity_in_a_namespace_of_others_are_said_to_need_its_owner() -> None:
    def change(sections: dict[str, Any]) -> None:
        sections["access"] = {"echo": {"default": "allow", "deny": [{"from": ["client"]}]}}

    def of_others(sections: dict[str, Any]) -> None:
        change(sections)
        sections["namespaces"] = {"demo": {"existing": True}}

    assert accepted_risks(dev_settings(change)) == []
    (risk,) = accepted_risks(dev_settings(of_others))
    assert risk.startswith("access.echo.deny refuses callers by identity in namespace demo, which is another's.")


def test_an_agent_that_must_find_services_by_its_own_resolver_is_said_to() -> None:
    def change(sections: dict[str, Any]) -> None:
        seen(sections)
        sections["workloads"]["remote"]["sidecar"] = {"dnsCapture": False}

    assert accepted_risks(dev_settings(seen)) == []
    (risk,) = accepted_risks(dev_settings(change))
    assert risk.startswith("observability.agents.far: far-1 is of workload `remote`, whose `dnsCapture` is false.")
