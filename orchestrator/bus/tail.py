"""All histories as one stream, from its beginning and then as it grows: for those who only look.

Zone: host. May import: `nats`, `orchestrator.{events,faults}`, `orchestrator.bus`.

Unlike `facts`, nobody shares it and nothing is acknowledged: each reader is given everything, and remembers how far it
came. It needs no right but to read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from enum import Enum
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

Message: TypeAlias = tuple[str, Recorded | Foreign]
Batch: TypeAlias = tuple[Message, ...]


class _End(Enum):
    """How a reading ended: not yet, with all that there is, or because the server went away."""

    MORE = 0
    WHOLE = 1
    AWAY = 2


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
            messages, end = histories.scan(after), _End.MORE
            try:
                while end is _End.MORE:
                    batch, end = await _some(messages)
                    if batch:
                        yield tuple(batch)
                        after = batch[-1][1].sequence
                if end is _End.WHOLE:
                    yield ()
            finally:
                with contextlib.suppress(Temporary):  # or a closed bus would keep us from ending
                    await messages.aclose()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), LOOK if end is _End.WHOLE else SETTLE)
            await asyncio.sleep(SETTLE)
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()


async def _some(messages: AsyncIterator[Message]) -> tuple[list[Message], _End]:
    """The next messages, at most `BATCH`, and whether there are more."""
    batch: list[Message] = []
    try:
        async for each in messages:
            batch.append(each)
            if len(batch) == BATCH:
                return batch, _End.MORE
    except Temporary:
        return batch, _End.AWAY
    return batch, _End.WHOLE
