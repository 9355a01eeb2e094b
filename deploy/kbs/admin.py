"""Who may change things: whoever holds the owner's admin key.

A bearer JWT signed with Ed25519 (RFC 8037), with `exp`, `role` and, where configured, `iss`. Source: Trustee
`kbs/src/admin/authentication/bearer_jwt.rs`; there is no mode in which everybody is an admin.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from deploy.kbs.refused import not_admin
from orchestrator.faults import Code, Permanent
from schemas.strict_json import Malformed, base64url, base64url_bytes, integer, parse_object, text

if TYPE_CHECKING:
    from collections.abc import Callable

ROLE: Final = "admin"
ISSUER: Final = "enclave-cc"
_BEARER: Final = "Bearer "
_MAX_TOKEN: Final = 4096
_LIFETIME_SECONDS: Final = 60
_HEADER: Final = {"typ": "JWT", "alg": "EdDSA"}


class AdminGate:
    """Lets the owner's calls through."""

    def __init__(self, public_key_pem: bytes, issuer: str, clock: Callable[[], float] = time.time) -> None:
        """`Permanent(INPUT)` when the key is none of Ed25519."""
        key = serialization.load_pem_public_key(public_key_pem)
        if not isinstance(key, Ed25519PublicKey):
            raise Permanent(Code.INPUT, "the admin's public key cannot be used", expected="Ed25519, PEM")
        self._key = key
        self._issuer = issuer
        self._clock = clock

    def check(self, authorization: str | None, endpoint: str) -> None:
        """Return when `authorization` (the header's value) is the owner's; `Refused` otherwise."""
        try:
            self._verify(authorization or "")
        except (Malformed, InvalidSignature) as error:
            raise not_admin(endpoint, str(error) or "the signature is wrong") from None

    def _verify(self, authorization: str) -> None:
        token = authorization.removeprefix(_BEARER)
        parts = token.split(".")
        if not authorization.startswith(_BEARER) or len(token) > _MAX_TOKEN or len(parts) != 3:
            raise Malformed("a bearer token is expected")
        header, payload, signature = (base64url_bytes(part, "token") for part in parts)
        if text(parse_object(header), "alg") != _HEADER["alg"]:
            raise Malformed("alg: EdDSA is expected")
        self._key.verify(signature, token.rpartition(".")[0].encode("ascii"))
        claims = parse_object(payload)
        if integer(claims, "exp") <= self._clock():
            raise Malformed("exp: the token has expired")
        if text(claims, "iss") != self._issuer or text(claims, "role") != ROLE:
            raise Malformed(f"iss {self._issuer} and role {ROLE} are expected")


def admin_token(private_key_pem: bytes, issuer: str = ISSUER, clock: Callable[[], float] = time.time) -> str:
    """A token for one minute. `Permanent(INPUT)` when the key is none of Ed25519."""
    key = serialization.load_pem_private_key(private_key_pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise Permanent(Code.INPUT, "the admin's key cannot be used", expected="Ed25519, PKCS #8, PEM")
    now = int(clock())
    claims = {"iss": issuer, "role": ROLE, "iat": now, "exp": now + _LIFETIME_SECONDS}
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (_HEADER, claims))
    return f"{signed}.{base64url(key.sign(signed.encode('ascii')))}"
