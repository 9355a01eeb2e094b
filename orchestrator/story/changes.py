"""What one message changed: the launch before it and after it, compared.

Zone: any. May import: `orchestrator.{launch,lifecycle}`, `orchestrator.story.values`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.launch import Awaited, Container, Launch, Progress, awaited
from orchestrator.story.values import Change


def changes(before: Launch, after: Launch) -> tuple[Change, ...]:
    """What is different in `after`; empty for a message that changed nothing but the chain's head."""
    return tuple(_changes(before, after))


def _changes(before: Launch, after: Launch) -> Iterator[Change]:
    if before.state is not after.state:
        yield Change("", "state", str(before.state), str(after.state))
    yield from _of_progress("", before.progress, after.progress, told=before.state is not after.state)
    for container in after.containers.values():
        was = before.containers.get(container.id)
        if was is None:
            yield Change(container.id, "container", "", f"asked for: {container.requested.image}")
        yield from _of_progress(container.id, was.progress if was else Progress(), container.progress)
        if container.start_requested_ns and not (was and was.start_requested_ns):
            yield Change(container.id, "start", "", "asked for")
        if container.started and not (was and was.started):
            yield Change(container.id, "boot init", "", f"runs as pid {container.started.pid}")
        yield from _of_execs(was, container)
    if after.agent_lost and not before.agent_lost:
        yield Change("", "agent", "runs", "lost")
    yield from _of_waiting(before, after)


def _of_progress(container: str, before: Progress, after: Progress, *, told: bool = False) -> Iterator[Change]:
    if before.state is not after.state and not told:
        yield Change(container, "state", str(before.state), str(after.state))
    if after.attempt > before.attempt:
        yield Change(container, "attempt", str(before.attempt), str(after.attempt))
    if after.failure and not before.failure:
        yield Change(container, "failure", "", f"{after.failure.diagnosis.code} {after.failure.diagnosis.message}")
    if after.exit and not before.exit:
        yield Change(container, "exit code", "", str(after.exit.code))
    if after.torn_down and not before.torn_down:
        yield Change(container, "what was made for it", "there", "removed")


def _of_execs(before: Container | None, after: Container) -> Iterator[Change]:
    known = before.execs if before else {}
    for rule, times in after.execs.items():
        if times != known.get(rule, 0):
            yield Change(after.id, f"commands admitted by {rule}", str(known.get(rule, "")), str(times))
    refused = before.execs_refused if before else 0
    if after.execs_refused != refused:
        yield Change(after.id, "commands refused", str(refused or ""), str(after.execs_refused))


def _of_waiting(before: Launch, after: Launch) -> Iterator[Change]:
    was, now = {step.key: step for step in awaited(before)}, {step.key: step for step in awaited(after)}
    for key in was.keys() - now.keys():
        yield Change(key[0], "waits for", _step(was[key]), "")
    for key in now.keys() - was.keys():
        yield Change(key[0], "waits for", "", _step(now[key]))


def _step(step: Awaited) -> str:
    return f"{step.transition.name}, attempt {step.attempt} of {step.transition.attempts}"
