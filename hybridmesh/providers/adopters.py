"""Who else uses an istiod that this stack owns: a mesh must not be taken from under others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from hybridmesh.istio import is_revisioned

from .cluster import Cluster, ClusterAccess, ClusterError, connect
from .inputs import changed, text

_WATCHED = ("kubeconfig", "context", "requestSeconds", "namespace", "revision", "own")


class AdoptersProvider(ResourceProvider):
    """Creates nothing; on delete, which comes before all else of the stack, refuses while others use its istiod."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Nothing to do: others may come at any time, so that only a delete asks."""
        return CreateResult(f"adopters-of-{props['namespace']}", props)

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """What is this stack's own is noted."""
        return DiffResult(changes=bool(changed(olds, news, _WATCHED)))

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Keeps what is given, and which namespaces are about to go: the rest of the run may fail before they do."""
        before = {*(olds.get("own") or []), *(olds.get("going") or {})} - set(news.get("own") or [])
        there = using(connect(news), text(news, "revision")) if before else {}
        going = {name: uid for name, uid in there.items() if name in before}
        return UpdateResult({**news, "going": going} if going else news)

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        """Raises `ClusterError` while others use it."""
        going = props.get("going") or {}
        mine = {text(props, "namespace"), *(props.get("own") or [])}
        there = using(connect(props), text(props, "revision"))
        # By uid: a namespace made anew under an old name may be somebody else's.
        used = sorted(name for name, uid in there.items() if name not in mine and going.get(name) != uid)
        if used:
            raise ClusterError(
                f"istiod in {props['namespace']} is used by namespaces that are not this stack's: {', '.join(used)}. "
                "Without it their pods and VMs would lose their certificates within a day, and new ones would not "
                "start. Nothing was removed. Fix: destroy the stacks that they belong to; of a namespace that nobody "
                f"needs, `kubectl label namespace {used[0]} {_label(text(props, 'revision'))[0]}-`."
            )


def using(cluster: Cluster, revision: str) -> Mapping[str, str]:
    """The namespaces that istiod of a revision injects, by name, each with its uid."""
    key, value = _label(revision)
    return cluster.namespaces_labelled(f"{key}={value}")


def _label(revision: str) -> tuple[str, str]:
    return ("istio.io/rev", revision) if is_revisioned(revision) else ("istio-injection", "enabled")


@dataclass(frozen=True, kw_only=True, slots=True)
class AdoptersArgs:
    """Inputs of `Adopters`."""

    cluster: ClusterAccess
    """The cluster."""
    namespace: str
    """Istio's root namespace."""
    revision: str
    """istiod's revision."""
    own: Sequence[str]
    """The namespaces that this stack has: those of its workloads, network gateways and metrics server."""


class Adopters(Resource, name="Adopters"):
    """The question whether others use this stack's istiod. It must depend on all else, so that it is asked first."""

    def __init__(self, name: str, args: AdoptersArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            AdoptersProvider(),
            name,
            {
                **args.cluster.properties(),
                "namespace": args.namespace,
                "revision": args.revision,
                "own": sorted(set(args.own)),
            },
            opts,
        )
