"""A streaming, strict reader of layer archives.

Zone: enclave. May import: `entry`, `pax`, `orchestrator.faults`.

Reads what image builders write: ustar with its prefix field, star's shorter one, GNU long names (L, K), GNU base-256
numbers, and pax extended headers. It reads forward only, holds one megabyte, and refuses what it does not know:

1. every header's checksum is right and every number parses whole;
2. an archive ends with a block of zeros, so that no prefix of an archive is taken for the whole of it;
3. an entry is renamed by one extension at most (two x headers, or GNU and pax names together, mean one thing to one
   reader and another to the next);
4. sparse files, multi-volume archives and unknown types are refused: no image builder writes them.

Where POSIX leaves a choice, the reading is that of Go's archive/tar, because that is what containerd sees. Global
headers are skipped for that reason. The standard library's tarfile takes four times as long, and is lenient.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from workers.enclave.rootfs.entry import MAX_PATH, Attributes, Entry, Kind, malformed, parse_path, shown
from workers.enclave.rootfs.pax import Overrides, overrides, records

BLOCK = 512
CHUNK = 1 << 20
MAX_EXTENSION = 1 << 20
"""Bytes in one extended header; Go's archive/tar has the same bound."""

_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_ZEROS = bytes(BLOCK)
_KINDS = {
    b"0": Kind.REGULAR,
    b"\0": Kind.REGULAR,
    b"7": Kind.REGULAR,
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}
_U32 = 1 << 32
_MAX_TIME_NS = 10**12 * 10**9
_PLAIN = Overrides()


class ByteStream(Protocol):
    """Where a layer comes from: a file, a decrypting or hashing stream."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, at least one; none at the end. May raise the faults of its own source."""
        ...


class TarReader:
    """The entries of one archive, in order.

    Iterate once. After each regular file, `content()` gives its bytes; what is not taken is skipped. After the last
    entry the stream is read to its end, so that a digest computed by the stream covers every byte.

    Raises `Permanent` (IMAGE_MALFORMED); faults of the stream pass through.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._chunk = memoryview(b"")
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        extension = _Extension()
        while True:
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
            header = self._exactly(BLOCK, end_allowed=False)
            if header == _ZEROS:
                break
            _check_sum(header)
            size = _number(header[124:136], "size")
            kind = header[156:157]
            if kind in (b"x", b"g", b"L", b"K"):
                extension.take(kind, self._extension_block(size))
                continue
            entry = _entry(header, size, extension)
            extension = _Extension()
            self._left, self._padding = entry.size, -entry.size % BLOCK
            yield entry
        if extension.used:
            raise malformed("a layer ends in an extended header", expected="the entry it describes")
        if self._exactly(BLOCK, end_allowed=True) not in (b"", _ZEROS):
            raise malformed("a layer goes on after its end mark", expected="two blocks of zeros")
        self._drain()

    def content(self) -> Iterator[memoryview]:
        """The bytes of the entry just yielded, in pieces. A piece is valid until the next one is asked for."""
        while self._left:
            piece = self._some(self._left)
            self._left -= len(piece)
            yield piece

    def _some(self, limit: int) -> memoryview:
        """Between one and `limit` bytes."""
        if not self._chunk:
            self._chunk = memoryview(self._stream.read(CHUNK))
            if not self._chunk:
                raise malformed("a layer ends early", expected=f"at least {limit} more bytes", got="the end")
        piece = self._chunk[:limit]
        self._chunk = self._chunk[limit:]
        return piece

    def _exactly(self, count: int, *, end_allowed: bool) -> bytes:
        if len(self._chunk) >= count:
            taken = bytes(self._chunk[:count])
            self._chunk = self._chunk[count:]
            return taken
        if end_allowed and not self._chunk:
            self._chunk = memoryview(self._stream.read(CHUNK))
            if not self._chunk:
                return b""
        gathered = bytearray()
        while len(gathered) < count:
            gathered += self._some(count - len(gathered))
        return bytes(gathered)

    def _extension_block(self, size: int) -> bytes:
        if not 0 < size <= MAX_EXTENSION:
            raise malformed("an extended header has a bad size", expected=f"1 to {MAX_EXTENSION} bytes", got=str(size))
        block = self._exactly(size, end_allowed=False)
        self._skip(-size % BLOCK)
        return block

    def _skip(self, count: int) -> None:
        while count:
            count -= len(self._some(count))

    def _drain(self) -> None:
        self._chunk = memoryview(b"")
        while self._stream.read(CHUNK):
            pass


class _Extension:
    """What the extended headers before an entry said of it."""

    __slots__ = ("link", "name", "pax", "used")

    def __init__(self) -> None:
        self.name: bytes | None = None
        self.link: bytes | None = None
        self.pax = _PLAIN
        self.used = False

    def take(self, kind: bytes, block: bytes) -> None:
        """One extended header of type `kind`."""
        if kind == b"g":
            records(block)
            return
        long_name = block.partition(b"\0")[0]
        if kind == b"L" and self.name is None and self.pax.path is None:
            self.name = long_name
        elif kind == b"K" and self.link is None and self.pax.linkpath is None:
            self.link = long_name
        elif kind == b"x" and self.pax is _PLAIN:
            self.pax = overrides(block)
            if (self.pax.path is not None and self.name) or (self.pax.linkpath is not None and self.link):
                raise malformed("an entry is named by both a GNU and a pax header")
        else:
            raise malformed("an entry has two extended headers of one kind", got=f"type {kind.decode()}")
        self.used = True


def _check_sum(header: bytes) -> None:
    stored = _number(header[148:156], "checksum")
    counted = header[:148] + b" " * 8 + header[156:]
    unsigned = sum(counted)
    # Old archivers summed signed characters; archive/tar takes both.
    signed = unsigned - 256 * sum(byte >> 7 for byte in counted) if stored != unsigned else unsigned
    if stored not in (unsigned, signed):
        raise malformed("a layer's header has a wrong checksum", expected="the sum of its bytes", got=str(stored))


def _entry(header: bytes, size: int, extension: _Extension) -> Entry:
    """The entry a header and its extensions describe."""
    pax = extension.pax
    name = extension.name or pax.path or _header_name(header)
    kind = _KINDS.get(header[156:157])
    if kind is None:
        raise malformed("a layer holds an entry of unknown type", got=f"{shown(header[156:157])} at {shown(name)}")
    if header[156:157] == b"\0" and name.endswith(b"/"):
        kind = Kind.DIRECTORY
    link = extension.link or pax.linkpath or header[157:257].partition(b"\0")[0]
    if kind is Kind.SYMLINK and (not 0 < len(link) < MAX_PATH or b"\0" in link):
        raise malformed("a symbolic link has a bad text", expected=f"1 to {MAX_PATH - 1} bytes", got=shown(name))
    mtime_ns = _number(header[136:148], "mtime", signed=True) * 10**9 if pax.mtime_ns is None else pax.mtime_ns
    if abs(mtime_ns) >= _MAX_TIME_NS:
        raise malformed("an entry's time is out of range", got=f"{mtime_ns // 10**9} s at {shown(name)}")
    attributes = Attributes(
        permissions=_number(header[100:108], "mode") & 0o7777,
        uid=_owner(_number(header[108:116], "uid") if pax.uid is None else pax.uid, name),
        gid=_owner(_number(header[116:124], "gid") if pax.gid is None else pax.gid, name),
        mtime_ns=mtime_ns,
        xattrs=pax.xattrs,
    )
    if kind is Kind.REGULAR:
        return Entry(parse_path(name), kind, attributes, size=size if pax.size is None else pax.size)
    if kind in (Kind.CHARACTER, Kind.BLOCK):
        device = _number(header[329:337], "major"), _number(header[337:345], "minor")
        if device[0] >= 1 << 12 or device[1] >= 1 << 20:
            raise malformed("a device number is out of range", got=f"{device} at {shown(name)}")
        return Entry(parse_path(name), kind, attributes, device=device)
    if kind is Kind.HARDLINK:
        return Entry(parse_path(name), kind, attributes, link=parse_path(link))
    return Entry(parse_path(name), kind, attributes, target=link if kind is Kind.SYMLINK else b"")


def _header_name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if header[257:265] != b"ustar\x0000":
        return name
    # star keeps its own times in the last 24 bytes of the prefix field, and marks that with a trailer.
    prefix = header[345:476] if header[508:512] == b"tar\0" else header[345:500]
    prefix = prefix.partition(b"\0")[0]
    return prefix + b"/" + name if prefix else name


def _number(field: bytes, what: str, *, signed: bool = False) -> int:
    """An octal number, or a big-endian one where the first bit is set (GNU base-256)."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=True) if field[0] == 0xFF else int.from_bytes(field, "big")
        value -= 0 if field[0] == 0xFF else 0x80 << 8 * (len(field) - 1)
        if (value < 0 and not signed) or abs(value) >= 1 << 63:
            raise malformed(f"a header's {what} is out of range", got=str(value))
        return value
    octal = _OCTAL.fullmatch(field)
    if not octal:
        raise malformed(f"a header's {what} is not an octal number", got=shown(field))
    return int(octal[1] or b"0", 8)


def _owner(value: int, name: bytes) -> int:
    # 2^32-1 means "leave it" to chown(2): no inode can be owned by it.
    if value >= _U32 - 1:
        raise malformed("an owner's number is out of range", expected="below 2^32-1", got=f"{value} at {shown(name)}")
    return value
