"""The token that a VM joins with, and the sense that a VM has fallen out of the mesh."""

from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from .cluster import ClusterAccess, connect
from .entries import is_connected
from .inputs import changed, number, text

AUDIENCE = "istio-ca"
"""Whom the token is for: istiod's certificate authority."""

_IDENTITY = ("namespace", "serviceAccount")
_ENTRY = ("entry",)
_TRUST = ("trust",)
_KEPT = ("expirationSeconds", "kubeconfig", "context", "requestSeconds")


class IstioTokenProvider(ResourceProvider):
    """Mints by TokenRequest. `diff` asks Kubernetes whether the VM is still in; if not, an update mints anew."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Mints a token."""
        return CreateResult(f"{props['namespace']}/{props['serviceAccount']}/{props['entry']}", self._mint(props))

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Another identity or trust, or a VM that is out, takes a new token; a new way to the cluster none."""
        different = changed(olds, news, (*_IDENTITY, *_ENTRY, *_TRUST, *_KEPT))
        if different:
            return DiffResult(changes=True)
        return DiffResult(changes=not self._is_in(news))

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Mints anew, except where only the way to the cluster changed, or how long the next token is valid."""
        # A state that an earlier version wrote knows no trust.
        trust = _TRUST if olds.get("trust") else ()
        if changed(olds, news, (*_IDENTITY, *_ENTRY, *trust)) or not self._is_in(news):
            return UpdateResult(self._mint(news))
        return UpdateResult({**news, "token": olds["token"], "expires": olds["expires"]})

    @staticmethod
    def _is_in(props: dict[str, Any]) -> bool:
        return is_connected(connect(props).workload_entry(text(props, "namespace"), text(props, "entry")))

    @staticmethod
    def _mint(props: dict[str, Any]) -> dict[str, Any]:
        token, expires = connect(props).mint_token(
            text(props, "namespace"), text(props, "serviceAccount"), AUDIENCE, number(props, "expirationSeconds")
        )
        return {**props, "token": token, "expires": expires}


@dataclass(frozen=True, kw_only=True, slots=True)
class IstioTokenArgs:
    """Inputs of `IstioToken`."""

    cluster: ClusterAccess
    """The cluster."""
    namespace: pulumi.Input[str]
    """The workload's namespace."""
    service_account: pulumi.Input[str]
    """The workload's service account: the identity that the token stands for."""
    entry: pulumi.Input[str]
    """Name of the VM's WorkloadEntry."""
    trust: pulumi.Input[str]
    """Differs when the mesh has other root certificates: the VM's certificate may be worth nothing then."""
    expiration_seconds: int = 3600
    """How long the token is valid, in seconds; Kubernetes refuses less than 600."""


class IstioToken(Resource, name="IstioToken"):
    """A VM's token for istiod. Healthy VMs keep theirs, expired or not: a valid certificate is enough to rejoin."""

    token: pulumi.Output[str]
    """The token; secret."""
    expires: pulumi.Output[str]
    """When it expires (RFC 3339)."""

    def __init__(self, name: str, args: IstioTokenArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            IstioTokenProvider(),
            name,
            {
                **args.cluster.properties(),
                "namespace": args.namespace,
                "serviceAccount": args.service_account,
                "entry": args.entry,
                "trust": args.trust,
                "expirationSeconds": args.expiration_seconds,
                "token": None,
                "expires": None,
            },
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=["token"])),
        )
