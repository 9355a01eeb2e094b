"""Records in, what was written out, and whatever is wrong with them. Pure: no I/O, no clock.

Zone: owner. May import: `orchestrator.{faults,output.recipient}`, `schemas`, the standard library.

Rules, for the output of one container, whose head the history holds:

1. A head opens nothing unless it is that one; another head is of another container, or of nobody's.
2. A record counts only if it opens in its stream. What does not was altered or invented: OUTPUT_FORGED.
3. Numbers go up by one. One that is too high: what is between is missing, OUTPUT_GAP. One that is too low was here
   before, or comes late: OUTPUT_REPEATED, and it is not told again.
4. A line that is no record was not written by the workload, whoever put it there: OUTPUT_FORGED.
5. A stream ends with its end record. Where that is missing, more may be: OUTPUT_CUT.

Every finding is told where it is met, and opening goes on: what is there is read.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from orchestrator.faults import Code, Diagnosis
from orchestrator.output.lines import LogLine
from orchestrator.output.recipient import RecipientKey
from schemas.sealed_output import MARK, Head, Kind, Record, StreamKey
from schemas.strict_json import Malformed

_MARK: Final = MARK.encode("ascii")
_MOST_EARLY: Final = 32_768
"""Records before a head: as many as short lines fill what is between two heads with. Dropped ones show as missing."""


@dataclass(frozen=True, slots=True)
class Text:
    """What was written to `stream`, at the host's word of `at`. Not always whole lines."""

    at: str
    stream: str
    written: bytes


@dataclass(frozen=True, slots=True)
class Finding:
    """Something is wrong; `stream` is empty where that is not known."""

    at: str
    stream: str
    diagnosis: Diagnosis


Opened: TypeAlias = Text | Finding


def is_sealed(line: LogLine) -> bool:
    """Whether a line says that it is a record."""
    return line.content.startswith(_MARK)


@dataclass(slots=True)
class _Stream:
    """`key` is None until a good head was met; `early` came before it, where a log's beginning was rotated away."""

    key: StreamKey | None = None
    next: int = 0
    ended: bool = False
    early: deque[tuple[LogLine, Record]] = field(default_factory=lambda: deque(maxlen=_MOST_EARLY))


@dataclass(slots=True)
class Opening:
    """The output of one container. `head_sha256` is the history's, in hex."""

    recipient: RecipientKey
    head_sha256: str
    _head: Head | None = None
    _streams: dict[str, _Stream] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether every stream has come to its end."""
        return self._head is not None and all(self._of(name).ended for name in self._head.streams)

    def feed(self, line: LogLine) -> Iterator[Opened]:
        """What a line holds. Raises Permanent(OUTPUT_KEY) when the key is none of the head's."""
        try:
            record = Record.parse(line.content.decode("ascii"))
        except (Malformed, UnicodeDecodeError):
            yield _found(line, line.stream, Code.OUTPUT_FORGED, "a line is no record", "records only", "another line")
            return
        if line.stream not in ("", record.stream):
            what = f"a record of {record.stream} is in {line.stream}"
            yield _found(line, line.stream, Code.OUTPUT_FORGED, what, record.stream, line.stream)
        elif record.kind is Kind.HEAD:
            yield from self._take_head(line, record)
        else:
            yield from self._take(line, record)

    def finish(self) -> Iterator[Finding]:
        """What is missing when nothing more will come."""
        names = self._head.streams if self._head else ("",)
        for name in names:
            stream = self._of(name)
            if not stream.ended:
                got = f"record {stream.next - 1} as the last" if stream.next else "none"
                yield Finding("", name, _diagnosis(Code.OUTPUT_CUT, "the end of the output is missing", "an end", got))

    def _take_head(self, line: LogLine, record: Record) -> Iterator[Opened]:
        digest = hashlib.sha256(record.content).hexdigest()
        if digest != self.head_sha256:  # rule 1
            what = "a head is not of this container"
            yield _found(line, record.stream, Code.OUTPUT_FORGED, what, self.head_sha256, digest)
            return
        if self._head is None:
            # Its digest is the history's, so it is as the agent made it.
            self._head = Head.decode(record.content)
            key = self.recipient.unwrap(self._head)
            for name in self._head.streams:
                self._of(name).key = StreamKey(key, record.content, name)
            for stream in list(self._streams.values()):
                for each in stream.early:
                    yield from self._take(*each)
                stream.early.clear()

    def _take(self, line: LogLine, record: Record) -> Iterator[Opened]:
        stream, key = self._of(record.stream), self._of(record.stream).key
        if self._head is None:
            stream.early.append((line, record))
            return
        written = key.open(record) if key else None  # no key: a stream that this container does not have
        if written is None:  # rule 2
            what = "a record was altered, or not sealed by this container"
            yield _found(line, record.stream, Code.OUTPUT_FORGED, what, "one that opens", f"record {record.number}")
            return
        if record.number < stream.next:  # rule 3
            what = "a record comes again, or too late"
            yield _found(line, record.stream, Code.OUTPUT_REPEATED, what, str(stream.next), str(record.number))
            return
        if record.number > stream.next:
            what = "records are missing"
            yield _found(line, record.stream, Code.OUTPUT_GAP, what, str(stream.next), str(record.number))
        stream.next = record.number + 1
        if record.kind is Kind.END:
            stream.ended = True
        else:
            yield Text(line.at, record.stream, written)

    def _of(self, name: str) -> _Stream:
        return self._streams.setdefault(name, _Stream())


def _found(line: LogLine, stream: str, code: Code, what: str, expected: str, got: str) -> Finding:
    return Finding(line.at, stream, _diagnosis(code, what, expected, got))


def _diagnosis(code: Code, what: str, expected: str, got: str) -> Diagnosis:
    return Diagnosis(code, what, expected, got, "the log is the host's: look for who altered or lost it")
