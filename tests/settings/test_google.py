"""Settings of Google Cloud: the committed example fits, and every rule is broken once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridmesh.settings import Finding, Settings, SettingsError, parse
from hybridmesh.settings.google_checks import account_of, project_of_account
from tests.components.harness import gcp_sections
from tests.istio.test_inputs import certificate
from tests.settings.test_rules import at, both

FILES = {"kubeconfig.gcp": "apiVersion: v1\n", "istio-sidecar.sha256": "cd" * 32}
FLEET = "workloads/shop/machines/fleets/shop-fleet"
INSTANCE = "workloads/shop/machines/instances/shop-canary"
PEM, PEM_KEY = certificate()
SHARED = {"stack": "my-org/network/prod"}
HOST = {"ssh": {"address": "192.0.2.11", "hostKey": "ssh-ed25519 A", "agent": True}}


def gcp_settings(*changes: Callable[[dict[str, Any]], object]) -> Settings:
    sections = gcp_sections()
    for change in changes:
        change(sections)
    return parse(sections, FILES.__getitem__)


def findings(*changes: Callable[[dict[str, Any]], object]) -> list[Finding]:
    try:
        gcp_settings(*changes)
    except SettingsError as error:
        return list(error.findings)
    return []


def key(location: str) -> str:
    return f"projects/my-keys/locations/{location}/keyRings/mesh/cryptoKeys/disks"


def api_server(*, url: str = "https://10.0.0.2", ca: str = PEM) -> Callable[[dict[str, Any]], object]:
    return at("google/apiServer", {"url": url, "certificateAuthority": ca})


def test_the_committed_example_is_right_as_it_is() -> None:
    settings = gcp_settings()
    machines = settings.workloads["shop"].machines
    assert machines is not None
    assert machines.fleets["shop-fleet"].max_size == 6
    assert settings.google is not None
    assert settings.google.gke is not None


@pytest.mark.parametrize(
    ("change", "path", "problem"),
    [
        (at("google/project", "My Project"), "google.project", "project's id"),
        (at("google/project", "short"), "google.project", "project's id"),
        (at("google/region", "europe-west3-a"), "google.region", "region such as"),
        (at("google/region", "Frankfurt"), "google.region", "region such as"),
        (at("google/network", "Mesh"), "google.network", "self link"),
        (at("google/network", ...), "google.network", "is missing"),
        (at("google/subnetwork", ...), "google.subnetwork", "is missing"),
        (at("google/gke", ...), "google.gke", "is missing, as is `apiServer`"),
        (at("google/gke/location", "somewhere"), "google.gke.location", "a region or a zone"),
        (api_server(url="http://x"), "google.apiServer.url", "https://"),
        (api_server(), "google.gke", "gke and apiServer"),
        (api_server(url="https://10.0.0.2:99999"), "google.apiServer.url", "an address such as"),
        (api_server(url="https://10.0.0.2:port"), "google.apiServer.url", "an address such as"),
        (api_server(url="https://10.0.0.2/"), "google.apiServer.url", "an address such as"),
        (api_server(url="https://10.0.0.256"), "google.apiServer.url", "an address such as"),
        (api_server(url="https://[2001:db8::1]:6443"), "google.apiServer.url", "of a name or IPv4"),
        (api_server(url="10.0.0.2"), "google.apiServer.url", "an address such as"),
        (api_server(ca="LS0tLS1CRUdJTg=="), "google.apiServer.certificateAuthority", "not a certificate in PEM form"),
        (api_server(ca=f"{PEM}{PEM_KEY}"), "google.apiServer.certificateAuthority", "holds a private key"),
        (at("google/clients", ["10.4.0.1/14"]), "google.clients[0]", "host bits set"),
        (at("google/observers", ["pods"]), "google.observers[0]", "IPv4 or IPv6"),
        (at("google/observers", ["10.4.0.0/14", "0.0.0.0/0"]), "google.observers[1]", "is every address there is"),
        (at("google/clients", ["10.4.0.0/14", "2001:db8::/32"]), "google.clients[1]", "is an IPv6 range"),
        (at("google/observers", ["2001:db8::/32"]), "google.observers[0]", "is an IPv6 range"),
        (at("google/egress/0/ranges", ["2001:db8::/32"]), "google.egress[0].ranges[0]", "is an IPv6 range"),
        (at("google/egress/0/ranges", []), "google.egress[0].ranges", "at least 1 item"),
        (at("google/egress/0/name", "gateway"), "google.egress[0].name", "a rule that all machines have"),
        (at("google/egress/2/name", "kubernetes"), "google.egress[2].name", "a rule that all machines have"),
        (at("google/egress/2/name", "pods"), "google.egress[2].name", "is the name of `google.egress[0]` too"),
        (at("google/egress/0/name", "p" * 48), "google.egress[0].name", "the firewall rule of `shop-canary` would be"),
        (at("google/egress/0/ports", [0]), "google.egress[0].ports[0]", "greater than or equal to 1"),
        (at("google", ...), "google", "is missing, and `workloads.shop.machines.fleets.shop-fleet` is made there"),
        (at("google/sharedStack", {**SHARED, "network": "n"}), "google.network", "given twice"),
        (
            at("google/sharedStack", {**SHARED, "apiServer": "a"}),
            "google.sharedStack",
            "one of `apiServer` and `certificateAuthority`",
        ),
        (at(f"{FLEET}/machineType", "large"), f"{FLEET}/machineType", "machine type"),
        (at(f"{FLEET}/machineType", "e2_small"), f"{FLEET}/machineType", "machine type"),
        (at(f"{FLEET}/image", "debian 12"), f"{FLEET}/image", "an image such as"),
        (at(f"{FLEET}/image", "my-project/global/images/family/shop"), f"{FLEET}/image", "an image such as"),
        (at(f"{FLEET}/image", "debian-cloud/family/debian-12"), f"{FLEET}/image", "an image such as"),
        (at(f"{FLEET}/image", "projects/my-project/shop"), f"{FLEET}/image", "an image such as"),
        (at(f"{FLEET}/minSize", 0), f"{FLEET}/minSize", "greater than or equal to 1"),
        (at(f"{FLEET}/maxSize", 1), f"{FLEET}/maxSize", "is less than `minSize`, 2"),
        (at("google/clients", ["0.0.0.0/33"]), "google.clients[0]", "IPv4 or IPv6"),
        (at("google/egress/0/name", "Pods!"), "google.egress[0].name", "RFC 1123 label"),
        (at("google/gke/name", ...), "google.gke.name", "missing"),
        (at("google/firewall", "adopt"), "google.firewall", "'make' or 'existing'"),
        (at("google/denyOtherEgress", "perhaps"), "google.denyOtherEgress", "boolean"),
        (at(f"{FLEET}/bootSeconds", 0), f"{FLEET}/bootSeconds", "greater than or equal to 1"),
        (at(f"{FLEET}/updateSeconds", 90_000), f"{FLEET}/updateSeconds", "less than or equal to 86400"),
        (at(f"{FLEET}/spot", "perhaps"), f"{FLEET}/spot", "boolean"),
        (at(f"{FLEET}/publicAddress", "perhaps"), f"{FLEET}/publicAddress", "boolean"),
        (at(f"{FLEET}/diskType", ""), f"{FLEET}/diskType", "RFC 1123 label"),
        (at(f"{FLEET}/minsize", 2), f"{FLEET}/minsize", "is not a setting"),
        (at(f"{INSTANCE}/zone", ...), f"{INSTANCE}/zone", "missing"),
        (at(f"{INSTANCE}/protect", "perhaps"), f"{INSTANCE}/protect", "boolean"),
        (at(f"{FLEET}/readySeconds", 3601), f"{FLEET}/readySeconds", "less than or equal to 3600"),
        (
            both(at(f"{FLEET}/zones", [f"europe-west3-{z}" for z in "abcd"]), at(f"{FLEET}/maxSurge", 3)),
            f"{FLEET}/maxSurge",
            "is less than the number of zones, 4",
        ),
        (at(f"{FLEET}/maxSurge", 2), f"{FLEET}/maxSurge", "is less than the number of zones, 3"),
        (at(f"{FLEET}/zones", ["europe-west3"]), f"{FLEET}/zones[0]", "a zone such as"),
        (at(f"{FLEET}/zones", ["europe-west1-b"]), f"{FLEET}/zones[0]", "not a zone of `google.region`"),
        (at(f"{FLEET}/diskGb", 5), f"{FLEET}/diskGb", "greater than or equal to 10"),
        (at(f"{FLEET}/cpuTargetPercent", 0), f"{FLEET}/cpuTargetPercent", "greater than or equal to 1"),
        (at(f"{FLEET}/labels", {"team": "Shop"}), f"{FLEET}/labels.team", "not a label of Google Cloud"),
        (at(f"{FLEET}/labels", {"1st": "shop"}), f"{FLEET}/labels.1st", "does not begin with a letter"),
        (at(f"{FLEET}/labels", {"goog-team": "shop"}), f"{FLEET}/labels.goog-team", "reserved for Google's own"),
        (at(f"{FLEET}/labels", {"hybrid-mesh": "shop"}), f"{FLEET}/labels.hybrid-mesh", "is set by the stack itself"),
        (
            at(f"{FLEET}/serviceAccount", "123-compute@developer.gserviceaccount.com"),
            f"{FLEET}/serviceAccount",
            "default one is every machine's of the project",
        ),
        (at(f"{FLEET}/serviceAccount", "shop"), f"{FLEET}/serviceAccount", "a service account's e-mail"),
        (
            at(f"{FLEET}/serviceAccount", "shop-canary@my-project.iam.gserviceaccount.com"),
            f"{FLEET}/serviceAccount",
            "is the service account of `workloads.shop.machines.instances.shop-canary` too",
        ),
        (at(f"{FLEET}/bootSeconds", 3601), f"{FLEET}/bootSeconds", "less than or equal to 3600"),
        (at("google/network", "projects/p/regions/r/subnetworks/s"), "google.network", "else than a network"),
        (
            at("google/subnetwork", "projects/my-host/regions/europe-west3/subnetworks/s"),
            "google.subnetwork",
            "is a subnetwork of project my-host, and the network is one of my-project",
        ),
        (at("google/subnetwork", "projects/p/global/networks/n"), "google.subnetwork", "else than a subnetwork"),
        (
            at("google/subnetwork", "projects/p/regions/europe-west1/subnetworks/s"),
            "google.subnetwork",
            "else than a subnetwork in `google.region`, europe-west3",
        ),
        (at("google/diskKey", "disks"), "google.diskKey", "not a key such as"),
        (at("google/diskKey", f"{key('europe-west3')}/cryptoKeyVersions/1"), "google.diskKey", "without version"),
        (at("google/diskKey", key("europe-west1")), "google.diskKey", "is a key of europe-west1, and the disks are in"),
        (
            both(at("google/firewall", "existing"), at("google/firewallLogs", True)),
            "google.firewallLogs",
            "is for rules that the stack makes",
        ),
        (at("google/labels", {"Team": "shop"}), "google.labels.Team", "not a label of Google Cloud"),
        (at("google/labels", {"hybrid-mesh": "shop"}), "google.labels.hybrid-mesh", "is set by the stack itself"),
        (at("google/tags", ["Proxy"]), "google.tags[0]", "not a network tag"),
        (at(f"{FLEET}/tags", ["a_b"]), f"{FLEET}/tags[0]", "not a network tag"),
        (
            at("google/metadata", {"enable osconfig": "TRUE"}),
            "google.metadata.enable osconfig",
            "not a key of metadata",
        ),
        (at("google/metadata", {"enable-osconfig": True}), "google.metadata.enable-osconfig", "valid string"),
        (at("google/metadata", {"ssh-keys": "a:ssh-rsa A"}), "google.metadata.ssh-keys", "whoever has such a key"),
        (at(f"{FLEET}/metadata", {"startup-script": "x"}), f"{FLEET}/metadata.startup-script", "by the stack itself"),
        (
            both(at("google/metadata", {"enable-oslogin": "FALSE"}), at(f"{INSTANCE}/ssh", True)),
            f"{INSTANCE}/ssh",
            "needs OS Login, and `metadata` has `enable-oslogin: FALSE`",
        ),
        (at(f"{FLEET}/labels", {"Team": "shop"}), f"{FLEET}/labels.Team", "not a label of Google Cloud"),
        (at("workloads/shop/ports/0/targetPort", 22), "workloads/shop/ports[0].port", "sshd's on machines of Google"),
        (
            at("workloads/shop/probe/initialDelaySeconds", 120),
            "workloads/shop/probe",
            "the earliest that it can find a VM healthy",
        ),
        (
            at("workloads/shop/machines/hosts", {"shop-fleet": HOST}),
            f"{FLEET}",
            "is the name of a host too",
        ),
        (at("workloads/shop/machines/fleets", {"shop": {}}), "workloads/shop/machines/fleets.shop", "6 to 27"),
        (at(f"{INSTANCE}/zone", "europe-west1-b"), f"{INSTANCE}/zone", "not a zone of `google.region`"),
        (
            at("workloads/shop/machines/instances", {"shop-fleet": {"zone": "europe-west3-a"}}),
            "workloads/shop/machines/instances/shop-fleet",
            "is the name of workloads.shop.machines.fleets.shop-fleet too",
        ),
    ],
)
def test_a_broken_rule_is_found_alone_and_says_what_to_do(
    change: Callable[[dict[str, Any]], object], path: str, problem: str
) -> None:
    found = findings(change)
    assert [finding.path for finding in found] == [path.replace("/", ".")], found
    assert problem in found[0].problem
    assert found[0].consequence
    assert found[0].fix


@pytest.mark.parametrize(("spot", "cut_off", "whose"), [(True, 26, "a Spot machine"), (False, 86, "a machine such as")])
def test_a_machine_that_goes_has_the_time_that_google_gives_it(spot: bool, cut_off: int, whose: str) -> None:
    def seconds(upgrade: int) -> list[Finding]:
        return findings(at(f"{FLEET}/spot", spot), at("sidecar/upgrade", {"cutOffSeconds": upgrade}))

    assert seconds(cut_off - 1) == [], "and 5 to drain"
    assert seconds(11) == []
    [found] = seconds(10)
    assert "is less than 11" in found.problem
    [found] = seconds(cut_off)
    assert found.path == "sidecar.upgrade.cutOffSeconds"
    assert whose in found.problem
    assert "`sidecar.timeouts.drainSeconds`, 5" in found.problem


def test_machines_that_join_by_themselves_follow_an_istiod_that_their_sidecar_goes_with() -> None:
    older = at("controlPlane/revisions", {"v1-30": {"version": "1.30.2"}})
    moved = at("workloads/shop/machines/revision", "v1-30")
    assert findings(older) == []
    for without, follower in ((FLEET, "instances.shop-canary"), (INSTANCE, "fleets.shop-fleet")):
        (found,) = findings(older, moved, at(without, ...))
        assert found.path == "sidecar.package.version"
        assert f"istiod 1.30.2, which `workloads.shop.machines.{follower}` follows" in found.problem


SHARED_VPC = at("google/network", "projects/my-host/global/networks/n")


@pytest.mark.parametrize("subnetwork", ["s", "projects/my-host/regions/europe-west3/subnetworks/s"])
def test_network_and_subnetwork_may_be_a_host_project_s(subnetwork: str) -> None:
    assert findings(SHARED_VPC, at("google/subnetwork", subnetwork)) == []
    own = "projects/my-project/regions/europe-west3/subnetworks/s"
    [found] = findings(SHARED_VPC, at("google/subnetwork", own))
    assert "is a subnetwork of project my-project, and the network is one of my-host" in found.problem


ACCOUNT = "shop@my-accounts.iam.gserviceaccount.com"


def test_machines_may_share_an_account_where_it_gives_them_nothing_that_they_have_not() -> None:
    shared = (at(f"{FLEET}/serviceAccount", ACCOUNT), at(f"{INSTANCE}/serviceAccount", ACCOUNT))
    assert findings(*shared) == []
    [found] = findings(*shared, at(f"{INSTANCE}/ssh", True))
    assert found.path == INSTANCE.replace("/", ".") + ".serviceAccount"
    assert found.consequence == "The firewall rule that lets SSH in would be both's."

    def of_two_workloads(sections: dict[str, Any]) -> None:
        machines = sections["workloads"]["shop"]["machines"]
        sections["workloads"]["batch"] = {
            "namespace": "batch",
            "machines": {"instances": {"batch-canary": machines["instances"]["shop-canary"]}},
        }
        machines["instances"] = {}

    [found] = findings(*shared, of_two_workloads)
    assert found.value == ACCOUNT
    assert "could ask for the other's tokens" in found.consequence


@pytest.mark.parametrize("project", ["my-project", "example.com:my-project"])
def test_an_account_s_e_mail_says_its_project(project: str) -> None:
    assert project_of_account(account_of("shop", project)) == project
    assert account_of("shop", "example.com:p-1") == "shop@p-1.example.com.iam.gserviceaccount.com"


ELSEWHERE = at("google/gke/location", "europe-west1-b")


def test_the_gateway_s_address_is_reserved_where_its_cluster_can_have_it() -> None:
    [found] = findings(ELSEWHERE)
    assert found.path == "google.gke.location"
    assert "`google.region`" in found.problem
    assert "`google.reserveGatewayAddress: false`" in found.fix
    assert findings(at("google/gke/project", "other-project")) == [], "the address is of the cluster's project"


@pytest.mark.parametrize(
    "without",
    [
        at("google/reserveGatewayAddress", False),
        at("gateway", {"address": "10.2.0.7"}),
        at("gateway", {"mode": "adopt"}),
        at("gateway/values/service", {"loadBalancerIP": "10.2.0.77"}),
    ],
)
def test_a_cluster_elsewhere_is_well_where_it_needs_no_address_of_here(
    without: Callable[[dict[str, Any]], object],
) -> None:
    assert findings(both(ELSEWHERE, without)) == []


@pytest.mark.parametrize("location", ["europe-west3", "europe-west3-a", "europe-west3-ai1a"])
def test_a_cluster_of_the_region_may_be_zonal(location: str) -> None:
    assert findings(at("google/gke/location", location), at("google/gke/project", "my-project")) == []


def test_static_entries_are_refused_for_machines_that_come_and_go() -> None:
    found = findings(at("workloads/shop/machines/registration", "static"))
    assert {finding.path.rpartition(".")[2] for finding in found} == {"shop-fleet", "shop-canary"}
    assert all("registration: auto" in finding.problem for finding in found)


def test_machines_without_hosts_fleets_and_instances_are_none() -> None:
    found = findings(at("workloads/shop/machines", {"version": "vm"}))
    assert [finding.path for finding in found] == ["workloads.shop.machines.hosts"]


@pytest.mark.parametrize(
    "change",
    [
        at("google/network", "projects/my-project/global/networks/mesh"),
        at("google/network", "projects/123456789/global/networks/mesh"),
        at(
            "google/subnetwork",
            "https://www.googleapis.com/compute/v1/projects/my-project/regions/europe-west3/subnetworks/m",
        ),
        at("google/subnetwork", "projects/123456789/regions/europe-west3/subnetworks/m"),
        at("google/metadata", {"enable-oslogin": "FALSE", "enable-osconfig": "TRUE"}),
        both(at(f"{FLEET}/ssh", True), at(f"{FLEET}/metadata", {"enable-oslogin": "true"})),
        at("google/tags", ["through-proxy"]),
        at("google/diskKey", key("europe-west3")),
        at("google/diskKey", key("eur4")),
        at("google/diskKey", key("global")),
        at(f"{FLEET}/machineType", "n2-standard-4"),
        at(f"{FLEET}/machineType", "custom-2-4096"),
        at(f"{FLEET}/machineType", "c3-standard-4-lssd"),
        at(f"{FLEET}/machineType", "t2d-standard-1"),
        at(f"{FLEET}/machineType", "f1-micro"),
        at(f"{FLEET}/machineType", "ct6e-standard-4t"),
        both(at(f"{FLEET}/zones", ["europe-west3-ai1a"]), at(f"{FLEET}/maxSurge", 1)),
        at(f"{FLEET}/image", "debian-cloud/debian-12"),
        at(f"{FLEET}/image", "family/shop"),
        at(f"{FLEET}/image", "example.com:my-project/shop"),
        at(f"{FLEET}/image", "https://www.googleapis.com/compute/beta/projects/my-project/global/images/shop-1"),
        at(f"{FLEET}/image", "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"),
        both(at("google/region", "northamerica-northeast1"), at("google/gke/location", "northamerica-northeast1")),
        at("google/egress/0/name", "p" * (63 - len("shop-fleet-out-"))),
        at(f"{FLEET}/maxSize", 2),
        both(at(f"{FLEET}/zones", ["europe-west3-a", "europe-west3-b"]), at(f"{FLEET}/maxSurge", 2)),
        at("workloads/shop/probe/initialDelaySeconds", 120),
    ],
)
def test_what_google_takes_is_taken(change: Callable[[dict[str, Any]], object]) -> None:
    change_zone = at("workloads/shop/machines/instances", {})
    assert findings(change, change_zone) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.2",
        "https://10.0.0.2:6443",
        "https://api.example.com:65535",
        "https://gke-0a1b2c.europe-west3.gke.goog",
        "https://API-1",
    ],
)
def test_an_api_server_s_address_may_be(url: str) -> None:
    assert findings(at("google/gke", ...), api_server(url=url, ca=PEM + PEM)) == []
