"""What people hand in: manifests, ConfigMaps, certificates."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from hybridmesh.istio import (
    BootstrapError,
    check_root_certificate,
    group_from_yaml,
    mesh_config_text,
    parse_group,
    parse_mesh_config,
)

GROUP = "kind: WorkloadGroup\nmetadata: {name: echo, namespace: demo}\n"


def certificate() -> tuple[str, str]:
    """A root certificate and its key, as PEM."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "cluster.local")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .sign(key, None)
        .public_bytes(Encoding.PEM)
    )
    return made.decode(), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_a_group_is_found_among_other_documents() -> None:
    text = f"kind: ServiceAccount\n---\n{GROUP}---\n"
    assert parse_group(group_from_yaml(text)).name == "echo"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 WorkloadGroups among 0 documents"),
        (f"{GROUP}---\n{GROUP}", "2 WorkloadGroups among 2 documents"),
        ("kind: Service\n---\nkind: Pod", "0 WorkloadGroups among 2 documents"),
        ("just text", "0 WorkloadGroups among 1 documents"),
    ],
)
def test_one_group_it_must_be(text: str, said: str) -> None:
    with pytest.raises(BootstrapError, match=said):
        group_from_yaml(text)


def test_a_lone_document_of_another_kind_is_named() -> None:
    with pytest.raises(BootstrapError, match="WorkloadGroup kind = 'Pod'"):
        parse_group(group_from_yaml("kind: Pod"))


@pytest.mark.parametrize(("text", "trust_domain"), [("", "cluster.local"), ("trust_domain: a.b", "a.b")])
def test_the_trust_domain_of_certificates_has_istiods_default(text: str, trust_domain: str) -> None:
    assert parse_mesh_config(text).effective_trust_domain == trust_domain


CONFIG_MAP = "kind: ConfigMap\nmetadata: {name: istio-canary}\ndata:\n  mesh: |-\n    trustDomain: a.b\n"


def test_a_mesh_config_may_come_in_its_config_map() -> None:
    assert mesh_config_text(CONFIG_MAP, "canary") == "trustDomain: a.b"
    assert mesh_config_text("trustDomain: a.b", "canary") == "trustDomain: a.b"
    assert mesh_config_text("kind: ConfigMap\ndata: {mesh: 'a: b'}") == "a: b"


def test_the_config_map_of_another_revision_is_refused() -> None:
    with pytest.raises(
        BootstrapError, match=r"ConfigMap metadata.name = 'istio-canary': is not istio, which is that of"
    ):
        mesh_config_text(CONFIG_MAP)


@pytest.mark.parametrize("data", ["", "data:\n", "data: {mesh: {}}\n", "data: []\n"])
def test_a_config_map_without_a_mesh_config_is_refused(data: str) -> None:
    with pytest.raises(BootstrapError, match=r"ConfigMap data.mesh.* is missing, or not text"):
        mesh_config_text(f"kind: ConfigMap\n{data}")


def test_root_certificates_pass_and_nothing_else() -> None:
    root, key = certificate()
    assert check_root_certificate(root + root) == root + root
    for text in ("", "fake", root[:100], "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(BootstrapError, match="is not a certificate in PEM form"):
            check_root_certificate(text)
    with pytest.raises(BootstrapError, match="holds a private key") as caught:
        check_root_certificate(root + key)
    assert key.splitlines()[1] not in str(caught.value)


def test_istio_knowledge_needs_no_pulumi() -> None:
    code = "import sys, hybridmesh.istio; sys.exit(any(m.split('.')[0] == 'pulumi' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
