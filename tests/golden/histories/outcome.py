"""What a golden history comes to, in words that stay the same when the code is written anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Permanent
from orchestrator.fold import fold
from orchestrator.launch import Launch, Progress, awaited


def outcome(pod: str, records: Iterable[Recorded | Foreign]) -> dict[str, Any]:
    """A launch, or a refusal."""
    try:
        return _came_to(fold(pod, records))
    except Permanent as fault:
        return {"pod": pod, "refused": fault.code.value}


def _came_to(launch: Launch) -> dict[str, Any]:
    steps = sorted(f"{step.container}/{step.transition.name}/{step.attempt}" for step in awaited(launch))
    return {
        "pod": launch.pod,
        "index": launch.index,
        "head": launch.head.hex(),
        "state": launch.state.value,
        "progress": _progress(launch.progress),
        "containers": {id_: _progress(c.progress) for id_, c in sorted(launch.containers.items())},
        "failure": launch.failure and [launch.failure.transition, launch.failure.diagnosis.code.value],
        "ignored": [[entry.index, entry.kind] for entry in launch.ignored],
        "awaited": steps,
    }


def _progress(progress: Progress) -> dict[str, Any]:
    return {
        "state": progress.state.value,
        "passed": [[p.state.value, p.at_ns, p.index, p.nanoseconds, p.attempts] for p in progress.passed],
        "exit": progress.exit and progress.exit.code,
        "stop_reason": progress.stop_reason,
        "torn_down": progress.torn_down,
    }
