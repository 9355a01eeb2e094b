"""What the fold decided at each message: whether it counted, where the launch stood after it, what was then awaited.

Zone: any. May import: `orchestrator.{events,faults,fold,launch,lifecycle}`, the standard library. Pure.

Decisions are said in words that outlive the code that made them, so that those of another version, kept beside an
exported history, can be compared with today's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from orchestrator import events
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Permanent
from orchestrator.fold import apply
from orchestrator.launch import Launch, awaited, new

FOREIGN: Final = "foreign"


@dataclass(frozen=True, slots=True)
class Decision:
    """After one message. `counted`: it changed the launch; `failure`: the code of the launch's failure, or empty.

    `states` are the pod's and each container's; `awaited` are steps as `container/transition/attempt`. `refused` is the
    code with which the fold stopped at this message: then nothing after it is decided.
    """

    sequence: int
    index: int
    kind: str
    counted: bool
    states: tuple[tuple[str, str], ...] = ()
    awaited: tuple[str, ...] = ()
    failure: str = ""
    refused: str = ""


def decisions(pod: str, history: Iterable[Recorded | Foreign]) -> list[Decision]:
    """One for each message, up to the one that breaks the chain, if one does."""
    return list(_decisions(pod, history))


def _decisions(pod: str, history: Iterable[Recorded | Foreign]) -> Iterator[Decision]:
    launch = new(pod)
    for message in history:
        index, kind = name_of(message)
        try:
            after = apply(launch, message)
        except Permanent as fault:
            yield Decision(message.sequence, index, kind, counted=False, refused=fault.code.value)
            return
        yield _decided(message.sequence, index, kind, launch, after)
        launch = after


def name_of(message: Recorded | Foreign) -> tuple[int, str]:
    """`(index, kind)` of a message; `(0, "foreign")` of one that is no fact."""
    return (message.index, events.kind(message.fact.body)) if isinstance(message, Recorded) else (0, FOREIGN)


def _decided(sequence: int, index: int, kind: str, before: Launch, after: Launch) -> Decision:
    states = {"": after.progress.state, **{c.id: c.progress.state for c in after.containers.values()}}
    return Decision(
        sequence,
        index,
        kind,
        counted=len(after.ignored) == len(before.ignored),
        states=tuple((container, state.value) for container, state in sorted(states.items())),
        awaited=tuple(sorted(f"{s.container}/{s.transition.name}/{s.attempt}" for s in awaited(after))),
        failure=after.failure.diagnosis.code.value if after.failure else "",
    )
