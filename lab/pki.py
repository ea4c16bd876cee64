"""The embedded cluster's certificate authority and the kubeconfigs of its parts."""

from __future__ import annotations

import base64
import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = datetime.timedelta(days=365)
PRIVATE = 0o600


def _write(path: Path, content: bytes) -> None:
    """Write a file, readable by its owner only, as a whole or not at all: what is there is never made again."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    part.touch(PRIVATE)
    part.write_bytes(content)
    part.replace(path)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    _write(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ),
    )


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder: `ca.crt`, `ca.key` and one `<name>.crt`, `<name>.key` per subject."""

    folder: Path

    def create(self) -> None:
        """Make the authority's own key and certificate; nothing to do when they are there."""
        if (self.folder / "ca.crt").exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hybrid-mesh embedded cluster")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + VALIDITY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write_key(self.folder / "ca.key", key)
        _write(self.folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, common_name: str, organization: str | None = None, hosts: Sequence[str] = ()
    ) -> tuple[Path, Path]:
        """Certificate and key for a client, and for a server too where `hosts` (names or addresses) are given.

        Returns:
            Paths of certificate and key, made only when they are not there.
        """
        certificate_path, key_path = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        if certificate_path.exists():
            return certificate_path, key_path
        ca = x509.load_pem_x509_certificate((self.folder / "ca.crt").read_bytes())
        ca_key = serialization.load_pem_private_key((self.folder / "ca.key").read_bytes(), None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if organization:
            attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(attributes))
            .issuer_name(ca.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + VALIDITY)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
            )
        _write_key(key_path, key)
        certificate = builder.sign(ca_key, hashes.SHA256())
        _write(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
        return certificate_path, key_path

    def service_account_key(self) -> Path:
        """The RSA key that signs service account tokens; its public half is in the same file's PEM."""
        path = self.folder / "service-accounts.key"
        if not path.exists():
            _write_key(path, rsa.generate_private_key(public_exponent=65537, key_size=2048))
        return path

    def kubeconfig(self, path: Path, server: str, name: str, common_name: str, organization: str | None = None) -> Path:
        """A kubeconfig with a client certificate of its own, readable by its owner only."""
        certificate, key = self.issue(name, common_name, organization)
        if path.exists():
            return path
        _write(
            path,
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {
                            "name": "embedded",
                            "cluster": {
                                "server": server,
                                "certificate-authority-data": _base64(self.folder / "ca.crt"),
                            },
                        }
                    ],
                    "users": [
                        {
                            "name": name,
                            "user": {
                                "client-certificate-data": _base64(certificate),
                                "client-key-data": _base64(key),
                            },
                        }
                    ],
                    "contexts": [{"name": "embedded", "context": {"cluster": "embedded", "user": name}}],
                    "current-context": "embedded",
                },
                sort_keys=False,
            ).encode(),
        )
        return path


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
