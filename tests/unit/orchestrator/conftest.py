"""A real nats-server with the streams made, and connections to it; what the command line promises."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.bus import Bus
from tests.nats import NatsServer, running


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running(tmp_path) as server:
        yield server


@pytest.fixture
async def bus(server: NatsServer) -> AsyncIterator[Bus]:
    async with await server.connect() as bus:
        yield bus


@pytest.fixture
def promised(repository: Path) -> dict[str, set[str]]:
    """The rows of the page's table of members, by document."""
    page = (repository / "docs/command-line.md").read_text()
    table = page.partition("| document | members |")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ", 1) for line in table.splitlines() if line.startswith("| ")]
    return {name.replace("`", ""): set(re.findall(r"`([a-z0-9_]+)`", members)) for name, members in rows}
