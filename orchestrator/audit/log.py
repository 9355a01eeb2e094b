"""The log's own side of its files: append, sign, publish; recover from a death at any moment.

Zone: host. May import: `orchestrator.audit`, `orchestrator.faults`.

The order in which things reach the disk is what makes a fork impossible:

1. tiles and entry bundles, synced;
2. `checkpoint.next`: the new checkpoint, signed. From here on it is the truth: no other tree of that size will ever be
   signed, because whoever opens the log goes on from it;
3. only now may anybody see it: witnesses cosign;
4. `checkpoint`, published with their cosignatures.

What lies beyond the truth after a crash is overwritten: by the same bytes, since an entry is a function of its message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.merkle import leaf_hash
from orchestrator.audit.note import Note, Signature, SigningKey
from orchestrator.audit.policy import Policy
from orchestrator.audit.reader import CHECKPOINT, LogReader, evidence_name
from orchestrator.audit.storage import Store
from orchestrator.audit.tiles import ENTRIES, WIDTH, Tile, altered, encode_entries
from orchestrator.audit.tree import Edge
from orchestrator.faults import Code, Permanent

NEXT: Final = "checkpoint.next"


class Log:
    """The one appender. Open it with `open_`; hold the lease (`orchestrator.audit.lease`) while you do."""

    def __init__(self, store: Store, key: SigningKey, edge: Edge, pending: list[bytes], published: int) -> None:
        self.store = store
        self._key = key
        self._edge = edge
        self._pending = pending
        """The entries of the last, partial bundle."""

        self.published = published
        """Size of the checkpoint that everybody may read."""

        self.signed = edge.size
        """Size of the newest checkpoint that was signed, published or not."""

        self._lasting = {tile for tile, _ in self._partial_tiles()}
        """Partial tiles that are durable. They are never written again: until it is synced, a file that replaces one
        can be lost in a power cut, and the old one with it.
        """

        self._filled: list[Tile] = []
        """Tiles that have become full since the last checkpoint was published: their partial forms can go."""

    @classmethod
    def open_(cls, store: Store, key: SigningKey) -> Log:
        """Go on from the newest signed checkpoint; an empty store is a new log.

        Raises Permanent: AUDIT_SIGNATURE when another key signed it, AUDIT_TILE when the files do not lead to its root.
        """
        reader = LogReader(store)
        signed = [_own_checkpoint(store, key, name) for name in (CHECKPOINT, NEXT)]
        published = signed[0].size if signed[0] else 0
        newest = max((checkpoint for checkpoint in signed if checkpoint), key=lambda found: found.size, default=None)
        if newest is None:
            return cls(store, key, Edge(), [], 0)
        edge = Edge.load(reader.tile, newest.size)
        last = Tile(ENTRIES, newest.size // WIDTH, newest.size % WIDTH)
        if edge.root() != newest.root:
            raise altered(Tile(0, last.index, last.width or WIDTH), f"root {newest.root.hex()}", edge.root().hex())
        pending = reader.bundle(last) if last.width else []
        if [leaf_hash(entry) for entry in pending] != edge.leaves():
            raise altered(last, "the entries that the level-0 tile has the hashes of", "others")
        return cls(store, key, edge, pending, published)

    @property
    def size(self) -> int:
        """How many entries there are, signed or not."""
        return self._edge.size

    @property
    def origin(self) -> str:
        """The log's name, which is its key's."""
        return self._key.name

    def last_entry(self) -> bytes | None:
        """The newest entry; None for an empty log."""
        if self._pending or not self.size:
            return self._pending[-1] if self._pending else None
        return LogReader(self.store).entry(self.size - 1, self.size)

    def keep(self, evidence: bytes) -> str:
        """Keep bytes beside the log, under their digest, which is returned in hex."""
        digest = hashlib.sha256(evidence).hexdigest()
        self.store.write(evidence_name(digest), evidence)
        return digest

    def append(self, entry: bytes) -> int:
        """Add an entry and return its index. It is in no checkpoint yet, and a crash may forget it."""
        self._pending.append(entry)
        for tile, hashes in self._edge.append(leaf_hash(entry)):
            self.store.write(tile.path, hashes)
            self._filled.append(tile)
        if len(self._pending) == WIDTH:
            bundle = Tile(ENTRIES, self._edge.size // WIDTH - 1)
            self.store.write(bundle.path, encode_entries(self._pending))
            self._filled.append(bundle)
            self._pending = []
        return self._edge.size - 1

    def root(self) -> bytes:
        """The root over everything appended."""
        return self._edge.root()

    def sign(self, time: int) -> Note:
        """Make everything durable, then sign a checkpoint of it and make that durable: steps 1 and 2.

        `time` (seconds since 1970) is stated by a timestamped signature beside the plain one: also a log without
        news says so.
        """
        partial = list(self._partial_tiles())
        for tile, data in partial:
            if tile not in self._lasting:
                self.store.write(tile.path, data)
        self.store.flush()
        self._lasting = {tile for tile, _ in partial}
        text = Checkpoint(self.origin, self.size, self._edge.root()).text()
        note = Note(text, (self._key.sign(text), self._key.cosign(text, time)))
        self.store.replace(NEXT, note.encode())
        self.signed = self.size
        return note

    def _partial_tiles(self) -> Iterator[tuple[Tile, bytes]]:
        yield from self._edge.partial()
        if self._pending:
            yield Tile(ENTRIES, self.size // WIDTH, len(self._pending)), encode_entries(self._pending)

    def publish(self, note: Note, cosignatures: Iterable[Signature] = ()) -> None:
        """Let everybody read the checkpoint `note`, the last one signed: step 4."""
        self.store.replace(CHECKPOINT, note.with_(cosignatures).encode())
        self.published = self.signed
        for tile in self._filled:
            self.store.remove(f"{tile.path}.p")
        self._filled = []


def _own_checkpoint(store: Store, key: SigningKey, name: str) -> Checkpoint | None:
    raw = store.read(name)
    if raw is None:
        return None
    try:
        return Policy.of(key.verifier()).accept(Note.parse(raw)).checkpoint
    except Permanent as fault:
        raise Permanent(
            Code.AUDIT_SIGNATURE,
            "the log in this store was signed by another key",
            expected=f"a checkpoint signed by {key.verifier()}",
            got=fault.diagnosis.got,
            advice="use the log's own key, or start another log in another folder under another name",
        ) from fault
