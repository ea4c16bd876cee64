"""On Pulumi's real engine: what is somebody else's by now is not removed, and what is said to do about it works."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from lab.instance import PROJECT_ROOT
from tests.engine import Engine
from tests.providers.given import GivenStack

pytestmark = pytest.mark.lab

PROGRAM = """
import json
from pathlib import Path

import pulumi

from components.hybrid_mesh import urns_in
from hybridmesh.providers import ISTIOD, Adopters, AdoptersArgs, ClusterAccess
from tests.providers.joined import Joined

given = json.loads((Path(__file__).parent / "given.json").read_text())


class Part(pulumi.ComponentResource):
    def __init__(self, name, *after):
        super().__init__("test:index:Part", name)
        self.made = joined(name + "-made", *after, parent=self)


class Mesh(pulumi.ComponentResource):
    def __init__(self):
        super().__init__("test:index:Mesh", "mesh")
        namespace = [] if given["existing"] else [Part("demo")]
        parts = [*namespace, *(Part("peers", n.made) for n in namespace)]
        workloads = [joined(name, *(n.made for n in namespace)) for name in given["workloads"]]
        others = {"namespace demo": "namespaces.demo.existing: true"} if given["existing"] else {}
        Adopters(
            "mesh-adopters",
            AdoptersArgs(
                cluster=ClusterAccess(kubeconfig="none"),
                namespace="istio-system",
                revision="default",
                own=["demo"],
                resources={"namespace demo": urns_in(*parts)},
                others={ISTIOD: "controlPlane.mode: adopt", **others},
            ),
            pulumi.ResourceOptions(parent=self, depends_on=[*parts, *workloads]),
        )


def joined(name, *after, parent=None):
    return Joined(name, {"machine": name}, pulumi.ResourceOptions(parent=parent, depends_on=after))


Mesh()
"""
MADE = {"demo-made", "peers-made"}
WORKLOADS = {"echo", "client"}


class Stack(GivenStack):
    """A stack with a namespace and workloads in it."""

    def up(self, *, existing: bool, workloads: set[str], check: bool = True) -> str:
        return self.put_up({"existing": existing, "workloads": sorted(workloads)}, check=check)


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    return Stack(Engine.of(PROGRAM, tmp_path, "mesh"))


def remedy(said: str) -> list[str]:
    """The words of the command that it says, without the first."""
    _, *words = shlex.split(said.partition("with `")[2].partition("`")[0])
    assert words[:2] == ["state", "delete"]
    return words


@pytest.mark.full
def test_a_namespace_that_is_handed_over_stays_and_is_forgotten_as_it_says(stack: Stack) -> None:
    stack.up(existing=False, workloads=WORKLOADS)
    said = stack.up(existing=True, workloads=WORKLOADS, check=False)
    assert "`namespaces.demo.existing: true` says that namespace demo is not this stack's" in said
    assert stack.joined() == {*MADE, *WORKLOADS}
    assert "All that is in it would go with it. Nothing was removed." in stack.up(
        existing=True, workloads=WORKLOADS, check=False
    ), "it asks until it is answered"

    said = stack.engine.run(*remedy(said), "--yes").stdout
    assert "3 resources deleted" in said
    said = stack.up(existing=True, workloads=WORKLOADS)
    assert "-made" not in said, "none of them is deleted"
    assert stack.joined() == WORKLOADS
    stack.engine.run("up", "--yes", "--skip-preview", "--expect-no-changes")
    stack.engine.run("destroy", "--yes", "--skip-preview")


def test_what_goes_in_the_same_update_is_not_forgotten_with_it(stack: Stack) -> None:
    stack.up(existing=False, workloads=WORKLOADS)
    said = stack.up(existing=True, workloads={"echo"}, check=False)
    refused = stack.engine.run(*remedy(said), "--yes", check=False)
    assert refused.returncode != 0
    assert "client" in refused.stderr
    assert stack.joined() == {*MADE, *WORKLOADS}
