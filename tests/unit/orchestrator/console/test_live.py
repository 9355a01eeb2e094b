"""News reaches whoever listens, and only of what they asked for; nobody can hold the console up by listening."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2

from orchestrator.console.live import MOST_LISTENERS, News
from tests.simulators.history import POD, History
from tests.unit.orchestrator.console.conftest import Browser


async def lines(answer: httpx2.Response) -> AsyncIterator[str]:
    async for line in answer.aiter_lines():
        if line.startswith("event:"):
            yield line.removeprefix("event: ")


async def test_a_new_fact_is_news_to_those_who_follow_its_launch_or_all(browser: Browser) -> None:
    history, other = History(), History("bb" * 32)
    history.requested()
    other.requested()
    await browser.tell(history, other)
    heard: dict[str, list[str]] = {"": [], POD: [], "bb" * 32: []}
    ready = asyncio.Semaphore(0)

    async def hear(pod: str) -> None:
        async with browser.http.stream(
            "GET", f"/live?pod={pod}&seen={browser.console.index.sequence}", timeout=20
        ) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for event in lines(answer):
                heard[pod].append(event)
                ready.release()

    tasks = [asyncio.create_task(hear(pod)) for pod in heard]
    async with asyncio.timeout(20):
        for _ in heard:
            await ready.acquire()
        history.sandboxed()
        await browser.tell(history)
        for _ in range(2):
            await ready.acquire()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert heard == {"": ["ready", "news"], POD: ["ready", "news"], "bb" * 32: ["ready"]}


async def test_much_at_once_is_told_once() -> None:
    news = News()
    stream = news.listen()
    assert b"ready" in await anext(stream)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    for _ in range(1000):
        news.publish({POD})
    assert b"news" in await waiting
    again = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(1)
    assert not again.done()
    news.close()
    assert await asyncio.gather(again, return_exceptions=True) != [b"event: news"]


async def test_listeners_are_bounded_and_forgotten_when_they_go() -> None:
    news = News()
    streams = [news.listen() for _ in range(MOST_LISTENERS)]
    for stream in streams:
        await anext(stream)
    assert news.full
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert not news.full


async def test_a_console_that_stops_does_not_wait_for_listeners(start) -> None:
    browser = await start()
    await browser.enter()
    async with browser.http.stream("GET", "/live?seen=0") as answer:
        events = lines(answer)
        assert await anext(events) == "ready"
        browser.console.stop()
        async with asyncio.timeout(30):
            assert [event async for event in events] == []


async def test_ready_is_said_once_all_histories_were_read(stranger: Browser) -> None:
    answer = await stranger.http.get("/ready")
    assert (answer.status_code, answer.text) == (200, "ready\n")


async def test_who_listens_late_is_told_at_once_what_came_meanwhile(browser: Browser) -> None:
    history = History()
    history.requested()
    await browser.tell(history)
    for seen in ("", "0", "nonsense"):
        async with browser.http.stream("GET", f"/live?seen={seen}") as answer:
            events = lines(answer)
            assert [await anext(events), await anext(events)] == ["ready", "news"]
    assert 'data-live="/live?seen=1"' in await browser.see("/launches")
