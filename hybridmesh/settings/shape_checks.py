"""Rules of how proxies behave."""

from collections.abc import Iterator

from pydantic.alias_generators import to_camel

from hybridmesh.istio import breaks_start, changes_user
from hybridmesh.istio.ports import SSH

from .findings import Finding
from .models import ProxyShape, Sidecar, Workload
from .models.base import memory_bytes
from .shapes import FIXED_FOLDERS, FIXED_PORTS, MACHINES_ONLY, RESERVED_VARIABLES, VM_VARIABLES, proxy_shape


def check_sidecar(sidecar: Sidecar) -> Iterator[Finding]:
    """Rules of the stack's own word."""
    yield from _together(sidecar, None, "")
    yield from _package(sidecar)
    for name in sidecar.environment:
        instead = RESERVED_VARIABLES.get(name)
        if name == "ISTIO_AGENT_FLAGS" and "proxyLogLevel" in sidecar.environment[name]:
            instead = "logLevel"
        if instead is not None:
            yield Finding(
                f"sidecar.environment.{name}",
                sidecar.environment[name],
                f"is set by `sidecar.{instead}`",
                "One of the two would be lost.",
                f"set `sidecar.{instead}`, and leave this out.",
            )
        if name in VM_VARIABLES:
            yield Finding(
                f"sidecar.environment.{name}",
                sidecar.environment[name],
                f"is set by {VM_VARIABLES[name]}",
                "Every VM would be told this one value, whatever its own is: istiod would refuse it, or take it for "
                "another.",
                "leave it out.",
            )
        if name in FIXED_PORTS and sidecar.environment[name] != str(FIXED_PORTS[name]):
            yield Finding(
                f"sidecar.environment.{name}",
                sidecar.environment[name],
                f"moves a port that `up` and the metrics know as {FIXED_PORTS[name]}",
                "`up` would not see that a VM is ready, or nobody its metrics.",
                "leave it out.",
            )
        folder, consequence = FIXED_FOLDERS.get(name, ("", ""))
        # Istio's own default begins with a dot, for it starts in /.
        if folder and sidecar.environment[name].lstrip(".").rstrip("/") != folder:
            yield Finding(
                f"sidecar.environment.{name}",
                sidecar.environment[name],
                f"moves what is looked for in {folder}",
                consequence,
                "leave it out.",
            )
        if changes_user(name, sidecar.environment[name]):
            yield Finding(
                f"sidecar.environment.{name}",
                sidecar.environment[name],
                "lets another user than `istio-proxy` run the proxy",
                "Its logs would be that user's: nothing could empty them, and they would fill the disk.",
                "leave it out. VMs that ran with it need `chown istio-proxy: /var/log/istio/*.log` first.",
            )
        broken = breaks_start(name, sidecar.environment[name])
        if broken:
            yield Finding(
                f"sidecar.environment.{name}",
                sidecar.environment[name],
                "is a variable of the script that starts Istio on a VM",
                broken,
                "leave it out.",
            )


def check_workload(path: str, workload: Workload, sidecar: Sidecar) -> Iterator[Finding]:
    """Rules of what counts for one workload."""
    own = workload.sidecar
    if own is not None:
        yield from _together(sidecar, workload, f"{path}.")
        if workload.machines is None:
            for name, field in type(own).model_fields.items():
                alias = field.alias or name
                if name in own.model_fields_set and alias in MACHINES_ONLY:
                    yield Finding(
                        f"{path}.sidecar.{alias}",
                        "",
                        f"is for VMs, and `{path}` has no machines",
                        "Nothing would read it.",
                        "leave it out; pods' proxies are shaped by Helm values and annotations.",
                    )
    if workload.machines is not None:
        yield from _captured(path, workload, sidecar)
        yield from _of_sshd(path, workload, sidecar)
        if workload.machines.hosts or workload.machines.instances:
            yield from _probe(path, workload, sidecar)


def _probe(path: str, workload: Workload, sidecar: Sidecar) -> Iterator[Finding]:
    """`up` waits for the health of each machine that it joins."""
    probe, limit = workload.probe, sidecar.timeouts.sync_seconds
    if probe is None:
        return
    earliest = probe.initial_delay_seconds + (probe.success_threshold - 1) * probe.period_seconds
    if earliest >= limit:
        yield Finding(
            f"{path}.probe",
            f"{earliest} s",
            f"is the earliest that it can find a VM healthy, and `sidecar.timeouts.syncSeconds` is {limit}",
            "`up` would give up on each VM of it.",
            "more `syncSeconds`; or less of `initialDelaySeconds`, `successThreshold` or `periodSeconds`.",
        )


def _captured(path: str, workload: Workload, sidecar: Sidecar) -> Iterator[Finding]:
    capture = proxy_shape(sidecar, workload).capture
    for port in dict.fromkeys(port.target for port in workload.ports):
        excluded = port in capture.exclude_inbound_ports
        all_ports = capture.all_inbound_ports or capture.inbound_ports is None
        missing = not all_ports and port not in (capture.inbound_ports or ())
        if excluded or missing:
            name = "exclude_inbound_ports" if excluded else "inbound_ports"
            yield Finding(
                _place(workload.sidecar, f"{path}.", "capture", name),
                str(port),
                f"lets port {port} of `{path}` bypass the proxy",
                "Callers would speak mTLS to an app that does not, and plain text would not be refused.",
                f"capture every port of `{path}`, or take the port from `{path}.ports`.",
            )


def _of_sshd(path: str, workload: Workload, sidecar: Sidecar) -> Iterator[Finding]:
    """Ports that are sshd's, as far as the settings say so: of other machines the join's files say it."""
    machines = workload.machines
    if machines is None:
        return
    taken = {host.ssh.port: f"on `{name}`" for name, host in machines.hosts.items() if host.ssh and not host.gone}
    if machines.fleets or machines.instances:
        taken.setdefault(SSH, "on machines of Google Cloud")
    if proxy_shape(sidecar, workload).capture.all_inbound_ports:
        taken.setdefault(SSH, "for Istio, wherever all ports are captured")
    for index, port in enumerate(workload.ports):
        if port.target in taken:
            yield Finding(
                f"{path}.ports[{index}].port",
                str(port.target),
                f"is sshd's {taken[port.target]}, which is never captured",
                "Callers would speak mTLS to an app that does not, and plain text would not be refused.",
                "let the app listen on another port (`targetPort`).",
            )


def _together(sidecar: Sidecar, workload: Workload | None, path: str) -> Iterator[Finding]:
    """Fields that exclude each other: in the stack's own word, or in what counts for a workload that sets one of them.

    Each is found where it is said; `path` is the workload's, with a dot.
    """
    own = workload.sidecar if workload is not None else None
    shape = proxy_shape(sidecar, workload)
    limits, capture = shape.limits, shape.capture

    def concerns(part: str, *names: str) -> bool:
        return own is None or any(_sets(own, part, name) for name in names)

    if limits.memory is not None and limits.memory_high is not None:
        too_much = memory_bytes(limits.memory_high) >= memory_bytes(limits.memory)
        if too_much and concerns("limits", "memory", "memory_high"):
            yield Finding(
                _place(own, path, "limits", "memory_high"),
                limits.memory_high,
                f"is not below `{_place(own, path, 'limits', 'memory')}`, {limits.memory}",
                "The proxy would be ended before it is slowed down.",
                "a size below `memory`.",
            )
    both = capture.all_inbound_ports and capture.inbound_ports is not None
    if both and concerns("capture", "all_inbound_ports", "inbound_ports"):
        back = f", in `{path}sidecar` by `inboundPorts: null` or `allInboundPorts: false`" if own is not None else ""
        yield Finding(
            _place(own, path, "capture", "inbound_ports"),
            "",
            f"is given beside `{_place(own, path, 'capture', 'all_inbound_ports')}`",
            "It would be unclear which ports are captured.",
            f"give one of the two{back}.",
        )
    both = capture.outbound_cidrs is not None and bool(capture.exclude_outbound_cidrs)
    if both and concerns("capture", "outbound_cidrs", "exclude_outbound_cidrs"):
        back = f", in `{path}sidecar` by `outboundCidrs: null` or `excludeOutboundCidrs: []`" if own is not None else ""
        yield Finding(
            _place(own, path, "capture", "exclude_outbound_cidrs"),
            "",
            f"is given beside `{_place(own, path, 'capture', 'outbound_cidrs')}`",
            "Istio reads it only where all addresses are captured.",
            f"leave out one of the two{back}.",
        )


def _sets(own: ProxyShape, part: str, name: str) -> bool:
    return name in getattr(own, part).model_fields_set


def _place(own: ProxyShape | None, path: str, part: str, name: str) -> str:
    """Where a field of `sidecar` is said: in the workload, whose path with a dot is `path`, or for all."""
    said = own is not None and _sets(own, part, name)
    return f"{path if said else ''}sidecar.{part}.{to_camel(name)}"


def _package(sidecar: Sidecar) -> Iterator[Finding]:
    """One file for all VMs, or one for each kind."""
    package = sidecar.package
    if package is None:
        return
    one = {"url": package.url, "sha256": package.sha256}
    missing = [name for name, value in one.items() if value is None]
    if package.files and len(missing) < 2:
        yield Finding(
            "sidecar.package",
            "url, sha256 and files",
            "has one file for all VMs, and one for each kind",
            "It would be unclear which a VM installs.",
            "`url` and `sha256`, or `files`.",
        )
    elif not package.files and missing:
        yield Finding(
            f"sidecar.package.{missing[0]}",
            "",
            "is missing",
            "VMs could not install the sidecar.",
            "`url` and `sha256` of one file for all VMs, or `files` with one for each kind.",
        )
