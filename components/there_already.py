"""What the stack would make, and somebody else has made already: refused by a preview, before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pulumi

from hybridmesh.legible import legible
from hybridmesh.providers.cluster import ClusterAccess, ClusterError, connect

from .hooks import RESOURCE_HOOKS, in_thread, supports

_OBJECTS: Final = "kubernetes:"
_RELEASES: Final = "kubernetes:helm.sh/"
"""Helm knows its own releases, and says whose an object is."""
_PULUMI: Final = "pulumi-"
"""What pulumi-kubernetes calls itself begins so (its provider.go, fieldManagerName)."""


class ThereAlreadyError(pulumi.RunError):
    """An object that the stack would make is in the cluster, made by somebody else."""


class ThereAlready:
    """Asks the cluster, in a preview, after each object that is about to be made.

    pulumi-kubernetes keeps in a preview to itself that an object is there (its provider.go, Create), and fails
    half-way through the update; versions before 4.29 take the object for the stack's from then on, and remove it with
    the stack. Only the engine knows what is in the state, so that it is asked by a hook of the engine's.

    It does not ask in an update, where pulumi-kubernetes does, nor does it say anything where the cluster does not.
    """

    def __init__(self, name: str, cluster: ClusterAccess) -> None:
        self._cluster = cluster
        self._is_silent = False
        self._binding: pulumi.ResourceHookBinding | None = None
        if pulumi.runtime.is_dry_run() and supports(RESOURCE_HOOKS):
            options = pulumi.ResourceHookOptions(on_dry_run=True)
            hook = pulumi.ResourceHook(f"{name}-there-already", self.ask, options)
            self._binding = pulumi.ResourceHookBinding(before_create=[hook])

    def hooked(self, args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        """The transformation, for a component, of all that is made below it."""
        if self._binding is None or not args.type_.startswith(_OBJECTS) or args.type_.startswith(_RELEASES):
            return None
        hooks = pulumi.ResourceOptions(hooks=self._binding)
        return pulumi.ResourceTransformationResult(args.props, pulumi.ResourceOptions.merge(args.opts, hooks))

    async def ask(self, args: pulumi.ResourceHookArgs) -> None:
        """Raises `ThereAlreadyError`."""
        inputs = args.new_inputs or {}
        metadata = inputs.get("metadata") or {}
        kind, name, namespace = inputs.get("kind"), metadata.get("name"), metadata.get("namespace") or ""
        # What is not known yet is no text.
        if self._is_silent or not (isinstance(name, str) and isinstance(namespace, str)):
            return
        try:
            found = await in_thread(self._find, str(inputs.get("apiVersion")), str(kind), namespace, name)
        except ClusterError:
            self._is_silent = True
            return
        who = makers(found)
        if who:
            at = f"{namespace}/{name}" if namespace else name
            existing = (
                f"`namespaces.{name}.existing: true` for one of workloads, which stays theirs then; for Istio's own, "
                "another `controlPlane.namespace` (docs/own-cluster.md says how `cacerts` get there)"
            )
            another = "another name in the settings (docs/services.md)"
            raise ThereAlreadyError(
                f"{kind} {at} is in the cluster already, made by {', '.join(who)} and not by this stack, which would "
                "make it: `pulumi up` would fail there, half-way, or take it over, and remove it with the stack. "
                f"Nothing was changed. Fix: {existing if kind == 'Namespace' else another}; or, if nobody needs it, "
                "delete it."
            )

    def _find(self, api_version: str, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        return connect(self._cluster.properties()).find(api_version, kind, namespace, name)


def makers(found: Mapping[str, Any] | None) -> list[str]:
    """Who has made an object, if Pulumi has had no part in it.

    What Pulumi has made is let pass, this stack's or not: it is asked after in a preview that replaces it, too, and
    nothing tells that from a new one. So is what nobody owns, as `recover` leaves it, and what is on its way out.
    """
    metadata = (found or {}).get("metadata") or {}
    if metadata.get("deletionTimestamp"):
        return []
    managers = [field for field in metadata.get("managedFields") or () if not field.get("subresource")]
    names = sorted({legible(str(field.get("manager") or "somebody")) for field in managers})
    return [] if any(name.startswith(_PULUMI) for name in names) else names
