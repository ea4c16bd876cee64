"""A ConfigMap that somebody else is about to write."""

from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from .cluster import Cluster, ClusterAccess, ClusterError, connect
from .inputs import changed, number, text
from .waiting import wait_until

_WATCHED = ("namespace", "name", "key", "after")


class AwaitedConfigMapProvider(ResourceProvider):
    """Creates and updates by waiting until a ConfigMap has a key; the ConfigMap itself is not its own."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Waits for the key."""
        self._wait(props)
        return CreateResult(f"{props['namespace']}/{props['name']}", {**props, "found": _name(props)})

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Another ConfigMap, or another occasion, is waited for anew."""
        return DiffResult(changes=bool(changed(olds, news, _WATCHED)))

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Waits for the key."""
        self._wait(news)
        return UpdateResult({**news, "found": _name(news)})

    @staticmethod
    def _wait(props: dict[str, Any]) -> None:
        cluster = connect(props)
        seconds = number(props, "limitSeconds")
        objection = wait_until(lambda: _objection(cluster, props), seconds)
        if objection:
            raise ClusterError(f"{objection} after {seconds} s. {text(props, 'remedy')}")


def _objection(cluster: Cluster, props: dict[str, Any]) -> str:
    data = cluster.config_map(text(props, "namespace"), text(props, "name"))
    if data is None:
        return f"there is no ConfigMap {_name(props)}"
    if not data.get(text(props, "key")):
        return f"ConfigMap {_name(props)} has no {props['key']}"
    return ""


def _name(props: dict[str, Any]) -> str:
    return f"{props['namespace']}/{props['name']}"


@dataclass(frozen=True, kw_only=True, slots=True)
class AwaitedConfigMapArgs:
    """Inputs of `AwaitedConfigMap`."""

    cluster: ClusterAccess
    """The cluster."""
    namespace: pulumi.Input[str]
    """The ConfigMap's namespace."""
    name: str
    """The ConfigMap's name."""
    key: str
    """The key that it must have."""
    limit_seconds: int
    """How long to wait."""
    remedy: str
    """What to do if it does not come; a sentence."""


class AwaitedConfigMap(Resource, name="AwaitedConfigMap"):
    """That a ConfigMap is there. Its output `found` is what `ConfigMap.get` wants as id, once it can succeed."""

    found: pulumi.Output[str]
    """The ConfigMap, as namespace/name."""

    def __init__(self, name: str, args: AwaitedConfigMapArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            AwaitedConfigMapProvider(),
            name,
            {
                **args.cluster.properties(),
                "namespace": args.namespace,
                "name": args.name,
                "key": args.key,
                "limitSeconds": args.limit_seconds,
                "remedy": args.remedy,
                "found": None,
            },
            opts,
        )
