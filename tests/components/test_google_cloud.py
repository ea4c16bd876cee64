"""The stack of the committed example for Google Cloud, and what it finds of others."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest
from pulumi.runtime import rpc

from components.google_cloud import GATEWAY_SUBNETWORK, INTERNAL_GATEWAY
from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from components.topology import drawing
from tests.components.harness import GATEWAY_ADDRESS, KEY, PROJECT_ROOT, World, run
from tests.settings.test_google import FLEET, INSTANCE, PEM, PEM_KEY, SHARED, gcp_settings
from tests.settings.test_rules import at

SNAPSHOT = PROJECT_ROOT / "tests" / "components" / "gcp_graph.json"
ANSWERS: dict[str, dict[str, Any]] = {
    "mesh-google-cluster": {
        "endpoint": "203.0.113.5",
        "privateClusterConfig": {"privateEndpoint": "10.1.0.2"},
        "masterAuth": {
            "clusterCaCertificate": base64.b64encode(b"KUBERNETES-CA\n").decode(),
            # As the official plugin does; Pulumi takes the whole of `masterAuth` for secret then.
            "clientKey": {rpc._special_sig_key: rpc._special_secret_sig, "value": "S3CRET-KEY"},
        },
    },
    "mesh-google-gateway-address": {"address": "10.2.0.9"},
    "mesh-shop-fleet-account": {"email": "shop-fleet@my-project.iam.gserviceaccount.com", "uniqueId": "1"},
    "mesh-shop-canary-account": {"email": "shop-canary@my-project.iam.gserviceaccount.com", "uniqueId": "2"},
    "mesh-shop-canary-instance": {"networkInterfaces": [{"networkIp": "10.2.0.17"}]},
}


def stack(
    *changes: Callable[[dict[str, Any]], object],
    preview: bool = False,
    first: bool = True,
    more: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> World:
    settings = gcp_settings(*changes)
    answers = {} if preview and first else {**ANSWERS, **more}
    return run(
        lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology,
        preview=preview,
        first=first,
        answers=answers,
    )


@pytest.fixture(scope="module")
def world() -> World:
    return stack()


def graph(world: World) -> dict[str, list[str]]:
    """Every resource by its place in the stack, with what it hangs on directly."""
    stack = "pulumi:pulumi:Stack"
    names = {r.urn: f"{r.type} {r.name}" for r in world.found if r.type != stack}
    return {
        names[r.urn]: sorted(names[urn] for urn in {r.parent, *r.depends_on} if urn in names)
        for r in world.found
        if r.type != stack
    }


def test_the_stack_s_graph_is_the_recorded_one(world: World) -> None:
    """A change here is a change of a real stack: read the diff, then `python -m tests.components.test_google_cloud`."""
    assert graph(world) == json.loads(SNAPSHOT.read_text())


def test_a_first_preview_has_the_same_resources_as_an_up(world: World) -> None:
    assert {r.urn for r in world.found} == {r.urn for r in stack(preview=True).found}


def test_machines_ask_the_cluster_that_was_found(world: World) -> None:
    script = world.one("mesh-shop-fleet-template").value("metadata")["startup-script"]
    assert "\nhttps://10.1.0.2\n" in script
    assert "\nKUBERNETES-CA\n" in script
    assert "\nshop/shop\n" in script
    cluster = world.one("mesh-google-cluster")
    assert cluster.value("id") == "projects/my-project/locations/europe-west3/clusters/mesh"
    public = stack(at("google/gke/publicEndpoint", True)).one("mesh-shop-fleet-template")
    assert "\nhttps://203.0.113.5\n" in public.value("metadata")["startup-script"]


def without_ip(enabled: bool | None) -> dict[str, dict[str, Any]]:
    found = {"controlPlaneEndpointsConfig": {"ipEndpointsConfig": {"enabled": enabled}}}
    return {"mesh-google-cluster": {**ANSWERS["mesh-google-cluster"], **found}}


def test_a_cluster_that_no_address_leads_to_is_refused() -> None:
    """Its DNS endpoint is vouched for by others than the cluster's own authority, and lets in whom IAM lets in."""
    with pytest.raises(ValueError, match=r"google\.gke = mesh: has no IP endpoints") as refused:
        stack(more=without_ip(False))
    assert "gcloud container clusters update mesh --location=europe-west3 --enable-ip-access" in str(refused.value)
    for enabled in (True, None):
        assert stack(more=without_ip(enabled)).one("mesh-shop-fleet-template")


def test_what_machines_get_is_shown_though_the_cluster_s_credentials_are_secret(world: World) -> None:
    for name, made in (("mesh-shop-fleet", "template"), ("mesh-shop-canary", "instance")):
        assert "[secret]" not in str(world.one(f"{name}-{made}").plain)
        assert world.one(name, "SelfJoin").plain["kubernetes-ca.pem"] == "KUBERNETES-CA\n"
    assert not any("S3CRET-KEY" in str(found.inputs) for found in world.found)


def test_the_gateway_has_an_internal_load_balancer_at_a_reserved_address(world: World) -> None:
    address, release = world.one("mesh-google-gateway-address"), world.one("mesh-gateway-release")
    assert (address.value("addressType"), address.value("subnetwork")) == ("INTERNAL", "machines")
    annotations = {**INTERNAL_GATEWAY, GATEWAY_SUBNETWORK: "machines"}
    assert release.value("values")["service"] == {"annotations": annotations, "loadBalancerIP": "10.2.0.9"}
    assert INTERNAL_GATEWAY["networking.gke.io/load-balancer-type"] == "Internal"
    assert world.is_after(release, address)
    assert '"loadBalancerIP": "10.2.0.9"' in world.one("mesh-gateway-address").value("service")


def test_the_load_balancer_is_in_the_subnetwork_of_its_address_also_where_the_cluster_is_in_another() -> None:
    assert GATEWAY_SUBNETWORK == "networking.gke.io/internal-load-balancer-subnet"
    link = "https://www.googleapis.com/compute/v1/projects/my-project/regions/europe-west3/subnetworks/m"
    for change in (at("google/subnetwork", link), at("google/subnetwork", "m")):
        values = stack(change).one("mesh-gateway-release").value("values")
        assert values["service"]["annotations"][GATEWAY_SUBNETWORK] == "m"


@pytest.mark.parametrize(
    "change",
    [
        at("google/reserveGatewayAddress", False),
        at("gateway", {"address": "10.2.0.7"}),
        at("gateway", {"mode": "adopt"}),
    ],
)
def test_no_address_is_reserved_where_that_is_not_wanted_or_another_is_given(change: Callable[..., object]) -> None:
    assert "mesh-google-gateway-address" not in stack(change).names()


Change = Callable[[dict[str, Any]], object]


def shared_world(secrets: Collection[str] = (), more: Sequence[Change] = (), **changed: str) -> World:
    changes = [at("google/network", ...), at("google/subnetwork", ...), at("google/gke", ...)]
    outputs = {"net": "projects/my-project/global/networks/n", "sub": "m", "api": "https://10.9.0.2", "ca": PEM}
    shared = {**SHARED, "network": "net", "subnetwork": "sub", "apiServer": "api", "certificateAuthority": "ca"}
    settings = gcp_settings(*changes, at("google/sharedStack", shared), *more)
    found = {name: value for name, value in {**outputs, **changed}.items() if value}
    answers = {**ANSWERS, "mesh-google-stack": {"outputs": found, "secretOutputNames": sorted(secrets)}}
    return run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology, answers=answers)


def test_another_stack_s_outputs_take_the_place_of_values() -> None:
    world = shared_world(secrets=["api", "ca"])
    template = world.one("mesh-shop-fleet-template")
    assert template.value("networkInterfaces")[0]["subnetwork"] == "m"
    assert PEM in template.plain["metadata"]["startup-script"], "secret there, and public by nature"
    assert world.one("mesh-shop-fleet-in-health").value("network") == "projects/my-project/global/networks/n"
    assert world.one("mesh-google-stack").value("id") == "my-org/network/prod"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"net": ""},
            "google.sharedStack.network = net: names an output of stack `my-org/.*` that is not there",
        ),
        (
            {"api": "10.9.0.2"},
            "google.sharedStack.apiServer = api: .* that is `10.9.0.2`, which is not",
        ),
        ({"ca": "S3CRET"}, "google.sharedStack.certificateAuthority = ca: .* that is not a certificate in PEM form"),
        ({"ca": PEM + PEM_KEY}, "google.sharedStack.certificateAuthority = ca: .* that holds a private key"),
    ],
)
def test_another_stack_s_output_that_is_unfit_is_refused_by_the_setting_s_name(
    changed: dict[str, str], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        shared_world((), (), **changed)
    assert "Fix: the name of one that is " in str(refused.value)
    assert "S3CRET" not in str(refused.value)
    assert "PRIVATE KEY" not in str(refused.value)


HOST_NETWORK = "projects/my-host/global/networks/n"
HOST_SUBNETWORK = "projects/my-host/regions/europe-west3/subnetworks/m"


def in_the_host_project(world: World) -> None:
    rules = world.of_type("Firewall")
    assert {(rule.value("project"), rule.value("network")) for rule in rules} == {("my-host", HOST_NETWORK)}
    assert {tuple(rule.value("targetServiceAccounts")) for rule in rules} == {
        ("shop-fleet@my-project.iam.gserviceaccount.com",),
        ("shop-canary@my-project.iam.gserviceaccount.com",),
    }
    for made in ("account", "template", "health", "group", "autoscaler"):
        assert world.one(f"mesh-shop-fleet-{made}").value("project") == "my-project", made
    assert world.one("mesh-google-gateway-address").value("subnetwork") == HOST_SUBNETWORK


@pytest.mark.parametrize(
    ("subnetwork", "interface"),
    [
        ("m", {"subnetwork": "m", "subnetworkProject": "my-host"}),
        (HOST_SUBNETWORK, {"subnetwork": HOST_SUBNETWORK}),
    ],
)
def test_of_a_shared_vpc_the_rules_are_the_host_project_s_and_all_else_is_the_service_project_s(
    subnetwork: str, interface: dict[str, str]
) -> None:
    world = stack(at("google/network", HOST_NETWORK), at("google/subnetwork", subnetwork))
    in_the_host_project(world)
    assert world.one("mesh-shop-canary-instance").value("networkInterfaces") == [interface]
    assert world.one("mesh-shop-fleet-template").value("networkInterfaces") == [interface]
    assert world.one("mesh-google-gateway-address").value("project") == "my-project"
    assert world.one("mesh-gateway-release").value("values")["service"]["annotations"][GATEWAY_SUBNETWORK] == "m"
    in_the_host_project(shared_world(net=HOST_NETWORK, sub=subnetwork))


@pytest.mark.parametrize("host", [HOST_NETWORK, "mesh"])
def test_the_gateway_s_address_is_of_its_cluster_s_project_for_there_gke_looks_for_it(host: str) -> None:
    address = stack(at("google/network", host), at("google/gke/project", "my-host")).one("mesh-google-gateway-address")
    assert address.value("project") == "my-host"
    owner = "my-host" if host == HOST_NETWORK else "my-project"
    name = "machines" if owner == "my-host" else "projects/my-project/regions/europe-west3/subnetworks/machines"
    assert address.value("subnetwork") == name, "its name alone would be looked for in the address's own project"


def test_another_stack_s_network_and_subnetwork_of_two_projects_are_refused_without_their_values() -> None:
    said = (
        r"google\.sharedStack\.subnetwork = sub: is a subnetwork of project my-host, and the network is one of my-proj"
    )
    with pytest.raises(ValueError, match=said) as refused:
        shared_world(secrets=["net", "sub"], sub=HOST_SUBNETWORK)
    assert HOST_SUBNETWORK not in str(refused.value)


def test_a_secret_that_is_no_address_is_not_shown() -> None:
    with pytest.raises(ValueError, match=r"google\.sharedStack\.apiServer = api: .* that is not an address") as refused:
        shared_world(secrets=["api"], api="S3CRET")
    assert "S3CRET" not in str(refused.value)


def test_a_single_instance_joins_by_itself_as_a_fleet_does(world: World) -> None:
    instance = world.one("mesh-shop-canary-instance")
    assert (instance.value("name"), instance.value("zone")) == ("shop-canary", "europe-west3-a")
    assert instance.value("shieldedInstanceConfig")["enableSecureBoot"] is True
    assert instance.value("networkInterfaces") == [{"subnetwork": "machines", "subnetworkProject": "my-project"}]
    assert instance.value("serviceAccount")["email"] == ANSWERS["mesh-shop-canary-account"]["email"]
    assert instance.value("deletionProtection") is False
    fleet = world.one("mesh-shop-fleet-template").value("metadata")["startup-script"]
    assert instance.value("metadata")["startup-script"] == fleet
    [user, _] = world.one("mesh-shop-canary-role-binding").value("subjects")
    assert user["name"] == ANSWERS["mesh-shop-canary-account"]["email"]


def test_instances_of_these_settings_are_made_so() -> None:
    given = {"ssh": True, "protect": True, "publicAddress": True, "labels": {"team": "shop"}, "diskGb": 20}
    world = stack(at(INSTANCE, {"zone": "europe-west3-b", **given}))
    instance = world.one("mesh-shop-canary-instance")
    assert instance.value("deletionProtection") is True
    assert instance.value("metadata")["enable-oslogin"] == "TRUE"
    assert world.one("mesh-shop-canary-in-iap")
    assert instance.value("networkInterfaces")[0]["accessConfigs"] == [{"networkTier": "PREMIUM"}]
    assert instance.value("labels") == {"team": "shop", "hybrid-mesh": "shop-canary"}
    assert instance.value("bootDisk")["initializeParams"]["size"] == 20


def test_an_account_that_is_there_is_found_and_none_is_made() -> None:
    email = "shop@my-accounts.iam.gserviceaccount.com"
    found = {"email": email, "uniqueId": "7"}
    names = ("shop-fleet", "shop-canary")
    world = stack(
        *(at(f"{place}/serviceAccount", email) for place in (FLEET, INSTANCE)),
        more={f"mesh-{name}-account": found for name in names},
    )
    for name, made in zip(names, ("template", "instance"), strict=True):
        account = world.one(f"mesh-{name}-account")
        assert account.read
        assert account.value("id") == f"projects/my-accounts/serviceAccounts/{email}"
        assert world.one(f"mesh-{name}-{made}").value("serviceAccount")["email"] == email
        assert world.one(f"mesh-{name}-deny").value("targetServiceAccounts") == [email]
        assert [user["name"] for user in world.one(f"mesh-{name}-role-binding").value("subjects")] == [email, "7"]


OTHERS_RULES = {
    "in-app": "INGRESS: tcp 8080 from 10.4.0.0/14, 10.2.0.0/20",
    "in-observers": "INGRESS: tcp 15020, 15021, 15090 from 10.4.0.0/14",
    "in-health": "INGRESS: tcp 15021 from 35.191.0.0/16, 130.211.0.0/22",
    "out-gateway": f"EGRESS: tcp 15012, 15443 to {GATEWAY_ADDRESS}/32",
    "out-kubernetes": "EGRESS: tcp 443 to 10.1.0.2/32",
    "out-pods": "EGRESS: all protocols to 10.4.0.0/14",
    "out-machines": "EGRESS: all protocols to 10.2.0.0/20",
    "out-google": "EGRESS: tcp 443 to 0.0.0.0/0",
    "deny": "EGRESS: nothing else",
}


def test_rules_that_others_make_are_not_made_but_said() -> None:
    outputs: list[Any] = []
    settings = gcp_settings(at("google/firewall", "existing"))

    def program() -> object:
        return HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology.apply(outputs.append)

    world = run(program, answers=ANSWERS)
    assert not world.of_type("Firewall")
    for name in ("shop-fleet", "shop-canary"):
        assert world.one(f"mesh-{name}", "GceGuard").value("mustBeAllowed") == OTHERS_RULES
    [topology] = outputs
    assert topology["google"]["shop-fleet"]["mustBeAllowed"] == OTHERS_RULES
    assert topology["google"]["shop-canary"]["mustBeAllowed"] == OTHERS_RULES
    assert 'gce-shop-fleet["shop-fleet' in drawing(topology)


def test_a_first_preview_says_of_rules_that_others_make_all_that_is_known_by_then() -> None:
    guard = stack(at("google/firewall", "existing"), preview=True).one("mesh-shop-fleet", "GceGuard")
    unknown = {"out-gateway", "out-kubernetes"}
    known = {role: said for role, said in OTHERS_RULES.items() if role not in unknown}
    assert {role: said for role, said in guard.inputs["mustBeAllowed"].items() if role not in unknown} == known


def test_with_rules_of_its_own_a_stack_asks_nothing_of_others(world: World) -> None:
    assert world.one("mesh-shop-fleet", "GceGuard").value("mustBeAllowed") is None


def test_other_ways_out_are_denied_or_not_as_the_settings_say(world: World) -> None:
    assert "mesh-shop-fleet-deny" in world.names()
    open_ = stack(at("google/denyOtherEgress", False))
    assert not [name for name in open_.names() if name.endswith("-deny")]
    assert "mesh-shop-fleet-in-iap" not in world.names(), "nor does SSH come in where nobody asked for it"


def test_the_caller_s_values_of_the_gateway_s_service_count_over_ours() -> None:
    own = {"loadBalancerIP": "10.2.0.77", "annotations": {"a": "b"}}
    values = stack(at("gateway/values/service", own)).one("mesh-gateway-release").value("values")
    annotations = {**INTERNAL_GATEWAY, "a": "b"}
    assert values["service"] == {"loadBalancerIP": "10.2.0.77", "annotations": annotations}, (
        "nor is it of our subnetwork"
    )


def test_a_fleet_without_a_most_is_as_big_as_its_least() -> None:
    world = stack(at(FLEET, {"minSize": 3, "maxSurge": 3}))
    assert world.one("mesh-shop-fleet-group").value("targetSize") == 3
    policy = world.one("mesh-shop-fleet-autoscaler").value("autoscalingPolicy")
    assert (policy["minReplicas"], policy["maxReplicas"]) == (3, 3)


def test_fleets_of_these_settings_are_made_so() -> None:
    world = stack(
        at(
            FLEET,
            {"minSize": 3, "spot": True, "ssh": True, "zones": ["europe-west3-a"], "maxSurge": 1, "readySeconds": 60},
        )
    )
    group = world.one("mesh-shop-fleet-group")
    assert (group.value("targetSize"), group.value("distributionPolicyZones")) == (3, ["europe-west3-a"])
    assert (group.value("updatePolicy")["maxSurgeFixed"], group.value("updatePolicy")["minReadySec"]) == (1, 60)
    assert world.one("mesh-shop-fleet-template").value("scheduling")["provisioningModel"] == "SPOT"
    assert world.one("mesh-shop-fleet-in-iap").value("sourceRanges") == ["35.235.240.0/20"]


def test_a_fleet_s_scaling_and_limits_are_those_of_the_settings() -> None:
    given = {"minSize": 2, "maxSize": 5, "cpuTargetPercent": 45, "bootSeconds": 77, "updateSeconds": 99}
    world = stack(at(FLEET, given))
    policy = world.one("mesh-shop-fleet-autoscaler").value("autoscalingPolicy")
    assert policy == {
        "minReplicas": 2,
        "maxReplicas": 5,
        "cooldownPeriod": 77,
        "cpuUtilization": {"target": 0.45},
    }
    group = world.one("mesh-shop-fleet-group")
    assert group.value("autoHealingPolicies")["initialDelaySec"] == 77
    assert set(group.timeouts) == {"99s"}


def test_machines_are_of_the_hardware_of_the_settings() -> None:
    given = {
        "machineType": "n2-standard-4",
        "image": "projects/p/global/images/i",
        "diskGb": 33,
        "diskType": "pd-ssd",
        "publicAddress": True,
        "labels": {"team": "shop"},
    }
    world = stack(at(FLEET, given), at(INSTANCE, {"zone": "europe-west3-b", **given}))
    instance, template = world.one("mesh-shop-canary-instance"), world.one("mesh-shop-fleet-template")
    disk = instance.value("bootDisk")["initializeParams"]
    assert (instance.value("machineType"), disk["image"], disk["size"], disk["type"]) == (
        "n2-standard-4",
        "projects/p/global/images/i",
        33,
        "pd-ssd",
    )
    (disk,) = template.value("disks")
    assert (template.value("machineType"), disk["sourceImage"], disk["diskSizeGb"], disk["diskType"]) == (
        "n2-standard-4",
        "projects/p/global/images/i",
        33,
        "pd-ssd",
    )
    assert template.value("networkInterfaces")[0]["accessConfigs"] == [{"networkTier": "PREMIUM"}]
    assert template.value("labels") == disk["labels"] == {"team": "shop", "hybrid-mesh": "shop-fleet"}


def test_what_all_machines_carry_is_below_what_each_one_has() -> None:
    world = stack(
        at("google/labels", {"cost-center": "4711", "team": "platform"}),
        at("google/tags", ["through-proxy", "shop"]),
        at("google/metadata", {"enable-osconfig": "TRUE", "serial-port-logging-enable": "FALSE", "tier": "all"}),
        at(f"{FLEET}/tags", ["shop", "fleet"]),
        at(f"{FLEET}/metadata", {"tier": "own"}),
    )
    template, instance = world.one("mesh-shop-fleet-template"), world.one("mesh-shop-canary-instance")
    for made, name in ((template, "shop-fleet"), (instance, "shop-canary")):
        labels = {"cost-center": "4711", "team": "shop", "hybrid-mesh": name}
        assert made.value("labels") == labels
        disk = template.value("disks")[0] if made is template else instance.value("bootDisk")["initializeParams"]
        assert disk["labels"] == labels
    assert (template.value("tags"), instance.value("tags")) == (
        ["through-proxy", "shop", "fleet"],
        ["through-proxy", "shop"],
    )
    own = {key: value for key, value in template.value("metadata").items() if key != "startup-script"}
    assert own == {
        "enable-osconfig": "TRUE",
        "serial-port-logging-enable": "FALSE",
        "tier": "own",
        "block-project-ssh-keys": "TRUE",
    }
    assert instance.value("metadata")["tier"] == "all"
    address = world.one("mesh-google-gateway-address")
    assert address.value("labels") == {"cost-center": "4711", "team": "platform"}


def test_without_them_nothing_is_there_that_was_not_before(world: World) -> None:
    assert world.one("mesh-google-gateway-address").value("labels") is None
    assert world.one("mesh-shop-fleet-template").value("tags") is None
    assert world.one("mesh-shop-canary-instance").value("tags") is None


def test_disks_are_encrypted_by_the_key_that_is_named(world: World) -> None:
    key = "projects/my-keys/locations/europe-west3/keyRings/mesh/cryptoKeys/disks"
    named = stack(at("google/diskKey", key))
    assert named.one("mesh-shop-canary-instance").value("bootDisk")["kmsKeySelfLink"] == key
    [disk] = named.one("mesh-shop-fleet-template").value("disks")
    assert disk["diskEncryptionKey"] == {"kmsKeySelfLink": key}
    assert "kmsKeySelfLink" not in world.one("mesh-shop-canary-instance").value("bootDisk")
    assert "diskEncryptionKey" not in world.one("mesh-shop-fleet-template").value("disks")[0]


def test_all_rules_log_or_none_does(world: World) -> None:
    assert {rule.value("logConfig") for rule in world.of_type("Firewall")} == {None}
    logging = stack(at("google/firewallLogs", True)).of_type("Firewall")
    assert [rule.value("logConfig") for rule in logging] == [{"metadata": "INCLUDE_ALL_METADATA"}] * len(logging)


def test_machines_that_go_serve_on_as_long_as_the_settings_say() -> None:
    changed = stack(at("sidecar/upgrade", {"cutOffSeconds": 40}))
    for world, seconds in ((stack(), 15), (changed, 40)):
        script = world.one("mesh-shop-fleet-template").value("metadata")["startup-script"]
        assert f"cat >settings/deregister-seconds <<'-- end of hybrid-mesh --'\n{seconds}\n" in script


def test_who_may_read_metrics_is_one_list_for_google_s_firewall_and_the_machines_own() -> None:
    scrapers = ["10.9.0.0/24", "10.4.0.0/14", "2001:db8::/32"]
    world = stack(at("observability", {"image": "registry.example.com/metrics:1", "scrapers": scrapers}))
    for name in ("mesh-shop-fleet", "mesh-shop-canary"):
        rule = world.one(f"{name}-in-observers")
        assert rule.value("sourceRanges") == ["10.4.0.0/14", "10.9.0.0/24"], "each once, and no IPv6 among IPv4"
        assert rule.value("allows") == [{"protocol": "tcp", "ports": ["15020", "15021", "15090"]}]
    script = world.one("mesh-shop-fleet-template").value("metadata")["startup-script"]
    assert "cat >settings/scrapers <<'-- end of hybrid-mesh --'\n10.4.0.0/14 10.9.0.0/24\n" in script


def test_scrapers_alone_are_let_in_and_with_none_nobody_is() -> None:
    none = at("google/observers", ...)
    observability = {"image": "registry.example.com/metrics:1", "scrapers": ["10.9.0.0/24"]}
    assert stack(none, at("observability", observability)).one("mesh-shop-fleet-in-observers").value(
        "sourceRanges"
    ) == ["10.9.0.0/24"]
    closed = stack(none)
    assert "mesh-shop-fleet-in-observers" not in closed.names()
    assert "settings/scrapers" not in closed.one("mesh-shop-fleet-template").value("metadata")["startup-script"]


def test_the_agent_of_their_network_reads_metrics_too_and_no_other_one() -> None:
    def with_agent(address: str) -> Callable[[dict[str, Any]], None]:
        host = {"hostKey": "ssh-ed25519 AAAAB", "user": "root", "privateKey": KEY}
        agent = {"machine": "far-1", "package": {"url": "http://192.0.2.1/prometheus.tar.gz", "sha256": "ab" * 32}}

        def change(sections: dict[str, Any]) -> None:
            gateway = {"gw-1": {"ssh": {**host, "address": "10.2.0.20"}}}
            sections["networks"] = {"far": {"gateway": {"hosts": gateway}}}
            shop = sections["workloads"]["shop"]
            shop["network"] = "far"
            own = {"far-1": {"ssh": {**host, "address": "10.2.0.21"}, "meshAddress": address}}
            sections["workloads"]["batch"] = {"namespace": "batch", "network": "far", "machines": {"hosts": own}}
            near = {"shop-near": shop["machines"]["instances"].pop("shop-canary")}
            shop["machines"]["instances"]["shop-far"] = near["shop-near"]
            sections["workloads"]["near"] = {"namespace": "near", "machines": {"instances": near}}
            sections["observability"] = {
                "image": "registry.example.com/metrics:1",
                "scrapers": ["10.9.0.0/24"],
                "prometheus": {"image": "prometheus:1"},
                "agents": {"far": agent},
            }

        return change

    machines = ("shop-fleet", "shop-far", "shop-near")
    answers = {
        f"mesh-{name}-instance": {"networkInterfaces": [{"networkIp": address}]}
        for name, address in zip(machines[1:], ("10.2.0.19", "10.2.0.18"), strict=True)
    }
    world = stack(with_agent("10.2.0.21"), more=answers)
    ranges = {name: world.one(f"mesh-{name}-in-observers").value("sourceRanges") for name in machines}
    assert ranges == {
        "shop-fleet": ["10.4.0.0/14", "10.9.0.0/24", "10.2.0.21/32"],
        "shop-far": ["10.4.0.0/14", "10.9.0.0/24", "10.2.0.21/32"],
        "shop-near": ["10.4.0.0/14", "10.9.0.0/24"],
    }
    script = world.one("mesh-shop-fleet-template").value("metadata")["startup-script"]
    assert "\n10.4.0.0/14 10.9.0.0/24 10.2.0.21/32\n" in script
    with pytest.raises(ValueError, match=r"observability\.agents: .* 2001:db8::21, .* IPv4 alone"):
        stack(with_agent("2001:db8::21"), more=answers)


@pytest.mark.parametrize("preview", [False, True])
def test_fleets_and_instances_follow_the_revision_of_their_workload(preview: bool) -> None:
    def canary(sections: dict[str, Any]) -> None:
        own = {"meshConfig": {"defaultConfig": {"concurrency": 3}}}
        sections["controlPlane"]["revisions"] = {"canary": {"values": own}}
        sections["workloads"]["shop"]["machines"]["revision"] = "canary"

    world = stack(canary, preview=preview)
    for name, made in (("mesh-shop-fleet", "template"), ("mesh-shop-canary", "instance")):
        files = world.one(name, "SelfJoin").plain
        assert "discoveryAddress: istiod-canary.istio-system.svc:15012" in files["mesh.yaml"]
        assert "concurrency: 3" in files["mesh.yaml"]
        assert world.is_after(world.one(f"{name}-{made}"), world.one("mesh-revision-canary-istiod"))
        if not preview:  # the gateway's address is not known before
            assert files["hosts"].endswith(" istiod-canary.istio-system.svc\n")
            script = world.one(f"{name}-{made}").value("metadata")["startup-script"]
            assert "istiod.istio-system.svc" not in script


def test_stacks_elsewhere_do_not_load_google_s_package() -> None:
    code = "import sys, components.hybrid_mesh; sys.exit('pulumi_gcp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=False, timeout=60).returncode == 0


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(graph(stack()), indent=1) + "\n")
