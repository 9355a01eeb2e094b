"""The growing edge of a tiled tree: what a writer must remember to append.

Zone: any. May import: `orchestrator.audit.{merkle,tiles}`. Pure.

It holds the hashes of the rightmost, partial tile of each level: at most 255 of each, whatever the tree's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestrator.audit.merkle import complete_root, join
from orchestrator.audit.tiles import HEIGHT, WIDTH, Tile, decode_hashes, encode_hashes, width_at


class Edge:
    """Grows by leaf hashes; hands out each tile when it is full, and the partial ones when asked."""

    def __init__(self) -> None:
        self.size = 0
        self._levels: list[list[bytes]] = [[]]

    @classmethod
    def load(cls, fetch: Callable[[Tile], bytes], size: int) -> Edge:
        """The edge of a tree of `size` leaves, from its tiles. Raises Permanent(AUDIT_TILE) for one that is cut.

        Compare `root()` with the checkpoint's: until then the tiles are anybody's.
        """
        edge = cls()
        edge.size, edge._levels = size, []
        filled = size
        while filled or not edge._levels:
            tile = Tile(len(edge._levels), filled // WIDTH, filled % WIDTH)
            edge._levels.append(decode_hashes(fetch(tile), tile) if tile.width else [])
            filled >>= HEIGHT
        return edge

    def append(self, leaf: bytes) -> list[tuple[Tile, bytes]]:
        """Add a leaf's hash. Returns the tiles, with their bytes, that it filled: mostly none, one in 256 times one."""
        self._levels[0].append(leaf)
        self.size += 1
        if len(self._levels[0]) < WIDTH:
            return []
        full: list[tuple[Tile, bytes]] = []
        level = 0
        while len(self._levels[level]) == WIDTH:
            hashes = self._levels[level]
            full.append((Tile(level, (self.size >> HEIGHT * (level + 1)) - 1), encode_hashes(hashes)))
            self._levels[level] = []
            level += 1
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(complete_root(hashes))
        return full

    def partial(self) -> Iterator[tuple[Tile, bytes]]:
        """The partial tiles of the tree as it is."""
        for level, hashes in enumerate(self._levels):
            if hashes:
                index = (self.size >> HEIGHT * level) // WIDTH
                yield Tile(level, index, width_at(level, index, self.size)), encode_hashes(hashes)

    def leaves(self) -> list[bytes]:
        """The hashes of the leaves in the partial level-0 tile."""
        return list(self._levels[0])

    def root(self) -> bytes:
        """The root of the tree as it is."""
        subtrees: list[bytes] = []
        for hashes in reversed(self._levels):
            at = 0
            for bit in reversed(range(HEIGHT)):
                if len(hashes) >> bit & 1:
                    subtrees.append(complete_root(hashes[at : at + (1 << bit)]))
                    at += 1 << bit
        return join(subtrees)
