"""The workflows: what they may do, and each step's script, run here with GitHub, Pulumi and gcloud as stand-ins."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

import ci.__main__
import ci.engine
from ci.__main__ import main
from hybridmesh.ops.topology import ENDING_SECONDS
from hybridmesh.providers.cluster import ClusterError
from lab import toolchain
from lab.instance import PROJECT_ROOT
from tests.ci.fakes import TOKEN, FakeGithub, calls, github, program
from tests.components.harness import write_files

FILES = sorted((PROJECT_ROOT / ".github").rglob("*.yml"))
WORKFLOWS = [file for file in FILES if file.parent.name == "workflows"]
MAY_WRITE = {
    ("pull-request", "preview", "pull-requests"),
    ("nightly", "drift", "issues"),
}
VALUES = {"matrix.stack": "gcp", "github.event.pull_request.number": "7", "github.token": TOKEN}
TOPOLOGY = {
    "cluster": {"name": "c", "network": "n", "kubeconfig": "kubeconfig", "context": None},
    "controlPlane": {"namespace": "istio-system", "revision": "default", "version": "1.31.0", "trustDomain": "t"},
    "gateway": {"name": "g", "address": "192.0.2.100"},
    "networks": {},
    "workloads": {},
    "machines": {},
}
PULUMI = f"""
case "$*" in
  *"stack output"*) echo '{json.dumps({"topology": TOPOLOGY, "drawing": "flowchart LR"})}' ;;
  *"stack ls"*) echo '[{{"name": "gcp"}}, {{"name": "organization/hybrid-mesh/pr-7"}}, {{"name": "pr-8"}}]' ;;
  *"stack export"*) echo "${{STATE:-}}" ;;
  *"preview"*"--json"*) echo '{{"steps": []}}' ;;
  *) echo "pulumi says something" ;;
esac
[ -z "${{FAIL:-}}" ] || [[ "$*" != *"$FAIL"* ]] || {{ echo "${{SAYS:-}}" >&2; exit 1; }}
"""


def steps() -> list[Any]:
    """Every step with a script, by file, job and name."""
    found = []
    for file in FILES:
        document = yaml.safe_load(file.read_text())
        jobs = document.get("jobs") or {file.parent.name: document["runs"]}
        for job, content in jobs.items():
            for step in content["steps"]:
                if "run" in step:
                    name = f"{file.stem if 'jobs' in document else 'action'}-{job}-{step['name']}"
                    found.append(pytest.param(step, id=name))
    return found


@dataclass(frozen=True)
class Done:
    """How a step ended, and what it said."""

    returncode: int
    said: str


@dataclass
class Runner:
    """A checkout, and programs of ours first on PATH."""

    checkout: Path
    bin: Path
    github: FakeGithub
    looked_at: list[str] = field(default_factory=list)
    """Stacks whose machines were looked at."""
    refusal: str = ""
    """Why they cannot be looked at."""

    def run(self, step: dict[str, Any], **env: str) -> Done:
        """A step's script as GitHub runs it; what it starts of Python runs in this process, which is quicker."""
        given = {key: self._value(str(value)) for key, value in (step.get("env") or {}).items()}
        environment = {
            "PATH": os.pathsep.join([str(self.bin), os.environ["PATH"]]),
            "HOME": str(self.checkout),
            "GITHUB_API_URL": self.github.api,
            "GITHUB_REPOSITORY": "o/r",
            **given,
            **env,
        }
        arguments = self.checkout / "arguments"
        arguments.unlink(missing_ok=True)
        shell = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if shell.returncode != 0 or not arguments.exists():
            return Done(shell.returncode, shell.stdout + shell.stderr)
        dash, module, *rest = arguments.read_text().split("\0")[:-1]
        assert [dash, module] == ["-m", "ci"]
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
            patch.chdir(self.checkout)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["ci", *rest])
            patch.setattr(ci.__main__, "status", self._look)
            with pytest.raises(SystemExit) as ended:
                main()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, said.getvalue())

    def _look(self, stack: str) -> None:
        self.looked_at.append(stack)
        if self.refusal:
            raise ClusterError(self.refusal)

    def _value(self, text: str) -> str:
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: VALUES.get(found[1], "x"), text)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    checkout, folder = tmp_path / "checkout", tmp_path / "bin"
    checkout.mkdir()
    folder.mkdir()
    for entry in PROJECT_ROOT.iterdir():
        if entry.name == ".github" or not entry.name.startswith(("Pulumi.", ".venv", ".kube", ".git", ".lab")):
            (checkout / entry.name).symlink_to(entry)
    (checkout / ".venv" / "bin").mkdir(parents=True)
    program(checkout / ".venv" / "bin", "python", 'printf "%s\\0" "$@" > arguments')
    (checkout / "Pulumi.gcp.yaml").write_text((PROJECT_ROOT / "Pulumi.dev.yaml").read_text())
    write_files(checkout)
    program(folder, "pulumi", PULUMI)
    program(folder, "gcloud", 'echo kubeconfig > "$KUBECONFIG"')
    program(folder, "make", "true")
    pip = ".venv/bin/pip"
    program(folder, "python3", f'mkdir -p .venv/bin; printf "#!/bin/sh\\nexit 0\\n" > {pip}; chmod +x {pip}')
    with github() as fake:
        yield Runner(checkout, folder, fake)


def the(name: str) -> dict[str, Any]:
    (found,) = [param.values[0] for param in steps() if param.id == name]
    return dict(found)


@pytest.mark.parametrize("step", steps())
def test_each_step_s_script_runs(runner: Runner, step: dict[str, Any]) -> None:
    (runner.checkout / "preview.md").write_text("<!-- hybrid-mesh preview of gcp -->")
    done = runner.run(step)
    assert done.returncode == 0, done.said
    assert calls(runner.bin) or runner.github.asked


def test_a_preview_becomes_the_comment(runner: Runner) -> None:
    assert runner.run(the("pull-request-preview-Preview")).returncode == 0
    assert "--policy-pack policy --policy-pack-config policy/config.json" in "\n".join(calls(runner.bin))
    for _ in range(2):
        assert runner.run(the("pull-request-preview-Comment")).returncode == 0
    (comment,) = runner.github.comments[7]
    assert "### Preview of `gcp`" in comment["body"]


def test_a_preview_of_a_stack_whose_outputs_nobody_tells_is_commented_on_all_the_same(runner: Runner) -> None:
    done = runner.run(the("pull-request-preview-Preview"), FAIL="stack output")
    assert done.returncode == 0, done.said
    said = (runner.checkout / "preview.md").read_text()
    assert said.count("```mermaid") == 1, "the mesh as it will be"


def test_a_preview_that_fails_fails_the_step_without_a_comment(runner: Runner) -> None:
    done = runner.run(the("pull-request-preview-Preview"), FAIL="--json")
    assert done.returncode == 1
    assert "Error: pulumi preview" in done.said
    assert not (runner.checkout / "preview.md").exists()


def test_a_preview_that_a_policy_refuses_is_commented_on_and_fails_the_step(runner: Runner) -> None:
    refused = "Policies:\n    - [mandatory]  strict-mtls"
    program(runner.bin, "pulumi", PULUMI.replace("pulumi says something", refused))
    assert runner.run(the("pull-request-preview-Preview"), FAIL="--diff").returncode == 1
    assert "❌ A policy refuses this" in (runner.checkout / "preview.md").read_text()


def test_a_preview_that_fails_under_the_policies_for_another_reason_has_no_comment(runner: Runner) -> None:
    done = runner.run(the("pull-request-preview-Preview"), FAIL="--diff", SAYS="error: no such policy pack")
    assert (done.returncode, "Error: pulumi says something\nerror: no such policy pack" in done.said) == (1, True)
    assert not (runner.checkout / "preview.md").exists()


def test_an_update_is_under_the_policies_and_looks_at_the_machines(runner: Runner) -> None:
    assert runner.run(the("up-up-Up")).returncode == 0
    called = calls(runner.bin)
    assert any(" up --stack gcp --yes --diff --policy-pack policy" in call for call in called)
    assert runner.looked_at == ["gcp"]
    failed = runner.run(the("up-up-Up"), FAIL=" up ", SAYS="vm-7 is not ready")
    assert failed.returncode == 1
    assert "Error: pulumi up --stack gcp " in failed.said
    assert "ended with 1:\npulumi says something\nvm-7 is not ready" in failed.said
    assert runner.looked_at == ["gcp"], "what failed is not looked at"


def test_an_update_that_takes_too_long_is_stopped_and_what_it_said_is_shown(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        runner.bin, "pulumi", "trap 'echo ended in order; exit 1' INT\necho mesh-vm-1-ready updated\nsleep 2 & wait"
    )
    monkeypatch.setattr(ci.engine, "LEAST_SECONDS", 0.5)
    monkeypatch.setattr(ci.engine, "_BEGUN", time.monotonic() - 90 * 60)
    done = runner.run(the("up-up-Up"), GITHUB_WORKFLOW_REF=ref("up"), GITHUB_JOB="up")
    assert done.returncode == 1
    assert "mesh-vm-1-ready updated\nended in order\n\n`pulumi up` did not end within" in done.said
    assert "`python -m hybridmesh recover`" in done.said
    assert runner.looked_at == []


def test_a_preview_that_takes_too_long_shows_what_it_said(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [{"severity": "warning", "message": "warning: vm-7?\n"}, {"severity": "error", "message": "canceled\n"}]
    document = runner.bin / "document"
    document.write_text(json.dumps({"diagnostics": said}))
    program(runner.bin, "pulumi", f"trap 'cat {document}; exit 1' INT\necho no proxy >&2\nsleep 2 & wait")
    monkeypatch.setattr(ci.engine, "LEAST_SECONDS", 0.5)
    monkeypatch.setattr(ci.engine, "_BEGUN", time.monotonic() - 90 * 60)
    env = {"GITHUB_WORKFLOW_REF": ref("pull-request"), "GITHUB_JOB": "preview"}
    done = runner.run(the("pull-request-preview-Preview"), **env)
    assert done.returncode == 1
    assert "Error: warning: vm-7?\ncanceled\nno proxy\n`pulumi preview` did not end within" in done.said
    assert runner.github.comments == {}


def ref(workflow: str) -> str:
    return f"o/r/.github/workflows/{workflow}.yml@refs/heads/main"


def test_pulumi_s_limit_is_the_job_s_less_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT_ROOT)
    monkeypatch.setattr(ci.engine, "_BEGUN", time.monotonic() - 60)
    monkeypatch.delenv("GITHUB_WORKFLOW_REF", raising=False)
    assert ci.engine.seconds_left() == ci.engine.SECONDS
    for name, job, minutes in (("up", "up", 90), ("mesh", "down", 60), ("pull-request", "preview", 30)):
        monkeypatch.setenv("GITHUB_WORKFLOW_REF", ref(name))
        monkeypatch.setenv("GITHUB_JOB", job)
        assert ci.engine.seconds_left() == pytest.approx((minutes - 15 - 1) * 60, abs=5)
    stopping = sum(seconds for _, seconds in ENDING_SECONDS)
    assert stopping < ci.engine.MARGIN_SECONDS / 2, "it ends before GitHub ends the job"


def test_drift_opens_an_issue_and_fails(runner: Runner) -> None:
    assert runner.run(the("nightly-drift-Drift")).returncode == 0
    assert runner.github.issues == []
    for said in (
        "error: no changes were expected for preview but changes were proposed",
        "error: no changes were expected but changes were proposed",
    ):
        runner.github.issues.clear()
        assert runner.run(the("nightly-drift-Drift"), FAIL="--refresh", SAYS=said).returncode == 1
        assert [issue["title"] for issue in runner.github.issues] == ["Drift in gcp"]


def test_of_much_drift_the_end_is_told_as_far_as_github_takes_it(runner: Runner) -> None:
    said = f"{'x' * 70_000}\nerror: no changes were expected but changes were proposed"
    assert runner.run(the("nightly-drift-Drift"), FAIL="--refresh", SAYS=said).returncode == 1
    (issue,) = runner.github.issues
    assert len(issue["body"]) < 65_536
    assert "no changes were expected" in issue["body"]


def test_what_an_earlier_update_left_is_drift(runner: Runner) -> None:
    left = {"urn": "urn:pulumi:gcp::hybrid-mesh::pulumi-python:dynamic:Departure::mesh-vm-1-departure", "delete": True}
    state = json.dumps({"deployment": {"resources": [left]}})
    assert runner.run(the("nightly-drift-Drift"), STATE=state).returncode == 1
    (issue,) = runner.github.issues
    assert "- Departure mesh-vm-1-departure: what an earlier run could not remove" in issue["body"]


def test_a_preview_that_fails_is_no_drift(runner: Runner) -> None:
    login = "error: PULUMI_ACCESS_TOKEN must be set for login during non-interactive CLI sessions"
    done = runner.run(the("nightly-drift-Drift"), FAIL="--refresh", SAYS=login)
    assert (done.returncode, runner.github.issues) == (1, [])
    assert f"{login}\n\nError: the preview of gcp failed, as said above" in done.said


@pytest.mark.parametrize("name", ["up-up-Up", "nightly-drift-Drift", "mesh-up-Up", "nightly-sweep-Sweep"])
def test_without_pulumi_the_error_says_how_to_get_it(runner: Runner, name: str) -> None:
    (runner.bin / "pulumi").unlink()
    done = runner.run(the(name), PATH=f"{runner.bin}:/usr/bin:/bin")
    assert (done.returncode, done.said.partition(". ")[0]) == (1, "Error: pulumi is not on PATH")
    assert runner.github.issues == []


@pytest.mark.parametrize(
    ("text", "why"), [(None, "cannot be read"), ("a: [", "cannot be read"), ("a: b", "has no `config`")]
)
def test_a_base_that_is_no_stack_file_is_said(runner: Runner, text: str | None, why: str) -> None:
    file = runner.checkout / "Pulumi.gcp.yaml"
    file.unlink()
    if text is not None:
        file.write_text(text)
    done = runner.run(the("mesh-up-Up"))
    assert done.returncode == 1
    assert "Pulumi.gcp.yaml" in done.said
    assert why in done.said
    assert calls(runner.bin) == []


def test_a_cluster_that_does_not_answer_after_an_update_is_said(runner: Runner) -> None:
    runner.refusal = "the API server did not answer"
    done = runner.run(the("up-up-Up"))
    assert (done.returncode, "Error: the API server did not answer" in done.said) == (1, True)


def test_a_pull_request_s_mesh_has_names_of_its_own(runner: Runner) -> None:
    base = runner.checkout / "Pulumi.gcp.yaml"
    base.write_text(f"{base.read_text()}\n  gcp:project: ours\n")
    assert runner.run(the("mesh-up-Up")).returncode == 0
    content = (runner.checkout / "Pulumi.pr-7.yaml").read_text()
    assert "demo-pr-7" in content
    assert "vm-2-pr-7" in content
    assert "gcp:project: ours" in content, "what is said to others stays"
    assert any("stack select --create pr-7" in call for call in calls(runner.bin))


def test_a_closed_pull_request_s_mesh_goes_and_with_it_its_stack(runner: Runner) -> None:
    file = runner.checkout / "Pulumi.pr-7.yaml"
    file.write_text("config: {}\n")
    assert runner.run(the("mesh-down-Down")).returncode == 0
    called = "\n".join(calls(runner.bin))
    assert called.index("destroy --stack pr-7") < called.index("stack rm --stack pr-7")
    assert not file.exists()


def test_the_sweep_takes_down_what_is_closed_and_nothing_else(runner: Runner) -> None:
    runner.github.open, runner.github.unlabelled = [8], [7]
    assert runner.run(the("nightly-sweep-Sweep")).returncode == 0
    destroyed = [call for call in calls(runner.bin) if " destroy " in call]
    assert len(destroyed) == 1
    assert "--stack pr-7" in destroyed[0]


def test_one_mesh_that_does_not_go_keeps_no_other_and_fails_the_sweep(runner: Runner) -> None:
    done = runner.run(the("nightly-sweep-Sweep"), FAIL="destroy --stack pr-7")
    assert done.returncode == 1
    assert "not removed: pr-7" in done.said
    assert any("destroy --stack pr-8" in call for call in calls(runner.bin))


def test_a_sweep_whose_time_is_over_begins_with_no_other_and_fails(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ci.engine, "_BEGUN", time.monotonic() - 90 * 60)
    done = runner.run(the("nightly-sweep-Sweep"), GITHUB_WORKFLOW_REF=ref("nightly"), GITHUB_JOB="sweep")
    assert (done.returncode, "not removed: pr-7, pr-8" in done.said) == (1, True), done.said
    assert not [call for call in calls(runner.bin) if " destroy " in call]


def test_the_stack_that_owns_istio_is_no_pull_request_s(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runner.checkout)
    monkeypatch.setenv("PATH", str(runner.bin), prepend=os.pathsep)
    monkeypatch.setattr(sys, "argv", ["ci", "mesh-down", "7", "--base", "pr-7"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().err) == (1, "Error: pr-7 is no base.\n")
    assert not [call for call in calls(runner.bin) if " destroy " in call]


def test_without_github_the_sweep_destroys_nothing(runner: Runner) -> None:
    runner.github.refuses = 500
    assert runner.run(the("nightly-sweep-Sweep")).returncode == 1
    assert not [call for call in calls(runner.bin) if " destroy " in call]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_actions_are_pinned_by_commit_and_scripts_take_values_from_their_environment(file: Path) -> None:
    for uses in re.findall(r"uses: (.*)", file.read_text()):
        assert uses.startswith("./") or re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", uses), uses
    for param in steps():
        # A value that is put into a script's text could be a script.
        assert "${{" not in param.values[0]["run"]
    assert "pull_request_target" not in file.read_text()


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_jobs_may_do_no_more_than_they_need(file: Path) -> None:
    document = yaml.safe_load(file.read_text())
    assert document["permissions"] == {}
    for name, job in document["jobs"].items():
        assert job["timeout-minutes"] <= 90
        assert job["permissions"]["contents"] == "read"
        for permission, level in job["permissions"].items():
            assert level == "read" or permission == "id-token" or (file.stem, name, permission) in MAY_WRITE
        cloud = "PULUMI_CONFIG_PASSPHRASE" in str(job.get("env"))
        assert cloud == ("id-token" in job["permissions"]) == ("environment" in job)
        if document[True] and "pull_request" in document[True] and cloud:
            assert "head.repo.full_name == github.repository" in job["if"], "a fork gets no credentials"
        checkout = next(step for step in job["steps"] if "actions/checkout" in step.get("uses", ""))
        assert checkout["with"] == {"persist-credentials": False}


def test_a_kubeconfig_finds_the_program_that_it_calls() -> None:
    action = yaml.safe_load((PROJECT_ROOT / ".github" / "actions" / "setup" / "action.yml").read_text())
    *before, last = action["runs"]["steps"]
    assert "-m ci kubeconfig" in last["run"]
    (gcloud,) = (step for step in before if "setup-gcloud" in step.get("uses", ""))
    assert (gcloud["with"], gcloud["if"]) == ({"install_components": "gke-gcloud-auth-plugin"}, last["if"])


def test_a_kubeconfig_that_gcloud_does_not_write_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig = tmp_path / "kubeconfig.gcp"
    monkeypatch.setattr(ci.__main__, "GCLOUD_SECONDS", 0.5)
    monkeypatch.setattr(
        sys, "argv", ["ci", "kubeconfig", str(kubeconfig), "--cluster", "mesh", "--location", "europe-west3"]
    )
    for gcloud, said in (
        (None, "gcloud is not here, so that"),
        ("exit 3", "gcloud ended with 3, so that"),
        ("exec /bin/sleep 5", "gcloud did not end within 0.5 s, so that"),
    ):
        if gcloud:
            program(tmp_path, "gcloud", gcloud)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if gcloud else str(tmp_path))
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        error = capsys.readouterr().err
        assert error.startswith(f"Error: {said} {kubeconfig} was not written")
        assert "Fix: " in error


def test_a_file_that_is_not_there_is_told_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with github() as fake:
        for name, value in (("REPOSITORY", "o/r"), ("TOKEN", TOKEN), ("API_URL", fake.api)):
            monkeypatch.setenv(f"GITHUB_{name}", value)
        missing = tmp_path / "preview.md"
        monkeypatch.setattr(
            sys, "argv", ["ci", "publish", "--stack", "gcp", "--pull-request", "7", "--file", str(missing)]
        )
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert str(missing) in error


def test_nothing_that_a_step_prints_is_a_command_to_github(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ci", "mesh-down", "7", "--base", "gcp"])
    monkeypatch.setattr(ci.__main__, "stacks", lambda: print("  ::add-mask::a") or [])
    said = []
    for here in ("true", "true", ""):
        monkeypatch.setenv("GITHUB_ACTIONS", here)
        with pytest.raises(SystemExit):
            main()
        said.append(capsys.readouterr().out.splitlines())
    words = [re.findall(r"^::stop-commands::([0-9a-f]{32})$", lines[0]) for lines in said]
    assert [len(found) for found in words] == [1, 1, 0]
    assert words[0] != words[1], "one that can be told beforehand stops nothing"
    assert not [line for line in said[0][1:] if words[0][0] in line], "whoever reads it could go on"
    assert said[2] == ["  ::add-mask::a", "pr-7: there is none"]


def workflow(name: str) -> dict[Any, Any]:
    return dict(yaml.safe_load((PROJECT_ROOT / ".github" / "workflows" / f"{name}.yml").read_text()))


def test_two_runs_never_change_one_stack_at_once() -> None:
    """By job: GitHub keeps one run of a group waiting, the newest, also one of which each job is skipped."""
    groups = {
        ("up", "up"): "stack-${{ matrix.stack }}",
        ("mesh", "up"): "mesh-${{ github.event.pull_request.number }}",
        ("mesh", "down"): "mesh-${{ github.event.pull_request.number }}",
    }
    for (name, job), group in groups.items():
        assert "concurrency" not in workflow(name)
        assert workflow(name)["jobs"][job]["concurrency"] == {"group": group, "cancel-in-progress": False}


def test_a_look_never_takes_the_place_of_an_update_that_waits() -> None:
    assert workflow("nightly")["jobs"]["drift"]["concurrency"]["group"] == "drift-${{ matrix.stack }}"


EVENTS: list[tuple[str, str, list[str], str | None, bool, bool]] = [
    # action, state, labels, the label that came or went, whether a mesh goes up, whether it goes down
    ("labeled", "open", ["mesh"], "mesh", True, False),
    ("labeled", "open", ["mesh", "bug"], "bug", False, False),
    ("labeled", "open", ["bug"], "bug", False, False),
    ("labeled", "closed", ["mesh", "released"], "released", False, False),
    ("labeled", "closed", ["mesh"], "mesh", False, False),
    ("unlabeled", "open", [], "mesh", False, True),
    ("unlabeled", "open", ["mesh"], "bug", False, False),
    ("synchronize", "open", ["mesh"], None, True, False),
    ("synchronize", "open", [], None, False, False),
    ("reopened", "open", ["mesh"], None, True, False),
    ("closed", "closed", ["mesh"], None, False, True),
    ("closed", "closed", [], None, False, True),
]


@pytest.mark.parametrize("fork", [False, True])
@pytest.mark.parametrize("event", EVENTS, ids=[f"{e[0]}-{e[1]}-{'+'.join(e[2])}-{e[3]}" for e in EVENTS])
def test_a_mesh_goes_up_for_its_label_and_down_without(
    event: tuple[str, str, list[str], str | None, bool, bool], fork: bool
) -> None:
    action, state, labels, label, up, down = event
    known = {
        "github.repository": "o/r",
        "github.event.action": action,
        "github.event.label.name": label,
        "github.event.pull_request.state": state,
        "github.event.pull_request.labels.*.name": labels,
        "github.event.pull_request.head.repo.full_name": "fork/r" if fork else "o/r",
    }
    for job, wanted in (("up", up), ("down", down)):
        condition = workflow("mesh")["jobs"][job]["if"].replace("&&", "and").replace("||", "or")
        python = re.sub(r"github[.\w*]+", lambda name: repr(known[name[0]]), " ".join(condition.split()))
        assert eval(python, {"contains": lambda many, one: one in many}) is (wanted and not fork), job


@pytest.mark.lab
def test_actionlint_finds_nothing() -> None:
    linter = toolchain.installed(["actionlint"]).bin_dir / "actionlint"
    done = subprocess.run([str(linter)], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
