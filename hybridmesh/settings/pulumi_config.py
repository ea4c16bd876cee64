"""The adapter for the program: settings from `pulumi.Config`."""

import json
from pathlib import Path
from typing import Any

import pulumi.runtime.config

from .files import read_below
from .findings import NAMESPACE
from .models import Settings
from .parser import parse, sections_in


def from_pulumi_config(root: Path) -> Settings:
    """The settings of the selected stack; files are read relative to `root`. Raises `SettingsError`.

    Pulumi hands every value over as text, secrets decrypted and objects as JSON. It has no public way to list
    the keys, which it takes to find a section whose name is misspelt.
    """
    prefix = f"{NAMESPACE}:"
    config = {**pulumi.runtime.config.get_config_env(), **pulumi.runtime.config.CONFIG.get()}
    sections = {section: _decoded(text) for section, text in sections_in(config).items()}
    # What `pulumi up` says is in the environment alone, what a provider is told in the module.
    secret = set(pulumi.runtime.config.get_config_secret_keys_env())
    decrypted = {
        key.removeprefix(prefix) for key in config if key in secret or pulumi.runtime.config.is_config_secret(key)
    }
    return parse(sections, read_below(root), decrypted)


def _decoded(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
