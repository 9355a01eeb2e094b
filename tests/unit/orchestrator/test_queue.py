"""The work queue on a real server: once stored, given until acknowledged, and nothing disappears."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.js.errors import NotFoundError
from structlog.testing import capture_logs

from orchestrator.bus import Bus, Delivery, WorkQueue, ensure_streams, subjects
from orchestrator.bus.queue import MAX_DELIVERIES
from orchestrator.bus.streams import COMMAND_AGE, STREAMS
from orchestrator.events import Command
from orchestrator.faults import Code, Temporary
from orchestrator.lifecycle import BY_NAME
from tests.nats import NatsServer, until
from tests.simulators.history import NODE, POD

SUBJECT = subjects.host_command(NODE, "create_sandbox", POD)
CONSUMER = subjects.host_consumer(NODE)


def command(attempt: int = 1) -> Command:
    return Command(POD, "", "create_sandbox", attempt, 1, 2**62)


@pytest.fixture
async def queue(bus: Bus) -> WorkQueue:
    queue = WorkQueue(bus)
    await queue.ensure_consumer(CONSUMER, subjects.host_commands(NODE))
    return queue


async def take(queue: WorkQueue, count: int = 1) -> list[Delivery]:
    taken: list[Delivery] = []
    async with asyncio.timeout(15):
        deliveries: AsyncIterator[Delivery] = queue.deliveries(CONSUMER)
        async for delivery in deliveries:
            taken.append(delivery)
            if len(taken) == count:
                break
    return taken


async def stored(bus: Bus, stream: str = subjects.COMMANDS) -> int:
    return (await bus.stream.stream_info(stream)).state.messages


async def test_a_step_is_stored_once_however_often_it_is_published(bus: Bus, queue: WorkQueue) -> None:
    for _ in range(5):
        await queue.publish(SUBJECT, command())
    await queue.publish(SUBJECT, command(attempt=2))
    assert await stored(bus) == 2


async def test_an_acknowledged_command_is_gone_and_another_is_given_again(bus: Bus, queue: WorkQueue) -> None:
    await queue.publish(SUBJECT, command())
    (first,) = await take(queue)
    await first.later(0.05)
    (second,) = await take(queue)
    assert (second.command, second.sequence) == (command(), first.sequence)
    await second.done()
    assert await stored(bus) == 0


async def test_a_command_of_a_worker_that_died_is_given_to_the_next(server: NatsServer, queue: WorkQueue) -> None:
    await queue.publish(SUBJECT, command())
    async with await server.connect("doomed") as doomed:
        await take(WorkQueue(doomed))
    (again,) = await take(queue)
    assert again.command == command()


async def test_a_command_that_shows_signs_of_life_is_not_given_to_another(queue: WorkQueue) -> None:
    await queue.publish(SUBJECT, command())
    (delivery,) = await take(queue)

    async def alive() -> None:
        for _ in range(4):
            await asyncio.sleep(1.5)
            await delivery.working()

    taking = asyncio.create_task(take(queue))
    await alive()
    assert not taking.done()
    taking.cancel()


async def test_commands_survive_a_killed_server(server: NatsServer, queue: WorkQueue) -> None:
    await queue.publish(SUBJECT, command())
    server.kill()
    await asyncio.to_thread(server.start)
    (delivery,) = await take(queue)
    assert delivery.command == command()


async def test_what_ran_out_of_deliveries_is_told_to_the_dead_letters(bus: Bus, queue: WorkQueue) -> None:
    await queue.publish(SUBJECT, command())
    for _ in range(MAX_DELIVERIES):
        (delivery,) = await take(queue)
        await delivery.later(0)
    waiting = asyncio.create_task(take(queue))  # the server finds out when it is asked for more
    await until(lambda: stored(bus, subjects.DEAD_LETTERS))
    assert not waiting.done()
    waiting.cancel()
    letter = json.loads((await bus.stream.get_msg(subjects.DEAD_LETTERS, seq=1)).data or b"{}")
    assert letter["type"] == "io.nats.jetstream.advisory.v1.max_deliver"
    assert (letter["stream_seq"], letter["deliveries"]) == (delivery.sequence, MAX_DELIVERIES)


async def test_what_is_no_command_is_told_to_the_dead_letters_and_stops_no_worker(bus: Bus, queue: WorkQueue) -> None:
    await bus.stream.publish(SUBJECT, b"\xff\xff\xff")
    await queue.publish(SUBJECT, command())
    (delivery,) = await take(queue)
    assert delivery.command == command()
    await until(lambda: stored(bus, subjects.DEAD_LETTERS))


async def test_a_full_queue_says_so_at_once_and_may_be_tried_again(bus: Bus) -> None:
    await bus.stream.delete_stream(subjects.COMMANDS)
    await bus.stream.add_stream(STREAMS[1].evolve(max_bytes=500))

    async def fill() -> None:
        for attempt in range(1, 50):
            await WorkQueue(bus).publish(SUBJECT, command(attempt))

    with pytest.raises(Temporary) as caught:
        await fill()
    assert caught.value.code is Code.BUS_FULL


async def test_a_queue_that_is_away_says_so(server: NatsServer, bus: Bus) -> None:
    await bus.stream.delete_stream(subjects.COMMANDS)
    for call in (
        WorkQueue(bus).publish(SUBJECT, command()),
        WorkQueue(bus).ensure_consumer("x", SUBJECT),
    ):
        with pytest.raises(Exception, match="E-") as caught:
            await call
        assert caught.value.code in {Code.BUS_AWAY, Code.RUNTIME}  # type: ignore[attr-defined]


async def test_a_consumer_is_made_once_and_removed_once(bus: Bus, queue: WorkQueue) -> None:
    await queue.ensure_consumer(CONSUMER, subjects.host_commands(NODE))
    await queue.remove_consumer(CONSUMER)
    await queue.remove_consumer(CONSUMER)
    with pytest.raises(NotFoundError):
        await bus.stream.consumer_info(subjects.COMMANDS, CONSUMER)


async def test_deliveries_end_when_the_connection_has_ended_for_good(bus: Bus, queue: WorkQueue) -> None:
    taking = asyncio.create_task(take(queue))
    await asyncio.sleep(0.2)
    await bus.client.close()
    with pytest.raises(Temporary, match="E-BUS-001"):
        await taking


async def test_streams_that_exist_are_left_as_they_are(bus: Bus) -> None:
    await bus.stream.delete_stream(subjects.COMMANDS)
    await bus.stream.add_stream(STREAMS[1].evolve(max_bytes=777_777))
    await asyncio.gather(*(ensure_streams(bus) for _ in range(5)))
    assert (await bus.stream.stream_info(subjects.COMMANDS)).config.max_bytes == 777_777


async def test_streams_as_they_were_made_differ_in_nothing_and_a_leaky_one_is_told(bus: Bus) -> None:
    with capture_logs() as logs:
        await ensure_streams(bus)
    assert logs == []
    await bus.stream.delete_stream(subjects.EVENTS)
    await bus.stream.add_stream(STREAMS[0].evolve(deny_purge=False, max_msgs=10))
    with capture_logs() as logs:
        await ensure_streams(bus)
    assert {(entry["stream"], entry["member"]) for entry in logs} == {("EV", "deny_purge"), ("EV", "max_msgs")}


async def test_streams_are_made_once_by_many_at_the_same_time(server: NatsServer, bus: Bus) -> None:
    for config in STREAMS:
        await bus.stream.delete_stream(str(config.name))
    async with await server.connect() as other:
        await asyncio.gather(*(ensure_streams(b) for b in (bus, other) * 5))
    found: dict[str, Any] = {c.name: (await bus.stream.stream_info(str(c.name))).config for c in STREAMS}
    assert (found["EV"].deny_delete, found["EV"].deny_purge, found["EV"].max_bytes) == (True, True, 4 << 30)
    assert found["CMD"].max_age == COMMAND_AGE


def test_no_command_is_dropped_while_somebody_may_await_it() -> None:
    assert 2 * max(row.deadline for row in BY_NAME.values()) < COMMAND_AGE
