"""A stopped nats-server's own files, as somebody with the disk can alter them: records of a stream's message blocks.

The format is filestore.go's (nats-server 2.12 to 2.15), little endian:

    length(4, top bit: has headers) sequence(8) time(8) subject length(2) subject
        [headers length(4) headers] message  checksum(8)

The checksum is HighwayHash-64 over sequence, time, subject, headers and message; its key is the SHA-256 of
`<stream>-<block>`: no secret, so whoever can write the file can make it right. `index.db` is a cache of the blocks.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HEAD: Final = struct.Struct("<IQQH")
_HAS_HEADERS: Final = 1 << 31
_MASK: Final = (1 << 64) - 1
_INITIAL_0: Final = (0xDBE6D5D5FE4CCE2F, 0xA4093822299F31D0, 0x13198A2E03707344, 0x243F6A8885A308D3)
_INITIAL_1: Final = (0x3BD39E10CB0EF593, 0xC0ACF169B5F18A8C, 0xBE5466CF34E90C6C, 0x452821E638D01377)


@dataclass(frozen=True)
class Record:
    """One stored message."""

    sequence: int
    time: int
    subject: bytes
    headers: bytes
    message: bytes

    def encode(self, key: bytes) -> bytes:
        tail = (struct.pack("<I", len(self.headers)) + self.headers if self.headers else b"") + self.message
        length = _HEAD.size + len(self.subject) + len(tail) + 8
        place = struct.pack("<QQ", self.sequence, self.time)
        head = struct.pack("<I", length | (_HAS_HEADERS if self.headers else 0)) + place
        hashed = highway_hash(key, place + self.subject + self.headers + self.message)
        return head + struct.pack("<H", len(self.subject)) + self.subject + tail + struct.pack("<Q", hashed)


def rewrite(store: Path, stream: str, alter: Callable[[list[Record]], list[Record]]) -> None:
    """Rewrite every message of a stopped server's stream as `alter` says, checksums and all; the cache is removed."""
    (folder,) = store.glob(f"jetstream/*/streams/{stream}/msgs")
    (block,) = folder.glob("*.blk")
    key = hashlib.sha256(f"{stream}-{block.stem}".encode()).digest()
    raw = block.read_bytes()
    records = _records(raw)
    assert b"".join(record.encode(key) for record in records) == raw, "the format is another"
    block.write_bytes(b"".join(record.encode(key) for record in alter(records)))
    (folder / "index.db").unlink(missing_ok=True)


def _records(raw: bytes) -> list[Record]:
    records, at = [], 0
    while at < len(raw):
        length, sequence, time, subject_length = _HEAD.unpack_from(raw, at)
        end = at + (length & ~_HAS_HEADERS)
        at += _HEAD.size
        subject, at = raw[at : at + subject_length], at + subject_length
        headers = b""
        if length & _HAS_HEADERS:
            (size,) = struct.unpack_from("<I", raw, at)
            headers, at = raw[at + 4 : at + 4 + size], at + 4 + size
        records.append(Record(sequence, time, subject, headers, raw[at : end - 8]))
        at = end
    return records


# --- HighwayHash-64 (github.com/google/highwayhash, the portable version) ---------------------------------------------


def highway_hash(key: bytes, data: bytes) -> int:
    """The 64-bit hash of `data` under a key of 32 bytes."""
    keys = struct.unpack("<4Q", key)
    state = _State(
        [a ^ b for a, b in zip(_INITIAL_0, keys, strict=True)],
        [a ^ (k >> 32 | k << 32 & _MASK) for a, k in zip(_INITIAL_1, keys, strict=True)],
        list(_INITIAL_0),
        list(_INITIAL_1),
    )
    whole = len(data) & ~31
    for at in range(0, whole, 32):
        state.update(struct.unpack_from("<4Q", data, at))
    if len(data) != whole:
        state.finish(data[whole:])
    for _ in range(4):
        state.permute_and_update()
    return (state.v0[0] + state.v1[0] + state.mul0[0] + state.mul1[0]) & _MASK


@dataclass
class _State:
    v0: list[int]
    v1: list[int]
    mul0: list[int]
    mul1: list[int]

    def update(self, lanes: tuple[int, ...] | list[int]) -> None:
        for i in range(4):
            self.v1[i] = (self.v1[i] + self.mul0[i] + lanes[i]) & _MASK
            self.mul0[i] ^= (self.v1[i] & 0xFFFFFFFF) * (self.v0[i] >> 32)
            self.v0[i] = (self.v0[i] + self.mul1[i]) & _MASK
            self.mul1[i] ^= (self.v0[i] & 0xFFFFFFFF) * (self.v1[i] >> 32)
        for target, source in ((self.v0, self.v1), (self.v1, self.v0)):
            for i in (0, 2):
                low, high = _zipper(source[i], source[i + 1])
                target[i] = (target[i] + low) & _MASK
                target[i + 1] = (target[i + 1] + high) & _MASK

    def finish(self, rest: bytes) -> None:
        size = len(rest)
        self.v0 = [(v + (size << 32) + size) & _MASK for v in self.v0]
        self.v1 = [_rotate_halves(v, size) for v in self.v1]
        packet = bytearray(32)
        whole = size & ~3
        packet[:whole] = rest[:whole]
        if size & 16:
            packet[28:32] = rest[size - 4 :]
        elif size & 3:
            odd = size & 3
            packet[16] = rest[whole]
            packet[17] = rest[whole + (odd >> 1)]
            packet[18] = rest[size - 1]
        self.update(struct.unpack("<4Q", bytes(packet)))

    def permute_and_update(self) -> None:
        turned = [(self.v0[i] >> 32 | self.v0[i] << 32 & _MASK) for i in (2, 3, 0, 1)]
        self.update(turned)


def _zipper(v0: int, v1: int) -> tuple[int, int]:
    """Bytes of the two lanes, interleaved: what is added to the even and to the odd lane."""
    low = (
        ((v0 & 0xFF000000) | (v1 & 0xFF00000000)) >> 24
        | ((v0 & 0xFF0000000000) | (v1 & 0xFF000000000000)) >> 16
        | (v0 & 0xFF0000)
        | (v0 & 0xFF00) << 32
        | (v1 & 0xFF00000000000000) >> 8
        | v0 << 56
    )
    high = (
        ((v1 & 0xFF000000) | (v0 & 0xFF00000000)) >> 24
        | (v1 & 0xFF0000)
        | (v1 & 0xFF0000000000) >> 16
        | (v1 & 0xFF00) << 24
        | (v0 & 0xFF000000000000) >> 8
        | (v1 & 0xFF) << 48
        | (v0 & 0xFF00000000000000)
    )
    return low & _MASK, high & _MASK


def _rotate_halves(value: int, by: int) -> int:
    """Each half of 32 bits turned left."""
    low, high = value & 0xFFFFFFFF, value >> 32
    low = (low << by | low >> (32 - by)) & 0xFFFFFFFF if by else low
    high = (high << by | high >> (32 - by)) & 0xFFFFFFFF if by else high
    return high << 32 | low
