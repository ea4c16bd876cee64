"""The dev stack as a whole: what is registered, in which order, and what a preview gives away."""

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pulumi
import pytest

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from components.turns import Turn
from hybridmesh.istio.adopted import Asked
from hybridmesh.providers.adopters import AdoptersProvider
from hybridmesh.providers.cluster import ClusterError
from hybridmesh.settings import Settings
from hybridmesh.settings.adopted import asked_of_adopted
from tests.components.harness import PROJECT_ROOT, SECRETS, World, dev_settings, run, waiting
from tests.settings.test_network_rules import far
from tests.settings.test_observability_rules import seen

MODES = pytest.mark.parametrize("preview", [False, True], ids=["up", "preview"])


def mesh(settings: Settings) -> Callable[[], object]:
    def program() -> object:
        return HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology

    return program


def with_gateway_address(sections: dict[str, Any]) -> None:
    sections["gateway"]["address"] = "192.0.2.200"


@MODES
def test_the_dev_stack_has_one_service_on_both_sides_and_one_of_each_kind_of_host(preview: bool) -> None:
    world = run(mesh(dev_settings()), preview=preview)
    assert world.one("mesh-echo-deployment").value("metadata")["name"] == "echo"
    assert world.one("mesh-echo-group").value("spec")["metadata"]["labels"] == {"app": "echo", "version": "vm"}
    assert world.one("mesh-vm-1", "Sidecar").plain["ssh"] == "root@192.0.2.11:22 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"
    assert world.one("mesh-vm-2-machine").value("create") == "python -m lab machine create vm-2"
    assert world.one("mesh-vm-2-machine").value("delete") == "python -m lab machine delete vm-2"
    for machine in ("vm-1", "vm-2"):
        for role in ("token", "join", "ready", "membership"):
            assert world.one(f"mesh-{machine}-{role}")


@pytest.mark.parametrize(("given", "seconds"), [({}, 1), ({"initialDelaySeconds": 0}, 0)])
def test_the_first_probe_comes_when_envoy_can_be_ready(given: dict[str, Any], seconds: int) -> None:
    world = run(mesh(dev_settings(lambda sections: sections["workloads"]["echo"]["probe"].update(given))))
    assert world.one("mesh-echo-group").value("spec")["probe"]["initialDelaySeconds"] == seconds


@MODES
def test_every_kubernetes_object_goes_through_the_stack_s_own_provider(preview: bool) -> None:
    world = run(mesh(dev_settings()), preview=preview)
    provider = world.one("mesh-kubernetes")
    objects = [r for r in world.found if r.type.startswith("kubernetes:")]
    assert len(objects) > 15
    assert {r.provider.rpartition("::")[0] for r in objects} == {provider.urn}


@pytest.mark.parametrize("delivery", ["files", "operator"])
def test_so_does_what_only_some_stacks_have_and_nothing_is_without_a_place_in_the_stack(delivery: str) -> None:
    def change(sections: dict[str, Any]) -> None:
        seen(sections)
        if delivery == "operator":
            sections["observability"] |= {"delivery": delivery, "agents": {}}
            del sections["observability"]["prometheus"]
        sections["workloads"]["echo"]["machines"]["registration"] = "static"
        sections["sidecar"] |= {"accessLog": "all", "egress": {"hosts": ["*/*"]}}
        sections["namespaces"] = {"demo": {"trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}}
        sections["access"] = {"echo": {"default": "deny", "allow": [{"from": ["client"]}]}}
        sections["controlPlane"]["revisions"] = {"canary": {}}

    world = run(mesh(dev_settings(change)))
    provider = world.one("mesh-kubernetes")
    objects = [r for r in world.found if r.type.startswith("kubernetes:")]
    assert {r.type.rpartition(":")[2] for r in objects} >= {
        "WorkloadEntry",
        "Telemetry",
        "Sidecar",
        "AuthorizationPolicy",
        "RoleBinding",
        "Deployment" if delivery == "files" else "ScrapeConfig",
    }
    assert [r.name for r in objects if r.provider.rpartition("::")[0] != provider.urn] == []
    parents = {r.urn for r in world.found}
    assert [r.name for r in world.found if r.parent not in parents] == ["mesh"]


def test_every_way_to_the_cluster_is_by_the_context_of_the_settings() -> None:
    world = run(mesh(dev_settings(lambda sections: sections["cluster"].update(context="here"))))
    assert world.one("mesh-kubernetes").value("context") == "here"
    for name in ("control-plane-remains", "control-plane-root-certificate", "gateway-address", "adopters"):
        assert world.one(f"mesh-{name}").value("context") == "here", name
    for role in ("departure", "token", "membership"):
        assert world.one(f"mesh-vm-1-{role}").inside("context") == "here", role


def test_risks_that_are_accepted_and_machines_that_are_lost_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(sections: dict[str, Any]) -> None:
        sections["versions"] = {"accept": ["system"]}
        sections["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["lost"] = True

    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda message, _resource: said.append(message))
    run(mesh(dev_settings(change)))
    assert [words[:22] for words in said] == ["VMs of any system may ", "vm-1 is declared lost "]


def test_a_config_map_that_changes_is_not_deleted_and_made_anew() -> None:
    provider = run(mesh(dev_settings())).one("mesh-kubernetes")
    assert provider.inputs["enableConfigMapMutable"] == "true"


@MODES
@pytest.mark.parametrize("first", [True, False])
def test_no_secret_is_in_a_plain_input(preview: bool, first: bool) -> None:
    world = run(mesh(dev_settings()), preview=preview, first=first)
    for resource in world.found:
        for secret in SECRETS:
            assert secret not in json.dumps(resource.plain), resource.name
    if not preview:
        connection = world.one("mesh-vm-1-join").value("connection")
        assert "S3CRET-KEY" in connection["privateKey"], "the test looks for a key that is not there"


def test_the_whole_connection_is_one_secret_so_that_none_is_replaced_for_nothing() -> None:
    world = run(mesh(dev_settings()))
    for role in ("join", "ready"):
        assert world.one(f"mesh-vm-1-{role}").plain["connection"] == "[secret]"


def test_connections_check_the_host_key_and_give_up() -> None:
    connection = run(mesh(dev_settings())).one("mesh-vm-1-join").value("connection")
    assert connection["hostKey"] == "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"
    assert connection["perDialTimeout"] == 15
    assert connection["dialErrorLimit"] == 4


def test_the_order_of_hosts_and_workloads_in_the_stack_file_changes_nothing() -> None:
    def reorder(sections: dict[str, Any]) -> None:
        sections["workloads"] = dict(reversed(sections["workloads"].items()))
        machines = sections["workloads"]["echo"]["machines"]
        machines["hosts"] = dict(reversed(machines["hosts"].items()))
        routing = sections["routing"]["echo"]
        routing["subsets"] = dict(reversed(routing["subsets"].items()))
        routing["weights"] = dict(reversed(routing["weights"].items()))

    def registered(world: World) -> dict[tuple[str, str], str]:
        return {(r.urn, r.name): json.dumps(r.inputs, sort_keys=True) for r in world.found}

    assert registered(run(mesh(dev_settings(reorder)))) == registered(run(mesh(dev_settings())))


def test_a_machine_more_touches_no_other() -> None:
    def more(sections: dict[str, Any]) -> None:
        hosts = sections["workloads"]["echo"]["machines"]["hosts"]
        hosts["vm-0"] = json.loads(json.dumps(hosts["vm-1"]))
        hosts["vm-0"]["ssh"]["address"] = "192.0.2.10"

    before = {r.urn: json.dumps(r.inputs, sort_keys=True) for r in run(mesh(dev_settings())).found}
    after = {r.urn: json.dumps(r.inputs, sort_keys=True) for r in run(mesh(dev_settings(more))).found}
    shared = {urn for urn in before if urn.endswith("::mesh-preflights")}
    assert len(shared) == 1, "the one verdict on all machines"
    assert {urn: after.get(urn) for urn in before.keys() - shared} == {u: before[u] for u in before.keys() - shared}
    assert {urn.rpartition("::")[2].partition("-token")[0][:9] for urn in after.keys() - before.keys()} == {"mesh-vm-0"}


FILES = ("cluster.env", "mesh.yaml", "hosts", "root-cert.pem")


def test_a_first_preview_shows_what_a_machine_gets_and_hides_what_hangs_on_the_unknown() -> None:
    files = run(mesh(dev_settings()), preview=True).one("mesh-vm-1", "Sidecar").plain
    assert "ISTIO_META_CLUSTER_ID='embedded'" in files["cluster.env"]
    assert "ISTIO_SVC_IP='192.0.2.11'" in files["cluster.env"]
    assert "discoveryAddress: istiod.istio-system.svc:15012" in files["mesh.yaml"]
    assert files["package"] == f"http://192.0.2.1:8000/istio-sidecar.deb 1.31.0 sha256:{'ab' * 32}"
    assert "hosts" not in files, "the gateway has no address yet"
    assert "root-cert.pem" not in files, "istiod has not made its certificate yet"


def test_a_known_gateway_address_is_shown_in_the_first_preview() -> None:
    world = run(mesh(dev_settings(with_gateway_address)), preview=True)
    assert world.one("mesh-vm-1", "Sidecar").plain["hosts"] == "192.0.2.200 istiod.istio-system.svc\n"
    assert "mesh-gateway-address" not in world.names(), "nothing has to be awaited for it"


def test_an_unknown_gateway_address_hides_the_hosts_file_alone() -> None:
    world = run(
        mesh(dev_settings()),
        preview=True,
        answers={"mesh-control-plane-root-certificate": {"found": "ROOT"}},
    )
    files = world.one("mesh-vm-1", "Sidecar").plain
    assert [name for name in FILES if name not in files] == ["hosts"]


def test_a_later_preview_shows_every_file() -> None:
    world = run(mesh(dev_settings()), preview=True, first=False)
    for machine in ("vm-1", "vm-2"):
        files = world.one(f"mesh-{machine}", "Sidecar").plain
        assert [name for name in FILES if name not in files] == []
    assert files["hosts"] == "192.0.2.100 istiod.istio-system.svc\n"
    assert files["root-cert.pem"] == "ROOT\n"


def test_machines_join_after_their_group_and_leave_before_it() -> None:
    world = run(mesh(dev_settings()))
    group = world.one("mesh-echo-group")
    for role in ("token", "join", "ready", "membership"):
        assert world.is_after(world.one(f"mesh-vm-1-{role}"), group), role
    assert not world.is_after(group, world.one("mesh-vm-1-token"))


def test_a_route_to_a_version_comes_after_its_pods() -> None:
    """Where their update is refused, requests would be led to a version that is not there."""
    world = run(mesh(dev_settings()))
    deployment = world.one("mesh-echo-deployment")
    for routing in ("mesh-echo-destination-rule", "mesh-echo-virtual-service"):
        assert world.is_after(world.one(routing), deployment), routing


def test_a_route_alone_is_targeted_by_the_names_that_the_pages_say() -> None:
    pages = [(PROJECT_ROOT / "docs" / page).read_text() for page in ("traffic.md", "runbook.md", "metrics.md")]
    said = {re.sub("<.*?>", "echo", name) for page in pages for name in re.findall(r"--target '\*\*:(.*?)'", page)}
    world = run(mesh(dev_settings()))
    assert said == {r.name for r in world.found if r.parent == world.one("mesh-echo", "Routing").urn}


def test_one_token_and_one_join_are_replaced_by_the_names_that_the_pages_say() -> None:
    """Another machine's name may end in the same words."""
    said = "".join((PROJECT_ROOT / "docs" / page).read_text() for page in ("upgrades.md", "recovery.md"))
    names = [re.sub(r"vm-7|<vm>", "vm-1", name) for name in re.findall(r"--replace '(.*?)'", said)]
    world = run(mesh(dev_settings()))
    assert names == [f"**::{world.one(name).name}" for name in ("mesh-vm-1-token", "mesh-vm-1-join")]


def test_a_join_goes_token_join_ready_membership() -> None:
    world = run(mesh(dev_settings()))
    steps = [world.one(f"mesh-vm-1-{role}") for role in ("token", "join", "ready", "membership")]
    for earlier, later in itertools.pairwise(steps):
        assert world.is_after(later, earlier), f"{later.name} after {earlier.name}"


def test_one_machine_waits_for_no_other() -> None:
    world = run(mesh(dev_settings()))
    for role in ("token", "join", "ready", "membership"):
        for other in ("token", "join", "ready", "membership"):
            assert not world.is_after(world.one(f"mesh-vm-1-{role}"), world.one(f"mesh-vm-2-{other}"))


def order_of(world: World, *names: str) -> list[str]:
    """Names in the order in which the program asked for them."""
    return [r.name for r in world.found if r.name in names]


@pytest.mark.parametrize("said", ["staged 1\n", "Welcome!\nstaged 1\n"], ids=["alone", "after a greeting"])
def test_machines_that_a_restart_awaits_take_turns_and_the_state_knows_nothing_of_it(said: str) -> None:
    staged = {f"mesh-{machine}-join": {"stdout": said} for machine in ("vm-1", "vm-2")}
    world = run(mesh(dev_settings()), answers=staged)
    order = order_of(world, *(f"mesh-{m}-{role}" for m in ("vm-1", "vm-2") for role in ("ready", "membership")))
    first = order[0].removesuffix("-ready")
    assert order[:2] == [f"{first}-ready", f"{first}-membership"], "a member again, before the next one is touched"
    for role in ("token", "join", "ready", "membership"):
        for other in ("token", "join", "ready", "membership"):
            assert not world.is_after(world.one(f"mesh-vm-1-{role}"), world.one(f"mesh-vm-2-{other}"))
            assert not world.is_after(world.one(f"mesh-vm-2-{role}"), world.one(f"mesh-vm-1-{other}"))


def test_a_bigger_batch_is_the_stack_s_to_set_and_never_a_whole_workload() -> None:
    def bigger(sections: dict[str, Any]) -> None:
        sections["sidecar"]["upgrade"] = {"batchSize": 9}

    assert dev_settings(bigger).sidecar.upgrade.batch_size == 9
    staged = {f"mesh-{machine}-join": {"stdout": "staged 1\n"} for machine in ("vm-1", "vm-2")}
    world = run(mesh(dev_settings(bigger)), answers=staged)
    order = order_of(world, *(f"mesh-{m}-{role}" for m in ("vm-1", "vm-2") for role in ("ready", "membership")))
    assert order[1].endswith("-membership"), "two machines: one at a time"


def test_the_engine_asks_before_the_command_of_each_machine_that_may_restart_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound: dict[str, tuple[str, str]] = {}

    async def ask(self: Turn, _cluster: object, group: str, namespace: str, entry: str, seconds: float) -> None:
        assert (group, seconds) == ("echo", 120)
        bound[self.machine] = (namespace, entry)

    monkeypatch.setattr(Turn, "ask", ask)
    made: list[HybridMesh] = []

    async def program() -> bool:
        made.append(HybridMesh("mesh", HybridMeshArgs(settings=dev_settings())))
        await made[0].topology.future()
        for machine in ("vm-1", "vm-2"):
            await made[0]._turns._ask(pulumi.ResourceHookArgs(urn="", id="", name=f"mesh-{machine}-ready", type=""))
        return True

    def awaited() -> pulumi.Output[bool]:
        return pulumi.Output.from_input(program())

    run(awaited)
    assert bound == {"vm-1": ("demo", "echo-192.0.2.11-embedded"), "vm-2": ("demo", "echo-192.0.2.12-embedded")}


def test_a_machine_is_restarted_once_the_other_of_its_workload_that_joins_in_the_same_run_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meanwhile = waiting(monkeypatch, "mesh-vm-2-membership", "mesh-vm-1-ready", 1)
    world = run(mesh(dev_settings()), first=False, answers={"mesh-vm-1-join": {"stdout": "staged 1\n"}})
    assert meanwhile == [False]
    assert world.one("mesh-vm-1-ready"), "and then it is"


def test_everything_in_the_mesh_goes_before_istiod_and_istiod_before_what_it_leaves_behind() -> None:
    world = run(mesh(dev_settings()))
    istiod, base = world.one("mesh-control-plane-istiod"), world.one("mesh-control-plane-base")
    namespace, remains = world.one("mesh-control-plane-namespace"), world.one("mesh-control-plane-remains")
    chain = [istiod, base, namespace, remains]
    for later, earlier in itertools.pairwise(chain):
        assert world.is_after(later, earlier)
    inside = [
        r
        for r in world.found
        if r.type.startswith(("kubernetes:", "pulumi-python:", "command:remote:")) and r not in chain and not r.read
    ]
    assert len(inside) > 15
    assert [r.name for r in inside if not world.is_after(r, istiod)] == []


def test_pods_are_injected_so_they_follow_the_labelled_namespace() -> None:
    world = run(mesh(dev_settings()))
    namespace = world.one("mesh-demo-namespace")
    assert namespace.value("metadata")["labels"] == {"istio-injection": "enabled"}
    for name in ("mesh-echo-deployment", "mesh-client-deployment"):
        assert world.is_after(world.one(name), namespace)


def test_a_namespace_that_two_workloads_share_is_made_once_and_strict_once() -> None:
    world = run(mesh(dev_settings()))
    assert [r.name for r in world.of_type("core/v1:Namespace")] == [
        "mesh-control-plane-namespace",
        "mesh-demo-namespace",
    ]
    (policy,) = world.of_type("PeerAuthentication")
    assert policy.value("spec") == {"mtls": {"mode": "STRICT"}}
    assert policy.value("metadata") == {"name": "default", "namespace": "demo"}


def test_an_existing_namespace_is_left_as_it_is() -> None:
    def existing(sections: dict[str, Any]) -> None:
        sections["namespaces"] = {"demo": {"existing": True}}

    world = run(mesh(dev_settings(existing)))
    assert [r.name for r in world.of_type("core/v1:Namespace")] == ["mesh-control-plane-namespace"]
    assert world.of_type("PeerAuthentication") == []
    assert world.is_after(world.one("mesh-echo-deployment"), world.one("mesh-control-plane-istiod"))


def test_mtls_none_makes_no_policy() -> None:
    def none(sections: dict[str, Any]) -> None:
        sections["mtls"] = "none"

    assert run(mesh(dev_settings(none))).of_type("PeerAuthentication") == []


def adopted(sections: dict[str, Any]) -> None:
    sections["controlPlane"] = {"mode": "adopt", "version": "1.31.0"}
    sections["gateway"] = {"mode": "adopt"}


@MODES
def test_an_adopted_mesh_is_read_and_never_changed(preview: bool) -> None:
    world = run(mesh(dev_settings(adopted)), preview=preview, first=False)
    assert world.of_type("Release") == []
    assert world.of_type("IstioRemains") == []
    assert world.of_type("networking.istio.io/v1:Gateway") == []
    assert [r.name for r in world.of_type("core/v1:Namespace")] == ["mesh-demo-namespace"]
    looked_up = {r.name: f"{r.value('namespace')}/{r.value('name')}" for r in world.found if r.value("adopted")}
    assert looked_up == {
        "mesh-control-plane-mesh-config": "istio-system/istio",
        "mesh-control-plane-root-certificate": "istio-system/istio-ca-root-cert",
        "mesh-gateway-address": "istio-system/istio-eastwestgateway",
    }
    files = world.one("mesh-vm-1", "Sidecar").plain
    assert "TRUST_DOMAIN='adopted.example'" in files["cluster.env"]


@MODES
def test_an_istio_is_looked_at_before_all_else_of_the_stack_that_adopts_it(preview: bool) -> None:
    settings = dev_settings(adopted)
    world = run(mesh(settings), preview=preview)
    (first,) = world.of_type("AdoptedIstiod")
    made = [r for r in world.found if r.type.startswith(("kubernetes:", "command:", "pulumi"))]
    assert [r.type for r in made[:2]] == [first.type, "pulumi:providers:kubernetes"]
    assert json.loads(first.value("asked")) == json.loads(json.dumps(asdict(asked_of_adopted(settings)["default"])))
    assert run(mesh(dev_settings()), preview=preview).of_type("AdoptedIstiod") == []


def test_what_is_asked_of_an_istio_that_is_adopted() -> None:
    def change(sections: dict[str, Any]) -> None:
        everything(sections)
        adopted(sections)
        sections["controlPlane"]["revisions"] = {"next": {"version": "1.30.1"}, "same": {}}
        sections["namespaces"] = {"demo": {"existing": True}}

    asked = asked_of_adopted(dev_settings(change))
    injected = {"istio-injection": "enabled"}
    assert asked["default"] == Asked(
        namespace="istio-system",
        revision="default",
        version="1.31.0",
        version_at="controlPlane.version",
        cluster="embedded",
        network="embedded",
        domain="cluster.local",
        networks=["far"],
        gateway="istio-eastwestgateway",
        namespaces={"demo": {}, "network-gateways": injected, "hybrid-mesh-metrics": injected},
        pods_in=["demo"],
        registers="workloads.echo.machines.registration",
        probe="workloads.echo.probe",
        joins=True,
        signs=True,
        watched="workloads.echo.machines.hosts",
        finds=True,
        inbound_port="",
        cut_off_seconds=15,
        plain="",
        routed={"echo": ("demo", ["echo.demo.svc.cluster.local"])},
    )
    place = "controlPlane.revisions.next.version"
    beside = replace(asked["default"], pods_in=[])
    assert asked["next"] == replace(beside, revision="next", version="1.30.1", version_at=place)
    assert asked["same"] == replace(beside, revision="same", version_at="controlPlane.revisions.same.version")


def test_a_rule_that_says_nothing_of_tls_is_named_where_plain_text_is_refused() -> None:
    def plain(change: Callable[[dict[str, Any]], object]) -> str:
        def both(sections: dict[str, Any]) -> None:
            adopted(sections)
            change(sections)

        return asked_of_adopted(dev_settings(both))["default"].plain

    mutual = {"tls": {"mode": "ISTIO_MUTUAL"}}
    assert plain(lambda _: None) == "routing.echo"
    assert plain(lambda s: s["routing"]["echo"].update(mutual)) == ""
    assert plain(lambda s: s.update(namespaces={"demo": {"trafficPolicy": mutual}})) == ""
    assert plain(lambda s: s.update(namespaces={"demo": {"existing": True}})) == "", "its owner says what is refused"
    assert plain(lambda s: s.update(mtls="PERMISSIVE")) == ""

    def for_all(sections: dict[str, Any]) -> None:
        sections["routing"]["echo"].update(mutual)
        sections["namespaces"] = {"demo": {"trafficPolicy": {"loadBalancer": {}}}}

    assert plain(for_all) == "namespaces.demo.trafficPolicy"


def test_what_no_machine_needs_is_not_asked_of_an_istio_that_is_adopted() -> None:
    def change(sections: dict[str, Any]) -> None:
        adopted(sections)
        sections["workloads"]["echo"]["machines"]["registration"] = "static"
        del sections["workloads"]["echo"]["probe"]
        sections["sidecar"]["environment"]["CA_ADDR"] = "ca.example.com:443"
        sections["workloads"]["echo"]["labels"] = {"sidecar.istio.io/inject": "true"}
        sections["workloads"]["client"]["labels"] = {"istio.io/rev": "default"}
        sections["workloads"]["aside"] = {
            "namespace": "demo",
            "pods": sections["workloads"]["client"]["pods"],
            "labels": {"sidecar.istio.io/inject": "false"},
        }

    def beside_gateways(sections: dict[str, Any]) -> None:
        change(sections)
        far(sections)
        sections["workloads"]["remote"]["machines"]["registration"] = "static"

    asked = asked_of_adopted(dev_settings(change))["default"]
    assert (asked.registers, asked.probe, asked.signs, asked.pods_in) == ("", "", False, [])
    assert (asked.watched, asked.joins) == ("workloads.echo.machines.hosts", True), "static ones join, too"
    assert asked_of_adopted(dev_settings(beside_gateways))["default"].registers == "networks.far.gateway"


def test_the_trust_domain_of_an_adopted_mesh_is_in_every_identity() -> None:
    seen: list[Any] = []

    def program() -> object:
        topology = HybridMesh("mesh", HybridMeshArgs(settings=dev_settings(adopted))).topology
        return topology.apply(seen.append)

    run(program)
    assert seen[0]["workloads"]["client"]["identity"] == "spiffe://adopted.example/ns/demo/sa/client"


def test_the_topology_says_what_is_there_in_plain_json() -> None:
    seen: list[Any] = []

    def program() -> object:
        component = HybridMesh("mesh", HybridMeshArgs(settings=dev_settings()))
        return pulumi.Output.all(component.topology, component.drawing, component.topology.is_secret()).apply(
            seen.append
        )

    run(program)
    topology, drawing, is_secret = seen[0]
    assert not is_secret
    assert json.loads(json.dumps(topology)) == topology
    assert not any(secret in json.dumps(topology) for secret in SECRETS)
    assert topology["machines"]["vm-2"]["kind"] == "command"
    assert topology["machines"]["vm-2"]["address"] == "192.0.2.12"
    assert topology["machines"]["vm-1"]["identity"] == "spiffe://cluster.local/ns/demo/sa/echo"
    assert topology["machines"]["vm-1"]["certificateExpiry"] == "2030-01-01T00:00:00Z"
    assert re.fullmatch("[0-9a-f]{64}", topology["machines"]["vm-1"]["generation"])
    assert topology["workloads"]["echo"]["weights"] == {"k8s": 90, "vm": 10}
    assert topology["gateway"] == {"name": "istio-eastwestgateway", "address": "192.0.2.100"}
    assert drawing.startswith("flowchart LR\n")
    assert 'service-echo --" 90 % "--> pods-echo' in drawing
    assert 'service-echo --" 10 % among 2 "--> vm-vm-1' in drawing


def test_a_gateway_that_is_adopted_by_its_address_is_told_as_such() -> None:
    def by_address(sections: dict[str, Any]) -> None:
        adopted(sections)
        sections["gateway"] |= {"address": "192.0.2.7"}

    seen: list[Any] = []

    def program() -> object:
        made = HybridMesh("mesh", HybridMeshArgs(settings=dev_settings(by_address)))
        return made.topology.apply(seen.append)

    run(program)
    assert seen[0]["gateway"] == {"name": "istio-eastwestgateway", "address": "192.0.2.7", "byAddress": True}


@MODES
def test_a_lost_machine_has_no_resource_and_is_named_in_the_preview(preview: bool) -> None:
    def change(sections: dict[str, Any]) -> None:
        sections["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["lost"] = True

    world = run(mesh(dev_settings(change)), preview=preview)
    assert not [name for name in world.names() if "vm-1" in name]
    assert "mesh-vm-2-join" in world.names()
    assert "mesh-echo-group" in world.names()
    assert world.one("mesh", "HybridMesh").plain["lost"] == ["vm-1"]
    assert "lost" not in run(mesh(dev_settings()), preview=preview).one("mesh", "HybridMesh").plain


@MODES
@pytest.mark.parametrize(
    ("said", "by_config", "noted"),
    [
        (True, None, True),
        (["192.0.2.99"], None, ["192.0.2.99"]),
        (True, True, None),
        (["192.0.2.99"], ["192.0.2.98", "192.0.2.99"], None),
        (["192.0.2.99"], False, ["192.0.2.99"]),
    ],
)
def test_providers_are_told_who_is_lost_where_the_stack_s_config_does_not_say_so(
    monkeypatch: pytest.MonkeyPatch, said: object, by_config: object, noted: object, preview: bool
) -> None:
    def change(sections: dict[str, Any]) -> None:
        sections["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["lost"] = said

    workloads = {"echo": {"machines": {"hosts": {"vm-1": {"lost": by_config}}}}}
    config = {} if by_config is None else {"hybrid-mesh:workloads": json.dumps(workloads)}
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps(config))
    found = {r.name: r.value("machines") for r in run(mesh(dev_settings(change)), preview=preview).found}
    assert found.get("mesh-lost") == (None if noted is None else {"vm-1": noted})


def everything(sections: dict[str, Any]) -> None:
    far(sections)
    sections["observability"] = {"image": "metrics:1", "scrapers": ["10.0.0.0/16"]}


@pytest.mark.parametrize("change", [lambda _: None, everything], ids=["dev", "network and metrics"])
def test_a_destroy_first_asks_who_else_uses_istio(change: Callable[[dict[str, Any]], None]) -> None:
    world = run(mesh(dev_settings(change)))
    asks = world.one("mesh-adopters")
    made = {r.value("metadata")["name"] for r in world.found if r.type.endswith(":Namespace")}
    assert "demo" in made
    assert {*asks.inputs["own"], asks.inputs["namespace"]} >= made, "it would be refused for a namespace of its own"
    others = [r for r in world.found if r.name not in ("mesh-adopters", "mesh") and "pulumi:pulumi" not in r.type]
    components = {r.urn for r in world.found if r.type.startswith("hybridmesh:")}
    late = [r.name for r in others if r.urn not in components and not world.is_after(asks, r)]
    assert late == [], "these could be deleted before the question is asked"


def test_the_departure_of_a_machine_that_a_command_made_names_what_would_remove_it() -> None:
    world = run(mesh(dev_settings()))
    made = world.one("mesh-vm-2-machine")
    assert world.one("mesh-vm-2-departure").value("command") == {"urn": made.urn, "removes": True}
    assert world.one("mesh-vm-1-departure").value("command") is None


def hand_over_all(sections: dict[str, Any]) -> None:
    sections["controlPlane"] = {"mode": "adopt", "version": "1.31.0", "admissionPolicies": True}
    sections["gateway"] = {"mode": "adopt", "address": "192.0.2.77"}
    sections["namespaces"] = {"demo": {"existing": True}}


def test_what_is_somebody_else_s_and_would_be_removed_is_asked_for_whole() -> None:
    before, after = (run(mesh(dev_settings(change))) for change in (lambda _: None, hand_over_all))
    olds, news = (dict(world.one("mesh-adopters").inputs) for world in (before, after))
    assert "others" not in olds
    assert set(news["others"]) == {"istiod", "gateway istio-eastwestgateway", "namespace demo"}
    goes = {r.urn for r in before.found if r.name in before.names() - after.names()}
    noted = {
        urn for what in news["others"] for urn in set(olds["resources"][what]) - set(news["resources"].get(what, []))
    }
    assert noted == {urn for urn in goes if "hybridmesh:" not in urn.rpartition("$")[2]}
    with pytest.raises(ClusterError) as refused:
        AdoptersProvider().update("id", olds, news)
    for urn in noted:
        assert f"'{urn}'" in str(refused.value)


def test_what_was_somebody_else_s_from_the_first_is_asked_for_by_nobody() -> None:
    news = dict(run(mesh(dev_settings(hand_over_all))).one("mesh-adopters").inputs)
    AdoptersProvider().update("id", {**news, "own": ["demo", "leaving"]}, news)
    AdoptersProvider().delete("id", news)


def test_a_vm_that_moves_to_another_workload_is_the_same_resources_with_another_identity() -> None:
    def moved(sections: dict[str, Any]) -> None:
        echo = sections["workloads"]["echo"]
        hosts = {"vm-1": echo["machines"]["hosts"].pop("vm-1")}
        sections["workloads"]["shop"] = {"namespace": "demo", "ports": echo["ports"], "machines": {"hosts": hosts}}

    before, after = run(mesh(dev_settings())), run(mesh(dev_settings(moved)))

    def of_the_vm(world: World) -> set[tuple[str, str, str]]:
        return {(r.type, r.name, r.parent) for r in world.found if r.name.startswith("mesh-vm-1")}

    assert of_the_vm(before) == of_the_vm(after), "replaced, it would leave"
    identities = [world.one("mesh-vm-1-token").value("identity") for world in (before, after)]
    assert identities == ["spiffe://cluster.local/ns/demo/sa/echo", "spiffe://cluster.local/ns/demo/sa/shop"]
