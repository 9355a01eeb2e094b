"""A layer's encryption, as a stream, and its annotations; the counterpart of `workers.enclave.image.ocicrypt`.

Each layer has a key and a counter block of its own, from the operating system; the image's key encrypts those, with the
plaintext's digest, as AES-256-GCM. AES-256-CTR keeps a layer's size, so that the ciphertext's length is known before
its first byte is made. The HMAC is over the ciphertext under the layer's key, as ocicrypt has it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.faults import Code, Permanent
from workers.enclave.image.layers import compression_of
from workers.enclave.image.ocicrypt import (
    CIPHER,
    ENCRYPTED,
    KEY_BYTES,
    KEYS,
    NONCE_BYTES,
    PROVIDER,
    PUBLIC_OPTIONS,
    is_encrypted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.enclave.image.layers import ByteSource
    from workers.enclave.image.manifest import Descriptor

PROVIDER_NAME: Final = "attestation-agent"
"""The name that Confidential Containers' tools look for; ours take any."""

_CHUNK: Final = 1024 * 1024
_PLAIN_TYPES: Final = {
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
}
"""Docker's media types have no encrypted form: the image becomes an OCI image, its layers stay as they are."""


@dataclass(frozen=True, slots=True)
class ImageKey:
    """The key encryption key of one image and its name at the broker. Secret."""

    kid: str
    key: bytes = field(repr=False)

    @classmethod
    def generate(cls, kid: str) -> ImageKey:
        """A fresh one."""
        return cls(kid, os.urandom(KEY_BYTES))


class LayerEncryption:
    """One layer's encryption: iterate `ciphertext` to its end, then ask for the `descriptor`."""

    def __init__(self, plain: Descriptor, image_key: ImageKey) -> None:
        """Prepare.

        Raises:
            Permanent: IMAGE_MALFORMED, for a layer that the enclave could not open (zstd), or that is encrypted.
        """
        if is_encrypted(plain):
            raise Permanent(
                Code.IMAGE_MALFORMED,
                f"layer {plain.digest} is encrypted already",
                expected="a plain image",
                got=plain.media_type,
                advice="publish the image that it was made from",
            )
        compression_of(plain)
        self._plain = plain
        self._image_key = image_key
        self._key = os.urandom(KEY_BYTES)
        self._nonce = os.urandom(NONCE_BYTES)
        self._mac = hmac.new(self._key, digestmod=hashlib.sha256)
        self._hash = hashlib.sha256()
        self._ended = False

    def ciphertext(self, source: ByteSource) -> Iterator[bytes]:
        """Encrypt everything that `source` gives, comparing it with the plain descriptor at the end.

        Raises:
            Permanent: IMAGE_ALTERED, when the source is not what its descriptor says. What was yielded before is waste.
        """
        encryptor = Cipher(algorithms.AES(self._key), modes.CTR(self._nonce)).encryptor()
        seen, left = hashlib.sha256(), self._plain.size
        while chunk := source.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            seen.update(chunk)
            sealed = encryptor.update(chunk)
            self._mac.update(sealed)
            self._hash.update(sealed)
            yield sealed
        got = f"sha256:{seen.hexdigest()}"
        if left or got != self._plain.digest:
            raise Permanent(
                Code.IMAGE_ALTERED,
                "a layer of the source is not what its digest says",
                expected=f"{self._plain.digest}, {self._plain.size} bytes",
                got=f"{got}, {'more' if left < 0 else self._plain.size - left} bytes",
            )
        self._ended = True

    def digest(self) -> str:
        """`sha256:<hex>` of the whole ciphertext."""
        if not self._ended:
            raise ValueError("the ciphertext was not read to its end")
        return f"sha256:{self._hash.hexdigest()}"

    def descriptor(self) -> Descriptor:
        """The encrypted layer's descriptor, with its annotations; those of the plain layer stay."""
        kept = {name: value for name, value in self._plain.annotations.items() if not name.startswith(KEYS)}
        media_type = _PLAIN_TYPES.get(self._plain.media_type, self._plain.media_type) + ENCRYPTED
        return replace(
            self._plain,
            media_type=media_type,
            digest=self.digest(),
            annotations={**kept, PUBLIC_OPTIONS: self._public(), PROVIDER + PROVIDER_NAME: self._packet()},
        )

    def _public(self) -> str:
        return _encoded({"cipher": CIPHER, "hmac": _b64(self._mac.digest()), "cipheroptions": {}})

    def _packet(self) -> str:
        private = {
            "symkey": _b64(self._key),
            "digest": self._plain.digest,
            "cipheroptions": {"nonce": _b64(self._nonce)},
        }
        iv = os.urandom(12)
        wrapped = AESGCM(self._image_key.key).encrypt(iv, json.dumps(private).encode(), None)
        return _encoded(
            {"kid": self._image_key.kid, "wrapped_data": _b64(wrapped), "iv": _b64(iv), "wrap_type": "A256GCM"}
        )


def _encoded(document: dict[str, object]) -> str:
    return _b64(json.dumps(document, separators=(",", ":")).encode())


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
