"""What is wrong on the machine itself."""

from __future__ import annotations

from collections.abc import Iterator

from hybridmesh.istio import versions
from hybridmesh.istio.ports import PROXY_PORTS

from .model import CANNOT_COME, JOIN_AGAIN, Case, Diagnosis, Found, last_words

RESTARTS = 3
FULL = (3, 20 * 1024)
"""Less free than so many percent, or so many KiB, is full."""
NO_INODES = 1
"""Less free inodes than so many percent is full."""


def _unreachable(case: Case) -> Iterator[Found]:
    if case.facts is None:
        yield Found(f"it cannot be looked at: {case.refusal}", "SSH")


def _never_joined(case: Case) -> Iterator[Found]:
    if case.facts is not None and not case.facts.joined:
        yield Found("no join is recorded on it", "/var/lib/hybrid-mesh/before is not there")


def _service_stopped(case: Case) -> Iterator[Found]:
    if case.facts is None or case.facts.starting:
        return
    unit = case.facts.unit("istio.service")
    if unit.active in ("inactive", "failed", "deactivating"):
        why = f", and it ended with {unit.result}" if unit.result not in ("success", "") else ""
        yield Found(f"istio.service does not run ({unit.active}{why})", "systemctl show istio")


def _crash_loop(case: Case) -> Iterator[Found]:
    if case.facts is None:
        return
    unit = case.facts.unit("istio.service")
    if unit.sub == "auto-restart" or (unit.restarts >= RESTARTS and not case.facts.ready):
        yield Found(
            f"the proxy ends again and again: {unit.restarts} restarts so far, exit status {unit.exit_status}, "
            f"{unit.result}",
            last_words(case.facts),
        )


def _service_disabled(case: Case) -> Iterator[Found]:
    if case.facts is None:
        return
    for name in ("istio.service", "hybrid-mesh-conntrack.service"):
        state = case.facts.unit(name).enabled
        if case.facts.unit(name).loaded and state not in ("enabled", "enabled-runtime"):
            yield Found(f"{name} is {state}: the next boot is one without the proxy", f"systemctl is-enabled {name}")


def _not_ready(case: Case) -> Iterator[Found]:
    if case.facts is not None and case.facts.unit("istio.service").sub == "running" and not case.facts.ready:
        yield Found("the proxy runs, and is not ready", f"127.0.0.1:15021/healthz/ready; {last_words(case.facts)}")


def _rules_missing(case: Case) -> Iterator[Found]:
    if case.facts is None or case.facts.environment.get("ISTIO_CUSTOM_IP_TABLES") == "true":
        return
    if case.facts.unit("istio.service").sub == "running" and not case.facts.rules:
        yield Found(
            "the proxy runs, and no iptables rule leads anything to it: calls go past the mesh, in plain text, and "
            "strict mTLS refuses them",
            "iptables-save -t nat",
        )


def _rules_left(case: Case) -> Iterator[Found]:
    if case.facts is None or case.facts.environment.get("ISTIO_CUSTOM_IP_TABLES") == "true":
        return
    if case.facts.unit("istio.service").active in ("inactive", "failed") and case.facts.rules:
        yield Found(
            f"redirect rules stand ({case.facts.rules}), and no proxy takes what they redirect: its traffic is cut",
            "iptables-save -t nat",
        )


def _tracker_stopped(case: Case) -> Iterator[Found]:
    if case.facts is None or not case.facts.joined:
        return
    unit = case.facts.unit("hybrid-mesh-conntrack.service")
    if unit.active != "active":
        yield Found(
            f"hybrid-mesh-conntrack.service is {unit.active}: the next start of the proxy may cut open connections, "
            "SSH's among them",
            "systemctl show hybrid-mesh-conntrack",
        )


def _port_conflict(case: Case) -> Iterator[Found]:
    if case.facts is None:
        return
    for listener in case.facts.listeners:
        if listener.port in PROXY_PORTS and listener.process not in ("envoy", "pilot-agent"):
            yield Found(
                f"port {listener.port}, which the proxy needs, is held by {listener.process or 'somebody else'}",
                "ss -ltnp",
            )


def _app_not_listening(case: Case) -> Iterator[Found]:
    if case.facts is None or case.workload is None:
        return
    for port in case.workload["ports"]:
        if case.facts.holder(int(port["target"])) is None:
            yield Found(
                f"nothing listens on port {int(port['target'])} ({port['name']}) of {case.machine['workload']}",
                "ss -ltnp",
            )


def _disk_full(case: Case) -> Iterator[Found]:
    if case.facts is None:
        return
    percent, kib = FULL
    for disk in case.facts.disks:
        if disk.free < kib or disk.free * 100 < disk.size * percent:
            yield Found(f"{disk.path} is full: {disk.free // 1024} MiB of {disk.size // 1024} MiB are free", "df")
    for disk in case.facts.inodes:
        if disk.free * 100 < disk.size * NO_INODES:
            yield Found(f"{disk.path} has no inodes left: {disk.free} of {disk.size} are free", "df -i")


def _drift(case: Case) -> Iterator[Found]:
    if case.facts is not None and case.facts.drift:
        yield Found(f"changed by hand: {'; '.join(case.facts.drift)}", "/var/lib/hybrid-mesh/manifest")


def _version_skew(case: Case) -> Iterator[Found]:
    if case.facts is None or not case.facts.version:
        return
    plane = case.topology["controlPlane"]
    follows = case.facts.environment.get("CA_ADDR", "").partition(":")[0]
    if follows not in ("", plane["discoveryHost"]):
        return  # an istiod beside the first: its version is not in the topology
    for objection in versions.objections(plane["version"], case.facts.version):
        if objection.kind == "sidecar":
            yield Found(
                f"its sidecar {case.facts.version} {objection.problem}. {objection.consequence}",
                "the package manager",
                f"set hybrid-mesh:sidecar.package to {objection.fix}, and pulumi up.",
            )


DIAGNOSES = (
    Diagnosis(
        id="ssh-unreachable",
        title="The machine cannot be looked at",
        severity="critical",
        check=_unreachable,
        remedy="see that the machine runs and that SSH is let in; what the mesh says of it stands here too.",
    ),
    Diagnosis(
        id="never-joined",
        title="The machine never joined",
        severity="critical",
        check=_never_joined,
        remedy=JOIN_AGAIN,
    ),
    Diagnosis(
        id="service-stopped",
        title="The proxy does not run",
        severity="critical",
        check=_service_stopped,
        remedy="`systemctl start istio` there, or pulumi up, which starts it; /var/log/istio tells why it ended.",
        explained_by=frozenset({"never-joined"}),
    ),
    Diagnosis(
        id="crash-loop",
        title="The proxy ends again and again",
        severity="critical",
        check=_crash_loop,
        remedy="the log line says why; if a file was changed, pulumi up --refresh writes it anew.",
    ),
    Diagnosis(
        id="service-disabled",
        title="The proxy does not start at boot",
        severity="warning",
        check=_service_disabled,
        remedy="`systemctl enable` it there, or pulumi up --refresh.",
        explained_by=frozenset({"never-joined"}),
    ),
    Diagnosis(
        id="proxy-not-ready",
        title="The proxy runs, and is not ready",
        severity="critical",
        check=_not_ready,
        remedy="/var/log/istio/istio.log on the machine tells what it waits for.",
        explained_by=CANNOT_COME | {"config-rejected", "port-conflict", "wrong-network"},
    ),
    Diagnosis(
        id="rules-missing",
        title="No iptables rule leads to the proxy",
        severity="critical",
        check=_rules_missing,
        remedy="`systemctl restart istio` there makes them anew; find out who flushes iptables (a firewall's reload?).",
        explained_by=frozenset({"crash-loop"}),
    ),
    Diagnosis(
        id="rules-left",
        title="iptables rules lead to a proxy that does not run",
        severity="critical",
        check=_rules_left,
        remedy="`pilot-agent istio-iptables --cleanup-only` there at once; then start the proxy.",
    ),
    Diagnosis(
        id="tracker-stopped",
        title="Connection tracking is not kept on",
        severity="warning",
        check=_tracker_stopped,
        remedy="`systemctl start hybrid-mesh-conntrack` there, or pulumi up --refresh.",
    ),
    Diagnosis(
        id="port-conflict",
        title="Another process holds a port of the proxy",
        severity="critical",
        check=_port_conflict,
        remedy="move that service to another port, then `systemctl restart istio`.",
    ),
    Diagnosis(
        id="app-not-listening",
        title="The application does not listen",
        severity="critical",
        check=_app_not_listening,
        remedy="start the application, or let the workload's port be the one that it listens on.",
    ),
    Diagnosis(
        id="disk-full",
        title="A disk is full",
        severity="critical",
        check=_disk_full,
        remedy="make room: a renewed certificate goes to /etc/certs, logs to /var/log/istio, Envoy's start to "
        "/etc/istio/proxy.",
    ),
    Diagnosis(
        id="changed-by-hand",
        title="Somebody changed what the join left",
        severity="warning",
        check=_drift,
        remedy="pulumi up --refresh puts it right; what must differ belongs into the stack's settings.",
        explained_by=frozenset({"never-joined"}),
    ),
    Diagnosis(
        id="version-skew",
        title="Sidecar and istiod do not go together",
        severity="warning",
        check=_version_skew,
    ),
)
