"""The loop of every worker: a command comes, its transition is executed, its fact is stored, the command is done.

Zone: host and enclave. May import: `orchestrator.{bus,events,faults,launch,lifecycle}`.

- A command whose step is not awaited (any more) is dropped: somebody did it, or the launch moved on.
- A step that raises a Fault becomes `StepFailed`; anything else that it raises is a defect, told as `INTERNAL`.
- A command is acknowledged only after its fact is stored. A worker that dies is given it again; a step must therefore
  find its own traces, and finish or remove them.
- While a step runs the command is kept alive; at its deadline the step is cancelled and fails. A command whose deadline
  has passed is not begun.
- A copy of a command at work (a restarted orchestrator asks again) is dropped; the same message given again is not,
  because it is what brings the step back should we die.
- In the host zone a pod's steps take turns: what removes a pod must not meet what makes it, or that would be left. A
  step is looked at again when its turn has come; a removal was asked for by then, or comes after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from time import time_ns
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

import structlog

from orchestrator.bus import Bus, Delivery, Histories, WorkQueue
from orchestrator.events import Body, Command, Fact, StepFailed
from orchestrator.faults import Code, Diagnosis, Fault, Permanent, places
from orchestrator.launch import Launch, awaited
from orchestrator.lifecycle import Zone

HEARTBEAT: Final = 1.5
"""Seconds between two signs of life for a command at work; well under the queue's patience."""

Step: TypeAlias = Callable[[Command, Launch], Awaitable[Body]]
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom a worker states facts. `sign` is the event key of an enclave; the host zone has none."""

    zone: Zone
    actor: str
    sign: Callable[[bytes], bytes] | None = None


class Worker:
    """Executes the commands of one durable consumer with a table of steps, several at a time."""

    def __init__(
        self,
        bus: Bus,
        consumer: str,
        identity: Identity,
        steps: Mapping[str, Step],
        histories: Histories | None = None,
    ) -> None:
        """`histories`, where the process has one already: what is remembered twice is also to be forgotten twice."""
        self._queue = WorkQueue(bus)
        self._histories = histories or Histories(bus)
        self._consumer = consumer
        self._identity = identity
        self._steps = steps
        self._running: dict[tuple[str, str, str, int], int] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self) -> None:
        """Serve until cancelled; steps at work are then cancelled too and will be given to the next worker."""
        async with asyncio.TaskGroup() as tasks:
            async for delivery in self._queue.deliveries(self._consumer):
                tasks.create_task(self._serve(delivery))

    async def _serve(self, delivery: Delivery) -> None:
        command = delivery.command
        key = (command.pod, command.container, command.transition, command.attempt)
        if key in self._running:
            await (delivery.later(2) if self._running[key] == delivery.sequence else delivery.done())
            return
        self._running[key] = delivery.sequence
        try:
            async with _kept_alive(delivery), self._turn(command.pod):
                await self._execute(command)
        except Fault as fault:
            # The bus, not the step: leave the command to be given again.
            await _log.awarning("command left for later", step=key, code=fault.code)
            await delivery.later(1)
        else:
            await delivery.done()
        finally:
            del self._running[key]

    def _turn(self, pod: str) -> AbstractAsyncContextManager[None]:
        if self._identity.zone is not Zone.HOST:
            return nullcontext()
        return self._turns.setdefault(pod, asyncio.Lock())

    async def _execute(self, command: Command) -> None:
        # What was awaited then and is not in a launch as of then or later never will be again: no need to look closer.
        launch = await self._histories.launch(command.pod, at_least=command.sequence)
        if not _is_awaited(launch, command):
            return
        body = await self._attempt(command, launch)
        try:
            await self._tell(command, body)
        except Permanent as fault:
            if fault.code is not Code.INPUT:
                raise
            await self._tell(command, StepFailed.of(command.transition, fault.diagnosis))

    async def _tell(self, command: Command, body: Body) -> None:
        fact = Fact(
            command.pod,
            body,
            self._identity.zone,
            self._identity.actor,
            container=command.container,
            attempt=command.attempt,
        )
        await self._histories.append(
            fact, allowed=lambda now: _is_awaited(now, command), sign=self._identity.sign, patience=120
        )

    async def _attempt(self, command: Command, launch: Launch) -> Body:
        name = command.transition
        left = (command.deadline_ns - time_ns()) / 1e9
        if left <= 0:
            return StepFailed.of(name, _too_late(command, left))
        await _log.ainfo("step", pod=command.pod, container=command.container, step=name, attempt=command.attempt)
        limit = asyncio.timeout(left)
        try:
            async with limit:
                return await self._steps[name](command, launch)
        except Fault as fault:
            await _log.awarning("step failed", pod=command.pod, step=name, diagnosis=fault.diagnostics())
            return StepFailed.of(name, fault.diagnosis)
        except Exception as error:  # noqa: BLE001 - told as what it is, a defect
            if limit.expired():
                return StepFailed.of(name, _too_late(command, left))
            await _log.aerror("defect", pod=command.pod, step=name, error=type(error).__name__, at=places(error))
            return StepFailed.of(name, _defect(name, error))


def _is_awaited(launch: Launch, command: Command) -> bool:
    key = (command.container, command.transition, command.attempt)
    return any(step.key == key for step in awaited(launch))


@asynccontextmanager
async def _kept_alive(delivery: Delivery) -> AsyncIterator[None]:
    async def beat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            await delivery.working()

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating


def _too_late(command: Command, seconds: float) -> Diagnosis:
    return Diagnosis(
        Code.DEADLINE,
        f"{command.transition} (attempt {command.attempt}) was not done in time",
        expected=f"done within {seconds:.0f} s" if seconds > 0 else "begun before its deadline",
        got="still at work" if seconds > 0 else f"taken up {-seconds:.0f} s after it",
        advice="see the worker's log for what it was waiting for",
        temporary=True,
    )


def _defect(name: str, error: Exception) -> Diagnosis:
    # The type only: an unforeseen message could quote what it was handling.
    return Diagnosis(
        Code.INTERNAL,
        f"{name} met something it was not written for",
        expected="success or a known fault",
        got=type(error).__name__,
        advice="this is a defect: report it with the worker's log of this moment",
    )
