"""The real istioctl is the judge of what bootstrap files mean. Where we differ from it on purpose, a test says so."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import example, given
from kubernetes import client, config

from hybridmesh.istio import (
    BootstrapError,
    BootstrapFiles,
    BootstrapOptions,
    bootstrap_files,
    goyaml,
    group_from_yaml,
    mesh_config_map,
    parse_mesh_config,
    schema,
)
from tests.fuzz import MANY, random

from . import cases, descriptors
from .test_inputs import certificate

pytestmark = pytest.mark.lab

ISTIO_NAMESPACE = "bootstrap-istio"


class Lab(Protocol):
    """What these tests need of the embedded environment."""

    @property
    def kubeconfig(self) -> Path: ...
    @property
    def bin(self) -> Path: ...


class IstioctlError(Exception):
    """istioctl failed; its words."""


@dataclass(frozen=True)
class Istioctl:
    """The real one, on an API server that has what it asks for."""

    lab: Lab
    core: client.CoreV1Api
    scratch: Path

    def run(self, case: cases.Case) -> BootstrapFiles:
        """Its files. Raises `IstioctlError`."""
        name = mesh_config_map(case.revision)
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name), data={"mesh": case.mesh_config})
        self.core.replace_namespaced_config_map(name, ISTIO_NAMESPACE, body)
        group = self.scratch / "group.yaml"
        group.write_text(case.group, newline="")
        self._call(
            *("x", "workload", "entry", "configure", "--file", str(group), "--output", str(self.scratch / "out")),
            *("--istioNamespace", ISTIO_NAMESPACE, "--revision", case.revision, f"--clusterID={case.cluster_id}"),
            *(f"--ingressIP={case.ingress_ip}", f"--autoregister={case.auto_register}".lower()),
            *(f"--internalIP={case.internal_ip}", f"--externalIP={case.external_ip}"),
            f"--capture-dns={case.dns_capture}".lower(),
        )
        return BootstrapFiles(*(self._file(n) for n in ("cluster.env", "mesh.yaml", "hosts")))

    def _call(self, *arguments: str) -> None:
        command = [str(self.lab.bin / "istioctl"), "--kubeconfig", str(self.lab.kubeconfig), *arguments]
        ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
        if ended.returncode:
            raise IstioctlError(ended.stderr.decode())

    def _file(self, name: str) -> str:
        with (self.scratch / "out" / name).open(newline="") as file:
            return file.read()


@pytest.fixture(scope="module")
def istioctl(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Istioctl]:
    core = client.CoreV1Api(config.new_client_from_config(str(lab.kubeconfig)))
    namespaces = (ISTIO_NAMESPACE, *cases.NAMESPACES)
    for namespace in namespaces:
        with suppress(client.ApiException):  # left over from a run that was killed
            core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=namespace)))
    for revision in cases.REVISIONS:
        _create_config_map(core, ISTIO_NAMESPACE, mesh_config_map(revision), {"mesh": ""})
    for namespace in cases.NAMESPACES:
        _create_config_map(core, namespace, "istio-ca-root-cert", {"root-cert.pem": "a certificate"})
        for name in cases.SERVICE_ACCOUNTS:
            account = client.V1ServiceAccount(metadata=client.V1ObjectMeta(name=name))
            with suppress(client.ApiException):  # Kubernetes makes `default` itself
                core.create_namespaced_service_account(namespace, account)
    yield Istioctl(lab, core, tmp_path_factory.mktemp("istioctl"))
    for namespace in namespaces:
        core.delete_namespace(namespace)


def _create_config_map(core: client.CoreV1Api, namespace: str, name: str, data: dict[str, str]) -> None:
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name), data=data)
    with suppress(client.ApiException):  # a running istiod makes istio-ca-root-cert itself
        core.create_namespaced_config_map(namespace, body)


def ours(case: cases.Case) -> BootstrapFiles:
    options = BootstrapOptions(
        cluster_id=case.cluster_id,
        revision=case.revision,
        istio_namespace=ISTIO_NAMESPACE,
        ingress_addresses=(case.ingress_ip,) if case.ingress_ip else (),
        internal_ip=case.internal_ip,
        external_ip=case.external_ip,
        auto_register=case.auto_register,
        dns_capture=case.dns_capture or None,
    )
    return bootstrap_files(group_from_yaml(case.group), case.mesh_config, options)


def comparable(files: BootstrapFiles) -> dict[str, Any]:
    """All that must be equal: every byte, but for istioctl's random order of ports and the looks of YAML.

    To the looks belongs how a double is written, 4.7e+16 or 47000000000000000: whole numbers that are no doubles have
    32 bits, or are text.
    """
    variables = []
    for line in files.cluster_env.split("\n"):
        name, separator, ports = line.partition("=")
        if name == "ISTIO_INBOUND_PORTS":
            ports = "'" + ",".join(sorted(ports.strip("'").split(","))) + "'"
        elif "\\" in ports and re.fullmatch(r"[\\w@%+=:,./-]+", ports):
            ports = f"'{ports}'"  # istioctl leaves it bare, and a shell changes it
        variables.append(name + separator + ports)
    mesh = _with_doubles(goyaml.load(files.mesh_yaml, "mesh.yaml"))
    return {"cluster.env": variables, "mesh.yaml": mesh, "hosts": files.hosts}


def _with_doubles(value: goyaml.Json) -> goyaml.Json:
    if isinstance(value, dict):
        return {key: _with_doubles(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_doubles(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@random()
@given(cases.cases())
@example(replace(cases.PLAIN, mesh_config="defaultConfig: {tracing: {sampling: 4.687382626869209e+16}}"))
def test_files_mean_what_istioctls_mean(istioctl: Istioctl, case: cases.Case) -> None:
    assert comparable(ours(case)) == comparable(istioctl.run(case))


@random(MANY // 2)
@given(cases.oddly_spelled())
def test_yaml_is_read_and_refused_as_by_istioctl(istioctl: Istioctl, case: cases.Case) -> None:
    try:
        theirs = istioctl.run(case)
    except IstioctlError:
        with pytest.raises(BootstrapError):
            ours(case)
    else:
        assert comparable(ours(case)) == comparable(theirs)


@random(MANY // 4)
@given(cases.cases())
def test_go_reads_our_mesh_yaml_as_we_meant_it(istioctl: Istioctl, case: cases.Case) -> None:
    made = ours(case)
    trust_domain = parse_mesh_config(case.mesh_config).trust_domain
    from_ours = replace(case, mesh_config=made.mesh_yaml + goyaml.dump({"trustDomain": trust_domain}))
    assert comparable(istioctl.run(from_ours))["mesh.yaml"] == comparable(made)["mesh.yaml"]


def test_our_tables_of_messages_are_those_of_istioctl(lab: Lab) -> None:
    messages, enums = descriptors.tables(lab.bin / "istioctl")
    assert {name: list(fields.items()) for name, fields in messages.items()} == {
        name: list(fields.items()) for name, fields in schema.MESSAGES.items()
    }
    assert enums == schema.ENUMS


@dataclass(frozen=True)
class Difference:
    """An input on which we are better than istioctl."""

    case: cases.Case
    theirs: str
    """What istioctl says as it fails; empty: it makes files."""
    ours: str
    """What we say; empty: we make files."""


def _group(yaml: str) -> cases.Case:
    return replace(cases.PLAIN, group=yaml)


DIFFERENCES = {
    "an annotation's proxyMetadata over a defaultConfig without any crashes istioctl": Difference(
        replace(
            _group(
                """
                metadata: {name: echo, namespace: bootstrap-demo}
                spec: {metadata: {annotations: {proxy.istio.io/config: "proxyMetadata: {A: b}"}}}
                """
            ),
            mesh_config="defaultConfig: {}",
        ),
        theirs="assignment to entry in nil map",
        ours="",
    ),
    "a host name as ingress gives an empty hosts file": Difference(
        replace(cases.PLAIN, ingress_ip="gateway.example.com"), theirs="", ours="ingress address"
    ),
    "a value with U+007F fails": Difference(
        replace(cases.PLAIN, cluster_id="a\x7fb"), theirs="control characters are not allowed", ours=""
    ),
    "an internal IP that is none goes to the VM": Difference(
        replace(cases.PLAIN, internal_ip="10.0.0.300"), theirs="", ours="internal IP"
    ),
    "a variable's name that a shell would run goes to the VM": Difference(
        replace(cases.PLAIN, mesh_config="defaultConfig: {proxyMetadata: {a.b: c}}"),
        theirs="",
        ours="name in proxyMetadata",
    ),
    "a port that is none goes to the VM": Difference(
        _group("{metadata: {name: a, namespace: bootstrap-demo}, spec: {template: {ports: {http: 80800}}}}"),
        theirs="",
        ours="spec.template.ports.http",
    ),
    "a number as a name is rounded": Difference(
        _group("{metadata: {name: 1.10, namespace: bootstrap-demo}, spec: {}}"), theirs="", ours="metadata.name"
    ),
    "a key that YAML takes for a fraction is rounded": Difference(
        replace(cases.PLAIN, mesh_config="defaultConfig: {runtimeValues: {1.10: x}}"),
        theirs="",
        ours="is a key in line 1",
    ),
    "a name that Kubernetes refuses is taken": Difference(
        _group("{metadata: {name: Écho, namespace: bootstrap-demo}, spec: {}}"), theirs="", ours="metadata.name"
    ),
    "no name is taken": Difference(
        _group("{metadata: {namespace: bootstrap-demo}, spec: {}}"), theirs="", ours="metadata.name"
    ),
    "another kind is taken": Difference(
        _group("{kind: Deployment, metadata: {name: a, namespace: bootstrap-demo}, spec: {}}"), theirs="", ours="kind"
    ),
    "of several groups all but the first are dropped": Difference(
        _group("\n---\n".join(2 * ["{kind: WorkloadGroup, metadata: {name: a, namespace: bootstrap-demo}, spec: {}}"])),
        theirs="",
        ours="2 WorkloadGroups",
    ),
    "both an internal and an external IP are refused, as by us": Difference(
        replace(cases.PLAIN, internal_ip="10.0.0.3", external_ip="10.0.0.4"),
        theirs="mutually exclusive",
        ours="are both given",
    ),
}


@pytest.mark.parametrize("difference", DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_where_we_differ_on_purpose(istioctl: Istioctl, difference: Difference) -> None:
    if difference.theirs:
        with pytest.raises(IstioctlError, match=difference.theirs):
            istioctl.run(difference.case)
    else:
        istioctl.run(difference.case)
    if difference.ours:
        with pytest.raises(BootstrapError, match=difference.ours):
            ours(difference.case)
    else:
        ours(difference.case)


def test_istioctl_turns_a_next_line_character_into_a_blank_and_we_do_not(istioctl: Istioctl) -> None:
    case = replace(cases.PLAIN, cluster_id="a\x85b")
    theirs, made = (
        comparable(files)["mesh.yaml"]["defaultConfig"]["proxyMetadata"]["ISTIO_META_CLUSTER_ID"]
        for files in (istioctl.run(case), ours(case))
    )
    assert (theirs, made) == ("a b", "a\x85b")


def test_istioctl_turns_the_key_of_two_less_than_signs_into_a_merge_and_we_do_not(istioctl: Istioctl) -> None:
    case = replace(cases.PLAIN, mesh_config="defaultConfig: {proxyMetadata: {}, runtimeValues: {'<<': a}}")
    with pytest.raises(BootstrapError, match="merges something other than a mapping"):
        goyaml.load(istioctl.run(case).mesh_yaml, "istioctl's mesh.yaml")
    assert comparable(ours(case))["mesh.yaml"]["defaultConfig"]["runtimeValues"] == {"<<": "a"}


def test_a_host_name_as_ingress_leaves_istioctls_hosts_file_empty(istioctl: Istioctl) -> None:
    assert istioctl.run(replace(cases.PLAIN, ingress_ip="gateway.example.com")).hosts == ""


def test_the_verb_writes_what_istioctl_writes_but_keeps_the_token_secret(istioctl: Istioctl, tmp_path: Path) -> None:
    theirs = istioctl.run(replace(cases.PLAIN, internal_ip="10.0.0.5"))
    out = istioctl.scratch / "out"
    (tmp_path / "group.yaml").write_text(cases.PLAIN.group)
    (tmp_path / "mesh.yaml").write_text(cases.PLAIN.mesh_config)
    (tmp_path / "root.pem").write_text(certificate()[0])
    flags = f"--clusterID one --ingressIP 10.0.0.1 --internalIP 10.0.0.5 --istioNamespace {ISTIO_NAMESPACE}".split()
    inputs = ["-f", "group.yaml", "--mesh-config", "mesh.yaml", "--root-cert", "root.pem"]
    command = [
        sys.executable,
        "-m",
        "hybridmesh",
        "bootstrap",
        *inputs,
        "--token",
        str(out / "istio-token"),
        "-o",
        "ours",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    subprocess.run([*command, *flags], cwd=tmp_path, env=environment, check=True, timeout=60, capture_output=True)
    made = tmp_path / "ours"
    assert (made / "cluster.env").read_text() == theirs.cluster_env
    assert (made / "hosts").read_text() == theirs.hosts
    assert (made / "istio-token").read_text() == (out / "istio-token").read_text()
    assert {path.name for path in made.iterdir()} == {path.name for path in out.iterdir()}
    assert [stat.S_IMODE((folder / "istio-token").stat().st_mode) for folder in (out, made)] == [0o744, 0o600]
