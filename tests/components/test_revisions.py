"""Two control planes side by side, and machines that follow one or the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from hybridmesh.settings import SettingsError
from hybridmesh.settings.risks import accepted_risks
from tests.components.harness import World, dev_settings, run
from tests.components.test_observability import GIVEN
from tests.settings.test_network_rules import far, host

MODES = pytest.mark.parametrize("preview", [False, True])


def canary(sections: dict[str, Any]) -> None:
    sections["controlPlane"]["revisions"] = {"canary": {"values": {"resources": {"requests": {"cpu": "20m"}}}}}
    sections["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["revision"] = "canary"


def mesh(change: Any, *, preview: bool = False) -> World:
    return run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=dev_settings(change))).topology, preview=preview)


@MODES
def test_a_second_istiod_stands_beside_the_first_with_its_values_and_its_own(preview: bool) -> None:
    world = mesh(canary, preview=preview)
    first, second = world.one("mesh-control-plane-istiod"), world.one("mesh-revision-canary-istiod")
    assert (first.plain["name"], second.plain["name"]) == ("istiod", "istiod-canary")
    values = second.plain["values"]
    assert values["revision"] == "canary"
    assert values["image"] == first.plain["values"]["image"]
    assert values["resources"]["requests"] == {"cpu": "20m", "memory": "128Mi"}
    assert first.plain["values"]["resources"]["requests"]["cpu"] == "10m"
    assert world.is_after(second, world.one("mesh-control-plane-base"))
    assert not world.is_after(first, second)


@MODES
def test_a_machine_that_is_moved_is_told_of_its_istiod_and_the_other_is_not(preview: bool) -> None:
    world = mesh(canary, preview=preview)
    moved, stays = world.one("mesh-vm-1", "Sidecar").plain, world.one("mesh-vm-2", "Sidecar").plain
    if not preview:  # the gateway's address is not known before
        assert moved["hosts"].strip().endswith(" istiod-canary.istio-system.svc")
        assert stays["hosts"].strip().endswith(" istiod.istio-system.svc")
    assert "discoveryAddress: istiod-canary.istio-system.svc:15012" in moved["mesh.yaml"]
    assert "discoveryAddress: istiod.istio-system.svc:15012" in stays["mesh.yaml"]
    memberships = [world.one(f"mesh-{name}-membership").inside("revision") for name in ("vm-1", "vm-2")]
    assert memberships == ["canary", "default"]
    assert world.is_after(world.one("mesh-vm-1-join"), world.one("mesh-revision-canary-istiod"))
    assert not world.is_after(world.one("mesh-vm-2-join"), world.one("mesh-vm-1-join"))


def injected(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The pod templates of all that is injected, and the gateway's annotations."""

    def settings(sections: dict[str, Any]) -> None:
        sections["observability"] = {**GIVEN, "prometheus": {"image": "prometheus:1"}}
        change(sections)

    world = mesh(settings)
    templates = {r.name: r.value("spec")["template"]["metadata"] for r in world.of_type(":Deployment")}
    assert set(templates) >= {"mesh-echo-deployment", "mesh-metrics-server-deployment"}
    release = world.one("mesh-gateway-release")
    return {**templates, release.name: release.value("values")["podAnnotations"]}


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["controlPlane"].update(revision="v1-31"),
        lambda s: s["controlPlane"].update(namespace="istio"),
        lambda s: s["cluster"].update(name="other"),
        lambda s: s["cluster"].update(network="other"),
        lambda s: s["controlPlane"].update(trustDomain="corp.example"),
    ],
    ids=["revision", "namespace", "cluster", "network", "trust domain"],
)
def test_pods_roll_when_what_they_were_injected_as_is_no_more(change: Callable[[dict[str, Any]], object]) -> None:
    before, after = injected(lambda _: None), injected(change)
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] == after[name]] == []


def test_pods_in_an_adopted_mesh_roll_with_its_own_trust_domain_and_not_with_the_settings() -> None:
    def adopts(trust_domain: str) -> Callable[[dict[str, Any]], object]:
        plane = {"mode": "adopt", "version": "1.31.0", "charts": {"path": "x"}, "trustDomain": trust_domain}
        return lambda sections: sections.update(controlPlane=plane)

    pods = injected(adopts("cluster.local"))
    assert pods == injected(adopts("corp.example"))
    assert all("trust domain adopted.example" in str(pod) for pod in pods.values())


def test_pods_do_not_roll_with_the_rest_of_the_control_plane() -> None:
    def change(sections: dict[str, Any]) -> None:
        sections["controlPlane"]["values"]["resources"]["requests"]["cpu"] = "20m"
        sections["controlPlane"]["revisions"] = {"v1-31": {}}
        sections["cluster"]["context"] = "other"

    assert injected(lambda _: None) == injected(change)


def test_a_destroy_asks_who_follows_either() -> None:
    asks = mesh(canary).one("mesh-adopters")
    assert (asks.inputs["revision"], asks.inputs["revisions"]) == ("default", ["canary"])


def test_the_gateway_lets_machines_through_to_both() -> None:
    world = mesh(canary)
    hosts = ["istiod.istio-system.svc", "istiod-canary.istio-system.svc"]
    servers = world.one("mesh-gateway-istiod-gateway").value("spec")["servers"]
    assert {tuple(server["hosts"]) for server in servers} == {tuple(hosts)}
    routes = world.one("mesh-gateway-istiod-route").value("spec")["tls"]
    targets = {(r["match"][0]["sniHosts"][0], r["route"][0]["destination"]["host"]) for r in routes}
    assert targets == {(host, f"{host}.cluster.local") for host in hosts}


def test_a_workload_s_machines_move_together_and_one_may_stay() -> None:
    def together(sections: dict[str, Any]) -> None:
        canary(sections)
        machines = sections["workloads"]["echo"]["machines"]
        machines["revision"] = "canary"
        machines["hosts"]["vm-1"]["revision"] = "default"

    world = mesh(together)
    memberships = [world.one(f"mesh-{name}-membership").inside("revision") for name in ("vm-1", "vm-2")]
    assert memberships == ["default", "canary"]


def test_an_adopted_second_istiod_is_read_and_never_changed() -> None:
    def adopted(sections: dict[str, Any]) -> None:
        canary(sections)
        sections["controlPlane"] = {"mode": "adopt", "version": "1.31.0", "revisions": {"canary": {}}}
        sections["gateway"] = {"mode": "adopt"}

    world = mesh(adopted)
    assert world.of_type("Release") == []
    looked_up = world.one("mesh-revision-canary-mesh-config")
    assert [looked_up.value(key) for key in ("namespace", "name", "adopted")] == ["istio-system", "istio-canary", True]


def unknown(sections: dict[str, Any]) -> None:
    sections["workloads"]["echo"]["machines"]["revision"] = "canary"


def of_one(sections: dict[str, Any]) -> None:
    sections["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["revision"] = "canary"


def of_a_gateway(sections: dict[str, Any]) -> None:
    far(sections)
    sections["networks"]["far"]["gateway"]["hosts"]["gw-1"]["revision"] = "canary"


def same(sections: dict[str, Any]) -> None:
    sections["controlPlane"] |= {"revision": "stable", "revisions": {"stable": {}}}


def nameless(sections: dict[str, Any]) -> None:
    sections["controlPlane"] |= {"revision": "stable", "revisions": {"default": {}}}


def adopted_with(**given: Any) -> Any:
    def change(sections: dict[str, Any]) -> None:
        sections["controlPlane"] = {"mode": "adopt", "version": "1.31.0", "revisions": {"canary": given}}
        sections["gateway"] = {"mode": "adopt"}

    return change


def old(sections: dict[str, Any]) -> None:
    sections["controlPlane"]["revisions"] = {"old": {"version": "1.18.0"}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (unknown, r"machines\.revision = canary: is no revision of the control plane.*one of default"),
        (of_one, r"hosts\.vm-1\.revision = canary: is no revision of the control plane"),
        (of_a_gateway, r"gateway\.hosts\.gw-1\.revision = canary: is no revision of the control plane"),
        (same, r"controlPlane\.revisions\.stable = stable: .*Two istiods would have one name"),
        (nameless, r"controlPlane\.revisions\.default = default: .*Two istiods would have one name"),
        (adopted_with(values={"a": 1}), r"revisions\.canary: has charts or values, which are not used"),
        (adopted_with(charts={"path": "x"}), r"revisions\.canary: has charts or values, which are not used"),
        (old, r"controlPlane\.revisions\.old\.version = 1\.18\.0: is not in the table"),
    ],
)
def test_a_revision_that_cannot_be_followed_is_refused(change: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        dev_settings(change)


def test_versions_that_are_accepted_are_so_for_every_istiod() -> None:
    def accepted(sections: dict[str, Any]) -> None:
        old(sections)
        sections["versions"] = {"accept": ["istiod"]}

    assert accepted_risks(dev_settings(accepted))[0].startswith("istiod is not in the table")
    with pytest.raises(SettingsError, match=r"or `versions\.accept: \[istiod\]`, knowing that"):
        dev_settings(old)


def two(*moved: str) -> Any:
    """istiod 1.30.2, 1.31.0 beside it, the sidecar 1.31.0, and machines that were moved."""

    def change(sections: dict[str, Any]) -> None:
        sections["controlPlane"] |= {"version": "1.30.2", "revisions": {"v1-31": {"version": "1.31.0"}}}
        for name in moved:
            sections["workloads"]["echo"]["machines"]["hosts"][name]["revision"] = "v1-31"

    return change


def test_a_sidecar_is_compared_with_the_istiod_that_each_machine_follows() -> None:
    def lost(sections: dict[str, Any]) -> None:
        two("vm-1")(sections)
        sections["workloads"]["echo"]["machines"]["hosts"]["vm-2"]["lost"] = True

    assert dev_settings(two("vm-1", "vm-2"))
    assert dev_settings(lost)
    with pytest.raises(SettingsError, match=r"newer than istiod 1\.30\.2, which `[a-z.]+\.vm-2` follows"):
        dev_settings(two("vm-1"))


def test_a_sidecar_that_is_too_new_for_a_second_istiod_is_refused() -> None:
    def back(sections: dict[str, Any]) -> None:
        sections["controlPlane"]["revisions"] = {"v1-30": {"version": "1.30.2"}}
        sections["workloads"]["echo"]["machines"]["revision"] = "v1-30"

    with pytest.raises(SettingsError, match=r"newer than istiod 1\.30\.2, which `[a-z.]+\.vm-1` follows"):
        dev_settings(back)


def test_a_network_s_gateway_follows_the_first_unless_told_otherwise() -> None:
    def with_gateway(**told: str) -> Any:
        def change(sections: dict[str, Any]) -> None:
            two("vm-1", "vm-2")(sections)
            far(sections)
            sections["workloads"]["remote"]["machines"]["revision"] = "v1-31"
            sections["networks"]["far"]["gateway"]["hosts"]["gw-1"] |= told

        return change

    with pytest.raises(SettingsError, match=r"which `networks\.far\.gateway\.hosts\.gw-1` follows"):
        dev_settings(with_gateway())
    assert dev_settings(with_gateway(revision="v1-31"))

    def lost(sections: dict[str, Any]) -> None:
        with_gateway(revision="v1-31")(sections)
        sections["networks"]["far"]["gateway"]["hosts"]["gw-2"] = {**host("198.51.100.6"), "lost": True}

    assert dev_settings(lost)
