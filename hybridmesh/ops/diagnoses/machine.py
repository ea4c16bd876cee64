"""What is wrong on the machine itself."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from hybridmesh.istio import versions
from hybridmesh.istio.names import canonical_address
from hybridmesh.istio.ports import PROXY_PORTS

from ..facts import MachineFacts
from .model import CANNOT_COME, JOIN_AGAIN, Case, Diagnosis, Found, last_words, of_facts

RESTARTS = 3
FULL_KIB = 20 * 1024
"""Less free than that is full; so is less than both of the following: 3 % of a large disk are room for years."""
NEARLY_FULL = (3, 1024 * 1024)
"""Percent, and KiB."""
NO_INODES = (1, 10_000)
"""Percent and number: less free than both is full."""
TRACKED_PERCENT = 95
"""More of the kernel's table of connections in use is a full one: a burst fills the rest."""


def _unreachable(case: Case) -> Iterator[Found]:
    if case.facts is None:
        yield Found(f"it cannot be looked at: {case.refusal}", "SSH")


def _never_joined(facts: MachineFacts, _: Case) -> Iterator[Found]:
    if not facts.joined:
        yield Found("no join is recorded on it", "/var/lib/hybrid-mesh/before is not there")


def _service_stopped(facts: MachineFacts, _: Case) -> Iterator[Found]:
    unit = facts.unit("istio.service")
    if unit.active in ("inactive", "failed", "deactivating") and not facts.starting:
        why = f", and it ended with {unit.result}" if unit.result not in ("success", "") else ""
        yield Found(
            f"istio.service does not run ({unit.active}{why})",
            "systemctl show istio",
            "somebody has masked it: `systemctl unmask istio`, then `systemctl enable --now istio`."
            if unit.enabled.startswith("masked")
            else "",
        )


def _crash_loop(facts: MachineFacts, _: Case) -> Iterator[Found]:
    unit = facts.unit("istio.service")
    if unit.sub == "auto-restart" or (unit.restarts >= RESTARTS and not facts.ready):
        yield Found(
            f"the proxy ends again and again: {unit.restarts} restarts so far, exit status {unit.exit_status}, "
            f"{unit.result}",
            last_words(facts),
        )


def _service_disabled(facts: MachineFacts, _: Case) -> Iterator[Found]:
    for name in ("istio.service", "hybrid-mesh-conntrack.service"):
        state = facts.unit(name).enabled
        if facts.unit(name).loaded and state not in ("enabled", "enabled-runtime"):
            yield Found(
                f"{name} is {state}: the next boot is one without the proxy",
                f"systemctl is-enabled {name}",
                f"`systemctl unmask {name}`, then `systemctl enable {name}` there."
                if state.startswith("masked")
                else f"`systemctl enable {name}` there, or pulumi up --refresh.",
            )


def _not_ready(facts: MachineFacts, _: Case) -> Iterator[Found]:
    if facts.unit("istio.service").sub == "running" and not facts.ready:
        yield Found("the proxy runs, and is not ready", f"127.0.0.1:15021/healthz/ready; {last_words(facts)}")


def _rules_missing(facts: MachineFacts, _: Case) -> Iterator[Found]:
    if facts.unit("istio.service").sub == "running" and not facts.rules and not _redirects_nothing(facts):
        yield Found(
            "the proxy runs, and no iptables rule leads anything to it: calls go past the mesh, in plain text, and "
            "strict mTLS refuses them",
            "iptables-save -t nat",
        )


def _rules_left(facts: MachineFacts, _: Case) -> Iterator[Found]:
    if facts.unit("istio.service").active in ("inactive", "failed") and facts.rules and not _redirects_nothing(facts):
        yield Found(
            f"redirect rules stand ({facts.rules}), and no proxy takes what they redirect: its traffic is cut",
            "iptables-save -t nat",
        )


def _redirects_nothing(facts: MachineFacts) -> bool:
    """Whether nothing is redirected to its proxy."""
    return facts.environment.get("ISTIO_CUSTOM_IP_TABLES") == "true"


def _tracker_stopped(facts: MachineFacts, _: Case) -> Iterator[Found]:
    unit = facts.unit("hybrid-mesh-conntrack.service")
    consequence = "the next start of the proxy may cut open connections, SSH's among them"
    if not facts.joined:
        return
    if unit.active != "active":
        yield Found(
            f"hybrid-mesh-conntrack.service is {unit.active}: {consequence}", "systemctl show hybrid-mesh-conntrack"
        )
    elif not facts.keeps_tracking and "rules" not in facts.unread:
        yield Found(
            f"the rule that keeps connections tracked is gone: {consequence}",
            "iptables-save -t nat",
            "`systemctl restart hybrid-mesh-metrics` there puts it back; find out who flushes iptables (a firewall's "
            "reload?).",
        )


def _port_conflict(facts: MachineFacts, _: Case) -> Iterator[Found]:
    for listener in facts.listeners:
        if listener.port in PROXY_PORTS and listener.process not in ("envoy", "pilot-agent"):
            yield Found(
                f"port {listener.port}, which the proxy needs, is held by {listener.process or 'somebody else'}",
                "ss -ltnp",
            )


def _app_not_listening(facts: MachineFacts, case: Case) -> Iterator[Found]:
    for port in case.workload["ports"] if case.workload is not None else ():
        if facts.holder(int(port["target"])) is None:
            yield Found(
                f"nothing listens on port {int(port['target'])} ({port['name']}) of {case.machine['workload']}",
                "ss -ltnp",
            )


def _app_out_of_reach(facts: MachineFacts, case: Case) -> Iterator[Found]:
    """Envoy sends what comes for a port on to the address that it came for (istio, pilot/pkg/networking/core/
    cluster.go, buildInboundClustersFromServiceInstances), or to 127.0.0.1, where a mesh's `inboundTrafficPolicy` says
    so: then it has such a host for the port.
    """
    wanted = canonical_address(case.machine["meshAddress"])
    is_here = wanted in facts.addresses  # of a machine behind another's address nobody knows at which of its own

    def is_reached(address: str) -> bool:
        return _is_any(address) or not (_is_loopback(address) or (is_here and canonical_address(address) != wanted))

    for port in case.workload["ports"] if case.workload is not None else ():
        target = int(port["target"])
        at = sorted({listener.address for listener in facts.listeners if listener.port == target})
        hosts = facts.inbound.get(target)
        if not at or hosts is None or any(_is_loopback(host.rpartition(":")[0].strip("[]")) for host in hosts):
            continue
        if not any(map(is_reached, at)):
            yield Found(
                f"{case.machine['workload']} listens on port {target} ({port['name']}) at {', '.join(at)} alone, and "
                f"its proxy passes requests on to {wanted if is_here else 'the address that they came for'}: none "
                "arrives",
                "ss -ltnp; Envoy's /clusters",
            )


def _is_any(address: str) -> bool:
    """Whether that may be every address: `::` is, unless its program wants IPv6 alone."""
    return address in ("*", "0.0.0.0", "::")


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _disk_full(facts: MachineFacts, _: Case) -> Iterator[Found]:
    percent, kib = NEARLY_FULL
    for disk in facts.disks:
        if disk.free < FULL_KIB or (disk.free < kib and disk.free * 100 < disk.size * percent):
            yield Found(f"{disk.path} is full: {disk.free // 1024} MiB of {disk.size // 1024} MiB are free", "df")
    percent, number = NO_INODES
    for disk in facts.inodes:
        if disk.free < number and disk.free * 100 < disk.size * percent:
            yield Found(f"{disk.path} has no inodes left: {disk.free} of {disk.size} are free", "df -i")


def _disk_read_only(facts: MachineFacts, _: Case) -> Iterator[Found]:
    if facts.read_only:
        yield Found(
            f"root cannot write to {', '.join(facts.read_only)}: no certificate is renewed on disk, and the next start "
            "of the proxy may fail",
            "test -w",
            "`dmesg | grep -iE 'ext4|xfs|btrfs|i/o error' | tail` there tells why the kernel took it read-only. Once "
            f'the disk is sound: `mount -o remount,rw "$(findmnt -no TARGET --target {facts.read_only[0]})"`, then '
            "`systemctl restart istio`.",
        )


def _conntrack_full(facts: MachineFacts, _: Case) -> Iterator[Found]:
    if len(facts.tracked) != 2:
        return
    count, most = facts.tracked
    if most and count * 100 >= most * TRACKED_PERCENT:
        yield Found(
            f"the kernel's table of connections is full ({count} of {most}): new connections, SSH's too, are dropped "
            "without a word",
            "/proc/sys/net/netfilter/nf_conntrack_count, nf_conntrack_max",
            f"`sysctl -w net.netfilter.nf_conntrack_max={2 * most}` there at once, and in /etc/sysctl.d for the next "
            "boot; then find out who opens so many.",
        )


def _drift(facts: MachineFacts, _: Case) -> Iterator[Found]:
    if facts.drift:
        yield Found(f"changed by hand: {'; '.join(facts.drift)}", "/var/lib/hybrid-mesh/manifest")


def _another_join(facts: MachineFacts, case: Case) -> Iterator[Found]:
    last = case.machine.get("generation")  # not in what an earlier version has put up
    if facts.joined and last and facts.generation != last:
        yield Found(
            "it runs another join than the last of a `pulumi up` that ended: its disk was put back from an older copy, "
            "or an `up` did not end",
            "/var/lib/hybrid-mesh/generation",
        )


def _version_skew(facts: MachineFacts, case: Case) -> Iterator[Found]:
    plane = case.topology["controlPlane"]
    follows = {name for _, name in facts.hosts_wanted}
    if not facts.version or (follows and plane["discoveryHost"] not in follows):
        return  # an istiod beside the first: its version is not in the topology
    for objection in versions.objections(plane["version"], facts.version):
        if objection.kind == "sidecar":
            yield Found(
                f"its sidecar {facts.version} {objection.problem}. {objection.consequence}",
                "the package manager",
                f"set hybrid-mesh:sidecar.package to {objection.fix}, and pulumi up.",
            )


_TOOLS = {
    "units": "systemctl",
    "starting": "systemctl",
    "ready": "curl, wget and python3",
    "rules": "iptables-save",
    "listeners": "ss",
    "addresses": "ip",
    "manifest": "manifest.sh",
}
"""Who tells what is in a section of the probe; of those that something is judged by."""


def _partly_seen(facts: MachineFacts, _: Case) -> Iterator[Found]:
    silent = dict.fromkeys(tool for section, tool in _TOOLS.items() if section in facts.unread)
    if silent:
        yield Found(
            f"nothing came from {'; '.join(silent)}: what that would tell of it is not judged",
            f"the probe's sections {', '.join(sorted(facts.unread & _TOOLS.keys()))}",
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
        id="partly-seen",
        title="A part of the machine cannot be looked at",
        severity="warning",
        check=of_facts(_partly_seen),
        remedy="see there whether the tool is installed, and runs: `free -m`, `uptime` and `dmesg | tail` tell of a "
        "machine that is out of memory, or waits for its disk. Then look again.",
        explained_by=frozenset({"never-joined"}),
    ),
    Diagnosis(
        id="never-joined",
        title="The machine never joined",
        severity="critical",
        check=of_facts(_never_joined),
        remedy=JOIN_AGAIN,
    ),
    Diagnosis(
        id="service-stopped",
        title="The proxy does not run",
        severity="critical",
        check=of_facts(_service_stopped),
        remedy="`systemctl start istio` there, or pulumi up, which starts it; /var/log/istio tells why it ended.",
        explained_by=frozenset({"never-joined"}),
        needs=frozenset({"units", "starting"}),
    ),
    Diagnosis(
        id="crash-loop",
        title="The proxy ends again and again",
        severity="critical",
        check=of_facts(_crash_loop),
        remedy="the log line says why; if a file was changed, pulumi up --refresh writes it anew.",
        needs=frozenset({"units", "ready"}),
    ),
    Diagnosis(
        id="service-disabled",
        title="The proxy does not start at boot",
        severity="warning",
        check=of_facts(_service_disabled),
        explained_by=frozenset({"never-joined"}),
        needs=frozenset({"units"}),
    ),
    Diagnosis(
        id="proxy-not-ready",
        title="The proxy runs, and is not ready",
        severity="critical",
        check=of_facts(_not_ready),
        remedy="`curl -s 127.0.0.1:15021/healthz/ready; tail /var/log/istio/istio.log` there tells what it waits for; "
        "right after a start, a few seconds.",
        explained_by=CANNOT_COME | {"config-rejected", "port-conflict", "wrong-network"},
        needs=frozenset({"units", "ready"}),
    ),
    Diagnosis(
        id="rules-missing",
        title="No iptables rule leads to the proxy",
        severity="critical",
        check=of_facts(_rules_missing),
        remedy="`systemctl restart hybrid-mesh-metrics` there, lest the second cut open connections, yours too; then "
        "`systemctl restart istio`, which makes them anew; find out who flushes iptables (a firewall's reload?).",
        explained_by=frozenset({"crash-loop"}),
        needs=frozenset({"units", "rules"}),
    ),
    Diagnosis(
        id="rules-left",
        title="iptables rules lead to a proxy that does not run",
        severity="critical",
        check=of_facts(_rules_left),
        remedy="`pilot-agent istio-iptables --cleanup-only` there at once; then start the proxy.",
        needs=frozenset({"units", "rules"}),
    ),
    Diagnosis(
        id="tracker-stopped",
        title="Connection tracking is not kept on",
        severity="warning",
        check=of_facts(_tracker_stopped),
        remedy="`systemctl start hybrid-mesh-conntrack` there, or pulumi up --refresh.",
        explained_by=frozenset({"rules-missing"}),
        needs=frozenset({"units"}),
    ),
    Diagnosis(
        id="port-conflict",
        title="Another process holds a port of the proxy",
        severity="critical",
        check=of_facts(_port_conflict),
        remedy="move that service to another port, then `systemctl restart istio`.",
        needs=frozenset({"listeners"}),
    ),
    Diagnosis(
        id="app-not-listening",
        title="The application does not listen",
        severity="critical",
        check=of_facts(_app_not_listening),
        remedy="start the application, or let the workload's port be the one that it listens on.",
        needs=frozenset({"listeners"}),
    ),
    Diagnosis(
        id="app-out-of-reach",
        title="The application listens where no request arrives",
        severity="critical",
        check=of_facts(_app_out_of_reach),
        remedy="let the application listen on 0.0.0.0, or on that address.",
        needs=frozenset({"listeners", "addresses"}),
    ),
    Diagnosis(
        id="conntrack-full",
        title="The kernel has no room for another connection",
        severity="critical",
        check=of_facts(_conntrack_full),
    ),
    Diagnosis(
        id="disk-full",
        title="A disk is full",
        severity="critical",
        check=of_facts(_disk_full),
        remedy="make room: a renewed certificate goes to /etc/certs, logs to /var/log/istio, Envoy's start to "
        "/etc/istio/proxy.",
    ),
    Diagnosis(
        id="disk-read-only",
        title="A file system cannot be written to",
        severity="critical",
        check=of_facts(_disk_read_only),
    ),
    Diagnosis(
        id="changed-by-hand",
        title="Somebody changed what the join left",
        severity="warning",
        check=of_facts(_drift),
        remedy="pulumi up --refresh puts it right; what must differ belongs into the stack's settings.",
        explained_by=frozenset({"never-joined"}),
        needs=frozenset({"manifest"}),
    ),
    Diagnosis(
        id="another-join",
        title="The machine runs another join than its last",
        severity="warning",
        check=of_facts(_another_join),
        remedy=JOIN_AGAIN,
    ),
    Diagnosis(
        id="version-skew",
        title="Sidecar and istiod do not go together",
        severity="warning",
        check=of_facts(_version_skew),
    ),
)
