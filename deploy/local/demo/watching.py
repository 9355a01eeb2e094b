"""Watching a launch in its history while it happens.

Zone: host. May import: `orchestrator.{bus,events,fold,launch,lifecycle}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchestrator.bus import Credentials, Histories, connect
from orchestrator.events import Foreign, PodRequested, Recorded
from orchestrator.fold import apply
from orchestrator.launch import Launch, Passed, new
from orchestrator.lifecycle import State

LOOK = 0.05


async def watch(credentials: Credentials, name: str, tell: Callable[[Passed], None]) -> Launch:
    """Wait for the newest pod called `name`, tell each state as it is reached, return once it has booted or failed."""
    async with await connect(credentials, "demo") as bus:
        histories = Histories(bus)
        pod = await _appears(histories, name)
        launch, told = new(pod), 0
        async for recorded in histories.follow(pod):
            launch = apply(launch, recorded)
            passed = passed_states(launch)
            for state in passed[told:]:
                tell(state)
            told = len(passed)
            if settled(launch):
                return launch
    raise RuntimeError("a history is followed until the caller stops")


async def read(credentials: Credentials, pod: str) -> list[Recorded | Foreign]:
    """The pod's whole history."""
    async with await connect(credentials, "demo") as bus:
        return await Histories(bus).read(pod)


def passed_states(launch: Launch) -> list[Passed]:
    """The states that the pod and its first container reached, in order."""
    first = next(iter(launch.containers.values()), None)
    return [*launch.progress.passed, *(first.progress.passed if first else ())]


def settled(launch: Launch) -> bool:
    """Whether the workload runs, or the launch will come no further."""
    return launch.failure is not None or any(c.progress.state is State.APP_BOOTED for c in launch.containers.values())


async def _appears(histories: Histories, name: str) -> str:
    while True:
        found = ""
        async for pod, recorded in histories.scan():
            if isinstance(recorded, Recorded):
                body = recorded.fact.body
                if isinstance(body, PodRequested) and body.name == name:
                    found = pod
        if found:
            return found
        await asyncio.sleep(LOOK)
