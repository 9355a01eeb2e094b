"""Reading a log's files: its checkpoint, tiles, entries, and the proofs that they give.

Zone: any. May import: `orchestrator.audit`, `orchestrator.faults`.

Nothing read here is believed: `Policy.accept` judges the checkpoint, proofs and `verifier` judge the rest against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from orchestrator.audit import merkle
from orchestrator.audit.entry import Entry
from orchestrator.audit.merkle import HASH_BYTES
from orchestrator.audit.note import Note
from orchestrator.audit.storage import Store
from orchestrator.audit.tiles import (
    ENTRIES,
    WIDTH,
    Tile,
    TileNodes,
    altered,
    bundles_of,
    decode_entries,
    encode_entries,
    width_at,
)
from orchestrator.faults import Code, Permanent

CHECKPOINT: Final = "checkpoint"

Marks: TypeAlias = Sequence[Sequence[bytes]]
"""What bytes must hold: of each group at least one."""


def holds(raw: bytes, marks: Marks) -> bool:
    """Whether there is one of each group in it."""
    return all(any(mark in raw for mark in group) for group in marks)


def evidence_name(digest: str) -> str:
    """Where a message too large for a leaf is kept; `digest` is its SHA-256 in hex."""
    return f"evidence/{digest[:2]}/{digest}"


class LogReader:
    """A log in a store, as whoever may read the store sees it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def checkpoint(self) -> Note:
        """The checkpoint that is published. Raises Permanent: NOT_FOUND when there is none, AUDIT_FORMAT."""
        raw = self.store.read(CHECKPOINT)
        if raw is None:
            raise Permanent(
                Code.NOT_FOUND,
                "there is no audit log here, or it was never published",
                expected=f"a file named {CHECKPOINT}",
                got="none",
                advice="`enclave-cc audit run` writes the log; give its folder with --log",
            )
        return Note.parse(raw)

    def tile(self, tile: Tile) -> bytes:
        """A tile's bytes; of a partial one that is gone, the beginning of the full one.

        Raises Permanent(AUDIT_TILE) when neither is there.
        """
        raw = self.store.read(tile.path)
        if raw is not None:
            return raw
        raw = self.store.read(tile.full.path) if tile.width < WIDTH else None
        if raw is None:
            raise altered(tile, "a tile", "none")
        if tile.level == ENTRIES:
            return encode_entries(decode_entries(raw, tile.full)[: tile.width])
        return raw[: tile.width * HASH_BYTES]

    def nodes(self, size: int) -> TileNodes:
        """The nodes of the tree of that size, from its tiles."""
        return TileNodes(self.tile, size)

    def bundle(self, tile: Tile) -> list[bytes]:
        """The entries of a bundle. Raises Permanent(AUDIT_TILE)."""
        return decode_entries(self.tile(tile), tile)

    def chosen(self, tile: Tile, marks: Marks) -> Iterator[tuple[int, bytes]]:
        """(index, entry) of a bundle's entries that hold `marks`. Raises Permanent(AUDIT_TILE).

        One that does not hold them as a whole is not taken apart: what is rare among a million is soon found.
        """
        raw = self.tile(tile)
        if not marks or holds(raw, marks):
            for index, entry in enumerate(decode_entries(raw, tile), tile.index * WIDTH):
                if not marks or holds(entry, marks):
                    yield index, entry

    def entry(self, index: int, size: int) -> bytes:
        """The entry at `index` of the log when it had `size`. Raises Permanent(NOT_FOUND, AUDIT_TILE)."""
        if not 0 <= index < size:
            raise Permanent(
                Code.NOT_FOUND, "the log has no such entry", expected=f"an index below {size}", got=str(index)
            )
        number, at = divmod(index, WIDTH)
        return self.bundle(Tile(ENTRIES, number, width_at(ENTRIES, number, size)))[at]

    def entries(self, size: int, start: int = 0, marks: Marks = ()) -> Iterator[tuple[int, bytes]]:
        """(index, entry) from `start` up to `size`, those that hold `marks`. Raises Permanent(AUDIT_TILE)."""
        for tile in bundles_of(size, start):
            for index, entry in self.chosen(tile, marks):
                if index >= start:
                    yield index, entry

    def evidence(self, entry: Entry) -> bytes | None:
        """The bytes of a message too large for its leaf; None for one that its leaf holds, or when they are lost."""
        return None if entry.envelope is not None else self.store.read(evidence_name(entry.envelope_sha256))

    def prove_inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """The path of `index` in the tree of `size`. Raises Permanent(AUDIT_TILE)."""
        return merkle.prove_inclusion(self.nodes(size), index, size)

    def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """That the tree of `new` continues that of `old`. Raises Permanent(AUDIT_TILE)."""
        return merkle.prove_consistency(self.nodes(new), old, new)
