"""What the files hold. Whether they mean what istioctl's mean is judged by istioctl, in test_against_istioctl.py."""

import copy
import re
import subprocess
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridmesh.istio import (
    BootstrapError,
    BootstrapOptions,
    bootstrap_files,
    breaks_start,
    cluster_env,
    hosts_file,
    hosts_template,
    mesh_yaml,
    unknown_fields,
)

from . import cases

GROUP: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "WorkloadGroup",
    "metadata": {"name": "echo", "namespace": "demo"},
    "spec": {
        "metadata": {
            "labels": {"app": "echo", "version": "vm", "team": "<a&b>"},
            "annotations": {"proxy.istio.io/config": "proxyMetadata: {FROM: group}\nconcurrency: 2"},
        },
        "template": {
            "serviceAccount": "echo",
            "network": "vm-network",
            "ports": {"http": 8080, "admin": 900, "grpc": 7070},
        },
        "probe": {"httpGet": {"port": 8080, "path": "/health/ready"}, "periodSeconds": 5},
    },
}
MESH = """
trustDomain: example.org
defaultConfig:
  meshId: mesh1
  drainDuration: 1m
  concurrency: 4
  proxyMetadata: {FROM: mesh, MESH: it's}
"""
OPTIONS = BootstrapOptions(cluster_id="one", ingress_addresses=("10.0.0.9",), internal_ip="10.0.0.5")

CLUSTER_ENV = """\
CANONICAL_REVISION='vm'
CANONICAL_SERVICE='echo'
FROM='group'
ISTIO_INBOUND_PORTS='900,7070,8080'
ISTIO_LOCAL_EXCLUDE_PORTS='22,15090,15021,15020'
ISTIO_METAJSON_LABELS='{"app":"echo","service.istio.io/canonical-name":"echo","service.istio.io/canonical-revision":"vm",\
"team":"\\u003ca\\u0026b\\u003e","version":"vm"}'
ISTIO_META_CLUSTER_ID='one'
ISTIO_META_DNS_CAPTURE='true'
ISTIO_META_MESH_ID='mesh1'
ISTIO_META_NETWORK='vm-network'
ISTIO_META_POD_PORTS='[{"name":"admin","containerPort":900,"protocol":""},{"name":"grpc","containerPort":7070,\
"protocol":""},{"name":"http","containerPort":8080,"protocol":""}]'
ISTIO_META_WORKLOAD_NAME='echo'
ISTIO_NAMESPACE='demo'
ISTIO_SERVICE='echo.demo'
ISTIO_SERVICE_CIDR='*'
ISTIO_SVC_IP='10.0.0.5'
MESH='it'"'"'s'
POD_NAMESPACE='demo'
SERVICE_ACCOUNT='echo'
TRUST_DOMAIN='example.org'
"""


def default_config(group: dict[str, Any], mesh: str = MESH, options: BootstrapOptions = OPTIONS) -> dict[str, Any]:
    """`defaultConfig` of the mesh.yaml made from these."""
    loaded: dict[str, Any] = yaml.safe_load(mesh_yaml(group, mesh, options))
    assert list(loaded) == ["defaultConfig"]
    config: dict[str, Any] = loaded["defaultConfig"]
    return config


def variables(group: dict[str, Any] = GROUP, mesh: str = MESH, options: BootstrapOptions = OPTIONS) -> dict[str, str]:
    """What a shell that sources cluster.env has."""
    script = "set -ea; . /dev/stdin; exec env -0"
    run = subprocess.run(
        ["bash", "-c", script],
        input=cluster_env(group, mesh, options).encode(),
        env={},
        capture_output=True,
        check=True,
    )
    return dict(entry.split("=", 1) for entry in run.stdout.decode().split("\0") if entry)


def changed(path: str, value: Any) -> dict[str, Any]:
    """GROUP with `value` at `path`; None removes what is there."""
    group = copy.deepcopy(GROUP)
    *parents, last = path.split(".")
    node = group
    for key in parents:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return group


def test_the_three_files_of_a_plain_group() -> None:
    files = bootstrap_files(GROUP, MESH, OPTIONS)
    assert files.cluster_env == CLUSTER_ENV
    assert files.hosts == "10.0.0.9 istiod.istio-system.svc\n"
    metadata = dict(line.split("=", 1) for line in CLUSTER_ENV.splitlines())
    assert yaml.safe_load(files.mesh_yaml) == {
        "defaultConfig": {
            "meshId": "mesh1",
            "drainDuration": "60s",
            "concurrency": 2,
            "readinessProbe": {"httpGet": {"port": 8080, "path": "/health/ready"}, "periodSeconds": 5},
            "proxyMetadata": {
                name: value[1:-1].replace("'\"'\"'", "'")
                for name, value in metadata.items()
                if name.startswith(("CANONICAL", "ISTIO_META", "POD", "SERVICE_A", "TRUST", "FROM", "MESH"))
            },
        }
    }


def test_each_file_comes_from_a_function_of_its_own() -> None:
    files = bootstrap_files(GROUP, MESH, OPTIONS)
    without_ingress = BootstrapOptions(cluster_id="one", internal_ip="10.0.0.5")
    assert cluster_env(GROUP, MESH, without_ingress) == files.cluster_env
    assert mesh_yaml(GROUP, MESH, without_ingress) == files.mesh_yaml
    assert hosts_file(["10.0.0.9"]) == files.hosts


def test_inputs_stay_as_they_were() -> None:
    before = copy.deepcopy(GROUP)
    bootstrap_files(GROUP, MESH, OPTIONS)
    assert before == GROUP


# Bugs of istioctl, each done better.


@pytest.mark.parametrize("spec", [{}, None, {"metadata": None, "template": None}])
def test_a_group_without_spec_metadata_does_not_crash(spec: Any) -> None:
    group = {"metadata": {"name": "echo", "namespace": "demo"}, "spec": spec}
    assert default_config(group)["proxyMetadata"]["CANONICAL_SERVICE"] == "echo"


@pytest.mark.parametrize("account", ["", None])
def test_an_empty_service_account_is_default(account: str | None) -> None:
    group = changed("spec.template.serviceAccount", account)
    assert variables(group)["SERVICE_ACCOUNT"] == "default"
    assert default_config(group)["proxyMetadata"]["SERVICE_ACCOUNT"] == "default"


@pytest.mark.parametrize("mesh", ["defaultConfig: {}", "defaultConfig: {proxyMetadata: }", "{}", ""])
def test_an_annotation_may_have_proxy_metadata_where_the_mesh_has_none(mesh: str) -> None:
    assert default_config(GROUP, mesh)["proxyMetadata"]["FROM"] == "group"


def test_a_host_name_as_ingress_is_an_error_and_not_an_empty_file() -> None:
    with pytest.raises(
        BootstrapError, match=r"ingress address = 'gw\.example\.com': is not an IP address.*resolves to"
    ):
        hosts_file(["gw.example.com"])


def test_a_template_of_hosts_may_have_a_host_name_which_the_vm_resolves() -> None:
    assert hosts_template("GW.example.com.", revision="canary") == "gw.example.com istiod-canary.istio-system.svc\n"
    assert hosts_template("192.0.2.1") == hosts_file(["192.0.2.1"])
    for address in ("192.0.2.1", "gw.example.com"):
        line = hosts_template(address, istio_namespace="mesh", revision="canary")
        assert line == f"{address} istiod-canary.mesh.svc\n"


@pytest.mark.parametrize("address", ["", "192.0.2.300", "gw_1.example.com", "gw.example.com; reboot", "a..b", "-gw.x"])
def test_a_template_of_hosts_takes_nothing_else(address: str) -> None:
    with pytest.raises(BootstrapError):
        hosts_template(address)


def test_inbound_ports_come_in_an_order_that_stays() -> None:
    backwards = changed("spec.template.ports", dict(reversed(GROUP["spec"]["template"]["ports"].items())))
    assert cluster_env(backwards, MESH, OPTIONS) == CLUSTER_ENV


def test_a_port_under_two_names_is_listed_twice_as_by_istioctl() -> None:
    assert variables(changed("spec.template.ports", {"a": 80, "b": 80}))["ISTIO_INBOUND_PORTS"] == "80,80"


# hosts


def test_hosts_has_a_line_per_address_and_none_twice() -> None:
    assert hosts_file(["10.0.0.9", "fd00::9", "10.0.0.9"], istio_namespace="mesh", revision="canary") == (
        "10.0.0.9 istiod-canary.mesh.svc\nfd00::9 istiod-canary.mesh.svc\n"
    )


def test_hosts_is_empty_where_the_vm_needs_no_gateway() -> None:
    assert hosts_file([]) == ""


# cluster.env


def test_without_ports_all_incoming_connections_go_through_the_proxy() -> None:
    group = changed("spec.template.ports", {})
    assert variables(group)["ISTIO_INBOUND_PORTS"] == "*"
    assert "ISTIO_META_POD_PORTS" not in variables(group)


@pytest.mark.parametrize("ports", [None, {}])
def test_ports_of_the_options_hold_over_those_of_the_group_and_over_none(ports: dict[str, int] | None) -> None:
    group = GROUP if ports is None else changed("spec.template.ports", ports)
    for listed, said in (((9100, 80, 9100), "80,9100"), ((), "")):
        assert variables(group, options=BootstrapOptions(inbound_ports=listed))["ISTIO_INBOUND_PORTS"] == said
    everything = BootstrapOptions(inbound_ports=(80,), all_inbound_ports=True)
    assert variables(group, options=everything)["ISTIO_INBOUND_PORTS"] == "*"


@pytest.mark.parametrize(
    ("status_port", "excluded"),
    [
        ("0", "22,15090,15021,15020"),
        ("15090", "22,15090,15021"),
        ("15021", "22,15090,15021"),
        ("9", "22,15090,15021,9"),
    ],
)
def test_the_status_port_is_never_redirected(status_port: str, excluded: str) -> None:
    mesh = f"defaultConfig: {{statusPort: {status_port}}}"
    assert variables(mesh=mesh)["ISTIO_LOCAL_EXCLUDE_PORTS"] == excluded


def test_folders_that_the_mesh_has_for_its_pods_are_not_a_vm_s() -> None:
    """It would look for its certificate in /etc/certs after a reboot, and its logs are emptied where they are."""
    mesh = "defaultConfig: {proxyMetadata: {OUTPUT_CERTS: /etc/istio-output-certs, ISTIO_LOG_DIR: /x, A: b}}"
    for text in (cluster_env, mesh_yaml):
        assert "OUTPUT_CERTS" in text(GROUP, mesh, BootstrapOptions())
        there = text(GROUP, mesh, BootstrapOptions(standard_places=True))
        assert "OUTPUT_CERTS" not in there
        assert "ISTIO_LOG_DIR" not in there
    own = BootstrapOptions(standard_places=True, environment={"OUTPUT_CERTS": "/etc/certs"})
    assert "OUTPUT_CERTS=/etc/certs" in cluster_env(GROUP, mesh, own).replace("'", "")


def test_a_vm_s_agent_is_where_firewall_and_scripts_look_for_it_whatever_the_mesh_says_for_pods() -> None:
    mesh, options = "defaultConfig: {statusPort: 15030, proxyAdminPort: 15100}", BootstrapOptions(standard_places=True)
    assert default_config(GROUP, mesh, options).keys() & {"statusPort", "proxyAdminPort"} == set()
    assert variables(mesh=mesh, options=options)["ISTIO_LOCAL_EXCLUDE_PORTS"] == "22,15090,15021,15020"
    assert default_config(GROUP, mesh, OPTIONS)["statusPort"] == 15030, "as istioctl has it"


def test_another_ssh_port_is_never_redirected() -> None:
    options = BootstrapOptions(local_exclude_ports=(2222, 22, 2222))
    assert variables(options=options)["ISTIO_LOCAL_EXCLUDE_PORTS"] == "22,15090,15021,15020,2222"


def test_an_app_at_sshd_s_port_is_refused_instead_of_bypassing_the_proxy() -> None:
    port = next(iter(GROUP["spec"]["template"]["ports"].values()))
    with pytest.raises(BootstrapError, match=f"port of the WorkloadGroup = {port}: is sshd's"):
        variables(options=BootstrapOptions(local_exclude_ports=(port,)))


def test_an_external_address_lets_probes_in() -> None:
    env = variables(options=BootstrapOptions(external_ip="203.0.113.7"))
    assert env["ISTIO_SVC_IP"] == "203.0.113.7"
    assert env["REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION"] == "true"


def test_an_unknown_address_is_left_to_the_vm() -> None:
    assert "ISTIO_SVC_IP" not in variables(options=BootstrapOptions())


def test_extra_environment_holds_over_all_and_leaves_mesh_yaml_alone() -> None:
    options = BootstrapOptions(environment={"CLOUD_PLATFORM": "none", "ISTIO_SERVICE_CIDR": "10.0.0.0/8"})
    assert variables(options=options).items() >= {"CLOUD_PLATFORM": "none", "ISTIO_SERVICE_CIDR": "10.0.0.0/8"}.items()
    assert mesh_yaml(GROUP, MESH, options) == mesh_yaml(GROUP, MESH, BootstrapOptions())


def test_lines_are_sorted_as_lines_not_as_names() -> None:
    mesh = "defaultConfig: {proxyMetadata: {FOO: a, FOO1: b, FOO_: c}}"
    lines = cluster_env(GROUP, mesh, OPTIONS).splitlines()
    assert [line for line in lines if line.startswith("FOO")] == ["FOO1='b'", "FOO='a'", "FOO_='c'"]


@settings(deadline=None, max_examples=40, derandomize=True, database=None)
@given(st.dictionaries(cases.variable.map("T_{}".format), st.text(cases.no_surrogates_or_nul, max_size=20), max_size=5))
def test_a_shell_reads_every_value_as_it_was(environment: dict[str, str]) -> None:
    assert variables(options=BootstrapOptions(environment=environment)).items() >= environment.items()


def test_a_backslash_at_a_lines_end_joins_no_lines() -> None:
    environment = {"A": "\\", "B": "w\\w", "C": "next"}
    assert variables(options=BootstrapOptions(environment=environment)).items() >= environment.items()


@pytest.mark.parametrize("name", ["a.b", "1A", "", "A B", "$(id)", "é"])
def test_a_name_that_is_no_variable_never_reaches_a_shell(name: str) -> None:
    mesh = yaml.safe_dump({"defaultConfig": {"proxyMetadata": {name: "x"}}})
    with pytest.raises(BootstrapError, match="is not the name of a variable"):
        cluster_env(GROUP, mesh, OPTIONS)


@pytest.mark.parametrize(("name", "value"), [("EXEC_USER", "root"), ("ISTIO_INBOUND_INTERCEPTION_MODE", "TPROXY")])
def test_no_variable_lets_another_user_run_the_proxy_wherever_it_comes_from(name: str, value: str) -> None:
    metadata = yaml.safe_dump({"proxyMetadata": {name: value}})
    annotated = changed("metadata.annotations", {"proxy.istio.io/config": metadata})
    for group, mesh, options in (
        (GROUP, yaml.safe_dump({"defaultConfig": {"proxyMetadata": {name: value}}}), OPTIONS),
        (annotated, MESH, OPTIONS),
        (GROUP, MESH, BootstrapOptions(environment={name: value})),
    ):
        with pytest.raises(BootstrapError, match=f"^{name} in .* = '{value}': lets another user .* Fix: leave it out"):
            cluster_env(group, mesh, options)
    for harmless in ("", "istio-proxy" if name == "EXEC_USER" else "REDIRECT"):
        assert variables(options=BootstrapOptions(environment={name: harmless}))[name] == harmless


@pytest.mark.parametrize(
    ("name", "value", "consequence"),
    [
        ("PATH", "/opt/bin:/usr/bin", "might not find hostname"),
        ("IFS", ",", "join the agent's flags"),
        ("SHELL", "/bin/false", "sudo starts the agent with it"),
        ("LD_PRELOAD", "/opt/a.so", "sudo takes it away"),
        ("UID", "1337", "bash lets nobody set it"),
        ("USER", "istio-proxy", "run the proxy as root"),
        ("ISTIO_BIN_BASE", "/opt/istio", "would not find pilot-agent"),
    ],
)
def test_no_variable_breaks_the_script_that_starts_istio(name: str, value: str, consequence: str) -> None:
    mesh = yaml.safe_dump({"defaultConfig": {"proxyMetadata": {name: value}}})
    for mesh_config, options in ((mesh, OPTIONS), (MESH, BootstrapOptions(environment={name: value}))):
        with pytest.raises(BootstrapError, match=f"^{name} in .* starts Istio on the VM.*{consequence}.*Fix: leave it"):
            cluster_env(GROUP, mesh_config, options)


def test_variables_that_the_script_takes_as_they_are_may_be_set() -> None:
    environment = {"HOME": "/srv", "USER": "root", "ISTIO_BIN_BASE": "/usr/local/bin/", "TZ": "UTC"}
    assert variables(options=BootstrapOptions(environment=environment)).items() >= environment.items()


def test_what_bash_lets_nobody_set_is_known() -> None:
    listed = subprocess.run(["bash", "-c", "readonly"], capture_output=True, text=True, timeout=10, check=True).stdout
    names = re.findall(r"^declare -\w+ (\w+)=", listed, re.MULTILINE)
    assert len(names) > 3
    assert [name for name in names if not breaks_start(name, "1")] == []


# mesh.yaml


def test_a_revision_names_its_own_istiod() -> None:
    options = BootstrapOptions(revision="canary", istio_namespace="mesh")
    assert default_config(GROUP, options=options)["discoveryAddress"] == "istiod-canary.mesh.svc:15012"
    assert variables(options=options)["CA_ADDR"] == "istiod-canary.mesh.svc:15012"


def test_a_discovery_address_of_the_mesh_stays() -> None:
    mesh = "defaultConfig: {discoveryAddress: 'istiod.example.org:15012'}"
    assert default_config(GROUP, mesh, BootstrapOptions(revision="canary"))["discoveryAddress"] == (
        "istiod.example.org:15012"
    )


@pytest.mark.parametrize("revision", ["", "default"])
def test_the_default_revision_has_no_name(revision: str) -> None:
    options = BootstrapOptions(revision=revision)
    assert "CA_ADDR" not in variables(options=options)
    assert "discoveryAddress" not in default_config(GROUP, options=options)


def test_annotations_apply_in_order_and_replace_whole_fields_but_metadata() -> None:
    group = changed(
        "metadata.annotations",
        {"proxy.istio.io/config": "{concurrency: 9, tracing: {sampling: 5}, proxyMetadata: {FROM: object, O: '1'}}"},
    )
    mesh = "defaultConfig: {tracing: {zipkin: {address: 'z:1'}}, proxyMetadata: {FROM: mesh, M: '1'}}"
    config = default_config(group, mesh)
    assert config["tracing"] == {"sampling": 5}
    assert config["concurrency"] == 2
    assert config["proxyMetadata"].items() >= {"FROM": "group", "O": "1", "M": "1"}.items()


def test_the_probe_is_the_groups_and_never_the_meshs() -> None:
    mesh = "defaultConfig: {readinessProbe: {tcpSocket: {port: 1}}}"
    assert default_config(GROUP, mesh)["readinessProbe"]["httpGet"]["port"] == 8080
    assert "readinessProbe" not in default_config(changed("spec.probe", None), mesh)


def test_switches_set_metadata_or_leave_it() -> None:
    mesh = "defaultConfig: {proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'false'}}"
    off = default_config(GROUP, mesh, BootstrapOptions(dns_capture=False))["proxyMetadata"]
    on = default_config(GROUP, mesh, BootstrapOptions(auto_register=True))["proxyMetadata"]
    assert off["ISTIO_META_DNS_CAPTURE"] == "false"
    assert "ISTIO_META_AUTO_REGISTER_GROUP" not in off
    assert "ISTIO_META_DNS_CAPTURE" not in cluster_env(GROUP, MESH, BootstrapOptions(dns_capture=False))
    assert on["ISTIO_META_DNS_CAPTURE"] == "true"
    assert on["ISTIO_META_AUTO_REGISTER_GROUP"] == "echo"


@pytest.mark.parametrize(("capture", "said"), [(True, "true"), (False, "false"), (None, "true")])
def test_dns_is_captured_as_the_vm_s_own_word_has_it_and_not_the_mesh_s(capture: bool | None, said: str) -> None:
    mesh = "defaultConfig: {proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'true'}}"
    options = BootstrapOptions(dns_capture=capture)
    assert default_config(GROUP, mesh, options)["proxyMetadata"]["ISTIO_META_DNS_CAPTURE"] == said
    assert f"ISTIO_META_DNS_CAPTURE='{said}'" in cluster_env(GROUP, mesh, options).splitlines()


def test_what_neither_mesh_nor_group_names_is_empty_as_by_istioctl() -> None:
    metadata = default_config(changed("spec.template.network", None), "", BootstrapOptions())["proxyMetadata"]
    for name in ("CLUSTER_ID", "MESH_ID", "NETWORK"):
        assert metadata[f"ISTIO_META_{name}"] == ""


def test_a_trust_domain_of_the_options_holds() -> None:
    options = BootstrapOptions(trust_domain="other.org")
    assert default_config(GROUP, options=options)["proxyMetadata"]["TRUST_DOMAIN"] == "other.org"


def test_numbers_that_pulumi_makes_floats_are_whole_again() -> None:
    group = changed("spec.template.ports", {"http": 8080.0})
    assert variables(group)["ISTIO_INBOUND_PORTS"] == "8080"


def test_template_labels_hold_over_metadata_labels() -> None:
    group = changed("spec.template.labels", {"app": "other", "x": "日本"})
    assert variables(group)["CANONICAL_SERVICE"] == "other"
    assert '"x":"日本"' in variables(group)["ISTIO_METAJSON_LABELS"]


def test_typos_are_found() -> None:
    group = changed("spec.metadata.annotations", {"proxy.istio.io/config": "{drainduration: 5s}"})
    group["spec"]["probe"]["httpget"] = {}
    group["spec"]["template"]["port"] = {}
    assert unknown_fields(group, "defaultConfig: {fooBar: 1, tracing: {zipkim: {}}}") == (
        "WorkloadGroup spec.template.port",
        "WorkloadGroup spec.probe.httpget",
        "mesh config: defaultConfig.tracing.zipkim",
        "mesh config: defaultConfig.fooBar",
        "WorkloadGroup spec.metadata.annotations[proxy.istio.io/config].drainduration",
    )


# What is wrong is said.


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("kind", "Deployment", "WorkloadGroup kind = 'Deployment': is not WorkloadGroup"),
        ("metadata", None, "WorkloadGroup metadata.name: is missing"),
        ("metadata.name", "", "WorkloadGroup metadata.name = '': is missing"),
        ("metadata.name", 5, "WorkloadGroup metadata.name = 5: is not text. .* Fix: quote it"),
        ("metadata.name", "Echo", "WorkloadGroup metadata.name = 'Echo': is not an RFC 1123 subdomain"),
        ("metadata.namespace", "a.b", "WorkloadGroup metadata.namespace = 'a.b': is not an RFC 1123 label"),
        ("metadata.annotations", [], r"WorkloadGroup metadata.annotations = \[\]: is not a mapping"),
        ("spec", [], r"WorkloadGroup spec = \[\]: is not a mapping"),
        ("spec.template.serviceAccount", "A", "WorkloadGroup spec.template.serviceAccount = 'A': is not an RFC 1123"),
        ("spec.template.ports", {"http": 65536}, "WorkloadGroup spec.template.ports.http = 65536: is not a port"),
        ("spec.template.ports", {"http": 0}, "WorkloadGroup spec.template.ports.http = 0: is not a port"),
        ("spec.template.ports", {"http": "x"}, "WorkloadGroup spec.template.ports.http = 'x': is not a whole number"),
        ("spec.metadata.labels", {"v": 1.5}, "WorkloadGroup spec.metadata.labels.v = 1.5: is not text .*quotes"),
        (
            "spec.metadata.annotations",
            {"proxy.istio.io/config": "drainDuration: 5"},
            r"annotations\[proxy.istio.io/config\].drainDuration = 5: is not a duration with its unit, such as 5s",
        ),
        ("metadata.annotations", {"proxy.istio.io/config": {"a": 1}}, r"is not text.* put `\|` after"),
        ("spec.metadata.annotations", {"proxy.istio.io/config": "a: b: c"}, "is not YAML: .* in line 1, column 5"),
        ("spec.metadata.annotations", {"proxy.istio.io/config": "[1]"}, r"= \[1\]: is not a mapping"),
    ],
)
def test_a_wrong_group_is_named(path: str, value: Any, said: str) -> None:
    group = changed(path, value)
    if path == "metadata.name" and value != "":
        group["metadata"]["name"] = value
    with pytest.raises(BootstrapError, match=said) as caught:
        bootstrap_files(group, MESH, OPTIONS)
    assert caught.value.consequence
    assert caught.value.fix


@pytest.mark.parametrize(
    ("mesh", "said"),
    [
        ("- a", r"mesh config = \['a'\]: is not a mapping"),
        ("trustDomain: 5", "mesh config: trustDomain = 5: is not text"),
        ("defaultConfig: 5", "mesh config: defaultConfig = 5: is not a mapping"),
        ("a: [", "mesh config: is not YAML"),
        (
            f"defaultConfig: {{concurrency: '{'9' * 5000}'}}",
            "defaultConfig.concurrency = '999.*…: is not a whole number",
        ),
        ("defaultConfig: {concurrency: two}", "defaultConfig.concurrency = 'two': is not a whole number"),
        ("defaultConfig: {interceptionMode: X}", "is not one of REDIRECT, TPROXY, NONE"),
        ("defaultConfig: {sds: {enabled: 1}}", "defaultConfig.sds.enabled = 1: is not true or false"),
        ("defaultConfig: {extraStatTags: x}", "defaultConfig.extraStatTags = 'x': is not a list"),
        ("defaultConfig: {runtimeValues: x}", "defaultConfig.runtimeValues = 'x': is not a mapping"),
        ("defaultConfig: {tracing: {sampling: high}}", "tracing.sampling = 'high': is not a number"),
        (f"defaultConfig: {{tracing: {{sampling: 1{'0' * 400}}}}}", "tracing.sampling = '1000.*: is not a number"),
    ],
)
def test_a_wrong_mesh_config_is_named(mesh: str, said: str) -> None:
    with pytest.raises(BootstrapError, match=said):
        bootstrap_files(GROUP, mesh, OPTIONS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"revision": "1.20"}, "revision = '1.20': is not an RFC 1123 label"),
        ({"istio_namespace": "Istio"}, "Istio's namespace = 'Istio'"),
        ({"ingress_addresses": ("a.b",)}, "ingress address = 'a.b': is not an IP address"),
        ({"internal_ip": "10.0.0.300"}, "internal IP = '10.0.0.300'"),
        ({"external_ip": "x"}, "external IP = 'x'"),
        ({"internal_ip": "10.0.0.1", "external_ip": "10.0.0.2"}, "internal IP and external IP .* are both given"),
        ({"local_exclude_ports": (0,)}, "local exclude ports = 0: is not a port"),
        ({"inbound_ports": (8080, 65536)}, "inbound ports = 65536: is not a port"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BootstrapError, match=said):
        BootstrapOptions(**options)


def test_an_error_shows_only_the_beginning_of_a_long_value() -> None:
    with pytest.raises(BootstrapError) as caught:
        hosts_file(["x" * 5000])
    assert len(str(caught.value)) < 500
    assert "…: is not an IP address" in str(caught.value)


def test_an_entry_of_its_own_is_named_instead_of_the_group() -> None:
    metadata = default_config(GROUP, "", BootstrapOptions(workload_entry="shop-vm-1"))["proxyMetadata"]
    assert metadata["ISTIO_META_WORKLOAD_ENTRY"] == "shop-vm-1"
    assert "ISTIO_META_AUTO_REGISTER_GROUP" not in metadata
    assert "ISTIO_META_WORKLOAD_ENTRY" not in default_config(GROUP, "", BootstrapOptions())["proxyMetadata"]


@pytest.mark.parametrize("options", [{"workload_entry": "Shop_1"}, {"workload_entry": "shop", "auto_register": True}])
def test_an_entry_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BootstrapError, match="workload entry"):
        BootstrapOptions(**options)
