"""What is said of settings that are allowed, and may do harm: at each preview and `up`."""

from collections.abc import Iterator

from hybridmesh.istio import versions

from .access import has_source
from .lost import lost_machines
from .models import Settings
from .shapes import proxy_shape
from .version_checks import outside_the_table


def accepted_risks(settings: Settings) -> list[str]:
    """What `versions.accept` lets through, and what may break with it; and what holds only if others see to it."""
    found = outside_the_table(settings.control_plane, settings.sidecar, settings.workloads, settings.networks)
    risks = [
        f"{risk.objection.kind} {risk.problem}, as versions.accept allows. {risk.objection.consequence}"
        for risk in found
    ]
    if "system" in settings.versions.accept:
        risks.append(f"VMs of any system may join, as versions.accept allows. {versions.MAY_BREAK['system']}")
    return [*risks, *_charts_from_anybody(settings), *_plain_text_elsewhere(settings), *_names_of_others(settings)]


def _charts_from_anybody(settings: Settings) -> Iterator[str]:
    """Charts that come without encryption. Unlike a package's, nothing tells their content from another."""
    plane = settings.control_plane
    revisions = {f"revisions.{name}.": revision.charts for name, revision in sorted(plane.revisions.items())}
    for of, charts in {"": plane.charts, **revisions}.items():
        if charts is not None and charts.repository is not None and charts.repository.startswith("http:"):
            yield (
                f"controlPlane.{of}charts.repository = {charts.repository}: charts come in plain text, and no digest "
                "tells them from others. Whoever is on the way may put into the cluster what they like. Better: https, "
                "or a folder (`path`)."
            )


def _plain_text_elsewhere(settings: Settings) -> Iterator[str]:
    """Rules that refuse by identity, in namespaces whose owners say whether a caller must have one."""
    for name, access in sorted(settings.access.items()):
        namespace = settings.workloads[name].namespace
        if access.default == "allow" and settings.namespace(namespace).existing and any(map(has_source, access.deny)):
            yield (
                f"access.{name}.deny refuses callers by identity in namespace {namespace}, which is another's. Callers "
                "in plain text have none: they pass, unless its owner's mTLS is STRICT."
            )


def _names_of_others(settings: Settings) -> Iterator[str]:
    """Agents that find services of the mesh if a resolver knows them of which no setting says anything."""
    agents = settings.observability.agents if settings.observability is not None else {}
    for network, agent in sorted(agents.items()):
        name = settings.workload_of(agent.machine)
        if not proxy_shape(settings.sidecar, settings.workloads[name]).dns_capture:
            yield (
                f"observability.agents.{network}: {agent.machine} is of workload `{name}`, whose `dnsCapture` is "
                "false. Its own resolver must know the services of the cluster, or the agent scrapes nothing."
            )


def losses(settings: Settings) -> list[str]:
    """What it means that machines are declared lost."""
    lost = [
        f"{machine} is declared lost ({place}): it is no part of the mesh and of this stack, and nobody asks it. "
        "Should it still run, it would come back into the mesh by its certificate: switch it off."
        for machine, place in sorted(lost_machines(settings).items())
    ]
    return [*lost, *_shares_of_lost(settings)]


def _shares_of_lost(settings: Settings) -> Iterator[str]:
    """Requests for machines of which none is left."""
    for name, routing in sorted(settings.routing.items()):
        workload = settings.workloads[name]
        machines, pods, labels = workload.machines, workload.pods, {**workload.labels, "app": name}
        if machines is None or machines.fleets or machines.instances:
            continue
        if not all(host.gone for host in machines.hosts.values()):
            continue
        of_machines = {**labels, "version": machines.version}
        of_pods = {**labels, "version": pods.version} if pods is not None else {}
        for subset, selected in sorted(routing.subsets_of(workload).items()):
            weight = routing.weights.get(subset, 0)
            if weight and selected.items() <= of_machines.items() and not selected.items() <= of_pods.items():
                yield (
                    f"routing.{name}.weights.{subset} = {weight}: the machines of `{name}` are all declared lost, so "
                    f"{weight} percent of the requests fail with 503 as long as nobody else takes them."
                )
