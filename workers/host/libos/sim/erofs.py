"""One file out of an EROFS image, without mounting it: how a measurement finds the entry manifest.

Source: the kernel's Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h. Only what `mkfs.erofs` makes of
small files and directories is read: flat data, whole or with its tail in the inode. A compressed or chunked manifest
is refused. The image comes from a file that may be anything, so every length is bounded before it is read.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from typing import Final

from orchestrator.faults import Code, Permanent

_SUPERBLOCK_AT: Final = 1024
_MAGIC: Final = 0xE0F5E1E2
_KNOWN_INCOMPATIBLE: Final = 0x7F  # up to XATTR_PREFIXES; 48-bit block addresses change the superblock
_FLAT_PLAIN: Final = 0
_FLAT_INLINE: Final = 2
_DIRENT_BYTES: Final = 12
_MAX_DIRECTORY_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Inode:
    """`at`: where its inline tail would start; `block`: its first data block."""

    mode: int
    size: int
    layout: int
    block: int
    at: int


class ErofsImage:
    """An image behind an open file descriptor, which stays the caller's."""

    __slots__ = ("_block_bits", "_fd", "_meta_at", "_root", "_size")

    def __init__(self, fd: int) -> None:
        """Read the superblock; `Permanent(INPUT)` when this is no EROFS image of a known kind."""
        self._fd = fd
        self._size = os.fstat(fd).st_size
        block = self._read(_SUPERBLOCK_AT, 128)
        (magic,) = struct.unpack_from("<I", block, 0)
        self._block_bits = block[12]
        (incompatible,) = struct.unpack_from("<I", block, 80)
        if magic != _MAGIC or not 9 <= self._block_bits <= 16 or incompatible & ~_KNOWN_INCOMPATIBLE:
            raise _unreadable(f"magic {magic:#x}, block bits {self._block_bits}, features {incompatible:#x}")
        (blocks,) = struct.unpack_from("<I", block, 36)
        if blocks << self._block_bits > self._size:
            raise _unreadable(f"{self._size} bytes of {blocks} blocks")
        (self._root,) = struct.unpack_from("<H", block, 14)
        (meta_block,) = struct.unpack_from("<I", block, 40)
        self._meta_at = meta_block << self._block_bits

    def read_file(self, path: str, limit: int) -> bytes:
        """The regular file at the absolute `path`, at most `limit` bytes; no symbolic link is followed.

        Raises `Permanent`: NOT_FOUND when a name is missing, INPUT for anything else that does not fit.
        """
        inode = self._inode(self._root)
        for name in path.strip("/").split("/"):
            if not stat.S_ISDIR(inode.mode):
                raise _unreadable(f"{path} crosses something that is no directory")
            inode = self._inode(self._lookup(inode, name.encode(), path))
        if not stat.S_ISREG(inode.mode):
            raise _unreadable(f"{path} is no regular file")
        return self._data(inode, limit)

    def _inode(self, number: int) -> _Inode:
        at = self._meta_at + number * 32
        raw = self._read(at, 32)
        form, xattrs, mode = struct.unpack_from("<HHH", raw, 0)
        extended = form & 1
        (size,) = struct.unpack_from("<Q" if extended else "<I", raw, 8)
        (block,) = struct.unpack_from("<I", raw, 16)
        end = at + (64 if extended else 32) + (12 + (xattrs - 1) * 4 if xattrs else 0)
        return _Inode(mode, size, form >> 1 & 7, block, end)

    def _data(self, inode: _Inode, limit: int) -> bytes:
        if inode.size > limit:
            raise _unreadable(f"{inode.size} bytes where at most {limit} are expected")
        if inode.layout == _FLAT_PLAIN:
            return self._read(inode.block << self._block_bits, inode.size)
        if inode.layout == _FLAT_INLINE:
            whole = max(inode.size - 1, 0) >> self._block_bits << self._block_bits
            return self._read(inode.block << self._block_bits, whole) + self._read(inode.at, inode.size - whole)
        raise _unreadable(f"data layout {inode.layout}; the manifest must not be compressed or chunked")

    def _lookup(self, directory: _Inode, name: bytes, path: str) -> int:
        data = self._data(directory, _MAX_DIRECTORY_BYTES)
        size = 1 << self._block_bits
        for start in range(0, len(data), size):
            for entry, number in _dirents(data[start : start + size]):
                if entry == name:
                    return number
        raise Permanent(
            Code.NOT_FOUND,
            "the image lacks a file",
            expected=path,
            got=f"no {name.decode()!r}",
            advice="this file is no bundle of enclave-cc, or it was built by another version",
        )

    def _read(self, at: int, length: int) -> bytes:
        if length == 0:
            return b""  # an empty part has no address: mkfs writes all ones
        if at + length > self._size:
            raise _unreadable(f"it ends at {self._size}, and something lies at {at} to {at + length}")
        raw = os.pread(self._fd, length, at)
        if len(raw) != length:
            raise _unreadable("it became shorter while it was read")
        return raw


def _dirents(block: bytes) -> list[tuple[bytes, int]]:
    """(name, inode number) of one directory block: 12-byte entries, then the names they point at."""
    if len(block) < _DIRENT_BYTES:
        raise _unreadable("a directory block too short for an entry")
    first_name = struct.unpack_from("<H", block, 8)[0]
    if first_name % _DIRENT_BYTES or not _DIRENT_BYTES <= first_name <= len(block):
        raise _unreadable("a directory block without a whole number of entries")
    heads = [struct.unpack_from("<QH", block, at) for at in range(0, first_name, _DIRENT_BYTES)]
    ends = [at for _, at in heads[1:]] + [len(block)]
    return [(block[at:end].rstrip(b"\0"), number) for (number, at), end in zip(heads, ends, strict=True)]


def _unreadable(got: str) -> Permanent:
    return Permanent(
        Code.INPUT,
        "the bundle's image cannot be read",
        expected="an EROFS image with an uncompressed entry manifest",
        got=got,
        advice="build the bundle again with mkfs.erofs",
    )
