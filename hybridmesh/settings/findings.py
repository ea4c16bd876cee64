"""What is wrong with a stack's settings, said so that a person can put it right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from hybridmesh.legible import legible

NAMESPACE = "hybrid-mesh"
"""The namespace of every key in `Pulumi.<stack>.yaml`."""


@dataclass(frozen=True)
class Finding:
    """One wrong value."""

    path: str
    """Where it is, as in the stack file: `workloads.echo.ports[0].port`. Empty: it is the file that `value` names."""
    value: str
    """What is there, as YAML would show it; secrets are starred out. Empty: nothing is there."""
    problem: str
    """What is wrong with it."""
    consequence: str
    """What would happen with it."""
    fix: str
    """What to write instead."""

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value else ""
        where = f"{NAMESPACE}:{self.path}{shown}" if self.path else self.value
        text = f"{where}: {self.problem}. {self.consequence} Fix: {self.fix}"
        # A key may be any text, and this is one line.
        return legible(text).replace("\n", "\\n").replace("\t", "\\t")


class SettingsError(ValueError):
    """The settings of a stack cannot be used. Carries every finding, not just the first."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        count = "1 setting is wrong" if len(findings) == 1 else f"{len(findings)} settings are wrong"
        super().__init__("\n".join([f"{count}; nothing was touched.", *(f"  {f}" for f in findings)]))


def one_of(path: str, model: BaseModel, names: Sequence[str]) -> Iterator[Finding]:
    """A finding, unless exactly one of these fields is given."""
    aliases = [type(model).model_fields[n].alias or n for n in names]
    given = [a for n, a in zip(names, aliases, strict=True) if getattr(model, n) is not None]
    if len(given) != 1:
        problem = f"has {' and '.join(given)}" if given else "has none of them"
        yield Finding(
            path,
            "",
            f"{problem}; it takes exactly one of {', '.join(aliases)}",
            "It would be unclear which one counts.",
            f"give one of {', '.join(aliases)}.",
        )
