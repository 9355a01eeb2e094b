"""The records of an EROFS image, as bytes.

Zone: enclave. May import: `entry`.

Source: Linux fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst. Little-endian throughout. We use the plain
part of the format: 4 KiB blocks, 64-byte ("extended") inodes, uncompressed and contiguous data, the tail of a
directory or a symbolic link beside its inode, extended attributes beside the inode and unshared. The superblock's
own checksum is left out: what reads these images either authenticates every byte or has measured the file.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable

from workers.enclave.rootfs.entry import Attributes, Kind, malformed

BLOCK = 4096
SLOT = 32
"""Inodes are numbered in slots of this many bytes from the start of the inode area."""
INODE = 64
DIRENT = 12
NO_BLOCK = 0xFFFFFFFF
FLAT_PLAIN, FLAT_INLINE = 0, 2
"""Where data is: all in blocks; or whole blocks, and the rest right after the inode."""

_MAGIC = 0xE0F5E1E2
_SUPERBLOCK_AT = 1024
_COMPAT_MTIME = 2
"""Inodes keep modification times, not change times."""
_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB23x")
_INODE = struct.Struct("<HHHHQIIIIQII16x")
_DIRENT = struct.Struct("<QHBB")
_XATTR = struct.Struct("<BBH")
_XATTR_HEADER = bytes(12)
_MAX_XATTRS = len(_XATTR_HEADER) + 4 * 0xFFFE

_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFLNK: 7,
}
SPECIAL = {Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}
_ACCESS, _DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
_PREFIXES = ((b"user.", 1), (b"trusted.", 4), (b"security.", 6))
_OVERLAY = (b"trusted.overlay.", b"user.overlay.")


def superblock(*, root: int, inodes: int, blocks: int, inode_area: int) -> bytes:
    """Block 0. `root` is the root's inode number, `inode_area` the block where inodes begin, `blocks` the size."""
    block = bytearray(BLOCK)
    fields = (_MAGIC, 0, _COMPAT_MTIME, 12, 0, root, inodes, 0, 0, blocks, inode_area, 0, bytes(16), b"rootfs")
    _SUPERBLOCK.pack_into(block, _SUPERBLOCK_AT, *fields, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    return bytes(block)


def inode_area_offset(first_block: bytes) -> int:
    """Where the inodes of an image begin, in bytes, from its block 0."""
    area: int = _SUPERBLOCK.unpack_from(first_block, _SUPERBLOCK_AT)[10]
    return area * BLOCK


def inode(
    *, number: int, mode: int, attributes: Attributes, size: int, where: int, links: int, layout: int, xattrs: int
) -> bytes:
    """One 64-byte inode. `where` is the first data block or the device number; `xattrs` the bytes that follow."""
    seconds, nanoseconds = divmod(attributes.mtime_ns, 10**9)
    return _INODE.pack(
        1 | layout << 1,
        (xattrs - len(_XATTR_HEADER)) // 4 + 1 if xattrs else 0,
        mode | attributes.permissions,
        0,
        size,
        where,
        number & 0xFFFFFFFF,
        attributes.uid,
        attributes.gid,
        seconds & 0xFFFFFFFFFFFFFFFF,
        nanoseconds,
        links,
    )


def device_number(major: int, minor: int) -> int:
    """A device number as the kernel keeps it in 32 bits (new_encode_dev)."""
    return (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12


def dirents(entries: Iterable[tuple[bytes, int, int]]) -> bytes:
    """One block of a directory, unpadded: (name, inode number, mode) in order of name, that fit a block."""
    listed = list(entries)
    at = DIRENT * len(listed)
    heads = []
    for name, number, mode in listed:
        heads.append(_DIRENT.pack(number, at, _TYPES[stat.S_IFMT(mode)], 0))
        at += len(name)
    return b"".join(heads) + b"".join(name for name, _, _ in listed)


def inline_xattrs(xattrs: tuple[tuple[bytes, bytes], ...]) -> tuple[bytes, int]:
    """The attribute area after an inode, and how many attributes have no place in it.

    EROFS knows user, trusted, security and the two POSIX ACLs; nothing else can be kept. Attributes of overlayfs are
    left out on purpose: they would be read as orders to the overlay this image is the base of. Raises `Permanent`
    where one inode has more than EROFS can address (262,148 bytes).
    """
    packed: list[bytes] = []
    dropped = 0
    for name, value in xattrs:
        index, suffix = _split(name)
        if not index:
            dropped += 1
            continue
        record = _XATTR.pack(len(suffix), index, len(value)) + suffix + value
        packed.append(record + bytes(-len(record) % 4))
    if not packed:
        return b"", dropped
    area = _XATTR_HEADER + b"".join(packed)
    if len(area) > _MAX_XATTRS:
        raise malformed(
            "an inode has too many extended attributes", expected=f"{_MAX_XATTRS} bytes", got=str(len(area))
        )
    return area, dropped


def _split(name: bytes) -> tuple[int, bytes]:
    if name in (_ACCESS, _DEFAULT):
        return (2 if name == _ACCESS else 3), b""
    if not name.startswith(_OVERLAY):
        for prefix, index in _PREFIXES:
            if name.startswith(prefix) and len(name) > len(prefix):
                return index, name[len(prefix) :]
    return 0, b""
