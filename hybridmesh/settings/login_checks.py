"""The rules of how to log in to a machine: a key or an agent, a passphrase, a bastion."""

import base64
import re
from collections.abc import Iterator

from .findings import Finding
from .models import Bastion, Command, Ssh

_PEM_BODY = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END", re.DOTALL)
_MAGIC = b"openssh-key-v1\0"


def check_login(path: str, access: Ssh | Command) -> Iterator[Finding]:
    """What is wrong with the way to log in to a machine, and to its bastion."""
    yield from _key(path, access)
    if access.private_key is None and not access.agent:
        yield Finding(
            f"{path}.privateKeyFile",
            "",
            "is missing",
            "Nobody could log in.",
            "the path of a private key, or `privateKey` as a secret, or `agent: true`.",
        )
    if access.bastion is not None:
        yield from _key(f"{path}.bastion", access.bastion)


def is_encrypted(key: str) -> bool:
    """Whether a private key needs a passphrase, as far as it can be told without one."""
    if "ENCRYPTED" in key:
        return True
    found = _PEM_BODY.search(key)
    if found is None:
        return False
    try:
        body = base64.b64decode("".join(found[1].split()), validate=True)
    except ValueError:  # of characters that are not base64's, and of those that are not ASCII
        return False
    # The name of the cipher follows the magic, its length before it: PROTOCOL.key of OpenSSH
    return body.startswith(_MAGIC) and body[len(_MAGIC) : len(_MAGIC) + 8] != b"\0\0\0\4none"


def _key(path: str, access: Ssh | Command | Bastion) -> Iterator[Finding]:
    if access.private_key is None:
        return
    if access.agent:
        yield Finding(
            f"{path}.agent",
            "true",
            "is set, and a private key is given too",
            "It would be unclear with which of the two to log in.",
            "leave one of them out.",
        )
    key = access.private_key.get_secret_value()
    if "PRIVATE KEY" not in key:
        yield Finding(
            f"{path}.privateKeyFile",
            access.private_key_file or "**********",
            "holds no private key in PEM or OpenSSH form",
            "Nobody could log in.",
            "the private key's file, not the public one's (`.pub`).",
        )
    elif is_encrypted(key) and access.private_key_passphrase is None:
        yield Finding(
            f"{path}.privateKeyPassphrase",
            "",
            "is missing, and the private key is encrypted",
            "Nobody could log in.",
            "the passphrase as a secret, or `agent: true` and `ssh-add`.",
        )
