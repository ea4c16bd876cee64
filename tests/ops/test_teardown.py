"""A mesh is taken down by one command: what it asks, what it refuses, what it says is left."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from hybridmesh.__main__ import app
from hybridmesh.ops import teardown as module
from hybridmesh.ops.ssh import Answer, Reachable, SshError
from hybridmesh.ops.teardown import declared_lost, protected, without_cluster
from hybridmesh.ops.topology import StackError
from hybridmesh.providers.cluster import ClusterError
from tests.ci.fakes import calls, program
from tests.components.harness import PROJECT_ROOT, write_files
from tests.providers.fake_cluster import FakeCluster
from tests.providers.test_remains import ENTRIES, GATEWAYS, crd
from tests.settings.test_network_rules import far

STACK = "urn:pulumi:dev::hybrid-mesh::"
PULUMI = """
case "$*" in
  "stack export"*) cat "$(dirname "$0")/state.json" ;;
  "stack output"*) echo "{\\"topology\\": $(cat "$(dirname "$0")/topology.json")}" ;;
  "state unprotect"*) ls -A > "$(dirname "$0")/files" ;;
  "stack import"*) cat > "$(dirname "$0")/imported.json" ;;
  destroy*) cp "$HYBRID_MESH_STACK_FILE" "$(dirname "$0")/told.yaml"
    [ -z "$SLOW" ] || exec sleep 5
    exit "${FAIL:-0}" ;;
esac
"""
TOPOLOGY = {
    "machines": {
        "vm-2": {"address": "192.0.2.12", "port": 22, "user": "root", "hostKey": "ssh-ed25519 AAAA"},
    }
}


def resource(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"urn": f"{STACK}{kind}::{name}", "type": kind, **more}


def state(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"version": 3, "deployment": {"resources": list(resources)}}


class World:
    """What the command meets."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.cluster = FakeCluster()
        self.answers: dict[str, Answer | SshError] = {}
        self.asked: list[tuple[str, list[str]]] = []
        self.cluster_error = ""

    def state(self, *resources: dict[str, Any]) -> None:
        (self.bin / "state.json").write_text(json.dumps(state(*resources)))

    def connect(self, _: Any) -> FakeCluster:
        if self.cluster_error:
            raise ClusterError(self.cluster_error)
        return self.cluster

    def run_on_all(self, machines: Mapping[str, Reachable], command: str, *_: Any) -> dict[str, Answer | SshError]:
        self.asked.append((command, sorted(machines)))
        return {
            name: self.answers.get(name, Answer(name, 0, "looked\n", "hybrid-mesh: step end\n")) for name in machines
        }

    def run(self, *options: str, says: str = "", **env: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["teardown", "--stack", "dev", *options], input=says, env=env)
        return done.exit_code, done.output

    def destroyed(self) -> bool:
        return any(call.startswith("pulumi destroy") for call in calls(self.bin))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    project = tmp_path / "project"
    write_files(project)
    (project / "Pulumi.dev.yaml").write_text((PROJECT_ROOT / "Pulumi.dev.yaml").read_text())
    made = World(tmp_path)
    made.bin.mkdir()
    program(made.bin, "pulumi", PULUMI)
    (made.bin / "topology.json").write_text(json.dumps(TOPOLOGY))
    made.state(resource("kubernetes:core/v1:Namespace", "mesh-demo-namespace"))
    monkeypatch.setenv("PATH", f"{made.bin}:/usr/bin:/bin")
    monkeypatch.chdir(project)
    monkeypatch.setattr(module, "connect", made.connect)
    monkeypatch.setattr(module, "run_on_all", made.run_on_all)
    return made


def unreachable(name: str) -> SshError:
    return SshError(name, "unreachable", "SSH does not answer at 192.0.2.11:22", "Nothing is known.", "see to it.")


def test_it_asks_and_a_no_ends_it(world: World) -> None:
    code, said = world.run(says="n\n")
    assert code == 1
    assert "will go: stack dev, 1 resources" in said
    assert "will go: vm-2" in said
    assert not world.destroyed()


def test_a_yes_destroys_and_then_looks(world: World) -> None:
    code, said = world.run(says="y\n")
    assert (code, world.destroyed()) == (0, True)
    assert "dev: nothing is left. `pulumi stack rm dev --preserve-config` removes the empty stack" in said
    assert "without the option Pulumi.dev.yaml goes with it" in said, "which may be nowhere else"
    assert world.asked[-1] == (module.LEFT_ON_A_VM, ["vm-1"]), "vm-2 was the stack's own, and is gone"


def test_of_an_empty_stack_nothing_is_removed_but_what_is_left_is_looked_for(world: World) -> None:
    world.state()
    code, said = world.run()
    assert code == 0, said
    assert "dev: the stack is empty. Nothing is removed; what it may have left is looked for." in said
    assert "dev: nothing is left." in said
    world.answers = {"vm-1": Answer("vm-1", 0, "Welcome to vm-1\nlooked\n", "")}
    assert "dev: nothing is left." in world.run()[1], "a login shell greets"
    world.cluster.namespaces = {"": ["default", "demo", "istio-system"]}
    world.cluster.crds = [crd(GATEWAYS), crd("x.istio.io", release="somebody")]
    world.answers = {"vm-1": Answer("vm-1", 0, "/var/lib/hybrid-mesh\nlooked\n", "")}
    code, said = world.run()
    assert code == 1
    assert [line for line in said.splitlines() if line.startswith("left: ")] == [
        "left: namespace demo: if it is nobody else's, kubectl delete namespace demo",
        "left: namespace istio-system: if it is nobody else's, kubectl delete namespace istio-system",
        f"left: 1 CRDs of Istio: if they are nobody else's, kubectl delete crd {GATEWAYS}",
        "left: vm-1: /var/lib/hybrid-mesh: see docs/on-the-vm.md, how to leave by hand",
    ]
    world.answers = {"vm-1": unreachable("vm-1")}
    assert "left: vm-1: nobody could look: vm-1: SSH does not answer at 192.0.2.11:22" in world.run()[1]
    world.answers = {"vm-1": Answer("vm-1", 0, "Backups only.\n", "")}
    assert "left: vm-1: nobody could look: its sshd ran something else" in world.run()[1]
    world.answers = {"vm-1": Answer("vm-1", 1, "", "for: Command not found.")}
    assert "left: vm-1: nobody could look: it ended with 1: for: Command not found." in world.run()[1]
    assert not world.destroyed()


def test_a_protected_stack_takes_its_name(world: World) -> None:
    world.state(resource("kubernetes:core/v1:Namespace", "mesh-demo-namespace", protect=True))
    code, said = world.run("--yes")
    assert code == 1
    assert "dev is protected. Nothing was removed. Fix: --even-protected dev" in said
    assert world.run(says="other\n")[0] == 1
    assert not world.destroyed()
    assert world.run(says="dev\n")[0] == 0
    assert any("state unprotect --all --yes --stack dev" in call for call in calls(world.bin))
    assert world.run("--yes", "--even-protected", "dev")[0] == 0


def test_what_google_was_told_not_to_remove_is_told_before_anything_else_goes(world: World) -> None:
    kinds = (("canary", True), ("spare", False))
    world.state(
        *(
            resource(
                "gcp:compute/instance:Instance", f"mesh-{name}", outputs={"name": name, "deletionProtection": kept}
            )
            for name, kept in kinds
        )
    )
    code, said = world.run("--yes", "--even-protected", "dev")
    assert code == 1
    assert "canary is protected by Google, which would not remove it. Nothing was removed." in said
    assert "Fix: `protect: false` for it, `pulumi up`, and run this again." in said
    assert "spare" not in said
    assert not world.destroyed()


def test_a_vm_that_does_not_answer_is_a_choice_not_a_crash(world: World) -> None:
    world.answers = {"vm-1": unreachable("vm-1")}
    code, said = world.run("--yes")
    assert code == 1
    assert "Nothing was removed. Choose: make it reachable, and run this again" in said
    assert "`--lost vm-1`" in said
    assert not world.destroyed()


def test_a_lost_vm_is_not_asked_and_counts_as_left(world: World) -> None:
    world.answers = {"vm-1": unreachable("vm-1")}
    code, said = world.run("--yes", "--lost", "vm-1")
    assert (code, world.destroyed()) == (1, True)
    assert "left: vm-1: was not asked" in said
    assert all("vm-1" not in machines for _, machines in world.asked)
    told = yaml.safe_load((world.bin / "told.yaml").read_text())["config"]["hybrid-mesh:workloads"]["echo"]
    assert told["machines"]["hosts"]["vm-1"]["lost"] is True
    assert "lost" not in told["machines"]["hosts"]["vm-2"]
    assert not list(Path.cwd().glob(".*.teardown"))
    assert world.run("--yes", "--lost", "vm-9")[1].startswith("Error: --lost vm-9: no machine of the stack.")


def test_a_vm_that_is_lost_by_the_settings_is_not_asked_either(world: World) -> None:
    file = Path("Pulumi.dev.yaml")
    file.write_text(yaml.safe_dump(declared_lost(yaml.safe_load(file.read_text()), ["vm-1"])))
    world.answers = {"vm-1": unreachable("vm-1")}
    code, said = world.run("--yes")
    assert (code, world.destroyed()) == (1, True)
    assert "will go: vm-1, not asked" in said
    assert "left: vm-1: was not asked" in said
    assert all("vm-1" not in machines for _, machines in world.asked)


def test_who_is_lost_is_written_before_anything_is_changed_whatever_else_stands_in_the_file(world: World) -> None:
    file = Path("Pulumi.dev.yaml")
    file.write_text(f"{file.read_text()}\n  other:since: 2026-01-31\n")
    world.state(resource("kubernetes:core/v1:Namespace", "mesh-demo-namespace", protect=True))
    Path(".Pulumi.dev.yaml.teardown").touch(mode=0o644)  # of a run that was cut off
    world.run("--even-protected", "dev", "--lost", "vm-1")
    assert ".Pulumi.dev.yaml.teardown" in (world.bin / "files").read_text()
    assert "other:since: 2026-01-31" in (world.bin / "told.yaml").read_text()
    assert (world.bin / "told.yaml").stat().st_mode & 0o077 == 0, "a stack file may have a key in it"


def test_a_cluster_that_does_not_answer_is_a_choice_not_a_crash(world: World) -> None:
    world.cluster_error = "connection refused."
    code, said = world.run("--yes")
    assert code == 1
    assert "the cluster does not answer: connection refused. Nothing was removed. Choose: " in said
    assert "`--cluster-gone`" in said
    assert not world.destroyed()


def test_without_its_cluster_the_vms_are_cleaned_and_the_rest_is_forgotten(world: World) -> None:
    world.cluster_error = "connection refused."
    command = resource("command:local:Command", "mesh-vm-2-machine", dependencies=[f"{STACK}kubernetes:x::ns"])
    world.state(resource("kubernetes:x", "ns"), resource("pulumi-python:dynamic:Departure", "d"), command)
    code, said = world.run("--yes", "--cluster-gone")
    assert (code, world.destroyed()) == (0, True)
    assert "vm-1: has left" in said
    (imported,) = json.loads((world.bin / "imported.json").read_text())["deployment"]["resources"]
    assert imported["urn"] == command["urn"]
    assert imported["dependencies"] == []


def namespace(name: str) -> dict[str, Any]:
    return resource("kubernetes:core/v1:Namespace", f"mesh-{name}-namespace", outputs={"metadata": {"name": name}})


def test_what_is_left_is_named_and_ends_with_status_1(world: World) -> None:
    installed = {"namespace": "istio-system", "baseRelease": "istio-base", "crdsBefore": [ENTRIES]}
    remains = resource("pulumi-python:dynamic:IstioRemains", "mesh-control-plane-remains", outputs=installed)
    world.state(namespace("demo"), namespace("istio-system"), namespace("gone"), remains)
    world.cluster.namespaces = {"": ["default", "demo", "istio-system"]}
    world.cluster.crds = [crd(GATEWAYS), crd(ENTRIES), crd("x.istio.io", release="somebody")]
    world.answers = {"vm-1": Answer("vm-1", 0, "/etc/istio\n/var/lib/istio\nlooked\n", "")}
    code, said = world.run("--yes")
    assert code == 1
    assert [line for line in said.splitlines() if line.startswith("left: ")] == [
        "left: namespace demo: kubectl delete namespace demo",
        "left: namespace istio-system: kubectl delete namespace istio-system",
        f"left: 1 CRDs of Istio: kubectl delete crd {GATEWAYS}",
        "left: vm-1: /etc/istio, /var/lib/istio: see docs/on-the-vm.md, how to leave by hand",
    ]
    world.cluster.objects = {GATEWAYS: ["Gateway shop/theirs"]}
    assert f"in them are Gateway shop/theirs; see to these, then kubectl delete crd {GATEWAYS}" in world.run("--yes")[1]
    world.cluster.deployments = ["elsewhere/istiod"]
    assert "CRDs" not in world.run("--yes")[1], "somebody else's istiod needs them"


def settings(change: Callable[[dict[str, Any]], object]) -> None:
    """Another stack file in place of the dev stack's."""
    file = Path("Pulumi.dev.yaml")
    document = yaml.safe_load(file.read_text())
    sections = {key.removeprefix("hybrid-mesh:"): value for key, value in document["config"].items()}
    change(sections)
    file.write_text(yaml.safe_dump({"config": {f"hybrid-mesh:{key}": value for key, value in sections.items()}}))


def left(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("left: ")]


def test_what_is_not_the_stack_s_is_never_said_to_be_left(world: World) -> None:
    """Whoever reads it does what stands there: `kubectl delete namespace`."""
    world.state()
    world.cluster.namespaces = {"": ["demo", "istio-system"]}
    world.cluster.crds = [crd(GATEWAYS)]
    settings(lambda sections: sections.update(namespaces={"demo": {"existing": True}}))
    assert [line.partition(":")[2].split(":")[0] for line in left(world.run()[1])] == [
        " namespace istio-system",
        " 1 CRDs of Istio",
    ]
    settings(lambda s: s.update(controlPlane={"mode": "adopt", "version": "1.31.0"}, gateway={"mode": "adopt"}))
    assert world.run()[0] == 0


def test_a_gateway_s_namespace_and_that_of_metrics_are_looked_for_too(world: World) -> None:
    """A destroy that was cut off may have left them, and nothing of them in the state."""

    def more(sections: dict[str, Any]) -> None:
        far(sections)
        sections["observability"] = {"image": "metrics:1", "scrapers": ["10.0.0.0/8"]}

    world.state()
    settings(more)
    world.cluster.namespaces = {"": ["network-gateways", "hybrid-mesh-metrics", "shop"]}
    world.cluster.crds = []
    assert [line.partition(": kubectl")[0].partition(", ")[0] for line in left(world.run()[1])] == [
        "left: namespace hybrid-mesh-metrics: if it is nobody else's",
        "left: namespace network-gateways: if it is nobody else's",
    ]


def test_a_protected_stack_goes_by_no_other_s_name(world: World) -> None:
    world.state(resource("kubernetes:core/v1:Namespace", "mesh-demo-namespace", protect=True))
    code, said = world.run("--yes", "--even-protected", "prod")
    assert code == 1
    assert "dev is protected. Nothing was removed." in said
    assert not world.destroyed()


def test_without_its_cluster_a_lost_vm_is_not_asked_either_and_one_that_cannot_leave_is_named(world: World) -> None:
    world.cluster_error = "connection refused."
    world.answers = {"vm-2": Answer("vm-2", 1, "", "FAILED at step stop")}
    code, said = world.run("--yes", "--cluster-gone", "--lost", "vm-1")
    assert (code, world.destroyed()) == (1, True)
    assert all("vm-1" not in machines for _, machines in world.asked)
    assert "vm-2: could not leave: it ended with 1: FAILED at step stop" in said
    world.answers = {"vm-2": Answer("vm-2", 0, "Backups only.\n", "")}
    assert "vm-2: could not leave: its sshd ran something else" in world.run("--yes", "--cluster-gone")[1]


def test_the_cluster_looked_at_is_the_one_of_the_settings_and_it_must_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(lambda sections: sections["cluster"].update(context="here"))
    seen: set[Any] = set()

    def connect(props: dict[str, Any]) -> FakeCluster:
        seen.add(props["context"])
        return world.connect(props)

    monkeypatch.setattr(module, "connect", connect)
    assert world.run("--yes")[0] == 0
    assert seen == {"here"}

    def silent(_: str) -> Mapping[str, str]:
        raise ClusterError("no answer.")

    monkeypatch.setattr(world.cluster, "namespaces_labelled", silent)
    code, said = world.run("--yes")
    assert code == 1
    assert "the cluster does not answer: no answer. Nothing was removed." in said


def test_the_settings_that_were_named_are_those_that_are_destroyed_by(world: World) -> None:
    elsewhere = Path("elsewhere.yaml")
    elsewhere.write_text(Path("Pulumi.dev.yaml").read_text() + "# of another name\n")
    Path("Pulumi.dev.yaml").unlink()
    assert world.run("--yes", "--config-file", "elsewhere.yaml")[0] == 0
    (destroy,) = [call for call in calls(world.bin) if call.startswith("pulumi destroy")]
    assert f"--stack dev --config-file {elsewhere.absolute()}" in destroy
    assert (world.bin / "told.yaml").read_text() == elsewhere.read_text(), "who is lost is read of it too"


def test_a_destroy_that_fails_says_so(world: World) -> None:
    code, said = world.run("--yes", FAIL="1")
    assert code == 1
    assert "did not come to its end" in said


@pytest.mark.parametrize("fails", ["0", "1"])
def test_no_copy_of_the_kubeconfig_is_left(world: World, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    text = "users: [{user: {token: S3CRET}}]\n"
    Path(".lab/dev/kubeconfig").write_text(text)
    copy = world.bin / "kubeconfig1175964228"
    copy.write_text(text)
    copy.chmod(0o600)
    monkeypatch.setattr(tempfile, "tempdir", str(world.bin))
    world.run("--yes", FAIL=fails)
    assert world.destroyed()
    assert not copy.exists()


def test_a_destroy_that_takes_too_long_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DESTROY_SECONDS", 0.5)
    code, said = world.run("--yes", "--lost", "vm-1", SLOW="1")
    assert code == 1
    assert "Error: `pulumi destroy` did not end within" in said
    assert not list(Path.cwd().glob(".*.teardown"))


def test_protected_and_lost_and_forgotten_are_plain_functions() -> None:
    one, two = resource("a:b:C", "one", protect=True), resource("a:b:C", "two")
    assert protected(state(one, two)) == ["one"]
    assert protected({}) == []
    document: dict[str, Any] = {
        "config": {"hybrid-mesh:networks": {"far": {"gateway": {"hosts": {"gw": {}, "other": {}}}}}}
    }
    changed = declared_lost(document, ["gw"])
    assert changed["config"]["hybrid-mesh:networks"]["far"]["gateway"]["hosts"] == {"gw": {"lost": True}, "other": {}}
    assert document["config"]["hybrid-mesh:networks"]["far"]["gateway"]["hosts"]["gw"] == {}
    depends = resource("a:b:C", "x", propertyDependencies={"p": [f"{STACK}kubernetes:x::ns", one["urn"]]})
    kept = without_cluster(state(resource("kubernetes:x", "ns"), depends))["deployment"]["resources"]
    assert kept[0]["propertyDependencies"] == {"p": [one["urn"]]}
    ways = [resource(f"pulumi:providers:{name}", name) for name in ("kubernetes", "command")]
    assert without_cluster(state(*ways))["deployment"]["resources"] == ways[1:]


def test_a_lost_machine_in_a_section_that_is_encrypted_as_a_whole_is_said() -> None:
    with pytest.raises(StackError, match=r"vm-1 is lost, and its section is encrypted.*Fix: "):
        declared_lost({"config": {"hybrid-mesh:workloads": {"secure": "v1:abc"}}}, ["vm-1"])
