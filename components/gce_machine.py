"""What fleets and single instances on Google Cloud have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi

from hybridmesh.settings.google_checks import OS_LOGIN, OWN_LABEL, project_of_link

from .gce_guard import GceGuardArgs, Way

SCOPES = ("https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/userinfo.email")
"""GKE takes tokens of the first, and calls their bearer by e-mail with the second. What an account may do is IAM's."""
IMAGE = "projects/debian-cloud/global/images/family/debian-12"


@dataclass(frozen=True, kw_only=True, slots=True)
class GceMachine:
    """What a machine on Google Cloud is made of."""

    machine_type: str = "e2-small"
    """Its size."""
    image: str = IMAGE
    """The image that it boots; one that runs startup scripts, as all of Google's do."""
    disk_gb: int = 10
    """Its boot disk."""
    disk_type: str = "pd-balanced"
    """The disk's kind."""
    disk_key: str | None = None
    """The key of Cloud KMS that encrypts the disk, by its path; None: Google's own."""
    public_address: bool = False
    """Whether it has an address in the internet. Without, it reaches Google's own APIs by Private Google Access."""
    spot: bool = False
    """Whether it is cheap, and may be taken away with 30 seconds' notice."""
    service_account: str | None = None
    """The e-mail of a service account that is there, for it to run as; None: one is made."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of machines and disks, besides `hybrid-mesh`."""
    tags: Sequence[str] = ()
    """Network tags, for routes and rules of others; the rules here go by account."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Metadata, besides and over what machines have here; nothing secret."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GcePlace:
    """Where machines are, and whom they may talk to."""

    project: str
    """The id of the machines' project."""
    region: str
    """The region."""
    network: pulumi.Input[str]
    """The VPC network, by name or self link; a Shared VPC's by its link, which says the host project."""
    subnetwork: pulumi.Input[str]
    """The subnetwork in that region, by name or self link; of the network's project."""
    clients: Sequence[str] = ()
    """CIDRs of who calls the application."""
    observers: Sequence[pulumi.Input[str]] = ()
    """CIDRs of who reads metrics and health."""
    ways: Sequence[Way] = ()
    """What machines may connect to, besides gateway and API server."""
    deny_other_egress: bool = True
    """Whether they may connect to nothing else."""
    make_rules: bool = True
    """Whether the firewall rules are made; if not, others make them."""
    log_rules: bool = False
    """Whether the rules that are made log each connection."""

    def guard_of(
        self,
        members: str,
        machine: GceMachine,
        app_ports: Sequence[int],
        gateway_address: pulumi.Input[str],
        api_server: pulumi.Input[str] | None,
        *,
        ssh: bool,
    ) -> GceGuardArgs:
        """Inputs of the `GceGuard` of machines here."""
        return GceGuardArgs(
            members=members,
            account=machine.service_account,
            project=self.project,
            network=self.network,
            app_ports=app_ports,
            clients=self.clients,
            observers=self.observers,
            ssh=ssh,
            gateway_address=gateway_address,
            api_server=api_server,
            ways=self.ways,
            deny_other_egress=self.deny_other_egress,
            make_rules=self.make_rules,
            log_rules=self.log_rules,
        )


def metadata_of(
    machine: GceMachine, startup_script: pulumi.Input[str] | None, ssh: bool
) -> dict[str, pulumi.Input[str]]:
    """What a machine's metadata says: who may log in, where its console goes, and what it runs at each boot."""
    return {
        # What it says while it joins is in Cloud Logging then, also of a machine that is gone by now. A policy may
        # forbid it: constraints/compute.managed.disableSerialPortLogging.
        "serial-port-logging-enable": "TRUE",
        **machine.metadata,
        # Logins are IAM's matter where SSH is let in, and no key of the project opens this machine.
        **({OS_LOGIN: "TRUE"} if ssh else {}),
        "block-project-ssh-keys": "TRUE",
        **({} if startup_script is None else {"startup-script": startup_script}),
    }


def project_of(place: GcePlace) -> "pulumi.Output[str | None]":
    """The project of a subnetwork that is given by its name, which is its network's; a self link says it itself."""

    def host(network: str, subnetwork: str) -> str | None:
        return None if "/" in subnetwork else project_of_link(network, place.project)

    return pulumi.Output.all(place.network, place.subnetwork).apply(lambda both: host(*both))


def subnetwork_seen_from(project: str, place: GcePlace) -> pulumi.Output[str]:
    """The subnetwork as something of a project names it: by its link, where it is another project's."""

    def seen(network: str, subnetwork: str) -> str:
        host = project_of_link(network, place.project)
        if "/" in subnetwork or host == project:
            return subnetwork
        return f"projects/{host}/regions/{place.region}/subnetworks/{subnetwork}"

    return pulumi.Output.all(place.network, place.subnetwork).apply(lambda both: seen(*both))


def may_move_on(image: str) -> bool:
    """Whether an image's name is a family's, which stands for another image tomorrow; `project/name` may be either."""
    return "/global/images/" not in image or "/family/" in image


def labels_of(members: str, machine: GceMachine) -> dict[str, str]:
    """A machine's labels."""
    return {**machine.labels, OWN_LABEL: members}
