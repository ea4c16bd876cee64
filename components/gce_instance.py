"""One machine on Google Cloud."""

from dataclasses import dataclass, field, replace

import pulumi
from pulumi_gcp import compute

from .gce_guard import GceGuard
from .gce_machine import SCOPES, GceMachine, GcePlace, labels_of, may_move_on, metadata_of, project_of
from .self_join import SelfJoin, SelfJoinArgs


@dataclass(frozen=True, kw_only=True, slots=True)
class GceInstanceArgs:
    """Inputs of `GceInstance`."""

    instance: str
    """Its name: that of its rules and the account that is made, too."""
    place: GcePlace
    """Where it is."""
    zone: str
    """Its zone, in its place's region."""
    machine: GceMachine = field(default_factory=GceMachine)
    """What it is made of."""
    app_ports: tuple[int, ...] = ()
    """TCP ports that the application listens on."""
    ssh: bool = False
    """Whether SSH is let in, through Identity-Aware Proxy alone."""
    protect: bool = False
    """Whether Google refuses to remove it."""
    gateway_address: pulumi.Input[str]
    """Of the east-west gateway."""
    join: SelfJoinArgs | None = None
    """How it joins by itself, `accounts` left out; None: it does not, but over SSH, by a `Sidecar`."""


class GceInstance(pulumi.ComponentResource):
    """Owns one machine: instance, service account, firewall rules, and its right to join, if it does so by itself.

    Not its network, an account that is there, its image, or what runs on it besides the proxy. A changed startup script
    is there at once, and runs at the next boot. Joined over SSH instead, it is reached by `Connection` through a
    bastion or an opened tunnel of Identity-Aware Proxy (`gcloud compute start-iap-tunnel`), at `address`.
    """

    address: pulumi.Output[str]
    """Its address in the network."""
    service_account: pulumi.Output[str]
    """The e-mail of the service account that it runs as."""
    must_be_allowed: dict[str, pulumi.Output[str]]
    """What the firewall rules of others have to allow; see `GceGuard`."""

    def __init__(self, name: str, args: GceInstanceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        place, machine = args.place, args.machine
        super().__init__(
            "hybridmesh:gce_instance:GceInstance", name, {"instance": args.instance, "zone": args.zone}, opts
        )
        child = pulumi.ResourceOptions(parent=self)
        guard = GceGuard(
            name,
            place.guard_of(
                args.instance,
                machine,
                args.app_ports,
                args.gateway_address,
                None if args.join is None else args.join.api_server.url,
                ssh=args.ssh,
            ),
            opts=child,
        )
        script = None
        if args.join is not None:
            accounts = pulumi.Output.all(guard.email, guard.unique_id)
            script = SelfJoin(name, replace(args.join, accounts=accounts), opts=child).startup_script
        public = [compute.InstanceNetworkInterfaceAccessConfigArgs(network_tier="PREMIUM")]
        labels = labels_of(args.instance, machine)
        instance = compute.Instance(
            f"{name}-instance",
            name=args.instance,
            project=place.project,
            zone=args.zone,
            machine_type=machine.machine_type,
            # Another size or account needs it off for a moment, rather than another machine.
            allow_stopping_for_update=True,
            deletion_protection=args.protect,
            boot_disk=compute.InstanceBootDiskArgs(
                auto_delete=True,
                kms_key_self_link=machine.disk_key,
                initialize_params=compute.InstanceBootDiskInitializeParamsArgs(
                    image=machine.image, size=machine.disk_gb, type=machine.disk_type, labels=labels
                ),
            ),
            network_interfaces=[
                compute.InstanceNetworkInterfaceArgs(
                    subnetwork=place.subnetwork,
                    subnetwork_project=project_of(place),
                    access_configs=public if machine.public_address else None,
                )
            ],
            service_account=compute.InstanceServiceAccountArgs(email=guard.email, scopes=list(SCOPES)),
            shielded_instance_config=compute.InstanceShieldedInstanceConfigArgs(
                enable_secure_boot=True, enable_vtpm=True, enable_integrity_monitoring=True
            ),
            metadata=metadata_of(machine, script, args.ssh),
            labels=labels,
            tags=list(machine.tags) or None,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=guard.rules,
                # An image's family moves on; a machine that is there stays with what it was made from.
                ignore_changes=["bootDisk.initializeParams.image"] if may_move_on(machine.image) else None,
            ),
        )
        self.address = instance.network_interfaces.apply(lambda interfaces: str(interfaces[0].network_ip))
        self.service_account, self.must_be_allowed = guard.email, guard.must_be_allowed
        self.register_outputs({"address": self.address, "serviceAccount": self.service_account})
