"""Machines on Google Cloud that come and go as they are needed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pulumi
from pulumi_gcp import compute

from hybridmesh.istio.ports import AGENT_HEALTH

from .gce_guard import GceGuard
from .gce_machine import SCOPES, GceMachine, GcePlace, labels_of, metadata_of, project_of
from .self_join import SelfJoin, SelfJoinArgs
from .timeouts import within


@dataclass(frozen=True, kw_only=True, slots=True)
class GceFleetArgs:
    """Inputs of `GceFleet`."""

    fleet: str
    """Its name: that of its group, its rules and the account that is made, and the beginning of its machines'."""
    place: GcePlace
    """Where it is."""
    machine: GceMachine = field(default_factory=GceMachine)
    """What its machines are made of."""
    zones: Sequence[str] = ()
    """The zones of its region that it uses; none: Google's choice of three."""
    min_size: int = 1
    """Fewest machines."""
    max_size: int = 1
    """Most machines. As many as the fewest: its size is fixed."""
    cpu_target_percent: int = 60
    """Use of CPU that scaling aims at."""
    boot_seconds: int = 180
    """From a machine's making until it is ready: as long, it is neither healed nor counted in scaling."""
    max_surge: int = 3
    """How many machines more there are during an update; at least as many as zones."""
    ready_seconds: int = 15
    """In an update, from when a new machine's proxy is ready until an old one may go: time for the application to
    start and to be found healthy, which the group cannot see."""
    update_seconds: int = 1800
    """Limit for making all machines, and for removing them. An update of them is waited for 15 minutes, by the limit
    that the provider has for making a group and lets nobody change in an update."""
    app_ports: Sequence[int] = ()
    """TCP ports that the application listens on."""
    ssh: bool = False
    """Whether SSH is let in, through Identity-Aware Proxy alone. Nothing here needs it."""
    join: SelfJoinArgs
    """How its machines join; `accounts` is filled in here."""


class GceFleet(pulumi.ComponentResource):
    """Owns a fleet: service account, firewall rules, template, regional group, health check, autoscaler, right to join.

    Not its network, an account that is there, its image, or what runs on its machines besides the proxy. Nothing secret
    is in its template: see `SelfJoin`. A changed template (another package, root certificate, mesh config, …) rolls
    through the group: new machines are ready before old ones go, and those leave the mesh before they stop.
    """

    service_account: pulumi.Output[str]
    """The e-mail of the service account that its machines run as."""
    instance_group: pulumi.Output[str]
    """The group's URL, for load balancers and `gcloud`."""
    must_be_allowed: dict[str, pulumi.Output[str]]
    """What the firewall rules of others have to allow; see `GceGuard`."""

    def __init__(self, name: str, args: GceFleetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        place, fleet = args.place, args.fleet
        super().__init__(
            "hybridmesh:gce_fleet:GceFleet",
            name,
            {"fleet": fleet, "region": place.region, "minSize": args.min_size, "maxSize": args.max_size},
            opts,
        )
        child = pulumi.ResourceOptions(parent=self)
        guard = GceGuard(
            name,
            place.guard_of(
                fleet,
                args.machine,
                args.app_ports,
                args.join.gateway_address,
                args.join.api_server.url,
                ssh=args.ssh,
            ),
            opts=child,
        )
        accounts = pulumi.Output.all(guard.email, guard.unique_id)
        join = SelfJoin(name, replace(args.join, accounts=accounts), opts=child)
        template = self._make_template(name, args, guard, join.startup_script)
        group = self._make_group(name, args, template.self_link_unique)
        # Also for a fixed size: without it, a fleet that no longer scales would stay at the size that it had.
        compute.RegionAutoscaler(
            f"{name}-autoscaler",
            name=fleet,
            project=place.project,
            region=place.region,
            target=group.id,
            autoscaling_policy=compute.RegionAutoscalerAutoscalingPolicyArgs(
                min_replicas=args.min_size,
                max_replicas=args.max_size,
                cooldown_period=args.boot_seconds,
                cpu_utilization=compute.RegionAutoscalerAutoscalingPolicyCpuUtilizationArgs(
                    target=args.cpu_target_percent / 100
                ),
            ),
            # Google removes no group that has an autoscaler: where the group is replaced, this goes before it.
            opts=pulumi.ResourceOptions(parent=self, replace_on_changes=["target"]),
        )
        self.service_account, self.must_be_allowed = guard.email, guard.must_be_allowed
        self.instance_group = group.instance_group
        self.register_outputs({"serviceAccount": self.service_account, "instanceGroup": self.instance_group})

    def _make_template(
        self, name: str, args: GceFleetArgs, guard: GceGuard, startup_script: pulumi.Output[str]
    ) -> compute.InstanceTemplate:
        machine, place, labels = args.machine, args.place, labels_of(args.fleet, args.machine)
        public = [compute.InstanceTemplateNetworkInterfaceAccessConfigArgs(network_tier="PREMIUM")]
        return compute.InstanceTemplate(
            f"{name}-template",
            # A template cannot be changed: another one takes its place, and the group follows.
            name_prefix=f"{args.fleet}-",
            project=place.project,
            # Templates are global; their subnetwork, if it is given by its name, is not.
            region=place.region,
            machine_type=machine.machine_type,
            disks=[
                compute.InstanceTemplateDiskArgs(
                    boot=True,
                    auto_delete=True,
                    source_image=machine.image,
                    disk_size_gb=machine.disk_gb,
                    disk_type=machine.disk_type,
                    disk_encryption_key=compute.InstanceTemplateDiskDiskEncryptionKeyArgs(
                        kms_key_self_link=machine.disk_key
                    )
                    if machine.disk_key is not None
                    else None,
                    labels=labels,
                )
            ],
            network_interfaces=[
                compute.InstanceTemplateNetworkInterfaceArgs(
                    subnetwork=place.subnetwork,
                    subnetwork_project=project_of(place),
                    access_configs=public if machine.public_address else None,
                )
            ],
            service_account=compute.InstanceTemplateServiceAccountArgs(email=guard.email, scopes=list(SCOPES)),
            shielded_instance_config=compute.InstanceTemplateShieldedInstanceConfigArgs(
                enable_secure_boot=True, enable_vtpm=True, enable_integrity_monitoring=True
            ),
            scheduling=compute.InstanceTemplateSchedulingArgs(
                provisioning_model="SPOT",
                preemptible=True,
                automatic_restart=False,
                instance_termination_action="DELETE",
            )
            if machine.spot
            else None,
            metadata=metadata_of(machine, startup_script, args.ssh),
            labels=labels,
            tags=list(machine.tags) or None,
            opts=pulumi.ResourceOptions(parent=self, depends_on=guard.rules),
        )

    def _make_group(
        self, name: str, args: GceFleetArgs, template: pulumi.Output[str]
    ) -> compute.RegionInstanceGroupManager:
        place = args.place
        check = compute.HealthCheck(
            f"{name}-health",
            name=args.fleet,
            project=place.project,
            check_interval_sec=10,
            timeout_sec=5,
            healthy_threshold=1,
            unhealthy_threshold=6,
            http_health_check=compute.HealthCheckHttpHealthCheckArgs(port=AGENT_HEALTH, request_path="/healthz/ready"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return compute.RegionInstanceGroupManager(
            f"{name}-group",
            name=args.fleet,
            base_instance_name=args.fleet,
            project=place.project,
            region=place.region,
            distribution_policy_zones=list(args.zones) or None,
            versions=[compute.RegionInstanceGroupManagerVersionArgs(instance_template=template)],
            target_size=args.min_size,
            auto_healing_policies=compute.RegionInstanceGroupManagerAutoHealingPoliciesArgs(
                health_check=check.id, initial_delay_sec=args.boot_seconds
            ),
            update_policy=compute.RegionInstanceGroupManagerUpdatePolicyArgs(
                type="PROACTIVE",
                minimal_action="REPLACE",
                replacement_method="SUBSTITUTE",
                max_surge_fixed=args.max_surge,
                max_unavailable_fixed=0,
                min_ready_sec=args.ready_seconds,
            ),
            # `up` is done when every machine runs the new template and is healthy: in the mesh, as 15021 says.
            wait_for_instances=True,
            wait_for_instances_status="UPDATED",
            opts=pulumi.ResourceOptions(
                parent=self,
                # The autoscaler's, once the group is there: a size from here would undo what it has done.
                ignore_changes=["targetSize"],
                custom_timeouts=within(args.update_seconds),
            ),
        )
