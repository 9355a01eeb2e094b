"""Encrypting a resource to a TEE's key, byte for byte as Trustee does.

Source: Trustee `kbs/src/jwe/mod.rs`; RFC 7516 (flattened JSON), RFC 7518 sections 4.3, 4.6 and 5.3. The Rust client
makes the additional data anew from the header it parsed, so the header's order is part of the format: alg, enc, then
the other members sorted. That is why no JOSE library writes it here.
"""

from __future__ import annotations

import json
import secrets
import struct
from typing import Final

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas.kbs import EcPublicKey, TeePublicKey
from schemas.strict_json import Malformed, base64url, base64url_bytes

_CIPHER: Final = "A256GCM"
_KEY_BYTES: Final = 32
_IV_BYTES: Final = 12
_TAG_BYTES: Final = 16
_CURVES: Final[dict[str, type[ec.SECP256R1 | ec.SECP521R1]]] = {"P-256": ec.SECP256R1, "P-521": ec.SECP521R1}


def seal(key: TeePublicKey, plaintext: bytes) -> bytes:
    """The reply body that only the holder of `key` can read; `Malformed` when the key is no point on its curve."""
    content_key = secrets.token_bytes(_KEY_BYTES)
    header: dict[str, object]
    if isinstance(key, EcPublicKey):
        wrapped, ephemeral = _agree(key, content_key)
        header = {"alg": key.ALGORITHM, "enc": _CIPHER, "epk": ephemeral}
    else:
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        wrapped = _rsa(key.n, key.e).encrypt(content_key, oaep)
        header = {"alg": key.ALGORITHM, "enc": _CIPHER}
    protected = base64url(_compact(header))
    iv = secrets.token_bytes(_IV_BYTES)
    sealed = AESGCM(content_key).encrypt(iv, plaintext, protected.encode("ascii"))
    return _compact(
        {
            "protected": protected,
            "encrypted_key": base64url(wrapped),
            "iv": base64url(iv),
            "ciphertext": base64url(sealed[:-_TAG_BYTES]),
            "tag": base64url(sealed[-_TAG_BYTES:]),
        }
    )


def check(key: TeePublicKey) -> None:
    """`Malformed` when nothing could be sealed to `key`: better said at the handshake than at the first resource."""
    if isinstance(key, EcPublicKey):
        _point(key)
    else:
        _rsa(key.n, key.e)


def _agree(key: EcPublicKey, content_key: bytes) -> tuple[bytes, dict[str, str]]:
    """The wrapped content key, and the ephemeral public key that unwraps it together with the TEE's private one."""
    public = _point(key)
    ephemeral = ec.generate_private_key(public.curve)
    shared = ephemeral.exchange(ec.ECDH(), public)
    algorithm = key.ALGORITHM.encode("ascii")
    # RFC 7518 section 4.6.2: AlgorithmID, empty PartyUInfo and PartyVInfo, the key's length in bits.
    other = struct.pack(">I", len(algorithm)) + algorithm + struct.pack(">III", 0, 0, _KEY_BYTES * 8)
    wrapping_key = ConcatKDFHash(hashes.SHA256(), _KEY_BYTES, other).derive(shared)
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
    half = len(point) // 2
    epk = {"crv": key.curve, "kty": "EC", "x": base64url(point[:half]), "y": base64url(point[half:])}
    return keywrap.aes_key_wrap(wrapping_key, content_key), epk


def _point(key: EcPublicKey) -> ec.EllipticCurvePublicKey:
    point = b"\x04" + base64url_bytes(key.x, "x") + base64url_bytes(key.y, "y")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[key.curve](), point)
    except ValueError:
        raise Malformed(f"x, y: no point on {key.curve}") from None


def _rsa(modulus: str, exponent: str) -> rsa.RSAPublicKey:
    n, e = (int.from_bytes(base64url_bytes(part, "n, e"), "big") for part in (modulus, exponent))
    try:
        return rsa.RSAPublicNumbers(e, n).public_key()
    except ValueError:
        raise Malformed("n, e: no RSA key") from None


def _compact(members: dict[str, object]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode("ascii")
