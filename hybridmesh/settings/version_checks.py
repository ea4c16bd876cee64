"""Which versions go together: each istiod against the table, the sidecar against every istiod that a VM follows."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hybridmesh.istio import versions

from .findings import Finding
from .models import ControlPlane, Host, Machines, Network, Sidecar, Versions, Workload
from .network_checks import gateway_hosts


class Outside(NamedTuple):
    """What is outside the table, and where the settings say it."""

    path: str
    version: str
    objection: versions.Objection
    problem: str
    """The objection's, with who follows that istiod where there are several."""


def check_versions(found: Iterator[Outside], accepted: Versions) -> Iterator[Finding]:
    """Combinations outside the table that are not accepted."""
    for path, version, objection, problem in found:
        if objection.kind not in accepted.accept:
            yield Finding(
                path,
                version,
                problem,
                objection.consequence,
                f"{objection.fix}; or `versions.accept: [{objection.kind}]`, knowing that.",
            )


def outside_the_table(
    plane: ControlPlane, sidecar: Sidecar, workloads: Mapping[str, Workload], networks: Mapping[str, Network]
) -> Iterator[Outside]:
    """Every combination of the settings that is outside the table."""
    paths = {plane.version: "controlPlane.version"}
    for name, revision in plane.revisions.items():
        if revision.version is not None:
            paths.setdefault(revision.version, f"controlPlane.revisions.{name}.version")
    for version, path in paths.items():
        for objection in versions.objections(version, None):
            yield Outside(path, version, objection, objection.problem)
    if sidecar.package is None:
        return
    for istiod, follower in _followed(plane, workloads, networks).items():
        for objection in versions.objections(istiod, sidecar.package.version):
            if objection.kind == "sidecar":
                problem = f"{objection.problem}, which `{follower}` follows" if plane.revisions else objection.problem
                yield Outside("sidecar.package.version", sidecar.package.version, objection, problem)


def revision_of(plane: ControlPlane, machines: Machines | None, host: Host | None = None) -> str:
    """The istiod that a machine follows: its own word, its workload's, the control plane's.

    None as machines: those of a network's gateway. None as host: a machine of a fleet, or an instance, has no word of
    its own.
    """
    own = host.revision if host is not None else None
    return own or (machines.revision if machines is not None else None) or plane.revision


def _followed(
    plane: ControlPlane, workloads: Mapping[str, Workload], networks: Mapping[str, Network]
) -> dict[str, str]:
    """The versions of the istiods that VMs follow, each with the first who does."""
    followers: dict[str, str] = {}
    for name, workload in workloads.items():
        machines = workload.machines
        if machines is None:
            continue
        for machine, host in machines.hosts.items():
            if not host.gone:
                path = f"workloads.{name}.machines.hosts.{machine}"
                followers.setdefault(revision_of(plane, machines, host), path)
        by_themselves = [f"fleets.{n}" for n in machines.fleets] + [f"instances.{n}" for n in machines.instances]
        for machine in by_themselves:
            followers.setdefault(revision_of(plane, machines), f"workloads.{name}.machines.{machine}")
    for path, _, host in gateway_hosts(networks):
        if not host.gone:
            followers.setdefault(revision_of(plane, None, host), path)
    known = {name: revision.version or plane.version for name, revision in plane.revisions.items()}
    known[plane.revision] = plane.version
    found: dict[str, str] = {}
    for revision, path in followers.items():
        if revision in known:
            found.setdefault(known[revision], path)
    return found
