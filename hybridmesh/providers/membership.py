"""A VM's membership as the mesh sees it: `up` is done when istiod says so, not when a script ended well."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from hybridmesh.istio.entries import health, is_connected, is_stale
from hybridmesh.istio.members import group_labels, group_ports
from hybridmesh.istio.sync import sync_objection as sync_objection
from hybridmesh.legible import legible

from .cluster import Cluster, ClusterAccess, ClusterError, UnansweredError, connect
from .drift import note_what_was_left
from .entries import entry_patch, lacks_report, may_still_speak
from .inputs import changed, its_entry, number, text
from .packs import pack, takes_packs
from .waiting import wait_until

BROUGHT = "brought"
"""The property that tells, in a preview, what the VM was like when it was last a member: nothing else goes by it."""
_WATCHED = (
    "namespace",
    "entry",
    "staticEntry",
    "group",
    "labels",
    "ports",
    "probed",
    "proxy",
    "revision",
    "istioNamespace",
    "joined",
    "kubeconfig",
    "context",
)


@takes_packs
class MembershipProvider(ResourceProvider):
    """Creates and updates by waiting until the mesh has the VM; deletes nothing, for the VM leaves by itself."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Waits for the VM."""
        return CreateResult(f"{props['namespace']}/{props['entry']}", self._wait(props))

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """A VM that joined anew is looked at anew."""
        return DiffResult(changes=bool(changed(olds, news, _WATCHED)))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Under `--refresh`: an entry that somebody has edited must be brought up to date, as after a join."""
        note_what_was_left(props, text(props, "joined"))
        try:
            entry = connect(props).workload_entry(*its_entry(props))
        except ClusterError:
            return ReadResult(id_, props)
        edited = entry is not None and not props.get("staticEntry") and bool(_patch(entry, props))
        return ReadResult(id_, {**props, "joined": ""} if edited else props)

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Waits for the VM."""
        return UpdateResult(self._wait(news))

    @staticmethod
    def _wait(props: dict[str, Any]) -> dict[str, Any]:
        cluster = connect(props)
        seconds = number(props, "syncSeconds")
        entries: list[Mapping[str, Any]] = []

        def objection(*, thorough: bool = False) -> str:
            wrong = objection_to(cluster, props, thorough=thorough)
            if not wrong:
                entries.append(cluster.workload_entry(*its_entry(props)) or {})
            return wrong

        try:
            wrong = wait_until(objection, seconds) and objection(thorough=True)
        except UnansweredError as unanswered:
            wrong = str(unanswered)
        if wrong:
            # Much of it is the VM's own words: what its probe says, and why its proxy refuses something.
            raise ClusterError(f"{text(props, 'machine')} is not in the mesh after {seconds} s: {legible(wrong)}")
        return {
            **{key: value for key, value in props.items() if key != BROUGHT},
            "registration": f"{props['namespace']}/{props['entry']}",
            "address": str((entries[-1].get("spec") or {}).get("address", "")),
            "synced": True,
        }


def objection_to(cluster: Cluster, props: Mapping[str, Any], *, thorough: bool = False) -> str:
    """Why the VM cannot be called a member yet, with the remedy; empty if it can.

    Brings the VM's WorkloadEntry up to date on the way. istiod, which answers by way of API server and kubelet, is
    asked once the app is healthy, or where `thorough` wants to know all.
    """
    namespace, name = its_entry(props)
    entry = cluster.workload_entry(namespace, name)
    if entry is None and props.get("staticEntry"):
        return (
            f"there is no WorkloadEntry {namespace}/{name}, though the stack has made it: somebody has deleted it. Run "
            "`pulumi up --refresh`."
        )
    if entry is None:
        return (
            f"there is no WorkloadEntry {namespace}/{name}. Its proxy has not registered: look at "
            "/var/log/istio/istio.err.log on the VM, and check that it has the address that the name says."
        )
    if not is_connected(entry):
        return (
            f"WorkloadEntry {namespace}/{name} is there, but its proxy is not connected to istiod. Check the way from "
            "the VM to the gateway's port 15012; if it is free, `systemctl restart istio` on the VM."
        )
    patch = _patch(entry, props)
    # A static entry is a resource of the stack, which brings it up to date itself.
    if patch and not props.get("staticEntry"):
        cluster.patch_workload_entry(namespace, name, patch)
        return f"WorkloadEntry {namespace}/{name} was not up to date with its WorkloadGroup. Run `pulumi up` again."
    healthy, said = _health(cluster, entry, props)
    unhealthy = f"its app is not healthy by the workload's probe: {said}. Start the app, or correct the probe."
    if not healthy and not thorough:
        return unhealthy
    if not healthy and lacks_report(cluster, namespace, entry):
        return (
            f"WorkloadEntry {namespace}/{name} says nothing of its app's health: istiod has lost what the VM said of "
            "it, as happens when it is busy, and the VM says it once. Run `pulumi up` again, by which it connects anew."
        )
    states = cluster.sync_states(text(props, "istioNamespace"), text(props, "revision"), namespace)
    out_of_sync = sync_objection(states, text(props, "proxy"))
    return out_of_sync if healthy else f"{unhealthy} {out_of_sync}".rstrip()


def _health(cluster: Cluster, entry: Mapping[str, Any], props: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether the app is healthy, as far as it is probed, and what the probe said.

    What was noted before the VM's proxy connected counts once its agent must have spoken: istiod may have lost it.
    """
    if not props.get("probed"):
        return True, ""
    if is_stale(entry) and may_still_speak(cluster, text(props, "namespace"), entry, text(props, "group")):
        return False, "the probe has not answered since the proxy connected"
    return health(entry)


def _patch(entry: Mapping[str, Any], props: Mapping[str, Any]) -> dict[str, Any]:
    """What brings the VM's WorkloadEntry up to date with its group."""
    return entry_patch(
        entry, text(props, "group"), props.get("labels") or {}, props.get("ports") or {}, bool(props.get("probed"))
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class MembershipArgs:
    """Inputs of `Membership`."""

    cluster: ClusterAccess
    """The cluster."""
    machine: str
    """The VM's name in the settings, for messages."""
    namespace: pulumi.Input[str]
    """The workload's namespace."""
    entry: pulumi.Input[str]
    """Name of the VM's WorkloadEntry."""
    static_entry: bool = False
    """Whether that is not istiod's, but a resource of the stack."""
    group: pulumi.Output[Mapping[str, Any]]
    """The WorkloadGroup's manifest: what it gives to its entries, and whether its probe must be passed."""
    istio_namespace: pulumi.Input[str]
    """The namespace that istiod runs in."""
    revision: pulumi.Input[str]
    """istiod's revision."""
    joined: pulumi.Input[str]
    """Anything that differs once the VM has joined anew."""
    brought: pulumi.Input[str]
    """What the VM has by its join, properties of its `Sidecar`, as JSON. The state has that of a component as soon as a
    run begins, and this once all of it is done; so a preview tells what an `up` that failed has left undone."""
    sync_seconds: int = 120
    """Limit for the mesh to have the VM."""


def _group_pack(group: Mapping[str, Any]) -> str:
    return pack(
        "workloadGroup",
        {
            "group": group["metadata"]["name"],
            "labels": group_labels(group),
            "ports": group_ports(group),
            "probed": "probe" in group["spec"],
        },
    )


def _istiod_pack(args: MembershipArgs, namespace: str, istio_namespace: str, revision: str) -> str:
    return pack(
        "istiod",
        {
            "istioNamespace": istio_namespace,
            "revision": revision,
            # Its name in istiod: `<POD_NAME of the agent>.<namespace>`.
            "proxy": f"{args.machine}.{namespace}",
            "syncSeconds": args.sync_seconds,
        },
    )


class Membership(Resource, name="Membership"):
    """That a VM is in the mesh: registered, in sync with istiod, healthy."""

    registration: pulumi.Output[str]
    """The VM's WorkloadEntry, as namespace/name."""
    address: pulumi.Output[str]
    """The address at which the mesh reaches the VM."""
    synced: pulumi.Output[bool]
    """Whether istiod has every type acknowledged by the VM."""

    def __init__(self, name: str, args: MembershipArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            MembershipProvider(),
            name,
            {
                "cluster": args.cluster.packed(),
                "machine": args.machine,
                "namespace": args.namespace,
                "entry": args.entry,
                "staticEntry": args.static_entry or None,
                "workloadGroup": args.group.apply(_group_pack),
                "istiod": pulumi.Output.all(args.namespace, args.istio_namespace, args.revision).apply(
                    lambda known: _istiod_pack(args, *known)
                ),
                "joined": args.joined,
                BROUGHT: args.brought,
                "registration": None,
                "address": None,
                "synced": None,
            },
            opts,
        )
