"""Copies of the kubeconfig that Pulumi's Kubernetes plugin leaves behind."""

import atexit
import contextlib
import functools
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml

from .istio.nested import at

_NAME: Final = re.compile(r"kubeconfig\d+")
_SECRET: Final = ("client-key-data", "token", "password")
_RECENT_SECONDS: Final = 3600
_UNUSABLE: Final = (OSError, ValueError, yaml.YAMLError)
"""Gone, not to be read, or no kubeconfig."""


@functools.cache
def without_copies_in_the_end(kubeconfig: str) -> None:
    """Has the end of the program remove what the plugin has left of a kubeconfig: until then a program may have it
    render charts, which is what it writes them for."""
    atexit.register(remove_copies, str(Path(kubeconfig).expanduser().absolute()))


def remove_copies(kubeconfig: str) -> None:
    """Removes the copies of a kubeconfig, if there is a key, a token or a password in it.

    The plugin writes one whenever it starts, of mode 600, into the temporary folder, and removes none
    (pulumi-kubernetes from 4.12 on, provider.go, Configure, and util.go, writeKubeconfigToFile).
    """
    own = Path(kubeconfig).expanduser()
    with contextlib.suppress(*_UNUSABLE):
        secrets = set(_secrets(own))
        for path in Path(tempfile.gettempdir()).iterdir() if secrets else ():
            with contextlib.suppress(*_UNUSABLE):
                if _is_new_and_its(path) and not path.samefile(own) and set(_secrets(path)) == secrets:
                    path.unlink()


def _is_new_and_its(path: Path) -> bool:
    """Whether it is as the plugin makes them, and no old file of somebody's."""
    if not _NAME.fullmatch(path.name):
        return False
    there = path.lstat()
    return there.st_mode == stat.S_IFREG | 0o600 and time.time() - there.st_mtime < _RECENT_SECONDS


def _secrets(kubeconfig: Path) -> Iterator[str]:
    """What nobody may know of it."""
    found = at(yaml.safe_load(kubeconfig.read_text()), "users")
    for user in found if isinstance(found, list) else ():
        for key in _SECRET:
            if value := at(user, "user", key):
                yield str(value)
