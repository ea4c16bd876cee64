"""The rules of host names, routes and traffic policies that need more than one field."""

import itertools
from collections.abc import Iterator, Mapping

from .findings import Finding
from .models import OutlierDetection, Routing, TrafficPolicy, Workload
from .models.base import milliseconds
from .models.traffic import LocalityLbSetting

NAMESPACE_RULE = "namespace-default"
"""The DestinationRule of a namespace's `trafficPolicy`; a workload's has the workload's name."""


def routing_findings(
    path: str, name: str, routing: Routing, workloads: Mapping[str, Workload | None]
) -> Iterator[Finding]:
    """What is wrong with one routing. `workloads`: all there are, None where one is wrong in itself."""
    total = sum(routing.weights.values())
    if routing.weights and total != 100:
        yield Finding(
            f"{path}.weights",
            _pairs(routing.weights),
            f"adds up to {total}, not 100",
            "Istio would refuse the route.",
            "percents that add up to 100.",
        )
    yield from _timeouts(path, routing)
    yield from traffic_policy_findings(path, routing)
    if name not in workloads:
        yield Finding(
            path,
            "",
            "names no workload",
            "There would be nothing to route to.",
            f"one of {', '.join(sorted(workloads)) or '`workloads`, which is empty'}.",
        )
        return
    workload = workloads[name]
    if workload is None:
        return
    if not workload.ports:
        yield Finding(
            path,
            "",
            f"routes to `workloads.{name}`, which has no ports",
            "There would be no host to route to.",
            f"give `workloads.{name}.ports`, or drop the routing.",
        )
    yield from _by_request(path, name, routing, workload)
    parts = [p.version for p in (workload.pods, workload.machines) if p is not None]
    yield from _subset_names(path, routing, routing.subsets_of(workload))
    pools = [{**workload.labels, "app": name, "version": version} for version in parts]
    for subset, labels in routing.subsets.items():
        if not any(labels.items() <= pool.items() for pool in pools):
            yield Finding(
                f"{path}.subsets.{subset}",
                _pairs(labels),
                "selects neither the pods nor the machines",
                "Its share of the requests would fail with 503.",
                f"labels that they carry, such as {' or '.join(f'`version: {v}`' for v in parts)}.",
            )


def _subset_names(path: str, routing: Routing, subsets: Mapping[str, object]) -> Iterator[Finding]:
    known = ", ".join(subsets) or "none"
    named = [(f"weights.{subset}", subset, str(routing.weights[subset])) for subset in routing.weights]
    named += [(f"match[{index}].subset", match.subset, match.subset) for index, match in enumerate(routing.match)]
    if routing.mirror is not None:
        named.append(("mirror.subset", routing.mirror.subset, routing.mirror.subset))
    for place, subset, shown in named:
        if subset not in subsets:
            yield Finding(
                f"{path}.{place}",
                shown,
                f"names no subset (there are: {known})",
                "Its share of the requests would fail with 503.",
                f"add it to `{path}.subsets`, or drop it.",
            )
    if routing.mirror is not None and routing.weights.get(routing.mirror.subset) == 100:
        yield Finding(
            f"{path}.mirror.subset",
            routing.mirror.subset,
            "gets all requests already",
            "It would get each of them twice, those of POST too.",
            "another subset, or a smaller weight.",
        )


def _by_request(path: str, name: str, routing: Routing, workload: Workload) -> Iterator[Finding]:
    """What needs ports whose requests the proxy can read."""
    if not workload.ports or any(port.by_request for port in workload.ports):
        return
    for place, given in (("match", routing.match), ("mirror", routing.mirror), ("timeout", routing.timeout)):
        if given:
            yield Finding(
                f"{path}.{place}",
                "",
                f"needs requests, and `workloads.{name}` has TCP and TLS ports only",
                "It would have no effect: the proxy sees connections there, not requests.",
                "leave it out, or give a port the protocol HTTP, HTTP2 or GRPC, if that is what it speaks.",
            )


def _timeouts(path: str, routing: Routing) -> Iterator[Finding]:
    tries = routing.retries.per_try_seconds
    if tries is not None and routing.retries.attempts == 0:
        yield Finding(
            f"{path}.retries.perTrySeconds",
            str(tries),
            "is the limit of each try, and `attempts` is 0",
            "It would limit nothing: Istio takes it with retries only.",
            "`timeout`, which limits a request that is tried once; or `attempts` of 1 or more.",
        )
    elif routing.timeout is not None and tries is not None and tries * 1000 > milliseconds(routing.timeout):
        yield Finding(
            f"{path}.retries.perTrySeconds",
            str(tries),
            f"is longer than `timeout`, {routing.timeout}, which holds for all tries together",
            "Nothing would ever be tried again after a slow answer.",
            "a limit for each try below that for the request.",
        )


def traffic_policy_findings(path: str, policy: TrafficPolicy) -> Iterator[Finding]:
    """What is wrong with a host's, or a namespace's, traffic policy."""
    balancer = policy.load_balancer
    locality = balancer.locality_lb_setting if balancer is not None else None
    if locality is None:
        return
    path = f"{path}.loadBalancer.localityLbSetting"
    if bool(locality.failover) == bool(locality.distribute):
        yield Finding(
            path,
            "",
            f"has {'both' if locality.failover else 'none'} of failover, distribute; it takes exactly one",
            "Istio would refuse the rule." if locality.failover else "It would have no effect.",
            "give one of failover, distribute.",
        )
    yield from _failover(path, locality, policy.outlier_detection)
    yield from _distribute(path, locality)


def _failover(path: str, locality: LocalityLbSetting, outliers: OutlierDetection | None) -> Iterator[Finding]:
    if locality.failover and outliers is not None and outliers.max_ejection_percent == 0:
        yield Finding(
            f"{path}.failover",
            "",
            "needs outlier detection, which `outlierDetection.maxEjectionPercent: 0` turns off",
            "Istio would take no notice of it.",
            "a percentage above 0.",
        )
    seen: dict[str, int] = {}
    for index, rule in enumerate(locality.failover):
        first = seen.setdefault(rule.from_, index)
        if first != index:
            yield Finding(
                f"{path}.failover[{index}].from",
                rule.from_,
                f"is that of failover[{first}] too",
                "Only one of them would count.",
                "name each place once.",
            )
        if rule.from_ == rule.to:
            yield Finding(
                f"{path}.failover[{index}].to",
                rule.to,
                "is where the requests come from",
                "Istio would refuse the rule.",
                "another region.",
            )


def _distribute(path: str, locality: LocalityLbSetting) -> Iterator[Finding]:
    for index, spread in enumerate(locality.distribute):
        before = (n for n, other in enumerate(locality.distribute[:index]) if _overlaps(other.from_, spread.from_))
        first = next(before, index)
        if first != index:
            yield Finding(
                f"{path}.distribute[{index}].from",
                spread.from_,
                f"overlaps with distribute[{first}], {locality.distribute[first].from_}, which is before it",
                "Istio would refuse the rule.",
                "each place once, and a wider one such as `*` after those in it.",
            )
        # Istio reads `to` in no order, so one that overlaps is taken or refused by chance.
        pair = next((pair for pair in itertools.permutations(spread.to, 2) if _overlaps(*pair)), None)
        if pair is not None:
            yield Finding(
                f"{path}.distribute[{index}].to",
                _pairs(spread.to),
                f"has {pair[0]} and {pair[1]}, which overlap",
                "Istio would refuse the rule, or not, by chance.",
                "places of which none is in another.",
            )
        total = sum(spread.to.values())
        if total != 100 or 0 in spread.to.values():
            problem = "has a share of 0" if total == 100 else f"adds up to {total}, not 100"
            yield Finding(
                f"{path}.distribute[{index}].to",
                _pairs(spread.to),
                problem,
                "Istio would refuse the rule.",
                "percents above 0 that add up to 100.",
            )


def _overlaps(earlier: str, later: str) -> bool:
    """Whether Istio refuses `later` after `earlier`: validateLocalities, pkg/config/validation/agent/validation.go."""
    first, second = earlier.split("/"), later.split("/")
    inside = first[:-1] if first[-1] == "*" else first
    return second[: len(inside)] == inside or first[: len(second)] == second


def service_findings(workloads: Mapping[str, Workload], domain: str, istio_namespace: str) -> Iterator[Finding]:
    """What is wrong with host names: each is of one workload, and none takes over what is not the stack's."""
    owners: dict[str, str] = {}
    for name, workload in workloads.items():
        if workload.ports and workload.service.kind == "Service":
            owners[f"{name}.{workload.namespace}.svc.{domain}"] = f"workloads.{name}"
    for name, workload in workloads.items():
        if workload.service.kind == "Service":
            yield from _service(name, workload, domain)
            continue
        yield from _service_entry(name, workload)
        for index, host in enumerate(workload.service.hosts):
            path = f"workloads.{name}.service.hosts[{index}]"
            first = owners.setdefault(host, path)
            if first != path:
                yield Finding(
                    path,
                    host,
                    f"is that of {first} too",
                    "Requests would go to either of them, by chance.",
                    "a name of its own.",
                )
            owner = _owner(host, domain, istio_namespace)
            if owner:
                yield Finding(
                    path,
                    host,
                    f"belongs to {owner}",
                    "Every proxy of the mesh would send requests for it to the workload.",
                    "a name that is the workload's, such as `shop.vm.internal`.",
                )


def _service(name: str, workload: Workload, domain: str) -> Iterator[Finding]:
    if workload.ports and name[0].isdigit():
        yield Finding(
            f"workloads.{name}",
            "",
            "begins with a digit, and is the name of a Service",
            "Kubernetes would refuse the Service.",
            "a name that begins with a letter; or `service: {kind: ServiceEntry, hosts: […]}`.",
        )
    if workload.service.hosts:
        yield Finding(
            f"workloads.{name}.service.hosts",
            ", ".join(workload.service.hosts),
            "is for `kind: ServiceEntry`",
            f"Kubernetes makes the name of a Service itself: {name}.{workload.namespace}.svc.{domain}.",
            "leave it out, or `kind: ServiceEntry`.",
        )


def _service_entry(name: str, workload: Workload) -> Iterator[Finding]:
    path, service = f"workloads.{name}.service", workload.service
    if not service.hosts:
        yield Finding(
            f"{path}.hosts",
            "",
            "is missing, and `kind` is ServiceEntry",
            "Nobody would know the workload by a name.",
            "full host names such as `shop.vm.internal`.",
        )
    tcp = next((port.name for port in workload.ports if port.protocol == "TCP"), None)
    if len(service.hosts) > 1 and tcp is not None:
        yield Finding(
            f"{path}.hosts",
            ", ".join(service.hosts),
            f"is more than one, and port {tcp} is TCP",
            "Istio would refuse the ServiceEntry: a TCP connection does not say which host it is for.",
            "one host, or a workload of its own for each.",
        )
    if not workload.ports:
        yield Finding(
            f"{path}.kind",
            service.kind,
            f"needs ports, and `workloads.{name}` has none",
            "Istio would refuse the ServiceEntry.",
            f"give `workloads.{name}.ports`, or leave `service` out.",
        )


def _owner(host: str, domain: str, istio_namespace: str) -> str:
    """Whose a host name is that no workload may have; empty: nobody's."""
    api = "kubernetes.default"
    if host in (api, f"{api}.svc", f"{api}.svc.{domain}"):
        return "Kubernetes' API"
    of_istio = f".{istio_namespace}"
    system = bool(istio_namespace) and host.endswith((of_istio, f"{of_istio}.svc", f"{of_istio}.svc.{domain}"))
    return "Istio or the cluster" if system or host == domain else ""


def _pairs(mapping: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{k}: {v}" for k, v in mapping.items()) + "}"
