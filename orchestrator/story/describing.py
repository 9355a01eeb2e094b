"""A launch and its history -> its story.

Zone: any. May import: `orchestrator.{events,faults,launch,lifecycle}`, `orchestrator.story`. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from orchestrator import events
from orchestrator.diagnosis import REMEDIES
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Code
from orchestrator.launch import Container, Failure, Launch, awaited
from orchestrator.lifecycle import BY_NAME, State
from orchestrator.story.causes import likely_causes
from orchestrator.story.orders import orders
from orchestrator.story.steps import steps
from orchestrator.story.stops import ending, stopped
from orchestrator.story.testimony import testimony
from orchestrator.story.values import Evidence, Explained, LaunchStory, Verdict


def describe(launch: Launch, history: Sequence[Recorded | Foreign]) -> LaunchStory:
    """Tell `launch`, which must be the fold of exactly `history`."""
    facts = tuple(testimony(launch, history))
    taken = steps(launch, history)
    failures = tuple(_failures(launch))
    return LaunchStory(
        launch=launch,
        title=title(launch),
        verdict=_verdict(launch, failures),
        reached=reached(launch),
        began_ns=next((fact.at_ns for fact in facts if fact.at_ns), 0),
        changed_ns=max((fact.at_ns for fact in facts), default=0),
        working_ns=sum(step.nanoseconds for step in taken),
        steps=taken,
        waiting=awaited(launch),
        evidence=_evidence(launch),
        verdicts=tuple(_verdicts(launch, history)),
        failures=failures,
        stopped=stopped(launch, facts),
        orders=tuple(orders(facts, history)),
        facts=facts,
    )


def title(launch: Launch) -> str:
    """`namespace/name`, or the pod's id while nobody has said its name."""
    asked = launch.requested
    return f"{asked.namespace}/{asked.name}" if asked and asked.name else launch.pod


def reached(launch: Launch) -> State:
    """The furthest of the seven states that the pod, or any of its containers, has reached."""
    order = list(State)
    states = [launch.progress.reached, *(c.progress.reached for c in launch.containers.values())]
    return max(states, key=order.index)


def _verdict(launch: Launch, failures: tuple[Explained, ...]) -> str:
    """One sentence: where it is, and if it failed, in what and why."""
    if failures:
        told, failure = failures[0], failures[0].failure
        whose = f" of container {_name(launch.containers[told.container])}" if told.container else ""
        diagnosis = failure.diagnosis
        return f"failed after {failure.state}{_in_what(failure)}{whose}: {diagnosis.code} {diagnosis.message}"
    if launch.state is State.GONE:
        why = ending(launch)
        return f"gone: {f'{why}; ' if why else ''}everything that was made for it has been removed"
    if waiting := awaited(launch):
        names = ", ".join(dict.fromkeys(step.transition.name for step in waiting))
        return f"{launch.state}: waits for {names}"
    return f"{launch.state}: {_at_rest(launch)}"


def _in_what(failure: Failure) -> str:
    """In no step fails what is refused in the history itself, and a pod whose own steps are all done."""
    if failure.transition:
        return f", in {failure.transition} (attempt {failure.attempt})"
    return ", in checking its history" if failure.diagnosis.code is Code.FACT_FORGED else ""


def _at_rest(launch: Launch) -> str:
    """Why nothing of ours is awaited: it is the turn of containerd, or of the workload."""
    exits = [(c, c.progress.exit) for c in launch.containers.values() if c.progress.exit]
    ended = ", ".join(f"{_name(container)} ended with status {exit_.code}" for container, exit_ in exits)
    if launch.state is State.APP_BOOTED:
        return f"{ended}; every other container runs" if ended else "every container runs"
    if ended:
        return ended
    return "waits for containerd to start a container" if launch.containers else "waits for containerd to ask for one"


def _name(container: Container) -> str:
    return container.requested.name or container.id[:12]


def _failures(launch: Launch) -> Iterator[Explained]:
    whose = [("", launch.progress.failure), *((c.id, c.progress.failure) for c in launch.containers.values())]
    for container, failure in whose:
        if failure is not None:
            yield _explained(launch, container, failure)


def _explained(launch: Launch, container: str, failure: Failure) -> Explained:
    row = BY_NAME.get(failure.transition)
    causes = likely_causes(launch, failure)
    # The enforcing code has seen the case; what is said of its code in general stands in for advice that it lacks.
    advice = failure.diagnosis.advice
    if not advice or advice.endswith("?"):  # what it asks leads to a cause; it is no action
        advice = REMEDIES[failure.diagnosis.code].action
    return Explained(container, failure, row.attempts if row else 1, advice, causes)


def _evidence(launch: Launch) -> Evidence | None:
    body = launch.attested
    if body is None:
        return None
    return Evidence(
        measurement=body.measurement,
        expected_measurement=launch.agent.measurement if launch.agent else "",
        tcb_status=body.tcb_status,
        simulated=body.simulated,
        quote_bytes=len(body.quote),
        quote_sha256=hashlib.sha256(body.quote).hexdigest(),
        token_sha256=body.token_sha256,
        event_public_key=body.event_public_key.hex(),
        kbs=body.kbs,
        index=launch.progress.passed[2].index,
    )


def _verdicts(launch: Launch, history: Sequence[Recorded | Foreign]) -> Iterator[Verdict]:
    """What the fold accepted of the policies' verdicts; a refusal is a failure and stands there."""
    ignored = {entry.index for entry in launch.ignored}
    for recorded in history:
        if isinstance(recorded, Foreign) or recorded.index in ignored:
            continue
        fact, body, index = recorded.fact, recorded.fact.body, recorded.index
        if isinstance(body, events.Attested):
            claim = f"TCB {body.tcb_status}{', simulated' if body.simulated else ''}"
            yield Verdict("enclave", "", body.measurement, body.kbs, f"affirmed: {claim}", fact.zone, index)
        elif isinstance(body, events.ImageDecrypted):
            judged = f"{body.reference} {body.manifest_digest}"
            yield Verdict("image", fact.container, judged, body.policy, body.verdict, fact.zone, index)
        elif isinstance(body, events.ConfigDelivered):
            policy = "the launch policy in the init-data"
            yield Verdict("process", fact.container, body.config_sha256, policy, body.verdict, fact.zone, index)
