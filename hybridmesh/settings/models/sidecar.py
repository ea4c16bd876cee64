"""What makes a VM a member of the mesh."""

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from .base import AtLeastOne, EnvironmentName, Model, Seconds, Sha256, Text, Url, Whole, setting
from .shape import ProxyShape

Check = Literal[
    "address",
    "architecture",
    "clock",
    "disk",
    "eastwest",
    "firewall",
    "gateway",
    "init",
    "leftovers",
    "libc",
    "package",
    "ports",
    "resolver",
    "system",
    "systemd",
    "tools",
]
"""What a preflight looks at and can be told to accept: hybridmesh.remote.CHECKS."""

PackageKind = Literal["deb-amd64", "deb-arm64", "rpm-amd64", "rpm-arm64"]
OFFICIAL = "https://storage.googleapis.com/istio-release/releases"


class PackageFile(Model):
    """The package for VMs of one family and architecture."""

    url: Url | None = setting(
        None,
        meaning="Where VMs download it; default: Istio's own, for the version.",
        example="https://mirror.example.com/istio-sidecar-arm64.rpm",
        wrong="VMs could not install the sidecar.",
        fix="an http or https URL that the VMs reach, or leave it out.",
    )
    sha256: Sha256 = setting(
        meaning="Its SHA-256. A file with another one is not installed.",
        example="0" * 64,
        wrong="a package that was tampered with would run as root on every VM.",
        fix="what `sha256sum` says of the package: 64 hexadecimal digits.",
    )


class Package(Model):
    """The `istio-sidecar` package that VMs install: one file for all, or one for each kind of VM."""

    url: Url | None = setting(
        None,
        meaning="Where VMs download it, if all are of one kind. This and `sha256`, or `files`.",
        example="https://mirror.example.com/istio-sidecar.deb",
        wrong="VMs could not install the sidecar.",
        fix="an http or https URL that the VMs reach.",
    )
    sha256: Sha256 | None = setting(
        None,
        meaning="Its SHA-256. A file with another one is not installed.",
        example="0" * 64,
        wrong="a package that was tampered with would run as root on every VM.",
        fix="what `sha256sum` says of the package: 64 hexadecimal digits.",
    )
    version: Text = setting(
        meaning="Its version, as the package manager shows it.",
        example="1.31.0",
        wrong="it would be unclear whether a VM already has it.",
        fix='the package\'s version in quotes, such as `"1.31.0"`.',
    )
    files: Mapping[PackageKind, PackageFile] = setting(
        default_factory=dict,
        meaning="One file for each kind of VM: `deb-amd64`, `deb-arm64`, `rpm-amd64`, `rpm-arm64`. A VM takes that of "
        "its own family and architecture.",
        example={"deb-amd64": {"sha256": "0" * 64}, "rpm-arm64": {"sha256": "0" * 64}},
        wrong="VMs of that kind could not install the sidecar.",
        fix="`{deb-amd64: {sha256: …}}`.",
    )

    @property
    def by_kind(self) -> dict[str, tuple[str, str]]:
        """Where VMs of each kind download it, and its SHA-256; the kind is empty for all VMs alike."""
        if self.url is not None and self.sha256 is not None:
            return {"": (self.url, self.sha256)}
        return {
            kind: (file.url or official_url(self.version, kind), file.sha256)
            for kind, file in sorted(self.files.items())
        }


def official_url(version: str, kind: str) -> str:
    """Where Istio publishes a version's package for a kind of VM. Source: tools/packaging/packaging.mk, and the
    release's folder: the amd64 file has no suffix."""
    family, _, architecture = kind.partition("-")
    suffix = "" if architecture == "amd64" else f"-{architecture}"
    return f"{OFFICIAL}/{version}/{family}/istio-sidecar{suffix}.{family}"


class SidecarTimeouts(Model):
    """How long the steps of a VM's membership may take."""

    dial_seconds: Seconds = setting(
        15,
        meaning="Limit for one attempt to connect by SSH.",
        example=15,
        wrong="an unreachable VM would hold up the whole run.",
        fix="seconds, 1 to 86400.",
    )
    dial_attempts: Annotated[Whole, Field(ge=1, le=100)] = setting(
        4,
        meaning="How often to try to connect by SSH.",
        example=4,
        wrong="an unreachable VM would hold up the whole run.",
        fix="1 to 100.",
    )
    download_seconds: Seconds = setting(
        120,
        meaning="Limit for a VM's download of the package.",
        example=120,
        wrong="a slow mirror would hold up the whole run.",
        fix="seconds, 1 to 86400.",
    )
    install_seconds: Seconds = setting(
        300,
        meaning="Limit for each call of a VM's package manager, the wait for its lock included.",
        example=300,
        wrong="a VM whose package manager hangs would hold up the whole run.",
        fix="seconds, 1 to 86400.",
    )
    ready_seconds: Seconds = setting(
        120,
        meaning="Limit for a VM's proxy to become ready after its start.",
        example=120,
        wrong="a VM that cannot join would hold up the whole run.",
        fix="seconds, 1 to 86400.",
    )
    boot_seconds: Annotated[Whole, Field(ge=1, le=600)] = setting(
        60,
        meaning="How long the application's units (`machines.units`) wait for the proxy to become ready, at boot. Then "
        "they start without it. Until then the machine is still booting, and a preflight says so.",
        example=60,
        wrong="a machine without a mesh would boot without its application, or nobody could join it anew meanwhile.",
        fix="seconds, 1 to 600.",
    )
    sync_seconds: Seconds = setting(
        120,
        meaning="Limit for istiod to report a ready VM as in sync, and its app as healthy by the probe.",
        example=120,
        wrong="a VM that istiod does not serve would hold up the whole run.",
        fix="seconds, 1 to 86400.",
    )
    rotation_seconds: Seconds = setting(
        3,
        meaning="How long a leaving VM stays as it is once it is out of rotation, until all clients have seen that. "
        "Longer where istiod's pushes take longer.",
        example=3,
        wrong="clients that have not heard of it yet would find it gone.",
        fix="seconds, 1 to 86400.",
    )
    drain_seconds: Seconds = setting(
        5,
        meaning="How long a leaving VM's proxy serves the requests it has.",
        example=5,
        wrong="requests would be cut off.",
        fix="seconds, 1 to 86400.",
    )
    gateway_seconds: Seconds = setting(
        30,
        meaning="Limit for the gateway to answer a VM's preflight; one that was just made may take a moment.",
        example=30,
        wrong="a preflight would wait for ever, or find a gateway missing that is about to come.",
        fix="seconds, 1 to 86400.",
    )
    api_seconds: Seconds = setting(
        15,
        meaning="Limit for one request to the Kubernetes API.",
        example=15,
        wrong="an unreachable cluster would hold up the whole run.",
        fix="seconds, 1 to 86400.",
    )


class Preflight(Model):
    """What every VM is looked at for before the first change on any: docs/preflight.md."""

    accept: tuple[Check, ...] = setting(
        (),
        meaning="Checks whose findings do not count: they become notes.",
        example=["address"],
        wrong="a VM that cannot join would be changed, and fail half-way.",
        fix=f"a list of {', '.join(get_args(Check))}, after reading docs/preflight.md.",
    )


class Upgrade(Model):
    """How proxies that serve are restarted, for a new package or any other change that takes a restart."""

    batch_size: AtLeastOne = setting(
        1,
        meaning="How many VMs at a time, of the whole stack; never all VMs of one workload, if it has more than one. "
        "First joins, and VMs that are out of the mesh, wait for nobody.",
        example=1,
        wrong="all VMs could be out at once.",
        fix="1 or more.",
    )
    cut_off_seconds: Annotated[Whole, Field(ge=0, le=600)] = setting(
        15,
        meaning="How long a VM serves on after its agent has let go of istiod, until nobody calls it any more: "
        "istiod's `PILOT_WORKLOAD_ENTRY_GRACE_PERIOD` (10 s) and 5 more. 0: it is stopped at once.",
        example=15,
        wrong="a VM would be stopped while others still call it, and they would have to try again elsewhere.",
        fix="seconds, 0 to 600.",
    )
    keep_one_serving: bool = setting(
        True,
        meaning="Whether a VM keeps what it runs, and `up` fails, where callers have no other VM of its workload: the "
        "apps of the others are not healthy, or their entries are `static` and their proxies not connected. `false` "
        "restarts it nevertheless, as one that is alone is.",
        example=False,
        wrong="the last VM that callers have could be restarted unasked.",
        fix="true or false.",
    )


class Sidecar(ProxyShape):
    """What makes a VM a member of the mesh, and how its proxy behaves."""

    package: Package | None = setting(
        None,
        meaning="The `istio-sidecar` package. Needed once a workload has machines.",
        example={
            "url": "https://mirror.example.com/istio-sidecar.deb",
            "sha256": "0" * 64,
            "version": "1.31.0",
        },
        wrong="VMs could not install the sidecar.",
        fix="`{url, sha256, version}`, or `{version, files}`.",
    )
    environment: Mapping[EnvironmentName, str] = setting(
        default_factory=dict,
        meaning="More variables for the agent on the VMs (`cluster.env`); nothing secret.",
        example={"CLOUD_PLATFORM": "none"},
        wrong="the shell that starts Istio on the VM would stop at it.",
        fix="names of letters, digits and _, and texts.",
    )
    token_seconds: Annotated[Whole, Field(ge=600, le=86400)] = setting(
        3600,
        meaning="How long the token that a VM joins with is valid. Kubernetes refuses less than 600.",
        example=3600,
        wrong="Kubernetes would refuse the token, or it would live longer than needed.",
        fix="seconds, 600 to 86400.",
    )
    preflight: Preflight = setting(
        default_factory=Preflight,
        meaning="What every VM is looked at for before the first change on any.",
        example={"accept": ["address"]},
        wrong="a VM that cannot join would be changed, and fail half-way.",
        fix="`{accept: [...]}`, or leave it out.",
    )
    upgrade: Upgrade = setting(
        default_factory=Upgrade,
        meaning="How proxies that serve are restarted.",
        example={"batchSize": 1},
        wrong="all VMs could be out at once.",
        fix="`{batchSize: 1}`.",
    )
    timeouts: SidecarTimeouts = setting(
        default_factory=SidecarTimeouts,
        meaning="How long the steps of a VM's membership may take.",
        example={"readySeconds": 120},
        wrong="an unreachable VM would hold up the whole run.",
        fix="a mapping of limits in seconds.",
    )
