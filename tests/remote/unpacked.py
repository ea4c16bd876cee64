"""What a payload carries, as the machine has it once it has been unpacked."""

from __future__ import annotations

import base64
import io
import tarfile


def entries(payload: str) -> dict[str, tarfile.TarInfo]:
    """The archive's, by name."""
    with _archive(payload) as archive:
        return {member.name: member for member in archive.getmembers()}


def unpacked(payload: str) -> dict[str, bytes]:
    """Scripts, `files/…` and `settings/…` by name, byte for byte."""
    found: dict[str, bytes] = {}
    with _archive(payload) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                found[member.name] = content.read()
    lines = found.pop("settings.lines").decode().split("\n")[:-1]
    return found | {
        f"settings/{name}": f"{value}\n".encode() for name, _, value in (line.partition(" ") for line in lines)
    }


def texts(payload: str) -> dict[str, str]:
    """The same, as text."""
    return {name: content.decode() for name, content in unpacked(payload).items()}


def _archive(payload: str) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(base64.b64decode(payload)), mode="r:gz")
