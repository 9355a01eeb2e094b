"""AES-256-GCM for units, and the key that may be wiped.

Zone: enclave. May import: `cryptography`, `format`.

A nonce is the unit's index. That is safe under two rules, which `sealing` keeps: a key seals one store, and a unit is
sealed once. The reader takes neither nonce nor tag from the place it reads ciphertext from.
"""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from workers.enclave.rootfs.format import STORE_ID

KEY = 32
_AAD_TAG = b"enclave-cc/store-unit/v1\0"


class StoreKey:
    """32 bytes that open one store. Takes over the bytearray it is given; `wipe()` overwrites it.

    It never shows itself: no repr, no equality, no pickling. OpenSSL's own copy goes with the cipher made from it.
    """

    __slots__ = ("_material",)

    def __init__(self, material: bytearray) -> None:
        if len(material) != KEY:
            raise ValueError(f"a store key has {KEY} bytes, not {len(material)}")
        self._material = material

    @classmethod
    def generate(cls) -> StoreKey:
        """A fresh key from the kernel's random numbers."""
        return cls(bytearray(os.urandom(KEY)))

    @property
    def material(self) -> memoryview:
        """The key's bytes, read-only and not copied. Raises `ValueError` once the key is wiped."""
        if not any(self._material):
            raise ValueError("the store key has been wiped")
        return memoryview(self._material).toreadonly()

    def wipe(self) -> None:
        """Overwrites the key with zeros. May be called again."""
        self._material[:] = bytes(KEY)

    def __repr__(self) -> str:
        return "StoreKey(...)"

    def __reduce__(self) -> str:
        raise TypeError("a store key is not pickled")


class UnitCipher:
    """Seals and opens the units of one store."""

    __slots__ = ("_aead", "_associated")

    def __init__(self, key: StoreKey, store_id: bytes) -> None:
        if len(store_id) != STORE_ID:
            raise ValueError(f"a store id has {STORE_ID} bytes, not {len(store_id)}")
        self._aead = AESGCM(key.material)
        self._associated = _AAD_TAG + store_id

    def seal(self, index: int, plain: memoryview, sealed: memoryview) -> None:
        """Writes ciphertext and tag of unit `index` into `sealed`, 16 bytes longer than `plain`.

        Never twice for one index under one key: that would give both plaintexts away.
        """
        self._aead.encrypt_into(_nonce(index), plain, self._bound_to(index), sealed)

    def open(self, index: int, sealed: memoryview, plain: memoryview) -> None:
        """Writes the plaintext of unit `index` into `plain`. Raises `InvalidTag`; `plain` is then of no use.

        `sealed` must be memory nobody else can write: it is read twice.
        """
        self._aead.decrypt_into(_nonce(index), sealed, self._bound_to(index), plain)

    def _bound_to(self, index: int) -> bytes:
        return self._associated + index.to_bytes(8, "little")


def _nonce(index: int) -> bytes:
    return index.to_bytes(12, "big")
