"""`python -m ci VERB`: each step of a workflow is one of these."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from ci.drawings import planned_drawing
from ci.engine import LEAST_SECONDS, PACK, EngineError, output, policies, pulumi, seconds_left, stacks
from ci.ephemeral import EphemeralError, ephemeral, pull_request_of, stack_name
from ci.github import Github, GithubError
from ci.review import comment, fenced, marker
from hybridmesh.legible import legible
from hybridmesh.ops.changes import readable
from hybridmesh.ops.plan import left_over, planned
from hybridmesh.ops.status import status
from hybridmesh.ops.topology import StackError
from hybridmesh.providers.cluster import ClusterError
from hybridmesh.settings import NAMESPACE, SettingsError
from hybridmesh.settings.files import from_stack_file, read_below, stack_document
from hybridmesh.settings.parser import sections_in

CHANGES = "no changes were expected"
"""In what pulumi says where `--expect-no-changes` finds some; whatever else it fails for has other words."""
GCLOUD_SECONDS = 120
LABEL = "mesh"
"""Of a pull request that has a mesh of its own."""
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="What the workflows run.")
Stack = Annotated[str, typer.Option(help="The stack.")]
PolicyPack = Annotated[str, typer.Option(envvar="HYBRID_MESH_POLICY_PACK", help="Folder or program of the pack.")]
Number = Annotated[int, typer.Argument(help="The pull request's number.")]


@app.command()
def preview(
    stack: Stack,
    out: Annotated[Path, typer.Option(help="Where the comment goes.")],
    commit: Annotated[str, typer.Option(help="What it is a preview of.")] = "",
    policy_pack: PolicyPack = PACK,
) -> None:
    """Preview a stack under the policies, and write the comment for the pull request. Status 1: a policy refuses."""
    plan = planned(stack, seconds=seconds_left())
    done = pulumi("preview", "--stack", stack, "--diff", *policies(policy_pack), check=False)
    refused = done.returncode != 0 and "[mandatory]" in done.stdout
    if done.returncode != 0 and not refused:
        raise EngineError(done.stdout + done.stderr)
    print(done.stdout)
    text = comment(
        stack,
        plan,
        done.stdout,
        before=output(stack, "drawing"),
        after=_after(stack),
        commit=commit,
        failed=refused,
    )
    out.write_text(text)
    if refused:
        raise typer.Exit(1)


def _after(stack: str) -> str | None:
    try:
        settings = from_stack_file(Path(f"Pulumi.{stack}.yaml"))
    except SettingsError as error:  # files that only the environment of the stack has
        print(f"no drawing of the mesh after: {error}", file=sys.stderr)
        return None
    return planned_drawing(settings, output(stack, "topology"))


@app.command()
def publish(
    stack: Stack,
    pull_request: Annotated[int, typer.Option(help="Its number.")],
    file: Annotated[Path, typer.Option(help="The comment, as `preview` wrote it.")],
) -> None:
    """Write the comment to the pull request, in place of the one before."""
    Github.of_this_run().comment(pull_request, file.read_text(), marker(stack))


@app.command()
def up(stack: Stack, policy_pack: PolicyPack = PACK) -> None:
    """Update a stack under the policies, and see that its machines are well."""
    _say(pulumi("up", "--stack", stack, "--yes", "--diff", *policies(policy_pack)))
    _status(stack)


@app.command()
def drift(stack: Stack, report: Annotated[bool, typer.Option(help="Open an issue.")] = False) -> None:
    """See whether what is there is what was put up. Status 1: it is not, or nobody could see; no issue tells that."""
    done = pulumi("preview", "--stack", stack, "--refresh", "--diff", "--expect-no-changes", check=False)
    print(done.stdout + done.stderr)
    if done.returncode != 0 and CHANGES not in done.stderr:
        raise EngineError(f"the preview of {stack} failed, as said above: nobody knows whether it has drifted.")
    left = "\n".join(readable({"steps": left_over(stack)}))  # these, `--expect-no-changes` takes for no change
    print(left)
    if done.returncode == 0 and not left:
        return
    if report:
        said = legible(f"{done.stdout}{done.stderr}\n{left}")[-50_000:]
        body = f"`pulumi preview --refresh` of `{stack}` shows:\n\n{fenced(said)}"
        Github.of_this_run().issue(f"Drift in {stack}", body)
    raise typer.Exit(1)


@app.command("mesh-up")
def mesh_up(number: Number, base: Annotated[str, typer.Option(help="The stack that owns Istio.")]) -> None:
    """Put up a pull request's own mesh, with names of its own, beside that of the base."""
    stack = stack_name(number)
    file, prefix = Path(f"Pulumi.{base}.yaml"), f"{NAMESPACE}:"
    document = stack_document(file)
    others = {key: value for key, value in document["config"].items() if not str(key).startswith(prefix)}
    own = ephemeral(sections_in(document["config"]), number, read_below(Path()))
    config = {**others, **{f"{prefix}{key}": value for key, value in own.items()}}
    Path(f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump({**document, "config": config}, sort_keys=False))
    pulumi("stack", "select", "--create", stack)
    _say(pulumi("up", "--stack", stack, "--yes", "--skip-preview", "--diff"))
    _status(stack)


@app.command("mesh-down")
def mesh_down(number: Number, base: Annotated[str, typer.Option(help="The stack that owns Istio.")]) -> None:
    """Take down a pull request's mesh and its stack; well done where there is none."""
    stack = stack_name(number)
    if stack not in stacks():
        print(f"{stack}: there is none")
        return
    if base == stack:
        raise EphemeralError(f"{base} is no base.")
    _say(pulumi("destroy", "--stack", stack, "--yes", "--skip-preview"))
    pulumi("stack", "rm", "--stack", stack, "--yes")
    Path(f"Pulumi.{stack}.yaml").unlink(missing_ok=True)


@app.command()
def sweep(base: Annotated[str, typer.Option(help="The stack that owns Istio.")]) -> None:
    """Take down every mesh whose pull request is no longer open, or has no label `mesh` any more.

    Status 1: one would not go.
    """
    wanted = Github.of_this_run().open_pull_requests(LABEL)
    failed = []
    for stack in stacks():
        number = pull_request_of(stack)
        if number is None or number in wanted:
            continue
        if seconds_left() <= LEAST_SECONDS:  # it would be interrupted as soon as it has begun
            failed.append(stack)
            continue
        try:
            mesh_down(number, base)
        except EngineError as error:  # one that does not go must not keep the others
            print(error, file=sys.stderr)
            failed.append(stack)
    if failed:
        print(f"not removed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def kubeconfig(
    path: Annotated[Path, typer.Argument(help="Where it goes: what the stack file's `cluster.kubeconfig` says.")],
    cluster: Annotated[str, typer.Option(envvar="GKE_CLUSTER", help="The GKE cluster.")],
    location: Annotated[str, typer.Option(envvar="GKE_LOCATION", help="Its region or zone.")],
) -> None:
    """Write the kubeconfig of a GKE cluster, with no credential in it: gcloud gives one at each use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            ["gcloud", "container", "clusters", "get-credentials", cluster, "--location", location],
            env={**os.environ, "KUBECONFIG": str(path)},
            timeout=GCLOUD_SECONDS,
            check=True,
        )
    except FileNotFoundError:
        raise EngineError(
            f"gcloud is not here, so that {path} was not written. Fix: install the Google Cloud CLI with its component "
            "gke-gcloud-auth-plugin, as .github/actions/setup does."
        ) from None
    except subprocess.CalledProcessError as error:
        raise EngineError(
            f"gcloud ended with {error.returncode}, so that {path} was not written; what it said is above. Fix: see "
            f"that there is a cluster {cluster} (GKE_CLUSTER) in {location} (GKE_LOCATION), and that this account may "
            "look at it."
        ) from None
    except subprocess.TimeoutExpired:
        raise EngineError(
            f"gcloud did not end within {GCLOUD_SECONDS} s, so that {path} was not written. Fix: run this step again."
        ) from None


def _say(done: subprocess.CompletedProcess[str]) -> None:
    print(done.stdout)


def _status(stack: str) -> None:
    """As `python -m hybridmesh status` shows it; ends with status 1 where a machine is not well."""
    status(stack)


def _stop_commands() -> None:
    """GitHub takes each printed line that begins with `::` for a command, and much of what is printed here was said by
    machines and the cluster. It stops until the word comes again, which nobody knows, or the step ends."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        print(f"::stop-commands::{secrets.token_hex(16)}", flush=True)


def main() -> None:
    """The console; ends with status 1 and what is wrong where the fault is in what was given."""
    _stop_commands()
    try:
        app()
    except (EngineError, GithubError, EphemeralError, StackError, SettingsError, ClusterError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
