"""Which failed parts of launches an order to resume is meant for, and giving it to each.

Zone: host. May import: `orchestrator.{cli,events,faults,launch,lifecycle,replay,resumption,story}`, the standard
library.

A part of a launch is its pod (the empty name) or one of its containers. Where launches are named, what failed of each
is meant, held or not, so that one that cannot go on is told; of all launches, what is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator import orders
from orchestrator.faults import Code, Fault, Permanent
from orchestrator.launch import Failure, Launch, held
from orchestrator.lifecycle import State, Subject, next_transition
from orchestrator.orders import Operator
from orchestrator.replay.query import Query
from orchestrator.resumption import resumable
from orchestrator.story import title


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one order. `fault` says why nothing did; `goes_on_with`, a transition, is empty then."""

    pod: str
    title: str
    container: str
    goes_on_with: str
    fault: Fault | None = None


def parts_named(launch: Launch, container: str) -> list[str]:
    """The container that is named, or else what is held, or has failed, or the pod. Raises Permanent(NOT_FOUND)."""
    if container:
        return [_container(launch, container)]
    return [part for part, _ in _held(launch)] or [part for part, _ in _failed(launch)] or [""]


def parts_held(launch: Launch, container: str, query: Query) -> list[str]:
    """Everything that is held, failed as the query says, and is the container's if one is named."""
    return [
        part
        for part, failure in _held(launch)
        if query.admits_failure(failure) and (not container or _is_called(launch, part, container))
    ]


def _held(launch: Launch) -> Iterator[tuple[str, Failure]]:
    for part, failure in _failed(launch):
        if held(launch, launch.containers[part].progress if part else launch.progress):
            yield part, failure


def _failed(launch: Launch) -> Iterator[tuple[str, Failure]]:
    """Of a pod that failed its containers do not count: they cannot go on without it."""
    if launch.progress.failure is not None:
        yield "", launch.progress.failure
        return
    for container in launch.containers.values():
        if container.progress.failure is not None:
            yield container.id, container.progress.failure


def _container(launch: Launch, asked: str) -> str:
    found = [id_ for id_ in launch.containers if _is_called(launch, id_, asked)]
    if found:
        return found[-1]  # of containers of one name the newest: it has replaced the others
    raise Permanent(
        Code.NOT_FOUND,
        f"there is no container {asked!r} in this pod",
        expected=", ".join(c.requested.name or c.id[:12] for c in launch.containers.values()) or "no container yet",
        got=asked[:100],
    )


def _is_called(launch: Launch, part: str, asked: str) -> bool:
    """Whether a container is meant by its name or by the beginning of its id."""
    return bool(part) and (launch.containers[part].requested.name == asked or part.startswith(asked))


async def resume(operator: Operator, launch: Launch, part: str, start: str | None, *, dry_run: bool) -> Answer:
    """Give the order for one part, or with `dry_run` only say what it would be; `start` is a state, None the usual."""
    name = title(launch)
    try:
        operator.may_order(launch)
        wanted = _transition_from(start, part) if start else ""
        row = resumable(launch, part, wanted)
        if not dry_run:
            await orders.resume(operator, launch.pod, part, row)
    except Fault as fault:
        return Answer(launch.pod, name, part, "", fault)
    return Answer(launch.pod, name, part, row.name)


def _transition_from(start: str, part: str) -> str:
    """The transition out of a state, by name. A container's own states begin where its pod is attested."""
    state = State(start)
    if part:
        row = next_transition(Subject.CONTAINER, State.REQUESTED if state is State.ATTESTED else state)
    else:
        row = next_transition(Subject.POD, state)
    return row.name if row else start
