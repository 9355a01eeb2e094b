"""A relay between two real TCP connections, each of whose ends a test holds."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

from workers.host import relay as relaying
from workers.host.relay import relay

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Stage:
    """The outer ends of the two connections, and the relay between their inner ends."""

    client: Ends
    server: Ends
    running: asyncio.Task[None]

    async def over(self, seconds: float = 10) -> None:
        await asyncio.wait_for(asyncio.shield(self.running), seconds)


async def pair() -> tuple[Ends, Ends]:
    accepted: asyncio.Queue[Ends] = asyncio.Queue()
    server = await asyncio.start_server(lambda *ends: accepted.put_nowait(ends), "127.0.0.1", 0)
    outer = await asyncio.open_connection(*server.sockets[0].getsockname())
    inner = await accepted.get()
    server.close()
    return outer, inner


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    client, near = await pair()
    server, far = await pair()
    made = Stage(client, server, asyncio.create_task(relay(near, far)))
    try:
        yield made
    finally:
        made.running.cancel()
        with suppress(asyncio.CancelledError):
            await made.running
        for _, writer in (client, server):
            writer.transport.abort()


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection the hard way."""
    plug: socket.socket = writer.get_extra_info("socket")
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def fill(writer: asyncio.StreamWriter, seconds: float) -> int:
    """Write for so long as somebody takes it; how many bytes were taken."""
    written = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                writer.write(bytes(1 << 20))
                await writer.drain()
                written += 1 << 20
    return written


async def test_bytes_go_both_ways_whole_and_in_order() -> None:
    there, back = os.urandom(3 << 20), os.urandom(2 << 20)
    async with stage() as s:

        async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        _, _, heard_there, heard_back = await asyncio.wait_for(
            asyncio.gather(
                send(s.client[1], there), send(s.server[1], back), s.server[0].read(-1), s.client[0].read(-1)
            ),
            20,
        )
        await s.over()
    assert hashlib.sha256(heard_there).digest() == hashlib.sha256(there).digest()
    assert hashlib.sha256(heard_back).digest() == hashlib.sha256(back).digest()


async def test_an_end_in_one_direction_lets_the_other_go_on() -> None:
    async with stage() as s:
        s.client[1].write(b"question")
        s.client[1].write_eof()
        assert await s.server[0].read(-1) == b"question"
        s.server[1].write(b"a late answer")
        await asyncio.sleep(0.05)
        assert not s.running.done()
        s.server[1].close()
        assert await s.client[0].read(-1) == b"a late answer"
        await s.over()


async def test_a_connection_that_breaks_ends_the_other_at_once() -> None:
    """Else the far end of a dead agent's connection would stay open for ever."""
    async with stage() as s:
        s.client[1].write(b"the last words")
        assert await s.server[0].readexactly(14) == b"the last words"
        reset(s.client[1])
        assert await asyncio.wait_for(s.server[0].read(-1), 30) == b""
        await s.over(5)


async def test_a_connection_that_breaks_at_the_far_side_ends_the_near_one() -> None:
    async with stage() as s:
        reset(s.server[1])
        assert await asyncio.wait_for(s.client[0].read(-1), 30) == b""
        await s.over(5)


async def test_a_reader_that_stops_reading_holds_its_sender_back_and_no_memory() -> None:
    async with stage() as s:
        written = await fill(s.client[1], 0.5)
        assert written < 64 << 20
        assert not s.running.done()


async def test_cancelling_ends_both_connections_at_once_though_nobody_reads_what_was_written() -> None:
    async with stage() as s:
        await fill(s.client[1], 0.3)
        s.running.cancel()
        async with asyncio.timeout(30):
            with pytest.raises(asyncio.CancelledError):
                await s.running
        with suppress(OSError):
            while await asyncio.wait_for(s.server[0].read(1 << 20), 30):
                pass
        with suppress(OSError):
            assert await asyncio.wait_for(s.client[0].read(-1), 30) == b""


async def test_what_was_written_last_still_leaves() -> None:
    async with stage() as s:
        s.server[1].write(bytes(1 << 20))
        s.server[1].close()
        s.client[1].write_eof()
        await asyncio.sleep(0.2)
        assert len(await asyncio.wait_for(s.client[0].read(-1), 10)) == 1 << 20
        await s.over()


async def test_a_peer_that_never_reads_its_last_bytes_is_not_waited_for_for_ever() -> None:
    outer, (_, writer) = await pair()
    outer[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    writer.write(bytes(16 << 20))
    closing = asyncio.create_task(relaying.close(writer))
    await asyncio.sleep(0.2)
    assert not closing.done(), "it may still leave"
    closing.cancel()
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await closing
    outer[1].transport.abort()
