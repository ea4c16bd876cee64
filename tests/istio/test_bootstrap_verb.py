"""`python -m hybridmesh bootstrap`."""

import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hybridmesh.__main__ import app
from hybridmesh.istio import BootstrapOptions, bootstrap_files, group_from_yaml

from .test_inputs import certificate

GROUP = "kind: WorkloadGroup\nmetadata: {name: echo, namespace: demo}\nspec: {template: {serviceAccount: echo}}\n"
MESH = "trustDomain: example.org\n"
TOKEN = "header.claims.signature"


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with all that the verb reads."""
    (tmp_path / "group.yaml").write_text(GROUP)
    (tmp_path / "mesh.yaml").write_text(MESH)
    (tmp_path / "root.pem").write_text(certificate()[0])
    (tmp_path / "token").write_text(TOKEN + "\n")
    return tmp_path


def run(inputs: Path, *more: str) -> Result:
    """The verb on those inputs, writing to their subfolder `out`."""
    arguments = ["-f", "group.yaml", "--mesh-config", "mesh.yaml", "--root-cert", "root.pem", "-o", "out", *more]
    files = ("group.yaml", "mesh.yaml", "root.pem", "token", "out")
    return CliRunner().invoke(app, ["bootstrap", *(str(inputs / a) if a in files else a for a in arguments)])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_all_files_are_written_with_safe_modes(inputs: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        result = run(inputs, "--token", "token", "--ingressIP", "10.0.0.9", "--clusterID", "one")
    finally:
        os.umask(before)
    assert result.exit_code == 0, result.output
    out = inputs / "out"
    assert {p.name: mode(p) for p in out.iterdir()} == {
        "cluster.env": 0o644,
        "mesh.yaml": 0o644,
        "hosts": 0o644,
        "root-cert.pem": 0o644,
        "istio-token": 0o600,
    }
    assert mode(out) == 0o700
    assert (out / "istio-token").read_text() == TOKEN
    assert (out / "root-cert.pem").read_text() == (inputs / "root.pem").read_text()
    assert "Note" not in result.output
    assert "…" not in result.output, "where a file belongs is read off"
    assert "/var/run/secrets/tokens/istio-token" in result.output
    assert TOKEN not in result.output


def test_flags_mean_what_the_options_mean(inputs: Path) -> None:
    result = run(
        inputs,
        *("--clusterID", "one", "--ingressIP", "10.0.0.9", "--ingressIP", "fd00::9", "--internalIP", "10.0.0.5"),
        *("--revision", "canary", "-i", "mesh", "--autoregister", "--capture-dns=false"),
    )
    assert result.exit_code == 0, result.output
    options = BootstrapOptions(
        cluster_id="one",
        ingress_addresses=("10.0.0.9", "fd00::9"),
        internal_ip="10.0.0.5",
        revision="canary",
        istio_namespace="mesh",
        auto_register=True,
        dns_capture=False,
    )
    expected = bootstrap_files(group_from_yaml(GROUP), MESH, options)
    out = inputs / "out"
    assert (out / "cluster.env").read_text() == expected.cluster_env
    assert (out / "mesh.yaml").read_text() == expected.mesh_yaml
    assert (out / "hosts").read_text() == expected.hosts
    assert not (out / "istio-token").exists()
    assert mode(out) == 0o755


@pytest.mark.parametrize(
    ("switch", "name", "there"),
    [
        ((), "ISTIO_META_DNS_CAPTURE", True),
        (("--capture-dns",), "ISTIO_META_DNS_CAPTURE", True),
        (("--no-capture-dns",), "ISTIO_META_DNS_CAPTURE", False),
        ((), "ISTIO_META_AUTO_REGISTER_GROUP", False),
        (("--autoregister=true",), "ISTIO_META_AUTO_REGISTER_GROUP", True),
        (("--autoregister=false",), "ISTIO_META_AUTO_REGISTER_GROUP", False),
    ],
)
def test_switches_are_spelled_as_for_istioctl(inputs: Path, switch: tuple[str, ...], name: str, there: bool) -> None:
    assert run(inputs, *switch).exit_code == 0
    assert (name in (inputs / "out" / "cluster.env").read_text()) is there


def test_a_host_name_is_resolved_and_said(inputs: Path) -> None:
    result = run(inputs, "--ingressIP", "localhost")
    hosts = (inputs / "out" / "hosts").read_text()
    assert "127.0.0.1 istiod.istio-system.svc\n" in hosts
    assert "localhost is now" in result.output


def test_what_may_be_missing_or_mistyped_is_said(inputs: Path) -> None:
    (inputs / "mesh.yaml").write_text("defaultConfig: {drainduration: 5s}")
    output = run(inputs).output
    assert "hosts is empty" in output
    assert "No --clusterID" in output
    assert "mesh config: defaultConfig.drainduration is nothing that Istio knows" in output


def test_a_second_run_replaces_files_and_keeps_the_folders_mode(inputs: Path) -> None:
    out = inputs / "out"
    out.mkdir(mode=0o750)
    (out / "istio-token").write_text("old")
    (out / "istio-token").chmod(0o644)
    (out / "mine").write_text("stays")
    for _ in range(2):
        assert run(inputs, "--token", "token").exit_code == 0
    assert mode(out) == 0o750
    assert (mode(out / "istio-token"), (out / "istio-token").read_text()) == (0o600, TOKEN)
    assert len(list(out.iterdir())) == 6


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("group.yaml", "a: b: c", "Error: WorkloadGroup: is not YAML"),
        ("group.yaml", "kind: WorkloadGroup", "Error: WorkloadGroup metadata.name: is missing"),
        ("mesh.yaml", "- a", "Error: mesh config = ['a']: is not a mapping"),
        ("root.pem", "fake", "Error: root certificate = 'fake': is not a certificate"),
        ("token", " \n", "Error: --token: is not a token"),
        ("token", f"{TOKEN} two", "Error: --token: is not a token"),
    ],
)
def test_bad_input_is_said_and_nothing_written(inputs: Path, file: str, content: str, said: str) -> None:
    (inputs / file).write_text(content)
    result = run(inputs, "--token", "token")
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert "Fix: " in result.stderr
    assert "Traceback" not in result.stderr
    assert TOKEN not in result.stderr
    assert not (inputs / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--ingressIP", "10.0.0.300"), "ingress address = '10.0.0.300'"),
        (("--ingressIP", "gw.invalid"), "--ingressIP = 'gw.invalid': cannot be resolved"),
        (("--internalIP", "10.0.0.1", "--externalIP", "10.0.0.2"), "are both given"),
        (("--revision", "A"), "revision = 'A'"),
        (("--token", "nowhere"), "--token = 'nowhere': cannot be read: No such file"),
    ],
)
def test_bad_flags_are_said_and_nothing_written(inputs: Path, arguments: tuple[str, ...], said: str) -> None:
    result = run(inputs, *arguments)
    assert result.exit_code == 1
    assert said in result.stderr
    assert not (inputs / "out").exists()


def test_a_file_that_is_not_text_is_said(inputs: Path) -> None:
    (inputs / "group.yaml").write_bytes(b"\xff")
    assert "cannot be read: it is not UTF-8 text" in run(inputs).stderr


def test_an_output_that_is_a_file_is_said(inputs: Path) -> None:
    (inputs / "out").write_text("mine")
    result = run(inputs)
    assert result.exit_code == 1
    assert "is not a folder" in result.stderr
    assert (inputs / "out").read_text() == "mine"


def test_a_failed_write_leaves_what_was_there(inputs: Path) -> None:
    out = inputs / "out"
    (out / "hosts").mkdir(parents=True)
    result = run(inputs)
    assert result.exit_code == 1
    assert "Error: " in result.stderr
    assert not [p for p in out.iterdir() if p.name.startswith(".")]
