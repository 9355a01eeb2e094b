"""The one process that writes the log: follows the event stream, appends, signs, has it witnessed, publishes.

Zone: host. May import: `orchestrator.audit`, `orchestrator.bus`, `orchestrator.faults`, `structlog`.

- Order of record is the stream's; the log's index counts what came, densely. A message that the stream lost is a gap in
  the entries' sequences, which the verifier names; the writer goes on, so that there is something to verify.
- A checkpoint within `NEWS` seconds of news, one every `SILENCE` seconds without any: its time says that nothing came.
- It may be killed anywhere: `Log.open_` goes on from the newest signed checkpoint, and what came since is read again.
- Before it goes on it compares its newest entry with the stream. A stream that has it no more, or has another message
  there, was replaced or rewound: nothing is signed.
- A log whose files were lost is written anew from the stream; given the last checkpoint that anybody kept, `resumed`,
  nothing is signed before the same tree has grown again.
- It signs only while it holds the lease.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import structlog

from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.entry import MAX_INLINE_BYTES, Entry, Message
from orchestrator.audit.log import Log
from orchestrator.audit.note import Note, Signature
from orchestrator.audit.policy import Policy
from orchestrator.audit.reader import LogReader
from orchestrator.audit.witness_client import WitnessAhead, WitnessClient
from orchestrator.bus import Bus
from orchestrator.bus.lease import Lease
from orchestrator.bus.transcript import Stored, follow, last_sequence
from orchestrator.faults import Code, Permanent, Temporary

NEWS: Final = 1.0
SILENCE: Final = 600.0
AGAIN: Final = 5.0
"""Seconds until witnesses who made too few are asked again for a checkpoint that is not published yet."""

_log = structlog.get_logger("audit")


@dataclass(frozen=True, slots=True)
class Cadence:
    """Seconds: at most this often with news; at least this often without; until a failed publication is tried again."""

    news: float = NEWS
    silence: float = SILENCE
    again: float = AGAIN


class Writer:
    """Runs one log. `witnesses` are asked for each checkpoint; one that misses the policy's quorum is not published."""

    def __init__(
        self,
        log: Log,
        bus: Bus,
        policy: Policy,
        witnesses: Sequence[WitnessClient] = (),
        *,
        resumed: Checkpoint | None = None,
        cadence: Cadence | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._reader = LogReader(log.store)
        self._bus = bus
        self._policy = policy
        self._witnesses = witnesses
        self._resumed = resumed
        self._cadence = cadence or Cadence()
        self._clock = clock
        self._lease = Lease(bus, f"audit log {log.origin}")
        self._newest: Entry | None = None
        self._tried = float("-inf")

    async def run(self) -> None:
        """Write until cancelled.

        Raises Permanent: AUDIT_LEASE, AUDIT_STREAM (the stream is not the one that was logged), AUDIT_FORK or
        AUDIT_ROLLBACK (a witness has seen another history, or more of this one). Raises Temporary(BUS_AWAY).
        """
        await self._lease.take()
        try:
            after = await self._agree()
            async with aclosing(follow(self._bus, after, pause=min(0.1, self._cadence.news / 4))) as batches:
                async for batch in batches:
                    for stored in batch:
                        self._append(stored)
                    if self._is_due(time.monotonic()):
                        await self._checkpoint(caught_up=not batch)
        finally:
            await self._lease.release()

    async def _agree(self) -> int:
        """Compare the newest entry with the stream's message there; the sequence to go on after."""
        leaf = self._log.last_entry()
        if leaf is None:
            return 0
        self._newest = newest = Entry.decode(leaf)
        last = await last_sequence(self._bus)
        if last < newest.sequence:
            raise _another_stream(f"at least {newest.sequence} messages", f"{last}")
        there = await self._first_after(newest.sequence - 1)
        if there.sequence != newest.sequence:
            raise _another_stream(f"message {newest.sequence}", f"none; the next is {there.sequence}")
        if Entry.of(Message(*there)).encode() != leaf and _differs(newest, there):
            raise _another_stream(f"the message of entry {self._log.size - 1}", "another message at its sequence")
        return newest.sequence

    async def _first_after(self, sequence: int) -> Stored:
        async with aclosing(follow(self._bus, sequence)) as batches:
            async for batch in batches:
                if batch:
                    return batch[0]
        raise AssertionError("a stream is followed for ever")

    def _append(self, stored: Stored) -> None:
        entry = Entry.of(Message(*stored))
        expected = self._newest.sequence + 1 if self._newest else 1
        if entry.sequence != expected:
            _log.warning("messages are missing in the stream", expected=expected, got=entry.sequence)
        if len(stored.raw) > MAX_INLINE_BYTES:
            self._log.keep(stored.raw)
        self._log.append(entry.encode())
        self._newest = entry
        if self._resumed and self._log.size == self._resumed.size and self._log.root() != self._resumed.root:
            raise _another_log(self._resumed, self._log.root())

    def _is_due(self, now: float) -> bool:
        log, waited = self._log, now - self._tried
        if self._resumed and log.size < self._resumed.size:
            return False
        if log.size > log.signed:
            return waited >= self._cadence.news
        return waited >= (self._cadence.again if log.published < log.signed else self._cadence.silence)

    async def _checkpoint(self, *, caught_up: bool) -> None:
        await self._lease.check()
        note = await asyncio.to_thread(self._log.sign, int(self._clock()))
        cosignatures = await self._cosigned(note, caught_up=caught_up)
        self._tried = time.monotonic()
        try:
            self._policy.accept(note.with_(cosignatures))
        except Permanent as fault:
            if fault.code is not Code.AUDIT_QUORUM:
                raise
            _log.warning("not published", size=self._log.size, diagnosis=fault.diagnostics())
            return
        await asyncio.to_thread(self._log.publish, note, cosignatures)

    async def _cosigned(self, note: Note, *, caught_up: bool) -> list[Signature]:
        """What the witnesses say, asked side by side."""
        asked = [asyncio.to_thread(self._ask, witness, note, caught_up) for witness in self._witnesses]
        return [signature for signature in await asyncio.gather(*asked) if signature]

    def _ask(self, witness: WitnessClient, note: Note, caught_up: bool) -> Signature | None:
        try:
            return witness.cosign(note, self._reader)
        except WitnessAhead:
            if caught_up:  # else a log that is rebuilt has not come so far again
                raise
        except Temporary as fault:
            _log.warning("no cosignature", witness=witness.name, diagnosis=fault.diagnostics())
        return None


def _differs(entry: Entry, stored: Stored) -> bool:
    """Whether the message is another. A leaf of an older version of this program may say the same in other words."""
    try:
        entry.check(stored.raw if entry.envelope is None else None)
    except Permanent:
        return True
    return entry.subject != stored.subject or (entry.envelope is not None and entry.envelope != stored.raw)


def _another_stream(expected: str, got: str) -> Permanent:
    return Permanent(
        Code.AUDIT_STREAM,
        "the event stream is not the one that this log was written from",
        expected=expected,
        got=got,
        advice="the stream was rewound, edited or made anew: `enclave-cc audit verify` with the bus names every "
        "difference; a new stream needs a new log under a new name",
    )


def _another_log(resumed: Checkpoint, root: bytes) -> Permanent:
    return Permanent(
        Code.AUDIT_FORK,
        "what grows from the event stream is not the log that was published",
        expected=f"root {resumed.root.hex()} at size {resumed.size}",
        got=f"root {root.hex()}",
        advice="the stream was edited since, or another version wrote those entries: start a log under another name",
    )
