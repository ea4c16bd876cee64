"""The text that a machine runs at each boot to join by itself: a cloud's startup script, or cloud-init's user data.

It carries the same scripts and files as a join over SSH, but no token: the machine asks for that (token.sh). So it is
as public as its arguments, and may lie in templates, metadata and state. Files and settings stand in it as they are,
above the scripts, so that whoever reads the diff of a template sees which line of which file changes.
"""

from collections.abc import Mapping
from textwrap import wrap
from typing import Final

from . import payload, startup_payload

__all__ = ["GOOGLE_IDENTITY", "startup_script"]

GOOGLE_IDENTITY: Final[Mapping[str, str]] = {
    "identity-url": "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token",
    "identity-header": "Metadata-Flavor: Google",
}
"""How a machine of Google Cloud learns who it is. By address, for its resolver may be the proxy, which starts later."""

_END: Final = "-- end of hybrid-mesh --"
_NEEDED: Final = ("api-server", "service-account", "identity-url", "identity-header")

_HEAD: Final = """\
#!/bin/sh
# Made by hybrid-mesh: joins this machine to the mesh, at each boot; where nothing is to be done, it does nothing.
# Nothing in here is secret. The machine gets its token by who it is in its cloud, before each start of the proxy.
set -eu
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
folder=$(mktemp -d /run/hybrid-mesh.XXXXXXXX)
trap 'rm -rf "$folder"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$folder"
"""


def startup_script(files: Mapping[str, str], settings: Mapping[str, str]) -> str:
    """Return the text; the same arguments give the same one on every machine.

    files: the bootstrap files but for the token, and `kubernetes-ca.pem`, the API server's certificate authorities.
        Lines of `cluster.env` that are one machine's (its address and name) are added where it runs.
    settings: values by name (see `SETTINGS`); those that lead to the token are needed.
    Raises ValueError on a token among the files, on what is missing, and on what `payload` refuses.
    """
    if "istio-token" in files:
        raise ValueError("startup script: a token would be in a template, for all to read; the machine gets its own")
    missing = [name for name in _NEEDED if not settings.get(name)]
    if missing:
        raise ValueError(f"startup script: {', '.join(missing)} missing; the machine could not get its token")
    payload(files, settings)  # refuses what is unknown or malformed
    parts = [_HEAD, "mkdir files settings\n"]
    parts += [_document(f"files/{name}", text) for name, text in sorted(files.items())]
    parts += [_document(f"settings/{name}", value) for name, value in sorted(settings.items())]
    scripts = "\n".join(wrap(startup_payload(), 120))
    parts += [f"base64 -d <<'{_END}' | tar -xzof -\n{scripts}\n{_END}\n", "/bin/sh ./boot.sh </dev/null\n"]
    return "".join(parts)


def _document(path: str, text: str) -> str:
    """What writes a file, byte for byte, but for a final newline that it had not."""
    text = text if text.endswith("\n") else f"{text}\n"
    if _END in text.splitlines():
        raise ValueError(f"startup script: {path} has a line {_END!r}, which ends it")
    return f"cat >{path} <<'{_END}'\n{text}{_END}\n"
