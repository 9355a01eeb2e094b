"""What was ordered of a launch, by whom and why: that it is a fork, goes on, or ends. Only what counted.

Zone: any. May import: `orchestrator.events`, `orchestrator.story.values`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.events import Body, Foreign, ForkedFrom, Recorded, ResumeRequested, StopRequested
from orchestrator.story.values import Order, Told


def orders(facts: Iterable[Told], history: Iterable[Recorded | Foreign]) -> Iterator[Order]:
    """In order. `facts` is the testimony of exactly this history."""
    for told, message in zip(facts, history, strict=True):
        if isinstance(message, Recorded) and not told.effect and (said := _said(message.fact.body)):
            what, reason = said
            yield Order(told.index, told.at_ns, told.container, what, told.actor, told.signer, reason)


def _said(body: Body) -> tuple[str, str] | None:
    """What is ordered, and why; None of what is no order."""
    if isinstance(body, ResumeRequested):
        return f"resume with {body.start}" if body.start else "resume", body.reason
    if isinstance(body, ForkedFrom):
        others = f", with {', '.join(body.overrides)}" if body.overrides else ""
        return f"fork of pod {body.pod} at fact {body.index}{others}", body.reason
    if isinstance(body, StopRequested):
        return "stop", body.reason
    return None
