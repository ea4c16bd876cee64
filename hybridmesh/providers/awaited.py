"""What somebody else writes into the cluster, after a release of ours or for a mesh that is adopted: found out once it
is there, and looked at anew by each run."""

import json
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from hybridmesh.istio.names import canonical_address

from .cluster import Cluster, ClusterAccess, ClusterError, connect
from .inputs import Properties, changed, is_unknown, number, text
from .waiting import wait_until

FOUND = "found"
"""The property that has what was found."""


class _Awaiting(ResourceProvider):
    """Creates and updates by waiting for something in the cluster that is not its own; `found` is what it finds.

    `check` looks what is there now, of which `diff` sees whether it is another one; a preview has that, for the engine
    takes what was checked for what will be. A resource that Pulumi only reads (`ConfigMap.get`) would do as well, but
    the engine writes its state twice for each, in a run that changes nothing too
    (docs/decisions/043-what-others-write-is-awaited.md).
    """

    serialize_as_secret_always = False
    of: tuple[str, ...]
    """The properties that tell what is waited for."""

    def look(self, cluster: Cluster, props: Properties) -> tuple[Any, str]:
        """What is there now; and what is wrong with it, empty if nothing is."""
        raise NotImplementedError

    def asked_for(self, _props: Properties) -> str:
        """What exactly is to be there; empty where anything will do."""
        return ""

    def unfit(self, _found: Any, _props: Properties) -> str:
        """Why what is there cannot be what is asked for anew; empty if it can."""
        return ""

    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Looks. Not where nothing was found yet or something else is waited for, of which nothing can be known yet;
        but always at what is adopted, which must be there."""
        if any(is_unknown(news.get(key)) for key in self.of):
            return CheckResult(news, [])
        if not news["adopted"] and (not olds or changed(olds, news, self.of)):
            return CheckResult(news, [])
        found, objection = self.look(connect(news), news)
        if not objection:
            return CheckResult({**news, FOUND: found}, [])
        refusal = CheckFailure("name", f"{objection}. {text(news, 'remedy')}")
        return CheckResult(news, [refusal] if news["adopted"] else [])

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Waits."""
        return CreateResult(
            "/".join(text(props, key) for key in ("namespace", "name")), self._awaited(props, anew=True)
        )

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Something else is there, or waited for."""
        return DiffResult(changes=bool(changed(olds, news, (*self.of, FOUND))))

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Waits."""
        # Who has ignored what it is asked for may go on so, whatever else changes.
        return UpdateResult(self._awaited(news, anew=self.asked_for(olds) != self.asked_for(news)))

    def _awaited(self, props: Properties, *, anew: bool) -> dict[str, Any]:
        cluster = connect(props)
        seconds = number(props, "limitSeconds")
        answers: list[Any] = []

        def objection() -> str:
            found, wrong = self.look(cluster, props)
            answers.append(found)
            return wrong or (self.unfit(found, props) if anew else "")

        wrong = wait_until(objection, seconds)
        if wrong:
            since = f" after {seconds} s" if seconds else ""
            raise ClusterError(f"{wrong}{since}. {text(props, 'remedy')}")
        return {**props, FOUND: answers[-1]}


class AwaitedConfigMapProvider(_Awaiting):
    """Awaits that a ConfigMap has a key, and gives its text."""

    of = ("namespace", "name", "key")

    def look(self, cluster: Cluster, props: Properties) -> tuple[Any, str]:
        """The key's text."""
        name, key = f"{props['namespace']}/{props['name']}", text(props, "key")
        data = cluster.config_map(text(props, "namespace"), text(props, "name"))
        if data is None:
            return "", f"there is no ConfigMap {name}"
        complete = data.get(key) or props["optional"]
        return data.get(key, ""), "" if complete else f"ConfigMap {name} has no {key}"


class AwaitedAddressProvider(_Awaiting):
    """Awaits that a Service's load balancer has an address, and gives it."""

    of = ("namespace", "name", "service")

    def look(self, cluster: Cluster, props: Properties) -> tuple[Any, str]:
        """The load balancer's first IP address, else host name. Raises `ClusterError` for a Service without one."""
        name = f"{props['namespace']}/{props['name']}"
        service = cluster.service(text(props, "namespace"), text(props, "name"))
        if service is None:
            return "", f"there is no Service {name}"
        if service["spec"].get("type") != "LoadBalancer":
            raise ClusterError(
                f"Service {name} is of type {service['spec'].get('type')}, to which no load balancer gives an address. "
                f"{text(props, 'remedy')}"
            )
        ingresses = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
        addresses = [str(ingress.get("ip") or ingress.get("hostname") or "") for ingress in ingresses]
        address = next((a for a in addresses if a and a == self.asked_for(props)), next(filter(None, addresses), ""))
        return address, "" if address else f"Service {name} has no address"

    def asked_for(self, props: Properties) -> str:
        """The address that the load balancer is asked for."""
        return canonical_address(json.loads(text(props, "service") or "{}").get("loadBalancerIP") or "")

    def unfit(self, found: Any, props: Properties) -> str:
        """The address of before stays for a while where another is asked for."""
        asked = self.asked_for(props)
        if asked in ("", found):
            return ""
        return (
            f"Service {props['namespace']}/{props['name']} has the address {found}, and its loadBalancerIP asks for "
            f"{asked}: the load balancer has not taken it, or gives none that is asked for"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _AwaitedArgs:
    cluster: ClusterAccess
    """The cluster."""
    namespace: pulumi.Input[str]
    """The namespace of what is waited for."""
    name: str
    """Its name."""
    limit_seconds: int = 0
    """How long to wait; default not at all."""
    remedy: str
    """What to do if it does not come; a sentence."""
    adopted: bool = False
    """Whether it is there before the stack is: a first preview has it, and refuses a cluster without it."""

    def properties(self) -> dict[str, Any]:
        """These as inputs of a dynamic resource, and the place of what it gives."""
        return {
            **self.cluster.properties(),
            "namespace": self.namespace,
            "name": self.name,
            "limitSeconds": self.limit_seconds,
            "remedy": self.remedy,
            "adopted": self.adopted,
            FOUND: None,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class AwaitedConfigMapArgs(_AwaitedArgs):
    """Inputs of `AwaitedConfigMap`."""

    key: str
    """The key that it must have."""
    optional: bool = False
    """Whether the key may be missing; its text is empty then."""


class AwaitedConfigMap(Resource, name="AwaitedConfigMap"):
    """That a ConfigMap has a key."""

    found: pulumi.Output[str]
    """The key's text."""

    def __init__(self, name: str, args: AwaitedConfigMapArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = {**args.properties(), "key": args.key, "optional": args.optional}
        super().__init__(AwaitedConfigMapProvider(), name, inputs, opts)


@dataclass(frozen=True, kw_only=True, slots=True)
class AwaitedAddressArgs(_AwaitedArgs):
    """Inputs of `AwaitedAddress`."""

    service: pulumi.Input[str]
    """What is asked of the Service, as one text: where another thing is asked, the address may be another, and a
    preview does not know it."""


class AwaitedAddress(Resource, name="AwaitedAddress"):
    """That a Service's load balancer has an address."""

    found: pulumi.Output[str]
    """The IP address, or the host name of one that has none."""

    def __init__(self, name: str, args: AwaitedAddressArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(AwaitedAddressProvider(), name, {**args.properties(), "service": args.service}, opts)
