"""Who else uses an istiod that this stack owns: a mesh must not be taken from under others."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from hybridmesh.istio import is_revisioned

from .cluster import Cluster, ClusterAccess, ClusterError, connect
from .inputs import changed, text

_WATCHED = ("kubeconfig", "context", "requestSeconds", "namespace", "revision", "revisions", "own")


class AdoptersProvider(ResourceProvider):
    """Creates nothing; refuses while others use an istiod that is to go: on delete, which comes before all else of the
    stack, and on update, which comes before anything is removed."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Nothing to do: others may come at any time, so that only a delete asks."""
        return CreateResult(f"adopters-of-{props['namespace']}", props)

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """What is this stack's own is noted."""
        return DiffResult(changes=bool(changed(olds, news, _WATCHED)))

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Keeps what is given, and which namespaces are about to go: the rest of the run may fail before they do.

        Raises:
            ClusterError: others use an istiod that is not to be any more. Pulumi removes nothing after a failure.
        """
        before = {*(olds.get("own") or []), *(olds.get("going") or {})} - set(news.get("own") or [])
        for revision in _revisions(olds):
            if revision not in _revisions(news):
                mine = {text(olds, "namespace"), *before, *(news.get("own") or [])}
                _refuse(news, revision, set(using(connect(news), [revision])) - mine)
        there = using(connect(news), _revisions(news)) if before else {}
        going = {name: uid for name, uid in there.items() if name in before}
        return UpdateResult({**news, "going": going} if going else news)

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        """Raises `ClusterError` while others use it."""
        going = props.get("going") or {}
        mine = {text(props, "namespace"), *(props.get("own") or [])}
        there = using(connect(props), _revisions(props))
        # By uid: a namespace made anew under an old name may be somebody else's.
        used = sorted(name for name, uid in there.items() if name not in mine and going.get(name) != uid)
        if used:
            raise ClusterError(
                f"istiod in {props['namespace']} is used by namespaces that are not this stack's: {', '.join(used)}. "
                "Without it their pods and VMs would lose their certificates within a day, and new ones would not "
                "start. Nothing was removed. Fix: destroy the stacks that they belong to; of a namespace that nobody "
                f"needs, `kubectl label namespace {used[0]} istio-injection- istio.io/rev-`."
            )


def _refuse(props: Mapping[str, Any], revision: str, used: Set[str]) -> None:
    if used:
        follow = f"kubectl label --overwrite namespace {min(used)} istio.io/rev={text(props, 'revision')}"
        raise ClusterError(
            f"istiod of revision {revision} in {props['namespace']} is not in the settings any more, and is used by "
            f"namespaces that are not this stack's: {', '.join(sorted(used))}. Without it their pods and VMs would "
            "lose their certificates within a day, and new ones would not start. Nothing was removed. Fix: have them "
            f"follow another istiod, as by `{follow}` and a restart of what runs there; or put {revision} back."
        )


def using(cluster: Cluster, revisions: Sequence[str]) -> Mapping[str, str]:
    """The namespaces that istiods of these revisions inject, by name, each with its uid."""
    found: dict[str, str] = {}
    for revision in revisions:
        for label in _labels(revision):
            found |= cluster.namespaces_labelled(label)
    return found


def _labels(revision: str) -> tuple[str, ...]:
    """Those by which a namespace follows istiod of a revision; the one without a name has two."""
    by_name = f"istio.io/rev={revision}"
    return (by_name,) if is_revisioned(revision) else ("istio-injection=enabled", by_name)


def _revisions(props: Mapping[str, Any]) -> Sequence[str]:
    """All of this stack's; what an earlier version has noted names the first alone."""
    return [text(props, "revision"), *(props.get("revisions") or [])]


@dataclass(frozen=True, kw_only=True, slots=True)
class AdoptersArgs:
    """Inputs of `Adopters`."""

    cluster: ClusterAccess
    """The cluster."""
    namespace: str
    """Istio's root namespace."""
    revision: str
    """istiod's revision."""
    revisions: Sequence[str] = ()
    """Those of the istiods beside it."""
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
                "revisions": sorted(args.revisions) or None,
                "own": sorted(set(args.own)),
            },
            opts,
        )
