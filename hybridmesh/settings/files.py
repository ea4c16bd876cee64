"""The adapter for the console: settings from `Pulumi.<stack>.yaml`, with no Pulumi about."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from .findings import NAMESPACE, Finding, SettingsError
from .models import Settings
from .parser import parse


def read_below(root: Path) -> Callable[[str], str]:
    """Reads text files by their path relative to `root`; `~` is the home folder."""

    def read(path: str) -> str:
        return (root / Path(path).expanduser()).read_text(encoding="utf-8")

    return read


def from_stack_file(file: Path, root: Path | None = None) -> Settings:
    """The settings in a stack file. Raises `SettingsError`, also for a file that is no stack file.

    `root`: what paths in it are relative to, the project's root; default the file's own folder.

    Values that Pulumi has encrypted (`secure:`) stay as they are, for only Pulumi can decrypt them: they pass
    as texts, and are of no use.
    """
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError([_unusable(file, f"cannot be read: {' '.join(str(error).split())}")]) from error
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise SettingsError([_unusable(file, "has no `config`")])
    prefix = f"{NAMESPACE}:"
    sections = {
        str(key).removeprefix(prefix): _without_ciphertext(value)
        for key, value in config.items()
        if str(key).startswith(prefix)
    }
    return parse(sections, read_below(root or file.parent))


def _without_ciphertext(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"secure"}:
            return "PRIVATE KEY (encrypted)"
        return {k: _without_ciphertext(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_ciphertext(v) for v in value]
    return value


def _unusable(file: Path, problem: str) -> Finding:
    return Finding("", file.name, problem, "There would be no settings.", "a Pulumi stack file with `config:`.")
