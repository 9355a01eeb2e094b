"""All facts of all histories, shared among orchestrators: each is given to one of them until it acknowledges.

Zone: host. May import: `nats`, `orchestrator.{events,faults}`, `orchestrator.bus`.
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
from orchestrator.bus.connection import AWAY, Bus, told_as_faults
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Temporary

CONSUMER: Final = "dispatch"
ACK_WAIT: Final = 5.0
"""Seconds after which a fact that nobody acknowledged is given to somebody else."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FactDelivery:
    """One fact of `pod`'s history, to be acknowledged after the commands it leads to are stored."""

    pod: str
    recorded: Recorded
    _message: Msg

    @property
    def again(self) -> bool:
        """Whether it was delivered before; what it led to may long be over."""
        return self._message.metadata.num_delivered > 1

    async def done(self) -> None:
        """Nobody needs to be given this fact again."""
        with contextlib.suppress(nats.errors.Error, *AWAY):
            await self._message.ack()


class FactFeed:
    """The durable consumer that all orchestrators share."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def deliveries(self) -> AsyncIterator[FactDelivery]:
        """Facts as they come, for ever; a server that is away is waited for. What is no fact is logged and passed over.

        Raises Temporary(BUS_AWAY) when the connection has ended, Permanent(RUNTIME) when the consumer is refused.
        """
        subscription: JetStreamContext.PullSubscription | None = None
        while True:
            self._bus.check()
            try:
                if subscription is None:
                    subscription = await self._subscribe()
                messages = await subscription.fetch(1, timeout=2)
            except (nats.errors.TimeoutError, TimeoutError):
                continue
            except (*AWAY, nats.errors.Error, Temporary) as error:
                await _log.adebug("facts away", error=type(error).__name__)
                await asyncio.sleep(0.2)
                continue
            for message in messages:
                pod = subjects.pod_of(message.subject)
                recorded = events.read(message.metadata.sequence.stream, message.data)
                if pod is None or isinstance(recorded, Foreign):
                    why = recorded.why if isinstance(recorded, Foreign) else "a subject that is nobody's"
                    await _log.awarning("not a fact", subject=message.subject, why=why)
                    with contextlib.suppress(nats.errors.Error, *AWAY):
                        await message.ack()
                else:
                    yield FactDelivery(pod, recorded, message)

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
        config = api.ConsumerConfig(
            name=CONSUMER,
            durable_name=CONSUMER,
            filter_subject=subjects.HISTORIES,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=4096,
        )
        with told_as_faults("the consumer that orchestrators share could not be made"):
            await self._bus.stream.add_consumer(subjects.EVENTS, config)
            return await self._bus.stream.pull_subscribe_bind(consumer=CONSUMER, stream=subjects.EVENTS)
