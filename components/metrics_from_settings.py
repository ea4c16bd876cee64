"""What the settings of metrics and alerts mean in the terms of components. Nothing is made here."""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

import pulumi
import yaml

from hybridmesh.istio.names import gateway_group
from hybridmesh.metrics import rules, scrape
from hybridmesh.settings import Settings
from hybridmesh.settings import models as given

from .command_host import CommandHost
from .metrics_agent import MetricsAgentArgs
from .observability import Observability, ObservabilityArgs, OwnPrometheus
from .sidecar import Sidecar
from .ssh_host import SshHost
from .workload import Workload


def observability_args(
    settings: Settings,
    observability: given.Observability,
    *,
    namespace: pulumi.Input[str],
    namespaces: Mapping[str, pulumi.Output[str]],
    istio_namespace: pulumi.Output[str],
    injected_as: pulumi.Input[str],
    hosts: Mapping[str, SshHost | CommandHost],
    workloads: Mapping[str, Workload],
) -> ObservabilityArgs:
    """The metrics server and what it watches. `namespaces`: as outputs of what is made first, by name."""
    own = observability.prometheus
    return ObservabilityArgs(
        namespace=namespace,
        namespace_name=observability.namespace,
        injected_as=injected_as,
        domain=settings.cluster.domain,
        image=observability.image,
        image_pull_policy=observability.image_pull_policy,
        config=server_config(settings, hosts),
        entries_in={ns: namespaces[ns] for ns in namespaces_of_machines(settings)},
        pods_in={ns: namespaces.get(ns, istio_namespace) for ns in namespaces_of_pods(settings)},
        istio_namespace=istio_namespace,
        seconds=observability.scrape_seconds,
        gateways=watched_gateways(settings),
        agents=watched_agents(settings),
        thresholds=rules.Thresholds(
            error_percent=observability.alerts.error_percent,
            canary_points=observability.alerts.canary_points,
            certificate_hours=observability.alerts.certificate_hours,
        ),
        runbook=observability.alerts.runbook or "",
        delivery=observability.delivery,
        operator_labels=observability.operator_labels,
        dashboard_labels=observability.dashboard_labels,
        prometheus=None
        if own is None
        else OwnPrometheus(
            image=own.image,
            retention_hours=own.retention_hours,
            resources={str(k): v for k, v in own.resources.items()},
        ),
        writers=[
            workloads[settings.workload_of(agent.machine)].identity
            for _, agent in sorted(observability.agents.items())
            if agent.write_to is None
        ],
    )


def metrics_agent_args(
    settings: Settings,
    observability: given.Observability,
    network: str,
    *,
    host: SshHost | CommandHost,
    member: Sidecar,
    metrics: Observability,
) -> MetricsAgentArgs:
    """The agent of a network, on the machine `host`, which is the mesh's by `member`."""
    agent, timeouts = observability.agents[network], settings.sidecar.timeouts
    write_to = metrics.write_to if agent.write_to is None else pulumi.Output.from_input(agent.write_to)
    return MetricsAgentArgs(
        connection=host.connection,
        joined=member.joined,
        url=agent.package.url,
        sha256=agent.package.sha256,
        config=pulumi.Output.all(metrics.server, write_to).apply(agent_file(network, observability.scrape_seconds)),
        dial_seconds=timeouts.dial_seconds,
        dial_attempts=timeouts.dial_attempts,
        download_seconds=timeouts.download_seconds,
        ready_seconds=timeouts.ready_seconds,
    )


def runs_agent(settings: Settings, machine: str) -> bool:
    """Whether an agent runs there, which reads the metrics of other machines."""
    agents = {} if settings.observability is None else settings.observability.agents
    return any(agent.machine == machine for agent in agents.values())


def scrapers_in(
    settings: Settings, network: str, hosts: Mapping[str, SshHost | CommandHost]
) -> list[pulumi.Input[str]]:
    """Who may read metrics on the machines of a network: Prometheus, and the agent there."""
    if settings.observability is None:
        return []
    agent = _agent_addresses(settings, network, hosts)
    return [*settings.observability.scrapers, *(address.apply(lone_address) for address in agent)]


def agents_on_ipv4(
    settings: Settings, network: str, hosts: Mapping[str, SshHost | CommandHost]
) -> list[pulumi.Output[str]]:
    """The agent in a network, for its machines on Google Cloud, which have IPv4 alone."""
    return [address.apply(lone_ipv4) for address in _agent_addresses(settings, network, hosts)]


def _agent_addresses(
    settings: Settings, network: str, hosts: Mapping[str, SshHost | CommandHost]
) -> list[pulumi.Output[str]]:
    """The address of the agent in a network, if there is one."""
    agent = None if settings.observability is None else settings.observability.agents.get(network)
    return [] if agent is None else [hosts[agent.machine].mesh_address]


def lone_address(address: str) -> str:
    """The range that is one address."""
    return str(ip_network(address))


def lone_ipv4(address: str) -> str:
    """The same for machines on Google Cloud, which have IPv4 alone. Raises ValueError on another one."""
    if ":" in address:
        raise ValueError(
            f"observability.agents: the agent's VM has the address {address}, and a fleet or an instance in its "
            "network has IPv4 alone. Nobody would scrape that. Fix: another VM, or an IPv4 `meshAddress`."
        )
    return lone_address(address)


def watched_gateways(settings: Settings) -> list[rules.Gateway]:
    """The gateways that are missed when they do not answer.

    One that is adopted by its address is not: nobody says which pods are its own. Nor is that of a network without an
    agent: nobody may reach its metrics, and what the metrics server says of its machines is watched anyway.
    """
    agents = watched_agents(settings)
    found = []
    if not settings.gateway.by_address:
        place, leads_to = settings.control_plane.namespace, "of VMs to istiod, and between networks"
        adopted = settings.gateway.mode == "adopt"
        found.append(rules.Gateway(place, settings.gateway.name, leads_to, adopted))
    for network, gateway in sorted(settings.gateways.items()):
        if network in agents:
            leads_to = f"into network {network}"
            found.append(rules.Gateway(gateway.namespace, gateway_group(network), leads_to, agent_in=network))
    return found


def watched_agents(settings: Settings) -> list[str]:
    """The networks whose agent is missed: those that write to where the rules are, or may write there."""
    if settings.observability is None:
        return []
    own = settings.observability.prometheus is not None
    return sorted(n for n, agent in settings.observability.agents.items() if agent.write_to is None or not own)


def namespaces_of_machines(settings: Settings) -> list[str]:
    """Where WorkloadEntries of machines are."""
    found = {w.namespace for w in settings.workloads.values() if w.machines is not None}
    return sorted(found | {gateway.namespace for gateway in settings.gateways.values()})


def namespaces_of_pods(settings: Settings) -> list[str]:
    """Where pods with a proxy are, the east-west gateway's among them."""
    found = {w.namespace for w in settings.workloads.values() if w.pods is not None}
    return sorted(found | {settings.control_plane.namespace})


def server_config(settings: Settings, hosts: Mapping[str, SshHost | CommandHost]) -> pulumi.Output[dict[str, Any]]:
    """What the metrics server is told; see `hybridmesh.metrics.server.Config`."""
    owners: list[tuple[str, given.Workload | given.NetworkGateway, str]] = [
        *((key, workload, settings.network_of(workload)) for key, workload in sorted(settings.workloads.items())),
        *((gateway_group(key), gateway, key) for key, gateway in sorted(settings.gateways.items())),
    ]
    machines = [
        {
            "name": machine,
            "namespace": owner.namespace,
            "workload": group,
            "network": network,
            "address": hosts[machine].mesh_address,
        }
        for group, owner, network in owners
        for machine in sorted(owner.hosts)
    ]
    agents = settings.observability.agents if settings.observability is not None else {}
    revisions = sorted(settings.control_plane.revisions)
    return pulumi.Output.all(
        namespaces=namespaces_of_machines(settings),
        pods_in=namespaces_of_pods(settings),
        network=settings.cluster.network,
        agents=sorted(agents),
        istio_namespace=settings.control_plane.namespace,
        revision=settings.control_plane.revision,
        machines=machines,
        **({"revisions": revisions} if revisions else {}),
    )


def agent_file(network: str, seconds: int) -> Callable[[Sequence[str]], str]:
    """An agent's prometheus.yml, of the metrics server's address and where it writes."""
    return lambda known: yaml.safe_dump(scrape.agent_config(known[0], network, known[1], seconds), sort_keys=False)
