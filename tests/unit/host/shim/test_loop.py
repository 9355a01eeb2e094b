"""The shim's own loop: what waits is woken, in order, once, by its answer or by its limit."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest

from workers.host.shim.loop import READ, Cancelled, Event, Future, Lock, Loop


def test_tasks_run_in_the_order_in_which_they_are_woken_and_give_their_answers() -> None:
    loop, said, gate = Loop(), list[str](), Event()

    async def wait(name: str) -> str:
        await gate.wait()
        said.append(name)
        return name

    async def main() -> list[str]:
        tasks = [loop.create_task(wait(name)) for name in "abc"]
        await loop.sleep(0)
        assert said == []
        gate.set()
        return [await task.done for task in tasks]

    assert loop.run(main()) == said == ["a", "b", "c"]


def test_a_limit_that_passes_cancels_and_one_that_does_not_leaves_no_trace() -> None:
    loop, left = Loop(), list[str]()

    async def sleeps(seconds: float) -> None:
        try:
            await loop.sleep(seconds)
        except Cancelled:
            left.append("cancelled")
            raise

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with loop.timeout(0.01):
                await sleeps(60)
        async with loop.timeout(60):
            await sleeps(0.01)
        async with loop.timeout(None):
            await sleeps(0)

    began = time.monotonic()
    loop.run(main())
    assert left == ["cancelled"]
    assert time.monotonic() - began < 30


def test_a_limit_that_passes_while_its_work_ends_cancels_nothing_later() -> None:
    loop = Loop()

    async def main() -> str:
        async with loop.timeout(0.01):
            time.sleep(0.02)  # the work itself takes longer, and waits no more
            await done_already()
        await loop.sleep(0.02)
        return "done"

    async def done_already() -> None:
        future: Future[None] = Future()
        future.set_result(None)
        await future

    assert loop.run(main()) == "done"


def test_limits_that_were_not_reached_are_not_kept_until_their_time() -> None:
    loop = Loop()

    async def main() -> None:
        for _ in range(1_000):
            async with loop.timeout(10**6):
                await loop.sleep(0)

    loop.run(main())
    assert len(loop._timers) < 100


def test_a_limit_of_centuries_is_one() -> None:
    loop = Loop()

    async def main() -> str:
        async with loop.timeout(2.0**63 / 1e9):
            await loop.sleep(0.01)
        return "ended"

    assert loop.run(main()) == "ended"


def test_a_lock_is_handed_on_in_order_also_past_one_that_gave_up() -> None:
    loop, lock, said = Loop(), Lock(), list[str]()

    async def hold(name: str, limit: float | None) -> None:
        try:
            async with loop.timeout(limit), lock:
                said.append(name)
                await loop.sleep(0.03)
        except TimeoutError:
            said.append(f"{name} gave up")

    async def main() -> None:
        tasks = [
            loop.create_task(hold(name, limit)) for name, limit in (("a", None), ("b", 0.01), ("c", None), ("d", None))
        ]
        for task in tasks:
            await task.done

    loop.run(main())
    assert said == ["a", "b gave up", "c", "d"]


def test_a_defect_of_a_task_that_nobody_watches_ends_the_loop_and_that_of_a_watched_one_is_its_answer() -> None:
    loop = Loop()

    async def defect() -> None:
        raise KeyError("x")

    async def main() -> None:
        task = loop.create_task(defect())
        task.watched = True
        with pytest.raises(KeyError):
            await task.done
        loop.create_task(defect())
        await loop.sleep(60)

    with pytest.raises(KeyError):
        loop.run(main())


def test_a_descriptor_is_told_of_until_it_is_watched_no_more() -> None:
    loop, seen = Loop(), list[bytes]()
    near, far = os.pipe()

    async def main() -> None:
        came = Event()

        def readable(_: int) -> None:
            seen.append(os.read(near, 1))
            came.set()

        loop.watch(near, READ, readable)
        os.write(far, b"ab")
        while len(seen) < 2:
            came.clear()
            await came.wait()
        loop.unwatch(near)
        loop.unwatch(near)
        os.write(far, b"c")
        await loop.sleep(0.02)

    loop.run(main())
    assert seen == [b"a", b"b"]
    os.close(near)
    os.close(far)


async def test_asyncio_awaits_its_events_and_locks_and_cancels_who_waits() -> None:
    event, lock = Event(), Lock()
    waiting = [asyncio.create_task(event.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.sleep(0)
    event.set()
    told: list[Any] = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in told] == [type(None), asyncio.CancelledError, type(None)]

    async def hold() -> None:
        async with lock:
            await asyncio.sleep(0.01)

    first, second, third = (asyncio.create_task(hold()) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait_for(asyncio.gather(first, third), 5)
    assert second.cancelled()
