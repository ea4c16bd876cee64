"""The mesh's root certificate."""

from cryptography import x509

from .errors import BootstrapError

_CONSEQUENCE = "The VM's proxy would trust no istiod, and never connect."
_FIX = "the value under `root-cert.pem` in ConfigMap `istio-ca-root-cert` of the workload's namespace."


def check_root_certificate(text: str) -> str:
    """`text`, if it is one or more certificates in PEM form and no private key. Raises `BootstrapError`.

    Whether they are still valid is not asked: that depends on when.
    """
    if "PRIVATE KEY-----" in text:
        # The value is not shown, for what it is.
        raise BootstrapError("root certificate", None, "holds a private key", "Every VM would have it.", _FIX)
    try:
        x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise BootstrapError(
            "root certificate", text[:40], "is not a certificate in PEM form", _CONSEQUENCE, _FIX
        ) from error
    return text
