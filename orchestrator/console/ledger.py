"""The audit log as the console shows it: its newest checkpoint, its entries, their proofs.

Zone: host. May import: `orchestrator.audit`, `orchestrator.faults`, the standard library.

The checkpoint is judged under the policy each time, as `enclave-cc audit` does; what a page shows of one entry was
proved to be in the log of that checkpoint when the page was made. Files are read where they lie, so everything here
blocks: a page calls it in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.audit import bundle, search
from orchestrator.audit.entry import Entry
from orchestrator.audit.merkle import leaf_hash
from orchestrator.audit.policy import Accepted, Policy
from orchestrator.audit.proof import LogProof
from orchestrator.audit.reader import LogReader
from orchestrator.audit.search import Found
from orchestrator.audit.storage import Store
from orchestrator.audit.tiles import ENTRIES, WIDTH, Tile, width_at
from orchestrator.audit.verifier import checkpoint_time
from orchestrator.faults import Code, Permanent

PAGE: Final = 50
MOST_READ: Final = 102_400
"""Entries that one page looks through for those that are asked for; the next one goes on from there."""


@dataclass(frozen=True, slots=True)
class Proven:
    """An entry that is in the log: its leaf, where it stands, and the proof of that."""

    found: Found
    leaf_hash: str
    proof: LogProof


@dataclass(frozen=True, slots=True)
class Listed:
    """Entries, the newest first. `before` is where an older page begins: the index below which nothing was read."""

    found: tuple[Found, ...]
    before: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where the log lies and whose word is taken about it."""

    store: Store
    policy: Path

    def open_(self) -> Opened:
        """The log as of now. Raises Permanent: NOT_FOUND, AUDIT_FORMAT, AUDIT_SIGNATURE, AUDIT_QUORUM."""
        reader = LogReader(self.store)
        note = reader.checkpoint()
        try:
            text = self.policy.read_bytes()
        except OSError as error:
            raise Permanent(
                Code.NOT_FOUND,
                "nobody has said whom to believe about the audit log",
                expected=f"a policy (c2sp.org/tlog-policy) at {self.policy}",
                got=type(error).__name__,
                advice="get it from whoever you trust for the log's key and witnesses; name it with --policy",
            ) from error
        return Opened(reader, text, Policy.parse(text).accept(note))


@dataclass(frozen=True, slots=True)
class Opened:
    """A log whose checkpoint was accepted."""

    reader: LogReader
    policy: bytes
    accepted: Accepted

    @property
    def size(self) -> int:
        """Entries that the checkpoint commits to."""
        return self.accepted.checkpoint.size

    @property
    def time(self) -> int | None:
        """When anybody last stated the checkpoint, in seconds since 1970."""
        return checkpoint_time(self.accepted)

    def last_sequence(self) -> int:
        """The message of the stream that the newest entry holds; 0 for an empty log."""
        return search.found_at(self.reader, self.size, self.size - 1).entry.sequence if self.size else 0

    def newest(self, asked: Mapping[str, str], before: int | None = None) -> Listed:
        """Entries below `before` whose members are as asked, at most `PAGE`; a pod may be asked for by its beginning.

        Raises Permanent(AUDIT_TILE, AUDIT_ENTRY).
        """
        marks = [[search.mark(name, value)[: -1 if name == "pod" else None]] for name, value in asked.items()]
        end = self.size if before is None else max(0, min(before, self.size))
        found: list[Found] = []
        read_to = max(0, end - MOST_READ)
        while end > read_to:
            number = (end - 1) // WIDTH
            chosen = self.reader.chosen(Tile(ENTRIES, number, width_at(ENTRIES, number, self.size)), marks)
            for index, leaf in reversed([one for one in chosen if one[0] < end]):
                entry = Entry.decode(leaf)
                if all(_is(entry, name, value) for name, value in asked.items()):
                    found.append(Found(index, leaf, entry))
                    if len(found) == PAGE:
                        return Listed(tuple(found), index)
            end = number * WIDTH
        return Listed(tuple(found), end)

    def entry(self, index: int) -> Proven:
        """One entry, proved. Raises Permanent: NOT_FOUND, AUDIT_TILE, AUDIT_ENTRY, AUDIT_INCLUSION."""
        found = search.found_at(self.reader, self.size, index)
        proof = LogProof(index, self.reader.prove_inclusion(index, self.size), self.reader.checkpoint())
        proof.lead(found.leaf, self.accepted)
        found.entry.check(self.reader.evidence(found.entry))
        return Proven(found, leaf_hash(found.leaf).hex(), proof)

    def proof_of(self, pod: str, sequences: Sequence[int]) -> bytes:
        """The bundle that `enclave-cc audit verify` checks offline: see `orchestrator.audit.bundle`.

        `sequences` are the stream sequences of the pod's messages.
        Raises Permanent: NOT_FOUND, AUDIT_TILE, AUDIT_ENTRY.
        """
        found = search.of_messages(self.reader, self.size, pod, sequences)
        return bundle.prove(pod, found, self.reader, self.accepted, self.policy).encode()


def _is(entry: Entry, name: str, value: str) -> bool:
    told = str(getattr(entry, name))
    return told.startswith(value) if name == "pod" else told == value
