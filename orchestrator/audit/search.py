"""Finding entries: fields, times, launches, actors, zones, codes.

Zone: any. May import: `orchestrator.{audit,events,faults}`, the standard library. Pure.

As in journalctl: conditions on different fields must all hold, of several on one field any.

A leaf is canonical, so a member of it is spelled in one way only: most entries are passed over by their bytes, unread.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from orchestrator.audit.entry import Entry
from orchestrator.audit.reader import LogReader, Marks
from orchestrator.events import Recorded
from orchestrator.faults import Code, Permanent

SUMMARY: Final = frozenset(
    {"sequence", "subject", "pod", "index", "kind", "zone", "actor", "container", "attempt", "transition", "code"}
)
"""Fields that the leaf itself has; any other name is looked for in the fact's own statement."""

_NUMBERS: Final = frozenset({"sequence", "index", "attempt"})
_MOST_MEANT: Final = 10
"""Launches told of when several are meant."""

_POD: Final = re.compile(rb'"pod":"([^"]*)"')
_ENVELOPE: Final = re.compile(rb'"envelope":"([^"]*)"')
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?Z?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Found:
    """An entry and where it is in the log; `leaf` are its exact bytes."""

    index: int
    leaf: bytes
    entry: Entry


@dataclass(frozen=True, slots=True)
class Query:
    """Conditions. `where` maps a field to the values of which it must have one; times are RFC 3339 in UTC, or the
    beginning of one.
    """

    where: Mapping[str, frozenset[str]] = field(default_factory=dict)
    since: str = ""
    until: str = ""

    @classmethod
    def of(cls, conditions: Iterable[str], since: str = "", until: str = "") -> Query:
        """Conditions as `field=value`. Raises Permanent(INPUT)."""
        where: dict[str, set[str]] = {}
        for condition in conditions:
            name, equals, value = condition.partition("=")
            if not equals or not name:
                raise Permanent(Code.INPUT, "this is no condition", expected="FIELD=VALUE", got=ascii(condition[:200]))
            where.setdefault(name, set()).add(value)
        for time in (since, until):
            if time and not _TIME.fullmatch(time):
                raise Permanent(
                    Code.INPUT, "this is no time", expected="2026-01-31 or 2026-01-31T12:00:00Z", got=ascii(time[:100])
                )
        return cls({name: frozenset(values) for name, values in where.items()}, since.rstrip("Z"), until.rstrip("Z"))

    def matches(self, entry: Entry) -> bool:
        """Whether the entry is one of those asked for."""
        at = entry.at.rstrip("Z")
        if (self.since or self.until) and not at:  # what is no fact has no time
            return False
        if at < self.since or (self.until and at[: len(self.until)] > self.until):
            return False
        return all(_has(entry, name, values) for name, values in self.where.items())

    @property
    def marks(self) -> Marks:
        """What the bytes of every entry that matches hold; an entry that holds it need not match."""
        named = self.where.items()
        return [[mark(name, value) for value in values] for name, values in named if name in SUMMARY]


def mark(name: str, value: str) -> bytes:
    """How a leaf spells that its member `name` is `value`, up to the end of the value for a text."""
    spelled = value if name in _NUMBERS else json.encoder.encode_basestring(value)
    return f'"{name}":{spelled}'.encode("utf-8", "surrogateescape")


def search(reader: LogReader, size: int, query: Query, start: int = 0) -> Iterator[Found]:
    """Entries from index `start` that the query asks for. Raises Permanent(AUDIT_TILE, AUDIT_ENTRY)."""
    for index, leaf in reader.entries(size, start, query.marks):
        entry = Entry.decode(leaf)
        if query.matches(entry):
            yield Found(index, leaf, entry)


def of_launch(reader: LogReader, size: int, pod: str) -> Iterator[Found]:
    """Every entry on the pod's subject, facts or not. Raises Permanent(AUDIT_TILE, AUDIT_ENTRY)."""
    on_subject = f".{pod}"
    for index, leaf in reader.entries(size, marks=[[on_subject.encode()]]):
        entry = Entry.decode(leaf)
        if entry.subject.endswith(on_subject):
            yield Found(index, leaf, entry)


def of_messages(reader: LogReader, size: int, pod: str, sequences: Sequence[int]) -> list[Found]:
    """The entries of these messages of the pod, as far as the log holds them.

    In a log without a gap each stands at its sequence, and nothing else is read; else all entries are looked through.
    Raises Permanent(AUDIT_TILE, AUDIT_ENTRY).
    """
    last = found_at(reader, size, size - 1).entry.sequence if size else 0
    held = [sequence for sequence in sequences if sequence <= last]
    found = [found_at(reader, size, sequence - 1) for sequence in held if sequence <= size]
    on_subject = f".{pod}"
    if [one.entry.sequence for one in found if one.entry.subject.endswith(on_subject)] == held:
        return found
    wanted = set(sequences)
    return [one for one in of_launch(reader, size, pod) if one.entry.sequence in wanted]


def found_at(reader: LogReader, size: int, index: int) -> Found:
    """One entry. Raises Permanent(NOT_FOUND, AUDIT_TILE, AUDIT_ENTRY)."""
    leaf = reader.entry(index, size)
    return Found(index, leaf, Entry.decode(leaf))


def find_pod(reader: LogReader, size: int, asked: str) -> str:
    """The pod that was meant: an id, the beginning of one, or namespace/name.

    Raises Permanent: NOT_FOUND, INPUT when several are meant, AUDIT_TILE, AUDIT_ENTRY.
    """
    meant: set[str] = set()
    for pod in _named(reader, size, asked) if "/" in asked else _beginning_with(reader, size, asked):
        if pod == asked:
            return pod
        meant.add(pod)
        if len(meant) > _MOST_MEANT:
            break
    if len(meant) == 1:
        return meant.pop()
    if meant:
        listed = ", ".join(sorted(pod[:12] for pod in meant)[:_MOST_MEANT])
        raise Permanent(
            Code.INPUT, "several launches are meant", expected="enough of one's pod id", got=f"{asked}: {listed}"
        )
    raise Permanent(
        Code.NOT_FOUND,
        "the log knows no such launch",
        expected="a pod's id, the beginning of one, or NAMESPACE/NAME",
        got=asked[:200],
        advice="`enclave-cc audit search --kind pod-requested` lists them",
    )


def _beginning_with(reader: LogReader, size: int, asked: str) -> Iterator[str]:
    """The pods of all facts, as far as their ids begin so. Also one whose first fact was lost."""
    opening = mark("pod", asked)[:-1]
    for _, leaf in reader.entries(size, marks=[[opening]]):
        if (found := _POD.search(leaf)) and found[1]:
            yield found[1].decode()


def _named(reader: LogReader, size: int, asked: str) -> Iterator[str]:
    """The pods that were asked for under this namespace and name."""
    name = asked.rpartition("/")[2].encode("utf-8", "surrogateescape")
    for _, leaf in reader.entries(size, marks=[[mark("kind", "pod-requested")]]):
        envelope = _ENVELOPE.search(leaf)
        if envelope is None or name in base64.b64decode(envelope[1]):
            entry = Entry.decode(leaf)
            told = statement(entry)
            if f"{told.get('namespace')}/{told.get('name')}" == asked:
                yield entry.pod


def _has(entry: Entry, name: str, values: frozenset[str]) -> bool:
    if name in SUMMARY:
        return str(getattr(entry, name)) in values
    if name == "signed":
        return ("true" if entry.signed else "false") in values
    told = statement(entry).get(name)
    return told is not None and (told in values or any(part in values for part in told.split(" ")))


def statement(entry: Entry) -> dict[str, str]:
    """What the fact itself says, as texts; empty for what is no fact, or whose bytes are kept elsewhere."""
    recorded = entry.check() if entry.envelope is not None else None
    if not isinstance(recorded, Recorded):
        return {}
    return {name: _text(value) for name, value in asdict(recorded.fact.body).items()}


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return str(value)
