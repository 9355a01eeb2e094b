"""A console over a real nats-server, answering real HTTP on a port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest

from orchestrator.audit.storage import Folder
from orchestrator.bus import Bus, Histories, subjects
from orchestrator.bus.operator_key import OperatorKey
from orchestrator.console.ledger import Ledger
from orchestrator.console.orders import Orders
from orchestrator.console.serve import Console, Settings
from tests.nats import until
from tests.simulators.history import OPERATOR, History


@dataclass
class Browser:
    """A client with a cookie jar: what a browser without JavaScript does. `console` is what it talks to."""

    console: Console
    http: httpx2.AsyncClient
    token: str
    bus: Bus
    token_file: Path

    async def enter(self) -> None:
        """Sign in by the token."""
        answer = await self.http.post("/login", data={"token": self.token})
        assert answer.status_code == 303, answer.text

    async def see(self, address: str, status: int = 200) -> str:
        """The page at an address, as its text."""
        answer = await self.http.get(address, headers={"accept": "text/html"})
        assert answer.status_code == status, (answer.status_code, answer.text[:2000])
        return answer.text

    async def tell(self, *histories: History) -> None:
        """Store what these histories have not stored yet, and wait until the console knows it."""
        for history in histories:
            stored = getattr(history, "stored", 0)
            for raw in history.raw[stored:]:
                await self.bus.stream.publish(subjects.history(history.pod), raw)
            history.stored = len(history.raw)  # type: ignore[attr-defined]
        last = (await self.bus.stream.stream_info(subjects.EVENTS)).state.last_seq

        async def known() -> bool:
            return self.console.index.sequence >= last

        await until(known)


Starter = Callable[..., Awaitable[Browser]]


@pytest.fixture
async def start(bus: Bus, tmp_path: Path) -> AsyncIterator[Starter]:
    """Starts a console with these changes to its settings; ends all of them afterwards."""
    ends: list[tuple[Console, asyncio.Task[None], httpx2.AsyncClient]] = []

    async def start_one(orders: Orders | None = None, **changes: object) -> Browser:
        ledger = Ledger(Folder(tmp_path / "audit"), tmp_path / "audit.policy")
        settings = Settings("127.0.0.1:0", tmp_path / "console/token", ledger)
        console = Console(bus, replace(settings, **changes), orders)  # type: ignore[arg-type]
        http = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{console.port}")
        ends.append((console, asyncio.create_task(console.run()), http))

        async def caught_up() -> bool:
            return console.index.caught_up

        await until(caught_up)
        return Browser(console, http, settings.token_file.read_text().strip(), bus, settings.token_file)

    yield start_one
    for console, running, http in ends:
        await http.aclose()
        console.stop()
        await asyncio.wait_for(running, 10)


@pytest.fixture
def orders(bus: Bus) -> Orders:
    """What a console with an operator's settings has: the key that launches of `History` name."""
    return Orders(Histories(bus), OperatorKey(OPERATOR.public, OPERATOR.sign))


@pytest.fixture
async def stranger(start: Starter) -> Browser:
    """A browser that has not signed in."""
    return await start()


@pytest.fixture
async def browser(stranger: Browser) -> Browser:
    """A browser that has."""
    await stranger.enter()
    return stranger
