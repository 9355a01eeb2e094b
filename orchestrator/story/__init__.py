"""A launch told to people: how far it came, what each step took, what was judged, why it failed, who said so.

Zone: any. May import: `orchestrator.{events,faults,forgery,launch,lifecycle}`, the standard library. Pure.

`describe` is the one place where a history becomes sentences; console and command line only lay them out, so that both
say the same. It explains nothing anew: expected, got and advice are the enforcing code's own words.

- `values`: what is told, as frozen values.
- `steps`: each transition with its attempts, its time and its share of the whole.
- `testimony`: each message with who said it, on whose word it stands and what it changed.
- `orders`: what was ordered of it, by whom and why.
- `changes`: what one message changed.
- `causes`: what usually leads to a fault of each code.
- `stops`: what ended a launch that did not fail.
- `describing`: all of it together.
"""

from __future__ import annotations

from orchestrator.story.changes import changes
from orchestrator.story.describing import describe, reached, title
from orchestrator.story.values import (
    Attempt,
    Cause,
    Change,
    Evidence,
    Explained,
    LaunchStory,
    Order,
    Outcome,
    Signer,
    Step,
    Told,
    Verdict,
)

__all__ = [
    "Attempt",
    "Cause",
    "Change",
    "Evidence",
    "Explained",
    "LaunchStory",
    "Order",
    "Outcome",
    "Signer",
    "Step",
    "Told",
    "Verdict",
    "changes",
    "describe",
    "reached",
    "title",
]
