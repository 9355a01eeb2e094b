"""Tiles (c2sp.org/tlog-tiles): where the tree's hashes and entries lie, and how they are encoded.

Zone: any. May import: `orchestrator.{audit.malformed,audit.merkle,faults}`, the standard library. Pure.

A tile holds 256 hashes, 8,192 bytes; the rightmost of each level may be partial. An entry bundle holds the entries of
one level-0 tile, each with its length before it in 2 bytes, big endian.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Self

from orchestrator.audit.malformed import malformed
from orchestrator.audit.merkle import HASH_BYTES, complete_root
from orchestrator.faults import Code, Permanent

WIDTH: Final = 256
HEIGHT: Final = 8
ENTRIES: Final = -1
"""The `level` of entry bundles."""

MAX_ENTRY_BYTES: Final = 0xFFFF
MAX_BUNDLE_BYTES: Final = WIDTH * (2 + MAX_ENTRY_BYTES)
_REMEMBERED: Final = 64
_PATH: Final = re.compile(
    r"tile/(?P<level>[0-7]|entries)/(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?", re.ASCII
)


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """Tile `index` of `level` (ENTRIES for a bundle), the first `width` of its 256 places."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Below the log's prefix: `tile/0/x001/x234/067.p/5`."""
        level = "entries" if self.level == ENTRIES else str(self.level)
        number, groups = self.index // 1000, [f"{self.index % 1000:03d}"]
        while number:
            groups.insert(0, f"x{number % 1000:03d}")
            number //= 1000
        partial = f".p/{self.width}" if self.width < WIDTH else ""
        return f"tile/{level}/{'/'.join(groups)}{partial}"

    @classmethod
    def parse(cls, path: str) -> Self:
        """The one path of a tile, read back. Raises Permanent(AUDIT_FORMAT)."""
        match = _PATH.fullmatch(path)
        if match is None:
            raise malformed("the tile's path", "tile/LEVEL/INDEX[.p/WIDTH]", path)
        level = ENTRIES if match["level"] == "entries" else int(match["level"])
        tile = cls(level, int(match["index"].replace("/", "").replace("x", "")), int(match["width"] or WIDTH))
        if tile.path != path:  # a width of 256 or more, or leading groups of zeros
            raise malformed("the tile's path", "its one shortest form", path)
        return tile

    @property
    def full(self) -> Tile:
        """The same tile once it holds 256."""
        return Tile(self.level, self.index)


def width_at(level: int, index: int, size: int) -> int:
    """How many places of that tile a tree of `size` leaves fills; 0 when the tile does not exist."""
    filled = size >> (HEIGHT * max(level, 0))
    return max(0, min(WIDTH, filled - index * WIDTH))


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile of hashes that a tree of `size` leaves has, level by level."""
    level = 0
    while (filled := size >> (HEIGHT * level)) > 0:
        for index in range(-(-filled // WIDTH)):
            yield Tile(level, index, width_at(level, index, size))
        level += 1


def bundles_of(size: int, start: int = 0) -> Iterator[Tile]:
    """Every entry bundle that such a log has, from the one with entry `start`."""
    for index in range(start // WIDTH, -(-size // WIDTH)):
        yield Tile(ENTRIES, index, width_at(ENTRIES, index, size))


def encode_hashes(hashes: Iterable[bytes]) -> bytes:
    """A tile's bytes."""
    return b"".join(hashes)


def decode_hashes(raw: bytes, tile: Tile) -> list[bytes]:
    """The hashes of `tile`. Raises Permanent(AUDIT_TILE) unless there are exactly as many as it is wide."""
    if len(raw) != tile.width * HASH_BYTES:
        raise altered(tile, f"{tile.width} hashes of 32 bytes", f"{len(raw)} bytes")
    return [raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)]


def encode_entries(entries: Iterable[bytes]) -> bytes:
    """A bundle's bytes. Raises OverflowError for an entry of more than 65,535 bytes."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_entries(raw: bytes, tile: Tile) -> list[bytes]:
    """The entries of bundle `tile`. Raises Permanent(AUDIT_TILE) unless they are exactly as many as it is wide."""
    entries: list[bytes] = []
    at, end = 0, len(raw)
    for _ in range(tile.width):
        start = at + 2
        at = start + int.from_bytes(raw[at:start], "big")
        if start > end or at > end:
            raise altered(tile, f"{tile.width} entries", f"{len(entries)} and a part of one")
        entries.append(raw[start:at])
    if at != end:
        raise altered(tile, f"{tile.width} entries", f"{end - at} bytes after them")
    return entries


def altered(tile: Tile, expected: str, got: str) -> Permanent:
    """A tile that is not what the tree needs."""
    return Permanent(
        Code.AUDIT_TILE,
        f"{tile.path} is not what the log's tree has there",
        expected=expected,
        got=got,
        advice="the log's files were altered or cut: restore them from a copy, or make them anew from the event stream",
    )


class TileNodes:
    """Reads nodes of a tree of `size` leaves out of its tiles; `fetch` gives a tile's bytes.

    Calling it is a `merkle.ReadNode`. Nothing it returns is authenticated: the proof made from it is checked against
    a root.
    """

    def __init__(self, fetch: Callable[[Tile], bytes], size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._hashes: OrderedDict[Tile, list[bytes]] = OrderedDict()

    def __call__(self, level: int, index: int) -> bytes:
        """The hash of the complete subtree; raises Permanent(AUDIT_TILE) when its tile is missing, cut or too small."""
        height = level % HEIGHT
        first = index << height
        number, at = divmod(first, WIDTH)
        tile = Tile(level // HEIGHT, number, width_at(level // HEIGHT, number, self._size))
        if at + (1 << height) > tile.width:
            raise altered(tile, f"a subtree of level {level} at {index}", f"a tree of {self._size} entries")
        return complete_root(self._tile(tile)[at : at + (1 << height)])

    def _tile(self, tile: Tile) -> list[bytes]:
        hashes = self._hashes.get(tile)
        if hashes is None:
            self._hashes[tile] = hashes = decode_hashes(self._fetch(tile), tile)
            if len(self._hashes) > _REMEMBERED:
                self._hashes.popitem(last=False)
        else:
            self._hashes.move_to_end(tile)
        return hashes
