"""What VMs need of an istiod, whoever installs it: what its variables and its mesh config may not say."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .names import is_revisioned, istiod_address, istiod_host
from .nested import at
from .ports import PROXY_INBOUND, PROXY_OUTBOUND
from .protojson import parse_duration

INBOUND = "INBOUND_CAPTURE_PORT"
"""The variable by which istio-iptables is told where to lead what comes in."""
PILOT = frozenset(("PILOT_ADDRESS", "ISTIO_PILOT_PORT"))
"""Those by which istio-start.sh finds istiod elsewhere than the mesh config says."""
_GRACE_SECONDS = 10
"""istiod's PILOT_WORKLOAD_ENTRY_GRACE_PERIOD, if nobody sets it."""
_MOST_SECONDS = 600
"""The most that `sidecar.upgrade.cutOffSeconds` may be."""
_NO = frozenset(("0", "f", "F", "false", "False", "FALSE"))
"""What Go reads as false (strconv.ParseBool)."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a stack needs of an istiod that its VMs may follow."""

    namespace: str
    """istiod's namespace."""
    revision: str
    """istiod's revision."""
    domain: str
    """The cluster's DNS domain."""
    registers: str
    """A setting by which VMs register themselves; empty if none does."""
    probe: str
    """A setting by which the health of VMs counts; empty if there is none."""
    joins: bool
    """Whether VMs join it."""
    signs: bool
    """Whether VMs get their certificates of istiod."""
    watched: str
    """A setting of VMs of which istiod is asked whether they are in sync; empty if there is none."""
    finds: bool
    """Whether VMs find it by what the mesh config says."""
    inbound_port: str
    """Where the stack has VMs' iptables lead what comes in; empty: it says nothing of that."""
    cut_off_seconds: int
    """How long VMs serve on after they have let go of it; 0: they are stopped at once."""
    plain: str
    """A setting by which callers would speak plain text, unless Istio finds out that they must not, to what takes none;
    empty if there is none."""


@dataclass(frozen=True, kw_only=True)
class Lack:
    """What VMs lack with an istiod."""

    place: tuple[str, ...]
    """Where that is said, as the values of the istiod chart have it."""
    value: str
    """What is said there."""
    setting: str
    """What in the stack's settings does not go with it, where they adopt that istiod."""
    what: str
    """What such an istiod, or mesh config, does: begins with a verb."""
    consequence: str
    """What follows."""
    instead: str = ""
    """What the stack may have in its place; empty: nothing."""
    repair: str
    """What Istio's owner may do."""


def lacks(environment: Mapping[str, Any], mesh: Mapping[str, Any], needs: Needs) -> Iterator[Lack]:
    """What VMs lack with an istiod of these variables and this mesh config."""
    yield from _turned_off(environment, mesh, needs)
    if needs.finds:
        yield from _address(environment, mesh, needs)
    if needs.joins:
        yield from _listeners(mesh, needs)
        yield from _grace(environment, needs)
    if needs.plain and mesh.get("enableAutoMtls") is False:
        yield Lack(
            place=("meshConfig", "enableAutoMtls"),
            value="false",
            setting=needs.plain,
            what="has callers speak mTLS only where a DestinationRule says so (enableAutoMtls is false)",
            consequence=f"That of `{needs.plain}` says nothing of TLS, and `mtls` is STRICT: every call would be "
            "refused.",
            instead=f"`{needs.plain}.tls: {{mode: ISTIO_MUTUAL}}`",
            repair="take it away",
        )


def _turned_off(environment: Mapping[str, Any], mesh: Mapping[str, Any], needs: Needs) -> Iterator[Lack]:
    # With a revision, a VM's CA is its istiod, whatever the mesh config says.
    told = not is_revisioned(needs.revision) and at(mesh, "defaultConfig", "proxyMetadata", "CA_ADDR")
    for variable, setting, what, consequence, instead in (
        (
            "ENABLE_CA_SERVER",
            "controlPlane.mode = adopt" if needs.signs and not told else "",
            "signs no certificates",
            "VMs would get none, and not join.",
            "in `sidecar.environment.CA_ADDR`, where VMs reach the CA that signs in its place",
        ),
        (
            "PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION",
            needs.registers,
            "registers no VM",
            "Nobody would call VMs that are to register themselves.",
            "`registration: static`, for machines of a workload",
        ),
        (
            "PILOT_ENABLE_WORKLOAD_ENTRY_HEALTHCHECKS",
            needs.probe,
            "hears of no VM's health",
            "VMs with a probe would never count as healthy.",
            "leave the probe out",
        ),
        (
            "ENABLE_DEBUG_ON_HTTP",
            needs.watched,
            "tells nobody whether VMs are in sync",
            "`up` would give up on each VM that joins.",
            "",
        ),
    ):
        value = str(environment.get(variable))
        if setting and value in _NO:
            yield Lack(
                place=("env", variable),
                value=value.lower(),
                setting=setting,
                what=f"{what} ({variable} is false)",
                consequence=consequence,
                instead=instead,
                repair="take the variable away",
            )


def _address(environment: Mapping[str, Any], mesh: Mapping[str, Any], needs: Needs) -> Iterator[Lack]:
    address = str(at(mesh, "defaultConfig", "discoveryAddress") or "")
    host, expected = address.rpartition(":")[0], istiod_host(needs.namespace, needs.revision)
    custom = str(environment.get("ISTIOD_CUSTOM_HOST") or "").split(",")
    inside = not {".", ":"} & {*host} or host.endswith((".svc", f".svc.{needs.domain}"))
    if host and inside and host not in (expected, *custom):
        ours = istiod_address(needs.namespace, needs.revision)
        yield Lack(
            place=("meshConfig", "defaultConfig", "discoveryAddress"),
            value=address,
            setting=f"controlPlane.revision = {needs.revision}",
            what=f"sends proxies to {address}, a name that leads nowhere on a VM: there istiod is {expected}",
            consequence="VMs would not find it.",
            instead="`controlPlane.namespace` and `controlPlane.revision` of the istiod that is meant",
            repair=f"set `meshConfig.defaultConfig.discoveryAddress` to {ours}",
        )


def _grace(environment: Mapping[str, Any], needs: Needs) -> Iterator[Lack]:
    variable = "PILOT_WORKLOAD_ENTRY_GRACE_PERIOD"
    given = str(environment.get(variable))
    seconds = math.ceil((parse_duration(given) or 0) / 1e9)
    setting, enough = "sidecar.upgrade.cutOffSeconds", seconds + 5
    if seconds > _GRACE_SECONDS and 0 < needs.cut_off_seconds < seconds:
        yield Lack(
            place=("env", variable),
            value=given,
            setting=f"{setting} = {needs.cut_off_seconds}",
            what=f"takes a VM out of rotation {seconds} s after it has let go, and not {needs.cut_off_seconds} "
            f"({variable} is {given})",
            consequence="VMs that are restarted would be stopped while others still call them.",
            instead=f"`{setting}: {enough}`" if enough <= _MOST_SECONDS else f"`{setting}: 0`, to stop them at once",
            repair="take the variable away",
        )


def _listeners(mesh: Mapping[str, Any], needs: Needs) -> Iterator[Lack]:
    # On a VM istio-iptables takes the one port from a variable, and the other from nowhere
    # (tools/istio-iptables/pkg/cmd/root.go, tools/packaging/common/istio-start.sh).
    inbound = needs.inbound_port or at(mesh, "defaultConfig", "proxyMetadata", INBOUND) or PROXY_INBOUND
    for key, traffic, led_to, variable in (
        ("proxyListenPort", "goes out", PROXY_OUTBOUND, ""),
        ("proxyInboundListenPort", "comes in", inbound, INBOUND),
    ):
        port = mesh.get(key)
        if port is not None and str(port) != str(led_to):
            yield Lack(
                place=("meshConfig", key),
                value=str(port),
                setting="controlPlane.mode = adopt",
                what=f"has proxies take what {traffic} at port {port} ({key})",
                consequence=f"On a VM it is led to {led_to}, where nobody would take it: its connections would fail.",
                instead=f'`sidecar.environment.{variable}: "{port}"`' if variable else "",
                repair="take it away",
            )
