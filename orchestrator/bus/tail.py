"""All histories as one stream, from its beginning and then as it grows: for those who only look.

Zone: host. May import: `nats`, `orchestrator.{events,faults}`, `orchestrator.bus`.

Unlike `facts`, nobody shares it and nothing is acknowledged: each reader is given everything, and remembers how far it
came. It needs no right but to read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, TypeAlias

import nats.errors
from nats.aio.msg import Msg

from orchestrator.bus import subjects
from orchestrator.bus.connection import Bus, told_as_faults
from orchestrator.bus.histories import Histories
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Temporary

BATCH: Final = 256
LOOK: Final = 5.0
"""Seconds between two looks while nothing wakes us, for instance because the server was away."""

SETTLE: Final = 0.05
"""Seconds from the first news to the look: publications come before they are stored, and rarely alone."""

Batch: TypeAlias = tuple[tuple[str, Recorded | Foreign], ...]


async def tail(bus: Bus, after: int = 0) -> AsyncGenerator[Batch, None]:
    """The messages above `after`, with the pods whose histories they are, in the order of the stream; for ever.

    An empty batch says that this was all for now. A server that is away is waited for, and what came meanwhile is read
    when it is back. Raises Temporary(BUS_AWAY) when the connection has ended for good.
    """
    histories, news = Histories(bus), asyncio.Event()

    async def wake(_: Msg) -> None:
        news.set()

    with told_as_faults("the histories could not be followed"):
        subscription = await bus.client.subscribe(subjects.HISTORIES, cb=wake)
    try:
        while True:
            bus.check()
            news.clear()
            batch: list[tuple[str, Recorded | Foreign]] = []
            whole = False
            with contextlib.suppress(Temporary):
                async with aclosing(histories.scan(after)) as messages:
                    async for pod, message in messages:
                        batch.append((pod, message))
                        if len(batch) == BATCH:
                            yield tuple(batch)
                            after, batch = message.sequence, []
                whole = True
            if batch:
                yield tuple(batch)
                after = batch[-1][1].sequence
            if whole:
                yield ()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), LOOK if whole else SETTLE)
            await asyncio.sleep(SETTLE)
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()
