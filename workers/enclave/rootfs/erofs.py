"""A one-pass writer of EROFS images: contents first, as they come; then the tree; the superblock last.

Zone: enclave. May import: `entry`, `tree`, `erofs_format`, `orchestrator.faults`.

    block 0        superblock, written last
    1 ..           contents of regular files, each from a block of its own, in the order they came
    then           directory blocks that are full
    then           inodes, each followed by its extended attributes and its directory's or link's tail

Contents need no seeking and no memory; the tree is known only when the last layer was read. All metadata lies
together at the end, so that one read-ahead of it warms every later lookup. The same tree and order of contents give
the same bytes: there is no clock, no random number and no hash order in the image.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from workers.enclave.rootfs.entry import Piece, malformed
from workers.enclave.rootfs.erofs_format import (
    BLOCK,
    DIRENT,
    FLAT_INLINE,
    FLAT_PLAIN,
    INODE,
    NO_BLOCK,
    SLOT,
    SPECIAL,
    device_number,
    dirents,
    inline_xattrs,
    inode,
    superblock,
)
from workers.enclave.rootfs.tree import NOTHING, Directory, Extent, Node, RegularFile, Symlink

_BATCH = 1 << 20
_FIRST_SLOT = 2
"""The root's inode number. Number 0 would do for EROFS, but readdir(3) takes it for a deleted entry."""


class ImageSink(Protocol):
    """Where an image goes: forward only, but for its first block, which is given last."""

    def append(self, data: Piece, /) -> None:
        """The next bytes. The sink begins behind the first block (4,096 bytes)."""
        ...

    def finish(self, first_block: bytes, /) -> None:
        """The first block; nothing follows."""
        ...


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """What an image holds: `files` inodes of every kind with `content_bytes` in the regular ones, in `size` bytes.

    `xattrs_dropped` counts extended attributes that EROFS cannot keep (see `erofs_format.inline_xattrs`).
    """

    files: int
    content_bytes: int
    size: int
    xattrs_dropped: int


@dataclass(slots=True)
class _Place:
    """Where an inode goes, and what goes with it."""

    parent: Directory
    links: int = 0
    number: int = 0
    xattrs: bytes = b""
    groups: list[list[bytes]] | None = None
    """A directory's names, one list a block."""
    tail: int = 0
    """Bytes right after the inode."""
    blocks: int = 0
    """First of the whole blocks, if there are any."""


class ErofsWriter:
    """Writes one image: `write_content()` for each regular file, then `finish()` once."""

    def __init__(self, sink: ImageSink) -> None:
        self._sink = sink
        self._block = 1

    def write_content(self, size: int, pieces: Iterable[Piece]) -> Extent:
        """Puts `size` bytes into the image. Raises `Permanent` where the pieces make another number of bytes."""
        written = 0
        for piece in pieces:
            self._sink.append(piece)
            written += memoryview(piece).nbytes
        if written != size:
            raise malformed("a file's content is not as long as announced", expected=f"{size} bytes", got=f"{written}")
        if not size:
            return NOTHING
        extent = Extent(self._block, size)
        self._sink.append(bytes(-size % BLOCK))
        self._advance(-(-size // BLOCK))
        return extent

    def finish(self, root: Directory) -> ImageSummary:
        """Writes the tree and the superblock."""
        places, dropped = self._place(root)
        self._write_directory_blocks(places)
        inode_area = self._block
        batch = bytearray()
        at = 0
        for node, place in places.items():
            batch += bytes(place.number * SLOT - at)
            record = self._inode(node, place, places)
            batch += record
            at = place.number * SLOT + len(record)
            if len(batch) >= _BATCH:
                self._sink.append(batch)
                batch = bytearray()
        # fsck.erofs (1.5) looks for attributes behind every inode, the last one too, before it asks whether it has any.
        at += SLOT
        batch += bytes(SLOT + -at % BLOCK)
        self._sink.append(batch)
        self._advance(-(-at // BLOCK))
        self._sink.finish(
            superblock(root=places[root].number, inodes=len(places), blocks=self._block, inode_area=inode_area)
        )
        content = sum(node.extent.size for node in places if isinstance(node, RegularFile))
        return ImageSummary(len(places), content, self._block * BLOCK, dropped)

    def _advance(self, blocks: int) -> None:
        self._block += blocks
        if self._block >= NO_BLOCK:
            raise malformed("an image is too large", expected="below 16 TiB")

    def _place(self, root: Directory) -> tuple[dict[Node, _Place], int]:
        """Every inode once, in the order of the inode area, with its number."""
        places: dict[Node, _Place] = {root: _Place(root, links=2)}
        for directory, child in _walk(root):
            place = places.setdefault(child, _Place(directory))
            place.links += 2 if isinstance(child, Directory) else 1
            if isinstance(child, Directory):
                places[directory].links += 1
        position, blocks, dropped = _FIRST_SLOT * SLOT, self._block, 0
        for node, place in places.items():
            place.xattrs, unkept = inline_xattrs(node.attributes.xattrs)
            dropped += unkept
            head = INODE + len(place.xattrs)
            if isinstance(node, Directory):
                place.groups = list(_grouped(node))
            length = _length(node, place)
            place.tail = length % BLOCK
            # A tail may not cross a block: the kernel takes such an inode for corrupted.
            if place.tail and head % BLOCK + place.tail > BLOCK:
                place.tail = 0
            if length > place.tail:
                place.blocks = blocks
                blocks += -(-(length - place.tail) // BLOCK)
            start = position % BLOCK
            if start + INODE > BLOCK or (place.tail and (start + head) % BLOCK + place.tail > BLOCK):
                position += -position % BLOCK
            place.number = position // SLOT
            position += head + place.tail
            position += -position % SLOT
        return places, dropped

    def _write_directory_blocks(self, places: dict[Node, _Place]) -> None:
        """What of directories and links does not lie beside their inodes, in the order `_place` numbered it."""
        for node, place in places.items():
            if not place.blocks:
                continue
            if isinstance(node, Symlink):
                self._append_block(node.target)
            elif isinstance(node, Directory) and place.groups:
                for group in place.groups[: len(place.groups) - bool(place.tail)]:
                    self._append_block(_dirents(node, group, place, places))

    def _append_block(self, data: bytes) -> None:
        self._sink.append(data + bytes(BLOCK - len(data)))
        self._advance(1)

    def _inode(self, node: Node, place: _Place, places: dict[Node, _Place]) -> bytes:
        tail = b""
        if isinstance(node, Symlink):
            where, tail = place.blocks or NO_BLOCK, node.target if place.tail else b""
        elif isinstance(node, Directory):
            where = place.blocks or NO_BLOCK
            tail = _dirents(node, place.groups[-1], place, places) if place.tail and place.groups else b""
        elif isinstance(node, RegularFile):
            where = node.extent.block
        else:
            where = device_number(*node.device)
        head = inode(
            number=place.number,
            mode=_type(node),
            attributes=node.attributes,
            size=node.extent.size if isinstance(node, RegularFile) else _length(node, place),
            where=where,
            links=place.links,
            layout=FLAT_INLINE if place.tail else FLAT_PLAIN,
            xattrs=len(place.xattrs),
        )
        return head + place.xattrs + tail


def _walk(root: Directory) -> Iterator[tuple[Directory, Node]]:
    """(directory, child) for every name: a directory's children together, then each of its directories."""
    pending = [root]
    while pending:
        directory = pending.pop()
        below = []
        for _, child in sorted(directory.children.items()):
            yield directory, child
            if isinstance(child, Directory):
                below.append(child)
        pending += below[::-1]


def _grouped(directory: Directory) -> Iterator[list[bytes]]:
    """The names of a directory in order, as many to a list as fit a block."""
    group: list[bytes] = []
    room = BLOCK
    for name in sorted([b".", b"..", *directory.children]):
        if DIRENT + len(name) > room:
            yield group
            group, room = [], BLOCK
        group.append(name)
        room -= DIRENT + len(name)
    yield group


def _dirents(node: Directory, group: list[bytes], place: _Place, places: dict[Node, _Place]) -> bytes:
    own: dict[bytes, Node] = {b".": node, b"..": place.parent}
    children = ((name, own.get(name) or node.children[name]) for name in group)
    return dirents((name, places[child].number, _type(child)) for name, child in children)


def _length(node: Node, place: _Place) -> int:
    """Bytes of a directory's or a link's own data; 0 for what keeps its data elsewhere or has none."""
    if isinstance(node, Symlink):
        return len(node.target)
    if not place.groups:
        return 0
    return (len(place.groups) - 1) * BLOCK + sum(DIRENT + len(name) for name in place.groups[-1])


def _type(node: Node) -> int:
    if isinstance(node, Directory):
        return stat.S_IFDIR
    if isinstance(node, RegularFile):
        return stat.S_IFREG
    if isinstance(node, Symlink):
        return stat.S_IFLNK
    return SPECIAL[node.kind]
