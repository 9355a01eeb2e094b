"""Whoever only looks is given every message once, in order, whatever happens to the server meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from orchestrator.bus import Bus, subjects
from orchestrator.bus.tail import BATCH, tail
from orchestrator.events import Foreign
from orchestrator.faults import Code, Temporary
from tests.nats import NatsServer, until
from tests.simulators.history import POD, History


async def store(bus: Bus, history: History) -> None:
    for raw in history.raw:
        await bus.stream.publish(subjects.history(history.pod), raw)


class Reader:
    """Collects what a tail gives; `caught_up` counts the empty batches."""

    def __init__(self, bus: Bus, after: int = 0) -> None:
        self.seen: list[tuple[str, int]] = []
        self.foreign = 0
        self.longest = 0
        self.caught_up = 0
        self.task = asyncio.create_task(self._read(bus, after))

    async def _read(self, bus: Bus, after: int) -> None:
        async with aclosing(tail(bus, after)) as batches:
            async for batch in batches:
                self.seen += [(pod, message.sequence) for pod, message in batch]
                self.foreign += sum(isinstance(message, Foreign) for _, message in batch)
                self.longest = max(self.longest, len(batch))
                self.caught_up += not batch

    async def has(self, count: int) -> None:
        async def enough() -> bool:
            return len(self.seen) >= count

        await until(enough)


@pytest.fixture
async def history() -> History:
    history = History()
    history.up_to_attested()
    return history


async def test_what_was_there_comes_first_and_then_what_comes(bus: Bus, history: History) -> None:
    await store(bus, history)
    reader = Reader(bus)
    await reader.has(4)
    other = History("aa" * 32)
    other.requested()
    await store(bus, other)
    await reader.has(5)
    reader.task.cancel()
    assert reader.seen == [(POD, 1), (POD, 2), (POD, 3), (POD, 4), ("aa" * 32, 5)]
    assert reader.caught_up >= 1


async def test_a_long_history_comes_in_batches_each_message_once(bus: Bus) -> None:
    for number in range(BATCH + 40):
        await bus.client.publish(subjects.history(f"p{number % 7}"), b"garbage")
    await bus.client.flush()
    reader = Reader(bus)
    await reader.has(BATCH + 40)
    reader.task.cancel()
    assert [sequence for _, sequence in reader.seen] == list(range(1, BATCH + 41))
    assert (reader.longest, reader.foreign) == (BATCH, BATCH + 40)


async def test_it_goes_on_from_where_one_was(bus: Bus, history: History) -> None:
    await store(bus, history)
    reader = Reader(bus, after=3)
    await reader.has(1)
    reader.task.cancel()
    assert reader.seen == [(POD, 4)]


async def test_what_came_while_the_server_was_away_is_not_missed(server: NatsServer, history: History) -> None:
    async with await server.connect("reader") as bus:
        reader = Reader(bus)

        async def idle() -> bool:
            return reader.caught_up > 0

        await until(idle)
        server.kill()
        server.start()
        async with await server.connect("writer") as writer:
            await store(writer, history)
        await reader.has(4)
        reader.task.cancel()
        assert [sequence for _, sequence in reader.seen] == [1, 2, 3, 4]


async def test_a_connection_that_ended_is_told_and_not_waited_for(server: NatsServer) -> None:
    bus = await server.connect("reader")
    reader = Reader(bus)

    async def idle() -> bool:
        return reader.caught_up > 0

    await until(idle)
    await bus.close()
    with pytest.raises(Temporary) as away:
        await asyncio.wait_for(reader.task, 20)
    assert away.value.code is Code.BUS_AWAY
