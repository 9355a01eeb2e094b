"""News to browsers: server-sent events that say "something changed", never what.

Zone: host. May import: `starlette`, the standard library.

A browser that hears of news fetches its own page again, filtered and paged as it is, and exchanges what is different.
So there is one way in which a page is made, and an event can leak nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

MOST_LISTENERS: Final = 64
"""Open event streams at a time; whoever comes later is told to try again, and its page reloads by itself meanwhile."""

QUIET: Final = 15.0
"""Seconds after which a comment is sent, so that proxies and browsers see a connection that lives."""

PACE: Final = 0.5
"""Seconds between two events of one listener: a busy cluster must not make a browser fetch without end."""


class News:
    """Tells every listener that something changed; a slow one is told once of much."""

    def __init__(self) -> None:
        self._listeners: dict[asyncio.Event, str] = {}
        self._closing = False

    @property
    def full(self) -> bool:
        """Whether there are as many listeners as there may be."""
        return len(self._listeners) >= MOST_LISTENERS

    def publish(self, pods: set[str]) -> None:
        """These launches changed."""
        for event, pod in self._listeners.items():
            if not pod or pod in pods:
                event.set()

    def close(self) -> None:
        """End every stream: the server stops."""
        self._closing = True
        for event in self._listeners:
            event.set()

    async def listen(self, pod: str = "", *, behind: bool = False) -> AsyncIterator[bytes]:
        """The event stream's bytes (WHATWG HTML, 9.2) for one launch, or for all if `pod` is empty.

        `behind` says that something came since the listener's page was made: that is news at once.
        """
        event = asyncio.Event()
        if behind:
            event.set()
        self._listeners[event] = pod
        try:
            yield b"retry: 2000\nevent: ready\ndata: \n\n"
            while not self._closing:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), QUIET)
                if self._closing:
                    return
                if event.is_set():
                    event.clear()
                    yield b"event: news\ndata: \n\n"
                    await asyncio.sleep(PACE)
                else:
                    yield b": quiet\n\n"
        finally:
            del self._listeners[event]
