"""Which certificates may sign attestation tokens. The broker asks the same before it starts, so that both agree."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_signer(ca: x509.Certificate, chain: Sequence[x509.Certificate], now: int) -> None:
    """Return when `chain` (leaf first) leads to `ca` at `now` (unix seconds) and its leaf is not for TLS servers.

    The broker's TLS key is nearer to the network than its token key, and may not stand in for it.
    `cryptography.x509.verification.VerificationError` otherwise.
    """
    leaf_policy = ExtensionPolicy.permit_all().may_be_present(
        x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _not_for_tls_servers
    )
    PolicyBuilder().store(Store([ca])).time(datetime.fromtimestamp(now, UTC)).extension_policies(
        ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=leaf_policy
    ).build_client_verifier().verify(chain[0], list(chain[1:]))


def _not_for_tls_servers(_policy: Policy, _certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    if usage is not None and ExtendedKeyUsageOID.SERVER_AUTH in usage:
        raise ValueError("a TLS server's certificate does not sign tokens")
