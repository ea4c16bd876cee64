"""The mesh's root certificate, and others that machines are to trust."""

from cryptography import x509

from .errors import BootstrapError

_CONSEQUENCE = "The VM's proxy would trust no istiod, and never connect."
_HOLDS_KEY = "holds a private key"
_FIX = "the value under `root-cert.pem` in ConfigMap `istio-ca-root-cert` of the workload's namespace."


def pem_problem(text: str) -> str | None:
    """Why a text is not one or more certificates in PEM form without a private key; None: it is.

    Whether they are still valid is not asked: that depends on when.
    """
    if "PRIVATE KEY-----" in text:
        return _HOLDS_KEY
    try:
        x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        return "is not a certificate in PEM form"
    return None


def check_root_certificate(text: str) -> str:
    """`text`, if it is fit for a root certificate. Raises `BootstrapError`."""
    problem = pem_problem(text)
    if problem is None:
        return text
    if problem == _HOLDS_KEY:
        # The value is not shown, for what it is.
        raise BootstrapError("root certificate", None, problem, "Every VM would have it.", _FIX)
    raise BootstrapError("root certificate", text[:40], problem, _CONSEQUENCE, _FIX)
