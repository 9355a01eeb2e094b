"""Frames: ten bytes of header, then data. No I/O: bytes in, frames out.

    length of data  u32 big endian, at most 4 MiB
    stream          u32 big endian, odd when the client began it
    kind            u8: 1 request, 2 response, 3 data of a stream
    flags           u8: 0 for unary calls

Peer: containerd/ttrpc PROTOCOL.md, "Message Frame". What is longer than the bound is skipped without being kept, so
that its sender can be told and the connection goes on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_DATA: Final = 4 << 20
REQUEST: Final = 1
RESPONSE: Final = 2
_HEADER: Final = struct.Struct(">IIBB")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `data` is None where it was longer than `MAX_DATA` and has been skipped."""

    stream: int
    kind: int
    flags: int
    data: bytes | None


def encode(stream: int, kind: int, data: bytes) -> bytes:
    """A frame without flags. Raises ValueError for data over the bound: the peer would refuse it."""
    if len(data) > MAX_DATA:
        raise ValueError(f"{len(data)} bytes do not fit a frame")
    return _HEADER.pack(len(data), stream, kind, 0) + data


class Decoder:
    """Cuts a byte stream into frames; keeps at most one frame's bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0

    def feed(self, received: bytes) -> Iterator[Frame]:
        """The frames that `received` completes, in order."""
        self._buffer += received
        while True:
            if self._skip:
                dropped = min(self._skip, len(self._buffer))
                del self._buffer[:dropped]
                self._skip -= dropped
            if self._skip or len(self._buffer) < _HEADER.size:
                return
            length, stream, kind, flags = _HEADER.unpack_from(self._buffer)
            if length > MAX_DATA:
                del self._buffer[: _HEADER.size]
                self._skip = length
                yield Frame(stream, kind, flags, None)
                continue
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            data = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield Frame(stream, kind, flags, data)
