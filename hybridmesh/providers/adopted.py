"""Whether an Istio that the stack adopts is as the settings say. It is looked at before anything is touched."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import pulumi
from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, Resource, ResourceProvider

from hybridmesh.istio import BootstrapError, goyaml, mesh_config_map
from hybridmesh.istio.adopted import Asked, Istiod, misfits, remarks
from hybridmesh.istio.names import NETWORK_LABEL

from .cluster import NETWORKING, Cluster, ClusterAccess, ClusterError, UnansweredError, connect
from .inputs import Properties, text

_CONTAINER = "discovery"
_VERSION_LABEL = "app.kubernetes.io/version"
_INJECTOR = "istio-sidecar-injector"
_Found = TypeVar("_Found")


class AdoptedIstiodProvider(ResourceProvider):
    """Makes nothing; `check` refuses what does not go with the istiod that is there, and says what has no effect beside
    it, in a preview, too."""

    serialize_as_secret_always = False

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Looks at the Istio that is there."""
        asked = Asked(**json.loads(text(news, "asked")))
        there = _look(connect(news), asked)
        # The engine shows what a plugin prints.
        for remark in remarks(there, asked):
            print(remark, flush=True)
        # And the value of the property.
        return CheckResult(news, [CheckFailure("revision", said) for said in misfits(there, asked)])

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Nothing to do."""
        return CreateResult("adopted-istiod", props)

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        """Each run looks anew, whatever was asked before."""
        return DiffResult(changes=False)


def _look(cluster: Cluster, asked: Asked) -> Istiod:
    """What there is. What whoever runs this may not read is not judged."""
    deployments = _readable(cluster.objects_in, "apps", "v1", "deployments", asked.namespace) or ()
    theirs = [d for d in deployments if _is_istiod(d, asked.revision)]
    containers = (c for deployment in theirs for c in deployment["spec"]["template"]["spec"]["containers"])
    discovery = next((c for c in containers if c["name"] == _CONTAINER), None)
    charts = (d["metadata"]["labels"].get(_VERSION_LABEL) for d in theirs)
    name = mesh_config_map(asked.revision)
    maps = _readable(cluster.config_map, asked.namespace, name) or {}
    injector = _INJECTOR + name.removeprefix("istio")
    injected = _readable(cluster.config_map, asked.namespace, injector) or {}
    return Istiod(
        image=None if discovery is None else str(discovery.get("image", "")),
        chart=next(filter(None, charts), ""),
        environment=None if discovery is None else dict(_variables(discovery)),
        arguments=[] if discovery is None else discovery.get("args") or [],
        mesh=_mapping(maps.get("mesh")),
        networks=_mapping(_mapping(maps.get("meshNetworks")).get("networks")),
        gateways=_readable(_gateways, cluster) if asked.networks and asked.gateway is not None else None,
        injected=_mapping(injected["values"]) if "values" in injected else None,
        labels={
            namespace: _readable(cluster.namespace_labels, namespace)
            for namespace in sorted({asked.namespace, *asked.namespaces})
        },
        rules={
            namespace: [
                *_of_kind(cluster, "VirtualService", namespace),
                *_of_kind(cluster, "DestinationRule", namespace),
            ]
            for namespace in sorted({place for place, _ in asked.routed.values() if not asked.namespaces.get(place)})
        },
    )


def _gateways(cluster: Cluster) -> Sequence[Mapping[str, Any]]:
    of_the_api = cluster.objects_labelled("gateway.networking.k8s.io", "v1", "gateways", NETWORK_LABEL)
    return [*cluster.services_labelled(NETWORK_LABEL), *of_the_api]


def _of_kind(cluster: Cluster, kind: str, namespace: str) -> Iterator[Mapping[str, Any]]:
    for found in _readable(cluster.objects_in, *NETWORKING, f"{kind.lower()}s", namespace) or ():
        yield {**found, "kind": kind}


def _is_istiod(deployment: Mapping[str, Any], revision: str) -> bool:
    labels = deployment["metadata"].get("labels") or {}
    return (labels.get("app"), labels.get("istio.io/rev")) == ("istiod", revision)


def _variables(container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for variable in container.get("env") or ():
        if "valueFrom" not in variable:
            yield variable["name"], variable.get("value", "")


def _readable(ask: Callable[..., _Found], *of: Any) -> _Found | None:
    try:
        return ask(*of)
    except UnansweredError:
        raise
    except ClusterError:
        return None


def _mapping(found: Any) -> Mapping[str, Any]:
    """A mapping, or the text of one. What is none, or cannot be read, is told where it is used."""
    if isinstance(found, str):
        try:
            found = goyaml.load(found, "Istio's ConfigMap")
        except BootstrapError:
            return {}
    return found if isinstance(found, Mapping) else {}


class AdoptedIstiod(Resource, name="AdoptedIstiod"):
    """That an istiod which is there goes with the settings."""

    def __init__(
        self, name: str, cluster: ClusterAccess, asked: Asked, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        told = json.dumps(asdict(asked), sort_keys=True)
        inputs = {**cluster.properties(), "revision": asked.revision, "asked": told}
        super().__init__(AdoptedIstiodProvider(), name, inputs, opts)
