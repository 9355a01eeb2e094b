"""A wire between a client and a server that can lose what the server answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Wire:
    """Forwards TCP on a port of its own; while `deaf`, what the server says does not arrive."""

    def __init__(self, to_port: int) -> None:
        self._to = to_port
        self._connections: set[asyncio.StreamWriter] = set()
        self.deaf = False
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._connections |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, far_writer, answers=False))
                tasks.create_task(self._pump(far_reader, writer, answers=True))
        finally:
            self._connections -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(65536):
                if not (answers and self.deaf):
                    writer.write(chunk)
                    await writer.drain()
        writer.close()

    def cut(self) -> None:
        """End every connection; the next one hears again."""
        for writer in self._connections:
            writer.transport.abort()
        self.deaf = False


@asynccontextmanager
async def wire(to_port: int) -> AsyncIterator[Wire]:
    made = Wire(to_port)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.cut()
