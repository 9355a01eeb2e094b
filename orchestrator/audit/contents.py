"""Reading a log's entries for what they say: their form, their order, the histories that they make up.

Zone: any. May import: `orchestrator`.

Checks 6 to 8 of `verifier`, which one reading serves. A fault does not end it: each broken history is told once.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.audit.entry import Entry
from orchestrator.audit.reader import LogReader
from orchestrator.audit.report import Findings
from orchestrator.events import Recorded
from orchestrator.faults import Code, Permanent
from orchestrator.fold import apply
from orchestrator.launch import Launch, new
from orchestrator.lifecycle import State
from orchestrator.verify import refuse_forged


class Contents:
    """What was found. `form`, `order` and `chains` are the findings of checks 6, 7 and 8."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._launches: dict[str, Launch | None] = {}
        self._last = 0
        self.form = Findings()
        self.order = Findings()
        self.chains = Findings()
        self.signed = 0

    @property
    def pods(self) -> int:
        """How many histories were met."""
        return len(self._launches)

    def read(self, size: int) -> None:
        """Every entry of the log at that size. Raises Permanent(AUDIT_TILE) where entries cannot be read."""
        for index, leaf in self._reader.entries(size):
            try:
                entry = Entry.decode(leaf)
                recorded = entry.check(self._reader.evidence(entry))
            except Permanent as fault:
                self.form.add(_at(index, fault))
                continue
            self._check_order(index, entry.sequence)
            if isinstance(recorded, Recorded):
                self._check_chain(index, entry, recorded)

    def _check_order(self, index: int, sequence: int) -> None:
        if sequence != self._last + 1:
            self.order.add(_out_of_order(index, self._last + 1, sequence))
        self._last = max(self._last, sequence)

    def _check_chain(self, index: int, entry: Entry, recorded: Recorded) -> None:
        pod = entry.subject.rpartition(".")[2]
        before = self._launches.get(pod, new(pod))
        if before is None:  # broken already, and told
            return
        try:
            after = apply(before, recorded)
            refuse_forged(before, after)
        except Permanent as fault:
            self.chains.add(_at(index, fault))
            self._launches[pod] = None
            return
        self.signed += bool(recorded.signature)
        # Of a pod that is gone only the chain's end and the key are needed: a log has many.
        gone = after.progress.state is State.GONE
        self._launches[pod] = replace(after, containers={}, ignored=()) if gone else after


def _at(index: int, fault: Permanent) -> Permanent:
    """The same fault, saying which entry."""
    told = fault.diagnosis
    message = f"entry {index}: {told.message}"
    return Permanent(told.code, message, expected=told.expected, got=told.got, advice=told.advice)


def _out_of_order(index: int, expected: int, got: int) -> Permanent:
    if got > expected:
        return Permanent(
            Code.AUDIT_GAP,
            f"entry {index}: messages of the event stream were never logged",
            expected=f"message {expected}",
            got=f"message {got}: {got - expected} missing",
            advice="they were dropped before the log's writer read them; the histories that they belong to break there",
        )
    return Permanent(
        Code.AUDIT_GAP,
        f"entry {index}: a message of the event stream stands twice or out of order",
        expected=f"message {expected}",
        got=f"message {got}",
        advice="the log was not written by our writer from one stream",
    )
