"""The recorded evidence before another policy: what would have been decided, where the history holds enough.

Zone: any. May import: `orchestrator.{events,launch}`, the standard library. Pure; the judges are composed elsewhere.

A judge is the enforcing code itself with another policy in it, never a second reading of that policy. It is given what
the history holds: the quote, the image's name and digest, the key that its signature verified under, the names of the
keys. What it cannot know from there (the signatures, the process, the collateral of that day) it says it cannot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from orchestrator.launch import Launch


class Outcome(StrEnum):
    """What another policy would change."""

    SAME = "same"
    DENIED = "now denied"
    ADMITTED = "now admitted"
    UNKNOWN = "not enough in the history"


@dataclass(frozen=True, slots=True)
class Judged:
    """One decision judged again. `then` and `now` are the judges' own words; `subject` is what they judged.

    `index` is the fact that recorded the decision; 0 where it was never taken.
    """

    about: str
    container: str
    subject: str
    index: int
    outcome: Outcome
    then: str
    now: str


class Judge(Protocol):
    """One policy, ready to judge."""

    def judge(self, launch: Launch) -> Iterable[Judged]:
        """Every decision of this launch that the policy is about. Raises nothing for what a history may hold."""
        ...


def outcome(*, then: bool, now: bool) -> Outcome:
    """What it means that a decision was `then`, and would be `now`, an admission."""
    if then is now:
        return Outcome.SAME
    return Outcome.ADMITTED if now else Outcome.DENIED
