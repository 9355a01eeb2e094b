"""What is packed, unpacked as it streams by: gzip by zlib, zstd by the library that Debian's dpkg itself needs."""

from __future__ import annotations

import ctypes
import zlib
from typing import Protocol

GZIP = b"\x1f\x8b\x08"
"""RFC 1952, section 2.3.1: the two magic bytes and deflate, the only method there is."""

ZSTD = b"\x28\xb5\x2f\xfd"
"""RFC 8878, section 3.1.1."""


class Unpacker(Protocol):
    """One packed stream."""

    def feed(self, piece: bytes) -> bytes:
        """What `piece` unpacks to; ValueError where this is no such stream, or no longer."""
        ...


class Gunzip:
    """One gzip member."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    def feed(self, piece: bytes) -> bytes:
        if self._stream.eof:
            raise ValueError("the member has ended")
        try:
            return self._stream.decompress(piece)
        except zlib.error as error:
            raise ValueError(str(error)) from error


class _Buffer(ctypes.Structure):
    """`ZSTD_inBuffer` and `ZSTD_outBuffer` of zstd.h."""

    _fields_ = (("start", ctypes.c_void_p), ("size", ctypes.c_size_t), ("position", ctypes.c_size_t))


class Unzstd:
    """One zstd frame."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libzstd.so.1")
        self._library.ZSTD_createDStream.restype = ctypes.c_void_p
        self._library.ZSTD_decompressStream.restype = ctypes.c_size_t
        self._stream = ctypes.c_void_p(self._library.ZSTD_createDStream())
        self._ended = False

    def __del__(self) -> None:
        self._library.ZSTD_freeDStream(self._stream)

    def feed(self, piece: bytes) -> bytes:
        if self._ended:
            raise ValueError("the frame has ended")
        source = ctypes.create_string_buffer(piece, len(piece))
        target = ctypes.create_string_buffer(1 << 17)
        packed = _Buffer(ctypes.addressof(source), len(piece), 0)
        unpacked = b""
        while True:
            out = _Buffer(ctypes.addressof(target), len(target), 0)
            left = self._library.ZSTD_decompressStream(self._stream, ctypes.byref(out), ctypes.byref(packed))
            if self._library.ZSTD_isError(ctypes.c_size_t(left)):
                raise ValueError("no zstd frame")
            unpacked += target.raw[: out.position]
            self._ended = left == 0
            if self._ended or (packed.position == packed.size and out.position < out.size):
                return unpacked


def zstd(plain: bytes) -> bytes:
    """One zstd frame that holds `plain`."""
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_compressBound.restype = library.ZSTD_compress.restype = ctypes.c_size_t
    bound = library.ZSTD_compressBound(ctypes.c_size_t(len(plain)))
    target = ctypes.create_string_buffer(bound)
    size = library.ZSTD_compress(target, ctypes.c_size_t(bound), plain, ctypes.c_size_t(len(plain)), 3)
    return target.raw[:size]
