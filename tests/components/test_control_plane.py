"""istiod installed: names, values, and the mesh config that is worked out before it is there."""

from typing import Any

import pulumi
import pytest
import yaml

from components.control_plane import (
    DEBUG_READERS,
    ControlPlane,
    ControlPlaneArgs,
    HelmCharts,
    installed_mesh_config,
    istiod_values,
)
from hybridmesh.istio import parse_mesh_config
from hybridmesh.istio.nested import merged
from hybridmesh.providers import ClusterAccess
from tests.components.harness import World, run

CLUSTER = ClusterAccess(kubeconfig="kubeconfig")


def args(**changes: Any) -> ControlPlaneArgs:
    given: dict[str, Any] = {
        "cluster": CLUSTER,
        "cluster_name": "embedded",
        "network": "embedded",
        "mesh_id": "embedded",
        "charts": HelmCharts(path="charts"),
    }
    return ControlPlaneArgs(**{**given, **changes})


def installed(**changes: Any) -> World:
    return run(lambda: ControlPlane("plane", args(**changes)).mesh_config)


# Recorded: the ConfigMap `istio` that the istiod chart of 1.31 made from the dev stack's values.
RECORDED = """\
defaultConfig:
  discoveryAddress: istiod.istio-system.svc:15012
  meshId: embedded
enablePrometheusMerge: true
rootNamespace: istio-system
trustDomain: cluster.local
"""


def test_the_mesh_config_is_the_one_that_the_chart_makes() -> None:
    ours = installed_mesh_config(args())
    assert ours is not None
    assert parse_mesh_config(yaml.safe_dump(ours)) == parse_mesh_config(RECORDED)
    assert ours.items() <= yaml.safe_load(RECORDED).items()


def test_mesh_config_in_the_values_is_in_it() -> None:
    values = {"meshConfig": {"defaultConfig": {"concurrency": 2, "proxyMetadata": {"A": "b"}}}}
    ours = installed_mesh_config(args(values=values)) or {}
    assert ours["defaultConfig"] == {
        "concurrency": 2,
        "proxyMetadata": {"A": "b"},
        "meshId": "embedded",
        "discoveryAddress": "istiod.istio-system.svc:15012",
    }


@pytest.mark.parametrize("preview", [True, False])
def test_values_may_be_outputs_of_other_resources(preview: bool) -> None:
    """Such as the address of a tracing service that the same program makes."""
    told: list[str] = []

    def program() -> pulumi.Output[str]:
        named = pulumi.Output.from_input("collector.example")
        values = {"meshConfig": {"defaultConfig": {"proxyMetadata": {"A": named}}}, "env": {DEBUG_READERS: named}}
        plane = ControlPlane("plane", args(values=values, debug_readers=["metrics"]))
        return plane.mesh_config.apply(lambda text: told.append(text) or text)  # type: ignore[func-returns-value]

    world = run(program, preview=preview)
    assert [yaml.safe_load(text)["defaultConfig"]["proxyMetadata"] for text in told] == [{"A": "collector.example"}]
    env = world.one("plane-istiod").value("values")["env"]
    assert env == {DEBUG_READERS: "collector.example,metrics"}


@pytest.mark.parametrize("values", [{"meshConfig": ...}, {"global": {"proxy": ...}}], ids=str)
def test_an_output_in_the_place_of_all_of_a_mapping_is_refused_where_it_would_be_lost(values: dict[str, Any]) -> None:
    def program() -> ControlPlane:
        later = pulumi.Output.from_input({"a": "b"})
        section, *_ = values
        given = {section: later if values[section] is ... else {"proxy": later}}
        return ControlPlane("plane", args(values=given))

    with pytest.raises(
        TypeError, match=r"^values\.(meshConfig|global\.proxy): is an output as a whole\. .* Fix: a map"
    ):
        run(program)


@pytest.mark.parametrize(
    "values",
    [
        {"profile": "demo"},
        {"compatibilityVersion": "1.30"},
        {"platform": "gke"},
        {"configMap": False},
        {"istiodRemote": {"enabled": True}},
        {"global": {"profile": "demo"}},
        {"global": {"platform": "gke"}},
        {"global": {"variant": "distroless"}},
        {"global": {"remotePilotAddress": "192.0.2.9"}},
        {"global": {"proxy": {"variant": "distroless"}}},
        {"global": {"proxy": {"tracer": "zipkin"}}},
    ],
    ids=str,
)
def test_a_mesh_config_that_cannot_be_told_is_read_once_istiod_is_there(values: dict[str, Any]) -> None:
    assert installed_mesh_config(args(values=values)) is None
    world = installed(values=values)
    awaited = world.one("plane-mesh-config")
    assert [awaited.value(key) for key in ("namespace", "name", "key")] == ["istio-system", "istio", "mesh"]
    assert world.is_after(awaited, world.one("plane-istiod"))


def test_what_cannot_be_changed_is_known_before_anything_of_istio_is() -> None:
    world = installed(trust_domain="corp.example")
    remains = world.one("plane-remains")
    assert [remains.value(key) for key in ("namespace", "trustDomain")] == ["istio-system", "corp.example"]
    assert world.is_after(world.one("plane-namespace"), remains)


def test_helm_names_are_those_that_istio_goes_by() -> None:
    world = installed()
    releases = {r.name: (r.value("name"), r.value("namespace"), r.value("chart")) for r in world.of_type("Release")}
    assert releases == {
        "plane-base": ("istio-base", "istio-system", "charts/base"),
        "plane-istiod": ("istiod", "istio-system", "charts/istiod"),
    }
    assert world.one("plane-base").value("values")["defaultRevision"] == "default"


def test_a_revision_is_in_release_values_and_address() -> None:
    world = installed(revision="canary")
    assert world.one("plane-istiod").value("name") == "istiod-canary"
    assert world.one("plane-istiod").value("values")["revision"] == "canary"
    told = installed_mesh_config(args(revision="canary")) or {}
    assert told["defaultConfig"]["discoveryAddress"] == "istiod-canary.istio-system.svc:15012"


def test_a_repository_is_asked_for_a_version_and_a_folder_is_not() -> None:
    charts = HelmCharts(repository="https://charts.example.com", version="1.31.0")
    world = installed(charts=charts)
    istiod = world.one("plane-istiod")
    assert world.one("plane").value("version") == "1.31.0", "for who judges the plan"
    assert istiod.value("chart") == "istiod"
    assert istiod.value("version") == "1.31.0"
    assert istiod.value("repositoryOpts") == {"repo": "https://charts.example.com"}
    assert installed().one("plane-istiod").value("version") is None


def test_charts_of_nowhere_are_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match=r"HelmCharts: has neither .* Fix: one of the two"):
        installed(charts=HelmCharts())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "metrics"),
        ("kiali", "kiali,metrics"),
        (" kiali , metrics,", "kiali,metrics"),
        ("", "metrics"),
    ],
)
def test_who_may_read_istiod_s_state_by_the_caller_s_values_still_may(given: str | None, told: str) -> None:
    env = {"A": "b"} if given is None else {"A": "b", DEBUG_READERS: given}
    values = istiod_values(args(values={"env": env}, debug_readers=("metrics",)))
    assert values["env"] == {"A": "b", DEBUG_READERS: told}
    assert istiod_values(args(values={"env": env}))["env"] == env


def test_istiod_is_told_what_machines_are_told() -> None:
    values = istiod_values(args(values={"autoscaleEnabled": False, "global": {"imagePullPolicy": "Never"}}))
    assert values["autoscaleEnabled"] is False
    assert values["global"]["imagePullPolicy"] == "Never"
    assert values["global"]["multiCluster"]["clusterName"] == "embedded"
    assert values["global"]["network"] == "embedded"
    assert values["global"]["meshID"] == "embedded"
    assert values["meshConfig"]["trustDomain"] == "cluster.local"


def test_its_namespace_carries_the_network() -> None:
    metadata = installed().one("plane-namespace").value("metadata")
    assert metadata == {"name": "istio-system", "labels": {"topology.istio.io/network": "embedded"}}


def test_the_root_certificate_is_awaited_and_nothing_is_only_read() -> None:
    world = installed()
    awaited = world.one("plane-root-certificate")
    assert (awaited.value("name"), awaited.value("key")) == ("istio-ca-root-cert", "root-cert.pem")
    assert "its log, `kubectl logs -n istio-system -l app=istiod`" in awaited.value("remedy")
    assert world.is_after(awaited, world.one("plane-istiod"))
    assert not [r.name for r in world.found if r.read], "the engine writes its state twice for each"


def test_each_limit_is_that_of_its_own_step() -> None:
    world = installed(install_seconds=11, root_certificate_seconds=22, cleanup_seconds=33, values={"profile": "demo"})
    for name in ("plane-base", "plane-istiod"):
        assert world.one(name).value("timeout") == 11
        assert world.one(name).timeouts == ("11s", "11s", "11s"), "the engine's own limit would cut a longer one short"
    assert world.one("plane-mesh-config").value("limitSeconds") == 11
    assert world.one("plane-root-certificate").value("limitSeconds") == 22
    assert world.one("plane-remains").value("cleanupSeconds") == 33


def test_of_an_adopted_istio_nothing_is_made_and_nothing_is_waited_for() -> None:
    world = run(lambda: ControlPlane("plane", args(mode="adopt", charts=None, namespace="mesh")).mesh_config)
    assert world.names() == {"plane", "plane-mesh-config", "plane-root-certificate"}
    for name in ("plane-mesh-config", "plane-root-certificate"):
        awaited = world.one(name)
        assert [awaited.value(key) for key in ("namespace", "adopted", "limitSeconds")] == ["mesh", True, 0], name
    assert "to mesh" in world.one("plane-root-certificate").value("remedy")


def test_who_waits_for_the_root_certificate_in_vain_is_told_of_a_cluster_made_anew() -> None:
    remedy = installed().one("plane-root-certificate").value("remedy")
    assert "kubectl logs -n istio-system -l app=istiod" in remedy
    assert "made anew, run `pulumi up --refresh`" in remedy


def test_what_istio_left_is_told_from_others_by_the_release_that_brought_its_crds() -> None:
    world = installed()
    remains, base = world.one("plane-remains"), world.one("plane-base")
    assert remains.value("baseRelease") == base.value("name")
    assert world.is_after(world.one("plane-namespace"), remains), "it would be looked for while Istio still runs"


def test_the_charts_are_told_another_namespace_and_domain() -> None:
    world = installed(namespace="mesh", domain="corp.example", mesh_id=None, revision="canary")
    assert world.one("plane-base").value("values") == {
        "defaultRevision": "canary",
        "global": {"istioNamespace": "mesh"},
    }
    told = world.one("plane-istiod").value("values")["global"]
    assert (told["istioNamespace"], told["proxy"]) == ("mesh", {"clusterDomain": "corp.example"})
    assert "meshID" not in told
    ours = installed_mesh_config(args(namespace="mesh", mesh_id=None)) or {}
    assert (ours["rootNamespace"], ours["defaultConfig"]) == ("mesh", {"discoveryAddress": "istiod.mesh.svc:15012"})


def test_without_revision_or_readers_istiod_is_told_of_none() -> None:
    assert istiod_values(args())["revision"] == "", "named default, its objects would have other names"
    assert "env" not in istiod_values(args())
    assert istiod_values(args(debug_readers=["a", "b"]))["env"] == {"DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES": "a,b"}


def test_installing_without_charts_is_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match=r"plane: charts is missing.*Fix: HelmCharts"):
        installed(charts=None)


def test_merged_goes_key_by_key_and_changes_neither() -> None:
    below, above = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"c": 3}, "d": [2], "e": {}}
    assert merged(below, above) == {"a": {"b": 1, "c": 3}, "d": [2], "e": {}}
    assert below == {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merged(below, {"a": 5, "d": {"e": 1}}) == {"a": 5, "d": {"e": 1}}
