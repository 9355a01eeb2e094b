"""Fact -> next command; deadlines, retries, give-up.

Zone: host. May import: `orchestrator`, the standard library.

For every launch that is not over, `Dispatcher` keeps the fold and does what `launch.awaited` says:

1. A step that is due becomes a command, once (the queue drops a repeat). A fact is acknowledged only after the commands
   it leads to are stored, so an orchestrator that dies leaves nothing undone: the next one is given the same fact.
2. A step that is due later (a retry's back-off) waits on the timer wheel.
3. A step whose deadline has passed is failed by a fact of our own, on the condition that it is still awaited. The
   deadline is derived from the history; a restarted orchestrator rebuilds the wheel by folding the stream.

Any number of orchestrators may run: what two of them both do is stored once.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections.abc import Iterator
from typing import Final

import structlog

from orchestrator import events
from orchestrator.bus import Bus, Histories, WorkQueue, subjects
from orchestrator.bus.facts import FactFeed
from orchestrator.events import Command, Fact, StepFailed
from orchestrator.faults import Code, Diagnosis, Fault, Permanent
from orchestrator.fold import apply
from orchestrator.launch import Awaited, Launch, awaited, new
from orchestrator.lifecycle import State, Zone

_log = structlog.get_logger()
TICK: Final = 0.1
"""Seconds between two looks at the timer wheel."""


class Wheel:
    """Pods by the time at which somebody should look at them again. Pure: it is told what time it is."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []

    def set(self, at_ns: int, pod: str) -> None:
        """Look at `pod` at `at_ns` (wall clock, nanoseconds)."""
        heapq.heappush(self._heap, (at_ns, pod))

    def due(self, now_ns: int) -> Iterator[str]:
        """The pods whose time has come, each once a call."""
        seen: set[str] = set()
        while self._heap and self._heap[0][0] <= now_ns:
            pod = heapq.heappop(self._heap)[1]
            if pod not in seen:
                seen.add(pod)
                yield pod


class Dispatcher:
    """Carries every launch on the bus forward until it is cancelled."""

    def __init__(self, bus: Bus, actor: str) -> None:
        self._histories = Histories(bus)
        self._queue = WorkQueue(bus)
        self._feed = FactFeed(bus)
        self._actor = actor
        self._launches: dict[str, Launch] = {}
        self._wheel = Wheel()

    async def run(self) -> None:
        """Rebuild from the stream, then serve facts and timers."""
        await self._rebuild()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._serve_facts())
            tasks.create_task(self._serve_timers())

    async def _rebuild(self) -> None:
        async for sequence, raw in self._histories.scan():
            with contextlib.suppress(Permanent):
                recorded = events.decode(sequence, raw)
                pod = recorded.fact.pod
                self._launches[pod] = apply(self._launches.get(pod) or new(pod), recorded)
        for launch in list(self._launches.values()):
            await self._carry_on(launch)
        await _log.ainfo("rebuilt", launches=len(self._launches))

    async def _serve_facts(self) -> None:
        async for fact in self._feed.deliveries():
            try:
                launch = await self._take(fact.recorded)
                await self._carry_on(launch)
            except Permanent as fault:
                await _log.aerror("history refused", code=fault.code, diagnosis=fault.diagnostics())
                await fact.done()
            except Fault as fault:
                await _log.awarning("fact left for later", code=fault.code, diagnosis=fault.diagnostics())
            else:
                await fact.done()

    async def _take(self, recorded: events.Recorded) -> Launch:
        pod = recorded.fact.pod
        known = self._launches.get(pod) or new(pod)
        if recorded.sequence <= known.sequence:
            return known
        if recorded.index == known.index + 1:
            launch = apply(known, recorded)
        else:  # another orchestrator was given what lies between
            launch = await self._histories.launch(pod)
        self._launches[pod] = launch
        return launch

    async def _carry_on(self, launch: Launch) -> None:
        now = time.time_ns()
        for step in awaited(launch):
            if step.not_before_ns > now:
                self._wheel.set(step.not_before_ns, launch.pod)
            elif step.deadline_ns > now:
                await self._command(launch, step)
                self._wheel.set(step.deadline_ns, launch.pod)
            else:
                await self._give_up(launch, step)
        if launch.progress.state is State.GONE:
            self._launches.pop(launch.pod, None)
            self._histories.forget(launch.pod)

    async def _command(self, launch: Launch, step: Awaited) -> None:
        row = step.transition
        command = Command(
            launch.pod, step.container, row.name, step.attempt, launch.sequence, deadline_ns=step.deadline_ns
        )
        if row.zone is Zone.ENCLAVE:
            subject = subjects.pod_command(launch.pod, row.name)
        else:
            node = launch.requested.node if launch.requested else ""
            subject = subjects.host_command(node, row.name, launch.pod)
        await self._queue.publish(subject, command)

    async def _give_up(self, launch: Launch, step: Awaited) -> None:
        row = step.transition
        diagnosis = Diagnosis(
            Code.DEADLINE,
            f"{row.name} (attempt {step.attempt}) was not done in time",
            expected=f"its fact within {row.deadline:g} s",
            got="none",
            advice=f"see whether the {row.zone} worker that executes it runs, and its log",
            temporary=True,
        )
        fact = Fact(
            launch.pod,
            StepFailed.of(row.name, diagnosis),
            Zone.HOST,
            self._actor,
            container=step.container,
            attempt=step.attempt,
        )
        await self._histories.append(fact, allowed=lambda now: step.key in {s.key for s in awaited(now)})

    async def _serve_timers(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            for pod in list(self._wheel.due(time.time_ns())):
                try:
                    if pod in self._launches:
                        self._launches[pod] = await self._histories.launch(pod)
                        await self._carry_on(self._launches[pod])
                except Fault as fault:
                    await _log.awarning("timer left for later", pod=pod, code=fault.code)
                    self._wheel.set(time.time_ns() + 1_000_000_000, pod)
