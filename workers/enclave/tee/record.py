"""An attested channel's records, without I/O: AES-256-GCM, one key a direction, a counter for a nonce.

A record is a 4-byte big-endian length and that many bytes of ciphertext with its 16-byte tag. The length is
authenticated too, and is bounded before anything is read. Records that are lost, doubled, reordered, altered or sent
back to their sender do not open, and after the first such record the session is dead.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.faults import Code, Permanent

if TYPE_CHECKING:
    from schemas.sgx import ReportBody

LENGTH_BYTES: Final = 4
MAX_PLAINTEXT_BYTES: Final = 1 << 20
"""A process specification and a few keys are some kilobytes."""
_TAG_BYTES: Final = 16
# Far below the 2^32 messages that SP 800-38D allows one key with random nonces; ours count, and stop all the same.
_MAX_RECORDS: Final = 1 << 32


class Session:
    """Both directions of one channel. `peer` is the identity that was attested and judged."""

    __slots__ = ("_alive", "_opener", "_received", "_sealer", "_sent", "peer")

    def __init__(self, peer: ReportBody, *, sends: bytes, receives: bytes) -> None:
        """Two 32-byte keys, used for nothing else."""
        self.peer = peer
        self._sealer = AESGCM(sends)
        self._opener = AESGCM(receives)
        self._sent = 0
        self._received = 0
        self._alive = True

    def seal(self, plaintext: bytes) -> bytes:
        """A whole record. `Permanent(INPUT)` for more than `MAX_PLAINTEXT_BYTES`."""
        if len(plaintext) > MAX_PLAINTEXT_BYTES:
            raise Permanent(
                Code.INPUT,
                "a message is too long for the channel",
                expected=f"at most {MAX_PLAINTEXT_BYTES} bytes",
                got=f"{len(plaintext)} bytes",
            )
        self._check(self._sent)
        header = struct.pack(">I", len(plaintext) + _TAG_BYTES)
        nonce, self._sent = _nonce(self._sent), self._sent + 1
        return header + self._sealer.encrypt(nonce, plaintext, header)

    def record_length(self, header: bytes) -> int:
        """How many bytes follow this 4-byte header; `Permanent(CONFIG_LOCAL_ATTESTATION)` for an impossible number."""
        (length,) = struct.unpack(">I", header)
        if not _TAG_BYTES <= length <= MAX_PLAINTEXT_BYTES + _TAG_BYTES:
            raise self._broken(f"a record of {length} bytes")
        return int(length)

    def open(self, header: bytes, ciphertext: bytes) -> bytes:
        """The plaintext of the next record; `Permanent(CONFIG_LOCAL_ATTESTATION)` when it is not that."""
        self._check(self._received)
        nonce, self._received = _nonce(self._received), self._received + 1
        try:
            return self._opener.decrypt(nonce, ciphertext, header)
        except InvalidTag as error:
            raise self._broken("one that does not authenticate") from error

    def kill(self) -> None:
        """Nothing is sealed or opened from now on."""
        self._alive = False

    def _check(self, count: int) -> None:
        if not self._alive or count >= _MAX_RECORDS:
            raise self._broken("a record after the end")

    def _broken(self, got: str) -> Permanent:
        self._alive = False
        return Permanent(
            Code.CONFIG_LOCAL_ATTESTATION,
            "the attested channel is broken",
            expected="the peer's next record",
            got=got,
            advice="something between the two enclaves alters or replays what they say",
        )


def _nonce(counter: int) -> bytes:
    return struct.pack(">4xQ", counter)
