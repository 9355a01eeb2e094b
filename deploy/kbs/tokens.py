"""Attestation tokens: EAR claims signed with ES256 by the owner's token signer.

Source: Trustee `attestation-service/src/ear_token/broker.rs` (claims, header) and `kbs/src/crypto/jwt.rs` (checks).
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import VerificationError
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from orchestrator.faults import Code, Permanent
from schemas.strict_json import JsonObject, Malformed, integer, parse_object
from workers.enclave.kbs.signer import check_signer

if TYPE_CHECKING:
    from collections.abc import Callable

_ALGORITHM: Final = "ES256"
_PROFILE: Final = "tag:github.com,2024:confidential-containers/Trustee"
_ISSUER: Final = "CoCo-Attestation-Service"
_VERIFIER: Final = {"developer": "https://confidentialcontainers.org", "build": "enclave-cc kbs"}
_MAX_TOKEN: Final = 128 * 1024


class TokenSigner:
    """Issues tokens and recognises them again. One key does both, so a token of another issuer is refused."""

    def __init__(
        self,
        key_pem: bytes,
        chain_pem: bytes,
        ca_pem: bytes,
        seconds: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`Permanent(INPUT)` when key, certificate and authority do not fit: clients would refuse every token."""
        private = serialization.load_pem_private_key(key_pem, password=None)
        chain = x509.load_pem_x509_certificates(chain_pem)
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
            raise Permanent(Code.INPUT, "the token signer's key cannot be used", expected="EC P-256")
        if chain[0].public_key() != private.public_key():
            raise Permanent(Code.INPUT, "the token signer's certificate is for another key")
        try:
            check_signer(x509.load_pem_x509_certificate(ca_pem), chain, int(clock()))
        except VerificationError as error:
            raise Permanent(
                Code.INPUT,
                "the token signer's certificate would be refused by every client",
                expected="a chain to the owner's authority, in date, not for TLS servers",
                got=str(error)[:256],
            ) from error
        self._key = ECKey(private, private)
        self._public = ECKey(private.public_key(), private.public_key())
        self._seconds = seconds
        self._clock = clock
        x5c = [_base64_der(certificate) for certificate in chain]
        public = self._public.as_dict(private=False)
        jwk = {"kty": "EC", "crv": "P-256", "alg": _ALGORITHM, "x": public["x"], "y": public["y"], "x5c": x5c}
        self._header = {"typ": "JWT", "alg": _ALGORITHM, "jwk": jwk}
        self._registry = jws.JWSRegistry(algorithms=[_ALGORITHM])
        self._registry.max_header_length = self._registry.max_payload_length = _MAX_TOKEN

    def issue(self, cpu: JsonObject) -> str:
        """A token with the one submodule `cpu0`."""
        now = int(self._clock())
        claims: JsonObject = {
            "eat_profile": _PROFILE,
            "iat": now,
            "exp": now + self._seconds,
            "iss": _ISSUER,
            "ear.verifier-id": {**_VERIFIER},
            "submods": {"cpu0": cpu},
        }
        return jws.serialize_compact(self._header, json.dumps(claims), self._key, registry=self._registry)

    def verify(self, token: str) -> JsonObject:
        """The claims of a token of ours that has not expired; `Malformed` otherwise."""
        try:
            claims = parse_object(jws.deserialize_compact(token, self._public, registry=self._registry).payload)
        except (JoseError, ValueError):
            raise Malformed("the token is not signed by this broker") from None
        if integer(claims, "exp") <= self._clock():
            raise Malformed("the token has expired")
        return claims


def _base64_der(certificate: x509.Certificate) -> str:
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
    return "".join(line for line in pem.splitlines() if not line.startswith("-----"))
