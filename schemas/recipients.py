"""Who may read what an enclave seals for its owner: a public key as JWK.

Zone: any. May import: `cryptography`, `schemas.strict_json`, the standard library. Source: RFC 7517 (JWK), RFC 7518
section 6.2 (EC), RFC 8037 (OKP), RFC 7638 (thumbprint).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from schemas.strict_json import JsonObject, Malformed, base64url, base64url_bytes, only, text

_COORDINATE_BYTES: Final = 32
_KIND: Final = {"P-256": "EC", "X25519": "OKP"}


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key on `curve`, P-256 or X25519; `y` is empty on the latter. Coordinates in base64url."""

    curve: str
    x: str
    y: str = ""

    @classmethod
    def parse(cls, jwk: JsonObject) -> Recipient:
        """The public key of a JWK. `kid`, `use` and `alg` are passed over: a key is named by its thumbprint.

        Raises Malformed: another kind of key, a point that is not on the curve, a private key's member `d`.
        """
        only(jwk, "kty", "crv", "x", "y", "kid", "use", "alg")
        curve = text(jwk, "crv")
        if _KIND.get(curve) != text(jwk, "kty"):
            raise Malformed("crv: an EC key on P-256 or an OKP key on X25519 is expected")
        x = base64url_bytes(text(jwk, "x"), "x", size=_COORDINATE_BYTES)
        if curve == "X25519":
            only(jwk, "kty", "crv", "x", "kid", "use", "alg")
            return cls(curve, base64url(x))
        y = base64url_bytes(text(jwk, "y"), "y", size=_COORDINATE_BYTES)
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
        except ValueError:
            raise Malformed("x and y: no point on P-256") from None
        return cls(curve, base64url(x), base64url(y))

    def jwk(self) -> dict[str, str]:
        """The members that a thumbprint is of, in its order."""
        members = {"crv": self.curve, "kty": _KIND[self.curve], "x": self.x}
        return members | ({"y": self.y} if self.y else {})

    def encode(self) -> bytes:
        """The JWK as a file."""
        return json.dumps(self.jwk(), indent=2).encode() + b"\n"

    @property
    def thumbprint(self) -> str:
        """The key's id: base64url of SHA-256 (RFC 7638), 43 characters."""
        canonical = json.dumps(self.jwk(), separators=(",", ":")).encode("ascii")
        return base64url(hashlib.sha256(canonical).digest())
