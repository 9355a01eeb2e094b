"""Time travel: the part of a history that was there at a moment.

Zone: any. May import: `orchestrator.{events,faults}`, the standard library. Pure.

A moment is the index of a fact (`12`), a time (`2026-01-01T10:00:00Z`), or a time since the first fact (`+850ms`).
The facts of one history are stated by several clocks, so what was there at a time is everything before the first fact
that was stated later: a part of the chain, never a selection from it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Code, Permanent

_INDEX: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_SINCE: Final = re.compile(r"\+([0-9]{1,9})(?:\.([0-9]{1,9}))?(ms|s|m|h)", re.ASCII)
_UNITS: Final = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
FORMS: Final = "a fact's number, a time (2026-01-01T10:00:00Z), or a time since the first fact (+850ms, +2.5s)"


@dataclass(frozen=True, slots=True)
class Moment:
    """One of three: a fact's `index`, a time `at_ns` since 1970, or `since_ns` after the first; the others None."""

    index: int | None = None
    at_ns: int | None = None
    since_ns: int | None = None

    @classmethod
    def parse(cls, text: str) -> Moment:
        """See the module's head for the forms. Raises Permanent(INPUT). A time without a zone is UTC."""
        if _INDEX.fullmatch(text):
            return cls(index=int(text))
        if since := _SINCE.fullmatch(text):
            whole, fraction, unit = since.groups()
            scaled = int(whole + (fraction or "")) * _UNITS[unit]
            return cls(since_ns=scaled // 10 ** len(fraction or ""))
        return cls(at_ns=parse_time(text))


def parse_time(text: str) -> int:
    """An ISO 8601 time as nanoseconds since 1970; without a zone it is UTC. Raises Permanent(INPUT)."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise Permanent(Code.INPUT, f"{text!r} is no moment", expected=FORMS, got=text[:100]) from error
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return int(time.timestamp()) * 10**9 + time.microsecond * 1000


def until(history: Sequence[Recorded | Foreign], moment: Moment) -> list[Recorded | Foreign]:
    """The messages that were there at that moment, in order.

    Raises Permanent(INPUT) for an index that the history does not reach.
    """
    facts = [message for message in history if isinstance(message, Recorded)]
    if moment.index is not None:
        if moment.index > len(facts):
            raise Permanent(
                Code.INPUT,
                f"there is no fact {moment.index} yet",
                expected=f"a number from 1 to {len(facts)}",
                got=str(moment.index),
            )
        return _before(history, facts[moment.index] if moment.index < len(facts) else None)
    first_ns = facts[0].fact.at_ns if facts else 0
    ends_ns = moment.at_ns if moment.at_ns is not None else first_ns + (moment.since_ns or 0)
    return _before(history, next((fact for fact in facts if fact.fact.at_ns > ends_ns), None))


def _before(history: Sequence[Recorded | Foreign], end: Recorded | None) -> list[Recorded | Foreign]:
    if end is None:
        return list(history)
    return [message for message in history if message.sequence < end.sequence]
