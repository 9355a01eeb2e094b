"""The key that signs this enclave's facts, and the one that enters the bus. Both are born and die here.

Zone: enclave. May import: `orchestrator.events`, `cryptography`.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.events import event_key_binding

_USER_PREFIX: Final = 20 << 3
"""The byte that makes an nkey start with U (nats-io/nkeys, strkey.go)."""


class EventKey:
    """An Ed25519 key for facts. What makes it believable is the quote over `report_data`."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(message)

    def report_data(self, pod: str) -> bytes:
        """64 bytes for the quote that binds this key to the pod."""
        return event_key_binding(pod, self.public).ljust(64, b"\0")


class BusKey:
    """An Ed25519 nkey: who we are on the bus. It proves nothing about the enclave."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    @property
    def nkey(self) -> str:
        """The public half in NATS' spelling: base32 of prefix, key and CRC-16/XMODEM, low byte first."""
        raw = bytes([_USER_PREFIX]) + self._key.public_key().public_bytes_raw()
        checksum = binascii.crc_hqx(raw, 0)
        return base64.b32encode(raw + checksum.to_bytes(2, "little")).decode().rstrip("=")

    def answer(self, nonce: str) -> bytes:
        """The server's challenge signed, in standard base64 as the client library wants it."""
        return base64.b64encode(self._key.sign(nonce.encode()))
