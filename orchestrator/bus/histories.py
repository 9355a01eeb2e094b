"""Histories on the stream EV: append on the condition that nothing came since, read, follow.

Zone: host and enclave. May import: `nats`, `orchestrator.{events,faults,fold,launch}`, `orchestrator.bus`.

An append names the last sequence of exactly its pod's subject. Who loses a race reads what came, decides again and
tries again. An append whose answer was lost is settled by reading: the message is there, by its id, or it is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import api
from nats.js.errors import APIError, BadRequestError, NotFoundError

from orchestrator import events
from orchestrator.bus import subjects
from orchestrator.bus.connection import AWAY, Bus
from orchestrator.events import Fact, Foreign, Recorded
from orchestrator.faults import Code, Permanent, Temporary
from orchestrator.fold import apply
from orchestrator.launch import Launch, new

WRONG_LAST_SEQUENCE: Final = 10071
STORE_FULL: Final = 10077
_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"


def always(_: Launch) -> bool:
    """The condition of an append that is right whatever else happened."""
    return True


class Histories:
    """Reads and appends histories; remembers the launches it has seen, so that an append needs no reading first."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._launches: dict[str, Launch] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def launch(self, pod: str) -> Launch:
        """The launch as of now. Raises Temporary(BUS_AWAY), Permanent(BUS_HISTORY) for a broken chain."""
        async with self._lock(pod):
            await self._catch_up(pod)
            return self._launches[pod]

    def forget(self, pod: str) -> None:
        """Drop what is remembered of a pod."""
        self._launches.pop(pod, None)
        self._locks.pop(pod, None)

    async def append(
        self,
        fact: Fact,
        *,
        allowed: Callable[[Launch], bool] = always,
        sign: Callable[[bytes], bytes] | None = None,
        patience: float = 60,
    ) -> Launch | None:
        """Store `fact` once, if `allowed` says so of the launch it would be appended to; else return None.

        `allowed` may be asked several times. Returns the launch after the append. Raises Temporary(BUS_AWAY) when the
        bus is away for longer than `patience` seconds; the fact may then have been stored or not. Raises
        Permanent(BUS_FULL).
        """
        try:
            async with asyncio.timeout(patience), self._lock(fact.pod):
                return await self._append(fact, allowed, sign)
        except TimeoutError as error:
            raise _away(f"a fact of pod {fact.pod} could not be stored", patience) from error

    async def _append(
        self, fact: Fact, allowed: Callable[[Launch], bool], sign: Callable[[bytes], bytes] | None
    ) -> Launch | None:
        pod, id_ = fact.pod, os.urandom(16)
        known = pod in self._launches
        while True:
            if not known:
                try:
                    if any(isinstance(r, Recorded) and r.id == id_ for r in await self._catch_up(pod)):
                        return self._launches[pod]
                except Temporary:
                    await asyncio.sleep(0.1)
                    continue
            launch = self._launches[pod]
            if not allowed(launch):
                if not known:
                    return None
                known = False  # what is remembered may be old: look before saying no
                continue
            raw = events.encode(fact, launch.index + 1, launch.head, sign, id_)
            try:
                sequence = await self._publish(pod, raw, launch.sequence, id_)
            except AWAY:
                await asyncio.sleep(0.1)
            else:
                if sequence is not None:
                    self._launches[pod] = apply(launch, events.decode(sequence, raw))
                    return self._launches[pod]
            known = False

    async def _publish(self, pod: str, raw: bytes, last: int, id_: bytes) -> int | None:
        """The sequence at which the message is stored, or None when something came before it."""
        headers = {_EXPECTED: str(last), "Nats-Msg-Id": id_.hex()}
        try:
            ack = await self._bus.stream.publish(subjects.history(pod), raw, headers=headers, timeout=5)
        except BadRequestError as error:
            if error.err_code == WRONG_LAST_SEQUENCE:
                return None
            raise
        except APIError as error:
            if error.err_code == STORE_FULL:
                raise Permanent(
                    Code.BUS_FULL,
                    "the event stream is full",
                    expected="room for one more fact",
                    got="max_bytes reached",
                    advice="export and archive old histories, or give the stream more room",
                ) from error
            raise
        # A duplicate answers with the sequence of the first copy; reading settles what lies between.
        return None if ack.duplicate else ack.seq

    async def _catch_up(self, pod: str) -> list[Recorded | Foreign]:
        launch = self._launches.get(pod) or new(pod)
        news = await self.read(pod, after=launch.sequence)
        for recorded in news:
            launch = apply(launch, recorded)
        self._launches[pod] = launch
        return news

    async def read(self, pod: str, after: int = 0) -> list[Recorded | Foreign]:
        """The pod's messages with a stream sequence above `after`, in order. Raises Temporary(BUS_AWAY)."""
        try:
            async with asyncio.timeout(10):
                raw = await self._read(subjects.history(pod), after, self._bus.credentials.reader)
        except (*AWAY, nats.errors.Error) as error:
            raise _away(f"the history of pod {pod} could not be read", 10) from error
        return [events.read(sequence, data) for sequence, data in raw]

    async def _read(self, subject: str, after: int, reader: str) -> list[tuple[int, bytes]]:
        """By an ephemeral consumer on the exact subject: the one way of reading that permissions can narrow to it."""
        stream, name = self._bus.stream, reader or f"r-{os.urandom(8).hex()}"
        info = await stream.add_consumer(subjects.EVENTS, _reader(name, subject, after))
        found: list[tuple[int, bytes]] = []
        try:
            if info.num_pending:
                subscription = await stream.pull_subscribe_bind(consumer=name, stream=subjects.EVENTS)
                try:
                    while len(found) < info.num_pending:
                        batch = await subscription.fetch(min(256, info.num_pending - len(found)), timeout=5)
                        found += [(m.metadata.sequence.stream, m.data) for m in batch]
                finally:
                    await subscription.unsubscribe()
        finally:
            with contextlib.suppress(NotFoundError, *AWAY):
                await stream.delete_consumer(subjects.EVENTS, name)
        return found

    async def scan(self) -> AsyncIterator[tuple[int, bytes]]:
        """Every message of every history up to now, in the order of the stream: `(sequence, bytes)`."""
        for sequence, data in await self._read("ev.*.*", 0, ""):
            yield sequence, data

    async def follow(self, pod: str, after: int = 0) -> AsyncIterator[Recorded | Foreign]:
        """The pod's messages above `after` and then each as it comes, until the caller stops iterating.

        A publication on the subject only wakes us: what counts is what was stored, so it is read from the stream. A
        look every second covers a server that restarted under us.
        """
        news = asyncio.Event()

        async def wake(_: Msg) -> None:
            news.set()

        subscription: Subscription = await self._bus.client.subscribe(subjects.history(pod), cb=wake)
        try:
            while True:
                news.clear()
                with contextlib.suppress(Temporary):
                    for recorded in await self.read(pod, after):
                        after = recorded.sequence
                        yield recorded
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), 1)
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    def _lock(self, pod: str) -> asyncio.Lock:
        return self._locks.setdefault(pod, asyncio.Lock())


def _reader(name: str, subject: str, after: int) -> api.ConsumerConfig:
    return api.ConsumerConfig(
        name=name,
        filter_subject=subject,
        deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        ack_policy=api.AckPolicy.NONE,
        mem_storage=True,
        inactive_threshold=10,
    )


def _away(what: str, seconds: float) -> Temporary:
    return Temporary(
        Code.BUS_AWAY,
        what,
        expected=f"an answer of the event stream within {seconds:g} s",
        got="none",
        advice="see whether nats-server runs and JetStream is ready (`enclave-cc status`)",
    )
