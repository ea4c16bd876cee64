"""That a VM was looked at, and found good, before anything is done to any VM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from hybridmesh.remote import ANOTHER_RAN, ANOTHER_RAN_FIX, COMMAND_PREFLIGHT, PREFLIGHT_SCRIPTS, has_run, payload
from hybridmesh.remote.preflight import Found, findings_in, notes_in, twins, who_in

from .cluster import load_ahead
from .inputs import changed, is_unknown, text
from .packs import pack, takes_packs
from .reach import ask
from .scripts import were_brought

LOOK_SECONDS = 90
"""Limit for all that preflight.sh looks at, the wait for the gateway apart: each look has a limit of its own."""
WHO = "who"
"""The output, and the verdict's input, that tells machines from each other: words that say nothing to a reader."""
_WAIT = "gateway-timeout-seconds"
_NOTED = ("connection", "settings", "dialSeconds", "dialAttempts")


class PreflightError(RuntimeError):
    """VMs that would not join. The message names each, and has all findings."""


@takes_packs
class PreflightProvider(ResourceProvider):
    """Looks when it is made, and again when what it looks at, or the way there, is another. Changes nothing.

    It succeeds whatever it finds, so that the engine goes on to look at the other VMs; `VerdictProvider` is who fails.
    """

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Looks."""
        return CreateResult(f"preflight-of-{props['machine']}", {**props, **look(props)})

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Whether to look: at something else, or again, for last time there was a finding. Other limits are noted."""
        return DiffResult(changes=bool(olds.get("findings")) or bool(changed(olds, news, _NOTED)))

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Looks again, if there is a reason to."""
        again = bool(olds.get("findings")) or _looked_at(olds) != _looked_at(news)
        return UpdateResult({**news, **(look(news) if again else {"findings": [], WHO: olds.get(WHO)})})


class VerdictProvider(ResourceProvider):
    """Fails if any VM has a finding, or is one with another, with all findings of all VMs."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """All are good, or none is changed."""
        judge(props)
        return CreateResult("preflights", props)

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Whether there are findings, or other VMs."""
        # Where it is not known yet who they are, nor are their findings, but for VMs that earlier versions looked at.
        known = () if is_unknown(news.get(WHO)) else (WHO,)
        return DiffResult(changes=bool(changed(olds, news, ("findings", *known))))

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """As at first."""
        judge(news)
        return UpdateResult(news)


def _looked_at(props: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
    """The way to the VM, and what is looked at there; limits apart."""
    return props["connection"], {name: value for name, value in props["settings"].items() if name != _WAIT}


def judge(props: Mapping[str, Any]) -> None:
    """Raises PreflightError if there is a finding."""
    same = {name: [_line(twin)] for name, twin in twins(json.loads(props.get(WHO) or "{}")).items()}
    both = {name: [*lines, *same.get(name, ())] for name, lines in sorted(props["findings"].items())}
    found = {name: lines for name, lines in both.items() if lines}
    if not found:
        return
    count = sum(len(lines) for lines in found.values())
    head = f"{_count(count, 'finding')} on {len(found)} of {_count(len(props['findings']), 'VM')}"
    lines = [f"  {name}: {line}" for name, lines in found.items() for line in lines]
    raise PreflightError("\n".join([f"{head}. Nothing was changed on any VM.", *lines]))


def _count(number_of: int, what: str) -> str:
    return f"{number_of} {what}" if number_of == 1 else f"{number_of} {what}s"


def _line(found: Found) -> str:
    return f"{found.check}: {found.value}; {found.consequence}. Fix: {found.remedy}."


def look(props: Mapping[str, Any]) -> dict[str, Any]:
    """Look at the VM. Returns everything that would keep it out, a line each; one that cannot be looked at is that. And
    what tells the VM from others.

    A VM without a finding gets the scripts of a join by the same connection.
    """
    # Imported here, for it takes a third of a second, and programs import this package only to name its classes.
    from hybridmesh.ops.ssh import SshError

    load_ahead()
    machine = text(props, "machine")
    told = {**props["settings"], "machine": machine}
    stdin = payload({}, told, PREFLIGHT_SCRIPTS, bring=True)
    answer = ask(props, COMMAND_PREFLIGHT, stdin, LOOK_SECONDS + int(told.get(_WAIT, "30")))
    if isinstance(answer, SshError):
        return _looked(f"{answer.problem}. {answer.consequence} Fix: {answer.fix}")
    if answer.code == 0 and not has_run(answer.stderr):
        return _looked(f"{ANOTHER_RAN}. Nothing is known of the machine. Fix: {ANOTHER_RAN_FIX}.")
    for note in notes_in(answer.stderr):
        # The engine shows what a plugin prints.
        print(f"{machine}: {note}", flush=True)
    if answer.code == 0:
        were_brought(props)
        return _looked(who=who_in(answer.stderr))
    lines = [_line(found) for found in findings_in(answer.stderr)]
    said = answer.stderr.strip().splitlines()[-5:]
    return _looked(
        *(lines or [f"it could not be looked at, status {answer.code}: {' | '.join(said)}"]), who=who_in(answer.stderr)
    )


def _looked(*findings: str, who: str = "") -> dict[str, Any]:
    return {"findings": list(findings), WHO: who}


@dataclass(frozen=True, kw_only=True, slots=True)
class PreflightArgs:
    """Inputs of `PreflightCheck`."""

    machine: str
    """The VM's name in the settings."""
    ssh: pulumi.Input[str] = field(repr=False)
    """The way to it, as `Connection.packed` gives it."""
    settings: pulumi.Input[Mapping[str, str]]
    """What is looked at, as hybridmesh.remote.preflight.Preflight gives it."""


class PreflightCheck(Resource, name="Preflight"):
    """What of a VM would keep it from joining, as far as that can be seen without changing it."""

    findings: pulumi.Output[list[str]]
    """What was found, a line each; not known in the preview of an update."""
    who: pulumi.Output[str | None]
    """What tells the VM from others, words; none where a version looked that did not ask."""

    def __init__(self, name: str, args: PreflightArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            PreflightProvider(),
            name,
            {
                "machine": args.machine,
                "ssh": args.ssh,
                "looksAt": pulumi.Output.from_input(args.settings).apply(
                    lambda settings: pack("looksAt", {"settings": settings})
                ),
                "findings": None,
                WHO: None,
            },
            opts,
        )


class PreflightVerdict(Resource, name="Preflights"):
    """That no VM has a finding."""

    def __init__(
        self,
        name: str,
        findings: Mapping[str, pulumi.Input[list[str]]],
        who: Mapping[str, pulumi.Input[str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`findings`: of each VM, by its name. `who`: words by each of which one VM is told from all others."""
        told = pulumi.Output.all(**who).apply(lambda words: json.dumps(words, sort_keys=True))
        super().__init__(VerdictProvider(), name, {"findings": dict(findings), WHO: told}, opts)
