"""Fold again with today's code, and name the first message where it decides otherwise than was decided.

Zone: any. May import: `orchestrator.{events,faults,fold,launch,lifecycle}`, `orchestrator.replay.decision`. Pure.

What was decided is known in one of two ways:

- An exported history carries the decisions of the version that exported it. They are compared one by one.
- A history on the bus carries only what followed from them. That is enough for three questions, because whoever
  appends an answer does so on the condition that it is awaited, and only the orchestrator gives a step up:
  1. an answer that today's code does not await: the code of then did;
  2. a step given up before the time at which today's code would;
  3. a chain at which today's code stops, though messages follow.

  A message that was never right (forged, doubled by another hand) looks like the first. It is named all the same, with
  what the fold says of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator import events
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Code, Permanent
from orchestrator.fold import apply
from orchestrator.launch import Launch, awaited, new
from orchestrator.lifecycle import HOST_HALF, TEARDOWN, TRANSITIONS
from orchestrator.replay.decision import Decision, decisions, name_of


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first message at which today's code decides otherwise, and what each decides, as sentences."""

    sequence: int
    index: int
    kind: str
    container: str
    then: str
    today: str


def first_divergence(
    pod: str, history: Sequence[Recorded | Foreign], recorded: Sequence[Decision] | None = None
) -> Divergence | None:
    """None where today's code decides every message as it was decided. See the module's head for `recorded`."""
    if recorded is not None:
        return _from_decisions(history, recorded, decisions(pod, history))
    return next(_from_what_followed(pod, history), None)


# --- beside recorded decisions ----------------------------------------------------------------------------------------


def _from_decisions(
    history: Sequence[Recorded | Foreign], then: Sequence[Decision], today: Sequence[Decision]
) -> Divergence | None:
    for number, message in enumerate(history):
        before = then[number] if number < len(then) else None
        now = today[number] if number < len(today) else None
        if before != now:
            index, kind = name_of(message)
            container = message.fact.container if isinstance(message, Recorded) else ""
            return Divergence(
                message.sequence, index, kind, container, _different(before, now), _different(now, before)
            )
        if now is None:
            return None  # both stopped before
    return None


def _different(one: Decision | None, other: Decision | None) -> str:
    """What `one` decided where `other` did not."""
    if one is None:
        return "the fold had stopped before it"
    if one.refused:
        return f"the fold stops here: {one.refused}"
    if other is None or other.refused:
        return "the fold goes on"
    told = []
    if one.counted != other.counted:
        told.append("it counts" if one.counted else "it changes nothing")
    told += [f"{_whose(c)} is {state}" for c, state in one.states if (c, state) not in other.states]
    told += [f"awaited: {step}" for step in one.awaited if step not in other.awaited]
    if one.failure != other.failure:
        told.append(f"failed: {one.failure}" if one.failure else "not failed")
    return "; ".join(told) or "none of that"


def _whose(container: str) -> str:
    return f"container {container[:12]}" if container else "the pod"


# --- beside what followed ---------------------------------------------------------------------------------------------

_ANSWERS: Final = {
    "sandbox-created": "create_sandbox",
    "agent-up": "launch_agent",
    "attested": "attest",
    "image-decrypted": "decrypt_image",
    "fs-sealed": "seal_fs",
    "app-started": HOST_HALF.name,
    "config-delivered": "deliver_config",
    "app-booted": "boot_app",
    "torn-down": TEARDOWN.name,
}
"""Kind of fact: the transition that it answers. A `step-failed` names its own."""

_NAMES: Final = {row.name for row in (*TRANSITIONS, HOST_HALF, TEARDOWN)}


def _from_what_followed(pod: str, history: Sequence[Recorded | Foreign]) -> Iterator[Divergence]:
    launch = new(pod)
    for message in history:
        if isinstance(message, Recorded) and (found := _unawaited(launch, message) or _too_early(launch, message)):
            yield found
        try:
            after = apply(launch, message)
        except Permanent as fault:
            yield _of(message, "it was stored after the message before it", f"the fold stops here: {fault}")
            return
        launch = after


def _unawaited(launch: Launch, message: Recorded) -> Divergence | None:
    fact = message.fact
    kind = events.kind(fact.body)
    name = fact.body.transition if isinstance(fact.body, events.StepFailed) else _ANSWERS.get(kind)
    if name not in _NAMES:
        return None
    key = (fact.container, name, fact.attempt)
    steps = {step.key for step in awaited(launch)}
    if key in steps:
        return None
    waits = ", ".join(f"{step[1]} attempt {step[2]}" for step in sorted(steps)) or "nothing"
    return _of(message, f"{name} attempt {fact.attempt} was awaited when this answered it", f"awaited: {waits}")


def _too_early(launch: Launch, message: Recorded) -> Divergence | None:
    fact, body = message.fact, message.fact.body
    if not isinstance(body, events.StepFailed) or body.code != Code.DEADLINE or not fact.actor.startswith("orch"):
        return None
    key = (fact.container, body.transition, fact.attempt)
    step = next((step for step in awaited(launch) if step.key == key), None)
    if step is None or fact.at_ns >= step.deadline_ns:
        return None
    seconds = (step.deadline_ns - fact.at_ns) / 1e9
    return _of(message, f"{body.transition} was given up", f"it would be given {seconds:.1f} s more")


def _of(message: Recorded | Foreign, then: str, today: str) -> Divergence:
    index, kind = name_of(message)
    container = message.fact.container if isinstance(message, Recorded) else ""
    return Divergence(message.sequence, index, kind, container, then, today)
