"""An Istio that others have installed is looked at before anything is touched."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest

from hybridmesh.istio.adopted import Asked
from hybridmesh.providers.adopted import AdoptedIstiodProvider
from hybridmesh.providers.cluster import ClusterError, UnansweredError
from tests.providers.fake_cluster import FakeCluster

ASKED = Asked(
    namespace="istio-system",
    revision="default",
    version="1.31.0",
    version_at="controlPlane.version",
    cluster="prod",
    network="prod",
    domain="cluster.local",
    networks=[],
    gateway="istio-eastwestgateway",
    namespaces={"demo": {"istio-injection": "enabled"}, "shop": {}},
    pods_in=["demo", "shop"],
    registers="workloads.echo.machines.registration",
    probe="workloads.echo.probe",
    joins=True,
    signs=True,
    watched="workloads.echo.machines.hosts",
    finds=True,
    inbound_port="",
    cut_off_seconds=15,
    plain="routing.echo",
    routed={"echo": ("shop", ["echo.shop.svc.cluster.local"])},
)
MESH: dict[str, Any] = {
    "rootNamespace": "istio-system",
    "defaultConfig": {"discoveryAddress": "istiod.istio-system.svc:15012"},
}


def deployment(revision: str = "default", image: str = "istio/pilot:1.31.2", **environment: str) -> dict[str, Any]:
    env: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in environment.items()]
    env.append({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
    pod = {"containers": [{"name": "other"}, {"name": "discovery", "image": image, "env": env, "args": ["discovery"]}]}
    labels = {"app": "istiod", "istio.io/rev": revision}
    return {"metadata": {"labels": labels}, "spec": {"template": {"spec": pod}}}


@pytest.fixture
def istio(cluster: FakeCluster) -> FakeCluster:
    """An Istio that the settings go with."""
    tell(cluster)
    tell(cluster, injected={"global": {"network": "prod"}})
    variables = {"CLUSTER_ID": "prod", "ENABLE_CA_SERVER": "true"}
    cluster.custom = {"istio-system/deployments": [deployment("canary", CLUSTER_ID="x"), deployment(**variables)]}
    cluster.labels = {
        "istio-system": {"topology.istio.io/network": "prod"},
        "shop": {"kubernetes.io/metadata.name": "shop", "istio.io/rev": "prod-stable"},
    }
    return cluster


def tell(
    cluster: FakeCluster, *, injected: dict[str, Any] | None = None, networks: dict[str, Any] | None = None, **mesh: Any
) -> None:
    """What istiod's ConfigMaps say."""
    if injected is not None:
        cluster.maps["istio-system/istio-sidecar-injector"] = {"values": json.dumps(injected)}
        return
    document = {"mesh": json.dumps({**MESH, **mesh}), "meshNetworks": json.dumps({"networks": networks or {}})}
    cluster.maps["istio-system/istio"] = document


def refusals(asked: Asked = ASKED) -> list[str]:
    properties = {"kubeconfig": "kubeconfig", "requestSeconds": 15.0, "asked": json.dumps(asdict(asked))}
    return [failure.reason for failure in AdoptedIstiodProvider().check({}, properties).failures]


def refusal(asked: Asked = ASKED) -> str:
    (said,) = refusals(asked)
    assert " Fix: " in said
    return said


@pytest.mark.usefixtures("istio")
def test_one_that_the_settings_go_with_is_not_refused() -> None:
    assert refusals() == []
    provider = AdoptedIstiodProvider()
    assert provider.diff("id", {"asked": "a"}, {"asked": "b"}).changes is False
    assert provider.create({"asked": "a"}).outs == {"asked": "a"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"CLUSTER_ID": "Kubernetes"}, "cluster.name = prod: the adopted istiod calls its cluster Kubernetes."),
        ({"ENABLE_CA_SERVER": "false"}, "controlPlane.mode = adopt: the adopted istiod signs no certificates"),
        (
            {"PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION": "0"},
            "workloads.echo.machines.registration: the adopted istiod registers no VM",
        ),
        (
            {"PILOT_ENABLE_WORKLOAD_ENTRY_HEALTHCHECKS": "False"},
            "workloads.echo.probe: the adopted istiod hears of no VM's health",
        ),
        (
            {"ENABLE_DEBUG_ON_HTTP": "false"},
            "workloads.echo.machines.hosts: the adopted istiod tells nobody whether VMs are in sync",
        ),
    ],
)
def test_variables_by_which_no_vm_could_join(istio: FakeCluster, variables: dict[str, str], said: str) -> None:
    istio.custom["istio-system/deployments"] = [deployment(**variables)]
    assert refusal().startswith(said)
    without = replace(ASKED, cluster="Kubernetes", network="prod", registers="", probe="", signs=False, watched="")
    assert not refusals(without), "nothing needs it"
    assert not refusals(replace(without, cluster="prod", joins=False)), "nobody shows it a token"


@pytest.mark.parametrize(
    ("grace", "cut_off", "fix"),
    [
        ("30s", 15, "`sidecar.upgrade.cutOffSeconds: 35`"),
        ("1m0.5s", 60, "`sidecar.upgrade.cutOffSeconds: 66`"),
        ("595s", 15, "`sidecar.upgrade.cutOffSeconds: 600`"),
        ("10m", 15, "`sidecar.upgrade.cutOffSeconds: 0`, to stop them at once"),
        ("30s", 30, ""),
        ("30s", 0, ""),
        ("10s", 5, ""),
        ("soon", 15, ""),
    ],
)
def test_an_istiod_that_leaves_a_vm_in_rotation_for_longer_than_it_serves_on(
    istio: FakeCluster, grace: str, cut_off: int, fix: str
) -> None:
    istio.custom["istio-system/deployments"] = [deployment(PILOT_WORKLOAD_ENTRY_GRACE_PERIOD=grace, CLUSTER_ID="prod")]
    found = refusals(replace(ASKED, cut_off_seconds=cut_off))
    assert [f" Fix: {fix}; or let Istio's owner take the variable away." in said for said in found] == (
        [True] if fix else []
    )
    assert all(
        said.startswith(f"sidecar.upgrade.cutOffSeconds = {cut_off}: the adopted istiod takes") for said in found
    )
    assert not refusals(replace(ASKED, joins=False))


def test_another_ca_may_be_told_by_the_mesh_config(istio: FakeCluster) -> None:
    istio.custom["istio-system/deployments"] = [deployment(ENABLE_CA_SERVER="false")]
    told = {"discoveryAddress": "", "proxyMetadata": {"CA_ADDR": "ca.example.com:443"}}
    tell(istio, defaultConfig=told)
    assert refusals() == []
    istio.custom["istio-system/deployments"] = [deployment("next", ENABLE_CA_SERVER="false")]
    istio.maps["istio-system/istio-next"] = istio.maps["istio-system/istio"]
    assert "signs no certificates" in refusal(replace(ASKED, revision="next"))


def test_a_cluster_may_be_called_by_an_alias_of_it(istio: FakeCluster) -> None:
    there = deployment(CLUSTER_ID="Kubernetes")
    there["spec"]["template"]["spec"]["containers"][1]["args"] += ["--clusterAliases", "old=Kubernetes,prod=Kubernetes"]
    istio.custom["istio-system/deployments"] = [there]
    assert refusals() == []


@pytest.mark.parametrize(
    ("image", "is_other"),
    [
        ("gcr.io/istio-release/pilot:1.30.4-distroless", True),
        ("registry:5000/istio/pilot:1.31.2-asm.4", False),
        ("maistra/pilot-ubi8:2.6.0", False),
        ("istio/pilot@sha256:1234", False),
        ("istio/pilot:latest", False),
    ],
)
def test_its_version_is_that_of_the_settings(istio: FakeCluster, image: str, is_other: bool) -> None:
    istio.custom["istio-system/deployments"] = [deployment(image=image)]
    said = "controlPlane.version = 1.31.0: the adopted istiod is 1.30.4-distroless."
    assert [refused.startswith(said) for refused in refusals()] == ([True] if is_other else [])


def test_an_image_by_its_digest_is_of_the_version_of_its_chart(istio: FakeCluster) -> None:
    for image, chart, other in (
        ("istio/pilot@sha256:1234", "1.30.4", ["1.30.4"]),
        ("istio/pilot@sha256:1234", "1.31.4", []),
        ("istio/pilot:1.31.2", "1.30.4", []),
    ):
        there = deployment(image=image)
        there["metadata"]["labels"]["app.kubernetes.io/version"] = chart
        istio.custom["istio-system/deployments"] = [there]
        assert [said.partition(": the adopted istiod is ")[2].partition(". ")[0] for said in refusals()] == other


def test_a_network_of_another_name_is_refused_by_either_place_that_names_it(istio: FakeCluster) -> None:
    istio.labels["istio-system"] = {"topology.istio.io/network": "net1"}
    tell(istio, injected={"global": {"network": "net1"}})
    assert refusal().startswith("cluster.network = prod: the adopted mesh calls the network of its pods net1.")
    istio.labels["istio-system"] = {}
    assert "`cluster.network: net1`" in refusal()
    istio.labels["istio-system"] = {"topology.istio.io/network": "net1"}
    tell(istio, injected={"global": {"network": ""}})
    assert "`cluster.network: net1`" in refusal()


def test_pods_of_no_network_are_refused_only_where_there_is_another(istio: FakeCluster) -> None:
    istio.labels["istio-system"] = {}
    tell(istio, injected={"global": {"network": ""}})
    assert refusals() == []
    far = replace(ASKED, networks=["datacenter"])
    said = refusal(far)
    assert said.startswith("networks.datacenter: the adopted mesh does not say that its pods are in another network")
    assert "`kubectl label namespace istio-system topology.istio.io/network=prod` and Helm value" in said
    there = {"prod": {"endpoints": [{"fromRegistry": "Kubernetes"}]}}
    variables = {"proxyMetadata": {"ISTIO_META_NETWORK": "prod"}}
    tell(istio, networks=there, defaultConfig=variables)
    assert refusals(far) == [], "pods may have it from the mesh config"
    tell(istio, injected={"global": {"network": "prod"}})
    tell(istio, networks=there)
    assert refusals(far) == []


@pytest.mark.parametrize(
    ("address", "is_refused"),
    [
        ("istiod-canary.istio-system.svc:15012", True),
        ("istiod.istio-system.svc.cluster.local:15012", True),
        ("istiod:15012", True),
        ("istiod.example.com:443", False),
        ("192.0.2.5:15012", False),
        ("[2001:db8::5]:15012", False),
        ("", False),
    ],
)
def test_an_address_of_istiod_that_a_vm_has_no_way_to_is_refused(
    istio: FakeCluster, address: str, is_refused: bool
) -> None:
    tell(istio, defaultConfig={"discoveryAddress": address})
    said = f"the adopted mesh config sends proxies to {address}, a name that leads nowhere on a VM"
    assert [said in refused for refused in refusals()] == ([True] if is_refused else [])


@pytest.mark.parametrize(("address", "is_refused"), [("", False), ("istiod:15012", True)])
def test_an_istiod_has_the_names_that_it_is_told_beside_its_own(
    istio: FakeCluster, address: str, is_refused: bool
) -> None:
    istio.custom["istio-system/deployments"] = [deployment(ISTIOD_CUSTOM_HOST="istiod.example.com,istiod.vms")]
    tell(istio, defaultConfig={"discoveryAddress": address})
    assert bool(refusals()) is is_refused
    tell(istio, defaultConfig={"discoveryAddress": "istiod.mesh.svc:15012"})
    istio.custom["istio-system/deployments"] = [deployment(ISTIOD_CUSTOM_HOST="istiod.mesh.svc,istiod.mesh")]
    assert refusals() == []


@pytest.mark.parametrize(
    ("mesh", "said"),
    [
        (
            {"proxyListenPort": 15101},
            "controlPlane.mode = adopt: the adopted mesh config has proxies take what goes out at port 15101",
        ),
        (
            {"proxyInboundListenPort": 15106},
            "controlPlane.mode = adopt: the adopted mesh config has proxies take what comes in at port 15106",
        ),
        (
            {"enableAutoMtls": False},
            "routing.echo: the adopted mesh config has callers speak mTLS only where a DestinationRule says so",
        ),
    ],
)
def test_a_mesh_config_by_which_no_vm_could_serve(istio: FakeCluster, mesh: dict[str, Any], said: str) -> None:
    tell(istio, **mesh)
    assert refusal().startswith(said)
    assert refusals(replace(ASKED, joins=False, plain="")) == [], "nothing needs it"


def test_what_vms_and_the_mesh_config_agree_on_is_taken(istio: FakeCluster) -> None:
    tell(istio, proxyListenPort=15001, proxyInboundListenPort=15106, enableAutoMtls=True)
    assert '`sidecar.environment.INBOUND_CAPTURE_PORT: "15106"`; or let Istio\'s owner take it away.' in refusal()
    assert refusals(replace(ASKED, inbound_port="15106")) == []
    told = {"proxyMetadata": {"INBOUND_CAPTURE_PORT": "15106"}}
    tell(istio, proxyInboundListenPort=15106, defaultConfig=told)
    assert refusals() == [], "VMs are told of it by the mesh config, too"


def test_the_mesh_s_root_namespace_is_nobody_s_own(istio: FakeCluster) -> None:
    tell(istio, rootNamespace="shop")
    assert refusal().startswith("namespace shop: it is the root namespace of the adopted mesh.")


def test_namespaces_that_istiod_does_not_look_at_are_refused(istio: FakeCluster) -> None:
    tell(istio, discoverySelectors=[{"matchLabels": {"mesh": "on"}}])
    demo, root, shop = refusals()
    assert root.startswith("namespace istio-system: ")
    assert demo.startswith("namespace demo: the adopted istiod does not look at it, by its `discoverySelectors`.")
    assert "make it with such a label, and `namespaces.demo.existing: true`" in demo
    assert "Fix: give it such a label; or" in shop
    istio.labels |= {"demo": {"mesh": "on"}}
    for name in ("shop", "istio-system"):
        istio.labels[name]["mesh"] = "on"
    assert refusals() == []


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ({"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["demo", "shop"]}, True),
        ({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["demo", "shop"]}, False),
        ({"key": "no", "operator": "NotIn", "values": ["demo"]}, True),
        ({"key": "no", "operator": "In", "values": ["demo"]}, False),
        ({"key": "kubernetes.io/metadata.name", "operator": "Exists"}, True),
        ({"key": "no", "operator": "Exists"}, False),
        ({"key": "no", "operator": "DoesNotExist"}, True),
        ({"key": "kubernetes.io/metadata.name", "operator": "DoesNotExist"}, False),
    ],
)
def test_selectors_are_read_as_kubernetes_reads_them(
    istio: FakeCluster, expression: dict[str, Any], selected: bool
) -> None:
    root = {"matchLabels": {"topology.istio.io/network": "prod"}}
    tell(istio, discoverySelectors=[root, {"matchLabels": {"no": "no"}}, {"matchExpressions": [expression]}])
    assert (refusals() == []) is selected


@pytest.mark.parametrize(
    ("labels", "injected", "is_refused"),
    [
        ({}, {}, True),
        ({"istio-injection": "disabled", "istio.io/rev": "default"}, {}, True),
        ({"istio-injection": "enabled"}, {}, False),
        ({"istio.io/dataplane-mode": "ambient"}, {}, False),
        ({}, {"sidecarInjectorWebhook": {"enableNamespacesByDefault": True}}, False),
    ],
)
def test_pods_in_a_namespace_of_others_that_nobody_injects_are_refused(
    istio: FakeCluster, labels: dict[str, str], injected: dict[str, Any], is_refused: bool
) -> None:
    istio.labels["shop"] = labels
    tell(istio, injected=injected)
    said = "namespaces.shop.existing = true: no istiod injects pods there."
    assert [refused.startswith(said) for refused in refusals()] == ([True] if is_refused else [])
    assert refusals(replace(ASKED, pods_in=["demo"])) == []


def rule(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


FULL = "echo.shop.svc.cluster.local"


@pytest.mark.parametrize(
    ("kind", "there", "is_for_it"),
    [
        ("VirtualService", rule("old", hosts=["other", "echo"]), True),
        ("VirtualService", rule("old", hosts=[FULL], gateways=["front", "mesh"]), True),
        ("VirtualService", rule("old", hosts=[FULL], gateways=["front"]), False),
        ("VirtualService", rule("echo", hosts=[FULL]), False),
        ("VirtualService", rule("old", hosts=["*.shop.svc.cluster.local"]), False),
        ("VirtualService", rule("delegate"), False),
        ("DestinationRule", rule("old", host="echo"), True),
        ("DestinationRule", rule("old", host=FULL, workloadSelector={"matchLabels": {"a": "b"}}), False),
    ],
)
def test_rules_of_others_for_a_host_that_is_routed_are_told(
    istio: FakeCluster, kind: str, there: dict[str, Any], is_for_it: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    for namespace in ("shop", "demo"):
        istio.custom[f"{namespace}/{kind.lower()}s"] = [there]
    assert refusals() == []
    said = f"routing.echo: {kind} shop/old is for {FULL}, too."
    assert [line.startswith(said) for line in capsys.readouterr().out.splitlines()] == ([True] if is_for_it else [])
    refusals(replace(ASKED, routed={"echo": ("demo", ["echo.demo.svc.cluster.local"])}))
    assert capsys.readouterr().out == "", "what is in a namespace of the stack's own it has made"


def test_what_the_mesh_shows_to_some_namespaces_alone_is_told(
    istio: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(istio, defaultVirtualServiceExportTo=["."], defaultDestinationRuleExportTo=["*"])
    assert refusals() == []
    said = capsys.readouterr().out
    assert said.startswith("routing: callers in other namespaces may go without it: in the adopted mesh")
    assert "(defaultVirtualServiceExportTo: .)" in said
    assert refusals(replace(ASKED, routed={})) == []
    assert capsys.readouterr().out == ""


def test_a_mesh_that_knows_no_gateway_into_the_cluster_is_told(
    istio: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = replace(ASKED, networks=["datacenter"])

    def said(asked: Asked = beside, *services: dict[str, Any], of_the_api: Sequence[dict[str, Any]] = ()) -> str:
        label = "topology.istio.io/network"
        istio.by_label = {f"services {label}": [*services], f"gateways {label}": [*of_the_api]}
        assert refusals(asked) == []
        return capsys.readouterr().out

    assert said() == (
        "networks.datacenter: the adopted istiod knows no gateway into network prod: no Service with port 15443, and "
        "no Gateway, has the label topology.istio.io/network=prod, and meshNetworks names none. It leads VMs of other "
        "networks to pods' own addresses. Unless these can be reached from there, let its owner say which it is: "
        "`kubectl label service istio-eastwestgateway -n istio-system topology.istio.io/network=prod`.\n"
    )
    assert "kubectl label service NAME -n istio-system" in said(replace(beside, gateway=""))
    assert said(replace(beside, gateway=None)) == "", "the stack's own has the label"
    assert said(ASKED) == "", "nobody comes from elsewhere"

    service = {"metadata": {"labels": {"topology.istio.io/network": "prod"}}, "spec": {"ports": [{"port": 15443}]}}
    assert said(beside, service) == ""
    assert said(beside, {**service, "spec": {"ports": [{"port": 15008}]}}) != "", "ambient alone"
    assert said(beside, {**service, "metadata": {"labels": {"topology.istio.io/network": "other"}}}) != ""
    other_port = {"topology.istio.io/network": "prod", "networking.istio.io/gatewayPort": "443"}
    elsewhere = {"metadata": {"labels": other_port}, "spec": {"ports": [{"port": 443}]}}
    assert said(beside, elsewhere) == ""
    assert said(beside, {**elsewhere, "spec": service["spec"]}) != ""
    remote = {"kind": "Gateway", "metadata": service["metadata"], "spec": {"listeners": []}}
    assert said(beside, of_the_api=[remote]) == ""

    tell(istio, networks={"prod": {"gateways": [{"address": "192.0.2.1", "port": 15443}]}})
    assert said() == ""


def test_what_may_not_be_read_is_not_judged(
    istio: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden(*_: Any) -> Any:
        raise ClusterError("403")

    def busy(*_: Any) -> Any:
        raise UnansweredError("503")

    istio.custom = {}
    for method in ("objects_in", "namespace_labels", "config_map", "services_labelled"):
        monkeypatch.setattr(istio, method, forbidden)
    assert refusals(replace(ASKED, networks=["datacenter"])) == []
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(istio, "objects_in", busy)
    with pytest.raises(UnansweredError):
        refusals()


def test_a_mesh_config_that_is_no_mapping_is_for_others_to_tell(istio: FakeCluster) -> None:
    istio.maps["istio-system/istio"] = {"mesh": "- a\n", "meshNetworks": ": ["}
    assert refusals() == []
