"""`python -m hybridmesh teardown`: a mesh taken down whole, by one command that asks first and looks afterwards."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from hybridmesh.istio.names import BASE_RELEASE
from hybridmesh.kubeconfig_copies import remove_copies
from hybridmesh.ops.console import Console, for_lines
from hybridmesh.ops.machines import hosts, limits, reachable, selected_stack, stack_settings
from hybridmesh.ops.ssh import Answer, Reachable, run_on_all
from hybridmesh.ops.topology import StackError, ended_pulumi, pulumi_document, run_pulumi, stack_topology
from hybridmesh.providers import ClusterAccess
from hybridmesh.providers.cluster import Cluster, ClusterError, connect
from hybridmesh.providers.remains import is_ours
from hybridmesh.remote import ANOTHER_RAN, ANOTHER_RAN_FIX, COMMAND_LEAVE, LEAVE_SCRIPTS, has_run, payload
from hybridmesh.settings import NAMESPACE, Settings
from hybridmesh.settings.files import stack_file
from hybridmesh.settings.lost import STACK_FILE_VARIABLE, lost_machines

DESTROY_SECONDS = 3600
LEFT_ON_A_VM = (
    "exec /bin/sh -c 'for place in /usr/local/bin/pilot-agent /etc/istio /var/lib/istio /var/lib/hybrid-mesh; "
    "do ls -d $place; done 2>/dev/null; echo looked'"
)
"""Prints what of the mesh is on a VM: the package's program and folders, and what a leave that was cut off needs; at
the end, that it has looked."""
_IN_THE_CLUSTER = ("kubernetes:", "pulumi:providers:kubernetes", "pulumi-python:dynamic:")
"""Types of what only the cluster, or what asks the cluster, can remove."""


def protected(deployment: Mapping[str, Any]) -> list[str]:
    """The names of resources that Pulumi was told to protect."""
    resources = deployment.get("deployment", {}).get("resources") or []
    return [str(resource["urn"]).rpartition("::")[2] for resource in resources if resource.get("protect")]


def without_cluster(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """The state without what went with the cluster. What is left hangs on nothing of that."""
    inner = dict(deployment["deployment"])
    gone = {r["urn"] for r in inner.get("resources") or [] if str(r["type"]).startswith(_IN_THE_CLUSTER)}
    inner["resources"] = [_cut(r, gone) for r in inner.get("resources") or [] if r["urn"] not in gone]
    return {**deployment, "deployment": inner}


def _cut(resource: Mapping[str, Any], gone: set[str]) -> dict[str, Any]:
    """A resource that depends on nothing that is gone."""
    kept = dict(resource)
    if "dependencies" in kept:
        kept["dependencies"] = [urn for urn in kept["dependencies"] if urn not in gone]
    if "propertyDependencies" in kept:
        kept["propertyDependencies"] = {
            key: [urn for urn in urns or [] if urn not in gone] for key, urns in kept["propertyDependencies"].items()
        }
    return kept


def declared_lost(document: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A stack file with machines declared lost. Raises StackError for one that the file does not show."""
    made = deepcopy(dict(document))
    config = made.get("config", {})
    entries = [
        (entry, kind)
        for section, kind in (("workloads", "machines"), ("networks", "gateway"))
        for entry in (config.get(f"{NAMESPACE}:{section}") or {}).values()
    ]
    places = [entry.get(kind) for entry, kind in entries if isinstance(entry, dict)]
    hosts = {name: host for place in filter(None, places) for name, host in place.get("hosts", {}).items()}
    unseen = sorted(set(names) - set(hosts))
    if unseen:
        raise StackError(
            f"{unseen[0]} is lost, and its section is encrypted in the stack file, where the providers look for who is "
            "lost. It would be waited for. Nothing was changed. Fix: encrypt keys and passphrases only "
            "(`pulumi config set --secret --path`), not a section as a whole."
        )
    for name in names:
        hosts[name]["lost"] = True
    return made


def leftovers(
    settings: Settings,
    deployment: Mapping[str, Any],
    cluster: Cluster | None,
    answers: Mapping[str, Answer | Exception],
    lost: Sequence[str],
) -> list[str]:
    """What is still there afterwards, one line each, with what to do.

    Args:
        deployment: the state before.
        cluster: None where it is gone.
        answers: what each VM says to `LEFT_ON_A_VM`; those that the stack had made itself are not among them.
        lost: the VMs that nobody asked.
    """
    found = []
    if cluster is not None:
        found += _namespaces_left(settings, deployment, cluster)
        found += _crds_left(settings, deployment, cluster)
    for name, answer in sorted(answers.items()):
        if not isinstance(answer, Answer):
            found.append(f"{name}: nobody could look: {answer}")
        elif "looked" not in answer.stdout.splitlines():
            found.append(f"{name}: nobody could look: {_unasked(answer)}")
        # What a login shell prints besides is no path.
        elif places := [line for line in answer.stdout.splitlines() if line.startswith("/")]:
            found.append(f"{name}: {', '.join(places)}: see docs/on-the-vm.md, how to leave by hand")
    found += [f"{name}: was not asked: switch it off, or run leave.sh on it (docs/leaving.md)" for name in sorted(lost)]
    return found


def _namespaces_left(settings: Settings, deployment: Mapping[str, Any], cluster: Cluster) -> list[str]:
    """The namespaces that the stack made, and those that it would make: a run may have been cut off, or an earlier
    teardown. Of these somebody else may have one by the same name."""
    made = _of_type(deployment, "kubernetes:core/v1:Namespace")
    known = {str((namespace.get("metadata") or {}).get("name")) for namespace in made}
    named = settings.used_namespaces
    if settings.observability is not None:
        named.add(settings.observability.namespace)
    if settings.control_plane.mode == "install":
        named.add(settings.control_plane.namespace)
    existing = {name for name, given in settings.namespaces.items() if given.existing}
    doubt = "if it is nobody else's, "
    left = (known | named - existing) & set(cluster.namespaces_labelled(""))
    return [
        f"namespace {name}: {'' if name in known else doubt}kubectl delete namespace {name}" for name in sorted(left)
    ]


def _crds_left(settings: Settings, deployment: Mapping[str, Any], cluster: Cluster) -> list[str]:
    """Istio's definitions that the stack brought, or would bring, where nobody else has an istiod that needs them."""
    installed = _of_type(deployment, "pulumi-python:dynamic:IstioRemains")
    doubt = "" if installed else "if they are nobody else's, "
    if not installed and settings.control_plane.mode == "install":
        installed = [{"baseRelease": BASE_RELEASE, "namespace": settings.control_plane.namespace}]
    if not installed or cluster.istiods():
        return []
    left = [crd for crd in cluster.istio_crds() if any(is_ours(crd, props) for props in installed)]
    names = sorted(str(crd["metadata"]["name"]) for crd in left)
    if not names:
        return []
    objects = [name for crd in left for name in cluster.objects_of(crd)]
    why = f"in them are {', '.join(objects[:5])}; see to these, then " if objects else ""
    return [f"{len(names)} CRDs of Istio: {doubt}{why}kubectl delete crd {' '.join(names)}"]


def _of_type(deployment: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """What the state knows of each resource of a type."""
    resources = deployment.get("deployment", {}).get("resources") or []
    return [
        resource.get("outputs") or resource.get("inputs") or {} for resource in resources if resource["type"] == kind
    ]


def teardown(
    stack: Annotated[str | None, typer.Option(help="The stack; default the selected one.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    even_protected: Annotated[
        str, typer.Option(metavar="STACK", help="The name of the stack, to take it down although it is protected.")
    ] = "",
    lost: Annotated[
        list[str] | None, typer.Option(metavar="VM", help="Gone for good: is not asked, only forgotten. Repeatable.")
    ] = None,
    cluster_gone: Annotated[
        bool, typer.Option(help="The cluster is gone for good: VMs are cleaned, all else is only forgotten.")
    ] = False,
    config_file: Annotated[Path | None, typer.Option(help="The settings; default Pulumi.<stack>.yaml.")] = None,
) -> None:
    """Take a mesh down: cluster, VMs, state. Asks first; exit code 1 if anything is left, or was not begun.

    Where the stack is empty already, it only looks for what is left.
    """
    console = for_lines()
    name = selected_stack(stack)
    file = (config_file or stack_file(name)).absolute()
    deployment = pulumi_document("stack", "export", "--stack", name)
    settings = stack_settings(name, file)
    lost_vms = sorted({*_known(settings, lost or ()), *lost_machines(settings)})
    machines = _machines(name, settings)
    cluster = None if cluster_gone else _cluster(settings)
    asked = {vm: way for vm, way in machines.items() if vm not in lost_vms}
    if deployment.get("deployment", {}).get("resources"):
        _google_lets_all_go(deployment)
        _every_machine_answers(asked, settings)
        _agreed(console, name, deployment, machines, lost_vms, cluster_gone=cluster_gone, yes=yes, even=even_protected)
        with _told_who_is_lost(file, lost_vms) as told:
            if protected(deployment):
                run_pulumi("state", "unprotect", "--all", "--yes", "--stack", name)
            if cluster_gone:
                _forget_cluster(console, name, asked, settings)
            try:
                _destroy(name, file, told)
            finally:
                remove_copies(settings.cluster.kubeconfig)
    else:
        console.print(f"{name}: the stack is empty. Nothing is removed; what it may have left is looked for.")
    existing = {vm: way for vm, way in asked.items() if hosts(settings)[vm].ssh is not None}
    answers = run_on_all(existing, LEFT_ON_A_VM, "", limits(settings))
    left = leftovers(settings, deployment, cluster, answers, lost_vms)
    for line in left:
        console.print(f"left: {line}", markup=False, style="red")
    if left:
        raise typer.Exit(1)
    console.print(
        f"{name}: nothing is left. `pulumi stack rm {name} --preserve-config` removes the empty stack; without the "
        f"option {stack_file(name)} goes with it.",
        markup=False,
    )


def _known(settings: Settings, lost: Sequence[str]) -> list[str]:
    unknown = sorted(set(lost) - set(hosts(settings)))
    if unknown:
        raise StackError(f"--lost {unknown[0]}: no machine of the stack. Fix: one of {', '.join(hosts(settings))}.")
    return list(lost)


def _machines(name: str, settings: Settings) -> dict[str, Reachable]:
    try:
        topology = stack_topology(name)
    except StackError:  # an `up` that never came to its end
        topology = {}
    return {machine: way for machine, way in reachable(settings, topology).items() if way is not None}


def _cluster(settings: Settings) -> Cluster:
    access = ClusterAccess(kubeconfig=settings.cluster.kubeconfig, context=settings.cluster.context)
    try:
        cluster = connect(access.properties())
        cluster.namespaces_labelled("")
    except ClusterError as error:
        raise StackError(
            f"the cluster does not answer: {error} Nothing was removed. Choose: make it reachable, and run this again; "
            "or, if it is gone for good, `--cluster-gone`: VMs are cleaned, all else is only forgotten."
        ) from None
    return cluster


def _google_lets_all_go(deployment: Mapping[str, Any]) -> None:
    """A destroy would fail at such a machine, with much else gone."""
    instances = _of_type(deployment, "gcp:compute/instance:Instance")
    kept = sorted(str(instance.get("name")) for instance in instances if instance.get("deletionProtection"))
    if kept:
        raise StackError(
            f"{kept[0]} is protected by Google, which would not remove it. Nothing was removed. Fix: `protect: false` "
            "for it, `pulumi up`, and run this again."
        )


def _every_machine_answers(machines: Mapping[str, Reachable], settings: Settings) -> None:
    problems = {
        n: a for n, a in run_on_all(machines, "true", "", limits(settings)).items() if not isinstance(a, Answer)
    }
    if problems:
        said = " ".join(str(problem) for problem in problems.values())
        options = " ".join(f"--lost {name}" for name in problems)
        raise StackError(
            f"{said} Nothing was removed. Choose: make it reachable, and run this again; or, if it is gone for good, "
            f"`{options}`: it is only forgotten."
        )


def _agreed(
    console: Console,
    name: str,
    deployment: Mapping[str, Any],
    machines: Mapping[str, Reachable],
    lost: Sequence[str],
    *,
    cluster_gone: bool,
    yes: bool,
    even: str,
) -> None:
    """Ends the command unless whoever runs it agrees."""
    guarded = protected(deployment)
    console.print(f"will go: stack {name}, {len(deployment['deployment']['resources'])} resources", markup=False)
    for machine in machines:
        console.print(f"will go: {machine}{', not asked' if machine in lost else ''}", markup=False)
    if cluster_gone:
        console.print("will be forgotten: everything in the cluster")
    if guarded:
        console.print(f"protected: {', '.join(guarded)}", markup=False, style="red")
        if even == name:
            return
        if yes:
            raise StackError(f"{name} is protected. Nothing was removed. Fix: --even-protected {name}, if you mean it.")
        if typer.prompt(f"Type `{name}` to take it down all the same") != name:
            raise typer.Abort
    elif not yes:
        typer.confirm("Go ahead?", abort=True)


def _forget_cluster(console: Console, name: str, machines: Mapping[str, Reachable], settings: Settings) -> None:
    """Cleans the VMs, which needs no cluster, and takes what was in it out of the state."""
    stdin = payload({}, {"drain-seconds": "0"}, LEAVE_SCRIPTS)
    for vm, answer in run_on_all(machines, COMMAND_LEAVE, stdin, limits(settings)).items():
        if isinstance(answer, Answer):
            left = answer.code == 0 and has_run(answer.stderr)
            outcome = "has left" if left else f"could not leave: {_unasked(answer)}"
        else:
            outcome = f"could not leave: {answer}"
        console.print(f"{vm}: {outcome}", markup=False)
    state = pulumi_document("stack", "export", "--stack", name)
    run_pulumi("stack", "import", "--stack", name, document=json.dumps(without_cluster(state)))


def _unasked(answer: Answer) -> str:
    """Why a command that we asked for did not do it."""
    if answer.code == 0:
        return f"{ANOTHER_RAN}. Fix: {ANOTHER_RAN_FIX}."
    return f"it ended with {answer.code}: {answer.stderr.strip()}"


@contextmanager
def _told_who_is_lost(file: Path, lost: Sequence[str]) -> Iterator[Path]:
    """The stack file that says so: for as long as this lasts, one beside it."""
    if not lost:
        yield file
        return
    temporary = file.with_name(f".{file.name}.teardown")
    told = yaml.safe_dump(declared_lost(yaml.safe_load(file.read_text(encoding="utf-8")), lost))
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    temporary.write_text(told)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _destroy(name: str, file: Path, told: Path) -> None:
    options = ["--yes", "--skip-preview", "--stack", name, "--config-file", str(file)]
    env = {**os.environ, STACK_FILE_VARIABLE: str(told)}
    done = ended_pulumi("destroy", *options, seconds=DESTROY_SECONDS, env=env, captured=False)
    if done.returncode != 0:
        raise StackError("pulumi destroy did not come to its end; see above. Fix what it says, and run this again.")
