"""Taking a mesh down where not all is well: it asks, it offers choices, it names what is left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.e2e.guest import beside, teardown
from tests.e2e.mesh import kubectl
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.lab, pytest.mark.full]
NAMESPACE, MACHINE = "demo-pr-8", "vm-2-pr-8"


@pytest.fixture(scope="module")
def guest(stack: Stack) -> Iterator[Stack]:
    """A mesh to take down; the tests run in their order."""
    stack.restore()
    stack.up()
    with beside(stack, 8) as guest:
        assert guest.outputs()["topology"]["gateway"] == stack.outputs()["topology"]["gateway"], "adopted, as istiod"
        yield guest


@contextmanager
def without_cluster(guest: Stack) -> Iterator[None]:
    """A kubeconfig of a cluster that does not answer."""
    content = guest.settings()
    kubeconfig: Path = guest.lab.instance.folder / "kubeconfig-gone"
    document = yaml.safe_load(guest.lab.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    kubeconfig.write_text(yaml.safe_dump(document))
    cluster = content["config"]["hybrid-mesh:cluster"]
    gone = {**cluster, "kubeconfig": f"{Path(cluster['kubeconfig']).parent}/{kubeconfig.name}"}
    guest.write({**content, "config": {**content["config"], "hybrid-mesh:cluster": gone}})
    try:
        yield
    finally:
        guest.write(content)
        kubeconfig.unlink()


def who_makes_it_again(guest: Stack, folder: Path) -> Path:
    """Programs with which the namespace is there again once it was destroyed, as a GitOps controller would have it."""
    pulumi = shutil.which("pulumi", path=guest.lab.env["PATH"])
    again = f'if [ "$1" = destroy ]; then kubectl create namespace {NAMESPACE}; fi'
    program = folder / "pulumi"
    program.write_text(f'#!/bin/sh\n{pulumi} "$@"; code=$?\n{again}\nexit $code\n')
    program.chmod(0o755)
    return folder


def urns(stack: Stack) -> set[str]:
    return {resource["urn"] for resource in stack.resources()}


def test_a_no_or_no_answer_removes_nothing(guest: Stack) -> None:
    before = urns(guest)
    for typed in ("n\n", ""):
        done = teardown(guest, typed=typed)
        assert done.returncode == 1
        assert f"will go: stack {guest.name}, {len(before)} resources" in done.stdout
        assert f"will go: {MACHINE}" in done.stdout
        assert "Go ahead? [y/N]" in done.stdout
    assert urns(guest) == before


def test_what_is_protected_goes_only_by_its_name(guest: Stack) -> None:
    before = urns(guest)
    (group,) = (urn for urn in before if urn.endswith("::mesh-echo-group"))
    guest.run("state", "protect", group, "--yes", "--stack", guest.name)
    done = teardown(guest, "--yes")
    assert done.returncode == 1
    assert "protected: mesh-echo-group" in done.stdout
    assert f"Nothing was removed. Fix: --even-protected {guest.name}, if you mean it." in done.stderr
    for options, typed in (((), "dev\n"), (("--even-protected=dev",), "y\n")):
        done = teardown(guest, *options, typed=typed)
        assert done.returncode == 1
        assert f"Type `{guest.name}` to take it down all the same" in done.stdout
    assert urns(guest) == before


def test_a_cluster_that_does_not_answer_is_a_choice(guest: Stack) -> None:
    before = urns(guest)
    with without_cluster(guest):
        done = teardown(guest, "--yes")
    assert done.returncode == 1
    assert "the cluster does not answer: " in done.stderr
    assert "Nothing was removed. Choose: " in done.stderr
    assert "`--cluster-gone`" in done.stderr
    assert urns(guest) == before


def test_a_lost_vm_is_forgotten_and_what_is_left_is_named(guest: Stack, tmp_path: Path) -> None:
    guest.lab.machine(MACHINE).kill()
    programs = who_makes_it_again(guest, tmp_path)
    done = teardown(guest, f"--lost={MACHINE}", f"--even-protected={guest.name}", path=programs)
    assert done.returncode == 1, done.stdout + done.stderr
    left = [line for line in done.stdout.splitlines() if line.startswith("left: ")]
    assert left == [
        f"left: namespace {NAMESPACE}: kubectl delete namespace {NAMESPACE}",
        f"left: {MACHINE}: was not asked: switch it off, or run leave.sh on it (docs/leaving.md)",
    ]
    assert not guest.resources()
    kubectl(guest.lab, *left[0].partition("kubectl ")[2].split())


def test_of_an_empty_stack_nothing_is_asked_and_what_is_left_is_named(guest: Stack) -> None:
    empty = f"{guest.name}: the stack is empty. Nothing is removed; what it may have left is looked for."
    done = teardown(guest)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        empty,
        f"{guest.name}: nothing is left. `pulumi stack rm {guest.name} --preserve-config` removes the empty stack; "
        f"without the option Pulumi.{guest.name}.yaml goes with it.",
    ]
    kubectl(guest.lab, "create", "namespace", NAMESPACE)
    done = teardown(guest)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        empty,
        f"left: namespace {NAMESPACE}: if it is nobody else's, kubectl delete namespace {NAMESPACE}",
    ]
    kubectl(guest.lab, "delete", "namespace", NAMESPACE)


def test_without_its_cluster_vms_are_cleaned_and_the_rest_is_forgotten(guest: Stack) -> None:
    guest.up()
    with without_cluster(guest):
        done = teardown(guest, "--yes", "--cluster-gone")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{MACHINE}: has left" in done.stdout
    assert f"{guest.name}: nothing is left." in done.stdout
    assert not guest.resources()
    assert not guest.lab.machine(MACHINE).exists
    assert f"namespace/{NAMESPACE}" in kubectl(guest.lab, "get", "namespaces", "-o", "name"), "that cluster is there"
    kubectl(guest.lab, "delete", "namespace", NAMESPACE)
