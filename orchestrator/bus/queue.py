"""Commands on the work queue CMD: published once a step, delivered until somebody acknowledges.

Zone: host and enclave. May import: `nats`, `orchestrator.events`, `orchestrator.bus`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.js import api
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from orchestrator.bus import subjects
from orchestrator.bus.connection import AWAY, Bus
from orchestrator.events import Command

ACK_WAIT: Final = 4.0
"""Seconds without a sign of life after which a command is given to somebody else (or to a restarted worker)."""

MAX_DELIVERIES: Final = 50
FETCH: Final = 2.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of a command. Acknowledge it only after its fact is stored."""

    command: Command
    _message: Msg

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
        """Store a command; the same step is stored once within the duplicate window. Raises what AWAY lists."""
        step = (command.pod, command.container, command.transition, str(command.attempt))
        await self._bus.stream.publish(subject, command.encode(), headers={"Nats-Msg-Id": "/".join(step)}, timeout=5)

    async def ensure_consumer(self, name: str, subject: str) -> None:
        """Create the durable consumer `name` for the commands on `subject`, or find it as it is."""
        config = api.ConsumerConfig(
            name=name,
            durable_name=name,
            filter_subject=subject,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_deliver=MAX_DELIVERIES,
            max_ack_pending=1024,
        )
        await self._bus.stream.add_consumer(subjects.COMMANDS, config)

    async def remove_consumer(self, name: str) -> None:
        """Delete a durable consumer; fine when it is gone already."""
        with contextlib.suppress(NotFoundError):
            await self._bus.stream.delete_consumer(subjects.COMMANDS, name)

    async def deliveries(self, consumer: str) -> AsyncIterator[Delivery]:
        """Commands as they come, for ever. A server that is away is waited for."""
        subscription: JetStreamContext.PullSubscription | None = None
        while True:
            try:
                if subscription is None:
                    subscription = await self._bus.stream.pull_subscribe_bind(
                        consumer=consumer, stream=subjects.COMMANDS
                    )
                messages = await subscription.fetch(16, timeout=FETCH)
            except (nats.errors.TimeoutError, TimeoutError):
                continue
            except (*AWAY, nats.errors.Error):
                await asyncio.sleep(0.2)
                continue
            for message in messages:
                yield Delivery(Command.decode(message.data), message)
