"""Fact -> next command; deadlines, retries, give-up.

Zone: host. May import: `orchestrator`, `structlog`, the standard library.

For every launch that waits for something, `Dispatcher` keeps the fold and does what `launch.awaited` says:

1. A step that is due becomes a command, once (the queue drops another orchestrator's). A fact is acknowledged only
   after the commands it leads to are stored, so an orchestrator that dies leaves nothing undone: the next one is given
   the same fact.
2. A step that is due later (a retry's back-off) waits on the timer wheel.
3. A step whose deadline has passed is failed by a fact of our own, on the condition that it is still awaited. The
   deadline is derived from the history; a restarted orchestrator rebuilds the wheel by folding the stream.
4. A hold that is over is ended by a stop, on the same condition: an operator's order and the end of the hold cannot
   both count. What a fork inherits is stated (`forking`) before its order is acknowledged.
5. What goes wrong with one launch stays with it: a bus that is away or full leaves its fact for later, a history that
   is broken is left alone (nothing may be done on its word), a defect is logged; the others go on.

Any number of orchestrators may run: what two of them both do is stored once. What one remembers may be older than the
history; then a command is superfluous and its worker drops it, and a give-up loses on its condition.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Coroutine, Iterator
from typing import Any, Final

import structlog

from orchestrator.bus import Bus, Histories, WorkQueue, subjects
from orchestrator.bus.facts import FactDelivery, FactFeed
from orchestrator.events import Command, Fact, ForkedFrom, StepFailed, StopRequested, TornDown
from orchestrator.faults import Code, Diagnosis, Fault, Permanent
from orchestrator.fold import apply
from orchestrator.forking import inherit
from orchestrator.launch import Awaited, Launch, awaited, new
from orchestrator.lifecycle import HOLD, State, Zone

_log = structlog.get_logger()
TICK: Final = 0.1
"""Seconds between two looks at the timer wheel."""

AGAIN_NS: Final = 1_000_000_000
"""Until the next look at a launch for which something did not work."""

_HOPELESS: Final = frozenset({Code.BUS_HISTORY, Code.INPUT})
"""A history that is broken, or that names a node that no subject can have: looking again shows the same."""

PATIENCE: Final = 5.0
"""Seconds that one launch's give-up may hold up the others."""


class Wheel:
    """Pods by the time at which somebody should look at them again. Pure: it is told what time it is."""

    def __init__(self) -> None:
        self._at: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._at)

    def set(self, pod: str, at_ns: int) -> None:
        """Look at `pod` at `at_ns` (wall clock, nanoseconds) and at no other time."""
        if self._at.get(pod) != at_ns:
            self._at[pod] = at_ns
            heapq.heappush(self._heap, (at_ns, pod))
            if len(self._heap) > 64 + 4 * len(self._at):  # most of it is of times that were set anew since
                self._heap = [(at, pod) for pod, at in self._at.items()]
                heapq.heapify(self._heap)

    def forget(self, pod: str) -> None:
        """Never look at `pod` again."""
        self._at.pop(pod, None)

    def due(self, now_ns: int) -> Iterator[str]:
        """The pods whose time has come, each once; they are off the wheel until they are set again."""
        while self._heap and self._heap[0][0] <= now_ns:
            at_ns, pod = heapq.heappop(self._heap)
            if self._at.get(pod) == at_ns:
                del self._at[pod]
                yield pod


class Dispatcher:
    """Carries every launch on the bus forward until it is cancelled."""

    def __init__(self, bus: Bus, actor: str) -> None:
        self._bus = bus
        self._histories = Histories(bus)
        self._queue = WorkQueue(bus)
        self._feed = FactFeed(bus)
        self._actor = actor
        self._launches: dict[str, Launch] = {}
        self._commanded: dict[str, set[tuple[str, str, int]]] = {}
        self._wheel = Wheel()

    async def run(self) -> None:
        """Rebuild from the stream, then serve facts and timers. Raises Temporary(BUS_AWAY) when the connection ends."""
        await self._rebuild()
        self._bus.check()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._serve_facts())
                tasks.create_task(self._serve_timers())
        except BaseExceptionGroup as group:
            faults, others = group.split(Fault)
            if faults is None or others is not None:
                raise
            raise faults.exceptions[0] from group

    async def _rebuild(self) -> None:
        launches: dict[str, Launch] = {}
        over: set[str] = set()
        async for pod, message in self._histories.scan():
            if pod in over:
                continue
            try:
                launches[pod] = launch = apply(launches.get(pod) or new(pod), message)
            except Permanent as fault:
                await _log.aerror("history refused", pod=pod, code=fault.code, diagnosis=fault.diagnostics())
            else:
                if launch.progress.state is not State.GONE:
                    continue
            over.add(pod)
            launches.pop(pod, None)
        for launch in launches.values():
            if awaited(launch):
                self._launches[launch.pod] = launch
                await self._look(launch.pod)
                self._bus.check()
        await _log.ainfo("rebuilt", launches=len(launches), waiting=len(self._launches), over=len(over))

    async def _serve_facts(self) -> None:
        async for fact in self._feed.deliveries():
            if await self._settled(fact.pod, self._take(fact)):
                await fact.done()
            self._bus.check()

    async def _serve_timers(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            for pod in list(self._wheel.due(time.time_ns())):
                await self._look(pod)
                self._bus.check()

    async def _look(self, pod: str) -> None:
        launch = self._launches.get(pod)
        if launch is not None and not await self._settled(pod, self._carry_on(launch)):
            self._wheel.set(pod, time.time_ns() + AGAIN_NS)

    async def _settled(self, pod: str, work: Coroutine[Any, Any, None]) -> bool:
        """Do one launch's work; False when it is to be tried again. Nothing that it meets stops the others."""
        try:
            await work
        except Fault as fault:
            if fault.code in _HOPELESS and isinstance(fault, Permanent):
                await _log.aerror("launch left alone", pod=pod, code=fault.code, diagnosis=fault.diagnostics())
                self._forget(pod)
                return True
            await _log.awarning("launch left for later", pod=pod, code=fault.code, diagnosis=fault.diagnostics())
            return False
        except Exception:  # noqa: BLE001 - a defect that one launch meets must not stop every other
            await _log.aexception("defect; launch left for later", pod=pod)
            return False
        return True

    async def _take(self, fact: FactDelivery) -> None:
        pod, recorded = fact.pod, fact.recorded
        launch = self._launches.get(pod) or new(pod)
        if recorded.sequence > launch.sequence:
            if recorded.index == launch.index + 1 and not fact.again:
                launch = apply(launch, recorded)
            else:  # another orchestrator was given what lies between, or it is long over
                launch = await self._histories.launch(pod)
        if isinstance(recorded.fact.body, ForkedFrom):
            launch = await inherit(self._histories, pod, self._actor)
        await self._carry_on(launch)

    async def _carry_on(self, launch: Launch) -> None:
        pod, steps = launch.pod, awaited(launch)
        if not steps:
            self._forget(pod)
            return
        self._launches[pod] = launch
        now, commanded = time.time_ns(), self._commanded.setdefault(pod, set())
        commanded &= {step.key for step in steps}
        for step in steps:
            if step.not_before_ns > now or (step.key in commanded and step.deadline_ns > now):
                continue
            if step.deadline_ns > now:
                await self._command(launch, step)
                commanded.add(step.key)
            elif not await self._give_up(launch, step):
                # It was not awaited any more: what is remembered is old.
                await self._carry_on(await self._histories.launch(pod))
                return
        times = (at for step in steps for at in (step.not_before_ns, step.deadline_ns) if at > now)
        self._wheel.set(pod, min(times, default=now + AGAIN_NS))

    async def _command(self, launch: Launch, step: Awaited) -> None:
        if launch.refused_fork:
            await self._tear_down_nothing(launch, step)
            return
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

    async def _tear_down_nothing(self, launch: Launch, step: Awaited) -> None:
        """No worker is asked for what no node has: that nothing is there is known here."""
        fact = Fact(launch.pod, TornDown(()), Zone.HOST, self._actor, attempt=step.attempt)
        await self._histories.append(fact, allowed=lambda now: now.refused_fork, patience=PATIENCE)

    async def _give_up(self, launch: Launch, step: Awaited) -> bool:
        """Fail a step whose time is over, or end a hold; False when it is not so any more."""
        body = _hold_is_over(launch) if step.transition is HOLD else _not_in_time(step)
        fact = Fact(launch.pod, body, Zone.HOST, self._actor, container=step.container, attempt=step.attempt)
        told = await self._histories.append(fact, allowed=lambda now: _is_late(now, step), patience=PATIENCE)
        return told is not None

    def _forget(self, pod: str) -> None:
        """Nothing is awaited of it; if ever something comes again, its history is read."""
        self._launches.pop(pod, None)
        self._commanded.pop(pod, None)
        self._wheel.forget(pod)
        self._histories.forget(pod)


def _not_in_time(step: Awaited) -> StepFailed:
    row = step.transition
    diagnosis = Diagnosis(
        Code.DEADLINE,
        f"{row.name} (attempt {step.attempt}) was not done in time",
        expected=f"its fact within {row.deadline:g} s",
        got="none",
        advice=f"see whether the {row.zone} worker that executes it runs, and its log",
        temporary=True,
    )
    return StepFailed.of(row.name, diagnosis)


def _hold_is_over(launch: Launch) -> StopRequested:
    seconds = launch.requested.hold_seconds if launch.requested else 0
    return StopRequested(f"held for {seconds} s after its failure, and nobody resumed it")


def _is_late(launch: Launch, step: Awaited) -> bool:
    now = time.time_ns()
    return any(other.key == step.key and other.deadline_ns <= now for other in awaited(launch))
