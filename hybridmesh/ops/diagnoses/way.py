"""What is wrong on the way to istiod: addresses, names, time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_address

from hybridmesh.istio.names import canonical_address

from ..facts import MachineFacts
from .model import Case, Diagnosis, Found, duration, of_facts

SKEW = timedelta(seconds=60)
"""istiod dates certificates two minutes back; half of that is no reason to wait for the other half."""

_OF_CURL = ("unable to get issuer certificate", "too weak")
"""Go, which the agent is written in, takes for a root what another has signed, as old curls do not, and asks no system
how long a key must be."""


def _hosts_stale(facts: MachineFacts, case: Case) -> Iterator[Found]:
    if not facts.joined:
        return
    gateway, there = case.topology["gateway"]["address"], {address for address, _ in facts.hosts}
    if not there:
        yield Found("/etc/hosts has no block hybrid-mesh: istiod's name leads nowhere", "/etc/hosts")
    elif not _is_name(gateway) and there != {gateway}:
        yield Found(
            f"/etc/hosts leads istiod's name to {', '.join(sorted(there))}, and the gateway is at {gateway}",
            "/etc/hosts",
        )
    elif _is_name(gateway) and {address for address, _ in facts.hosts_wanted} != {gateway}:
        wanted = ", ".join(address for address, _ in facts.hosts_wanted) or "nothing"
        yield Found(f"it follows the name {wanted}, and the gateway's is {gateway}", "/var/lib/hybrid-mesh/hosts")


def _gateway_unreachable(facts: MachineFacts, _: Case) -> Iterator[Found]:
    if facts.gateways and not any(reach.open for reach in facts.gateways):
        tries = ", ".join(f"{r.address}:{r.port} ({r.result})" for r in facts.gateways)
        yield Found(f"it does not reach the gateway at {tries}", "a connection from the machine, past its proxy")


def _handshake_fails(facts: MachineFacts, _: Case) -> Iterator[Found]:
    if not facts.handshakes or any(reach.open for reach in facts.handshakes):
        return
    reach = facts.handshakes[0]
    name = dict(facts.hosts).get(reach.address, "istiod")
    why = reach.result.partition(": ")[2]
    if reach.result.startswith("refused: "):
        # Of roots with one name curl tries the first, and Go each.
        is_ambiguous = len({root.subject for root in facts.roots}) < len(facts.roots)
        goes_by_others = {"XDS_ROOT_CA", "CA_ROOT_CA"} & facts.environment.keys()
        if is_ambiguous or goes_by_others or any(words in why for words in _OF_CURL):
            return
        what = f"who answers at {reach.address}:{reach.port} is not {name} by the mesh's root certificate ({why})"
        remedy = (
            "see whose certificate that is, and when it ends: something between reads TLS, another cluster is at that "
            "address, or istiod shows one of before a change of the root, until it is restarted."
        )
    else:
        what = f"it reaches the gateway at {reach.address}:{reach.port}, and no TLS with istiod comes of it"
        what += f" ({reach.result})"
        remedy = (
            "something between reads TLS, or the gateway knows no istiod of that name."
            if why
            else f"large packets are lost on the way: try `ping -c 3 -M do -s 1372 {reach.address}` there, and with "
            "`-s 56`; if only that is answered, a smaller MTU. Or nobody stands behind a load balancer."
        )
    yield Found(
        f"{what}: the proxy keeps the connection that it has, and gets no other",
        "setpriv --regid istio-proxy --clear-groups curl -v --noproxy '*' --cacert /etc/certs/root-cert.pem "
        f"--resolve {name}:{reach.port}:{reach.address} https://{name}:{reach.port}/",
        remedy,
    )


def _address_gone(facts: MachineFacts, case: Case) -> Iterator[Found]:
    if not facts.joined or not facts.addresses or "address" in facts.accepted:
        return
    wanted = canonical_address(case.machine["meshAddress"])
    if wanted not in facts.addresses:
        there = ", ".join(a for a in facts.addresses if not ip_address(a).is_loopback)
        yield Found(f"the mesh sends its requests to {wanted}, which is on no interface of it ({there})", "ip address")


def _dns_broken(facts: MachineFacts, case: Case) -> Iterator[Found]:
    servers = facts.nameservers
    if servers and not any(server.open for server in servers):
        tries = ", ".join(f"{r.address} ({r.result})" for r in servers)
        yield Found(f"none of its DNS servers answers: {tries}", "/etc/resolv.conf")
    captured = facts.environment.get("ISTIO_META_DNS_CAPTURE") == "true"
    if captured and facts.ready and facts.rules and case.mesh_name and not facts.mesh_name:
        # Of a machine of IPv4 Istio leads that alone to the agent (istio-iptables/pkg/capture/run.go, EnableIPv6).
        past = bool(servers) and ":" in servers[0].address and ":" not in case.machine["meshAddress"]
        yield Found(
            f"{case.mesh_name} is not resolved on it, though the agent answers DNS"
            + (f": its first server, {servers[0].address}, is asked by IPv6, past the agent" if past else ""),
            "getent ahosts",
            "put one with an IPv4 address first in /etc/resolv.conf, then `systemctl restart istio`." if past else "",
        )


def _clock_skew(facts: MachineFacts, case: Case) -> Iterator[Found]:
    if case.asked is None:
        return
    before, after = case.asked
    skew = facts.clock - (before if facts.clock < before else min(after, facts.clock))
    if abs(skew) > SKEW:
        direction = "behind" if skew < timedelta(0) else "ahead"
        yield Found(
            f"its clock is {duration(abs(skew))} {direction}: certificates and tokens count as ended, or not begun",
            f"date there: {facts.clock:%Y-%m-%d %H:%M:%S} UTC",
        )


def _is_name(address: str) -> bool:
    return ":" not in address and not address.replace(".", "").isdigit()


DIAGNOSES = (
    Diagnosis(
        id="hosts-stale",
        title="istiod's name leads to another address than the gateway's",
        severity="critical",
        check=of_facts(_hosts_stale),
        remedy="pulumi up --refresh writes it anew; if a tool owns /etc/hosts, let it keep our block.",
    ),
    Diagnosis(
        id="gateway-unreachable",
        title="The machine does not reach the gateway",
        severity="critical",
        check=of_facts(_gateway_unreachable),
        remedy="open the way from the machine to the gateway's port 15012: its own firewall, the network's, the load "
        "balancer's.",
        explained_by=frozenset({"hosts-stale", "gateway-down"}),
    ),
    Diagnosis(
        id="handshake-fails",
        title="No TLS with istiod comes about",
        severity="critical",
        check=of_facts(_handshake_fails),
        explained_by=frozenset({"hosts-stale", "wrong-trust-root", "istiod-down", "gateway-down"}),
    ),
    Diagnosis(
        id="address-gone",
        title="The machine does not have its address",
        severity="critical",
        check=of_facts(_address_gone),
        needs=frozenset({"addresses"}),
        remedy="give it that address again; or set `meshAddress`, or `ssh.address` where there is none, to the present "
        "one, and pulumi up.",
    ),
    Diagnosis(
        id="dns-broken",
        title="Names are not resolved",
        severity="critical",
        check=of_facts(_dns_broken),
        remedy="put the servers in /etc/resolv.conf right, then `systemctl restart istio`: the agent reads it once.",
    ),
    Diagnosis(
        id="clock-skew",
        title="The clock is wrong",
        severity="critical",
        check=of_facts(_clock_skew),
        remedy="let the machine follow a time server: `timedatectl set-ntp true`, or chrony. Once it is right: "
        "`systemctl restart istio`, for a certificate of before may be renewed too late.",
    ),
)
