"""Commands on the work queue CMD: published once a step, delivered until somebody acknowledges.

Zone: host and enclave. May import: `nats`, `orchestrator.{events,faults}`, `orchestrator.bus`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js import api
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from orchestrator.bus import subjects
from orchestrator.bus.connection import AWAY, Bus, told_as_faults
from orchestrator.events import Command
from orchestrator.faults import Permanent

ACK_WAIT: Final = 4.0
"""Seconds without a sign of life after which a command is given to somebody else (or to a restarted worker)."""

MAX_DELIVERIES: Final = 50
FETCH: Final = 2.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of a command. Acknowledge it only after its fact is stored."""

    command: Command
    _message: Msg

    @property
    def sequence(self) -> int:
        """Which message of the queue this is: the same in each delivery of it, another in a copy of the command."""
        return self._message.metadata.sequence.stream

    async def done(self) -> None:
        """The fact is stored (or not wanted any more): nobody needs to be given this again."""
        with contextlib.suppress(nats.errors.Error, *AWAY):
            await self._message.ack_sync(timeout=2)

    async def working(self) -> None:
        """Still at it; call at least every ACK_WAIT / 2 seconds."""
        with contextlib.suppress(nats.errors.Error, *AWAY):
            await self._message.in_progress()

    async def later(self, seconds: float) -> None:
        """Give it again in so many seconds."""
        with contextlib.suppress(nats.errors.Error, *AWAY):
            await self._message.nak(delay=seconds)


class WorkQueue:
    """Publishes commands, and delivers those of one durable consumer."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def publish(self, subject: str, command: Command) -> None:
        """Store a command; the same step is stored once within the duplicate window.

        Raises Temporary(BUS_AWAY, BUS_FULL); the command may then have been stored or not.
        """
        step = (command.pod, command.container, command.transition, str(command.attempt))
        with told_as_faults(f"the command {command.transition} of pod {command.pod} could not be stored"):
            await self._bus.stream.publish(
                subject, command.encode(), headers={"Nats-Msg-Id": "/".join(step)}, timeout=5
            )

    async def ensure_consumer(self, name: str, subject: str) -> None:
        """Create the durable consumer `name` for the commands on `subject`, or find it as it is.

        Raises Temporary(BUS_AWAY).
        """
        config = api.ConsumerConfig(
            name=name,
            durable_name=name,
            filter_subject=subject,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_deliver=MAX_DELIVERIES,
            max_ack_pending=1024,
        )
        with told_as_faults(f"the consumer {name} could not be made"):
            await self._bus.stream.add_consumer(subjects.COMMANDS, config)

    async def remove_consumer(self, name: str) -> None:
        """Delete a durable consumer; fine when it is gone already. Raises Temporary(BUS_AWAY)."""
        with told_as_faults(f"the consumer {name} could not be removed"), contextlib.suppress(NotFoundError):
            await self._bus.stream.delete_consumer(subjects.COMMANDS, name)

    async def deliveries(self, consumer: str) -> AsyncIterator[Delivery]:
        """Commands as they come, for ever; a server that is away is waited for. What is no command is put aside.

        Raises Temporary(BUS_AWAY) when the connection has ended for good.
        """
        subscription: JetStreamContext.PullSubscription | None = None
        while True:
            self._bus.check()
            try:
                if subscription is None:
                    subscription = await self._bus.stream.pull_subscribe_bind(
                        consumer=consumer, stream=subjects.COMMANDS
                    )
                messages = await subscription.fetch(1, timeout=FETCH)
            except (nats.errors.TimeoutError, TimeoutError):
                continue
            except (*AWAY, nats.errors.Error) as error:
                await _log.adebug("queue away", consumer=consumer, error=type(error).__name__)
                await asyncio.sleep(0.2)
                continue
            for message in messages:
                try:
                    command = Command.decode(message.data)
                except Permanent as fault:
                    await _log.aerror("not a command", subject=message.subject, diagnosis=fault.diagnostics())
                    with contextlib.suppress(nats.errors.Error, *AWAY):
                        await message.term()  # the server tells DLQ
                else:
                    yield Delivery(command, message)
