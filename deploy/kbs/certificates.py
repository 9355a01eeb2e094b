"""The owner's authority and what it certifies: P-256, X.509 version 3.

A TLS certificate may serve TLS only and a token signer's may not: either key, stolen, is useless in the other's place.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orchestrator.faults import Code, Permanent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_AUTHORITY_LIFE: Final = timedelta(days=3650)
_LEAF_LIFE: Final = timedelta(days=730)
# The clocks of a broker and of an enclave differ.
_HEAD_START: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its private key, both PEM; the key is PKCS #8 without a passphrase."""

    certificate: bytes
    key: bytes = field(repr=False)


class Authority:
    """Certifies leaves only. Its key is in memory until somebody writes the `credential` down."""

    def __init__(self, credential: Credential | None = None, name: str = "enclave-cc owner") -> None:
        """The authority of `credential` (`Permanent(INPUT)` when that is none), or a new one for ten years."""
        if credential is None:
            self._key, self._name = ec.generate_private_key(ec.SECP256R1()), _name(name)
            self.credential = self._certify_itself()
        else:
            self._key, self._name = _load(credential)
            self.credential = credential

    def tls_server(self, names: Iterable[str], *, calls_its_peers: bool = False) -> Credential:
        """For a TLS server of those DNS names and IP addresses; `Permanent(INPUT)` when one is neither.

        `calls_its_peers`: servers of one cluster, which show it when they call one another.
        """
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, *[ExtendedKeyUsageOID.CLIENT_AUTH] * calls_its_peers]
        alternative = [_general_name(name) for name in names]
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._leaf("enclave-cc server", key)
            .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _credential(certificate, key)

    def token_signer(self) -> Credential:
        """For signing attestation tokens."""
        key = ec.generate_private_key(ec.SECP256R1())
        return _credential(self._leaf("enclave-cc token signer", key).sign(self._key, hashes.SHA256()), key)

    def _certify_itself(self) -> Credential:
        certificate = (
            self._builder(self._name, self._key.public_key(), _AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(certifies=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return _credential(certificate, self._key)

    def _leaf(self, common_name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            self._builder(_name(common_name), key.public_key(), _LEAF_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(certifies=False), critical=True)
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta) -> x509.CertificateBuilder:
        begin = datetime.now(UTC).replace(microsecond=0) - _HEAD_START
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + life)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def private_pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    """PKCS #8 in PEM, without a passphrase."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _credential(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Credential:
    return Credential(certificate.public_bytes(serialization.Encoding.PEM), private_pem(key))


def _load(credential: Credential) -> tuple[ec.EllipticCurvePrivateKey, x509.Name]:
    try:
        key = serialization.load_pem_private_key(credential.key, password=None)
        certificate = x509.load_pem_x509_certificate(credential.certificate)
    except (ValueError, TypeError):
        key, certificate = None, None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate is None:
        raise Permanent(Code.INPUT, "this is no authority", expected="a certificate and its EC key, unencrypted PEM")
    return key, certificate.subject


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certifies,
        key_cert_sign=certifies,
        crl_sign=certifies,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise Permanent(Code.INPUT, "this is no name of a server", expected="DNS name or IP", got=ascii(name)) from None
