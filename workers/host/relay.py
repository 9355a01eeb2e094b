"""Bytes from one connection to another and back, until either side ends.

Zone: host. May import: the standard library.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

PIECE: Final = 64 * 1024
LINGER: Final = 5.0
"""Seconds that what was written last may take to leave."""


async def relay(
    near: tuple[asyncio.StreamReader, asyncio.StreamWriter], far: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    """Copy both ways until both directions have ended, or one connection broke; then close both.

    Cancelled, it ends both at once, whatever is still unread.
    """
    try:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(near[0], far[1]))
                tasks.create_task(_pump(far[0], near[1]))
        except* OSError:
            pass
        await close(near[1], far[1])
    finally:
        for writer in (near[1], far[1]):
            writer.transport.abort()


async def close(*writers: asyncio.StreamWriter) -> None:
    """Close connections; what was written may still leave for `LINGER` seconds. Cancelled, they end at once."""
    try:
        for writer in writers:
            writer.close()
        async with asyncio.timeout(LINGER):
            for writer in writers:
                with suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        pass  # a peer that reads no more
    finally:
        for writer in writers:
            writer.transport.abort()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while piece := await source.read(PIECE):
        target.write(piece)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()
