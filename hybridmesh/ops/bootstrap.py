"""`bootstrap`: the files with which one VM joins, made by hand and without a cluster."""

import os
import re
import socket
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text
from typer.core import TyperCommand

from ..istio import (
    BootstrapError,
    BootstrapOptions,
    bootstrap_files,
    check_root_certificate,
    group_from_yaml,
    mesh_config_text,
    unknown_fields,
)
from .console import Console

_TOKEN = "istio-token"
_ON_THE_VM: Mapping[str, str] = {
    "cluster.env": "/var/lib/istio/envoy/cluster.env",
    "mesh.yaml": "/etc/istio/config/mesh",
    "hosts": "appended to /etc/hosts",
    "root-cert.pem": "/etc/certs/root-cert.pem",
    _TOKEN: "/var/run/secrets/tokens/istio-token",
}
_SWITCH = re.compile(r"--(autoregister|capture-dns)=(true|false)")


class GoSwitches(TyperCommand):
    """Takes `--capture-dns=false` as istioctl does, besides `--no-capture-dns`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Spells switches the way that typer knows."""
        return super().parse_args(ctx, [_SWITCH.sub(_spelled, arg) for arg in args])


@dataclass(frozen=True)
class _File:
    content: str
    mode: int = 0o644


def bootstrap(
    file: Annotated[Path, typer.Option("--file", "-f", help="The WorkloadGroup's manifest.")],
    mesh_config: Annotated[
        Path,
        typer.Option(
            help="istiod's mesh config: ConfigMap `istio` (with a revision `istio-<revision>`), or its `mesh`."
        ),
    ],
    root_cert: Annotated[Path, typer.Option(help="The mesh's root certificate, in PEM form.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to; made if need be.")],
    token: Annotated[
        Path | None, typer.Option(help="A token of the group's service account for audience istio-ca, to go along.")
    ] = None,
    cluster_id: Annotated[
        str, typer.Option("--clusterID", help="The cluster's name in istiod; empty: istiod's own cluster.")
    ] = "",
    ingress_ip: Annotated[
        list[str] | None,
        typer.Option("--ingressIP", help="Address of the east-west gateway, for `hosts`; can be given more than once."),
    ] = None,
    internal_ip: Annotated[str, typer.Option("--internalIP", help="The VM's IP address as pods reach it.")] = "",
    external_ip: Annotated[
        str, typer.Option("--externalIP", help="Instead, an IP address outside of the VM that leads to it.")
    ] = "",
    revision: Annotated[str, typer.Option("--revision", "-r", help="istiod's revision.")] = "default",
    istio_namespace: Annotated[
        str, typer.Option("--istioNamespace", "--istio-namespace", "-i", help="istiod's namespace.")
    ] = "istio-system",
    autoregister: Annotated[
        bool,
        typer.Option("--autoregister/--no-autoregister", help="istiod makes a WorkloadEntry when the VM connects."),
    ] = False,
    capture_dns: Annotated[
        bool, typer.Option("--capture-dns/--no-capture-dns", help="The VM's DNS queries go to the agent.")
    ] = True,
) -> None:
    """Make the files with which a VM joins, from a WorkloadGroup.

    Needs neither istioctl nor a cluster.
    """
    notes: list[str] = []
    group = group_from_yaml(_read("--file", file))
    mesh = mesh_config_text(_read("--mesh-config", mesh_config), revision)
    made = bootstrap_files(
        group,
        mesh,
        BootstrapOptions(
            cluster_id=cluster_id,
            revision=revision,
            istio_namespace=istio_namespace,
            ingress_addresses=tuple(a for given in ingress_ip or () for a in _addresses(given, notes)),
            internal_ip=internal_ip,
            external_ip=external_ip,
            auto_register=autoregister,
            dns_capture=capture_dns or None,
        ),
    )
    files = {
        "cluster.env": _File(made.cluster_env),
        "mesh.yaml": _File(made.mesh_yaml),
        "hosts": _File(made.hosts),
        "root-cert.pem": _File(check_root_certificate(_read("--root-cert", root_cert))),
    }
    if token is not None:
        files[_TOKEN] = _File(_token(_read("--token", token)), 0o600)
    if not made.hosts:
        notes.append("hosts is empty, for want of --ingressIP: the VM must find istiod by DNS.")
    if not cluster_id:
        notes.append("No --clusterID: right only for an istiod that serves one cluster.")
    notes += [f"{path} is nothing that Istio knows, and left out." for path in unknown_fields(group, mesh)]
    _write(output, files)
    _show(output, files, notes)


def _spelled(switch: re.Match[str]) -> str:
    return f"--{'' if switch[2] == 'true' else 'no-'}{switch[1]}"


def _read(option: str, path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BootstrapError(
            option, str(path), f"cannot be read: {reason}", "Nothing was written.", "the path of a readable file."
        ) from error


def _token(text: str) -> str:
    token = text.strip()
    if not token or any(character.isspace() for character in token):
        # The value is not shown, for what it is.
        raise BootstrapError(
            "--token",
            None,
            "is not a token: empty, or with blanks",
            "istiod would refuse the VM.",
            "what `kubectl create token SERVICEACCOUNT --namespace NAMESPACE --audience istio-ca` prints.",
        )
    return token


def _addresses(given: str, notes: list[str]) -> list[str]:
    """IP addresses of a host name, as a load balancer may have one; anything else as it is."""
    if ":" in given or not re.search("[a-z]", given, re.IGNORECASE):
        return [given]
    try:
        found = socket.getaddrinfo(given, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BootstrapError(
            "--ingressIP", given, "cannot be resolved", "The VM would not find istiod.", "its IP address."
        ) from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    notes.append(f"{given} is now {', '.join(addresses)}: make hosts again when that changes.")
    return addresses


def _write(folder: Path, files: Mapping[str, _File]) -> None:
    """Each file whole or not at all; a new folder is its owner's alone where it holds a token."""
    if folder.exists() and not folder.is_dir():
        raise BootstrapError("--output", str(folder), "is not a folder", "Nothing was written.", "a folder's path.")
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o700 if _TOKEN in files else 0o755)
    for name, file in files.items():
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(file.content.encode())
                os.fchmod(stream.fileno(), file.mode)
            os.replace(temporary, folder / name)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


def _show(folder: Path, files: Mapping[str, _File], notes: list[str]) -> None:
    console = Console()
    table = Table(Column("file", overflow="fold"), "mode", Column("on the VM", no_wrap=True))
    for name, file in files.items():
        table.add_row(Text(str(folder / name)), f"{file.mode:04o}", _ON_THE_VM[name])
    console.print(table)
    for note in notes:
        console.print(f"Note: {note}", soft_wrap=True, markup=False, highlight=False)
