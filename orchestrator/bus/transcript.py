"""The whole event stream as it is stored, byte for byte and in order: what the audit log is written from.

Zone: host. May import: `nats`, `orchestrator.faults`, `orchestrator.bus`.

A push consumer with flow control, three times as fast as pulling: the server sends as much as we have asked it to go on
with. Nothing is acknowledged: who reads knows how far they came, and asks from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, NamedTuple

import nats.errors
from nats.aio.msg import Msg
from nats.js import api
from nats.js.errors import NotFoundError

from orchestrator.bus import subjects
from orchestrator.bus.connection import AWAY, Bus, told_as_faults
from orchestrator.faults import Temporary

BATCH: Final = 512
"""Messages handed out at once: a few milliseconds of work."""

HEARTBEAT: Final = 2.0
"""Seconds between two signs of life of a consumer without news; after three missing ones it is made anew."""

_STALLED: Final = "Nats-Consumer-Stalled"


class Stored(NamedTuple):
    """One message: its place in the stream, its subject, its exact bytes."""

    sequence: int
    subject: str
    raw: bytes


async def last_sequence(bus: Bus) -> int:
    """The sequence of the newest message of the stream. Raises Temporary(BUS_AWAY)."""
    with told_as_faults("the event stream could not be asked for its size"):
        info = await bus.stream.stream_info(subjects.EVENTS)
    return info.state.last_seq


async def up_to_now(bus: Bus, after: int = 0) -> AsyncGenerator[list[Stored], None]:
    """Every message above `after` up to the newest of this moment, in batches. Raises Temporary(BUS_AWAY)."""
    last = await last_sequence(bus)
    if after >= last:
        return
    async with aclosing(follow(bus, after)) as batches:
        async for batch in batches:
            wanted = [message for message in batch if message.sequence <= last]
            if wanted:
                yield wanted
            if batch and batch[-1].sequence >= last:
                return


async def follow(bus: Bus, after: int = 0, pause: float = 0.1) -> AsyncGenerator[list[Stored], None]:
    """Every message above `after`, and then each as it comes; an empty batch every `pause` seconds without news.

    A server that is away is waited for. Raises Temporary(BUS_AWAY) when the connection has ended for good.
    """
    while True:
        bus.check()
        delivery = _Delivery(bus)
        try:
            await delivery.start(after)
            async for batch in delivery.batches(pause):
                if batch:
                    after = batch[-1].sequence
                yield batch
        except (*AWAY, nats.errors.Error, Temporary):
            yield []
            await asyncio.sleep(pause)
        finally:
            await delivery.stop()


class _Delivery:
    """One consumer's life: from its making to the first sign that something was not delivered."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._name = f"t-{os.urandom(8).hex()}"
        self._arrived: deque[Msg] = deque()
        self._news = asyncio.Event()
        self._delivered = 0

    async def start(self, after: int) -> None:
        inbox = self._bus.client.new_inbox()
        # The server's flow control bounds what waits here; the client's own limits would drop messages.
        self._subscription = await self._bus.client.subscribe(
            inbox, cb=self._take, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        config = api.ConsumerConfig(
            name=self._name,
            filter_subject=subjects.HISTORIES,
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after + 1,
            deliver_subject=inbox,
            ack_policy=api.AckPolicy.NONE,
            flow_control=True,
            idle_heartbeat=HEARTBEAT,
            mem_storage=True,
            inactive_threshold=10,
        )
        with told_as_faults("the event stream could not be read"):
            await self._bus.stream.add_consumer(subjects.EVENTS, config)

    async def stop(self) -> None:
        with contextlib.suppress(nats.errors.Error, AttributeError, *AWAY):
            await self._subscription.unsubscribe()
        with contextlib.suppress(NotFoundError, nats.errors.Error, *AWAY):
            await self._bus.stream.delete_consumer(subjects.EVENTS, self._name)

    async def _take(self, message: Msg) -> None:
        self._arrived.append(message)
        self._news.set()

    async def batches(self, pause: float) -> AsyncGenerator[list[Stored], None]:
        """Ends when the consumer has to be made anew: a message missing, silence, or a reconnection."""
        reconnects = self._bus.client.stats["reconnects"]
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while self._bus.client.stats["reconnects"] == reconnects and loop.time() - heard < 3 * HEARTBEAT:
            self._bus.check()
            if not self._arrived:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._news.wait()
            self._news.clear()
            heard = loop.time() if self._arrived else heard
            batch, whole = await self._next_batch()
            yield batch
            if not whole:
                return

    async def _next_batch(self) -> tuple[list[Stored], bool]:
        """What has arrived, at most BATCH; and whether nothing was missing before or among it."""
        batch: list[Stored] = []
        while self._arrived and len(batch) < BATCH:
            message = self._arrived.popleft()
            if message.headers and message.headers.get("Status"):
                stalled = message.reply or message.headers.get(_STALLED)
                if stalled:  # everything before this was taken: the server may send on
                    await self._bus.client.publish(stalled)
                continue
            sequence, delivered = _place(message.reply)
            self._delivered += 1
            if delivered != self._delivered:
                return batch, False
            batch.append(Stored(sequence, message.subject, message.data))
        return batch, True


def _place(reply: str) -> tuple[int, int]:
    """(stream sequence, delivery number) of a delivered message, by its reply subject.

    `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<delivery>.<time>.<pending>`; with a domain and an account's
    hash before the stream, two tokens more. The client's own parsing makes a date of the time, for each message.
    """
    tokens = reply.split(".")
    first = 5 if len(tokens) < 11 else 7
    return int(tokens[first]), int(tokens[first + 1])
