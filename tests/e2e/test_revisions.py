"""Two control planes side by side, and a VM that is moved from one to the other and back."""

from __future__ import annotations

import time

import pytest

from tests.e2e.load import Load
from tests.e2e.machine import running
from tests.e2e.mesh import kubectl, objects
from tests.e2e.stack import PulumiError, Stack
from tests.environment import Lab

pytestmark = [pytest.mark.lab, pytest.mark.full]


def controllers(lab: Lab) -> dict[str, str]:
    """The istiod pod that has each VM's entry, by the VM's address."""
    return {
        entry["spec"]["address"]: entry["metadata"]["annotations"]["istio.io/workloadController"]
        for entry in objects(lab, "workloadentries").values()
    }


def test_a_machine_is_moved_to_a_second_istiod_and_back_and_no_request_fails(lab: Lab, stack: Stack) -> None:
    stack.restore()
    stack.change("controlPlane.revisions", {"canary": {}})
    stack.up()
    kubectl(lab, "rollout", "status", "deployment/istiod-canary", "-n", "istio-system", "--timeout=60s")
    one, other = lab.machine("vm-1"), lab.machine("vm-2")
    assert not controllers(lab)[one.address].startswith("istiod-canary-")
    stays = running(other)
    stack.change("workloads.echo.machines.hosts.vm-1.revision", "canary")
    preview = stack.preview()
    assert "istiod-canary.istio-system.svc" in preview
    assert "mesh-vm-2-join" not in {step.name for step in stack.steps()}
    with Load(lab) as load:
        stack.up()
        time.sleep(1)
    assert [request for request in load.requests if request.status != 200] == []
    assert controllers(lab)[one.address].startswith("istiod-canary-")
    assert not controllers(lab)[other.address].startswith("istiod-canary-")
    assert running(other) == stays, "the other one is not touched"
    assert "istiod-canary.istio-system.svc" in one.ssh(["cat /etc/hosts"])
    assert stack.steps() == []
    stack.restore()
    stack.change("controlPlane.revisions", {"canary": {}})
    stack.up()
    assert not controllers(lab)[one.address].startswith("istiod-canary-")
    stack.restore()
    kubectl(lab, "create", "namespace", "canteen")
    try:
        kubectl(lab, "label", "namespace", "canteen", "istio.io/rev=canary")
        with pytest.raises(PulumiError) as refused:
            stack.up()
    finally:
        kubectl(lab, "delete", "namespace", "canteen")
    assert "istiod of revision canary in istio-system is not in the settings any more" in str(refused.value)
    assert "not this stack's: canteen." in str(refused.value)
    assert "istiod-canary" in kubectl(lab, "get", "deployments", "-n", "istio-system")
    stack.up()
    assert "istiod-canary" not in kubectl(lab, "get", "deployments", "-n", "istio-system")
    assert stack.steps() == []
