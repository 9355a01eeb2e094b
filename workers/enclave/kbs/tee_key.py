"""The key that resources are encrypted to. It lives in this enclave's memory and nowhere else."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from schemas.kbs import MAX_RESOURCE_BYTES, EcPublicKey
from schemas.strict_json import JsonObject, Malformed, base64url, base64url_bytes, nested, only, parse_object, text

_COORDINATE_BYTES: Final = 32
_CIPHER: Final = "A256GCM"
_SIZES: Final = {"encrypted_key": 40, "iv": 12, "tag": 16}


class TeeKey:
    """An ephemeral P-256 key pair. There is no way to get the private half out."""

    __slots__ = ("_key", "public")

    def __init__(self) -> None:
        private = ec.generate_private_key(ec.SECP256R1())
        point = private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        x, y = point[1 : 1 + _COORDINATE_BYTES], point[1 + _COORDINATE_BYTES :]
        self._key = ECKey(private, private)
        self.public = EcPublicKey("P-256", base64url(x), base64url(y))

    def decrypt(self, reply: bytes) -> bytes:
        """The plaintext of a resource reply: flattened JWE JSON (RFC 7516 section 7.2.2) with exactly these members.

        `Malformed` when the shape, an algorithm or the authentication is wrong; nothing is released before its tag
        is verified. The header is checked by us first, so that the library never meets another algorithm.
        """
        members = parse_object(reply)
        only(members, *_SIZES, "protected", "ciphertext")
        sealed: jwe.FlattenedJSONSerialization = {
            "protected": text(members, "protected"),
            "encrypted_key": text(members, "encrypted_key"),
            "iv": text(members, "iv"),
            "ciphertext": text(members, "ciphertext"),
            "tag": text(members, "tag"),
        }
        header = parse_object(base64url_bytes(sealed["protected"], "protected"))
        only(header, "alg", "enc", "epk")
        if (text(header, "alg"), text(header, "enc")) != (EcPublicKey.ALGORITHM, _CIPHER):
            raise Malformed(f"protected: {EcPublicKey.ALGORITHM} with {_CIPHER} is expected")
        _check_ephemeral(nested(header, "epk"))
        for name, size in _SIZES.items():
            base64url_bytes(text(members, name), name, size=size)
        registry = jwe.JWERegistry(algorithms=[EcPublicKey.ALGORITHM, _CIPHER])
        registry.max_ciphertext_length = MAX_RESOURCE_BYTES * 4 // 3 + 4
        try:
            plaintext = jwe.decrypt_json(sealed, self._key, registry=registry).plaintext
        except (JoseError, InvalidTag, InvalidUnwrap, ValueError):
            raise Malformed("the reply does not decrypt under this enclave's key") from None
        if plaintext is None:
            raise Malformed("the reply holds no plaintext")
        return plaintext


def _check_ephemeral(key: JsonObject) -> None:
    only(key, "kty", "crv", "x", "y")
    if (text(key, "kty"), text(key, "crv")) != ("EC", "P-256"):
        raise Malformed("epk: a key on P-256 is expected")
    for name in ("x", "y"):
        base64url_bytes(text(key, name), f"epk.{name}", size=_COORDINATE_BYTES)
