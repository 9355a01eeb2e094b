"""Why a launch that did not fail is over before it was done, and how one that is gone ended.

Zone: any. May import: `orchestrator.{diagnosis,faults,launch,lifecycle}`, `orchestrator.story`. Pure.

A kubelet whose call was waiting for such a launch was told E-STOP-001; the history holds no failure, only who asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.diagnosis import REMEDIES
from orchestrator.faults import Code, Diagnosis
from orchestrator.launch import Failure, Launch, Progress
from orchestrator.lifecycle import State
from orchestrator.story.causes import likely_causes
from orchestrator.story.values import Explained, Told

_ENDINGS = frozenset({"stop-requested", "exited"})


def stopped(launch: Launch, facts: Sequence[Told]) -> Explained | None:
    """What ended it before all of it had booted, as a failure is told; None for one that failed, lives or was done."""
    if launch.failure is not None:
        return None
    return next((_explained(launch, whose, progress, facts) for whose, progress in _undone(launch)), None)


def ending(launch: Launch) -> str:
    """Why a launch that is gone was ended, as a clause; empty where nothing says it."""
    reason, exit_ = launch.progress.stop_reason, launch.progress.exit
    # After an order to stop the pause container ends too, and how says nothing.
    status = f" with status {exit_.code}" if exit_ is not None and reason.endswith("exited") else ""
    return f"it was stopped ({reason}{status})" if reason else ""


def _undone(launch: Launch) -> Iterator[tuple[str, Progress]]:
    """The pod, if it was ended while a container had not booted or none was there; a container that was."""
    undone = [c for c in launch.containers.values() if c.booted is None]
    if launch.progress.state in (State.STOPPING, State.GONE):
        if undone or not launch.containers:
            yield "", launch.progress
        return
    for container in undone:
        if container.progress.state in (State.STOPPING, State.GONE):
            yield container.id, container.progress


def _explained(launch: Launch, container: str, progress: Progress, facts: Sequence[Told]) -> Explained:
    told = [fact for fact in facts if fact.kind in _ENDINGS and fact.container == container and not fact.effect]
    reason = progress.stop_reason or "nobody said why"
    diagnosis = Diagnosis(
        Code.STOPPED, "the launch was stopped before it was done", expected="time until its containers ran", got=reason
    )
    failure = Failure(progress.reached, "", 0, diagnosis, told[0].index if told else 0)
    return Explained(container, failure, 0, REMEDIES[Code.STOPPED].action, likely_causes(launch, failure))
