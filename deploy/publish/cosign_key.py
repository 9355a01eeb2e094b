"""A signing key in cosign's file format, so that cosign and skopeo read ours and we read theirs.

PEM `ENCRYPTED SIGSTORE PRIVATE KEY` (older: `ENCRYPTED COSIGN PRIVATE KEY`) around base64 of JSON
`{"kdf":{"name":"scrypt","params":{"N":65536,"r":8,"p":1},"salt":…},"cipher":{"name":"nacl/secretbox","nonce":…},
"ciphertext":…}` (github.com/secure-systems-lab/go-securesystemslib, encrypted); the plaintext is PKCS #8 DER.

The format keeps nothing of the password but the work of scrypt: a short one is guessed. cosign accepts an empty one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from orchestrator.faults import Code, Permanent
from workers.enclave.image.document import parse_object
from workers.enclave.image.signature import PublicKey

if TYPE_CHECKING:
    from workers.enclave.image.document import Node

_PEM: Final = re.compile(
    rb"-----BEGIN ENCRYPTED (SIGSTORE|COSIGN) PRIVATE KEY-----\n"
    rb"([A-Za-z0-9+/=\n]+)"
    rb"-----END ENCRYPTED \1 PRIVATE KEY-----\n?"
)
_COST: Final = 65536
_MOST_COST: Final = 1 << 20
_MOST_MEMORY: Final = 256 * 1024 * 1024
_LONGEST: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An owner's private key. ECDSA P-256 where we make one; RSA and Ed25519 where cosign did."""

    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> SigningKey:
        """A fresh P-256 key, as `cosign generate-key-pair`."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def read(cls, pem: bytes, password: bytes) -> SigningKey:
        """Open a key file.

        Raises:
            Permanent: INPUT, when it is none, or the password is not its own. Neither stands in the fault.
        """
        found = _PEM.fullmatch(pem.replace(b"\r\n", b"\n"))
        if found is None:
            raise _unreadable("PEM of an encrypted sigstore private key", "something else")
        raw = base64.b64decode(found[2].replace(b"\n", b""))
        document = parse_object(raw, what="signing key", code=Code.INPUT, limit=_LONGEST)
        kdf, cipher = document.need("kdf"), document.need("cipher")
        if (kdf.need("name").text(), cipher.need("name").text()) != ("scrypt", "nacl/secretbox"):
            raise _unreadable("scrypt and nacl/secretbox", "another scheme")
        box = SecretBox(_derive(password, kdf))
        try:
            der = box.decrypt(document.need("ciphertext").octets(), cipher.need("nonce").octets(SecretBox.NONCE_SIZE))
        except CryptoError:
            raise _unreadable("the key's password", "another one, or an altered file") from None
        return cls._parse(der)

    @classmethod
    def _parse(cls, der: bytes) -> SigningKey:
        try:
            key = serialization.load_der_private_key(der, None)
        except ValueError:
            raise _unreadable("PKCS #8", "something else") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
            raise _unreadable("an ECDSA, RSA or Ed25519 key", type(key).__name__)
        return cls(key)

    def write(self, password: bytes) -> bytes:
        """The key file's content."""
        der = self.key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        salt, nonce = os.urandom(32), os.urandom(SecretBox.NONCE_SIZE)
        box = SecretBox(_scrypt(password, salt, _COST, 8, 1))
        document = {
            "kdf": {"name": "scrypt", "params": {"N": _COST, "r": 8, "p": 1}, "salt": _b64(salt)},
            "cipher": {"name": "nacl/secretbox", "nonce": _b64(nonce)},
            "ciphertext": _b64(box.encrypt(der, nonce).ciphertext),
        }
        body = _b64(json.dumps(document, separators=(",", ":")).encode())
        lines = [body[start : start + 64] for start in range(0, len(body), 64)]
        label = "ENCRYPTED SIGSTORE PRIVATE KEY"
        return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()

    def public_pem(self) -> bytes:
        """PEM SubjectPublicKeyInfo, as cosign.pub."""
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def public(self) -> PublicKey:
        """What the enclave verifies with.

        Raises:
            Permanent: SIGNATURE_POLICY, for a key that it would not accept.
        """
        return PublicKey.parse(self.public_pem())

    def sign(self, payload: bytes) -> bytes:
        """A signature as cosign makes it for this kind of key."""
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(payload, ec.ECDSA(hashes.SHA256()))
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(payload, padding.PKCS1v15(), hashes.SHA256())
        return self.key.sign(payload)


def _derive(password: bytes, kdf: Node) -> bytes:
    parameters = kdf.need("params")
    cost = parameters.need("N").whole(least=2, most=_MOST_COST)
    block, lanes = parameters.need("r").whole(least=1, most=32), parameters.need("p").whole(least=1, most=16)
    # scrypt takes 128 * N * r bytes; a file may not choose to take all memory.
    if cost & (cost - 1) or 128 * cost * block > _MOST_MEMORY // 2:
        raise _unreadable("scrypt parameters of at most 128 MiB", f"N={cost}, r={block}, p={lanes}")
    return _scrypt(password, kdf.need("salt").octets(), cost, block, lanes)


def _scrypt(password: bytes, salt: bytes, cost: int, block: int, lanes: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=cost, r=block, p=lanes, maxmem=_MOST_MEMORY, dklen=SecretBox.KEY_SIZE)


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _unreadable(expected: str, got: str) -> Permanent:
    return Permanent(
        Code.INPUT,
        "the signing key cannot be read",
        expected=expected,
        got=got,
        advice="make one with `enclave-cc keygen`, or with `cosign generate-key-pair`",
    )
