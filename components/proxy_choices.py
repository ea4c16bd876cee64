"""What a machine's proxy is told the same way, whether it joins over SSH or by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hybridmesh.remote.preflight import package_settings


@dataclass(frozen=True, kw_only=True, slots=True)
class SidecarPackage:
    """The `istio-sidecar` package: one file for all machines, or one for each kind."""

    version: str
    """Its version, as the package manager shows it."""
    url: str = ""
    """Where the machine downloads it, if `files` has none of the machine's kind."""
    sha256: str = ""
    """Its SHA-256, 64 hexadecimal digits."""
    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """URL and SHA-256 by the kind of machine: `deb-amd64`, `deb-arm64`, `rpm-amd64`, `rpm-arm64`. The machine takes
    that of its own kind."""

    @property
    def by_kind(self) -> dict[str, tuple[str, str]]:
        """URL and SHA-256 by kind; the kind is empty for all alike. Raises ValueError where there are none."""
        if not self.url and not self.files:
            raise ValueError(
                "SidecarPackage: has neither `url` nor `files`. There would be nothing to install. Fix: `url` with "
                "`sha256`, or `files`."
            )
        return {**({"": (self.url, self.sha256)} if self.url else {}), **self.files}


@dataclass(frozen=True, kw_only=True, slots=True)
class SidecarLimits:
    """How long the steps may take, in seconds."""

    dial: int = 15
    """One attempt to connect by SSH."""
    dial_attempts: int = 4
    """How often to try; not seconds."""
    download: int = 120
    """The machine's download of the package."""
    install: int = 300
    """Each call of the machine's package manager."""
    ready: int = 120
    """Start of the proxy until it is ready."""
    boot: int = 60
    """At boot, the application's wait for a ready proxy."""
    sync: int = 120
    """Ready until istiod says that it is in sync."""
    rotation: int = 3
    """How long a leaving machine stays as it is, out of rotation, until all clients have seen that."""
    drain: int = 5
    """How long a leaving proxy serves the requests it has."""
    gateway: int = 30
    """The gateway's answer to a preflight."""
    cut_off: int = 15
    """How long istiod takes, at most, to take a machine out of rotation whose proxy is disconnected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SidecarResources:
    """What the proxy may use of its machine; None is no limit."""

    cpu_percent: int | None = None
    """Of one CPU's time."""
    memory: str | None = None
    """Above it the kernel ends the proxy; a size such as `512M`."""
    memory_high: str | None = None
    """Above it the kernel slows the proxy down."""
    tasks: int | None = None
    """Most threads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SidecarCapture:
    """Which connections of its machine go through the proxy."""

    inbound_ports: Sequence[int] | None = None
    """Incoming ones to these ports; None: to the group's, or to all where it has none."""
    all_inbound_ports: bool = False
    """Incoming ones to every port, but for the excluded."""
    exclude_inbound_ports: Sequence[int] = ()
    """Incoming ones that do not, besides SSH's and Istio's own."""
    outbound_cidrs: Sequence[str] | None = None
    """Outgoing ones to these ranges; None: to all."""
    exclude_outbound_cidrs: Sequence[str] = ()
    """Outgoing ones to these ranges do not."""
    exclude_outbound_ports: Sequence[int] = ()
    """Outgoing ones to these ports do not."""


class ProxyChoices(Protocol):
    """The fields that `SidecarArgs` and `SelfJoinArgs` share. Each has them with their meaning: a plugin's schema takes
    that from a class's own source, and not from what the class is made from."""

    @property
    def package(self) -> SidecarPackage: ...
    @property
    def environment(self) -> Mapping[str, str]: ...
    @property
    def log_level(self) -> str | None: ...
    @property
    def capture(self) -> SidecarCapture: ...
    @property
    def resources(self) -> SidecarResources: ...
    @property
    def app_units(self) -> Sequence[str]: ...
    @property
    def supported_systems(self) -> str: ...
    @property
    def accept_findings(self) -> Sequence[str]: ...
    @property
    def limits(self) -> SidecarLimits: ...


def agent_environment(args: ProxyChoices) -> dict[str, str]:
    """Variables that the machine's settings ask for. Source: tools/packaging/common/istio-start.sh."""
    environment, capture = dict(args.environment), args.capture
    if capture.outbound_cidrs is not None:
        environment["ISTIO_SERVICE_CIDR"] = ",".join(capture.outbound_cidrs)
    if capture.exclude_outbound_cidrs:
        environment["ISTIO_SERVICE_EXCLUDE_CIDR"] = ",".join(capture.exclude_outbound_cidrs)
    if capture.exclude_outbound_ports:
        environment["ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE"] = ",".join(map(str, capture.exclude_outbound_ports))
    return environment


def agent_flags(args: ProxyChoices) -> str:
    """Flags that the machine's settings ask for."""
    return "" if args.log_level is None else f"--proxyLogLevel={args.log_level}"


def join_settings(
    args: ProxyChoices,
    identity: str,
    istio_namespace: str,
    ssh_port: int,
    scrapers: Sequence[str] = (),
    repair: str = "",
) -> dict[str, str]:
    """What the scripts on the machine are told, besides the files."""
    return {
        "package-version": args.package.version,
        **package_settings(args.package.by_kind),
        "spiffe-id": identity,
        "istio-namespace": istio_namespace,
        "ssh-port": str(int(ssh_port)),
        "download-timeout-seconds": str(args.limits.download),
        "install-timeout-seconds": str(args.limits.install),
        "ready-timeout-seconds": str(args.limits.ready),
        "boot-timeout-seconds": str(args.limits.boot),
        "drain-seconds": str(args.limits.drain),
        "cut-off-seconds": str(args.limits.cut_off),
        **resource_settings(args.resources),
        **({"app-units": " ".join(args.app_units)} if args.app_units else {}),
        **({"scrapers": " ".join(scrapers)} if scrapers else {}),
        **({"supported-systems": args.supported_systems} if args.supported_systems else {}),
        **({"accept": " ".join(sorted(args.accept_findings))} if args.accept_findings else {}),
        # Something was changed by hand on the machine: the join runs again.
        **({"repair": repair} if repair else {}),
    }


def package_text(package: SidecarPackage) -> str:
    """The package as a preview shows it, a line a file."""
    files = (file for _, file in sorted(package.by_kind.items()))
    return "\n".join(f"{url} {package.version} sha256:{sha256}" for url, sha256 in files)


def resource_settings(resources: SidecarResources) -> dict[str, str]:
    """What systemd is told; nothing of what is not limited."""
    given = {
        "cpu-quota": None if resources.cpu_percent is None else f"{resources.cpu_percent}%",
        "memory-max": resources.memory,
        "memory-high": resources.memory_high,
        "tasks-max": None if resources.tasks is None else str(resources.tasks),
    }
    return {name: value for name, value in given.items() if value is not None}
