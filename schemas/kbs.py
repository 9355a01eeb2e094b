"""The shapes of the CoCo KBS protocol, version 0.4.0, that the client in the enclave and the broker both read.

Zone: any. May import: schemas.strict_json, rfc8785, the standard library.

Source: Trustee `kbs/src/attestation/backend.rs`, `kbs/src/jwe/mod.rs` and the crate kbs-types; what they say is written
down in docs/formats/kbs.md. There is no negotiation: a broker serves exactly one version.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Literal

import rfc8785

from schemas.strict_json import JsonObject, Malformed, base64url_bytes, text

PROTOCOL_VERSION: Final = "0.4.0"
PREFIX: Final = "/kbs/v0"
SESSION_COOKIE: Final = "kbs-session-id"
ERROR_TYPE_PREFIX: Final = "https://github.com/confidential-containers/kbs/errors/"
NONCE_BYTES: Final = 32
REPORT_DATA_BYTES: Final = 48
MAX_RESOURCE_BYTES: Final = 2 * 1024 * 1024

_SEGMENT: Final = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_\-.]*")
_MAX_SEGMENT: Final = 128
_COORDINATE_BYTES: Final = {"P-256": 32, "P-521": 66}


@dataclass(frozen=True, slots=True)
class EcPublicKey:
    """A TEE's elliptic-curve key as a closed JWK: `curve` P-256 or P-521, coordinates base64url of 32 or 66 bytes.

    Any member more or less would change the hash that the evidence binds, so there is none.
    """

    curve: Literal["P-256", "P-521"]
    x: str
    y: str

    ALGORITHM = "ECDH-ES+A256KW"

    def jwk(self) -> JsonObject:
        """The members, and only those."""
        return {"kty": "EC", "crv": self.curve, "alg": self.ALGORITHM, "x": self.x, "y": self.y}


@dataclass(frozen=True, slots=True)
class RsaPublicKey:
    """A TEE's RSA key as a closed JWK: modulus of 2048 to 4096 bits and exponent, base64url."""

    n: str
    e: str

    ALGORITHM = "RSA-OAEP-256"

    def jwk(self) -> JsonObject:
        """The members, and only those."""
        return {"kty": "RSA", "alg": self.ALGORITHM, "n": self.n, "e": self.e}


TeePublicKey = EcPublicKey | RsaPublicKey


def tee_public_key(jwk: JsonObject) -> TeePublicKey:
    """The key in `jwk`. Unknown members are dropped, as Trustee's closed type drops them; `Malformed` otherwise.

    RSA1_5 is refused: RFC 8725 section 3.2 and Trustee's own warning.
    """
    match text(jwk, "kty"), text(jwk, "alg"):
        case "EC", EcPublicKey.ALGORITHM:
            return _ec_key(jwk)
        case "RSA", RsaPublicKey.ALGORITHM:
            modulus = base64url_bytes(text(jwk, "n"), "n")
            exponent = base64url_bytes(text(jwk, "e"), "e")
            if not 256 <= len(modulus) <= 512 or not 1 <= len(exponent) <= 4:
                raise Malformed("n, e: an RSA key of 2048 to 4096 bits is expected")
            return RsaPublicKey(text(jwk, "n"), text(jwk, "e"))
        case _:
            raise Malformed("tee-pubkey: EC with ECDH-ES+A256KW or RSA with RSA-OAEP-256 is expected")


def _ec_key(jwk: JsonObject) -> EcPublicKey:
    curve, x, y = text(jwk, "crv"), text(jwk, "x"), text(jwk, "y")
    if curve not in {"P-256", "P-521"}:
        raise Malformed("crv: P-256 or P-521 is expected")
    for name, coordinate in (("x", x), ("y", y)):
        base64url_bytes(coordinate, name, size=_COORDINATE_BYTES[curve])
    return EcPublicKey("P-256" if curve == "P-256" else "P-521", x, y)


def runtime_data(nonce: str, key: TeePublicKey, additional_evidence: str = "") -> JsonObject:
    """What the evidence binds. `additional-evidence` is a member even when it is empty."""
    return {"additional-evidence": additional_evidence, "nonce": nonce, "tee-pubkey": key.jwk()}


def report_data(runtime: JsonObject) -> bytes:
    """SHA-384 of the canonical form (RFC 8785) of `runtime_data`: 48 bytes; SGX pads them with zeros to 64."""
    return hashlib.sha384(rfc8785.dumps(runtime)).digest()


def is_segment(segment: str) -> bool:
    """Whether `segment` may be a repository, type or tag: Trustee's rule, and at most 128 characters (a file name)."""
    return len(segment) <= _MAX_SEGMENT and _SEGMENT.fullmatch(segment) is not None
