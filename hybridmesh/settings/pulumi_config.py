"""The adapter for the program: settings from `pulumi.Config`."""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pulumi
import pulumi.runtime.config

from .encrypted import Place, encrypted_places, is_written_so
from .files import read_below, stack_file
from .findings import NAMESPACE
from .lost import STACK_FILE_VARIABLE, sections_of_file
from .models import Settings
from .parser import parse, refuse_encrypted, sections_in


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
    places = list(_decrypted_places(root, sections, decrypted & sections.keys()))
    refuse_encrypted(sections, places)
    for section in (place[0] for place in places if len(place) == 1):
        # No warning: one of no resource is the engine's own to the console.
        pulumi.log.info(
            f"{prefix}{section}: something in it is encrypted, and nobody tells what. Only private keys and their "
            "passphrases are kept secret: anything else would be shown in plain text, in this preview, too. With "
            f"`--config-file`, name the file in {STACK_FILE_VARIABLE}, too; of an environment of Pulumi ESC see that "
            "it has no other secret there: docs/secrets.md."
        )
    return parse(sections, read_below(root), decrypted)


def _decrypted_places(root: Path, sections: Mapping[str, Any], decrypted: Collection[str]) -> Iterator[Place]:
    """Where something was encrypted. Pulumi tells the section alone, and the stack file more, if it is the one that
    the settings are from."""
    written: dict[str, Any] = {}
    if decrypted:
        file = os.environ.get(STACK_FILE_VARIABLE) or stack_file(pulumi.get_stack())
        written = sections_of_file(root / file)
    for section in sorted(decrypted):
        places = list(encrypted_places(written.get(section), (section,)))
        yield from places if places and is_written_so(sections[section], written[section]) else [(section,)]


def _decoded(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
