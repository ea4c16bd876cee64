"""`python -m hybridmesh recover`: a stack whose `pulumi up` or `destroy` was killed, made fit for the next one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from hybridmesh.ops.console import for_lines
from hybridmesh.ops.topology import StackError, pulumi_document, run_pulumi
from hybridmesh.providers import ClusterAccess
from hybridmesh.providers.cluster import Cluster, connect

RELEASE = "kubernetes:helm.sh/v3:Release"
TAKE_OVER = "PULUMI_K8S_UPSERT_EXISTING_OBJECTS"
"""By it pulumi-kubernetes makes an object that is there its own; else, from 4.29 on, it refuses to make one that exists
(its CHANGELOG, #2926)."""
_HALF_MADE = ("pending-install", "pending-upgrade", "pending-rollback")


@dataclass(frozen=True, slots=True)
class Interrupted:
    """One operation of which the engine does not know how it ended."""

    kind: str
    """`creating`, `updating`, `deleting`, …"""
    urn: str
    type: str
    inputs: Mapping[str, Any]
    provider: str
    """The provider's URN, `::` and its id."""
    id: str | None
    """As the provider knows it; None: it was not made yet."""
    replaced: bool
    """Whether it is the old one of two that bear the URN, in a replacement that did not end."""

    @property
    def name(self) -> str:
        return self.urn.rsplit("::", 1)[1]


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing to do about an operation, besides the lock and the engine's own notes."""

    operation: Interrupted
    what: str
    """For people."""
    record: str = ""
    """A Secret of Helm's to delete."""
    forget: bool = False
    """The resource is gone, and goes from the state."""
    disown: bool = False
    """The object may be there, owned by a manager that nobody remembers."""


def interrupted(deployment: Mapping[str, Any]) -> list[Interrupted]:
    """The operations that a stack's state (`pulumi stack export`) calls pending."""
    return [
        Interrupted(
            operation["type"],
            operation["resource"]["urn"],
            operation["resource"]["type"],
            operation["resource"].get("inputs") or {},
            operation["resource"].get("provider", ""),
            *_which(operation["resource"]),
        )
        for operation in deployment["deployment"].get("pending_operations") or []
    ]


def repairs(operations: Sequence[Interrupted], records: Mapping[str, Sequence[tuple[str, str]]]) -> list[Repair]:
    """What must be put right before the next run; all else is done by running again.

    Helm refuses to install what it has a record of, and to upgrade what it believes in the middle of an upgrade. A
    record that goes takes nothing along: the next install adopts the objects, which bear the release's name. What the
    state was to learn of as new is this stack's only if nobody has upgraded it. Objects that pulumi-kubernetes applied
    belong, field by field, to a manager of a random name that only the state knows; one that is not in it would be a
    conflict at the first change of such a field.

    Args:
        operations: the interrupted ones.
        records: Helm's records of the releases among them, by URN: name and status, oldest first.
    """
    found: list[Repair] = []
    for operation in operations:
        if operation.kind == "creating" and _is_object(operation):
            namespace, name = _object(operation)
            what = f"{operation.inputs['kind']} {namespace}/{name} may be there already: let the next run own it"
            found.append(Repair(operation, what, disown=True))
        if operation.type != RELEASE:
            continue
        namespace, release = _release(operation)
        there = records.get(operation.urn, [])
        if operation.kind == "deleting" and not there:
            what = f"release {namespace}/{release} is gone from the cluster: take it out of the state"
            found.append(Repair(operation, what, forget=True))
        if operation.kind == "creating" and there and not _is_first(there):
            what = (
                f"leave release {namespace}/{release}: it has been upgraded, so it is another's than this stack's, and "
                "the next run would refuse its name. Before that, adopt it, name it otherwise or `helm uninstall` it"
            )
            found.append(Repair(operation, what))
            continue
        for record, status in there:
            if operation.kind == "creating" or (operation.kind == "updating" and status in _HALF_MADE):
                what = f"release {namespace}/{release} is {status}: delete Helm's record of it, {record}"
                found.append(Repair(operation, what, record=record))
    return found


def recovered(deployment: Mapping[str, Any], plan: Sequence[Repair]) -> dict[str, Any]:
    """The state without operations that are pending, and without what is gone."""
    gone = {(repair.operation.urn, repair.operation.id, repair.operation.replaced) for repair in plan if repair.forget}
    inner = {key: value for key, value in deployment["deployment"].items() if key != "pending_operations"}
    inner["resources"] = [r for r in inner.get("resources") or [] if (r["urn"], *_which(r)) not in gone]
    return {**deployment, "deployment": inner}


def _which(resource: Mapping[str, Any]) -> tuple[str | None, bool]:
    """What tells two resources of one URN apart."""
    return resource.get("id"), bool(resource.get("delete"))


def cluster_of(deployment: Mapping[str, Any], operation: Interrupted) -> ClusterAccess:
    """The cluster that an operation was about, as its provider has it.

    Raises:
        StackError: the state does not tell.
    """
    for resource in deployment["deployment"].get("resources") or []:
        if f"{resource['urn']}::{resource.get('id')}" == operation.provider:
            inputs = resource.get("inputs") or {}
            if isinstance(inputs.get("kubeconfig"), str):
                return ClusterAccess(kubeconfig=inputs["kubeconfig"], context=inputs.get("context"))
    raise StackError(f"the state does not tell which cluster {operation.name} is in. Fix: `pulumi refresh`.")


def cut_off_notes(backend: str) -> list[Path]:
    """Of a backend that is a folder, the notes beside its files (`*.attrs`) that a killed pulumi wrote half.

    With one of them pulumi reads no state, not even to release a lock: `failed to load checkpoint: EOF`. State files
    are written beside and renamed; these notes are not, and say nothing that pulumi needs: it takes a missing one for
    empty. Source: gocloud.dev/blob/fileblob/attrs.go, setAttrs and getAttrs.
    """
    if urlsplit(backend).scheme != "file":
        return []
    return sorted(path for path in _folder(backend).rglob("*.attrs") if not _is_json(path))


def _folder(backend: str) -> Path:
    return Path(backend.removeprefix("file://").partition("?")[0]).expanduser() / ".pulumi"


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def recover(
    stack: Annotated[str | None, typer.Option(help="The stack; default the selected one.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Make a stack fit for the next run after one that was killed.

    Takes away what was written half in a state that is a file, releases the stack's lock, repairs Helm releases that
    were caught half-way, and clears the engine's notes of operations that did not end. It asks before it does
    anything. Then run again what was interrupted, `pulumi up` or `destroy`.
    """
    console = for_lines()
    chosen = ["--stack", stack] if stack else []
    if half := cut_off_notes(pulumi_document("whoami", "--verbose", "--json")["url"]):
        for path in half:
            console.print(f"will do: delete {path}, which was written half; pulumi cannot read the state", markup=False)
        if not yes:
            typer.confirm("Go ahead?", abort=True)
        for path in half:
            path.unlink()
    deployment = pulumi_document("stack", "export", *chosen)
    operations = interrupted(deployment)
    plan = repairs(operations, _records(deployment, operations))
    for operation in operations:
        console.print(f"interrupted: {operation.kind} {operation.name} ({operation.type})", markup=False)
    console.print("will do: release the stack's lock. If `pulumi` still works on this stack, let it end first!")
    for repair in plan:
        console.print(f"will do: {repair.what}", markup=False)
    if operations:
        console.print("will do: clear the engine's notes of what was interrupted")
    if not yes:
        typer.confirm("Go ahead?", abort=True)
    run_pulumi("cancel", "--yes", *chosen)
    is_there = False
    for repair in plan:
        if repair.record:
            cluster = _connect(deployment, repair.operation)
            cluster.delete_helm_record(_release(repair.operation)[0], repair.record)
        if repair.disown:
            inputs = repair.operation.inputs
            cluster = _connect(deployment, repair.operation)
            is_there |= cluster.disown(inputs["apiVersion"], inputs["kind"], *_object(repair.operation))
    if operations:
        run_pulumi("stack", "import", *chosen, document=json.dumps(recovered(deployment, plan)))
    if is_there:
        console.print(f"Done. Now run `{TAKE_OVER}=true pulumi up`, this once: it takes over what is there already.")
        console.print("Before `pulumi destroy`, too: it knows nothing of that, and may leave it behind.")
    else:
        console.print("Done. Now run again what was interrupted: `pulumi up`, or `pulumi destroy`.")


def _records(deployment: Mapping[str, Any], operations: Sequence[Interrupted]) -> dict[str, Sequence[tuple[str, str]]]:
    releases = [operation for operation in operations if operation.type == RELEASE]
    return {o.urn: _connect(deployment, o).helm_records(*_release(o)) for o in releases}


def _connect(deployment: Mapping[str, Any], operation: Interrupted) -> Cluster:
    return connect(cluster_of(deployment, operation).properties())


def _is_object(operation: Interrupted) -> bool:
    """Whether it is about one Kubernetes object whose name is known."""
    inputs = operation.inputs
    known = all(isinstance(inputs.get(key), str) for key in ("apiVersion", "kind"))
    return operation.type.startswith("kubernetes:") and known and bool(_object(operation)[1])


def _object(operation: Interrupted) -> tuple[str, str]:
    """Namespace and name of an object."""
    metadata = operation.inputs.get("metadata")
    given = metadata if isinstance(metadata, Mapping) else {}
    return str(given.get("namespace") or ""), str(given.get("name") or "")


def _is_first(records: Sequence[tuple[str, str]]) -> bool:
    """Whether a release was installed, and never upgraded."""
    return len(records) == 1 and records[0][0].endswith(".v1")


def _release(operation: Interrupted) -> tuple[str, str]:
    """Namespace and name of a release."""
    return str(operation.inputs.get("namespace", "default")), str(operation.inputs.get("name", operation.name))
