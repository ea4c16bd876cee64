"""What somebody else has made already, as a preview finds it: the hook apart from the engine that calls it."""

from __future__ import annotations

import asyncio
from typing import Any

import pulumi
import pytest

from components import there_already as module
from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from components.there_already import ThereAlready, ThereAlreadyError, makers
from hybridmesh.providers.cluster import ClusterAccess, UnansweredError
from tests.components.harness import dev_settings, run
from tests.providers.fake_cluster import FakeCluster
from tests.providers.unknown import unknown

KUBECTL = {"manager": "kubectl-create", "operation": "Update"}
KUBELET = {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status"}


def made_by(*managers: dict[str, str], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"managedFields": list(managers), **metadata}}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    fake = FakeCluster()
    monkeypatch.setattr(module, "connect", lambda _properties: fake)
    return fake


def ask(kind: str, name: object, namespace: object = None, *, of: ThereAlready | None = None) -> None:
    metadata = {"name": name, **({} if namespace is None else {"namespace": namespace})}
    inputs = {"apiVersion": "v1", "kind": kind, "metadata": metadata}
    asked = of or ThereAlready("mesh", ClusterAccess(kubeconfig="none"))
    asyncio.run(asked.ask(pulumi.ResourceHookArgs(urn="", id="", name="", type="", new_inputs=inputs)))


def test_what_somebody_else_has_made_is_refused_with_object_maker_consequence_and_fix(cluster: FakeCluster) -> None:
    cluster.found["Service shop/cart"] = made_by(KUBECTL, KUBELET)
    with pytest.raises(ThereAlreadyError) as refused:
        ask("Service", "cart", "shop")
    said = str(refused.value)
    assert said.startswith("Service shop/cart is in the cluster already, made by kubectl-create and not by this stack")
    assert "Nothing was changed. Fix: another name in the settings (docs/services.md); or, " in said
    assert cluster.done == ["find v1 Service shop/cart"]


def test_a_namespace_that_is_there_can_stay_its_owner_s(cluster: FakeCluster) -> None:
    cluster.found["Namespace /shop"] = made_by(KUBECTL)
    with pytest.raises(ThereAlreadyError, match=r"^Namespace shop is .* Fix: `namespaces\.shop\.existing: true` for "):
        ask("Namespace", "shop")


def test_of_istio_s_namespace_that_somebody_has_made_for_its_authority_another_way_is_said(
    cluster: FakeCluster,
) -> None:
    """Istio's guide has it made by hand before Istio is installed."""
    cluster.found["Namespace /istio-system"] = made_by(KUBECTL)
    with pytest.raises(ThereAlreadyError, match=r"`controlPlane\.namespace` \(docs/own-cluster\.md says how `cacerts`"):
        ask("Namespace", "istio-system")


@pytest.mark.parametrize(
    "found",
    [
        None,
        made_by({"manager": "pulumi-kubernetes-1a2b3c", "operation": "Apply"}, KUBECTL),
        made_by({"manager": "pulumi-resource-kubernetes", "operation": "Update"}),
        made_by(KUBELET),
        {"metadata": {}},
        made_by(KUBECTL, deletionTimestamp="2026-11-30T00:00:00Z"),
    ],
    ids=["nothing", "Pulumi", "an old Pulumi", "recovered", "of nobody", "on its way out"],
)
def test_what_may_be_the_stack_s_own_is_let_pass(cluster: FakeCluster, found: dict[str, Any] | None) -> None:
    """Pulumi asks before it replaces an object, too."""
    assert makers(found) == []
    if found is not None:
        cluster.found["Service shop/cart"] = found
    ask("Service", "cart", "shop")


def test_who_has_made_it_steers_no_terminal() -> None:
    assert makers(made_by({"manager": "\x1b[2Jkubectl"})) == ["\\x1b[2Jkubectl"]
    assert makers(made_by({})) == ["somebody"]


@pytest.mark.parametrize(
    ("name", "namespace"), [(unknown(), "shop"), ("cart", unknown()), (None, "shop")], ids=["name", "place", "none"]
)
def test_what_is_not_known_yet_is_not_asked_after(cluster: FakeCluster, name: object, namespace: object) -> None:
    ask("Service", name, namespace)
    assert cluster.done == []


def test_a_cluster_that_does_not_answer_is_asked_once_and_keeps_no_preview(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def unanswered(properties: object) -> None:
        asked.append(properties)
        raise UnansweredError("the API server did not answer")

    monkeypatch.setattr(module, "connect", unanswered)
    one = ThereAlready("mesh", ClusterAccess(kubeconfig="none"))
    ask("Service", "cart", "shop", of=one)
    ask("Service", "echo", "shop", of=one)
    assert len(asked) == 1


@pytest.mark.parametrize("preview", [True, False], ids=["preview", "up"])
def test_in_a_preview_all_objects_of_the_mesh_are_asked_after_but_releases_and_in_an_update_none(
    monkeypatch: pytest.MonkeyPatch, preview: bool
) -> None:
    """Mocks know no hooks: who would have one is noted."""
    hooked: set[str] = set()
    merge = pulumi.ResourceOptions.merge

    class Hook:
        def __init__(self, name: str, _ask: object, options: pulumi.ResourceHookOptions) -> None:
            assert (name, options.on_dry_run, options.ignore_errors) == ("mesh-there-already", True, False)

    def noted(
        self: ThereAlready, args: pulumi.ResourceTransformationArgs
    ) -> pulumi.ResourceTransformationResult | None:
        result = wanted(self, args)
        if result is None:
            return None
        assert result.props is args.props
        assert result.opts.hooks is not None
        hooked.add(args.name)
        return pulumi.ResourceTransformationResult(args.props, merge(args.opts, None))

    wanted = ThereAlready.hooked
    monkeypatch.setattr(module, "supports", lambda _feature: True)
    monkeypatch.setattr(pulumi, "ResourceHook", Hook)
    monkeypatch.setattr(ThereAlready, "hooked", noted)
    world = run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=dev_settings())).topology, preview=preview)
    objects = {r.name for r in world.found if r.type.startswith("kubernetes:") and not r.type.endswith(":Release")}
    assert {"mesh-echo-service", "mesh-demo-namespace", "mesh-echo-group"} <= objects
    assert hooked == (objects if preview else set())
