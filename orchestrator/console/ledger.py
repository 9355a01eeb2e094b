"""The audit log as the console shows it: its newest checkpoint, its entries, their proofs.

Zone: host. May import: `orchestrator.audit`, `orchestrator.faults`, the standard library.

The checkpoint is judged under the policy each time, as `enclave-cc audit` does; what a page shows of one entry was
proved to be in the log of that checkpoint when the page was made. Files are read where they lie, so everything here
blocks: a page calls it in a thread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
from orchestrator.audit.verifier import checkpoint_time
from orchestrator.faults import Code, Permanent

PAGE: Final = 50
MOST_READ: Final = 102_400
"""Entries that one page looks through for those that are asked for; the next one goes on from there."""

_CHUNK: Final = 256
_quoted: Final = json.encoder.encode_basestring
"""As `orchestrator.audit.entry` spells texts."""


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
        return self._found(self.size - 1).entry.sequence if self.size else 0

    def newest(self, asked: Mapping[str, str], before: int | None = None) -> Listed:
        """Entries below `before` whose members are as asked, at most `PAGE`.

        Raises Permanent(AUDIT_TILE, AUDIT_ENTRY).
        """
        # Leaves are canonical: a member that is as asked is spelled in exactly this way, so most need no reading.
        marks = [f'"{name}":{_quoted(value)}'.encode() for name, value in asked.items()]
        end = self.size if before is None else max(0, min(before, self.size))
        found: list[Found] = []
        read_to = max(0, end - MOST_READ)
        while end > read_to:
            start = max(0, (end - 1) // _CHUNK * _CHUNK)
            for index, leaf in reversed(list(self._entries(start, end))):
                if not all(mark in leaf for mark in marks):
                    continue
                entry = Entry.decode(leaf)
                if all(getattr(entry, name) == value for name, value in asked.items()):
                    found.append(Found(index, leaf, entry))
                    if len(found) == PAGE:
                        return Listed(tuple(found), index)
            end = start
        return Listed(tuple(found), end)

    def entry(self, index: int) -> Proven:
        """One entry, proved. Raises Permanent: NOT_FOUND, AUDIT_TILE, AUDIT_ENTRY, AUDIT_INCLUSION."""
        found = self._found(index)
        proof = LogProof(index, self.reader.prove_inclusion(index, self.size), self.reader.checkpoint())
        proof.lead(found.leaf, self.accepted)
        found.entry.check(self.reader.evidence(found.entry))
        return Proven(found, leaf_hash(found.leaf).hex(), proof)

    def proof_of(self, pod: str, sequences: Sequence[int]) -> bytes:
        """The bundle that `enclave-cc audit verify` checks offline: see `orchestrator.audit.bundle`.

        `sequences` are the stream sequences of the pod's messages.
        Raises Permanent: NOT_FOUND, AUDIT_TILE, AUDIT_ENTRY.
        """
        found = self._at(pod, [sequence for sequence in sequences if sequence <= self.last_sequence()])
        if found is None:
            found = list(search.of_launch(self.reader, self.size, pod))
        return bundle.prove(pod, found, self.reader, self.accepted, self.policy).encode()

    def _at(self, pod: str, sequences: Sequence[int]) -> list[Found] | None:
        """The entries of these messages, where each stands at its sequence as in a log without a gap; else None."""
        found = [self._found(sequence - 1) for sequence in sequences if sequence <= self.size]
        whole = len(found) == len(sequences) and all(
            one.entry.sequence == sequence and one.entry.subject.endswith(f".{pod}")
            for one, sequence in zip(found, sequences, strict=True)
        )
        return found if whole else None

    def _entries(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """The entries from `start` to below `end`, which lie in one bundle of the log."""
        for index, leaf in self.reader.entries(self.size, start):
            if index >= end:
                return
            yield index, leaf

    def _found(self, index: int) -> Found:
        leaf = self.reader.entry(index, self.size)
        return Found(index, leaf, Entry.decode(leaf))
