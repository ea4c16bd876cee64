"""Rules of several istiods in one mesh: each VM follows one that there is."""

from collections.abc import Iterator, Mapping

from hybridmesh.istio import is_revisioned

from .findings import Finding
from .models import ControlPlane, Network, Workload
from .network_checks import gateway_hosts


def revision_findings(
    control_plane: ControlPlane, workloads: Mapping[str, Workload], networks: Mapping[str, Network]
) -> Iterator[Finding]:
    """What names an istiod that there is not, and istiods that could not be told apart."""
    known = {control_plane.revision, *control_plane.revisions}
    for name, revision in control_plane.revisions.items():
        path = f"controlPlane.revisions.{name}"
        if name == control_plane.revision or not is_revisioned(name):
            yield Finding(
                path,
                name,
                "is that of `controlPlane.revision`, or the one without a name",
                "Two istiods would have one name.",
                "another name, such as `canary`.",
            )
        if control_plane.mode == "adopt" and (revision.values or revision.charts):
            yield Finding(
                path,
                "",
                "has charts or values, which are not used with `mode: adopt`",
                "An adopted Istio is never changed, so this would have no effect.",
                "leave them out.",
            )
    for path, revision_of in _followers(workloads, networks):
        if revision_of not in known:
            yield Finding(
                path,
                revision_of,
                "is no revision of the control plane",
                "Its VMs would ask an istiod that does not exist.",
                f"one of {', '.join(sorted(known))}, or add it to `controlPlane.revisions`.",
            )


def _followers(workloads: Mapping[str, Workload], networks: Mapping[str, Network]) -> Iterator[tuple[str, str]]:
    for name, workload in workloads.items():
        machines = workload.machines
        if machines is None:
            continue
        if machines.revision is not None:
            yield f"workloads.{name}.machines.revision", machines.revision
        for machine, host in machines.hosts.items():
            if host.revision is not None:
                yield f"workloads.{name}.machines.hosts.{machine}.revision", host.revision
    for path, _, host in gateway_hosts(networks):
        if host.revision is not None:
            yield f"{path}.revision", host.revision
