"""What is wrong with who the machine is, and whom it trusts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from ..facts import MachineFacts
from .model import JOIN_AGAIN, Case, Diagnosis, Found, duration, of_facts

ENDING = 0.2
"""Share of a certificate's time that must be left: it is renewed at half of it."""
AUTHORITY_ENDING = (0.1, timedelta(days=30))
"""Share of an authority's time, and time, of which one must be left: some live for hours, and are renewed unseen."""


def _certificate_expired(facts: MachineFacts, case: Case) -> Iterator[Found]:
    if facts.expiry is not None and facts.expiry <= case.now:
        yield Found(f"its certificate ended at {facts.expiry:%Y-%m-%d %H:%M:%S} UTC", _certificate_place(facts))
    elif facts.certificate and facts.certificate.not_after <= case.now:
        yield Found(
            f"the certificate on its disk ended at {facts.certificate.not_after:%Y-%m-%d %H:%M:%S} UTC: it cannot "
            "come back from its next restart by itself",
            "/etc/certs/cert-chain.pem",
        )


def _certificate_early(facts: MachineFacts, case: Case) -> Iterator[Found]:
    if facts.certificate and facts.certificate.not_before > case.now:
        yield Found(
            f"its certificate is not valid before {facts.certificate.not_before:%Y-%m-%d %H:%M:%S} UTC, in "
            f"{duration(facts.certificate.not_before - case.now)}: whoever it calls refuses it",
            "/etc/certs/cert-chain.pem",
        )


def _certificate_ending(facts: MachineFacts, case: Case) -> Iterator[Found]:
    if facts.certificate is None:
        return
    certificate = facts.certificate
    end = min(facts.expiry or certificate.not_after, certificate.not_after)
    life = certificate.not_after - certificate.not_before
    if case.now < end < case.now + life * ENDING:
        yield Found(
            f"its certificate ends in {duration(end - case.now)}, and should have been renewed at half its time",
            "/etc/certs/cert-chain.pem",
        )


def _authority_ending(facts: MachineFacts, case: Case) -> Iterator[Found]:
    share, time = AUTHORITY_ENDING
    # Of several roots those that have ended wait to be taken away.
    root = max(facts.roots, key=lambda each: each.not_after, default=None)
    for authority in {each.fingerprint: each for each in (*facts.authorities, root) if each is not None}.values():
        left = authority.not_after - case.now
        if left < min((authority.not_after - authority.not_before) * share, time):
            yield Found(
                f"an authority behind its certificate, {authority.subject}, "
                f"{'ended' if left <= timedelta(0) else 'ends'} at {authority.not_after:%Y-%m-%d %H:%M} UTC: from then "
                "on no certificate by it counts, on any machine and in any pod",
                "/etc/certs/cert-chain.pem, root-cert.pem",
                severity="critical" if left <= timedelta(0) else None,
            )


def _token_expired(facts: MachineFacts, case: Case) -> Iterator[Found]:
    """A token that has ended matters to nobody who has a certificate."""
    if facts.token_expiry is None or facts.token_expiry > case.now:
        return
    if facts.certificate is None or facts.certificate.not_after <= case.now:
        yield Found(
            f"its token ended at {facts.token_expiry:%Y-%m-%d %H:%M:%S} UTC, and it has no valid certificate: it "
            "cannot prove who it is",
            "/run/secrets/tokens/istio-token",
        )


def _key_open(facts: MachineFacts, _: Case) -> Iterator[Found]:
    if facts.key_mode and not facts.key_mode.startswith(("600 ", "400 ")):
        yield Found(f"its private key is open to others: {facts.key_mode}", "/etc/certs/key.pem")


def _wrong_identity(facts: MachineFacts, case: Case) -> Iterator[Found]:
    wanted = case.machine["identity"]
    if facts.certificate is not None and wanted not in facts.certificate.identities:
        shown = ", ".join(facts.certificate.identities) or "nobody"
        yield Found(
            f"the certificate on its disk is for {shown}, and it should be {wanted}", "/etc/certs/cert-chain.pem"
        )
    elif facts.envoy_expiry and wanted not in facts.envoy_expiry:
        yield Found(f"Envoy's certificate is for {', '.join(facts.envoy_expiry)}, and it should be {wanted}", "/certs")


def _wrong_cluster(facts: MachineFacts, case: Case) -> Iterator[Found]:
    yield from _wrong_variable(
        facts, "ISTIO_META_CLUSTER_ID", case.topology["cluster"]["name"], "istiod refuses its token"
    )


def _wrong_network(facts: MachineFacts, case: Case) -> Iterator[Found]:
    yield from _wrong_variable(
        facts, "ISTIO_META_NETWORK", case.machine["network"], "it is given endpoints that it cannot reach, or detours"
    )


def _wrong_variable(facts: MachineFacts, variable: str, wanted: str, consequence: str) -> Iterator[Found]:
    there = facts.environment.get(variable, "")
    if facts.environment and there != wanted:
        yield Found(
            f"{variable} is {there or 'empty'}, and should be {wanted}: {consequence}",
            "/var/lib/istio/envoy/cluster.env",
        )


def _wrong_root(facts: MachineFacts, case: Case) -> Iterator[Found]:
    mesh = {root.fingerprint for root in case.mesh.roots.get(case.machine["namespace"], [])}
    if facts.joined and mesh and not mesh & {root.fingerprint for root in facts.roots}:
        there = ", ".join(root.issuer for root in facts.roots) or "no certificate"
        yield Found(
            f"it trusts another root than the mesh's ({there}): it takes istiod for a stranger",
            "/etc/certs/root-cert.pem, ConfigMap istio-ca-root-cert",
        )


def _certificate_place(facts: MachineFacts) -> str:
    return "Envoy's /certs" if facts.envoy_expiry else "/etc/certs/cert-chain.pem"


DIAGNOSES = (
    Diagnosis(
        id="certificate-expired",
        title="The certificate has ended",
        severity="critical",
        check=of_facts(_certificate_expired),
        remedy="pulumi up: once Kubernetes has the machine as gone, that gives it a new token.",
    ),
    Diagnosis(
        id="certificate-not-yet-valid",
        title="The certificate is not valid yet",
        severity="critical",
        check=of_facts(_certificate_early),
        remedy="compare the clocks of the machine, of istiod's node and of this one; put the wrong one right, then "
        "`systemctl restart istio`.",
    ),
    Diagnosis(
        id="certificate-ending",
        title="The certificate ends soon",
        severity="warning",
        check=of_facts(_certificate_ending),
        remedy="`grep -iE 'csr|certificate|unauthenticated' /var/log/istio/istio.log | tail` there tells why it is not "
        "renewed; `systemctl restart istio` asks anew.",
        explained_by=frozenset(
            {"gateway-unreachable", "handshake-fails", "hosts-stale", "istiod-down", "gateway-down"}
        ),
    ),
    Diagnosis(
        id="authority-ending",
        title="The mesh's certificate authority ends",
        severity="warning",
        check=of_facts(_authority_ending),
        remedy='give istiod another one before it ends: docs/own-cluster.md, "Another certificate authority".',
        explained_by=frozenset({"wrong-trust-root"}),
    ),
    Diagnosis(
        id="token-expired",
        title="The token has ended, and there is no certificate",
        severity="critical",
        check=of_facts(_token_expired),
        remedy="pulumi up: it mints a token, and the machine joins again.",
    ),
    Diagnosis(
        id="key-open",
        title="Others can read the private key",
        severity="warning",
        check=of_facts(_key_open),
        remedy="`chmod 600 /etc/certs/key.pem`; then `systemctl restart istio`, for a new key.",
    ),
    Diagnosis(
        id="wrong-identity",
        title="The certificate is for somebody else",
        severity="critical",
        check=of_facts(_wrong_identity),
        remedy="`rm /etc/certs/cert-chain.pem /etc/certs/key.pem; systemctl restart istio` there; if its token has "
        "ended, pulumi up.",
    ),
    Diagnosis(
        id="wrong-cluster-id",
        title="The machine names another cluster",
        severity="critical",
        check=of_facts(_wrong_cluster),
        remedy=JOIN_AGAIN,
    ),
    Diagnosis(
        id="wrong-network",
        title="The machine names another network",
        severity="critical",
        check=of_facts(_wrong_network),
        remedy=JOIN_AGAIN,
    ),
    Diagnosis(
        id="wrong-trust-root",
        title="The machine trusts another root",
        severity="critical",
        check=of_facts(_wrong_root),
        remedy="pulumi up: a changed root reaches every machine. If it was changed on the machine, the one of its last "
        "join is put back there by `install -m 644 -o istio-proxy -g istio-proxy "
        "/var/lib/hybrid-mesh/delivered/root-cert.pem /etc/certs/root-cert.pem; systemctl restart istio`.",
    ),
)
