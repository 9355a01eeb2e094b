"""A real nats-server for a test: on a free port of 127.0.0.1, file storage, every write synced; it can be killed.

Plain TCP and no accounts: what the bus does when parts of it fail is tested here; who may do what, in
tests/unit/deploy/local/test_bus_permissions.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nats.aio.client import Client

from orchestrator.bus import Bus, Credentials, connect, ensure_streams

BINARY = Path(sys.executable).with_name("nats-server")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class NatsServer:
    """One server and its store; the port stays the same when it is started again.

    `sync` is `always` as in a stack; a test that only needs much to read may take a period, such as `1m`.
    """

    folder: Path
    sync: str = "always"
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.url)

    def start(self) -> None:
        """Start, and wait until the port answers."""
        config = self.folder / "nats.conf"
        store = self.folder / "jetstream"
        config.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream: {{ store_dir: "{store}", sync_interval: {self.sync} }}\n'
        )
        with (self.folder / "nats.log").open("ab") as log:
            self.process = subprocess.Popen([BINARY, "-c", config], stdout=log, stderr=log)
        ends = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self.process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError((self.folder / "nats.log").read_text()[-2000:])
            time.sleep(0.01)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def connect(self, name: str = "test") -> Bus:
        return await connect(self.credentials, name, patience=10)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[NatsServer]:
    """A server with the streams made."""
    server = NatsServer(folder)
    await asyncio.to_thread(server.start)
    try:
        async with await server.connect("setup") as bus:
            await ensure_streams(bus)
        yield server
    finally:
        server.kill()


async def settled(client: Client) -> None:
    """Wait until the server has seen all that `client` sent, and the client all that it was told for it.

    Twice, because nats-py writes the first PING before what it holds back, and only then sends that.
    """
    await client.flush()
    await client.flush()


async def until(look: Callable[[], Awaitable[object]], seconds: float = 20) -> None:
    """Wait until `look` says something true; a test that waits for what never comes fails here."""
    async with asyncio.timeout(seconds):
        while not await look():
            await asyncio.sleep(0.02)
