"""Each transition of a launch with its attempts, its time and its share of the whole.

Zone: any. May import: `orchestrator.{events,faults,launch,lifecycle}`, `orchestrator.story.values`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from orchestrator import events
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Code, Diagnosis
from orchestrator.launch import Launch, Progress
from orchestrator.lifecycle import TRANSITIONS, State, Subject, next_transition
from orchestrator.story.values import Attempt, Outcome, Step


@dataclass(frozen=True, slots=True)
class _Record:
    """What the fold does not keep: when things were asked for ("" is the pod), and every failed attempt."""

    requested_ns: dict[str, int]
    started_ns: dict[str, int]
    failed: dict[tuple[str, str], tuple[Attempt, ...]]


def steps(launch: Launch, history: Iterable[Recorded | Foreign]) -> tuple[Step, ...]:
    """The pod's three steps, then four for each container, in the order of the containers."""
    record = _read(launch, history)
    found = list(_steps(Subject.POD, "", launch.progress, record.requested_ns.get("", 0), record))
    attested_ns = next((passed.at_ns for passed in launch.progress.passed if passed.state is State.ATTESTED), 0)
    for container in launch.containers.values():
        began_ns = max(record.requested_ns.get(container.id, 0), attested_ns)
        found += _steps(Subject.CONTAINER, container.id, container.progress, began_ns, record)
    whole = sum(step.nanoseconds for step in found)
    return tuple(replace(step, share=step.nanoseconds / whole if whole else 0.0) for step in found)


def _read(launch: Launch, history: Iterable[Recorded | Foreign]) -> _Record:
    record = _Record({}, {}, {})
    ignored = {entry.index for entry in launch.ignored}
    for recorded in history:
        if isinstance(recorded, Foreign):
            continue
        fact, body = recorded.fact, recorded.fact.body
        if isinstance(body, (events.PodRequested, events.ContainerRequested)):
            record.requested_ns.setdefault(fact.container, fact.at_ns)
        elif isinstance(body, events.StartRequested):
            record.started_ns.setdefault(fact.container, fact.at_ns)
        elif isinstance(body, events.StepFailed):
            key = fact.container, body.transition
            attempt = _attempt(recorded, body, counted=recorded.index not in ignored)
            record.failed[key] = (*record.failed.get(key, ()), attempt)
    return record


def _attempt(recorded: Recorded, body: events.StepFailed, *, counted: bool) -> Attempt:
    fact = recorded.fact
    # A later version's code is told as a defect of unknown kind, as the fold does.
    code = Code(body.code) if body.code in Code.__members__.values() else Code.INTERNAL
    diagnosis = Diagnosis(code, body.message, body.expected, body.got, body.advice, temporary=body.temporary)
    return Attempt(recorded.index, fact.at_ns, fact.attempt, diagnosis, fact.zone, fact.actor, counted)


def _steps(subject: Subject, container: str, progress: Progress, began_ns: int, record: _Record) -> Iterator[Step]:
    """The rows of `lifecycle` for one subject, each with what became of it. The first began at `began_ns`."""
    passed = {entry.state: entry for entry in progress.passed}
    for row in (transition for transition in TRANSITIONS if transition.subject is subject):
        failed = record.failed.get((container, row.name), ())
        if row.name == "deliver_config":
            began_ns = max(began_ns, record.started_ns.get(container, 0))
        step = Step(container, row, Outcome.NOT_REACHED, failed=failed)
        if done := passed.get(row.target):
            step = replace(
                step,
                outcome=Outcome.DONE,
                began_ns=done.at_ns - done.nanoseconds,
                ended_ns=done.at_ns,
                index=done.index,
                attempts=done.attempts,
            )
            began_ns = done.at_ns
        elif progress.failure is not None and progress.failure.transition == row.name:
            ended_ns = next((attempt.at_ns for attempt in failed if attempt.index == progress.failure.index), 0)
            step = replace(
                step,
                outcome=Outcome.FAILED,
                began_ns=began_ns,
                ended_ns=ended_ns,
                index=progress.failure.index,
                attempts=progress.tries(progress.attempt),
            )
        elif progress.live and next_transition(subject, progress.state) is row:
            step = replace(step, outcome=Outcome.AWAITED, began_ns=began_ns, attempts=progress.tries(progress.attempt))
        yield step
