"""Where the event stream differs from what was logged of it: edited, dropped, inserted, moved.

Zone: any. May import: `orchestrator.{audit,faults}`, the standard library. Pure.

Both are walked side by side by sequence. A message that is missing at its place but stands, byte for byte, at another
was moved; the digests of what differs decide that at the end.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from orchestrator.audit.entry import Entry
from orchestrator.faults import Code, Permanent

MOST: Final = 100_000
"""Differing messages remembered; beyond that the streams have nothing to do with each other."""


class Kind(StrEnum):
    """What was done to a message of the stream."""

    EDITED = "edited"
    DROPPED = "dropped"
    INSERTED = "inserted"
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class Difference:
    """One message. `index` is its log entry, None for one that was never logged."""

    kind: Kind
    sequence: int
    index: int | None
    detail: str

    def fault(self) -> Permanent:
        """As a finding: AUDIT_STREAM."""
        of = "" if self.index is None else f", logged as entry {self.index},"
        return Permanent(
            Code.AUDIT_STREAM,
            f"message {self.sequence} of the event stream{of} was {self.kind}",
            expected="the stream as it was logged",
            got=self.detail,
            advice="the log has the message as it was (`enclave-cc audit show`); the stream's files were altered",
        )


@dataclass(slots=True)
class Comparison:
    """Feed it the log's entries and the stream's messages, each in order of sequence; then ask for `differences`."""

    logged: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    """Sequence to (index, digest): entries whose message has not been met yet."""

    met: dict[int, bytes] = field(default_factory=dict)
    """Sequence to digest: messages whose entry has not been met yet."""

    edited: dict[int, tuple[int, bytes, bytes]] = field(default_factory=dict)
    """Sequence to (index, logged digest, digest met)."""

    newest_logged: int = 0

    def log(self, index: int, entry: Entry) -> None:
        """The next entry of the log."""
        digest = entry.envelope_sha256 or hashlib.sha256(entry.envelope or b"").hexdigest()
        self.newest_logged = max(self.newest_logged, entry.sequence)
        self.logged[entry.sequence] = (index, _placed(bytes.fromhex(digest), entry.subject))
        self._settle(entry.sequence)

    def stream(self, sequence: int, subject: str, raw: bytes) -> None:
        """The next message of the stream."""
        self.met[sequence] = _placed(hashlib.sha256(raw).digest(), subject)
        self._settle(sequence)

    def _settle(self, sequence: int) -> None:
        if sequence in self.logged and sequence in self.met:
            (index, was), is_ = self.logged.pop(sequence), self.met.pop(sequence)
            if was != is_:
                self.edited[sequence] = (index, was, is_)
        if len(self.logged) + len(self.met) + len(self.edited) > MOST:
            raise Permanent(
                Code.AUDIT_STREAM,
                "the event stream has next to nothing in common with the log",
                expected="the stream that was logged",
                got=f"more than {MOST} differing messages",
                advice="check that log and bus belong to the same cluster",
            )

    def differences(self) -> list[Difference]:
        """What differs, in order of the stream. Messages after the newest logged one are merely not logged yet."""
        now = {digest: sequence for sequence, digest in self.met.items()}
        now |= {is_: sequence for sequence, (_, _, is_) in self.edited.items()}
        was = {digest for _, digest in self.logged.values()} | {digest for _, digest, _ in self.edited.values()}
        found = [_gone(sequence, index, digest, now) for sequence, (index, digest) in self.logged.items()]
        for sequence, (index, digest, is_) in self.edited.items():
            found.append(_altered(sequence, index, digest, is_, now))
            if digest in now and is_ not in was:  # the logged one was moved to make room for it
                found.append(_inserted(sequence))
        found += [
            _inserted(sequence)
            for sequence, digest in self.met.items()
            if sequence <= self.newest_logged and digest not in was
        ]
        return sorted(found, key=lambda difference: difference.sequence)


def _placed(digest: bytes, subject: str) -> bytes:
    """What a message is: its bytes, on its subject."""
    return hashlib.sha256(subject.encode() + b"\0" + digest).digest()


def _inserted(sequence: int) -> Difference:
    return Difference(Kind.INSERTED, sequence, None, "a message that was never logged")


def _gone(sequence: int, index: int, digest: bytes, now: dict[bytes, int]) -> Difference:
    if digest in now:
        return Difference(Kind.MOVED, sequence, index, f"it stands at {now[digest]}")
    return Difference(Kind.DROPPED, sequence, index, "no message at its place")


def _altered(sequence: int, index: int, digest: bytes, is_: bytes, now: dict[bytes, int]) -> Difference:
    if digest in now:
        return Difference(Kind.MOVED, sequence, index, f"it stands at {now[digest]}")
    return Difference(Kind.EDITED, sequence, index, f"other bytes (digest {is_.hex()[:16]}…)")
