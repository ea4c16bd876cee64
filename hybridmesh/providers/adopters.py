"""Who else uses what this stack owns: a mesh must not be taken from under others, nor what is theirs by now."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from hybridmesh.istio import is_revisioned, istiod_host

from .cluster import NETWORKING, Cluster, ClusterAccess, ClusterError, connect
from .inputs import changed, text

ISTIOD = "istiod"
"""What `resources` and `others` call Istio, with all that was installed for it."""
URNS = ("resources", "itself")
"""The properties that name resources as the engine does."""
_WATCHED = (
    "kubeconfig",
    "context",
    "requestSeconds",
    "namespace",
    "revision",
    "revisions",
    "own",
    "resources",
    "others",
)
_CONSEQUENCES = {
    ISTIOD: "Its CRDs would go with it, and with them every object of the mesh",
    "gateway": "VMs would lose istiod",
    "namespace": "All that is in it would go with it",
}


class AdoptersProvider(ResourceProvider):
    """Creates nothing; refuses while others use an istiod that is to go: on delete, which comes before all else of the
    stack, and on update, which comes before anything is removed. On update, too, where somebody else's by now is what
    this stack has made: it would be removed."""

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
            ClusterError: others use an istiod that is not to be any more, or have something that would be removed.
                Pulumi removes nothing after a failure.
        """
        _refuse_to_remove(olds, news)
        if _is_others(olds):
            return UpdateResult(news)
        before = {*(olds.get("own") or []), *(olds.get("going") or {})} - set(news.get("own") or [])
        for revision in _revisions(olds):
            if revision not in _revisions(news):
                mine = {text(olds, "namespace"), *before, *(news.get("own") or [])}
                _refuse(news, revision, set(_using(news, [revision])) - mine)
        there = _using(news, _revisions(news)) if before else {}
        going = {name: uid for name, uid in there.items() if name in before}
        return UpdateResult({**news, "going": going} if going else news)

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        """Raises `ClusterError` while others use it; an adopted istiod stays."""
        if _is_others(props):
            return
        going = props.get("going") or {}
        mine = {text(props, "namespace"), *(props.get("own") or [])}
        there = _using(props, _revisions(props))
        # By uid: a namespace made anew under an old name may be somebody else's.
        injected = sorted(name for name, uid in there.items() if name not in mine and going.get(name) != uid)
        of_machines = sorted(_of_machines(props) - mine - {*there})
        if injected or of_machines:
            free = [f"`kubectl label namespace {name} istio-injection- istio.io/rev-`" for name in injected[:1]]
            free += [f"`kubectl delete workloadgroups --all -n {name}`" for name in of_machines[:1]]
            raise ClusterError(
                f"istiod in {props['namespace']} is {_used_by(sorted({*injected, *of_machines}))} Fix: destroy the "
                f"stacks that they belong to; of a namespace that nobody needs, {' and '.join(free)}."
            )


def _refuse(props: Mapping[str, Any], revision: str, used: Set[str]) -> None:
    if used:
        # A namespace follows the one without a name, or with the tag of that name, by another label, too.
        named = [revision, *_tags(connect(props), props, revision)]
        no_longer = "" if all(map(is_revisioned, named)) else " istio-injection-"
        follow = f"kubectl label --overwrite namespace {min(used)}{no_longer} istio.io/rev={text(props, 'revision')}"
        raise ClusterError(
            f"istiod of revision {revision} in {props['namespace']} is not in the settings any more, and is "
            f"{_used_by(sorted(used))} Fix: have them follow another istiod, as by `{follow}` and a restart of what "
            f"runs there; or put {revision} back."
        )


def _used_by(namespaces: Sequence[str]) -> str:
    return (
        f"used by namespaces that are not this stack's: {', '.join(namespaces)}. Without it their pods and VMs would "
        "lose their certificates within a day, and new ones would not start. Nothing was removed."
    )


async def _urn(resource: pulumi.Resource) -> str:
    """A resource's URN, without what an output of it brings along: that it is waited for, with all that it has."""
    return await resource.urn.future() or ""


def _is_others(props: Mapping[str, Any]) -> bool:
    return ISTIOD in (props.get("others") or {})


def _refuse_to_remove(olds: Mapping[str, Any], news: Mapping[str, Any]) -> None:
    before, after = olds.get("resources"), news.get("resources") or {}
    given = {what: of for what, of in (news.get("others") or {}).items() if what not in (olds.get("others") or {})}
    if before is None and ISTIOD in given:
        # An earlier version was there with an istiod of its own only, and did not note what belongs to it.
        raise ClusterError(
            f"`{given[ISTIOD]}` says that istiod in {olds['namespace']} is not this stack's, which has installed it: "
            f"it would be removed. {_CONSEQUENCES[ISTIOD]}. Nothing was removed. Fix: put the setting back and "
            "`pulumi up`, so that this version notes what was installed; then make the change again, and it says what "
            "to do."
        )
    gone = {what: sorted({*(before or {}).get(what, [])} - {*after.get(what, [])}) for what in sorted(given)}
    said = [
        f"`{given[what]}` says that {what} is not this stack's, which has made it: it would be removed. "
        f"{_CONSEQUENCES[what.partition(' ')[0]]}."
        for what in gone
        if gone[what]
    ]
    if said:
        urns = " ".join(f"'{urn}'" for urn in [text(news, "itself"), *(urn for what in gone for urn in gone[what])])
        raise ClusterError(
            f"{' '.join(said)} Nothing was removed. Fix: to hand it over, let Pulumi forget that it made it, with "
            f"`pulumi state delete {urns}`, and `pulumi up`; to keep it, put the setting back."
        )


def _using(props: Mapping[str, Any], revisions: Sequence[str]) -> Mapping[str, str]:
    """The namespaces that istiods of these revisions inject, by name, each with its uid."""
    cluster, found = connect(props), dict[str, str]()
    for revision in revisions:
        for name in (revision, *_tags(cluster, props, revision)):
            for label in _labels(name):
                found |= cluster.namespaces_labelled(label)
    return found


def _of_machines(props: Mapping[str, Any]) -> set[str]:
    """The namespaces of machines, which may have no label. Where others run an istiod, too, nobody says whose they
    follow."""
    cluster, namespace = connect(props), text(props, "namespace")
    ours = {f"{namespace}/{istiod_host(namespace, revision).partition('.')[0]}" for revision in _revisions(props)}
    return set(cluster.namespaces_of(*NETWORKING, "workloadgroups")) if ours.issuperset(cluster.istiods()) else set()


def _tags(cluster: Cluster, props: Mapping[str, Any], revision: str) -> Sequence[str]:
    """The tags that lead to istiod of a revision: namespaces follow them as they do a revision."""
    tags = cluster.revision_tags(text(props, "namespace"))
    return sorted(tag for tag, leads_to in tags.items() if leads_to == revision)


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
    resources: Mapping[str, pulumi.Input[Sequence[str]]]
    """URNs of what it has of `istiod`, `gateway <name>` and each `namespace <name>`."""
    others: Mapping[str, str]
    """Which of these are somebody else's, and the setting that says so."""


class Adopters(Resource, name="Adopters"):
    """The question whether others have what this stack would remove. It must depend on all else, so that it is asked
    first."""

    def __init__(self, name: str, args: AdoptersArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        parent = None if opts is None or opts.parent is None else _urn(opts.parent)
        super().__init__(
            AdoptersProvider(),
            name,
            {
                **args.cluster.properties(),
                "namespace": args.namespace,
                "revision": args.revision,
                "revisions": sorted(args.revisions) or None,
                "own": sorted(set(args.own)),
                "resources": args.resources,
                "others": args.others or None,
                "itself": pulumi.create_urn(name, "pulumi-python:dynamic:Adopters", parent),
            },
            opts,
        )
