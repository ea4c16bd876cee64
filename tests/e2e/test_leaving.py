"""How VMs leave the mesh: in order and unnoticed, or, where they are lost, without being asked. docs/leaving.md."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lab.machines import Machine
from tests.e2e.load import Load, Request
from tests.e2e.machine import running
from tests.e2e.mesh import objects
from tests.e2e.stack import PulumiError, Stack
from tests.environment import Lab

pytestmark = pytest.mark.lab

VM_1, VM_2 = (f"workloads.echo.machines.hosts.{name}" for name in ("vm-1", "vm-2"))


@pytest.fixture(scope="module")
def up(stack: Stack) -> Iterator[Stack]:
    """The stack as committed, but for the VMs' share: they have every request."""
    stack.restore()
    stack.change("routing.echo.weights", {"k8s": 0, "vm": 100})
    stack.up()
    yield stack
    stack.restore()
    stack.up()


def addresses(lab: Lab) -> set[str]:
    """Of all WorkloadEntries."""
    return {entry["spec"]["address"] for entry in objects(lab, "workloadentries").values()}


def entries_in_state(stack: Stack, machine: str) -> list[str]:
    return [resource["urn"] for resource in stack.resources() if machine in resource["urn"].rsplit("::", 1)[1]]


def is_left(machine: Machine) -> bool:
    """Whether nothing of the join is there any more."""
    traces = "ls -d /var/lib/hybrid-mesh /etc/istio /usr/local/bin/envoy /etc/systemd/system/hybrid-mesh-* 2>/dev/null"
    rules = "{ iptables-legacy-save; iptables-nft-save; } 2>/dev/null | grep -c ISTIO_"
    return machine.ssh([f"{traces}; {rules}; grep -c hybrid-mesh /etc/hosts || true"]).split() == ["0", "0"]


def served_by(requests: list[Request], name: str) -> int:
    return sum(request.instance == name for request in requests)


def test_a_machine_taken_out_of_the_settings_leaves_and_no_request_fails(lab: Lab, up: Stack) -> None:
    leaving, staying = lab.machine("vm-1"), lab.machine("vm-2")
    up.change(VM_1, None)
    preview = up.preview()
    assert "mesh-vm-1-departure" in preview
    with Load(lab) as pod, Load(lab, machine=staying) as vm:
        for load in (pod, vm):
            load.wait("both to answer", lambda r: served_by(r, "vm-1") > 5 and served_by(r, "vm-2") > 5, 30)
        up.up()
        for load in (pod, vm):
            so_far = len(load.requests)
            load.wait("some more requests", lambda r, n=so_far: len(r) > n + 50, 30)  # type: ignore[misc]
    for load in (pod, vm):
        failed = [request for request in load.requests if request.status != 200]
        last = max(request.ended for request in load.requests if request.instance == "vm-1")
        print(
            f"{len(load.requests)} requests, {len(failed)} failed; last of vm-1 {load.requests[-1].ended - last:.1f} s"
        )
        assert failed == []
        assert served_by(load.requests[-50:], "vm-1") == 0
    assert addresses(lab) == {staying.address}
    assert is_left(leaving)
    assert entries_in_state(up, "vm-1") == []
    assert up.steps() == []


def test_it_comes_back_when_it_is_put_back(lab: Lab, up: Stack) -> None:
    up.restore()
    up.change("routing.echo.weights", {"k8s": 0, "vm": 100})
    up.up()
    assert addresses(lab) == {lab.machine("vm-1").address, lab.machine("vm-2").address}


def test_a_dead_machine_is_not_given_up_unasked_and_goes_once_it_is_declared_lost(lab: Lab, up: Stack) -> None:
    dead, other = lab.machine("vm-2"), lab.machine("vm-1")
    up.change("sidecar.timeouts.dialAttempts", 1)
    up.change("sidecar.timeouts.dialSeconds", 3)
    up.up()
    dead.kill()
    before, address = running(other), dead.address
    settings = up.file.read_text()
    up.change(VM_2, None)
    with pytest.raises(PulumiError) as refused:
        up.up()
    for part in ("vm-2", "out of rotation", "hosts.vm-2.lost: true", "docs/leaving.md"):
        assert part in str(refused.value)
    assert address not in addresses(lab), "no request goes to it, whatever becomes of it"
    assert entries_in_state(up, "vm-2")
    up.file.write_text(settings)
    up.change(f"{VM_2}.lost", True)
    assert re.search(r"\+ lost *: \[\n[ +]*\[0\]: \"vm-2\"", up.preview())
    output = up.up_in_words()
    assert f"vm-2 ({address}) is declared lost: it is out of the mesh, and was not asked" in output
    assert entries_in_state(up, "vm-2") == []
    assert addresses(lab) == {other.address}
    assert running(other) == before, "nobody else is disturbed"
    assert up.steps() == []


def test_it_comes_back_made_anew_once_it_is_not_lost_any_more(lab: Lab, up: Stack) -> None:
    up.restore()
    up.change("routing.echo.weights", {"k8s": 0, "vm": 100})
    up.up()
    assert addresses(lab) == {lab.machine("vm-1").address, lab.machine("vm-2").address}


@pytest.mark.full
def test_another_machine_under_the_name_joins_and_then_the_old_one_leaves_and_no_request_fails(
    lab: Lab, up: Stack
) -> None:
    old, new = lab.machine("vm-1"), lab.machine("vm-9")
    new.create(lab.tools)
    try:
        up.change(f"{VM_1}.ssh.address", new.address)
        up.change(f"{VM_1}.ssh.hostKey", new.host_key)
        assert re.search(r"\+-pulumi-python:dynamic:Departure: \(replace\)", up.preview())
        with Load(lab) as pod:
            pod.wait("the old one to answer", lambda r: served_by(r, "vm-1") > 5, 30)
            up.up()
            so_far = len(pod.requests)
            pod.wait("some more requests", lambda r: len(r) > so_far + 50, 30)
        assert [request for request in pod.requests if request.status != 200] == []
        assert served_by(pod.requests[-50:], "vm-9") > 0
        assert served_by(pod.requests[-50:], "vm-1") == 0
        assert is_left(old)
        assert addresses(lab) == {new.address, lab.machine("vm-2").address}
        assert up.steps() == []
        # And back, to the old one; the new one is dead by then, and declared so by its address.
        gone = new.address
        new.kill()
        up.restore()
        up.change("routing.echo.weights", {"k8s": 0, "vm": 100})
        up.change(f"{VM_1}.lost", [gone])
        assert f"vm-1 ({gone}) is declared lost" in up.up_in_words()
        assert addresses(lab) == {old.address, lab.machine("vm-2").address}
    finally:
        new.delete()


@pytest.mark.full
def test_another_machine_at_the_address_of_a_lost_one_is_not_taken_for_it(lab: Lab, up: Stack) -> None:
    lost, new = lab.machine("vm-1"), lab.machine("vm-9")
    key = f"{lab.instance.folder / 'ssh' / 'id_ed25519'}"
    address = lost.address
    up.restore()
    up.change(f"{VM_1}.ssh", {"address": address, "hostKey": lost.host_key, "privateKeyFile": key})
    up.change("routing.echo.weights", {"k8s": 0, "vm": 100})
    up.up()
    lost.kill()
    lost.delete()
    new.create(lab.tools)
    try:
        assert new.address == address
        up.change(f"{VM_1}.lost", True)
        ssh = {"address": address, "hostKey": new.host_key, "privateKeyFile": key}
        up.change("workloads.echo.machines.hosts.vm-9", {"ssh": ssh})
        assert f"vm-1 ({address}) is declared lost" in up.up_in_words()
        assert addresses(lab) == {address, lab.machine("vm-2").address}, "the entry is the new one's by now"
        assert up.steps() == []
        # The same machine under another name.
        before = new.look(["sh", "-c", "stat -c %i /var/lib/hybrid-mesh/before"])
        up.change("workloads.echo.machines.hosts.vm-9", None)
        up.change("workloads.echo.machines.hosts.vm-8", {"ssh": ssh})
        assert f"vm-9 ({address}) is vm-8 by now, which stays in the mesh" in up.up_in_words()
        assert new.look(["sh", "-c", "stat -c %i /var/lib/hybrid-mesh/before"]) == before, "it did not leave"
        assert addresses(lab) == {address, lab.machine("vm-2").address}
        assert up.steps() == []
        up.change("workloads.echo.machines.hosts.vm-8", None)
        up.up()
        assert is_left(new)
    finally:
        new.delete()
        lost.create(lab.tools)
        up.restore()
        up.change("routing.echo.weights", {"k8s": 0, "vm": 100})
        up.up()


@pytest.mark.full
def test_a_destroy_alone_passes_over_a_lost_machine_and_leaves_the_others_clean(lab: Lab, up: Stack) -> None:
    lost, other = lab.machine("vm-2"), lab.machine("vm-1")
    up.restore()
    up.up()
    lost.kill()
    up.change(f"{VM_2}.lost", True)
    output = up.destroy(env={"HYBRID_MESH_STACK_FILE": str(up.file)})
    assert "vm-2 " in output
    assert "is declared lost" in output
    assert up.resources() == []
    assert is_left(other)
    assert not lost.exists, "the command that made it took it away"


@pytest.mark.full
def test_a_join_that_failed_half_way_is_undone_by_destroy(lab: Lab, up: Stack) -> None:
    up.restore()
    up.change("sidecar.package.sha256", "0" * 64)
    with pytest.raises(PulumiError, match="SHA-256"):
        up.up()
    assert not is_left(lab.machine("vm-1"))
    up.destroy()
    assert is_left(lab.machine("vm-1"))
