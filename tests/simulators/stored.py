"""Puts made-up histories onto a real bus, as if they had happened."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from orchestrator.bus import Bus, subjects
from orchestrator.bus.settings import BusSettings
from tests.nats import NatsServer
from tests.simulators.history import History


async def store(bus: Bus, *histories: History) -> None:
    """Append every message of each, unconditionally."""
    for history in histories:
        for raw in history.raw:
            await bus.stream.publish(subjects.history(history.pod), raw)


async def append(bus: Bus, pod: str, raws: Iterable[bytes]) -> None:
    """Append these messages to one history."""
    for raw in raws:
        await bus.stream.publish(subjects.history(pod), raw)


def settings(server: NatsServer, folder: Path) -> Path:
    """A settings file by which the command line finds the server."""
    path = folder / "client.toml"
    path.write_text(BusSettings(server.url).text())
    return path
