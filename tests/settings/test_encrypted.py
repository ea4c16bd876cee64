"""What may be encrypted in a stack file: what the program keeps secret, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from hybridmesh.settings import SettingsError, findings_in
from hybridmesh.settings.encrypted import Place, encrypted_places, for_pulumi, is_written_so, shown
from hybridmesh.settings.lost import STACK_FILE_VARIABLE
from hybridmesh.settings.pulumi_config import from_pulumi_config
from tests.components.harness import KEY, dev_sections, read_file, write_files
from tests.settings.test_rules import ECHO, VM_1, VM_2, Change, at, both

CIPHERTEXT = {"secure": "v1:abc"}
BASTION = f"{VM_1}/ssh/bastion"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_files(tmp_path)
    return tmp_path


def sections_with(*changes: Change) -> dict[str, Any]:
    sections = dev_sections()
    for change in changes:
        change(sections)
    return sections


def written(folder: Path, sections: Mapping[str, Any], name: str = "") -> None:
    """A stack file, by default that of the selected stack."""
    config = {f"hybrid-mesh:{key}": value for key, value in sections.items()}
    (folder / (name or f"Pulumi.{pulumi.get_stack()}.yaml")).write_text(yaml.safe_dump({"config": config}))


def given(monkeypatch: pytest.MonkeyPatch, sections: Mapping[str, Any], *decrypted: str) -> None:
    """What Pulumi gives the program, with the sections in which it has decrypted something."""
    texts = {f"hybrid-mesh:{k}": v if isinstance(v, str) else json.dumps(v) for k, v in sections.items()}
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps(texts))
    monkeypatch.setenv("PULUMI_CONFIG_SECRET_KEYS", json.dumps([f"hybrid-mesh:{section}" for section in decrypted]))


def refusals(project: Path) -> list[str]:
    try:
        from_pulumi_config(project)
    except SettingsError as error:
        return [str(finding) for finding in error.findings]
    return []


def own_key(value: Any) -> Change:
    return both(at(f"{VM_1}/ssh/privateKeyFile", ...), at(f"{VM_1}/ssh/privateKey", value))


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("sidecar/environment/TOKEN", "sidecar.environment.TOKEN"),
        (f"{ECHO}/pods/env/TOKEN", "workloads.echo.pods.env.TOKEN"),
        (f"{ECHO}/pods/env/privateKey", "workloads.echo.pods.env.privateKey"),
        ("controlPlane/values/env/TOKEN", "controlPlane.values.env.TOKEN"),
        ("controlPlane/values/privateKey", "controlPlane.values.privateKey"),
        ("controlPlane/revisions/canary/values/env/TOKEN", "controlPlane.revisions.canary.values.env.TOKEN"),
        ("gateway/values/env/TOKEN", "gateway.values.env.TOKEN"),
        ("sidecar/package/url", "sidecar.package.url"),
        ("cluster/network", "cluster.network"),
        ("mtls", "mtls"),
        (f"{VM_1}/ssh/address", "workloads.echo.machines.hosts.vm-1.ssh.address"),
        (f"{VM_1}/ssh/port", "workloads.echo.machines.hosts.vm-1.ssh.port"),
        (f"{VM_2}/command/create", "workloads.echo.machines.hosts.vm-2.command.create"),
        (f"{ECHO}/ports/0/name", "workloads.echo.ports[0].name"),
        ("routing/echo/match", "routing.echo.match"),
    ],
)
def test_what_would_not_be_kept_secret_is_refused_by_name_and_not_shown(
    place: str, path: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = sections_with(at(place, CIPHERTEXT))
    written(project, sections)
    given(monkeypatch, sections_with(at(place, "S3CRET")), place.partition("/")[0])
    (refusal,) = refusals(project)
    assert refusal == (
        f"hybrid-mesh:{path}: is encrypted, and it is neither a private key nor the passphrase of one. Only these are "
        "kept secret: previews, the state and what reads it would show it in plain text. Fix: plain text, if it may be "
        f"seen (in a stack file by `pulumi config set --plaintext --path 'hybrid-mesh:{path}'`); if not, leave it out: "
        "docs/secrets.md says where it could be instead."
    )
    assert refusal in map(str, findings_in(sections, read_file)), "without Pulumi, too"


def test_a_setting_that_is_called_secure_is_no_ciphertext() -> None:
    assert findings_in(sections_with(at("controlPlane/values/ingress", {"secure": True})), read_file) == ()


def leaves(value: Any, place: Place = ()) -> Iterator[Place]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        if isinstance(inner, dict | list):
            yield from leaves(inner, (*place, key))
        else:
            yield (*place, key)


def test_of_all_that_stands_in_a_stack_file_only_keys_and_passphrases_may_be_encrypted() -> None:
    key = {"privateKey": KEY, "privateKeyPassphrase": "S3CRET"}
    bastion = {"address": "203.0.113.5", "hostKey": "ssh-ed25519 AAAA", **key}
    everything = sections_with(own_key(KEY), at(f"{VM_1}/ssh/privateKeyPassphrase", "S3CRET"), at(BASTION, bastion))
    good = []
    for place in leaves(everything):
        at("/".join(map(str, place)), CIPHERTEXT)(sections := json.loads(json.dumps(everything)))
        if not [f for f in findings_in(sections, read_file) if f.path == shown(place)]:
            good.append(shown(place))
    ssh = "workloads.echo.machines.hosts.vm-1.ssh"
    assert sorted(good) == [
        f"{ssh}.bastion.privateKey",
        f"{ssh}.bastion.privateKeyPassphrase",
        f"{ssh}.privateKey",
        f"{ssh}.privateKeyPassphrase",
    ]


def test_a_key_may_be_encrypted_beside_what_is_not(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "info", said.append)
    given(monkeypatch, sections_with(own_key(KEY)), "workloads")
    for file, is_told in ((own_key(CIPHERTEXT), True), (at("workloads", CIPHERTEXT), False), (own_key(KEY), False)):
        written(project, sections_with(file))
        assert refusals(project) == []
        unseen = "hybrid-mesh:workloads: something in it is encrypted, and nobody tells what."
        assert [line.startswith(unseen) for line in said] == [True] * (not is_told)
        said.clear()
    env = at(f"{ECHO}/pods/env", {"TOKEN": CIPHERTEXT})
    written(project, sections_with(own_key(CIPHERTEXT), env))
    given(monkeypatch, sections_with(own_key(KEY), at(f"{ECHO}/pods/env", {"TOKEN": "S3CRET"})), "workloads")
    (refusal,) = refusals(project)
    assert "hybrid-mesh:workloads.echo.pods.env.TOKEN: is encrypted" in refusal


def test_a_mistyped_key_is_said_to_be_mistyped(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = sections_with(at(f"{VM_1}/ssh/privateKye", CIPHERTEXT))
    written(project, sections)
    given(monkeypatch, sections_with(at(f"{VM_1}/ssh/privateKye", KEY)), "workloads")
    (refusal,) = refusals(project)
    assert ".ssh.privateKye: is not a setting. Nothing would read it. Fix: did you mean `privateKey`?" in refusal
    assert [str(finding) for finding in findings_in(sections, read_file)] == [refusal]
    given(monkeypatch, {**sections_with(), "sidcar": {"environment": {"TOKEN": "S3CRET"}}}, "sidcar")
    (refusal,) = refusals(project)
    assert "hybrid-mesh:sidcar: is not a setting. Nothing would read it. Fix: did you mean `sidecar`?" in refusal


def test_where_the_stack_file_does_not_tell_the_section_is_judged(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--config-file`, or with Pulumi ESC: a section with a key is good, for Pulumi does not tell more."""
    environment = {"TOKEN": "S3CRET"}
    given(monkeypatch, sections_with(at("sidecar/environment", environment), own_key(KEY)), "sidecar", "workloads")
    (unseen,) = refusals(project)
    assert unseen.startswith("hybrid-mesh:sidecar: has something encrypted, and it is neither a private key nor ")
    assert unseen.endswith(
        "encrypt single keys and passphrases (`pulumi config set --secret --path`), and nothing else."
    )
    written(project, sections_with(at("sidecar/environment", {"OTHER": CIPHERTEXT}), own_key(CIPHERTEXT)))
    assert refusals(project) == [unseen], "that file is of other settings"
    given(monkeypatch, sections_with(at(f"{ECHO}/pods/env", environment)), "workloads")
    (refusal,) = refusals(project)
    assert refusal.startswith("hybrid-mesh:workloads: has something encrypted")


def test_another_stack_file_is_looked_into_by_the_variable_that_names_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(project, sections_with(at("sidecar/environment", {"TOKEN": CIPHERTEXT})), "other.yaml")
    given(monkeypatch, sections_with(at("sidecar/environment", {"TOKEN": "S3CRET"})), "sidecar")
    monkeypatch.setenv(STACK_FILE_VARIABLE, "other.yaml")
    (refusal,) = refusals(project)
    assert refusal.startswith("hybrid-mesh:sidecar.environment.TOKEN: is encrypted")


def test_what_was_decrypted_is_compared_with_the_file_by_all_that_is_not_encrypted() -> None:
    file = {"a": [{"b": CIPHERTEXT}, "c"], 1: 2.5, "d": CIPHERTEXT}
    assert list(encrypted_places(file, ("x",))) == [("x", "a", 0, "b"), ("x", "d")]
    same: dict[str, Any] = {"a": [{"b": "S3CRET"}, "c"], "1": 2.5, "d": {"of": "any shape"}}
    assert is_written_so(same, file)
    others: tuple[Any, ...] = (
        {**same, "e": 1},
        {**same, "a": ["c"]},
        {**same, "a": [{"b": "S3CRET"}, "d"]},
        {**same, "a": 1},
        [],
    )
    for other in others:
        assert not is_written_so(other, file)


def test_a_path_is_one_that_pulumi_takes() -> None:
    place: Place = ("workloads", "echo", "labels", "example.com/team", 0, "vm-1")
    assert for_pulumi(place) == 'workloads.echo.labels["example.com/team"][0].vm-1'
