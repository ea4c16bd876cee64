"""The adapter for the program: settings from `pulumi.Config`."""

import json
from pathlib import Path
from typing import Any

import pulumi.runtime.config

from .files import read_below
from .findings import NAMESPACE
from .models import Settings
from .parser import parse


def from_pulumi_config(root: Path) -> Settings:
    """The settings of the selected stack; files are read relative to `root`. Raises `SettingsError`.

    Pulumi hands every value over as text, secrets decrypted and objects as JSON. It has no public way to list
    the keys, which it takes to find a section whose name is misspelt.
    """
    prefix = f"{NAMESPACE}:"
    config = {**pulumi.runtime.config.get_config_env(), **pulumi.runtime.config.CONFIG.get()}
    sections = {key.removeprefix(prefix): _decoded(text) for key, text in config.items() if key.startswith(prefix)}
    return parse(sections, read_below(root))


def _decoded(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
