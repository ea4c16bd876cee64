"""Names that Kubernetes and Istio give and accept."""

from collections.abc import Callable

import pytest

from hybridmesh.istio import (
    BootstrapError,
    canonical_service,
    dns_label,
    dns_subdomain,
    injection_annotations,
    ip_address,
    istiod_address,
    istiod_host,
    mesh_config_map,
    port_number,
    spiffe_id,
    workload_entry_name,
)
from hybridmesh.istio.names import injection_labels


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, ("echo", "latest")),
        ({"app": "a", "version": "v"}, ("a", "v")),
        ({"app": "a", "app.kubernetes.io/name": "n", "app.kubernetes.io/version": "1", "version": "2"}, ("n", "1")),
        (
            {
                "app.kubernetes.io/name": "n",
                "service.istio.io/canonical-name": "c",
                "service.istio.io/canonical-revision": "r",
            },
            ("c", "r"),
        ),
        ({"app": "", "version": ""}, ("", "")),
    ],
)
def test_canonical_service_takes_the_first_label_that_is_there(
    labels: dict[str, str], expected: tuple[str, str]
) -> None:
    assert canonical_service(labels, "echo") == expected


def test_istiod_is_named_after_its_revision() -> None:
    assert istiod_host() == istiod_host(revision="") == "istiod.istio-system.svc"
    assert istiod_address("mesh", "canary") == "istiod-canary.mesh.svc:15012"
    assert [mesh_config_map(r) for r in ("default", "", "canary")] == ["istio", "istio", "istio-canary"]


def test_spiffe_ids() -> None:
    assert spiffe_id("cluster.local", "demo", "echo") == "spiffe://cluster.local/ns/demo/sa/echo"
    assert spiffe_id("me@example.org", "demo", "echo") == "spiffe://me.example.org/ns/demo/sa/echo"
    for field, parts in {
        "trust domain": ("", "demo", "echo"),
        "namespace": ("cluster.local", "", "echo"),
        "service account": ("cluster.local", "demo", ""),
    }.items():
        with pytest.raises(BootstrapError, match=f"{field} of a SPIFFE id = '': is empty"):
            spiffe_id(*parts)


def test_a_namespace_says_which_istiod_injects_its_pods_and_pods_what_they_were_told() -> None:
    assert injection_labels("default") == injection_labels("") == {"istio-injection": "enabled"}
    assert injection_labels("canary") == {"istio.io/rev": "canary"}
    assert injection_annotations("cluster one") == {"hybrid-mesh/injected-as": "cluster one"}
    assert injection_annotations("") == {}, "pods of whom nothing is said do not roll"


def test_workload_entry_names_are_those_of_istiod() -> None:
    assert workload_entry_name("echo", "10.0.0.5") == "echo-10.0.0.5"
    assert workload_entry_name("echo", "fd00::5", "vm-network") == "echo-fd00--5-vm-network"
    assert workload_entry_name("x" * 250, "10.0.0.5") == "x" * 244 + "-10.0.0.5"


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (dns_label, ["a", "a-1", "0", "x" * 63], ["", "A", "-a", "a-", "a.b", "x" * 64, "a\n", "é"]),
        (dns_subdomain, ["a", "a.b-c.0", "x" * 253], ["", "A", ".a", "a.", "a..b", "a.-b", "x" * 254, "a\n"]),
        (
            ip_address,
            ["10.0.0.1", "fd00::1", "::ffff:10.0.0.1"],
            ["", "10.0.0", "10.0.0.256", "010.0.0.1", "a", "10.0.0.1\n"],
        ),
    ],
)
def test_texts_are_refused_as_kubernetes_would(
    check: Callable[[str, str], str], good: list[str], bad: list[str]
) -> None:
    assert [check(text, "here") for text in good] == good
    for text in bad:
        with pytest.raises(BootstrapError, match="here"):
            check(text, "here")


def test_ports_are_1_to_65535() -> None:
    assert [port_number(n, "p") for n in (1, 65535)] == [1, 65535]
    for number in (0, -1, 65536):
        with pytest.raises(BootstrapError, match=f"p = {number}: is not a port"):
            port_number(number, "p")
