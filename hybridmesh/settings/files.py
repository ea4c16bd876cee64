"""The adapter for the console: settings from `Pulumi.<stack>.yaml`, with no Pulumi about."""

import errno
import re
from pathlib import Path
from typing import Any

import yaml

from hybridmesh.istio.nested import at

from .encrypted import encrypted_places, shown, without_ciphertext
from .findings import Finding, SettingsError
from .models import Settings
from .parser import ReadFile, encrypted_findings, parse, sections_in

_NAMED = re.compile(r"\b(alias|anchor|tag|handle) ['\"].*", re.DOTALL)
"""What YAML takes a text without quotes for, which may be a passphrase, and what it was."""


def read_below(root: Path) -> ReadFile:
    """Reads text files by their path relative to `root`; `~` is the home folder."""

    def read(path: str) -> str:
        try:
            return (root / Path(path).expanduser()).read_text(encoding="utf-8")
        except (RuntimeError, ValueError) as error:
            if isinstance(error, UnicodeDecodeError):
                raise
            # A user that is not here, and a path that none can be.
            raise OSError(errno.ENOENT, str(error)) from None

    return read


def stack_file(stack: str) -> Path:
    """Where Pulumi keeps a stack's settings, below the project's root; its name may have organization and project."""
    return Path(f"Pulumi.{stack.rpartition('/')[2]}.yaml")


def from_stack_file(file: Path, root: Path | None = None) -> Settings:
    """The settings in a stack file. Raises `SettingsError`, also for a file that is no stack file.

    `root`: what paths in it are relative to, the project's root; default the file's own folder.

    Values that Pulumi has encrypted (`secure:`) stay as they are, for only Pulumi can decrypt them: they pass
    as texts, and are of no use.
    """
    return parse(without_ciphertext(sections_of(file)), read_below(root or file.parent))


def findings_in_stack_file(file: Path, root: Path | None = None) -> tuple[Finding, ...]:
    """Everything that is wrong with a stack file. Arguments as above; a key that is encrypted is taken for good."""
    try:
        sections = sections_of(file)
    except SettingsError as error:
        return error.findings
    return findings_in(sections, read_below(root or file.parent))


def findings_in(sections: dict[str, Any], read_file: ReadFile) -> tuple[Finding, ...]:
    """Everything that is wrong with sections of a stack file; a key that Pulumi has encrypted is taken for good."""
    places = list(encrypted_places(sections))
    plain, unknown = without_ciphertext(sections), {shown(place) for place in places}
    found = list(encrypted_findings(plain, places))
    try:
        parse(plain, read_file)
    except SettingsError as error:
        found += [finding for finding in error.findings if not _below(finding.path, unknown)]
    return tuple(dict.fromkeys(found))


def sections_of(file: Path) -> dict[str, Any]:
    """A stack file's settings as they are written, by section. Raises `SettingsError` for what is no stack file."""
    return sections_in(stack_document(file)["config"])


def stack_document(file: Path) -> dict[str, Any]:
    """All that a stack file says. Raises `SettingsError` for what is no stack file."""
    try:
        document: Any = yaml.load(file.read_text(encoding="utf-8"), _EachKeyOnce)
    except yaml.YAMLError as error:
        raise SettingsError([_unusable(file, f"cannot be read: {_reason(error)}", "put that line right.")]) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a text file"
        raise SettingsError([_unusable(file, f"cannot be read: {reason}")]) from error
    except ValueError:  # PyYAML's: a date with a month 13, hexadecimal digits that are none
        reason = "what looks like a date or a number there is none"
        raise SettingsError([_unusable(file, f"cannot be read: {reason}", "put that value in quotes.")]) from None
    config = at(document, "config")
    if not isinstance(config, dict):
        raise SettingsError([_unusable(file, "has no `config`")])
    return dict(document)


class _EachKeyOnce(yaml.SafeLoader):
    """Refuses what Pulumi refuses, and YAML takes: of a key that stands twice all but the last would be lost."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"`{key.value}` stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return node


def _reason(error: yaml.YAMLError) -> str:
    """What YAML found and where, without the line itself: it may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    problem = _NAMED.sub(r"\1", getattr(error, "problem", None) or "not YAML")
    return f"{problem}, line {mark.line + 1}" if mark is not None else problem


def _below(path: str, roots: set[str]) -> bool:
    return any(path == root or path.startswith((f"{root}.", f"{root}[")) for root in roots)


def _unusable(file: Path, problem: str, fix: str = "a Pulumi stack file with `config:`.") -> Finding:
    return Finding("", file.name, problem, "There would be no settings.", fix)
