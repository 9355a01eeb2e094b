"""Decompression by pieces: what goes in beyond a piece's size waits outside, so that a bomb cannot fill memory."""

from __future__ import annotations

import zlib
from typing import Final, Protocol

PIECE: Final = 1024 * 1024
"""Bytes made at a time: with deflate's usual ratio, one chunk of a blob in one call."""

_GZIP: Final = 16 + zlib.MAX_WBITS


class NotGzipError(ValueError):
    """The bytes are no gzip stream, or it ends in the middle of a member."""


class Decompressor(Protocol):
    """Turns compressed bytes into plain ones. Feed `pending` before anything new."""

    pending: bytes

    def feed(self, compressed: bytes, /) -> bytes:
        """At most `PIECE` bytes, b"" where more input is needed. Feed b"" at the end of the input, until b"" comes."""
        ...


class Uncompressed:
    """Nothing to do."""

    __slots__ = ("pending",)

    def __init__(self) -> None:
        self.pending = b""

    def feed(self, compressed: bytes, /) -> bytes:
        """See `Decompressor.feed`."""
        return compressed


class Gunzip:
    """gzip members, one after another (RFC 1952 section 2.2), and nothing after the last."""

    __slots__ = ("_member", "pending")

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self.pending = b""

    def feed(self, compressed: bytes, /) -> bytes:
        """See `Decompressor.feed`.

        Raises:
            NotGzipError: with zlib's words, which quote no content.
        """
        if self._member.eof:
            if not compressed:
                return b""
            self._member = zlib.decompressobj(_GZIP)
        try:
            plain = self._member.decompress(compressed, PIECE)
        except zlib.error as error:
            raise NotGzipError(str(error)[:100]) from None
        if not plain and not compressed and not self._member.eof:
            raise NotGzipError("an end in the middle of a gzip member")
        self.pending = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        return plain
