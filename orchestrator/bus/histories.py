"""Histories on the stream EV: append on the condition that nothing came since, read, follow.

Zone: host and enclave. May import: `nats`, `orchestrator.{events,faults,fold,launch,lifecycle}`, `orchestrator.bus`.

An append names the last sequence of exactly its pod's subject. Who loses a race reads what came, decides again and
tries again. An append whose answer was lost is settled by reading: the message is there, by its id, or it is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Final
from weakref import WeakValueDictionary

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import api
from nats.js.errors import APIError, BadRequestError, NotFoundError

from orchestrator import events
from orchestrator.bus import direct, subjects
from orchestrator.bus.connection import AWAY, STORE_FULL, Bus, told_as_faults
from orchestrator.events import Fact, Foreign, Recorded
from orchestrator.faults import Code, Permanent, Temporary
from orchestrator.fold import apply
from orchestrator.launch import Launch, new
from orchestrator.lifecycle import State

WRONG_LAST_SEQUENCE: Final = 10071
CANNOT_ALTER: Final = 10012
REMEMBERED: Final = 4096
"""Launches kept in memory, the last used ones. Whatever is forgotten is read again: a millisecond."""

LOOK: Final = 15.0
"""Seconds between two looks of a follower whom nothing woke."""

LOOK_AGAIN: Final = 0.004
"""Seconds until the second look of one who was woken and found nothing: the publication may not be stored yet."""

_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_PAGE: Final = 256


def always(_: Launch) -> bool:
    """The condition of an append that is right whatever else happened."""
    return True


class Histories:
    """Reads and appends histories; remembers the launches it has seen, so that an append needs no reading first."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._launches: OrderedDict[str, Launch] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def launch(self, pod: str, at_least: int | None = None) -> Launch:
        """The launch as of now; with `at_least`, as of that stream sequence or later, which may need no reading.

        Raises Temporary(BUS_AWAY), Permanent(BUS_HISTORY) for a broken chain.
        """
        async with self._lock(pod):
            if at_least is not None:
                launch = self._launches.get(pod)
                if launch is None or launch.sequence < at_least:
                    launch = launch or new(pod)
                    for sequence, data in await self._latest(pod, launch.sequence):
                        launch = apply(launch, events.read(sequence, data))
                if launch.sequence >= at_least:
                    return self._remember(launch)
            return (await self._catch_up(pod))[0]

    def remember(self, launch: Launch) -> None:
        """Take over what somebody else has folded: the next append needs no reading. What is older is left alone."""
        known = self._launches.get(launch.pod)
        if known is None or known.sequence < launch.sequence:
            self._remember(launch)

    def forget(self, pod: str) -> None:
        """Drop what is remembered of a pod."""
        self._launches.pop(pod, None)

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
        Permanent(BUS_FULL), Permanent(INPUT) for a fact that cannot be recorded, Permanent(BUS_HISTORY) as `launch`,
        Permanent(NOT_ALLOWED) for a role that may not append.
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
        launch, fresh = self._launches.get(pod), False
        while True:
            if launch is None:
                try:
                    launch, news = await self._catch_up(pod)
                except Temporary:
                    await asyncio.sleep(0.1)
                    continue
                fresh = True
                if any(isinstance(message, Recorded) and message.id == id_ for message in news):
                    return launch
            if not allowed(launch):
                if fresh:
                    return None
                launch = None  # what is remembered may be old: look before saying no
                continue
            raw = events.encode(fact, launch.index + 1, launch.head, sign, id_)
            sequence = await self._publish(pod, raw, launch.sequence, id_)
            if sequence is not None:
                return self._remember(apply(launch, events.decode(sequence, raw)))
            launch = None

    async def _publish(self, pod: str, raw: bytes, last: int, id_: bytes) -> int | None:
        """The sequence at which the message is stored. None: something came before it, or nobody knows; read."""
        headers = {_EXPECTED: str(last), "Nats-Msg-Id": id_.hex()}
        try:
            with told_as_faults(f"a fact of pod {pod} could not be stored"):
                try:
                    ack = await self._bus.stream.publish(subjects.history(pod), raw, headers=headers, timeout=5)
                except BadRequestError as error:
                    if error.err_code == WRONG_LAST_SEQUENCE:
                        return None
                    raise
                except APIError as error:
                    if error.err_code == STORE_FULL:
                        raise _full() from error
                    raise
        except Temporary:
            self._bus.check_not_denied(subjects.history(pod))
            await asyncio.sleep(0.1)
            return None
        # A duplicate answers with the sequence of the first copy; reading settles what lies between.
        return None if ack.duplicate else ack.seq

    async def _catch_up(self, pod: str) -> tuple[Launch, list[Recorded | Foreign]]:
        """The launch as of now, and what was new. The caller holds the pod's lock."""
        launch = self._launches.get(pod) or new(pod)
        news = await self.read(pod, after=launch.sequence)
        for message in news:
            launch = apply(launch, message)
        return self._remember(launch), news

    def _remember(self, launch: Launch) -> Launch:
        if launch.progress.state is State.GONE:  # whoever still asks is few; whoever launches pods is many
            self.forget(launch.pod)
            return launch
        self._launches[launch.pod] = launch
        self._launches.move_to_end(launch.pod)
        if len(self._launches) > REMEMBERED:
            self._launches.popitem(last=False)
        return launch

    async def read(self, pod: str, after: int = 0) -> list[Recorded | Foreign]:
        """The pod's messages with a stream sequence above `after`, in order. Raises Temporary(BUS_AWAY)."""
        return [events.read(sequence, data) for sequence, data in await self.stored(pod, after)]

    async def stored(self, pod: str, after: int = 0) -> list[tuple[int, bytes]]:
        """The same as (sequence, exact bytes). Raises Temporary(BUS_AWAY)."""
        reader = self._bus.credentials.reader
        with _read_in_time(pod):
            async with asyncio.timeout(10), self._bus.reading if reader else contextlib.nullcontext():
                return await self._read(subjects.history(pod), after, reader)

    async def _latest(self, pod: str, after: int) -> list[tuple[int, bytes]]:
        """As `stored`, quicker, and in a cluster perhaps without the last ones: see `direct`."""
        if self._bus.credentials.reader:
            return await self.stored(pod, after)
        with _read_in_time(pod):
            async with asyncio.timeout(10):
                return await direct.read(self._bus, subjects.EVENTS, subjects.history(pod), after)

    async def _read(self, subject: str, after: int, reader: str) -> list[tuple[int, bytes]]:
        async with aclosing(self._messages(subject, after, reader)) as messages:
            return [(message.metadata.sequence.stream, message.data) async for message in messages]

    async def _messages(self, subject: str, after: int, reader: str) -> AsyncGenerator[Msg, None]:
        """By an ephemeral consumer on the exact subject: the one way of reading that permissions can narrow to it."""
        stream, name = self._bus.stream, reader or f"r-{os.urandom(8).hex()}"
        config = _reader(name, subject, after)
        try:
            info = await stream.add_consumer(subjects.EVENTS, config)
        except APIError as error:
            if error.err_code != CANNOT_ALTER:
                raise
            # The consumer of that name was left by a reader who died; it starts elsewhere and cannot be altered.
            await stream.delete_consumer(subjects.EVENTS, name)
            info = await stream.add_consumer(subjects.EVENTS, config)
        left = info.num_pending or 0
        try:
            if left:
                subscription = await stream.pull_subscribe_bind(consumer=name, stream=subjects.EVENTS)
                try:
                    while left:
                        batch = await subscription.fetch(min(_PAGE, left), timeout=5)
                        left -= len(batch)
                        for message in batch:
                            yield message
                finally:
                    await subscription.unsubscribe()
        finally:
            with contextlib.suppress(NotFoundError, *AWAY):
                await stream.delete_consumer(subjects.EVENTS, name)

    async def scan(self, after: int = 0) -> AsyncGenerator[tuple[str, Recorded | Foreign], None]:
        """Every message of every history above `after` up to now, in the order of the stream, each with its pod.

        Messages on a subject that is nobody's are left out. Raises Temporary(BUS_AWAY), possibly half-way.
        """
        with told_as_faults("the histories could not be read"):
            async with aclosing(self._messages(subjects.HISTORIES, after, "")) as messages:
                async for message in messages:
                    pod = subjects.pod_of(message.subject)
                    if pod is not None:
                        yield pod, events.read(message.metadata.sequence.stream, message.data)

    async def pods(self) -> list[str]:
        """The ids of all pods that have a history, in no order. Raises Temporary(BUS_AWAY)."""
        with told_as_faults("the list of histories could not be read"):
            info = await self._bus.stream.stream_info(subjects.EVENTS, subjects_filter=subjects.HISTORIES)
        return [pod for subject in info.state.subjects or {} if (pod := subjects.pod_of(subject)) is not None]

    async def follow(self, pod: str, after: int = 0) -> AsyncIterator[Recorded | Foreign]:
        """The pod's messages above `after` and then each as it comes, until the caller stops iterating.

        A publication on the subject only wakes us: what counts is what was stored, so it is read from the stream. We
        look again after a reconnection, and now and then. Raises Temporary(BUS_AWAY) when the connection has ended.
        """
        news = asyncio.Event()

        async def wake(_: Msg) -> None:
            news.set()

        with told_as_faults(f"pod {pod} could not be followed"):
            subscription: Subscription = await self._bus.client.subscribe(subjects.history(pod), cb=wake)
        pause = LOOK
        try:
            while True:
                self._bus.check()
                news.clear()
                reconnects = self._bus.client.stats["reconnects"]
                found: list[Recorded | Foreign] = []
                with contextlib.suppress(Temporary):
                    found = [events.read(*message) for message in await self._latest(pod, after)]
                    pause = LOOK if found else pause
                for message in found:
                    after = message.sequence
                    yield message
                woken = await self._woken(news, reconnects, pause)
                pause = LOOK_AGAIN if woken else min(pause * 4, LOOK)
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def _woken(self, news: asyncio.Event, reconnects: int, seconds: float) -> bool:
        """Wait so many seconds for news or a reconnection, and say whether there was one."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while (left := ends - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 0.5)):
                    await news.wait()
            self._bus.check()
            if news.is_set() or self._bus.client.stats["reconnects"] != reconnects:
                return True
        return False

    def _lock(self, pod: str) -> asyncio.Lock:
        lock = self._locks.get(pod)
        if lock is None:
            self._locks[pod] = lock = asyncio.Lock()
        return lock


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


@contextlib.contextmanager
def _read_in_time(pod: str) -> Iterator[None]:
    try:
        yield
    except (*AWAY, nats.errors.Error) as error:
        raise _away(f"the history of pod {pod} could not be read", 10) from error


def _full() -> Permanent:
    return Permanent(
        Code.BUS_FULL,
        "the event stream is full",
        expected="room for one more fact",
        got="max_bytes reached",
        advice="export and archive old histories, or give the stream more room",
    )


def _away(what: str, seconds: float) -> Temporary:
    return Temporary(
        Code.BUS_AWAY,
        what,
        expected=f"an answer of the event stream within {seconds:g} s",
        got="none",
        advice="see whether nats-server runs and JetStream is ready (`enclave-cc status`)",
    )
