"""All facts of all histories, shared among orchestrators: each is given to one of them until it acknowledges.

Zone: host. May import: `nats`, `orchestrator.events`, `orchestrator.bus`.
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

from orchestrator import events
from orchestrator.bus import subjects
from orchestrator.bus.connection import AWAY, Bus
from orchestrator.events import Recorded
from orchestrator.faults import Permanent

CONSUMER: Final = "dispatch"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FactDelivery:
    """One fact, to be acknowledged after the commands it leads to are stored."""

    recorded: Recorded
    _message: Msg

    async def done(self) -> None:
        """Nobody needs to be given this fact again."""
        with contextlib.suppress(nats.errors.Error, *AWAY):
            await self._message.ack()


class FactFeed:
    """The durable consumer that all orchestrators share."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def deliveries(self) -> AsyncIterator[FactDelivery]:
        """Facts as they come, for ever; a server that is away is waited for. Bytes that are no fact are logged."""
        subscription: JetStreamContext.PullSubscription | None = None
        while True:
            try:
                if subscription is None:
                    subscription = await self._subscribe()
                messages = await subscription.fetch(64, timeout=2)
            except (nats.errors.TimeoutError, TimeoutError):
                continue
            except (*AWAY, nats.errors.Error):
                await asyncio.sleep(0.2)
                continue
            for message in messages:
                try:
                    recorded = events.decode(message.metadata.sequence.stream, message.data)
                except Permanent as fault:
                    await _log.aerror("not a fact", code=fault.code, diagnosis=fault.diagnostics())
                    await message.ack()
                else:
                    yield FactDelivery(recorded, message)

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
        config = api.ConsumerConfig(
            name=CONSUMER,
            durable_name=CONSUMER,
            filter_subject="ev.*.*",
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=5,
            max_ack_pending=4096,
        )
        await self._bus.stream.add_consumer(subjects.EVENTS, config)
        return await self._bus.stream.pull_subscribe_bind(consumer=CONSUMER, stream=subjects.EVENTS)
