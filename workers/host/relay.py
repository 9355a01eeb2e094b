"""Bytes from one connection to another and back, until either side ends.

Zone: host. May import: the standard library.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

PIECE: Final = 64 * 1024


async def relay(
    near: tuple[asyncio.StreamReader, asyncio.StreamWriter], far: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    """Copy both ways; close both when one direction has ended and the other has drained or failed."""
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_pump(near[0], far[1]))
            tasks.create_task(_pump(far[0], near[1]))
    finally:
        for writer in (near[1], far[1]):
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await source.read(PIECE):
            target.write(piece)
            await target.drain()
    with suppress(OSError):
        if target.can_write_eof():
            target.write_eof()
