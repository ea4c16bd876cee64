"""One machine's membership, apart from the stack that it is in."""

import json
import re
import shlex
from typing import Any

import pytest

from components.connection import Connection
from components.proxy_choices import SidecarCapture, SidecarPackage, SidecarResources
from components.sidecar import Sidecar, SidecarArgs, mesh_yaml_of
from hybridmesh import remote
from hybridmesh.istio import BootstrapError
from hybridmesh.istio.members import entry_name, group_at
from hybridmesh.providers import ClusterAccess
from hybridmesh.remote import COMMAND_JOIN, COMMAND_READY
from hybridmesh.remote.join import ReadyReport, ready_report
from tests.components.harness import JOINED, KEY, REPORT, TOKEN, World, run
from tests.remote.unpacked import texts

GROUP: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "WorkloadGroup",
    "metadata": {"name": "echo", "namespace": "demo"},
    "spec": {
        "metadata": {"labels": {"app": "echo", "version": "vm"}},
        "template": {"serviceAccount": "echo", "network": "net", "ports": {"http": 8080}},
    },
}


def arguments(**changes: Any) -> SidecarArgs:
    given: dict[str, Any] = {
        "machine": "vm-1",
        "cluster": ClusterAccess(kubeconfig="kubeconfig"),
        "cluster_name": "embedded",
        "istio_namespace": "istio-system",
        "revision": "default",
        "mesh_config": "defaultConfig: {}\n",
        "root_certificate": "ROOT\n",
        "gateway_address": "192.0.2.100",
        "group": GROUP,
        "service_account": "echo",
        "identity": "spiffe://cluster.local/ns/demo/sa/echo",
        "connection": Connection(address="192.0.2.11", port=2222, host_key="ssh-ed25519 A", private_key=KEY),
        "mesh_address": "192.0.2.11",
        "package": SidecarPackage(url="http://192.0.2.1/deb", sha256="ab" * 32, version="1.31.0"),
    }
    return SidecarArgs(**{**given, **changes})


def sidecar(answers: dict[str, Any] | None = None, **changes: Any) -> World:
    return run(lambda: Sidecar("vm-1", arguments(**changes)).version, answers=answers)


@pytest.mark.parametrize("name", ["vm-1", "mesh-vm-1", 'it\'s $(my) "vm"'])
def test_a_machine_is_told_what_a_shell_takes_for_another_join_or_token_of_it(name: str) -> None:
    world = run(lambda: Sidecar(name, arguments()).version)
    told = texts(world.one(f"{name}-join").value("stdin"))
    for role in ("join", "token"):
        made = world.one(f"{name}-{role}")
        assert shlex.split(told[f"settings/{role}-again"]) == ["pulumi", "up", "--replace", f"**::{made.name}"]


def test_a_join_carries_the_files_that_the_component_shows_and_the_token() -> None:
    world = sidecar()
    shown = world.one("vm-1", "Sidecar").plain
    sent = texts(world.one("vm-1-join").value("stdin"))
    for name in ("cluster.env", "mesh.yaml", "hosts", "root-cert.pem"):
        assert sent[f"files/{name}"] == shown[name]
    assert sent["files/istio-token"] == TOKEN
    assert sent["settings/package-sha256"] == "ab" * 32 + "\n"
    assert sent["settings/spiffe-id"] == "spiffe://cluster.local/ns/demo/sa/echo\n"
    assert sent["settings/ssh-port"] == "2222\n"


@pytest.mark.parametrize("preview", [True, False])
@pytest.mark.parametrize("static", [True, False])
def test_a_group_that_somebody_else_wrote_may_say_as_little_as_istio_takes(preview: bool, static: bool) -> None:
    group = {"kind": "WorkloadGroup", "metadata": {"name": "echo", "namespace": "demo"}, "spec": {"template": {}}}
    given = arguments(group=group, locality="here/a", static_entry=static)
    world = run(lambda: Sidecar("vm-1", given).version, preview=preview)
    membership = world.one("vm-1-membership")
    assert membership.inside("ports") == {}
    assert membership.inside("labels") == {"topology.istio.io/locality": "here.a"}
    assert membership.value("entry") == ("echo-vm-1" if static else "echo-192.0.2.11")


def test_labels_of_a_group_s_template_are_the_machine_s_too() -> None:
    """Its WorkloadEntry has them by istiod; brought up to date without them, it would lose them."""
    spec = {"metadata": {"labels": {"app": "echo", "version": "vm"}}, "template": {"labels": {"version": "vm2"}}}
    group = {**GROUP, "spec": spec}
    assert sidecar(group=group).one("vm-1-membership").inside("labels") == {"app": "echo", "version": "vm2"}
    entry = sidecar(group=group, static_entry=True).one("vm-1-entry").value("spec")
    assert {key: entry["labels"][key] for key in ("app", "version")} == {"app": "echo", "version": "vm2"}


@pytest.mark.parametrize("locality", [None, "here/a"])
def test_the_group_of_a_workload_without_machines_is_refused_with_the_fix(locality: str | None) -> None:
    known = {"group": group_at({}, locality), "mesh_config": "", "cluster_name": "c", "revision": ""}
    with pytest.raises(BootstrapError, match=r"WorkloadGroup: is empty\. .* Fix: .*has_machines"):
        mesh_yaml_of(arguments(), {**known, "istio_namespace": "istio-system"})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"weight": 5}, r"vm-1: weight = 5: needs `static_entry`\. .* Fix: "),
        ({"package": SidecarPackage(version="1.31.0")}, r"SidecarPackage: has neither .* Fix: "),
    ],
    ids=["weight", "package"],
)
def test_what_would_be_lost_or_could_not_be_installed_is_refused_with_the_fix(
    changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        sidecar(**changes)


def test_commands_are_the_constant_texts_and_say_nothing() -> None:
    world = sidecar()
    join, ready = world.one("vm-1-join"), world.one("vm-1-ready")
    assert join.plain["create"] == COMMAND_JOIN
    assert ready.plain["create"] == COMMAND_READY
    for command in (join, ready):
        assert "delete" not in command.plain, "a machine leaves once, by its departure"
        assert "update" not in command.plain, "a change runs the same script"
        assert "triggers" not in command.plain, "they replace, and an old delete would undo a new join"
        assert command.plain["logging"] == "none"
        assert command.plain["addPreviousOutputInEnv"] is False
    assert join.plain["stdin"] == "[secret]"


def test_all_that_is_done_to_a_machine_comes_after_its_departure_is_noted() -> None:
    world = sidecar()
    departure = world.one("vm-1-departure")
    for role in ("token", "join", "ready", "membership"):
        assert world.is_after(world.one(f"vm-1-{role}"), departure), role
    assert departure.plain["address"] == "192.0.2.11"
    assert departure.plain["entry"] == "echo-192.0.2.11-net"
    assert departure.plain["ssh"] == "[secret]"


def test_the_state_keeps_the_token_as_a_secret() -> None:
    assert sidecar().one("vm-1-token").secret_outputs == ("token",)


def test_what_follows_a_join_names_the_step_before_and_not_all_that_the_join_hangs_on() -> None:
    """The state has each name in full, for the resource and for each of its properties."""
    world = sidecar()
    join, ready, membership = (world.one(f"vm-1-{role}") for role in ("join", "ready", "membership"))
    assert ready.depends_on == {join.urn}
    assert membership.depends_on == {ready.urn}
    for earlier in ("token", "departure", "preflight"):
        assert world.is_after(membership, world.one(f"vm-1-{earlier}")), earlier


def preflight(world: World) -> dict[str, str]:
    settings: dict[str, str] = world.one("vm-1-preflight").inside("settings")
    return settings


def test_a_membership_tells_what_its_machine_has_by_then_and_a_preview_what_it_will() -> None:
    told = {"cluster.env", "mesh.yaml", "hosts", "root-cert.pem", "limits", "appUnits", "package"}
    for preview in (True, False):
        world = run(lambda: Sidecar("vm-1", arguments()).version, preview=preview)
        component, brought = world.one("vm-1", "Sidecar"), json.loads(world.one("vm-1-membership").value("brought"))
        assert brought.keys() == told
        assert {key: value for key, value in brought.items() if value is not None} == {
            key: component.value(key) for key in told if component.value(key) is not None
        }


def test_a_preview_shows_what_a_preflight_looks_at() -> None:
    looked_at = preflight(sidecar(supported_systems="debian:12", accept_findings=["clock"]))
    assert TOKEN not in json.dumps(looked_at)
    assert looked_at == {
        "package-url": "http://192.0.2.1/deb",
        "package-sha256": "ab" * 32,
        "package-version": "1.31.0",
        "gateway": "192.0.2.100",
        "gateway-ports": "15012 15443",
        "gateway-timeout-seconds": "30",
        "mesh-address": "192.0.2.11",
        "app-ports": "8080",
        "ssh-port": "2222",
        "inbound-ports": "8080",
        "inbound-ports-excluded": "22,15090,15021,15020,2222",
        "dns-capture": "true",
        "supported-systems": "debian:12",
        "accept": "clock",
    }


def test_a_preflight_looks_again_for_what_it_looks_at_and_for_no_label() -> None:
    before = preflight(sidecar())
    labels = {**GROUP, "spec": {**GROUP["spec"], "metadata": {"labels": {"app": "echo", "team": "a"}}}}
    for same in (
        {"group": labels},
        {"locality": "here/there"},
        {"mesh_config": "defaultConfig: {drainDuration: 7s}\n"},
        {"root_certificate": "ROOT 2\n"},
        {"environment": {"A": "b"}},
        {"resources": SidecarResources(memory="1G")},
        {"log_level": "debug"},
    ):
        assert preflight(sidecar(**same)) == before, same
    ports = {**GROUP, "spec": {**GROUP["spec"], "template": {**GROUP["spec"]["template"], "ports": {"http": 9090}}}}
    for other in (
        {"group": ports},
        {"gateway_address": "192.0.2.101"},
        {"package": SidecarPackage(url="http://192.0.2.1/deb", sha256="cd" * 32, version="1.31.0")},
        {"supported_systems": "debian:12"},
    ):
        assert preflight(sidecar(**other)) != before, other


def test_what_is_accepted_goes_with_the_join_too_which_looks_once_more() -> None:
    sent = texts(sidecar(accept_findings=["system", "clock"]).one("vm-1-join").value("stdin"))
    assert sent["settings/accept"] == "clock system\n"


def test_a_join_waits_for_its_preflight() -> None:
    world = sidecar()
    assert world.is_after(world.one("vm-1-join"), world.one("vm-1-preflight"))


def test_readiness_is_told_the_generation_of_the_join_and_is_asked_anew_after_every_join() -> None:
    def told(world: World, said: str = JOINED) -> str:
        told: str = world.one("vm-1-ready").plain["stdin"]
        generation = texts(world.one("vm-1-join").value("stdin"))["settings/generation"].strip()
        assert re.fullmatch("[0-9a-f]{64}", generation)
        assert told == f"{generation} {said.strip()}"
        assert told == world.one("vm-1-membership").plain["joined"]
        return told

    first, second = told(sidecar()), told(sidecar(gateway_address="192.0.2.101"))
    assert first != second
    assert told(sidecar()) == first
    # Back to what was wanted before a change that failed half-way: by the join's own word it is another one.
    again = sidecar(answers={"vm-1-join": {"stdout": "staged 2\n"}})
    assert told(again, "staged 2") != first
    greeted = sidecar(answers={"vm-1-join": {"stdout": "Welcome to vm-1\n\nstaged 2\n"}})
    assert told(greeted, "staged 2") == told(again, "staged 2"), "the login shell's greeting is no word of the join's"


def test_a_join_names_the_scripts_that_are_brought_by_way_of_the_token_and_carries_none() -> None:
    world = sidecar()
    sent = texts(world.one("vm-1-join").value("stdin"))
    assert sent["settings/scripts"] == f"{remote.scripts_digest()}\n"
    assert not [name for name in sent if name.endswith(".sh")]
    assert world.one("vm-1-token").plain["scripts"] == remote.scripts_digest()
    assert world.is_after(world.one("vm-1-join"), world.one("vm-1-token"))


@pytest.mark.parametrize(("script", "again"), [("join.sh", True), ("leave.sh", True), ("agent.sh", False)])
def test_a_script_that_a_join_does_not_need_runs_none_again(
    monkeypatch: pytest.MonkeyPatch, script: str, again: bool
) -> None:
    read = remote._script
    before = sidecar().one("vm-1-join").value("stdin")
    monkeypatch.setattr(remote, "_script", lambda name: read(name) + (b"# another\n" if name == script else b""))
    assert (sidecar().one("vm-1-join").value("stdin") != before) is again


def test_the_proxy_is_known_by_the_machine_s_name() -> None:
    world = sidecar()
    assert "POD_NAME='vm-1'" in world.one("vm-1", "Sidecar").plain["cluster.env"]
    assert world.one("vm-1-membership").inside("proxy") == "vm-1.demo"


def test_a_gateway_by_name_is_shown_as_the_name_that_the_machine_resolves() -> None:
    world = sidecar(gateway_address="gw.example.com")
    assert world.one("vm-1", "Sidecar").plain["hosts"] == "gw.example.com istiod.istio-system.svc\n"


def test_the_applications_units_are_shown_and_sent() -> None:
    world = sidecar(app_units=["shop.service", "shop.target"])
    assert world.one("vm-1", "Sidecar").plain["appUnits"] == ["shop.service", "shop.target"]
    assert texts(world.one("vm-1-join").value("stdin"))["settings/app-units"] == "shop.service shop.target\n"
    assert "appUnits" not in sidecar().one("vm-1", "Sidecar").plain


def test_other_root_certificates_take_a_new_token_as_the_old_certificate_may_be_worth_nothing() -> None:
    tokens = [sidecar(root_certificate=root).one("vm-1-token").plain["trust"] for root in ("ROOT\n", "ROOT 2\n")]
    assert tokens[0] != tokens[1]
    assert "ROOT" not in tokens[0]


def test_another_trust_domain_takes_a_new_token_as_the_certificate_is_for_another_identity() -> None:
    identity = "spiffe://corp.example/ns/demo/sa/echo"
    assert sidecar(identity=identity).one("vm-1-token").plain["identity"] == identity


def test_token_and_membership_are_of_the_entry_that_istiod_makes() -> None:
    world = sidecar()
    assert entry_name(GROUP, "192.0.2.11") == "echo-192.0.2.11-net"
    for role in ("token", "membership"):
        assert world.one(f"vm-1-{role}").plain["entry"] == "echo-192.0.2.11-net"


def test_another_ssh_port_is_never_redirected() -> None:
    assert (
        "ISTIO_LOCAL_EXCLUDE_PORTS='22,15090,15021,15020,2222'" in sidecar().one("vm-1", "Sidecar").plain["cluster.env"]
    )


def test_health_counts_where_the_group_has_a_probe() -> None:
    assert sidecar().one("vm-1-membership").inside("probed") is False
    probed = {**GROUP, "spec": {**GROUP["spec"], "probe": {"tcpSocket": {"port": 8080}}}}
    assert sidecar(group=probed).one("vm-1-membership").inside("probed") is True


def test_more_variables_reach_the_agent() -> None:
    files = sidecar(environment={"CLOUD_PLATFORM": "none"}, dns_capture=False).one("vm-1", "Sidecar").plain
    assert "CLOUD_PLATFORM='none'" in files["cluster.env"]
    assert "DNS_CAPTURE" not in files["cluster.env"]


def test_the_agent_s_ports_are_those_that_the_machine_s_firewall_and_scripts_know() -> None:
    files = (
        sidecar(mesh_config="defaultConfig: {statusPort: 15030, proxyAdminPort: 15100}\n").one("vm-1", "Sidecar").plain
    )
    assert "15030" not in files["cluster.env"] + files["mesh.yaml"]
    assert "15100" not in files["mesh.yaml"]


@pytest.mark.parametrize("before", ["", "Welcome to vm-1\n\n[2 updates]\n"], ids=["alone", "after a greeting"])
def test_a_report_is_read_whatever_the_login_shell_has_printed_before_it(before: str) -> None:
    assert ready_report(before + REPORT, "vm-1") == ReadyReport(
        "spiffe://cluster.local/ns/demo/sa/echo", "2030-01-01T00:00:00Z", "1.31.0"
    )


def report(**said: object) -> str:
    """One that says something else."""
    return json.dumps({**json.loads(REPORT), **said})


@pytest.mark.parametrize(
    "stdout",
    [
        "",
        "ready",
        "[]",
        "{}",
        '{"spiffeId": "x"}',
        "null",
        "[" * 100_000,
        report(spiffeId="echo"),
        report(spiffeId="spiffe://cluster.local/ns/\x1b]0;x"),
        report(certificateExpiry="tomorrow"),
        report(certificateExpiry="2030-01-01"),
        report(certificateExpiry="2030-13-01T00:00:00Z"),
        report(certificateExpiry="2030-01-01\x1b00:00:00Z"),
        report(certificateExpiry=1893456000),
        report(version={"of": "mine"}),
        report(version="1.31.0\u202e"),
    ],
)
def test_a_report_that_cannot_be_read_names_the_machine_and_what_to_do(stdout: str) -> None:
    with pytest.raises(ValueError, match=r"^vm-1: its readiness report cannot be read.*Fix: "):
        ready_report(stdout, "vm-1")


def test_limits_are_shown_and_sent() -> None:
    world = sidecar(resources=SidecarResources(cpu_percent=150, memory="512M", memory_high="384M", tasks=512))
    expected = {"cpu-quota": "150%", "memory-max": "512M", "memory-high": "384M", "tasks-max": "512"}
    assert world.one("vm-1", "Sidecar").plain["limits"] == expected
    sent = texts(world.one("vm-1-join").value("stdin"))
    assert {name: sent[f"settings/{name}"].strip() for name in expected} == expected


def test_without_limits_nothing_is_said_of_them() -> None:
    world = sidecar()
    assert "limits" not in world.one("vm-1", "Sidecar").plain
    assert not [name for name in texts(world.one("vm-1-join").value("stdin")) if "memory" in name or "cpu" in name]


def cluster_env(**changes: Any) -> list[str]:
    return str(sidecar(**changes).one("vm-1", "Sidecar").plain["cluster.env"]).splitlines()


def test_limits_change_no_file_that_the_proxy_reads() -> None:
    assert cluster_env(resources=SidecarResources(memory="1G")) == cluster_env()


def test_captured_ports_are_those_of_the_group_those_asked_for_or_all() -> None:
    assert "ISTIO_INBOUND_PORTS='8080'" in cluster_env()
    assert "ISTIO_INBOUND_PORTS='8080,9100'" in cluster_env(capture=SidecarCapture(inbound_ports=[9100, 8080]))
    assert "ISTIO_INBOUND_PORTS=''" in cluster_env(capture=SidecarCapture(inbound_ports=[]))
    lines = cluster_env(capture=SidecarCapture(all_inbound_ports=True, exclude_inbound_ports=[9100]))
    assert "ISTIO_INBOUND_PORTS='*'" in lines
    assert "ISTIO_LOCAL_EXCLUDE_PORTS='22,15090,15021,15020,2222,9100'" in lines


def test_excluded_ports_leave_a_list_too_since_istio_reads_them_with_a_star_alone() -> None:
    capture = SidecarCapture(inbound_ports=[8080, 9100], exclude_inbound_ports=[9100])
    assert "ISTIO_INBOUND_PORTS='8080'" in cluster_env(capture=capture)


def test_outgoing_connections_are_captured_as_asked_for() -> None:
    lines = cluster_env(
        capture=SidecarCapture(exclude_outbound_cidrs=["192.0.2.0/24", "10.0.0.0/8"], exclude_outbound_ports=[5432])
    )
    assert "ISTIO_SERVICE_EXCLUDE_CIDR='192.0.2.0/24,10.0.0.0/8'" in lines
    assert "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE='5432'" in lines
    assert "ISTIO_SERVICE_CIDR='10.0.0.0/8'" in cluster_env(capture=SidecarCapture(outbound_cidrs=["10.0.0.0/8"]))
    assert "ISTIO_SERVICE_CIDR='*'" in cluster_env()
    asked_for = ("ISTIO_SERVICE_EXCLUDE_CIDR", "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", "ISTIO_AGENT_FLAGS")
    assert not [line for line in cluster_env() if line.startswith(asked_for)]


def test_a_log_level_joins_flags_that_are_there() -> None:
    assert "ISTIO_AGENT_FLAGS='--proxyLogLevel=debug'" in cluster_env(log_level="debug")
    flags = cluster_env(log_level="debug", environment={"ISTIO_AGENT_FLAGS": "router"})
    assert "ISTIO_AGENT_FLAGS='router --proxyLogLevel=debug'" in flags


def test_the_systems_that_may_join_go_with_the_join() -> None:
    sent = texts(sidecar(supported_systems="debian:12 rocky:9").one("vm-1-join").value("stdin"))
    assert sent["settings/supported-systems"] == "debian:12 rocky:9\n"


def test_a_machine_that_was_changed_by_hand_joins_again() -> None:
    def settings(world: World) -> dict[str, str]:
        join = texts(world.one("vm-1-join").value("stdin"))
        return {k: v for k, v in join.items() if k.startswith("settings/") and k != "settings/generation"}

    untouched, changed = sidecar(), sidecar(answers={"vm-1-token": {"drift": [], "repair": "2"}})
    assert "settings/repair" not in settings(untouched)
    assert settings(changed) == {**settings(untouched), "settings/repair": "2\n"}
    # And whoever waits for the join waits again.
    ready = [world.one("vm-1-ready").value("stdin") for world in (untouched, changed)]
    assert ready[0] != ready[1]


def test_the_way_to_a_machine_that_may_have_drifted_has_its_keys_as_secrets() -> None:
    token = sidecar().one("vm-1-token")
    assert token.inside("connection")["privateKey"] == KEY
    assert token.plain["ssh"] == "[secret]"
    assert "S3CRET-KEY" not in json.dumps(token.plain)


def test_a_machine_is_told_of_every_kind_of_package_and_a_preview_shows_each() -> None:
    files = {"deb-amd64": ("http://m/x.deb", "ab" * 32), "rpm-arm64": ("http://m/x.rpm", "cd" * 32)}
    world = sidecar(package=SidecarPackage(version="1.31.0", files=files))
    sent = texts(world.one("vm-1-join").value("stdin"))
    assert sent["settings/package-url-deb-amd64"] == "http://m/x.deb\n"
    assert sent["settings/package-sha256-rpm-arm64"] == "cd" * 32 + "\n"
    assert "settings/package-url" not in sent
    shown = world.one("vm-1", "Sidecar").plain["package"].splitlines()
    assert shown == [f"http://m/x.deb 1.31.0 sha256:{'ab' * 32}", f"http://m/x.rpm 1.31.0 sha256:{'cd' * 32}"]
