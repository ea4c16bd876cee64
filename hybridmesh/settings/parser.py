"""From what a person wrote to `Settings`, or to every finding at once."""

import difflib
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from hybridmesh.istio.nested import at

from .checks import check
from .draft import Draft
from .encrypted import Place, for_pulumi, shown, value_at
from .findings import NAMESPACE, Finding, SettingsError
from .models import Access, Network, Routing, Settings, Workload

ReadFile = Callable[[str], str]
"""Gives a file's text by its path relative to the project's root; raises OSError or UnicodeDecodeError."""

_STARS = "**********"
_SECRET = re.compile("PRIVATE KEY|://[^/?#]*@")
"""A private key, a password in an address."""
_BY_ENTRY: Mapping[str, Any] = {"workloads": Workload, "networks": Network, "routing": Routing, "access": Access}
"""Sections that are read entry by entry, so that one wrong entry does not hide the findings of the others."""


_SECTIONS = tuple(field.alias or name for name, field in Settings.model_fields.items())


def sections_in(config: Mapping[Any, Any]) -> dict[str, Any]:
    """What is ours in a stack's config, by section; of ours, what stands under a misspelt `hybrid-mesh`, by its whole
    key."""
    found = {}
    for key, value in config.items():
        namespace, colon, section = str(key).partition(":")
        if colon and namespace == NAMESPACE:
            found[section] = value
        elif section in _SECTIONS and namespace.lower().replace("-", "").replace("_", "") == NAMESPACE.replace("-", ""):
            found[str(key)] = value
    return found


def parse(mapping: Mapping[str, Any], read_file: ReadFile, decrypted: Collection[str] = ()) -> Settings:
    """The settings that `mapping` (sections by their names in the stack file) stands for.

    A scalar anywhere may be given as `{fromFile: path}`: the file's text without surrounding blanks.
    `decrypted`: sections in which something was encrypted; no finding shows a value of them.
    Raises `SettingsError` with every finding. Reads files through `read_file` only, and changes nothing.
    """
    findings: list[Finding] = []
    plain = _resolve(mapping, "", read_file, findings)
    unreadable = {f.path for f in findings}
    draft = Draft()
    for name, field in Settings.model_fields.items():
        section = field.alias or name
        if section not in plain:
            if field.is_required():
                findings.append(_missing(section, field))
            continue
        if section in _BY_ENTRY and isinstance(plain[section], dict):
            draft.entries[section] = {}
            for key, value in plain[section].items():
                entry = _validate(_mapping(field, section), {key: value}, section, findings, field)
                draft.entries[section][str(key)] = entry[key] if entry else None
        else:
            draft.sections[section] = _validate(field.annotation, plain[section], section, findings, field)
    findings.extend(_unknown_section(str(key)) for key in plain if key not in _SECTIONS)
    findings.extend(check(draft))
    findings = [f for f in findings if f.path not in unreadable or f.problem.startswith("cannot read")]
    kubeconfig = at(plain, "cluster", "kubeconfig")
    if isinstance(kubeconfig, str) and kubeconfig.strip():
        _read(kubeconfig, "cluster.kubeconfig", read_file, findings)
    if findings:
        raise SettingsError([_starred(f) if f.path.partition(".")[0] in decrypted else f for f in findings])
    return Settings.model_validate(plain)


def refuse_encrypted(sections: Mapping[str, Any], places: Iterable[Place]) -> None:
    """Raises `SettingsError` for what Pulumi has encrypted and nothing would keep secret from there on.

    The findings of `parse` could show it.
    """
    findings = list(encrypted_findings(sections, places))
    if findings:
        raise SettingsError(findings)


def encrypted_findings(sections: Mapping[str, Any], places: Iterable[Place]) -> Iterator[Finding]:
    """Of what Pulumi has encrypted, all but private keys and their passphrases.

    `places`: where; of what is not known better, as much as has it inside, which may have a key.
    """
    return filter(None, (_encrypted(place, value_at(sections, place)) for place in places))


def _encrypted(place: Place, value: Any) -> Finding | None:
    annotation: Any = Settings
    for number, step in enumerate(place):
        model = _model_of(annotation)
        if model is not None and _field(model, str(step)) is None:
            known = [_alias(name, field) for name, field in model.model_fields.items()]
            return _unknown(str(step), shown(place[:number]), known) if number else _unknown_section(str(step))
        annotation = _below(annotation, str(step))
    if _keeps_secret(annotation, value):
        return None
    inside = isinstance(value, Mapping)
    return Finding(
        shown(place) or "settings",
        "",
        f"{'has something' if inside else 'is'} encrypted, and it is neither a private key nor the passphrase of one",
        "Only these are kept secret: previews, the state and what reads it would show it in plain text.",
        "encrypt single keys and passphrases (`pulumi config set --secret --path`), and nothing else."
        if inside
        else "plain text, if it may be seen (in a stack file by "
        f"`pulumi config set --plaintext --path '{NAMESPACE}:{for_pulumi(place)}'`); if not, leave it out: "
        "docs/secrets.md says where it could be instead.",
    )


def _keeps_secret(annotation: Any, value: Any) -> bool:
    """Whether a value is one that is kept secret, or has one inside."""
    if not isinstance(value, Mapping):
        return _may_hold_secret(annotation)
    return any(_keeps_secret(_below(annotation, str(key)), inner) for key, inner in value.items())


def _below(annotation: Any, step: str) -> Any:
    """What belongs to a key or an index; None where there is no such setting."""
    model = _model_of(annotation)
    if model is None:
        return _inside(annotation)
    field = _field(model, step)
    return None if field is None else field.annotation


def _mapping(field: FieldInfo, section: str) -> Any:
    generic: Any = Mapping
    return generic[typing.get_args(field.annotation)[0], _BY_ENTRY[section]]


def _resolve(value: Any, path: str, read_file: ReadFile, findings: list[Finding]) -> Any:
    """`value` with every `{fromFile: path}` replaced by the file's text, and private keys read."""
    if isinstance(value, Mapping):
        if set(value) == {"fromFile"}:
            return _read(value["fromFile"], path, read_file, findings)
        plain = {k: _resolve(v, f"{path}.{k}" if path else str(k), read_file, findings) for k, v in value.items()}
        file = plain.get("privateKeyFile")
        if isinstance(file, str) and "privateKey" not in plain:
            plain["privateKey"] = _read(file, f"{path}.privateKeyFile", read_file, findings)
        return plain
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_resolve(v, f"{path}[{i}]", read_file, findings) for i, v in enumerate(value)]
    return value


def _read(file: object, path: str, read_file: ReadFile, findings: list[Finding]) -> str:
    consequence = "The setting would have no value."
    if not isinstance(file, str) or not file.strip():
        fix = "`{fromFile: path}`, the path relative to the project's root."
        findings.append(Finding(path, _shown(file), "cannot read it: not a path", consequence, fix))
        return ""
    try:
        return read_file(file).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a text file"
        fix = "a path relative to the project's root, or one from `~/` on."
        if file.startswith(".lab/"):
            fix = "`make dev`, which makes the files below .lab; or the path of another."
        findings.append(Finding(path, _shown(file), f"cannot read this file: {reason}", consequence, fix))
        return ""


def _validate(annotation: Any, value: Any, path: str, findings: list[Finding], field: FieldInfo | None = None) -> Any:
    try:
        if field is not None and field.metadata:
            annotation = typing.Annotated[(annotation, *field.metadata)]
        return TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        for details in errors:
            # A list whose items are wrong counts as too short as well.
            if details["type"] == "too_short" and any(e["loc"][:-1] == details["loc"] for e in errors):
                continue
            findings.append(_finding(details, annotation, path, field))
        return None


def _finding(details: ErrorDetails, annotation: Any, prefix: str, section: FieldInfo | None) -> Finding:
    steps = [step for step in details["loc"] if step != "[key]"]
    field, model = section, _model_of(annotation)
    path = prefix
    for step in steps:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
        if model is not None:
            found = _field(model, str(step))
            if found is None:
                return _unknown(
                    str(step), path.rpartition(".")[0], [_alias(n, f) for n, f in model.model_fields.items()]
                )
            field = found
            annotation = field.annotation
        else:
            annotation = _inside(annotation)
        model = _model_of(annotation)
    if details["type"] == "missing" and field is not None:
        return _missing(path, field)
    extra = field.json_schema_extra if field is not None and isinstance(field.json_schema_extra, dict) else {}
    of_key = details["loc"][-1:] == ("[key]",)
    hidden = details["input"] not in (None, "", [], {}) and not of_key and _may_hold_secret(annotation)
    value = _STARS if hidden else _shown(details["input"])
    return Finding(
        path,
        value,
        _problem(details),
        _sentence(str(extra.get("wrong", ""))),
        str(extra.get("fix", "")),
    )


def _problem(details: ErrorDetails) -> str:
    message = details["msg"].removeprefix("Value error, ").removesuffix(".")
    return message[:1].lower() + message[1:]


def _missing(path: str, field: FieldInfo) -> Finding:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return Finding(path, "", "is missing", _sentence(str(extra["wrong"])), str(extra["fix"]))


def _unknown_section(key: str) -> Finding:
    namespace, colon, section = key.partition(":")
    if not colon:
        return _unknown(key, "", _SECTIONS)
    problem = f"stands under `{namespace}`, which is not this program's name"
    return Finding(section, "", problem, "Nothing would read it.", f"`{NAMESPACE}:{section}`.")


def _unknown(key: str, parent: str, known: Sequence[str]) -> Finding:
    path = f"{parent}.{key}" if parent else key
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    fix = f"did you mean `{near[0]}`?" if near else f"one of {', '.join(sorted(known))}."
    return Finding(path, "", "is not a setting", "Nothing would read it.", fix)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] if not text.startswith("`") else text


def _starred(finding: Finding) -> Finding:
    return replace(finding, value=_STARS) if finding.value else finding


def _may_hold_secret(annotation: Any) -> bool:
    """Whether what belongs there is a secret, or has one somewhere inside."""
    for candidate in _alternatives(annotation):
        model = _model_of(candidate)
        inside = [f.annotation for f in model.model_fields.values()] if model else typing.get_args(candidate)
        if candidate is SecretStr or any(_may_hold_secret(part) for part in inside):
            return True
    return False


def _shown(value: object) -> str:
    """One line of YAML, short. Not what may be a key, nor what is inside of a list or a mapping: it may be one too."""
    if isinstance(value, Mapping) and value:
        return "{...}"
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return "[...]"
    if isinstance(value, str) and (_SECRET.search(value) or "\n" in value.strip()):
        return _STARS
    text = " ".join(yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).split())
    text = text.removesuffix(" ...")
    return text if len(text) <= 80 else text[:77] + "..."


def _alias(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _field(model: type[BaseModel], alias: str) -> FieldInfo | None:
    return next((f for n, f in model.model_fields.items() if _alias(n, f) == alias), None)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation that is one, or an optional one."""
    for candidate in _alternatives(annotation):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _inside(annotation: Any) -> Any:
    """What a mapping's values or a tuple's items are."""
    for candidate in _alternatives(annotation):
        arguments = [a for a in typing.get_args(candidate) if a is not Ellipsis]
        if arguments:
            return arguments[-1]
    return Any


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _alternatives(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for argument in typing.get_args(annotation):
            yield from _alternatives(argument)
    else:
        yield annotation
