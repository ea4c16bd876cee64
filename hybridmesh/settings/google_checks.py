"""The rules of Google Cloud that need more than one field."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .draft import Draft
from .findings import Finding
from .models import Fleet, Gateway, GceHardware, GceInstance, Google, Sidecar, Workload
from .observability_checks import open_to_everybody

DEFAULT_ZONES = 3
"""How many zones Google chooses for a regional group."""
SHUTDOWN_SECONDS, SPOT_SHUTDOWN_SECONDS = 90, 30
"""How long a machine has from being told to stop. Sources: cloud.google.com/compute/docs/shutdownscript and
cloud.google.com/compute/docs/instances/spot."""
LEAST_CUT_OFF_SECONDS = 11
"""Istiod's PILOT_WORKLOAD_ENTRY_GRACE_PERIOD, 10 s by default, and one for it to tell callers."""
OWN_WAYS = ("gateway", "kubernetes")
"""Names of the ways out that machines have without `google.egress`."""
OWN_LABEL = "hybrid-mesh"
"""The label that machines have without `labels`."""
OWN_METADATA = ("startup-script", "block-project-ssh-keys")
"""Metadata that machines have without `metadata`, and that nothing else may take the place of."""
OS_LOGIN = "enable-oslogin"
"""By this key of metadata IAM says who logs in."""
_KEYS = ("ssh-keys", "sshKeys")
RULE_NAME = 63
"""How long the name of a firewall rule may be."""
_REGION = re.compile("[a-z]+(-[a-z]+)+[0-9]+")
_ZONE_OF = re.compile("-(ai[0-9]+)?[a-z]$")
_PROJECT_OF = re.compile("projects/([^/]+)/(global|regions/[^/]+)/")


def check_google(draft: Draft) -> Iterator[Finding]:
    """Every finding about project, fleets and instances."""
    google = draft.section("google", Google)
    if google is not None:
        yield from _place(google)
        yield from _links(google)
        gateway = draft.section_or_default("gateway", Gateway)
        if gateway is not None and reserves_address(google, gateway) and not has_own_address(gateway.values):
            yield from _cluster_of_the_address(google)
        yield from open_to_everybody("google.observers", google.observers)
        yield from _api_server(google)
        yield from _disk_key(google)
        yield from _firewall_logs(google)
        yield from _labels("google", google.labels)
        yield from _metadata("google", google.metadata)
    made = list(_made(draft.workloads))
    if google is not None:
        yield from _egress(google, max((name for _, name, _, _ in made), key=len, default=""))
        yield from _accounts(google.project, made)
    if made and "google" not in draft.sections:
        yield Finding(
            "google",
            "",
            f"is missing, and `{made[0][0]}` is made there",
            "It would have no project and no place.",
            "`{project, region, network, subnetwork, gke}`.",
        )
    sidecar = draft.section("sidecar", Sidecar)
    if sidecar is not None:
        yield from _farewell(sidecar, made)
    first: dict[str, str] = {}
    names = {name for workload in draft.workloads.values() for name in workload.hosts}
    for path, name, hardware, workload in made:
        if name in first or name in names:
            yield Finding(
                path,
                name,
                f"is the name of {first.get(name, 'a host')} too",
                "Their service accounts, or their proxies, would have one name.",
                "another name.",
            )
        first.setdefault(name, path)
        if workload.machines is not None and workload.machines.registration == "static":
            yield Finding(
                path,
                "",
                "needs `machines.registration: auto`",
                "Nobody knows the addresses of its machines beforehand.",
                "`registration: auto`.",
            )
        yield from _labels(path, hardware.labels)
        yield from _metadata(path, hardware.metadata)
        yield from _logins(path, hardware, google)
        region = google.region if google is not None else None
        if isinstance(hardware, Fleet):
            yield from _fleet(path, hardware, region)
        elif isinstance(hardware, GceInstance):
            yield from _in_region(f"{path}.zone", hardware.zone, region)


def _made(workloads: Mapping[str, Workload]) -> Iterator[tuple[str, str, GceHardware, Workload]]:
    for key, workload in workloads.items():
        if workload.machines is None:
            continue
        for kind, found in (("fleets", workload.machines.fleets), ("instances", workload.machines.instances)):
            for name, hardware in found.items():
                yield f"workloads.{key}.machines.{kind}.{name}", name, hardware, workload


def _place(google: Google) -> Iterator[Finding]:
    shared = google.shared_stack
    for field in ("network", "subnetwork"):
        given = [getattr(google, field), getattr(shared, field) if shared is not None else None]
        if sum(value is not None for value in given) != 1:
            yield Finding(
                f"google.{field}",
                str(given[0] or ""),
                f"is {'given twice' if all(given) else 'missing'}: here, or in `sharedStack`",
                "It would be unclear which network machines are in.",
                f"`{field}`, or `sharedStack.{field}`.",
            )


def _links(google: Google) -> Iterator[Finding]:
    if google.network is not None and "/" in google.network and "/global/networks/" not in google.network:
        yield Finding(
            "google.network",
            google.network,
            "is the link of something else than a network",
            "Google would refuse the firewall rules.",
            "a network's name, or a link such as `projects/p/global/networks/n`.",
        )
    wanted = f"/regions/{google.region}/subnetworks/"
    if google.subnetwork is not None and "/" in google.subnetwork and wanted not in google.subnetwork:
        yield Finding(
            "google.subnetwork",
            google.subnetwork,
            f"is the link of something else than a subnetwork in `google.region`, {google.region}",
            "Google would refuse the machines, and the gateway's address.",
            f"a subnetwork's name, or a link such as `projects/p{wanted}s`.",
        )
    elif google.network is not None and google.subnetwork is not None:
        yield from apart("google.subnetwork", google.subnetwork, google.network, google.subnetwork, google.project)


def apart(path: str, given: str, network: str, subnetwork: str, project: str) -> Iterator[Finding]:
    """A network and a subnetwork of two projects, as far as their links tell; `path` and `given`: who says so."""
    host, owner = project_of_link(network, project), project_of_link(subnetwork, project)
    # A subnetwork that is given by its name is looked for where its network is.
    if "/" in subnetwork and host != owner:
        yield Finding(
            path,
            given,
            f"is a subnetwork of project {owner}, and the network is one of {host}",
            "The firewall rules would be those of one network, and the machines in another one.",
            f"both of one project: of {owner}, the network by its link, `projects/{owner}/global/networks/NAME`.",
        )


def project_of_link(link: str, project: str) -> str:
    """The project of a network or a subnetwork: `project`, unless its link says that it is another's, by its id.

    Some links have the project's number, which may be that of any.
    """
    found = _PROJECT_OF.search(link)
    return project if found is None or found[1].isdigit() else found[1]


def reserves_address(google: Google, gateway: Gateway) -> bool:
    """Whether the stack reserves an address for its gateway's load balancer."""
    return google.reserve_gateway_address and gateway.mode == "install" and gateway.address is None


def has_own_address(values: Mapping[str, Any]) -> bool:
    """Whether the gateway's Helm values say themselves which address its load balancer has."""
    service = values.get("service")
    return isinstance(service, Mapping) and "loadBalancerIP" in service


def _cluster_of_the_address(google: Google) -> Iterator[Finding]:
    """A load balancer of GKE is in the cluster's region, and takes no address of another one."""
    if google.gke is None:
        return
    region = _ZONE_OF.sub("", google.gke.location)
    if region != google.region:
        yield Finding(
            "google.gke.location",
            google.gke.location,
            f"is not in `google.region`, {google.region}",
            "The gateway's address is reserved there, and the cluster's load balancer could not have it.",
            "a cluster and machines of one region; or `google.reserveGatewayAddress: false`, with "
            "`gateway.values.service` for a load balancer in the VPC.",
        )


def _api_server(google: Google) -> Iterator[Finding]:
    shared = google.shared_stack
    outputs = [shared.api_server, shared.certificate_authority] if shared is not None else [None, None]
    if any(outputs) and not all(outputs):
        yield Finding(
            "google.sharedStack",
            "",
            "has one of `apiServer` and `certificateAuthority`",
            "Machines could not tell the API server from another one.",
            "both, or neither.",
        )
    given = [n for n, v in (("gke", google.gke), ("apiServer", google.api_server), ("sharedStack", all(outputs))) if v]
    if len(given) != 1:
        yield Finding(
            "google.gke",
            "",
            f"{' and '.join(given)} lead to an API server" if given else "is missing, as is `apiServer`",
            "Machines would not know whom to ask for their token.",
            "one of `gke`, `apiServer` and `sharedStack.apiServer`.",
        )


def _egress(google: Google, longest: str) -> Iterator[Finding]:
    """Each way is a firewall rule `<machines>-out-<name>`."""
    seen: dict[str, int] = {}
    for index, way in enumerate(google.egress):
        path = f"google.egress[{index}].name"
        first = seen.setdefault(way.name, index)
        if way.name in OWN_WAYS or first != index:
            whose = f"`google.egress[{first}]`" if first != index else "a rule that all machines have"
            yield Finding(
                path,
                way.name,
                f"is the name of {whose} too",
                "Two firewall rules would have one name.",
                "another name.",
            )
        if len(f"{longest}-out-{way.name}") > RULE_NAME:
            yield Finding(
                path,
                way.name,
                f"is too long: the firewall rule of `{longest}` would be `{longest}-out-{way.name}`",
                f"Google refuses a name of more than {RULE_NAME} characters.",
                f"at most {RULE_NAME - len(longest) - len('-out-')} characters.",
            )


def _fleet(path: str, fleet: Fleet, region: str | None) -> Iterator[Finding]:
    if fleet.max_size is not None and fleet.max_size < fleet.min_size:
        yield Finding(
            f"{path}.maxSize",
            str(fleet.max_size),
            f"is less than `minSize`, {fleet.min_size}",
            "The autoscaler could not be made.",
            f"{fleet.min_size} or more.",
        )
    zones = len(fleet.zones) or DEFAULT_ZONES
    if fleet.max_surge < zones:
        yield Finding(
            f"{path}.maxSurge",
            str(fleet.max_surge),
            f"is less than the number of zones, {zones}",
            "Google refuses the group: each zone must be able to have one more.",
            f"{zones} or more.",
        )
    for index, zone in enumerate(fleet.zones):
        yield from _in_region(f"{path}.zones[{index}]", zone, region)


def _farewell(sidecar: Sidecar, made: list[tuple[str, str, GceHardware, Workload]]) -> Iterator[Finding]:
    """Machines leave by themselves: what they do between being told to stop and being stopped."""
    cut_off, drain = sidecar.upgrade.cut_off_seconds, sidecar.timeouts.drain_seconds
    limits = [
        (SPOT_SHUTDOWN_SECONDS, f"a Spot machine such as those of `{path}`")
        if isinstance(hardware, Fleet) and hardware.spot
        else (SHUTDOWN_SECONDS, f"a machine such as `{path}`")
        for path, _, hardware, _ in made
    ]
    if not limits:
        return
    limit, whose = min(limits, key=lambda found: found[0])
    if cut_off < LEAST_CUT_OFF_SECONDS:
        yield Finding(
            "sidecar.upgrade.cutOffSeconds",
            str(cut_off),
            f"is less than {LEAST_CUT_OFF_SECONDS}, and there are machines of Google Cloud, such as `{made[0][0]}`",
            "They come and go by themselves, and istiod takes one out of rotation ten seconds after it has left. "
            "Callers would lose what they send to it meanwhile.",
            f"{LEAST_CUT_OFF_SECONDS} or more; the default is 15.",
        )
    if cut_off + drain > limit:
        yield Finding(
            "sidecar.upgrade.cutOffSeconds",
            str(cut_off),
            f"is more than {limit} together with `sidecar.timeouts.drainSeconds`, {drain}, and Google gives {whose} "
            f"{limit} seconds to stop",
            "It would be switched off while it still serves, and lose the requests that it has.",
            f"at most {limit} seconds for both.",
        )


def _in_region(path: str, zone: str, region: str | None) -> Iterator[Finding]:
    if region is not None and zone.rpartition("-")[0] != region:
        yield Finding(
            path,
            zone,
            f"is not a zone of `google.region`, {region}",
            "The subnetwork of the machines is in that region.",
            f"a zone such as `{region}-a`.",
        )


def _accounts(project: str, made: list[tuple[str, str, GceHardware, Workload]]) -> Iterator[Finding]:
    """By its account a machine asks for its workload's token, and by it the firewall rules find the machine."""
    first: dict[str, tuple[str, GceHardware, Workload]] = {}
    # Those that are made come first: theirs is not the one to be changed.
    for path, name, hardware, workload in sorted(made, key=lambda found: found[2].service_account is not None):
        account = hardware.service_account or account_of(name, project)
        other, like, its_workload = first.setdefault(account, (path, hardware, workload))
        if path == other or hardware.service_account is None:
            continue
        if like.service_account is None:
            consequence = "That one is made with its machine, and would be looked for before it is there."
        elif workload is not its_workload:
            consequence = "A machine of either could ask for the other's tokens, and be let through by its rules."
        elif hardware.ssh != like.ssh:
            consequence = "The firewall rule that lets SSH in would be both's."
        else:
            continue
        yield Finding(
            f"{path}.serviceAccount",
            account,
            f"is the service account of `{other}` too",
            consequence,
            "another account; machines of one workload with the same `ssh` may share one.",
        )


def account_of(name: str, project: str) -> str:
    """The e-mail of a service account of that name; a project of a domain is `example.com:my-project`."""
    domain, _, bare = project.rpartition(":")
    return f"{name}@{bare}{'.' if domain else ''}{domain}.iam.gserviceaccount.com"


def project_of_account(email: str) -> str:
    """The project of a service account, by its e-mail."""
    bare, _, domain = email.partition("@")[2].removesuffix(".iam.gserviceaccount.com").partition(".")
    return f"{domain}:{bare}" if domain else bare


def _disk_key(google: Google) -> Iterator[Finding]:
    location = "" if google.disk_key is None else google.disk_key.split("/")[3]
    # A key may be of several regions, such as `europe` or `eur4`, or global.
    if _REGION.fullmatch(location) and location != google.region:
        yield Finding(
            "google.diskKey",
            str(google.disk_key),
            f"is a key of {location}, and the disks are in `google.region`, {google.region}",
            "Google would refuse the machines.",
            f"a key of {google.region}.",
        )


def _firewall_logs(google: Google) -> Iterator[Finding]:
    if google.firewall == "existing" and google.firewall_logs:
        yield Finding(
            "google.firewallLogs",
            "true",
            "is for rules that the stack makes, and `google.firewall` is `existing`",
            "Nothing would be logged by it.",
            "leave it out: who makes the rules says what they log.",
        )


def _metadata(path: str, metadata: Mapping[str, str]) -> Iterator[Finding]:
    for key, value in metadata.items():
        if key in OWN_METADATA:
            yield Finding(
                f"{path}.metadata.{key}",
                value,
                "is set by the stack itself",
                "The machines would not join, or keys of the project would open them.",
                "leave it out; a script of yours belongs into the image, or into `startup-script-url`.",
            )
        elif key in _KEYS:
            yield Finding(
                f"{path}.metadata.{key}",
                "",
                "lets in whoever has such a key",
                "IAM could not take it back, and nobody would see who it was.",
                "`ssh: true`, by which IAM says who logs in.",
            )


def _logins(path: str, hardware: GceHardware, google: Google | None) -> Iterator[Finding]:
    metadata = {**(google.metadata if google is not None else {}), **hardware.metadata}
    if hardware.ssh and metadata.get(OS_LOGIN, "TRUE").upper() != "TRUE":
        yield Finding(
            f"{path}.ssh",
            "true",
            f"needs OS Login, and `metadata` has `{OS_LOGIN}: {metadata[OS_LOGIN]}`",
            "SSH would be let in, and IAM would not say whom.",
            f"leave out `{OS_LOGIN}`, or `ssh: false`.",
        )


def _labels(path: str, labels: Mapping[str, str]) -> Iterator[Finding]:
    for key, value in labels.items():
        if key == OWN_LABEL:
            yield Finding(
                f"{path}.labels.{key}",
                value,
                "is set by the stack itself, to the machine's name",
                "One of the two would be lost.",
                "leave it out.",
            )
        elif key.startswith("goog"):
            yield Finding(
                f"{path}.labels.{key}",
                value,
                "begins with `goog`, which is reserved for Google's own labels",
                "Google would refuse the machine.",
                "another key.",
            )
        elif any(not (c.islower() or c.isdigit() or c in "-_") for c in f"{key}{value}") or not key[0].islower():
            yield Finding(
                f"{path}.labels.{key}",
                value,
                "is not a label of Google Cloud, or its key does not begin with a letter",
                "Google would refuse the machine.",
                "lower-case letters, digits, - and _, a letter first in the key.",
            )
