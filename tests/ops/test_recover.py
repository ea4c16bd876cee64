"""What is put right after a run that was killed, and what is left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hybridmesh.__main__ import app
from hybridmesh.ops import recover, topology
from hybridmesh.ops.recover import cluster_of, cut_off_notes, interrupted, recovered, repairs
from hybridmesh.ops.topology import StackError
from tests.providers.fake_cluster import FakeCluster

STACK = "urn:pulumi:dev::hybrid-mesh::"
PROVIDER = f"{STACK}pulumi:providers:kubernetes::mesh-kubernetes"
WHO = ("whoami", "--verbose", "--json")
ISTIOD = f"{STACK}kubernetes:helm.sh/v3:Release::mesh-control-plane-istiod"


def operation(kind_of: str, urn: str = ISTIOD, **inputs: Any) -> dict[str, Any]:
    given = inputs or {"name": "istiod", "namespace": "istio-system"}
    resource = {"urn": urn, "type": urn.split("::")[2], "inputs": given, "provider": f"{PROVIDER}::id-1"}
    return {"type": kind_of, "resource": resource}


def state(*operations: dict[str, Any]) -> dict[str, Any]:
    provider = {"urn": PROVIDER, "id": "id-1", "inputs": {"kubeconfig": "kubeconfig", "context": "here"}}
    return {
        "version": 3,
        "deployment": {
            "manifest": {},
            "resources": [provider, {"urn": ISTIOD}],
            "pending_operations": list(operations),
        },
    }


def plan(kind: str, *records: tuple[str, str]) -> list[tuple[str, str]]:
    operations = interrupted(state(operation(kind)))
    return [(repair.what.partition(":")[0], repair.record) for repair in repairs(operations, {ISTIOD: records})]


@pytest.mark.parametrize("status", ["pending-install", "deployed", "failed"])
def test_a_release_that_the_state_does_not_know_loses_helm_s_record_or_helm_would_refuse_its_name(status: str) -> None:
    assert plan("creating", ("istiod.v1", status)) == [(f"release istio-system/istiod is {status}", "istiod.v1")]


@pytest.mark.parametrize(
    "records", [[("istiod.v6", "superseded"), ("istiod.v7", "deployed")], [("istiod.v7", "deployed")]]
)
def test_a_release_that_was_there_before_and_is_another_s_keeps_its_records(records: list[tuple[str, str]]) -> None:
    assert plan("creating", *records) == [("leave release istio-system/istiod", "")]


def test_an_upgrade_that_was_caught_half_way_is_taken_back_to_the_last_that_was_deployed() -> None:
    records = (("istiod.v1", "superseded"), ("istiod.v2", "deployed"), ("istiod.v3", "pending-upgrade"))
    assert plan("updating", *records) == [("release istio-system/istiod is pending-upgrade", "istiod.v3")]
    for status in ("pending-install", "pending-rollback"):
        assert plan("updating", ("istiod.v1", status)) == [(f"release istio-system/istiod is {status}", "istiod.v1")]
    assert plan("updating", *records[:2]) == []


def test_a_release_that_is_gone_is_forgotten_and_one_that_is_going_is_not() -> None:
    assert plan("deleting") == [("release istio-system/istiod is gone from the cluster", "")]
    for status in ("uninstalling", "pending-upgrade"):
        assert plan("deleting", ("istiod.v1", status)) == []
    assert plan("updating") == [], "that it was to be updated does not say so"


def test_everything_else_is_done_by_running_again() -> None:
    urn = f"{STACK}command:remote:Command::mesh-vm-1-join"
    assert repairs(interrupted(state(operation("creating", urn))), {}) == []


@pytest.mark.parametrize(("kind", "repaired"), [("creating", True), ("updating", False), ("deleting", False)])
def test_an_object_that_a_forgotten_manager_may_own_is_disowned(kind: str, repaired: bool) -> None:
    urn = f"{STACK}kubernetes:core/v1:Namespace::mesh-demo-namespace"
    one = operation(kind, urn, apiVersion="v1", kind="Namespace", metadata={"name": "demo"})
    found = repairs(interrupted(state(one)), {})
    assert [(repair.disown, repair.what.partition(" may")[0]) for repair in found] == (
        [(True, "Namespace /demo")] if repaired else []
    )


def test_an_object_whose_name_nobody_knows_is_left() -> None:
    one = operation("creating", f"{STACK}kubernetes:core/v1:Namespace::x", apiVersion="v1", kind="Namespace")
    assert repairs(interrupted(state(one)), {}) == []


def test_a_recovered_state_has_no_pending_operation_and_nothing_that_is_gone() -> None:
    before = state(operation("deleting"))
    operations = interrupted(before)
    after = recovered(before, repairs(operations, {}))
    assert "pending_operations" not in after["deployment"]
    assert [resource["urn"] for resource in after["deployment"]["resources"]] == [PROVIDER]
    assert len(before["deployment"]["resources"]) == 2, "the old one is not changed"


def test_of_a_replacement_that_did_not_end_only_the_old_one_is_forgotten() -> None:
    old = {"urn": ISTIOD, "id": "istio-system/old", "delete": True}
    new = {"urn": ISTIOD, "id": "istio-system/new"}
    deleting = operation("deleting")
    deleting["resource"].update(old)
    before = state(deleting)
    before["deployment"]["resources"][1:] = [new, old]
    after = recovered(before, repairs(interrupted(before), {}))
    assert after["deployment"]["resources"][1:] == [new]


def test_the_cluster_is_the_one_that_the_operation_was_about() -> None:
    (one,) = interrupted(state(operation("creating")))
    access = cluster_of(state(), one)
    assert (access.kubeconfig, access.context) == ("kubeconfig", "here")
    replaced = {"urn": PROVIDER, "id": "id-0", "inputs": {"kubeconfig": "another"}}
    two = state()
    two["deployment"]["resources"].insert(0, replaced)
    assert cluster_of(two, one).kubeconfig == "kubeconfig"
    secret = state()
    secret["deployment"]["resources"][0]["inputs"]["kubeconfig"] = {"ciphertext": "v1:abc"}
    nothing: dict[str, Any] = {"deployment": {}}
    for untold in (nothing, secret):
        with pytest.raises(StackError, match="which cluster"):
            cluster_of(untold, one)


def test_notes_are_cleared_where_there_is_nothing_else_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[Any] = []
    join = operation("creating", f"{STACK}command:remote:Command::mesh-vm-1-join")

    def pulumi(*arguments: str, document: str | None = None) -> str:
        if document is not None:
            imported.append(json.loads(document)["deployment"])
        return json.dumps({"url": "https://api.pulumi.com"} if arguments[0] == "whoami" else state(join))

    for module in (recover, topology):
        monkeypatch.setattr(module, "run_pulumi", pulumi)
    assert CliRunner().invoke(app, ["recover", "--stack", "dev", "--yes"]).exit_code == 0
    assert ["pending_operations" in deployment for deployment in imported] == [False]


def test_of_a_stack_of_which_nothing_was_interrupted_the_lock_alone_is_released(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[tuple[str, ...]] = []

    def pulumi(*arguments: str, **_: str) -> str:
        called.append(arguments)
        return json.dumps({"url": "https://api.pulumi.com"} if arguments[0] == "whoami" else state())

    for module in (recover, topology):
        monkeypatch.setattr(module, "run_pulumi", pulumi)
    done = CliRunner().invoke(app, ["recover", "--yes"])
    assert called == [WHO, ("stack", "export"), ("cancel", "--yes")]
    assert "release the stack's lock" in done.output
    assert "clear the engine's notes" not in done.output


NAMESPACE = operation(
    "creating",
    f"{STACK}kubernetes:core/v1:Namespace::mesh-demo-namespace",
    apiVersion="v1",
    kind="Namespace",
    metadata={"name": "demo"},
)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(records={"istio-system/istiod": [("istiod.v1", "pending-install")]})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cluster: FakeCluster) -> list[tuple[str, ...]]:
    """What pulumi is called for, on a stack that was killed while it installed istiod and made a namespace."""
    made: list[tuple[str, ...]] = []

    def pulumi(*arguments: str, document: str | None = None) -> str:
        made.append(arguments)
        if arguments[0] == "whoami":
            return json.dumps({"user": "me", "url": f"file://{tmp_path}?no_tmp_dir=true"})
        if document is not None:
            left = json.loads(document)["deployment"]
            assert "pending_operations" not in left
            assert left["resources"] == state()["deployment"]["resources"], "nothing of it is gone"
        return json.dumps(state(operation("creating"), NAMESPACE))

    for module in (recover, topology):
        monkeypatch.setattr(module, "run_pulumi", pulumi)
    monkeypatch.setattr(recover, "connect", lambda _: cluster)
    return made


def test_it_says_what_it_will_do_and_does_nothing_until_it_is_told_to(calls: list[tuple[str, ...]]) -> None:
    done = CliRunner().invoke(app, ["recover", "--stack", "dev"], input="n\n")
    assert done.exit_code == 1
    for part in (
        "interrupted: creating mesh-control-plane-istiod",
        "release the stack's lock",
        "istiod.v1",
        "clear the engine's notes",
    ):
        assert part in done.output
    assert calls == [WHO, ("stack", "export", "--stack", "dev")]


def test_told_to_it_unlocks_first_and_clears_the_state_last(calls: list[tuple[str, ...]], cluster: FakeCluster) -> None:
    done = CliRunner().invoke(app, ["recover", "--stack", "dev", "--yes"])
    assert done.exit_code == 0, done.output
    assert cluster.done == ["delete record istio-system/istiod.v1", "disown v1 Namespace /demo"]
    assert [call[:2] for call in calls[1:]] == [("stack", "export"), ("cancel", "--yes"), ("stack", "import")]
    assert "`PULUMI_K8S_UPSERT_EXISTING_OBJECTS=true pulumi up`" in done.output


def test_nothing_is_taken_over_where_nothing_of_it_is_there(calls: list[tuple[str, ...]], cluster: FakeCluster) -> None:
    cluster.absent.add("v1 Namespace /demo")
    done = CliRunner().invoke(app, ["recover", "--stack", "dev", "--yes"])
    assert done.output.endswith("Done. Now run again what was interrupted: `pulumi up`, or `pulumi destroy`.\n")
    assert calls


def notes(folder: Path) -> list[Path]:
    """A backend's: a whole one, and two that were cut off."""
    stacks = folder / ".pulumi/stacks/hybrid-mesh"
    stacks.mkdir(parents=True)
    for name, text in {"a.json": "", "a.json.attrs": "", "b.json.attrs": '{"user.md5":', "c.json.attrs": "{}"}.items():
        (stacks / name).write_text(text)
    return [stacks / "a.json.attrs", stacks / "b.json.attrs"]


def test_what_was_written_half_is_deleted_before_the_state_is_read(
    tmp_path: Path, calls: list[tuple[str, ...]]
) -> None:
    half = notes(tmp_path)
    done = CliRunner().invoke(app, ["recover", "--stack", "dev"], input="n\n")
    assert done.exit_code == 1
    assert f"will do: delete {half[0]}, which was written half" in done.output
    assert calls == [WHO], "the state cannot be read as long as they are there"
    assert all(path.exists() for path in half)
    done = CliRunner().invoke(app, ["recover", "--stack", "dev", "--yes"])
    assert done.exit_code == 0, done.output
    assert not any(path.exists() for path in half)
    assert sorted(path.name for path in half[0].parent.iterdir()) == ["a.json", "c.json.attrs"]


@pytest.mark.parametrize(
    "backend", ["https://api.pulumi.com", "gs://bucket", "s3://bucket?region=x", "file://./nothing"]
)
def test_a_backend_elsewhere_has_no_such_files(backend: str) -> None:
    assert cut_off_notes(backend) == []


def test_a_backend_in_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    half = notes(tmp_path)
    assert cut_off_notes("file://~") == half
