"""What a VM joins with, token and scripts, and the sense that it has to join again: it fell out, or was changed by
hand. A join restarts no proxy that serves for a token alone (join.sh, `find_reasons`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from hybridmesh.remote import SCRIPTS_FOLDER

from .cluster import ClusterAccess, connect
from .drift import DriftError, look_at, note_what_runs, runs_another_join
from .entries import is_in, was_in_recently
from .inputs import changed, its_entry, number, text
from .packs import takes_packs
from .scripts import bring

AUDIENCE = "istio-ca"
"""Whom the token is for: istiod's certificate authority."""

_IDENTITY = ("namespace", "serviceAccount")
_ENTRY = ("entry",)
_CERTIFIED = ("identity", "trust")
"""What makes the VM's certificate worth nothing where it changes."""
_SCRIPTS = ("scripts",)
_KEPT = ("expirationSeconds", "kubeconfig", "context", "requestSeconds", "connection", "dialSeconds", "dialAttempts")


@takes_packs
class IstioTokenProvider(ResourceProvider):
    """Mints by TokenRequest. `diff` asks Kubernetes whether the VM is still in, and was heard of its health; if not, an
    update mints anew.

    A VM that will join gets the scripts first, if the preflight of the same run has not brought them; and so does a
    member when they are other ones than at its last join, or were changed by hand.

    `read`, under `--refresh`, looks at the VM. What it finds to be changed by hand makes the next update another
    `repair`, with which the VM joins again, by the token that it has. So does one that runs another join than its last.
    """

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Mints a token. A VM that is about to join has not been changed."""
        bring(props)
        made = {**self._mint(props), "drift": [], "repair": ""}
        return CreateResult(f"{props['namespace']}/{props['serviceAccount']}/{props['entry']}", made)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Looks at the VM. One that does not answer is left as it was known: `up` has other eyes for that."""
        # The engine shows what a plugin prints.
        try:
            seen = look_at(props)
        except DriftError as error:
            print(f"{text(props, 'machine')} was not looked at for changes by hand: {error}", flush=True)
            return ReadResult(id_, props)
        note_what_runs(props, seen.generation)
        for line in seen.changes:
            print(f"{text(props, 'machine')} was changed by hand: {line}", flush=True)
        return ReadResult(id_, {**props, "drift": seen.changes})

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Another identity or trust, or a VM that is out, takes a new token; other ways to cluster and VM take none."""
        if runs_another_join(olds):
            said = "runs another join than the last that ended well, as a copy put back does: it joins again"
            print(f"{text(news, 'machine')} {said}", flush=True)
            return DiffResult(changes=True)
        if olds.get("drift") or changed(olds, news, (*_IDENTITY, *_ENTRY, *_CERTIFIED, *_SCRIPTS, *_KEPT)):
            return DiffResult(changes=True)
        return DiffResult(changes=not was_in_recently(connect(news), *its_entry(news)))

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Mints anew, except where the VM is in and only what is around the token changed."""
        # A state that an earlier version wrote does not know all of it.
        certified = tuple(key for key in _CERTIFIED if olds.get(key))
        made = {**news, "token": olds["token"], "expires": olds["expires"]}
        another_one = changed(olds, news, (*_IDENTITY, *_ENTRY, *certified))
        anew = bool(another_one) or not is_in(connect(news), *its_entry(news))
        another = runs_another_join(olds)
        if anew or another or _are_changed(olds) or changed(olds, news, _SCRIPTS):
            bring(news)
        if anew:
            made = self._mint(news)
        repair = text(olds, "repair")
        if another or olds.get("drift"):
            repair = str(int(repair or 0) + 1)
        return UpdateResult({**made, "drift": [], "repair": repair})

    @staticmethod
    def _mint(props: dict[str, Any]) -> dict[str, Any]:
        token, expires = connect(props).mint_token(
            text(props, "namespace"), text(props, "serviceAccount"), AUDIENCE, number(props, "expirationSeconds")
        )
        return {**props, "token": token, "expires": expires}


def _are_changed(olds: Mapping[str, Any]) -> bool:
    """Whether the scripts that a join has kept are among what was changed by hand."""
    return any(f"{SCRIPTS_FOLDER}/" in line for line in olds.get("drift") or ())


@dataclass(frozen=True, kw_only=True, slots=True)
class IstioTokenArgs:
    """Inputs of `IstioToken`."""

    cluster: ClusterAccess
    """The cluster."""
    machine: str
    """The VM's name in the settings, for messages."""
    ssh: pulumi.Input[str] = field(repr=False)
    """The way to it, as `Connection.packed` gives it."""
    namespace: pulumi.Input[str]
    """The workload's namespace."""
    service_account: pulumi.Input[str]
    """The workload's service account: the identity that the token stands for."""
    entry: pulumi.Input[str]
    """Name of the VM's WorkloadEntry."""
    identity: pulumi.Input[str]
    """The SPIFFE id that its certificate must carry: in another trust domain the one that it has is for nobody."""
    trust: pulumi.Input[str]
    """Differs when the mesh has other root certificates: the VM's certificate may be worth nothing then."""
    scripts: str
    """What tells the scripts of its join from others: hybridmesh.remote.scripts_digest."""
    expiration_seconds: int = 3600
    """How long the token is valid, in seconds; Kubernetes refuses less than 600."""


class IstioToken(Resource, name="IstioToken"):
    """A VM's token for istiod. Healthy VMs keep theirs, expired or not: a valid certificate is enough to rejoin."""

    token: pulumi.Output[str]
    """The token; secret."""
    expires: pulumi.Output[str]
    """When it expires (RFC 3339)."""
    drift: pulumi.Output[list[str]]
    """What was changed by hand on the VM, as the last refresh found it."""
    repair: pulumi.Output[str]
    """Differs once something was changed by hand; empty until then. Not known in the preview of an update."""

    def __init__(self, name: str, args: IstioTokenArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            IstioTokenProvider(),
            name,
            {
                "cluster": args.cluster.packed(),
                "machine": args.machine,
                "ssh": args.ssh,
                "namespace": args.namespace,
                "serviceAccount": args.service_account,
                "entry": args.entry,
                "identity": args.identity,
                "trust": args.trust,
                "scripts": args.scripts,
                "expirationSeconds": args.expiration_seconds,
                "token": None,
                "expires": None,
                "drift": None,
                "repair": None,
            },
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=["token"])),
        )
