"""`doctor --bundle`: what was seen of a stack in one archive, to be sent to others. Secrets are taken out."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from .diagnoses import Finding
from .facts import sections
from .look import View

_NAMED = (
    r"(?i)((?:password|passwd|passphrase|(?<![a-z])pass|[_-]pwd|secret|token"
    r"|(?:api|access|secret|private|encryption|signing)[_-]?(?:access[_-]?)?key|client[_-]?key(?:[_-]?data)?)"
    r"\\*[\"']?[ \t]*[=:][ \t]*)"
)
"""The name of a secret, with what stands between it and its value."""
_PRIVATE_KEY_IN_BASE64 = re.compile("UFJJVkFURSBLR|BSSVZBVEUgS0V|QUklWQVRFIEtF")
"""PRIVATE KEY, as it may lie in groups of three bytes."""
_SECRETS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    # Tokens: three base64url words, the first the JSON of a header.
    (re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+"), "<token>"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 <taken out>"),
    # User and password of a URL; a port is none, nor what comes after a path begins.
    (
        re.compile(
            r"(?<=://)(?:[^/@:\s\"']{0,256}:(?!\d{1,5}/)[^@\s\"']{0,512}|[^/@\s\"']{1,256})@(?:[^/@\s\"']{0,512}@)*"
        ),
        "",
    ),
    # Private keys: first all base64 before an end, whatever became of the beginning; then what is left of beginnings.
    # Each is looked for at the beginning of a run only: a CA bundle is one long run, and would take minutes.
    (re.compile(r"(?<![\w+/=\s\\])[\w+/=\s\\]*+-----END [A-Z ]*PRIVATE KEY-----"), "<private key taken out>"),
    (
        re.compile(r"(?:-----)?(?<![A-Z ])[A-Z ]*?PRIVATE KEY-----(?:<private key taken out>|[\w+/=\s\\]*)"),
        "<private key taken out>",
    ),
    # The same in base64, in one line or in many.
    (
        re.compile(r"LS0tLS1CRUdJTi(?:[A-Za-z0-9+/=]|(?:\s|\\+[nrt])+(?=[A-Za-z0-9+/=]{30}))*"),
        lambda found: "<private key taken out>" if _PRIVATE_KEY_IN_BASE64.search(found[0]) else found[0],
    ),
    # Values in quotes, which may be escaped themselves, as in JSON within JSON; one that has no end goes with its line.
    (re.compile(_NAMED + r"(\\+[\"'])(?:(?!(?<!\\)\2)[^\n])+"), r"\1\2<taken out>"),
    (re.compile(_NAMED + r"([\"'])(?:\\.|\2\2|(?!\2)[^\\\n])+"), r"\1\2<taken out>"),
    # Values without: not an object, a list, nothing, or what was taken out above.
    (
        re.compile(
            _NAMED + r"(?![\"'\\]|[{\[](?:[\s\"'\\}\]{\[]|$)|(?:null|true|false)(?:[,\s}\]]|$)"
            r"|<(?:token|taken out|private key taken out)>)"
            r"(?:\\(?!\\*[\"'nrt])|[^\s\"\\])+?(?=[,;')\]}]{0,8}(?:[\s\"]|\\+[\"'nrt]|$))"
        ),
        r"\1<taken out>",
    ),
)


def scrub(text: str) -> str:
    """A text without tokens, private keys and passwords."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def contents(view: View, findings: Sequence[Finding]) -> dict[str, str]:
    """The archive's files by name."""
    files = {
        "README.txt": "Made by `python -m hybridmesh doctor --bundle`, tokens, private keys and passwords taken out.\n",
        "findings.json": _json([finding.model_dump() for finding in findings]),
        "topology.json": _json(view.topology),
    }
    if view.mesh is not None:
        for name, value in asdict(view.mesh).items():
            files[f"mesh/{name}.json"] = _json(value)
    else:
        files["mesh/refusal.txt"] = view.mesh_refusal + "\n"
    for machine, seen in view.machines.items():
        if seen.output:
            files |= {f"machines/{machine}/{name}": text for name, text in _sections(seen.output).items()}
        if seen.refusal:
            files[f"machines/{machine}/refusal.txt"] = seen.refusal + "\n"
    return {name: scrub(text) for name, text in files.items()}


def write_bundle(path: Path, view: View, findings: Sequence[Finding]) -> None:
    """Write the archive; nobody else can read it, for it tells much of the machines."""
    files = contents(view, findings)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz") as archive:
        if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):  # and not /dev/null, for the whole machine
            os.fchmod(stream.fileno(), 0o600)
        for name in sorted(files):
            content = files[name].encode()
            member = tarfile.TarInfo(name)
            member.mode, member.size, member.mtime = 0o600, len(content), int(view.now.timestamp())
            archive.addfile(member, io.BytesIO(content))


def _sections(output: str) -> Mapping[str, str]:
    """Sections of the probe as files; those that are none of the bundle's own are the facts."""
    return {name if "/" in name else f"facts/{name}": text for name, text in sections(output).items()}


def _json(value: object) -> str:
    return json.dumps(value, indent=1, default=str) + "\n"
