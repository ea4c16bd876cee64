"""Fleets on Google Cloud: every resource that is registered for one, with its inputs."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pulumi
import pytest
from pulumi_gcp import compute

from components.gce_fleet import GceFleet, GceFleetArgs
from components.gce_guard import IAP_RANGE, Way, host_range, port_of, range_of
from components.gce_instance import GceInstance, GceInstanceArgs
from components.gce_machine import GceMachine, GcePlace
from components.proxy_choices import SidecarCapture, SidecarPackage
from components.self_join import ApiServer, SelfJoin, SelfJoinArgs
from tests.components.harness import World, run

GROUP: dict[str, Any] = {
    "metadata": {"name": "echo", "namespace": "demo"},
    "spec": {
        "metadata": {"labels": {"app": "echo", "version": "vm"}},
        "template": {"serviceAccount": "echo", "network": "vpc", "ports": {"http": 8080}},
    },
}
JOIN = SelfJoinArgs(
    machines="echo-fleet",
    api_server=ApiServer(url="https://10.1.0.2", certificate_authorities="KUBERNETES-CA\n"),
    cluster_name="gke",
    istio_namespace="istio-system",
    revision="default",
    mesh_config="trustDomain: cluster.local\n",
    root_certificate="ROOT\n",
    gateway_address="10.2.0.9",
    group=GROUP,
    service_account="echo",
    identity="spiffe://cluster.local/ns/demo/sa/echo",
    package=SidecarPackage(url="https://mirror.example/istio.deb", sha256="ab" * 32, version="1.31.0"),
    app_units=["echo.service"],
)
PLACE = GcePlace(
    project="my-project",
    region="europe-west3",
    network="vpc",
    subnetwork="machines",
    clients=["10.4.0.0/14"],
    observers=["10.4.0.0/14"],
    ways=[Way(name="pods", ranges=["10.4.0.0/14"]), Way(name="mirror", ranges=["199.36.153.8/30"], ports=[443])],
)
ARGS = GceFleetArgs(
    fleet="echo-fleet",
    place=PLACE,
    machine=GceMachine(labels={"team": "shop"}),
    min_size=2,
    max_size=6,
    app_ports=[8080],
    join=JOIN,
)
EMAIL = "echo-fleet@my-project.iam.gserviceaccount.com"
ANSWERS = {
    "echo-fleet-account": {"email": EMAIL, "uniqueId": "1234567890"},
    "echo-fleet-template": {"selfLinkUnique": "global/instanceTemplates/echo-fleet-1?uniqueId=1"},
}


def fleet(args: GceFleetArgs = ARGS, *, preview: bool = False, first: bool = True) -> World:
    def program() -> pulumi.Output[str]:
        return GceFleet("echo-fleet", args).service_account

    return run(program, preview=preview, first=first, answers={} if preview and first else ANSWERS)


@pytest.fixture(scope="module")
def world() -> World:
    return fleet()


@pytest.mark.parametrize("preview", [True, False])
def test_it_registers_these_resources_and_no_other(preview: bool) -> None:
    found = {(r.type, r.name) for r in fleet(preview=preview).found if r.type != "pulumi:pulumi:Stack"}
    firewall = "gcp:compute/firewall:Firewall"
    assert found == {
        ("hybridmesh:gce_fleet:GceFleet", "echo-fleet"),
        ("hybridmesh:gce_guard:GceGuard", "echo-fleet"),
        ("hybridmesh:self_join:SelfJoin", "echo-fleet"),
        ("gcp:serviceaccount/account:Account", "echo-fleet-account"),
        (firewall, "echo-fleet-in-app"),
        (firewall, "echo-fleet-in-observers"),
        (firewall, "echo-fleet-in-health"),
        (firewall, "echo-fleet-out-gateway"),
        (firewall, "echo-fleet-out-kubernetes"),
        (firewall, "echo-fleet-out-pods"),
        (firewall, "echo-fleet-out-mirror"),
        (firewall, "echo-fleet-deny"),
        ("kubernetes:rbac.authorization.k8s.io/v1:Role", "echo-fleet-role"),
        ("kubernetes:rbac.authorization.k8s.io/v1:RoleBinding", "echo-fleet-role-binding"),
        ("gcp:compute/instanceTemplate:InstanceTemplate", "echo-fleet-template"),
        ("gcp:compute/healthCheck:HealthCheck", "echo-fleet-health"),
        ("gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager", "echo-fleet-group"),
        ("gcp:compute/regionAutoscaler:RegionAutoscaler", "echo-fleet-autoscaler"),
    }


def test_its_account_is_a_name_without_a_role(world: World) -> None:
    account = world.one("echo-fleet-account")
    assert (account.value("accountId"), account.value("project")) == ("echo-fleet", "my-project")
    assert not world.of_type("iam")


@pytest.mark.parametrize(
    ("rule", "direction", "ranges", "allowed"),
    [
        ("in-app", "INGRESS", ["10.4.0.0/14"], {"protocol": "tcp", "ports": ["8080"]}),
        ("in-observers", "INGRESS", ["10.4.0.0/14"], {"protocol": "tcp", "ports": ["15020", "15021", "15090"]}),
        ("in-health", "INGRESS", ["35.191.0.0/16", "130.211.0.0/22"], {"protocol": "tcp", "ports": ["15021"]}),
        ("out-gateway", "EGRESS", ["10.2.0.9/32"], {"protocol": "tcp", "ports": ["15012", "15443"]}),
        ("out-kubernetes", "EGRESS", ["10.1.0.2/32"], {"protocol": "tcp", "ports": ["443"]}),
        ("out-pods", "EGRESS", ["10.4.0.0/14"], {"protocol": "all"}),
        ("out-mirror", "EGRESS", ["199.36.153.8/30"], {"protocol": "tcp", "ports": ["443"]}),
    ],
)
def test_a_rule_lets_through_what_is_needed(
    world: World, rule: str, direction: str, ranges: list[str], allowed: dict[str, Any]
) -> None:
    found = world.one(f"echo-fleet-{rule}")
    key = "sourceRanges" if direction == "INGRESS" else "destinationRanges"
    other = "destinationRanges" if direction == "INGRESS" else "sourceRanges"
    assert found.value("direction") == direction
    assert (found.value(key), found.value(other)) == (ranges, None)
    assert found.value("allows") == [allowed]
    assert found.value("denies") is None
    assert found.value("priority") == 1000
    assert found.value("targetServiceAccounts") == [EMAIL]
    assert (found.value("name"), found.value("network")) == (f"echo-fleet-{rule}", "vpc")


def test_where_nobody_is_named_nobody_is_let_in() -> None:
    """Google takes a rule without sources for one of all sources."""
    alone = fleet(replace(ARGS, place=replace(PLACE, clients=[], observers=[])))
    incoming = [r for r in alone.of_type("Firewall") if r.value("direction") == "INGRESS"]
    assert [r.name for r in incoming] == ["echo-fleet-in-health"]
    assert "echo-fleet-in-app" not in fleet(replace(ARGS, app_ports=[])).names()


def test_all_else_that_goes_out_is_denied_unless_that_is_not_wanted(world: World) -> None:
    deny = world.one("echo-fleet-deny")
    assert (deny.value("direction"), deny.value("destinationRanges")) == ("EGRESS", ["0.0.0.0/0"])
    assert (deny.value("denies"), deny.value("priority")) == ([{"protocol": "all"}], 65000)
    assert deny.value("targetServiceAccounts") == [EMAIL]
    assert "echo-fleet-deny" not in fleet(replace(ARGS, place=replace(PLACE, deny_other_egress=False))).names()


def test_ssh_comes_in_through_identity_aware_proxy_or_not_at_all(world: World) -> None:
    assert not any(
        "22" in a["ports"] for f in world.of_type("Firewall") for a in f.value("allows") or [] if "ports" in a
    )
    open_ = fleet(replace(ARGS, ssh=True))
    rule = open_.one("echo-fleet-in-iap")
    assert (rule.value("sourceRanges"), rule.value("allows")) == ([IAP_RANGE], [{"protocol": "tcp", "ports": ["22"]}])
    assert IAP_RANGE == "35.235.240.0/20"
    assert open_.one("echo-fleet-template").value("metadata")["enable-oslogin"] == "TRUE"


def test_its_account_may_ask_for_one_token_and_nothing_else(world: World) -> None:
    role, binding = world.one("echo-fleet-role"), world.one("echo-fleet-role-binding")
    assert role.value("rules") == [
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["echo"], "verbs": ["create"]}
    ]
    assert (
        role.value("metadata") == binding.value("metadata") == {"name": "hybrid-mesh-echo-fleet", "namespace": "demo"}
    )
    assert [(s["kind"], s["name"]) for s in binding.value("subjects")] == [("User", EMAIL), ("User", "1234567890")]
    assert binding.value("roleRef")["name"] == "hybrid-mesh-echo-fleet"
    assert len(world.of_type("rbac")) == 2


def test_the_template_is_shielded_private_and_labelled(world: World) -> None:
    template = world.one("echo-fleet-template")
    assert template.value("shieldedInstanceConfig") == {
        "enableSecureBoot": True,
        "enableVtpm": True,
        "enableIntegrityMonitoring": True,
    }
    assert template.value("networkInterfaces") == [{"subnetwork": "machines", "subnetworkProject": "my-project"}]
    assert template.value("labels") == {"team": "shop", "hybrid-mesh": "echo-fleet"}
    assert template.value("machineType") == "e2-small"
    [disk] = template.value("disks")
    assert (disk["boot"], disk["autoDelete"], disk["diskSizeGb"]) == (True, True, 10)
    assert disk["sourceImage"] == "projects/debian-cloud/global/images/family/debian-12"
    assert template.value("serviceAccount")["email"] == EMAIL
    assert len(template.value("serviceAccount")["scopes"]) == 2
    assert (template.value("namePrefix"), template.value("region")) == ("echo-fleet-", "europe-west3")
    assert template.value("scheduling") is None
    said = {key: value for key, value in template.value("metadata").items() if key != "startup-script"}
    assert said == {"block-project-ssh-keys": "TRUE", "serial-port-logging-enable": "TRUE"}


def test_a_subnetwork_by_its_link_says_its_own_project() -> None:
    link = "projects/host/regions/europe-west3/subnetworks/machines"
    template = fleet(replace(ARGS, place=replace(PLACE, subnetwork=link))).one("echo-fleet-template")
    assert template.value("networkInterfaces") == [{"subnetwork": link}]


def test_an_instance_that_is_joined_over_ssh_has_no_right_and_no_script() -> None:
    args = GceInstanceArgs(
        instance="echo-one", place=PLACE, zone="europe-west3-a", ssh=True, gateway_address="10.2.0.9", app_ports=(8080,)
    )
    answers = {"echo-one-instance": {"networkInterfaces": [{"networkIp": "10.2.0.17"}]}}
    addresses: list[str] = []
    world = run(lambda: GceInstance("echo-one", args).address.apply(addresses.append), answers=answers)
    assert addresses == ["10.2.0.17"]
    one = world.one("echo-one-instance")
    assert one.ignore_changes == ("bootDisk.initializeParams.image",), "an image's next version would replace it"
    assert not world.of_type("rbac")
    assert set(world.one("echo-one-instance").value("metadata")) == {
        "block-project-ssh-keys",
        "enable-oslogin",
        "serial-port-logging-enable",
    }
    assert "echo-one-out-kubernetes" not in world.names()
    assert world.one("echo-one-in-iap").value("sourceRanges") == [IAP_RANGE]


def test_a_public_address_and_spot_machines_are_there_if_asked_for() -> None:
    template = fleet(replace(ARGS, machine=GceMachine(public_address=True, spot=True))).one("echo-fleet-template")
    assert template.value("networkInterfaces")[0]["accessConfigs"] == [{"networkTier": "PREMIUM"}]
    assert template.value("scheduling")["provisioningModel"] == "SPOT"


def test_the_startup_script_carries_all_files_and_nothing_secret(world: World) -> None:
    template = world.one("echo-fleet-template")
    assert "[secret]" not in str(template.plain)
    script = template.value("metadata")["startup-script"]
    for line in (
        "ISTIO_META_AUTO_REGISTER_GROUP='echo'",
        "10.2.0.9 istiod.istio-system.svc",
        "KUBERNETES-CA",
        "ROOT",
        "https://10.1.0.2",
        "demo/echo",
        "ISTIO_SERVICE_EXCLUDE_CIDR='169.254.169.254/32'",
        "Metadata-Flavor: Google",
    ):
        assert f"\n{line}\n" in script, line
    assert "ISTIO_SVC_IP" not in script.split("base64")[0]
    assert not re.search(r"eyJ[\w-]+\.eyJ", script)


def test_what_is_kept_from_the_proxy_adds_to_the_metadata_server() -> None:
    join = replace(JOIN, capture=SidecarCapture(exclude_outbound_cidrs=["192.0.2.0/24"]))
    script = fleet(replace(ARGS, join=join)).one("echo-fleet-template").value("metadata")["startup-script"]
    assert "ISTIO_SERVICE_EXCLUDE_CIDR='192.0.2.0/24,169.254.169.254/32'\n" in script


def shown(**changes: Any) -> dict[str, Any]:
    """What a preview shows of machines that join by themselves."""
    join = replace(JOIN, accounts=[EMAIL], **changes)
    plain: dict[str, Any] = run(lambda: SelfJoin("echo-fleet", join).startup_script).one("echo-fleet", "SelfJoin").plain
    return plain


def test_proxies_are_told_what_they_are_told_of_machines_that_somebody_logs_in_to() -> None:
    def lines(**changes: Any) -> set[str]:
        return set(shown(**changes)["cluster.env"].splitlines())

    listed = SidecarCapture(inbound_ports=[8080, 9100], exclude_inbound_ports=[9100], exclude_outbound_ports=[5432])
    assert lines(capture=listed) >= {"ISTIO_INBOUND_PORTS='8080'", "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE='5432'"}
    everything = SidecarCapture(all_inbound_ports=True, exclude_inbound_ports=[9100])
    assert lines(capture=everything) >= {
        "ISTIO_INBOUND_PORTS='*'",
        "ISTIO_LOCAL_EXCLUDE_PORTS='22,15090,15021,15020,9100'",
    }
    assert "ISTIO_AGENT_FLAGS='--proxyLogLevel=debug'" in lines(log_level="debug")
    assert "ISTIO_META_DNS_CAPTURE='true'" in lines()
    assert not {line for line in lines(dns_capture=False) if "DNS_CAPTURE" in line}
    assert lines() >= {"ISTIO_META_CLUSTER_ID='gke'", "ISTIO_META_AUTO_REGISTER_GROUP='echo'"}


def test_a_revision_s_istiod_in_another_namespace_is_the_one_that_they_ask() -> None:
    files = shown(revision="canary", istio_namespace="mesh")
    assert files["hosts"] == "10.2.0.9 istiod-canary.mesh.svc\n"
    assert "CA_ADDR='istiod-canary.mesh.svc:15012'" in files["cluster.env"].splitlines()
    assert "discoveryAddress: istiod-canary.mesh.svc:15012" in files["mesh.yaml"]


def test_what_they_install_and_whom_they_ask_as_whom_is_shown_beside_the_files() -> None:
    assert {name: value for name, value in shown().items() if name in ("package", "serviceAccount", "apiServer")} == {
        "package": f"https://mirror.example/istio.deb 1.31.0 sha256:{'ab' * 32}",
        "serviceAccount": "echo",
        "apiServer": "https://10.1.0.2",
    }


def test_the_agent_s_ports_are_those_that_the_machines_firewall_and_scripts_know() -> None:
    files = shown(mesh_config="defaultConfig: {statusPort: 15030, proxyAdminPort: 15100}\n")
    assert "15030" not in files["cluster.env"] + files["mesh.yaml"]
    assert "15100" not in files["mesh.yaml"]


def test_each_file_is_shown_as_a_property_of_its_own_and_one_unknown_hides_no_other() -> None:
    def program() -> object:
        reserved = compute.Address("gateway", project="my-project", region="europe-west3")
        return SelfJoin("echo-fleet", replace(JOIN, accounts=[EMAIL], gateway_address=reserved.address)).startup_script

    inputs = run(program, preview=True).one("echo-fleet", "SelfJoin").inputs
    assert {"cluster.env", "mesh.yaml", "root-cert.pem", "kubernetes-ca.pem"} <= inputs.keys()
    assert not isinstance(inputs.get("hosts"), str), "the address is not reserved yet"
    assert inputs["cluster.env"].endswith("TRUST_DOMAIN='cluster.local'\n")


def test_the_group_heals_by_readiness_and_rolls_with_a_surge(world: World) -> None:
    group, check = world.one("echo-fleet-group"), world.one("echo-fleet-health")
    assert check.value("httpHealthCheck") == {"port": 15021, "requestPath": "/healthz/ready"}
    assert group.value("autoHealingPolicies") == {"healthCheck": "echo-fleet-health-id", "initialDelaySec": 180}
    assert group.value("updatePolicy") == {
        "type": "PROACTIVE",
        "minimalAction": "REPLACE",
        "replacementMethod": "SUBSTITUTE",
        "maxSurgeFixed": 3,
        "maxUnavailableFixed": 0,
        "minReadySec": 15,
    }
    assert group.value("versions") == [{"instanceTemplate": ANSWERS["echo-fleet-template"]["selfLinkUnique"]}]
    assert (group.value("waitForInstances"), group.value("waitForInstancesStatus")) == (True, "UPDATED")
    assert (group.value("baseInstanceName"), group.value("region")) == ("echo-fleet", "europe-west3")
    assert group.value("distributionPolicyZones") is None
    zones = ["europe-west3-a", "europe-west3-b"]
    assert fleet(replace(ARGS, zones=zones)).one("echo-fleet-group").value("distributionPolicyZones") == zones


@pytest.mark.parametrize("most", [6, 2])
def test_the_size_is_the_autoscaler_s_also_where_it_is_fixed(most: int) -> None:
    world = fleet(replace(ARGS, max_size=most))
    scaler, group = world.one("echo-fleet-autoscaler"), world.one("echo-fleet-group")
    assert scaler.value("autoscalingPolicy") == {
        "minReplicas": 2,
        "maxReplicas": most,
        "cooldownPeriod": 180,
        "cpuUtilization": {"target": 0.6},
    }
    assert scaler.value("target") == "echo-fleet-group-id"
    assert group.value("targetSize") == 2, "`up` waits for as many at first"
    assert group.ignore_changes == ("targetSize",), "and leaves the size to the autoscaler afterwards"


def test_the_autoscaler_goes_before_its_group_where_that_is_replaced(world: World) -> None:
    """The engine removes first what hangs on a replaced resource by an input whose change replaces it too."""
    scaler = world.one("echo-fleet-autoscaler")
    assert scaler.replace_on_changes == ("target",)
    assert world.one("echo-fleet-group").urn in scaler.depends_on


def test_machines_are_made_once_they_would_be_let_in_and_go_before_their_right_does(world: World) -> None:
    template, group = world.one("echo-fleet-template"), world.one("echo-fleet-group")
    assert world.is_after(template, world.one("echo-fleet-role-binding"))
    assert world.is_after(group, template)
    rules = world.of_type("Firewall")
    assert len(rules) == 8
    assert all(world.is_after(template, rule) for rule in rules)
    assert not {rule.urn for rule in rules} & template.by_input, "a rule that is replaced would remove it while in use"


def test_an_instance_comes_after_its_rules_and_its_right_and_goes_before_them() -> None:
    args = GceInstanceArgs(
        instance="echo-one",
        place=PLACE,
        zone="europe-west3-a",
        gateway_address="10.2.0.9",
        app_ports=(8080,),
        join=JOIN,
    )
    answers = {"echo-one-instance": {"networkInterfaces": [{"networkIp": "10.2.0.17"}]}}
    world = run(lambda: GceInstance("echo-one", args).address, answers=answers)
    instance = world.one("echo-one-instance")
    rules = world.of_type("Firewall")
    assert len(rules) == 8
    assert all(world.is_after(instance, earlier) for earlier in [*rules, world.one("echo-one-role-binding")])


@pytest.mark.parametrize(
    ("image", "ignored"),
    [
        ("projects/p/global/images/family/shop", True),
        ("https://www.googleapis.com/compute/v1/projects/p/global/images/family/shop", True),
        ("debian-cloud/debian-12", True),
        ("projects/p/global/images/shop-7", False),
        ("https://www.googleapis.com/compute/v1/projects/p/global/images/shop-7", False),
    ],
)
def test_an_instance_stays_with_the_image_of_a_family_and_follows_one_that_is_named(image: str, ignored: bool) -> None:
    machine = GceMachine(image=image)
    args = GceInstanceArgs(
        instance="echo-one", place=PLACE, zone="europe-west3-a", machine=machine, gateway_address="10.2.0.9"
    )
    answers = {"echo-one-instance": {"networkInterfaces": [{"networkIp": "10.2.0.17"}]}}
    instance = run(lambda: GceInstance("echo-one", args).address, answers=answers).one("echo-one-instance")
    assert instance.ignore_changes == (("bootDisk.initializeParams.image",) if ignored else ())


def test_changed_files_make_another_template_and_the_group_follows() -> None:
    scripts = [
        fleet(replace(ARGS, join=replace(JOIN, root_certificate=pem))).one("echo-fleet-template").value("metadata")
        for pem in ("ROOT\n", "OTHER\n")
    ]
    assert scripts[0] != scripts[1]


@pytest.mark.parametrize(
    ("address", "expected"),
    [("10.0.0.1", "10.0.0.1/32"), ("2001:db8::1", "2001:db8::1/128"), ("gateway.example.com", "0.0.0.0/0")],
)
def test_the_range_of_an_address(address: str, expected: str) -> None:
    assert range_of(address) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://10.1.0.2", ("10.1.0.2/32", 443)),
        ("https://10.1.0.2:6443/", ("10.1.0.2/32", 6443)),
        ("https://gke-1.gke.goog", ("0.0.0.0/0", 443)),
        ("https://[2001:db8::1]:6443", ("2001:db8::1/128", 6443)),
    ],
)
def test_where_an_api_server_is(url: str, expected: tuple[str, int]) -> None:
    assert (host_range(url), port_of(url)) == expected
