"""Appending, reading and following on a real server that loses answers, is killed, is full."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import nats.errors
import pytest
from nats.js import api

from orchestrator import events
from orchestrator.bus import Bus, Histories, connect, direct, subjects
from orchestrator.bus.histories import REMEMBERED
from orchestrator.bus.streams import STREAMS
from orchestrator.events import Fact, Foreign, Recorded
from orchestrator.faults import Code, Permanent, Temporary
from orchestrator.launch import Launch
from orchestrator.lifecycle import Zone
from tests.nats import NatsServer
from tests.simulators.history import POD, History
from tests.simulators.wire import wire


def fact(reason: str = "x", pod: str = POD) -> Fact:
    return Fact(pod, events.StopRequested(reason), Zone.HOST, "test")


def reasons(records: list[Recorded | Foreign]) -> list[str]:
    return [r.fact.body.reason for r in records if isinstance(r, Recorded)]  # type: ignore[union-attr]


async def test_what_is_appended_is_read_back_byte_for_byte_and_folds(bus: Bus) -> None:
    made = History()
    made.up_to_booted()
    for raw in made.raw:
        await bus.stream.publish(subjects.history(POD), raw)
    records = await Histories(bus).read(POD)
    assert [r.statement for r in records] == [r.statement for r in made.records()]  # type: ignore[union-attr]
    launch = await Histories(bus).launch(POD)
    assert replace(launch, sequence=0) == replace(made.launch(), sequence=0)


def _is_new(launch: Launch) -> bool:
    return launch.index == 0


async def test_one_of_fifty_racing_appends_wins_where_only_one_is_allowed(bus: Bus) -> None:
    racers = [Histories(bus) for _ in range(50)]
    told = await asyncio.gather(*(r.append(fact(str(n)), allowed=_is_new) for n, r in enumerate(racers)))
    assert len([t for t in told if t is not None]) == 1
    assert len(await racers[0].read(POD)) == 1


async def test_fifty_racing_appends_that_are_all_allowed_make_one_chain(bus: Bus) -> None:
    racers = [Histories(bus) for _ in range(50)]
    await asyncio.gather(*(r.append(fact(str(n))) for n, r in enumerate(racers)))
    assert sorted(reasons(await racers[0].read(POD)), key=int) == [str(n) for n in range(50)]
    assert (await racers[0].launch(POD)).index == 50


async def test_an_append_that_remembers_an_old_launch_looks_before_it_says_no(bus: Bus) -> None:
    one, two = Histories(bus), Histories(bus)
    await one.append(fact("first"))
    await two.append(fact("second"))
    assert await one.append(fact("third"), allowed=lambda launch: launch.index == 2) is not None


async def test_an_append_whose_answer_is_lost_is_stored_once(server: NatsServer) -> None:
    async with wire(server.port) as line, await server.connect() as other:
        through = replace(server.credentials, url=f"nats://127.0.0.1:{line.port}")
        async with await connect(through, "lossy") as bus:
            histories = Histories(bus)
            await histories.append(fact("heard"))
            line.deaf = True
            appending = asyncio.create_task(histories.append(fact("lost")))
            while len(await Histories(other).read(POD)) < 2:
                await asyncio.sleep(0.02)
            line.cut()
            launch = await appending
        assert launch is not None
        assert launch.index == 2
        assert reasons(await Histories(other).read(POD)) == ["heard", "lost"]


async def test_a_copy_that_the_server_drops_as_a_duplicate_is_settled_by_reading(bus: Bus) -> None:
    """R3 answers a repeated id with `duplicate`, R1 with a conflict; both mean: look."""
    histories = Histories(bus)
    launch = await histories.append(fact("first"))
    assert launch is not None
    id_ = b"i" * 16
    raw = events.encode(fact("second"), 2, launch.head, None, id_)
    assert await histories._publish(POD, raw, launch.sequence, id_) is not None
    again = await bus.stream.publish(subjects.history(POD), raw, headers={"Nats-Msg-Id": id_.hex()})
    assert again.duplicate
    assert await histories._publish(POD, raw, launch.sequence, id_) is None
    assert reasons(await histories.read(POD)) == ["first", "second"]


async def test_appends_go_on_while_the_server_is_killed_again_and_again(server: NatsServer) -> None:
    async with await server.connect() as bus:
        histories = [Histories(bus) for _ in range(4)]

        async def append(who: int) -> None:
            for number in range(40):
                assert await histories[who].append(fact(f"{who}.{number}"), patience=60) is not None
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as tasks:
            for who in range(4):
                tasks.create_task(append(who))
            for _ in range(2):
                await asyncio.sleep(0.3)
                server.kill()
                await asyncio.to_thread(server.start)
        stored = reasons(await Histories(bus).read(POD))
    assert sorted(stored) == sorted(f"{who}.{number}" for who in range(4) for number in range(40))


async def test_an_append_to_a_server_that_stays_away_says_so_when_its_patience_ends(server: NatsServer) -> None:
    async with await server.connect() as bus:
        server.kill()
        with pytest.raises(Temporary) as caught:
            await Histories(bus).append(fact(), patience=0.5)
        assert caught.value.code is Code.BUS_AWAY


async def test_a_full_stream_refuses_for_good_and_the_history_stays_whole(bus: Bus) -> None:
    await bus.stream.delete_stream(subjects.EVENTS)
    await bus.stream.add_stream(STREAMS[0].evolve(max_bytes=4000))
    stored: list[Launch | None] = []

    async def fill() -> None:
        histories = Histories(bus)
        while True:
            stored.append(await histories.append(fact("x" * 200)))

    with pytest.raises(Permanent) as caught:
        await fill()
    assert caught.value.code is Code.BUS_FULL
    assert (await Histories(bus).launch(POD)).index == len(stored) > 3


async def test_a_fact_that_no_reader_would_take_is_refused_before_it_is_stored(bus: Bus) -> None:
    histories = Histories(bus)
    for unwritable in (
        fact("x" * 300_000),
        Fact(POD, events.StopRequested("x"), Zone.HOST, "test", container="../../etc"),
        Fact(POD, events.StopRequested("x"), Zone.HOST, "test", container="a\r\nb: c"),
    ):
        with pytest.raises(Permanent, match="E-INPUT-001"):
            await histories.append(unwritable)
    assert await histories.read(POD) == []


async def test_foreign_messages_are_read_as_foreign_and_an_append_goes_on_behind_them(bus: Bus) -> None:
    histories = Histories(bus)
    await histories.append(fact("first"))
    await bus.stream.publish(subjects.history(POD), b'{"stream":"EV","seq":1}')
    launch = await histories.append(fact("second"))
    assert launch is not None
    assert launch.index == 2
    assert [type(r) for r in await histories.read(POD)] == [Recorded, Foreign, Recorded]


async def test_a_broken_chain_is_refused_by_every_reader_and_appended_to_by_none(bus: Bus) -> None:
    histories = Histories(bus)
    await histories.append(fact())
    await bus.stream.publish(subjects.history(POD), events.encode(fact(), 7, b"", None))
    for attempt in (histories.launch(POD), histories.append(fact()), Histories(bus).launch(POD)):
        with pytest.raises(Permanent, match="E-BUS-003"):
            await attempt


async def test_a_follower_is_given_each_message_once_in_order_and_at_once(server: NatsServer) -> None:
    async with await server.connect() as near, await server.connect() as far:
        histories, late = Histories(near), []
        await histories.append(fact("0"))
        followed: list[Recorded | Foreign] = []

        async def follow() -> None:
            async for message in Histories(far).follow(POD):
                followed.append(message)
                late.append(time.time_ns() - message.fact.at_ns)  # type: ignore[union-attr]
                if len(followed) == 20:
                    return

        following = asyncio.create_task(follow())
        for number in range(1, 20):
            await asyncio.sleep(0.02)
            await histories.append(fact(str(number)))
        await asyncio.wait_for(following, 20)
    assert reasons(followed) == [str(n) for n in range(20)]
    assert sorted(late)[10] < 200_000_000


async def test_a_follower_outlives_its_server(server: NatsServer) -> None:
    async with await server.connect() as near, await server.connect() as far:
        followed: list[Recorded | Foreign] = []

        async def follow() -> None:
            async for message in Histories(far).follow(POD):
                followed.append(message)  # noqa: PERF401 - it never ends

        following = asyncio.create_task(follow())
        await Histories(near).append(fact("before"))
        server.kill()
        await asyncio.to_thread(server.start)
        await Histories(near).append(fact("after"))
        async with asyncio.timeout(20):
            while len(followed) < 2:
                await asyncio.sleep(0.02)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
    assert reasons(followed) == ["before", "after"]


async def test_a_follower_of_an_ended_connection_is_told(bus: Bus) -> None:
    await bus.close()
    with pytest.raises(Temporary, match="E-BUS-001"):
        async for _ in Histories(bus).follow(POD):
            pass


async def test_followers_leave_no_consumer_behind_and_idle_ones_ask_rarely(bus: Bus) -> None:
    await Histories(bus).append(fact())
    following = asyncio.create_task(anext(aiter(Histories(bus).follow(POD, after=1)), None))
    await asyncio.sleep(0.5)
    asked = bus.client.stats["out_msgs"]
    await asyncio.sleep(2)
    assert bus.client.stats["out_msgs"] == asked
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    assert (await bus.stream.stream_info(subjects.EVENTS)).state.consumer_count == 0


async def test_a_reader_of_one_name_finds_what_a_dead_reader_left_under_it(server: NatsServer) -> None:
    """An agent may use one consumer only; its predecessor may have died while it read."""
    async with await connect(replace(server.credentials, reader="pod-x"), "agent") as agent:
        for number in range(3):
            await Histories(agent).append(fact(str(number)))
        dead = api.ConsumerConfig(
            name="pod-x",
            filter_subject=subjects.history(POD),
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=3,
            ack_policy=api.AckPolicy.NONE,
            mem_storage=True,
        )
        await agent.stream.add_consumer(subjects.EVENTS, dead)
        assert reasons(await Histories(agent).read(POD)) == ["0", "1", "2"]
        both = await asyncio.gather(Histories(agent).read(POD), Histories(agent).read(POD, after=1))
    assert [reasons(read) for read in both] == [["0", "1", "2"], ["1", "2"]]


async def test_ten_thousand_facts_are_scanned_in_order_without_being_held_at_once(bus: Bus) -> None:
    sent = [(pod, events.encode(fact(pod=pod), 1, b"", None)) for pod in (f"{n % 1000:064x}" for n in range(10_000))]
    for pod, raw in sent:
        await bus.client.publish(subjects.history(pod), raw)
    await bus.client.flush()
    while (await bus.stream.stream_info(subjects.EVENTS)).state.messages < len(sent):
        await asyncio.sleep(0.05)
    await bus.stream.publish("ev.0.impossible$", b"x")
    scan = Histories(bus).scan()
    first = await anext(scan)
    held = _alive(Recorded)
    pods = [first[0], *[pod async for pod, _ in scan]]
    assert pods == [pod for pod, _ in sent]
    assert held < 2000


def _alive(kind: type[Any]) -> int:
    return sum(type(thing) is kind for thing in gc.get_objects())


async def test_the_memory_of_launches_is_bounded_and_what_is_forgotten_is_read_again(bus: Bus) -> None:
    histories = Histories(bus)
    await histories.append(fact())
    for number in range(REMEMBERED):
        histories._remember(Launch(f"pod-{number}"))
    assert POD not in histories._launches
    assert len(histories._launches) == REMEMBERED
    launch = await histories.append(fact("again"))
    assert launch is not None
    assert launch.index == 2


async def test_a_launch_that_is_remembered_as_late_as_asked_for_is_not_read(bus: Bus) -> None:
    here, there = Histories(bus), Histories(bus)
    told = await here.append(fact())
    assert told is not None
    await there.append(fact("later"))
    asked = bus.client.stats["out_msgs"]
    assert (await here.launch(POD, at_least=told.sequence)).index == 1
    assert bus.client.stats["out_msgs"] == asked
    assert (await here.launch(POD, at_least=told.sequence + 1)).index == 2
    assert (await Histories(bus).launch(POD, at_least=0)).index == 2


async def test_locks_of_pods_that_nobody_touches_are_not_kept(bus: Bus) -> None:
    histories = Histories(bus)
    for number in range(20):
        await histories.append(fact(pod=f"pod-{number}"))
    assert len(histories._locks) == 0


async def test_a_history_of_another_subject_cannot_be_named(bus: Bus) -> None:
    for pod in ("*", ">", "a.b", "", "a b"):
        with pytest.raises(Permanent, match="E-INPUT-001"):
            await Histories(bus).launch(pod)


def test_whose_history_a_subject_is_follows_from_the_subject_alone() -> None:
    assert subjects.pod_of(subjects.history(POD)) == POD
    wrong_shard = f"ev.{(subjects.shard(POD) + 1) % 8}.{POD}"
    for subject in (wrong_shard, POD, f"cmd.pod.{POD}", "ev.0.", f"ev.{subjects.shard(POD)}.x.{POD}", "ev.0.a$b"):
        assert subjects.pod_of(subject) is None


async def test_a_direct_reading_is_of_one_subject_in_order_whatever_its_length(bus: Bus) -> None:
    histories = Histories(bus)
    for number in range(300):
        await histories.append(fact(str(number)))
        await histories.append(fact("other", pod="another"))
    for after in (0, 7):
        stored = await histories.stored(POD, after)
        assert await direct.read(bus, subjects.EVENTS, subjects.history(POD), after) == stored
    assert await direct.read(bus, subjects.EVENTS, subjects.history(POD), stored[-1][0]) == []
    with pytest.raises(nats.errors.Error):
        await direct.read(bus, "NONE", subjects.history(POD), 0)


async def test_what_somebody_else_has_folded_is_appended_to_without_reading(bus: Bus) -> None:
    here, there = Histories(bus), Histories(bus)
    await here.append(fact())
    launch = await here.append(fact())
    assert launch is not None
    there.remember(launch)
    asked = bus.client.stats["out_msgs"]
    assert (await there.append(fact("third"))) is not None
    assert bus.client.stats["out_msgs"] == asked + 1
    there.remember(launch)
    assert there._launches[POD].index == 3
