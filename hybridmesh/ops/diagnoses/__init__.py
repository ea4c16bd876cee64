"""What can be wrong with a machine or its mesh, how that is seen, and what to do. Pure: facts in, findings out.

Each diagnosis has an entry of its id in docs/runbook.md, and is provoked on the embedded environment by
tests/e2e/test_doctor.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from . import identity, in_mesh, machine, way
from .model import Case, Diagnosis, Finding, Found, Severity

__all__ = ["BY_ID", "DIAGNOSES", "Case", "Diagnosis", "Finding", "Found", "Severity", "diagnose"]

DIAGNOSES = (*machine.DIAGNOSES, *way.DIAGNOSES, *identity.DIAGNOSES, *in_mesh.DIAGNOSES)
"""Every diagnosis."""

BY_ID = {diagnosis.id: diagnosis for diagnosis in DIAGNOSES}


def diagnose(cases: Sequence[Case], stack: Case, *, mesh_is_known: bool = True) -> list[Finding]:
    """All findings, the worst first; consequences of another finding are left out.

    Args:
        cases: the machines to look at.
        stack: the case for what concerns no single machine; its name is of no importance.
        mesh_is_known: whether Kubernetes has answered; without it nothing is said by what it says.
    """
    possible = [d for d in DIAGNOSES if mesh_is_known or d not in in_mesh.DIAGNOSES]
    found = [finding for case in cases for finding in _of(case, [d for d in possible if not d.of_stack])]
    found += [f.model_copy(update={"machine": ""}) for f in _of(stack, [d for d in possible if d.of_stack])]
    order = {severity: place for place, severity in enumerate(("critical", "warning", "note"))}
    # A machine follows one istiod: that another one is down is no reason of its trouble.
    reasons = [f for f in found if f.id != "istiod-down" or not any(stack.mesh.istiods.values())]
    return sorted(
        (finding for finding in found if not _is_explained(finding, reasons)),
        key=lambda finding: (order[finding.severity], finding.machine),
    )


def _of(case: Case, diagnoses: Iterable[Diagnosis]) -> Iterator[Finding]:
    for diagnosis in diagnoses:
        if case.facts is not None and diagnosis.needs & case.facts.unread:
            continue
        for found in diagnosis.check(case):
            yield Finding(
                id=diagnosis.id,
                severity=found.severity or diagnosis.severity,
                machine=case.name,
                what=found.what,
                evidence=found.evidence,
                remedy=found.remedy or diagnosis.remedy,
                runbook=f"docs/runbook.md#{diagnosis.id}",
            )


def _is_explained(finding: Finding, reasons: Sequence[Finding]) -> bool:
    ids = BY_ID[finding.id].explained_by
    return any(reason.id in ids and reason.machine in (finding.machine, "") for reason in reasons)
