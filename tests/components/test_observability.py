"""What a stack with `observability` makes: the metrics server, what Prometheus and Grafana are given, agents."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from components.metrics_from_settings import watched_agents, watched_gateways
from components.observability import writers_policy
from components.telemetry import Traces, TraceTag, tracing
from hybridmesh.metrics import server
from tests.components.harness import World, dev_settings, run
from tests.remote.unpacked import texts
from tests.settings.test_network_rules import far

MODES = pytest.mark.parametrize("preview", [False, True], ids=["up", "preview"])
GIVEN: dict[str, Any] = {"image": "metrics:1", "scrapers": ["10.0.0.0/16"]}
AGENT = {"machine": "far-1", "package": {"url": "http://192.0.2.1/prometheus.tar.gz", "sha256": "ab" * 32}}


def mesh(
    given: dict[str, Any] | None = GIVEN,
    change: Callable[[dict[str, Any]], object] = lambda _: None,
    *,
    preview: bool = False,
    first: bool = True,
) -> World:
    def settings(sections: dict[str, Any]) -> None:
        if given is not None:
            sections["observability"] = given
        change(sections)

    made = dev_settings(settings)
    return run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=made)).topology, preview=preview, first=first)


def with_agent(sections: dict[str, Any]) -> None:
    far(sections)
    sections["observability"] = {**GIVEN, "prometheus": {"image": "prometheus:1"}, "agents": {"far": AGENT}}


def test_without_it_nothing_is_made_and_no_vm_lets_anybody_read_metrics() -> None:
    world = mesh(None)
    assert not [name for name in world.names() if "mesh-metrics" in name]
    assert "scrapers" not in world.one("mesh-vm-1", "Sidecar").plain
    assert "env" not in world.one("mesh-control-plane-istiod").value("values").get("env", {})
    assert "DEBUG_ENDPOINT" not in json.dumps(world.one("mesh-control-plane-istiod").plain)


@MODES
def test_the_server_may_list_entries_pods_and_istiod_s_addresses_and_nothing_else(preview: bool) -> None:
    world = mesh(preview=preview)
    roles = [r for r in world.found if r.type.endswith(":Role")]
    rules = {r.name: (r.value("metadata")["namespace"], r.value("rules")) for r in roles}
    assert rules == {
        "mesh-metrics-entries-demo-role": (
            "demo",
            [{"apiGroups": ["networking.istio.io"], "resources": ["workloadentries"], "verbs": ["list"]}],
        ),
        **{
            f"mesh-metrics-pods-{namespace}-role": (
                namespace,
                [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
            )
            for namespace in ("demo", "istio-system")
        },
        "mesh-metrics-istiod-role": (
            "istio-system",
            [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]}],
        ),
    }
    assert world.of_type("ClusterRole") == []
    pod = world.one("mesh-metrics-server-deployment").value("spec")["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    (source,) = pod["volumes"][1]["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "istio-ca"


def test_each_role_is_the_server_s_account_s_in_the_role_s_own_namespace() -> None:
    world = mesh()
    bindings = [r for r in world.found if r.type.endswith(":RoleBinding")]
    assert len(bindings) == 4
    for binding in bindings:
        role = world.one(binding.name.removesuffix("-binding") + "-role")
        assert binding.value("metadata") == role.value("metadata")
        name = role.value("metadata")["name"]
        assert binding.value("roleRef") == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        (subject,) = binding.value("subjects")
        assert subject == {
            "kind": "ServiceAccount",
            "name": "hybrid-mesh-metrics",
            "namespace": "hybrid-mesh-metrics",
        }
    names = [(made["namespace"], made["name"]) for made in (binding.value("metadata") for binding in bindings)]
    assert len(set(names)) == len(names)
    assert all(name.startswith("hybrid-mesh-metrics-hybrid-mesh-metrics") for _, name in names), (
        "another stack's server has its own beside them"
    )
    pod = world.one("mesh-metrics-server-deployment").value("spec")["template"]["spec"]
    assert pod["serviceAccountName"] == "hybrid-mesh-metrics"


def test_the_server_finds_configuration_and_token_where_it_looks_for_them() -> None:
    world = mesh()
    template = world.one("mesh-metrics-server-deployment").value("spec")["template"]
    (container,) = template["spec"]["containers"]
    places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}, "or a quota refuses it"
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert f"{places['config']}/config.json" == str(server.CONFIG)
    named = world.one("mesh-metrics-config")
    assert volumes["config"]["configMap"]["name"] == named.value("metadata")["name"]
    (source,) = volumes["token"]["projected"]["sources"]
    assert f"{places['token']}/{source['serviceAccountToken']['path']}" == str(server.TOKEN)
    assert template["metadata"]["annotations"]["traffic.sidecar.istio.io/excludeOutboundPorts"] == "15014"


@pytest.mark.parametrize(("role", "port", "ready"), [("server", 9099, "/healthz"), ("prometheus", 9090, "/-/ready")])
def test_a_service_leads_to_its_pods_and_to_the_port_that_they_are_ready_on(role: str, port: int, ready: str) -> None:
    world = mesh({**GIVEN, "prometheus": {"image": "prometheus:1"}})
    deployment = world.one(f"mesh-metrics-{role}-deployment").value("spec")
    service = world.one(f"mesh-metrics-{role}-service").value("spec")
    assert service["selector"] == deployment["selector"]["matchLabels"]
    assert service["selector"].items() <= deployment["template"]["metadata"]["labels"].items()
    assert [(p["port"], p["targetPort"], p["appProtocol"]) for p in service["ports"]] == [(port, port, "http")]
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"] == {"path": ready, "port": port}
    assert [p["containerPort"] for p in container["ports"]] == [port]


def test_the_server_knows_every_machine_by_name_and_address() -> None:
    config = json.loads(mesh().one("mesh-metrics-config").value("data")["config.json"])
    assert {machine["name"]: machine["address"] for machine in config["machines"]} == {
        "vm-1": "192.0.2.11",
        "vm-2": "192.0.2.12",
    }
    assert config["namespaces"] == ["demo"]


def test_the_server_asks_the_istiods_of_every_revision() -> None:
    def config(change: Callable[[dict[str, Any]], object]) -> Any:
        return json.loads(mesh(GIVEN, change).one("mesh-metrics-config").value("data")["config.json"])

    def canary(sections: dict[str, Any]) -> None:
        sections["controlPlane"]["revisions"] = {"canary": {}}

    assert (config(canary)["revision"], config(canary)["revisions"]) == ("default", ["canary"])
    assert "revisions" not in config(lambda _: None), "a server of before would not know it"


def test_istiod_lets_the_server_s_namespace_read_sync_states_beside_what_the_values_say() -> None:
    values = mesh().one("mesh-control-plane-istiod").value("values")
    assert values["env"]["DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES"] == "hybrid-mesh-metrics"
    assert values["env"]["PILOT_ENABLE_METADATA_EXCHANGE"] == "false"


@MODES
def test_files_are_a_whole_configuration_and_its_rules(preview: bool) -> None:
    world = mesh(preview=preview)
    data = world.one("mesh-metrics-files").value("data")
    config = yaml.safe_load(data["prometheus.yml"])
    assert config["rule_files"] == ["hybrid-mesh.rules.yml"]
    vms, pods, server = config["scrape_configs"]
    host = "hybrid-mesh-metrics.hybrid-mesh-metrics.svc.cluster.local:9099"
    assert vms["http_sd_configs"] == [{"url": f"http://{host}/targets", "refresh_interval": "15s"}]
    assert pods["http_sd_configs"][0]["url"] == f"http://{host}/pods"
    assert server["static_configs"] == [{"targets": [host]}]
    assert [key for job in (vms, pods) for key in job if key == "static_configs"] == []
    assert "http_sd_configs" not in server
    alerts = yaml.safe_load(data["hybrid-mesh.rules.yml"])["groups"][1]["rules"]
    [silent] = [a["expr"] for a in alerts if a["alert"] == "HybridMeshMetricsServerDown"]
    assert f'instance="{config["scrape_configs"][2]["static_configs"][0]["targets"][0]}"' in silent
    assert [a["labels"]["workload"] for a in alerts if a["alert"] == "HybridMeshGatewayDown"] == [
        "istio-eastwestgateway"
    ]
    assert world.of_type("monitoring.coreos.com") == []
    dashboard = world.one("mesh-metrics-dashboard")
    assert dashboard.value("metadata")["labels"] == {"grafana_dashboard": "1"}
    assert json.loads(dashboard.value("data")["hybrid-mesh.json"])["title"] == "Hybrid mesh"


@MODES
def test_the_operator_gets_objects_of_its_own_and_no_files(preview: bool) -> None:
    world = mesh({**GIVEN, "delivery": "operator", "operatorLabels": {"release": "kps"}}, preview=preview)
    objects = world.of_type("monitoring.coreos.com")
    assert sorted(r.type.rpartition(":")[2] for r in objects) == ["PrometheusRule", *["ScrapeConfig"] * 3]
    assert {r.value("metadata")["labels"]["release"] for r in objects} == {"kps"}
    assert "mesh-metrics-files" not in world.names()
    vms = world.one("mesh-metrics-hybrid-mesh-vms").value("spec")
    assert vms["httpSDConfigs"][0]["url"].endswith(":9099/targets")
    assert vms["relabelings"] == [{"replacement": "hybrid-mesh-vms", "targetLabel": "job"}]
    assert "staticConfigs" not in vms
    server = world.one("mesh-metrics-hybrid-mesh-server").value("spec")
    [targets] = server["staticConfigs"]
    assert [target.endswith(":9099") for target in targets["targets"]] == [True]
    assert "httpSDConfigs" not in server


def test_alerts_link_to_the_page_that_the_settings_name() -> None:
    given = {**GIVEN, "delivery": "operator", "alerts": {"runbook": "https://docs.example.com/metrics/"}}
    alerts = mesh(given).one("mesh-metrics-rules").value("spec")["groups"][1]["rules"]
    links = {a["alert"]: a["annotations"]["runbook_url"] for a in alerts}
    assert links["HybridMeshErrors"] == "https://docs.example.com/metrics/#hybridmesherrors"


@pytest.mark.parametrize(
    ("seconds", "timeout", "refresh"), [(5, "5s", "5s"), (10, "10s", "10s"), (15, "10s", "15s"), (60, "10s", "15s")]
)
def test_a_scrape_ends_before_the_next_and_targets_are_looked_for_at_least_as_often(
    seconds: int, timeout: str, refresh: str
) -> None:
    def by_agent(sections: dict[str, Any]) -> None:
        with_agent(sections)
        sections["observability"]["scrapeSeconds"] = seconds

    world = mesh(None, by_agent)
    for text in (
        world.one("mesh-metrics-files").value("data")["prometheus.yml"],
        world.one("mesh-far-metrics", "MetricsAgent").plain["prometheus.yml"],
    ):
        config = yaml.safe_load(text)
        assert config["global"]["scrape_interval"] == f"{seconds}s"
        assert config["global"]["scrape_timeout"] == timeout, "Prometheus refuses one above the interval"
        assert config["scrape_configs"][0]["http_sd_configs"][0]["refresh_interval"] == refresh
    operated = mesh({**GIVEN, "delivery": "operator", "scrapeSeconds": seconds})
    vms = operated.one("mesh-metrics-hybrid-mesh-vms").value("spec")
    assert (vms["scrapeInterval"], vms["scrapeTimeout"]) == (f"{seconds}s", timeout)
    assert vms["httpSDConfigs"][0]["refreshInterval"] == refresh


def test_what_the_server_says_of_vms_keeps_their_labels_and_what_others_say_of_themselves_does_not() -> None:
    jobs = yaml.safe_load(mesh().one("mesh-metrics-files").value("data")["prometheus.yml"])["scrape_configs"]
    assert [job["job_name"] for job in jobs if job.get("honor_labels")] == ["hybrid-mesh-server"]
    objects = mesh({**GIVEN, "delivery": "operator"}).of_type("ScrapeConfig")
    assert [r.name for r in objects if r.value("spec").get("honorLabels")] == ["mesh-metrics-hybrid-mesh-server"]


def test_a_prometheus_of_ours_keeps_what_it_has_for_the_hours_that_are_set() -> None:
    own = {"image": "prometheus:1", "retentionHours": 7}
    deployment = mesh({**GIVEN, "prometheus": own}).one("mesh-metrics-prometheus-deployment")
    (container,) = deployment.value("spec")["template"]["spec"]["containers"]
    assert "--storage.tsdb.retention.time=7h" in container["args"]
    assert "--web.enable-remote-write-receiver" not in container["args"], "nobody is to write"
    written = mesh(None, with_agent).one("mesh-metrics-prometheus-deployment").value("spec")
    assert "--web.enable-remote-write-receiver" in written["template"]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize("own", [{"prometheus": {"image": "prometheus:1"}}, {}, {"delivery": "operator"}], ids=str)
def test_all_but_rights_elsewhere_is_in_its_own_namespace(own: dict[str, Any]) -> None:
    made = [r for r in mesh({**GIVEN, **own}).found if r.name.startswith("mesh-metrics-") and "metadata" in r.plain]
    assert len(made) > 8
    for resource in made:
        if not resource.type.endswith((":Role", ":RoleBinding", ":Namespace")):
            assert resource.value("metadata")["namespace"] == "hybrid-mesh-metrics", resource.name


def test_a_prometheus_of_ours_finds_its_files_and_may_write_its_data() -> None:
    world = mesh({**GIVEN, "prometheus": {"image": "prometheus:1"}})
    pod = world.one("mesh-metrics-prometheus-deployment").value("spec")["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    files = world.one("mesh-metrics-files")
    assert volumes["config"]["configMap"]["name"] == files.value("metadata")["name"]
    assert f"--config.file={mounts['config']['mountPath']}/prometheus.yml" in container["args"]
    assert {"prometheus.yml", "hybrid-mesh.rules.yml"} == files.value("data").keys()
    assert f"--storage.tsdb.path={mounts['data']['mountPath']}" in container["args"]
    assert (mounts["config"]["readOnly"], mounts["data"].get("readOnly"), "emptyDir" in volumes["data"]) == (
        True,
        None,
        True,
    )
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"], "the data are its own"
    policy = world.one("mesh-metrics-writers").value("metadata")
    assert (policy["namespace"], policy["name"]) == ("hybrid-mesh-metrics", "hybrid-mesh-prometheus")


def test_a_prometheus_outside_of_the_mesh_reads_the_server_in_plain_text_and_one_of_ours_does_not() -> None:
    assert mesh().one("mesh-metrics-server-open").value("spec") == {
        "selector": {"matchLabels": {"app": "hybrid-mesh-metrics"}},
        "mtls": {"mode": "STRICT"},
        "portLevelMtls": {"9099": {"mode": "PERMISSIVE"}},
    }
    own = mesh({**GIVEN, "prometheus": {"image": "prometheus:1"}})
    assert [p.value("spec") for p in own.of_type("PeerAuthentication")] == [{"mtls": {"mode": "STRICT"}}] * 2


def test_its_pods_are_told_apart_by_labels_that_no_selector_has() -> None:
    world = mesh({**GIVEN, "prometheus": {"image": "prometheus:1"}})
    for role, name in (("server", "hybrid-mesh-metrics"), ("prometheus", "hybrid-mesh-prometheus")):
        deployment = world.one(f"mesh-metrics-{role}-deployment")
        spec, labels = deployment.value("spec"), {"app": name, "version": "k8s"}
        assert spec["template"]["metadata"]["labels"] == deployment.value("metadata")["labels"] == labels
        assert spec["selector"]["matchLabels"] == {"app": name}, "another one would replace the Deployment"


@MODES
def test_a_prometheus_of_ours_starts_anew_with_another_configuration(preview: bool) -> None:
    def digest(seconds: int) -> str:
        world = mesh({**GIVEN, "prometheus": {"image": "prometheus:1"}, "scrapeSeconds": seconds}, preview=preview)
        template = world.one("mesh-metrics-prometheus-deployment").value("spec")["template"]
        return str(template["metadata"]["annotations"]["hybrid-mesh/config"])

    assert digest(15) == digest(15)
    assert digest(15) != digest(30)


@MODES
def test_machines_let_the_scrapers_in_and_in_another_network_the_agent_too(preview: bool) -> None:
    world = mesh(None, with_agent, preview=preview)
    assert world.one("mesh-vm-1", "Sidecar").plain["scrapers"] == ["10.0.0.0/16"]
    if not preview:
        told = texts(world.one("mesh-far-1-join").value("stdin"))
        assert told["settings/scrapers"] == "10.0.0.0/16 198.51.100.11/32\n"
    for machine in ("far-1", "gw-1"):
        assert world.one(f"mesh-{machine}", "Sidecar").plain["scrapers"] == ["10.0.0.0/16", "198.51.100.11/32"]


@MODES
def test_an_agent_s_configuration_is_shown_and_names_its_network(preview: bool) -> None:
    world = mesh(None, with_agent, preview=preview)
    config = yaml.safe_load(world.one("mesh-far-metrics", "MetricsAgent").plain["prometheus.yml"])
    assert config["remote_write"] == [
        {"url": "http://hybrid-mesh-prometheus.hybrid-mesh-metrics.svc.cluster.local:9090/api/v1/write"}
    ]
    assert config["scrape_configs"][0]["http_sd_configs"][0]["url"].endswith("/targets?network=far")
    settings = world.one("mesh-metrics-config").value("data")
    if not preview:
        assert json.loads(settings["config.json"])["agents"] == ["far"]
        files = world.one("mesh-far-1", "Sidecar").plain["cluster.env"]
        assert "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE='15020,15090'" in files, "it reads other VMs past its own proxy"


@MODES
def test_an_agent_goes_by_the_departure_of_its_vm_and_by_nothing_else(preview: bool) -> None:
    world = mesh(None, with_agent, preview=preview)
    assert world.one("mesh-far-1-departure").value("metricsAgent") is True
    assert "metricsAgent" not in world.one("mesh-vm-1-departure").plain
    assert "delete" not in world.one("mesh-far-metrics-agent").plain, "it would ask a VM that is lost"


def test_an_agent_is_looked_at_again_once_its_vm_has_joined_anew() -> None:
    def agent(said: str) -> Any:
        answers = {"mesh-far-1-join": {"stdout": said}}
        settings = dev_settings(with_agent)
        world = run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology, answers=answers)
        return world.one("mesh-far-metrics-agent").value("stdin")

    assert agent("applied one\n") == agent("applied one\n") != agent("applied another\n")


def test_an_agent_comes_after_its_vm_has_joined_and_prometheus_is_there() -> None:
    world = mesh(None, with_agent)
    agent = world.one("mesh-far-metrics-agent")
    assert (agent.plain["logging"], agent.plain["stdin"]) == ("none", "[secret]")
    assert texts(agent.value("stdin"))["settings/agent-sha256"] == "ab" * 32 + "\n"
    for earlier in ("mesh-far-1-membership", "mesh-metrics-prometheus-deployment", "mesh-metrics-server-deployment"):
        assert world.is_after(agent, world.one(earlier)), earlier


@pytest.mark.parametrize(("agents", "watched"), [({}, []), ({"far": AGENT}, ["far-gateway"])])
def test_a_network_s_gateway_is_missed_where_an_agent_scrapes_it(agents: dict[str, Any], watched: list[str]) -> None:
    def change(sections: dict[str, Any]) -> None:
        with_agent(sections)
        sections["observability"]["agents"] = agents

    found = watched_gateways(dev_settings(change))
    assert [gateway.workload for gateway in found] == ["istio-eastwestgateway", *watched]
    assert [gateway.agent_in for gateway in found] == ["", *agents]


def test_an_agent_is_missed_where_the_rules_are_and_not_where_it_writes_elsewhere() -> None:
    def elsewhere(sections: dict[str, Any]) -> None:
        with_agent(sections)
        agent = {**AGENT, "writeTo": "http://prometheus.other.svc/api/v1/write"}
        sections["observability"]["agents"] = {"far": agent}

    def without_its_own(sections: dict[str, Any]) -> None:
        elsewhere(sections)
        del sections["observability"]["prometheus"]

    assert watched_agents(dev_settings(with_agent)) == ["far"]
    assert watched_agents(dev_settings(elsewhere)) == []
    assert watched_agents(dev_settings(without_its_own)) == ["far"]

    def missed(change: Any) -> str:
        text = mesh(None, change).one("mesh-metrics-files").value("data")["hybrid-mesh.rules.yml"]
        alerts = yaml.safe_load(text)["groups"][1]["rules"]
        return str(next(rule["expr"] for rule in alerts if rule["alert"] == "HybridMeshAgentDown"))

    assert "count_over_time" not in missed(with_agent)
    assert "count_over_time" in missed(without_its_own), "nobody says whether the rules are where it writes to"


def test_a_gateway_of_which_nobody_knows_the_pods_is_not_missed() -> None:
    def by_address(sections: dict[str, Any]) -> None:
        with_agent(sections)
        sections["gateway"] = {"mode": "adopt", "address": "192.0.2.7"}

    assert [gateway.workload for gateway in watched_gateways(dev_settings(by_address))] == ["far-gateway"]


def test_an_adopted_gateway_is_missed_only_after_it_was_seen() -> None:
    def by_service(sections: dict[str, Any]) -> None:
        with_agent(sections)
        sections["gateway"] = {"mode": "adopt"}

    assert [gateway.adopted for gateway in watched_gateways(dev_settings(by_service))] == [True, False]


def test_agents_alone_may_write_to_prometheus() -> None:
    world = mesh(None, with_agent)
    assert world.one("mesh-metrics-writers").value("spec") == {
        "selector": {"matchLabels": {"app": "hybrid-mesh-prometheus"}},
        "action": "DENY",
        "rules": [
            {
                "to": [{"operation": {"paths": ["/api/v1/write"]}}],
                "from": [{"source": {"notPrincipals": ["cluster.local/ns/demo/sa/remote"]}}],
            }
        ],
    }
    assert writers_policy([])["rules"] == [{"to": [{"operation": {"paths": ["/api/v1/write"]}}]}], "nobody may"


def test_an_app_s_own_metrics_are_named_to_the_agent_in_pods_and_on_machines() -> None:
    def change(sections: dict[str, Any]) -> None:
        sections["workloads"]["echo"]["metrics"] = {"port": 9100}

    world = mesh(None, change)
    template = world.one("mesh-echo-deployment").value("spec")["template"]["metadata"]
    assert template["annotations"]["prometheus.io/port"] == "9100"
    files = world.one("mesh-vm-1", "Sidecar").plain["cluster.env"]
    wanted = 'ISTIO_PROMETHEUS_ANNOTATIONS=\'{"scrape":"true","path":"/metrics","port":"9100"}\''
    assert wanted in files


# ---------------------------------------------------------------------- traces


def test_traces_and_access_log_are_one_telemetry() -> None:
    def change(sections: dict[str, Any]) -> None:
        sections["sidecar"] |= {
            "accessLog": "errors",
            "tracing": {"samplingPercent": 12.5, "providers": ["otel"], "tags": {"team": {"literal": "shop"}}},
        }

    (first, second) = mesh(None, change).of_type(":Telemetry")
    assert {first.value("metadata")["name"], second.value("metadata")["name"]} == {"echo", "client"}
    spec = first.value("spec")
    assert spec["tracing"] == [
        {
            "randomSamplingPercentage": 12.5,
            "providers": [{"name": "otel"}],
            "customTags": {"team": {"literal": {"value": "shop"}}},
        }
    ]
    assert "filter" in spec["accessLogging"][0]


def test_a_tag_is_a_text_a_header_or_a_variable() -> None:
    tags = {"a": TraceTag(header="x-tenant", default="none"), "b": TraceTag(environment="ISTIO_META_CLUSTER_ID")}
    assert tracing(Traces(tags=tags))["customTags"] == {
        "a": {"header": {"name": "x-tenant", "defaultValue": "none"}},
        "b": {"environment": {"name": "ISTIO_META_CLUSTER_ID"}},
    }
