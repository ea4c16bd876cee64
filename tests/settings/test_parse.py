"""What a stack file becomes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pulumi.runtime.config
import pytest
import yaml
from pydantic import ValidationError

from hybridmesh.settings import Settings, SettingsError, from_stack_file, parse
from hybridmesh.settings import models as given
from hybridmesh.settings.lost import sections_of_file
from hybridmesh.settings.pulumi_config import from_pulumi_config
from tests.components.harness import FILES, KEY, PROJECT_ROOT, dev_sections, read_file, write_files

MINIMAL: dict[str, Any] = {
    "cluster": {"name": "c", "network": "n", "kubeconfig": ".lab/dev/kubeconfig"},
    "controlPlane": {"mode": "adopt", "version": "1.31.0"},
    "gateway": {"mode": "adopt"},
}


def test_the_committed_dev_stack_is_good() -> None:
    settings = parse(dev_sections(), read_file)
    assert sorted(settings.workloads) == ["client", "echo"]
    machines = settings.workloads["echo"].machines
    assert machines is not None
    assert machines.hosts["vm-1"].ssh is not None
    assert machines.hosts["vm-2"].command is not None


def test_the_committed_dev_stack_holds_nothing_of_one_machine() -> None:
    text = (PROJECT_ROOT / "Pulumi.dev.yaml").read_text()
    for value in ("ssh-ed25519", "BEGIN", "http://", "https://", "/root", "/tmp"):
        assert value not in text
    assert "encryptionsalt: v1:" in text, "without it the first run changes the file"


def test_little_is_needed() -> None:
    settings = parse(MINIMAL, read_file)
    assert settings.control_plane.namespace == "istio-system"
    assert settings.mtls == "STRICT"
    assert settings.sidecar.dns_capture is True


def test_files_are_read_and_stripped_wherever_a_value_may_stand() -> None:
    settings = parse(dev_sections(), read_file)
    assert settings.sidecar.package is not None
    assert settings.sidecar.package.version == "1.31.0"
    machines = settings.workloads["echo"].machines
    assert machines is not None
    ssh = machines.hosts["vm-1"].ssh
    assert ssh is not None
    assert (ssh.address, ssh.port) == ("192.0.2.11", 22)
    assert ssh.key == KEY


def test_a_number_may_come_from_a_file() -> None:
    sections = dev_sections()
    sections["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["ssh"]["port"] = {"fromFile": "port"}
    settings = parse(sections, lambda path: "2222\n" if path == "port" else read_file(path))
    machines = settings.workloads["echo"].machines
    assert machines is not None
    assert machines.hosts["vm-1"].ssh is not None
    assert machines.hosts["vm-1"].ssh.port == 2222


def test_a_missing_file_names_field_path_and_fix() -> None:
    files = {path: text for path, text in FILES.items() if path != ".lab/dev/mirror/url"}

    def read(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return files[path]

    with pytest.raises(SettingsError) as error:
        parse(dev_sections(), read)
    (finding,) = error.value.findings
    assert (finding.path, finding.value) == ("sidecar.package.url", ".lab/dev/mirror/url")
    assert finding.problem == "cannot read this file: No such file or directory"
    assert "`make dev`" in finding.fix
    sections = dev_sections()
    sections["cluster"]["kubeconfig"] = "~/.kube/config"
    with pytest.raises(SettingsError) as error:
        parse(sections, lambda path: read_file(path) if path in FILES else read(path))
    (finding,) = error.value.findings
    assert finding.value == "~/.kube/config"
    assert "`~/`" in finding.fix
    assert "make dev" not in finding.fix, "it makes nothing there"


def test_a_private_key_may_be_a_secret_of_the_stack() -> None:
    sections = dev_sections()
    ssh = sections["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["ssh"]
    del ssh["privateKeyFile"]
    ssh["privateKey"] = KEY
    assert parse(sections, read_file)


def test_no_secret_is_in_a_repr_or_a_message() -> None:
    assert "S3CRET" not in repr(parse(dev_sections(), read_file))
    sections = dev_sections()
    ssh = sections["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["ssh"]
    for wrong in ("S3CRET", ["S3CRET"], {"S3CRET": "S3CRET"}, 17):
        ssh["privateKey"] = wrong
        with pytest.raises(SettingsError) as error:
            parse(sections, read_file)
        assert "S3CRET" not in str(error.value)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every mapping or list inside, with each of its keys."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def message(sections: dict[str, Any]) -> str:
    try:
        parse(sections, read_file)
    except SettingsError as error:
        return str(error)
    return ""


def with_secrets() -> dict[str, Any]:
    sections = dev_sections()
    sections["workloads"]["echo"]["machines"]["hosts"]["vm-1"]["ssh"] |= {
        "privateKeyPassphrase": "S3CRET-PHRASE",
        "bastion": {"address": "203.0.113.5", "hostKey": "ssh-ed25519 AAAA", "privateKey": KEY},
    }
    return sections


def test_where_nothing_is_nothing_is_hidden() -> None:
    with pytest.raises(SettingsError, match=r"hybrid-mesh:networks = null: "):
        parse({**dev_sections(), "networks": None}, read_file)


def test_no_secret_is_in_a_message_whatever_the_shape_around_it_is() -> None:
    wrongs: list[Callable[[Any], Any]] = [
        lambda value: [value],
        lambda value: [{"vm-1": value}],
        lambda value: {"x": value},
        json.dumps,
        lambda value: {"labels": value, "metadata": [value], "privateKeyFile": KEY, "address": KEY, "hostKey": [KEY]},
    ]
    for wrong in wrongs:
        for number in range(len(list(places(with_secrets())))):
            sections = with_secrets()
            holder, key = list(places(sections))[number]
            holder[key] = wrong(holder[key])
            assert "S3CRET" not in message(sections), (key, wrong(None))


def test_a_file_that_was_not_meant_is_not_shown() -> None:
    sections = dev_sections()
    sections["cluster"]["network"] = {"fromFile": ".lab/dev/ssh/id_ed25519"}
    with pytest.raises(SettingsError, match=r"cluster\.network = \*+: is not an RFC 1123 label") as error:
        parse(sections, read_file)
    assert "S3CRET" not in str(error.value)


@pytest.mark.parametrize("text", ["users:\n- token: S3CRET\n", "-----BEGIN PRIVATE KEY-----\\nS3CRET\\n"])
def test_nor_is_one_of_several_lines_or_of_a_key_in_one(text: str) -> None:
    sections = {**MINIMAL, "cluster": {**MINIMAL["cluster"], "network": {"fromFile": "kubeconfig"}}}
    with pytest.raises(SettingsError, match=r"cluster\.network = \*+: is not an RFC 1123 label") as error:
        parse(sections, lambda path: text if path == "kubeconfig" else read_file(path))
    assert "S3CRET" not in str(error.value)


@pytest.mark.parametrize("place", ["url", "version"])
def test_nor_is_the_password_in_an_address(place: str) -> None:
    sections = dev_sections()
    sections["sidecar"]["package"][place] = "https://me:S3CRET@mirror.example.com/x.deb"
    sections["sidecar"]["package"]["sha256"] = "https://S3CRET@mirror.example.com"
    assert "sidecar.package.sha256 = **********: " in message(sections)
    assert "S3CRET" not in message(sections)


@pytest.mark.parametrize("url", ["https://mirror/@istio/sidecar@1.31.deb", "http://[fd00::1]:8080/x?a=b@c#d"])
def test_a_path_may_have_what_parts_a_user_from_a_host(url: str) -> None:
    sections = dev_sections()
    sections["sidecar"]["package"]["url"] = url
    assert message(sections) == ""


def with_a_key(**echo: Any) -> dict[str, Any]:
    ssh = {"address": "192.0.2.11", "hostKey": "ssh-ed25519 AAAA", "privateKey": KEY}
    return {"echo": {"machines": {"hosts": {"vm-1": {"ssh": ssh}}}, **echo}}


@pytest.mark.parametrize(
    "workloads",
    [
        with_a_key(namespace="S3CRET"),
        with_a_key(service={"hosts": ["S3CRET"]}),
        with_a_key(probe={"httpGet": {"path": "/", "port": "S3CRET"}}),
        "S3CRET",
    ],
)
def test_no_value_is_shown_of_a_section_in_which_pulumi_decrypted_something(workloads: Any, project: Path) -> None:
    config = {**MINIMAL, "workloads": workloads}
    texts = {f"hybrid-mesh:{k}": v if isinstance(v, str) else json.dumps(v) for k, v in config.items()}
    pulumi.runtime.config.set_all_config(texts, ["hybrid-mesh:workloads"])
    try:
        with pytest.raises(SettingsError, match=r" = \*\*\*") as error:
            from_pulumi_config(project)
    finally:
        pulumi.runtime.config.set_all_config({}, [])
    assert "S3CRET" not in str(error.value)


def test_nor_of_one_that_pulumi_up_says_to_be_secret(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {**MINIMAL, "workloads": with_a_key(namespace="S3CRET")}
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps({f"hybrid-mesh:{k}": json.dumps(v) for k, v in config.items()}))
    monkeypatch.setenv("PULUMI_CONFIG_SECRET_KEYS", '["hybrid-mesh:workloads"]')
    with pytest.raises(SettingsError, match=r"workloads\.echo\.namespace = \*\*\*") as error:
        from_pulumi_config(project)
    assert "S3CRET" not in str(error.value)


def test_settings_cannot_be_changed() -> None:
    settings = parse(MINIMAL, read_file)
    with pytest.raises(ValidationError):
        settings.cluster.name = "other"


def test_the_order_of_keys_makes_no_difference() -> None:
    assert parse(dict(reversed(dev_sections().items())), read_file) == parse(dev_sections(), read_file)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_files(tmp_path)
    (tmp_path / "Pulumi.dev.yaml").write_text((PROJECT_ROOT / "Pulumi.dev.yaml").read_text())
    return tmp_path


def expected() -> Settings:
    return parse(dev_sections(), read_file)


def test_both_adapters_give_the_same(project: Path) -> None:
    config = yaml.safe_load((project / "Pulumi.dev.yaml").read_text())["config"]
    as_pulumi_does = {k: v if isinstance(v, str) else json.dumps(v) for k, v in config.items()}
    pulumi.runtime.config.set_all_config({**as_pulumi_does, "other:key": "not ours"})
    try:
        assert from_pulumi_config(project) == expected()
    finally:
        pulumi.runtime.config.set_all_config({})
    assert from_stack_file(project / "Pulumi.dev.yaml") == expected()


def test_pulumi_s_config_is_searched_for_sections_under_a_misspelt_name_of_the_program(project: Path) -> None:
    texts = {f"hybrid-mesh:{key}": json.dumps(value) for key, value in MINIMAL.items()}
    pulumi.runtime.config.set_all_config({**texts, "hybridmesh:access": "{}"})
    try:
        with pytest.raises(SettingsError, match=r"hybrid-mesh:access: stands under `hybridmesh`"):
            from_pulumi_config(project)
        pulumi.runtime.config.set_all_config({**texts, "hybridmesh:colour": "another project's own"})
        assert from_pulumi_config(project)
    finally:
        pulumi.runtime.config.set_all_config({})


def test_paths_may_be_relative_to_another_folder_than_the_stack_file_s(project: Path) -> None:
    elsewhere = project / "stacks"
    elsewhere.mkdir()
    file = (project / "Pulumi.dev.yaml").rename(elsewhere / "Pulumi.dev.yaml")
    assert from_stack_file(file, project) == expected()


def test_a_key_that_only_pulumi_can_decrypt_passes(project: Path) -> None:
    file = project / "Pulumi.dev.yaml"
    document = yaml.safe_load(file.read_text())
    ssh = document["config"]["hybrid-mesh:workloads"]["echo"]["machines"]["hosts"]["vm-1"]["ssh"]
    del ssh["privateKeyFile"]
    ssh["privateKey"] = {"secure": "v1:abc"}
    file.write_text(yaml.safe_dump(document))
    assert from_stack_file(file)


@pytest.mark.parametrize("text", ["", "config: 1", "- a", "a: [", "\x00"])
def test_a_file_that_is_no_stack_file_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "Pulumi.bad.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"Pulumi\.bad\.yaml"):
        from_stack_file(file)


@pytest.mark.parametrize("phrase", ["S3CRET: x", "*S3CRET", "!S3CRET x", "!a'S3CRET'!b x", "!S3CRET!b x", "'S3CRET'x"])
def test_a_line_that_is_no_yaml_is_named_and_not_shown(phrase: str, tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.bad.yaml"
    file.write_text(f"config:\n  hybrid-mesh:workloads:\n    privateKeyPassphrase: {phrase}\n")
    with pytest.raises(SettingsError, match=r"cannot be read: .*, line 3\.") as error:
        from_stack_file(file)
    assert "S3CRET" not in str(error.value)


@pytest.mark.parametrize("value", ["2024-13-01", "2024-01-01 25:00:00", "0x_"])
def test_what_looks_like_a_date_or_a_number_and_is_none_wants_quotes(value: str, tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.bad.yaml"
    file.write_text(f"config:\n  hybrid-mesh:workloads:\n    echo: {{ labels: {{ build: {value} }} }}\n")
    with pytest.raises(SettingsError, match=r"Pulumi\.bad\.yaml: cannot be read: .* Fix: put that value in quotes\."):
        from_stack_file(file)
    assert sections_of_file(file) == {}


@pytest.mark.parametrize("value", [None, 1, "x", [], [1], {"a": {"b": []}}, True])
@pytest.mark.parametrize(
    "section", ["cluster", "controlPlane", "gateway", "sidecar", "workloads", "routing", "namespaces"]
)
def test_a_section_of_any_shape_ends_in_findings(section: str, value: object) -> None:
    with pytest.raises(SettingsError):
        parse({**MINIMAL, section: value}, read_file)


@pytest.mark.parametrize("key", ["a\nb", "\x1b[31m", "x\u2028", "\r"])
def test_a_finding_is_one_line_whatever_a_key_is(key: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse({**MINIMAL, key: 1, "cluster": {**MINIMAL["cluster"], key: 1}}, read_file)
    assert len(error.value.findings) == 2
    assert len(str(error.value).splitlines()) == 3
    assert all(str(finding).isprintable() for finding in error.value.findings)


def test_a_package_for_each_kind_of_vm_comes_from_istio_unless_told_otherwise() -> None:
    package = given.Package.model_validate(
        {
            "version": "1.31.0",
            "files": {
                "deb-amd64": {"sha256": "a" * 64},
                "deb-arm64": {"sha256": "b" * 64},
                "rpm-amd64": {"sha256": "c" * 64, "url": "https://mirror.example.com/x.rpm"},
                "rpm-arm64": {"sha256": "d" * 64},
            },
        }
    )
    official = "https://storage.googleapis.com/istio-release/releases/1.31.0"
    assert package.by_kind == {
        "deb-amd64": (f"{official}/deb/istio-sidecar.deb", "a" * 64),
        "deb-arm64": (f"{official}/deb/istio-sidecar-arm64.deb", "b" * 64),
        "rpm-amd64": ("https://mirror.example.com/x.rpm", "c" * 64),
        "rpm-arm64": (f"{official}/rpm/istio-sidecar-arm64.rpm", "d" * 64),
    }


def test_one_package_for_all_is_of_every_kind() -> None:
    package = given.Package.model_validate({"url": "http://m/x.deb", "sha256": "a" * 64, "version": "1.31.0"})
    assert package.by_kind == {"": ("http://m/x.deb", "a" * 64)}
