"""What VMs may say of themselves: which policies there are, and for which groups. What they refuse only Kubernetes can
tell: tests/faults/test_stolen.py."""

from __future__ import annotations

from typing import Any

import pytest

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from components.registration_policy import RegistrationPolicy, RegistrationPolicyArgs
from tests.components.harness import World, dev_settings, run
from tests.components.test_network_gateway import mesh as mesh_with_gateway

KINDS = ("service", "serviceentry")
LABELS = {"app": "echo", "version": "vm"}


def policy(**changes: Any) -> World:
    given: dict[str, Any] = {"group": "echo", "namespace": "demo", "labels": LABELS}
    return run(lambda: RegistrationPolicy("echo", RegistrationPolicyArgs(**{**given, **changes})).namespace)


def stack(preview: bool = False, **control_plane: Any) -> World:
    settings = dev_settings(lambda sections: sections["controlPlane"].update(control_plane))
    return run(lambda: HybridMesh("mesh", HybridMeshArgs(settings=settings)).topology, preview=preview)


def policies(world: World) -> set[str]:
    return {r.name for r in world.found if "ValidatingAdmissionPolicy" in r.type}


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_istiod_makes_by_the_group_is_judged_and_only_as_it_is_made(kind: str) -> None:
    spec = policy().one(f"echo-{kind}-policy").value("spec")
    assert spec["matchConstraints"] == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "demo"}},
        "resourceRules": [
            {
                "apiGroups": ["networking.istio.io"],
                "apiVersions": ["*"],
                "operations": ["CREATE"],
                "resources": ["workloadentries"],
            }
        ],
    }
    [condition] = spec["matchConditions"]
    assert condition["expression"].endswith('object.metadata.annotations["istio.io/autoRegistrationGroup"] == "echo"')
    assert spec["failurePolicy"] == "Fail"


def test_an_entry_is_compared_with_each_service_and_each_service_entry_of_its_namespace() -> None:
    world = policy()
    kinds = [world.one(f"echo-{kind}-policy").value("spec")["paramKind"] for kind in KINDS]
    assert kinds == [
        {"apiVersion": "v1", "kind": "Service"},
        {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry"},
    ]
    for kind in KINDS:
        name = world.one(f"echo-{kind}-policy").value("metadata")["name"]
        assert world.one(f"echo-{kind}-binding").value("spec") == {
            "policyName": name,
            # No namespace: the entry's own.
            "paramRef": {"selector": {}, "parameterNotFoundAction": "Allow"},
            "validationActions": ["Deny"],
        }


def test_the_group_s_labels_are_those_that_its_vms_have_and_a_text_whatever_is_in_them() -> None:
    [group, *_] = policy(labels={"b": "2", "app": 'a"b'}).one("echo-service-policy").value("spec")["variables"]
    assert group == {
        "name": "group",
        "expression": r'{"app": "a\"b", "b": "2", "service.istio.io/canonical-name": "a\"b", '
        r'"service.istio.io/canonical-revision": "latest"}',
    }


@pytest.mark.parametrize("kind", KINDS)
def test_app_is_compared_wherever_there_is_anything_to_compare_with(kind: str) -> None:
    [app, _] = policy().one(f"echo-{kind}-policy").value("spec")["validations"]
    assert app["expression"].endswith('variables.entry["app"] == variables.group["app"]')
    assert app["message"] == "this VM says that it has another label app than WorkloadGroup demo/echo"


def test_no_two_groups_of_a_cluster_have_policies_of_one_name() -> None:
    groups = [("a-b", "c"), ("a", "b-c"), ("a", "c"), ("c", "a")]
    names = [
        world.one(f"echo-{kind}-{part}").value("metadata")["name"]
        for world in (policy(group=group, namespace=namespace) for group, namespace in groups)
        for kind in KINDS
        for part in ("policy", "binding")
    ]
    # A binding is called as its policy.
    assert len(set(names)) == len(names) / 2 == 8
    assert names[0] == "a-b.c.service.hybrid-mesh"


@pytest.mark.parametrize("preview", [True, False])
def test_where_istio_is_installed_each_group_has_them_before_a_vm_can_register_by_it(preview: bool) -> None:
    world = stack(preview)
    assert policies(world) == {f"mesh-echo-{kind}-{part}" for kind in KINDS for part in ("policy", "binding")}
    for kind in KINDS:
        assert world.is_after(world.one("mesh-echo-group"), world.one(f"mesh-echo-{kind}-binding"))
        assert world.is_after(world.one("mesh-vm-1-token"), world.one(f"mesh-echo-{kind}-binding"))
        assert not world.is_after(world.one("mesh-echo-service"), world.one(f"mesh-echo-{kind}-binding"))
        labels = world.one(f"mesh-echo-{kind}-policy").value("spec")["variables"][0]["expression"]
        assert labels.replace(" ", "") in world.one("mesh-vm-1", "Sidecar").plain["cluster.env"], "what its VMs say"


ADOPTED = {"mode": "adopt", "charts": {"path": "x"}, "values": {}}


@pytest.mark.parametrize(
    ("control_plane", "there"),
    [
        ({"admissionPolicies": False}, False),
        (ADOPTED, False),
        ({**ADOPTED, "admissionPolicies": True}, True),
    ],
    ids=["told not to", "adopted", "adopted, and told to"],
)
def test_an_adopted_istio_s_cluster_is_left_alone_unless_it_is_said(control_plane: dict[str, Any], there: bool) -> None:
    assert bool(policies(stack(**control_plane))) is there


def test_machines_of_a_network_s_gateway_are_held_to_their_labels_too() -> None:
    world = mesh_with_gateway()
    for kind in KINDS:
        spec = world.one(f"mesh-far-gateway-{kind}-policy").value("spec")
        assert '"app": "far-gateway"' in spec["variables"][0]["expression"]
        assert world.is_after(world.one("mesh-far-gateway-group"), world.one(f"mesh-far-gateway-{kind}-binding"))
